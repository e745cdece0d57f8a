package web_test

import (
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/bulk"
	"github.com/countersign/countersign/provisioning/queue"
)

// jobs gives the server what does things to many clients, without anything that works by itself.
func (b *testBundle) jobs(t *testing.T) {
	t.Helper()
	q, err := queue.New()
	if err != nil {
		t.Fatal(err)
	}
	b.Bulk = &bulk.Jobs{DB: b.db, Queue: q, Inviter: b.Inviter, Reminders: b.Reminders, Letters: b.Mailer, Links: b.Links}
}

// work has a job done that a page leads to.
func (b *testBundle) work(t *testing.T, address string) {
	t.Helper()
	id, err := uuid.Parse(path.Base(address))
	if err != nil {
		t.Fatalf("it leads to %q: %v", address, err)
	}
	if err := b.Bulk.Work(t.Context(), queue.Running{Job: queue.Job{Kind: bulk.JobBulk, Row: id}}); err != nil {
		t.Fatal(err)
	}
}

// form takes what the page's form to an address has hidden.
func (p page) form(t *testing.T, action string) url.Values {
	t.Helper()
	forms := find(p.doc(t), tag("form"), with("action", action))
	if len(forms) != 1 {
		t.Fatalf("%s has %d forms to %s", p.name, len(forms), action)
	}
	values := url.Values{}
	for _, field := range find(forms[0], tag("input"), with("type", "hidden")) {
		values.Add(attribute(field, "name"), attribute(field, "value"))
	}
	return values
}

// TestBulk does things to many clients: whom they are about is shown before, what came of it after, and it can be
// taken back.
func TestBulk(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.jobs(t)
	b.imports(t, rosterFile)
	operator := b.operator(t)
	operator.get(t, "/admin/bulk").has(t, http.StatusOK).says(t, "Nothing was done to many clients yet.")
	paused := func() (n int) {
		for _, ref := range []string{"ACME/1", "BLOOM", "CAFE"} {
			if b.client(t, ref).Paused {
				n++
			}
		}
		return n
	}
	if err := provisioning.SetPaused(t.Context(), b.db, b.client(t, "BLOOM").ID, true, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}

	asked := operator.get(t, "/admin/bulk/new?action=pause&all=1&tag=food").has(t, http.StatusOK)
	asked.says(t, "Pause: 2 clients", "Acme Bakery", "Bloom Florist", "Nobody of them is invited or reminded until you resume.")
	asked.silent(t, "Café")
	job := operator.post(t, "/admin/bulk", asked.form(t, "/admin/bulk")).leads(t)
	operator.get(t, job).has(t, http.StatusOK).says(t, "Waits for its turn", "0 of 2", "all that a filter selected", operatorEmail)
	b.work(t, job)
	done := operator.get(t, job).has(t, http.StatusOK)
	done.says(t, "Done", "Changed 1", "Left out 1", "1 so already", "Bloom Florist")
	if file := operator.get(t, job+"/skipped.csv").has(t, http.StatusOK); !strings.Contains(file.body, "Bloom Florist") || strings.Contains(file.body, "Acme") {
		t.Errorf("the file of those that were left out: %s", file.body)
	}
	if paused() != 2 {
		t.Errorf("%d clients are paused", paused())
	}
	undo := operator.post(t, job+"/undo", nil).leads(t)
	b.work(t, undo)
	operator.get(t, undo).has(t, http.StatusOK).says(t, "Undo: pause", "Changed 1")
	if paused() != 1 || !b.client(t, "BLOOM").Paused {
		t.Error("what was paused before is not paused any more, or what was not is")
	}
	operator.post(t, job+"/undo", nil).has(t, http.StatusConflict).says(t, "There is nothing to undo")
	operator.get(t, "/admin/bulk").has(t, http.StatusOK).says(t, "Undo: pause")

	// Ticked ones, and an action that needs something else.
	ticked := "&client=" + b.client(t, "CAFE").ID.String()
	form := operator.get(t, "/admin/bulk/new?action=tag"+ticked).has(t, http.StatusOK).form(t, "/admin/bulk")
	operator.post(t, "/admin/bulk", form).has(t, http.StatusUnprocessableEntity).says(t, "Add a tag: 1 client")
	form.Set("new_tag", "breakfast")
	b.work(t, operator.post(t, "/admin/bulk", form).leads(t))
	if tags := b.client(t, "CAFE").Tags; len(tags) != 1 || tags[0] != "breakfast" {
		t.Errorf("tags %q", tags)
	}
	form = operator.get(t, "/admin/bulk/new?action=owner"+ticked).has(t, http.StatusOK).form(t, "/admin/bulk")
	form.Set("email", "nobody")
	operator.post(t, "/admin/bulk", form).has(t, http.StatusUnprocessableEntity).says(t, "This is not a mail address")

	// Nothing is begun for nobody, nor by guessing.
	operator.get(t, "/admin/bulk/new?action=pause").has(t, http.StatusOK).says(t, "No client is selected.")
	operator.get(t, "/admin/bulk/new?all=1").has(t, http.StatusOK).says(t, "No action is chosen.")
	operator.get(t, "/admin/bulk/new?all=1&action=burn").has(t, http.StatusBadRequest)
	operator.get(t, "/admin/bulk/new?client=x&action=pause").has(t, http.StatusBadRequest)
	operator.post(t, "/admin/bulk", url.Values{"action": {"pause"}}).has(t, http.StatusUnprocessableEntity).says(t, "No client is selected.")
	operator.get(t, "/admin/bulk/"+uuid.NewString()).has(t, http.StatusNotFound)
	operator.get(t, "/admin/bulk/x/skipped.csv").has(t, http.StatusNotFound)

	// An export needs no job: of the ticked ones, or of all that match.
	file := operator.get(t, operator.get(t, "/admin/bulk/new?action=export&tag=food"+ticked).leads(t)).has(t, http.StatusOK).body
	if strings.Contains(file, "ACME/1") || strings.Contains(file, "CAFE") {
		t.Errorf("the ticked client has not the tag and is exported: %s", file)
	}
	file = operator.get(t, operator.get(t, "/admin/bulk/new?action=export"+ticked).leads(t)).has(t, http.StatusOK).body
	if strings.Contains(file, "ACME/1") || !strings.Contains(file, "CAFE") {
		t.Errorf("exporting one client gives %s", file)
	}
	file = operator.get(t, operator.get(t, "/admin/bulk/new?action=export&all=1&tag=food"+ticked).leads(t)).has(t, http.StatusOK).body
	if !strings.Contains(file, "ACME/1") || strings.Contains(file, "CAFE") {
		t.Errorf("exporting all that match gives %s", file)
	}
	operator.get(t, "/admin/bulk/new?action=export").has(t, http.StatusOK).says(t, "No client is selected.")
	operator.get(t, "/admin/export.csv?client=x").has(t, http.StatusBadRequest)

	// Deleting needs their number.
	form = operator.get(t, "/admin/bulk/new?action=delete&all=1&tag=food").has(t, http.StatusOK).form(t, "/admin/bulk")
	for _, typed := range []string{"", "3", "two"} {
		form.Set("confirm", typed)
		operator.post(t, "/admin/bulk", form).has(t, http.StatusUnprocessableEntity).says(t, "Nothing is deleted", "Type 2 to confirm")
	}
	form.Set("confirm", " 2 ")
	job = operator.post(t, "/admin/bulk", form).leads(t)
	b.work(t, job)
	operator.get(t, job).has(t, http.StatusOK).says(t, "Changed 2")
	operator.get(t, "/admin/clients").has(t, http.StatusOK).says(t, "1 of 1 client")

	// A job that was stopped before its turn does nothing.
	form = operator.get(t, "/admin/bulk/new?action=pause&all=1").has(t, http.StatusOK).form(t, "/admin/bulk")
	job = operator.post(t, "/admin/bulk", form).leads(t)
	if got := operator.post(t, job+"/stop", nil).leads(t); got != job {
		t.Errorf("stopping leads to %s", got)
	}
	b.work(t, job)
	operator.get(t, job).has(t, http.StatusOK).says(t, "It was stopped after 0 of 1 client.")
	if b.client(t, "CAFE").Paused {
		t.Error("a stopped job has paused a client")
	}
}
