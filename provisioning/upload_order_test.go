package provisioning_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/queue"
	"github.com/countersign/countersign/provisioning/roster"
)

func ordered(t *testing.T, u *provisioning.Uploads, id uuid.UUID) provisioning.UploadOrder {
	t.Helper()
	o, err := u.Ordered(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *office) ordersImport(t *testing.T, id uuid.UUID) {
	t.Helper()
	if err := o.uploads().Order(t.Context(), id, provisioning.ImportOptions{Actor: "operator Olga", Invite: true}); err != nil {
		t.Fatal(err)
	}
}

func importJob(id uuid.UUID) queue.Running {
	return queue.Running{Job: queue.Job{Kind: provisioning.JobImport, Row: id}}
}

// TestOrderedImport: what is ordered twice is imported once, by whoever works, and tells how far it is.
func TestOrderedImport(t *testing.T) {
	t.Parallel()
	o := setup(t)
	u := o.uploads()
	const rows = 1000
	file := wideFile(0, rows)
	id := o.upload(t, file)
	if _, err := u.Ordered(t.Context(), id); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("before it is ordered: %v", err)
	}
	o.ordersImport(t, id)
	o.ordersImport(t, id)
	if waiting := ordered(t, u, id); waiting.Import != nil || waiting.Read != 0 || waiting.Size != int64(len(file)) || !waiting.Invite {
		t.Errorf("it waits as %+v", waiting)
	}
	if at, err := u.Await(t.Context(), id, time.Millisecond); err != nil || at.Import != nil {
		t.Errorf("awaiting what nobody does: %+v, %v", at, err)
	}
	worker := &queue.Runner{
		Pool: o.pool, Log: slog.New(slog.DiscardHandler), Handlers: map[queue.Kind]queue.Handler{provisioning.JobImport: {Work: u.Work}},
	}
	if err := worker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	done, err := u.Await(t.Context(), id, time.Minute)
	if err != nil || done.Import == nil || done.Actor != "operator Olga" {
		t.Fatalf("it ends as %+v, %v", done, err)
	}
	if err := worker.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if done.Rows == nil || *done.Rows != rows || done.Read != done.Size {
		t.Errorf("%d of %d bytes were read, rows: %v", done.Read, done.Size, done.Rows)
	}
	o.ordersImport(t, id)
	if err := u.Work(t.Context(), importJob(id)); err != nil {
		t.Errorf("a job that is done anew: %v", err)
	}
	if n := ask[int](t, o, `SELECT count(*) FROM imports`); n != 1 {
		t.Errorf("%d imports", n)
	}
	if n := ask[int](t, o, `SELECT count(*) FROM messages`); n != rows {
		t.Errorf("%d mails", n)
	}
}

// TestOrdersThatFail: an order that cannot be carried out says why and may be given anew; one of a file that is gone ends.
func TestOrdersThatFail(t *testing.T) {
	t.Parallel()
	o := setup(t)
	u := o.uploads()
	const file = "name,owner_email\nAcme,ada@acme.example\n"
	id := o.upload(t, file)
	err := u.Order(t.Context(), id, provisioning.ImportOptions{Map: map[roster.Field]string{roster.FieldName: "Firm"}})
	if wrong, ok := errors.AsType[*roster.Error](err); !ok || wrong.Code != roster.MapInvalid {
		t.Errorf("a column that is not there: %v", err)
	}
	if err := u.Order(t.Context(), uuid.New(), provisioning.ImportOptions{}); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("a file that is not there: %v", err)
	}

	o.ordersImport(t, id)
	o.exec(t, `UPDATE upload_parts SET content = '\x00010203'`)
	if err := u.Work(t.Context(), importJob(id)); err != nil {
		t.Fatal(err)
	}
	if failed := ordered(t, u, id); failed.Problem == nil || !strings.Contains(*failed.Problem, "not text") || failed.Import != nil {
		t.Errorf("a damaged file: %+v", failed)
	}
	o.exec(t, `UPDATE upload_parts SET content = convert_to($1, 'UTF8')`, file)
	o.ordersImport(t, id)
	if again := ordered(t, u, id); again.Problem != nil {
		t.Errorf("ordered anew it says %s", *again.Problem)
	}
	if err := u.Work(t.Context(), importJob(id)); err != nil || ordered(t, u, id).Import == nil {
		t.Errorf("ordered anew: %v", err)
	}

	gone := o.upload(t, "name,owner_email\nBloom,ben@bloom.example\n")
	o.ordersImport(t, gone)
	if err := u.Discard(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	if err := u.Work(t.Context(), importJob(gone)); err != nil {
		t.Errorf("a job whose file was discarded: %v", err)
	}
	if n := ask[int](t, o, `SELECT count(*) FROM clients`); n != 1 {
		t.Errorf("%d clients", n)
	}
}
