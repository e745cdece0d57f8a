package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations"
	"github.com/countersign/countersign/migrations/postgres"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/inbox"
	"github.com/countersign/countersign/notify/mailhost"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
)

const (
	// doctorPatience bounds each of the doctor's exchanges with a server: no answer for so long is an answer.
	doctorPatience = 30 * time.Second
	// probePoll is how often the mailbox is looked into, should the server not tell of new mail.
	probePoll = 5 * time.Second
	// probeSize is how much of each new mail is read. The probe is shorter.
	probeSize = 64 << 10
	// skewNoticed and skewTooMuch are how far the clocks of the program and of the database may be apart: events are dated
	// by either.
	skewNoticed = 2 * time.Second
	skewTooMuch = time.Minute
)

// check is a line of the doctor's report.
type check struct {
	Name   string      `json:"name"`
	Status checkStatus `json:"status"`
	Found  string      `json:"found"`
	Cure   string      `json:"cure"` // empty where there is nothing to do
}

type checkStatus string

const (
	checkOK   checkStatus = "ok"
	checkWarn checkStatus = "warn" // works, but not as it should
	checkFail checkStatus = "fail"
	checkSkip checkStatus = "skip" // not examined: a setting or an earlier check stands before it
)

func (p *program) doctorCommand() *cobra.Command {
	d := &doctor{log: p.quietLogger(), waiting: p.waitBar}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check settings, database, keys, clock and mail, and say what to do",
		Long: "Doctor examines what the service depends on and prints a line for each: ok, warn, fail or skip, what was\n" +
			"found, and the cure. It changes nothing; a private database that does not run is started meanwhile. It\n" +
			"exits with 1 if something failed.\n\n" +
			"With --plus it sends two mails to the agency mailbox, one of them to a username such as a client would get,\n" +
			"and waits for them by IMAP: so you learn that your mail host drops plus addresses before invitations go out.\n" +
			"The two mails stay in the mailbox and may be deleted.\n\n" +
			"With --mail it sends a mail to an address of yours, signed as the service signs. If COUNTERSIGN_IMAP_URL is its\n" +
			"mailbox, doctor waits for it there and tells what the receiving server found out about SPF, DKIM and DMARC.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.wait <= 0 {
				return fmt.Errorf("--wait %s: there must be some time to wait, such as 2m", d.wait)
			}
			if err := d.checkRecipient(); err != nil {
				return err
			}
			d.envFile = p.envFile
			if err := p.report(d.examine(cmd.Context()), asJSON); err != nil {
				return err
			}
			return cmd.Context().Err() // An interrupted examination proves nothing.
		},
	}
	cmd.Flags().BoolVar(&d.plus, "plus", false, "send a mail to a plus address of the agency mailbox and wait for it")
	cmd.Flags().StringVar(&d.mail, "mail", "", "send a test mail to this address of yours")
	cmd.Flags().DurationVar(&d.wait, "wait", 2*time.Minute, "how long --plus and --mail wait for the mail")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// report prints checks, each as soon as it is made, and fails if one of them did.
func (p *program) report(checks iter.Seq[check], asJSON bool) error {
	var all []check
	sound := true
	for c := range checks {
		all = append(all, c)
		sound = sound && c.Status != checkFail
		if !asJSON {
			printCheck(p.out, c)
		}
	}
	if asJSON {
		err := json.NewEncoder(p.out).Encode(struct {
			OK     bool    `json:"ok"`
			Checks []check `json:"checks"`
		}{sound, all})
		if err != nil {
			return err
		}
	}
	if !sound {
		return exit(exitFailed)
	}
	return nil
}

func printCheck(w io.Writer, c check) {
	fmt.Fprintf(w, "%-4s  %-21s  %s\n", c.Status, c.Name, c.Found)
	if c.Cure != "" {
		fmt.Fprintf(w, "%27s  cure: %s\n", "", c.Cure)
	}
}

// waitBar shows on a terminal how much of a wait is over, until it is told the end.
func (p *program) waitBar(what string, wait time.Duration) (end func()) {
	const tick = 100 * time.Millisecond
	b := p.newBar(what, int64(wait/tick))
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				_, _ = b.Write([]byte{0}) // It never fails.
			case <-ending:
				b.end()
				return
			}
		}
	}()
	return func() {
		close(ending)
		<-ended
	}
}

// doctor examines what the service depends on, once. What one check opens, the next ones use.
type doctor struct {
	envFile string
	plus    bool
	mail    string // address of the test mail, empty for none
	wait    time.Duration
	log     *slog.Logger
	waiting func(what string, wait time.Duration) (end func())

	running *app // that asks for it; nil for the command, which reads the settings and opens the database itself

	config    config
	db        *postgres.Database // nil until it is open
	migrated  bool               // the database has tables
	transport *smtp.Transport    // nil until it has been signed in
	account   *inbox.Account     // nil without one
	mailbox   *inbox.Mailbox     // nil until it has been opened
}

// examine makes the checks, in an order in which each can rely on those before it.
func (d *doctor) examine(ctx context.Context) iter.Seq[check] {
	return func(yield func(check) bool) {
		defer d.close(context.WithoutCancel(ctx))
		sound := true
		for _, c := range d.checkSettings() {
			sound = sound && c.Status != checkFail
			c.Name = "settings"
			if !yield(c) {
				return
			}
		}
		for _, next := range []struct {
			name string
			make func(context.Context) []check
		}{
			{"database", one(d.checkDatabase)},
			{"vault keys", one(d.checkVault)},
			{"clock", one(d.checkClock)},
			{"usernames", one(d.checkUsernames)},
			{"SMTP", one(d.checkSMTP)},
			{"IMAP", one(d.checkIMAP)},
			{"mail domains", d.checkDomains},
			{"plus-address delivery", one(d.checkPlus)},
			{"test mail", one(d.checkTrial)},
		} {
			checks := []check{skipped("not examined, as the settings have mistakes", "")}
			if sound {
				checks = next.make(ctx)
			}
			if ctx.Err() != nil {
				return
			}
			for _, c := range checks {
				c.Name = cmp.Or(c.Name, next.name)
				if !yield(c) {
					return
				}
			}
		}
	}
}

func one(examine func(context.Context) check) func(context.Context) []check {
	return func(ctx context.Context) []check { return []check{examine(ctx)} }
}

func (d *doctor) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	if d.mailbox != nil {
		d.mailbox.Close(ctx)
	}
	if d.transport != nil {
		_ = d.transport.Close(ctx) // Nothing is under way.
	}
	if d.db != nil && d.running == nil {
		if err := d.db.Close(ctx); err != nil {
			d.log.WarnContext(ctx, "the database was not closed", "error", err)
		}
	}
}

func passed(found string) check        { return check{Status: checkOK, Found: found} }
func warning(found, cure string) check { return check{Status: checkWarn, Found: found, Cure: cure} }
func failure(found, cure string) check { return check{Status: checkFail, Found: found, Cure: cure} }
func skipped(found, cure string) check { return check{Status: checkSkip, Found: found, Cure: cure} }

// failureBy reports an error with the cure that it knows itself, or else with this one.
func failureBy(err error, cure string) check {
	if known, ok := errors.AsType[interface {
		error
		Cure() string
	}](err); ok {
		cure = known.Cure()
	}
	return failure(oneLine(err), cure)
}

// oneLine tells an error on one line, however many it has.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// checkSettings reads the settings. Each mistake in them is a line of its own.
func (d *doctor) checkSettings() (checks []check) {
	const cure = "correct it in the environment or the --env-file; the README lists the settings"
	var err error
	if d.running != nil {
		d.config = d.running.config
	} else if d.config, err = loadConfig(d.envFile); err != nil {
		headline, mistakes, several := strings.Cut(err.Error(), ":\n")
		if !several {
			mistakes = headline
		}
		for mistake := range strings.Lines(mistakes) {
			checks = append(checks, failure(strings.TrimSpace(mistake), cure))
		}
	}
	for _, name := range strangeSettings(d.envFile) {
		checks = append(checks, warning(name+" is set, but is no setting of this program", cure))
	}
	if err == nil && d.config.OAuthClientID != "" && !d.config.pkce {
		checks = append(checks, warning("PKCE is off, so that nothing but our secret keeps others from redeeming an owner's code",
			"set "+prefix+"OAUTH_PKCE=on, unless the app at the provider refuses it"))
	}
	if checks == nil {
		checks = append(checks, passed("no mistakes"))
	}
	return checks
}

// strangeSettings returns the names in the environment that look like settings and are none: most of them will be slips.
func strangeSettings(envFile string) (names []string) {
	environment, _ := readEnvironment(envFile) // Its mistakes are told by loadConfig.
	fields, err := env.GetFieldParamsWithOptions(&config{}, env.Options{Prefix: prefix})
	if err != nil {
		return nil
	}
	for _, field := range fields {
		delete(environment, field.Key)
	}
	for _, secret := range secretSettings() {
		delete(environment, prefix+secret+"_FILE")
	}
	for name := range environment {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (d *doctor) checkDatabase(ctx context.Context) check {
	where, cure := "at "+prefix+"DATABASE_URL", "see that the server runs and can be reached, and correct "+prefix+"DATABASE_URL"
	if d.config.DatabaseURL == "" {
		where, cure = "private, in "+d.config.DataDir, "the server's own words are in "+filepath.Join(d.config.DataDir, "postgres.log")
		if _, err := os.Stat(filepath.Join(d.config.DataDir, "postgres")); errors.Is(err, fs.ErrNotExist) {
			return skipped("there is none yet in "+d.config.DataDir, "the first serve, import or migrate makes it; or set "+
				prefix+"DATABASE_URL to use a server of yours")
		}
	}
	db, err := d.openDatabase(ctx)
	if err != nil {
		return failureBy(err, cure)
	}
	d.db = db
	var version string
	if err := db.Pool.QueryRow(ctx, `SELECT current_setting('server_version')`).Scan(&version); err != nil {
		return failureBy(err, cure)
	}
	current, latest, err := migrations.Status(ctx, db.Pool)
	if err != nil {
		return failureBy(err, "the account of the database URL needs all rights on its database")
	}
	d.migrated = current > 0
	found := fmt.Sprintf("PostgreSQL %s %s, schema version %d", version, where, current)
	switch {
	case current > latest:
		return failure(found+fmt.Sprintf(", while this program knows versions up to %d", latest),
			"start the newer version of the program, or restore the backup made before the upgrade")
	case current < latest:
		return warning(found+fmt.Sprintf(", while this program needs version %d", latest),
			"run countersign migrate, or any other command: all of them bring it up to date")
	}
	return passed(found)
}

// openDatabase opens the database, or returns the one that is open already.
func (d *doctor) openDatabase(ctx context.Context) (*postgres.Database, error) {
	if d.running != nil {
		return d.running.db, nil
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	return postgres.Open(ctx, postgres.Options{URL: d.config.DatabaseURL.Reveal(), DataDir: d.config.DataDir, Log: d.log})
}

// checkVault opens what the vault keeps for this purpose. It does so in a transaction that is taken back, because the vault
// would make it for a new database.
func (d *doctor) checkVault(ctx context.Context) check {
	if !d.migrated {
		return skipped("needs a database that has its tables", "")
	}
	keys, missing := d.config.vault, false
	if keys == nil {
		var err error
		if keys, missing, err = d.keyFile(); err != nil {
			return failureBy(err, "restore "+d.config.keyFile()+" from the backup")
		}
	}
	tx, err := d.db.Pool.Begin(ctx)
	if err != nil {
		return failureBy(err, "see the check of the database")
	}
	defer func() { _ = tx.Rollback(ctx) }()
	err = keys.Check(ctx, tx)
	switch {
	case missing && err == nil:
		return skipped("there is no key yet", "the first serve or import makes "+d.config.keyFile())
	case missing:
		return failure(d.config.keyFile()+" is gone, and the database has secrets that were sealed with the key in it",
			"restore it from the backup: nothing else opens them")
	case err != nil:
		found, cure, _ := strings.Cut(oneLine(err), "; ")
		return failure(found, cure)
	}
	return passed("they belong to this database")
}

// keyFile reads the private server's key. It makes none: a missing one is replaced by a key that opens nothing.
func (d *doctor) keyFile() (keys *vault.Vault, missing bool, err error) {
	if _, err := os.Stat(d.config.keyFile()); errors.Is(err, fs.ErrNotExist) {
		keys, err = vault.ParseKeys(vault.GenerateKey("doctor"))
		return keys, true, err
	}
	keys, err = vault.OpenKeyFile(d.config.keyFile())
	return keys, false, err
}

func (d *doctor) checkClock(ctx context.Context) check {
	if d.db == nil {
		return skipped("needs the database", "")
	}
	var theirs time.Time
	begin := time.Now()
	if err := d.db.Pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&theirs); err != nil {
		return failureBy(err, "see the check of the database")
	}
	trip := time.Since(begin)
	skew := begin.Add(trip / 2).Sub(theirs).Round(time.Millisecond) // give or take half of trip
	found := fmt.Sprintf("%s here, %s from the database's", begin.UTC().Format(time.RFC3339), skew.Abs())
	const cure = "let both machines follow a time server (timedatectl set-ntp true)"
	switch away := skew.Abs() - trip/2; {
	case away > skewTooMuch:
		return failure(found, cure)
	case away > skewNoticed:
		return warning(found, cure)
	}
	return passed(found)
}

func (d *doctor) checkUsernames(context.Context) check {
	if d.config.namer == nil {
		return skipped(prefix+"AGENCY_MAILBOX is not set, so that no roster can be imported",
			"set it to the mailbox that gets the mail for all usernames, such as agency@example.com")
	}
	return passed(fmt.Sprintf("%s with %s: Acme Bakery would be %s", d.config.UsernamePattern, d.config.AgencyMailbox,
		d.config.namer.Parts("Acme Bakery", "ACME-1").Wanted))
}

func (d *doctor) checkSMTP(ctx context.Context) check {
	if d.config.SMTPURL == "" {
		return skipped(prefix+"SMTP_URL is not set, so that mails wait", "set it to your mail server, such as smtp://user:password@mail.example.com:587")
	}
	transport, err := smtp.New(smtp.Options{URL: d.config.SMTPURL.Reveal(), Timeout: doctorPatience})
	if err != nil {
		return failureBy(err, "")
	}
	if err := transport.Verify(ctx); err != nil {
		return failureBy(err, "")
	}
	d.transport = transport
	server, err := smtp.ParseURL(d.config.SMTPURL.Reveal())
	if err != nil {
		return failureBy(err, "")
	}
	return passed(server.Address() + signedIn(server))
}

// checkIMAP opens the mailbox of bounces and the agency's, and keeps the last of them open: where there are both, that
// is the one to which the mail for usernames comes.
func (d *doctor) checkIMAP(ctx context.Context) check {
	if d.config.IMAPURL == "" && d.config.AgencyIMAPURL == "" {
		return skipped(prefix+"IMAP_URL is not set, so that nothing reads the agency mailbox",
			"set it to that mailbox, such as imaps://user:password@mail.example.com:993")
	}
	var found []string
	for _, address := range []provisioning.Secret{d.config.IMAPURL, d.config.AgencyIMAPURL} {
		if address == "" {
			continue
		}
		account, err := inbox.ParseURL(address.Reveal())
		if err != nil {
			return failureBy(err, "")
		}
		if d.mailbox != nil {
			d.mailbox.Close(ctx)
		}
		d.account = account
		if d.mailbox, err = d.openMailbox(ctx); err != nil {
			return failureBy(err, "")
		}
		found = append(found, account.Address()+signedIn(account)+", folder "+account.Folder)
	}
	return passed(strings.Join(found, "; and "))
}

func (d *doctor) openMailbox(ctx context.Context) (*inbox.Mailbox, error) {
	return inbox.Open(ctx, inbox.Options{Account: d.account, MaxMessage: probeSize, Poll: probePoll, Timeout: doctorPatience})
}

// signedIn says how a mail server was reached.
func signedIn(server *mailhost.Server) string {
	how := map[mailhost.Security]string{
		mailhost.StartTLS:    " with STARTTLS",
		mailhost.ImplicitTLS: " with TLS",
		mailhost.NoTLS:       " in the clear",
	}[server.Security]
	if server.Username == "" {
		return how + ", without signing in"
	}
	return how + ", signed in as " + server.Username
}

func (d *doctor) checkPlus(ctx context.Context) check {
	if !d.plus {
		return skipped("not tried", "countersign doctor --plus sends a mail to a plus address of the agency mailbox and waits for it")
	}
	if d.config.namer == nil || d.transport == nil || d.mailbox == nil {
		return skipped("needs usernames, SMTP and IMAP in order", "")
	}
	mailbox, err := provisioning.ParseMailbox(d.config.AgencyMailbox)
	if err != nil {
		return failureBy(err, "")
	}
	probe := &notify.Probe{
		Sender:  d.transport,
		Inbox:   d.mailbox,
		From:    d.config.MailFrom,
		Mailbox: mailbox,
		Namer:   d.config.namer,
		Wait:    d.wait,
	}
	end := d.waiting("waiting for mail to "+mailbox.String(), d.wait)
	proof, err := probe.Run(ctx)
	end()
	if err != nil {
		return failureBy(err, "run it again; if it stays so, look into the mail server's log")
	}
	return d.judge(proof, mailbox)
}

// judge puts a proof into words.
func (d *doctor) judge(proof notify.Proof, mailbox provisioning.Mailbox) check {
	_, detail, _ := proof.Username.Split()
	ability, cure := "the mail host does not know plus addresses",
		"switch plus addresses on at the mail host (Postfix and Dovecot: recipient_delimiter = +; Exchange Online: "+
			"DisablePlusAddressInRecipients false), or set "+prefix+"USERNAME_PATTERN to one without +, such as {local}{n}@{domain}, "+
			"and have the host deliver those addresses to the mailbox"
	preface := ""
	if detail == "" {
		preface = "the pattern has no +, so that no plus address is needed; "
		ability, cure = "the mail host does not know the addresses that the pattern gives",
			"have the mail host deliver the addresses that "+d.config.UsernamePattern+" gives to "+mailbox.String()+
				", as aliases or by a catch-all"
	}
	switch proof.Outcome {
	case notify.OutcomeArrived:
		found := fmt.Sprintf("%smail to %s arrived, and its %s names that address", preface, proof.Username, proof.Header)
		if proof.Header == "To" {
			found += " (it has no Delivered-To, so that it rests with the sender)"
		}
		return passed(found)
	case notify.OutcomeStripped:
		found := fmt.Sprintf("%smail to %s arrived, but the mail host has written down %s", preface, proof.Username,
			cmp.Or(proof.Recipient, "no recipient"))
		if proof.Header == "" {
			return warning(found+": mails for different clients cannot be told apart",
				"have the mail host leave To as it is and keep the whole address in Delivered-To (Postfix: propagate_unmatched_extensions)")
		}
		return warning(found+"; only "+proof.Header+", which is up to the sender, names the address",
			"to tell mails apart for certain, have the mail host keep the whole address in Delivered-To (Postfix: propagate_unmatched_extensions)")
	case notify.OutcomeRefused:
		return failure(fmt.Sprintf("%s%s (%s is accepted): %s; %s", preface, ability, mailbox, proof.Username, proof.Refusal), cure)
	case notify.OutcomeLost:
		return failure(fmt.Sprintf("%smail to %s arrived, mail to %s did not within %s: %s, or files such mail elsewhere",
			preface, mailbox, proof.Username, d.wait, ability),
			"look for it in the spam folder and in a folder named after the tag; "+cure)
	case notify.OutcomeNoSuch:
		return failure(fmt.Sprintf("mail to %s is refused: %s", mailbox, proof.Refusal),
			"set "+prefix+"AGENCY_MAILBOX to an address that exists")
	case notify.OutcomeNothing:
		return failure(fmt.Sprintf("no mail to %s arrived within %s, neither to the bare address nor to %s", mailbox, d.wait, proof.Username),
			prefix+"IMAP_URL must be the account and the folder into which mail to "+mailbox.String()+
				" comes; look into the spam folder and the mail server's log, or wait longer with --wait")
	}
	return failure("the outcome is unknown: "+string(proof.Outcome), "")
}
