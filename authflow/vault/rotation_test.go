package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
)

func shelves() []vault.Shelf { return []vault.Shelf{grant.Shelf{}, authflow.Shelf{}, vault.Secrets{}} }

func rotation(db *pgxpool.Pool, v *vault.Vault) *vault.Rotation {
	return &vault.Rotation{DB: db, Vault: v, Shelves: shelves(), Settle: 20 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
}

func run(t *testing.T, r *vault.Rotation) vault.Rotated {
	t.Helper()
	out, err := r.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// keptGrant is a row of grants, with what its tokens should be. A token's text names its place.
type keptGrant struct {
	ID, Client uuid.UUID
	Generation int
	Access     []byte
	Refresh    []byte
}

func (g keptGrant) ad(kind string) vault.AD {
	return vault.AD{Row: g.ID.String(), Kind: kind, Client: g.Client.String(), Generation: g.Generation}
}

func (g keptGrant) text(kind string) []byte {
	return fmt.Appendf(nil, "%s of %s, generation %d", kind, g.ID, g.Generation)
}

func (g *keptGrant) seal(v *vault.Vault) {
	g.Access = v.Seal(g.text("access_token"), g.ad("access_token"))
	g.Refresh = v.Seal(g.text("refresh_token"), g.ad("refresh_token"))
}

// fill puts n clients with a grant each, and some walks, into the database. Every third grant has no refresh token.
func fill(t *testing.T, db *pgxpool.Pool, v *vault.Vault, n int) []keptGrant {
	t.Helper()
	grants := make([]keptGrant, n)
	var clients []uuid.UUID
	var rows, invitations, consents [][]any
	for i := range grants {
		g := keptGrant{ID: newID(t), Client: newID(t), Generation: 1}
		g.seal(v)
		if i%3 == 2 {
			g.Refresh = nil
		}
		grants[i] = g
		clients = append(clients, g.Client)
		rows = append(rows, []any{g.ID, g.Client, "account " + g.ID.String(), "", "", "", []string{}, "active", g.Generation, g.Access, time.Now(), g.Refresh})
		if i%10 == 0 {
			invitation, consent := newID(t), newID(t)
			invitations = append(invitations, []any{invitation, g.Client, invitation[:], time.Now().Add(time.Hour)})
			var verifier []byte
			if i%20 == 0 {
				verifier = v.Seal([]byte("verifier"), vault.AD{Row: consent.String(), Kind: "pkce_verifier"})
			}
			consents = append(consents, []any{consent, g.Client, invitation, consent[:], []byte{}, verifier, "", time.Now().Add(time.Hour)})
		}
	}
	exec(t, db, `
		INSERT INTO clients (id, name, owner_email, username, search)
		SELECT id, 'Client', 'owner@client.example', id || '@agency.example', ''
		FROM unnest($1::uuid[]) AS ids (id)`, clients)
	for _, table := range []struct {
		name    string
		columns string
		rows    [][]any
	}{
		{"grants", "id client_id account_id organization contact_email subject scopes status generation access_token access_expires_at refresh_token", rows},
		{"invitations", "id client_id token_hash expires_at", invitations},
		{"consents", "id client_id invitation_id state_hash browser_hash verifier token_url expires_at", consents},
	} {
		if _, err := db.CopyFrom(t.Context(), pgx.Identifier{table.name}, strings.Fields(table.columns), pgx.CopyFromRows(table.rows)); err != nil {
			t.Fatal(err)
		}
	}
	return grants
}

func newID(t *testing.T) uuid.UUID {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// openAll opens everything in the database and returns how many values it has opened.
func openAll(t *testing.T, db *pgxpool.Pool, v *vault.Vault) (n int) {
	t.Helper()
	rows, err := db.Query(t.Context(), `SELECT id, client_id, generation, access_token, refresh_token FROM grants`)
	if err != nil {
		t.Fatal(err)
	}
	grants, err := pgx.CollectRows(rows, pgx.RowToStructByPos[keptGrant])
	if err != nil {
		t.Fatal(err)
	}
	check := func(sealed []byte, ad vault.AD, want []byte) {
		if sealed == nil {
			return
		}
		n++
		if text, err := v.Open(sealed, ad); err != nil || !bytes.Equal(text, want) {
			t.Errorf("%s of %s: %q, %v; want %q", ad.Kind, ad.Row, text, err, want)
		}
	}
	for _, g := range grants {
		check(g.Access, g.ad("access_token"), g.text("access_token"))
		check(g.Refresh, g.ad("refresh_token"), g.text("refresh_token"))
	}
	rows, err = db.Query(t.Context(), `SELECT id, verifier FROM consents`)
	if err != nil {
		t.Fatal(err)
	}
	consents, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		ID       uuid.UUID
		Verifier []byte
	}])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range consents {
		check(c.Verifier, vault.AD{Row: c.ID.String(), Kind: "pkce_verifier"}, []byte("verifier"))
	}
	return n
}

// churn is a service at work: it stores newer tokens, as a refresh does, and deletes a client now and then.
type churn struct {
	db     *pgxpool.Pool
	grants []keptGrant

	mu   sync.Mutex
	seal []*vault.Vault // of the processes that run
	dice *rand.Rand
}

func dice() *rand.Rand {
	return rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)) //nolint:gosec // Chance, no secret.
}

func (c *churn) processes(vaults ...*vault.Vault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seal = vaults
}

func (c *churn) run(ctx context.Context) (stored, deleted int, err error) {
	for ctx.Err() == nil {
		g := c.grants[c.dice.IntN(len(c.grants))]
		if c.dice.IntN(20) == 0 {
			tag, err := c.db.Exec(context.WithoutCancel(ctx), `DELETE FROM clients WHERE id = $1`, g.Client)
			if err != nil {
				return 0, 0, err
			}
			deleted += int(tag.RowsAffected())
			continue
		}
		n, err := c.refresh(context.WithoutCancel(ctx), g)
		if err != nil {
			return 0, 0, err
		}
		stored += n
	}
	return stored, deleted, nil
}

func (c *churn) refresh(ctx context.Context, g keptGrant) (stored int, err error) {
	err = c.db.QueryRow(ctx, `SELECT generation FROM grants WHERE id = $1`, g.ID).Scan(&g.Generation)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	was := g.Generation
	g.Generation++
	c.mu.Lock()
	g.seal(c.seal[c.dice.IntN(len(c.seal))])
	tag, err := c.db.Exec(ctx, `
		UPDATE grants
		SET
			generation = $2,
			access_token = $3,
			refresh_token = $4
		WHERE id = $1
			AND generation = $5`, g.ID, g.Generation, g.Access, g.Refresh, was)
	c.mu.Unlock()
	return int(tag.RowsAffected()), err
}

// A rotation is killed again and again, two at a time, while replicas with the old key first and with the new key first
// store newer tokens and delete clients. When the old ones are gone, everything opens with the new key alone.
func TestRotationUnderWay(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	k1, k2 := vault.GenerateKey("k1"), vault.GenerateKey("k2")
	old, fresh := parseKeys(t, k1, k2), parseKeys(t, k2, k1)
	for _, v := range []*vault.Vault{old, fresh} {
		if err := v.Check(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	link, err := old.Secret(t.Context(), db, "link", 32)
	if err != nil {
		t.Fatal(err)
	}
	service := &churn{db: db, grants: fill(t, db, old, 3000), dice: dice()}
	service.processes(old, fresh)
	working, quit := context.WithCancel(t.Context())
	defer quit()
	var work sync.WaitGroup
	work.Go(func() {
		stored, deleted, err := service.run(working)
		if err != nil || stored == 0 || deleted == 0 {
			t.Errorf("%d newer tokens stored, %d clients deleted, %v", stored, deleted, err)
		}
	})

	killed, dice := 0, dice()
	for range 8 {
		ctx, kill := context.WithCancel(t.Context())
		batches := 1 + dice.IntN(6)
		var both sync.WaitGroup
		var mu sync.Mutex
		for range 2 {
			both.Go(func() {
				r := rotation(db, fresh)
				r.Progress = func(done, total int) {
					mu.Lock()
					defer mu.Unlock()
					if batches--; batches == 0 {
						kill()
					}
					if done > total {
						t.Errorf("%d of %d done", done, total)
					}
				}
				switch _, err := r.Run(ctx); {
				case errors.Is(err, context.Canceled):
					mu.Lock()
					killed++
					mu.Unlock()
				case err != nil:
					t.Error(err)
				}
			})
		}
		both.Wait()
		kill()
	}
	t.Logf("%d rotations of 16 were killed under way", killed)
	if killed == 0 {
		t.Error("no rotation was killed under way")
	}

	service.processes(fresh)
	out := run(t, rotation(db, fresh))
	if !out.Complete() || out.Key != "k2" || !slices.Equal(out.Removable, []string{"k1"}) || out.Removed != nil {
		t.Errorf("the last rotation came to %+v", out)
	}
	quit()
	work.Wait()
	alone := parseKeys(t, k2)
	if err := alone.Check(t.Context(), db); err != nil {
		t.Error(err)
	}
	if n := openAll(t, db, alone); n < 1000 {
		t.Errorf("only %d values are left to be opened", n)
	}
	if again, err := alone.Secret(t.Context(), db, "link", 32); err != nil || !bytes.Equal(again, link) {
		t.Errorf("the link secret is another: %v", err)
	}
	if diff := cmp.Diff([]string{"canary:k2", "link"}, secrets(t, db)); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
	if out := run(t, rotation(db, fresh)); out.Resealed != 0 || !out.Complete() {
		t.Errorf("once more: %+v", out)
	}
}

// A rotation in peace counts what it does.
func TestRotationCounts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	k1, k2 := vault.GenerateKey("k1"), vault.GenerateKey("k2")
	old, fresh := parseKeys(t, k1), parseKeys(t, k2, k1)
	if err := old.Check(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Secret(t.Context(), db, "link", 32); err != nil {
		t.Fatal(err)
	}
	fill(t, db, old, 1200) // 1200 access tokens, 800 refresh tokens, 60 verifiers
	want := []vault.KeyUse{
		{ID: "k2", Primary: true, Present: true, Sealed: map[string]int{"tokens": 0, "verifiers": 0, "secrets": 0}},
		{ID: "k1", Present: true, Canary: true, Sealed: map[string]int{"tokens": 2000, "verifiers": 60, "secrets": 1}},
	}
	uses, err := fresh.Uses(t.Context(), db, shelves())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, uses); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}

	r := rotation(db, fresh)
	var progress []string
	r.Progress = func(done, total int) { progress = append(progress, fmt.Sprintf("%d of %d", done, total)) }
	out := run(t, r)
	if diff := cmp.Diff(vault.Rotated{Key: "k2", Resealed: 2061, Removable: []string{"k1"}}, out); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
	if last := progress[len(progress)-1]; len(progress) != 5 || last != "2061 of 2061" {
		t.Errorf("progress %v", progress)
	}
	want = []vault.KeyUse{
		{ID: "k2", Primary: true, Present: true, Canary: true, Sealed: map[string]int{"tokens": 2000, "verifiers": 60, "secrets": 1}},
		{ID: "k1", Present: true, Sealed: map[string]int{"tokens": 0, "verifiers": 0, "secrets": 0}},
	}
	if uses, err = fresh.Uses(t.Context(), db, shelves()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, uses); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}
}

// A replica that still has the old key first says so by its canary, even if it seals nothing meanwhile.
func TestRotationBesideAnOldReplica(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	k1, k2 := vault.GenerateKey("k1"), vault.GenerateKey("k2")
	old, fresh := parseKeys(t, k1, k2), parseKeys(t, k2, k1)
	grants := fill(t, db, old, 20)
	quit := announce(t, old, db, time.Millisecond)
	until(t, func() bool { return secrets(t, db) != nil })
	r := rotation(db, fresh)
	r.Settle = 250 * time.Millisecond
	out := run(t, r)
	if out.Complete() || len(out.Left) != 1 || out.Left[0].ID != "k1" || !out.Left[0].Canary || out.Removable != nil {
		t.Errorf("beside an old replica: %+v", out)
	}
	quit()

	// It sealed something before it ended, and was the last to do so.
	grants[7].Generation++
	grants[7].seal(old)
	exec(t, db, `UPDATE grants SET generation = $2, access_token = $3 WHERE id = $1`, grants[7].ID, grants[7].Generation, grants[7].Access)
	exec(t, db, `UPDATE grants SET refresh_token = NULL WHERE id = $1`, grants[7].ID)
	if out := run(t, rotation(db, fresh)); !out.Complete() || out.Resealed != 1 || !slices.Equal(out.Removable, []string{"k1"}) {
		t.Errorf("after its end: %+v", out)
	}
	openAll(t, db, parseKeys(t, k2))
}

// A rotation was killed when it had just removed the old key's canary. The next one does not call the key removable before
// a replica with that key had the time to put it back.
func TestRotationGivesOldReplicasTime(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	k1, k2 := vault.GenerateKey("k1"), vault.GenerateKey("k2")
	quit := announce(t, parseKeys(t, k1, k2), db, 200*time.Millisecond)
	defer quit()
	r := rotation(db, parseKeys(t, k2, k1))
	r.Settle = 500 * time.Millisecond
	if out := run(t, r); out.Complete() || len(out.Left) != 1 || out.Left[0].ID != "k1" || out.Removable != nil {
		t.Errorf("outcome %+v", out)
	}
}

// announce does what Watch does, at another pace, until it is told to stop.
func announce(t *testing.T, v *vault.Vault, db *pgxpool.Pool, beat time.Duration) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() {
		ticker := time.NewTicker(beat)
		defer ticker.Stop()
		for ctx.Err() == nil {
			<-ticker.C
			if err := v.Check(context.WithoutCancel(ctx), db); err != nil {
				t.Error(err)
			}
		}
	})
	return func() {
		cancel()
		ended.Wait()
	}
}

// What a process with the old key first stores behind the rotation's back is found by another round.
func TestRotationCatchesUp(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	k1, k2 := vault.GenerateKey("k1"), vault.GenerateKey("k2")
	old, fresh := parseKeys(t, k1), parseKeys(t, k2, k1)
	g := fill(t, db, old, 30)[0]
	r := rotation(db, fresh)
	batches := 0
	r.Progress = func(int, int) {
		if batches++; batches == 1 {
			g.Generation++
			g.seal(old)
			exec(t, db, `UPDATE grants SET generation = $2, access_token = $3, refresh_token = $4 WHERE id = $1`,
				g.ID, g.Generation, g.Access, g.Refresh)
		}
	}
	if out := run(t, r); !out.Complete() || out.Resealed != 30+20+2+2 || !slices.Equal(out.Removable, []string{"k1"}) {
		t.Errorf("outcome %+v", out)
	}
	openAll(t, db, parseKeys(t, k2))
}

// A grant that a transaction holds is passed by, and its key is not called removable. The rest does not wait for it.
func TestRotationPassesByWhatIsHeld(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	k1, k2 := vault.GenerateKey("k1"), vault.GenerateKey("k2")
	old, fresh := parseKeys(t, k1), parseKeys(t, k2, k1)
	if err := old.Check(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	grants := fill(t, db, old, 30)
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // Of no account after the first time.
	if _, err := tx.Exec(t.Context(), `SELECT FROM grants WHERE id = $1 FOR UPDATE`, grants[4].ID); err != nil {
		t.Fatal(err)
	}
	out := run(t, rotation(db, fresh))
	if out.Complete() || len(out.Left) != 1 || out.Left[0].Values() != 2 || out.Broken != 0 || out.Removable != nil {
		t.Errorf("while it is held: %+v", out)
	}
	if err := parseKeys(t, k2).Check(t.Context(), db); !errors.Is(err, vault.ErrUnknownKey) {
		t.Errorf("without the key that it needs: error %v, want ErrUnknownKey", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := run(t, rotation(db, fresh)); !out.Complete() || out.Resealed != 2 {
		t.Errorf("when it is free: %+v", out)
	}
	openAll(t, db, parseKeys(t, k2))
}

// Two values that changed places do not open, are named, and keep their key: changed back, they open again.
func TestRotationFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	k1, k2 := vault.GenerateKey("k1"), vault.GenerateKey("k2")
	old, fresh := parseKeys(t, k1), parseKeys(t, k2, k1)
	grants := fill(t, db, old, 10)
	swap := func() {
		t.Helper()
		exec(t, db, `
			UPDATE grants g
			SET refresh_token = other.refresh_token
			FROM grants other
			WHERE (g.id, other.id) IN (($1, $2), ($2, $1))`, grants[0].ID, grants[1].ID)
	}
	swap()
	var log bytes.Buffer
	r := rotation(db, fresh)
	r.Log = slog.New(slog.NewTextHandler(&log, nil))
	out := run(t, r)
	if out.Complete() || out.Broken != 2 || len(out.Left) != 1 || out.Left[0].Values() != 2 || out.Removable != nil {
		t.Errorf("outcome %+v", out)
	}
	for _, g := range grants[:2] {
		if !strings.Contains(log.String(), "refresh_token of "+g.ID.String()) {
			t.Errorf("%s is not named:\n%s", g.ID, log.String())
		}
	}
	swap()
	if out := run(t, rotation(db, fresh)); !out.Complete() || out.Resealed != 2 {
		t.Errorf("changed back: %+v", out)
	}
	openAll(t, db, parseKeys(t, k2))
}

func TestRotationOfAKeyFile(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	path := filepath.Join(t.TempDir(), "vault.key")
	v := openKeyFile(t, path)
	if err := v.Check(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	fill(t, db, v, 50)
	for range 2 { // Two rotations, the first of which was killed before it had sealed anything.
		if err := v.AddKey(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	ids := v.KeyIDs()
	out := run(t, rotation(db, v))
	if !out.Complete() || !slices.Equal(out.Removed, ids[1:]) || out.Removable != nil || out.Resealed == 0 {
		t.Errorf("outcome %+v with the keys %v", out, ids)
	}
	text := readFile(t, path)
	if !strings.HasPrefix(text, ids[0]+"=") || strings.Contains(text, ",") {
		t.Error("the file has not the new key alone")
	}
	openAll(t, db, parseKeys(t, strings.TrimSpace(text)))
	if diff := cmp.Diff(ids[:1], v.KeyIDs()); diff != "" {
		t.Errorf("the vault has other keys than the file (-want +got):\n%s", diff)
	}
}
