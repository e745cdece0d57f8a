package provisioning

import (
	"context"
	"fmt"
)

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
