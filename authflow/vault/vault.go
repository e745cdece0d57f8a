package authflow

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/countersign/countersign/provisioning"
)

// DB is a connection pool or a transaction.
type DB = provisioning.DB

var (
	// ErrUnknownKey means that something was sealed with a key that is not in the vault.
	ErrUnknownKey = errors.New("the vault does not have the key that this was sealed with")
	// ErrSealBroken means that something sealed was changed, cut, moved to another place, or sealed
	// with another key of the same id.
	ErrSealBroken = errors.New("the seal is broken")
)

const (
	keySize = 32 // AES-256

	// envelopeVersion begins everything sealed. The key's id and a zero byte follow, then nonce,
	// ciphertext and tag.
	envelopeVersion = 1
)

// Vault seals secrets for the database with AES-256-GCM. It holds several keys, so that a new one
// can be brought in while what was sealed with the old one still opens. It prints as [redacted].
type Vault struct {
	primary string
	keys    map[string]cipher.AEAD
}

// AD says where something sealed belongs. It opens nowhere else, so that whoever can write to the
// database cannot pass one row's secret off as another's, or an old one as the current.
type AD struct {
	Row        string // id of the row, or its name
	Kind       string // what it is, such as refresh_token
	Generation int    // of the row, if it changes
}

// encode writes every part with its length, so that no two ADs have the same bytes.
func (ad AD) encode(header []byte) []byte {
	var b []byte
	for _, part := range []string{string(header), ad.Row, ad.Kind} {
		b = binary.AppendVarint(b, int64(len(part)))
		b = append(b, part...)
	}
	return binary.AppendVarint(b, int64(ad.Generation))
}

// ParseVaultKeys reads "id=base64,id2=base64": the first key seals, all of them open. An id has 1 to
// 32 letters, digits, - and _; a key has 32 bytes. Errors name a key by its place in the list alone:
// in a mistyped list anything may be key material.
func ParseVaultKeys(s string) (*Vault, error) {
	if strings.TrimSpace(s) == "" {
		return nil, errors.New("vault keys: there is none; make one with: echo k1=$(openssl rand -base64 32)")
	}
	v := &Vault{keys: make(map[string]cipher.AEAD)}
	for i, entry := range strings.Split(s, ",") {
		name, text, found := strings.Cut(strings.TrimSpace(entry), "=")
		if !found || !isKeyID(name) {
			return nil, fmt.Errorf("vault keys: key %d does not have the form id=base64 with an id of 1 to 32 letters, digits, - and _", i+1)
		}
		if _, taken := v.keys[name]; taken {
			return nil, fmt.Errorf("vault keys: key %d has the id of an earlier one", i+1)
		}
		key, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
		if err != nil {
			return nil, fmt.Errorf("vault keys: key %d is not base64", i+1)
		}
		if len(key) != keySize {
			return nil, fmt.Errorf("vault keys: key %d has %d bytes and needs %d", i+1, len(key), keySize)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("vault keys: key %d: %w", i+1, err)
		}
		if v.keys[name], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, fmt.Errorf("vault keys: key %d: %w", i+1, err)
		}
		if i == 0 {
			v.primary = name
		}
	}
	return v, nil
}

func isKeyID(s string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	return s != "" && len(s) <= 32 && strings.Trim(s, letters) == ""
}

// GenerateVaultKey makes a key in the form that ParseVaultKeys reads.
func GenerateVaultKey(id string) string {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	return id + "=" + base64.StdEncoding.EncodeToString(key)
}

// Format prints a stand-in whatever the verb.
func (Vault) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// Seal encrypts the plaintext for one place.
func (v *Vault) Seal(plaintext []byte, ad AD) []byte {
	header := append([]byte{envelopeVersion}, v.primary+"\x00"...)
	return v.keys[v.primary].Seal(header, nil, plaintext, ad.encode(header)) //nolint:gosec // This AEAD takes no nonce: it makes one.
}

// Open decrypts what Seal made for the same place. It returns ErrUnknownKey, with the id of the
// missing key, or ErrSealBroken.
func (v *Vault) Open(sealed []byte, ad AD) ([]byte, error) {
	n := bytes.IndexByte(sealed, 0)
	if n < 0 || sealed[0] != envelopeVersion || !isKeyID(string(sealed[1:n])) {
		return nil, fmt.Errorf("%w: this is no sealed envelope of version %d", ErrSealBroken, envelopeVersion)
	}
	id, header, box := string(sealed[1:n]), sealed[:n+1], sealed[n+1:]
	key, ok := v.keys[id]
	if !ok {
		return nil, fmt.Errorf("%w: its id is %q", ErrUnknownKey, id)
	}
	plaintext, err := key.Open(nil, nil, box, ad.encode(header))
	if err != nil {
		return nil, fmt.Errorf("%w: %s of %s, generation %d", ErrSealBroken, ad.Kind, ad.Row, ad.Generation)
	}
	return plaintext, nil
}

// Secret returns the installation's random secret of that name and makes it, n bytes long, if there
// is none yet. Processes that ask for it at the same time get the same one. It returns the errors of
// Open.
func (v *Vault) Secret(ctx context.Context, db DB, name string, n int) ([]byte, error) {
	ad := AD{Row: name, Kind: "secret"}
	fresh := make([]byte, n)
	_, _ = rand.Read(fresh) // never fails
	_, err := db.Exec(ctx, `
		INSERT INTO secrets (name, sealed)
		VALUES ($1, $2)
		ON CONFLICT (name) DO NOTHING`, name, v.Seal(fresh, ad))
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", name, err)
	}
	var sealed []byte
	if err := db.QueryRow(ctx, `SELECT sealed FROM secrets WHERE name = $1`, name).Scan(&sealed); err != nil {
		return nil, fmt.Errorf("secret %q: %w", name, err)
	}
	secret, err := v.Open(sealed, ad)
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", name, err)
	}
	if len(secret) != n {
		return nil, fmt.Errorf("secret %q: it has %d bytes where %d are wanted", name, len(secret), n)
	}
	return secret, nil
}

// Check opens the canary, a secret without a use, and so finds out at the start whether this vault
// belongs to this database. It returns the errors of Open, with the cure.
func (v *Vault) Check(ctx context.Context, db DB) error {
	_, err := v.Secret(ctx, db, "canary", 1)
	switch {
	case errors.Is(err, ErrUnknownKey):
		return fmt.Errorf("%w: this database was sealed with it; add the key to COUNTERSIGN_VAULT_KEYS, or restore the key file in the data directory from the backup", err)
	case errors.Is(err, ErrSealBroken):
		return fmt.Errorf("%w: a key of this id was replaced by another one; put the earlier one back into COUNTERSIGN_VAULT_KEYS or the key file", err)
	}
	return err
}
