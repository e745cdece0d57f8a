//go:build linux

package main_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
)

// TestProviderCommand tells how grants are kept by a service that is at work: one of them cannot be opened, and one
// is refused.
func TestProviderCommand(t *testing.T) {
	t.Parallel()
	address, key, metrics := pgtest.URL(t), vault.GenerateKey("k1"), "127.0.0.1:"+freePort(t)
	s := startService(t, "127.0.0.1:"+freePort(t),
		"COUNTERSIGN_DATABASE_URL="+address,
		"COUNTERSIGN_VAULT_KEYS="+key,
		"COUNTERSIGN_METRICS_LISTEN="+metrics,
		"COUNTERSIGN_OAUTH_CLIENT_ID=app",
		"COUNTERSIGN_OAUTH_CLIENT_SECRET=secret",
	)
	ids, conn := insertGrants(t, address, key, 2), connect(t, address)
	for i, set := range []string{
		`refresh_token = '\x00', refresh_at = now()`,
		`refused_at = now(), refusals = 2, refresh_token = '\x00', refresh_at = now() + interval '1 hour'`,
	} {
		if _, err := conn.Exec(t.Context(), `UPDATE grants SET app = 'app', `+set+` WHERE id = $1`, ids[i]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the grant is tried", func() bool {
		return metric(t, metrics, `countersign_refreshes_total{outcome="unavailable"}`) == 1
	})
	eventually(t, "the command knows", func() bool { return strings.Contains(s.mustRun(t, "provider"), "1  unavailable\n") })
	told := s.mustRun(t, "provider")
	for _, want := range []string{
		"10000 of 10000 calls left today (UTC), 1000 of them kept for owners who consent; at most 4 a second\n",
		"0 token requests today (UTC), at most 1 a second\n", "0  grants wait to be refreshed; the next one is due ",
		"1  are refused by the provider and tried again\n", "0  are in quarantine\n", "Client  since ", ", 2 times, next try ",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("the command lacks %q:\n%s", want, told)
		}
	}
	var command, api map[string]any
	if err := json.Unmarshal([]byte(s.mustRun(t, "provider", "--json")), &command); err != nil {
		t.Fatal(err)
	}
	s.get(t, "/provider", &api)
	delete(api, "$schema")
	if diff := cmp.Diff(api, command); diff != "" {
		t.Errorf("the command tells something else than the API (-API +command):\n%s", diff)
	}

	without := s.with("COUNTERSIGN_OAUTH_CLIENT_ID=")
	if _, complaints, code := without.run(t, "provider"); code != 1 || !strings.Contains(complaints, "set COUNTERSIGN_OAUTH_CLIENT_ID") {
		t.Errorf("without an app: exit code %d, %s", code, complaints)
	}
}
