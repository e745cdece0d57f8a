package audit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning/audit"
)

func TestRecord(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	record(t, pool,
		audit.Entry{Actor: "operator ada@agency.example", Action: "client.pause", Object: "client 1"},
		audit.Entry{
			Actor: "key app", Action: "client.owner", Object: "client 2",
			Before: audit.Fields{"owner_name": "Ann <ann>"}, After: audit.Fields{"owner_name": "Zoë\x00"},
		},
	)
	lines, _, err := (&audit.Store{DB: pool}).List(t.Context(), audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range lines {
		got = append(got, fmt.Sprintf("%d %s|%s|%s|%s|%s", l.ID, l.Actor, l.Action, l.Object, l.Before, l.After))
		if age := time.Since(l.At); age < -time.Minute || age > time.Hour {
			t.Errorf("entry %d is of %s", l.ID, l.At)
		}
	}
	want := []string{
		`2 key app|client.owner|client 2|{"owner_name":"Ann \u003cann\u003e"}|{"owner_name":"Zoë\u0000"}`,
		`1 operator ada@agency.example|client.pause|client 1||`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the trail (-want +got):\n%s", diff)
	}
	if v := verify(t, pool, nil); v.Broken != nil || v.Entries != 2 {
		t.Errorf("verified: %+v", v)
	}
}

// The encoding is a promise: whoever has noted a head compares it years later.
func TestHashIsAsDescribed(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	record(t, pool, entry(1), audit.Entry{Actor: "key app", Action: "a.b", Object: "c", Before: audit.Fields{"d": 1}})
	// The package comment, in SQL.
	var same bool
	err := pool.QueryRow(t.Context(), `
		WITH fields AS (
			SELECT
				a.*,
				ARRAY[id::text, trunc(extract(epoch FROM at) * 1000000)::text, actor, action, object, before::text, after::text] AS fields,
				coalesce(lag(hash) OVER (ORDER BY id), decode(repeat('00', 32), 'hex')) AS previous
			FROM audit a
		)
		SELECT bool_and(hash = sha256(convert_to(E'countersign audit 1\n', 'UTF8') || previous || (
			SELECT string_agg(
				CASE WHEN field IS NULL THEN decode(repeat('ff', 8), 'hex') ELSE int8send(octet_length(field)) || convert_to(field, 'UTF8') END,
				'' ORDER BY n
			)
			FROM unnest(fields.fields) WITH ORDINALITY u (field, n)
		)))
		FROM fields`).Scan(&same)
	if err != nil {
		t.Fatal(err)
	}
	if !same {
		t.Error("the hashes are not those that the package comment describes")
	}
}

func TestRolledBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	record(t, pool, entry(1))
	errBack := errors.New("back")
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		return errors.Join(audit.Record(t.Context(), tx, entry(2)), errBack)
	})
	if !errors.Is(err, errBack) {
		t.Fatal(err)
	}
	record(t, pool, entry(3))
	if v := verify(t, pool, nil); v.Broken != nil || v.Entries != 2 {
		t.Errorf("verified after a rollback: %+v", v)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	const people, each = 8, 25
	pool := pgtest.New(t)
	var all sync.WaitGroup
	for p := range people {
		all.Go(func() {
			for n := range each {
				err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
					if err := audit.Record(t.Context(), tx, entry(p)); err != nil || n%5 > 0 {
						return err
					}
					return audit.Record(t.Context(), tx, entry(p)) // Two in one transaction.
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	v := verify(t, pool, nil)
	if want := int64(people * (each + each/5)); v.Broken != nil || v.Entries != want {
		t.Errorf("verified: %+v; %d were recorded", v, want)
	}
}

func TestAppendOnly(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	record(t, pool, entry(1))
	for _, sql := range []string{
		`UPDATE audit SET actor = 'nobody'`, `DELETE FROM audit`, `TRUNCATE audit`, `DELETE FROM audit_head`, `TRUNCATE audit_head`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// Any change of what is stored is found, and named.
func TestVerifyFinds(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	const entries = 6
	for n := range entries {
		record(t, pool, audit.Entry{
			Actor: "key app", Action: "client.owner", Object: fmt.Sprintf("client %d", n),
			Before: audit.Fields{"name": "Ann", "n": n}, After: audit.Fields{"name": "Bea"},
		})
	}
	// Text may change to any other, hashes in any bit, and times by as little as there is.
	changes := []string{
		`actor = actor || ' '`, `actor = overlay(actor PLACING 'X' FROM 1 + $2 % length(actor) FOR 1)`,
		`action = action || 'x'`, `action = '', object = action || object`, `object = actor, actor = object`,
		`object = overlay(object PLACING '~' FROM 1 + $2 % length(object) FOR 1)`,
		`at = at + interval '1 microsecond' * (1 + $2)`, `at = at - interval '4000 years'`, `at = 'infinity'`,
		`before = after, after = before`, `before = NULL`, `after = NULL`, `after = 'null'`,
		`before = (' ' || before::text)::json`, `before = replace(before::text, 'Ann', 'Amy')::json`,
		`hash = set_bit(hash, $2 % 256, 1 - get_bit(hash, $2 % 256))`, `version = version + 1`,
		`id = id + 100`, `id = -id`,
	}
	rapid.Check(t, func(r *rapid.T) {
		change := rapid.SampledFrom(changes).Draw(r, "change")
		id, n := rapid.Int64Range(1, entries).Draw(r, "entry"), rapid.IntRange(0, 1000).Draw(r, "n")
		got := tampered(t, pool, fmt.Sprintf(`WITH n AS (SELECT $2::int) UPDATE audit SET %s WHERE id = $1`, change), id, n)
		want := id
		if change == "id = -id" {
			want = -id
		}
		if got.Broken == nil || got.Broken.ID != want || got.Broken.Why == "" {
			r.Errorf("entry %d with %s: found %+v", id, change, got.Broken)
		}
	})
	for _, test := range []struct {
		name, sql string
		want      int64 // 0 if nothing is broken
	}{
		{"the trail as it is", `SELECT`, 0},
		{"one removed", `DELETE FROM audit WHERE id = 3`, 3},
		{"the first removed", `DELETE FROM audit WHERE id = 1`, 1},
		{"the end cut off", `DELETE FROM audit WHERE id > 4`, 5},
		{"everything removed", `DELETE FROM audit`, 1},
		{"two swapped", `UPDATE audit SET id = CASE id WHEN 2 THEN 4 WHEN 4 THEN 2 ELSE id END`, 2},
		{"one added", `INSERT INTO audit SELECT 7, version, at, actor, action, object, before, after, hash FROM audit WHERE id = 6`, 7},
		{"the head changed", `UPDATE audit_head SET hash = sha256('')`, 7},
		{"the head put back", `UPDATE audit_head SET id = 5, hash = (SELECT hash FROM audit WHERE id = 5)`, 6},
		{"the head removed", `DELETE FROM audit_head`, 7},
	} {
		got := tampered(t, pool, test.sql)
		if found := got.Broken; (found == nil) != (test.want == 0) || found != nil && found.ID != test.want {
			t.Errorf("%s: found %+v, not entry %d", test.name, got.Broken, test.want)
		}
	}
}

// Whoever owns the database can rewrite the trail whole, and is found out by a head that was noted elsewhere.
func TestNotedHead(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	empty := verify(t, pool, nil).Head
	record(t, pool, entry(1), entry(2))
	noted := verify(t, pool, nil).Head
	record(t, pool, entry(3))
	other := pgtest.New(t)
	record(t, other, entry(4), entry(5), entry(6), entry(7))
	cut := audit.Head{ID: 9, Hash: noted.Hash}
	for _, test := range []struct {
		name string
		pool *pgxpool.Pool
		head audit.Head
		want int64
	}{
		{"the beginning", pool, empty, 0},
		{"an entry of it", pool, noted, 0},
		{"rewritten", other, noted, 2},
		{"cut off", pool, cut, 4},
		{"no beginning", pool, audit.Head{Hash: noted.Hash}, 0},
	} {
		v := verify(t, test.pool, &test.head)
		switch {
		case test.name == "no beginning":
			if v.Broken == nil || v.Broken.ID != 0 {
				t.Errorf("%s: found %+v", test.name, v.Broken)
			}
		case (v.Broken == nil) != (test.want == 0) || v.Broken != nil && v.Broken.ID != test.want:
			t.Errorf("%s: found %+v, not entry %d", test.name, v.Broken, test.want)
		}
	}
	read, err := audit.ParseHead(" " + noted.String() + "\n")
	if err != nil || read != noted {
		t.Errorf("%s is read as %s, %v", noted, read, err)
	}
	for _, bad := range []string{"", ":", "3", "x:" + noted.Hash.String(), "-1:" + noted.Hash.String(), "3:" + noted.Hash.String()[1:]} {
		if _, err := audit.ParseHead(bad); !errors.Is(err, audit.ErrBadHead) {
			t.Errorf("%q is read as a head: %v", bad, err)
		}
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	store := &audit.Store{DB: pool}
	for _, action := range []string{"client.pause", "client.resume", "clients.x", "mail.pause", "client"} {
		record(t, pool,
			audit.Entry{Actor: "key a", Action: action, Object: "client 1"}, audit.Entry{Actor: "key b", Action: action, Object: "client 2"})
	}
	all, _, err := store.List(t.Context(), audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	fourth := all[6].At
	for _, test := range []struct {
		name   string
		filter audit.Filter
		want   []int64
	}{
		{"all", audit.Filter{}, []int64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
		{"an actor", audit.Filter{Actor: "key a"}, []int64{9, 7, 5, 3, 1}},
		{"what an action begins with", audit.Filter{Action: "client"}, []int64{10, 9, 4, 3, 2, 1}},
		{"an action", audit.Filter{Action: "client.pause"}, []int64{2, 1}},
		{"an object of an actor", audit.Filter{Actor: "key a", Object: "client 2"}, nil},
		{"from", audit.Filter{From: fourth}, []int64{10, 9, 8, 7, 6, 5, 4}},
		{"until", audit.Filter{Until: fourth}, []int64{3, 2, 1}},
	} {
		var got []int64
		test.filter.Limit = 2
		for page := 0; page == 0 || test.filter.Cursor != ""; page++ {
			lines, next, err := store.List(t.Context(), test.filter)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lines {
				got = append(got, l.ID)
			}
			test.filter.Cursor = next
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	if _, _, err := store.List(t.Context(), audit.Filter{Cursor: "x"}); !errors.Is(err, audit.ErrBadCursor) {
		t.Errorf("a cursor of another kind: %v", err)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	type paper struct {
		Name  string            `json:"name"`
		Texts map[string]string `json:"texts"`
	}
	before, after, err := audit.Diff(
		paper{"Ann", map[string]string{"a": "1", "b": "2"}}, paper{"Bea", map[string]string{"a": "1", "c": "3"}})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s → %s", before, after)
	if want := `map[name:"Ann" texts.b:"2"] → map[name:"Bea" texts.c:"3"]`; got != want {
		t.Errorf("the difference is %s, not %s", got, want)
	}
}

func entry(n int) audit.Entry {
	return audit.Entry{Actor: "key app", Action: "client.pause", Object: fmt.Sprintf("client %d", n)}
}

// record records entries, each in a transaction of its own.
func record(t *testing.T, pool *pgxpool.Pool, entries ...audit.Entry) {
	t.Helper()
	for _, e := range entries {
		if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return audit.Record(t.Context(), tx, e) }); err != nil {
			t.Fatal(err)
		}
	}
}

func verify(t *testing.T, db audit.DB, noted *audit.Head) audit.Verdict {
	t.Helper()
	v, err := (&audit.Store{DB: db}).Verify(t.Context(), noted, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// tampered verifies a trail that the database's owner has written to, and takes that back.
func tampered(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (v audit.Verdict) {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // That is what it is for.
	for _, step := range []string{
		`SET LOCAL session_replication_role = replica`, // No trigger keeps an owner from anything.
		`ALTER TABLE audit DROP CONSTRAINT audit_pkey, DROP CONSTRAINT audit_id_check`,
	} {
		if _, err := tx.Exec(t.Context(), step); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return verify(t, same{tx}, nil)
}

// same is a transaction that another one within it does not change the kind of.
type same struct{ pgx.Tx }

func (s same) Begin(context.Context) (pgx.Tx, error) { return keptKind(s), nil }

type keptKind struct{ pgx.Tx }

func (k keptKind) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	if strings.HasPrefix(sql, "SET TRANSACTION") {
		return tag, nil
	}
	return k.Tx.Exec(ctx, sql, args...)
}

func (keptKind) Rollback(context.Context) error { return nil }
