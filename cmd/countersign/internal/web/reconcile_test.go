package web_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/net/html"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/queue"
)

// partner lists these accounts, whose owners are called by the account's id.
type partner struct {
	accounts []provisioning.ListedAccount
	refusal  error
}

func (p *partner) Accounts(context.Context) iter.Seq2[provisioning.ListedAccount, error] {
	return func(yield func(provisioning.ListedAccount, error) bool) {
		for _, a := range p.accounts {
			if !yield(a, p.refusal) {
				return
			}
		}
	}
}

func (p *partner) ManagedAccount(_ context.Context, id string) (provisioning.Account, error) {
	if id == "acct-secret" {
		return provisioning.Account{ID: id}, nil
	}
	return provisioning.Account{ID: id, ContactEmail: id + "@new.example"}, nil
}

// reconciles makes the edge that of a partner.
func (b *testBundle) reconciles(t *testing.T, p *partner) {
	t.Helper()
	jobs, err := queue.New()
	if err != nil {
		t.Fatal(err)
	}
	b.Reconciliations = &provisioning.Reconciliations{
		DB: b.db, Jobs: jobs, Reconciler: &provisioning.Reconciler{DB: b.db, Partner: p, Importer: b.Importer},
	}
}

// works does the one job that waits.
func (b *testBundle) works(t *testing.T) {
	t.Helper()
	var id uuid.UUID
	err := b.db.QueryRow(t.Context(), `DELETE FROM river_job WHERE queue = $1 RETURNING (args->>'row')::uuid`, string(provisioning.JobReconcile)).Scan(&id)
	if err != nil {
		t.Fatalf("no job waits: %v", err)
	}
	if err := b.Reconciliations.Work(t.Context(), queue.Running{Job: queue.Job{Kind: provisioning.JobReconcile, Row: id}}); err != nil {
		t.Fatal(err)
	}
}

// renews says whether the page asks for itself again.
func (p page) renews(t *testing.T) bool {
	t.Helper()
	return len(find(p.doc(t), with("data-hx-get", "/admin/reconcile"))) == 1
}

// rows reads the table of a section.
func (p page) rows(t *testing.T, section string) (rows []string) {
	t.Helper()
	for _, body := range find(p.doc(t), with("id", section)) {
		for _, row := range find(body, tag("tr"))[1:] {
			rows = append(rows, text(row))
		}
	}
	return rows
}

func TestReconcileWalk(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	p := &partner{accounts: []provisioning.ListedAccount{
		{ID: "acct-acme", Organization: "Acme Bakery", BillingStatus: "Open"},
		{ID: "acct-cafe", Organization: "CAFÉ LUMIÈRE", BillingStatus: "Trial", Managed: true},
		{ID: "acct-new", Organization: "Nordlicht", Managed: true},
		{ID: "acct-secret", Organization: "Secret & Co", Managed: true},
		{ID: "acct-referred", Organization: "Referred"},
	}}
	b.reconciles(t, p)
	operator := b.operator(t)

	page := operator.get(t, "/admin/reconcile").has(t, http.StatusOK)
	page.says(t, "Reconcile with Constant Contact", "Nothing changes until you say so.")
	if page.renews(t) || text(page.button(t)) != "Read the provider’s list" {
		t.Errorf("the button says %q", text(page.button(t)))
	}
	for range 2 {
		if got := operator.post(t, "/admin/reconcile", nil).leads(t); got != "/admin/reconcile" {
			t.Errorf("starting leads to %s", got)
		}
	}
	page = operator.get(t, "/admin/reconcile").has(t, http.StatusOK)
	page.says(t, "Reading the list", "0 accounts so far", "You may leave the page")
	if !page.renews(t) || len(find(page.doc(t), tag("noscript"))) != 1 || len(posts(page.doc(t))) != 1 { // to sign out
		t.Errorf("forms to %q in %s", posts(page.doc(t)), page.body)
	}

	b.works(t)
	before := b.count(t, "events")
	page = operator.get(t, "/admin/reconcile").has(t, http.StatusOK)
	page.says(t, "3 clients · 5 accounts", operatorEmail,
		"1 Account id missing in the roster", "2 Only at the provider, managed", "1 Only at the provider, not managed", "1 Only in the roster", "1 In both", "a few seconds")
	if page.renews(t) {
		t.Error("a page at rest renews itself")
	}
	for section, want := range map[string][]string{
		"account_id_missing": {"Café Lumière CAFE cleo@cafe.example CAFÉ LUMIÈRE acct-cafe · Trial"},
		"addable":            {"Nordlicht acct-new", "Secret & Co acct-secret"},
		"provider_only":      {"Referred acct-referred"},
		"roster_only":        {"Bloom Florist BLOOM ben@bloom.example"},
	} {
		if diff := cmp.Diff(want, page.rows(t, section)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", section, diff)
		}
	}
	if got := text(page.button(t)); got != "Fill in 1 account id" {
		t.Errorf("the button says %q", got)
	}

	fill, late := page.action(t), strings.Replace(page.action(t), "/fill", "/add", 1)
	for range 2 {
		operator.post(t, fill, nil).leads(t)
	}
	page = operator.get(t, "/admin/reconcile").has(t, http.StatusOK)
	page.says(t, "Filling in account ids")
	b.works(t)
	operator.post(t, late, nil).leads(t) // The page that it comes from is old.
	page = operator.get(t, "/admin/reconcile").has(t, http.StatusOK)
	page.says(t, "1 account id filled in", "2 In both")
	if c := b.client(t, "CAFE"); c.AccountID == nil || *c.AccountID != "acct-cafe" || b.count(t, "events") != before+1 {
		t.Errorf("client %+v, %d events", c, b.count(t, "events"))
	}
	if got := text(page.button(t)); got != "Add 2 managed accounts" {
		t.Errorf("the button says %q", got)
	}

	operator.post(t, page.action(t), nil).leads(t)
	page = operator.get(t, "/admin/reconcile").has(t, http.StatusOK)
	page.says(t, "Adding managed accounts", "0 of 2")
	b.works(t)
	page = operator.get(t, "/admin/reconcile").has(t, http.StatusOK)
	page.says(t, "1 client added", "Held back: 1 account", "The provider has no address of its owner")
	outcome := find(find(page.doc(t), with("aria-labelledby", "applied"))[0], tag("a"))
	if len(outcome) != 2 || text(outcome[0]) != "Import of 1 row" || attribute(outcome[1], "href") != "/admin/clients?stage=imported" {
		t.Fatalf("%d links of the outcome in %s", len(outcome), page.body)
	}
	operator.get(t, attribute(outcome[0], "href")).has(t, http.StatusOK).says(t, "Created 1", operatorEmail)

	links := find(page.doc(t), tag("a"), func(n *html.Node) bool { return strings.HasSuffix(attribute(n, "href"), "/missing.csv") })
	if len(links) != 1 || text(links[0]) != "Download 2 missing accounts" {
		t.Fatalf("%d downloads in %s", len(links), page.body)
	}
	file := operator.get(t, attribute(links[0], "href")).has(t, http.StatusOK)
	if got := file.header.Get("Content-Disposition"); got != `attachment; filename="missing.csv"` {
		t.Errorf("it comes as %s", got)
	}
	records, err := csv.NewReader(strings.NewReader(file.body)).ReadAll()
	if err != nil || len(records) != 3 {
		t.Errorf("%q, %v", records, err)
	}
}

func TestReconcileTellsRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.reconciles(t, &partner{
		accounts: []provisioning.ListedAccount{{ID: "X"}},
		refusal:  fmt.Errorf("%w: check the key (PARTNER_API_KEY)", &provisioning.ProviderError{Op: "list the accounts", Status: 403}),
	})
	operator := b.operator(t)
	operator.post(t, "/admin/reconcile", nil).leads(t)
	b.works(t)
	page := operator.get(t, "/admin/reconcile").has(t, http.StatusOK)
	page.says(t, "List the accounts: the provider answered 403: check the key (PARTNER_API_KEY).")
	if text(page.button(t)) != "Read the provider’s list" || b.log.String() != "" {
		t.Errorf("the button says %q, the log %s", text(page.button(t)), b.log)
	}
}

// TestReconcileIsGuarded: only for operators, only from our own pages, and only where it can work.
func TestReconcileIsGuarded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	id := uuid.NewString()
	page := operator.get(t, "/admin/reconcile").has(t, http.StatusOK)
	page.says(t, "COUNTERSIGN_PARTNER_CLIENT_ID", "COUNTERSIGN_PARTNER_CLIENT_SECRET", "COUNTERSIGN_PARTNER_API_KEY")
	operator.post(t, "/admin/reconcile", nil).has(t, http.StatusServiceUnavailable)
	operator.post(t, "/admin/reconcile/"+id+"/fill?seen=0", nil).has(t, http.StatusServiceUnavailable)
	operator.get(t, "/admin/reconcile/"+id+"/missing.csv").has(t, http.StatusServiceUnavailable)

	b.reconciles(t, &partner{})
	for _, path := range []string{"/admin/reconcile", "/admin/reconcile/" + id + "/fill?seen=0", "/admin/reconcile/" + id + "/add?seen=0"} {
		if got := b.browser(t).post(t, path, nil).leads(t); got != "/admin/sign-in" {
			t.Errorf("%s leads a stranger to %s", path, got)
		}
		operator.do(t, http.MethodPost, path, nil, "Sec-Fetch-Site", "cross-site").has(t, http.StatusForbidden)
		if got := operator.get(t, path); got.status != http.StatusOK && got.leads(t) != "/admin/reconcile" {
			t.Errorf("to look at %s answers %d", path, got.status)
		}
	}
	for _, path := range []string{"/admin/reconcile", "/admin/reconcile/" + id + "/missing.csv"} {
		if got := b.browser(t).get(t, path).leads(t); got != "/admin/sign-in" {
			t.Errorf("%s leads a stranger to %s", path, got)
		}
	}
	if n := b.count(t, "reconciliations"); n != 0 {
		t.Errorf("%d readings were started", n)
	}
	operator.get(t, "/admin/reconcile/"+id+"/missing.csv").has(t, http.StatusNotFound)
	operator.get(t, "/admin/reconcile/made-up/missing.csv").has(t, http.StatusNotFound)
	operator.post(t, "/admin/reconcile/made-up/fill?seen=0", nil).has(t, http.StatusNotFound)
	operator.post(t, "/admin/reconcile/"+id+"/fill", url.Values{"seen": {"0"}}).has(t, http.StatusBadRequest)

	b.Importer = nil
	operator.post(t, "/admin/reconcile", nil).leads(t)
	b.works(t)
	page = operator.get(t, "/admin/reconcile").has(t, http.StatusOK)
	operator.post(t, "/admin/reconcile/"+id+"/fill?seen=0", nil).has(t, http.StatusServiceUnavailable)
	page.says(t, "set COUNTERSIGN_AGENCY_MAILBOX")
}
