package interoptest_test

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
)

// build builds the program from the module that this folder lies in.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "countersign")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-C", "../../..", "-o", program, "./cmd/countersign").CombinedOutput()
	if err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
	return program
}

// service is countersign serve on a database of its own, with a roster of three.
type service struct {
	program string
	env     []string
	url     string
	key     string // of its API
}

const roster = `ref,name,owner_email,account_id
A,Acme Bakery,maria@acme.example,a01acme
B,Jonas Bikes,jonas@bikes.example,a02bikes
C,Third Party,third@party.example,a03party
`

// startService runs the program for a server, which sends owners back to the address listen.
func startService(t *testing.T, program, listen string, s *server, settings ...string) *service {
	t.Helper()
	v := &service{program: program, url: "http://" + listen}
	for _, line := range os.Environ() {
		if !strings.HasPrefix(line, "COUNTERSIGN_") {
			v.env = append(v.env, line)
		}
	}
	v.env = append(v.env,
		"COUNTERSIGN_DATABASE_URL="+pgtest.URL(t),
		"COUNTERSIGN_VAULT_KEYS="+vault.GenerateKey("test"),
		"COUNTERSIGN_LISTEN="+listen,
		"COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example",
		"COUNTERSIGN_OAUTH_CLIENT_ID="+clientID,
		"COUNTERSIGN_OAUTH_CLIENT_SECRET="+clientSecret,
		"COUNTERSIGN_OAUTH_SCOPES="+appScopes,
		"COUNTERSIGN_OAUTH_PROMPT="+prompt,
		"COUNTERSIGN_PROVIDER_AUTHORIZE_URL="+s.authorizeURL,
		"COUNTERSIGN_PROVIDER_TOKEN_URL="+s.tokenURL,
		"COUNTERSIGN_PROVIDER_API_URL="+s.apiURL,
	)
	v.env = append(v.env, settings...)
	begin(t, v.command(t, "serve"), regexp.MustCompile(`Countersign serves `))
	v.run(t, roster, "import", "-")
	words := strings.Fields(v.run(t, "", "key", "create", "--name", "test", "--scopes", "read,links"))
	v.key = words[len(words)-1]
	return v
}

func (v *service) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), v.program, args...)
	cmd.Env = v.env
	return cmd
}

// run carries out one command and returns what it prints.
func (v *service) run(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd := v.command(t, args...)
	cmd.Stdin = strings.NewReader(input)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("countersign %s: %v\n%s%s", strings.Join(args, " "), err, out, &complaints)
	}
	return string(out)
}

// call asks the API about a client.
func (v *service) call(t *testing.T, method, path string, answer any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, v.url+"/api/v1/clients/ref:"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+v.key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // It was only read.
	if response.StatusCode >= http.StatusBadRequest {
		t.Fatalf("%s %s answered %s", method, path, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}

// link returns an invitation link for a client.
func (v *service) link(t *testing.T, ref string) string {
	t.Helper()
	var link struct{ URL string }
	v.call(t, http.MethodPost, ref+"/link", &link)
	return link.URL
}

// standing returns how far a client is, and why it stands still.
func (v *service) standing(t *testing.T, ref string) string {
	t.Helper()
	var client struct{ Stage, Reason string }
	v.call(t, http.MethodGet, ref, &client)
	return strings.TrimSpace(client.Stage + " " + client.Reason)
}

// freeAddress returns one that nobody listens at, so that it is known before the start.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // Nobody connected.
	return listener.Addr().String()
}
