package main

import (
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/joho/godotenv"
	"golang.org/x/net/idna"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/cmd/countersign/internal/web"
	"github.com/countersign/countersign/migrations/postgres"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/inbox"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
)

// config is what a user sets by environment variables. README.md describes each.
type config struct {
	DatabaseURL   provisioning.Secret `env:"DATABASE_URL"`
	DataDir       string              `env:"DATA_DIR"`
	Listen        string              `env:"LISTEN" envDefault:"127.0.0.1:8080"`
	PublicURL     string              `env:"PUBLIC_URL"`
	MetricsListen string              `env:"METRICS_LISTEN"`
	VaultKeys     provisioning.Secret `env:"VAULT_KEYS"`

	TrustedProxies []string `env:"TRUSTED_PROXIES" envDefault:"127.0.0.0/8,::1"`

	AgencyName      string `env:"AGENCY_NAME"`
	AgencyMailbox   string `env:"AGENCY_MAILBOX"`
	UsernamePattern string `env:"USERNAME_PATTERN" envDefault:"{local}+{slug}@{domain}"`
	UsernameMax     string `env:"USERNAME_MAX" envDefault:"50"`
	MailDomainCheck string `env:"MAIL_DOMAIN_CHECK" envDefault:"on"`

	AgencyIMAPURL provisioning.Secret `env:"AGENCY_IMAP_URL"`
	PasswordLink  string              `env:"PASSWORD_LINK"`

	SMTPURL     provisioning.Secret `env:"SMTP_URL"`
	MailFrom    string              `env:"MAIL_FROM"`
	MailReplyTo string              `env:"MAIL_REPLY_TO"`
	IMAPURL     provisioning.Secret `env:"IMAP_URL"`

	MailRate       string              `env:"MAIL_RATE" envDefault:"0"`
	MailDomainRate string              `env:"MAIL_DOMAIN_RATE" envDefault:"0"`
	MailRamp       string              `env:"MAIL_RAMP" envDefault:"0"`
	BounceAddress  string              `env:"BOUNCE_ADDRESS"`
	DKIMKey        provisioning.Secret `env:"DKIM_KEY"`
	DKIMSelector   string              `env:"DKIM_SELECTOR" envDefault:"countersign"`
	DKIMDomain     string              `env:"DKIM_DOMAIN"`
	DNS            string              `env:"DNS"`

	Reminders string `env:"REMINDERS" envDefault:"3,7,14"`
	TimeZone  string `env:"TIME_ZONE" envDefault:"UTC"`
	Digest    string `env:"DIGEST" envDefault:"on"`

	OAuthClientID     string              `env:"OAUTH_CLIENT_ID"`
	OAuthClientSecret provisioning.Secret `env:"OAUTH_CLIENT_SECRET"`
	OAuthScopes       string              `env:"OAUTH_SCOPES" envDefault:"account_read contact_data campaign_data offline_access"`
	OAuthPKCE         string              `env:"OAUTH_PKCE" envDefault:"on"`
	OAuthPrompt       string              `env:"OAUTH_PROMPT" envDefault:"login"`

	PartnerClientID     string              `env:"PARTNER_CLIENT_ID"`
	PartnerClientSecret provisioning.Secret `env:"PARTNER_CLIENT_SECRET"`
	PartnerAPIKey       provisioning.Secret `env:"PARTNER_API_KEY"`
	PartnerTokenURL     string              `env:"PARTNER_TOKEN_URL"`

	AuthorizeURL string `env:"PROVIDER_AUTHORIZE_URL"`
	TokenURL     string `env:"PROVIDER_TOKEN_URL"`
	APIURL       string `env:"PROVIDER_API_URL"`

	ProviderRate  string `env:"PROVIDER_RATE" envDefault:"4"`
	ProviderDaily string `env:"PROVIDER_DAILY" envDefault:"10000"`
	TokenRate     string `env:"PROVIDER_TOKEN_RATE" envDefault:"1"`

	ProviderIssuer string `env:"PROVIDER_ISSUER"`

	SSOIssuer       string              `env:"SSO_ISSUER"`
	SSOClientID     string              `env:"SSO_CLIENT_ID"`
	SSOClientSecret provisioning.Secret `env:"SSO_CLIENT_SECRET"`
	SSODomains      string              `env:"SSO_DOMAINS"`
	SSORole         string              `env:"SSO_ROLE" envDefault:"viewer"`
	SSOName         string              `env:"SSO_NAME"`

	// What follows is derived while the settings are checked.

	mailbox      provisioning.Mailbox // zero without an agency mailbox
	namer        *provisioning.Namer  // nil without an agency mailbox
	usernameMax  int
	checkDomains bool
	pace         notify.Pace
	dkim         crypto.Signer // nil if mail is not signed here
	reminders    []int         // days
	zone         *time.Location
	digest       bool
	vault        *vault.Vault // nil with the private server: its key file is read when it is opened
	pkce         bool
	ssoDomains   []string   // in lower case
	ssoRole      admin.Role // of newcomers; empty if there are to be none

	providerRate, providerDaily, tokenRate int // 0 sets no limit

	given map[string]bool // the settings that somebody set, by name without the prefix
}

const prefix = "COUNTERSIGN_"

// secretSettings may also be given as the path of a file, in a variable of the same name and _FILE.
func secretSettings() []string {
	return []string{"DATABASE_URL", "VAULT_KEYS", "SMTP_URL", "IMAP_URL", "AGENCY_IMAP_URL", "DKIM_KEY", "OAUTH_CLIENT_SECRET", "SSO_CLIENT_SECRET", "PARTNER_CLIENT_SECRET", "PARTNER_API_KEY"}
}

// readEnvironment returns the environment, with the lines of envFile where it says nothing itself and
// with the content of the files that _FILE variables name.
func readEnvironment(envFile string) (map[string]string, error) {
	environment := make(map[string]string)
	var mistakes []error
	if envFile != "" {
		lines, err := godotenv.Read(envFile)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("  --env-file: %w", err))
		}
		maps.Copy(environment, lines)
	}
	for _, line := range os.Environ() { //nolint:forbidigo // This is the one place.
		name, value, _ := strings.Cut(line, "=")
		environment[name] = value
	}
	for _, name := range secretSettings() {
		name = prefix + name
		path := environment[name+"_FILE"]
		if path == "" {
			continue
		}
		if environment[name] != "" {
			mistakes = append(mistakes, fmt.Errorf("  %s and %s_FILE are both set: remove one", name, name))
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("  %s_FILE: %w", name, err))
			continue
		}
		environment[name] = strings.TrimSpace(string(content))
	}
	return environment, errors.Join(mistakes...)
}

// loadConfig reads and checks the settings. Its error names every mistake, each with its cure.
func loadConfig(envFile string) (config, error) {
	environment, unread := readEnvironment(envFile)
	c, err := env.ParseAsWithOptions[config](env.Options{Prefix: prefix, Environment: environment})
	if err != nil {
		return config{}, err // All settings are texts, so that check finds every mistake.
	}
	c.given = make(map[string]bool)
	for name, value := range environment {
		if short, ours := strings.CutPrefix(name, prefix); ours && value != "" {
			c.given[short] = true
		}
	}
	// Here an empty text says something else than no text at all.
	for name, text := range map[string]*string{"OAUTH_PROMPT": &c.OAuthPrompt, "REMINDERS": &c.Reminders, "SSO_ROLE": &c.SSORole} {
		if value, set := environment[prefix+name]; set && value == "" {
			*text = ""
		}
	}
	if c.DataDir == "" && c.DatabaseURL == "" {
		c.DataDir, err = postgres.DefaultDataDir(environment["XDG_DATA_HOME"])
		if err != nil {
			return config{}, err
		}
	}
	if err := errors.Join(unread, c.check()); err != nil {
		return config{}, fmt.Errorf("the settings have mistakes:\n%w", err)
	}
	return c, nil
}

// check completes the settings and returns all mistakes together.
func (c *config) check() error {
	var mistakes []error
	mistake := func(name, format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("  "+prefix+name+": "+format, args...))
	}
	if host, _, err := net.SplitHostPort(c.Listen); err != nil {
		mistake("LISTEN", "%q is not host:port, such as 127.0.0.1:8080", c.Listen)
	} else if c.PublicURL == "" {
		if host == "" || host == "0.0.0.0" || host == "::" {
			host = "localhost"
		}
		_, port, _ := net.SplitHostPort(c.Listen)
		c.PublicURL = "http://" + net.JoinHostPort(host, port)
	}
	c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	if err := checkPublicURL(c.PublicURL); err != nil {
		mistake("PUBLIC_URL", "%w", err)
	}
	for _, proxy := range c.TrustedProxies {
		_, notNetwork := netip.ParsePrefix(proxy)
		if _, notAddress := netip.ParseAddr(proxy); notNetwork != nil && notAddress != nil {
			mistake("TRUSTED_PROXIES", "%q is neither an address nor a network, such as 10.0.0.0/8", proxy)
		}
	}
	if c.MetricsListen != "" {
		if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
			mistake("METRICS_LISTEN", "%q is not host:port, such as 127.0.0.1:9090", c.MetricsListen)
		}
	}
	if c.VaultKeys != "" {
		keys, err := vault.ParseKeys(c.VaultKeys.Reveal())
		if err != nil {
			mistake("VAULT_KEYS", "%w", err)
		}
		c.vault = keys
	} else if c.DatabaseURL != "" {
		mistake("VAULT_KEYS", "is needed with a database URL, as every replica must have the same keys: "+
			"set it to id=KEY, where KEY comes from: openssl rand -base64 32")
	}
	c.checkUsernames(mistake)
	c.checkMail(mistake)
	c.checkProvider(mistake)
	c.checkPartner(mistake)
	c.checkSignOn(mistake)
	return errors.Join(mistakes...)
}

func (c *config) checkUsernames(mistake func(string, string, ...any)) {
	var badLimit, badSwitch, badMailbox error
	if c.usernameMax, badLimit = strconv.Atoi(c.UsernameMax); badLimit != nil {
		mistake("USERNAME_MAX", "%q is not a number, such as 50", c.UsernameMax)
	}
	if c.checkDomains, badSwitch = parseSwitch(c.MailDomainCheck); badSwitch != nil {
		mistake("MAIL_DOMAIN_CHECK", "%w", badSwitch)
	}
	_, badPattern := provisioning.ParsePattern(c.UsernamePattern)
	if badPattern != nil {
		mistake("USERNAME_PATTERN", "%w", badPattern)
	}
	if c.AgencyMailbox == "" {
		return
	}
	if c.mailbox, badMailbox = provisioning.ParseMailbox(c.AgencyMailbox); badMailbox != nil {
		mistake("AGENCY_MAILBOX", "%w", badMailbox)
	}
	if badLimit != nil || badPattern != nil || badMailbox != nil {
		return
	}
	c.AgencyName = cmp.Or(c.AgencyName, c.mailbox.Domain)
	namer, err := c.newNamer(c.UsernamePattern)
	if err != nil {
		mistake("USERNAME_PATTERN", "with this mailbox and %sUSERNAME_MAX: %w", prefix, err)
	}
	c.namer = namer
}

// newNamer makes a namer of another pattern for the agency's mailbox.
func (c *config) newNamer(pattern string) (*provisioning.Namer, error) {
	parsed, err := provisioning.ParsePattern(pattern)
	if err != nil {
		return nil, err
	}
	return provisioning.NewNamer(parsed, c.mailbox, c.usernameMax)
}

func parseSwitch(s string) (on bool, err error) {
	switch strings.ToLower(s) {
	case "on", "true", "1", "yes":
		return true, nil
	case "off", "false", "0", "no":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither on nor off", s)
}

func (c *config) checkMail(mistake func(string, string, ...any)) {
	if c.SMTPURL != "" {
		if _, err := smtp.ParseURL(c.SMTPURL.Reveal()); err != nil {
			mistake("SMTP_URL", "%w", err)
		}
	}
	for name, mailbox := range map[string]provisioning.Secret{"IMAP_URL": c.IMAPURL, "AGENCY_IMAP_URL": c.AgencyIMAPURL} {
		if mailbox == "" {
			continue
		}
		if _, err := inbox.ParseURL(mailbox.Reveal()); err != nil {
			mistake(name, "%w", err)
		}
	}
	if err := checkPasswordLink(c.PasswordLink); err != nil {
		mistake("PASSWORD_LINK", "%w", err)
	}
	if c.MailFrom == "" {
		c.MailFrom = c.AgencyMailbox
	}
	for name, address := range map[string]*string{
		"MAIL_FROM": &c.MailFrom, "MAIL_REPLY_TO": &c.MailReplyTo, "BOUNCE_ADDRESS": &c.BounceAddress,
	} {
		if *address == "" {
			continue
		}
		parsed, err := mail.ParseAddress(*address)
		if err != nil {
			mistake(name, "%q is not a mail address, such as hello@example.com", *address)
			continue
		}
		local, domain, _ := strings.Cut(parsed.Address, "@")
		domain, err = idna.Lookup.ToASCII(domain) // The domain goes into every Message-ID as well.
		if err != nil {
			mistake(name, "the domain of %q: %w", *address, err)
			continue
		}
		*address = local + "@" + domain
	}
	if c.SMTPURL != "" && c.MailFrom == "" {
		mistake("MAIL_FROM", "is needed to send mail: set it to the address that owners see, such as hello@example.com")
	}
	c.checkPace(mistake)
	c.checkDKIM(mistake)
	c.checkReminders(mistake)
}

// checkPasswordLink accepts an https address with placeholders, and nothing that a browser would run.
func checkPasswordLink(pattern string) error {
	if pattern == "" {
		return nil
	}
	filled := strings.NewReplacer("{username}", "u", "{ref}", "r", "{id}", "i").Replace(pattern)
	u, err := url.Parse(filled)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.ContainsAny(filled, "{}") {
		return fmt.Errorf("%q is not an https address with the placeholders {username}, {ref} or {id}, such as https://vault.example.com/search?q={username}", pattern)
	}
	return nil
}

func (c *config) checkPace(mistake func(string, string, ...any)) {
	for name, rate := range map[string]struct {
		text  string
		value *float64
	}{"MAIL_RATE": {c.MailRate, &c.pace.Rate}, "MAIL_DOMAIN_RATE": {c.MailDomainRate, &c.pace.DomainRate}} {
		value, err := strconv.ParseFloat(rate.text, 64)
		if err != nil || value < 0 || math.IsInf(value, 0) || math.IsNaN(value) {
			mistake(name, "%q is not a number of mails a second, such as 5 or 0.5; 0 sets no limit", rate.text)
			continue
		}
		*rate.value = value
	}
	var err error
	if c.pace.Ramp, err = strconv.Atoi(c.MailRamp); err != nil || c.pace.Ramp < 0 {
		mistake("MAIL_RAMP", "%q is not a number of mails for the first day, such as 200; 0 sets no limit", c.MailRamp)
	}
}

// checkDKIM comes when the sender's address has been checked.
func (c *config) checkDKIM(mistake func(string, string, ...any)) {
	if c.DKIMKey == "" {
		return
	}
	var err error
	if c.dkim, err = notify.ParseDKIMKey(c.DKIMKey.Reveal()); err != nil {
		mistake("DKIM_KEY", "%w", err)
	}
	if c.DKIMDomain == "" {
		_, c.DKIMDomain, _ = strings.Cut(c.MailFrom, "@")
	}
	if c.DKIMDomain, err = idna.Lookup.ToASCII(c.DKIMDomain); err != nil {
		mistake("DKIM_DOMAIN", "%w", err)
	}
	if c.DKIMSelector == "" {
		mistake("DKIM_SELECTOR", "is needed with a key: it is the first part of the record's name, SELECTOR._domainkey.%s", c.DKIMDomain)
	}
}

func (c *config) checkReminders(mistake func(string, string, ...any)) {
	c.reminders = []int{}
	for field := range strings.SplitSeq(c.Reminders, ",") {
		field = strings.TrimSpace(field)
		if field == "" {
			continue
		}
		days, err := strconv.Atoi(field)
		if err != nil || days < 1 || days > 365 {
			mistake("REMINDERS", "%q is not a list of days, such as 3,7,14: each is counted from the mail before; an empty list sends none", c.Reminders)
			break
		}
		c.reminders = append(c.reminders, days)
	}
	var err error
	if c.zone, err = time.LoadLocation(c.TimeZone); err != nil {
		mistake("TIME_ZONE", "%q is not a time zone, such as Europe/Madrid", c.TimeZone)
		c.zone = time.UTC
	}
	if c.digest, err = parseSwitch(c.Digest); err != nil {
		mistake("DIGEST", "%w", err)
	}
	if c.DNS != "" {
		if _, _, err := net.SplitHostPort(c.DNS); err != nil {
			mistake("DNS", "%q is not host:port of a name server, such as 127.0.0.1:53", c.DNS)
		}
	}
}

func (c *config) checkProvider(mistake func(string, string, ...any)) {
	for url, standard := range map[*string]string{
		&c.AuthorizeURL: constantcontact.DefaultAuthorizeURL,
		&c.TokenURL:     constantcontact.DefaultTokenURL,
		&c.APIURL:       constantcontact.DefaultAPIURL,
	} {
		if *url == "" {
			*url = standard
		}
	}
	var err error
	if c.pkce, err = parseSwitch(c.OAuthPKCE); err != nil {
		mistake("OAUTH_PKCE", "%w", err)
	}
	if err := checkIssuer(c.ProviderIssuer); err != nil {
		mistake("PROVIDER_ISSUER", "%w", err)
	}
	for name, limit := range map[string]struct {
		text, what string
		value      *int
	}{
		"PROVIDER_RATE":       {c.ProviderRate, "of calls a second, such as 4", &c.providerRate},
		"PROVIDER_DAILY":      {c.ProviderDaily, "of calls a day, such as 10000", &c.providerDaily},
		"PROVIDER_TOKEN_RATE": {c.TokenRate, "of token requests a second, such as 1", &c.tokenRate},
	} {
		var err error
		if *limit.value, err = strconv.Atoi(limit.text); err != nil || *limit.value < 0 {
			mistake(name, "%q is not a number %s; 0 sets no limit", limit.text, limit.what)
		}
	}
	if c.OAuthClientID == "" {
		return
	}
	if _, err := constantcontact.New(c.provider()); err != nil {
		mistakes := strings.TrimSpace(err.Error())
		mistake("PROVIDER_… and OAUTH_…", "%s", mistakes)
	}
}

// checkPartner comes after checkProvider, which completes the API's address.
func (c *config) checkPartner(mistake func(string, string, ...any)) {
	c.PartnerTokenURL = cmp.Or(c.PartnerTokenURL, constantcontact.DefaultPartnerTokenURL)
	given := map[string]bool{
		"PARTNER_CLIENT_ID":     c.PartnerClientID != "",
		"PARTNER_CLIENT_SECRET": c.PartnerClientSecret != "",
		"PARTNER_API_KEY":       c.PartnerAPIKey != "",
	}
	var missing []string
	for name, set := range given {
		if !set {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	switch len(missing) {
	case len(given):
		return
	case 0:
		if _, err := constantcontact.NewPartner(c.partner()); err != nil {
			mistake("PARTNER_TOKEN_URL and PROVIDER_API_URL", "%w", err)
		}
	default:
		for _, name := range missing {
			mistake(name, "is needed beside the other partner settings: set it, or none of them")
		}
	}
}

func (c *config) checkSignOn(mistake func(string, string, ...any)) {
	if c.SSOIssuer == "" {
		return
	}
	if err := checkIssuer(c.SSOIssuer); err != nil {
		mistake("SSO_ISSUER", "%w", err)
	}
	c.SSOName = cmp.Or(c.SSOName, hostOf(c.SSOIssuer))
	if c.SSOClientID == "" {
		mistake("SSO_CLIENT_ID", "is needed with an issuer: it comes from registering there, with the redirect URI %s", c.PublicURL+web.SignOnPath)
	}
	for domain := range strings.FieldsFuncSeq(c.SSODomains, func(r rune) bool { return r == ',' || r == ' ' }) {
		if strings.Contains(domain, "@") || !strings.Contains(domain, ".") {
			mistake("SSO_DOMAINS", "%q is not a domain, such as agency.example; several are separated by commas", domain)
		}
		c.ssoDomains = append(c.ssoDomains, strings.ToLower(domain))
	}
	if c.SSORole == "" {
		return
	}
	var err error
	if c.ssoRole, err = admin.ParseRole(c.SSORole); err != nil {
		mistake("SSO_ROLE", "%w; empty lets in only people who are operators already, or invited", err)
	} else if len(c.ssoDomains) == 0 {
		mistake("SSO_DOMAINS", "is needed, as everybody whom the issuer knows would be let in: set it to your addresses' domains, "+
			"or set %sSSO_ROLE to an empty text", prefix)
	}
}

func (c *config) partner() constantcontact.PartnerConfig {
	return constantcontact.PartnerConfig{
		ClientID:     c.PartnerClientID,
		ClientSecret: c.PartnerClientSecret,
		APIKey:       c.PartnerAPIKey,
		TokenURL:     c.PartnerTokenURL,
		APIURL:       c.APIURL,
	}
}

func (c *config) provider() constantcontact.Config {
	return constantcontact.Config{
		ClientID:     c.OAuthClientID,
		ClientSecret: c.OAuthClientSecret,
		Scopes:       c.scopes(),
		PKCE:         c.pkce,
		Prompt:       c.OAuthPrompt,
		RedirectURL:  c.PublicURL + "/oauth/callback",
		AuthorizeURL: c.AuthorizeURL,
		TokenURL:     c.TokenURL,
		APIURL:       c.APIURL,
	}
}

func (c *config) scopes() []string { return strings.Fields(c.OAuthScopes) }

// keyFile is where the private server's vault key lives.
func (c *config) keyFile() string { return filepath.Join(c.DataDir, "vault.key") }

// checkPublicURL demands https of everything that another machine could reach: links, cookies and
// consent must not travel in the clear.
func checkPublicURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return fmt.Errorf("%q is not a plain address such as https://connect.example.com", raw)
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q must begin with https://; http:// is for this machine only (localhost)", raw)
}

// checkIssuer takes what RFC 8414 calls an issuer identifier, and http of this machine only. It is kept as
// it is written: it is compared letter by letter.
func checkIssuer(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return nil
	case err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(raw, "?# "):
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q is not the name that the provider gives itself, such as https://login.example.com: without ? and #", raw)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}
