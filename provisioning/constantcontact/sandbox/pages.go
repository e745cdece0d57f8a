package sandbox

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

//go:embed pages
var files embed.FS

func parsePages() (*template.Template, error) {
	return template.New("").Option("missingkey=error").ParseFS(files, "pages/*.html")
}

// sampleCount is how many sample logins a login page shows at once.
const sampleCount = 8

type messageData struct {
	Title, Text string
}

type loginData struct {
	App      string
	Params   map[string]string
	Message  string
	Login    string
	Password string
	Samples  []sample // nil if the control door is shut
	Search   string
	More     int
}

// sample is a login that the person at the demo may use.
type sample struct {
	Organization string
	Login        string
	Role         Role
}

type consentData struct {
	App     string
	Params  map[string]string
	Message string
	Login   string
	Account *Account
	Partner bool // asks which account the user has entered
	Scopes  []string
}

// refuse shows the page of a request of which no app is told.
func (s *Sandbox) refuse(w http.ResponseWriter, r *http.Request, text string) {
	s.page(w, r, http.StatusBadRequest, "message", messageData{Title: "400 Bad Request", Text: text})
}

// loginPage shows the login form, with 403 if message says that a try failed.
func (s *Sandbox) loginPage(w http.ResponseWriter, r *http.Request, req *authRequest, message string) {
	data := loginData{App: req.app.name(), Params: req.params, Message: message}
	if s.options.Switches.HonourLoginHint {
		data.Login = req.loginHint
	}
	if s.options.Control {
		s.addSamples(&data, r.URL.Query())
	}
	status := http.StatusOK
	if message != "" {
		status = http.StatusForbidden
	}
	s.page(w, r, status, "login", data)
}

// addSamples lists logins beside the form. Choosing one fills the form in, by
// another GET of the same page, so that it works without scripts.
func (s *Sandbox) addSamples(data *loginData, query url.Values) {
	data.Search = query.Get("sandbox_search")
	chosen := query.Get("sandbox_login")
	accounts, total := s.find(data.Search, sampleCount)
	data.Samples, data.More = []sample{}, total-len(accounts)
	for _, account := range accounts {
		for _, u := range account.Users {
			data.Samples = append(data.Samples, sample{account.Organization, u.Login, u.Role})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.users[strings.ToLower(chosen)]; u != nil {
		data.Login, data.Password = u.Login, u.Password
	}
}

func (s *Sandbox) consentPage(w http.ResponseWriter, r *http.Request, req *authRequest, current *session, message string) {
	data := consentData{
		App:     req.app.name(),
		Params:  req.params,
		Message: message,
		Login:   current.user.Login,
		Account: current.user.account,
		Partner: current.user.Role == RolePartnerManager,
	}
	for _, scope := range req.scopes {
		data.Scopes = append(data.Scopes, scopeText(scope))
	}
	status := http.StatusOK
	if message != "" {
		status = http.StatusBadRequest
	}
	s.page(w, r, status, "consent", data)
}

// page renders a whole page before it sends any of it. The policy has no form-action:
// browsers apply that to the redirect which follows a form, and the consent form's
// leads to the app.
func (s *Sandbox) page(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var page bytes.Buffer
	if err := s.pages.ExecuteTemplate(&page, name, data); err != nil {
		s.options.Log.ErrorContext(r.Context(), "sandbox: page not rendered", "page", name, "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = page.WriteTo(w) // a browser that left early is no concern of ours
}

func (s *Sandbox) stylesheet(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=3600")
	http.ServeFileFS(w, r, files, "pages/sandbox.css")
}
