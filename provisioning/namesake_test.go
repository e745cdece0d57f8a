package provisioning_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning"
)

func TestNamesakes(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email\nO'Brien & Sons,ann@a.example\nÓBRIEN SONS,bob@b.example\nObriensons,cy@c.example\nBrien Sons,di@d.example\nSons of O'Brien,ed@e.example")
	for name, want := range map[string][]string{
		"o’brien & sons": {"O'Brien & Sons", "Obriensons", "Sons of O'Brien"},
		"Obrien-Sons":    {"O'Brien & Sons", "Obriensons", "Sons of O'Brien", "ÓBRIEN SONS"}, // by their usernames, too
		"OBRIENSONS":     {"Obriensons"},
		"Obrien":         {"O'Brien & Sons", "Sons of O'Brien", "ÓBRIEN SONS"},
		"Obri":           nil, // No word but a whole one counts.
		"Other":          nil,
		"":               nil,
		"' & ' | !":      nil,
		"a\x00b":         nil,
	} {
		found, err := provisioning.Namesakes(t.Context(), o.DB, name, 10)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		var got []string
		for _, n := range found {
			got = append(got, n.Name)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", name, diff)
		}
	}
	if found, err := provisioning.Namesakes(t.Context(), o.DB, "sons", 2); err != nil || len(found) != 2 {
		t.Errorf("of at most two, %d are found, %v", len(found), err)
	}
}
