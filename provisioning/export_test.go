package provisioning_test

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/roster"
)

func (o *office) export(tb fataler, f provisioning.Filter) string {
	tb.Helper()
	var b strings.Builder
	if err := o.Export(context.Background(), &b, f); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func (o *office) rejectsFile(tb fataler, id uuid.UUID) string {
	tb.Helper()
	var b strings.Builder
	if err := o.WriteRejects(context.Background(), &b, id); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// records reads a CSV file that must be safe to open in a spreadsheet program.
func records(tb fataler, file string) [][]string {
	tb.Helper()
	r := csv.NewReader(strings.NewReader(file))
	r.FieldsPerRecord = -1
	records, err := r.ReadAll()
	if err != nil {
		tb.Fatalf("%v in:\n%s", err, file)
	}
	for _, record := range records {
		for _, cell := range record {
			if strings.IndexAny(cell, "=+-@\t\r") == 0 {
				tb.Fatalf("a spreadsheet program takes %q for a formula", cell)
			}
		}
	}
	return records
}

func TestExport(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, file(
		[]string{"name", "owner_email", "ref", "owner_name", "account_id", "route", "site_url", "locale", "time_zone", "tags", "Plan", "=Notes"},
		[]string{
			`=Acme, "Inc"`, "ann@a.example", "-1", "+49 Ann", "a07", "owner", "https://a.example/?q=1", "en-US", "US/Eastern",
			"vip, @home", "''=x", "one\r\ntwo; \"three\"\n",
		},
		[]string{"Bell", "bob@b.example", "", "", "", "manager", "", "", "", "", "", " -5"},
	))
	acme := ask[uuid.UUID](t, o, `SELECT id FROM clients WHERE ref = '-1'`)
	o.exec(t, `UPDATE clients SET paused = true, invited_at = '2026-11-20 10:00+02', stage = 'stalled', reason = 'bounced' WHERE id = $1`, acme)
	exported := o.export(t, provisioning.Filter{})
	want := [][]string{
		{
			"name", "owner_email", "ref", "owner_name", "account_id", "route", "site_url", "locale", "time_zone", "tags",
			"username", "stage", "reason", "paused", "invited_at", "authorized_at", "proven_at", "'=Notes", "Plan",
		},
		{
			`'=Acme, "Inc"`, "ann@a.example", "'-1", "'+49 Ann", "a07", "owner", "https://a.example/?q=1", "en-US", "US/Eastern", "vip, @home",
			"agency+acme-inc@agency.example", "stalled", "bounced", "yes", "2026-11-20T08:00:00Z", "", "", "one\ntwo; \"three\"\n", "''=x",
		},
		{
			"Bell", "bob@b.example", "", "", "", "manager", "", "", "", "",
			"agency+bell@agency.example", "imported", "", "", "", "", "", " -5", "",
		},
	}
	if diff := cmp.Diff(want, records(t, exported)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	before := o.state(t, "clients")
	if im := o.imports(t, exported); im.Unchanged != 2 || im.Rows != 2 {
		t.Errorf("imported again: %+v", im)
	}
	if diff := cmp.Diff(before, o.state(t, "clients")); diff != "" {
		t.Errorf("imported again (-before +after)\n%s", diff)
	}
	stalled := records(t, o.export(t, provisioning.Filter{Stage: provisioning.StageStalled}))
	if diff := cmp.Diff([][]string{want[0], want[1]}, stalled); diff != "" {
		t.Errorf("the stalled (-want +got)\n%s", diff)
	}
}

// TestExportImportsAgain: whatever was imported, the export imported again changes nothing.
func TestExportImportsAgain(t *testing.T) {
	t.Parallel()
	o := setup(t)
	cell := rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`['=+@"a-z ,;|\n\té€-]{0,12}`),
		rapid.SampledFrom([]string{"", `"`, "\n", "a\r\nb", "a\rb", "日本", "“quoted”", "'=1", "''-", `\.`, "sep=;", "Ünï"}),
	)
	header := rapid.OneOf(rapid.SampledFrom([]string{"Plan", "stage", "Contact", "error_code", "E-Mail 2", "=x", "username"}), cell)
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.SliceOfN(header, 0, 4).Draw(t, "extra columns")
		rows := [][]string{append([]string{"name", "owner_email", "ref", "owner_name", "tags", "site_url"}, columns...)}
		for i := range rapid.IntRange(1, 3).Draw(t, "rows") {
			row := []string{cell.Draw(t, "name"), "ann@a.example", fmt.Sprint("R", i), cell.Draw(t, "owner"), cell.Draw(t, "tags"), "a.example/?é=%20"}
			for range columns {
				row = append(row, cell.Draw(t, "cell"))
			}
			rows = append(rows, row)
		}
		o.inTx(t, func(o *office) {
			first, err := o.tryImport(file(rows...))
			if _, ok := errors.AsType[*roster.Error](err); ok {
				t.Skip("the header cannot be read: ", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			before := o.state(t, "clients")
			exported := o.export(t, provisioning.Filter{})
			records(t, exported)
			second := o.imports(t, exported)
			if second.Rows != first.Created || second.Unchanged != first.Created {
				t.Fatalf("%d clients imported again: %+v\n%s", first.Created, second, exported)
			}
			if diff := cmp.Diff(before, o.state(t, "clients")); diff != "" {
				t.Fatalf("(-before +after)\n%s", diff)
			}
		})
	})
}

// TestExportOfMappedColumns: a column that has the name of a field but is not it stays another.
func TestExportOfMappedColumns(t *testing.T) {
	t.Parallel()
	o := setup(t)
	im := o.imports(t, "name,Firm,owner_email\nAnn,Acme,ann@a.example", func(o *provisioning.ImportOptions) {
		o.Map = map[roster.Field]string{roster.FieldName: "Firm"}
	})
	if im.Created != 1 {
		t.Fatalf("%+v", im)
	}
	if im = o.imports(t, o.export(t, provisioning.Filter{})); im.Unchanged != 1 {
		t.Errorf("%+v", im)
	}
	if diff := cmp.Diff(map[string]string{"name (2)": "Ann"}, o.client(t, "Acme").Extra); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestRejectsComeBack corrects a file of rejects, twice, until the roster is complete.
func TestRejectsComeBack(t *testing.T) {
	t.Parallel()
	o := setup(t)
	im := o.imports(t, "name,owner_email,ref,Phone\n"+
		"Acme,ann@a.example,A,\n"+
		"Bell,bob,B,+1 555\n"+
		"Cole,cy@c.example,C,5,6\n"+
		"Dell\n"+
		`"Eve,eve@e.example,E,`+"\n")
	if im.Rejected != 4 || im.Created != 1 {
		t.Fatalf("%+v", im)
	}
	got := records(t, o.rejectsFile(t, im.ID))
	for _, record := range got[1:] {
		record[5] = "…" // the message
	}
	want := [][]string{
		{"name", "owner_email", "ref", "Phone", "error_code", "error_message"},
		{"Bell", "bob", "B", "'+1 555", "email_invalid", "…"},
		{"Cole", "cy@c.example", "C", "5", "too_many_columns", "…", "6"},
		{"Dell", "", "", "", "email_missing", "…"},
		{`"Eve`, "eve@e.example", "E", "", "bad_quotes", "…"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("the file of rejects (-want +got)\n%s", diff)
	}

	half := records(t, o.rejectsFile(t, im.ID))
	half[1][1], half[4][0] = "bob@b.example", "Eve"
	im = o.imports(t, file(half...))
	if im.Created != 2 || im.Rejected != 2 {
		t.Fatalf("half corrected: %+v", im)
	}
	rest := records(t, o.rejectsFile(t, im.ID))
	if diff := cmp.Diff(want[0], rest[0]); diff != "" || len(rest) != 3 {
		t.Fatalf("the second file of rejects has %d records (-want +got)\n%s", len(rest), diff)
	}
	rest[1], rest[2][1] = rest[1][:6], "di@d.example"
	if im = o.imports(t, file(rest...)); im.Created != 2 || im.Rejected != 0 {
		t.Fatalf("all corrected: %+v", im)
	}
	names := askAll[string](t, o, `SELECT concat_ws('|', name, ref, extra ->> 'Phone') FROM clients ORDER BY 1`)
	if diff := cmp.Diff([]string{"Acme|A", "Bell|B|+1 555", "Cole|C|5", "Dell", "Eve|E"}, names); diff != "" {
		t.Errorf("the roster (-want +got)\n%s", diff)
	}
	if err := o.WriteRejects(t.Context(), &strings.Builder{}, uuid.New()); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("of an unknown import: %v", err)
	}
}

// TestRejectsAreAllKept: more than are shown.
func TestRejectsAreAllKept(t *testing.T) {
	t.Parallel()
	o := setup(t)
	const rows = 2*provisioning.ShownRows + 1
	im := o.imports(t, "name,owner_email\n"+strings.Repeat("Acme,\n", rows))
	if im.Rejected != rows || len(im.Rejects) != provisioning.ShownRows {
		t.Errorf("%d rejected, %d shown", im.Rejected, len(im.Rejects))
	}
	stored, err := o.Import(t.Context(), im.ID)
	if diff := cmp.Diff(im, stored); diff != "" || err != nil {
		t.Errorf("%v (-made +stored)\n%s", err, diff)
	}
	if n := len(records(t, o.rejectsFile(t, im.ID))); n != rows+1 {
		t.Errorf("the file has %d records", n)
	}
	n := 0
	for reject, err := range o.Rejects(t.Context(), im.ID) {
		if n++; err != nil || reject.Line != n+1 {
			t.Fatal(reject, err)
		}
	}
	if n != rows {
		t.Errorf("%d rejects are read", n)
	}
}
