package sso

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

// AttemptLife is how long somebody may take at the issuer.
const AttemptLife = 10 * time.Minute

// mostParameter is more than any state or code is long.
const mostParameter = 4 << 10

var (
	// ErrUnavailable means that the issuer does not answer, or not as an issuer does. Trying later may help.
	ErrUnavailable = errors.New("the issuer of single sign-on does not answer as it should")
	// ErrAttempt means that an answer belongs to no attempt, or to one that came back before.
	ErrAttempt = errors.New("this answer belongs to no attempt to sign in, or to one that is over")
	// ErrExpired means that an attempt took longer than AttemptLife.
	ErrExpired = errors.New("the attempt to sign in took too long")
	// ErrOtherBrowser means that another browser began the attempt than the one that came back.
	ErrOtherBrowser = errors.New("another browser began this attempt to sign in")
	// ErrRefused means that the issuer, or the person there, said no.
	ErrRefused = errors.New("the issuer of single sign-on refused")
	// ErrUntrusted means that what came is not surely of the issuer, for us and for this attempt.
	ErrUntrusted = errors.New("the answer of single sign-on cannot be trusted")
	// ErrUnverified means that the issuer does not vouch for an e-mail address.
	ErrUnverified = errors.New("the issuer of single sign-on does not say that the e-mail address is verified")
	// ErrDomain means that an address is of none of the allowed domains.
	ErrDomain = errors.New("this e-mail address is of none of the domains that may sign in")
)

// Person is who an issuer says has signed in.
type Person struct {
	Subject  string
	Email    string
	Verified bool // the issuer vouches for the address
	Name     string
}

// Issuer is what this package asks of an issuer. Package openid implements it.
type Issuer interface {
	// ID returns how the issuer names itself, letter by letter.
	ID() string
	// URL returns the address of its sign-in pages. It returns ErrUnavailable.
	URL(ctx context.Context, state, nonce, verifier string) (string, error)
	// NamesItself reports whether every answer says whose it is (RFC 9207). It returns ErrUnavailable.
	NamesItself(ctx context.Context) (bool, error)
	// Redeem makes a person of a code, having checked everything about the token that comes for it. It returns
	// ErrUnavailable, ErrRefused or ErrUntrusted.
	Redeem(ctx context.Context, code provisioning.Secret, nonce, verifier string) (Person, error)
}

// Door is the way in through one issuer. All fields but those that say otherwise are needed.
type Door struct {
	Store     *admin.Store
	Issuer    Issuer
	Name      string     // of the issuer, as people know it
	Domains   []string   // of addresses that may sign in, in lower case; any if there is none
	Newcomers admin.Role // of people who are no operators yet; empty if they are not let in
	Now       func() time.Time
}

// Attempt is somebody who goes to the issuer to sign in.
type Attempt struct {
	URL     string              // where to
	Browser provisioning.Secret // for a cookie that only this site can read
}

// Begin starts an attempt. It returns ErrUnavailable.
func (d *Door) Begin(ctx context.Context) (Attempt, error) {
	state, browser, now := secret(), secret(), d.Now()
	address, err := d.Issuer.URL(ctx, state, derive(browser, "nonce", state), derive(browser, "verifier", state))
	if err != nil {
		return Attempt{}, err
	}
	err = pgx.BeginFunc(ctx, d.Store.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM sso_attempts WHERE expires_at < $1`, now.Add(-AttemptLife)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			INSERT INTO sso_attempts (state_hash, browser_hash, created_at, expires_at)
			VALUES ($1, $2, $3, $4)`, hash(state), hash(browser), now, now.Add(AttemptLife))
		return err
	})
	if err != nil {
		return Attempt{}, fmt.Errorf("begin single sign-on: %w", err)
	}
	return Attempt{address, provisioning.Secret(browser)}, nil
}

// Answer is what the issuer has sent a browser back with.
type Answer struct {
	State    string
	Code     provisioning.Secret
	Error    string
	Issuer   string              // RFC 9207
	Repeated bool                // a parameter came more than once (RFC 6749, 3.1)
	Browser  provisioning.Secret // of the cookie; empty if there is none
}

// Callback ends an attempt and begins a session. It returns the errors of this package and those of admin.Store.SignInAs;
// whichever it is, beginning anew is the way on.
func (d *Door) Callback(ctx context.Context, a Answer, v admin.Visitor) (provisioning.Secret, admin.Operator, error) {
	if err := d.claim(ctx, a); err != nil {
		return "", admin.Operator{}, err
	}
	named, err := d.Issuer.NamesItself(ctx)
	if err != nil {
		return "", admin.Operator{}, err
	}
	switch {
	case a.Issuer != "" && a.Issuer != d.Issuer.ID():
		return "", admin.Operator{}, fmt.Errorf("%w: it says that it comes from %q", ErrUntrusted, shorten(a.Issuer))
	case a.Issuer == "" && named:
		return "", admin.Operator{}, fmt.Errorf("%w: it does not name its issuer", ErrUntrusted)
	case a.Error == "server_error", a.Error == "temporarily_unavailable": // RFC 6749, 4.1.2.1
		return "", admin.Operator{}, fmt.Errorf("%w: it says %q", ErrUnavailable, a.Error)
	case a.Error != "":
		return "", admin.Operator{}, fmt.Errorf("%w: %q", ErrRefused, shorten(a.Error))
	case a.Code == "" || len(a.Code) > mostParameter:
		return "", admin.Operator{}, fmt.Errorf("%w: it has no code", ErrUntrusted)
	}
	browser := a.Browser.Reveal()
	p, err := d.Issuer.Redeem(ctx, a.Code, derive(browser, "nonce", a.State), derive(browser, "verifier", a.State))
	if err != nil {
		return "", admin.Operator{}, err
	}
	if !p.Verified {
		return "", admin.Operator{}, ErrUnverified
	}
	_, domain, _ := strings.Cut(p.Email, "@")
	if len(d.Domains) > 0 && !slices.Contains(d.Domains, strings.ToLower(domain)) {
		return "", admin.Operator{}, ErrDomain
	}
	return d.Store.SignInAs(ctx, admin.Identity{Issuer: d.Issuer.ID(), Subject: p.Subject, Email: p.Email, Name: p.Name}, d.Newcomers, v)
}

// claim spends the attempt that an answer belongs to. An answer in another browser spends nothing: whoever was sent
// somebody else's must not be able to end their attempt.
func (d *Door) claim(ctx context.Context, a Answer) error {
	if a.State == "" || len(a.State) > mostParameter || a.Repeated {
		return ErrAttempt
	}
	var browser []byte
	err := d.Store.DB.QueryRow(ctx, `SELECT browser_hash FROM sso_attempts WHERE state_hash = $1`, hash(a.State)).Scan(&browser)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrAttempt
	}
	if err != nil {
		return fmt.Errorf("read the attempt to sign in: %w", err)
	}
	if subtle.ConstantTimeCompare(browser, hash(a.Browser.Reveal())) != 1 {
		return ErrOtherBrowser
	}
	var end time.Time
	err = d.Store.DB.QueryRow(ctx, `DELETE FROM sso_attempts WHERE state_hash = $1 RETURNING expires_at`, hash(a.State)).Scan(&end)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrAttempt // Another answer was quicker.
	case err != nil:
		return fmt.Errorf("spend the attempt to sign in: %w", err)
	case !d.Now().Before(end):
		return ErrExpired
	}
	return nil
}

func secret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

func hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// derive makes a secret of one attempt and one use.
func derive(browser, what, state string) string {
	mac := hmac.New(sha256.New, []byte(browser))
	mac.Write([]byte(what + "\n" + state))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// shorten cuts what a stranger has sent to what fits a log.
func shorten(s string) string { return s[:min(len(s), 100)] }
