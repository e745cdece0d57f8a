package authflow

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/oauth2"

	"github.com/countersign/countersign/provisioning"
)

// ConsentLife is how long an owner may take at the provider (RFC 9700: a state is short-lived).
const ConsentLife = 10 * time.Minute

// Provider is what this package asks of the provider. Package constantcontact implements it.
type Provider interface {
	// AuthorizeURL returns the address of the provider's sign-in and consent pages. verifier is the
	// PKCE verifier, empty if PKCE reports false.
	AuthorizeURL(state, verifier string) string
	PKCE() bool
	// TokenURL returns the endpoint that codes given at AuthorizeURL are redeemed at.
	TokenURL() string
	// Exchange redeems a code. It returns a *provisioning.ProviderError, or an error that matches
	// provisioning.ErrProviderUnavailable.
	Exchange(ctx context.Context, tokenURL, code, verifier string) (provisioning.Tokens, error)
	// Account asks which account a token opens. Its errors are those of Exchange.
	Account(ctx context.Context, access provisioning.Secret) (provisioning.Account, error)
}

// Outcome is how a walk ended.
type Outcome string

const (
	OutcomeConnected    Outcome = "connected"     // the grant is verified and stored
	OutcomeDeclined     Outcome = "declined"      // the owner said no at the provider
	OutcomeWrongAccount Outcome = "wrong_account" // another account than the client's consented
	OutcomeMissingScope Outcome = "missing_scope" // consent to less than was asked
	OutcomeConflict     Outcome = "conflict"      // the account is bound to another client
	OutcomeUnavailable  Outcome = "unavailable"   // the provider could not answer; trying again helps
	OutcomeFailed       Outcome = "failed"        // anything else that the provider said no to

	// The following are not stored: the walk was not touched.

	OutcomeOtherBrowser Outcome = "other_browser" // the browser is not the one that began
	OutcomeExpired      Outcome = "expired"       // took longer than ConsentLife
	OutcomeUnknown      Outcome = "unknown"       // no such walk: state absent, empty or made up
	OutcomeChecking     Outcome = "checking"      // another callback of this walk is at work
)

// Flow is the owner's walk.
type Flow struct {
	DB       DB
	Vault    *Vault
	Links    *Links
	Provider Provider // nil if there is no app at the provider: then nobody can begin
	Inviter  *provisioning.Inviter
	Scopes   []string // asked for; a grant must have them all
	Issuers  []string // origins that a callback's iss may have, if it has one (RFC 9207)
	Now      func() time.Time
}

// ErrNoProvider is returned by Begin and Again while no app at the provider is set up.
var ErrNoProvider = errors.New("no app at the provider is set up: set COUNTERSIGN_OAUTH_CLIENT_ID and COUNTERSIGN_OAUTH_CLIENT_SECRET")

// Walk is a consent that has begun: where to send the owner, and what their browser must keep.
type Walk struct {
	Consent      uuid.UUID
	AuthorizeURL string
	Browser      provisioning.Secret // for a cookie that only this site can read
}

// Begin starts a consent for an invitation's token and moves the client to started. It returns
// ErrLinkUnknown, ErrLinkExpired, ErrLinkSpent or ErrNoProvider.
func (f *Flow) Begin(ctx context.Context, token string) (Walk, error) {
	inv, err := f.Links.Find(ctx, token)
	if err != nil {
		return Walk{}, err
	}
	return f.begin(ctx, inv)
}

// Again starts another consent for the invitation of an earlier one. It returns the errors of Begin.
func (f *Flow) Again(ctx context.Context, consent uuid.UUID) (Walk, error) {
	inv, err := f.Links.find(ctx, "i.id = (SELECT s.invitation_id FROM consents s WHERE s.id = $1)", consent)
	if err != nil {
		return Walk{}, err
	}
	return f.begin(ctx, inv)
}

func (f *Flow) begin(ctx context.Context, inv Invitation) (Walk, error) {
	if f.Provider == nil {
		return Walk{}, ErrNoProvider
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Walk{}, fmt.Errorf("begin consent: %w", err)
	}
	state, browser := randomSecret(), randomSecret()
	var verifier string
	var sealed []byte
	if f.Provider.PKCE() {
		verifier = oauth2.GenerateVerifier()
		sealed = f.Vault.Seal([]byte(verifier), verifierAD(id))
	}
	tx, err := f.DB.Begin(ctx)
	if err != nil {
		return Walk{}, fmt.Errorf("begin consent: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	// The client comes first: with the row of the consent, which refers to it, several who press at once
	// would share a lock that each of them then has to have alone.
	if _, err := provisioning.Advance(ctx, tx, provisioning.Change{
		Client: inv.ClientID,
		Event:  provisioning.EventStarted,
		Actor:  provisioning.ActorOwner,
		To:     provisioning.StageStarted,
	}); err != nil {
		return Walk{}, err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO consents (id, client_id, invitation_id, state_hash, browser_hash, verifier, token_url, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		id, inv.ClientID, inv.ID, hashSecret(state), hashSecret(browser), sealed,
		f.Provider.TokenURL(), f.Now(), f.Now().Add(ConsentLife))
	if err != nil {
		return Walk{}, fmt.Errorf("begin consent: %w", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return Walk{}, fmt.Errorf("begin consent: %w", err)
	}
	return Walk{
		Consent:      id,
		AuthorizeURL: f.Provider.AuthorizeURL(state, verifier),
		Browser:      provisioning.Secret(browser),
	}, nil
}

// Callback is what the provider sent the owner's browser back with.
type Callback struct {
	State  string
	Code   provisioning.Secret
	Error  string
	Issuer string
	// Browser returns what this browser has kept for a consent, empty if nothing.
	Browser func(consent uuid.UUID) provisioning.Secret
}

// consent is a row of consents, as Callback reads it.
type consent struct {
	ID           uuid.UUID
	ClientID     uuid.UUID
	InvitationID uuid.UUID
	BrowserHash  []byte
	Verifier     []byte
	TokenURL     string
	ExpiresAt    time.Time
	ClaimedAt    *time.Time
	Outcome      *Outcome
}

// Callback ends a walk. The consent is zero if the state is not one of ours. An error is ours, never
// the owner's or the provider's: those are outcomes. A walk that was claimed is finished even if ctx
// ends: a browser that is closed or reloaded must not cost the owner a code that works once.
func (f *Flow) Callback(ctx context.Context, cb Callback) (uuid.UUID, Outcome, error) {
	if cb.State == "" {
		return uuid.Nil, OutcomeUnknown, nil
	}
	rows, err := f.DB.Query(ctx, `
		SELECT
			id,
			client_id,
			invitation_id,
			browser_hash,
			verifier,
			token_url,
			expires_at,
			claimed_at,
			outcome
		FROM consents
		WHERE state_hash = $1`, hashSecret(cb.State))
	if err != nil {
		return uuid.Nil, "", fmt.Errorf("read the consent: %w", err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[consent])
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, OutcomeUnknown, nil
	}
	if err != nil {
		return uuid.Nil, "", fmt.Errorf("read the consent: %w", err)
	}
	// The code is not redeemed for another browser: somebody may have been sent an authorize URL that
	// an attacker had begun (RFC 9700, 4.7).
	if subtle.ConstantTimeCompare(c.BrowserHash, hashSecret(cb.Browser(c.ID).Reveal())) != 1 {
		return c.ID, OutcomeOtherBrowser, nil
	}
	// From here on the walk is ended whether or not the browser waits for it.
	ctx = context.WithoutCancel(ctx)
	tag, err := f.DB.Exec(ctx, `
		UPDATE consents
		SET claimed_at = $2
		WHERE id = $1
			AND claimed_at IS NULL
			AND expires_at > $2`, c.ID, f.Now())
	if err != nil {
		return uuid.Nil, "", fmt.Errorf("claim the consent: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return c.ID, f.unclaimed(c), nil
	}
	outcome, err := f.finish(ctx, c, cb)
	return c.ID, outcome, err
}

// unclaimed says why a callback could not have the walk: it came late, or it is not the first.
func (f *Flow) unclaimed(c consent) Outcome {
	switch {
	case c.Outcome != nil:
		return *c.Outcome
	case c.ClaimedAt == nil && !f.Now().Before(c.ExpiresAt):
		return OutcomeExpired
	}
	return OutcomeChecking
}

// finish redeems a claimed walk and stores how it ended.
func (f *Flow) finish(ctx context.Context, c consent, cb Callback) (Outcome, error) {
	switch {
	case f.Provider == nil:
		return f.fail(ctx, c, OutcomeUnavailable, ErrNoProvider.Error())
	case cb.Issuer != "" && !slices.Contains(f.Issuers, origin(cb.Issuer)):
		return f.fail(ctx, c, OutcomeFailed, "the answer names another issuer than the provider: "+clip(cb.Issuer))
	case cb.Error == "access_denied":
		return f.end(ctx, c, ending{outcome: OutcomeDeclined}, provisioning.Change{
			Event: provisioning.EventDeclined, To: provisioning.StageStalled, Reason: provisioning.ReasonDeclined,
		})
	case cb.Error == "temporarily_unavailable" || cb.Error == "server_error":
		return f.fail(ctx, c, OutcomeUnavailable, "the provider answered "+cb.Error)
	case cb.Error != "":
		return f.fail(ctx, c, OutcomeFailed, "the provider answered "+clip(cb.Error))
	case cb.Code == "":
		return f.fail(ctx, c, OutcomeFailed, "the provider answered with neither a code nor an error")
	}
	var verifier []byte
	if c.Verifier != nil {
		var err error
		if verifier, err = f.Vault.Open(c.Verifier, verifierAD(c.ID)); err != nil {
			return "", fmt.Errorf("open the PKCE verifier: %w", err)
		}
	}
	tokens, err := f.Provider.Exchange(ctx, c.TokenURL, cb.Code.Reveal(), string(verifier))
	if err != nil {
		return f.providerFailed(ctx, c, err)
	}
	if missing := f.missing(tokens); len(missing) > 0 {
		return f.end(ctx, c, ending{outcome: OutcomeMissingScope, missing: missing}, provisioning.Change{
			Event: provisioning.EventMissingScope, To: provisioning.StageStalled, Reason: provisioning.ReasonMissingScope,
			Detail: provisioning.Detail{"missing": missing},
		})
	}
	account, err := f.Provider.Account(ctx, tokens.Access)
	if err != nil {
		return f.providerFailed(ctx, c, err)
	}
	return f.store(ctx, c, tokens, account)
}

// missing returns what was asked for and not granted. Whether the grant outlives its first day is
// told by the refresh token, not by the scope: servers differ in whether they name offline_access.
func (f *Flow) missing(t provisioning.Tokens) []string {
	var missing []string
	for _, scope := range f.Scopes {
		switch {
		case scope == "offline_access":
			if t.Refresh == "" {
				missing = append(missing, scope)
			}
		case t.Scopes != nil && !slices.Contains(t.Scopes, scope):
			missing = append(missing, scope)
		}
	}
	return missing
}

// unasked returns what was granted beyond what was asked for.
func (f *Flow) unasked(t provisioning.Tokens) []string {
	return slices.DeleteFunc(slices.Clone(t.Scopes), func(scope string) bool { return slices.Contains(f.Scopes, scope) })
}

func (f *Flow) providerFailed(ctx context.Context, c consent, err error) (Outcome, error) {
	if errors.Is(err, provisioning.ErrProviderUnavailable) {
		return f.fail(ctx, c, OutcomeUnavailable, clip(err.Error()))
	}
	if _, refused := errors.AsType[*provisioning.ProviderError](err); refused {
		return f.fail(ctx, c, OutcomeFailed, clip(err.Error()))
	}
	return "", err
}

// fail ends a walk that says nothing about the client: the stage stays.
func (f *Flow) fail(ctx context.Context, c consent, outcome Outcome, why string) (Outcome, error) {
	return f.end(ctx, c, ending{outcome: outcome}, provisioning.Change{
		Event:  provisioning.EventConsentFailed,
		Detail: provisioning.Detail{"error": why},
	})
}

// ending is what is stored of how a walk ended, for the page that tells it.
type ending struct {
	outcome Outcome
	found   provisioning.Account // if it came so far
	missing []string             // scopes asked for and not granted
}

// end stores how a walk ended, together with the change that it means for the client.
func (f *Flow) end(ctx context.Context, c consent, e ending, ch provisioning.Change) (Outcome, error) {
	tx, err := f.DB.Begin(ctx)
	if err != nil {
		return "", fmt.Errorf("end the consent: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	if err := endIn(ctx, tx, c, e, ch); err != nil {
		return "", err
	}
	if err := tx.Commit(ctx); err != nil {
		return "", fmt.Errorf("end the consent: %w", err)
	}
	return e.outcome, nil
}

func endIn(ctx context.Context, tx pgx.Tx, c consent, e ending, ch provisioning.Change) error {
	ch.Client, ch.Actor = c.ClientID, provisioning.ActorOwner
	if _, err := provisioning.Advance(ctx, tx, ch); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		UPDATE consents
		SET
			outcome = $2,
			found_account = nullif($3, ''),
			found_organization = nullif($4, ''),
			missing_scopes = coalesce($5::text[], '{}'),
			verifier = NULL
		WHERE id = $1`, c.ID, e.outcome, e.found.ID, e.found.Organization, e.missing)
	if err != nil {
		return fmt.Errorf("end the consent: %w", err)
	}
	return nil
}

// Ending is what the page after a walk tells.
type Ending struct {
	Outcome           Outcome
	ClientName        string
	FoundOrganization string   // of the account that consented, if it came so far
	Missing           []string // scopes asked for and not granted
}

// checkTime is how long a claimed walk may have no outcome before it counts as lost to a crash.
const checkTime = time.Minute

// Ending returns how a walk ended, to the browser that made it; to any other it returns
// OutcomeOtherBrowser and no names. It returns ErrLinkUnknown if there is no such walk.
func (f *Flow) Ending(ctx context.Context, id uuid.UUID, browser provisioning.Secret) (Ending, error) {
	var e Ending
	var hash []byte
	var claimed *time.Time
	var outcome *Outcome
	err := f.DB.QueryRow(ctx, `
		SELECT
			s.browser_hash,
			s.claimed_at,
			s.outcome,
			c.name,
			coalesce(s.found_organization, ''),
			s.missing_scopes
		FROM consents s
		JOIN clients c ON c.id = s.client_id
		WHERE s.id = $1`, id,
	).Scan(&hash, &claimed, &outcome, &e.ClientName, &e.FoundOrganization, &e.Missing)
	if errors.Is(err, pgx.ErrNoRows) {
		return Ending{}, ErrLinkUnknown
	}
	if err != nil {
		return Ending{}, fmt.Errorf("read the consent: %w", err)
	}
	switch {
	case subtle.ConstantTimeCompare(hash, hashSecret(browser.Reveal())) != 1:
		return Ending{Outcome: OutcomeOtherBrowser}, nil
	case outcome != nil:
		e.Outcome = *outcome
	case claimed == nil:
		e.Outcome = OutcomeExpired
	case f.Now().Sub(*claimed) < checkTime:
		e.Outcome = OutcomeChecking
	default:
		e.Outcome = OutcomeFailed
	}
	return e, nil
}

func verifierAD(consent uuid.UUID) AD {
	return AD{Row: consent.String(), Kind: "pkce_verifier"}
}

// randomSecret returns 256 random bits as text that fits a URL and a cookie.
func randomSecret() string { return rand.Text() + rand.Text() }

func hashSecret(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// clip makes what a stranger may have written fit for a client's history: printable, and not endless.
func clip(s string) string {
	const most = 300
	printable := []rune(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s))
	if len(printable) <= most {
		return string(printable)
	}
	return string(printable[:most]) + "…"
}

// Origins returns scheme and host of the provider's endpoints: an issuer lives at one of them.
func Origins(endpoints ...string) []string {
	origins := make([]string, len(endpoints))
	for i, e := range endpoints {
		origins[i] = origin(e)
	}
	return origins
}

// origin returns scheme and host of an absolute URL; of anything else, something no issuer is.
func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
