package provisioning

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// NoteToken writes into a client's history that actor was given its access token, once a month (UTC): an app asks
// as often as it likes. Of requests at the same moment, more than one may be written down.
func NoteToken(ctx context.Context, db DB, client uuid.UUID, actor Actor) error {
	_, err := db.Exec(ctx, `
		INSERT INTO events (client_id, kind, actor)
		SELECT
			$1,
			$2,
			$3
		WHERE NOT EXISTS (
			SELECT
			FROM events
			WHERE client_id = $1
				AND kind = $2
				AND actor = $3
				AND at >= date_trunc('month', now(), 'UTC')
		)`, client, EventTokenGiven, actor)
	if err != nil {
		return fmt.Errorf("note that a token was given: %w", err)
	}
	return nil
}
