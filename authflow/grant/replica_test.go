package grant_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
)

//nolint:gochecknoglobals // as the testing package's own flags
var replicaFlag = flag.String("replica", "", "be this replica, in JSON, for another test process")

// step is where a replica is struck while it refreshes a grant.
type step int

const (
	beforeLease  step = iota + 1
	beforeSend        // the lease and the attempt are committed, the request is about to go out
	beforeAnswer      // the provider has done what was asked, and its answer does not arrive
	beforeStore       // the answer is here
	afterStore        // the tokens are stored, and nobody has been told that the grant works
	beforeTold        // the transaction that tells it is ready
	afterTold
	steps = int(afterTold)
)

// replica is a process that keeps grants alive until a signal strikes it at one step of one refresh.
type replica struct {
	Number   int
	Database string
	Provider string
	Key      string // of the vault
	Lease    time.Duration

	Step   step
	After  int           // refreshes that come before
	Age    time.Duration // that it reaches before
	Signal syscall.Signal
}

const (
	// numberHeader tells the provider's log which replica asks.
	numberHeader = "Test-Replica"
	// strikeHeader asks for a signal to a process in place of an answer: PID and signal.
	strikeHeader = "Test-Strike"
)

// beReplica is a replica, until it is killed or whoever started it is gone.
func beReplica(spec string) error {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(2)
	}()
	var r replica
	if err := json.Unmarshal([]byte(spec), &r); err != nil {
		return err
	}
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, r.Database)
	if err != nil {
		return err
	}
	f := &fuse{replica: r, db: pool, began: time.Now()}
	client, err := newClient(r.Provider, f, time.Now)
	if err != nil {
		return err
	}
	k, err := newKeeper(fusedDB{pool, f}, fusedProvider{client, f}, r.Key, time.Now)
	if err != nil {
		return err
	}
	k.Lease = r.Lease
	for {
		worked, err := k.Step(ctx)
		if err != nil {
			return err
		}
		if !worked {
			<-time.After(20 * time.Millisecond)
		}
	}
}

// newKeeper makes a Keeper with the neighbours that the program plugs in.
func newKeeper(db provisioning.DB, p grant.Provider, key string, now func() time.Time) (*grant.Keeper, error) {
	keys, err := vault.ParseKeys(key)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	links := &authflow.Links{DB: db, Key: []byte("key of the links"), PublicURL: "https://connect.example.com", Now: now}
	inviter := &provisioning.Inviter{DB: db, Linker: links, Mailer: &notify.Mailer{DB: db, Linker: links, Now: now, Log: log}}
	return &grant.Keeper{
		Store:       &grant.Store{DB: db, Vault: keys, Thanker: inviter, Scopes: replicaScopes(), Now: now},
		Provider:    p,
		Reconnecter: inviter,
		Log:         log,
	}, nil
}

func replicaScopes() []string { return []string{"account_read", "offline_access"} }

const (
	appID       = "app"
	appSecret   = "secret"
	appRedirect = "https://connect.example.com/oauth/callback"
)

// newClient makes the client of a provider.
func newClient(provider string, transport http.RoundTripper, now func() time.Time) (*constantcontact.Client, error) {
	return constantcontact.New(constantcontact.Config{
		ClientID: appID, ClientSecret: appSecret, Scopes: replicaScopes(), RedirectURL: appRedirect,
		AuthorizeURL: provider + "/oauth2/default/v1/authorize",
		TokenURL:     provider + "/oauth2/default/v1/token",
		APIURL:       provider + "/v3",
		HTTP:         &http.Client{Transport: transport}, Now: now,
	})
}

// mostStruck is how many replicas in a row are struck over one refresh token: as many as a provider that forgives a
// rotated one for three leases leaves a remedy for.
const mostStruck = 2

// fuse strikes its process at its step. One goroutine burns it: a replica refreshes one grant at a time.
type fuse struct {
	replica

	db        *pgxpool.Pool
	began     time.Time
	lease     uuid.UUID // the latest, which names the attempt
	refreshes int       // begun
	struck    bool
}

// reaches tells whether the process is to be struck at this step, now and never again. It is announced to whoever
// started the process.
func (f *fuse) reaches(ctx context.Context, s step) bool {
	if s != f.Step || f.refreshes < f.After || time.Since(f.began) < f.Age || f.struck {
		return false
	}
	var attempts int
	if err := f.db.QueryRow(ctx, `
		SELECT count(*)
		FROM refreshes mine
		JOIN refreshes r USING (grant_id, generation)
		WHERE mine.id = $1`, f.lease).Scan(&attempts); err != nil || s != beforeLease && attempts > mostStruck {
		return false
	}
	f.struck = true
	_, _ = fmt.Println(int(s)) //nolint:forbidigo // to whoever started the process
	return true
}

// at is one step.
func (f *fuse) at(ctx context.Context, s step) {
	if f.reaches(ctx, s) {
		_ = syscall.Kill(os.Getpid(), f.Signal)
	}
}

// RoundTrip implements http.RoundTripper. It names the replica, and has the provider strike it.
func (f *fuse) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	r = r.Clone(ctx)
	r.Header.Set(numberHeader, strconv.Itoa(f.Number))
	if r.Method == http.MethodPost {
		f.refreshes++
		f.at(ctx, beforeSend)
		if f.reaches(ctx, beforeAnswer) {
			r.Header.Set(strikeHeader, fmt.Sprintf("%d %d", os.Getpid(), f.Signal))
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// fusedProvider is the provider before a step.
type fusedProvider struct {
	*constantcontact.Client
	*fuse
}

func (p fusedProvider) Refresh(ctx context.Context, refresh provisioning.Secret) (provisioning.Tokens, error) {
	tokens, err := p.Client.Refresh(ctx, refresh)
	p.at(ctx, beforeStore)
	return tokens, err
}

// fusedDB is the database between steps.
type fusedDB struct {
	*pgxpool.Pool
	*fuse
}

func (db fusedDB) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if strings.Contains(sql, "INSERT INTO refreshes") {
		db.at(ctx, beforeLease)
		db.lease, _ = args[0].(uuid.UUID)
	}
	return db.Pool.Query(ctx, sql, args...) //nolint:rowserrcheck // who asked checks them
}

func (db fusedDB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	row := db.Pool.QueryRow(ctx, sql, args...)
	if !strings.Contains(sql, "refresh_token = $5") {
		return row
	}
	return fusedRow(func(dest ...any) error {
		err := row.Scan(dest...)
		db.at(ctx, afterStore)
		return err
	})
}

// fusedRow is the answer of the statement that stores new tokens, which has committed when it is read.
type fusedRow func(dest ...any) error

func (scan fusedRow) Scan(dest ...any) error { return scan(dest...) }

func (db fusedDB) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if strings.Contains(sql, "INSERT INTO refreshes") {
		db.lease, _ = args[0].(uuid.UUID)
	}
	return db.Pool.Exec(ctx, sql, args...)
}

func (db fusedDB) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := db.Pool.Begin(ctx)
	return fusedTx{tx, db.fuse}, err
}

// fusedTx is a transaction whose commit lies between two steps.
type fusedTx struct {
	pgx.Tx
	*fuse
}

func (tx fusedTx) Commit(ctx context.Context) error {
	tx.at(ctx, beforeTold)
	err := tx.Tx.Commit(ctx)
	tx.at(ctx, afterTold)
	return err
}
