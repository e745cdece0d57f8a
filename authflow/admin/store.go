package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/semaphore"

	"github.com/countersign/countersign/provisioning"
)

// DB is a connection pool or a transaction.
type DB = provisioning.DB

var (
	// ErrNotFound means that there is no such operator or key.
	ErrNotFound = errors.New("it does not exist")
	// ErrName means that the name of an operator or a key cannot be shown on a line.
	ErrName = errors.New("a name has 1 to 100 printable characters")
)

// parseName trims a name. It returns ErrName.
func parseName(name string) (string, error) {
	name = strings.TrimSpace(name)
	n := utf8.RuneCountInString(name)
	hidden := func(r rune) bool { return !unicode.IsPrint(r) }
	if n < 1 || n > 100 || !utf8.ValidString(name) || strings.ContainsFunc(name, hidden) {
		return "", ErrName
	}
	return name, nil
}

// Store keeps operators, sessions, entry links and API keys. Its fields may be changed before the
// first call.
type Store struct {
	DB       DB
	Now      func() time.Time
	Idle     time.Duration // a session that is not used for so long ends
	Absolute time.Duration // a session ends so long after it began
	LinkLife time.Duration

	PublicURL string // where operators reach us, without a trailing slash
	LinkKey   []byte // of the MAC that derives the tokens of mailed links; needed to invite and to reset
	Mailer    Mailer // nil without a mail server
	Sealer    Sealer // of second factors; needed where somebody has one
	// ResetTime is how long it takes to request another password, so that the time tells nobody who is an operator.
	ResetTime time.Duration

	hashing         *semaphore.Weighted
	byEmail         *throttle
	byAddress       *throttle
	byOperator      *throttle // for codes
	resetsByEmail   *throttle
	resetsByAddress *throttle
}

// New makes a store with the limits that the package comment names. Links live a day.
func New(db DB) *Store {
	return &Store{
		DB:        db,
		Now:       time.Now,
		Idle:      12 * time.Hour,
		Absolute:  7 * 24 * time.Hour,
		LinkLife:  24 * time.Hour,
		ResetTime: time.Second,

		hashing:         semaphore.NewWeighted(hashers),
		byEmail:         newThrottle(10, 30*time.Second),
		byAddress:       newThrottle(50, 5*time.Second),
		byOperator:      newThrottle(5, time.Minute),
		resetsByEmail:   newThrottle(3, 20*time.Minute),
		resetsByAddress: newThrottle(20, time.Minute),
	}
}

// touchAfter is how stale the time of last use may get: not every request has to write.
const touchAfter = time.Minute

// newSecret makes 256 random bits in text that fits a cookie, a URL and a header, and the hash to store.
func newSecret(prefix string) (secret provisioning.Secret, hash []byte) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	secret = provisioning.Secret(prefix + base64.RawURLEncoding.EncodeToString(b))
	return secret, hashSecret(secret)
}

// hashSecret needs neither salt nor slowness: nobody guesses 256 random bits.
func hashSecret(secret provisioning.Secret) []byte {
	sum := sha256.Sum256([]byte(secret.Reveal()))
	return sum[:]
}
