package sandbox

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault names something that goes wrong at the provider. Those of the token
// endpoint that replace its answer do so before anything happens: the code or
// refresh token in the request stays good. [TokenLost] and those that spoil a good
// answer are the other way round: the work is done.
type Fault string

const (
	// AuthorizeUnavailable sends the browser back with temporarily_unavailable.
	AuthorizeUnavailable Fault = "authorize_unavailable"
	// AuthorizeServerError sends the browser back with server_error.
	AuthorizeServerError Fault = "authorize_server_error"
	// AuthorizeUnknownError sends the browser back with an error that no RFC knows.
	AuthorizeUnknownError Fault = "authorize_unknown_error"
	// AuthorizeRefusesPKCE answers 400 to an app that has both a secret and a code challenge.
	AuthorizeRefusesPKCE Fault = "authorize_refuses_pkce"
	// AuthorizeMarkup sends the browser back with an error that is markup, and described in markup.
	AuthorizeMarkup Fault = "authorize_markup"
	// AuthorizeWrongIssuer sends the browser back with the iss of another server.
	AuthorizeWrongIssuer Fault = "authorize_wrong_issuer"
	// AuthorizeSiblingIssuer sends the browser back with the iss of another issuer of the same server.
	AuthorizeSiblingIssuer Fault = "authorize_sibling_issuer"
	// AuthorizeNoIssuer sends the browser back without the iss that is otherwise sent.
	AuthorizeNoIssuer Fault = "authorize_no_issuer"
	// AuthorizeEmptyCode sends the browser back with a code that is empty.
	AuthorizeEmptyCode Fault = "authorize_empty_code"
	// AuthorizeCodeTwice sends the browser back with a second code beside the good one.
	AuthorizeCodeTwice Fault = "authorize_code_twice"
	// AuthorizeCodeAndError sends the browser back with access_denied beside the good code.
	AuthorizeCodeAndError Fault = "authorize_code_and_error"
	// AuthorizeStateAltered sends the browser back with another state.
	AuthorizeStateAltered Fault = "authorize_state_altered"
	// AuthorizeStateDropped sends the browser back without the state.
	AuthorizeStateDropped Fault = "authorize_state_dropped"
	// AuthorizeStateTwice sends the browser back with a second state beside the good one.
	AuthorizeStateTwice Fault = "authorize_state_twice"

	// TokenHTML answers 200 with a web page.
	TokenHTML Fault = "token_html"
	// TokenErrorWith200 answers 200 with an OAuth error as its body.
	TokenErrorWith200 Fault = "token_error_with_200"
	// TokenEmpty answers 200 with a JSON object that has nothing in it.
	TokenEmpty Fault = "token_empty"
	// Token500 answers 500.
	Token500 Fault = "token_500"
	// Token503 answers 503 with a web page.
	Token503 Fault = "token_503"
	// Token429 answers 429 as the rate limit does.
	Token429 Fault = "token_429"
	// Token429RetryAfter answers 429 with Retry-After: 2.
	Token429RetryAfter Fault = "token_429_retry_after" //nolint:gosec // a name, not a credential
	// TokenInvalidGrant refuses a good code or refresh token.
	TokenInvalidGrant Fault = "token_invalid_grant"
	// TokenInvalidClient refuses the app, whose secret is right.
	TokenInvalidClient Fault = "token_invalid_client"
	// TokenRedirect answers 307 to the token endpoint itself: a client that follows
	// succeeds there, which gives it away.
	TokenRedirect Fault = "token_redirect"
	// TokenRedirectAway answers 307 to Options.Elsewhere.
	TokenRedirectAway Fault = "token_redirect_away"
	// TokenHuge answers 200 with ten megabytes of JSON.
	TokenHuge Fault = "token_huge"
	// TokenEndless answers 200 with JSON that never ends.
	TokenEndless Fault = "token_endless"
	// TokenGzipBomb answers 200 with ten megabytes of JSON, packed into a hundredth of that.
	TokenGzipBomb Fault = "token_gzip_bomb" //nolint:gosec // a name, not a credential
	// TokenHang does not answer until the client goes away.
	TokenHang Fault = "token_hang"

	// TokenLost does the work, rotation included, and then drops the connection.
	TokenLost Fault = "token_lost"
	// TokenCut drops the connection in the middle of the right answer.
	TokenCut Fault = "token_cut"
	// TokenDrip gives the right answer, a byte a second.
	TokenDrip Fault = "token_drip"
	// TokenContentType gives the right answer as text/html.
	TokenContentType Fault = "token_content_type"
	// TokenDuplicateKeys gives the right answer with a second access_token that is no good.
	TokenDuplicateKeys Fault = "token_duplicate_keys"
	// TokenNotUTF8 gives the right answer with bytes in the refresh token that are no text.
	TokenNotUTF8 Fault = "token_not_utf8" //nolint:gosec // a name, not a credential
	// TokenControlCharacters gives an access token with a line break in it.
	TokenControlCharacters Fault = "token_control_characters"
	// TokenTypeOdd makes token_type mac.
	TokenTypeOdd Fault = "token_type_odd" //nolint:gosec // a name, not a credential
	// TokenTypeAbsent leaves out token_type.
	TokenTypeAbsent Fault = "token_type_absent" //nolint:gosec // a name, not a credential
	// TokenTypeCase makes token_type BEARER.
	TokenTypeCase Fault = "token_type_case"
	// TokenExpiresAbsent leaves out expires_in.
	TokenExpiresAbsent Fault = "token_expires_absent"
	// TokenExpiresNegative makes expires_in negative.
	TokenExpiresNegative Fault = "token_expires_negative"
	// TokenExpiresString makes expires_in a string.
	TokenExpiresString Fault = "token_expires_string"
	// TokenExpiresHuge makes expires_in a number that fits no integer.
	TokenExpiresHuge Fault = "token_expires_huge"
	// TokenExpiresFloat makes expires_in a number with a fraction.
	TokenExpiresFloat Fault = "token_expires_float"
	// TokenExpiresNull makes expires_in null.
	TokenExpiresNull Fault = "token_expires_null"
	// TokenNoRefreshToken leaves out refresh_token and keeps the one in use good.
	TokenNoRefreshToken Fault = "token_no_refresh_token"
	// TokenNarrowScope grants one scope less than asked, never account_read or offline_access.
	TokenNarrowScope Fault = "token_narrow_scope" //nolint:gosec // a name, not a credential
	// TokenWideScope grants account_update on top.
	TokenWideScope Fault = "token_wide_scope"
	// TokenScopeAbsent leaves out scope, which RFC 6749 allows if it is the one asked for.
	TokenScopeAbsent Fault = "token_scope_absent" //nolint:gosec // a name, not a credential
	// TokenScopeReordered names the scopes in another order.
	TokenScopeReordered Fault = "token_scope_reordered" //nolint:gosec // a name, not a credential
	// TokenScopeTwice names every scope twice.
	TokenScopeTwice Fault = "token_scope_twice" //nolint:gosec // a name, not a credential
	// TokenScopeOdd names a scope with characters that no scope has.
	TokenScopeOdd Fault = "token_scope_odd"
	// TokenUnassigned makes platform_user_id the word UNASSIGNED.
	TokenUnassigned Fault = "token_unassigned"
	// TokenOtherClient makes cid another app's.
	TokenOtherClient Fault = "token_other_client"
	// TokenOddSubject puts characters into sub that no database keeps.
	TokenOddSubject Fault = "token_odd_subject" //nolint:gosec // a name, not a credential
	// TokenClockAhead makes the access token one of ten minutes later.
	TokenClockAhead Fault = "token_clock_ahead"
	// TokenClockBehind makes the access token one of ten minutes ago.
	TokenClockBehind Fault = "token_clock_behind"

	// API500 answers 500.
	API500 Fault = "api_500"
	// API503 answers 503.
	API503 Fault = "api_503"
	// API401 refuses a good access token.
	API401 Fault = "api_401"
	// APIThrottled answers 429 as the limit of a second does.
	APIThrottled Fault = "api_throttled"
	// APIQuotaExceeded answers 429 as the limit of a day does.
	APIQuotaExceeded Fault = "api_quota_exceeded"
	// APIHTML answers 200 with a web page.
	APIHTML Fault = "api_html"
	// APIEndless answers 200 with JSON that never ends.
	APIEndless Fault = "api_endless"
	// APIRedirectAway answers 302 to Options.Elsewhere.
	APIRedirectAway Fault = "api_redirect_away"
	// APIHang does not answer until the client goes away.
	APIHang Fault = "api_hang"
	// SummaryWithoutID leaves out encoded_account_id.
	SummaryWithoutID Fault = "summary_without_id"
	// SummaryOddID puts characters into encoded_account_id that no id has.
	SummaryOddID Fault = "summary_odd_id"
	// SummaryLongID makes encoded_account_id thirty thousand characters long.
	SummaryLongID Fault = "summary_long_id"
	// SummaryOddName makes the organization's name markup with characters that no database keeps.
	SummaryOddName Fault = "summary_odd_name"
	// SummaryOfAnother describes another account.
	SummaryOfAnother Fault = "summary_of_another"
)

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
	redirect string                       // the error with which the authorize endpoint sends the browser back
	landing  func(url.Values)             // spoils what the browser brings back to the app
	door     door                         // the endpoint at which reply stands in
	reply    func(*http.Request) *answer  // replaces the answer
	claims   func(*claims)                // spoils an access token
	distort  func(*tokenReply)            // spoils a good token reply
	wire     func(*http.Request, *answer) // spoils the way that a good token reply takes
	summary  func(*Account)               // spoils the summary of an account
}

// catalogue lists every fault there is, in the order in which they are tried.
func catalogue(o Options) []fault {
	return slices.Concat(authorizeFaults(o), tokenFaults(o), tokenReplyFaults(), apiFaults(o))
}

func authorizeFaults(o Options) []fault {
	set := func(name, value string) func(url.Values) { return func(v url.Values) { v.Set(name, value) } }
	return []fault{
		{name: AuthorizeUnavailable, about: "The authorization server is busy, try again later.", redirect: "temporarily_unavailable"},
		{name: AuthorizeServerError, about: "The authorization server met an unexpected condition.", redirect: "server_error"},
		{name: AuthorizeUnknownError, about: "The authorization server has an error of its own.", redirect: "out_of_paper"},
		{name: AuthorizeRefusesPKCE, about: "Refuse PKCE to apps that have a secret."},
		{name: AuthorizeMarkup, about: "An error made of markup.", landing: func(v url.Values) {
			v.Del("code")
			v.Set("error", "<script>alert(1)</script>\r\n\x00")
			v.Set("error_description", `<img src=x onerror="alert(2)">`)
			v.Set("error_uri", "javascript:alert(3)")
		}},
		{name: AuthorizeWrongIssuer, about: "Send the iss of another server.", landing: set("iss", "https://other.example")},
		{name: AuthorizeSiblingIssuer, about: "Send the iss of another issuer here.", landing: set("iss", o.Issuer+"-of-others")},
		{name: AuthorizeNoIssuer, about: "Send no iss.", landing: func(v url.Values) { v.Del("iss") }},
		{name: AuthorizeEmptyCode, about: "Send an empty code.", landing: set("code", "")},
		{name: AuthorizeCodeTwice, about: "Send a second code.", landing: func(v url.Values) { v.Add("code", secret()) }},
		{name: AuthorizeCodeAndError, about: "Send access_denied beside the code.", landing: set("error", "access_denied")},
		{name: AuthorizeStateAltered, about: "Send another state.", landing: func(v url.Values) { v.Set("state", strings.ToLower(v.Get("state"))) }},
		{name: AuthorizeStateDropped, about: "Send no state.", landing: func(v url.Values) { v.Del("state") }},
		{name: AuthorizeStateTwice, about: "Send a second state.", landing: func(v url.Values) { v.Add("state", secret()) }},
	}
}

// tokenFaults replace the answer of the token endpoint.
func tokenFaults(o Options) []fault {
	faults := []fault{
		{name: TokenHTML, about: "A web page with status 200.", reply: always(webPage(http.StatusOK))},
		{
			name: TokenErrorWith200, about: "An OAuth error with status 200.",
			reply: always(oauthError(http.StatusOK, "server_error", "Something went wrong.")),
		},
		{name: TokenEmpty, about: "An empty JSON object with status 200.", reply: always(&answer{status: http.StatusOK, body: "{}"})},
		{
			name: Token500, about: "Status 500.",
			reply: always(&answer{status: http.StatusInternalServerError, body: map[string]string{"message": "Internal server error"}}),
		},
		{name: Token503, about: "Status 503 with a web page.", reply: always(webPage(http.StatusServiceUnavailable))},
		{name: Token429, about: "Status 429.", reply: always(tooManyTokens())},
		{
			name: Token429RetryAfter, about: "Status 429 with Retry-After.",
			reply: always(&answer{status: http.StatusTooManyRequests, header: map[string]string{"Retry-After": "2"}, body: tooManyTokens().body}),
		},
		{
			name: TokenInvalidGrant, about: "invalid_grant for a good code or refresh token.",
			reply: always(oauthError(http.StatusBadRequest, "invalid_grant", "The refresh token is invalid or expired.")),
		},
		{name: TokenInvalidClient, about: "invalid_client for a good app.", reply: always(invalidClient())},
		{name: TokenRedirect, about: "A redirect to the token endpoint.", reply: always(redirect(http.StatusTemporaryRedirect, tokenPath))},
		{name: TokenRedirectAway, about: "A redirect to another host.", reply: always(redirect(http.StatusTemporaryRedirect, o.Elsewhere+tokenPath))},
		{name: TokenHuge, about: "Ten megabytes of JSON.", reply: func(*http.Request) *answer {
			return &answer{status: http.StatusOK, body: hugeJSON()}
		}},
		{name: TokenEndless, about: "JSON that never ends.", reply: endless},
		{name: TokenGzipBomb, about: "Ten megabytes of JSON, packed small.", reply: func(*http.Request) *answer {
			var packed bytes.Buffer
			packer, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
			if err != nil {
				panic(err) // there is this level
			}
			_, _ = io.WriteString(packer, hugeJSON()) // a buffer takes everything
			_ = packer.Close()
			return &answer{status: http.StatusOK, header: map[string]string{"Content-Encoding": "gzip"}, body: packed.String()}
		}},
		{name: TokenHang, about: "No answer until the client gives up.", reply: hang},
	}
	for i := range faults {
		faults[i].door = tokenDoor
	}
	return faults
}

// tokenReplyFaults spoil a good answer of the token endpoint.
func tokenReplyFaults() []fault {
	expires := func(in any) func(*tokenReply) { return func(t *tokenReply) { t.ExpiresIn = in } }
	clock := func(off time.Duration) func(*claims) {
		return func(c *claims) {
			c.IssuedAt += int64(off.Seconds())
			c.Expires += int64(off.Seconds())
			c.SignedIn += int64(off.Seconds())
		}
	}
	return []fault{
		{name: TokenLost, about: "The work is done, but the connection drops before the answer."},
		{name: TokenCut, about: "The connection drops in the middle of the answer.", wire: func(_ *http.Request, a *answer) {
			whole := a.text()
			a.header = map[string]string{"Content-Length": strconv.Itoa(len(whole))}
			a.body = whole[:len(whole)/2]
		}},
		{name: TokenDrip, about: "A byte a second.", wire: func(r *http.Request, a *answer) { a.body = drip(r.Context(), a.text()) }},
		{name: TokenContentType, about: "The right answer as text/html.", wire: func(_ *http.Request, a *answer) {
			a.header = map[string]string{"Content-Type": "text/html; charset=utf-8"}
		}},
		{name: TokenDuplicateKeys, about: "A second access_token.", wire: func(_ *http.Request, a *answer) {
			a.body = strings.TrimSuffix(a.text(), "}") + `,"access_token":"of-somebody-else"}`
		}},
		{name: TokenNotUTF8, about: "Bytes that are no text.", wire: func(_ *http.Request, a *answer) {
			a.body = strings.Replace(a.text(), `"refresh_token":"`, "\"refresh_token\":\"\xff\xfe", 1)
		}},
		{name: TokenControlCharacters, about: "An access token with a line break.", distort: func(t *tokenReply) { t.AccessToken += "\r\nX-Evil: 1" }},
		{name: TokenTypeOdd, about: "token_type is mac.", distort: func(t *tokenReply) { t.TokenType = "mac" }},
		{name: TokenTypeAbsent, about: "No token_type.", distort: func(t *tokenReply) { t.TokenType = "" }},
		{name: TokenTypeCase, about: "token_type is BEARER.", distort: func(t *tokenReply) { t.TokenType = "BEARER" }},
		{name: TokenExpiresAbsent, about: "No expires_in.", distort: expires(nil)},
		{name: TokenExpiresNegative, about: "A negative expires_in.", distort: expires(-86400)},
		{name: TokenExpiresString, about: "expires_in as a string.", distort: expires("86400")},
		{name: TokenExpiresHuge, about: "An enormous expires_in.", distort: expires(1e300)},
		{name: TokenExpiresFloat, about: "expires_in with a fraction.", distort: expires(86399.5)},
		{name: TokenExpiresNull, about: "expires_in is null.", distort: expires(json.RawMessage("null"))},
		{name: TokenNoRefreshToken, about: "No refresh_token."},
		{name: TokenNarrowScope, about: "One scope less than asked."},
		{name: TokenWideScope, about: "account_update on top."},
		{name: TokenScopeAbsent, about: "No scope.", distort: func(t *tokenReply) { t.Scope = "" }},
		{name: TokenScopeReordered, about: "The scopes in another order.", distort: func(t *tokenReply) {
			scopes := strings.Fields(t.Scope)
			slices.Reverse(scopes)
			t.Scope = strings.Join(scopes, " ")
		}},
		{name: TokenScopeTwice, about: "Every scope twice.", distort: func(t *tokenReply) { t.Scope += " " + t.Scope }},
		{name: TokenScopeOdd, about: "A scope that is none.", distort: func(t *tokenReply) { t.Scope += " <b>\x00\"" }},
		{name: TokenUnassigned, about: "platform_user_id is UNASSIGNED.", claims: func(c *claims) { c.PlatformUserID = "UNASSIGNED" }},
		{name: TokenOtherClient, about: "cid is another app's.", claims: func(c *claims) { c.ClientID = "another-app" }},
		{name: TokenOddSubject, about: "sub has a NUL.", claims: func(c *claims) { c.Subject = "<b>\x00" + c.Subject }},
		{name: TokenClockAhead, about: "The access token is of ten minutes later.", claims: clock(10 * time.Minute)},
		{name: TokenClockBehind, about: "The access token is of ten minutes ago.", claims: clock(-10 * time.Minute)},
	}
}

func apiFaults(o Options) []fault {
	refuse := func(status int, key, message string) func(*http.Request) *answer {
		return always(apiTrouble(status, key, message))
	}
	return []fault{
		{name: API500, about: "Status 500.", door: apiDoor, reply: refuse(http.StatusInternalServerError, "server_error", "Internal Server Error")},
		{name: API503, about: "Status 503.", door: apiDoor, reply: refuse(http.StatusServiceUnavailable, "service_unavailable", "Service Unavailable")},
		{name: API401, about: "Status 401 although the token is good.", door: apiDoor, reply: always(unauthorized())},
		{name: APIThrottled, about: "Status 429, throttled.", door: apiDoor, reply: refuse(http.StatusTooManyRequests, "throttled", "Too Many Requests")},
		{name: APIQuotaExceeded, about: "Status 429, quota_exceeded.", door: apiDoor, reply: refuse(http.StatusTooManyRequests, "quota_exceeded", "Limit Exceeded")},
		{name: APIHTML, about: "A web page with status 200.", door: apiDoor, reply: always(webPage(http.StatusOK))},
		{name: APIEndless, about: "JSON that never ends.", door: apiDoor, reply: endless},
		{
			name: APIRedirectAway, about: "A redirect to another host.", door: apiDoor,
			reply: always(redirect(http.StatusFound, o.Elsewhere+"/v3/account/summary")),
		},
		{name: APIHang, about: "No answer until the client gives up.", door: apiDoor, reply: hang},
		{name: SummaryWithoutID, about: "The account summary has no encoded_account_id.", summary: func(a *Account) { a.ID = "" }},
		{name: SummaryOddID, about: "encoded_account_id has odd characters.", summary: func(a *Account) { a.ID += "\x00\r\n<b>'é" }},
		{name: SummaryLongID, about: "encoded_account_id is endless.", summary: func(a *Account) { a.ID = strings.Repeat(secret(), 700) }},
		{name: SummaryOddName, about: "organization_name is markup with a NUL.", summary: func(a *Account) {
			a.Organization += "\x00<script>alert(4)</script>\u202e"
		}},
		{name: SummaryOfAnother, about: "The account summary describes another account."},
	}
}

func always(a *answer) func(*http.Request) *answer { return func(*http.Request) *answer { return a } }

func webPage(status int) *answer {
	return &answer{
		status: status, header: map[string]string{"Content-Type": "text/html; charset=utf-8"},
		body: "<!DOCTYPE html><title>Email marketing</title><p>Grow your business today.",
	}
}

func redirect(status int, location string) *answer {
	return &answer{status: status, header: map[string]string{"Location": location}, body: ""}
}

func hugeJSON() string {
	return `{"access_token":"` + strings.Repeat("x", 10<<20) + `","token_type":"Bearer"}`
}

func endless(*http.Request) *answer {
	return &answer{status: http.StatusOK, body: io.MultiReader(strings.NewReader(`{"access_token":"`), stream(func(p []byte) (int, error) {
		return copy(p, strings.Repeat("x", len(p))), nil
	}))}
}

func hang(r *http.Request) *answer {
	_, _ = io.Copy(io.Discard, r.Body) // the server notices a client's leaving only once its body is read
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// stream is an io.Reader.
type stream func([]byte) (int, error)

func (s stream) Read(p []byte) (int, error) { return s(p) }

// drip reads text, a byte a second, for as long as somebody waits for it.
func drip(ctx context.Context, text string) io.Reader {
	return stream(func(p []byte) (int, error) {
		if text == "" {
			return 0, io.EOF
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Second):
		}
		p[0], text = text[0], text[1:]
		return 1, nil
	})
}
