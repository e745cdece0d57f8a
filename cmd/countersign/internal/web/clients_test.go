package web_test

import (
	"encoding/csv"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
)

// names are the clients that a page lists.
func (p page) names(t *testing.T) (names []string) {
	t.Helper()
	for _, row := range find(p.doc(t), tag("th"), with("scope", "row")) {
		names = append(names, text(find(row, tag("a"))[0]))
	}
	return names
}

// TestListIsNarrowed narrows and sorts the list, and takes what it shows as a file.
func TestListIsNarrowed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	im := b.imports(t, rosterFile)
	b.imports(t, "ref,name,owner_email,route\nDELI,Deli,dan@deli.example,manager\n")
	if err := provisioning.SetPaused(t.Context(), b.db, b.client(t, "BLOOM").ID, true, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	today, tomorrow := time.Now().UTC().Format(time.DateOnly), time.Now().UTC().AddDate(0, 0, 2).Format(time.DateOnly)
	yesterday := time.Now().UTC().AddDate(0, 0, -2).Format(time.DateOnly)
	everybody := []string{"Acme Bakery", "Bloom Florist", "Café Lumière", "Deli"}
	for query, want := range map[string][]string{
		"":                           everybody,
		"route=manager":              {"Deli"},
		"tag=food":                   {"Acme Bakery", "Bloom Florist"},
		"import=" + im.ID.String():   {"Acme Bakery", "Bloom Florist", "Café Lumière"},
		"import=" + uuid.NewString(): nil,
		"paused=yes":                 {"Bloom Florist"},
		"paused=no&route=owner":      {"Acme Bakery", "Café Lumière"},
		"from=" + tomorrow:           nil,
		"until=" + yesterday:         nil,
		"from=" + yesterday + "&until=" + tomorrow: everybody,
		"sort=-name":          {"Deli", "Café Lumière", "Bloom Florist", "Acme Bakery"},
		"sort=-imported":      {"Deli", "Café Lumière", "Bloom Florist", "Acme Bakery"},
		"tag=food&sort=-name": {"Bloom Florist", "Acme Bakery"},
	} {
		page := operator.get(t, "/admin/clients?"+query).has(t, http.StatusOK)
		if diff := cmp.Diff(want, page.names(t)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
		file, err := csv.NewReader(strings.NewReader(operator.get(t, "/admin/export.csv?"+query).has(t, http.StatusOK).body)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		var exported []string
		for _, record := range file[1:] {
			exported = append(exported, record[slices.Index(file[0], "name")])
		}
		slices.Sort(exported)
		slices.Sort(want)
		if diff := cmp.Diff(want, exported); diff != "" {
			t.Errorf("%s as a file (-want +got):\n%s", query, diff)
		}
	}
	for _, bad := range []string{"stage=gone", "route=x", "import=x", "from=" + today + "T", "until=soon", "sort=age"} {
		operator.get(t, "/admin/clients?"+bad).has(t, http.StatusBadRequest)
		operator.get(t, "/admin/export.csv?"+bad).has(t, http.StatusBadRequest)
	}
	// A chip leads to the list without its condition.
	page := operator.get(t, "/admin/clients?route=manager&paused=yes").has(t, http.StatusOK)
	page.says(t, "Route: Manager", "No client matches.")
	if without := find(page.doc(t), tag("a"), with("href", "/admin/clients?route=manager")); len(without) != 1 {
		t.Errorf("%d chips lead to the list without “Paused”", len(without))
	}
}

// TestColumns remembers the columns that a reader has chosen.
func TestColumns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	b.imports(t, rosterFile)
	heads := func() (heads []string) {
		for _, head := range find(operator.get(t, "/admin/clients").has(t, http.StatusOK).doc(t), tag("th"), with("scope", "col")) {
			heads = append(heads, strings.TrimRight(text(head), " ↑↓"))
		}
		return heads
	}
	for _, tt := range []struct{ choose, want []string }{
		{nil, []string{"Client", "Stage", "Owner", "Username", "Last change"}},
		{[]string{"tags", "account", "made-up; x"}, []string{"Client", "Stage", "Account id", "Tags"}},
		{[]string{}, []string{"Client", "Stage"}},
	} {
		if tt.choose != nil {
			to := operator.post(t, "/admin/clients/columns", url.Values{"column": tt.choose, "back": {"stage=invited"}}).leads(t)
			if to != "/admin/clients?stage=invited" {
				t.Errorf("choosing leads to %s", to)
			}
		}
		if diff := cmp.Diff(tt.want, heads()); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.choose, diff)
		}
	}
	if to := operator.post(t, "/admin/clients/columns", url.Values{"back": {"//else.example"}}).leads(t); !strings.HasPrefix(to, "/admin/clients?") {
		t.Errorf("choosing leads to %s", to)
	}
}
