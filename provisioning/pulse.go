package provisioning

import (
	"context"
	"fmt"
)

// Pulse returns a number that grows whenever a transaction that wrote something ends, anybody's and in whatever database
// of the server, and at no other time: while it stays, what was read before is still so. It costs next to nothing.
//
// PostgreSQL numbers such transactions in their order: those that have ended are all that were begun but those at work.
func (s *Store) Pulse(ctx context.Context) (int64, error) {
	var ended int64
	err := s.DB.QueryRow(ctx, `
		SELECT pg_snapshot_xmax(s)::text::bigint - (SELECT count(*) FROM pg_snapshot_xip(s))
		FROM pg_current_snapshot() s`).Scan(&ended)
	if err != nil {
		return 0, fmt.Errorf("ask whether anything was written: %w", err)
	}
	return ended, nil
}
