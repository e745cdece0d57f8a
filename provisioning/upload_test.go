package provisioning_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/queue"
	"github.com/countersign/countersign/provisioning/roster"
)

const mostBytes = 1 << 20

func (o *office) uploads() *provisioning.Uploads {
	return provisioning.NewUploads(o.pool, newQueue(), o.importer, mostBytes)
}

func newQueue() *queue.Queue {
	q, err := queue.New()
	if err != nil {
		panic(err)
	}
	return q
}

// upload keeps a file that an operator sent.
func (o *office) upload(tb testing.TB, file string) uuid.UUID {
	tb.Helper()
	up, err := o.uploads().Save(context.Background(), "clients.csv", "operator Olga", strings.NewReader(file))
	if err != nil {
		tb.Fatal(err)
	}
	return up.ID
}

func (o *office) commit(tb testing.TB, id uuid.UUID) provisioning.Import {
	tb.Helper()
	im, err := o.uploads().Commit(context.Background(), id, provisioning.ImportOptions{Actor: "operator Olga"})
	if err != nil {
		tb.Fatal(err)
	}
	return im
}

// isGone checks that nothing can be done with an upload any more.
func (o *office) isGone(t *testing.T, id uuid.UUID) {
	t.Helper()
	u := o.uploads()
	_, read := u.Upload(t.Context(), id)
	_, open := u.Open(t.Context(), id)
	_, preview := u.Preview(t.Context(), id, nil)
	_, plan := u.Plan(t.Context(), id, provisioning.ImportOptions{})
	_, commit := u.Commit(t.Context(), id, provisioning.ImportOptions{})
	for _, err := range []error{read, open, preview, plan, commit} {
		if !errors.Is(err, provisioning.ErrNotFound) {
			t.Errorf("%v, want %v", err, provisioning.ErrNotFound)
		}
	}
}

func TestUploadIsKeptByteForByte(t *testing.T) {
	t.Parallel()
	o := setup(t)
	u := o.uploads()
	const part = 256 << 10
	for _, size := range []int{0, 1, part - 1, part, part + 1, 3 * part, mostBytes} {
		want := bytes.Repeat([]byte("0123456789\x00\xff\n"), size/13+1)[:size]
		up, err := u.Save(t.Context(), "clients.csv", "operator Olga", iotest.HalfReader(bytes.NewReader(want)))
		if err != nil {
			t.Fatal(err)
		}
		for _, wrap := range []func(io.Reader) io.Reader{iotest.DataErrReader, iotest.HalfReader} {
			file, err := u.Open(t.Context(), up.ID)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(wrap(file))
			if err != nil || !bytes.Equal(want, got) {
				t.Errorf("of %d bytes %d come back, %v", len(want), len(got), err)
			}
			if err := file.Close(); err != nil {
				t.Error(err)
			}
			if n, err := file.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, io.EOF) {
				t.Errorf("%d bytes of a closed file, %v", n, err)
			}
		}
		read, err := u.Upload(t.Context(), up.ID)
		if diff := cmp.Diff(up, read); diff != "" || err != nil || up.FileName != "clients.csv" || up.Import != nil {
			t.Errorf("%v (-saved +read)\n%s", err, diff)
		}
	}
}

func TestUploadIsWholeOrNone(t *testing.T) {
	t.Parallel()
	o := setup(t)
	for name, test := range map[string]struct {
		file io.Reader
		want error
	}{
		"too large":            {strings.NewReader(strings.Repeat("x", mostBytes+1)), provisioning.ErrUploadTooLarge},
		"broken off":           {io.MultiReader(strings.NewReader("name,owner_email\n"), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
		"broken off in part 2": {io.MultiReader(strings.NewReader(strings.Repeat("x", 300<<10)), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
	} {
		if _, err := o.uploads().Save(t.Context(), "clients.csv", "operator Olga", test.file); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	if n := ask[int](t, o, `SELECT (SELECT count(*) FROM uploads) + (SELECT count(*) FROM upload_parts)`); n > 0 {
		t.Errorf("%d rows are kept", n)
	}
}

func TestUploadBecomesAnImport(t *testing.T) {
	t.Parallel()
	o := setup(t)
	u := o.uploads()
	o.imports(t, "ref,name,owner_email,Plan\nA,Acme,ann@a.example,Gold\nB,Bell,bob@b.example,\n")
	id := o.upload(t, "Key;Firm;Mail of the owner;Plan\nA;Acme Inc;ann@a.example;Lite\nB;Bell;bob@b.example;\nC;Cole;cy@c.example;\nD;Dell;nobody;\n")

	p, err := u.Preview(t.Context(), id, nil)
	if diff := cmp.Diff([]roster.Field{roster.FieldName, roster.FieldOwnerEmail}, p.Missing); diff != "" || err != nil {
		t.Errorf("%v, missing (-want +got)\n%s", err, diff)
	}
	before := o.state(t)
	mapping := map[roster.Field]string{
		roster.FieldName: "Firm", roster.FieldOwnerEmail: "Mail of the owner", roster.FieldRef: "Key",
	}
	if p, err = u.Preview(t.Context(), id, mapping); err != nil || len(p.Missing) > 0 || len(p.Rows) != 4 {
		t.Errorf("%+v, %v", p, err)
	}
	if diff := cmp.Diff([]string{"Plan"}, p.Kept()); diff != "" {
		t.Errorf("kept (-want +got)\n%s", diff)
	}
	options := provisioning.ImportOptions{Actor: "operator Olga", Map: mapping, Invite: true}
	plan, err := u.Plan(t.Context(), id, options)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, o.state(t)); diff != "" {
		t.Errorf("a plan changes (-before +after)\n%s", diff)
	}
	var verdicts []string
	for _, row := range plan.Plan {
		verdicts = append(verdicts, fmt.Sprint(row.Line, " ", row.Verdict, " ", row.Name, " ", row.Changes["name"], row.Changes["extra"]))
	}
	if diff := cmp.Diff([]string{
		"2 updated Acme Inc {Acme Acme Inc} {map[Plan:Gold] map[Plan:Lite]}", "4 created Cole {<nil> <nil>} {<nil> <nil>}",
	}, verdicts); diff != "" {
		t.Errorf("plan (-want +got)\n%s", diff)
	}

	im, err := u.Commit(t.Context(), id, options)
	if err != nil {
		t.Fatal(err)
	}
	counts := func(im provisioning.Import) [5]int {
		return [5]int{im.Created, im.Updated, im.Unchanged, im.Rejected, im.Invited.Queued}
	}
	if got, want := counts(im), [5]int{1, 1, 1, 1, 3}; got != want || counts(plan) != want {
		t.Errorf("created, updated, unchanged, rejected, invited: planned %v, done %v, want %v", counts(plan), got, want)
	}
	if im.FileName != "clients.csv" || im.Actor != "operator Olga" || o.client(t, "Acme Inc").Extra["Plan"] != "Lite" {
		t.Errorf("%+v", im)
	}
	up, err := u.Upload(t.Context(), id)
	if err != nil || up.Import == nil || *up.Import != im.ID {
		t.Errorf("the upload knows of import %v, %v", up.Import, err)
	}
	if n := ask[int](t, o, `SELECT count(*) FROM upload_parts`); n > 0 {
		t.Errorf("%d parts stay", n)
	}
	if _, err := u.Open(t.Context(), id); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("an imported file opens: %v", err)
	}

	after := o.state(t)
	if again := o.commit(t, id); again.ID != im.ID || len(again.Rejects) != 1 {
		t.Errorf("committed again: %+v", again)
	}
	if err := u.Discard(t.Context(), id); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(after, o.state(t)); diff != "" {
		t.Errorf("committing again and discarding change (-before +after)\n%s", diff)
	}
}

// TestPlanShowsUpdatesFirst: what is about to be overwritten is not hidden behind what is new.
func TestPlanShowsUpdatesFirst(t *testing.T) {
	t.Parallel()
	o := setup(t)
	last := wideFile(500, 2)
	o.imports(t, strings.ReplaceAll(last, "Gold", "Lite"))
	plan, err := o.uploads().Plan(t.Context(), o.upload(t, wideFile(0, 502)), provisioning.ImportOptions{})
	if err != nil || len(plan.Plan) != provisioning.ShownRows+2 || plan.Updated != 2 || plan.Created != 500 {
		t.Fatalf("%d rows of %+v, %v", len(plan.Plan), plan, err)
	}
	for i, row := range plan.Plan {
		if want := map[bool]provisioning.Verdict{true: provisioning.VerdictUpdated, false: provisioning.VerdictCreated}[i < 2]; row.Verdict != want {
			t.Errorf("row %d of the plan is %s", i, row.Verdict)
		}
	}
}

func TestUploadedWorkbook(t *testing.T) {
	t.Parallel()
	o := setup(t)
	book, err := os.ReadFile("roster/testdata/rosters/excel_workbook.xlsx")
	if err != nil {
		t.Fatal(err)
	}
	id := o.upload(t, string(book))
	p, err := o.uploads().Preview(t.Context(), id, nil)
	if err != nil || !strings.Contains(p.Format, "Excel") || len(p.Rows) == 0 || p.Rows[0][0] != "Acme Bakery" {
		t.Errorf("%q, %v, %q", p.Format, err, p.Rows)
	}
	if im := o.commit(t, id); im.Created == 0 || o.client(t, "Acme Bakery").OwnerEmail != "ann@acme.example" {
		t.Errorf("%+v", im)
	}
}

// TestUploadThatCannotBeImported: the file stays, so that the operator can choose other columns.
func TestUploadThatCannotBeImported(t *testing.T) {
	t.Parallel()
	o := setup(t)
	u := o.uploads()
	for name, test := range map[string]struct {
		file    string
		mapping map[roster.Field]string
		want    roster.ErrorCode
	}{
		"one column for two fields": {
			"name,owner_email\nAcme,ann@a.example\n",
			map[roster.Field]string{roster.FieldName: "name", roster.FieldRef: "name"},
			roster.MapInvalid,
		},
		"a column that is not there": {
			"name,owner_email\nAcme,ann@a.example\n",
			map[roster.Field]string{roster.FieldName: "Firm"},
			roster.MapInvalid,
		},
		"no column for the address": {
			"name,owner_email\nAcme,ann@a.example\n",
			map[roster.Field]string{roster.FieldOwnerEmail: ""},
			roster.ColumnMissing,
		},
		"nothing": {"", nil, roster.FileEmpty},
	} {
		id := o.upload(t, test.file)
		before := o.state(t)
		_, plan := u.Plan(t.Context(), id, provisioning.ImportOptions{Map: test.mapping})
		_, commit := u.Commit(t.Context(), id, provisioning.ImportOptions{Map: test.mapping})
		for _, err := range []error{plan, commit} {
			if wrong, ok := errors.AsType[*roster.Error](err); !ok || wrong.Code != test.want {
				t.Errorf("%s: %v, want %s", name, err, test.want)
			}
		}
		if diff := cmp.Diff(before, o.state(t)); diff != "" {
			t.Errorf("%s (-before +after)\n%s", name, diff)
		}
	}
	id := o.upload(t, "name,owner_email\nAcme,ann@a.example\n,nobody\n")
	if _, err := u.Commit(t.Context(), id, provisioning.ImportOptions{Strict: true}); !errors.Is(err, provisioning.ErrRejected) {
		t.Errorf("a strict import with a reject: %v", err)
	}
	if im := o.commit(t, id); im.Created != 1 {
		t.Errorf("after the strict attempt: %+v", im)
	}
}

// TestUploadIsCommittedOnce presses the button many times at once, on two replicas.
func TestUploadIsCommittedOnce(t *testing.T) {
	t.Parallel()
	o := setup(t)
	id := o.upload(t, wideFile(0, 2000))
	replicas := []*provisioning.Uploads{o.uploads(), o.uploads()}
	imports := make([]provisioning.Import, 8)
	var presses sync.WaitGroup
	for i := range imports {
		presses.Go(func() {
			var err error
			if imports[i], err = replicas[i%2].Commit(t.Context(), id, provisioning.ImportOptions{Actor: "operator Olga"}); err != nil {
				t.Error(err)
			}
		})
	}
	presses.Wait()
	for _, im := range imports {
		if im.ID != imports[0].ID || im.Created != 2000 {
			t.Errorf("import %s created %d, another is %s", im.ID, im.Created, imports[0].ID)
		}
	}
	if n := ask[int](t, o, `SELECT count(*) FROM imports`); n != 1 {
		t.Errorf("%d imports", n)
	}
}

// TestUploadsShareFewConnections: imports that each need a second connection do not wait for each other.
func TestUploadsShareFewConnections(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	u := provisioning.NewUploads(pool, newQueue(), &provisioning.Importer{Namer: newNamer(t, pattern, 50)}, mostBytes)
	up, err := u.Save(t.Context(), "clients.csv", "operator Olga", strings.NewReader(wideFile(0, 1000)))
	if err != nil {
		t.Fatal(err)
	}
	var presses sync.WaitGroup
	for range 6 {
		presses.Go(func() {
			if plan, err := u.Plan(t.Context(), up.ID, provisioning.ImportOptions{}); err != nil || plan.Created != 1000 {
				t.Errorf("%d would be created, %v", plan.Created, err)
			}
		})
	}
	presses.Wait()
}

// TestUploadOutlivesItsImporter ends the connection in the middle of the import.
func TestUploadOutlivesItsImporter(t *testing.T) {
	t.Parallel()
	o := setup(t)
	id := o.upload(t, wideFile(0, 20))
	before := o.state(t)
	_, err := o.uploads().Commit(t.Context(), id, provisioning.ImportOptions{EachRow: func(provisioning.PlannedRow) error {
		o.exec(t, `
			SELECT pg_terminate_backend(pid)
			FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL`)
		return nil
	}})
	if err == nil {
		t.Fatal("the import went on")
	}
	if diff := cmp.Diff(before, o.state(t)); diff != "" {
		t.Errorf("a killed import changes (-before +after)\n%s", diff)
	}
	if im := o.commit(t, id); im.Created != 20 {
		t.Errorf("after that: %+v", im)
	}
}

func TestUploadsGo(t *testing.T) {
	t.Parallel()
	o := setup(t)
	u := o.uploads()
	const roster = "name,owner_email\nAcme,ann@a.example\n"
	o.isGone(t, uuid.New())

	discarded, old, fresh := o.upload(t, roster), o.upload(t, roster), o.upload(t, roster)
	o.exec(t, `UPDATE uploads SET at = at - interval '25 hours' WHERE id = $1`, old)
	file, err := u.Open(t.Context(), discarded)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := errors.Join(u.Discard(t.Context(), discarded), u.Sweep(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	o.isGone(t, discarded)
	o.isGone(t, old)
	if _, err := io.ReadAll(file); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("a file that goes while it is read ends with %v", err)
	}

	// Whoever commits is not disturbed.
	o.exec(t, `UPDATE uploads SET at = at - interval '25 hours'`)
	im, err := u.Commit(t.Context(), fresh, provisioning.ImportOptions{EachRow: func(provisioning.PlannedRow) error {
		return errors.Join(u.Sweep(t.Context()), u.Discard(t.Context(), fresh))
	}})
	if err != nil || im.Created != 1 {
		t.Fatalf("%+v, %v", im, err)
	}
	if err := u.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.isGone(t, fresh)
	if _, err := o.Import(t.Context(), im.ID); err != nil {
		t.Errorf("the import went with its file: %v", err)
	}
}

// TestKeptColumns: columns that Countersign itself added are none of the operator's.
func TestKeptColumns(t *testing.T) {
	t.Parallel()
	for header, want := range map[string][]string{
		"name,owner_email,Plan,error_code,error_message": {"Plan"},
		"company,email,First name,Last name,Notes,Notes": {"Notes (1)", "Notes (2)"},
		"name,owner_email,username,stage":                {"username", "stage"},
		"name,owner_email":                               {},
	} {
		p, err := roster.ReadPreview(strings.NewReader(header+"\n"), roster.Options{})
		if diff := cmp.Diff(want, p.Kept()); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got)\n%s", header, err, diff)
		}
	}
}
