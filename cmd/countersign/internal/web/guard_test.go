package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/cmd/countersign/internal/web"
)

// Every answer has the headers that keep it to itself.
func TestHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, operator := b.link(t, "ACME/1"), b.operator(t)
	for _, path := range []string{
		"/", "/healthz", link, "/i/made-up", link + "/unsubscribe", "/oauth/callback", "/consent", "/admin", "/admin/clients",
		"/admin/sign-in", "/made-up", "/api/v1/progress", "/api/v1/openapi.json", "/api/v1/made-up",
	} {
		h := operator.get(t, path).header
		for name, want := range map[string]string{
			"X-Content-Type-Options":     "nosniff",
			"Cache-Control":              "no-store",
			"Cross-Origin-Opener-Policy": "same-origin",
			"Strict-Transport-Security":  "max-age=31536000",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s has %s %q, want %q", path, name, got, want)
			}
		}
		if got := h.Get("Referrer-Policy"); got != "same-origin" && got != "no-referrer" {
			t.Errorf("%s has Referrer-Policy %q", path, got)
		}
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s has the policy %q, without %q", path, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s has the policy %q", path, policy)
		}
		// Only an owner's buttons lead away, to the provider.
		away := strings.Contains(policy, "form-action 'self' https:")
		if want := path == link || path == "/i/made-up" || path == "/consent"; away != want {
			t.Errorf("%s has the policy %q", path, policy)
		}
	}
	for _, sheet := range find(operator.get(t, "/admin").doc(t), tag("link"), with("rel", "stylesheet")) {
		file := operator.get(t, attribute(sheet, "href")).has(t, http.StatusOK)
		if got := file.header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("%s has Cache-Control %q", file.name, got)
		}
	}
	operator.get(t, "/static/made-up.css").has(t, http.StatusNotFound)
	if got := operator.get(t, "/").leads(t); got != "/admin" {
		t.Errorf("/ leads to %q", got)
	}
}

// What another site makes a browser send is refused; what this site or no browser sends is not.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, owner := b.link(t, "ACME/1"), b.operator(t)
	buttons := []string{
		link + "/begin", link + "/decline", link + "/not-me", link + "/refer", link + "/undo", link + "/renew", "/consent/00000000-0000-0000-0000-000000000000/begin",
		"/admin/sign-in", "/admin/enter/made-up", "/admin/sign-out",
	}
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
	} {
		for _, path := range buttons {
			page := owner.do(t, http.MethodPost, path, nil, header...).has(t, http.StatusForbidden)
			if got := page.heading(t); got != "Not allowed" {
				t.Errorf("%v: heading %q", header, got)
			}
		}
	}
	b.isAt(t, "ACME/1", "imported")
	owner.get(t, "/admin").has(t, http.StatusOK)

	for _, header := range [][]string{
		{"Sec-Fetch-Site", "same-origin"},
		{"Sec-Fetch-Site", "none"},
		{"Origin", b.PublicURL},
	} {
		owner.do(t, http.MethodPost, link+"/begin", nil, header...).has(t, http.StatusSeeOther)
	}
	// A proxy may have rewritten the host that the browser asked for.
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://10.0.0.1:8080"+link+"/begin", http.NoBody)
	request.Header.Set("Origin", b.PublicURL)
	recorder := httptest.NewRecorder()
	b.server.Config.Handler.ServeHTTP(recorder, request)
	if recorder.Code != http.StatusSeeOther {
		t.Errorf("behind a proxy: %d", recorder.Code)
	}
}

// press sends one press of a button from an address, as the server sees it.
func (b *testBundle) press(t *testing.T, path, remote string, forwarded ...string) int {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, b.PublicURL+path, http.NoBody)
	request.RemoteAddr = remote
	for _, f := range forwarded {
		request.Header.Add("X-Forwarded-For", f)
	}
	recorder := httptest.NewRecorder()
	b.server.Config.Handler.ServeHTTP(recorder, request)
	return recorder.Code
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const most = 400 // presses: at a hundred at once and ten a second, even a slow machine gets there
	throttled := func(from func(i int) (remote string, forwarded []string)) bool {
		for i := range most {
			remote, forwarded := from(i)
			if b.press(t, "/i/made-up/decline", remote, forwarded...) == http.StatusTooManyRequests {
				return true
			}
		}
		return false
	}
	hosts := func(i int) string { return strconv.Itoa(1 + i%200) }
	tests := []struct {
		name string
		from func(i int) (string, []string)
	}{
		{"one visitor", func(int) (string, []string) { return "203.0.113.1:1000", nil }},
		{"a visitor who claims to be many", func(i int) (string, []string) {
			return "203.0.113.2:1000", []string{"198.51.100." + hosts(i), "198.51.100.1"}
		}},
		{"a visitor with a network of IPv6 addresses", func(i int) (string, []string) {
			return "[2001:db8:1:2::" + hosts(i) + "]:1000", nil
		}},
		{"a visitor behind our proxy", func(int) (string, []string) { return "10.0.0.1:1000", []string{"203.0.113.3"} }},
		{"a visitor behind our proxy who claims to be many", func(i int) (string, []string) {
			return "10.0.0.1:1000", []string{"198.51.100." + hosts(i) + ", 203.0.113.4"}
		}},
	}
	for _, test := range tests {
		if !throttled(test.from) {
			t.Errorf("%s is never stopped", test.name)
		}
	}
	for _, remote := range []string{"203.0.113.5:1000", "[2001:db8:1:3::1]:1000"} {
		if got := b.press(t, "/i/made-up/decline", remote); got != http.StatusNotFound {
			t.Errorf("%s is answered %d, for what others did", remote, got)
		}
	}
	if got := b.press(t, "/i/made-up/decline", "10.0.0.1:1000", "203.0.113.6"); got != http.StatusNotFound {
		t.Errorf("another visitor behind our proxy is answered %d", got)
	}

	slow := b.browser(t)
	for path, heading := range map[string]string{"/i/made-up/decline": "Please wait ten seconds", "/admin/enter/made-up": "Too many requests"} {
		page := slow.post(t, path, nil)
		for i := 0; i < most && page.status != http.StatusTooManyRequests; i++ {
			page = slow.post(t, path, nil)
		}
		if got := page.has(t, http.StatusTooManyRequests).heading(t); got != heading {
			t.Errorf("%s: heading %q, want %q", path, got, heading)
		}
	}
	slow.get(t, "/i/made-up").has(t, http.StatusNotFound) // looking is free
}

func TestProxiesHaveToBeNetworks(t *testing.T) {
	t.Parallel()
	if _, err := (&web.Server{Proxies: []string{"proxy.example"}}).Handler(); err == nil || !strings.Contains(err.Error(), "proxies") {
		t.Errorf("error %v", err)
	}
}

func TestErrorPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	operator := b.operator(t)
	large := url.Values{"email": {strings.Repeat("x", 1<<17)}}.Encode()
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	tests := []struct {
		method, path, body string
		status             int
		heading            string
	}{
		{http.MethodGet, "/made-up", "", http.StatusNotFound, "Page not found"},
		{http.MethodGet, "/admin/made-up", "", http.StatusNotFound, "Page not found"},
		{http.MethodGet, "/admin/clients/made-up", "", http.StatusNotFound, "Page not found"},
		{http.MethodGet, "/admin/clients/00000000-0000-0000-0000-000000000000", "", http.StatusNotFound, "Page not found"},
		{http.MethodGet, "/admin/imports/made-up/rejects.csv", "", http.StatusNotFound, "Page not found"},
		{http.MethodGet, "/admin/imports/00000000-0000-0000-0000-000000000000/rejects.csv", "", http.StatusNotFound, "Page not found"},
		{http.MethodGet, "/admin/clients?stage=made-up", "", http.StatusBadRequest, "The request was not understood"},
		{http.MethodGet, "/admin/clients?reason=made-up", "", http.StatusBadRequest, "The request was not understood"},
		{http.MethodGet, "/admin/clients?cursor=made-up", "", http.StatusBadRequest, "The request was not understood"},
		{http.MethodGet, "/admin/clients/ref:%00", "", http.StatusNotFound, "Page not found"},
		{http.MethodGet, "/admin/clients/ref:%ff", "", http.StatusNotFound, "Page not found"},
		{http.MethodPost, "/admin/clients", "", http.StatusMethodNotAllowed, "That does not work here"},
		{http.MethodPost, "/i/made-up", "", http.StatusMethodNotAllowed, "That does not work here"},
		{http.MethodDelete, "/i/made-up", "", http.StatusMethodNotAllowed, "That does not work here"},
		{http.MethodPost, "/oauth/callback", "", http.StatusMethodNotAllowed, "That does not work here"},
		{http.MethodPost, "/admin/sign-in", large, http.StatusRequestEntityTooLarge, "That is too large"},
		{http.MethodPost, "/admin/enter/made-up", large, http.StatusRequestEntityTooLarge, "That is too large"},
		{http.MethodPost, "/i/made-up/refer", large, http.StatusRequestEntityTooLarge, "That is too large"},
		{http.MethodPost, "/admin/sign-in", "email=%zz", http.StatusBadRequest, "The request was not understood"},
	}
	for _, test := range tests {
		page := operator.do(t, test.method, test.path, strings.NewReader(test.body), form...).has(t, test.status)
		if got := page.heading(t); got != test.heading {
			t.Errorf("%s: heading %q, want %q", page.name, got, test.heading)
		}
		page.silent(t, "SQLSTATE", "ERROR")
		home := find(page.doc(t), tag("a"), with("href", "/admin"))
		if want := strings.HasPrefix(test.path, "/admin"); (len(home) > 0) != want {
			t.Errorf("%s shows the way to the console: %t, want %t", page.name, len(home) > 0, want)
		}
	}
	if got := operator.do(t, http.MethodDelete, "/i/made-up", nil).header.Get("Allow"); !strings.Contains(got, "GET") {
		t.Errorf("the methods that are allowed are %q", got)
	}
}

// What goes wrong inside is told to the log, and to a visitor only by its number.
func TestInternalErrorsAreHidden(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link, operator, api := b.link(t, "ACME/1"), b.operator(t), b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	b.db.Close()
	for _, address := range []string{link, link + "/unsubscribe", "/admin", "/admin/progress", "/admin/enter/made-up"} {
		page := operator.get(t, address).has(t, http.StatusInternalServerError)
		if got := page.heading(t); got != "Internal error" {
			t.Errorf("%s: heading %q", page.name, got)
		}
		page.silent(t, "pool", "closed", "SELECT")
		number := text(find(page.doc(t), tag("code"))[0])
		if len(number) != 10 || !strings.Contains(b.log.String(), "id="+number) {
			t.Errorf("the log does not know the number %q", number)
		}
	}
	for _, path := range []string{link + "/begin", link + "/decline", link + "/not-me", link + "/renew", link + "/unsubscribe"} {
		operator.post(t, path, nil).has(t, http.StatusInternalServerError).silent(t, "pool", "closed", "SELECT")
	}
	if got := operator.get(t, "/oauth/callback?state=x&code=y").leads(t); got != "/consent" {
		t.Errorf("the callback stays at its address and leads to %q", got)
	}
	for _, path := range []string{"/progress", "/export.csv", "/clients"} {
		answer := api.call(t, http.MethodGet, path, "").has(t, http.StatusInternalServerError)
		if got := answer.header.Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s: content type %q", answer.name, got)
		}
		answer.silent(t, "pool", "closed", "SELECT")
		var problem struct{ Detail string }
		answer.into(t, &problem)
		number := problem.Detail[strings.LastIndexByte(problem.Detail, ' ')+1:]
		if !strings.HasPrefix(problem.Detail, "internal error") || !strings.Contains(b.log.String(), "id="+number) {
			t.Errorf("the log does not know %q", problem.Detail)
		}
	}
	operator.get(t, "/healthz").has(t, http.StatusOK)
	operator.get(t, "/readyz").has(t, http.StatusServiceUnavailable).silent(t, "pool")
	if !strings.Contains(b.log.String(), "closed pool") {
		t.Errorf("the log does not tell the cause: %s", b.log)
	}
	if strings.Contains(b.log.String(), strings.TrimPrefix(link, "/i/")) {
		t.Errorf("the log has a link: %s", b.log)
	}
}

func TestPanicsAreAnswered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	api := b.caller(t, admin.ScopeRead)
	b.Links = nil
	page := b.browser(t).get(t, "/i/made-up").has(t, http.StatusInternalServerError)
	if got := page.heading(t); got != "Internal error" {
		t.Errorf("heading %q", got)
	}
	if log := b.log.String(); !strings.Contains(log, "panic") || !strings.Contains(log, "owner.go") {
		t.Errorf("the log does not tell where: %s", log)
	}
	b.Store = nil
	answer := api.call(t, http.MethodGet, "/progress", "").has(t, http.StatusInternalServerError)
	if got := answer.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q", got)
	}
}
