package browsertest_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

const (
	colleague         = "kim@northwind.example"
	colleaguePassword = "five words are more than enough"
)

// entryLink waits for a mail with a one-time link of an operator, whose subject begins with these words.
func (d *demo) entryLink(t *testing.T, address, subject string) string {
	t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		var mails []struct {
			Subject string   `json:"subject"`
			Links   []string `json:"links"`
		}
		fetch(t, http.MethodGet, d.mail+"/messages?to="+url.QueryEscape(address), nil, &mails)
		for _, m := range mails {
			if strings.HasPrefix(m.Subject, subject) && len(m.Links) == 1 {
				return m.Links[0]
			}
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatalf("no mail %q came to %s", subject, address)
	return ""
}

// app shows the code of an authenticator app for a moment.
func app(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(strings.ReplaceAll(secret, " ", ""), at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// signInAs opens the console's door in a browser that nobody has used yet.
func signInAs(t *testing.T, email, password string) *tab {
	t.Helper()
	p := visit(t, desk)
	p.open(p.lab.demo.console + "/admin/sign-in")
	p.fill("E-mail", email)
	p.fill("Password", password)
	p.press("Sign in")
	return p
}

// TestColleague follows somebody from the invitation to a second factor that is used, lost, and a password that is forgotten.
func TestColleague(t *testing.T) {
	t.Parallel()
	boss := signIn(t, desk)
	boss.open(boss.lab.demo.console + "/admin/settings/operators")
	boss.fill("E-mail", operator)
	boss.pressTo(http.StatusUnprocessableEntity, "Invite")
	boss.mentions("There is already an operator with this e-mail address.")
	boss.fill("E-mail", colleague)
	boss.choose("Role", "Operator")
	boss.press("Invite")
	boss.mentions("The invitation is on its way.")
	boss.inspect("operators")

	kim := visit(t, phone)
	kim.open(boss.lab.demo.entryLink(t, colleague, "You are invited"))
	kim.says("You are invited")
	kim.inspect("accept")
	kim.fill("Your name", "Kim Lee")
	kim.fill("Password", colleaguePassword)
	kim.press("Create and sign in")
	kim.press("Kim Lee")
	kim.says("Your account")
	kim.inspect("account")
	kim.tabThrough()

	kim.fill("Your password", "not the password")
	kim.pressTo(http.StatusUnprocessableEntity, "Set it up")
	kim.mentions("This is not your present password.")
	kim.fill("Your password", colleaguePassword)
	kim.press("Set it up")
	kim.says("Set up a second factor")
	kim.inspect("second-factor")
	secret, now := kim.text(".key"), time.Now()
	kim.fill("Code", app(t, secret, now.Add(-time.Hour)))
	kim.pressTo(http.StatusUnprocessableEntity, "Switch it on")
	kim.fill("Code", app(t, secret, now))
	kim.press("Switch it on")
	kim.says("Your recovery codes")
	kim.inspect("recovery-codes")
	codes := kim.texts(".codes code")
	kim.press("I have kept them")
	kim.mentions("10 of your recovery codes are left.")

	// Elsewhere: the code of now is used up, the next one lets in.
	desktop := signInAs(t, colleague, colleaguePassword)
	desktop.says("One more step")
	desktop.fill("Code", app(t, secret, now))
	desktop.pressTo(http.StatusUnauthorized, "Sign in")
	desktop.mentions("This code is wrong, too old, or was used before.")
	desktop.inspect("second-step")
	desktop.fill("Code", app(t, secret, now.Add(30*time.Second)))
	desktop.press("Sign in")
	if at := desktop.address(); at.Path != "/admin" {
		t.Errorf("the code leads to %s", at)
	}
	lost := signInAs(t, colleague, colleaguePassword)
	lost.touch("Without your phone?")
	lost.fill("Recovery code", strings.ToUpper(codes[3]))
	lost.press("Use this code")
	lost.press("Kim Lee")
	lost.mentions("9 of your recovery codes are left.")
	lost.inspect("account-secured")

	lost.press("End all others")
	lost.mentions("Your other sessions have ended.")
	for _, ended := range []*tab{kim, desktop} {
		ended.open(lost.lab.demo.console + "/admin/account")
		ended.mentions("Your session has ended.")
	}

	forgot := kim
	forgot.press("Forgot your password?")
	forgot.inspect("forgot")
	forgot.fill("E-mail", colleague)
	forgot.press("Send the link")
	forgot.mentions("a mail is on its way")
	forgot.open(lost.lab.demo.entryLink(t, colleague, "Set another password"))
	forgot.says("Set another password")
	forgot.inspect("reset")
	forgot.fill("New password", "another five words are enough")
	forgot.press("Set this password")
	forgot.mentions("Your password is set.")
	forgot.fill("E-mail", colleague)
	forgot.fill("Password", "another five words are enough")
	forgot.press("Sign in")
	forgot.says("One more step")
	lost.open(lost.lab.demo.console + "/admin/account")
	lost.mentions("Your session has ended.")

	boss.reload()
	boss.touch("Change Kim Lee")
	boss.press("Switch the second factor off of Kim Lee")
	boss.mentions("The second factor is off.")
	boss.touch("Change Kim Lee")
	boss.inspect("operators-change")
	boss.press("Remove Kim Lee")
	boss.mentions("The operator is removed")
}
