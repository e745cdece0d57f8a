package sandbox

import (
	"crypto/sha256"
	"crypto/subtle"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// tokenReply is the success of the token endpoint.
type tokenReply struct {
	TokenType    string `json:"token_type,omitempty"`
	ExpiresIn    any    `json:"expires_in,omitempty"` // any, because faults make it odd
	AccessToken  string `json:"access_token"`
	Scope        string `json:"scope,omitempty"`
	RefreshToken string `json:"refresh_token,omitempty"`
}

// token is the token endpoint.
func (s *Sandbox) token(w http.ResponseWriter, r *http.Request) {
	s.count(func(stats *Stats) { stats.TokenRequests++ })
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	err := r.ParseForm()
	if reply := s.instead(tokenDoor, r); reply != nil {
		reply.send(w)
		return
	}
	if err != nil {
		oauthError(http.StatusBadRequest, "invalid_request", "The request could not be read.").send(w)
		return
	}
	reply := s.exchange(r)
	s.options.Log.DebugContext(r.Context(), "sandbox: token request answered",
		"grant_type", r.Form.Get("grant_type"), "status", reply.status)
	reply.send(w)
}

// exchange answers a token request whose form has been parsed. As at the provider
// the parameters may stand in the body or in the query.
func (s *Sandbox) exchange(r *http.Request) *answer {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if mediaType != "application/x-www-form-urlencoded" && !s.options.Switches.AnyContentType {
		return oauthError(http.StatusUnsupportedMediaType, "invalid_request",
			"The content type must be application/x-www-form-urlencoded.")
	}
	for name, values := range r.Form {
		if len(values) > 1 {
			return oauthError(http.StatusBadRequest, "invalid_request", "The request names '"+name+"' more than once.")
		}
	}
	client, refused := s.client(r)
	if refused != nil {
		return refused
	}
	out, refused := s.grantTokens(client, r.Form)
	if refused != nil {
		return refused
	}
	access, err := s.sign(out)
	if err != nil {
		return oauthError(http.StatusInternalServerError, "server_error", "The access token could not be signed.")
	}
	if s.strikes(TokenLost) {
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
	return s.distort(r, &tokenReply{
		TokenType:    "Bearer",
		ExpiresIn:    int(accessLifetime / time.Second),
		AccessToken:  access,
		Scope:        strings.Join(out.scopes, " "),
		RefreshToken: out.refresh,
	})
}

// client finds out which app asks, within its rate limit, and checks its secret.
func (s *Sandbox) client(r *http.Request) (*app, *answer) {
	id, password := r.Form.Get("client_id"), r.Form.Get("client_secret")
	if basicID, basicPassword, basic := r.BasicAuth(); basic {
		// RFC 6749, 2.3.1: both are form-encoded before they are put in the header.
		headerID, idErr := url.QueryUnescape(basicID)
		headerPassword, passwordErr := url.QueryUnescape(basicPassword)
		if idErr != nil || passwordErr != nil {
			return nil, invalidClient()
		}
		if password != "" || id != "" && id != headerID {
			return nil, oauthError(http.StatusBadRequest, "invalid_request",
				"Cannot supply multiple client credentials. Use either the Authorization header or the body.")
		}
		id, password = headerID, headerPassword
	}
	client := s.apps[id]
	if client == nil {
		return nil, invalidClient()
	}
	if !s.allowToken(&client.meter) {
		return nil, tooManyTokens()
	}
	if subtle.ConstantTimeCompare([]byte(client.Secret), []byte(password)) != 1 {
		return nil, invalidClient()
	}
	return client, nil
}

// tooManyTokens has a single object as its body, as the other errors about
// authorization have; the API's own is in an array. Clients must not mind.
func tooManyTokens() *answer {
	return &answer{status: http.StatusTooManyRequests, body: apiError{"throttled", "Too Many Requests"}}
}

func invalidClient() *answer {
	reply := oauthError(http.StatusUnauthorized, "invalid_client", "The client id or the client secret is invalid.")
	reply.header = map[string]string{"WWW-Authenticate": `Basic realm="authz.constantcontact.com"`}
	return reply
}

// grantTokens applies the grant that the form names.
func (s *Sandbox) grantTokens(client *app, form url.Values) (issued, *answer) {
	now := s.options.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	missing := func(name string) (issued, *answer) {
		return issued{}, oauthError(http.StatusBadRequest, "invalid_request", "The token request must have '"+name+"'.")
	}
	switch form.Get("grant_type") {
	case "":
		return missing("grant_type")
	case "authorization_code":
		if form.Get("code") == "" {
			return missing("code")
		}
		return s.redeem(client, form.Get("code"), form.Get("redirect_uri"), form.Get("code_verifier"), now)
	case "refresh_token":
		if form.Get("refresh_token") == "" {
			return missing("refresh_token")
		}
		return s.renew(client, form.Get("refresh_token"), form.Get("scope"), now)
	default:
		return issued{}, oauthError(http.StatusBadRequest, "unsupported_grant_type",
			"The authorization grant type is not supported by the authorization server.")
	}
}

// access is an access token that the API accepts.
type access struct {
	grant   *grant
	scopes  []string
	expires time.Time
}

// remember makes the API accept an access token until it expires.
func (s *Sandbox) remember(token string, kept *access) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access[sha256.Sum256([]byte(token))] = kept
}

// lookUp returns what an access token allows, or nil if it is not good (any more).
func (s *Sandbox) lookUp(token string) *access {
	now := s.options.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.access[sha256.Sum256([]byte(token))]
	if found == nil || found.grant.void || now.After(found.expires) {
		return nil
	}
	return found
}
