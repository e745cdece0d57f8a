package notify_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

func (d *desk) digests() *notify.Digests {
	d.tb.Helper()
	return &notify.Digests{
		DB:     d.pool,
		Mailer: d.mailer,
		Recipients: func(context.Context) ([]string, error) {
			return []string{"zoe@agency.example", "ann@agency.example"}, nil
		},
		Zone: location(d.tb, "America/New_York"),
		Link: "https://connect.agency.example/admin",
		Now:  func() time.Time { return d.now },
	}
}

// told returns what the digests tell, by recipient and step.
func (d *desk) told() map[string]templates.Digest {
	d.tb.Helper()
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := d.pool.Query(d.tb.Context(), `SELECT to_address || ' ' || step, facts FROM messages WHERE kind = 'digest'`)
	if err != nil {
		d.tb.Fatal(err)
	}
	told := make(map[string]templates.Digest)
	var key string
	var facts []byte
	_, err = pgx.ForEachRow(rows, []any{&key, &facts}, func() error {
		var digest templates.Digest
		if err := json.Unmarshal(facts, &digest); err != nil {
			return err
		}
		told[key] = digest
		return nil
	})
	if err != nil {
		d.tb.Fatal(err)
	}
	return told
}

// TestDigest writes Monday's, which is about the time since Friday morning.
func TestDigest(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	zone := location(t, "America/New_York")
	friday, monday := time.Date(2026, 11, 20, 8, 0, 0, 0, zone), time.Date(2026, 11, 23, 8, 0, 0, 0, zone)
	// Each happened at its time; what is at the edges shows which of them belongs.
	events := []struct {
		ref    string
		at     time.Time
		to     provisioning.Stage
		reason provisioning.Reason
	}{
		{"A1", friday.Add(-time.Second), provisioning.StageAuthorized, ""},
		{"A2", friday, provisioning.StageAuthorized, ""},
		{"A3", friday.AddDate(0, 0, 1), provisioning.StageAuthorized, ""},
		{"S1", friday.AddDate(0, 0, -3), provisioning.StageStalled, provisioning.ReasonBounced},
		{"S2", friday.Add(time.Hour), provisioning.StageStalled, provisioning.ReasonBounced},
		{"S3", monday.Add(-time.Second), provisioning.StageStalled, provisioning.ReasonWrongAccount},
		{"S3", monday.Add(-time.Millisecond), provisioning.StageStalled, provisioning.ReasonMissingScope},
		{"A4", monday, provisioning.StageAuthorized, ""},
	}
	for _, ref := range []string{"A1", "A2", "A3", "A4", "S1", "S2", "S3", "W1"} {
		d.waiting(ref)
	}
	d.exec(`UPDATE events SET at = $1`, friday.AddDate(0, 0, -5))
	for _, e := range events {
		client := d.id(e.ref)
		last := first[int64](t, d.pool, `SELECT max(id) FROM events`)
		d.advance(client, "moved", e.to, e.reason)
		d.exec(`UPDATE events SET at = $1 WHERE id > $2`, e.at, last)
	}
	d.exec(`UPDATE messages SET ended_at = $1`, friday.Add(-time.Second))
	d.exec(`UPDATE messages SET ended_at = $1 WHERE client_id IN ($2, $3)`, friday, d.id("A2"), d.id("A3"))
	d.exec(`UPDATE messages SET kind = 'reminder', ended_at = $1 WHERE client_id = $2`, monday.Add(-time.Second), d.id("W1"))
	d.exec(`UPDATE mail_switch SET paused_at = now(), paused_by = 'operator ann@agency.example', why = 'a typo in our texts'`)

	digests := d.digests()
	d.now = monday.Add(-time.Second)
	due := func() {
		t.Helper()
		if err := digests.Due(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	due()
	if got := d.told(); len(got) > 0 {
		t.Fatalf("early: %v", got)
	}
	d.now = monday.Add(90 * time.Second)
	var replicas sync.WaitGroup
	for range 4 {
		replicas.Go(due)
	}
	replicas.Wait()
	want := templates.Digest{
		Since: friday, Until: monday, Total: 8, Authorized: 4, AuthorizedNew: 2, InvitedNew: 2, Reminded: 1, StalledNew: 2,
		Stages: []templates.DigestStage{
			{Label: "Imported"},
			{Label: "Invited", N: 1},
			{Label: "Started"},
			{Label: "Authorized", N: 4},
			{Label: "Lapsed"},
			{Label: "Stalled", N: 3},
		},
		Stalled: []templates.DigestReason{
			{Reason: "Bounced", Cure: templates.Reason("bounced").Cure(), N: 2},
			{Reason: "Missing scope", Cure: templates.Reason("missing_scope").Cure(), N: 1},
		},
		Paused: &templates.DigestPause{Why: "a typo in our texts"},
		Link:   "https://connect.agency.example/admin",
	}
	got := d.told()
	for _, key := range []string{"ann@agency.example digest 2026-11-23", "zoe@agency.example digest 2026-11-23"} {
		if diff := cmp.Diff(want, got[key], cmp.Comparer(time.Time.Equal)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
	if len(got) != 2 {
		t.Errorf("%d digests, want one for each operator", len(got))
	}
}

func (d *desk) id(ref string) (id [16]byte) {
	d.tb.Helper()
	return first[[16]byte](d.tb, d.pool, `SELECT id FROM clients WHERE ref = $1`, ref)
}

// TestDigestTime: on working mornings only, once, and not when there is nothing to say.
func TestDigestTime(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	digests := d.digests()
	at := func(day, hour int) int {
		t.Helper()
		d.now = time.Date(2026, 11, day, hour, 0, 0, 0, location(t, "America/New_York"))
		if err := digests.Due(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(d.told())
	}
	if n := at(24, 8); n != 0 {
		t.Errorf("%d digests of an empty roster", n)
	}
	client := d.waiting("acme") // long ago
	d.exec(`UPDATE events SET at = '2026-11-01'`)
	d.exec(`UPDATE messages SET ended_at = '2026-11-01'`)
	if n := at(25, 8); n != 0 {
		t.Errorf("%d digests while nothing happens and nobody is needed", n)
	}
	d.optOut(client, provisioning.OptedOutDeclined)
	d.exec(`UPDATE events SET at = '2026-11-01'`)
	if n := at(26, 8); n != 0 {
		t.Errorf("%d digests because somebody said no long ago", n)
	}
	d.advance(client, provisioning.EventBounced, provisioning.StageStalled, provisioning.ReasonBounced)
	for _, test := range []struct{ day, hour, want int }{
		{27, 7, 0}, {27, 12, 0}, {28, 8, 0}, {29, 8, 0}, {30, 11, 2}, {30, 11, 2},
	} {
		if n := at(test.day, test.hour); n != test.want {
			t.Errorf("%d digests on the %d at %d, want %d", n, test.day, test.hour, test.want)
		}
	}
}

// TestDigestFindsItsEvents looks for the beginning of a period among many events, with gaps between their
// ids where clients were deleted.
func TestDigestFindsItsEvents(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	client := d.waiting("acme")
	until := time.Date(2026, 11, 24, 8, 0, 0, 0, location(t, "America/New_York"))
	d.exec(`DELETE FROM events`)
	// One each minute of five days, one in ten of them an authorization.
	d.exec(`
		INSERT INTO events (client_id, at, kind, actor, stage)
		SELECT
			md5(n::text)::uuid,
			$1::timestamptz - make_interval(mins => n),
			'moved',
			'system',
			CASE WHEN n % 10 = 1 THEN 'authorized' END
		FROM generate_series(7200, -60, -1) n`, until)
	d.exec(`DELETE FROM events WHERE stage IS NULL AND id % 7 < 5`)
	d.exec(`DELETE FROM messages`)
	d.advance(client, "moved", provisioning.StageAuthorized, "")
	d.exec(`UPDATE events SET at = $1 WHERE client_id = $2`, until.Add(time.Hour), client)
	d.now = until
	if err := d.digests().Due(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := d.told()["ann@agency.example digest 2026-11-24"].AuthorizedNew; got != 24*6 {
		t.Errorf("%d authorizations in a day, want %d", got, 24*6)
	}
}
