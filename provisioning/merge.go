package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/provisioning/roster"
)

// rosterLock is the key of the advisory lock that bulk changes of clients hold, so that two of them never
// wait for each other crosswise and usernames are given one import after the other.
const rosterLock = 0x726f73746572

// lockRoster makes tx the only bulk change until it ends. The connection forgets its cached plans: a
// foreign-key check that was planned when a table was almost empty would read all of it for every row.
func lockRoster(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(rosterLock)); err != nil {
		return fmt.Errorf("lock the roster: %w", err)
	}
	if _, err := tx.Exec(ctx, `DISCARD PLANS`); err != nil {
		return fmt.Errorf("lock the roster: %w", err)
	}
	return nil
}

// merge is one import at work. Its steps are set operations over the table incoming, which has the
// file's records, rejected ones too: code says why. A row is about a new client, with the id and the
// username that it came with, until match finds it in the roster and name finds the username taken; changes
// has what it says anew of a known one.
type merge struct {
	tx      pgx.Tx
	actor   Actor
	dryRun  bool
	inviter *Inviter
	columns map[roster.Field]string // as the file calls them

	known int64 // rows about clients that the roster has
	held  int64 // of those, the ones that may change

	distinct       bool     // all rows of the file are different clients
	namesDiffer    bool     // and want different usernames
	unreachable    []string // mail domains, and beside them
	whyUnreachable []string // in words, with %s for what stands before the @
}

// maxTries is how often an import starts over when somebody else binds an account to a client meanwhile.
const maxTries = 3

// run merges the table incoming into the roster and counts.
func (m *merge) run(ctx context.Context, result *Import) error {
	if err := lockRoster(ctx, m.tx); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := pgx.BeginFunc(ctx, m.tx, func(tx pgx.Tx) error {
			inner := *m
			inner.tx = tx
			return inner.steps(ctx, result)
		})
		// An owner may consent after rejectConflicts has looked and before create has written.
		refused, ok := errors.AsType[*pgconn.PgError](err)
		if ok && refused.ConstraintName == "clients_account_id" && try < maxTries {
			continue
		}
		if err != nil {
			return fmt.Errorf("merge the roster file: %w", err)
		}
		return nil
	}
}

func (m *merge) steps(ctx context.Context, result *Import) (err error) {
	steps := []func(context.Context) error{m.rejectRepeats, m.match, m.rejectUnreachable, m.hold, m.rejectConflicts, m.compare, m.name}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if result.Updated, err = m.update(ctx); err != nil {
		return err
	}
	if result.Created, err = m.create(ctx); err != nil {
		return err
	}
	if err := m.tell(ctx, result); err != nil {
		return err
	}
	result.Unchanged = result.Rows - result.Created - result.Updated - result.Rejected
	return nil
}

// analyze tells the planner what has become of the columns.
func (m *merge) analyze(ctx context.Context, columns string) error {
	if _, err := m.tx.Exec(ctx, `ANALYZE incoming (`+columns+`)`); err != nil {
		return fmt.Errorf("count the rows of the file: %w", err)
	}
	return nil
}

// match finds the client that each row is about, by the strongest key first. A client that a row has
// found is no longer there for the others: what they say beside that row is about somebody else.
func (m *merge) match(ctx context.Context) error {
	for _, sql := range []string{
		`UPDATE incoming i
		SET
			client_id = c.id,
			is_new = false
		FROM clients c
		WHERE i.code IS NULL
			AND c.ref = i.ref`,

		`UPDATE incoming i
		SET
			client_id = c.id,
			is_new = false
		FROM clients c
		WHERE i.code IS NULL
			AND i.is_new
			AND c.account_id = i.account_id
			AND (c.ref IS NULL OR i.ref IS NULL)
			AND NOT EXISTS (SELECT FROM incoming o WHERE o.client_id = c.id)`,
	} {
		tag, err := m.tx.Exec(ctx, sql)
		if err != nil {
			return fmt.Errorf("match rows with clients: %w", err)
		}
		m.known += tag.RowsAffected()
	}
	const candidates = `
		candidates AS (
			SELECT
				i.line,
				i.ref,
				i.account_id,
				c.id,
				count(*) OVER (PARTITION BY i.line) AS n
			FROM incoming i
			JOIN clients c ON lower(c.name) COLLATE "C" = lower(i.name) AND lower(c.owner_email) = lower(i.owner_email)
			WHERE i.code IS NULL
				AND i.is_new
				AND (c.ref IS NULL OR i.ref IS NULL)
				AND (c.account_id IS NULL OR i.account_id IS NULL)
				AND NOT EXISTS (SELECT FROM incoming o WHERE o.client_id = c.id)
		)`
	// Of rows that could be the same client, but not each other, one is taken, whichever their order. That
	// may leave a single client for a row that had the choice.
	for matched := int64(1); matched > 0; {
		tag, err := m.tx.Exec(ctx, `
			WITH `+candidates+`,
			taken AS (
				SELECT DISTINCT ON (id)
					line,
					id
				FROM candidates
				WHERE n = 1
				ORDER BY id, ref COLLATE "C", account_id COLLATE "C"
			)
			UPDATE incoming i
			SET
				client_id = t.id,
				is_new = false
			FROM taken t
			WHERE i.line = t.line`)
		if err != nil {
			return fmt.Errorf("match rows with clients: %w", err)
		}
		matched = tag.RowsAffected()
		m.known += matched
	}
	_, err := m.tx.Exec(ctx, `
		WITH `+candidates+`
		UPDATE incoming
		SET
			code = 'ref_conflict',
			column_name = 'name',
			message = 'Several clients have this name and owner address. Say which one is meant by its ref or account_id.'
		WHERE line IN (SELECT line FROM candidates)`)
	if err != nil {
		return fmt.Errorf("match rows with clients: %w", err)
	}
	return m.analyze(ctx, "client_id, is_new, code")
}

// changed has the rows that say something new of a client, with the values of the roster before and after.
const changed = `
	pairs AS (
		SELECT
			i.line,
			i.held,
			c.id,
			c.name AS old_name, i.name,
			c.owner_email AS old_owner_email, i.owner_email,
			c.ref AS old_ref, coalesce(i.ref, c.ref) AS ref,
			c.owner_name AS old_owner_name, coalesce(i.owner_name, c.owner_name) AS owner_name,
			c.account_id AS old_account_id, coalesce(i.account_id, c.account_id) AS account_id,
			c.route AS old_route, coalesce(i.route, c.route) AS route,
			c.site_url AS old_site_url, coalesce(i.site_url, c.site_url) AS site_url,
			c.locale AS old_locale, coalesce(i.locale, c.locale) AS locale,
			c.time_zone AS old_time_zone, coalesce(i.time_zone, c.time_zone) AS time_zone,
			c.tags AS old_tags, coalesce(i.tags, c.tags) AS tags,
			c.extra AS old_extra, c.extra || coalesce(i.extra, '{}') AS extra
		FROM incoming i
		JOIN clients c ON c.id = i.client_id
		WHERE i.code IS NULL
			AND NOT i.is_new
	),
	changed AS (
		SELECT *
		FROM pairs
		WHERE (old_name, old_owner_email, old_ref, old_owner_name, old_account_id, old_route,
				old_site_url, old_locale, old_time_zone, old_tags, old_extra)
			IS DISTINCT FROM
			(name, owner_email, ref, owner_name, account_id, route, site_url, locale, time_zone, tags, extra)
	)`

// hold locks the clients that will change, so that nothing that an owner does meanwhile is lost: the
// steps that follow see what it led to.
func (m *merge) hold(ctx context.Context) error {
	if m.known == 0 {
		return nil
	}
	tag, err := m.tx.Exec(ctx, `
		WITH `+changed+`,
		held AS (
			SELECT id
			FROM clients
			WHERE id IN (SELECT id FROM changed)
			ORDER BY id
			FOR UPDATE
		)
		UPDATE incoming i
		SET held = true
		FROM held h
		WHERE i.client_id = h.id
			AND NOT i.is_new
			AND i.code IS NULL`)
	if err != nil {
		return fmt.Errorf("lock the clients that change: %w", err)
	}
	m.held = tag.RowsAffected()
	return m.analyze(ctx, "held")
}

// compare notes in changes what each row says anew, field by field, from and to.
func (m *merge) compare(ctx context.Context) error {
	if m.held == 0 {
		return nil
	}
	_, err := m.tx.Exec(ctx, `
		WITH `+changed+`,
		revised AS (
			SELECT
				p.line,
				(
					SELECT jsonb_object_agg(new.key, jsonb_build_object('from', old.value, 'to', new.value))
					FROM jsonb_each(jsonb_build_object(
						'name', p.name, 'owner_email', p.owner_email, 'ref', p.ref, 'owner_name', p.owner_name,
						'account_id', p.account_id, 'route', p.route, 'site_url', p.site_url, 'locale', p.locale,
						'time_zone', p.time_zone, 'tags', p.tags, 'extra', p.extra)) new
					JOIN jsonb_each(jsonb_build_object(
						'name', p.old_name, 'owner_email', p.old_owner_email, 'ref', p.old_ref, 'owner_name', p.old_owner_name,
						'account_id', p.old_account_id, 'route', p.old_route, 'site_url', p.old_site_url, 'locale', p.old_locale,
						'time_zone', p.old_time_zone, 'tags', p.old_tags, 'extra', p.old_extra)) old USING (key)
					WHERE old.value IS DISTINCT FROM new.value
				) AS changes
			FROM changed p
			WHERE p.held
		)
		UPDATE incoming i
		SET changes = r.changes
		FROM revised r
		WHERE i.line = r.line`)
	if err != nil {
		return fmt.Errorf("compare with the roster: %w", err)
	}
	return m.analyze(ctx, "changes")
}

// rearm lets the invitation of a client whose owner's address changed start again: what was sent went
// to somebody else.
func (m *merge) rearm(ctx context.Context) error {
	rows, err := m.tx.Query(ctx, `
		SELECT client_id
		FROM incoming
		WHERE code IS NULL
			AND lower((changes #>> '{owner_email,from}') COLLATE "C") <> lower((changes #>> '{owner_email,to}') COLLATE "C")
		ORDER BY client_id`)
	if err != nil {
		return fmt.Errorf("find changed owners: %w", err)
	}
	clients, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("find changed owners: %w", err)
	}
	if len(clients) == 0 {
		return nil
	}
	return m.inviter.startOver(ctx, m.tx, clients, m.actor)
}

// reroute lets the clients whose route changes begin anew on the other one.
func (m *merge) reroute(ctx context.Context) error {
	rows, err := m.tx.Query(ctx, `
		SELECT
			client_id,
			changes #>> '{route,from}',
			changes #>> '{route,to}'
		FROM incoming
		WHERE code IS NULL
			AND changes ? 'route'
		ORDER BY client_id`)
	if err != nil {
		return fmt.Errorf("find changed routes: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[rerouted])
	if err != nil {
		return fmt.Errorf("find changed routes: %w", err)
	}
	return m.inviter.reroute(ctx, m.tx, list, m.actor)
}

// index finds the words anew by which the clients that change are searched.
func (m *merge) index(ctx context.Context) error {
	const batch = 5000
	for after, n := 0, batch; n == batch; {
		//nolint:rowserrcheck // ForEachRow returns it.
		rows, err := m.tx.Query(ctx, `
			SELECT
				i.line,
				i.name,
				coalesce(i.ref, c.ref, ''),
				coalesce(i.owner_name, c.owner_name),
				i.owner_email,
				coalesce(i.account_id, c.account_id, ''),
				c.username
			FROM incoming i
			JOIN clients c ON c.id = i.client_id
			WHERE i.code IS NULL
				AND i.changes IS NOT NULL
				AND i.line > $1
			ORDER BY i.line
			LIMIT $2`, after, batch)
		if err != nil {
			return fmt.Errorf("index the clients that change: %w", err)
		}
		var lines []int
		var words []string
		var line int
		var name, ref, ownerName, ownerEmail, account, username string
		_, err = pgx.ForEachRow(rows, []any{&line, &name, &ref, &ownerName, &ownerEmail, &account, &username}, func() error {
			lines = append(lines, line)
			words = append(words, strings.Join(searchWords(name, ref, ownerName, ownerEmail, account, username), " "))
			return nil
		})
		if err != nil {
			return fmt.Errorf("index the clients that change: %w", err)
		}
		_, err = m.tx.Exec(ctx, `
			UPDATE incoming i
			SET words = w.words
			FROM unnest($1::integer[], $2::text[]) AS w (line, words)
			WHERE i.line = w.line`, lines, words)
		if err != nil {
			return fmt.Errorf("index the clients that change: %w", err)
		}
		after, n = line, len(lines)
	}
	return nil
}

// update writes what the file says anew of known clients, and the old and new values as an event.
func (m *merge) update(ctx context.Context) (int, error) {
	if m.held == 0 {
		return 0, nil
	}
	if err := m.rearm(ctx); err != nil {
		return 0, err
	}
	if err := m.reroute(ctx); err != nil {
		return 0, err
	}
	if err := m.index(ctx); err != nil {
		return 0, err
	}
	tag, err := m.tx.Exec(ctx, `
		WITH written AS (
			UPDATE clients c
			SET
				name = i.name,
				owner_email = i.owner_email,
				ref = coalesce(i.ref, c.ref),
				owner_name = coalesce(i.owner_name, c.owner_name),
				account_id = coalesce(i.account_id, c.account_id),
				route = coalesce(i.route, c.route),
				site_url = coalesce(i.site_url, c.site_url),
				locale = coalesce(i.locale, c.locale),
				time_zone = coalesce(i.time_zone, c.time_zone),
				tags = coalesce(i.tags, c.tags),
				extra = c.extra || coalesce(i.extra, '{}'),
				search = array_to_tsvector(string_to_array(i.words, ' ')),
				updated_at = now()
			FROM incoming i
			WHERE c.id = i.client_id
				AND i.code IS NULL
				AND i.changes IS NOT NULL
		)
		INSERT INTO events (client_id, kind, actor, detail)
		SELECT
			client_id,
			'updated',
			$1,
			changes
		FROM incoming
		WHERE code IS NULL
			AND changes IS NOT NULL`, m.actor)
	if err != nil {
		return 0, fmt.Errorf("update clients: %w", err)
	}
	return int(tag.RowsAffected()), nil
}

// create adds the new clients, in the order of the file, and counts them in the tally.
func (m *merge) create(ctx context.Context) (int, error) {
	var n int
	err := m.tx.QueryRow(ctx, `
		WITH created AS (
			INSERT INTO clients (
				id, ref, name, owner_name, owner_email, account_id, username, route,
				site_url, locale, time_zone, tags, extra, search
			)
			SELECT
				client_id,
				ref,
				name,
				coalesce(owner_name, ''),
				owner_email,
				account_id,
				username,
				coalesce(route, 'owner'),
				coalesce(site_url, ''),
				coalesce(locale, ''),
				coalesce(time_zone, ''),
				coalesce(tags, '{}'),
				coalesce(extra, '{}'),
				array_to_tsvector(array_remove(string_to_array(words || ' ' || username_words, ' '), ''))
			FROM incoming
			WHERE is_new
				AND code IS NULL
			RETURNING id, route
		),
		noted AS (
			INSERT INTO events (client_id, kind, actor, stage)
			SELECT
				id,
				'imported',
				$1,
				'imported'
			FROM created
		),
		counted AS (
			INSERT INTO tally_deltas (metric, label, day, n)
			SELECT
				'stage',
				'imported',
				DATE '1970-01-01',
				count(*)
			FROM created
			HAVING count(*) > 0
			UNION ALL
			SELECT
				'route',
				route || '/imported',
				DATE '1970-01-01',
				count(*)
			FROM created
			GROUP BY route
		)
		SELECT count(*) FROM created`, m.actor).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("create clients: %w", err)
	}
	return n, nil
}

// record keeps the import itself, the clients that it created or changed, and its rejects.
func (m *merge) record(ctx context.Context, r *Import) error {
	err := m.tx.QueryRow(ctx, `
		INSERT INTO imports (id, file_name, actor, header, rows, created, updated, unchanged, rejected, warned, warnings)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		RETURNING at`,
		r.ID, r.FileName, r.Actor, r.Header, r.Rows, r.Created, r.Updated, r.Unchanged, r.Rejected, r.Warned, r.Warnings,
	).Scan(&r.At)
	if err != nil {
		return err
	}
	_, err = m.tx.Exec(ctx, `
		INSERT INTO import_clients (import_id, client_id)
		SELECT $1, client_id
		FROM incoming
		WHERE code IS NULL
			AND (is_new OR changes IS NOT NULL)`, r.ID)
	if err != nil {
		return err
	}
	if r.Rejected > 0 {
		_, err = m.tx.Exec(ctx, `
			INSERT INTO import_rejects (import_id, line, column_name, code, message, record)
			SELECT $1, line, column_name, code, message, coalesce(string_to_array(record, $2), '{}')
			FROM incoming
			WHERE code IS NOT NULL`, r.ID, cellSeparator)
		if err != nil {
			return err
		}
	}
	_, err = m.tx.Exec(ctx, `DROP TABLE incoming`) // m.tx may be part of the caller's transaction.
	return err
}
