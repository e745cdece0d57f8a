package templates

import "net/http"

// SignOnProblem is why single sign-on has let nobody in.
type SignOnProblem string

// The problems.
const (
	SignOnUnavailable   SignOnProblem = "unavailable"    // the issuer does not answer as it should
	SignOnOver          SignOnProblem = "over"           // the attempt was used, or took too long
	SignOnOtherBrowser  SignOnProblem = "other_browser"  // another one began it
	SignOnRefused       SignOnProblem = "refused"        // the issuer or the person said no
	SignOnUntrusted     SignOnProblem = "untrusted"      // the answer is not surely the issuer's, for us
	SignOnUnverified    SignOnProblem = "unverified"     // the issuer vouches for no address
	SignOnDomain        SignOnProblem = "domain"         // the address is of a domain that may not sign in
	SignOnStranger      SignOnProblem = "stranger"       // nobody here has the address
	SignOnOtherIdentity SignOnProblem = "other_identity" // who has it came as somebody else before
)

// SignOnFailedPage answers whoever comes back from the issuer of single sign-on and is not let in.
type SignOnFailedPage struct {
	Gate
	SignOn  string // name of the issuer
	Problem SignOnProblem
}

// Title names the page.
func (SignOnFailedPage) Title() string { return "You are not signed in" }

// Status is 503 if the issuer is out of reach, and 403 otherwise.
func (p SignOnFailedPage) Status() int {
	if p.Problem == SignOnUnavailable {
		return http.StatusServiceUnavailable
	}
	return http.StatusForbidden
}

// SignOnPage tells how people sign in.
type SignOnPage struct {
	Console
	Off         bool // there is no issuer
	Name        string
	Issuer      string
	Domains     []string // of addresses that may sign in; any if there is none
	Newcomers   Role     // empty if only operators may
	RedirectURI string   // to register at the issuer
}

// Title names the page.
func (SignOnPage) Title() string { return "Sign-in" }
