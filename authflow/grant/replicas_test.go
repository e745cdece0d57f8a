package grant_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	randv2 "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

//nolint:gochecknoglobals // as the testing package's own flags
var (
	grantsFlag = flag.Int("grants", 40, "how many grants TestReplicasStruckAtEveryStep keeps")
	roundsFlag = flag.Int("rounds", 1, "how often TestReplicasStruckAtEveryStep kills, and stuns, a replica at every step")
	leaseFlag  = flag.Duration("lease", 2*time.Second, "the lease of TestReplicasStruckAtEveryStep; a provider's grace is three times as long, as in production")
)

// TestReplicasStruckAtEveryStep has eight processes refresh all grants again and again. Processes are killed at every
// step of a refresh and anywhere else, and stunned for longer than their lease. In the end every grant works, or it
// has lapsed and its owner is asked to connect again. It may have lapsed only if the provider left no remedy: it gave
// the newest refresh token to a process that was struck before it could store it, and takes the one before no more.
func TestReplicasStruckAtEveryStep(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	grace := 3 * *leaseFlag
	for name, test := range map[string]struct {
		switches  sandbox.Switches
		longLived bool
		remedy    bool // the provider leaves one, whenever it happens
	}{
		"reuse detection":               {},
		"reuse detection after a grace": {switches: sandbox.Switches{RotationGrace: grace}, remedy: true},
		"rotation alone":                {switches: sandbox.Switches{NoReuseDetection: true}},
		"no rotation":                   {longLived: true, remedy: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := openFleet(t, test.switches, test.longLived, key)
			f.run(t)
			f.settle(t)
			f.check(t, test.remedy)
		})
	}
}

// fleet is eight replicas on one database, and their provider.
type fleet struct {
	replica // as every replica is

	db       *pgxpool.Pool
	grace    time.Duration
	detects  bool // the provider kills a grant whose spent token comes again
	provider *sandbox.Sandbox
	clock    clock // of the provider, and of whoever looks in the end
	keeper   *grant.Keeper
	client   *constantcontact.Client
	clients  map[uuid.UUID]string // by their account

	mu      sync.Mutex
	chain   map[hash]string // accounts by all their refresh tokens
	sent    []*request
	running map[int]*exec.Cmd
	strikes map[int][]strike
	kills   [steps + 1]int // by step; 0 is anywhere
	stuns   [steps + 1]int
}

type hash [sha256.Size]byte

// request is a refresh token that a replica sent; 0 is whoever looks in the end.
type request struct {
	replica      int
	token        hash
	began, ended time.Time
	accepted     bool
	answer       hash // of the refresh token that came, if one did
}

// strike is a time in which a replica did nothing; it has no end if the replica was killed.
type strike struct{ from, to time.Time }

func openFleet(t *testing.T, switches sandbox.Switches, longLived bool, key *rsa.PrivateKey) *fleet {
	t.Helper()
	f := &fleet{
		grace: switches.RotationGrace, detects: !switches.NoReuseDetection, clients: make(map[uuid.UUID]string),
		chain: make(map[hash]string), running: make(map[int]*exec.Cmd), strikes: make(map[int][]strike),
	}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	o := open(t)
	ids := o.clients(t, *grantsFlag)
	accounts := make([]sandbox.Account, len(ids))
	for i, id := range ids {
		owner := fmt.Sprintf("owner%d@client.example", i+1)
		accounts[i] = sandbox.Account{
			ID: fmt.Sprintf("acct%d", i+1), Organization: fmt.Sprintf("Client %d", i+1), ContactEmail: owner,
			Users: []sandbox.User{{Login: owner, Password: "password", Role: sandbox.RoleOwner}},
		}
		f.clients[id] = accounts[i].ID
	}
	var err error
	if f.provider, err = sandbox.New(sandbox.Options{
		BaseURL: server.URL, Key: key, Switches: switches, Accounts: accounts, Unlimited: true, Now: f.clock.now,
		Apps: []sandbox.App{{ClientID: appID, Secret: appSecret, RedirectURIs: []string{appRedirect}, LongLived: longLived}},
	}); err != nil {
		t.Fatal(err)
	}
	f.db = o.db
	f.replica = replica{
		Database: f.db.Config().ConnString(), Provider: server.URL, Key: vault.GenerateKey("k1"), Lease: *leaseFlag,
	}
	if f.client, err = newClient(f.Provider, nil, f.clock.now); err != nil {
		t.Fatal(err)
	}
	if f.keeper, err = newKeeper(f.db, f.client, f.Key, f.clock.now); err != nil {
		t.Fatal(err)
	}
	f.keeper.Lease = f.Lease
	for i, id := range ids {
		f.consent(t, id, accounts[i])
	}
	return f
}

// consent gives a client the grant of its account, as its owner's walk does.
func (f *fleet) consent(t *testing.T, client uuid.UUID, account sandbox.Account) {
	t.Helper()
	user := account.Users[0]
	callback, err := sandbox.Consent(t.Context(), http.DefaultClient, f.client.AuthorizeURL("state", ""), user.Login, user.Password, sandbox.Allow)
	if err != nil {
		t.Fatal(err)
	}
	landing, err := url.Parse(callback)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := f.client.Exchange(t.Context(), f.client.TokenURL(), landing.Query().Get("code"), "")
	if err != nil {
		t.Fatal(err)
	}
	f.chain[sha256.Sum256([]byte(tokens.Refresh.Reveal()))] = account.ID
	found, err := f.client.Account(t.Context(), tokens.Access)
	if err != nil {
		t.Fatal(err)
	}
	err = pgx.BeginFunc(t.Context(), f.db, func(tx pgx.Tx) error {
		links, err := f.keeper.Reconnecter.(*provisioning.Inviter).Linker.Issue(t.Context(), tx, []uuid.UUID{client})
		if err != nil {
			return err
		}
		v, err := f.keeper.Store.Take(t.Context(), tx, grant.Consented{Client: client, Invitation: &links[0], Tokens: tokens, Account: found})
		if err != nil {
			return err
		}
		_, err = provisioning.Advance(t.Context(), tx, provisioning.Change{
			Client: client, Event: v.Event, Actor: provisioning.ActorOwner, To: provisioning.StageAuthorized,
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ServeHTTP is the provider, who keeps a log of the refresh tokens that come, and strikes who asks for it.
func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.FormValue("grant_type") != "refresh_token" {
		f.provider.ServeHTTP(w, r)
		return
	}
	number, _ := strconv.Atoi(r.Header.Get(numberHeader))
	q := &request{replica: number, token: sha256.Sum256([]byte(r.FormValue("refresh_token"))), began: time.Now()}
	f.mu.Lock()
	f.sent = append(f.sent, q)
	f.mu.Unlock()

	answer := httptest.NewRecorder()
	f.provider.ServeHTTP(answer, r)
	var tokens struct {
		Refresh string `json:"refresh_token"`
	}
	_ = json.Unmarshal(answer.Body.Bytes(), &tokens)
	f.mu.Lock()
	q.ended, q.accepted = time.Now(), answer.Code == http.StatusOK
	if q.accepted {
		q.answer = sha256.Sum256([]byte(tokens.Refresh))
		f.chain[q.answer] = f.chain[q.token]
	}
	f.mu.Unlock()

	var pid int
	var signal syscall.Signal
	if n, _ := fmt.Sscan(r.Header.Get(strikeHeader), &pid, &signal); n == 2 {
		_ = syscall.Kill(pid, signal)
		if signal == syscall.SIGKILL {
			panic(http.ErrAbortHandler)
		}
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

const processes = 8

// run keeps eight replicas running until each step has been struck often enough.
func (f *fleet) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var started atomic.Int64
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() {
			for ctx.Err() == nil {
				r := f.replica
				r.Number = int(started.Add(1))
				r.After = randv2.IntN(5) //nolint:gosec // any refresh will do
				if i%2 == 0 {
					r.Age = r.Lease // Only who has been there for a while takes over what the dead have left.
				}
				if i < processes/2 {
					r.Step, r.Signal = beforeSend+step(r.Number)%(afterTold-beforeSend), syscall.SIGSTOP
				} else {
					r.Step, r.Signal = f.spared(r.Number), syscall.SIGKILL
				}
				if err := f.live(ctx, r); err != nil && ctx.Err() == nil {
					t.Error(err)
					cancel()
				}
			}
		})
	}
	killed := 0 // requests before the last kill at any instant
	for !f.done() && ctx.Err() == nil {
		// Half of the grants are refreshed as often as can be, half not within a grace. Doubts take their time. Only a
		// first refresh is told, so that each is one.
		if _, err := f.db.Exec(ctx, `
			UPDATE grants
			SET
				refresh_at = clock_timestamp(),
				proven_at = NULL
			WHERE refresh_at > clock_timestamp()
				AND lease_id IS NULL
				AND refused_at IS NULL
				AND coalesce(refreshed_at, created_at) <= clock_timestamp() - $1::interval * (hashtext(id::text) & 1)`, f.grace); err != nil {
			t.Error(err)
			break
		}
		// Replicas that were never left alone would come to no step, however slow the machine.
		if n := f.requests(); n >= killed+5*processes && randv2.IntN(30) == 0 { //nolint:gosec // any instant will do
			killed = n
			f.killAny()
		}
		<-time.After(50 * time.Millisecond)
	}
	cancel() // which kills them all
	wg.Wait()
}

// spared returns a step at which too few replicas were killed, 0 if there is none.
func (f *fleet) spared(number int) step {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range steps {
		if s := 1 + (number+i)%steps; f.kills[s] < *roundsFlag {
			return step(s)
		}
	}
	return 0
}

// done tells whether every step has been struck often enough.
func (f *fleet) done() bool {
	spared := f.spared(0)
	f.mu.Lock()
	defer f.mu.Unlock()
	return spared == 0 && slices.Min(f.stuns[beforeSend:afterTold]) >= *roundsFlag
}

// live starts a replica and returns when it is dead, which is an error if nobody killed it.
func (f *fleet) live(ctx context.Context, r replica) error {
	spec, err := json.Marshal(r)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var trouble strings.Builder
	cmd := exec.CommandContext(ctx, program, "-replica="+string(spec))
	cmd.Stderr = &trouble
	if _, err := cmd.StdinPipe(); err != nil { // whose end tells it that we are gone
		return err
	}
	announced, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	f.mu.Lock()
	f.running[r.Number] = cmd
	f.mu.Unlock()
	struck := bufio.NewScanner(announced).Scan()
	if struck && r.Signal == syscall.SIGSTOP {
		f.stun(ctx, r, cmd.Process)
	}
	err = cmd.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.running, r.Number)
	f.strikes[r.Number] = append(f.strikes[r.Number], strike{from: time.Now()})
	switch status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); {
	case !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL:
		return fmt.Errorf("replica %d: %w: %s", r.Number, err, &trouble)
	case struck && r.Signal == syscall.SIGKILL:
		f.kills[r.Step]++
	default:
		f.kills[0]++
	}
	return nil
}

// stun leaves a replica stopped for longer than its lease, and lets it live a little after that.
func (f *fleet) stun(ctx context.Context, r replica, process *os.Process) {
	from := time.Now()
	pause(ctx, r.Lease*5/4)
	f.mu.Lock()
	f.strikes[r.Number] = append(f.strikes[r.Number], strike{from, time.Now()})
	f.stuns[r.Step]++
	f.mu.Unlock()
	_ = process.Signal(syscall.SIGCONT)
	pause(ctx, r.Lease/4)
	_ = process.Kill()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// requests returns how many refreshes were asked for.
func (f *fleet) requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sent)
}

// killAny kills one replica.
func (f *fleet) killAny() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, cmd := range f.running {
		_ = cmd.Process.Kill()
		return
	}
}

// settle has what the dead have left taken up, every doubt decided, and every grant refreshed.
func (f *fleet) settle(t *testing.T) {
	t.Helper()
	for f.work(t); f.count(t, `SELECT count(*) FROM grants WHERE lease_id IS NOT NULL`) > 0; f.work(t) {
		pause(t.Context(), 20*time.Millisecond)
	}
	f.keeper.Now = f.clock.now
	f.clock.advance(time.Hour) // No token lives on in a grace.
	for range 9 {              // More than a week: so long verdicts wait, if many grants are refused at once.
		if _, err := f.db.Exec(t.Context(), `UPDATE grants SET refresh_at = $1 WHERE status = 'active'`, f.clock.now()); err != nil {
			t.Fatal(err)
		}
		f.work(t)
		if f.count(t, `
			SELECT count(*)
			FROM grants
			WHERE status = 'active'
				AND (refused_at IS NOT NULL OR refreshed_at IS NULL OR refreshed_at < $1)`, f.clock.now().Add(-time.Hour)) == 0 {
			return
		}
		f.clock.advance(25 * time.Hour)
	}
	t.Error("doubts stay undecided, or grants are not refreshed")
}

func (f *fleet) work(t *testing.T) {
	t.Helper()
	for {
		worked, err := f.keeper.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !worked {
			return
		}
	}
}

func (f *fleet) count(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	if err := f.db.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// check holds every grant to what is promised, and tells what happened.
func (f *fleet) check(t *testing.T, remedy bool) {
	t.Helper()
	lapsed := 0
	if n := f.count(t, `SELECT count(*) FROM refreshes WHERE outcome IS NULL`); n > 0 {
		t.Errorf("%d attempts have no outcome", n)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	sent := make(map[string][]*request) // by account
	for _, q := range f.sent {
		sent[f.chain[q.token]] = append(sent[f.chain[q.token]], q)
	}
	ended := make(map[string]sandbox.Ending)
	for _, g := range f.provider.Grants() {
		ended[g.AccountID] = g.Ended
	}
	for client, account := range f.clients {
		f.checkSending(t, account, sent[account])
		g, err := f.keeper.Store.Of(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		if g[0].Status == grant.StatusLapsed {
			lapsed++
			f.checkLapse(t, client, account)
			slow := f.slowest() > *leaseFlag/4 // A machine on which an answer takes that long uses up the grace itself.
			if why := f.remedy(sent[account]); why != "" || remedy && !slow && f.deaths(t, g[0].ID) <= mostStruck {
				t.Errorf("%s has lapsed, although there was a remedy: %s (at the provider: %q)\n%s", account, why, ended[account], f.history(sent[account]))
			} else if remedy {
				t.Logf("%s outlasted the grace: more than %d replicas in a row were struck over one token, or an answer took %s\n%s",
					account, mostStruck, f.slowest(), f.history(sent[account]))
			}
			continue
		}
		f.mu.Unlock() // The provider keeps its log meanwhile.
		var found provisioning.Account
		token, err := f.keeper.Token(t.Context(), client)
		if err == nil {
			found, err = f.client.Account(t.Context(), token.Access)
		}
		f.mu.Lock()
		if err != nil || found.ID != account || ended[account] != sandbox.Live {
			t.Errorf("the token of %s opens %q: %v (at the provider: %q)", account, found.ID, err, ended[account])
		}
		if g[0].RefreshedAt == nil || f.clock.now().Sub(*g[0].RefreshedAt) > 26*time.Hour {
			t.Errorf("%s was not refreshed in the end", account)
		}
	}
	f.report(t, lapsed)
}

// checkLapse holds a client whose grant has lapsed to it that the owner is asked to connect again.
func (f *fleet) checkLapse(t *testing.T, client uuid.UUID, account string) {
	t.Helper()
	var stage provisioning.Stage
	var asked int
	err := f.db.QueryRow(t.Context(), `
		SELECT
			stage,
			(SELECT count(*) FROM messages WHERE client_id = c.id AND kind = 'reconnect' AND state = 'queued')
		FROM clients c
		WHERE id = $1`, client).Scan(&stage, &asked)
	if err != nil {
		t.Fatal(err)
	}
	if stage != provisioning.StageLapsed || asked != 1 {
		t.Errorf("%s has lapsed: its client is %s and was asked to connect again %d times", account, stage, asked)
	}
}

// checkSending demands that no token is sent by two at once, nor after one that came of it.
func (f *fleet) checkSending(t *testing.T, account string, sent []*request) {
	t.Helper()
	parent := make(map[hash]hash) // tokens by those that came of them
	old := make(map[hash]bool)
	var last *request
	for _, q := range sent {
		if last != nil && q.began.Before(last.ended) && q.token == last.token {
			t.Errorf("replicas %d and %d refreshed %s at once", last.replica, q.replica, account)
		}
		if old[q.token] {
			t.Errorf("replica %d refreshed %s by a token that was replaced\n%s", q.replica, account, f.history(sent))
		}
		if came, ok := parent[q.token]; ok && came != q.token {
			old[came] = true
		}
		if q.accepted {
			parent[q.answer] = q.token
		}
		last = q
	}
}

// remedy says in words what else could have been done than to let a grant lapse; empty if there was nothing.
func (f *fleet) remedy(sent []*request) string {
	last := -1
	first := make(map[hash]time.Time) // when a token was first accepted
	for i, q := range sent {
		if !q.accepted {
			continue
		}
		last = i
		if _, ok := first[q.token]; !ok {
			first[q.token] = q.began
		}
	}
	if last < 0 || last == len(sent)-1 {
		return "the provider did not refuse it"
	}
	accepted, refused := sent[last], sent[len(sent)-1]
	if f.detects {
		refused = sent[last+1] // which killed it
	}
	switch {
	case refused.token == accepted.answer:
		return "its newest token was known"
	case refused.token != accepted.token:
		return fmt.Sprintf("replica %d sent an old token", refused.replica)
	case refused.ended.Sub(first[refused.token]) < f.grace: // at most: it began while the one was answered, and ended while the other was
		return "the grace was not over"
	case !slices.ContainsFunc(f.strikes[accepted.replica], func(s strike) bool {
		return s.from.Before(refused.began) && (s.to.IsZero() || s.to.After(accepted.began))
	}):
		return fmt.Sprintf("replica %d, which was not struck, had its newest token", accepted.replica)
	}
	return ""
}

// slowest returns how long the provider took at most for an answer.
func (f *fleet) slowest() (most time.Duration) {
	for _, q := range f.sent {
		most = max(most, q.ended.Sub(q.began))
	}
	return most
}

// deaths returns how many attempts by its last refresh token left nothing but a lease.
func (f *fleet) deaths(t *testing.T, id uuid.UUID) (n int) {
	t.Helper()
	err := f.db.QueryRow(t.Context(), `
		SELECT count(*)
		FROM grants g
		JOIN refreshes r ON r.grant_id = g.id AND r.generation = g.generation
		WHERE g.id = $1
			AND r.outcome = 'lost'`, id).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// history tells what a grant went through at last, a line a request.
func (f *fleet) history(sent []*request) string {
	var b strings.Builder
	for _, q := range sent[max(0, len(sent)-8):] {
		fmt.Fprintf(&b, "%s replica %d sent %x and got %x", q.began.Format("05.000"), q.replica, q.token[:3], q.answer[:3])
		for _, s := range f.strikes[q.replica] {
			fmt.Fprintf(&b, "; struck at %s until %s", s.from.Format("05.000"), s.to.Format("05.000"))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// report tells what happened.
func (f *fleet) report(t *testing.T, lapsed int) {
	t.Helper()
	rows, err := f.db.Query(t.Context(), `
		SELECT format('%s %s', count(*), coalesce(outcome, 'open'))
		FROM refreshes
		GROUP BY outcome
		ORDER BY outcome`)
	if err != nil {
		t.Fatal(err)
	}
	attempts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d grants, %d of them lapsed; replicas killed anywhere: %d, by step: %d; stunned by step: %d; attempts: %s",
		len(f.clients), lapsed, f.kills[0], f.kills[1:], f.stuns[1:], strings.Join(attempts, ", "))
}
