package provisioning_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/roster"
)

// partner is a provider of these accounts.
type partner struct {
	accounts []provisioning.ListedAccount
	owners   map[string]string // contact addresses of managed accounts by id
	fails    map[string]error  // answers to questions for an account, by id
	broken   error             // at the end of the list
	asked    []string
}

func (p *partner) Accounts(context.Context) iter.Seq2[provisioning.ListedAccount, error] {
	return func(yield func(provisioning.ListedAccount, error) bool) {
		for _, a := range p.accounts {
			if !yield(a, nil) {
				return
			}
		}
		if p.broken != nil {
			yield(provisioning.ListedAccount{}, p.broken)
		}
	}
}

func (p *partner) ManagedAccount(_ context.Context, id string) (provisioning.Account, error) {
	p.asked = append(p.asked, id)
	if err := p.fails[id]; err != nil {
		return provisioning.Account{}, err
	}
	return provisioning.Account{ID: id, ContactEmail: p.owners[id], FirstName: "Ann", LastName: "Moss"}, nil
}

// reconciler compares the office's roster with the partner's list.
func (o *office) reconciler(p *partner) *provisioning.Reconciler {
	return &provisioning.Reconciler{DB: o.DB, Partner: p, Importer: o.importer}
}

// listed reads accounts from lines of id|name, id|name|status or id|name|status|managed.
func listed(lines ...string) []provisioning.ListedAccount {
	var accounts []provisioning.ListedAccount
	for _, line := range lines {
		cells := append(strings.Split(line, "|"), "", "")
		accounts = append(accounts, provisioning.ListedAccount{
			ID: cells[0], Organization: cells[1], OwnerLogin: "login-" + cells[0], BillingStatus: cells[2], Managed: cells[3] == "managed",
		})
	}
	return accounts
}

// findings writes what a comparison finds as lines of kind: client = account.
func findings(tb fataler, r *provisioning.Reconciler, accounts []provisioning.ListedAccount) ([]string, provisioning.Reconciliation) {
	tb.Helper()
	var lines []string
	result, err := r.Compare(context.Background(), accounts, func(f provisioning.Finding) error {
		client, account := "", ""
		if f.Client != nil {
			client = f.Client.Name
		}
		if f.Account != nil {
			account = f.Account.ID
		}
		if f.Why == "" {
			tb.Fatalf("%s: %s = %s: no reason", f.Kind, client, account)
		}
		lines = append(lines, fmt.Sprintf("%s: %s = %s", f.Kind, client, account))
		return nil
	})
	if err != nil {
		tb.Fatalf("compare: %v", err)
	}
	return lines, result
}

func TestCompare(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		roster   []string // name|account id
		accounts []string
		want     []string
	}{
		"nothing at all": {},
		"the same account id, whatever the names": {
			[]string{"Acme|X"}, []string{"X|Other"}, []string{"both: Acme = X"},
		},
		"the same name in another case and with other spaces": {
			[]string{"Café Größe|"}, []string{"X| CAFE\u0301 \u00a0  gRÖßE "}, []string{"account_id_missing: Café Größe = X"},
		},
		"spaces are not left out": {
			[]string{"Acme Bakery|"}, []string{"X|AcmeBakery"}, []string{"roster_only: Acme Bakery = ", "provider_only:  = X"},
		},
		"an account id that is not listed": {
			[]string{"Acme|X"}, []string{"Y|acme"}, []string{"account_id_different: Acme = Y"},
		},
		"two accounts of a name": {
			[]string{"Acme|"}, []string{"X|Acme", "Y|ACME"}, []string{"ambiguous:  = X", "ambiguous:  = Y", "ambiguous: Acme = "},
		},
		"two clients of a name": {
			[]string{"Acme|", "ACME|"}, []string{"X|Acme"}, []string{"ambiguous:  = X", "ambiguous: Acme = ", "ambiguous: ACME = "},
		},
		"a name whose other account is known by its id": {
			[]string{"Acme|X", "ACME|"},
			[]string{"X|Acme", "Y|Acme"},
			[]string{"both: Acme = X", "ambiguous:  = Y", "ambiguous: ACME = "},
		},
		"a name whose only account is known by its id": {
			[]string{"Acme|X", "ACME|"}, []string{"X|Acme"}, []string{"both: Acme = X", "roster_only: ACME = "},
		},
		"a name whose only client is known by its id": {
			[]string{"Acme|X"}, []string{"X|Other", "Y|Acme"}, []string{"provider_only:  = Y", "both: Acme = X"},
		},
		"the id outweighs the name": {
			[]string{"Acme|X", "Bloom|"},
			[]string{"X|Bloom", "Y|Acme"},
			[]string{"both: Acme = X", "provider_only:  = Y", "roster_only: Bloom = "},
		},
		"canceled accounts": {
			[]string{"Acme|X", "Bloom|", "Corner|Q"},
			[]string{"X|Acme|Canceled", "Y|Bloom|canceled", "Z|Dune|Cancelled", "C|Corner|Canceled", "T|Trial|Trial End"},
			[]string{"canceled: Acme = X", "canceled: Bloom = Y", "account_id_different: Corner = C", "canceled:  = Z", "provider_only:  = T"},
		},
		"accounts without a name": {
			[]string{"Acme|"}, []string{"X|", "Y|\u200b \x00"}, []string{"provider_only:  = X", "provider_only:  = Y", "roster_only: Acme = "},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := setup(t)
			records := [][]string{{"name", "owner_email", "account_id"}}
			for i, line := range test.roster {
				client, id, _ := strings.Cut(line, "|")
				records = append(records, []string{client, fmt.Sprintf("o%d@a.example", i), id})
			}
			if len(test.roster) > 0 {
				o.imports(t, file(records...))
			}
			before := o.state(t)
			got, result := findings(t, o.reconciler(nil), listed(test.accounts...))
			if diff := cmp.Diff(test.want, got, cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, o.state(t)); diff != "" {
				t.Errorf("a comparison changes (-before +after):\n%s", diff)
			}
			if result.Clients != len(test.roster) || result.Accounts != len(test.accounts) || len(result.Counts) != len(provisioning.FindingKinds()) {
				t.Errorf("%d clients, %d accounts, counts %v", result.Clients, result.Accounts, result.Counts)
			}
		})
	}
}

func TestCompareShowsTheFirst(t *testing.T) {
	t.Parallel()
	o := setup(t)
	var accounts []string
	for i := range 250 {
		accounts = append(accounts, fmt.Sprintf("a%03d|Name %03d||%s", i, i, []string{"", "managed"}[i%2]))
	}
	_, got := findings(t, o.reconciler(nil), listed(accounts...))
	first := got.First[provisioning.FindingProviderOnly]
	if got.Counts[provisioning.FindingProviderOnly] != 250 || len(first) != provisioning.ShownFindings || first[99].Account.ID != "a099" ||
		got.Addable != 125 || len(got.Adds) != provisioning.ShownFindings || got.Adds[99].Account.ID != "a199" {
		t.Errorf("counts %v, %d shown, %d addable", got.Counts, len(first), got.Addable)
	}
	enough := errors.New("enough")
	if _, err := o.reconciler(nil).Compare(t.Context(), listed(accounts...), func(provisioning.Finding) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error %v, want the caller's own", err)
	}
}

func TestReconcilerAccounts(t *testing.T) {
	t.Parallel()
	p := &partner{accounts: listed("X|Acme", "Y|Bloom", "X|Acme||managed")}
	read := 0
	got, err := (&provisioning.Reconciler{Partner: p}).Accounts(t.Context(), func(n int) { read = n })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(listed("X|Acme||managed", "Y|Bloom"), got); diff != "" || read != 2 {
		t.Errorf("read %d accounts (-want +got):\n%s", read, diff)
	}
	p.broken = errors.New("the line is cut")
	if _, err := (&provisioning.Reconciler{Partner: p}).Accounts(t.Context(), nil); !errors.Is(err, p.broken) {
		t.Errorf("error %v, want the partner's", err)
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_email,account_id\n"+
		"A,Acme,ann@a.example,\n"+
		",'=Bloom,ben@b.example,\n"+ // a name that a spreadsheet would run
		",Corner,cy@c.example,OLD\n"+
		",Twin,t1@t.example,\n"+
		",twin,t2@t.example,\n"+
		",Dead,d@d.example,\n"+
		",Far,f@f.example,\n")
	accounts := listed("X|ACME", "Y|=bloom", "Z|Corner", "T|Twin", "D|Dead|Canceled", "N|New||managed")
	r := o.reconciler(&partner{})
	before := o.state(t)
	im, err := r.Fill(t.Context(), accounts, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	if im.FileName != "reconcile" || im.Rows != 2 || im.Updated != 2 || im.Rejected != 0 {
		t.Errorf("import %+v", im)
	}
	want := map[string]string{"Acme": "X", "=Bloom": "Y", "Corner": "OLD", "Twin": "", "twin": "", "Dead": "", "Far": ""}
	got := map[string]string{}
	for _, line := range askAll[string](t, o, `SELECT name || '|' || coalesce(account_id, '') FROM clients`) {
		name, id, _ := strings.Cut(line, "|")
		got[name] = id
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("account ids (-want +got):\n%s", diff)
	}
	after := o.state(t)
	for table := range after {
		changes := slices.Contains([]string{"clients", "events", "imports", "import_clients", "audit", "audit_head"}, table)
		if (before[table] != after[table]) != changes {
			t.Errorf("table %s: changed is %v, want %v", table, !changes, changes)
		}
	}

	im, err = r.Fill(t.Context(), accounts, provisioning.ActorCLI)
	if err != nil || im.ID != uuid.Nil {
		t.Errorf("second time: import %+v, error %v; want none", im, err)
	}
	if diff := cmp.Diff(after, o.state(t)); diff != "" {
		t.Errorf("second time (-before +after):\n%s", diff)
	}
}

// TestFillRejects has the provider list an id that cannot be one.
func TestFillRejects(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email\nAcme,ann@a.example\nBloom,ben@b.example\n")
	im, err := o.reconciler(nil).Fill(t.Context(), listed("no id|Acme", "Y|Bloom"), provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	if im.Updated != 1 || im.Rejected != 1 || im.Rejects[0].Code != roster.RejectAccountIDInvalid {
		t.Errorf("import %+v", im)
	}
}

func TestAdd(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email,account_id\nAcme,ann@a.example,X\nOld Name,ben@b.example,\n")
	p := &partner{
		owners: map[string]string{
			"N1": "new@n.example", "N2": "New@N.example", "R": "Ben@B.example", "E": "", "W": "nowhere", "Z": "z@z.example",
		},
		fails: map[string]error{"F": &provisioning.ProviderError{Op: "read the account", Status: 404, Code: "gone"}},
	}
	accounts := listed("X|Acme||managed", "N1|New|Open|managed", "N2|New|Trial|managed", "R|Renamed||managed", "E|Empty||managed",
		"F|Fails||managed", "W|Wrong||managed", "U|Unmanaged", "C|Canceled|Canceled|managed")
	var progress []string
	added, err := o.reconciler(p).Add(t.Context(), accounts, provisioning.ActorCLI, func(done, total int) {
		progress = append(progress, fmt.Sprintf("%d/%d", done, total))
	})
	if err != nil {
		t.Fatal(err)
	}
	if added.Created != 2 || added.Rejected != 1 || added.Held != 3 || len(added.Imports) != 1 {
		t.Errorf("added %+v", added)
	}
	if len(added.Rejects) != 1 || added.Rejects[0].Code != roster.RejectEmailInvalid {
		t.Errorf("rejects %+v", added.Rejects)
	}
	why := map[string]string{}
	for _, f := range added.Holds {
		why[f.Account.ID] = f.Why
	}
	for id, want := range map[string]string{"R": `"Old Name" has the same owner`, "E": "no address", "F": "gone"} {
		if !strings.Contains(why[id], want) {
			t.Errorf("account %s is held because %q, want %q in it", id, why[id], want)
		}
	}
	slices.Sort(p.asked)
	if diff := cmp.Diff([]string{"E", "F", "N1", "N2", "R", "W"}, p.asked); diff != "" {
		t.Errorf("accounts asked for (-want +got):\n%s", diff)
	}
	if len(progress) != 6 || progress[5] != "6/6" {
		t.Errorf("progress %v", progress)
	}
	clients := askAll[string](t, o, `SELECT concat_ws('|', name, owner_email, owner_name, account_id, route, stage) FROM clients WHERE account_id LIKE 'N%' ORDER BY account_id`)
	if diff := cmp.Diff([]string{"New|new@n.example|Ann Moss|N1|owner|imported", "New|New@n.example|Ann Moss|N2|owner|imported"}, clients); diff != "" {
		t.Errorf("clients (-want +got):\n%s", diff)
	}

	p.asked = nil
	again, err := o.reconciler(p).Add(t.Context(), accounts, provisioning.ActorCLI, nil)
	if err != nil || again.Created != 0 || again.Held != 3 {
		t.Errorf("second time: %+v, error %v", again, err)
	}
}

// TestAddKeepsWhatItHas has the provider end its answers in the middle.
func TestAddKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{
		"quota":        fmt.Errorf("tomorrow: %w", &provisioning.ProviderError{Status: 429, Code: "quota_exceeded"}),
		"unauthorized": &provisioning.ProviderError{Status: 401},
		"network":      provisioning.ErrProviderUnavailable,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := setup(t)
			p := &partner{owners: map[string]string{"A": "a@a.example", "C": "c@c.example"}, fails: map[string]error{"B": failure}}
			accounts := listed("A|A||managed", "B|B||managed", "C|C||managed")
			added, err := o.reconciler(p).Add(t.Context(), accounts, provisioning.ActorCLI, nil)
			if !errors.Is(err, failure) || added.Created != 1 || len(p.asked) != 2 {
				t.Errorf("added %+v, error %v, asked %v", added, err, p.asked)
			}
		})
	}
}

// TestWriteMissing completes the file of what is missing and imports it.
func TestWriteMissing(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email,account_id\nAcme,ann@a.example,X\n")
	accounts := listed("X|Acme", "U|=Unmanaged, Inc.|Open", "M|Managed|Trial End|managed", "C|Canceled|Canceled")
	r := o.reconciler(nil)
	var text bytes.Buffer
	n, err := r.WriteMissing(t.Context(), accounts, &text)
	if err != nil || n != 2 {
		t.Fatalf("%d accounts, error %v", n, err)
	}
	const want = "name,owner_email,owner_name,account_id,site_owner_name,billing_status,managed\n" +
		"\"'=Unmanaged, Inc.\",,,U,login-U,Open,false\n" +
		"Managed,,,M,login-M,Trial End,true\n"
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	if im := o.imports(t, text.String()); im.Rejected != 2 || im.Rejects[0].Code != roster.RejectEmailMissing {
		t.Errorf("imported as it is: %+v", im)
	}
	completed := strings.NewReplacer(`",,,U`, `",u@u.example,,U`, "Managed,,", "Managed,m@m.example,").Replace(text.String())
	if im := o.imports(t, completed); im.Created != 2 || im.Rejected != 0 {
		t.Errorf("completed and imported: %+v", im)
	}
	if c := o.client(t, "Managed"); c.OwnerName != "" || c.Extra["site_owner_name"] != "login-M" {
		t.Errorf("the user name became the owner: %+v", c)
	}
	got, _ := findings(t, r, accounts)
	if diff := cmp.Diff([]string{"both: =Unmanaged, Inc. = U", "both: Acme = X", "canceled:  = C", "both: Managed = M"}, got, cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("afterwards (-want +got):\n%s", diff)
	}
}

// TestReconcileProperty fills and adds whatever the roster and the list are, and looks that nothing is
// proposed twice, no account id is changed, and nobody is lost.
func TestReconcileProperty(t *testing.T) {
	t.Parallel()
	whole := setup(t)
	names := rapid.SampledFrom([]string{"Acme", "ACME", "acme ", "Bloom", "bloom", "Corner  Shop", "corner shop", "Dune", "Eve", "Fig", "Gum"})
	ids := rapid.SampledFrom([]string{"", "", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "b1", "b2"})
	owners := rapid.SampledFrom([]string{"o1@o.example", "o2@o.example", "o3@o.example", "o4@o.example", "O5@o.example", ""})
	rapid.Check(t, func(rt *rapid.T) {
		whole.inTx(rt, func(o *office) {
			records := [][]string{{"ref", "name", "owner_email", "account_id"}}
			for i := range rapid.IntRange(0, 8).Draw(rt, "clients") {
				ref := rapid.SampledFrom([]string{"", fmt.Sprintf("R%d", i)}).Draw(rt, "ref")
				records = append(records, []string{ref, names.Draw(rt, "client"), fmt.Sprintf("o%d@o.example", i), ids.Draw(rt, "id")})
			}
			o.imports(rt, file(records...))
			p := &partner{owners: map[string]string{}}
			for _, id := range rapid.SliceOfNDistinct(ids.Filter(func(id string) bool { return id != "" }), 0, 8, rapid.ID[string]).Draw(rt, "listed") {
				p.accounts = append(p.accounts, provisioning.ListedAccount{
					ID: id, Organization: names.Draw(rt, "account"), Managed: rapid.Bool().Draw(rt, "managed"),
					BillingStatus: rapid.SampledFrom([]string{"Open", "Open", "Canceled"}).Draw(rt, "status"),
				})
				p.owners[id] = owners.Draw(rt, "owner")
			}
			r := o.reconciler(p)
			known := func() map[string]string {
				ids := map[string]string{}
				for _, line := range askAll[string](rt, o, `SELECT id || '|' || coalesce(account_id, '') FROM clients`) {
					client, id, _ := strings.Cut(line, "|")
					ids[client] = id
				}
				return ids
			}
			before := known()
			_, first := findings(rt, r, p.accounts)
			if first.Clients != len(before) || first.Accounts != len(p.accounts) {
				rt.Fatalf("%d of %d clients and %d of %d accounts found", first.Clients, len(before), first.Accounts, len(p.accounts))
			}
			if sum := addUp(maps.Values(first.Counts)); sum > first.Clients+first.Accounts {
				rt.Fatalf("%d findings for %d clients and %d accounts", sum, first.Clients, first.Accounts)
			}

			filled, err := r.Fill(context.Background(), p.accounts, provisioning.ActorCLI)
			if err != nil || filled.Rejected > 0 || filled.Updated != first.Counts[provisioning.FindingMissing] {
				rt.Fatalf("filled %+v of %d, error %v", filled, first.Counts[provisioning.FindingMissing], err)
			}
			added, err := r.Add(context.Background(), p.accounts, provisioning.ActorCLI, nil)
			if err != nil || added.Rejected > 0 || added.Created+added.Held != first.Addable {
				rt.Fatalf("added %+v of %d, error %v", added, first.Addable, err)
			}
			after := known()
			for client, id := range before {
				if id != "" && after[client] != id {
					rt.Fatalf("the account id of %s was %s and is %s", client, id, after[client])
				}
			}
			if len(after) != len(before)+added.Created {
				rt.Fatalf("%d clients became %d, %d of them added", len(before), len(after), added.Created)
			}

			_, second := findings(rt, r, p.accounts)
			if second.Counts[provisioning.FindingMissing] != 0 || second.Addable != added.Held {
				rt.Fatalf("proposed again: %v, %d addable, %d of them held", second.Counts, second.Addable, added.Held)
			}
		})
	})
}

func addUp(numbers iter.Seq[int]) (sum int) {
	for n := range numbers {
		sum += n
	}
	return sum
}

// BenchmarkCompare compares 100,000 clients with 100,000 accounts, of which half agree by their names alone.
func BenchmarkCompare(b *testing.B) {
	o := setup(b)
	records := [][]string{{"name", "owner_email", "account_id"}}
	var accounts []provisioning.ListedAccount
	for i := range 100_000 {
		id := fmt.Sprintf("a07e%09d", i)
		known := id
		if i%2 == 0 {
			known = ""
		}
		records = append(records, []string{fmt.Sprintf("Client %d", i), fmt.Sprintf("o%d@o.example", i), known})
		accounts = append(accounts, provisioning.ListedAccount{ID: id, Organization: fmt.Sprintf("CLIENT  %d", i), Managed: true})
	}
	o.imports(b, file(records...))
	r := o.reconciler(nil)
	b.ResetTimer()
	for b.Loop() {
		found, err := r.Compare(context.Background(), accounts, nil)
		if err != nil || found.Counts[provisioning.FindingMissing] != 50_000 {
			b.Fatalf("found %v, error %v", found.Counts, err)
		}
	}
}
