package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

// mailing is what the contract's client tells of mail.
type mailing struct {
	Paused         bool       `json:"paused"`
	OptedOut       *string    `json:"opted_out"`
	OptedOutAt     *time.Time `json:"opted_out_at"`
	NextReminderAt *time.Time `json:"next_reminder_at"`
	RemindersSent  int        `json:"reminders_sent"`
}

func TestAPIReminder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	post := func(body string) (got mailing) {
		t.Helper()
		api.call(t, http.MethodPost, "/clients/ref:CAFE/reminder", body).has(t, http.StatusOK).into(t, &got)
		return got
	}
	refused := func(status int, body, detail string) {
		t.Helper()
		got := api.call(t, http.MethodPost, "/clients/ref:CAFE/reminder", body).problem(t, status)
		if !strings.Contains(got.Detail, detail) {
			t.Errorf("%s is refused with %+v", body, got)
		}
	}
	refused(http.StatusConflict, `{"action": "send"}`, "no invitation has been mailed to the owner yet")
	b.mail(t, "CAFE")
	at := b.Now().AddDate(0, 0, 2).UTC().Truncate(time.Second)
	plan := func(at time.Time) string {
		return fmt.Sprintf(`{"action": "plan", "at": %q}`, at.In(time.FixedZone("", -7*60*60)).Format(time.RFC3339))
	}
	if got := post(plan(at)); got.NextReminderAt == nil || !got.NextReminderAt.Equal(at) || got.RemindersSent != 0 {
		t.Errorf("planned: %+v", got)
	}
	refused(http.StatusConflict, plan(b.Now().Add(-time.Hour)), "a time that has passed")
	for _, body := range []string{
		``, `{}`, `{"action": "made up"}`, `{"action": "plan"}`, `{"action": "send", "at": "2030-01-01T00:00:00Z"}`, `{"action": "plan", "at": "tomorrow"}`,
	} {
		status := http.StatusUnprocessableEntity
		if body == "" {
			status = http.StatusBadRequest
		}
		refused(status, body, "")
	}
	if got := post(`{"action": "skip"}`); got.NextReminderAt == nil || got.RemindersSent != 1 {
		t.Errorf("skipped: %+v", got)
	}
	if got := post(`{"action": "send"}`); got.NextReminderAt != nil || got.RemindersSent != 1 {
		t.Errorf("on its way: %+v", got)
	}
	refused(http.StatusConflict, `{"action": "send"}`, "on its way already")
	b.deliver(t)
	var read mailing
	api.call(t, http.MethodGet, "/clients/ref:CAFE", "").has(t, http.StatusOK).into(t, &read)
	if read.RemindersSent != 2 || read.NextReminderAt == nil {
		t.Errorf("sent: %+v", read)
	}
	api.call(t, http.MethodPost, "/clients/ref:made-up/reminder", `{"action": "send"}`).problem(t, http.StatusNotFound)
}

func TestAPIOwner(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	b.mail(t, "BLOOM")
	b.bounce(t, "BLOOM")
	for _, wrong := range []struct{ body, location string }{
		{`{"email": ""}`, "body.email"},
		{`{"email": "ben@"}`, "body.email"},
		{`{"email": "ben@bloom.example", "name": "` + strings.Repeat("x", 201) + `"}`, "body.name"},
	} {
		got := api.call(t, http.MethodPost, "/clients/ref:BLOOM/owner", wrong.body).problem(t, http.StatusUnprocessableEntity)
		if len(got.Errors) != 1 || got.Errors[0].Location != wrong.location || got.Errors[0].Message == "" {
			t.Errorf("%s is refused with %+v", wrong.body, got)
		}
	}
	b.isAt(t, "BLOOM", "stalled/bounced")
	for body, want := range map[string]string{
		`{"email": "benny@bloom.example"}`:                "Ben Ash <benny@bloom.example>",
		`{"email": "bea@bloom.example", "name": "Bea"}`:   "Bea <bea@bloom.example>",
		`{"email": "nobody@bloom.example", "name": "  "}`: " <nobody@bloom.example>",
	} {
		if _, err := b.db.Exec(t.Context(), `UPDATE clients SET owner_name = 'Ben Ash' WHERE ref = 'BLOOM'`); err != nil {
			t.Fatal(err)
		}
		var got provisioning.Invited
		api.call(t, http.MethodPost, "/clients/ref:BLOOM/owner", body).has(t, http.StatusOK).into(t, &got)
		if diff := cmp.Diff(provisioning.Invited{Matched: 1, Queued: 1, Skipped: map[provisioning.SkipReason]int{}}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
		if c := b.client(t, "BLOOM"); c.OwnerName+" <"+c.OwnerEmail+">" != want {
			t.Errorf("%s makes %s <%s> the owner", body, c.OwnerName, c.OwnerEmail)
		}
	}
	b.isAt(t, "BLOOM", "imported")
	api.call(t, http.MethodPost, "/clients/ref:made-up/owner", `{"email": "ben@bloom.example"}`).problem(t, http.StatusNotFound)
}

func TestAPIPause(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	for _, step := range []struct {
		body   string
		paused bool
	}{{`{"paused": true}`, true}, {`{}`, true}, {`{"paused": true}`, true}, {`{"paused": false}`, false}} {
		var got mailing
		api.call(t, http.MethodPatch, "/clients/ref:CAFE", step.body).has(t, http.StatusOK).into(t, &got)
		if got.Paused != step.paused || b.client(t, "CAFE").Paused != step.paused {
			t.Errorf("%s: paused %t", step.body, got.Paused)
		}
	}
	for _, body := range []string{`{"paused": "yes"}`, `{"stage": "authorized"}`} {
		api.call(t, http.MethodPatch, "/clients/ref:CAFE", body).problem(t, http.StatusUnprocessableEntity)
	}
	api.call(t, http.MethodPatch, "/clients/ref:made-up", `{"paused": true}`).problem(t, http.StatusNotFound)
	if n := b.count(t, "events WHERE kind IN ('paused', 'resumed')"); n != 2 {
		t.Errorf("%d events", n)
	}
}

// A list tells who opted out, and asks for nothing that would take a query a client.
func TestAPIOptedOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.browser(t).post(t, b.link(t, "CAFE")+"/unsubscribe", nil).has(t, http.StatusOK)
	api := b.caller(t, admin.ScopeRead)
	var list struct{ Clients []map[string]any }
	api.call(t, http.MethodGet, "/clients?q=cafe", "").has(t, http.StatusOK).into(t, &list)
	cafe := list.Clients[0]
	if cafe["opted_out"] != "unsubscribed" || cafe["opted_out_at"] == nil {
		t.Errorf("the list tells %v", cafe)
	}
	if _, ok := cafe["next_reminder_at"]; ok {
		t.Error("a list tells of reminders")
	}
	var alone mailing
	api.call(t, http.MethodGet, "/clients/ref:CAFE", "").has(t, http.StatusOK).into(t, &alone)
	if alone.OptedOut == nil || *alone.OptedOut != "unsubscribed" || alone.OptedOutAt == nil || alone.NextReminderAt != nil {
		t.Errorf("the client is %+v", alone)
	}
}

func TestAPIDeleteClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.caller(t, admin.ScopeRead).call(t, http.MethodDelete, "/clients/ref:CAFE", "").problem(t, http.StatusForbidden)
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	api.call(t, http.MethodDelete, "/clients/ref:CAFE", "").has(t, http.StatusNoContent)
	api.call(t, http.MethodGet, "/clients/ref:CAFE", "").problem(t, http.StatusNotFound)
	api.call(t, http.MethodDelete, "/clients/ref:CAFE", "").problem(t, http.StatusNotFound)
	if log := b.log.String(); !strings.Contains(log, "a client was deleted") {
		t.Errorf("the log does not tell of it: %s", log)
	}
}
