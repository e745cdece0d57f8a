package grant_test

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/provisioning"
)

// TestOverview counts what waits, what is doubted and what was done.
func TestOverview(t *testing.T) {
	t.Parallel()
	o := open(t)
	overview := func() grant.Overview {
		t.Helper()
		v, err := o.Overview(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if diff := cmp.Diff(grant.Overview{Day: map[grant.Outcome]int{}}, overview()); diff != "" {
		t.Errorf("of nothing (-want +got):\n%s", diff)
	}
	clients := o.authorized(t, 6)
	o.consent(t, clients[5], provisioning.Account{ID: "acct-C1", Organization: "Client 1"})
	o.consent(t, clients[5], provisioning.Account{ID: "acct-C2", Organization: "Client 2"})
	o.provider.refuses("acct-C1", "acct-C2")
	o.clock.advance(time.Hour)
	if v := overview(); v.Due != 6 || v.Doubted != 0 || v.Quarantine != 2 || v.NextAt == nil || v.NextAt.After(o.clock.now()) {
		t.Errorf("before the refreshes: %+v", v)
	}
	o.work(t)
	o.clock.advance(30 * time.Second)
	o.provider.says(&provisioning.ProviderError{Status: 503})
	o.exec(t, `UPDATE grants SET refresh_at = $1 WHERE account_id IN ('acct-C1', 'acct-C3') AND status = 'active'`, o.clock.now())
	o.work(t)
	o.exec(t, `UPDATE grants SET refresh_at = $1 WHERE account_id IN ('acct-C4')`, o.clock.now())
	v := overview()
	if v.Due < 1 || v.Due > 2 || v.Doubted != 2 || v.FrozenAt != nil || v.RefusedAt != nil {
		t.Errorf("after them: %+v", v)
	}
	if diff := cmp.Diff(map[grant.Outcome]int{grant.Refreshed: 4, grant.Refused: 2, grant.Unavailable: 2}, v.Day); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}

	doubtful, err := o.Doubtful(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range doubtful {
		if d.Refusals != 1 || d.NextAt == nil || d.Proven || o.clock.now().Sub(d.Since) > time.Minute || !strings.HasPrefix(d.ClientName, "Client ") {
			t.Errorf("%+v", d)
		}
		if i > 0 && d.Since.Before(doubtful[i-1].Since) {
			t.Error("not the longest first")
		}
	}
	if first, err := o.Doubtful(t.Context(), 1); err != nil || len(doubtful) != 2 || len(first) != 1 || first[0].Grant != doubtful[0].Grant {
		t.Errorf("%d doubtful, at first %+v, %v", len(doubtful), first, err)
	}
	o.clock.advance(25 * time.Hour)
	if v := overview(); len(v.Day) != 0 {
		t.Errorf("attempts of yesterday are counted: %v", v.Day)
	}
}

// recorder keeps what was asked of the database.
type recorder struct {
	*pgxpool.Pool

	mu    sync.Mutex
	asked []question
}

type question struct {
	sql  string
	args []any
}

func (r *recorder) note(sql string, args []any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, question{sql, args})
}

func (r *recorder) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	r.note(sql, args)
	return r.Pool.Exec(ctx, sql, args...)
}

func (r *recorder) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	r.note(sql, args)
	return r.Pool.Query(ctx, sql, args...) //nolint:rowserrcheck // The caller does.
}

func (r *recorder) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	r.note(sql, args)
	return r.Pool.QueryRow(ctx, sql, args...)
}

// literal writes an argument as SQL.
func literal(arg any) string {
	switch v := arg.(type) {
	case nil:
		return "NULL"
	case *time.Time:
		if v == nil {
			return "NULL"
		}
		return literal(*v)
	case time.Time:
		return "'" + v.Format(time.RFC3339Nano) + "'"
	case time.Duration:
		return "'" + strconv.FormatInt(v.Microseconds(), 10) + " microseconds'"
	}
	return "'" + strings.ReplaceAll(fmt.Sprint(arg), "'", "''") + "'"
}

// TestPlans: nothing that a Keeper asks, often and by the database's clock, reads all grants or all attempts of a
// large roster, planned for these values or for any.
func TestPlans(t *testing.T) {
	t.Parallel()
	o := open(t)
	const grants = 200_000
	clients := o.authorized(t, 3)
	o.exec(t, `ALTER TABLE grants DROP CONSTRAINT grants_client_id_fkey`) // for grants without 200,000 clients
	o.exec(t, `
		INSERT INTO grants (
			id, client_id, account_id, organization, contact_email, subject, scopes, status,
			access_token, access_expires_at, refresh_token, refreshed_at, proven_at, refresh_at, ended_at
		)
		SELECT gen_random_uuid(), gen_random_uuid(), 'other-' || n, '', '', '', '{}', CASE WHEN n % 10 = 0 THEN 'lapsed' ELSE 'active' END,
			'x', now() - n * interval '1 minute', 'x', now(), now(), CASE WHEN n % 10 > 0 THEN now() + n * interval '30 seconds' + interval '1 hour' END,
			CASE WHEN n % 10 = 0 THEN now() END
		FROM generate_series(1, $1) n`, grants)
	o.exec(t, `
		INSERT INTO refreshes (id, grant_id, generation, began_at, ended_at, outcome)
		SELECT gen_random_uuid(), id, 1, at, at, 'refreshed'
		FROM (SELECT id, now() - random() * interval '29 days' AS at FROM grants ORDER BY id LIMIT 40000) x`)
	o.exec(t, `ANALYZE`)

	db := &recorder{Pool: o.db}
	k := o.another(db)
	k.Now, k.Lease = nil, time.Second
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	step := func(answer error) {
		t.Helper()
		o.provider.says(answer)
		worked, err := k.Step(t.Context())
		do("step", err)
		if !worked {
			t.Fatal("nothing was due")
		}
	}
	one := func(account string) { o.exec(t, `UPDATE grants SET refresh_at = now() WHERE account_id = $1`, account) }
	worked, err := k.Step(t.Context())
	if do("an idle step", err); worked {
		t.Fatal("something was due")
	}
	one("acct-C2")
	step(nil)
	one("acct-C1")
	o.provider.revoke("acct-C1")
	step(invalidGrant())
	o.exec(t, `UPDATE grants SET refused_at = now() - interval '2 hours' WHERE refused_at IS NOT NULL`)
	o.provider.set(func(p *provider) { p.api = func(string) error { return unauthorized() } })
	one("acct-C1")
	step(invalidGrant()) // With everything that is weighed.
	o.exec(t, `UPDATE keeping SET frozen_at = now() - interval '1 hour', frozen_why = 'test'`)
	one("acct-C3")
	step(nil)
	o.exec(t, `UPDATE grants SET lease_id = gen_random_uuid(), leased_until = now() WHERE account_id = 'acct-C3'`)
	o.provider.says(&provisioning.ProviderError{Status: 503})
	takesOver(t, k)
	_, err = k.Overview(t.Context())
	do("overview", err)
	_, err = k.Doubtful(t.Context(), 50)
	do("doubtful", err)
	_, err = k.Token(t.Context(), clients[1])
	do("token", err)
	do("sweep", k.Sweep(t.Context()))

	conn, err := o.db.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	seen := make(map[string]bool)
	for _, q := range db.asked {
		if seen[q.sql] {
			continue
		}
		seen[q.sql] = true
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			plan := explain(t, conn, mode, q)
			if regexp.MustCompile(`Seq Scan on (grants|refreshes)`).MatchString(plan) {
				t.Errorf("(%s) reads everything:%s\n%s", mode, q.sql, plan)
			}
			for _, found := range regexp.MustCompile(`Rows Removed by (?:Filter|Index Recheck|Join Filter): (\d+)`).FindAllStringSubmatch(plan, -1) {
				if len(found[1]) > 3 {
					t.Errorf("(%s) reads %s rows for nothing:%s\n%s", mode, found[1], q.sql, plan)
				}
			}
		}
	}
	if len(seen) < 15 {
		t.Errorf("only %d questions were asked", len(seen))
	}
}

// explain executes a statement, takes it back, and returns the plan.
func explain(t *testing.T, conn *pgxpool.Conn, mode string, q question) string {
	t.Helper()
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("BEGIN; SET LOCAL plan_cache_mode = " + mode)
	exec("PREPARE asked AS " + q.sql)
	literals := []string{}
	for _, arg := range q.args {
		literals = append(literals, literal(arg))
	}
	execute := "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE asked"
	if len(literals) > 0 {
		execute += "(" + strings.Join(literals, ", ") + ")"
	}
	rows, err := conn.Query(t.Context(), execute, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatalf("%s: %v", execute, err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s%s: %v", q.sql, execute, err)
	}
	exec("ROLLBACK")
	exec("DEALLOCATE asked")
	return strings.Join(lines, "\n")
}
