package provisioning

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// roster is the key of the advisory lock that bulk changes of clients hold, so that two of them never
// wait for each other crosswise and usernames are given one import after the other.
const roster = 0x726f73746572

// lockRoster makes tx the only bulk change until it ends. The connection forgets its cached plans: a
// foreign-key check that was planned when a table was almost empty would read all of it for every row.
func lockRoster(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(roster)); err != nil {
		return fmt.Errorf("lock the roster: %w", err)
	}
	if _, err := tx.Exec(ctx, `DISCARD PLANS`); err != nil {
		return fmt.Errorf("lock the roster: %w", err)
	}
	return nil
}

// merge is one import at work. Its steps are set operations over the table incoming, which has the
// file's records, rejected ones too: code says why. A row is about a new client, with the id and the
// username that it came with, until match finds it in the roster and name finds the username taken.
type merge struct {
	tx      pgx.Tx
	actor   Actor
	inviter *Inviter
	columns map[Field]string // as the file calls them
}

// run merges the table incoming into the roster and counts.
func (m merge) run(ctx context.Context, result *Import) error {
	if err := lockRoster(ctx, m.tx); err != nil {
		return err
	}
	steps := []func(context.Context) error{m.rejectRepeats, m.match, m.hold, m.rejectConflicts, m.name, m.rearm}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return fmt.Errorf("merge the roster file: %w", err)
		}
	}
	var err error
	if result.Updated, err = m.update(ctx); err != nil {
		return fmt.Errorf("merge the roster file: %w", err)
	}
	if result.Created, err = m.create(ctx); err != nil {
		return fmt.Errorf("merge the roster file: %w", err)
	}
	if result.Rejects, result.Rejected, err = m.rejects(ctx); err != nil {
		return fmt.Errorf("merge the roster file: %w", err)
	}
	result.Unchanged = result.Rows - result.Created - result.Updated - result.Rejected
	return nil
}

// rejectRepeats rejects rows that name a client that an earlier row of the file names. Rows of the
// same name and owner are different clients only if their refs or their account ids are.
func (m merge) rejectRepeats(ctx context.Context) error {
	_, err := m.tx.Exec(ctx, `
		WITH first AS (
			SELECT
				line,
				min(line) FILTER (WHERE ref IS NOT NULL) OVER (PARTITION BY ref COLLATE "C") AS same_ref,
				min(line) FILTER (WHERE account_id IS NOT NULL) OVER (PARTITION BY account_id COLLATE "C") AS same_account,
				CASE
					WHEN ref IS NULL AND account_id IS NULL THEN min(line) OVER owner
					WHEN ref IS NULL THEN min(line) FILTER (WHERE account_id IS NULL) OVER owner
					WHEN account_id IS NULL THEN min(line) FILTER (WHERE ref IS NULL) OVER owner
					ELSE min(line) FILTER (WHERE ref IS NULL AND account_id IS NULL) OVER owner
				END AS same_owner
			FROM incoming
			WHERE code IS NULL
			WINDOW owner AS (PARTITION BY lower(name) COLLATE "C", lower(owner_email) COLLATE "C")
		),
		repeats AS (
			SELECT
				line,
				CASE WHEN same_ref < line THEN same_ref WHEN same_account < line THEN same_account ELSE same_owner END AS earlier,
				CASE WHEN same_ref < line THEN 'ref' WHEN same_account < line THEN 'account_id' ELSE 'name' END AS field
			FROM first
			WHERE least(same_ref, same_account, same_owner) < line
		)
		UPDATE incoming i
		SET
			code = 'duplicate_row',
			column_name = r.field,
			message = format(
				'This row is the same client as line %s (same %s). Remove one of the two, or give each client its own ref.',
				r.earlier,
				CASE r.field WHEN 'ref' THEN 'ref' WHEN 'account_id' THEN 'account id' ELSE 'name and owner address' END
			)
		FROM repeats r
		WHERE i.line = r.line`)
	if err != nil {
		return fmt.Errorf("find repeated rows: %w", err)
	}
	return nil
}

// match finds the client that each row is about, by the strongest key first. A client that a row has
// found is no longer there for the others: what they say beside that row is about somebody else.
func (m merge) match(ctx context.Context) error {
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
		if _, err := m.tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("match rows with clients: %w", err)
		}
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
			JOIN clients c ON lower(c.name) = lower(i.name) AND lower(c.owner_email) = lower(i.owner_email)
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
	return nil
}

// changed has the clients of whom the file says something new, as the roster and as the file has them.
const changed = `
	pairs AS (
		SELECT
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
func (m merge) hold(ctx context.Context) error {
	_, err := m.tx.Exec(ctx, `
		WITH `+changed+`
		SELECT
		FROM clients
		WHERE id IN (SELECT id FROM changed)
		ORDER BY id
		FOR UPDATE`)
	if err != nil {
		return fmt.Errorf("lock the clients that change: %w", err)
	}
	return nil
}

// rejectConflicts rejects rows whose account id cannot be theirs. Clients may exchange their account ids.
func (m merge) rejectConflicts(ctx context.Context) error {
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
func (m merge) name(ctx context.Context) error {
	var unnamed int64
	for _, sql := range []string{
		`UPDATE incoming i
		SET username = NULL
		FROM (
			SELECT
				line,
				row_number() OVER (PARTITION BY username COLLATE "C" ORDER BY ` + namingOrder + `) AS rank
			FROM incoming
			WHERE is_new
				AND code IS NULL
		) r
		WHERE i.line = r.line
			AND r.rank > 1`,

		`UPDATE incoming i
		SET username = NULL
		FROM clients c
		WHERE i.is_new
			AND i.code IS NULL
			AND lower(c.username) = i.username`,
	} {
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
				WHERE NOT EXISTS (SELECT FROM clients c WHERE lower(c.username) = s.stem || k || s.tail)
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
				SET username = n.stem || n.k || n.tail
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
func (m merge) rearm(ctx context.Context) error {
	rows, err := m.tx.Query(ctx, `
		SELECT c.id
		FROM incoming i
		JOIN clients c ON c.id = i.client_id
		WHERE i.code IS NULL
			AND lower(c.owner_email) <> lower(i.owner_email)
		ORDER BY c.id
		FOR UPDATE OF c`)
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

// update writes what the file says anew of known clients, and the old and new values as an event.
func (m merge) update(ctx context.Context) (int, error) {
	var n int
	err := m.tx.QueryRow(ctx, `
		WITH `+changed+`,
		written AS (
			UPDATE clients c
			SET
				name = p.name,
				owner_email = p.owner_email,
				ref = p.ref,
				owner_name = p.owner_name,
				account_id = p.account_id,
				route = p.route,
				site_url = p.site_url,
				locale = p.locale,
				time_zone = p.time_zone,
				tags = p.tags,
				extra = p.extra,
				updated_at = now()
			FROM changed p
			WHERE c.id = p.id
		),
		noted AS (
			INSERT INTO events (client_id, kind, actor, detail)
			SELECT
				p.id,
				'updated',
				$1,
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
				)
			FROM changed p
		)
		SELECT count(*) FROM changed`, m.actor).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("update clients: %w", err)
	}
	return n, nil
}

// create adds the new clients, in the order of the file.
func (m merge) create(ctx context.Context) (int, error) {
	var n int
	err := m.tx.QueryRow(ctx, `
		WITH created AS (
			INSERT INTO clients (
				id, ref, name, owner_name, owner_email, account_id, username, route,
				site_url, locale, time_zone, tags, extra
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
				coalesce(extra, '{}')
			FROM incoming
			WHERE is_new
				AND code IS NULL
			ORDER BY line
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
		)
		SELECT count(*) FROM created`, m.actor).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("create clients: %w", err)
	}
	return n, nil
}

// mergeRejects are the codes of rejects that are found only against the roster and the rest of the file.
func mergeRejects() []RejectCode {
	return []RejectCode{RejectDuplicateRow, RejectDuplicateAccountID, RejectAccountIDAuthorized, RejectRefConflict}
}

// rejects returns the first rejects and how many there are. Those found while merging name a field;
// here they get the name of its column in the file.
func (m merge) rejects(ctx context.Context) (first []Reject, n int, err error) {
	_, err = m.tx.Exec(ctx, `
		UPDATE incoming
		SET column_name = coalesce($1::jsonb ->> column_name, column_name)
		WHERE code = ANY ($2)`, m.columns, mergeRejects())
	if err != nil {
		return nil, 0, fmt.Errorf("name the columns of rejects: %w", err)
	}
	if err := m.tx.QueryRow(ctx, `SELECT count(*) FROM incoming WHERE code IS NOT NULL`).Scan(&n); err != nil {
		return nil, 0, fmt.Errorf("count rejects: %w", err)
	}
	rows, err := m.tx.Query(ctx, `
		SELECT
			line,
			column_name,
			code,
			message,
			record
		FROM incoming
		WHERE code IS NOT NULL
		ORDER BY line
		LIMIT $1`, ShownRejects)
	if err != nil {
		return nil, 0, fmt.Errorf("read rejects: %w", err)
	}
	first, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Reject])
	if err != nil {
		return nil, 0, fmt.Errorf("read rejects: %w", err)
	}
	return first, n, nil
}

// record keeps the import itself, and its rejects.
func (m merge) record(ctx context.Context, r *Import) error {
	err := m.tx.QueryRow(ctx, `
		INSERT INTO imports (id, file_name, actor, header, rows, created, updated, unchanged, rejected)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		RETURNING at`,
		r.ID, r.FileName, r.Actor, r.Header, r.Rows, r.Created, r.Updated, r.Unchanged, r.Rejected,
	).Scan(&r.At)
	if err != nil {
		return err
	}
	_, err = m.tx.Exec(ctx, `
		INSERT INTO import_rejects (import_id, line, column_name, code, message, record)
		SELECT $1, line, column_name, code, message, record
		FROM incoming
		WHERE code IS NOT NULL`, r.ID)
	if err != nil {
		return err
	}
	_, err = m.tx.Exec(ctx, `DROP TABLE incoming`) // m.tx may be part of the caller's transaction.
	return err
}
