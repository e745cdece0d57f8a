package admin_test

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	ann      = "Ann@Agency.example"
	password = "correct horse battery"
)

// from is where tests sign in from.
func from() admin.Visitor { return at("192.0.2.1") }

func at(address string) admin.Visitor {
	return admin.Visitor{Address: netip.MustParseAddr(address), Browser: "Firefox on Linux"}
}

func owner(email, name string, password provisioning.Secret) admin.NewOperator {
	return admin.NewOperator{Email: email, Name: name, Role: admin.RoleOwner, Password: password}
}

// clock is a time that tests move.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time {
	return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).Add(time.Duration(c.offset.Load()))
}

func (c *clock) pass(d time.Duration) { c.offset.Add(int64(d)) }

type bundle struct {
	*admin.Store
	pool  *pgxpool.Pool
	clock *clock
	mails *mails
}

// mail is a mail that was queued.
type mail struct {
	to    string
	kind  provisioning.LetterKind
	link  uuid.UUID
	facts map[string]string
}

// mails keeps what is queued.
type mails struct {
	mu  sync.Mutex
	all []mail
}

func (m *mails) QueueEntry(_ context.Context, _ pgx.Tx, to string, kind provisioning.LetterKind, link uuid.UUID, facts map[string]string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, mail{to, kind, link, facts})
	return nil
}

// last returns the mail that was queued last, and the token of its link.
func (b bundle) last(t *testing.T) (mail, provisioning.Secret) {
	t.Helper()
	if len(b.mails.all) == 0 {
		t.Fatal("no mail was queued")
	}
	m := b.mails.all[len(b.mails.all)-1]
	return m, b.token(t, b.LinkURL(m.link))
}

// token returns the token of a link.
func (b bundle) token(t *testing.T, link string) provisioning.Secret {
	t.Helper()
	token, found := strings.CutPrefix(link, b.PublicURL+"/admin/enter/")
	if !found {
		t.Fatalf("the link leads elsewhere: %s", link)
	}
	return provisioning.Secret(token)
}

// audited returns what the audit trail has of a kind of action: its actors and objects, oldest first.
func (b bundle) audited(t *testing.T, action string) []string {
	t.Helper()
	rows, err := b.pool.Query(t.Context(), `SELECT actor || ': ' || object FROM audit WHERE action = $1 ORDER BY id`, action)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func setup(t *testing.T) bundle {
	t.Helper()
	b := bundle{pool: pgtest.New(t), clock: &clock{}}
	keys, err := vault.ParseKeys(vault.GenerateKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	b.Store = admin.New(b.pool)
	b.Now, b.ResetTime = b.clock.now, 0
	b.PublicURL, b.LinkKey, b.Sealer = "https://connect.agency.example", []byte("a key of links"), keys
	b.mails = &mails{}
	b.Mailer = b.mails
	return b
}

// withAnn adds an operator.
func withAnn(t *testing.T) (bundle, admin.Operator) {
	t.Helper()
	b := setup(t)
	o, err := b.CreateOperator(t.Context(), owner(ann, "Ann", password), provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	return b, o
}

// dump returns the whole content of a table, as whoever steals the database reads it.
func (b bundle) dump(t *testing.T, table string) string {
	t.Helper()
	rows, err := b.pool.Query(t.Context(), `SELECT t::text FROM `+table+` t`)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) == 0 {
		t.Fatalf("%s is empty", table)
	}
	return strings.Join(lines, "\n")
}

// queryTime returns the one time that a query gives.
func (b bundle) queryTime(t *testing.T, sql string) time.Time {
	t.Helper()
	var at time.Time
	if err := b.pool.QueryRow(t.Context(), sql).Scan(&at); err != nil {
		t.Fatal(err)
	}
	return at
}

// awaitBlocked returns when n statements wait for a lock.
func (b bundle) awaitBlocked(t *testing.T, n int) {
	t.Helper()
	for blocked := 0; blocked < n; {
		if err := b.pool.QueryRow(t.Context(), `
			SELECT count(*)
			FROM pg_stat_activity
			WHERE datname = current_database()
				AND wait_event_type = 'Lock'`).Scan(&blocked); err != nil {
			t.Fatal(err)
		}
	}
}
