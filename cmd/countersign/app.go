package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/migrations"
	"github.com/countersign/countersign/migrations/postgres"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
	"github.com/countersign/countersign/provisioning/queue"
	"github.com/countersign/countersign/provisioning/roster"
	"github.com/countersign/countersign/templates"
)

// app is the program put together: every room with its neighbours plugged in.
type app struct {
	config     config
	log        *slog.Logger
	db         *postgres.Database
	jobs       *queue.Queue
	templates  *templates.Set
	store      *provisioning.Store
	inviter    *provisioning.Inviter
	importer   *provisioning.Importer   // nil without an agency mailbox: there is no username to give
	reconciler *provisioning.Reconciler // nil without partner settings
	renamer    *provisioning.Renamer    // nil without an agency mailbox
	links      *authflow.Links
	flow       *authflow.Flow
	stationery *notify.Stationery
	mailer     *notify.Mailer
	reminders  *notify.Reminders
	outbox     *notify.Outbox  // nil without a mail server: messages wait
	transport  *smtp.Transport // likewise
	mailSwitch *notify.Switch
	returns    *notify.Returns // nil without a bounce address
	admin      *admin.Store
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
	a := &app{config: c, log: log, db: db}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close(context.WithoutCancel(ctx)))
		}
	}()
	vault, err := openVault(ctx, c, db)
	if err != nil {
		return nil, err
	}
	linkKey, err := vault.Secret(ctx, db.Pool, "link", 32)
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
	a.admin = admin.New(db.Pool)
	a.links = &authflow.Links{DB: db.Pool, Key: linkKey, PublicURL: c.PublicURL, Now: time.Now}
	if err := a.openMail(ctx, vault, count); err != nil {
		return nil, err
	}
	a.inviter = &provisioning.Inviter{DB: db.Pool, Linker: a.links, Mailer: a.mailer}
	if c.namer != nil {
		a.importer = &provisioning.Importer{DB: db.Pool, Namer: c.namer, Inviter: a.inviter, Mailbox: c.mailbox}
		a.renamer = &provisioning.Renamer{DB: db.Pool, Namer: c.namer}
		if c.checkDomains {
			a.importer.Domains = &roster.MailDomains{Resolver: net.DefaultResolver}
		}
	}
	a.flow = &authflow.Flow{
		DB:      db.Pool,
		Vault:   vault,
		Links:   a.links,
		Inviter: a.inviter,
		Scopes:  c.scopes(),
		Issuers: c.issuers(),
		Now:     time.Now,
	}
	if c.PartnerClientID != "" {
		partner, err := constantcontact.NewPartner(c.partner())
		if err != nil {
			return nil, err
		}
		a.reconciler = &provisioning.Reconciler{DB: db.Pool, Partner: partner, Importer: a.importer}
	}
	if c.OAuthClientID != "" {
		if a.flow.Provider, err = constantcontact.New(c.provider()); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// openMail plugs together what writes, sends and follows up mail.
func (a *app) openMail(ctx context.Context, vault *authflow.Vault, count func(notify.Result)) error {
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
		Now:        time.Now,
		Log:        a.log,
	}
	if c.dkim != nil {
		a.mailer.DKIM = &notify.DKIM{Domain: c.DKIMDomain, Selector: c.DKIMSelector, Key: c.dkim}
	}
	a.reminders = &notify.Reminders{DB: db, Mailer: a.mailer, Days: c.reminders, Zone: c.zone, Now: time.Now, Log: a.log}
	if c.BounceAddress != "" {
		key, err := vault.Secret(ctx, db, "returns", 32)
		if err != nil {
			return err
		}
		if a.mailer.Returns, err = notify.NewReturnPaths(c.BounceAddress, key); err != nil {
			return err
		}
		a.returns = &notify.Returns{DB: db, Paths: a.mailer.Returns, Control: a.mailSwitch, Log: a.log}
	}
	if c.SMTPURL == "" {
		return nil
	}
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
		Now:         time.Now,
		Log:         a.log,
		Count:       count,
		Drain:       drainTime / 2,
	}
	return nil
}

// issuers are the origins that a callback's iss may have.
func (c *config) issuers() []string {
	if c.AuthorizeURL == constantcontact.DefaultAuthorizeURL {
		return authflow.Origins(c.AuthorizeURL, c.TokenURL, constantcontact.DefaultIssuer)
	}
	return authflow.Origins(c.AuthorizeURL, c.TokenURL)
}

// openVault reads the keys of the settings or, with the private server, those of its key file.
func openVault(ctx context.Context, c config, db *postgres.Database) (*authflow.Vault, error) {
	vault := c.vault
	if vault == nil {
		keys, err := authflow.LoadOrCreateKeyFile(c.keyFile())
		if err != nil {
			return nil, err
		}
		if vault, err = authflow.ParseVaultKeys(keys); err != nil {
			return nil, fmt.Errorf("%s: %w", c.keyFile(), err)
		}
	}
	return vault, vault.Check(ctx, db.Pool)
}

func (a *app) close(ctx context.Context) error {
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
