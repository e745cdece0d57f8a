package notify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
)

// TestCrashedSender: what a dead sender had claimed is sent again, and that is counted.
func TestCrashedSender(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, acme)
	f.exec(t, `INSERT INTO mail_senders VALUES (gen_random_uuid(), now() - interval '1 minute')`)
	f.exec(t, `UPDATE messages SET sender_id = (SELECT id FROM mail_senders), claimed_at = clock_timestamp()`)
	stop := run(t, f.outbox)
	eventually(t, "its outcome counts as unknown", func() bool { return f.look(t).State == notify.StateUnknown })
	stop()
	if wait := ask[time.Duration](t, f, `SELECT due_at - attempted_at FROM messages`); wait != 30*time.Second {
		t.Errorf("it waits for %s, want 30s", wait)
	}
	f.expectMails(t, 0)
	f.deliver(t)
	f.expect(t, outcome{
		Stage: "invited", State: notify.StateSent, Attempts: 2, Unknown: 1, Events: "mail_repeated mail_accepted",
		Counts: map[notify.Result]int{notify.ResultRepeated: 1, notify.ResultAccepted: 1},
	})
	f.expectMails(t, 1)
}

// frozen is a database to which a sender cannot sign its presence, as if its process had been frozen when it had
// appeared, until it thaws.
type frozen struct {
	provisioning.DB

	thawed atomic.Bool
}

func (d *frozen) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if strings.Contains(sql, "UPDATE mail_senders") && !d.thawed.Load() {
		return pgconn.CommandTag{}, errors.New("frozen")
	}
	return d.DB.Exec(ctx, sql, args...)
}

// held is a sender that waits with its verdict.
type held struct {
	sending chan struct{}
	verdict chan struct{}
	err     error
}

func hold(err error) *held {
	return &held{sending: make(chan struct{}), verdict: make(chan struct{}), err: err}
}

func (h *held) Send(context.Context, smtp.Envelope) error {
	close(h.sending)
	<-h.verdict
	return h.err
}

// TestStunnedSender is frozen during its attempt. It has its verdict while another sender repeats the
// message, or when that has ended.
func TestStunnedSender(t *testing.T) {
	t.Parallel()
	refused := &smtp.Error{Kind: smtp.Permanent, Step: "RCPT TO", Code: 550, Text: "No such user"}
	deferred := &smtp.Error{Kind: smtp.Temporary, Step: "RCPT TO", Code: 451, Text: "Not now"}
	for name, tt := range map[string]struct {
		first, second error
		secondIsFirst bool // to have its verdict
		want          outcome
	}{
		"both accepted": {nil, nil, false, outcome{
			Stage: "invited", State: notify.StateSent, Attempts: 2, Events: "mail_repeated mail_accepted",
			Counts: map[notify.Result]int{notify.ResultRepeated: 1, notify.ResultAccepted: 1},
		}},
		"accepted, then deferred": {nil, deferred, false, outcome{
			Stage: "invited", State: notify.StateSent, Attempts: 2, Events: "mail_repeated mail_accepted",
			Counts: map[notify.Result]int{notify.ResultRepeated: 1, notify.ResultAccepted: 1},
		}},
		"deferred by the first, then accepted": {deferred, nil, false, outcome{
			Stage: "invited", State: notify.StateSent, Attempts: 2, Events: "mail_repeated mail_accepted",
			Counts: map[notify.Result]int{notify.ResultRepeated: 1, notify.ResultAccepted: 1},
		}},
		"accepted, late refusal by the first": {refused, nil, true, outcome{
			Stage: "invited", State: notify.StateSent, Attempts: 2, Events: "mail_repeated mail_accepted",
			Counts: map[notify.Result]int{notify.ResultRepeated: 1, notify.ResultAccepted: 1},
		}},
		"refused, late acceptance by the first": {nil, refused, true, outcome{
			Stage: "invited", State: notify.StateSent, Attempts: 3, Events: "mail_repeated mail_refused mail_accepted",
			Counts: map[notify.Result]int{notify.ResultRepeated: 1, notify.ResultRefused: 1, notify.ResultAccepted: 1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, mailsink.Options{})
			f.imports(t, acme)
			first, second := *f.outbox, *f.outbox
			early, late := hold(tt.first), hold(tt.second)
			first.DB, first.Sender, first.DeadAfter, first.UnknownPause = &frozen{DB: f.pool}, early, time.Second, time.Millisecond
			second.Sender, second.DeadAfter, second.UnknownPause = late, time.Second, time.Millisecond
			stopFirst := run(t, &first)
			<-early.sending
			stopSecond := run(t, &second)
			<-late.sending
			end := func(h *held, stop func()) {
				close(h.verdict)
				stop()
			}
			if tt.secondIsFirst {
				end(late, stopSecond)
				end(early, stopFirst)
			} else {
				end(early, stopFirst)
				end(late, stopSecond)
			}
			tt.want.Unknown = 1
			f.expect(t, tt.want)
		})
	}
}

// TestSilentSenderSendsNothing: a sender that cannot show that it lives has lost what it claimed.
func TestSilentSenderSendsNothing(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, many(20))
	silent := *f.outbox
	silent.DB, silent.DeadAfter, silent.Connections = &frozen{DB: f.pool}, 2*time.Second, 1
	var sent atomic.Int64
	woken := make(chan struct{})
	silent.Sender = senderFunc(func(context.Context, smtp.Envelope) error {
		if sent.Add(1) == 1 {
			<-woken
		}
		return nil
	})
	stop := run(t, &silent)
	eventually(t, "the other sender counts it as dead", func() bool {
		return ask[bool](t, f, `SELECT EXISTS (SELECT FROM mail_senders WHERE seen_at < clock_timestamp() - interval '2 seconds')`)
	})
	close(woken)
	eventually(t, "it gives back the others", func() bool { return ask[int](t, f, `SELECT count(sender_id) FROM messages`) == 0 })
	stop()
	if n := sent.Load(); n != 1 {
		t.Errorf("it has sent %d mails, want the one that was on its way", n)
	}
}

// TestWokenSender was frozen with messages in its hands, and others have replaced it. When it wakes it sends none of
// those, and begins anew.
func TestWokenSender(t *testing.T) {
	t.Parallel()
	const n = 20
	f := openOffice(t, mailsink.Options{})
	f.imports(t, many(n))
	first, second := *f.outbox, *f.outbox
	db := &frozen{DB: f.pool}
	first.DB, first.DeadAfter, first.Connections = db, time.Second, 1
	second.DeadAfter, second.UnknownPause = time.Second, time.Millisecond
	var mu sync.Mutex
	sent := make(map[string]int)
	count := senderFunc(func(_ context.Context, e smtp.Envelope) error {
		mu.Lock()
		defer mu.Unlock()
		sent[e.To]++
		return nil
	})
	sending, woken := make(chan struct{}), make(chan struct{})
	var once sync.Once
	first.Sender = senderFunc(func(ctx context.Context, e smtp.Envelope) error {
		once.Do(func() {
			close(sending)
			<-woken
		})
		return count(ctx, e)
	})
	second.Sender = count
	stopFirst := run(t, &first)
	<-sending
	stopSecond := run(t, &second)
	eventually(t, "the other one has sent all", func() bool {
		return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent'`) == n
	})
	stopSecond()
	db.thawed.Store(true)
	close(woken)
	f.imports(t, many(n+5)) // and it has something to do
	eventually(t, "it goes on as another", func() bool {
		return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent'`) == n+5
	})
	stopFirst()
	mu.Lock()
	defer mu.Unlock()
	twice := 0
	for _, n := range sent {
		twice += n - 1
	}
	if len(sent) != n+5 || twice != 1 {
		t.Errorf("%d owners have a mail, %d a second one; want %d and the one that was on its way", len(sent), twice, n+5)
	}
}

func TestSwitchStopsAndStarts(t *testing.T) {
	t.Parallel()
	const n = 40
	f := openOffice(t, mailsink.Options{})
	f.imports(t, many(n))
	sw := &notify.Switch{DB: f.pool, Log: f.mailer.Log}
	passed := make(chan struct{})
	transport := f.outbox.Sender
	f.outbox.Sender = senderFunc(func(ctx context.Context, e smtp.Envelope) error {
		<-passed
		return transport.Send(ctx, e)
	})
	f.work(t)
	for range 5 {
		passed <- struct{}{}
	}
	if err := sw.Pause(t.Context(), "a wrong logo", provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	position, err := sw.Position(t.Context())
	if err != nil || position.PausedAt == nil || *position.Why != "a wrong logo" || position.Breaker {
		t.Errorf("Position = %+v, %v", position, err)
	}
	stop := time.After(time.Second)
	<-stop // what the switch has, too, to be noticed
	close(passed)
	eventually(t, "what was claimed is given back", func() bool { return ask[int](t, f, `SELECT count(sender_id) FROM messages`) == 0 })
	if got := len(f.received()); got > 5+f.outbox.Connections {
		t.Errorf("%d mails were sent, want the first five and those on their way", got)
	}
	if got := ask[int](t, f, `SELECT count(*) FROM messages WHERE ended_at IS NULL AND (state <> 'queued' OR attempts > 0)`); got > 0 {
		t.Errorf("%d messages are not as they were", got)
	}
	if err := sw.Resume(t.Context(), provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are sent", func() bool { return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent'`) == n })
	if f.sink.Stats().Repeats != 0 || len(f.received()) != n {
		t.Errorf("%d mails, %d repeats", len(f.received()), f.sink.Stats().Repeats)
	}
}

// TestBreaker: when many addresses turn out to be bad, the others wait for somebody who looks at it.
func TestBreaker(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{Rules: func(string, string) *gosmtp.SMTPError { return mailsink.NoSuchUser() }})
	f.outbox.Connections = 1
	f.imports(t, many(60))
	f.work(t)
	sw := &notify.Switch{DB: f.pool, Log: f.mailer.Log}
	eventually(t, "the mail is paused", func() bool {
		position, err := sw.Position(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return position.Breaker && strings.Contains(*position.Why, "bounced")
	})
	eventually(t, "what was claimed is given back", func() bool { return ask[int](t, f, `SELECT count(sender_id) FROM messages`) == 0 })
	if left := ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'queued'`); left == 0 {
		t.Error("everybody was mailed all the same")
	}
	if log := f.log.String(); strings.Count(log, "too many addresses bounce") != 1 {
		t.Errorf("the log says:\n%s", log)
	}
	if err := sw.Resume(t.Context(), provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	before := ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'failed'`)
	eventually(t, "it counts anew", func() bool {
		return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'failed'`) >= before+15
	})
}

// TestBreakerHearsLateReports: bounces that are learnt when hundreds of others have been sent since stop the mail all the
// same if they lie close together, and do not if they are few among many.
func TestBreakerHearsLateReports(t *testing.T) {
	t.Parallel()
	for every, paused := range map[int]bool{20: true, 60: false} {
		t.Run(fmt.Sprintf("one in %d", every), func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, mailsink.Options{})
			f.imports(t, many(2000))
			f.exec(t, `UPDATE mail_switch SET watched_at = now() - interval '1 day'`)
			f.exec(t, `
				UPDATE messages m
				SET
					state = 'sent',
					ended_at = now() - interval '1 hour' + n * interval '1 second'
				FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM messages) o
				WHERE o.id = m.id`)
			f.exec(t, `
				UPDATE messages m
				SET returned = 'bounced'
				FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM messages) o
				WHERE o.id = m.id
					AND o.n <= 700
					AND o.n % $1 = 0`, every)
			sw := &notify.Switch{DB: f.pool, Log: f.mailer.Log}
			last := ask[uuid.UUID](t, f, `SELECT id FROM messages WHERE returned = 'bounced' ORDER BY id DESC LIMIT 1`)
			if err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error { return sw.Bounced(t.Context(), tx, last) }); err != nil {
				t.Fatal(err)
			}
			position, err := sw.Position(t.Context())
			if err != nil || (position.PausedAt != nil) != paused {
				t.Errorf("%+v, %v; want it paused: %t", position, err, paused)
			}
		})
	}
}

// TestHeldClientsHoldNobodyUp: whoever holds the clients at the head of the queue keeps only their own mails waiting.
func TestHeldClientsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, many(120))
	tx, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // That is what lets them go.
	_, err = tx.Exec(t.Context(), `
		SELECT FROM clients
		WHERE id IN (SELECT client_id FROM messages ORDER BY due_at, id LIMIT 100)
		FOR UPDATE`)
	if err != nil {
		t.Fatal(err)
	}
	f.work(t)
	eventually(t, "the others have their mails", func() bool {
		return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent'`) == 20
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all have", func() bool { return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent'`) == 120 })
}

// TestClientHeldWhileItsMailIsAccepted: its verdict waits, and nobody else's does.
func TestClientHeldWhileItsMailIsAccepted(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, many(20))
	tx, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // That is what lets it go.
	var once sync.Once
	transport := f.outbox.Sender
	f.outbox.Sender = senderFunc(func(ctx context.Context, e smtp.Envelope) error {
		once.Do(func() {
			if _, err := tx.Exec(ctx, `SELECT FROM clients WHERE owner_email = $1 FOR UPDATE`, e.To); err != nil {
				t.Error(err)
			}
		})
		return transport.Send(ctx, e)
	})
	f.work(t)
	eventually(t, "the others are sent", func() bool {
		return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent'`) == 19
	})
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are", func() bool { return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent'`) == 20 })
	if f.sink.Stats().Repeats != 0 {
		t.Error("one was sent twice")
	}
}

// unreadable is a database that cannot read the stationery when it is told so.
type unreadable struct {
	provisioning.DB

	left atomic.Int64
}

func (d *unreadable) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if strings.Contains(sql, "FROM stationery") && d.left.Add(-1) >= 0 {
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		return d.DB.QueryRow(canceled, sql, args...)
	}
	return d.DB.QueryRow(ctx, sql, args...)
}

// TestStationeryThatCannotBeRead costs nobody the mail.
func TestStationeryThatCannotBeRead(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, many(20))
	db := &unreadable{DB: f.pool}
	db.left.Store(3)
	f.stationery.DB = db
	f.work(t)
	eventually(t, "all are sent", func() bool { return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent'`) == 20 })
}

// TestOneMessageBlocksNobody: neither an owner whose server is away nor one who is refused keeps others waiting.
func TestOneMessageBlocksNobody(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{Rules: func(_, to string) *gosmtp.SMTPError {
		if strings.HasPrefix(to, "owner1") {
			return &gosmtp.SMTPError{Code: 451, EnhancedCode: gosmtp.EnhancedCode{4, 4, 1}, Message: "Not now"}
		}
		return nil
	}})
	f.outbox.Connections = 1
	f.imports(t, many(20))
	f.settle(t)
	got := ask[map[string]int](t, f, `SELECT jsonb_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM messages GROUP BY state) s`)
	if diff := gocmp.Diff(map[string]int{"deferred": 11, "sent": 9}, got); diff != "" {
		t.Error(diff)
	}
}

// mostInASecond returns how many of the times lie in one second.
func mostInASecond(times []time.Time) (most int) {
	slices.SortFunc(times, time.Time.Compare)
	for i, first := range times {
		n := 0
		for _, at := range times[i:] {
			if at.Sub(first) < time.Second {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// TestPace: several senders together keep to the rate.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{5, 40} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			t.Parallel()
			f := openOffice(t, mailsink.Options{})
			f.outbox.Pace = notify.Pace{Rate: rate}
			var mu sync.Mutex
			var times []time.Time
			f.outbox.Sender = senderFunc(func(context.Context, smtp.Envelope) error {
				mu.Lock()
				defer mu.Unlock()
				times = append(times, time.Now())
				return nil
			})
			n := int(2 * rate)
			f.imports(t, many(n))
			for range 3 {
				other := *f.outbox
				f.outbox = &other
				f.work(t)
			}
			eventually(t, "all are sent", func() bool { return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent'`) == n })
			if most := mostInASecond(times); float64(most) > rate {
				t.Errorf("%d mails in a second, want %v at most", most, rate)
			}
		})
	}
}

// TestPaceOfADomain: the owners at a big mail host wait for each other, and nobody else waits for them.
func TestPaceOfADomain(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.outbox.Pace = notify.Pace{DomainRate: 4}
	var roster strings.Builder
	roster.WriteString("name,owner_email\n")
	for i := range 30 {
		fmt.Fprintf(&roster, "Big %d,owner%[1]d@big.example\n", i)
	}
	for i := range 10 {
		fmt.Fprintf(&roster, "Small %d,owner@small%[1]d.example\n", i)
	}
	var mu sync.Mutex
	times := make(map[string][]time.Time)
	f.outbox.Sender = senderFunc(func(_ context.Context, e smtp.Envelope) error {
		mu.Lock()
		defer mu.Unlock()
		_, domain, _ := strings.Cut(e.To, "@")
		times[domain] = append(times[domain], time.Now())
		return nil
	})
	f.imports(t, roster.String())
	f.work(t)
	eventually(t, "the small ones are through", func() bool {
		return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent' AND domain <> 'big.example'`) == 10
	})
	if left := ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'queued'`); left < 10 {
		t.Errorf("only %d of the big one's owners wait", left)
	}
	eventually(t, "some seconds pass", func() bool {
		return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent' AND domain = 'big.example'`) >= 12
	})
	mu.Lock()
	defer mu.Unlock()
	if most := mostInASecond(times["big.example"]); most > 4 {
		t.Errorf("%d mails to one domain in a second, want 4 at most", most)
	}
}

// TestRamp: a domain that has not written before writes twice as much every day.
func TestRamp(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.outbox.Pace = notify.Pace{Ramp: 10}
	f.imports(t, many(80))
	f.work(t)
	sent := func() int { return ask[int](t, f, `SELECT count(*) FROM messages WHERE state = 'sent'`) }
	for day, want := range []int{10, 30, 70, 80} {
		eventually(t, fmt.Sprintf("on day %d %d are sent", day+1, want), func() bool { return sent() >= want })
		f.exec(t, `UPDATE messages SET due_at = due_at`) // Somebody else looks, too.
		if got := sent(); got != want {
			t.Fatalf("on day %d %d mails have been sent, want %d", day+1, got, want)
		}
		f.exec(t, `UPDATE mail_pace SET day = day - 1`)
	}
}
