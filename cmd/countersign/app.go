package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/manager"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations"
	"github.com/countersign/countersign/migrations/postgres"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/budget"
	"github.com/countersign/countersign/provisioning/constantcontact"
	"github.com/countersign/countersign/provisioning/partner"
	"github.com/countersign/countersign/provisioning/queue"
	"github.com/countersign/countersign/provisioning/roster"
	"github.com/countersign/countersign/templates"
)

// app is the program put together: every room with its neighbours plugged in.
type app struct {
	config     config
	log        *slog.Logger
	db         *postgres.Database
	clock      *clock
	jobs       *queue.Queue
	templates  *templates.Set
	store      *provisioning.Store
	inviter    *provisioning.Inviter
	importer   *provisioning.Importer   // nil without an agency mailbox: there is no username to give
	uploads    *provisioning.Uploads    // likewise
	reconciler *provisioning.Reconciler // nil without partner settings
	partner    *partner.Checker         // likewise
	renamer    *provisioning.Renamer    // nil without an agency mailbox
	links      *authflow.Links
	flow       *authflow.Flow
	grants     *grant.Store
	managers   *manager.Store
	keeper     *grant.Keeper // nil without an app at the provider
	calls      *budget.Meter // of the app's key, likewise
	tokens     *budget.Meter // of the token endpoint, likewise
	stationery *notify.Stationery
	mailer     *notify.Mailer
	reminders  *notify.Reminders
	outbox     *notify.Outbox  // nil without a mail server: messages wait
	transport  *smtp.Transport // likewise
	mailSwitch *notify.Switch
	returns    *notify.Returns // nil without a bounce address
	admin      *admin.Store
	unwatch    func() // ends watching the vault's keys
}

// openDatabase opens the database of the settings and brings it to the current schema.
func openDatabase(ctx context.Context, c config, log *slog.Logger) (*postgres.Database, error) {
	db, err := postgres.Open(ctx, postgres.Options{URL: c.DatabaseURL.Reveal(), DataDir: c.DataDir, Log: log})
	if err != nil {
		return nil, err
	}
	if err := migrations.Up(ctx, db.Pool, queue.Migrate); err != nil {
		return nil, errors.Join(err, db.Close(ctx))
	}
	return db, nil
}

// openApp wires everything. The caller closes it.
func openApp(ctx context.Context, c config, log *slog.Logger, count func(notify.Result)) (_ *app, err error) {
	db, err := openDatabase(ctx, c, log)
	if err != nil {
		return nil, err
	}
	a := &app{config: c, log: log, db: db, clock: new(clock)}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close(context.WithoutCancel(ctx)))
		}
	}()
	if err := a.clock.set(ctx, db.Pool); err != nil {
		return nil, err
	}
	keys, err := openVault(ctx, c, db)
	if err != nil {
		return nil, err
	}
	a.unwatch = keys.Watch(ctx, db.Pool, log)
	linkKey, err := keys.Secret(ctx, db.Pool, "link", 32)
	if err != nil {
		return nil, err
	}
	if a.jobs, err = queue.New(); err != nil {
		return nil, err
	}
	if a.templates, err = templates.New(); err != nil {
		return nil, err
	}
	a.store = &provisioning.Store{DB: db.Pool}
	a.admin = newAdmin(db, c)
	a.admin.Sealer, a.admin.LinkKey = keys, linkKey
	a.links = &authflow.Links{DB: db.Pool, Key: linkKey, PublicURL: c.PublicURL, Now: a.clock.now}
	if err := a.openMail(ctx, keys, count); err != nil {
		return nil, err
	}
	a.inviter = &provisioning.Inviter{DB: db.Pool, Linker: a.links, Mailer: a.mailer}
	if c.namer != nil {
		a.importer = &provisioning.Importer{DB: db.Pool, Namer: c.namer, Inviter: a.inviter, Mailbox: c.mailbox}
		a.uploads = provisioning.NewUploads(db.Pool, a.jobs, a.importer, provisioning.MaxUpload)
		a.renamer = &provisioning.Renamer{DB: db.Pool, Namer: c.namer}
		if c.checkDomains {
			a.importer.Domains = &roster.MailDomains{Resolver: net.DefaultResolver}
		}
	}
	a.grants = &grant.Store{DB: db.Pool, Vault: keys, Thanker: a.inviter, App: c.OAuthClientID, Scopes: c.scopes(), Now: a.clock.now}
	a.inviter.Grants = a.grants
	a.managers = &manager.Store{DB: db.Pool, Vault: keys, Renamer: a.renamer, Now: a.clock.now}
	a.flow = &authflow.Flow{
		DB:      db.Pool,
		Vault:   keys,
		Grants:  a.grants,
		Links:   a.links,
		Inviter: a.inviter,
		Scopes:  c.scopes(),
		Issuer:  c.ProviderIssuer,
		Issuers: c.issuers(),
		Now:     a.clock.now,
		Log:     log,
	}
	if err := a.openProvider(); err != nil {
		return nil, err
	}
	return a, nil
}

// openMail plugs together what writes, sends and follows up mail.
func (a *app) openMail(ctx context.Context, keys *vault.Vault, count func(notify.Result)) error {
	c, db := &a.config, a.db.Pool
	a.stationery = &notify.Stationery{
		DB: db, Templates: a.templates, Settings: c.letterhead(), Scopes: c.scopes(), PublicURL: c.PublicURL,
	}
	a.mailSwitch = &notify.Switch{DB: db, Log: a.log}
	a.mailer = &notify.Mailer{
		DB:         db,
		Linker:     a.links,
		Stationery: a.stationery,
		From:       c.MailFrom,
		Reminders:  len(c.reminders),
		Now:        a.clock.now,
		Log:        a.log,
	}
	if c.dkim != nil {
		a.mailer.DKIM = &notify.DKIM{Domain: c.DKIMDomain, Selector: c.DKIMSelector, Key: c.dkim}
	}
	a.reminders = &notify.Reminders{DB: db, Mailer: a.mailer, Days: c.reminders, Zone: c.zone, Now: a.clock.now, Log: a.log}
	if c.BounceAddress != "" {
		key, err := keys.Secret(ctx, db, "returns", 32)
		if err != nil {
			return err
		}
		if a.mailer.Returns, err = notify.NewReturnPaths(c.BounceAddress, key); err != nil {
			return err
		}
		a.returns = &notify.Returns{DB: db, Paths: a.mailer.Returns, Control: a.mailSwitch, Log: a.log}
	}
	a.mailer.Entries = a.admin
	if c.SMTPURL == "" {
		return nil
	}
	a.admin.Mailer = a.mailer
	var err error
	a.transport, err = smtp.New(smtp.Options{URL: c.SMTPURL.Reveal(), MaxConns: mailConnections, Log: a.log})
	if err != nil {
		return err
	}
	a.outbox = &notify.Outbox{
		DB:          db,
		Mailer:      a.mailer,
		Sender:      a.transport,
		Connections: mailConnections,
		Pace:        c.pace,
		Planner:     a.reminders,
		Now:         a.clock.now,
		Log:         a.log,
		Count:       count,
		Drain:       drainTime / 2,
	}
	return nil
}

// issuers are what a callback's iss may be, or the origins that it may have, unless the provider's issuer is known.
func (c *config) issuers() []string {
	origins := authflow.Origins(c.AuthorizeURL, c.TokenURL)
	if c.AuthorizeURL == constantcontact.DefaultAuthorizeURL {
		return append(origins, constantcontact.DefaultIssuer)
	}
	return origins
}

// openKeys reads the keys of the settings or, with the private server, those of its key file.
func openKeys(c config) (*vault.Vault, error) {
	if c.vault != nil {
		return c.vault, nil
	}
	return vault.OpenKeyFile(c.keyFile())
}

// openVault reads the keys and sees to it that they belong to the database.
func openVault(ctx context.Context, c config, db *postgres.Database) (*vault.Vault, error) {
	keys, err := openKeys(c)
	if err != nil {
		return nil, err
	}
	return keys, keys.Check(ctx, db.Pool)
}

func (a *app) close(ctx context.Context) error {
	if a.unwatch != nil {
		a.unwatch()
	}
	var mail error
	if a.transport != nil {
		mail = a.transport.Close(ctx)
	}
	return errors.Join(mail, a.db.Close(ctx))
}

// letterhead is what owners are told about who writes and on whose behalf.
func (c *config) letterhead() templates.Letterhead {
	return templates.Letterhead{
		Agency:       c.AgencyName,
		ReplyTo:      cmp.Or(c.MailReplyTo, c.MailFrom),
		Provider:     "Constant Contact",
		ProviderHost: hostOf(c.AuthorizeURL),
		Host:         hostOf(c.PublicURL),
	}
}

// hostOf returns the host of a checked URL, without the first label where that is only a server's name.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	host := u.Host
	if strings.HasSuffix(host, ".constantcontact.com") {
		return "constantcontact.com"
	}
	return host
}
