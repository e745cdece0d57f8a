package main

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/notify/inbox"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// settingGroups are the settings as a page shows them. What is in none of them is shown as the rest.
func settingGroups() []templates.SettingGroup {
	set := func(pairs ...string) (settings []templates.Setting) {
		for pair := range slices.Chunk(pairs, 2) {
			settings = append(settings, templates.Setting{Name: pair[0], Label: pair[1]})
		}
		return settings
	}
	return []templates.SettingGroup{
		{
			Title: "Agency", Link: templates.Link{URL: "/admin/mail/letterhead", Words: "Name, logo, colour and postal address of mails and pages"},
			Settings: set("AGENCY_NAME", "Name", "AGENCY_MAILBOX", "Mailbox of all usernames", "USERNAME_PATTERN", "Username",
				"USERNAME_MAX", "Longest username", "MAIL_DOMAIN_CHECK", "Look up mail domains of an import"),
		},
		{
			Title: "Provider", Link: templates.Link{URL: "/admin/provider", Words: "What is left of the provider’s limits"},
			Settings: set("OAUTH_CLIENT_ID", "Key of the app", "OAUTH_CLIENT_SECRET", "Secret of the app", "OAUTH_SCOPES", "Permissions",
				"OAUTH_PKCE", "PKCE", "OAUTH_PROMPT", "Prompt", "PROVIDER_AUTHORIZE_URL", "Consent page", "PROVIDER_TOKEN_URL", "Token endpoint",
				"PROVIDER_API_URL", "API", "PROVIDER_ISSUER", "Issuer", "PROVIDER_RATE", "Calls a second", "PROVIDER_DAILY", "Calls a day",
				"PROVIDER_TOKEN_RATE", "Token requests a second"),
		},
		{
			Title: "Mail server", Link: templates.Link{URL: "/admin/mail", Words: "How outgoing mail stands"},
			Settings: set("SMTP_URL", "Server", "MAIL_FROM", "From", "MAIL_REPLY_TO", "Answers go to", "MAIL_RATE", "Mails a second",
				"MAIL_DOMAIN_RATE", "Mails a second to a domain", "MAIL_RAMP", "Mails on the first day", "DKIM_KEY", "DKIM key",
				"DKIM_DOMAIN", "DKIM domain", "DKIM_SELECTOR", "DKIM selector", "DNS", "Name server of the doctor"),
		},
		{
			Title: "What comes back", Link: templates.Link{URL: "/admin/mail/reports", Words: "What came back to be read"},
			Settings: set("BOUNCE_ADDRESS", "Bounce address", "IMAP_URL", "Mailbox behind it"),
		},
		{
			Title: "Account Managers", Link: templates.Link{URL: "/admin/run", Words: "Run through those that are ready"},
			Note:     "The agency’s mailbox is read for the provider’s mails to new users.",
			Settings: set("AGENCY_IMAP_URL", "The agency’s mailbox", "PASSWORD_LINK", "Place of the passwords"),
		},
		{
			Title: "Reminders", Note: "Reminders go out on working days between 9 and 17 o’clock where the owner is.",
			Settings: set("REMINDERS", "Days after the mail before", "TIME_ZONE", "Zone of owners whose own is unknown", "DIGEST", "Daily digest for operators"),
		},
		{
			Title: "Vault and database", Note: "countersign vault status tells what is sealed with each key, and vault rotate seals everything with the first.",
			Settings: set("VAULT_KEYS", "Keys", "DATABASE_URL", "Database", "DATA_DIR", "Folder of the private database"),
		},
		{
			Title: "Single sign-on", Link: templates.Link{URL: "/admin/settings/sign-in", Words: "How operators sign in"},
			Settings: set("SSO_ISSUER", "Issuer", "SSO_NAME", "Name on the button", "SSO_CLIENT_ID", "Client", "SSO_CLIENT_SECRET", "Secret",
				"SSO_DOMAINS", "Domains that are let in", "SSO_ROLE", "Role of who comes in"),
		},
		{
			Title:    "Addresses",
			Settings: set("PUBLIC_URL", "Public address", "LISTEN", "Listens at", "METRICS_LISTEN", "Metrics at", "TRUSTED_PROXIES", "Trusted proxies"),
		},
		{
			Title: "Partner", Link: templates.Link{URL: "/admin/reconcile", Words: "Compare the roster with the provider’s list"},
			Settings: set("PARTNER_CLIENT_ID", "Key", "PARTNER_CLIENT_SECRET", "Secret", "PARTNER_API_KEY", "API key", "PARTNER_TOKEN_URL", "Token endpoint"),
		},
	}
}

// settings describes every setting of c, and tells no secret.
func (a *app) settings() []templates.SettingGroup {
	known := a.config.describe()
	groups := settingGroups()
	for i := range groups {
		for j, s := range groups[i].Settings {
			found := known[s.Name]
			delete(known, s.Name)
			found.Label = s.Label
			groups[i].Settings[j] = found
		}
	}
	rest := templates.SettingGroup{Title: "Other settings"}
	for name, s := range known {
		s.Label = strings.ReplaceAll(name[:1]+strings.ToLower(name[1:]), "_", " ")
		rest.Settings = append(rest.Settings, s)
	}
	if len(rest.Settings) > 0 {
		slices.SortFunc(rest.Settings, func(x, y templates.Setting) int { return cmp.Compare(x.Name, y.Name) })
		groups = append(groups, rest)
	}
	keys := "in " + a.config.keyFile()
	if a.config.vault != nil {
		keys = "in the environment"
	}
	word(groups, "VAULT_KEYS", strings.Join(a.grants.Vault.KeyIDs(), ", ")+", "+keys)
	return groups
}

// word replaces the value of a setting.
func word(groups []templates.SettingGroup, name, value string) {
	for i := range groups {
		for j := range groups[i].Settings {
			if groups[i].Settings[j].Name == prefix+name {
				groups[i].Settings[j].Value = value
			}
		}
	}
}

// describe returns every setting by its name without the prefix, with its value as people read it. A secret is only said
// to be set, but for what is no secret in an address.
func (c *config) describe() map[string]templates.Setting {
	all := make(map[string]templates.Setting)
	v := reflect.ValueOf(*c)
	for i, field := range reflect.VisibleFields(v.Type()) {
		name := field.Tag.Get("env")
		if name == "" {
			continue
		}
		s := templates.Setting{Name: prefix + name}
		switch value := v.Field(i).Interface().(type) {
		case provisioning.Secret:
			if value != "" {
				s.Value = "set"
			}
		case []string:
			s.Value = strings.Join(value, ", ")
		default:
			s.Value = fmt.Sprint(value)
		}
		s.Given = c.given[name]
		if c.given == nil { // They come from the program itself, as the demo's do.
			s.Given = s.Value != "" && s.Value != field.Tag.Get("envDefault")
		}
		all[name] = s
	}
	put := func(name, value string) {
		s := all[name]
		s.Value = value
		all[name] = s
	}
	if server, err := smtp.ParseURL(c.SMTPURL.Reveal()); err == nil && c.SMTPURL != "" {
		put("SMTP_URL", server.Address()+signedIn(server))
	}
	if account, err := inbox.ParseURL(c.IMAPURL.Reveal()); err == nil && c.IMAPURL != "" {
		put("IMAP_URL", account.String())
	}
	if account, err := inbox.ParseURL(c.AgencyIMAPURL.Reveal()); err == nil && c.AgencyIMAPURL != "" {
		put("AGENCY_IMAP_URL", account.String())
	}
	if c.DatabaseURL == "" {
		put("DATABASE_URL", "a private server")
	} else if db, err := pgconn.ParseConfig(c.DatabaseURL.Reveal()); err == nil {
		put("DATABASE_URL", fmt.Sprintf("%s at %s:%d", db.Database, db.Host, db.Port))
	}
	if c.namer != nil {
		put("USERNAME_PATTERN", fmt.Sprintf("%s: Acme Bakery becomes %s", c.UsernamePattern, c.namer.Parts("Acme Bakery", "ACME-1").Wanted))
	}
	return all
}
