package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestBrowserInWords reads what browsers call themselves, as far as it helps to recognise one's own.
func TestBrowserInWords(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.operator(t)
	for name, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0":                                                                          "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36 Edg/143.0.0.0":                   "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Safari/605.1.15":                           "Safari on a Mac",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/143.0.0.0 Mobile/15E148 Safari/604.1":      "Chrome on iPhone",
		"Mozilla/5.0 (Linux; Android 16; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/29.0 Chrome/136.0.0.0 Mobile Safari/537.36 <b>x": "Samsung Internet on Android",
		"something of its own": "A browser",
	} {
		visitor := b.browser(t)
		form := url.Values{"email": {operatorEmail}, "password": {password}}
		header := []string{"Content-Type", "application/x-www-form-urlencoded", "User-Agent", name}
		visitor.do(t, http.MethodPost, "/admin/sign-in", strings.NewReader(form.Encode()), header...).leads(t)
		page := visitor.get(t, "/admin/account").has(t, http.StatusOK)
		page.says(t, want+" this one")
	}
}
