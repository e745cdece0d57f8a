package provisioning_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/provisioning"
)

// TestPages: the pages of any filter in any order, one after the other, are what a plain look at every client finds.
func TestPages(t *testing.T) {
	t.Parallel()
	o := setup(t)
	const clients = 150
	o.exec(t, `
		INSERT INTO clients (id, ref, name, owner_email, username, stage, reason, stage_at, route, paused, tags, search)
		SELECT
			gen_random_uuid(),
			'R' || n,
			-- Names that are alike but for case, and beyond ASCII; addresses likewise.
			(ARRAY['Zebra', 'zebra', 'Éclair', 'éclair', 'Acme', 'ACME', 'Ünal'])[n % 7 + 1],
			(ARRAY['ann@a.example', 'ANN@a.example', 'Bob@b.example'])[n % 3 + 1],
			'agency+' || n || '@agency.example',
			(ARRAY['imported', 'invited', 'stalled', 'authorized'])[n % 4 + 1],
			CASE WHEN n % 4 = 2 THEN 'bounced' END,
			TIMESTAMPTZ '2026-11-01' + n % 10 * interval '1 day' + n % 2 * interval '1 microsecond',
			(ARRAY['owner', 'manager'])[n % 2 + 1],
			n % 5 = 0,
			CASE WHEN n % 3 = 0 THEN '{vip}'::text[] ELSE '{}' END,
			array_to_tsvector(ARRAY['word' || n % 6])
		FROM generate_series(1, $1::int) n`, clients)
	imported := uuid.New()
	o.exec(t, `INSERT INTO import_clients (import_id, client_id) SELECT $1, id FROM clients WHERE ref LIKE '%4'`, imported)
	all, _, err := o.Clients(t.Context(), provisioning.Filter{Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != clients {
		t.Fatalf("%d clients", len(all))
	}
	yes, no := true, false
	day := func(n int) time.Time { return time.Date(2026, 11, 1+n, 0, 0, 0, 0, time.UTC) }
	rapid.Check(t, func(r *rapid.T) {
		f := provisioning.Filter{
			Stage:      rapid.SampledFrom([]provisioning.Stage{"", "", provisioning.StageImported, provisioning.StageStalled}).Draw(r, "stage"),
			Reason:     rapid.SampledFrom([]provisioning.Reason{"", "", provisioning.ReasonBounced}).Draw(r, "reason"),
			Route:      rapid.SampledFrom([]provisioning.Route{"", "", provisioning.RouteManager}).Draw(r, "route"),
			Tag:        rapid.SampledFrom([]string{"", "", "vip"}).Draw(r, "tag"),
			Query:      rapid.SampledFrom([]string{"", "", "wor", "WORD3"}).Draw(r, "words"),
			Import:     rapid.SampledFrom([]uuid.UUID{{}, {}, {}, imported}).Draw(r, "import"),
			Paused:     rapid.SampledFrom([]*bool{nil, nil, &yes, &no}).Draw(r, "paused"),
			From:       rapid.SampledFrom([]time.Time{{}, {}, day(3)}).Draw(r, "from"),
			Until:      rapid.SampledFrom([]time.Time{{}, {}, day(6)}).Draw(r, "until"),
			Sort:       rapid.SampledFrom(append(provisioning.Sorts(), "")).Draw(r, "sort"),
			Descending: rapid.Bool().Draw(r, "descending"),
			Limit:      rapid.IntRange(1, 40).Draw(r, "limit"),
		}
		want := slices.DeleteFunc(slices.Clone(all), func(c provisioning.Client) bool { return !selects(f, imported, c) })
		slices.SortFunc(want, func(a, b provisioning.Client) int {
			d := compare(f.Sort, a, b)
			if f.Descending {
				return -d
			}
			return d
		})
		var got []provisioning.Client
		for {
			page, next, err := o.Clients(t.Context(), f)
			if err != nil {
				r.Fatal(err)
			}
			got = append(got, page...)
			if next == "" {
				break
			}
			if f.Cursor = next; len(page) != f.Limit {
				r.Fatalf("a page of %d before the last", len(page))
			}
		}
		if diff := cmp.Diff(names(want), names(got)); diff != "" {
			r.Fatalf("(-want +got)\n%s", diff)
		}
		most := rapid.IntRange(1, 20).Draw(r, "most")
		n, more, err := o.Count(t.Context(), f, most)
		if err != nil || n != min(most, len(want)) || more != (len(want) > most) {
			r.Fatalf("%d, more %t, %v", n, more, err)
		}
		if n, err := o.CountAll(t.Context(), f); err != nil || n != len(want) {
			r.Fatalf("%d in all, %v", n, err)
		}
	})

	_, next, err := o.Clients(t.Context(), provisioning.Filter{Sort: provisioning.SortName})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []provisioning.Filter{
		{Cursor: next},
		{Cursor: next, Sort: provisioning.SortChanged},
		{Cursor: next, Sort: provisioning.SortName, Descending: true},
		{Cursor: "x"},
		{Cursor: "bnVsbA"},
		{Cursor: uuid.NewString()},
	} {
		if _, _, err := o.Clients(t.Context(), f); !errors.Is(err, provisioning.ErrBadCursor) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// selects is what Filter says, for one client of the test.
func selects(f provisioning.Filter, imported uuid.UUID, c provisioning.Client) bool {
	var n int
	if _, err := fmt.Sscanf(*c.Ref, "R%d", &n); err != nil {
		return false
	}
	return (f.Stage == "" || f.Stage == c.Stage) &&
		(f.Reason == "" || c.Reason != nil && *c.Reason == f.Reason) &&
		(f.Route == "" || f.Route == c.Route) &&
		(f.Tag == "" || slices.Contains(c.Tags, f.Tag)) &&
		(f.Query == "" || strings.HasPrefix(fmt.Sprintf("word%d", n%6), strings.ToLower(f.Query))) &&
		(f.Import != imported || n%10 == 4) &&
		(f.Paused == nil || *f.Paused == c.Paused) &&
		(f.From.IsZero() || !c.StageAt.Before(f.From)) &&
		(f.Until.IsZero() || c.StageAt.Before(f.Until))
}

// compare is what Sort says.
func compare(by provisioning.Sort, a, b provisioning.Client) int {
	d := 0
	switch by {
	case provisioning.SortName:
		if d = strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)); d == 0 {
			d = strings.Compare(strings.ToLower(a.OwnerEmail), strings.ToLower(b.OwnerEmail))
		}
	case provisioning.SortChanged:
		d = a.StageAt.Compare(b.StageAt)
	case provisioning.SortImported:
	}
	if d == 0 {
		d = slices.Compare(a.ID[:], b.ID[:])
	}
	return d
}

func names(clients []provisioning.Client) []string {
	refs := make([]string, len(clients))
	for i, c := range clients {
		refs[i] = *c.Ref
	}
	return refs
}

// TestClientsOfImport: an import is remembered by the clients that it created or changed, and no others.
func TestClientsOfImport(t *testing.T) {
	t.Parallel()
	o := setup(t)
	first := o.imports(t, "name,owner_email,ref\nAcme,ann@a.example,A\nBell,bob@b.example,B\nCole,cy@c.example,C")
	second := o.imports(t, "name,owner_email,ref\nAcme,ann@a.example,A\nBell & Sons,bob@b.example,B\nDale,di@d.example,D\nEcho,no address,E")
	for _, test := range []struct {
		id   uuid.UUID
		want []string
	}{{first.ID, []string{"A", "B", "C"}}, {second.ID, []string{"B", "D"}}} {
		found, _, err := o.Clients(t.Context(), provisioning.Filter{Import: test.id})
		if diff := cmp.Diff(test.want, names(found)); diff != "" || err != nil {
			t.Errorf("%v (-want +got)\n%s", err, diff)
		}
	}
}
