package partner_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/partner"
)

// provider answers for accounts as it is told to; what it is told nothing of, opens.
type provider struct {
	mu    sync.Mutex
	says  map[string]error
	asked map[string]int
}

func (p *provider) ManagedAccount(_ context.Context, id string) (provisioning.Account, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[id]++
	return provisioning.Account{ID: id, Organization: "Organization " + id}, p.says[id]
}

func refusal(status int, code string) error {
	return fmt.Errorf("wrapped: %w", &provisioning.ProviderError{Op: "look into the account", Status: status, Code: code})
}

type desk struct {
	*testing.T
	*provider

	db      *pgxpool.Pool
	now     time.Time
	checker *partner.Checker
	inviter *provisioning.Inviter
}

const accounts = "ref,name,owner_email,route,account_id\nA,Ann,a@a.example,partner,acc-a\nB,Ben,b@a.example,partner,acc-b\n" +
	"C,Cat,c@a.example,partner,\nD,Dan,d@a.example,partner,acc-d\nE,Eve,e@a.example,owner,acc-e\n"

func openDesk(t *testing.T, roster string) *desk {
	t.Helper()
	d := &desk{T: t, db: pgtest.New(t), now: time.Now(), provider: &provider{says: map[string]error{}, asked: map[string]int{}}}
	clock := func() time.Time { return d.now }
	d.checker = &partner.Checker{DB: d.db, Provider: d.provider, PerDay: 10_000, Now: clock, Log: slog.New(slog.DiscardHandler)}
	d.inviter = &provisioning.Inviter{
		DB: d.db, Mailer: &notify.Mailer{DB: d.db, Now: clock},
		Linker: &authflow.Links{DB: d.db, Key: []byte("key of a test"), PublicURL: "http://127.0.0.1", Now: clock},
	}
	pattern, err := provisioning.ParsePattern("{local}+{slug}@{domain}")
	d.ok(err)
	namer, err := provisioning.NewNamer(pattern, provisioning.Mailbox{Local: "agency", Domain: "agency.example"}, 50)
	d.ok(err)
	importer := &provisioning.Importer{DB: d.db, Namer: namer, Inviter: d.inviter}
	_, err = importer.Import(t.Context(), strings.NewReader(roster), provisioning.ImportOptions{Actor: provisioning.ActorCLI})
	d.ok(err)
	return d
}

func (d *desk) ok(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d *desk) client(ref string) provisioning.Client {
	d.Helper()
	c, err := (&provisioning.Store{DB: d.db}).Client(d.Context(), "ref:"+ref)
	d.ok(err)
	return c
}

// stand checks stages and reasons, as "A authorized, B stalled unmanaged".
func (d *desk) stand(want string) {
	d.Helper()
	for one := range strings.SplitSeq(want, ", ") {
		ref, want, _ := strings.Cut(one, " ")
		c := d.client(ref)
		got := string(c.Stage)
		if c.Reason != nil {
			got += " " + string(*c.Reason)
		}
		if got != want {
			d.Errorf("%s is %s, want %s", ref, got, want)
		}
	}
}

func (d *desk) history(ref string) string {
	d.Helper()
	events, err := (&provisioning.Store{DB: d.db}).Events(d.Context(), d.client(ref).ID, 0, 50)
	d.ok(err)
	var kinds []string
	for i := range events {
		kinds = append(kinds, string(events[len(events)-1-i].Kind))
	}
	return strings.Join(kinds, " ")
}

func (d *desk) work(after time.Duration) {
	d.Helper()
	d.now = d.now.Add(after)
	d.ok(d.checker.Work(d.Context()))
}

// TestWork: every answer means what it means, is told once, and is asked for again.
func TestWork(t *testing.T) {
	t.Parallel()
	d := openDesk(t, accounts)
	d.says["acc-b"] = refusal(403, "access_denied")
	d.says["acc-d"] = refusal(200, "another_account")
	d.work(0)
	d.stand("A authorized, B stalled unmanaged, C stalled no_account, D stalled wrong_account, E imported")
	d.work(time.Minute)
	if d.asked["acc-a"] != 1 || d.asked["acc-b"] != 1 || d.asked["acc-e"] != 0 {
		t.Errorf("asked for %v", d.asked)
	}
	for range 3 {
		d.work(25 * time.Hour)
	}
	if d.asked["acc-a"] != 4 || d.asked["acc-b"] != 4 {
		t.Errorf("later asked for %v", d.asked)
	}
	for ref, want := range map[string]string{"A": "imported authorized", "B": "imported refused", "C": "imported refused", "D": "imported refused"} {
		if got := d.history(ref); got != want {
			t.Errorf("%s: history %q, want %q", ref, got, want)
		}
	}
	delete(d.says, "acc-b") // Its owner has approved.
	d.work(25 * time.Hour)
	d.stand("B authorized")
}

// TestLapse: an account that is authorized counts as lost when it is refused twice.
func TestLapse(t *testing.T) {
	t.Parallel()
	d := openDesk(t, accounts)
	d.work(0)
	d.says["acc-a"] = refusal(404, "partner.api.not_found")
	d.work(25 * time.Hour)
	d.stand("A authorized")
	d.says["acc-b"] = refusal(404, "partner.api.not_found")
	d.work(time.Hour)
	d.stand("A lapsed, B authorized")
	delete(d.says, "acc-a")
	d.work(25 * time.Hour)
	d.stand("A authorized, B authorized")
	delete(d.says, "acc-b")
	d.work(time.Hour)
	d.stand("B authorized")
	if got, want := d.history("A"), "imported authorized refused lapsed authorized"; got != want {
		t.Errorf("history %q, want %q", got, want)
	}
}

// TestUnanswered: what the provider cannot answer says nothing, and stops what would be in vain too.
func TestUnanswered(t *testing.T) {
	t.Parallel()
	d := openDesk(t, accounts)
	for _, id := range []string{"acc-a", "acc-b", "acc-d"} {
		d.says[id] = provisioning.ErrProviderUnavailable
	}
	d.work(0)
	if n := d.asked["acc-a"] + d.asked["acc-b"] + d.asked["acc-d"]; n != 1 {
		t.Errorf("asked %d times", n)
	}
	d.stand("A imported, B imported, D imported")
	for _, id := range []string{"acc-a", "acc-b", "acc-d"} {
		d.says[id] = refusal(401, "unauthorized")
	}
	d.now = d.now.Add(time.Hour)
	if err := d.checker.Work(t.Context()); err == nil {
		t.Error("a token that is not taken is no error")
	}
	d.stand("A imported, B imported, D imported")
	clear(d.says)
	d.work(time.Hour)
	d.stand("A authorized, B authorized, D authorized")
}

// TestRouteAndAccount: another route or account is asked for at once.
func TestRouteAndAccount(t *testing.T) {
	t.Parallel()
	d := openDesk(t, accounts)
	d.work(0)
	edit := func(ref string, e provisioning.Edit) {
		t.Helper()
		if _, err := d.inviter.Edit(t.Context(), d.client(ref).ID, "", e, provisioning.ActorCLI); err != nil {
			t.Fatal(err)
		}
	}
	edit("C", provisioning.Edit{AccountID: new("acc-c")})
	edit("E", provisioning.Edit{Route: new("partner")})
	edit("A", provisioning.Edit{Route: new("owner")})
	d.stand("A imported, C stalled no_account, E imported")
	d.work(time.Minute)
	d.stand("A imported, C authorized, E authorized")
	edit("A", provisioning.Edit{Route: new("partner")})
	d.work(time.Minute)
	d.stand("A authorized")

	if err := d.checker.Check(t.Context(), d.client("A").ID, provisioning.ActorCLI); err != nil || d.asked["acc-a"] != 3 {
		t.Errorf("asked at once: %v, %v", d.asked, err)
	}
	edit("A", provisioning.Edit{Route: new("owner")})
	if err := d.checker.Check(t.Context(), d.client("A").ID, provisioning.ActorCLI); !errors.Is(err, partner.ErrOtherRoute) {
		t.Errorf("on another route: %v", err)
	}
	if err := d.checker.Check(t.Context(), uuid.New(), provisioning.ActorCLI); !errors.Is(err, partner.ErrOtherRoute) {
		t.Errorf("nobody: %v", err)
	}
}

// TestAtOnce: many at work ask for every account once.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	var roster strings.Builder
	roster.WriteString("ref,name,owner_email,route,account_id\n")
	const n = 60
	for i := range n {
		fmt.Fprintf(&roster, "R%d,Client %d,o%d@a.example,partner,acc-%d\n", i, i, i, i)
	}
	d := openDesk(t, roster.String())
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			if err := d.checker.Work(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for i := range n {
		if id := fmt.Sprintf("acc-%d", i); d.asked[id] != 1 {
			t.Errorf("%s was asked for %d times", id, d.asked[id])
		}
	}
}

// TestPause: looking at all accounts takes no more than a quarter of a day's calls.
func TestPause(t *testing.T) {
	t.Parallel()
	d := openDesk(t, accounts)
	d.checker.PerDay = 4 // one look a day
	d.ok(provisioning.FoldTally(t.Context(), d.db))
	d.work(0)
	state, err := d.checker.State(t.Context(), d.client("A").ID)
	if err != nil || state.NextAt == nil || state.NextAt.Sub(*state.CheckedAt) != 4*24*time.Hour {
		t.Errorf("%+v, %v", state, err)
	}
	if _, err := d.checker.State(t.Context(), uuid.New()); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}
