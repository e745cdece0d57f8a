package authflow

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/oauth2"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/vault"
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
	DB       provisioning.DB
	Vault    *vault.Vault
	Links    *Links
	Grants   *grant.Store
	Provider Provider // nil if there is no app at the provider: then nobody can begin
	Inviter  *provisioning.Inviter
	Scopes   []string // asked for; a grant must have them all
	Issuer   string   // who every callback must say that it comes from (RFC 9207); empty if the provider does not promise to
	Issuers  []string // without Issuer: what a callback's iss may be, or the origin it may have, if there is one
	Now      func() time.Time
	Log      *slog.Logger // hears of what only the operator can cure
}

// ErrNoProvider is returned by Begin and Again while no app at the provider is set up.
var ErrNoProvider = errors.New("no app at the provider is set up: set COUNTERSIGN_OAUTH_CLIENT_ID and COUNTERSIGN_OAUTH_CLIENT_SECRET")

// ErrOtherRoute is returned by Begin and Again if it is no longer the owner who is to consent.
var ErrOtherRoute = errors.New("the owner is not asked to consent any more")

// Walk is a consent that has begun: where to send the owner, and what their browser must keep.
type Walk struct {
	Consent      uuid.UUID
	AuthorizeURL string
	Browser      provisioning.Secret // for a cookie that only this site can read
}

// Begin starts a consent for an invitation's token and moves the client to started. It returns
// ErrLinkUnknown, ErrLinkExpired, ErrLinkSpent, ErrOtherRoute or ErrNoProvider.
func (f *Flow) Begin(ctx context.Context, token string) (Walk, error) {
	inv, err := f.Links.Find(ctx, token)
	if err != nil {
		return Walk{}, err
	}
	if inv.Route != provisioning.RouteOwner {
		return Walk{}, ErrOtherRoute
	}
	return f.begin(ctx, walker{inv.ClientID, &inv.ID, provisioning.ActorOwner})
}

// BeginAs starts a consent of an operator, who signs in as the Account Manager of a client: no invitation is spent by
// it, and the provider always asks who signs in. It returns provisioning.ErrNotFound or ErrNoProvider.
func (f *Flow) BeginAs(ctx context.Context, client uuid.UUID, actor provisioning.Actor) (Walk, error) {
	return f.begin(ctx, walker{client, nil, actor})
}

// Again starts another consent for the invitation of an earlier one. It returns the errors of Begin.
func (f *Flow) Again(ctx context.Context, consent uuid.UUID) (Walk, error) {
	inv, err := f.Links.find(ctx, "i.id = (SELECT s.invitation_id FROM consents s WHERE s.id = $1)", consent)
	if err != nil {
		return Walk{}, err
	}
	if inv.Route != provisioning.RouteOwner {
		return Walk{}, ErrOtherRoute
	}
	return f.begin(ctx, walker{inv.ClientID, &inv.ID, provisioning.ActorOwner})
}

// walker is who is to consent for a client.
type walker struct {
	client     uuid.UUID
	invitation *uuid.UUID // whose link began it, if one did
	actor      provisioning.Actor
}

func (f *Flow) begin(ctx context.Context, by walker) (Walk, error) {
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
		Client: by.client,
		Event:  provisioning.EventStarted,
		Actor:  by.actor,
		To:     provisioning.StageStarted,
	}); err != nil {
		return Walk{}, err
	}
	var failedBefore bool
	err = tx.QueryRow(ctx, `
		INSERT INTO consents (id, client_id, invitation_id, state_hash, browser_hash, verifier, token_url, created_at, expires_at, actor)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		RETURNING EXISTS (
			SELECT FROM consents s
			WHERE s.invitation_id = $3
				AND s.outcome NOT IN ('connected', 'unavailable')
		)`,
		id, by.client, by.invitation, hashSecret(state), hashSecret(browser), sealed,
		f.Provider.TokenURL(), f.Now(), f.Now().Add(ConsentLife), by.actor).Scan(&failedBefore)
	if err != nil {
		return Walk{}, fmt.Errorf("begin consent: %w", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return Walk{}, fmt.Errorf("begin consent: %w", err)
	}
	w := Walk{Consent: id, AuthorizeURL: f.Provider.AuthorizeURL(state, verifier), Browser: provisioning.Secret(browser)}
	if failedBefore || by.invitation == nil {
		// The provider's session of whoever it was, or of the account before, must not decide this attempt too.
		w.AuthorizeURL = withLogin(w.AuthorizeURL)
	}
	return w, nil
}

// withLogin has the provider ask who signs in, whatever session the browser has there (OpenID Connect
// Core, 3.1.2.1).
func withLogin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	q := u.Query()
	prompts := strings.Fields(q.Get("prompt"))
	if slices.Contains(prompts, "login") {
		return address
	}
	prompts = slices.DeleteFunc(prompts, func(p string) bool { return p == "none" }) // which goes with no other
	q.Set("prompt", strings.Join(append(prompts, "login"), " "))
	u.RawQuery = q.Encode()
	return u.String()
}

// Callback is what the provider sent the owner's browser back with.
type Callback struct {
	State       string
	Code        provisioning.Secret
	Error       string
	Description string // of Error, in the provider's words
	Issuer      string
	Repeated    string // a parameter that came more than once (RFC 6749, 3.1); empty if none did
	// Browser returns what this browser has kept for a consent, empty if nothing.
	Browser func(consent uuid.UUID) provisioning.Secret
}

// mostParameter is more than any state or code is long.
const mostParameter = 4 << 10

// consent is a row of consents, as Callback reads it.
type consent struct {
	ID           uuid.UUID
	ClientID     uuid.UUID
	InvitationID *uuid.UUID
	Actor        provisioning.Actor
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
	if cb.State == "" || len(cb.State) > mostParameter {
		return uuid.Nil, OutcomeUnknown, nil
	}
	rows, err := f.DB.Query(ctx, `
		SELECT
			id,
			client_id,
			invitation_id,
			actor,
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
	switch stranger := f.stranger(cb.Issuer); {
	case f.Provider == nil:
		return f.fail(ctx, c, OutcomeUnavailable, ErrNoProvider.Error())
	case cb.Repeated != "":
		return f.fail(ctx, c, OutcomeFailed, "the provider's answer has more than one "+cb.Repeated)
	case stranger != "":
		f.Log.WarnContext(ctx, "a walk was stopped: its answer may be another server's", "why", stranger, "consent", c.ID, "client", c.ClientID,
			"cure", "if this is the provider's own name, set COUNTERSIGN_PROVIDER_ISSUER to it; else somebody tried to mix up two providers")
		return f.fail(ctx, c, OutcomeFailed, stranger)
	case cb.Error != "":
		return f.refused(ctx, c, cb)
	case cb.Code == "":
		return f.fail(ctx, c, OutcomeFailed, "the provider answered with neither a code nor an error")
	case c.TokenURL != f.Provider.TokenURL():
		return f.fail(ctx, c, OutcomeUnavailable, "the settings of the provider have changed since this walk began")
	case len(cb.Code) > mostParameter:
		return f.fail(ctx, c, OutcomeFailed, fmt.Sprintf("the provider's code is %d characters long", len(cb.Code)))
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
		if no, ok := errors.AsType[*provisioning.ProviderError](err); ok {
			code := no.Code
			if no.Status == http.StatusUnauthorized { // whatever it is called: RFC 6749, 5.2
				code = "invalid_client"
			}
			f.blame(ctx, c, code, no.Description)
		}
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

// stranger says why an answer may come from another server than the one that the owner was sent to: its
// code must not reach our provider, nor its refusal count (RFC 9207, 2.4). Of the right one it says nothing.
func (f *Flow) stranger(iss string) string {
	switch {
	case f.Issuer != "" && iss == "":
		return "the provider's answer does not name its issuer"
	case f.Issuer != "" && iss == f.Issuer,
		f.Issuer == "" && (iss == "" || slices.Contains(f.Issuers, iss) || slices.Contains(f.Issuers, origin(iss))):
		return ""
	}
	return "the answer names another issuer than the provider: " + clip(iss)
}

// refused ends a walk that the provider answered with an error. A code beside it does not count.
func (f *Flow) refused(ctx context.Context, c consent, cb Callback) (Outcome, error) {
	why := "the provider answered " + clip(cb.Error)
	if cb.Description != "" {
		why += ": " + clip(cb.Description)
	}
	switch cb.Error {
	case "access_denied":
		return f.end(ctx, c, ending{outcome: OutcomeDeclined}, provisioning.Change{
			Event: provisioning.EventDeclined, To: provisioning.StageStalled, Reason: provisioning.ReasonDeclined,
		})
	case "temporarily_unavailable", "server_error":
		return f.fail(ctx, c, OutcomeUnavailable, why)
	}
	f.blame(ctx, c, cb.Error, cb.Description)
	return f.fail(ctx, c, OutcomeFailed, why)
}

// blame tells the operator if what the provider refuses is our app: then no owner can consent.
func (f *Flow) blame(ctx context.Context, c consent, code, description string) {
	var cure string
	switch {
	case code == "invalid_client":
		cure = "set COUNTERSIGN_OAUTH_CLIENT_ID and COUNTERSIGN_OAUTH_CLIENT_SECRET to those of the app at the provider"
	case code == "unauthorized_client", code == "unsupported_response_type", code == "unsupported_grant_type":
		cure = "allow the app at the provider the authorization code flow with refresh tokens"
	case code == "invalid_scope":
		cure = "set COUNTERSIGN_OAUTH_SCOPES to scopes that the app at the provider may ask for"
	case code == "redirect_uri_mismatch", strings.Contains(description, "redirect_uri"):
		cure = "register exactly " + f.Links.PublicURL + "/oauth/callback with the app at the provider"
	case strings.Contains(description, "code_challenge"), strings.Contains(description, "code challenge"), strings.Contains(description, "PKCE"):
		cure = "switch COUNTERSIGN_OAUTH_PKCE as the app at the provider demands"
	default:
		return
	}
	f.Log.ErrorContext(ctx, "the provider refuses our app, so that no owner can consent",
		"error", clip(code), "description", clip(description), "cure", cure, "consent", c.ID, "client", c.ClientID)
}

const (
	storeFor  = 2 * time.Minute        // that tokens are kept in memory while the database cannot take them
	storeTry  = 20 * time.Second       // for one attempt to store them, which may wait for an import
	storeLook = 250 * time.Millisecond // between two
)

// store is storeOnce, tried again after a collision with another consent or an import that writes to
// the same rows, and until the database is back if it is out of reach: the code is spent, and the tokens
// are nowhere else.
func (f *Flow) store(ctx context.Context, c consent, t provisioning.Tokens, account provisioning.Account) (Outcome, error) {
	const collisions = 3
	began := time.Now()
	for attempt := 1; ; attempt++ {
		outcome, err := f.storeOnce(ctx, c, t, account)
		again := provisioning.Collided(err) && attempt < collisions || provisioning.Passing(err) && time.Since(began) < storeFor
		if !again {
			return outcome, err
		}
		f.Log.WarnContext(ctx, "a grant could not be stored; trying again", "client", c.ClientID, "err", err)
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(storeLook):
		}
	}
}

// storeOnce has the grant judged and kept, in one transaction with everything that follows from it: client,
// invitation and consent.
func (f *Flow) storeOnce(ctx context.Context, c consent, t provisioning.Tokens, account provisioning.Account) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTry)
	defer cancel()
	tx, err := f.DB.Begin(ctx)
	if err != nil {
		return "", fmt.Errorf("store the grant: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	// An earlier attempt whose commit was not answered may have come through. Sweep, which takes a walk that
	// is late for one that was cut off, has no say here.
	var before *Outcome
	if err := tx.QueryRow(ctx, `SELECT outcome FROM consents WHERE id = $1`, c.ID).Scan(&before); err != nil {
		return "", fmt.Errorf("store the grant: %w", err)
	}
	if before != nil && *before != OutcomeFailed {
		return *before, nil
	}
	v, err := f.Grants.Take(ctx, tx, grant.Consented{Client: c.ClientID, Invitation: c.InvitationID, Tokens: t, Account: account})
	if err != nil {
		return "", err
	}
	change := provisioning.Change{
		Event: v.Event,
		Detail: provisioning.Detail{
			"account_id": account.ID, "organization": account.Organization, "evidence": v.Evidence,
		},
	}
	if unasked := f.unasked(t); len(unasked) > 0 {
		change.Detail["unasked_scopes"] = unasked
	}
	outcome := OutcomeConnected
	change.To = provisioning.StageAuthorized
	if v.Status == grant.StatusQuarantined {
		outcome = OutcomeWrongAccount
		if v.Reason == provisioning.ReasonConflict {
			outcome = OutcomeConflict
		}
		change.To, change.Reason = provisioning.StageStalled, v.Reason
	}
	if err := endIn(ctx, tx, c, ending{outcome: outcome, found: account}, change); err != nil {
		return "", err
	}
	// An owner who had a user added for us need not be told that we use it.
	if outcome == OutcomeConnected && c.InvitationID != nil {
		if err := f.Inviter.Thank(ctx, tx, c.ClientID, *c.InvitationID, account.Organization); err != nil {
			return "", err
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return "", fmt.Errorf("store the grant: %w", err)
	}
	return outcome, nil
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
	ch.Client, ch.Actor = c.ClientID, c.Actor
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
	Client            uuid.UUID
	Actor             provisioning.Actor // who walked
	ClientName        string
	FoundOrganization string   // of the account that consented, if it came so far
	Missing           []string // scopes asked for and not granted
}

// checkTime is how long a claimed walk may have no outcome before it counts as lost to a crash. Its two calls
// may wait for their turns at the provider.
const checkTime = 3 * time.Minute

// Ending returns how a walk ended, to the browser that made it. To any other it tells no names, and
// nothing but OutcomeConnected, for that of an owner who comes back days later, or OutcomeOtherBrowser.
// It returns ErrLinkUnknown if there is no such walk.
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
			s.client_id,
			s.actor,
			c.name,
			coalesce(s.found_organization, ''),
			s.missing_scopes
		FROM consents s
		JOIN clients c ON c.id = s.client_id
		WHERE s.id = $1`, id,
	).Scan(&hash, &claimed, &outcome, &e.Client, &e.Actor, &e.ClientName, &e.FoundOrganization, &e.Missing)
	if errors.Is(err, pgx.ErrNoRows) {
		return Ending{}, ErrLinkUnknown
	}
	if err != nil {
		return Ending{}, fmt.Errorf("read the consent: %w", err)
	}
	switch another := subtle.ConstantTimeCompare(hash, hashSecret(browser.Reveal())) != 1; {
	case another && outcome != nil && *outcome == OutcomeConnected:
		return Ending{Outcome: OutcomeConnected}, nil
	case another:
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

func verifierAD(consent uuid.UUID) vault.AD {
	return vault.AD{Row: consent.String(), Kind: "pkce_verifier"}
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
