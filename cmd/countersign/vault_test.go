//go:build linux

package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
)

// rotated is what countersign vault rotate --json prints.
type rotated struct {
	Complete  bool
	Key       string
	Resealed  int
	Broken    int
	Left      []vault.KeyUse
	Removed   []string
	Removable []string
}

func (in *installation) rotate(t *testing.T, flags ...string) (r rotated) {
	t.Helper()
	out := in.mustRun(t, append([]string{"vault", "rotate", "--json"}, flags...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return r
}

// with returns the installation with one more setting, which takes the place of an earlier one of that name.
func (in *installation) with(setting string) *installation {
	other := *in
	other.env = append(slices.Clip(other.env), setting)
	return &other
}

// Keys of the environment are brought in and removed by the operator, and the command says when.
func TestVaultRotateKeysOfTheEnvironment(t *testing.T) {
	t.Parallel()
	const grants = 2000
	address := pgtest.URL(t)
	k1, k2 := vault.GenerateKey("k1"), vault.GenerateKey("k2")
	before := install(t, "COUNTERSIGN_DATABASE_URL="+address, "COUNTERSIGN_VAULT_KEYS="+k1)
	between := before.with("COUNTERSIGN_VAULT_KEYS=" + k2 + "," + k1)
	after := before.with("COUNTERSIGN_VAULT_KEYS=" + k2)
	before.mustRun(t, "invite") // makes the link secret
	ids := insertGrants(t, address, k1, grants)

	if _, complaints, code := before.run(t, "vault", "rotate", "--new-key"); code != 1 || !strings.Contains(complaints, "openssl rand -base64 32") {
		t.Errorf("--new-key: exit code %d, %s", code, complaints)
	}
	if _, complaints, code := after.run(t, "vault", "rotate"); code != 1 || !strings.Contains(complaints, `"k1"`) {
		t.Errorf("without the old key: exit code %d, %s", code, complaints)
	}
	between.expectStatus(t, "k2  seals   0 0 0 0 0", "k1  opens; run countersign vault rotate before it is removed  2000 0 0 0 1")
	after.expectStatus(t, "k2  seals  0 0 0 0 0", "k1  missing: add it to the keys  2000 0 0 0 1")

	// Killed wherever it is, it goes on at the next start.
	killed := between.start(t, "vault", "rotate")
	killed.kill()
	r := between.rotate(t)
	if !r.Complete || r.Key != "k2" || r.Broken != 0 {
		t.Errorf("outcome %+v", r)
	}
	if diff := cmp.Diff([]string{"k1"}, r.Removable); diff != "" {
		t.Errorf("removable keys (-want +got):\n%s", diff)
	}
	between.expectStatus(t, "k2  seals  2000 0 0 0 1", "k1  unused  0 0 0 0 0")
	after.expectStatus(t, "k2  seals  2000 0 0 0 1")
	after.doctor(t).of(t, "vault keys").want(t, "ok", "they belong to this database", "")
	before.doctor(t).of(t, "vault keys").want(t, "fail", `"k2"`, "add the key to COUNTERSIGN_VAULT_KEYS")
	if out := after.mustRun(t, "vault", "rotate"); out != "Sealed 0 values anew with the key k2.\n" {
		t.Errorf("once more it says: %s", out)
	}

	alone, err := vault.ParseKeys(k2)
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, address)
	rows, err := conn.Query(t.Context(), `SELECT id, client_id, access_token FROM grants`)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		ID, Client uuid.UUID
		Access     []byte
	}])
	if err != nil || len(kept) != grants {
		t.Errorf("%d grants: %v", len(kept), err)
	}
	for _, g := range kept {
		if token, err := alone.Open(g.Access, tokenAD(g.ID, g.Client)); string(token) != "token of "+g.ID.String() {
			t.Errorf("the token of %s opens as %q: %v", g.ID, token, err)
		}
	}

	// One that was tampered with is told, and keeps its key.
	if _, err := conn.Exec(t.Context(), `UPDATE grants SET access_token = $2 WHERE id = $1`, ids[0], seal(t, k1, ids[1], uuid.Nil)); err != nil {
		t.Fatal(err)
	}
	out, complaints, code := between.run(t, "vault", "rotate")
	if code != 1 || !strings.Contains(out, "1 values do not open") || !strings.Contains(complaints, ids[0].String()) || strings.Contains(out, "remove it") {
		t.Errorf("exit code %d\n%s%s", code, out, complaints)
	}
}

// With the key file one command does it all, beside a running service.
func TestVaultRotateKeyFile(t *testing.T) {
	t.Parallel()
	in := install(t, "COUNTERSIGN_LISTEN=127.0.0.1:"+freePort(t))
	keyFile := filepath.Join(in.dataDir, "vault.key")
	serve := in.serve(t)
	before := readKeyFile(t, keyFile)
	old, _, _ := strings.Cut(before, "=")

	// That the old key was removed means that the service has followed: it would have put the canary back.
	r := in.rotate(t, "--new-key")
	if diff := cmp.Diff([]string{old}, r.Removed); diff != "" || !r.Complete || r.Resealed == 0 || r.Key == old {
		t.Errorf("outcome %+v; removed (-want +got):\n%s", r, diff)
	}
	if text := readKeyFile(t, keyFile); !strings.HasPrefix(text, r.Key+"=") || strings.Contains(text, ",") {
		t.Error("the key file has not the new key alone")
	}
	if code := serve.terminate(t); code != 0 || strings.Contains(serve.output.String(), "level=ERROR") {
		t.Errorf("exit code %d:\n%s", code, serve.output)
	}

	again := in.serve(t)
	in.doctor(t).of(t, "vault keys").want(t, "ok", "they belong to this database", "")
	in.expectStatus(t, r.Key+"  seals  0 0 0 0 1")
	again.kill()

	// A key file from before the rotation is told at once.
	if err := os.WriteFile(keyFile, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, complaints, code := in.run(t, "serve"); code != 1 || !strings.Contains(complaints, r.Key) || !strings.Contains(complaints, "restore the key file") {
		t.Errorf("exit code %d: %s", code, complaints)
	}
}

// expectStatus compares the lines of countersign vault status, but for the header and white space.
func (in *installation) expectStatus(t *testing.T, want ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(in.mustRun(t, "vault", "status")), "\n")
	got := make([]string, 0, len(lines))
	for _, line := range lines[1:] {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	for i, line := range want {
		want[i] = strings.Join(strings.Fields(line), " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func readKeyFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) }) // It has ended with the test.
	return conn
}

func tokenAD(grant, client uuid.UUID) vault.AD {
	return vault.AD{Row: grant.String(), Kind: "access_token", Client: client.String(), Generation: 1}
}

func seal(t *testing.T, key string, grant, client uuid.UUID) []byte {
	t.Helper()
	v, err := vault.ParseKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	return v.Seal([]byte("token of "+grant.String()), tokenAD(grant, client))
}

// insertGrants puts grants of one sealed token each into a database, and returns their ids.
func insertGrants(t *testing.T, address, key string, n int) []uuid.UUID {
	t.Helper()
	ids, clients, tokens := make([]uuid.UUID, n), make([]uuid.UUID, n), make([][]byte, n)
	for i := range n {
		ids[i], clients[i] = uuid.New(), uuid.New()
		tokens[i] = seal(t, key, ids[i], clients[i])
	}
	conn := connect(t, address)
	for _, sql := range []string{
		`
		INSERT INTO clients (id, name, owner_email, username, search)
		SELECT client_id, 'Client', 'owner@client.example', client_id || '@agency.example', ''
		FROM unnest($1::uuid[], $2::uuid[], $3::bytea[]) AS given (id, client_id, token)`, `
		INSERT INTO grants (id, client_id, account_id, organization, contact_email, subject, scopes, status, access_token, access_expires_at)
		SELECT id, client_id, 'account ' || id, '', '', '', '{}', 'active', token, now()
		FROM unnest($1::uuid[], $2::uuid[], $3::bytea[]) AS given (id, client_id, token)`,
	} {
		if _, err := conn.Exec(t.Context(), sql, ids, clients, tokens); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}
