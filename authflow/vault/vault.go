// Package vault seals secrets for the database with AES-256-GCM, under keys that only the processes have.
//
//	ParseKeys, OpenKeyFile ──► Vault ── Seal ──► envelope: version, key id, nonce, ciphertext, tag
//	                                 ◄─ Open ──
//
// What is sealed is bound to its place, an AD: whose it is, which row, what it is and which generation of
// the row. It opens nowhere else, so that whoever can write to the database can neither pass one client's
// token off as another's nor bring an old one back.
//
// The first key seals, all of them open. A key goes through these states:
//
//	put first ── Check, Watch ──► in use ── another is put first ──► left ── Rotation ──► removable
//	                              its canary is in the database                          its canary is gone
//
// Whoever seals with a key keeps a canary of that key in the database: a secret without a use. A process
// whose vault does not open every canary does not start, and says which key it lacks.
//
// Files: vault.go (keys, sealing), secret.go (the installation's own random secrets), canary.go (which keys
// this database needs), keyfile.go (the keys of a private database), rotation.go (sealing everything anew
// under another key, while the service runs), shelf.go (what is sealed, room by room). The rooms that keep
// something sealed bring a Shelf each: authflow/grant for tokens, authflow for PKCE verifiers.
package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

var (
	// ErrUnknownKey means that something was sealed with a key that is not in the vault.
	ErrUnknownKey = errors.New("the vault does not have the key that this was sealed with")
	// ErrSealBroken means that something sealed was changed, cut, moved to another place, or sealed
	// with another key of the same id.
	ErrSealBroken = errors.New("the seal is broken")
)

const (
	keySize   = 32 // AES-256
	keyIDSize = 32 // at most

	// envelopeVersion begins everything sealed. The key's id and a zero byte follow, then nonce,
	// ciphertext and tag.
	envelopeVersion = 1
)

// Vault seals secrets for the database with AES-256-GCM. It holds several keys, so that a new one
// can be brought in while what was sealed with the old one still opens. It prints as [redacted], and may
// be used by several goroutines at once.
type Vault struct {
	ring *atomic.Pointer[keyring]
	file *keyFile // whence the keys are, if they may change
}

// keyring is a list of keys. It does not change.
type keyring struct {
	ids  []string // the first one seals
	keys map[string]cipher.AEAD
}

// AD says where something sealed belongs. It opens nowhere else, so that whoever can write to the
// database cannot pass one row's secret off as another's, or an old one as the current.
type AD struct {
	Row        string // id of the row, or its name
	Kind       string // what it is, such as refresh_token
	Client     string // id of the client whose it is; empty if it is nobody's
	Generation int    // of the row, if it changes
}

// encode writes every part with its length, so that no two ADs have the same bytes. An empty client is no
// part: what follows is one number then, and more than one otherwise.
func (ad AD) encode(header []byte) []byte {
	parts := []string{string(header), ad.Row, ad.Kind}
	if ad.Client != "" {
		parts = append(parts, ad.Client)
	}
	var b []byte
	for _, part := range parts {
		b = binary.AppendVarint(b, int64(len(part)))
		b = append(b, part...)
	}
	return binary.AppendVarint(b, int64(ad.Generation))
}

// ParseKeys reads "id=base64,id2=base64": the first key seals, all of them open. An id has 1 to
// 32 letters, digits, - and _; a key has 32 bytes. Errors name a key by its place in the list alone:
// in a mistyped list anything may be key material.
func ParseKeys(s string) (*Vault, error) {
	ring, err := parseKeyring(s)
	if err != nil {
		return nil, err
	}
	v := &Vault{ring: new(atomic.Pointer[keyring])}
	v.ring.Store(ring)
	return v, nil
}

func parseKeyring(s string) (*keyring, error) {
	if strings.TrimSpace(s) == "" {
		return nil, errors.New("vault keys: there is none; make one with: echo k1=$(openssl rand -base64 32)")
	}
	ring := &keyring{keys: make(map[string]cipher.AEAD)}
	for i, entry := range strings.Split(s, ",") {
		id, text, found := strings.Cut(strings.TrimSpace(entry), "=")
		if !found || !isKeyID(id) {
			return nil, fmt.Errorf("vault keys: key %d does not have the form id=base64 with an id of 1 to 32 letters, digits, - and _", i+1)
		}
		if _, taken := ring.keys[id]; taken {
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
		if ring.keys[id], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, fmt.Errorf("vault keys: key %d: %w", i+1, err)
		}
		ring.ids = append(ring.ids, id)
	}
	return ring, nil
}

func isKeyID(s string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	return s != "" && len(s) <= keyIDSize && strings.Trim(s, letters) == ""
}

// GenerateKey makes a key in the form that ParseKeys reads.
func GenerateKey(id string) string {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	return id + "=" + base64.StdEncoding.EncodeToString(key)
}

// Format prints a stand-in whatever the verb.
func (Vault) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// KeyIDs returns the ids of the keys, of the one that seals first.
func (v *Vault) KeyIDs() []string { return slices.Clone(v.ring.Load().ids) }

// Header returns what everything begins with that Seal makes, for now, and nothing that was sealed with another key.
func (v *Vault) Header() []byte { return v.ring.Load().header() }

func (r *keyring) header() []byte { return append([]byte{envelopeVersion}, r.ids[0]+"\x00"...) }

// Seal encrypts the plaintext for one place.
func (v *Vault) Seal(plaintext []byte, ad AD) []byte { return v.ring.Load().seal(plaintext, ad) }

func (r *keyring) seal(plaintext []byte, ad AD) []byte {
	header := r.header()
	return r.keys[r.ids[0]].Seal(header, nil, plaintext, ad.encode(header)) //nolint:gosec // This AEAD takes no nonce: it makes one.
}

// Open decrypts what Seal made for the same place. If the keys are from a file, a key that is missing is
// looked for there once more. It returns ErrUnknownKey, with the id of the missing key, or ErrSealBroken.
func (v *Vault) Open(sealed []byte, ad AD) ([]byte, error) {
	n := bytes.IndexByte(sealed, 0)
	if n < 0 || sealed[0] != envelopeVersion || !isKeyID(string(sealed[1:n])) {
		return nil, fmt.Errorf("%w: this is no sealed envelope of version %d", ErrSealBroken, envelopeVersion)
	}
	id, header, box := string(sealed[1:n]), sealed[:n+1], sealed[n+1:]
	key, ok := v.ring.Load().keys[id]
	if !ok {
		if err := v.follow(); err != nil {
			return nil, fmt.Errorf("%w: its id is %q: %w", ErrUnknownKey, id, err)
		}
		if key, ok = v.ring.Load().keys[id]; !ok {
			return nil, fmt.Errorf("%w: its id is %q", ErrUnknownKey, id)
		}
	}
	plaintext, err := key.Open(nil, nil, box, ad.encode(header))
	if err != nil {
		return nil, fmt.Errorf("%w: %s of %s, generation %d", ErrSealBroken, ad.Kind, ad.Row, ad.Generation)
	}
	return plaintext, nil
}
