package provisioning

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/roster"
)

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
