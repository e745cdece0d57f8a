package main

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
	"github.com/countersign/countersign/provisioning/roster"
)

// demoRoster has 120 clients and some rows that an import rejects. Owners at closedDomain cannot be
// reached by mail.
//
//go:embed demo/roster.csv
var demoRoster []byte

const (
	closedDomain = "@closed-shop.example"
	demoOperator = "demo@northwind.example"
	// strangerLogin belongs to no client: an owner who signs in with it uses the wrong account.
	strangerLogin = "hello@somewhere-else.example"
	demoPassword  = "sandbox-27"
)

func (p *program) demoCommand() *cobra.Command {
	var walk bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show everything at work: a roster, mails, consents, with nothing to set up",
		Long: "Demo runs the service with a private database, an imitation of the provider and a mail server that keeps\n" +
			"what it gets, imports a roster of 120 clients and invites them all. Everything is clickable; nothing leaves\n" +
			"this machine, and nothing stays when it ends.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.demo(cmd.Context(), walk) },
	}
	cmd.Flags().BoolVar(&walk, "walk", false, "let simulated owners act: most consent; some decline, use a wrong account or forward the mail")
	return cmd
}

// demo runs until ctx ends.
func (p *program) demo(ctx context.Context, walk bool) (err error) {
	d, err := p.newDemo(ctx)
	last := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, d.end(last)) }()
	if err != nil {
		return err
	}
	if err := d.fill(ctx); err != nil {
		return err
	}
	if err := d.welcome(ctx, p.out, walk); err != nil {
		return err
	}
	if walk {
		go d.walk(ctx)
	}
	select {
	case <-ctx.Done():
		fmt.Fprintln(p.out, "\nEnding the demo; nothing of it stays.")
		return nil
	case err := <-d.failed:
		return err
	}
}

// demo is the whole world that the service lives in, and the service.
type demo struct {
	app     *app
	service *service
	sink    *mailsink.Sink
	mail    string // address of the sink's pages
	box     *sandbox.Sandbox
	boxURL  string
	clients []roster.Row
	servers []*http.Server
	failed  chan error
	dir     string
	log     *slog.Logger
}

func (p *program) newDemo(ctx context.Context) (*demo, error) {
	d := &demo{
		failed: make(chan error, 4),
		log:    p.quietLogger(),
		dir:    filepath.Join(os.TempDir(), "countersign-demo-"+strings.ToLower(rand.Text()[:8])),
	}
	if err := d.readRoster(); err != nil {
		return d, err
	}
	console, err := demoListener(ctx, "8080")
	if err != nil {
		return d, err
	}
	address := console.Addr().String()
	// The service listens for itself; until then the port is only found.
	if err := console.Close(); err != nil {
		return d, err
	}
	if err := d.startProvider(ctx, "http://"+address+"/oauth/callback"); err != nil {
		return d, err
	}
	smtpAddress, err := d.startMail(ctx)
	if err != nil {
		return d, err
	}
	c := config{
		DataDir:           d.dir,
		Listen:            address,
		AgencyName:        "Northwind Marketing",
		AgencyMailbox:     "agency@northwind.example",
		UsernamePattern:   "{local}+{slug}@{domain}",
		UsernameMax:       "50",
		MailDomainCheck:   "off", // nothing leaves the machine
		SMTPURL:           provisioning.Secret("smtp://" + smtpAddress + "?tls=none"),
		MailFrom:          "hello@northwind.example",
		MailRate:          "0",
		MailDomainRate:    "0",
		MailRamp:          "0",
		Reminders:         "3,7,14",
		TimeZone:          "UTC",
		Digest:            "off",
		OAuthClientID:     sandboxClientID,
		OAuthClientSecret: sandboxSecret,
		OAuthScopes:       "account_read contact_data campaign_data offline_access",
		OAuthPKCE:         "on",
		OAuthPrompt:       "login",
		AuthorizeURL:      d.boxURL + "/oauth2/default/v1/authorize",
		TokenURL:          d.boxURL + "/oauth2/default/v1/token",
		APIURL:            d.boxURL + "/v3",
		ProviderRate:      "4",
		ProviderDaily:     "10000",
		TokenRate:         "10",

		PartnerClientID:     sandboxPartnerID,
		PartnerClientSecret: sandboxPartnerSecret,
		PartnerAPIKey:       sandboxPartnerKey,
		PartnerTokenURL:     d.boxURL + "/partners/oauth2/default/v1/token",
	}
	if err := c.check(); err != nil {
		return d, err
	}
	if d.app, err = openApp(ctx, c, d.log, nil); err != nil {
		return d, err
	}
	d.service, err = d.app.start(ctx, nil)
	return d, err
}

// readRoster knows the good rows, from which the provider's accounts are made.
func (d *demo) readRoster() error {
	reader, err := roster.NewReader(bytes.NewReader(demoRoster), roster.Options{})
	if err != nil {
		return fmt.Errorf("the demo's roster: %w", err)
	}
	defer reader.Close()           //nolint:errcheck // It reads from memory.
	known := make(map[string]bool) // One row repeats another.
	for {
		row, reject, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the demo's roster: %w", err)
		}
		if reject == nil && !known[row.AccountID] {
			known[row.AccountID] = true
			d.clients = append(d.clients, row)
		}
	}
}

func (d *demo) startProvider(ctx context.Context, redirectURI string) error {
	listener, err := demoListener(ctx, "8082")
	if err != nil {
		return err
	}
	d.boxURL = "http://" + listener.Addr().String()
	accounts := []sandbox.Account{{
		ID: "a07esomewhere", Organization: "Somewhere Else Ltd.", ContactEmail: strangerLogin,
		Users: []sandbox.User{{Login: strangerLogin, Password: demoPassword, Role: sandbox.RoleOwner}},
	}}
	for i, name := range []string{"Harbor Light Books", "Old Pier Diner", "Fox Hollow Farm"} { // which only the provider knows
		accounts = append(accounts, sandbox.Account{
			ID: fmt.Sprintf("a07eelsewhere%d", i), Organization: name, ContactEmail: fmt.Sprintf("owner%d@elsewhere.example", i),
			PartnerID: sandbox.MadePartnerID, Unmanaged: i == 0,
		})
	}
	for _, c := range d.clients {
		first, last, _ := strings.Cut(c.OwnerName, " ")
		accounts = append(accounts, sandbox.Account{
			ID: c.AccountID, Organization: c.Name, FirstName: first, LastName: last, ContactEmail: c.OwnerEmail,
			PartnerID: sandbox.MadePartnerID,
			Users:     []sandbox.User{{Login: c.OwnerEmail, Password: demoPassword, Role: sandbox.RoleOwner}},
		})
	}
	d.box, err = sandbox.New(sandbox.Options{
		BaseURL: d.boxURL,
		Apps: []sandbox.App{{
			ClientID: sandboxClientID, Secret: sandboxSecret, Name: "Northwind Marketing", RedirectURIs: []string{redirectURI},
		}},
		Partners:  []sandbox.Partner{sandboxPartner()},
		Accounts:  accounts,
		Unlimited: true, // Impatient visitors and simulated owners press faster than the real thing allows.
		Control:   true,
		Now:       time.Now,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	d.serve(listener, d.box)
	return nil
}

// startMail starts the mail server and its pages, and returns the server's address.
func (d *demo) startMail(ctx context.Context) (string, error) {
	d.sink = mailsink.New(mailsink.Options{
		Now: time.Now,
		Rules: func(_, to string) *smtp.SMTPError {
			if strings.HasSuffix(strings.ToLower(to), closedDomain) {
				return mailsink.NoSuchUser()
			}
			return nil
		},
	})
	listener, err := demoListener(ctx, "0")
	if err != nil {
		return "", err
	}
	go func() {
		if err := d.sink.Serve(listener); err != nil {
			d.failed <- fmt.Errorf("the demo's mail server: %w", err)
		}
	}()
	pages, err := demoListener(ctx, "8081")
	if err != nil {
		return "", err
	}
	d.mail = "http://" + pages.Addr().String()
	d.serve(pages, d.sink.Handler())
	return listener.Addr().String(), nil
}

// demoListener takes the port, or any free one if somebody has it.
func demoListener(ctx context.Context, port string) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		listener, err = lc.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	return listener, err
}

func (d *demo) serve(listener net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	d.servers = append(d.servers, server)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			d.failed <- fmt.Errorf("the demo: %w", err)
		}
	}()
}

// fill imports and invites the roster, as an operator would.
func (d *demo) fill(ctx context.Context) error {
	_, err := d.app.importer.Import(ctx, bytes.NewReader(demoRoster), provisioning.ImportOptions{
		FileName: "roster.csv", Actor: provisioning.ActorCLI, Invite: true,
	})
	return err
}

// welcome says where everything is.
func (d *demo) welcome(ctx context.Context, out io.Writer, walk bool) error {
	operator, err := d.app.admin.CreateOperator(ctx, admin.NewOperator{
		Email: demoOperator, Name: "Demo", Role: admin.RoleOwner, Password: provisioning.Secret(rand.Text()),
	}, provisioning.ActorCLI)
	if err != nil {
		return err
	}
	link, err := d.app.admin.SignInLink(ctx, operator.Email, provisioning.ActorCLI)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `
Countersign demo: 120 clients, imported and invited. Nothing leaves this machine.

  Console   %s
            (signs you in, once)
  Mail      %s
            what the owners got; open one and press its link
  Provider  %s/_sandbox/
            its accounts; every password is %s

`, d.app.admin.URL(link), d.mail, d.boxURL, demoPassword)
	if walk {
		fmt.Fprint(out, "Simulated owners are on their way: watch the console.\n\n")
	} else {
		fmt.Fprint(out, "With --walk, simulated owners act by themselves.\n\n")
	}
	_, err = fmt.Fprintln(out, "Ctrl-C ends it.")
	return err
}

// end stops everything and removes what the demo has written.
func (d *demo) end(ctx context.Context) error {
	var errs []error
	if d.service != nil {
		errs = append(errs, d.service.stop(ctx))
	}
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	for _, server := range d.servers {
		errs = append(errs, server.Close())
	}
	if d.app != nil {
		errs = append(errs, d.app.close(ctx))
	}
	if d.sink != nil {
		errs = append(errs, d.sink.Shutdown(ctx))
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}
