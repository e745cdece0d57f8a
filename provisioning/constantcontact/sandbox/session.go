package sandbox

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// cookieName is the sandbox's own, because cookies do not keep to one port and the
// app under test may well live on another port of the same host.
const cookieName = "sandbox_sid"

// session is a signed-in browser. Without prompt=login it answers every authorize
// request as its user, which is how owners end up with the wrong account.
type session struct {
	user     *user
	signedIn time.Time
	seen     time.Time
}

func (s *session) alive(now time.Time) bool { return now.Sub(s.seen) < sessionLifetime }

// session returns the live session of a request, or nil.
func (s *Sandbox) session(r *http.Request) *session {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	now := s.options.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.sessions[cookie.Value]
	if found == nil || !found.alive(now) {
		return nil
	}
	found.seen = now
	current := *found
	return &current
}

// signIn receives the login form.
func (s *Sandbox) signIn(w http.ResponseWriter, r *http.Request) {
	req := s.beginForm(w, r)
	if req == nil {
		return
	}
	u := s.authenticate(r.PostForm.Get("login"), r.PostForm.Get("password"))
	if u == nil {
		s.loginPage(w, r, req, "Unable to sign in: the username or the password is wrong.")
		return
	}
	now, id := s.options.Now(), secret()
	s.mu.Lock()
	s.sweep(now)
	s.sessions[id] = &session{user: u, signedIn: now, seen: now}
	s.mu.Unlock()
	http.SetCookie(w, s.cookie(id, 0))
	s.options.Log.InfoContext(r.Context(), "sandbox: signed in", "login", u.Login, "account", u.account.ID)

	query := url.Values{}
	for name, value := range req.params {
		query.Set(name, value)
	}
	http.Redirect(w, r, "/consent?"+query.Encode(), http.StatusSeeOther)
}

func (s *Sandbox) authenticate(login, password string) *user {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[strings.ToLower(strings.TrimSpace(login))]
	if u == nil || subtle.ConstantTimeCompare([]byte(u.Password), []byte(password)) != 1 {
		s.stats.SignInFailures++
		return nil
	}
	s.stats.SignIns++
	return u
}

// logout ends the session, unless the provider is to be caught not doing so.
func (s *Sandbox) logout(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil && !s.options.Switches.LogoutKeepsSession {
		s.mu.Lock()
		delete(s.sessions, cookie.Value)
		s.mu.Unlock()
		http.SetCookie(w, s.cookie("", -1))
	}
	s.page(w, r, http.StatusOK, "message", messageData{Title: "Signed out", Text: "You have signed out."})
}

func (s *Sandbox) cookie(id string, maxAge int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure follows the base URL, which may be plain HTTP on loopback
		Name:     cookieName,
		Value:    id,
		Path:     "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		Secure:   strings.HasPrefix(s.options.BaseURL, "https:"),
		SameSite: http.SameSiteLaxMode,
	}
}

// beginForm is begin for the two forms.
func (s *Sandbox) beginForm(w http.ResponseWriter, r *http.Request) *authRequest {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		s.refuse(w, r, "The form could not be read.")
		return nil
	}
	return s.begin(w, r, r.PostForm)
}

// askConsent shows the consent page to who has just signed in.
func (s *Sandbox) askConsent(w http.ResponseWriter, r *http.Request) {
	req := s.begin(w, r, r.URL.Query())
	if req == nil {
		return
	}
	current := s.session(r)
	if current == nil {
		s.loginPage(w, r, req, "Your session has ended. Sign in again.")
		return
	}
	s.consentPage(w, r, req, current, "")
}

// decide receives the consent form.
func (s *Sandbox) decide(w http.ResponseWriter, r *http.Request) {
	req := s.beginForm(w, r)
	if req == nil {
		return
	}
	current := s.session(r)
	if current == nil {
		s.loginPage(w, r, req, "Your session has ended. Sign in again.")
		return
	}
	account, partner, ok := s.enters(current.user, strings.TrimSpace(r.PostForm.Get("account")))
	decision := Decision(r.PostForm.Get("decision"))
	switch {
	case !ok:
		s.consentPage(w, r, req, current, "That account does not exist, or is not one of your clients.")
		return
	case req.app.PrivateTo != "" && req.app.PrivateTo != account.ID:
		s.deny(w, r, req, "User is not assigned to the client application.")
		return
	case decision == Deny:
		s.count(func(stats *Stats) { stats.Denied++ })
		s.options.Log.InfoContext(r.Context(), "sandbox: denied", "login", current.user.Login, "client", req.app.ClientID)
		s.deny(w, r, req, "The resource owner denied the request.")
		return
	case decision != Allow:
		s.refuse(w, r, "The form has neither 'allow' nor 'deny' as its decision.")
		return
	}
	value := s.issueCode(&code{
		app:         req.app,
		redirectURI: req.redirectURI,
		challenge:   req.challenge,
		grant: &grant{
			app:      req.app,
			user:     current.user,
			account:  account,
			scopes:   req.scopes,
			partner:  partner,
			signedIn: current.signedIn,
		},
	})
	s.options.Log.InfoContext(r.Context(), "sandbox: allowed",
		"login", current.user.Login, "account", account.ID, "client", req.app.ClientID, "partner", partner)
	s.redirect(w, r, req, url.Values{"code": {value}})
}

func (s *Sandbox) deny(w http.ResponseWriter, r *http.Request, req *authRequest, description string) {
	s.redirect(w, r, req, url.Values{"error": {"access_denied"}, "error_description": {description}})
}
