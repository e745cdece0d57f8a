package sandbox

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// authRequest is a valid authorize request. The pages carry it along as params, so
// that the sandbox remembers nothing of people who never finish.
type authRequest struct {
	app         *app
	redirectURI string
	state       string
	scopes      []string
	challenge   string
	prompt      []string
	loginHint   string
	params      map[string]string
}

// authorize is the authorize endpoint.
func (s *Sandbox) authorize(w http.ResponseWriter, r *http.Request) {
	req := s.begin(w, r, r.URL.Query())
	if req == nil {
		return
	}
	s.count(func(stats *Stats) { stats.Authorizations++ })
	if req.app.Secret != "" && req.challenge != "" && s.strikes(AuthorizeRefusesPKCE) {
		s.refuse(w, r, "PKCE is not allowed for this client, which authenticates with a secret.")
		return
	}
	for _, f := range s.faults {
		if f.redirect != "" && s.strikes(f.name) {
			s.redirect(w, r, req, url.Values{"error": {f.redirect}, "error_description": {f.about}})
			return
		}
	}
	current := s.session(r)
	switch {
	case slices.Contains(req.prompt, "none"):
		problem := "login_required"
		if current != nil {
			problem = "consent_required"
		}
		s.redirect(w, r, req, url.Values{
			"error":             {problem},
			"error_description": {"The client specified not to prompt, but the user has to act."},
		})
	case current == nil || slices.Contains(req.prompt, "login"):
		s.loginPage(w, r, req, "")
	default:
		s.consentPage(w, r, req, current, "")
	}
}

// begin reads an authorize request out of values. If it is not valid, begin has
// answered, with a page if the app cannot be trusted to hear of it, and returns nil.
func (s *Sandbox) begin(w http.ResponseWriter, r *http.Request, values url.Values) *authRequest {
	for _, name := range []string{"client_id", "redirect_uri"} {
		if len(values[name]) != 1 {
			s.refuse(w, r, fmt.Sprintf("The request must name '%s' exactly once.", name))
			return nil
		}
	}
	client := s.apps[values.Get("client_id")]
	if client == nil {
		s.refuse(w, r, "Unknown or invalid 'client_id'.")
		return nil
	}
	redirectURI := values.Get("redirect_uri")
	if !slices.ContainsFunc(client.RedirectURIs, func(registered string) bool { return matches(registered, redirectURI) }) {
		s.refuse(w, r, "The 'redirect_uri' parameter must be an absolute URI that is registered in the client's settings.")
		return nil
	}
	req := &authRequest{
		app:         client,
		redirectURI: redirectURI,
		state:       values.Get("state"),
		scopes:      strings.Fields(values.Get("scope")),
		challenge:   values.Get("code_challenge"),
		prompt:      strings.Fields(values.Get("prompt")),
		loginHint:   values.Get("login_hint"),
		params:      map[string]string{},
	}
	for _, name := range []string{
		"client_id", "redirect_uri", "response_type", "scope", "state", "nonce", "prompt", "login_hint",
		"code_challenge", "code_challenge_method",
	} {
		if values.Has(name) {
			req.params[name] = values.Get(name)
		}
	}
	if problem, description := req.check(values); problem != "" {
		s.redirect(w, r, req, url.Values{"error": {problem}, "error_description": {description}})
		return nil
	}
	return req
}

// check finds the mistakes of which the app is told.
func (req *authRequest) check(values url.Values) (problem, description string) {
	for name := range req.params {
		if len(values[name]) > 1 {
			return "invalid_request", fmt.Sprintf("The request names '%s' more than once.", name)
		}
	}
	switch method := values.Get("code_challenge_method"); {
	case !values.Has("response_type"):
		return "invalid_request", "The request is missing 'response_type'."
	case values.Get("response_type") != "code":
		return "unsupported_response_type", "The response type is not supported by the authorization server. Use 'code'."
	case req.state == "":
		return "invalid_request", "The authentication request has an invalid 'state' parameter."
	case len(req.scopes) == 0:
		return "invalid_scope", "The authorization server has no default scopes, 'scope' must be provided."
	case slices.ContainsFunc(req.scopes, func(scope string) bool { return scopeText(scope) == "" }):
		return "invalid_scope", "One or more scopes are not configured for the authorization server resource."
	case req.challenge == "" && (method != "" || req.app.RequirePKCE || req.app.Secret == ""):
		return "invalid_request", "PKCE code challenge is required for this client."
	case req.challenge != "" && method != "S256":
		return "invalid_request", "The 'code_challenge_method' must be 'S256'."
	case req.challenge != "" && len(req.challenge) != 43:
		return "invalid_request", "The 'code_challenge' is not the base64url form of a SHA-256 hash."
	}
	return "", ""
}

// redirect sends the browser back to the app.
func (s *Sandbox) redirect(w http.ResponseWriter, r *http.Request, req *authRequest, answer url.Values) {
	if req.state != "" {
		answer.Set("state", req.state)
	}
	if s.options.Switches.SendIssuer {
		answer.Set("iss", s.options.Issuer)
	}
	s.distortLanding(answer)
	s.options.Log.DebugContext(r.Context(), "sandbox: browser goes back to the app",
		"client", req.app.ClientID, "error", answer.Get("error"))
	separator := "?"
	if strings.Contains(req.redirectURI, "?") {
		separator = "&"
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, req.redirectURI+separator+answer.Encode(), http.StatusFound) //nolint:gosec // begin saw that the app registered it
}

// scopeText says what a scope allows, as the consent page puts it; it is empty for
// a scope that does not exist.
func scopeText(scope string) string {
	return map[string]string{
		"account_read":   "See your account's details",
		"account_update": "Change your account's details",
		"billing_data":   "See your billing data",
		"contact_data":   "See and change your contacts and lists",
		"campaign_data":  "See, change and send your campaigns",
		"offline_access": "Do so while you are away",
	}[scope]
}
