package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/cmd/countersign/internal/web"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/inbox"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/bulk"
	"github.com/countersign/countersign/provisioning/once"
	"github.com/countersign/countersign/provisioning/queue"
)

const (
	mailConnections = 10               // to the mail server, kept by one process
	drainTime       = 20 * time.Second // that running requests and jobs have when the process is told to end
	foldInterval    = 15 * time.Second
	sweepPause      = time.Minute

	// readingLimit is how long a replica reads the mailbox before any of them goes on with it.
	readingLimit = time.Hour

	// bulkLimit is enough for millions of clients; a replica that ends hands the rest over.
	bulkLimit = 12 * time.Hour
	// importLimit is enough for the largest file.
	importLimit = time.Hour

	// reconcileLimit is enough for millions of accounts; a call that hangs ends long before.
	reconcileLimit = 12 * time.Hour
)

func (p *program) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the service: pages, API and mail",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(p.envFile)
			if err != nil {
				return err
			}
			return p.serve(cmd.Context(), c)
		},
	}
}

// gcPercent lets garbage grow to four times what is in use, which is little: collecting it at every doubling took a
// fifth of the time that pages take. Who sets GOGC decides otherwise.
const gcPercent = 400

// serve runs until ctx ends, then lets what runs finish.
func (p *program) serve(ctx context.Context, c config) (err error) {
	if set := debug.SetGCPercent(gcPercent); set != 100 {
		debug.SetGCPercent(set)
	}
	log := p.logger()
	metrics := newMetrics()
	a, err := openApp(ctx, c, log, metrics.count)
	if err != nil {
		return err
	}
	last := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, a.close(last)) }()
	if a.keeper != nil {
		a.keeper.Count = metrics.countRefresh
	}
	for _, missing := range c.missing() {
		log.WarnContext(ctx, "a setting is missing", "effect", missing)
	}
	service, err := a.start(ctx, metrics)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "Countersign serves %s\n", c.PublicURL)
	if err := p.offerSetup(ctx, a); err != nil {
		return errors.Join(err, service.stop(last))
	}
	select {
	case <-ctx.Done():
		log.InfoContext(ctx, "ending: running requests and mails may finish")
	case err = <-service.failed:
	}
	return errors.Join(err, service.stop(last))
}

// offerSetup prints a one-time link to set up the first operator, if there is none yet.
func (p *program) offerSetup(ctx context.Context, a *app) error {
	link, err := a.admin.SetupLink(ctx)
	if errors.Is(err, admin.ErrSetUp) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.out, "There is no operator yet. Set up the first one here, within a day:\n\n  %s\n\n", a.admin.URL(link))
	return err
}

// missing says in words what cannot work yet for want of a setting.
func (c *config) missing() []string {
	var missing []string
	if c.namer == nil {
		missing = append(missing, "no roster can be imported: set "+prefix+"AGENCY_MAILBOX, from which usernames are made")
	}
	if c.SMTPURL == "" {
		missing = append(missing, "mails wait and are not sent: set "+prefix+"SMTP_URL")
	}
	if c.OAuthClientID == "" {
		missing = append(missing, "owners cannot consent: set "+prefix+"OAUTH_CLIENT_ID and "+prefix+"OAUTH_CLIENT_SECRET")
	}
	return missing
}

// service is an app at work.
type service struct {
	runner  *queue.Runner
	servers []*http.Server
	failed  chan error                    // of a server that ended by itself
	works   []func(context.Context) error // each ends work that goes on
}

// start serves pages and works jobs.
func (a *app) start(ctx context.Context, m *metrics) (*service, error) {
	s := &service{failed: make(chan error, 5)}
	site := a.web()
	pages, err := site.Handler()
	if err != nil {
		return nil, err
	}
	if err := s.listen(ctx, a.config.Listen, pages, site.EndStreams); err != nil {
		return nil, err
	}
	if a.config.MetricsListen != "" {
		if err := s.listen(ctx, a.config.MetricsListen, m.handler()); err != nil {
			return nil, errors.Join(err, s.stop(ctx))
		}
	}
	s.runner = &queue.Runner{Pool: a.db.Pool, Handlers: a.handlers(), Log: a.log}
	if err := s.runner.Start(ctx); err != nil {
		s.runner = nil
		return nil, errors.Join(err, s.stop(ctx))
	}
	s.run(ctx, "following the clock", func(ctx context.Context) error { return a.clock.follow(ctx, a.db.Pool, a.log) })
	if a.outbox != nil {
		s.run(ctx, "sending mail", a.outbox.Run)
	}
	if a.keeper != nil {
		s.run(ctx, "keeping grants", a.keeper.Run)
	}
	return s, nil
}

// run does work that goes on until the service is stopped, which waits for what is under way.
func (s *service) run(ctx context.Context, what string, work func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		err := work(ctx)
		if ctx.Err() == nil {
			s.failed <- fmt.Errorf("%s: %w", what, err)
		}
		ended <- err
	}()
	s.works = append(s.works, func(patience context.Context) error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-patience.Done():
			return fmt.Errorf("end %s: %w", what, context.Cause(patience))
		}
	})
}

// listen serves an address. At the shutdown atEnd is called, which ends the answers that nothing else would.
func (s *service) listen(ctx context.Context, address string, h http.Handler, atEnd ...func()) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	for _, end := range atEnd {
		server.RegisterOnShutdown(end)
	}
	s.servers = append(s.servers, server)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve %s: %w", address, err)
		}
	}()
	return nil
}

// stop takes no new work and gives what runs drainTime to finish.
func (s *service) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	// Mail and refreshes end while requests and jobs do: what is on its way takes as long as they.
	works := make(chan error, len(s.works))
	for _, end := range s.works {
		go func() { works <- end(ctx) }()
	}
	var errs []error
	for _, server := range s.servers {
		errs = append(errs, server.Shutdown(ctx))
	}
	if s.runner != nil {
		errs = append(errs, s.runner.Stop(ctx))
	}
	for range s.works {
		errs = append(errs, <-works)
	}
	return errors.Join(errs...)
}

// handlers are the jobs that this process works.
func (a *app) handlers() map[queue.Kind]queue.Handler {
	handlers := map[queue.Kind]queue.Handler{
		"fold_tally": {
			Every: foldInterval,
			Work:  func(ctx context.Context, _ queue.Running) error { return provisioning.FoldTally(ctx, a.db.Pool) },
		},
		"sort_search": {
			Every: foldInterval,
			Work:  func(ctx context.Context, _ queue.Running) error { return provisioning.SortSearch(ctx, a.db.Pool) },
		},
		"expire_invitations": {
			Every: sweepPause,
			Work:  func(ctx context.Context, _ queue.Running) error { return a.flow.Expire(ctx) },
		},
		"sweep_requests": {
			Every: sweepPause,
			Work:  func(ctx context.Context, _ queue.Running) error { return (&once.Store{DB: a.db.Pool}).Sweep(ctx) },
		},
		jobDoctor: {Limit: doctorLimit, Work: doctorReports{a}.work},
		"sweep_consents": {
			Every: sweepPause,
			Work:  func(ctx context.Context, _ queue.Running) error { return a.flow.Sweep(ctx) },
		},
	}
	handlers["sweep_managers"] = queue.Handler{
		Every: sweepPause,
		Work:  func(ctx context.Context, _ queue.Running) error { return a.managers.Sweep(ctx) },
	}
	if a.config.AgencyIMAPURL != "" {
		handlers["read_agency_mailbox"] = queue.Handler{
			Every: sweepPause,
			Limit: readingLimit,
			Work:  func(ctx context.Context, _ queue.Running) error { return a.readAgencyMailbox(ctx) },
		}
	}
	if a.partner != nil {
		handlers["check_partner"] = queue.Handler{
			Every: sweepPause,
			Limit: reconcileLimit,
			Work:  func(ctx context.Context, _ queue.Running) error { return a.partner.Work(ctx) },
		}
	}
	jobs := a.bulk()
	handlers[bulk.JobBulk] = queue.Handler{Limit: bulkLimit, Work: jobs.Work}
	handlers["sweep_bulk"] = queue.Handler{
		Every: sweepPause,
		Work:  func(ctx context.Context, _ queue.Running) error { return jobs.Sweep(ctx) },
	}
	if a.keeper != nil {
		handlers["sweep_refreshes"] = queue.Handler{
			Every: sweepPause,
			Work:  func(ctx context.Context, _ queue.Running) error { return a.keeper.Sweep(ctx) },
		}
	}
	if a.uploads != nil {
		handlers[provisioning.JobImport] = queue.Handler{Limit: importLimit, Work: a.uploads.Work}
		handlers["sweep_uploads"] = queue.Handler{
			Every: sweepPause,
			Work:  func(ctx context.Context, _ queue.Running) error { return a.uploads.Sweep(ctx) },
		}
	}
	if reconciliations := a.reconciliations(); reconciliations != nil {
		handlers[provisioning.JobReconcile] = queue.Handler{Limit: reconcileLimit, Work: reconciliations.Work}
		handlers["sweep_reconciliations"] = queue.Handler{
			Every: sweepPause,
			Work:  func(ctx context.Context, _ queue.Running) error { return reconciliations.Sweep(ctx) },
		}
	}
	if a.outbox != nil {
		handlers["remind"] = queue.Handler{
			Every: foldInterval,
			Work:  func(ctx context.Context, _ queue.Running) error { return a.reminders.Due(ctx) },
		}
	}
	if digests := a.digests(); digests != nil {
		handlers["digest"] = queue.Handler{
			Every: sweepPause,
			Work:  func(ctx context.Context, _ queue.Running) error { return digests.Due(ctx) },
		}
	}
	if a.returns != nil && a.config.IMAPURL != "" {
		handlers["read_mailbox"] = queue.Handler{
			Every: sweepPause,
			Limit: readingLimit,
			Work:  func(ctx context.Context, _ queue.Running) error { return a.readMailbox(ctx) },
		}
	}
	return handlers
}

// digests are nil without a mail server, or when nobody wants them.
func (a *app) digests() *notify.Digests {
	if a.outbox == nil || !a.config.digest {
		return nil
	}
	return &notify.Digests{
		DB:         a.db.Pool,
		Mailer:     a.mailer,
		Recipients: a.operatorAddresses,
		Zone:       a.config.zone,
		Link:       a.config.PublicURL + "/admin",
		Now:        a.clock.now,
	}
}

func (a *app) operatorAddresses(ctx context.Context) ([]string, error) {
	operators, err := a.admin.Operators(ctx)
	addresses := make([]string, len(operators))
	for i, o := range operators {
		addresses[i] = o.Email
	}
	return addresses, err
}

// readMailbox reads what comes back until ctx ends: of all replicas, the one that runs this job.
func (a *app) readMailbox(ctx context.Context) error {
	return a.watch(ctx, a.config.IMAPURL, "", func(ctx context.Context, name string, m inbox.Message) error {
		return a.returns.TakeFrom(ctx, name, m.UIDValidity, m.UID, m.Raw, m.Truncated)
	})
}

// readAgencyMailbox reads what the provider writes to new users until ctx ends, likewise. It may be the mailbox that
// readMailbox reads.
func (a *app) readAgencyMailbox(ctx context.Context) error {
	activations := &notify.Activations{
		DB: a.db.Pool, Taker: a.managers, Hosts: a.config.providerHosts(), Now: a.clock.now, Log: a.log,
	}
	return a.watch(ctx, a.config.AgencyIMAPURL, "activations in ", func(ctx context.Context, name string, m inbox.Message) error {
		return activations.TakeFrom(ctx, name, m.UIDValidity, m.UID, m.Raw, m.ReceivedAt)
	})
}

// watch hands out the messages of a mailbox until ctx ends. Whoever reads it for another end has a prefix of their own.
func (a *app) watch(
	ctx context.Context, address provisioning.Secret, prefix string, take func(ctx context.Context, name string, m inbox.Message) error,
) error {
	account, err := inbox.ParseURL(address.Reveal())
	if err != nil {
		return err
	}
	name := prefix + account.String()
	validity, uid, err := notify.Bookmark(ctx, a.db.Pool, name)
	if err != nil {
		return err
	}
	o := inbox.Options{Account: account, Log: a.log}
	from := inbox.Bookmark{UIDValidity: validity, UID: uid}
	err = inbox.Watch(ctx, o, from, func(ctx context.Context, m inbox.Message) error { return take(ctx, name, m) })
	if err != nil {
		return err
	}
	return queue.Later(0)
}

// providerHosts are those that a link in the provider's mails may lead to, or to one below them.
func (c *config) providerHosts() []string {
	u, err := url.Parse(c.AuthorizeURL)
	if err != nil {
		return nil
	}
	host := strings.ToLower(u.Hostname())
	if strings.HasSuffix(host, ".constantcontact.com") {
		return []string{"constantcontact.com"}
	}
	return []string{host}
}

// bulk does things to many clients.
func (a *app) bulk() *bulk.Jobs {
	return &bulk.Jobs{
		DB: a.db.Pool, Queue: a.jobs, Inviter: a.inviter, Reminders: a.reminders, Letters: a.mailer, Links: a.links,
	}
}

// reconciliations are nil without partner settings, as the reconciler is.
func (a *app) reconciliations() *provisioning.Reconciliations {
	if a.reconciler == nil {
		return nil
	}
	return &provisioning.Reconciliations{DB: a.db.Pool, Jobs: a.jobs, Reconciler: a.reconciler}
}

// sender is nil without a mail server.
func (a *app) sender() notify.Sender {
	if a.transport == nil {
		return nil
	}
	return a.transport
}

func (a *app) web() *web.Server {
	return &web.Server{
		Store:           a.store,
		Inviter:         a.inviter,
		Importer:        a.importer,
		Uploads:         a.uploads,
		Reconciliations: a.reconciliations(),
		Renamer:         a.renamer,
		Links:           a.links,
		Bulk:            a.bulk(),
		Flow:            a.flow,
		Managers:        a.managers,
		Partner:         a.partner,
		PasswordLink:    a.config.PasswordLink,
		Grants:          a.grants,
		Keeper:          a.keeper,
		Calls:           a.calls,
		Tokens:          a.tokens,
		Mailer:          a.mailer,
		Sender:          a.sender(),
		Pace:            a.config.pace,
		Stationery:      a.stationery,
		Switch:          a.mailSwitch,
		Reminders:       a.reminders,
		Returns:         a.returns,
		Admin:           a.admin,
		SignOn:          a.signOn(),
		Audit:           &audit.Store{DB: a.db.Pool},
		Once:            &once.Store{DB: a.db.Pool},
		Templates:       a.templates,
		Scopes:          a.config.scopes(),
		PublicURL:       a.config.PublicURL,
		Proxies:         a.config.TrustedProxies,
		Version:         version(),
		Settings:        a.settings(),
		Doctor:          doctorReports{a},
		Ready:           a.db.Pool.Ping,
		Now:             a.clock.now,
		Log:             a.log,
	}
}

// metrics counts what this process does, for Prometheus.
type metrics struct {
	registry  *prometheus.Registry
	mails     *prometheus.CounterVec
	refreshes *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		mails: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_mail_attempts_total",
			Help: "Attempts to send a mail, by how they ended. repeated: sent again because a crash or a lost connection hid the outcome of the attempt before.",
		}, []string{"result"}),
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_refreshes_total",
			Help: "Attempts to refresh a grant, by how they ended. lost: the request was sent and its answer did not come. superseded: somebody else had stored newer tokens.",
		}, []string{"outcome"}),
	}
	m.registry.MustRegister(m.mails, m.refreshes, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) count(r notify.Result) { m.mails.WithLabelValues(string(r)).Inc() }

func (m *metrics) countRefresh(o grant.Outcome) { m.refreshes.WithLabelValues(string(o)).Inc() }

func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return mux
}

// serveUntil serves until ctx ends.
func serveUntil(ctx context.Context, listener net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	return server.Shutdown(ctx)
}
