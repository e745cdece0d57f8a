package authflow

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// SkipNoLink says that a client has no link that could live longer: it has none, or its last one was used or is void.
const SkipNoLink provisioning.SkipReason = "no_link"

// ExtendAll lets the newest link of each client of a batch live for InvitationLife from now, whether or not it has run
// out, in tx's transaction, which holds the roster. A client that has stalled for that is invited again, without a
// mail. It returns those that were left as they were.
func (l *Links) ExtendAll(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, actor provisioning.Actor) (provisioning.Skips, error) {
	held, skips, err := provisioning.HoldAll(ctx, tx, clients)
	if err != nil {
		return nil, err
	}
	for _, client := range held {
		skips[client] = SkipNoLink
	}
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := tx.Query(ctx, `
		WITH newest AS (
			SELECT DISTINCT ON (i.client_id)
				i.id,
				c.reason IS NOT DISTINCT FROM 'expired' AS stalled,
				i.spent_at IS NULL AND i.revoked_at IS NULL AND c.stage <> 'authorized' AS open
			FROM invitations i
			JOIN clients c ON c.id = i.client_id
			WHERE i.client_id = ANY ($1)
			ORDER BY i.client_id, i.id DESC
		)
		UPDATE invitations i
		SET
			expires_at = $2,
			expired_at = NULL
		FROM newest n
		WHERE i.id = n.id
			AND n.open
		RETURNING
			i.client_id,
			n.stalled`, held, l.Now().Add(InvitationLife))
	if err != nil {
		return nil, fmt.Errorf("extend invitations: %w", err)
	}
	var goOn, again []uuid.UUID
	var client uuid.UUID
	var stalled bool
	_, err = pgx.ForEachRow(rows, []any{&client, &stalled}, func() error {
		if delete(skips, client); stalled {
			again = append(again, client)
		} else {
			goOn = append(goOn, client)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("extend invitations: %w", err)
	}
	change := provisioning.Change{Event: provisioning.EventExtended, Actor: actor}
	if _, err := provisioning.AdvanceAll(ctx, tx, goOn, change); err != nil {
		return nil, err
	}
	change.To = provisioning.StageInvited
	_, err = provisioning.AdvanceAll(ctx, tx, again, change)
	return skips, err
}
