package notify

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// Bookmark tells up to which message a mailbox has been read; zero if it never was. A mailbox that is read for two ends
// has two accounts.
func Bookmark(ctx context.Context, db provisioning.DB, account string) (validity, uid uint32, err error) {
	err = db.QueryRow(ctx, `
		SELECT
			uid_validity,
			uid
		FROM mailboxes
		WHERE account = $1`, account).Scan(&validity, &uid)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, fmt.Errorf("read the bookmark of %s: %w", account, err)
	}
	return validity, uid, nil
}

// setBookmark notes in the transaction that takes a message that the mailbox has been read up to it.
func setBookmark(ctx context.Context, tx pgx.Tx, account string, validity, uid uint32) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO mailboxes (account, uid_validity, uid)
		VALUES ($1, $2, $3)
		ON CONFLICT (account) DO UPDATE
		SET
			uid_validity = excluded.uid_validity,
			uid = CASE
				WHEN mailboxes.uid_validity = excluded.uid_validity THEN greatest(mailboxes.uid, excluded.uid)
				ELSE excluded.uid
			END`, account, int64(validity), int64(uid))
	if err != nil {
		return fmt.Errorf("note how far %s has been read: %w", account, err)
	}
	return nil
}
