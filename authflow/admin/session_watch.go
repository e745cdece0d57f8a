package admin

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// Ended returns those of the sessions that have ended, for whatever cause. To ask counts as no use of them: a page that
// stays open by itself keeps nobody signed in.
func (s *Store) Ended(ctx context.Context, tokens []provisioning.Secret) ([]provisioning.Secret, error) {
	hashes := make([][]byte, len(tokens))
	for i, token := range tokens {
		hashes[i] = hashSecret(token)
	}
	now := s.Now()
	rows, err := s.DB.Query(ctx, `
		SELECT token_hash
		FROM sessions
		WHERE token_hash = ANY($1)
			AND expires_at > $2
			AND seen_at > $3`, hashes, now, now.Add(-s.Idle))
	if err != nil {
		return nil, fmt.Errorf("look after the sessions: %w", err)
	}
	alive, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, fmt.Errorf("look after the sessions: %w", err)
	}
	var ended []provisioning.Secret
	for i, token := range tokens {
		if !slices.ContainsFunc(alive, func(hash []byte) bool { return string(hash) == string(hashes[i]) }) {
			ended = append(ended, token)
		}
	}
	return ended, nil
}
