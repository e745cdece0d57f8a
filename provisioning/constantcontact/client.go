package constantcontact

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/countersign/countersign/provisioning"
)

// Constant Contact's own addresses.
const (
	DefaultAuthorizeURL = "https://authz.constantcontact.com/oauth2/default/v1/authorize"
	DefaultTokenURL     = "https://authz.constantcontact.com/oauth2/default/v1/token" //nolint:gosec // An address, not a credential.
	DefaultAPIURL       = "https://api.cc.email/v3"

	// DefaultIssuer is who signs the access tokens given at the endpoints above; it lives on another host.
	DefaultIssuer = "https://identity.constantcontact.com/oauth2/aus1lm3ry9mF7x2Ja0h8"
)

const defaultTimeout = 15 * time.Second

// Config says which app at which provider the client speaks for. All URLs are required, so that a
// test that forgets one does not reach the real provider.
type Config struct {
	ClientID     string
	ClientSecret provisioning.Secret // empty for a public app, which has to use PKCE
	Scopes       []string
	PKCE         bool
	Prompt       string // sent as it is; "login" makes a live session sign in again; empty is not sent
	RedirectURL  string // exactly as registered with the app
	AuthorizeURL string
	TokenURL     string
	APIURL       string
	Calls        Budget           // for the API; nil: no limits
	Tokens       Budget           // for the token endpoint, which has limits of its own; nil: no limits
	HTTP         *http.Client     // only its Transport and Timeout are used; by default 15 s
	Now          func() time.Time // by default time.Now
}

// Client speaks to the provider. It is safe for concurrent use.
type Client struct {
	oauth     oauth2.Config
	secret    provisioning.Secret
	pkce      bool
	prompt    string
	apiURL    string
	calls     Budget
	tokens    Budget
	transport http.RoundTripper
	timeout   time.Duration
	now       func() time.Time
}

// New checks the configuration and reports everything that is wrong with it.
func New(c Config) (*Client, error) {
	var errs []error
	if c.ClientID == "" {
		errs = append(errs, errors.New("the client id is empty"))
	}
	if c.ClientSecret == "" && !c.PKCE {
		errs = append(errs, errors.New("an app without a client secret has to use PKCE: set the secret or switch PKCE on"))
	}
	errs = append(errs,
		checkURL("redirect URL", c.RedirectURL),
		checkURL("authorize URL", c.AuthorizeURL),
		checkURL("token URL", c.TokenURL),
		checkURL("API URL", c.APIURL),
	)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}

	client := &Client{
		oauth: oauth2.Config{
			ClientID:    c.ClientID,
			Endpoint:    oauth2.Endpoint{AuthURL: c.AuthorizeURL, TokenURL: c.TokenURL},
			RedirectURL: c.RedirectURL,
			Scopes:      c.Scopes,
		},
		secret:    c.ClientSecret,
		pkce:      c.PKCE,
		prompt:    c.Prompt,
		apiURL:    strings.TrimRight(c.APIURL, "/"),
		calls:     cmp.Or[Budget](c.Calls, unlimited{}),
		tokens:    cmp.Or[Budget](c.Tokens, unlimited{}),
		transport: http.DefaultTransport,
		timeout:   defaultTimeout,
		now:       time.Now,
	}
	if c.HTTP != nil {
		client.transport = cmp.Or(c.HTTP.Transport, http.DefaultTransport)
		client.timeout = cmp.Or(c.HTTP.Timeout, defaultTimeout)
	}
	if c.Now != nil {
		client.now = c.Now
	}
	return client, nil
}

// checkURL demands an absolute https address; toward this machine itself http will do. The address
// may carry neither a fragment, which OAuth forbids, nor a password, which would end up in logs.
func checkURL(what, s string) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return fmt.Errorf("the %s is empty", what)
	case err != nil || u.Host == "" || u.User != nil || strings.Contains(s, "#"):
		return fmt.Errorf("the %s has to look like https://host/path, without user, password and #fragment", what)
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return fmt.Errorf("the %s %s has to begin with https:// (http:// only for this machine itself, such as http://localhost)", what, u.Redacted())
	}
	return nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// PKCE reports whether a walk needs a verifier.
func (c *Client) PKCE() bool { return c.pkce }

// TokenURL returns the token endpoint that belongs to the authorize endpoint of AuthorizeURL. A
// walk stores it at its begin and hands it to Exchange at its end.
func (c *Client) TokenURL() string { return c.oauth.Endpoint.TokenURL }

// AuthorizeURL returns the address that the owner's browser is sent to. The verifier is empty if
// PKCE is off.
func (c *Client) AuthorizeURL(state, verifier string) string {
	var options []oauth2.AuthCodeOption
	if verifier != "" {
		options = append(options, oauth2.S256ChallengeOption(verifier))
	}
	if c.prompt != "" {
		options = append(options, oauth2.SetAuthURLParam("prompt", c.prompt))
	}
	return c.oauth.AuthCodeURL(state, options...)
}
