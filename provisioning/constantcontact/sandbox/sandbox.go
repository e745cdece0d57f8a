package sandbox

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options say what New builds. BaseURL is required; everything else has a default.
type Options struct {
	// BaseURL is the scheme and host under which browsers and apps reach the
	// sandbox, such as http://127.0.0.1:9090.
	BaseURL string
	// Issuer is the iss claim of the access tokens, and its path + "/v1/keys" serves
	// their key. As at the provider it differs from the authorize URL's own
	// server; the default is a path of its own under BaseURL.
	Issuer string

	Apps     []App
	Accounts []Account
	// Partners have credentials for the partner API.
	Partners []Partner

	Switches Switches
	Faults   Faults
	// Elsewhere is the scheme and host of somebody else, where faults redirect clients that
	// should not follow; the default is a name that does not exist.
	Elsewhere string
	// Unlimited lifts the rate limits: one token request a second, four API
	// requests a second and 10,000 a day, each for an app or a partner.
	Unlimited bool
	// Control opens /_sandbox/, which shows every login with its password and lets
	// anybody who reaches it change faults, and puts sample logins on the login page.
	Control bool

	// Key signs the access tokens. By default one of 2048 bits is made when the
	// first token is, which costs a tenth of a second; many sandboxes may share one.
	// Signing is most of the sandbox's work: a benchmark may want a shorter key.
	Key *rsa.PrivateKey
	// Now is the clock; the default is time.Now.
	Now func() time.Time
	// Log gets who signs in and what they decide, and at debug level what the
	// endpoints answer. The default is silence.
	Log *slog.Logger
}

// Switches settle what the provider's documentation leaves open. The zero value is
// what is believed of the provider, the stricter reading where in doubt.
type Switches struct {
	// SendIssuer adds iss (RFC 9207) to every answer of the authorize endpoint.
	SendIssuer bool
	// HonourLoginHint puts login_hint into the login form; by default it is ignored.
	HonourLoginHint bool
	// LogoutKeepsSession makes /login/logout leave the cookie session alive.
	LogoutKeepsSession bool
	// CodeLifetime of an authorization code; 0 means 300 seconds.
	CodeLifetime time.Duration
	// AnyContentType accepts token requests whose body is not declared a form,
	// which are otherwise answered 415.
	AnyContentType bool
	// RotationGrace is how long a rotated refresh token still works.
	RotationGrace time.Duration
	// NoReuseDetection only refuses a spent refresh token; by default using one
	// kills the whole grant, access tokens included.
	NoReuseDetection bool
	// KeepEarlierGrant lets an earlier grant of the same user to the same app live
	// on beside a new one, which otherwise replaces it.
	KeepEarlierGrant bool
	// PartnerEndsAtOnce ends a grant made through a partner login as it is made;
	// by default its first access token works and its first refresh fails.
	PartnerEndsAtOnce bool
}

const (
	authorizePath = "/oauth2/default/v1/authorize"
	tokenPath     = "/oauth2/default/v1/token" //nolint:gosec // a path, not a credential

	partnerTokenPath    = "/partners/oauth2/default/v1/token" //nolint:gosec // a path, not a credential
	oldPartnerTokenPath = "/oauth2/token"                     //nolint:gosec // a path, not a credential

	issuerPath = "/identity/oauth2/aus1lm3ry9mF7x2Ja0h8"

	codeLifetime    = 300 * time.Second
	sessionLifetime = 2 * time.Hour
	accessLifetime  = 24 * time.Hour
	partnerLifetime = time.Hour
	refreshIdle     = 180 * 24 * time.Hour
	sweepEvery      = 10 * time.Minute
)

// Sandbox is the imitated provider. Its methods are safe for concurrent use.
type Sandbox struct {
	options  Options
	accounts map[string]*Account
	apps     map[string]*app
	partners map[string]*partner
	key      func() (*rsa.PrivateKey, error)
	pages    *template.Template
	faults   []fault
	handler  http.Handler

	mu       sync.Mutex
	users    map[string]*user // by login in lower case
	sessions map[string]*session
	codes    map[string]*code
	access   map[[sha256.Size]byte]*access // by the hash of the token
	refresh  map[string]*refreshToken
	passes   map[[sha256.Size]byte]*pass // partner tokens, by their hash
	grants   []*grant
	live     map[grantOwner]*grant
	active   Faults
	stats    Stats
	swept    time.Time
}

// New checks the options and returns the sandbox, ready to serve. The error joins
// every mistake found.
func New(options Options) (*Sandbox, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Switches.CodeLifetime == 0 {
		options.Switches.CodeLifetime = codeLifetime
	}
	if options.Issuer == "" {
		options.Issuer = options.BaseURL + issuerPath
	}
	if options.Elsewhere == "" {
		options.Elsewhere = "https://elsewhere.invalid"
	}
	s := &Sandbox{
		options:  options,
		accounts: map[string]*Account{},
		apps:     map[string]*app{},
		partners: map[string]*partner{},
		passes:   map[[sha256.Size]byte]*pass{},
		faults:   catalogue(options),
		users:    map[string]*user{},
		sessions: map[string]*session{},
		codes:    map[string]*code{},
		access:   map[[sha256.Size]byte]*access{},
		refresh:  map[string]*refreshToken{},
		live:     map[grantOwner]*grant{},
		stats:    Stats{Faults: map[Fault]int{}},
		swept:    options.Now(),
	}
	s.key = sync.OnceValues(func() (*rsa.PrivateKey, error) {
		if options.Key != nil {
			return options.Key, nil
		}
		return rsa.GenerateKey(rand.Reader, 2048)
	})
	pages, pagesErr := parsePages()
	s.pages = pages
	keys, issuerErr := keysPath(options.Issuer)
	err := errors.Join(
		checkBaseURL(options.BaseURL),
		issuerErr,
		pagesErr,
		s.addAccounts(options.Accounts),
		s.addApps(options.Apps),
		s.addPartners(options.Partners),
		s.SetFaults(options.Faults),
	)
	if err != nil {
		return nil, fmt.Errorf("sandbox: cannot be built: %w", err)
	}
	s.handler = s.routes(keys)
	return s, nil
}

// routes are all doors of the sandbox. What is not listed does not exist at the
// provider either: no discovery documents, no revocation, each an empty 404.
func (s *Sandbox) routes(keysPath string) http.Handler {
	mux := http.NewServeMux()
	sameOrigin := http.NewCrossOriginProtection()
	mux.HandleFunc("GET "+authorizePath, s.authorize)
	mux.Handle("POST /signin", sameOrigin.Handler(http.HandlerFunc(s.signIn)))
	mux.HandleFunc("GET /consent", s.askConsent)
	mux.Handle("POST /consent", sameOrigin.Handler(http.HandlerFunc(s.decide)))
	mux.HandleFunc("GET /login/logout", s.logout)
	mux.HandleFunc("GET /sandbox.css", s.stylesheet)

	mux.HandleFunc("POST "+tokenPath, s.token)
	mux.HandleFunc("GET "+keysPath, s.keys)
	for _, path := range []string{partnerTokenPath, oldPartnerTokenPath} {
		mux.HandleFunc("POST "+path, s.partnerToken)
	}

	for _, resource := range s.resources() {
		mux.Handle("GET "+resource.path, s.serve(resource))
	}
	mux.Handle("GET /v3/partner/accounts", s.asPartner(s.listAccounts))
	mux.Handle("POST /v3/partner/accounts/{id}/account_operations/sync", s.asPartner(s.operate))
	mux.HandleFunc("/v3/", s.forbidden)

	if s.options.Control {
		mux.Handle("GET /{$}", http.RedirectHandler("/_sandbox/", http.StatusSeeOther))
		mux.Handle("/_sandbox/", sameOrigin.Handler(s.controlRoutes()))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	return mux
}

// ServeHTTP makes the sandbox an [http.Handler].
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Stats counts what the sandbox was asked since it was made.
type Stats struct {
	Authorizations int           `json:"authorizations"` // valid authorize requests
	SignIns        int           `json:"sign_ins"`       // passwords accepted
	SignInFailures int           `json:"sign_in_failures"`
	Allowed        int           `json:"allowed"`
	Denied         int           `json:"denied"`
	TokenRequests  int           `json:"token_requests"` // all, refused ones included
	Exchanges      int           `json:"exchanges"`      // codes turned into a grant
	Refreshes      int           `json:"refreshes"`      // refresh tokens accepted
	APIRequests    int           `json:"api_requests"`   // with a valid access token
	Throttled      int           `json:"throttled"`      // refused by a rate limit, tokens and API
	Faults         map[Fault]int `json:"faults"`         // how often each fault struck
}

// Stats returns a copy of the counts.
func (s *Sandbox) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Faults = maps.Clone(s.stats.Faults)
	return stats
}

// count changes the statistics.
func (s *Sandbox) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// sweep forgets what has expired. The caller holds the lock.
func (s *Sandbox) sweep(now time.Time) {
	if now.Sub(s.swept) < sweepEvery {
		return
	}
	s.swept = now
	for id, session := range s.sessions {
		if !session.alive(now) {
			delete(s.sessions, id)
		}
	}
	for value, code := range s.codes {
		if now.After(code.expires) {
			delete(s.codes, value)
		}
	}
	for hash, token := range s.access {
		if now.After(token.expires) {
			delete(s.access, hash)
		}
	}
	for hash, pass := range s.passes {
		if now.After(pass.expires) {
			delete(s.passes, hash)
		}
	}
	for value, token := range s.refresh {
		if token.grant.idle(now) {
			delete(s.refresh, value)
		}
	}
}

// checkBaseURL also keeps the sandbox from posing as the provider.
func checkBaseURL(base string) error {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || base != u.Scheme+"://"+u.Host {
		return fmt.Errorf("base URL %q: give scheme and host alone, such as http://127.0.0.1:9090", base)
	}
	host := "." + strings.ToLower(u.Hostname())
	if slices.ContainsFunc([]string{".constantcontact.com", ".cc.email", ".ctctcdn.com"}, func(theirs string) bool {
		return strings.HasSuffix(host, theirs)
	}) {
		return fmt.Errorf("base URL %q: the sandbox does not stand at the provider's own hosts", base)
	}
	return nil
}

// keysPath is where the keys of an issuer are served, whatever its host.
func keysPath(issuer string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || strings.ContainsAny(u.Path, "{}") {
		return "", fmt.Errorf("issuer %q: give an absolute URL", issuer)
	}
	return strings.TrimSuffix(u.Path, "/") + "/v1/keys", nil
}

// secret returns 43 characters that nobody can guess.
func secret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // crypto/rand.Read never fails
	return base64.RawURLEncoding.EncodeToString(raw)
}
