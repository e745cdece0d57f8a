package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// way is something that can be done, by a command, in the console and by the API. Where one of them has it not, why says so.
type way struct {
	does    string
	command string // commands, with commas between them
	console string // paths below /admin that are posted to, or a page that tells it
	api     string // methods and paths below /api/v1
	why     string
}

const (
	ownAccount = "it is about the account of who is signed in"
	hostMatter = "it is for whoever runs the process, on its host"
	onThePage  = "it takes what the owner wrote to decide; `bulk owner --client` gives the client another owner"
	inSight    = "it is for eyes: commands and programs would write a file of many lines for it"
)

func ways() []way {
	return []way{
		{"import a roster", "import", "imports, uploads/:id/import, uploads/:id/discard", "POST /imports, GET /imports, GET /imports/{id}, GET /imports/{id}/rejects.csv", ""},
		{"invite", "invite, bulk", "clients/:id/invite, mail/queue/again, bulk", "POST /invitations, POST /bulk", ""},
		{"do one thing to many clients", "bulk, bulk list", "bulk", "POST /bulk, GET /bulk, GET /bulk/{id}, GET /bulk/{id}/skipped.csv", ""},
		{"stop that", "bulk stop", "bulk/:id/stop", "POST /bulk/{id}/stop", ""},
		{"take it back", "bulk undo", "bulk/:id/undo", "POST /bulk/{id}/undo", ""},
		{"pause and resume a client", "bulk", "clients/:id/pause, clients/:id/resume", "PATCH /clients/{id}", ""},
		{"see the progress", "status", "GET /admin", "GET /progress", ""},
		{"look through the roster", "export", "GET /admin/clients", "GET /clients, GET /clients/{id}, GET /export.csv", ""},
		{"choose the columns of the list", "", "clients/columns", "", inSight},
		{"change a client", "import", "clients/:id/edit", "PATCH /clients/{id}", ""},
		{"delete a client", "bulk", "clients/:id/delete", "DELETE /clients/{id}", ""},
		{"give it another owner", "bulk", "clients/:id/owner", "POST /clients/{id}/owner", ""},
		{"read its history", "audit list", "GET /admin/clients/:id", "GET /clients/{id}/events", ""},
		{"read its mails", "", "GET /admin/clients/:id/mails/:mail", "GET /clients/{id}/mails, GET /clients/{id}/mails/{mail}", inSight},
		{"hand a link over", "", "clients/:id/link", "POST /clients/{id}/link", "a link on a terminal is a secret in its scrollback"},
		{"give it another username", "usernames", "clients/:id/username", "POST /clients/{id}/username", ""},
		{"say that an Account Manager is active", "", "clients/:id/active", "GET /clients/{id}/manager, POST /clients/{id}/manager/active", "it takes a person at the provider's pages, who has a browser before them"},
		{"try the partner's token on an account", "", "clients/:id/check", "POST /clients/{id}/check", "it is tried by itself within minutes of an import or a change, and every day or so after that"},
		{"consent for one client after the other", "", "run/start, run/continue, run/skip, run/end", "", "it takes a person at the provider's pages, who has a browser before them"},
		{"remind", "remind", "clients/:id/reminder/plan, clients/:id/reminder/send, clients/:id/reminder/skip", "POST /clients/{id}/reminder", ""},
		{"lift an owner's no", "mail let-in", "clients/:id/opt-in, mail/suppressed/:id/let-in", "POST /clients/{id}/opt-in, POST /mail/suppressed/{id}/let-in", ""},
		{"see who is mailed no more", "mail suppressed", "GET /admin/mail/suppressed", "GET /mail/suppressed", ""},
		{"decide on whom an owner named", "", "mail/referrals/:id/accept, mail/referrals/:id/dismiss, clients/:id/referral/accept, clients/:id/referral/dismiss", "GET /referrals, POST /referrals/{id}/accept, POST /referrals/{id}/dismiss", onThePage},
		{"get a token", "", "", "POST /clients/{id}/token", "only programs need one: no person is to see it"},
		{"see how mail stands", "mail status", "GET /admin/mail", "GET /mail", ""},
		{"stop mail and let it go", "mail pause, mail resume", "mail/pause, mail/resume", "POST /mail/pause, POST /mail/resume", ""},
		{"see what waits", "mail queue", "GET /admin/mail/queue", "GET /mail/queue", ""},
		{"hurry what is put off", "mail hurry", "mail/queue/hurry", "POST /mail/hurry", ""},
		{"read what came back", "", "mail/reports/:id/aside", "GET /mail/reports, GET /mail/reports/{id}, POST /mail/reports/{id}/aside", inSight},
		{"write the texts of mails", "", "mail/texts/*key", "GET /mail/texts, GET /mail/texts/{key}, PUT /mail/texts/{key}, DELETE /mail/texts/{key}, POST /mail/texts/{key}/preview", inSight},
		{"change the letterhead", "", "mail/letterhead, mail/letterhead/logo, mail/letterhead/logo/remove", "GET /mail/letterhead, PATCH /mail/letterhead, PUT /mail/letterhead/logo, DELETE /mail/letterhead/logo", inSight},
		{"decide on quarantined grants", "quarantine, quarantine accept, quarantine discard, quarantine move", "quarantine/:id/accept, quarantine/:id/discard, quarantine/:id/move", "GET /quarantine, POST /quarantine/{id}/accept, POST /quarantine/{id}/discard, POST /quarantine/{id}/move", ""},
		{"see the provider's budget", "provider", "GET /admin/provider", "GET /provider", ""},
		{"compare with the provider's list", "reconcile", "reconcile, reconcile/:id/add, reconcile/:id/fill", "POST /reconciliations, GET /reconciliations/latest, GET /reconciliations/{id}/missing.csv, POST /reconciliations/{id}/steps", ""},
		{"let people in", "admin add, admin invite, admin list, admin role, admin remove", "settings/operators, settings/operators/:id/role, settings/operators/:id/remove, settings/invitations/:id/again, settings/invitations/:id/take-back", "GET /operators, POST /operators, PATCH /operators/{id}, DELETE /operators/{id}, DELETE /operators/invitations/{id}", ""},
		{"end somebody's sessions", "admin passwd, admin remove", "settings/operators/:id/sign-out", "DELETE /operators/{id}/sessions", ""},
		{"switch somebody's second factor off", "admin reset-2fa", "settings/operators/:id/second-factor", "DELETE /operators/{id}/second-factor", ""},
		{"let somebody in who is locked out", "admin sign-in-link, admin passwd", "", "", hostMatter},
		{"look after one's own account", "", "account/name, account/password, account/second-factor, account/second-factor/codes, account/second-factor/confirm, account/second-factor/off, account/sessions/:id/end, account/sessions/end", "", ownAccount},
		{"let programs in", "key create, key list, key revoke", "settings/keys, settings/keys/:id/revoke", "GET /keys, POST /keys, DELETE /keys/{id}", ""},
		{"read and check the audit trail", "audit list, audit verify", "GET /admin/audit", "GET /audit, GET /audit/verdict", ""},
		{"have everything examined", "doctor", "settings/doctor", "GET /doctor, POST /doctor", ""},
		{"read the settings", "", "GET /admin/settings", "GET /settings", "who runs a command has them before their eyes"},
		{"change the vault's keys", "vault rotate, vault status", "", "", hostMatter + ": the keys are in its settings"},
		{"hand over a mail that came back", "bounce", "", "", hostMatter + ": a mail server calls it"},
		{"run it", "serve, migrate, demo, sandbox, version", "", "", hostMatter},
	}
}

// TestParity: what can be done by command can be done in the console and by the API, and the other way round, or there is a
// reason. Whatever is new has a place in the table.
func TestParity(t *testing.T) {
	t.Parallel()
	there := map[string]bool{} // and whether the table has it
	var walk func(*cobra.Command, string)
	walk = func(cmd *cobra.Command, path string) {
		for _, c := range cmd.Commands() {
			name := strings.TrimSpace(path + " " + c.Name())
			if c.Runnable() && !c.Hidden && c.Name() != "help" && c.Name() != "completion" && !strings.HasPrefix(name, "completion ") {
				there["command "+name] = c.HasSubCommands() // Some of these only list the others.
			}
			walk(c, name)
		}
	}
	walk(newRoot(streams{strings.NewReader(""), io.Discard, io.Discard}), "")
	matrix, err := os.ReadFile("internal/web/testdata/matrix.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(matrix)) {
		method, rest, _ := strings.Cut(line, " ")
		path, who, _ := strings.Cut(strings.TrimSpace(rest), " ")
		api, isAPI := strings.CutPrefix(path, "/api/v1/")
		switch {
		case strings.TrimSpace(who) == "anybody":
		case isAPI:
			there["api "+method+" /"+braces(api)] = false
		case strings.HasPrefix(path, "/admin/") && method == "POST":
			there["console "+strings.TrimPrefix(path, "/admin/")] = false
		case strings.HasPrefix(path, "/admin"):
			there["console GET "+path] = true // Not every page is something that can be done.
		}
	}
	for _, w := range ways() {
		if (w.command == "" || w.console == "" || w.api == "") != (w.why != "") {
			t.Errorf("%s: a way is missing without a reason, or there is a reason for none", w.does)
		}
		for kind, list := range map[string]string{"command ": w.command, "console ": w.console, "api ": w.api} {
			for _, one := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
				name := kind + strings.TrimSpace(one)
				if _, ok := there[name]; !ok {
					t.Errorf("%s: there is no %s", w.does, name)
				}
				there[name] = true
			}
		}
	}
	var missing []string
	for name, told := range there {
		if !told {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	for _, name := range missing {
		t.Errorf("the table does not have %s", name)
	}
}

// braces writes the parameters of a path as the API's document does.
func braces(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if name, is := strings.CutPrefix(part, ":"); is {
			parts[i] = "{" + name + "}"
		}
	}
	return strings.Join(parts, "/")
}
