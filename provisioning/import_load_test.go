package provisioning_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
)

// wideFile writes rows of 12 columns, those numbered from first on.
func wideFile(first, rows int) string {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write([]string{
		"name", "owner_email", "ref", "owner_name", "account_id", "route", "site_url", "locale", "time_zone", "tags",
		"Plan", "Notes",
	})
	for i := first; i < first+rows; i++ {
		_ = w.Write([]string{
			fmt.Sprintf("Café & Bakery %d, Inc.", i), fmt.Sprintf("ann.smith%d@client%d.example", i, i), fmt.Sprintf("ACME-%d", i),
			"Ann Smith", fmt.Sprintf("a07e1l%d", i), "owner", fmt.Sprintf("https://www.client%d.example/", i), "en-US",
			"America/New_York", "vip,bakery", "Gold", "called twice",
		})
	}
	w.Flush()
	return b.String()
}

// BenchmarkImport imports 100,000 rows of 12 columns: into an empty roster, again, and 1,000 more of them
// into the roster that is there then.
func BenchmarkImport(b *testing.B) {
	const rows = 100_000
	all, more := wideFile(0, rows), wideFile(rows, 1000)
	for b.Loop() {
		b.StopTimer()
		o := setup(b)
		for _, step := range []struct {
			name string
			file string
			rows int
		}{{"new", all, rows}, {"again", all, rows}, {"more", more, 1000}} {
			before := b.Elapsed()
			b.StartTimer()
			o.imports(b, step.file)
			b.StopTimer()
			b.ReportMetric(float64(step.rows)/(b.Elapsed()-before).Seconds(), step.name+"_rows/s")
		}
		b.StartTimer()
	}
}

// TestImportsAtOnce imports overlapping files at once, while owners and operators are at work on the same
// clients: nothing fails, waits crosswise or is doubled, and the roster is that of the same imports one
// after the other.
func TestImportsAtOnce(t *testing.T) {
	t.Parallel()
	o := setup(t)
	const clients, files = 300, 8
	all := [][]string{}
	for i := range clients {
		ref := fmt.Sprint("R", i)
		all = append(all, []string{fmt.Sprint("Acme ", i%60), fmt.Sprintf("owner%d@a.example", i%40), ref, "A" + ref})
	}
	o.imports(t, file(append([][]string{{"name", "owner_email", "ref", "account_id"}}, all[:clients/2]...)...), invite)
	ids := askAll[uuid.UUID](t, o, `SELECT id FROM clients`)

	var imports, others sync.WaitGroup
	stop := make(chan struct{})
	work := func(do func(random *rand.Rand, id uuid.UUID) error) {
		others.Go(func() {
			random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // The same walk in every run.
			for {
				select {
				case <-stop:
					return
				default:
					if err := do(random, ids[random.IntN(len(ids))]); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	work(func(random *rand.Rand, id uuid.UUID) error {
		to := provisioning.Stages()[random.IntN(3)]
		_, err := provisioning.Advance(t.Context(), o.pool, provisioning.Change{
			Client: id, Event: provisioning.EventMailAccepted, Actor: provisioning.ActorSystem, To: to,
		})
		return err
	})
	work(func(_ *rand.Rand, id uuid.UUID) error {
		_, _, err := o.links.HandOver(t.Context(), id, provisioning.ActorCLI)
		return err
	})
	work(func(random *rand.Rand, id uuid.UUID) error {
		sel := provisioning.Selection{All: true}
		if random.IntN(2) == 0 {
			sel = provisioning.Selection{Clients: []string{id.String()}}
		}
		_, err := o.inviter.Invite(t.Context(), sel, provisioning.ActorCLI, false)
		return err
	})
	work(func(*rand.Rand, uuid.UUID) error { return provisioning.FoldTally(t.Context(), o.pool) })
	for n := range files {
		imports.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 3)) //nolint:gosec // As above.
			records := [][]string{{"name", "owner_email", "ref", "account_id", "owner_name"}}
			for _, i := range random.Perm(clients)[:2*clients/3] {
				records = append(records, append(slices.Clone(all[i]), fmt.Sprint("Owner ", random.IntN(2))))
			}
			if im, err := o.tryImport(file(records...), func(o *provisioning.ImportOptions) { o.Invite = n%2 == 0 }); err != nil || im.Rejected > 0 {
				t.Errorf("%+v, %v", im, err)
			}
		})
	}
	imports.Wait()
	close(stop)
	others.Wait()

	im := o.imports(t, file(append([][]string{{"name", "owner_email", "ref", "account_id"}}, all...)...))
	if im.Updated+im.Rejected > 0 || im.Created+im.Unchanged != clients {
		t.Errorf("%+v", im)
	}
	for name, sql := range map[string]string{
		"clients":   `SELECT count(*) FROM clients`,
		"usernames": `SELECT count(DISTINCT lower(username)) FROM clients`,
		"refs":      `SELECT count(DISTINCT ref) FROM clients`,
		"events":    `SELECT count(*) FROM events WHERE kind = 'imported'`,
	} {
		if n := ask[int](t, o, sql); n != clients {
			t.Errorf("%d %s", n, name)
		}
	}
	if n := ask[int](t, o, `SELECT count(*) FROM (SELECT FROM messages GROUP BY client_id HAVING count(*) > 1) twice`); n > 0 {
		t.Errorf("%d clients are mailed twice", n)
	}
}

// TestImportMany gives 100,000 clients of few names their usernames.
func TestImportMany(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes seconds")
	}
	o := setup(t)
	// What usernames do not need takes most of the time.
	o.exec(t, `DROP INDEX clients_search, clients_tags, clients_name_owner, clients_owner_email, clients_stage, clients_route`)
	const clients = 100_000
	records := [][]string{{"name", "owner_email", "ref"}}
	for i := range clients {
		name := fmt.Sprint("Store ", i%20_000) // Store 2 to Store 19999 are what the second Store would be called.
		if i%5 == 0 {
			name = "Store"
		}
		records = append(records, []string{name, "ann@a.example", fmt.Sprint("R", i)})
	}
	im := o.imports(t, file(records...))
	if im.Created != clients {
		t.Fatalf("%+v", im)
	}
	if n := ask[int](t, o, `SELECT count(DISTINCT lower(username)) FROM clients`); n != clients {
		t.Errorf("%d usernames", n)
	}
	// Every name has as many usernames as clients, numbered without a gap but for what others had taken.
	if most := ask[int](t, o, `SELECT max(last) FROM username_counters`); most > 20_000+20_000 {
		t.Errorf("the numbers go up to %d", most)
	}
}

// TestImportAfterVacuum: plans that a connection made for an almost empty roster do not outlive it. A
// foreign-key check with such a plan reads all clients for every row.
func TestImportAfterVacuum(t *testing.T) {
	t.Parallel()
	o := setup(t)
	conn, err := o.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	o.DB, o.importer.DB = conn, conn
	o.imports(t, wideFile(0, 10), invite)
	o.exec(t, `VACUUM (ANALYZE) clients, events, invitations, messages`)
	for i := range 2 {
		o.imports(t, wideFile(10+10*i, 10), invite)
	}
	read := func() int {
		o.exec(t, `SELECT pg_stat_force_next_flush()`)
		return ask[int](t, o, `SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables WHERE relname IN ('clients', 'invitations', 'messages')`)
	}
	before := read()
	const rows = 2000
	o.imports(t, wideFile(100, rows), invite)
	if n := read() - before; n > 100*rows {
		t.Errorf("%d rows are read to import and invite %d", n, rows)
	}
}
