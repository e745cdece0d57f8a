package provisioning_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/provisioning"
)

// recorder keeps what was asked last.
type recorder struct {
	*pgxpool.Conn

	sql  string
	args []any
}

func (r *recorder) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	r.sql, r.args = sql, args
	return r.Conn.Query(ctx, sql, args...) //nolint:rowserrcheck // The caller does.
}

// literal writes an argument as SQL.
func literal(arg any) string {
	switch v := arg.(type) {
	case int, int64:
		return fmt.Sprint(v)
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
	list := func(f provisioning.Filter) func() error {
		return func() error {
			_, _, err := store.Clients(t.Context(), f)
			return err
		}
	}
	asked := map[string]func() error{
		"the first page":       list(provisioning.Filter{}),
		"a page in the middle": list(provisioning.Filter{Cursor: id.String()}),
		"a stage":              list(provisioning.Filter{Stage: provisioning.StageInvited}),
		"a rare stage":         list(provisioning.Filter{Stage: provisioning.StageStalled}),
		"a stage in between":   list(provisioning.Filter{Stage: provisioning.StageInvited, Cursor: id.String()}),
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
		"progress": func() error {
			_, err := store.Progress(t.Context(), time.Now())
			return err
		},
	}
	sequential := regexp.MustCompile(`Seq Scan on (clients|events)`)
	for name, ask := range asked {
		if err := ask(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		modes := []string{"force_custom_plan", "force_generic_plan"}
		if len(r.args) > 0 && r.args[0] == pgx.QueryExecModeCacheDescribe {
			modes, r.args = modes[:1], r.args[1:]
		}
		literals := []string{}
		for _, arg := range r.args {
			literals = append(literals, literal(arg))
		}
		execute := "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE asked"
		if len(literals) > 0 {
			execute += "(" + strings.Join(literals, ", ") + ")"
		}
		for _, mode := range modes {
			plan := explain(t, conn, mode, "PREPARE asked AS "+r.sql, execute)
			if sequential.MatchString(plan) {
				t.Errorf("%s (%s) reads everything:\n%s", name, mode, plan)
			}
			for _, found := range regexp.MustCompile(`Rows Removed by Filter: (\d+)`).FindAllStringSubmatch(plan, -1) {
				if len(found[1]) > 3 {
					t.Errorf("%s (%s) reads %s rows for nothing:\n%s", name, mode, found[1], plan)
				}
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
