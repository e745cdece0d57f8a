package provisioning_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/provisioning"
)

// recorder keeps what was asked.
type recorder struct {
	*pgxpool.Conn

	asked []question
}

type question struct {
	sql  string
	args []any
}

func (r *recorder) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	r.asked = append(r.asked, question{sql, args})
	return r.Conn.Query(ctx, sql, args...) //nolint:rowserrcheck // The caller does.
}

func (r *recorder) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	r.asked = append(r.asked, question{sql, args})
	return r.Conn.QueryRow(ctx, sql, args...)
}

// literal writes an argument as SQL.
func literal(arg any) string {
	switch v := arg.(type) {
	case int, int64:
		return fmt.Sprint(v)
	case time.Time:
		return "'" + v.Format(time.RFC3339Nano) + "'"
	}
	if list := reflect.ValueOf(arg); list.Kind() == reflect.Slice {
		words := make([]string, list.Len())
		for i := range words {
			words[i] = fmt.Sprint(list.Index(i))
		}
		return "'{" + strings.Join(words, ",") + "}'"
	}
	return "'" + strings.ReplaceAll(fmt.Sprint(arg), "'", "''") + "'"
}

// TestPlans: no question that is asked often reads all clients or all events of a large roster, planned for
// these values and, unless it is always planned so, for any.
func TestPlans(t *testing.T) {
	t.Parallel()
	o := setup(t)
	const clients = 20_000
	o.imports(t, wideFile(0, clients))
	for _, sql := range []string{
		// Of each a few, so that nothing is found early by chance: they are the newest.
		`UPDATE clients SET stage = 'invited' WHERE ref LIKE 'ACME-12%'`,
		`UPDATE clients SET route = 'manager', tags = '{rare}' WHERE ref LIKE 'ACME-1998%'`,
		`UPDATE clients SET stage = 'stalled', reason = 'bounced' WHERE ref LIKE 'ACME-1999%'`,
		`INSERT INTO events (client_id, kind, actor) SELECT id, 'link_issued', 'x' FROM clients WHERE ref LIKE 'ACME-1%'`,
		`ANALYZE`,
	} {
		o.exec(t, sql)
	}
	if err := errors.Join(provisioning.FoldTally(t.Context(), o.pool), provisioning.SortSearch(t.Context(), o.pool)); err != nil {
		t.Fatal(err)
	}
	conn, err := o.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	r := &recorder{Conn: conn}
	store := &provisioning.Store{DB: r}
	id := ask[uuid.UUID](t, o, `SELECT id FROM clients WHERE ref = 'ACME-10000'`)
	first := ask[uuid.UUID](t, o, `SELECT id FROM imports`)
	list := func(f provisioning.Filter) func() error {
		return func() error {
			_, _, err := store.Clients(t.Context(), f)
			return err
		}
	}
	_, middle, err := (&provisioning.Store{DB: o.pool}).Clients(t.Context(), provisioning.Filter{Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]func() error{
		"the first page":       list(provisioning.Filter{}),
		"a page in the middle": list(provisioning.Filter{Cursor: middle}),
		"a stage":              list(provisioning.Filter{Stage: provisioning.StageInvited}),
		"a rare stage":         list(provisioning.Filter{Stage: provisioning.StageStalled}),
		"a stage in between":   list(provisioning.Filter{Stage: provisioning.StageInvited, Cursor: middle}),
		"a reason":             list(provisioning.Filter{Reason: provisioning.ReasonBounced}),
		"a stage and a reason": list(provisioning.Filter{Stage: provisioning.StageStalled, Reason: provisioning.ReasonBounced}),
		"a route":              list(provisioning.Filter{Route: provisioning.RouteOwner}),
		"a rare route":         list(provisioning.Filter{Route: provisioning.RouteManager}),
		"a tag":                list(provisioning.Filter{Tag: "vip"}),
		"a rare tag":           list(provisioning.Filter{Tag: "rare"}),
		"a search":             list(provisioning.Filter{Query: "cafe"}),
		"a rare search":        list(provisioning.Filter{Query: "acme-1234"}),
		"an address":           list(provisioning.Filter{Query: "ann.smith19@client19.example"}),
		"a client by ref": func() error {
			_, err := store.Client(t.Context(), "ref:ACME-10000")
			return err
		},
		"a client by id": func() error {
			_, err := store.Client(t.Context(), id.String())
			return err
		},
		"the history of a client": func() error {
			_, err := store.Events(t.Context(), id, 0, 100)
			return err
		},
		"the rest of it": func() error {
			_, err := store.Events(t.Context(), id, 25_000, 100)
			return err
		},
		"the newest events": func() error {
			_, err := store.RecentEvents(t.Context(), 20)
			return err
		},
		"the number of a few": func() error {
			_, _, err := store.Count(t.Context(), provisioning.Filter{Tag: "rare"}, 1000)
			return err
		},
		"the imports": func() error {
			_, _, err := store.Imports(t.Context(), "", 50)
			return err
		},
		"a page of an import": list(provisioning.Filter{Import: first}),
		"who is mailed no more": func() error {
			_, _, err := store.Suppressed(t.Context(), "", 50)
			return err
		},
		"the referrals": func() error {
			_, _, err := store.OpenReferrals(t.Context(), "", 50)
			return err
		},
		"the pulse": func() error {
			_, err := store.Pulse(t.Context())
			return err
		},
		"progress": func() error {
			_, err := store.Progress(t.Context(), time.Now())
			return err
		},
	}
	for name, ask := range asked {
		if err := ask(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r.check(t, name, 999)
	}
}

// check plans anew what was asked since it was called last, and refuses a plan that reads everything, or more rows for
// nothing than most.
func (r *recorder) check(t *testing.T, name string, most int) {
	t.Helper()
	if len(r.asked) == 0 {
		t.Errorf("%s asks nothing", name)
	}
	for _, q := range r.asked {
		q.check(t, r.Conn, name, most)
	}
	r.asked = nil
}

func (q question) check(t *testing.T, conn *pgxpool.Conn, name string, most int) {
	t.Helper()
	sequential := regexp.MustCompile(`Seq Scan on (clients|events)`)
	modes := []string{"force_custom_plan", "force_generic_plan"}
	if len(q.args) > 0 && q.args[0] == pgx.QueryExecModeCacheDescribe {
		modes, q.args = modes[:1], q.args[1:]
	}
	literals := []string{}
	for _, arg := range q.args {
		literals = append(literals, literal(arg))
	}
	execute := "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE asked"
	if len(literals) > 0 {
		execute += "(" + strings.Join(literals, ", ") + ")"
	}
	for _, mode := range modes {
		plan := explain(t, conn, mode, "PREPARE asked AS "+q.sql, execute)
		if sequential.MatchString(plan) {
			t.Errorf("%s (%s) reads everything:\n%s", name, mode, plan)
		}
		for _, found := range regexp.MustCompile(`Rows Removed by Filter: (\d+)`).FindAllStringSubmatch(plan, -1) {
			if n, err := strconv.Atoi(found[1]); err != nil || n > most {
				t.Errorf("%s (%s) reads %s rows for nothing:\n%s", name, mode, found[1], plan)
			}
		}
	}
}

// explain prepares a statement and returns the plan with which it is executed.
func explain(t *testing.T, conn *pgxpool.Conn, mode, prepare, execute string) string {
	t.Helper()
	exec := func(sql string) {
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("SET plan_cache_mode = " + mode)
	exec(prepare)
	defer exec("DEALLOCATE asked")
	rows, err := conn.Query(t.Context(), execute, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatalf("%s: %v", execute, err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", execute, err)
	}
	return strings.Join(lines, "\n")
}

// TestFilterPlans: no filter in any order reads a large roster, however rare what it selects is, and wherever that is:
// at worst some thousand rows, which are a few per cent of this one and would be as many of a larger.
func TestFilterPlans(t *testing.T) {
	t.Parallel()
	o := setup(t)
	imported := uuid.New()
	for _, sql := range []string{
		// Stages follow each other in time, as they do: what is imported last is invited last.
		`INSERT INTO clients (id, ref, name, owner_email, username, stage, reason, stage_at, route, paused, tags, search)
		SELECT
			('01980000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
			'R' || n,
			'Acme ' || n * 7919 % 100000,
			'ann' || n || '@a.example',
			'agency+' || n || '@agency.example',
			CASE WHEN n % 5000 = 0 THEN 'stalled' WHEN n <= 40000 THEN 'authorized' WHEN n <= 60000 THEN 'invited' ELSE 'imported' END,
			CASE WHEN n % 5000 = 0 THEN 'bounced' END,
			TIMESTAMPTZ '2026-11-01' + n * interval '1 second',
			CASE WHEN n % 4000 = 0 THEN 'manager' ELSE 'owner' END,
			n % 3000 = 0,
			CASE WHEN n % 6000 = 0 THEN '{vip,rare}'::text[] ELSE '{vip}' END,
			array_to_tsvector(ARRAY['acme', 'r' || n])
		FROM generate_series(1, 100000) n`,
		`INSERT INTO import_clients (import_id, client_id)
		SELECT '` + imported.String() + `', id
		FROM clients
		WHERE ref LIKE 'R9999%'`,
		`INSERT INTO import_clients (import_id, client_id)
		SELECT '` + uuid.NewString() + `', id
		FROM clients`,
		`ANALYZE clients`,
		`ANALYZE import_clients`,
	} {
		o.exec(t, sql)
	}
	if err := provisioning.SortSearch(t.Context(), o.pool); err != nil {
		t.Fatal(err)
	}
	conn, err := o.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	r := &recorder{Conn: conn}
	store := &provisioning.Store{DB: r}
	yes, no := true, false
	noon := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for name, f := range map[string]provisioning.Filter{
		"all":           {},
		"a stage":       {Stage: provisioning.StageImported},
		"a rare stage":  {Stage: provisioning.StageStalled},
		"a reason":      {Reason: provisioning.ReasonBounced},
		"a route":       {Route: provisioning.RouteOwner},
		"a rare route":  {Route: provisioning.RouteManager},
		"a tag":         {Tag: "vip"},
		"a rare tag":    {Tag: "rare"},
		"no tag":        {Tag: "none"},
		"a search":      {Query: "acm"},
		"a rare search": {Query: "r7777"},
		"two words":     {Query: "acme r9999"},
		"search in tag": {Query: "acme", Tag: "rare"},
		"and in stage":  {Query: "acme", Stage: provisioning.StageImported},
		"an import":     {Import: imported},
		"no import":     {Import: uuid.New()},
		"paused":        {Paused: &yes},
		"not paused":    {Paused: &no},
		"a time":        {From: noon, Until: noon.Add(time.Hour)},
		"a rare time":   {From: noon, Until: noon.Add(time.Minute)},
	} {
		for _, sort := range provisioning.Sorts() {
			for _, descending := range []bool{false, true} {
				f.Sort, f.Descending, f.Cursor, f.Limit = sort, descending, "", 10
				for page := range 2 {
					what := fmt.Sprintf("%s by %s, descending %t, page %d", name, sort, descending, page)
					_, next, err := store.Clients(t.Context(), f)
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					r.check(t, what, 5000)
					if f.Cursor = next; next == "" || descending {
						break
					}
				}
			}
		}
	}
}
