package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

// consentOptions say what is measured.
type consentOptions struct {
	clients     int // with an invitation each; that many walks are made
	pages       int // looked at
	connections int
	walkers     int // who walk at the same time
}

// benchConsent has owners look at their invitation pages, and then walk: begin, the provider's pages, callback, exchange of
// the code, identity and storing. The service is the program as it ships, in a process of its own; the
// provider is the sandbox in this one, without its limits, reached over loopback by the service and in memory by
// the owners. Beside the pages stands a bare gin handler that answers as many bytes, in a process of its own too;
// beside the walks, a bare insert of one row a transaction by as many connections.
func benchConsent(ctx context.Context, out io.Writer, pool *pgxpool.Pool, folder string, o consentOptions) error {
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	provider, err := startSandbox(ctx, o.clients, "http://"+address+"/oauth/callback")
	if err != nil {
		return err
	}
	defer provider.close()
	service, err := startService(ctx, pool, folder, address,
		"COUNTERSIGN_OAUTH_CLIENT_ID=app",
		"COUNTERSIGN_OAUTH_CLIENT_SECRET=app-secret",
		"COUNTERSIGN_PROVIDER_AUTHORIZE_URL=http://"+provider.address+"/oauth2/default/v1/authorize",
		"COUNTERSIGN_PROVIDER_TOKEN_URL=http://"+provider.address+"/oauth2/default/v1/token",
		"COUNTERSIGN_PROVIDER_API_URL=http://"+provider.address+"/v3",
		"COUNTERSIGN_PROVIDER_RATE=0",
		"COUNTERSIGN_PROVIDER_TOKEN_RATE=0",
	)
	if err != nil {
		return err
	}
	defer service.stop()
	owners, err := inviteOwners(ctx, pool, folder, service, o.clients)
	if err != nil {
		return err
	}

	page, err := get(ctx, service.address, "/i/"+owners[0].token, "")
	if err != nil {
		return err
	}
	bare, stopBare, err := startBare(ctx, len(page))
	if err != nil {
		return err
	}
	bareRate, bareWaits, err := lookAt(ctx, bare, "", o.pages, o.connections, func(int) string { return "/" })
	stopBare()
	if err != nil {
		return err
	}
	pageRate, pageWaits, err := lookAt(ctx, service.address, "", o.pages, o.connections, func(n int) string { return "/i/" + owners[n%len(owners)].token })
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d invitation pages of %d bytes over %d connections\n", o.pages, len(page), o.connections)
	fmt.Fprintf(out, "  %-24s %8.0f/s  %s\n", "bare gin handler", bareRate, bareWaits)
	fmt.Fprintf(out, "  %-24s %8.0f/s  %s\n", "Countersign", pageRate, pageWaits)

	insertRate, insertWaits, err := bareInserts(ctx, pool, o)
	if err != nil {
		return err
	}
	// The first walks are not counted: plans made for empty tables are those of no service that is a day old.
	first := owners[:len(owners)/10]
	if _, _, err := walkAll(ctx, service, provider, first, o); err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, `VACUUM ANALYZE`); err != nil {
		return err
	}
	walkRate, walkWaits, err := walkAll(ctx, service, provider, owners[len(first):], o)
	if err != nil {
		return err
	}
	var authorized int
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM clients WHERE stage = 'authorized'`).Scan(&authorized); err != nil {
		return err
	}
	if authorized != o.clients {
		return fmt.Errorf("%d of %d clients are authorized", authorized, o.clients)
	}
	fmt.Fprintf(out, "%d verified walks by %d owners at a time\n", len(walkWaits), o.walkers)
	fmt.Fprintf(out, "  %-24s %8.0f/s  %s\n", "bare insert", insertRate, insertWaits)
	fmt.Fprintf(out, "  %-24s %8.0f/s  %s\n", "Countersign", walkRate, walkWaits)
	return nil
}

// freeAddress returns an address of this machine at which nobody listens.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// waits are how long each of many requests took.
type waits []time.Duration

func (w waits) String() string {
	slices.Sort(w)
	at := func(share float64) time.Duration {
		return w[int(share*float64(len(w)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %s, p99 %s", at(0.5), at(0.99))
}

// inParallel makes n steps by so many workers and returns how many a second, and how long each took.
func inParallel(ctx context.Context, n, workers int, worker func() (step func(i int) error, end func())) (rate float64, took waits, err error) {
	took = make(waits, n)
	errs := make([]error, workers)
	var next atomic.Int64
	var group sync.WaitGroup
	began := time.Now()
	for w := range workers {
		group.Go(func() {
			step, end := worker()
			defer end()
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				start := time.Now()
				if errs[w] = step(i); errs[w] != nil {
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	group.Wait()
	return float64(n) / time.Since(began).Seconds(), took, errors.Join(append(errs, ctx.Err())...)
}

// lookAt gets pages over kept connections, with as little work of our own as can be. The cookie may be empty.
func lookAt(ctx context.Context, address, cookie string, pages, connections int, path func(n int) string) (rate float64, took waits, err error) {
	return inParallel(ctx, pages, connections, func() (func(int) error, func()) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return func(int) error { return err }, func() {}
		}
		reader := bufio.NewReader(conn)
		return func(n int) error {
			path := path(n)
			if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\n\r\n", path, address, cookie); err != nil {
				return err
			}
			answer, err := http.ReadResponse(reader, nil)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, answer.Body)
			if err == nil && answer.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s was answered %s", path, answer.Status)
			}
			return errors.Join(err, answer.Body.Close())
		}, func() { _ = conn.Close() }
	})
}

// get returns the body of one page. The cookie may be empty.
func get(ctx context.Context, address, path, cookie string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Cookie", cookie)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	return io.ReadAll(answer.Body)
}

// bareInserts inserts one row a transaction.
func bareInserts(ctx context.Context, pool *pgxpool.Pool, o consentOptions) (rate float64, took waits, err error) {
	if _, err := pool.Exec(ctx, `CREATE TABLE bare (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())`); err != nil {
		return 0, nil, err
	}
	return inParallel(ctx, o.clients, o.walkers, func() (func(int) error, func()) {
		return func(int) error {
			_, err := pool.Exec(ctx, `INSERT INTO bare (id) VALUES ($1)`, uuid.New())
			return err
		}, func() {}
	})
}

// owner is somebody with an invitation.
type owner struct{ login, token, from string }

const password = "correct-horse-1"

// walkAll has every owner consent.
func walkAll(ctx context.Context, service *service, provider *provider, owners []owner, o consentOptions) (rate float64, took waits, err error) {
	transport := &http.Transport{MaxIdleConnsPerHost: o.walkers}
	defer transport.CloseIdleConnections()
	return inParallel(ctx, len(owners), o.walkers, func() (func(int) error, func()) {
		return func(n int) error { return walk(ctx, transport, service, provider, owners[n]) }, func() {}
	})
}

// walk is one owner's way. Each comes from an address of its own, as owners do: the service throttles buttons by address.
func walk(ctx context.Context, transport http.RoundTripper, service *service, provider *provider, who owner) error {
	// ask returns the headers of the answer, which leads elsewhere.
	ask := func(method, address string, cookies []*http.Cookie) (http.Header, error) {
		request, err := http.NewRequestWithContext(ctx, method, address, http.NoBody)
		if err != nil {
			return nil, err
		}
		request.Header.Set("X-Forwarded-For", who.from)
		for _, c := range cookies {
			request.AddCookie(c)
		}
		answer, err := transport.RoundTrip(request)
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		if err == nil && answer.StatusCode != http.StatusSeeOther {
			err = fmt.Errorf("%s %s was answered %s", method, request.URL.Path, answer.Status)
		}
		return answer.Header, errors.Join(err, answer.Body.Close())
	}
	begun, err := ask(http.MethodPost, "http://"+service.address+"/i/"+who.token+"/begin", nil)
	if err != nil {
		return err
	}
	callback, err := sandbox.Consent(ctx, &http.Client{Transport: provider}, begun.Get("Location"), who.login, password, sandbox.Allow)
	if err != nil {
		return err
	}
	ended, err := ask(http.MethodGet, callback, (&http.Response{Header: begun}).Cookies())
	if err == nil && !strings.HasPrefix(ended.Get("Location"), "/consent/") {
		err = fmt.Errorf("the callback leads to %q", ended.Get("Location"))
	}
	return err
}

// provider is the sandbox: over loopback for the service, in memory for the owners' browsers.
type provider struct {
	box     *sandbox.Sandbox
	address string
	server  *http.Server
}

func startSandbox(ctx context.Context, clients int, redirect string) (*provider, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // Signing with it is the sandbox's work and not ours, and protects nothing.
	if err != nil {
		return nil, err
	}
	p := &provider{address: listener.Addr().String()}
	accounts := make([]sandbox.Account, clients)
	for i := range accounts {
		accounts[i] = sandbox.Account{
			ID: fmt.Sprintf("acct-%d", i), Organization: fmt.Sprintf("Client %d", i), ContactEmail: loginOf(i),
			Users: []sandbox.User{{Login: loginOf(i), Password: password, Role: sandbox.RoleOwner}},
		}
	}
	p.box, err = sandbox.New(sandbox.Options{
		BaseURL:   "http://" + p.address,
		Apps:      []sandbox.App{{ClientID: "app", Secret: "app-secret", RedirectURIs: []string{redirect}, RequirePKCE: true}},
		Accounts:  accounts,
		Unlimited: true,
		Key:       key,
	})
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	p.server = &http.Server{Handler: p.box, ReadHeaderTimeout: time.Minute}
	go func() { _ = p.server.Serve(listener) }()
	return p, nil
}

func (p *provider) close() { _ = p.server.Close() }

// RoundTrip answers a browser without a network.
func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := &answer{header: make(http.Header), status: http.StatusOK}
	p.box.ServeHTTP(answer, r)
	return &http.Response{
		StatusCode: answer.status,
		Header:     answer.header,
		Body:       io.NopCloser(&answer.body),
		Request:    r,
	}, nil
}

// answer is an http.ResponseWriter that keeps what is written.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header               { return a.header }
func (a *answer) WriteHeader(status int)            { a.status = status }
func (a *answer) Write(content []byte) (int, error) { return a.body.Write(content) }

func loginOf(n int) string { return fmt.Sprintf("owner%d@client%d.example", n, n) }

// service is the program as it ships, at work in a process of its own.
type service struct {
	address string
	keys    *vault.Vault
	process int
	stop    func()
}

// startService builds the program and starts it on the bench's database, with more settings.
func startService(ctx context.Context, pool *pgxpool.Pool, folder, address string, settings ...string) (*service, error) {
	program := filepath.Join(folder, "countersign")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/countersign/countersign/cmd/countersign") //nolint:gosec // our own program
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build the program: %w", err)
	}
	key := vault.GenerateKey("bench")
	keys, err := vault.ParseKeys(key)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "serve") //nolint:gosec // our own program
	cmd.Env = append(cmd.Environ(),
		"COUNTERSIGN_DATABASE_URL="+pool.Config().ConnString(),
		"COUNTERSIGN_VAULT_KEYS="+key,
		"COUNTERSIGN_LISTEN="+address,
		"COUNTERSIGN_PUBLIC_URL=http://"+address,
		"COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example",
	)
	cmd.Env = append(cmd.Env, settings...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &service{address: address, keys: keys, process: cmd.Process.Pid, stop: func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}}
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err = get(ctx, address, "/readyz", ""); err == nil {
			return s, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			s.stop()
			return nil, fmt.Errorf("the program does not answer: %w\n%s", err, &complaints)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// inviteOwners fills the roster and makes an invitation for everybody in it.
func inviteOwners(ctx context.Context, pool *pgxpool.Pool, folder string, s *service, n int) ([]owner, error) {
	path := filepath.Join(folder, "owners.csv")
	var file bytes.Buffer
	file.WriteString("name,owner_email,account_id\n")
	for i := range n {
		fmt.Fprintf(&file, "Client %d,%s,acct-%d\n", i, loginOf(i), i)
	}
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		return nil, err
	}
	importer, err := newImporter(pool)
	if err != nil {
		return nil, err
	}
	if _, err := timeImport(ctx, importer, path, provisioning.Import{Rows: n, Created: n}); err != nil {
		return nil, err
	}
	key, err := s.keys.Secret(ctx, pool, "link", 32)
	if err != nil {
		return nil, err
	}
	links := &authflow.Links{DB: pool, Key: key, Now: time.Now}
	owners := make([]owner, n)
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id FROM clients ORDER BY substring(account_id FROM 6)::int`)
		if err != nil {
			return err
		}
		clients, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return err
		}
		invitations, err := links.Issue(ctx, tx, clients)
		for i, id := range invitations {
			owners[i] = owner{login: loginOf(i), token: links.Token(id), from: fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255)}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	_, err = pool.Exec(ctx, `VACUUM ANALYZE`)
	return owners, err
}

// startBare starts a process that answers with so many bytes, by a gin handler that does nothing else.
func startBare(ctx context.Context, size int) (address string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, "bare", strconv.Itoa(size)) //nolint:gosec // this very program
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	address, err = bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, err
	}
	return strings.TrimSpace(address), stop, nil
}

// serveBare is what startBare starts.
func serveBare(ctx context.Context, out io.Writer, args []string) error {
	if len(args) != 1 {
		return errUsage
	}
	size, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	page := bytes.Repeat([]byte("x"), size)
	router.GET("/", func(c *gin.Context) { c.Data(http.StatusOK, "text/html; charset=utf-8", page) })
	fmt.Fprintln(out, listener.Addr())
	server := &http.Server{Handler: router, ReadHeaderTimeout: time.Minute}
	return server.Serve(listener)
}
