package templates

import "net/http"

// SignInPage posts email and password to /admin/sign-in.
type SignInPage struct {
	Gate
	Email   string // as typed before
	Problem SignInProblem
	SignOn  string // name of the issuer of single sign-on; empty if there is none
}

// SignInProblem is why an operator has to sign in once more.
type SignInProblem string

// The problems. None is the first visit.
const (
	SignInNone      SignInProblem = ""
	SignInWrong     SignInProblem = "wrong"     // e-mail or password
	SignInThrottled SignInProblem = "throttled" // too many attempts
	SignInEnded     SignInProblem = "ended"     // the session is over
	SignedOut       SignInProblem = "signed_out"
	SignInChanged   SignInProblem = "changed" // another password was set
)

// Title names the page.
func (SignInPage) Title() string { return "Sign in" }

// Status follows the problem: 401 for a wrong password, 429 for too many attempts.
func (p SignInPage) Status() int {
	switch p.Problem {
	case SignInWrong:
		return http.StatusUnauthorized
	case SignInThrottled:
		return http.StatusTooManyRequests
	case SignInNone, SignInEnded, SignedOut, SignInChanged:
		return http.StatusOK
	}
	return http.StatusOK
}

// SetupPage makes the first operator: it posts email, name and password to Path.
type SetupPage struct {
	Gate
	Path          string // of the one-time link
	Email         string
	Name          string
	PasswordMin   int    // length that a password needs
	EmailError    string // what is wrong with a field, empty if nothing is
	NameError     string
	PasswordError string
}

// Title names the page.
func (SetupPage) Title() string { return "Set up the first operator" }

// Status is 422 if a field was refused.
func (p SetupPage) Status() int {
	if p.EmailError != "" || p.NameError != "" || p.PasswordError != "" {
		return http.StatusUnprocessableEntity
	}
	return http.StatusOK
}

// EntryPage signs in by a one-time link: it posts to Path, by a button and, with scripts, by itself.
// The press is needed because a mere fetch of the link must not spend it.
type EntryPage struct {
	Gate
	Path string
}

// Title names the page.
func (EntryPage) Title() string { return "Sign in" }

// EntryUsedPage answers a one-time link that is used, expired or unknown.
type EntryUsedPage struct{ Gate }

// Title says what is wrong.
func (EntryUsedPage) Title() string { return "This link was used or has expired" }

// Status is 404, so that nobody learns which links existed.
func (EntryUsedPage) Status() int { return http.StatusNotFound }

// ErrorPage answers a request that cannot be served, to anybody.
type ErrorPage struct {
	Gate
	Code int    // HTTP status
	ID   string // under which the log tells more; shown for 5xx
	Home string // where a way out leads; empty for none, because an owner must not be sent to the console
	Need Role   // of 403: the role that it takes, if that is why
}

// Status is the page's Code.
func (p ErrorPage) Status() int {
	if p.Code == 0 {
		return http.StatusInternalServerError
	}
	return p.Code
}

// Title says what is wrong.
func (p ErrorPage) Title() string {
	switch p.Status() {
	case http.StatusNotFound:
		return "Page not found"
	case http.StatusForbidden:
		return "Not allowed"
	case http.StatusMethodNotAllowed:
		return "That does not work here"
	case http.StatusRequestEntityTooLarge:
		return "That is too large"
	case http.StatusTooManyRequests:
		return "Too many requests"
	case http.StatusServiceUnavailable:
		return "Back in a moment"
	}
	if p.Status() < http.StatusInternalServerError {
		return "The request was not understood"
	}
	return "Internal error"
}

// Advice says what the reader can do.
func (p ErrorPage) Advice() string {
	switch p.Status() {
	case http.StatusNotFound:
		return "Nothing lives at this address. Check it for a missing or extra character; if it came in a mail, open the link there again."
	case http.StatusForbidden:
		if p.Need != "" {
			return "That takes the role " + string(p.Need) + ", which is not yours. Ask an owner to do it, or to give you the role."
		}
		return "The request came from another site, or you may not do this. Go back, reload the page and try again."
	case http.StatusMethodNotAllowed:
		return "The address exists but not for this kind of request. Go back, reload the page and use its buttons."
	case http.StatusRequestEntityTooLarge:
		return "What was sent is larger than this page takes. A large roster goes in with the command countersign import."
	case http.StatusTooManyRequests:
		return "Wait a minute, then try again."
	case http.StatusServiceUnavailable:
		return "The service is starting or its database does not answer. Nothing was lost. Try again in a minute."
	}
	if p.Status() < http.StatusInternalServerError {
		return "Go back, reload the page and try again."
	}
	return "Something went wrong on our side; it was logged. Try again in a minute. If it happens again, report the number below."
}
