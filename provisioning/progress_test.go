package provisioning_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/provisioning"
)

// countProgress is what Progress has to say, counted over all clients.
func countProgress(tb fataler, o *office, now time.Time) provisioning.Progress {
	tb.Helper()
	counts := func(key string) map[string]int64 {
		counts := make(map[string]int64)
		for _, c := range askAll[string](tb, o, `SELECT concat(`+key+`, ' ', count(*)) FROM clients GROUP BY `+key) {
			var n int64
			key, number, _ := strings.Cut(c, " ")
			if _, err := fmt.Sscan(number, &n); err != nil {
				tb.Fatal(err)
			}
			counts[key] = n
		}
		return counts
	}
	p := provisioning.Progress{
		Stages: make(map[provisioning.Stage]int64), Reasons: make(map[provisioning.Reason]int64), Routes: make(map[provisioning.Route]provisioning.Way),
	}
	for _, route := range provisioning.Routes() {
		way := provisioning.Way{Total: counts(`route`)[string(route)], Stages: make(map[provisioning.Stage]int64)}
		for _, s := range provisioning.Stages() {
			way.Stages[s] = counts(`(route || '/' || stage)`)[string(route)+"/"+string(s)]
		}
		if way.Total > 0 {
			p.Routes[route] = way
		}
	}
	stages, reasons := counts(`stage`), counts(`reason`)
	for _, s := range provisioning.Stages() {
		p.Stages[s] = stages[string(s)]
		p.Total += p.Stages[s]
	}
	for _, r := range provisioning.Reasons() {
		p.Reasons[r] = reasons[string(r)]
	}
	p.Paused = counts(`paused`)["t"]
	p.InvitedEver = counts(`invited_at IS NOT NULL`)["t"]
	invited, authorized := counts(`(invited_at AT TIME ZONE 'UTC')::date`), counts(`(authorized_at AT TIME ZONE 'UTC')::date`)
	for back := 29; back >= 0; back-- {
		day := now.UTC().AddDate(0, 0, -back).Format(time.DateOnly)
		p.PerDay = append(p.PerDay, provisioning.Day{Day: day, Invited: invited[day], Authorized: authorized[day]})
	}
	if p.Total > 0 {
		p.AuthorizedRatio = float64(p.Stages[provisioning.StageAuthorized]) / float64(p.Total)
	}
	return p
}

func (o *office) checkProgress(tb fataler, now time.Time) {
	tb.Helper()
	got, err := o.Progress(context.Background(), now)
	if err != nil {
		tb.Fatal(err)
	}
	got.ETA = nil
	if diff := cmp.Diff(countProgress(tb, o, now), got); diff != "" {
		tb.Fatalf("(-counted +progress)\n%s", diff)
	}
}

// TestProgressCounts does everything that changes clients, in any order.
func TestProgressCounts(t *testing.T) {
	t.Parallel()
	o := setup(t)
	now := time.Now()
	somebody := func(t *rapid.T) string {
		return fmt.Sprintf(`id = (SELECT id FROM clients ORDER BY username OFFSET %d LIMIT 1)`, rapid.IntRange(0, 8).Draw(t, "client"))
	}
	rapid.Check(t, func(t *rapid.T) {
		o.inTx(t, func(o *office) {
			do := map[string]func(){
				"import":  func() { o.imports(t, linesFile(lines().Draw(t, "lines"))) },
				"dry run": func() { o.imports(t, linesFile(lines().Draw(t, "lines")), dryRun) },
				"advance": func() {
					_, err := provisioning.AdvanceAll(context.Background(), o.DB,
						askAll[uuid.UUID](t, o, `SELECT id FROM clients WHERE `+somebody(t)), change().Draw(t, "change"))
					if err != nil {
						t.Fatal(err)
					}
				},
				"advance all": func() {
					_, err := provisioning.AdvanceAll(context.Background(), o.DB,
						askAll[uuid.UUID](t, o, `SELECT id FROM clients`), change().Draw(t, "change"))
					if err != nil {
						t.Fatal(err)
					}
				},
				"route": func() {
					o.exec(t, `UPDATE clients SET route = $1 WHERE `+somebody(t), rapid.SampledFrom(provisioning.Routes()).Draw(t, "route"))
				},
				"pause": func() { o.exec(t, `UPDATE clients SET paused = NOT paused WHERE `+somebody(t)) },
				"another day": func() {
					o.exec(t, `UPDATE clients SET invited_at = now() - make_interval(hours => $1), authorized_at = now() WHERE `+somebody(t),
						rapid.IntRange(0, 2000).Draw(t, "hours"))
				},
				"delete": func() { o.exec(t, `DELETE FROM clients WHERE `+somebody(t)) },
				"fold": func() {
					if err := provisioning.FoldTally(context.Background(), o.DB); err != nil {
						t.Fatal(err)
					}
				},
			}
			for _, what := range rapid.SliceOfN(rapid.SampledFrom(slices.Sorted(maps.Keys(do))), 1, 12).Draw(t, "operations") {
				do[what]()
				o.checkProgress(t, now)
			}
		})
	})
}

// TestProgressAtOnce reads progress while clients change and several processes fold the tally.
func TestProgressAtOnce(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, wideFile(0, 200))
	ids := askAll[uuid.UUID](t, o, `SELECT id FROM clients`)
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for n := range 3 {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 1)) //nolint:gosec // The same walk in every run.
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := provisioning.Advance(t.Context(), o.pool, provisioning.Change{
					Client: ids[random.IntN(len(ids))], Event: provisioning.EventMailAccepted, Actor: provisioning.ActorSystem,
					To: provisioning.Stages()[random.IntN(5)],
				})
				if err == nil && n > 0 {
					err = provisioning.FoldTally(t.Context(), o.pool)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 20 {
		tx, err := o.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err != nil {
			t.Fatal(err)
		}
		(&office{Store: provisioning.Store{DB: tx}}).checkProgress(t, time.Now())
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	writers.Wait()
	o.checkProgress(t, time.Now())
	if err := provisioning.FoldTally(t.Context(), o.pool); err != nil {
		t.Fatal(err)
	}
	o.checkProgress(t, time.Now())
	if n := ask[int](t, o, `SELECT count(*) FROM tally_deltas`); n > 0 {
		t.Errorf("%d deltas are left", n)
	}
}

func TestProgressETA(t *testing.T) {
	t.Parallel()
	o := setup(t)
	now := time.Date(2026, 11, 23, 15, 30, 0, 0, time.FixedZone("", 3600)) // 14:30 UTC
	tests := map[string]struct {
		clients    int
		invited    int // days ago, of all; negative if never
		authorized []int
		want       string
	}{
		"nobody":                      {0, -1, nil, ""},
		"nothing has happened":        {10, -1, nil, ""},
		"all are authorized":          {2, 5, []int{3, 4}, ""},
		"nothing in the last 7 days":  {3, 20, []int{7}, ""},
		"the first day":               {10, 0, []int{0, 0, 0, 0, 0}, "2026-11-24T14:00:00Z"},
		"three days, one a day":       {7, 2, []int{0, 1, 2}, "2026-11-27T14:00:00Z"},
		"seven days count at most":    {15, 25, []int{6, 9}, "2027-02-22T14:00:00Z"},
		"further than anybody plans":  {40_000, 25, []int{6}, ""},
		"further than time can count": {200_000, 25, []int{6}, ""},
	}
	for name, test := range tests {
		o.inTx(t, func(o *office) {
			o.exec(t, `INSERT INTO tally (metric, label, day, n) VALUES ('stage', 'invited', '1970-01-01', $1), ('stage', 'authorized', '1970-01-01', $2)`,
				test.clients-len(test.authorized), len(test.authorized))
			if test.invited >= 0 {
				o.exec(t, `INSERT INTO tally (metric, label, day, n) VALUES ('invited', '', '2026-11-23'::date - $1::integer, $2)`, test.invited, test.clients)
			}
			for _, ago := range test.authorized {
				o.exec(t, `INSERT INTO tally_deltas (metric, label, day, n) VALUES ('authorized', '', '2026-11-23'::date - $1::integer, 1)`, ago)
			}
			p, err := o.Progress(t.Context(), now)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if p.ETA != nil {
				got = p.ETA.Format(time.RFC3339)
			}
			if got != test.want {
				t.Errorf("%s: %q, want %q", name, got, test.want)
			}
		})
	}
}

// TestProgressJSON holds the names that programs read.
func TestProgressJSON(t *testing.T) {
	t.Parallel()
	o := setup(t)
	p, err := o.Progress(t.Context(), time.Date(2026, 11, 23, 23, 59, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Stages  map[string]int   `json:"stages"`
		Reasons map[string]int   `json:"reasons"`
		PerDay  []map[string]any `json:"per_day"`
		ETA     *string          `json:"eta"`
	}
	var all map[string]any
	if err := json.Unmarshal(encoded, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(encoded, &all); err != nil {
		t.Fatal(err)
	}
	keys := func(m map[string]int) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }
	for want, keys := range map[string]string{
		"authorized_ratio eta invited_ever paused per_day reasons routes stages total":                                                            strings.Join(slices.Sorted(maps.Keys(all)), " "),
		"authorized imported invited lapsed stalled started":                                                                                      keys(got.Stages),
		"bounced conflict declined expired missing_scope no_account no_activation unmanaged unsubscribed user_limit username_taken wrong_account": keys(got.Reasons),
		"authorized day invited": strings.Join(slices.Sorted(maps.Keys(got.PerDay[0])), " "),
	} {
		if keys != want {
			t.Errorf("keys %s, want %s", keys, want)
		}
	}
	if len(got.PerDay) != 30 || got.PerDay[29]["day"] != "2026-11-23" || got.PerDay[0]["day"] != "2026-10-25" || got.ETA != nil {
		t.Errorf("%s", encoded)
	}
}
