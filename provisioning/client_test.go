package provisioning_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
)

// names returns the names of the clients that a filter selects.
func (o *office) names(t *testing.T, f provisioning.Filter) []string {
	t.Helper()
	page, next, err := o.Clients(t.Context(), f)
	if err != nil || next != "" {
		t.Fatalf("%+v: next %q, %v", f, next, err)
	}
	names := []string{}
	for _, c := range page {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return names
}

func TestClient(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email,ref\nAcme,ann@a.example,A/1 é\nBell,bob@b.example,")
	acme := o.client(t, "Acme")
	for _, key := range []string{acme.ID.String(), "ref:A/1 é", "ref:A/1 e\u0301"} {
		if got, err := o.Client(t.Context(), key); err != nil || got.ID != acme.ID {
			t.Errorf("%q: %v, %v", key, got.Name, err)
		}
	}
	for _, key := range []string{"", "A/1 é", "ref:", "ref:a/1 é", "ref:A\x00", "ref:\xff", uuid.NewString()} {
		if got, err := o.Client(t.Context(), key); !errors.Is(err, provisioning.ErrNotFound) {
			t.Errorf("%q: %v, %v", key, got.Name, err)
		}
	}
}

func TestClientsFilter(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email,route,tags\n"+
		"Acme,ann@a.example,,\"one, two\"\nBell,bob@b.example,manager,two\nCole,cy@c.example,,\nDell,di@d.example,,Two")
	o.advance(t, o.client(t, "Acme").ID, provisioning.EventDeclined, provisioning.StageStalled, provisioning.ReasonDeclined)
	o.advance(t, o.client(t, "Cole").ID, provisioning.EventExpired, provisioning.StageStalled, provisioning.ReasonExpired)
	tests := []struct {
		filter provisioning.Filter
		want   string
	}{
		{provisioning.Filter{}, "Acme Bell Cole Dell"},
		{provisioning.Filter{Stage: provisioning.StageImported}, "Bell Dell"},
		{provisioning.Filter{Stage: provisioning.StageStalled}, "Acme Cole"},
		{provisioning.Filter{Reason: provisioning.ReasonDeclined}, "Acme"},
		{provisioning.Filter{Route: provisioning.RouteManager}, "Bell"},
		{provisioning.Filter{Route: provisioning.RoutePartner}, ""},
		{provisioning.Filter{Tag: "two"}, "Acme Bell"},
		{provisioning.Filter{Tag: "tw"}, ""},
		{provisioning.Filter{Tag: "a\x00\xff"}, ""},
		{provisioning.Filter{Tag: "two", Route: provisioning.RouteOwner, Query: "ann", Stage: provisioning.StageStalled}, "Acme"},
	}
	for _, test := range tests {
		if diff := cmp.Diff(strings.Fields(test.want), o.names(t, test.filter)); diff != "" {
			t.Errorf("%+v (-want +got)\n%s", test.filter, diff)
		}
	}
}

func TestClientsSearch(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, file(
		[]string{"name", "owner_email", "ref", "owner_name", "account_id"},
		[]string{"Café Müller & Söhne", "ann.smith+news@mail.client-one.example", "AC/DC-12", "Ann O'Neil", "a07e1l4x"},
		[]string{"Ресторан «Заря»", "o.petrov@zarya.example", "", "Ольга", ""},
		[]string{"株式会社 東京", "info@tokyo.example", "", "", ""},
		[]string{"नमस्ते भारत", "namaste@india.example", "", "", ""},
		[]string{"not or and", "true@false.example", "", "", ""},
	))
	const cafe, zarya, tokyo, india, words = "Café Müller & Söhne", "Ресторан «Заря»", "株式会社 東京", "नमस्ते भारत", "not or and"
	tests := []struct {
		query string
		want  []string
	}{
		{"café", []string{cafe}},
		{"cafe\u0301", []string{cafe}}, // typed with a combining accent
		{"CAFÉ", []string{cafe}},
		{"cafe", []string{cafe}}, // without accents
		{"müll söh", []string{cafe}},
		{"müll & söh", []string{cafe}},
		{"ller", []string{}},
		{"cafe mull", []string{cafe}},
		{"ann", []string{cafe}},
		{"smith", []string{cafe}},
		{"news", []string{cafe}},
		{"client-one", []string{cafe}},
		{"one.example", []string{cafe}},
		{"ann.smith+news@mail.client-one.example", []string{cafe}},
		{"ann.smith+news@mail.cli", []string{cafe}},
		{"@zarya", []string{zarya}},
		{"neil", []string{cafe}},
		{"o'neil", []string{cafe}},
		{"ac/dc", []string{cafe}},
		{"AC/DC-12", []string{cafe}},
		{"dc 12", []string{cafe}},
		{"a07e1", []string{cafe}},
		{"ресторан", []string{zarya}},
		{"ЗАРЯ", []string{zarya}},
		{"ольга ресторан", []string{zarya}},
		{"東京", []string{tokyo}},
		{"株式", []string{tokyo}},
		{india, []string{india}},
		{"भारत", []string{india}},
		{"agency+not-or-and@agency", []string{words}},
		{"not", []string{words}},
		{"not or", []string{words}},
		{"ann not", []string{}},
		{"agency example", []string{cafe, words, india, zarya, tokyo}},

		{"  ", []string{cafe, words, india, zarya, tokyo}},
		{"&", []string{}},
		{"!!! :* <-> ()", []string{}},
		{"!ann", []string{cafe}},
		{"ann | ресторан", []string{}},
		{"ann:*", []string{cafe}},
		{"ann <-> smith", []string{cafe}},
		{"('ann' & \"smith\")", []string{cafe}},
		{`\ann' \`, []string{cafe}},
		{"%", []string{}},
		{"ann\x00smith", []string{cafe}},
		{"ann\xffsmith", []string{cafe}},
		{strings.Repeat("x", 100_000), []string{}},
		{"ann " + strings.Repeat("mail ", 100_000), []string{cafe}},
	}
	for _, test := range tests {
		slices.Sort(test.want)
		if diff := cmp.Diff(test.want, o.names(t, provisioning.Filter{Query: test.query})); diff != "" {
			t.Errorf("%.60q (-want +got)\n%s", test.query, diff)
		}
	}
	// What changes is found by its new words only.
	id := ask[uuid.UUID](t, o, `SELECT id FROM clients WHERE ref = 'AC/DC-12'`)
	if err := provisioning.BindAccount(t.Context(), o.pool, id, "learnt"); err != nil {
		t.Fatal(err)
	}
	if got := o.names(t, provisioning.Filter{Query: "learnt"}); len(got) != 1 {
		t.Errorf("by its new account id: %v", got)
	}
	if got := o.names(t, provisioning.Filter{Query: "a07e1"}); len(got) != 0 {
		t.Errorf("by its old account id: %v", got)
	}
}

// TestClientsPages reads the roster page by page while clients are added.
func TestClientsPages(t *testing.T) {
	t.Parallel()
	o := setup(t)
	const clients = 500
	o.imports(t, wideFile(0, clients))
	var names []string
	seen := make(map[uuid.UUID]bool)
	f := provisioning.Filter{Limit: 37, Stage: provisioning.StageImported}
	for pages := 0; ; pages++ {
		page, next, err := o.Clients(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page {
			if seen[c.ID] {
				t.Fatalf("%s comes twice", c.Name)
			}
			seen[c.ID] = true
			names = append(names, c.Name)
		}
		if next == "" {
			break
		}
		if len(page) != f.Limit {
			t.Fatalf("a page of %d", len(page))
		}
		f.Cursor = next
		if pages < 5 {
			o.imports(t, wideFile(clients+10*pages, 10))
		}
	}
	if len(names) != clients+50 {
		t.Errorf("%d clients", len(names))
	}
	for i, name := range names {
		if want := fmt.Sprintf("Café & Bakery %d, Inc.", i); name != want {
			t.Fatalf("at %d comes %s", i, name)
		}
	}
	for limit, want := range map[int]int{0: 50, -1: 50, 500: 500, 1000: 500, 1: 1} {
		if page, _, err := o.Clients(t.Context(), provisioning.Filter{Limit: limit}); len(page) != want || err != nil {
			t.Errorf("limit %d gives %d, %v", limit, len(page), err)
		}
	}
	page, next, err := o.Clients(t.Context(), provisioning.Filter{Query: "bakery", Limit: clients})
	if len(page) != clients || next == "" || err != nil {
		t.Errorf("%d found, next %q, %v", len(page), next, err)
	}
	page, next, err = o.Clients(t.Context(), provisioning.Filter{Query: "bakery", Limit: clients, Cursor: next})
	if len(page) != 50 || next != "" || err != nil {
		t.Errorf("%d more found, next %q, %v", len(page), next, err)
	}
	for _, cursor := range []string{"x", "1", "ACME-1", "00000000"} {
		if _, _, err := o.Clients(t.Context(), provisioning.Filter{Cursor: cursor}); !errors.Is(err, provisioning.ErrBadCursor) {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email\nAcme,ann@a.example\nBell,bob@b.example")
	acme, bell := o.client(t, "Acme").ID, o.client(t, "Bell").ID
	for range 5 {
		o.advance(t, acme, provisioning.EventLinkIssued, "", "")
		o.advance(t, bell, provisioning.EventLinkIssued, "", "")
	}
	var ids []int64
	for before := int64(0); ; before = ids[len(ids)-1] {
		page, err := o.Events(t.Context(), acme, before, 4)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			if e.ClientID != acme || e.ClientName != "Acme" {
				t.Errorf("%+v", e)
			}
			ids = append(ids, e.ID)
		}
	}
	if len(ids) != 6 || !slices.IsSortedFunc(ids, func(a, b int64) int { return int(b - a) }) {
		t.Errorf("%v", ids)
	}
	if page, err := o.Events(t.Context(), acme, 1<<62, 100); len(page) != 6 || err != nil {
		t.Errorf("before a number beyond all: %d, %v", len(page), err)
	}
	recent, err := o.RecentEvents(t.Context(), 3)
	if err != nil || len(recent) != 3 || recent[0].ClientName != "Bell" || recent[1].ClientName != "Acme" {
		t.Errorf("%+v, %v", recent, err)
	}
}
