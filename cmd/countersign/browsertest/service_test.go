package browsertest_test

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// service is countersign serve on a new database, with a countersign sandbox for its provider and no
// mail server, put together as README.md says.
type service struct {
	lab      *lab
	process  *process
	tmp      string
	settings []string
	base     string // its address
	setUp    string // the link that it prints
	sandbox  string
	key      string // of its API
}

// newService starts both. Settings that begin with one of the texts are left out.
func newService(t *testing.T, without ...string) *service {
	t.Helper()
	return newServiceAt(t, nil, nil, without...)
}

// newServiceAt is newService with more flags for the sandbox, and more settings.
func newServiceAt(t *testing.T, flags, settings []string, without ...string) *service {
	t.Helper()
	s := &service{lab: need(t)}
	var err error
	if s.tmp, err = s.lab.folder(); err != nil {
		t.Fatal(err)
	}
	listen := freeAddress(t)
	s.base = "http://" + listen
	box := s.lab.service(t, s.tmp, nil, "COUNTERSIGN_PROVIDER_API_URL",
		append([]string{"sandbox", "--listen", "127.0.0.1:0", "--unlimited", "--redirect-uri", s.base + "/oauth/callback"}, flags...)...)
	s.sandbox = regexp.MustCompile(`imitates the provider at (\S+)`).FindStringSubmatch(box.out.String())[1]
	s.settings = []string{
		"COUNTERSIGN_DATA_DIR=" + s.tmp + "/data",
		"COUNTERSIGN_LISTEN=" + listen,
		"COUNTERSIGN_AGENCY_NAME=" + agency,
		"COUNTERSIGN_AGENCY_MAILBOX=" + mailbox,
	}
	for _, export := range regexp.MustCompile(`export (\S+)`).FindAllStringSubmatch(box.out.String(), -1) {
		if !slices.ContainsFunc(without, func(prefix string) bool { return strings.HasPrefix(export[1], prefix) }) {
			s.settings = append(s.settings, export[1])
		}
	}
	s.settings = append(s.settings, settings...)
	s.process = s.start(t, "/admin/enter/")
	s.setUp = regexp.MustCompile(`http://\S+/admin/enter/\S+`).FindString(s.process.out.String())
	lines := strings.Split(strings.TrimSpace(s.command(t, "", "key", "create", "--name", "test", "--scopes", "links")), "\n")
	s.key = lines[len(lines)-1]
	return s
}

// start runs serve, once more if it has ended.
func (s *service) start(t *testing.T, marker string) *process {
	t.Helper()
	return s.lab.service(t, s.tmp, s.settings, marker, "serve")
}

// freeAddress returns one that nobody listens at, so that the public address is known before the start.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // it only found the port
	return listener.Addr().String()
}

func (s *service) command(t *testing.T, input string, args ...string) string {
	t.Helper()
	out, code, err := s.lab.command(s.tmp, s.settings, input, args...)
	if err != nil || code != 0 {
		t.Fatalf("countersign %v ended with %d: %v\n%s", args, code, err, out)
	}
	return out
}

// link takes a fresh invitation link of a client, to hand over.
func (s *service) link(t *testing.T, ref string) string {
	t.Helper()
	var link struct {
		URL string `json:"url"`
	}
	fetch(t, http.MethodPost, s.base+"/api/v1/clients/ref:"+ref+"/link", http.Header{"Authorization": {"Bearer " + s.key}}, &link)
	return link.URL
}

// account is one of the sandbox's.
type account struct {
	ID           string `json:"encoded_account_id"`
	Organization string `json:"organization_name"`
	Users        []struct {
		Login    string `json:"login"`
		Password string `json:"password"`
	} `json:"users"`
}

func (a account) login() string { return a.Users[0].Login }

func (s *service) accounts(t *testing.T) []account {
	t.Helper()
	var accounts []account
	fetch(t, http.MethodGet, s.sandbox+"/_sandbox/accounts", nil, &accounts)
	return accounts
}

// fault makes something go wrong at the provider, the next time that it can.
func (s *service) fault(t *testing.T, name string) {
	t.Helper()
	s.faults(t, name, 1)
}

// faults is fault for the next so many times.
func (s *service) faults(t *testing.T, name string, times int) {
	t.Helper()
	body := strings.NewReader(fmt.Sprintf(`{"%s":{"next":%d}}`, name, times))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.sandbox+"/_sandbox/faults", body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode >= http.StatusBadRequest {
		t.Fatalf("set the fault %s: %s, %v", name, response.Status, err)
	}
}

// signIn signs in to the sandbox.
func (p *tab) signIn(a account) {
	p.t.Helper()
	p.fill("Username", a.Users[0].Login)
	p.fill("Password", a.Users[0].Password)
	p.press("Sign in")
	p.says("Allow access?")
}
