package sandbox

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// App is an application registered at the provider.
type App struct {
	ClientID string
	// Secret is empty for a public client, which must then use PKCE.
	Secret string
	// Name is shown on the consent page.
	Name string
	// RedirectURIs are matched exactly, but the first label of a host may be
	// *, which stands for any one label.
	RedirectURIs []string
	// LongLived makes a refresh return the refresh token that it was given. By
	// default refresh tokens rotate: each is good for one refresh.
	LongLived bool
	// RequirePKCE refuses authorize requests without a code challenge.
	RequirePKCE bool
	// PrivateTo makes the app private: only users of this account may consent.
	PrivateTo string
}

// app is a registered application with what its rate limits remember.
type app struct {
	App
	meter
}

func (a *app) name() string {
	if a.Name == "" {
		return a.ClientID
	}
	return a.Name
}

func (s *Sandbox) addApps(apps []App) error {
	var errs []error
	for _, registered := range apps {
		if registered.ClientID == "" || s.apps[registered.ClientID] != nil {
			errs = append(errs, fmt.Errorf("app %q: every app needs a client id of its own", registered.ClientID))
			continue
		}
		for _, uri := range registered.RedirectURIs {
			if err := checkRedirectURI(uri); err != nil {
				errs = append(errs, fmt.Errorf("app %q: %w", registered.ClientID, err))
			}
		}
		if registered.PrivateTo != "" && s.accounts[registered.PrivateTo] == nil {
			errs = append(errs, fmt.Errorf("app %q: it is private to account %q, which does not exist", registered.ClientID, registered.PrivateTo))
		}
		s.apps[registered.ClientID] = &app{App: registered}
	}
	return errors.Join(errs...)
}

// matches applies the provider's rule for redirect URIs: exactly equal, but a
// registered * stands for one label.
func matches(registered, uri string) bool {
	before, after, wild := strings.Cut(registered, "*")
	if !wild {
		return uri == registered
	}
	label, start := strings.CutPrefix(uri, before)
	label, end := strings.CutSuffix(label, after)
	return start && end && label != "" && strings.IndexFunc(label, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	}) < 0
}

// checkRedirectURI says whether an app may register uri.
func checkRedirectURI(uri string) error {
	if strings.Contains(uri, "#") {
		return fmt.Errorf("redirect URI %q: fragments are not supported", uri)
	}
	example := strings.Replace(uri, "://*.", "://any.", 1)
	if strings.Contains(example, "*") {
		return fmt.Errorf("redirect URI %q: only the first label of the host may be *", uri)
	}
	u, err := url.Parse(example)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("redirect URI %q: give an absolute http or https URI", uri)
	}
	return nil
}
