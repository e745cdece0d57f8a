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

// lookUp notes which of the domains cannot receive mail. Those of addresses that
// the roster has already are not asked for: importing a file again must not depend on the weather.
func (m *merge) lookUp(ctx context.Context, domains *roster.MailDomains, found []string) error {
	if len(found) == 0 {
		return nil
	}
	rows, err := m.tx.Query(ctx, `
		SELECT DISTINCT d.domain
		FROM unnest($1::text[]) AS d (domain)
		JOIN incoming i ON split_part(i.owner_email, '@', 2) = d.domain
		WHERE NOT EXISTS (SELECT FROM clients c WHERE lower(c.owner_email) = lower(i.owner_email))`, found)
	if err != nil {
		return fmt.Errorf("look up mail domains: %w", err)
	}
	unknown, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look up mail domains: %w", err)
	}
	for domain, verdict := range domains.Check(ctx, unknown) {
		if message := verdict.Refusal("%s@" + domain); message != "" {
			m.unreachable = append(m.unreachable, domain)
			m.whyUnreachable = append(m.whyUnreachable, message)
		}
	}
	return nil
}

// rejectUnreachable rejects new owner addresses to which no mail can be delivered.
func (m *merge) rejectUnreachable(ctx context.Context) error {
	if len(m.unreachable) == 0 {
		return nil
	}
	_, err := m.tx.Exec(ctx, `
		UPDATE incoming i
		SET
			code = 'email_undeliverable',
			column_name = 'owner_email',
			message = format(u.message, split_part(i.owner_email, '@', 1))
		FROM unnest($1::text[], $2::text[]) AS u (domain, message)
		WHERE i.code IS NULL
			AND split_part(i.owner_email, '@', 2) = u.domain
			AND (i.is_new OR NOT EXISTS (
				SELECT FROM clients c WHERE c.id = i.client_id AND lower(c.owner_email) = lower(i.owner_email)
			))`, m.unreachable, m.whyUnreachable)
	if err != nil {
		return fmt.Errorf("find unreachable owners: %w", err)
	}
	return nil
}

// rejectRepeats rejects rows that name the same client, all of them: which one is right only the operator
// knows, and the order of the file must not decide. Rows of the same name and owner are different clients
// only if they have different refs or different account ids.
func (m *merge) rejectRepeats(ctx context.Context) error {
	if m.distinct {
		return nil
	}
	_, err := m.tx.Exec(ctx, `
		WITH refs AS (
			SELECT
				ref,
				min(line) AS first,
				max(line) AS last
			FROM incoming
			WHERE code IS NULL
				AND ref IS NOT NULL
			GROUP BY ref
			HAVING count(*) > 1
		),
		accounts AS (
			SELECT
				account_id,
				min(line) AS first,
				max(line) AS last
			FROM incoming
			WHERE code IS NULL
				AND account_id IS NOT NULL
			GROUP BY account_id
			HAVING count(*) > 1
		),
		owners AS (
			SELECT
				lower(name) AS name,
				lower(owner_email) AS owner_email,
				min(line) AS first,
				max(line) AS last,
				min(line) FILTER (WHERE ref IS NULL) AS no_ref,
				min(line) FILTER (WHERE account_id IS NULL) AS no_account,
				min(line) FILTER (WHERE ref IS NULL AND account_id IS NULL) AS no_key
			FROM incoming
			WHERE code IS NULL
			GROUP BY 1, 2
			HAVING count(*) > 1
		),
		repeats AS (
			SELECT
				i.line,
				CASE
					WHEN r.ref IS NOT NULL THEN 'ref'
					WHEN a.account_id IS NOT NULL THEN 'account_id'
					ELSE 'name'
				END AS field,
				CASE
					WHEN i.line = r.first THEN r.last
					WHEN r.ref IS NOT NULL THEN r.first
					WHEN i.line = a.first THEN a.last
					WHEN a.account_id IS NOT NULL THEN a.first
					WHEN i.ref IS NOT NULL AND i.account_id IS NOT NULL THEN o.no_key
					WHEN i.ref IS NOT NULL THEN o.no_ref
					WHEN i.account_id IS NOT NULL THEN o.no_account
					WHEN i.line = o.first THEN o.last
					ELSE o.first
				END AS other
			FROM incoming i
			LEFT JOIN refs r ON r.ref = i.ref
			LEFT JOIN accounts a ON a.account_id = i.account_id
			LEFT JOIN owners o ON o.name = lower(i.name) AND o.owner_email = lower(i.owner_email)
			WHERE i.code IS NULL
		)
		UPDATE incoming i
		SET
			code = 'duplicate_row',
			column_name = r.field,
			message = format(
				'Lines %s and %s are the same client (same %s). Keep one of them, or give each client its own ref.',
				least(i.line, r.other),
				greatest(i.line, r.other),
				CASE r.field WHEN 'ref' THEN 'ref' WHEN 'account_id' THEN 'account id' ELSE 'name and owner address' END
			)
		FROM repeats r
		WHERE i.line = r.line
			AND r.other IS NOT NULL`)
	if err != nil {
		return fmt.Errorf("find repeated rows: %w", err)
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

// rejectConflicts rejects rows whose account id cannot be theirs. Clients may exchange their account ids.
func (m *merge) rejectConflicts(ctx context.Context) error {
	_, err := m.tx.Exec(ctx, `
		UPDATE incoming i
		SET
			code = 'account_id_authorized',
			column_name = 'account_id',
			message = format(
				'This client is authorized with the account %s. Leave the cell empty, or correct it to that.', c.account_id
			)
		FROM clients c
		WHERE i.code IS NULL
			AND i.held
			AND c.id = i.client_id
			AND c.stage = 'authorized'
			AND c.account_id <> i.account_id`)
	if err != nil {
		return fmt.Errorf("find account ids of authorized clients: %w", err)
	}
	// A client whose own row is rejected keeps its account, which may be what another row wants.
	for rejected := int64(1); rejected > 0; {
		tag, err := m.tx.Exec(ctx, `
			UPDATE incoming i
			SET
				code = 'duplicate_account_id',
				column_name = 'account_id',
				message = format(
					'The account %s belongs to the client "%s" already. An account can be authorized for one client only: correct one of the two.',
					i.account_id, c.name
				)
			FROM clients c
			WHERE i.code IS NULL
				AND (i.is_new OR i.held)
				AND c.account_id = i.account_id
				AND c.id <> i.client_id
				AND NOT EXISTS (
					SELECT FROM incoming o WHERE o.client_id = c.id AND o.code IS NULL AND o.account_id <> c.account_id
				)`)
		if err != nil {
			return fmt.Errorf("find account ids of others: %w", err)
		}
		rejected = tag.RowsAffected()
	}
	return nil
}

// namingOrder is the order in which rows that want the same username are served, whichever their order
// in the file.
const namingOrder = `name COLLATE "C", ref COLLATE "C", account_id COLLATE "C", owner_email COLLATE "C", line`

// name gives the new clients their usernames, by the rule that Parts describes: every username that is
// free goes to the first of the rows that want it; then the other rows of a stem get the next numbers
// that are free.
func (m *merge) name(ctx context.Context) error {
	var unnamed int64
	steps := []string{
		`UPDATE incoming i
		SET username = NULL
		FROM clients c
		WHERE c.username = i.username
			AND i.is_new
			AND i.code IS NULL`,

		`UPDATE incoming i
		SET username = NULL
		FROM former_usernames f
		WHERE f.username = i.username
			AND i.is_new
			AND i.code IS NULL`,
	}
	if !m.namesDiffer {
		steps = append(steps, `
		WITH wanted AS (
			SELECT username
			FROM incoming
			WHERE is_new
				AND code IS NULL
			GROUP BY username
			HAVING count(*) > 1
		),
		ranked AS (
			SELECT
				line,
				row_number() OVER (PARTITION BY username ORDER BY `+namingOrder+`) AS rank
			FROM incoming
			WHERE is_new
				AND code IS NULL
				AND username IN (SELECT username FROM wanted)
		)
		UPDATE incoming i
		SET username = NULL
		FROM ranked r
		WHERE i.line = r.line
			AND r.rank > 1`)
	}
	for _, sql := range steps {
		tag, err := m.tx.Exec(ctx, sql)
		if err != nil {
			return fmt.Errorf("give usernames: %w", err)
		}
		unnamed += tag.RowsAffected()
	}
	if unnamed == 0 {
		return nil
	}
	if _, err := m.tx.Exec(ctx, `ANALYZE incoming (username)`); err != nil {
		return fmt.Errorf("give usernames: %w", err)
	}
	// Where the names of others have taken many of the numbers, more are tried at once.
	for spare := 0; unnamed > 0; spare = 64*spare + 64 {
		err := m.tx.QueryRow(ctx, `
			WITH unnamed AS (
				SELECT
					line,
					stem,
					tail,
					(row_number() OVER (PARTITION BY stem, tail ORDER BY `+namingOrder+`))::integer AS rank
				FROM incoming
				WHERE is_new
					AND code IS NULL
					AND username IS NULL
			),
			stems AS (
				SELECT
					n.stem,
					n.tail,
					count(*) AS unnamed,
					coalesce(max(u.last), 1) AS last
				FROM unnamed n
				LEFT JOIN username_counters u ON u.stem = n.stem || n.tail
				GROUP BY n.stem, n.tail
			),
			free AS (
				SELECT
					s.stem,
					s.tail,
					array_agg(k ORDER BY k) AS numbers
				FROM stems s, generate_series(s.last + 1, s.last + s.unnamed + $1) k
				WHERE NOT EXISTS (SELECT FROM clients c WHERE c.username = s.stem || k || s.tail)
					AND NOT EXISTS (SELECT FROM former_usernames f WHERE f.username = s.stem || k || s.tail)
					AND NOT EXISTS (
						SELECT FROM incoming i WHERE i.is_new AND i.code IS NULL AND i.username = s.stem || k || s.tail
					)
				GROUP BY s.stem, s.tail
			),
			-- Materialized, so that no more of the numbers than a row's own goes on with the row.
			numbered AS MATERIALIZED (
				SELECT
					n.line,
					n.stem,
					n.tail,
					f.numbers[n.rank] AS k
				FROM unnamed n
				JOIN free f ON f.stem = n.stem AND f.tail = n.tail
			),
			given AS (
				UPDATE incoming i
				SET
					username = n.stem || n.k || n.tail,
					username_words = translate(n.stem || n.k || n.tail, '+-_.@', '     ')
				FROM numbered n
				WHERE i.line = n.line
					AND n.k IS NOT NULL
				RETURNING n.stem, n.tail, n.k
			),
			counted AS (
				INSERT INTO username_counters (stem, last)
				SELECT
					s.stem || s.tail,
					CASE WHEN count(g.k) = s.unnamed THEN max(g.k) ELSE s.last + s.unnamed + $1 END
				FROM stems s
				LEFT JOIN given g USING (stem, tail)
				GROUP BY s.stem, s.tail, s.unnamed, s.last
				ON CONFLICT (stem) DO UPDATE SET last = excluded.last
			)
			SELECT (SELECT count(*) FROM unnamed) - (SELECT count(*) FROM given)`, spare).Scan(&unnamed)
		if err != nil {
			return fmt.Errorf("give usernames: %w", err)
		}
	}
	return nil
}

// rearm lets the invitation of a client whose owner's address changed start again: what was sent went
// to somebody else.
func (m *merge) rearm(ctx context.Context) error {
	rows, err := m.tx.Query(ctx, `
		SELECT client_id
		FROM incoming
		WHERE code IS NULL
			AND lower(changes #>> '{owner_email,from}') <> lower(changes #>> '{owner_email,to}')
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
	if err := m.inviter.Linker.Revoke(ctx, m.tx, clients); err != nil {
		return err
	}
	if err := m.inviter.Mailer.Cancel(ctx, m.tx, clients); err != nil {
		return err
	}
	_, err = AdvanceAll(ctx, m.tx, clients, Change{Event: EventOwnerChanged, Actor: m.actor, To: StageImported})
	return err
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
			RETURNING id
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
		)
		SELECT count(*) FROM created`, m.actor).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("create clients: %w", err)
	}
	return n, nil
}

// mergeRejects are the codes of rejects that are found only against the roster and the rest of the file.
func mergeRejects() []roster.RejectCode {
	return []roster.RejectCode{
		roster.RejectDuplicateRow, roster.RejectDuplicateAccountID, roster.RejectAccountIDAuthorized, roster.RejectRefConflict, roster.RejectEmailUndeliverable,
	}
}

// tell counts rejects and warnings and shows the first of them. Rejects that were found while merging name a
// field; here they get the name of its column in the file.
func (m *merge) tell(ctx context.Context, result *Import) error {
	err := m.tx.QueryRow(ctx, `
		SELECT
			count(*) FILTER (WHERE code IS NOT NULL),
			count(*) FILTER (WHERE code IS NULL AND warnings IS NOT NULL)
		FROM incoming`).Scan(&result.Rejected, &result.Warned)
	if err != nil {
		return fmt.Errorf("count rejects: %w", err)
	}
	result.Rejects, result.Warnings = []roster.Reject{}, []roster.Warning{}
	if result.Rejected > 0 {
		_, err := m.tx.Exec(ctx, `
			UPDATE incoming
			SET column_name = coalesce($1::jsonb ->> column_name, column_name)
			WHERE code = ANY ($2)`, m.columns, mergeRejects())
		if err != nil {
			return fmt.Errorf("name the columns of rejects: %w", err)
		}
		rows, err := m.tx.Query(ctx, `
			SELECT
				line,
				column_name,
				code,
				message,
				string_to_array(record, $2)
			FROM incoming
			WHERE code IS NOT NULL
			ORDER BY line
			LIMIT $1`, ShownRows, cellSeparator)
		if err != nil {
			return fmt.Errorf("read rejects: %w", err)
		}
		if result.Rejects, err = pgx.CollectRows(rows, pgx.RowToStructByPos[roster.Reject]); err != nil {
			return fmt.Errorf("read rejects: %w", err)
		}
	}
	if result.Warned > 0 {
		rows, err := m.tx.Query(ctx, `
			SELECT w
			FROM (SELECT line, warnings FROM incoming WHERE code IS NULL AND warnings IS NOT NULL ORDER BY line LIMIT $1) i,
				jsonb_array_elements(i.warnings) AS w
			ORDER BY i.line
			LIMIT $1`, ShownRows)
		if err != nil {
			return fmt.Errorf("read warnings: %w", err)
		}
		if result.Warnings, err = pgx.CollectRows(rows, pgx.RowTo[roster.Warning]); err != nil {
			return fmt.Errorf("read warnings: %w", err)
		}
	}
	return nil
}

// record keeps the import itself, and its rejects.
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
