package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// mailOptions say what is measured.
type mailOptions struct {
	mails       int   // of each run
	connections []int // of each run
	sink        string
	delay       time.Duration // of each answer, in the last runs
	delayed     int           // mails of the runs with delay
}

// benchMail sends invitations to a sink in another process, over so many connections: from the queue to the
// row that says that it was accepted, personalised, without and with a signature. Beside each stands a
// bare loop that writes mails of the same bytes to the same sink in the same dialogue.
func benchMail(ctx context.Context, out io.Writer, pool *pgxpool.Pool, folder string, o mailOptions) error {
	address, stop, err := startSink(ctx, o.sink)
	if err != nil {
		return err
	}
	defer stop()
	office, err := newOffice(pool)
	if err != nil {
		return err
	}
	runs := 2*len(o.connections) + 2
	path := filepath.Join(folder, "owners.csv")
	if err := writeRoster(path, 0, runs*o.mails); err != nil {
		return err
	}
	if err := office.load(ctx, path, runs*o.mails); err != nil {
		return err
	}
	sample, err := office.sample(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d mails a run, of %d bytes\n", o.mails, len(sample.Body))
	fmt.Fprintf(out, "%11s %12s %12s %12s %14s\n", "connections", "bare loop", "Countersign", "bare : ours", "ours, signed")
	for _, connections := range o.connections {
		bare, err := bareLoop(ctx, address, connections, o.mails, sample)
		if err != nil {
			return err
		}
		plain, err := office.send(ctx, smtp.Options{URL: "smtp://" + address + "?tls=none", MaxConns: connections}, o.mails)
		if err != nil {
			return err
		}
		office.mailer.DKIM = office.dkim
		signed, err := office.send(ctx, smtp.Options{URL: "smtp://" + address + "?tls=none", MaxConns: connections}, o.mails)
		office.mailer.DKIM = nil
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%11d %10.0f/s %10.0f/s %12.1f %12.0f/s\n", connections, bare, plain, bare/plain, signed)
	}

	proxy, err := startProxy(ctx, address, o.delay)
	if err != nil {
		return err
	}
	defer proxy.close()
	fmt.Fprintf(out, "with %s a round trip, 10 connections, %d mails:\n", o.delay, o.delayed)
	for _, way := range []struct {
		name  string
		plain bool
	}{{"as much at once as the server lets us", false}, {"one command at a time", true}} {
		rate, err := office.send(ctx, smtp.Options{URL: "smtp://" + proxy.address + "?tls=none", MaxConns: 10, Plain: way.plain}, o.delayed)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-40s %8.0f/s\n", way.name, rate)
	}
	peak, err := peakMemory()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "most memory that this process ever had: %d MB\n", peak>>20)
	return nil
}

// office is all that mail needs.
type office struct {
	pool    *pgxpool.Pool
	inviter *provisioning.Inviter
	mailer  *notify.Mailer
	dkim    *notify.DKIM
	log     *slog.Logger
}

func newOffice(pool *pgxpool.Pool) (*office, error) {
	set, err := templates.New()
	if err != nil {
		return nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	links := &authflow.Links{DB: pool, Key: bytes.Repeat([]byte{7}, 32), PublicURL: "https://connect.agency.example", Now: time.Now}
	o := &office{
		pool: pool,
		log:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
		dkim: &notify.DKIM{Domain: "agency.example", Selector: "bench", Key: key},
		mailer: &notify.Mailer{
			DB:     pool,
			Linker: links,
			Stationery: &notify.Stationery{
				DB: pool, Templates: set, Scopes: []string{"account_read", "contact_data", "campaign_data", "offline_access"},
				Settings: templates.Letterhead{
					Agency: "Agency", ReplyTo: "help@agency.example", Provider: "Constant Contact",
					ProviderHost: "constantcontact.com", Host: "connect.agency.example",
				},
			},
			From:      "hello@agency.example",
			Reminders: 3,
			Now:       time.Now,
		},
	}
	o.mailer.Log = o.log
	o.inviter = &provisioning.Inviter{DB: pool, Linker: links, Mailer: o.mailer}
	return o, nil
}

// load imports clients.
func (o *office) load(ctx context.Context, path string, rows int) error {
	importer, err := newImporter(o.pool)
	if err != nil {
		return err
	}
	if _, err := timeImport(ctx, importer, path, provisioning.Import{Rows: rows, Created: rows}); err != nil {
		return err
	}
	_, err = o.pool.Exec(ctx, `VACUUM ANALYZE`)
	return err
}

// outbox sends what is queued.
func (o *office) outbox(sender notify.Sender, connections int) *notify.Outbox {
	return &notify.Outbox{DB: o.pool, Mailer: o.mailer, Sender: sender, Connections: connections, Now: time.Now, Log: o.log}
}

// queue queues n invitations to clients that have none.
func (o *office) queue(ctx context.Context, n int) error {
	rows, err := o.pool.Query(ctx, `SELECT id::text FROM clients WHERE stage = 'imported' ORDER BY id LIMIT $1`, n)
	if err != nil {
		return err
	}
	clients, err := collectStrings(rows)
	if err != nil {
		return err
	}
	invited, err := o.inviter.Invite(ctx, provisioning.Selection{Clients: clients}, provisioning.ActorCLI, false)
	if err == nil && invited.Queued != n {
		err = fmt.Errorf("%d of %d mails were queued", invited.Queued, n)
	}
	return err
}

// sample returns a mail.
func (o *office) sample(ctx context.Context) (smtp.Envelope, error) {
	if err := o.queue(ctx, 1); err != nil {
		return smtp.Envelope{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var sample smtp.Envelope
	err := o.outbox(senderFunc(func(e smtp.Envelope) {
		sample = e
		cancel()
	}), 1).Run(ctx)
	return sample, err
}

type senderFunc func(smtp.Envelope)

func (s senderFunc) Send(_ context.Context, e smtp.Envelope) error {
	s(e)
	return nil
}

// send queues n mails and returns how many a second are sent from then on.
func (o *office) send(ctx context.Context, options smtp.Options, n int) (rate float64, err error) {
	if err := o.queue(ctx, n); err != nil {
		return 0, err
	}
	transport, err := smtp.New(options)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, transport.Close(context.WithoutCancel(ctx))) }()
	running, stop := context.WithCancel(ctx)
	defer stop()
	var accepted atomic.Int64
	outbox := o.outbox(transport, options.MaxConns)
	outbox.Count = func(r notify.Result) {
		if r == notify.ResultAccepted && accepted.Add(1) == int64(n) {
			stop()
		}
	}
	began := time.Now()
	if err := outbox.Run(running); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var sent int
	err = o.pool.QueryRow(ctx, `SELECT count(*) FROM messages WHERE state = 'sent' AND sent_at > now() - make_interval(secs => $1)`,
		time.Since(began).Seconds()+1).Scan(&sent)
	if err == nil && sent < n {
		err = fmt.Errorf("%d of %d mails are recorded as sent", sent, n)
	}
	return float64(n) / took.Seconds(), err
}

// bareLoop sends one mail n times and returns how many a second.
func bareLoop(ctx context.Context, address string, connections, n int, mail smtp.Envelope) (rate float64, err error) {
	began := time.Now()
	var left atomic.Int64
	left.Store(int64(n))
	errs := make([]error, connections)
	var loops sync.WaitGroup
	for i := range connections {
		loops.Go(func() { errs[i] = writeMails(ctx, address, &left, mail) })
	}
	loops.Wait()
	return float64(n) / time.Since(began).Seconds(), errors.Join(errs...)
}
