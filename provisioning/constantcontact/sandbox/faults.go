package sandbox

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
)

// Fault names something that goes wrong at the provider. Those of the token
// endpoint that replace its answer do so before anything happens: the code or
// refresh token in the request stays good. [TokenLost] is the other way round.
type Fault string

const (
	// AuthorizeUnavailable sends the browser back with temporarily_unavailable.
	AuthorizeUnavailable Fault = "authorize_unavailable"
	// AuthorizeServerError sends the browser back with server_error.
	AuthorizeServerError Fault = "authorize_server_error"
	// AuthorizeRefusesPKCE answers 400 to an app that has both a secret and a code challenge.
	AuthorizeRefusesPKCE Fault = "authorize_refuses_pkce"
	// AuthorizeWrongIssuer sends the browser back with the iss of another server.
	AuthorizeWrongIssuer Fault = "authorize_wrong_issuer"

	// TokenHTML answers 200 with a web page.
	TokenHTML Fault = "token_html"
	// TokenErrorWith200 answers 200 with an OAuth error as its body.
	TokenErrorWith200 Fault = "token_error_with_200"
	// Token500 answers 500.
	Token500 Fault = "token_500"
	// Token503 answers 503 with a web page.
	Token503 Fault = "token_503"
	// Token429 answers 429 as the rate limit does.
	Token429 Fault = "token_429"
	// Token429RetryAfter answers 429 with Retry-After: 2.
	Token429RetryAfter Fault = "token_429_retry_after" //nolint:gosec // a name, not a credential
	// TokenRedirect answers 307 to the token endpoint itself: a client that follows
	// succeeds there, which gives it away.
	TokenRedirect Fault = "token_redirect"
	// TokenHuge answers 200 with ten megabytes of JSON.
	TokenHuge Fault = "token_huge"
	// TokenHang does not answer until the client goes away.
	TokenHang Fault = "token_hang"
	// TokenLost does the work, rotation included, and then drops the connection.
	TokenLost Fault = "token_lost"
	// TokenContentType gives the right answer as text/html.
	TokenContentType Fault = "token_content_type"
	// TokenExpiresAbsent leaves out expires_in.
	TokenExpiresAbsent Fault = "token_expires_absent"
	// TokenExpiresNegative makes expires_in negative.
	TokenExpiresNegative Fault = "token_expires_negative"
	// TokenExpiresString makes expires_in a string.
	TokenExpiresString Fault = "token_expires_string"
	// TokenExpiresHuge makes expires_in a number that fits no integer.
	TokenExpiresHuge Fault = "token_expires_huge"
	// TokenNoRefreshToken leaves out refresh_token and keeps the one in use good.
	TokenNoRefreshToken Fault = "token_no_refresh_token"
	// TokenNarrowScope grants one scope less than asked, never account_read or offline_access.
	TokenNarrowScope Fault = "token_narrow_scope" //nolint:gosec // a name, not a credential
	// TokenWideScope grants account_update on top.
	TokenWideScope Fault = "token_wide_scope"
	// TokenUnassigned makes platform_user_id the word UNASSIGNED.
	TokenUnassigned Fault = "token_unassigned"

	// API500 answers 500.
	API500 Fault = "api_500"
	// API503 answers 503.
	API503 Fault = "api_503"
	// API401 refuses a good access token.
	API401 Fault = "api_401"
	// SummaryWithoutID leaves out encoded_account_id.
	SummaryWithoutID Fault = "summary_without_id"
	// SummaryOfAnother describes another account.
	SummaryOfAnother Fault = "summary_of_another"
)

// Rate says how often a fault strikes: the next so many times that it could, and
// after that with a probability from 0 to 1.
type Rate struct {
	Next        int     `json:"next"`
	Probability float64 `json:"probability"`
}

// Faults are the faults that are switched on.
type Faults map[Fault]Rate

// door is an endpoint whose whole answer a fault replaces.
type door int

const (
	tokenDoor door = iota + 1
	apiDoor
)

// fault is a row of the catalogue. The fields say how it works; a row with none of
// them is asked for by name in the code that it disturbs.
type fault struct {
	name     Fault
	about    string
	redirect string                      // the error with which the authorize endpoint sends the browser back
	door     door                        // the endpoint at which reply stands in
	reply    func(*http.Request) *answer // replaces the answer
	distort  func(*tokenReply)           // spoils a good token reply
}

// catalogue lists every fault there is, in the order in which they are tried.
func catalogue() []fault {
	page := "<!DOCTYPE html><title>Email marketing</title><p>Grow your business today."
	html := map[string]string{"Content-Type": "text/html; charset=utf-8"}
	always := func(a *answer) func(*http.Request) *answer { return func(*http.Request) *answer { return a } }
	return []fault{
		{name: AuthorizeUnavailable, about: "The authorization server is busy, try again later.", redirect: "temporarily_unavailable"},
		{name: AuthorizeServerError, about: "The authorization server met an unexpected condition.", redirect: "server_error"},
		{name: AuthorizeRefusesPKCE, about: "Refuse PKCE to apps that have a secret."},
		{name: AuthorizeWrongIssuer, about: "Send the iss of another server."},

		{
			name: TokenHTML, about: "A web page with status 200.", door: tokenDoor,
			reply: always(&answer{status: http.StatusOK, header: html, body: page}),
		},
		{
			name: TokenErrorWith200, about: "An OAuth error with status 200.", door: tokenDoor,
			reply: always(oauthError(http.StatusOK, "server_error", "Something went wrong.")),
		},
		{
			name: Token500, about: "Status 500.", door: tokenDoor,
			reply: always(&answer{status: http.StatusInternalServerError, body: map[string]string{"message": "Internal server error"}}),
		},
		{
			name: Token503, about: "Status 503 with a web page.", door: tokenDoor,
			reply: always(&answer{status: http.StatusServiceUnavailable, header: html, body: page}),
		},
		{
			name: Token429, about: "Status 429.", door: tokenDoor,
			reply: always(tooManyTokens()),
		},
		{
			name: Token429RetryAfter, about: "Status 429 with Retry-After.", door: tokenDoor,
			reply: always(&answer{status: http.StatusTooManyRequests, header: map[string]string{"Retry-After": "2"}, body: tooManyTokens().body}),
		},
		{
			name: TokenRedirect, about: "A redirect to the token endpoint.", door: tokenDoor,
			reply: always(&answer{status: http.StatusTemporaryRedirect, header: map[string]string{"Location": tokenPath}, body: ""}),
		},
		{
			name: TokenHuge, about: "Ten megabytes of JSON.", door: tokenDoor,
			reply: func(*http.Request) *answer {
				return &answer{status: http.StatusOK, body: `{"access_token":"` + strings.Repeat("x", 10<<20) + `","token_type":"Bearer"}`}
			},
		},
		{
			name: TokenHang, about: "No answer until the client gives up.", door: tokenDoor,
			reply: func(r *http.Request) *answer {
				_, _ = io.Copy(io.Discard, r.Body) // the server notices a client's leaving only once its body is read
				<-r.Context().Done()
				panic(http.ErrAbortHandler)
			},
		},
		{name: TokenLost, about: "The work is done, but the connection drops before the answer."},
		{name: TokenContentType, about: "The right answer as text/html."},
		{name: TokenExpiresAbsent, about: "No expires_in.", distort: func(t *tokenReply) { t.ExpiresIn = nil }},
		{name: TokenExpiresNegative, about: "A negative expires_in.", distort: func(t *tokenReply) { t.ExpiresIn = -86400 }},
		{name: TokenExpiresString, about: "expires_in as a string.", distort: func(t *tokenReply) { t.ExpiresIn = "86400" }},
		{name: TokenExpiresHuge, about: "An enormous expires_in.", distort: func(t *tokenReply) { t.ExpiresIn = 1e300 }},
		{name: TokenNoRefreshToken, about: "No refresh_token."},
		{name: TokenNarrowScope, about: "One scope less than asked."},
		{name: TokenWideScope, about: "account_update on top."},
		{name: TokenUnassigned, about: "platform_user_id is UNASSIGNED."},

		{
			name: API500, about: "Status 500.", door: apiDoor,
			reply: always(apiTrouble(http.StatusInternalServerError, "server_error", "Internal Server Error")),
		},
		{
			name: API503, about: "Status 503.", door: apiDoor,
			reply: always(apiTrouble(http.StatusServiceUnavailable, "service_unavailable", "Service Unavailable")),
		},
		{
			name: API401, about: "Status 401 although the token is good.", door: apiDoor,
			reply: always(unauthorized()),
		},
		{name: SummaryWithoutID, about: "The account summary has no encoded_account_id."},
		{name: SummaryOfAnother, about: "The account summary describes another account."},
	}
}

// SetFaults replaces the faults that are switched on. It changes nothing if a name
// or a rate is not valid.
func (s *Sandbox) SetFaults(faults Faults) error {
	known := map[Fault]bool{}
	for _, f := range s.faults {
		known[f.name] = true
	}
	var errs []error
	for name, rate := range faults {
		if !known[name] {
			errs = append(errs, fmt.Errorf("fault %q does not exist", name))
		}
		if rate.Next < 0 || !(rate.Probability >= 0 && rate.Probability <= 1) {
			errs = append(errs, fmt.Errorf("fault %q: next must not be negative, probability lie between 0 and 1", name))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = Faults{}
	maps.Copy(s.active, faults)
	return nil
}

// Faults returns what is left of the faults that are switched on.
func (s *Sandbox) Faults() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.active)
}

// strikes says whether a fault happens now, and counts that it did.
func (s *Sandbox) strikes(name Fault) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.strikesLocked(name)
}

// strikesLocked is strikes for a caller that holds the lock.
func (s *Sandbox) strikesLocked(name Fault) bool {
	rate, on := s.active[name]
	switch {
	case !on:
		return false
	case rate.Next > 0:
		rate.Next--
		if s.active[name] = rate; rate == (Rate{}) {
			delete(s.active, name)
		}
	case rand.Float64() >= rate.Probability: //nolint:gosec // bad luck needs no secrecy
		return false
	}
	s.stats.Faults[name]++
	return true
}

// instead returns the answer of a fault that replaces an endpoint's own, or nil.
func (s *Sandbox) instead(at door, r *http.Request) *answer {
	for _, f := range s.faults {
		if f.door == at && s.strikes(f.name) {
			return f.reply(r)
		}
	}
	return nil
}

// distort puts the faults that spoil a good token reply upon it.
func (s *Sandbox) distort(reply *tokenReply) *answer {
	for _, f := range s.faults {
		if f.distort != nil && s.strikes(f.name) {
			f.distort(reply)
		}
	}
	out := &answer{status: http.StatusOK, body: reply}
	if s.strikes(TokenContentType) {
		out.header = map[string]string{"Content-Type": "text/html; charset=utf-8"}
	}
	return out
}

// distortScopes narrows or widens what is granted. The caller holds the lock.
func (s *Sandbox) distortScopes(scopes []string) []string {
	if s.strikesLocked(TokenNarrowScope) {
		for i, scope := range scopes {
			if scope != "account_read" && scope != "offline_access" {
				scopes = slices.Delete(slices.Clone(scopes), i, i+1)
				break
			}
		}
	}
	if s.strikesLocked(TokenWideScope) {
		scopes = append(slices.Clone(scopes), "account_update")
	}
	return scopes
}
