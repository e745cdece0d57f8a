package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/notify/bounce"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
)

const returnColumns = `
	r.id,
	r.at,
	r.source,
	r.kind,
	r.message_id,
	r.client_id,
	c.name,
	r.recipient,
	r.status,
	r.diagnostic,
	r.subject,
	r.content IS NOT NULL,
	r.read_at,
	r.read_by`

// Unread returns what is kept for reading and has not been put aside, newest first, at most limit of it before the one with
// id before; uuid.Nil starts at the newest.
func (r *Returns) Unread(ctx context.Context, before uuid.UUID, limit int) ([]Return, error) {
	return r.list(ctx, `
		WHERE r.content IS NOT NULL
			AND r.read_at IS NULL
			AND ($1 = '00000000-0000-0000-0000-000000000000'::uuid OR r.id < $1)
		ORDER BY r.id DESC
		LIMIT $2`, before, limit)
}

// OfClient returns what came back for a client's mails, newest first, a hundred at most.
func (r *Returns) OfClient(ctx context.Context, client uuid.UUID) ([]Return, error) {
	return r.list(ctx, `
		WHERE r.client_id = $1
		ORDER BY r.id DESC
		LIMIT 100`, client)
}

// Read returns a mail that is kept, and what is to be read in it as plain text, but for the secrets of our links. It returns
// provisioning.ErrNotFound.
func (r *Returns) Read(ctx context.Context, id uuid.UUID) (Return, string, error) {
	found, err := r.list(ctx, `WHERE r.id = $1`, id)
	if err != nil {
		return Return{}, "", err
	}
	var content []byte
	err = r.DB.QueryRow(ctx, `SELECT content FROM returns WHERE id = $1`, id).Scan(&content)
	if errors.Is(err, pgx.ErrNoRows) || len(found) == 0 {
		return Return{}, "", fmt.Errorf("returned mail %s: %w", id, provisioning.ErrNotFound)
	}
	if err != nil {
		return Return{}, "", fmt.Errorf("read a returned mail: %w", err)
	}
	return found[0], hideLinks(bounce.Parse(bytes.NewReader(content)).Text), nil
}

// hideLinks leaves out the secrets of the links of ours that an answer quotes: to read it is not to act as who got them.
// They may be broken into lines, cut off at the end, or wrapped in the link of a guard.
func hideLinks(text string) string {
	const slash, fold = `(?:/|%2F|_)`, `[\s>|]*`
	links := regexp.MustCompile(`(?i)(` + slash + `i` + slash + `)[a-z2-7](?:` + fold + `[a-z2-7]){15,31}|` +
		`(` + slash + `enter` + slash + `)[\w-](?:` + fold + `[\w-]){15,42}`)
	return links.ReplaceAllString(text, "${1}${2}"+notShown)
}

// PutAside notes that somebody has read a mail. The first one to do so is remembered. It returns provisioning.ErrNotFound.
func (r *Returns) PutAside(ctx context.Context, id uuid.UUID, actor provisioning.Actor) error {
	err := pgx.BeginFunc(ctx, r.DB, func(tx pgx.Tx) error {
		var unread bool
		err := tx.QueryRow(ctx, `
			WITH report AS (
				SELECT
					id,
					read_at IS NULL AS unread
				FROM returns
				WHERE id = $1
					AND content IS NOT NULL
				FOR NO KEY UPDATE
			),
			aside AS (
				UPDATE returns
				SET
					read_at = now(),
					read_by = $2
				WHERE id = (SELECT id FROM report WHERE unread)
			)
			SELECT unread FROM report`, id, actor).Scan(&unread)
		if errors.Is(err, pgx.ErrNoRows) {
			return provisioning.ErrNotFound
		}
		if err != nil || !unread {
			return err
		}
		return provisioning.Audit(ctx, tx, actor, audit.Entry{Action: "report.aside", Object: "report " + id.String()})
	})
	if err != nil {
		return fmt.Errorf("put the returned mail %s aside: %w", id, err)
	}
	return nil
}

func (r *Returns) list(ctx context.Context, where string, args ...any) ([]Return, error) {
	rows, err := r.DB.Query(ctx, `SELECT `+returnColumns+` FROM returns r LEFT JOIN clients c ON c.id = r.client_id `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read what came back: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Return])
	if err != nil {
		return nil, fmt.Errorf("read what came back: %w", err)
	}
	return list, nil
}
