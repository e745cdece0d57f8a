package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

// strays has an owner sign in to the account of a login that is not their client's, and returns the address of
// the grant in quarantine.
func (b *testBundle) strays(t *testing.T, ref, login string) string {
	t.Helper()
	b.browser(t).walk(t, b.link(t, ref), login, sandbox.Allow).has(t, http.StatusOK)
	return "/admin/quarantine/" + b.confined(t, ref).ID.String()
}

// confined returns the newest grant of a client in quarantine.
func (b *testBundle) confined(t *testing.T, ref string) grant.Held {
	t.Helper()
	held, err := b.Grants.HeldOf(t.Context(), b.client(t, ref).ID)
	if err != nil || len(held) == 0 {
		t.Fatalf("%s has %d grants in quarantine, %v", ref, len(held), err)
	}
	return held[len(held)-1]
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	op := b.operator(t)
	op.get(t, "/admin/quarantine").has(t, http.StatusOK).says(t, "Nothing is in quarantine.", "can try again meanwhile")

	bens, strangers := b.strays(t, "CAFE", benLogin), b.strays(t, "ACME/1", strangeLogin)
	op.get(t, "/admin").has(t, http.StatusOK).says(t, "decide on the grant in quarantine", "Decide")
	list := op.get(t, "/admin/quarantine").has(t, http.StatusOK)
	list.says(t,
		"Organization Café Lumière Bloom Florist", "Account not in the roster acct-bloom", "Address cleo@cafe.example "+benLogin,
		`This account belongs to the client "Bloom Florist"; the organization has the name of another client, "Bloom Florist"`,
		"Move it to Bloom Florist",
		"Account acct-acme acct-strange", "Another account than the expected acct-acme; the organization does not have the client's name",
		"Acme Bakery gets the account acct-strange instead of acct-acme and is authorized with it.",
	)
	want := []string{bens + "/move", bens + "/discard", strangers + "/accept", strangers + "/move", strangers + "/discard"}
	got := posts(list.doc(t))
	if diff := cmp.Diff(want, got[1:]); diff != "" { // The first one signs out.
		t.Errorf("forms (-want +got):\n%s", diff)
	}

	// What cannot be done is told beside the grant.
	op.post(t, bens+"/accept", nil).has(t, http.StatusConflict).says(t,
		`The grant stays in quarantine: the account belongs to the client "Bloom Florist"; move the grant there, or discard it.`,
		"The account of another client consented",
	)
	b.isAt(t, "CAFE", "stalled/conflict")

	bloom := b.client(t, "BLOOM").ID.String()
	to := op.post(t, bens+"/move", url.Values{"client": {bloom}}).leads(t)
	op.get(t, to).has(t, http.StatusOK).says(t, "The grant is moved", "Acme Bakery")
	b.isAt(t, "BLOOM", "authorized")
	b.isAt(t, "CAFE", "stalled/conflict")
	op.get(t, "/admin/clients/"+bloom).says(t, "Connected with a grant that came by another client’s link", "moved from: Café Lumière")

	to = op.post(t, strangers+"/accept", nil).leads(t)
	op.get(t, to).has(t, http.StatusOK).says(t, "The account is accepted", "Nothing is in quarantine.")
	b.isAt(t, "ACME/1", "authorized")
	op.get(t, "/admin/clients/"+b.client(t, "ACME/1").ID.String()).says(t,
		"The account that consented was taken for the client’s · olga@brightside.example", "account id: acct-acme → acct-strange",
	)

	// Whoever comes late is told, whatever they press.
	for _, button := range []string{"accept", "move", "discard"} {
		to := op.post(t, strangers+"/"+button, url.Values{"client": {bloom}}).leads(t)
		op.get(t, to).says(t, "Nothing was changed: somebody has decided on this grant already")
	}
	if to := op.get(t, strangers).leads(t); to != "/admin/quarantine?done=gone" {
		t.Errorf("a grant that was accepted leads to %s", to)
	}
}

// An operator finds the client to which a grant belongs by its ref, its whole name, or what it may be called.
func TestQuarantineMoveByName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile+"CAFE-2,Café Noir,,noel@cafe.example,,,\n")
	op := b.operator(t)
	path := b.strays(t, "ACME/1", strangeLogin)
	move := func(client string) page {
		return op.post(t, path+"/move", url.Values{"client": {client}, "from": {"client"}})
	}

	move("made up").has(t, http.StatusUnprocessableEntity).says(t, `No client has the ref or the name "made up"`)
	move(" ").has(t, http.StatusUnprocessableEntity)
	choices := move("cafe").has(t, http.StatusUnprocessableEntity)
	choices.says(t, "Which client is meant by “cafe”?", "Café Lumière CAFE", "Café Noir CAFE-2")
	if fields := find(choices.doc(t), tag("input"), with("name", "client"), with("value", b.client(t, "CAFE-2").ID.String())); len(fields) != 1 {
		t.Errorf("%d buttons for the one", len(fields))
	}
	move("BLOOM").has(t, http.StatusConflict).says(t, `the account of "Bloom Florist" is acct-bloom`)
	b.isAt(t, "ACME/1", "stalled/wrong_account")

	acme := "/admin/clients/" + b.client(t, "ACME/1").ID.String()
	to := move("café noir").leads(t)
	if !strings.HasPrefix(to, acme+"?") {
		t.Errorf("the button of the client's page leads to %s", to)
	}
	op.get(t, to).has(t, http.StatusOK).says(t, "The grant is moved", "moved to: Café Noir")
	b.isAt(t, "CAFE-2", "authorized")
	b.isAt(t, "CAFE", "imported")
}

func TestQuarantineOnTheClientsPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	op := b.operator(t)
	path := b.strays(t, "ACME/1", strangeLogin)
	acme := "/admin/clients/" + b.client(t, "ACME/1").ID.String()
	p := op.get(t, acme).has(t, http.StatusOK)
	p.says(t, "Another account consented", "Accept this account", "Discard this grant")
	if fields := find(p.doc(t), tag("input"), with("name", "from"), with("value", "client")); len(fields) != 3 {
		t.Errorf("%d buttons lead back here", len(fields))
	}
	to := op.post(t, path+"/discard", url.Values{"from": {"client"}}).leads(t)
	p = op.get(t, to).has(t, http.StatusOK)
	p.says(t, "The grant is discarded. The client’s link keeps working.", "The grant of another account was discarded · olga@brightside.example")
	p.silent(t, "Accept this account")
	b.isAt(t, "ACME/1", "stalled/wrong_account")
}

func TestQuarantineIsGuarded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	path := b.strays(t, "ACME/1", strangeLogin)
	stranger := b.browser(t)
	for _, address := range []string{"/admin/quarantine", path} {
		if to := stranger.get(t, address).leads(t); !strings.HasPrefix(to, "/admin/sign-in") {
			t.Errorf("%s leads a stranger to %s", address, to)
		}
	}
	op := b.operator(t)
	for _, button := range []string{"accept", "discard", "move"} {
		if to := stranger.post(t, path+"/"+button, nil).leads(t); !strings.HasPrefix(to, "/admin/sign-in") {
			t.Errorf("%s leads a stranger to %s", button, to)
		}
		op.do(t, http.MethodPost, path+"/"+button, nil, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site").has(t, http.StatusForbidden)
		if to := op.get(t, path+"/"+button).leads(t); to != path {
			t.Errorf("looking at the address of %s leads to %s", button, to)
		}
		op.post(t, "/admin/quarantine/made-up/"+button, nil).has(t, http.StatusNotFound)
	}
	op.get(t, "/admin/quarantine/made-up").has(t, http.StatusNotFound)
	op.get(t, "/admin/quarantine?after=made-up").has(t, http.StatusBadRequest)
	op.get(t, path).has(t, http.StatusOK).says(t, "Acme Bakery")
	b.isAt(t, "ACME/1", "stalled/wrong_account")
}

// client and account are as the contract has them.
type heldClient struct {
	ID   uuid.UUID `json:"id"`
	Ref  string    `json:"ref"`
	Name string    `json:"name"`
}

type heldGrant struct {
	ID       uuid.UUID   `json:"id"`
	Client   heldClient  `json:"client"`
	Expected *string     `json:"expected_account_id"`
	Reason   string      `json:"reason"`
	Evidence string      `json:"evidence"`
	Belongs  *heldClient `json:"belongs_to"`
	Found    struct {
		AccountID    string   `json:"account_id"`
		Organization string   `json:"organization"`
		ContactEmail string   `json:"contact_email"`
		Subject      string   `json:"subject"`
		Scopes       []string `json:"scopes"`
	} `json:"found"`
}

func TestAPIQuarantine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	api, reader := b.caller(t, admin.ScopeRead, admin.ScopeWrite), b.caller(t, admin.ScopeRead)
	var list struct {
		Grants []heldGrant `json:"grants"`
		Next   *string     `json:"next_cursor"`
	}
	api.call(t, http.MethodGet, "/quarantine", "").has(t, http.StatusOK).into(t, &list)
	if list.Grants == nil || len(list.Grants) != 0 || list.Next != nil {
		t.Errorf("at first: %+v", list)
	}
	b.strays(t, "CAFE", benLogin)
	b.strays(t, "ACME/1", strangeLogin)
	first := reader.call(t, http.MethodGet, "/quarantine?limit=1", "").has(t, http.StatusOK)
	first.silent(t, "token")
	first.into(t, &list)
	bens := list.Grants[0]
	if bens.Client.Ref != "CAFE" || bens.Expected != nil || bens.Reason != "conflict" || bens.Belongs == nil || bens.Belongs.Ref != "BLOOM" ||
		bens.Found.AccountID != "acct-bloom" || bens.Found.Organization != "Bloom Florist" || bens.Found.ContactEmail != benLogin ||
		len(bens.Found.Scopes) != 4 || !strings.Contains(bens.Evidence, "Bloom Florist") {
		t.Errorf("the first: %+v", bens)
	}
	reader.call(t, http.MethodGet, "/quarantine?limit=1&cursor="+*list.Next, "").has(t, http.StatusOK).into(t, &list)
	strangers := list.Grants[0]
	if strangers.Client.Ref != "ACME/1" || *strangers.Expected != "acct-acme" || strangers.Belongs != nil || list.Next != nil {
		t.Errorf("the second: %+v, then %v", strangers, list.Next)
	}
	reader.call(t, http.MethodGet, "/quarantine?cursor=made-up", "").problem(t, http.StatusBadRequest)

	of := func(g heldGrant, decision string) string { return "/quarantine/" + g.ID.String() + "/" + decision }
	for _, decision := range []string{"accept", "discard", "move"} {
		reader.call(t, http.MethodPost, of(bens, decision), `{"client": "ref:BLOOM"}`).problem(t, http.StatusForbidden)
		api.call(t, http.MethodPost, "/quarantine/"+uuid.NewString()+"/"+decision, `{"client": "ref:BLOOM"}`).problem(t, http.StatusNotFound)
		api.call(t, http.MethodPost, "/quarantine/made-up/"+decision, `{"client": "ref:BLOOM"}`).problem(t, http.StatusUnprocessableEntity)
	}
	if got := api.call(t, http.MethodPost, of(bens, "accept"), "").problem(t, http.StatusConflict); !strings.Contains(got.Detail, "move the grant there") {
		t.Errorf("refused with %+v", got)
	}
	api.call(t, http.MethodPost, of(bens, "move"), `{"client": "ref:made-up"}`).problem(t, http.StatusNotFound)
	api.call(t, http.MethodPost, of(bens, "move"), `{}`).problem(t, http.StatusUnprocessableEntity)
	api.call(t, http.MethodPost, of(bens, "move"), `{"client": "ref:ACME/1"}`).problem(t, http.StatusConflict)

	var client struct {
		Ref     string `json:"ref"`
		Stage   string `json:"stage"`
		Account string `json:"account_id"`
	}
	api.call(t, http.MethodPost, of(bens, "move"), `{"client": "ref:BLOOM"}`).has(t, http.StatusOK).into(t, &client)
	if client.Ref != "BLOOM" || client.Stage != "authorized" || client.Account != "acct-bloom" {
		t.Errorf("moved to %+v", client)
	}
	api.call(t, http.MethodPost, of(strangers, "accept"), "").has(t, http.StatusOK).into(t, &client)
	if client.Ref != "ACME/1" || client.Stage != "authorized" || client.Account != "acct-strange" {
		t.Errorf("accepted for %+v", client)
	}
	b.strays(t, "CAFE", adaLogin)
	api.call(t, http.MethodPost, of(heldGrant{ID: b.confined(t, "CAFE").ID}, "discard"), "").has(t, http.StatusNoContent)
	var actor string
	err := b.db.QueryRow(t.Context(), `SELECT actor FROM events WHERE kind = 'discarded'`).Scan(&actor)
	if err != nil || !strings.HasPrefix(actor, "key ") {
		t.Errorf("discarded by %q, %v", actor, err)
	}
}
