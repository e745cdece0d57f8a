package interoptest_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
)

// TestReplicas has two replicas keep one grant, both at once each time: none of its refresh tokens is sent
// twice, which at the one server would end the grant and at the other would be refused.
func TestReplicas(t *testing.T) {
	t.Parallel()
	for _, m := range makers() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			k := keep(t, m.start(t, app{redirectURL: nowhere}))
			acme := k.consent(t, maria)
			const rotations = 20
			for range rotations {
				k.clock.advance(200 * 24 * time.Hour) // no refresh is due later than that
				both, ctx := errgroup.WithContext(t.Context())
				for _, replica := range k.replicas {
					both.Go(func() error { _, err := replica.Step(ctx); return err })
					both.Go(func() error { _, err := replica.Token(ctx, acme); return err })
				}
				if err := both.Wait(); err != nil {
					t.Fatal(err)
				}
			}
			if sent, repeated := k.wire.count(); sent < rotations || repeated != 0 {
				t.Errorf("%d refresh tokens were sent, %d of them more than once; want at least %d and none", sent, repeated, rotations)
			}
			if got := k.status(t, acme); got != grant.StatusActive {
				t.Errorf("the grant is %s", got)
			}
			token, err := k.replicas[0].Token(t.Context(), acme)
			if err != nil {
				t.Fatal(err)
			}
			if account, err := k.client.Account(t.Context(), token.Access); err != nil || account.ID != accounts()[maria].ID {
				t.Errorf("its token opens %+v, %v", account, err)
			}
		})
	}
}

// TestLostAnswer loses the answer that brought the only good refresh token. Neither server forgives the old
// one that comes again, and so the grant is given up, and its owner asked to connect again; no other grant suffers.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for _, m := range makers() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			k := keep(t, m.start(t, app{redirectURL: nowhere}))
			acme, bikes := k.consent(t, maria), k.consent(t, jonas)
			k.clock.advance(200 * 24 * time.Hour)
			k.wire.loseNext()
			if _, err := k.replicas[0].Token(t.Context(), acme); err == nil {
				t.Fatal("a token came though its answer was lost")
			}
			for range 3 { // days
				for worked := true; worked; {
					var err error
					if worked, err = k.replicas[0].Step(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				k.clock.advance(24 * time.Hour)
				if _, err := k.replicas[1].Token(t.Context(), bikes); err != nil {
					t.Fatal(err)
				}
			}
			if _, repeated := k.wire.count(); repeated != 1 {
				t.Errorf("%d refresh tokens were sent more than once; want the one whose answer was lost", repeated)
			}
			if acme, bikes := k.status(t, acme), k.status(t, bikes); acme != grant.StatusLapsed || bikes != grant.StatusActive {
				t.Errorf("the grant whose answer was lost is %s, the other %s", acme, bikes)
			}
			if got := k.reconnects.Load(); got != 1 {
				t.Errorf("%d owners were asked to connect again; want 1", got)
			}
		})
	}
}

// keeping is two replicas on one database that keep grants of one server, at a clock that the test turns.
type keeping struct {
	server     *server
	client     *constantcontact.Client
	db         *pgxpool.Pool
	clock      *clock
	wire       *wire
	replicas   [2]*grant.Keeper
	reconnects atomic.Int32
}

func keep(t *testing.T, s *server) *keeping {
	t.Helper()
	k := &keeping{server: s, db: pgtest.New(t), clock: &clock{}, wire: &wire{sent: make(map[string]int)}}
	k.client = s.client(t, k.observed)
	keys, err := vault.ParseKeys(vault.GenerateKey("test"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range k.replicas {
		k.replicas[i] = &grant.Keeper{
			Store:       &grant.Store{DB: k.db, Vault: keys, Now: k.clock.now},
			Provider:    k.client,
			Reconnecter: k,
			Log:         slog.New(slog.DiscardHandler),
			Now:         k.clock.now,
		}
	}
	return k
}

// observed makes a client of the server that lives by the test's clock, on the test's wire.
func (k *keeping) observed(c *constantcontact.Config) {
	c.Now, c.HTTP = k.clock.now, &http.Client{Transport: k.wire}
}

// Reconnect counts the owners that are asked to connect again.
func (k *keeping) Reconnect(ctx context.Context, tx pgx.Tx, ch provisioning.Change) error {
	k.reconnects.Add(1)
	_, err := provisioning.Advance(ctx, tx, ch)
	return err
}

// consent has somebody consent, and returns the client that the grant is kept for.
func (k *keeping) consent(t *testing.T, login string) uuid.UUID {
	t.Helper()
	ctx, client, invitation := t.Context(), uuid.New(), uuid.New()
	tokens := k.server.walkAs(t, login, k.observed).tokens()
	account, err := k.client.Account(ctx, tokens.Access)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := k.db.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	if _, err := tx.Exec(ctx, `
		WITH client AS (
			INSERT INTO clients (id, name, owner_email, account_id, username, stage, search)
			VALUES ($1, $2, $3, $4, $3, 'authorized', '')
		)
		INSERT INTO invitations (id, client_id, token_hash, expires_at)
		VALUES ($5, $1, $3::text::bytea, now())`, client, account.Organization, login, account.ID, invitation); err != nil {
		t.Fatal(err)
	}
	verdict, err := k.replicas[0].Store.Take(ctx, tx, grant.Consented{Client: client, Invitation: &invitation, Tokens: tokens, Account: account})
	if err != nil || verdict.Status != grant.StatusActive {
		t.Fatalf("the grant is %s, %v", verdict.Status, err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	return client
}

// status returns that of a client's newest grant.
func (k *keeping) status(t *testing.T, client uuid.UUID) grant.Status {
	t.Helper()
	grants, err := k.replicas[0].Store.Of(t.Context(), client)
	if err != nil || len(grants) == 0 {
		t.Fatalf("there are %d grants, %v", len(grants), err)
	}
	return grants[0].Status
}

// clock is the real time, put forward by the test.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// wire carries requests, and notes the refresh tokens in them.
type wire struct {
	mu   sync.Mutex
	sent map[string]int // how often, by refresh token
	lose bool           // the answer to the next refresh
}

func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	lose, err := w.note(request)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err == nil && lose {
		return nil, errors.Join(io.ErrUnexpectedEOF, response.Body.Close())
	}
	return response, err
}

// note tells whether the answer is to be lost.
func (w *wire) note(request *http.Request) (lose bool, err error) {
	if request.GetBody == nil {
		return false, nil
	}
	body, err := request.GetBody()
	if err != nil {
		return false, err
	}
	form, err := io.ReadAll(body)
	if err != nil {
		return false, err
	}
	values, err := url.ParseQuery(string(form))
	if err != nil || !values.Has("refresh_token") {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[values.Get("refresh_token")]++
	lose, w.lose = w.lose, false
	return lose, nil
}

func (w *wire) loseNext() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = true
}

// count returns how many refresh tokens were sent, and how many of them more than once.
func (w *wire) count() (sent, repeated int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, times := range w.sent {
		if times > 1 {
			repeated++
		}
	}
	return len(w.sent), repeated
}
