package provisioning

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Namesake is a client that may have a name.
type Namesake struct {
	ID   uuid.UUID
	Name string
}

// Namesakes returns clients that may have a name, whatever its case, accents and punctuation: those that are
// found by all of its words, or by these written as one. The caller compares the names as it sees fit. There
// are at most limit of them; a name that no word can be taken from has none.
func Namesakes(ctx context.Context, db DB, name string, limit int) ([]Namesake, error) {
	words := searchWords(firstRunes(name, 500))
	if len(words) == 0 {
		return nil, nil
	}
	query := "'" + strings.Join(words, "' & '") + "'" // Letters and digits: there is nothing to escape.
	if len(words) > 1 {
		query += " | '" + firstRunes(strings.Join(words, ""), maxSearchRunes) + "'"
	}
	rows, err := db.Query(ctx, `
		SELECT
			id,
			name
		FROM clients
		WHERE search @@ $1::tsquery
		LIMIT $2`, planned, query, limit)
	if err != nil {
		return nil, fmt.Errorf("find namesakes: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Namesake])
	if err != nil {
		return nil, fmt.Errorf("find namesakes: %w", err)
	}
	return found, nil
}
