package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// Decision is what an owner presses on the consent page.
type Decision string

const (
	// Allow gives the app its grant.
	Allow Decision = "allow"
	// Deny sends the browser back with access_denied.
	Deny Decision = "deny"
)

// Consent walks through the sandbox's pages as an owner's browser would: it opens
// authorizeURL, signs in if it is asked to, decides, and returns the URL at the app
// to which the sandbox then sends the browser, without following it. Errors that are
// sent to the app are such URLs, too. It fails if the sandbox shows a page of which
// the app does not hear, such as for a wrong password.
//
// client keeps the browser's cookies if it has a jar, so that a second walk with it
// is silently the first one's user, as with a real browser; without a jar every walk
// is a fresh browser.
func Consent(ctx context.Context, client *http.Client, authorizeURL, login, password string, d Decision) (callbackURL string, err error) {
	return walk(ctx, client, authorizeURL, map[string]string{"login": login, "password": password, "decision": string(d)})
}

// ConsentInside is [Consent] by a partner manager who has entered the client account.
func ConsentInside(ctx context.Context, client *http.Client, authorizeURL, login, password, accountID string, d Decision) (callbackURL string, err error) {
	return walk(ctx, client, authorizeURL, map[string]string{
		"login": login, "password": password, "account": accountID, "decision": string(d),
	})
}

// maxPages is more than any walk has.
const maxPages = 10

func walk(ctx context.Context, client *http.Client, authorizeURL string, answers map[string]string) (string, error) {
	start, err := url.Parse(authorizeURL)
	if err != nil {
		return "", fmt.Errorf("sandbox: the authorize URL cannot be read: %w", err)
	}
	callback := start.Query().Get("redirect_uri")
	browser := *client
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if browser.Jar == nil {
		if browser.Jar, err = cookiejar.New(nil); err != nil {
			return "", fmt.Errorf("sandbox: no place for cookies: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, authorizeURL, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("sandbox: the authorize URL cannot be requested: %w", err)
	}
	for range maxPages {
		request, err = visit(&browser, request, answers)
		if err != nil {
			return "", err
		}
		if there := request.URL.String(); isCallback(there, callback) {
			return there, nil
		}
	}
	return "", fmt.Errorf("sandbox: %d pages and no way back to the app", maxPages)
}

func isCallback(location, redirectURI string) bool {
	rest, ok := strings.CutPrefix(location, redirectURI)
	return ok && (rest == "" || rest[0] == '?' || rest[0] == '&')
}

// visit opens one page and returns the request that a browser makes next: the
// redirect's, or that of the page's form once it is filled in.
func visit(browser *http.Client, request *http.Request, answers map[string]string) (*http.Request, error) {
	ctx := request.Context()
	response, err := browser.Do(request)
	if err != nil {
		return nil, fmt.Errorf("sandbox: page not loaded: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if location, err := response.Location(); err == nil {
		_, _ = io.Copy(io.Discard, response.Body) // lets the connection be used again
		return http.NewRequestWithContext(ctx, http.MethodGet, location.String(), http.NoBody)
	}
	page, err := html.Parse(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("sandbox: page not read: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("sandbox: %s answered %d: %s", request.URL.Path, response.StatusCode, problem(page))
	}
	action, fields, err := fillIn(page, answers)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %s: %w", request.URL.Path, err)
	}
	target, err := request.URL.Parse(action)
	if err != nil {
		return nil, fmt.Errorf("sandbox: form's address: %w", err)
	}
	next, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(fields.Encode())) //nolint:gosec // a browser goes where its page says
	if err != nil {
		return nil, fmt.Errorf("sandbox: form not sent: %w", err)
	}
	next.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return next, nil
}

// fillIn fills in the page's first form that is posted: answers by field name, the
// page's own values elsewhere.
func fillIn(page *html.Node, answers map[string]string) (action string, fields url.Values, err error) {
	for form := range page.Descendants() {
		if form.Data != "form" || attribute(form, "method") != "post" {
			continue
		}
		fields = url.Values{}
		for field := range form.Descendants() {
			name := attribute(field, "name")
			if name == "" || field.Data != "input" && field.Data != "button" {
				continue
			}
			value, answered := answers[name]
			if !answered {
				value = attribute(field, "value")
			}
			fields.Set(name, value)
		}
		return attribute(form, "action"), fields, nil
	}
	return "", nil, errors.New("the page has no form to fill in")
}

// problem is what a page says went wrong.
func problem(page *html.Node) string {
	for node := range page.Descendants() {
		if attribute(node, "role") == "alert" && node.FirstChild != nil {
			return node.FirstChild.Data
		}
	}
	return "no reason given"
}

func attribute(node *html.Node, name string) string {
	for _, a := range node.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
