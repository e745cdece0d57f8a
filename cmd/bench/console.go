package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

// consoleOptions say what is measured.
type consoleOptions struct {
	clients     []int // rosters, each larger than the one before
	events      int   // a client has
	looks       int   // at each kind of page
	connections int
}

// benchConsole has operators look at the console's pages while the roster grows. The service is the program as it ships,
// in a process of its own; each page is asked for over kept connections, with other words and places each time.
func benchConsole(ctx context.Context, out io.Writer, pool *pgxpool.Pool, folder string, o consoleOptions) error {
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	service, err := startService(ctx, pool, folder, address)
	if err != nil {
		return err
	}
	defer service.stop()
	cookie, err := signIn(ctx, pool, address)
	if err != nil {
		return err
	}
	r := &rosterOfConsole{pool: pool, folder: folder}
	for _, n := range o.clients {
		began := time.Now()
		if err := r.grow(ctx, n, o.events); err != nil {
			return err
		}
		fmt.Fprintf(out, "%d clients, %d events (made in %s)\n", n, n*o.events, time.Since(began).Round(time.Second))
		if err := r.leaf(ctx); err != nil {
			return err
		}
		for _, page := range r.pages() {
			if err := look(ctx, out, address, cookie, page, o); err != nil {
				return err
			}
		}
		if err := download(ctx, out, service, cookie, n); err != nil {
			return err
		}
	}
	return nil
}

// signIn makes the first operator and returns the cookie of a session.
func signIn(ctx context.Context, pool *pgxpool.Pool, address string) (string, error) {
	link, err := admin.New(pool).SetupLink(ctx)
	if err != nil {
		return "", err
	}
	form := url.Values{"email": {"ann@agency.example"}, "name": {"Ann"}, "password": {password}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/admin/enter/"+link.Reveal(), strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	if err := answer.Body.Close(); err != nil {
		return "", err
	}
	for _, c := range answer.Cookies() {
		if c.Value != "" {
			return c.Name + "=" + c.Value, nil
		}
	}
	return "", fmt.Errorf("nobody is signed in: the set-up link was answered %s", answer.Status)
}

// rosterOfConsole is a roster that grows.
type rosterOfConsole struct {
	pool    *pgxpool.Pool
	folder  string
	n       int
	clients []uuid.UUID // some of them
	imports []uuid.UUID
	leaves  []string // addresses of pages far behind the first one
}

// Words that names are made of: some are in many names, and with their number each is in one.
const (
	manners = "Golden Silver Old New Little Grand Blue Red Green Happy Royal Sunny Quiet Bright Northern Southern Eastern Western Upper Lower"
	trades  = "Bakery Yoga Dental Garden Plumbing Coffee Books Design Law Pets Travel Fitness Music Flowers Tailors Optics Brewery Kitchen Cycles Farm"
	towns   = "Ashford Brook Camden Dover Eton Fairview Georgetown Hamilton Irvine Jasper Kent Lincoln Madison Newport Oxford Preston Quincy Ripley Salem Trenton"
)

func nameOf(i int) string {
	pick := func(list string, seed int) string {
		words := strings.Fields(list)
		return words[int(uint64(i)*0x9E3779B97F4A7C15>>(20+seed)%uint64(len(words)))] //nolint:gosec // i counts rows
	}
	return fmt.Sprintf("%s %s %s %d", pick(manners, 0), pick(trades, 7), pick(towns, 14), i)
}

// grow imports more clients, moves them along, and gives each a history.
func (r *rosterOfConsole) grow(ctx context.Context, n, events int) error {
	path := filepath.Join(r.folder, "console.csv")
	if err := r.write(path, n); err != nil {
		return err
	}
	importer, err := newImporter(r.pool)
	if err != nil {
		return err
	}
	if _, err := timeImport(ctx, importer, path, provisioning.Import{Rows: n - r.n, Created: n - r.n}); err != nil {
		return err
	}
	// A third is authorized, half is on its way, the others stall for every reason; a few are paused.
	const moved = `
		UPDATE clients
		SET stage = s.stage,
			reason = s.reason,
			stage_at = now() - random() * interval '60 days',
			updated_at = now(),
			invited_at = CASE WHEN s.stage <> 'imported' THEN now() - interval '60 days' END,
			authorized_at = CASE WHEN s.stage IN ('authorized', 'lapsed') THEN now() - random() * interval '60 days' END,
			paused = random() < 0.01
		FROM (
			SELECT
				id,
				(ARRAY['imported', 'invited', 'invited', 'invited', 'started', 'authorized', 'authorized', 'authorized', 'stalled', 'lapsed'])[1 + k % 10] AS stage,
				CASE WHEN k % 10 = 8
					THEN (ARRAY['bounced', 'declined', 'wrong_account', 'missing_scope', 'unsubscribed', 'expired', 'conflict'])[1 + k / 10 % 7]
				END AS reason
			FROM (
				SELECT
					id,
					substring(ref FROM 3)::int * 7 AS k
				FROM clients
				WHERE stage_at = created_at
					AND stage = 'imported'
			) c
		) s
		WHERE clients.id = s.id`
	const told = `
		INSERT INTO events (client_id, at, kind, actor)
		SELECT c.id, now() - interval '60 days' + i * interval '5 days', 'mail_accepted', 'system'
		FROM generate_series(1, $1) i, (SELECT id FROM clients WHERE substring(ref FROM 3)::int >= $2) c`
	if err := withoutIndexes(ctx, r.pool, "clients", moved); err != nil {
		return fmt.Errorf("move the clients: %w", err)
	}
	if _, err := r.pool.Exec(ctx, told, events-1, r.n); err != nil { // The import has told the first.
		return fmt.Errorf("give them a history: %w", err)
	}
	if err := provisioning.FoldTally(ctx, r.pool); err != nil {
		return err
	}
	if _, err := r.pool.Exec(ctx, `VACUUM ANALYZE`); err != nil {
		return err
	}
	r.n = n
	err = r.pool.QueryRow(ctx, `
		SELECT
			(SELECT array_agg(id) FROM (SELECT id FROM clients TABLESAMPLE SYSTEM (1) LIMIT 1000) c),
			(SELECT array_agg(id) FROM imports)`).Scan(&r.clients, &r.imports)
	if err == nil && len(r.clients) == 0 {
		err = errors.New("the roster is too small to look at")
	}
	return err
}

// withoutIndexes carries out a statement that writes most rows of a table. Making its indexes anew afterwards takes a tenth of
// the time that writing them row by row does; those of constraints stay.
func withoutIndexes(ctx context.Context, pool *pgxpool.Pool, table, statement string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		indexes, err := tx.Query(ctx, `
			SELECT ARRAY[i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)]
			FROM pg_index i
			WHERE i.indrelid = $1::regclass
				AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)`, table)
		if err != nil {
			return err
		}
		found, err := pgx.CollectRows(indexes, pgx.RowTo[[2]string])
		if err != nil {
			return err
		}
		steps := []string{`SET LOCAL maintenance_work_mem = '512MB'`, statement}
		for _, index := range found {
			steps = append(slices.Insert(steps, 0, "DROP INDEX "+index[0]), index[1])
		}
		for _, sql := range steps {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%.40s: %w", sql, err)
			}
		}
		return nil
	})
}

// write writes the clients that a roster of n lacks.
func (r *rosterOfConsole) write(path string, n int) error {
	var file bytes.Buffer
	w := csv.NewWriter(&file)
	if err := w.Write([]string{"name", "owner_email", "ref", "owner_name", "account_id", "route", "tags"}); err != nil {
		return err
	}
	for i := r.n; i < n; i++ {
		tags, route := "all", "owner"
		if i%10 == 0 {
			tags, route = "all,tenth", "manager"
		}
		if i%1000 == 0 {
			tags, route = "all,rare", "partner"
		}
		if err := w.Write([]string{
			nameOf(i), fmt.Sprintf("owner%d@client%d.example", i, i), fmt.Sprintf("K-%d", i), fmt.Sprintf("Ann Smith %d", i%500),
			fmt.Sprintf("acct%d", i), route, tags,
		}); err != nil {
			return err
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return os.WriteFile(path, file.Bytes(), 0o600)
}

// leaf goes through the list of clients in several orders, up to 100,000 clients far, and keeps addresses on the way.
func (r *rosterOfConsole) leaf(ctx context.Context) error {
	const far, apart = 200, 10 // pages of the largest size
	store := &provisioning.Store{DB: r.pool}
	r.leaves = nil
	for query, f := range map[string]provisioning.Filter{
		"":                            {},
		"sort=-imported":              {Descending: true},
		"sort=name":                   {Sort: provisioning.SortName},
		"sort=-changed":               {Sort: provisioning.SortChanged, Descending: true},
		"stage=authorized":            {Stage: provisioning.StageAuthorized},
		"stage=stalled&sort=-changed": {Stage: provisioning.StageStalled, Sort: provisioning.SortChanged, Descending: true},
		"reason=bounced":              {Reason: provisioning.ReasonBounced},
		"tag=tenth&sort=name":         {Tag: "tenth", Sort: provisioning.SortName},
	} {
		f.Limit = 500
		for i := range far {
			_, next, err := store.Clients(ctx, f)
			if err != nil {
				return err
			}
			if next == "" {
				break
			}
			if f.Cursor = next; i%apart == 0 {
				r.leaves = append(r.leaves, "/admin/clients?"+query+"&cursor="+url.QueryEscape(next))
			}
		}
	}
	return nil
}

// kindOfPage is one of the console's pages, at an address of many.
type kindOfPage struct {
	what string
	path func() string
}

func (r *rosterOfConsole) pages() []kindOfPage {
	one := func(words ...string) string { return words[rand.IntN(len(words))] } //nolint:gosec // where to look next
	number := func() int { return rand.IntN(r.n) }                              //nolint:gosec // likewise
	roster := func(query string) func() string {
		return func() string { return "/admin/clients?" + query }
	}
	search := func(words func() string) func() string {
		return func() string { return "/admin/clients?q=" + url.QueryEscape(words()) }
	}
	day := func(ago int) string { return time.Now().AddDate(0, 0, -ago).Format(time.DateOnly) }
	return []kindOfPage{
		{"progress", func() string { return "/admin" }},
		{"clients", roster("")},
		{"clients by stage", func() string {
			return "/admin/clients?stage=" + one("imported", "invited", "started", "authorized", "lapsed", "stalled")
		}},
		{"clients by reason", func() string {
			return "/admin/clients?stage=stalled&reason=" + one("bounced", "declined", "expired", "conflict")
		}},
		{"clients by route", func() string { return "/admin/clients?route=" + one("owner", "manager", "partner", "external") }},
		{"clients by tag", func() string { return "/admin/clients?tag=" + one("all", "tenth", "rare", "none") }},
		{"clients of an import", func() string { return "/admin/clients?import=" + r.imports[rand.IntN(len(r.imports))].String() }}, //nolint:gosec // as above
		{"clients that are paused", roster("paused=yes")},
		{"clients changed in a week", func() string { return "/admin/clients?from=" + day(37) + "&until=" + day(30) }},
		{"clients by name", roster("sort=name")},
		{"clients, last changed first", roster("sort=-changed")},
		{"clients by stage, last changed", func() string {
			return "/admin/clients?sort=-changed&stage=" + one("imported", "invited", "authorized", "stalled")
		}},
		{"clients by rare tag, by name", roster("tag=rare&sort=name")},
		{"clients by any two filters", func() string {
			return "/admin/clients?" + one("stage=authorized", "stage=stalled", "reason=bounced", "route=manager") +
				"&" + one("tag=all", "tag=rare", "paused=yes", "paused=no", "from="+day(37)+"&until="+day(30)) +
				"&sort=" + one("", "-") + one("imported", "name", "changed")
		}},
		{"clients, pages on", func() string { return one(r.leaves...) }},
		{"one client", func() string { return "/admin/clients/" + r.clients[rand.IntN(len(r.clients))].String() }}, //nolint:gosec // as above
		{"search: a word of many", search(func() string { return one(strings.Fields(trades)...) })},
		{"search: a beginning of many", search(func() string { return one(strings.Fields(trades)...)[:2] })},
		{"search: a beginning of all", search(func() string { return one("acct", "own", "client", "k") })},
		{"search: three words", search(func() string {
			return one(strings.Fields(manners)...) + " " + one(strings.Fields(trades)...) + " " + one(strings.Fields(towns)...)
		})},
		{"search: a name", search(func() string { return nameOf(number()) })},
		{"search: an address", search(func() string { n := number(); return fmt.Sprintf("owner%d@client%d.example", n, n) })},
		{"search: an account", search(func() string { return fmt.Sprintf("acct%d", number()) })},
		{"search: a reference", search(func() string { return fmt.Sprintf("K-%d", number()) })},
		{"search: a username", search(func() string {
			return "agency+" + strings.ToLower(strings.ReplaceAll(nameOf(number()), " ", "-")) + "@agency.example"
		})},
		{"search: a word of all", search(func() string { return "example" })},
		{"search: nobody", search(func() string { return "Xyzzy" })},
		{"search, by name", func() string { return "/admin/clients?sort=name&q=" + one(strings.Fields(towns)...) }},
		{"search in a stage, last changed", func() string {
			return "/admin/clients?sort=-changed&stage=" + one("invited", "stalled") + "&q=" + one(strings.Fields(trades)...)
		}},
		{"search and a rare tag", func() string { return "/admin/clients?tag=rare&q=" + one(strings.Fields(trades)...) }},
	}
}

// look asks for one kind of page many times.
func look(ctx context.Context, out io.Writer, address, cookie string, page kindOfPage, o consoleOptions) error {
	path := func(int) string { return page.path() }
	if _, _, err := lookAt(ctx, address, cookie, o.connections, o.connections, path); err != nil { // Not counted: caches fill.
		return err
	}
	rate, took, err := lookAt(ctx, address, cookie, o.looks, o.connections, path)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  %-34s %8.0f/s  %s\n", page.what, rate, took)
	return nil
}

// download exports the roster, demands that all of it comes, and tells how much memory the service had at most meanwhile.
func download(ctx context.Context, out io.Writer, s *service, cookie string, n int) error {
	if err := forgetPeak(s.process); err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/admin/export.csv", http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Cookie", cookie)
	began := time.Now()
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	rows := -1 // but for the header
	var size int64
	buffer := make([]byte, 64<<10)
	for {
		n, err := answer.Body.Read(buffer)
		size += int64(n)
		rows += bytes.Count(buffer[:n], []byte("\n"))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	took := time.Since(began)
	if rows != n {
		return fmt.Errorf("the export has %d rows of %d: %s", rows, n, answer.Status)
	}
	peak, err := peakMemoryOf(s.process)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  %-34s %8.0f rows/s, %d MB; the service had %d MB of memory at most\n", "export", float64(rows)/took.Seconds(), size>>20, peak>>20)
	return nil
}
