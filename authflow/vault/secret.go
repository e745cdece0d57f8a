package vault

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/countersign/countersign/provisioning"
)

// secret is a row of secrets.
type secret struct {
	Name   string
	Sealed []byte
}

func secretAD(name string) AD { return AD{Row: name, Kind: "secret"} }

// Secret returns the installation's random secret of that name and makes it, n bytes long, if there
// is none yet. Processes that ask for it at the same time get the same one. It returns the errors of
// Open.
func (v *Vault) Secret(ctx context.Context, db provisioning.DB, name string, n int) ([]byte, error) {
	fresh := make([]byte, n)
	_, _ = rand.Read(fresh) // never fails
	if err := offer(ctx, db, name, v.Seal(fresh, secretAD(name))); err != nil {
		return nil, err
	}
	var sealed []byte
	if err := db.QueryRow(ctx, `SELECT sealed FROM secrets WHERE name = $1`, name).Scan(&sealed); err != nil {
		return nil, fmt.Errorf("secret %q: %w", name, err)
	}
	secret, err := v.Open(sealed, secretAD(name))
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", name, err)
	}
	if len(secret) != n {
		return nil, fmt.Errorf("secret %q: it has %d bytes where %d are wanted", name, len(secret), n)
	}
	return secret, nil
}

// offer stores a secret, unless there is one of that name.
func offer(ctx context.Context, db provisioning.DB, name string, sealed []byte) error {
	_, err := db.Exec(ctx, `
		INSERT INTO secrets (name, sealed)
		VALUES ($1, $2)
		ON CONFLICT (name) DO NOTHING`, name, sealed)
	if err != nil {
		return fmt.Errorf("secret %q: %w", name, err)
	}
	return nil
}
