package browsertest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// managed is how many clients of the route manager a run takes.
const managed = 100

// userOf is the login of a client's Account Manager, and the password that the agency chose for it.
func userOf(n int) (login, password string) {
	local, domain, _ := strings.Cut(mailbox, "@")
	slug := fmt.Sprintf("client-%03d", n)
	if n == 1 { // Its owner says that the first one is taken.
		slug += "-2"
	}
	return fmt.Sprintf("%s+%s@%s", local, slug, domain), fmt.Sprintf("long-password-%03d", n)
}

func accountOf(n int) string { return fmt.Sprintf("a07e%08d", n) }

// newManaged is a service with a roster of clients of the route manager, whose accounts have a user for the agency.
func newManaged(t *testing.T) *service {
	t.Helper()
	type user struct {
		Login    string `json:"login"`
		Password string `json:"password"`
		Role     string `json:"role"`
	}
	var accounts []map[string]any
	var roster strings.Builder
	roster.WriteString("ref,name,owner_name,owner_email,route\n")
	for n := 1; n <= managed; n++ {
		login, password := userOf(n)
		owner := fmt.Sprintf("owner%03d@clients.example", n)
		accounts = append(accounts, map[string]any{
			"encoded_account_id": accountOf(n), "organization_name": fmt.Sprintf("Organization %03d", n), "contact_email": owner,
			"users": []user{{owner, "amber-harbor-27", "owner"}, {login, password, "manager"}},
		})
		fmt.Fprintf(&roster, "C%03d,Client %03d,Maria Rossi,maria%03d@clients.example,manager\n", n, n, n)
	}
	file := filepath.Join(t.TempDir(), "accounts.json")
	content, err := json.Marshal(accounts)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServiceAt(t, []string{"--accounts", file}, []string{
		"COUNTERSIGN_PROVIDER_RATE=0", "COUNTERSIGN_PROVIDER_TOKEN_RATE=0", "COUNTERSIGN_MAIL_DOMAIN_CHECK=off",
		"COUNTERSIGN_PASSWORD_LINK=https://passwords.example/search?q={username}",
	})
	s.command(t, roster.String(), "import", "-")
	lines := strings.Split(strings.TrimSpace(s.command(t, "", "key", "create", "--name", "all", "--scopes", "read,write,links")), "\n")
	s.key = lines[len(lines)-1]
	return s
}

func (s *service) ask(t *testing.T, method, path string, answer any) {
	t.Helper()
	fetch(t, method, s.base+"/api/v1"+path, http.Header{"Authorization": {"Bearer " + s.key}}, answer)
}

// TestManagerOwner: what an owner sees who is asked to add a user.
func TestManagerOwner(t *testing.T) {
	t.Parallel()
	s := newManaged(t)
	link := s.link(t, "C001")
	p := visit(t, phone)
	p.open(link)
	p.says("Add a user for " + agency + " to Client 001")
	p.mentions("+client-001@")
	p.inspect("manager")
	p.tabThrough()
	p.touch("It says that the address is in use")
	p.press("Give me another address")
	p.mentions("Please use this address instead")
	p.mentions("+client-001-2@")
	p.inspect("manager-renamed")
	p.press("I’ve done it")
	p.says("Thank you. We do the rest.")
	p.inspect("manager-claimed")
	p.press("No, not yet: show me the steps")
	p.says("Add a user for " + agency + " to Client 001")
	p.touch("It says that my plan allows no more users")
	p.press("Tell " + agency)
	p.says("Thank you for telling us")
	p.inspect("manager-limit")
	p.press("Yes, I’ve done it")
	p.says("Thank you. We do the rest.")

	bare := visitWithoutScripts(t, phone)
	bare.open(s.link(t, "C002"))
	bare.press("I’ve done it")
	bare.says("Thank you. We do the rest.")

	// Another route asks for something else by the same link.
	s.command(t, "ref,name,owner_email,route\nC001,Client 001,maria001@clients.example,owner\n", "import", "-")
	p.open(link)
	p.says("Connect Client 001 to " + agency)
	s.command(t, "ref,name,owner_email,route\nC001,Client 001,maria001@clients.example,partner\n", "import", "-")
	p.open(link)
	p.says("There is nothing left to do")
	p.inspect("manager-nothing")
}

// TestRun takes an operator through a hundred accounts in one window, in which the provider would sign everybody in as
// whoever was there before. Not one is bound to the wrong client.
func TestRun(t *testing.T) {
	t.Parallel()
	s := newManaged(t)
	var renamed struct {
		Username string `json:"username"`
	}
	s.ask(t, http.MethodGet, "/clients/ref:C001", &renamed)
	s.command(t, "", "usernames", "--taken", renamed.Username)

	p := visit(t, desk)
	p.setUpFirst(s)
	p.open(s.base + "/admin/run")
	p.mentions("No account is ready yet")
	p.inspect("run-empty")
	p.press("Show the clients of this route")
	p.press("Client 001")
	p.inspect("client-manager")
	p.press("The user is active")
	p.mentions("the client is ready for a run")
	for n := 2; n <= managed; n++ {
		s.ask(t, http.MethodPost, fmt.Sprintf("/clients/ref:C%03d/manager/active", n), new(any))
	}
	p.open(s.base + "/admin")
	p.mentions("100 Ready for a run")
	p.inspect("progress-run")
	p.press("Run")
	p.mentions("100 accounts are ready")
	p.inspect("run-begin")
	p.press("Start")
	for n := 1; n <= managed; n++ {
		login, password := userOf(n)
		p.mentions(fmt.Sprintf("Client %03d", n))
		if got := p.text(".run code"); got != login {
			t.Fatalf("the page has the username %s, want %s", got, login)
		}
		if n == 3 {
			p.inspect("run-turn")
			p.press("Continue to Constant Contact")
			p.signIn(account{Users: []struct {
				Login    string `json:"login"`
				Password string `json:"password"`
			}{{"owner009@clients.example", "amber-harbor-27"}}})
			p.press("Allow")
			p.mentions("That was the account of Organization 009")
			p.mentions("Nothing was bound to Client 003")
			p.inspect("run-wrong")
		}
		if n == 5 {
			p.touch("Pass this one over")
			p.tick(`input[value="The password is not known"]`)
			p.inspect("run-skip")
			p.press("Next client")
			continue
		}
		p.press("Continue to Constant Contact")
		p.fill("Username", login)
		p.fill("Password", password)
		p.press("Sign in")
		p.press("Allow")
		p.mentions(fmt.Sprintf("Client %03d is connected and verified.", n))
	}
	p.mentions("Nobody else is ready")
	p.mentions("99 connected, 1 passed over")
	p.inspect("run-over")
	p.press("End the run")
	p.mentions("1 account is ready")

	for n := 1; n <= managed; n++ {
		var c struct {
			Stage     string  `json:"stage"`
			AccountID *string `json:"account_id"`
		}
		s.ask(t, http.MethodGet, fmt.Sprintf("/clients/ref:C%03d", n), &c)
		bound := c.AccountID != nil && *c.AccountID == accountOf(n)
		if n == 5 && (c.Stage == "authorized" || c.AccountID != nil) || n != 5 && (c.Stage != "authorized" || !bound) {
			t.Errorf("client %d is %s and has the account %v", n, c.Stage, c.AccountID)
		}
	}
	p.open(s.base + "/admin")
	p.mentions("99 of 100 connected")
	p.open(s.base + "/admin/clients?stage=authorized&route=manager")
	p.mentions("Client 050")
	if out := s.command(t, "", "status"); !strings.Contains(out, "99 of 100 clients authorized") {
		t.Errorf("status says %s", out)
	}
}
