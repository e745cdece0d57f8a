package templates

import (
	"html/template"
	"net/http"
	"time"
)

// Role is what an operator may do.
type Role string

// Label is the role's name.
func (r Role) Label() string {
	switch r {
	case "owner":
		return "Owner"
	case "operator":
		return "Operator"
	case "viewer":
		return "Viewer"
	}
	return string(r)
}

// About says what the role may do.
func (r Role) About() string {
	switch r {
	case "owner":
		return "does everything, and lets people and programs in"
	case "operator":
		return "imports, invites and changes clients"
	case "viewer":
		return "looks and changes nothing"
	}
	return ""
}

// Roles are all roles, the one that may most first.
func Roles() []Role { return []Role{"owner", "operator", "viewer"} }

// SecondStepPage asks for a code of the second factor: it posts code to /admin/sign-in/code.
type SecondStepPage struct {
	Gate
	Problem SignInProblem
}

// Title names the page.
func (SecondStepPage) Title() string { return "One more step" }

// Status follows the problem, as that of SignInPage does.
func (p SecondStepPage) Status() int { return SignInPage{Problem: p.Problem}.Status() }

// ForgotPage asks for a mail with a link to set another password: it posts email to /admin/forgot.
type ForgotPage struct {
	Gate
	NoMail  bool // there is no mail server
	Sent    bool // it was asked for, whoever asked
	Problem SignInProblem
}

// Title names the page.
func (ForgotPage) Title() string { return "Forgot your password?" }

// Status follows the problem, as that of SignInPage does.
func (p ForgotPage) Status() int { return SignInPage{Problem: p.Problem}.Status() }

// ResetPage sets another password by a one-time link: it posts password to Path.
type ResetPage struct {
	Gate
	Path          string
	Email         string
	PasswordMin   int
	PasswordError string
}

// Title names the page.
func (ResetPage) Title() string { return "Set another password" }

// Status is 422 if the password was refused.
func (p ResetPage) Status() int { return refused(p.PasswordError) }

// AcceptPage makes an operator of somebody who was invited: it posts name and password to Path.
type AcceptPage struct {
	Gate
	Path          string
	Email         string
	Role          Role
	Name          string
	PasswordMin   int
	NameError     string
	PasswordError string
}

// Title names the page.
func (AcceptPage) Title() string { return "You are invited" }

// Status is 422 if a field was refused.
func (p AcceptPage) Status() int { return refused(p.NameError, p.PasswordError) }

// refused is 422 if there is a mistake, and 200 otherwise.
func refused(mistakes ...string) int {
	for _, mistake := range mistakes {
		if mistake != "" {
			return http.StatusUnprocessableEntity
		}
	}
	return http.StatusOK
}

// AccountPage is about whoever is signed in.
type AccountPage struct {
	Console
	Email         string
	Name          string // as typed before, or as it is
	Role          Role
	PasswordMin   int
	Done          string // what was just done
	NameError     string
	PresentError  string // of changing the password
	PasswordError string
	FactorError   string // of the password that the second factor is changed with
	SecondFactor  bool
	CodesLeft     int // recovery codes
	Sessions      []Session
}

// Session is one place where somebody is signed in.
type Session struct {
	ID      string
	Browser string // in words; may be empty
	Address string // likewise
	Since   time.Time
	Seen    time.Time
	Current bool // this one
}

// Title names the page.
func (AccountPage) Title() string { return "Your account" }

// Status is 422 if a field was refused.
func (p AccountPage) Status() int {
	return refused(p.NameError, p.PresentError, p.PasswordError, p.FactorError)
}

// Others reports whether there are other sessions than this one.
func (p AccountPage) Others() bool { return len(p.Sessions) > 1 }

// SecondFactorPage shows what an authenticator app has to know, and asks for its first code: it posts code to
// /admin/account/second-factor/confirm.
type SecondFactorPage struct {
	Console
	QR      template.URL // a data: address
	Secret  string       // the same for typing
	Problem string
}

// Title names the page.
func (SecondFactorPage) Title() string { return "Set up a second factor" }

// Status is 422 if the code was refused.
func (p SecondFactorPage) Status() int { return refused(p.Problem) }

// RecoveryCodesPage shows recovery codes, this once.
type RecoveryCodesPage struct {
	Console
	Codes []string
}

// Title names the page.
func (RecoveryCodesPage) Title() string { return "Your recovery codes" }

// OperatorsPage is who may use the console.
type OperatorsPage struct {
	Console
	Done       string // what was just done
	Problem    string // why it was not
	People     []Person
	Invited    []Invited
	Email      string // as typed before
	Role       Role   // likewise
	EmailError string
	NoMail     bool      // invitations are handed over
	HandOver   *HandOver // the invitation that was just made without a mail server
}

// Person is an operator.
type Person struct {
	ID           string
	Email        string
	Name         string
	Role         Role
	SecondFactor bool
	SignedInAt   time.Time
	Self         bool // whoever looks at the page
}

// Invited is somebody who was invited and has not come yet.
type Invited struct {
	ID        string
	Email     string
	Role      Role
	By        string
	ExpiresAt time.Time
	Over      bool // too late
}

// HandOver is a link that has to reach somebody by other means than our mail.
type HandOver struct {
	Email     string
	Link      string
	ExpiresAt time.Time
}

// Title names the page.
func (OperatorsPage) Title() string { return "Operators" }

// Status is 422 if the address was refused, and 409 if something else was.
func (p OperatorsPage) Status() int {
	if p.Problem != "" {
		return http.StatusConflict
	}
	return refused(p.EmailError)
}

// Roles are those that can be chosen.
func (OperatorsPage) Roles() []Role { return Roles() }
