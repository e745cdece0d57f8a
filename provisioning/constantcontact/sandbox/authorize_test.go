package sandbox_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

func TestAuthorizeRefusesWithoutTellingTheApp(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	tests := map[string]string{
		"no client":               b.authorizeURL("client_id", ""),
		"unknown client":          b.authorizeURL("client_id", "nobody"),
		"two clients":             b.authorizeURL() + "&client_id=" + publicID,
		"no redirect URI":         b.authorizeURL("redirect_uri", ""),
		"unregistered":            b.authorizeURL("redirect_uri", "https://evil.example/oauth/callback"),
		"longer":                  b.authorizeURL("redirect_uri", redirectURI+"/"),
		"with a query":            b.authorizeURL("redirect_uri", redirectURI+"?x=1"),
		"with a fragment":         b.authorizeURL("redirect_uri", redirectURI+"#f"),
		"other case":              b.authorizeURL("redirect_uri", strings.ToUpper(redirectURI)),
		"wildcard, two labels":    b.authorizeURL("redirect_uri", "https://a.b.sites.example/cb"),
		"wildcard, no label":      b.authorizeURL("redirect_uri", "https://sites.example/cb"),
		"wildcard, empty label":   b.authorizeURL("redirect_uri", "https://.sites.example/cb"),
		"wildcard, literally":     b.authorizeURL("redirect_uri", "https://*.sites.example/cb"),
		"wildcard, another path":  b.authorizeURL("redirect_uri", "https://a.sites.example/cb/x"),
		"wildcard, another host":  b.authorizeURL("redirect_uri", "https://evil.example/.sites.example/cb"),
		"wildcard, user in front": b.authorizeURL("redirect_uri", "https://evil.example@a.sites.example/cb"),
	}
	for name, target := range tests {
		got := b.get(b.client, target)
		if got.status != http.StatusBadRequest || got.header.Get("Location") != "" || !strings.Contains(got.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: answer %d to %q, want a 400 page", name, got.status, got.header.Get("Location"))
		}
	}
	if good := b.get(b.client, b.authorizeURL("redirect_uri", "https://shop-1.sites.example/cb")); good.status != http.StatusOK {
		t.Errorf("one label for the wildcard: answer %d", good.status)
	}
}

func TestAuthorizeTellsTheApp(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	s256 := challenge("any")
	tests := map[string]struct{ target, want string }{
		"no response type":       {b.authorizeURL("response_type", ""), "invalid_request"},
		"implicit":               {b.authorizeURL("response_type", "token"), "unsupported_response_type"},
		"no state":               {b.authorizeURL("state", ""), "invalid_request"},
		"state twice":            {b.authorizeURL() + "&state=x", "invalid_request"},
		"no scope":               {b.authorizeURL("scope", ""), "invalid_scope"},
		"unknown scope":          {b.authorizeURL("scope", "account_read openid"), "invalid_scope"},
		"scope with literal +":   {b.authorizeURL("scope", "account_read+offline_access"), "invalid_scope"},
		"plain PKCE":             {b.authorizeURL("code_challenge", s256, "code_challenge_method", "plain"), "invalid_request"},
		"PKCE without method":    {b.authorizeURL("code_challenge", s256), "invalid_request"},
		"method without PKCE":    {b.authorizeURL("code_challenge_method", "S256"), "invalid_request"},
		"short challenge":        {b.authorizeURL("code_challenge", "abc", "code_challenge_method", "S256"), "invalid_request"},
		"public without PKCE":    {b.authorizeURL("client_id", publicID), "invalid_request"},
		"app that requires PKCE": {b.authorizeURL("client_id", privateID), "invalid_request"},
		"prompt none":            {b.authorizeURL("prompt", "none"), "login_required"},
	}
	for name, test := range tests {
		got := b.get(b.client, test.target)
		location := got.header.Get("Location")
		answer := query(t, location)
		if got.status != http.StatusFound || !strings.HasPrefix(location, redirectURI+"?") || answer.Get("error") != test.want {
			t.Errorf("%s: answer %d to %q, want 302 with %s", name, got.status, location, test.want)
		}
		if answer.Get("error_description") == "" || answer.Has("iss") || answer.Has("code") {
			t.Errorf("%s: answer %v", name, answer)
		}
		if wantState := query(t, test.target).Get("state"); answer.Get("state") != wantState {
			t.Errorf("%s: state %q, want %q", name, answer.Get("state"), wantState)
		}
	}
}

func TestConsentPages(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	browser := b.newBrowser()

	login := b.get(browser, b.authorizeURL("login_hint", acmeOwner))
	for _, want := range []string{
		"Sandbox", "not the real service", `action="/signin"`, `id="login" name="login" value=""`, `id="password" name="password"`, "Agency Connect",
	} {
		if !strings.Contains(login.body, want) {
			t.Errorf("login page lacks %s", want)
		}
	}
	if policy := login.header.Get("Content-Security-Policy"); strings.Contains(policy, "form-action") || !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("policy %q", policy)
	}
	if strings.Contains(login.body, bloomOwner) {
		t.Error("the login page lists logins although the control door is shut")
	}

	b.consentWith(browser, b.authorizeURL(), acmeOwner)
	consent := b.get(browser, b.authorizeURL("scope", "account_read offline_access"))
	for _, want := range []string{
		"Agency Connect", "Acme Bakery", acmeOwner, `name="decision" value="allow">Allow`, `name="decision" value="deny"`, "while you are away",
	} {
		if !strings.Contains(consent.body, want) {
			t.Errorf("consent page lacks %s", want)
		}
	}
	if strings.Contains(consent.body, "campaigns") {
		t.Error("the consent page lists a scope that was not asked")
	}
	if css := b.get(browser, b.base+"/sandbox.css"); !strings.HasPrefix(css.header.Get("Content-Type"), "text/css") {
		t.Errorf("style sheet is %q", css.header.Get("Content-Type"))
	}
}

func TestConsentAnswers(t *testing.T) {
	t.Parallel()
	b := start(t, func(o *sandbox.Options) { o.Switches.SendIssuer = true })
	pkce := []string{"code_challenge", challenge("v"), "code_challenge_method", "S256"}
	private := b.authorizeURL(append(pkce, "client_id", privateID)...)
	tests := map[string]struct {
		target, login, account string
		decision               sandbox.Decision
		want                   string // an error, or empty for a code
	}{
		"allow":                     {b.authorizeURL(), acmeOwner, "", sandbox.Allow, ""},
		"login in another case":     {b.authorizeURL(), "aDA@ACME.example", "", sandbox.Allow, ""},
		"deny":                      {b.authorizeURL(), acmeOwner, "", sandbox.Deny, "access_denied"},
		"private app, its creator":  {private, acmeManager, "", sandbox.Allow, ""},
		"private app, another":      {private, bloomOwner, "", sandbox.Allow, "access_denied"},
		"partner in a client":       {b.authorizeURL(), partnerLogin, bloom, sandbox.Allow, ""},
		"partner in its own":        {b.authorizeURL(), partnerLogin, "", sandbox.Allow, ""},
		"not a partner":             {b.authorizeURL(), acmeOwner, bloom, sandbox.Allow, ""},
		"redirect with a wild card": {b.authorizeURL("redirect_uri", "https://shop.sites.example/cb"), acmeOwner, "", sandbox.Allow, ""},
	}
	for name, test := range tests {
		callback, err := sandbox.ConsentInside(t.Context(), b.client, test.target, test.login, password, test.account, test.decision)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		answer := query(t, callback)
		if answer.Get("error") != test.want || answer.Has("code") != (test.want == "") || answer.Get("state") != "st&te" {
			t.Errorf("%s: callback %s, want error %q", name, callback, test.want)
		}
		if iss := answer.Get("iss"); iss != b.base+"/identity/oauth2/aus1lm3ry9mF7x2Ja0h8" {
			t.Errorf("%s: iss %q", name, iss)
		}
	}
}

func TestConsentFails(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	tests := map[string]struct{ target, login, password, account, want string }{
		"wrong password":         {b.authorizeURL(), acmeOwner, "guess", "", "403: Unable to sign in"},
		"unknown login":          {b.authorizeURL(), "nobody@acme.example", password, "", "Unable to sign in"},
		"unknown app":            {b.authorizeURL("client_id", "x"), acmeOwner, password, "", "400: Unknown or invalid 'client_id'."},
		"partner and no client":  {b.authorizeURL(), partnerLogin, password, "a07e1lother0", "not one of your clients"},
		"partner and no account": {b.authorizeURL(), partnerLogin, password, "nothing", "does not exist"},
		"not the sandbox at all": {b.base + "/sandbox.css", acmeOwner, password, "", "no form"},
		"nothing there":          {b.base + "/nowhere", acmeOwner, password, "", "404"},
		"nobody listens":         {"http://127.0.0.1:1/", acmeOwner, password, "", "page not loaded"},
		"no URL":                 {"http://%zz", acmeOwner, password, "", "cannot be read"},
	}
	for name, test := range tests {
		callback, err := sandbox.ConsentInside(t.Context(), b.client, test.target, test.login, test.password, test.account, sandbox.Allow)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: callback %q, error %v, want %q", name, callback, err, test.want)
			continue
		}
		if strings.Contains(err.Error(), test.password) {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
	if stats := b.Stats(); stats.SignInFailures != 2 || stats.Allowed != 0 {
		t.Errorf("stats %+v", stats)
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	shows := func(b *bundle, browser *http.Client, changes ...string) string {
		b.t.Helper()
		got := b.get(browser, b.authorizeURL(changes...))
		switch {
		case got.status == http.StatusFound:
			return query(b.t, got.header.Get("Location")).Get("error")
		case strings.Contains(got.body, `id="signin"`):
			return "login"
		case strings.Contains(got.body, acmeOwner):
			return "consent of the cached user"
		default:
			return got.body
		}
	}
	signedIn := func(t *testing.T, change func(*sandbox.Options)) (*bundle, *http.Client) {
		t.Helper()
		b := start(t, change)
		browser := b.newBrowser()
		b.consentWith(browser, b.authorizeURL(), acmeOwner)
		return b, browser
	}
	want := func(t *testing.T, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("the browser shows %q, want %q", got, want)
		}
	}

	t.Run("signs in silently", func(t *testing.T) {
		t.Parallel()
		b, browser := signedIn(t, nil)
		want(t, shows(b, browser), "consent of the cached user")
		// Bloom's owner opens the link in Acme's browser: the grant is Acme's.
		code := b.consentWith(browser, b.authorizeURL(), bloomOwner).Get("code")
		access := b.exchange(code).tokens(t).Access
		if got := b.call("/v3/account/summary", access).json(t)["encoded_account_id"]; got != acme {
			t.Errorf("account %v, want the cached user's %s", got, acme)
		}
	})
	t.Run("prompt", func(t *testing.T) {
		t.Parallel()
		b, browser := signedIn(t, nil)
		want(t, shows(b, browser, "prompt", "login"), "login")
		want(t, shows(b, browser, "prompt", "login consent"), "login")
		want(t, shows(b, browser, "prompt", "consent"), "consent of the cached user")
		want(t, shows(b, browser, "prompt", "none"), "consent_required")
		code := b.consentWith(browser, b.authorizeURL("prompt", "login"), bloomOwner).Get("code")
		access := b.exchange(code).tokens(t).Access
		if got := b.call("/v3/account/summary", access).json(t)["encoded_account_id"]; got != bloom {
			t.Errorf("account %v, want %s", got, bloom)
		}
	})
	t.Run("ends after two idle hours", func(t *testing.T) {
		t.Parallel()
		b, browser := signedIn(t, nil)
		b.pass(119 * time.Minute)
		want(t, shows(b, browser), "consent of the cached user")
		b.pass(119 * time.Minute)
		want(t, shows(b, browser), "consent of the cached user")
		b.pass(2 * time.Hour)
		want(t, shows(b, browser), "login")
	})
	t.Run("logout", func(t *testing.T) {
		t.Parallel()
		b, browser := signedIn(t, nil)
		b.get(browser, b.base+"/login/logout")
		want(t, shows(b, browser), "login")
	})
	t.Run("logout that does not", func(t *testing.T) {
		t.Parallel()
		b, browser := signedIn(t, func(o *sandbox.Options) { o.Switches.LogoutKeepsSession = true })
		b.get(browser, b.base+"/login/logout")
		want(t, shows(b, browser), "consent of the cached user")
	})
	t.Run("of a user who is removed", func(t *testing.T) {
		t.Parallel()
		b, browser := signedIn(t, nil)
		if !b.RemoveUser("ADA@acme.example") || b.RemoveUser(acmeOwner) {
			t.Error("RemoveUser does not say whether there was such a user")
		}
		want(t, shows(b, browser), "login")
	})
	t.Run("login hint", func(t *testing.T) {
		t.Parallel()
		b := start(t, func(o *sandbox.Options) { o.Switches.HonourLoginHint = true })
		page := b.get(b.client, b.authorizeURL("login_hint", bloomOwner))
		if !strings.Contains(page.body, `name="login" value="`+bloomOwner+`"`) {
			t.Error("the hint is not in the form")
		}
	})
	t.Run("cookie", func(t *testing.T) {
		t.Parallel()
		for base, secure := range map[string]bool{"http://127.0.0.1": false, "https://sandbox.example": true} {
			b := start(t, func(o *sandbox.Options) { o.BaseURL = base })
			form := query(t, b.authorizeURL())
			form.Set("login", acmeOwner)
			form.Set("password", password)
			r := b.request(http.MethodPost, b.base+"/signin", form.Encode())
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			cookie, err := http.ParseSetCookie(b.do(b.client, r).header.Get("Set-Cookie"))
			if err != nil {
				t.Fatal(err)
			}
			if cookie.Secure != secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode {
				t.Errorf("%s: cookie %+v", base, cookie)
			}
		}
	})
	t.Run("forms from elsewhere", func(t *testing.T) {
		t.Parallel()
		b, browser := signedIn(t, nil)
		form := query(t, b.authorizeURL())
		form.Set("decision", "allow")
		for origin, want := range map[string]int{"https://evil.example": http.StatusForbidden, b.base: http.StatusFound} {
			r := b.request(http.MethodPost, b.base+"/consent", form.Encode())
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Origin", origin)
			if got := b.do(browser, r); got.status != want {
				t.Errorf("from %s: answer %d, want %d", origin, got.status, want)
			}
		}
	})
	t.Run("consent without one", func(t *testing.T) {
		t.Parallel()
		b := start(t, nil)
		target := strings.Replace(b.authorizeURL(), "/oauth2/default/v1/authorize", "/consent", 1)
		if got := b.get(b.client, target); got.status != http.StatusForbidden || !strings.Contains(got.body, `id="signin"`) {
			t.Errorf("answer %d %s", got.status, got.body)
		}
		r := b.request(http.MethodPost, b.base+"/consent", query(t, b.authorizeURL("x", "y")).Encode()+"&decision=allow")
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if got := b.do(b.client, r); got.status != http.StatusForbidden || !strings.Contains(got.body, `id="signin"`) {
			t.Errorf("answer %d %s", got.status, got.body)
		}
	})
}
