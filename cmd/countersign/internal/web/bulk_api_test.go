package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

// job is a bulk job as programs see it.
type job struct {
	ID         string         `json:"id"`
	State      string         `json:"state"`
	Total      int            `json:"total"`
	Done       int            `json:"done"`
	Changed    int            `json:"changed"`
	Skipped    int            `json:"skipped"`
	SkippedWhy map[string]int `json:"skipped_why"`
	SkippedURL string         `json:"skipped_url"`
	Undoable   bool           `json:"undoable"`
	UndoOf     string         `json:"undo_of"`
	Samples    []struct {
		Name string `json:"name"`
	} `json:"samples"`
}

// A program looks whom an order would be about, gives it once, follows it, reads who was left out, and takes it back.
func TestBulkByAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.jobs(t)
	b.imports(t, rosterFile)
	api, reader := b.caller(t, admin.ScopeWrite, admin.ScopeRead), b.caller(t, admin.ScopeRead)
	if err := provisioning.SetPaused(t.Context(), b.db, b.client(t, "BLOOM").ID, true, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	paused := func() (refs []string) {
		for _, ref := range []string{"ACME/1", "BLOOM", "CAFE"} {
			if b.client(t, ref).Paused {
				refs = append(refs, ref)
			}
		}
		return refs
	}
	read := func(p page, status int) (j job) {
		t.Helper()
		p.has(t, status).into(t, &j)
		return j
	}

	const order = `{"action": "pause", "filter": {"stage": "imported"}}`
	preview := read(api.call(t, http.MethodPost, "/bulk?dry_run", order), http.StatusOK)
	if preview.State != "dry_run" || preview.Total != 3 || len(preview.Samples) != 3 || preview.ID != "" {
		t.Errorf("preview %+v", preview)
	}
	reader.call(t, http.MethodPost, "/bulk", order).problem(t, http.StatusForbidden)
	begun := read(api.call(t, http.MethodPost, "/bulk", order, "Idempotency-Key", "pause-1"), http.StatusAccepted)
	again := read(api.call(t, http.MethodPost, "/bulk", order, "Idempotency-Key", "pause-1"), http.StatusAccepted)
	if begun.State != "queued" || begun.ID != again.ID || b.count(t, "bulk_jobs") != 1 {
		t.Errorf("the order %+v and again %+v: %d jobs", begun, again, b.count(t, "bulk_jobs"))
	}
	b.work(t, begun.ID)
	done := read(reader.call(t, http.MethodGet, "/bulk/"+begun.ID, ""), http.StatusOK)
	if done.State != "done" || done.Done != 3 || done.Changed != 2 || done.Skipped != 1 || !done.Undoable {
		t.Errorf("the job %+v", done)
	}
	if diff := cmp.Diff(map[string]int{"unchanged": 1}, done.SkippedWhy); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if file := reader.do(t, http.MethodGet, done.SkippedURL, nil, "Authorization", "Bearer "+reader.key.Reveal()).has(t, http.StatusOK); strings.Count(file.body, "\n") != 2 || !strings.Contains(file.body, "BLOOM") {
		t.Errorf("who was left out: %s", file.body)
	}
	if diff := cmp.Diff([]string{"ACME/1", "BLOOM", "CAFE"}, paused()); diff != "" {
		t.Errorf("paused (-want +got):\n%s", diff)
	}

	reader.call(t, http.MethodPost, "/bulk/"+begun.ID+"/undo", "").problem(t, http.StatusForbidden)
	undo := read(api.call(t, http.MethodPost, "/bulk/"+begun.ID+"/undo", ""), http.StatusAccepted)
	b.work(t, undo.ID)
	if diff := cmp.Diff([]string{"BLOOM"}, paused()); diff != "" || undo.UndoOf != begun.ID {
		t.Errorf("taken back as %+v (-want +got):\n%s", undo, diff)
	}

	// Who is stopped before the work begins has done nothing, and nobody is deleted whom nobody counted.
	stopped := read(api.call(t, http.MethodPost, "/bulk", `{"action": "tag", "tag": "spring", "clients": ["CAFE"]}`), http.StatusAccepted)
	reader.call(t, http.MethodPost, "/bulk/"+stopped.ID+"/stop", "").problem(t, http.StatusForbidden)
	api.call(t, http.MethodPost, "/bulk/"+stopped.ID+"/stop", "").has(t, http.StatusOK)
	b.work(t, stopped.ID)
	if j := read(api.call(t, http.MethodGet, "/bulk/"+stopped.ID, ""), http.StatusOK); j.State != "stopped" || j.Done != 0 || len(b.client(t, "CAFE").Tags) > 0 {
		t.Errorf("stopped: %+v", j)
	}
	for name, body := range map[string]string{
		"nobody is named":         `{"action": "pause"}`,
		"two selections":          `{"action": "pause", "all": true, "clients": ["CAFE"]}`,
		"a filter of all":         `{"action": "pause", "filter": {}}`,
		"no tag":                  `{"action": "tag", "all": true}`,
		"deletion, not confirmed": `{"action": "delete", "all": true}`,
		"deletion of others":      `{"action": "delete", "all": true, "confirm": 2}`,
	} {
		if p := api.call(t, http.MethodPost, "/bulk", body); p.status < 400 || p.status >= 500 {
			t.Errorf("%s is answered %d: %s", name, p.status, p.body)
		}
	}
	if n := b.count(t, "clients"); n != 3 {
		t.Errorf("%d clients are left", n)
	}
}
