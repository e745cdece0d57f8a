package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/provisioning/constantcontact"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

// attack is one row of the suite: what goes wrong, where it is written what to do then, and what has to
// come of it. Unless act says otherwise it is one walk of Acme's owner, during which the faults strike once.
type attack struct {
	name   string
	source string // RFC and section, or requirement of ASVS 5

	faults   []sandbox.Fault
	later    []sandbox.Fault // likewise, when the grant is refreshed
	provider func(*sandbox.Options)
	app      func(*constantcontact.Config)
	flow     func(*authflow.Flow)
	roster   string // rosterFile unless it says otherwise
	act      func(*testing.T, *scene) page

	sees  string // heading of the owner's last page
	says  []string
	stage string // Acme's, with the reason behind it
	holds string // Acme's grants, as "status account"
	kept  string // in words, where act checks by itself what is stored
	codes int    // requests that reach the token endpoint
}

// anyNumber of refusals makes a keeper believe that a grant is gone: that is its affair.
const anyNumber = -1

const ( // headings
	nothing      = "nothing"
	connected    = "Connected, thank you"
	unavailable  = "Constant Contact does not answer right now"
	failed       = "That did not work"
	denied       = "Nothing was connected"
	incomplete   = "A permission is missing"
	wrongAccount = "That was another account"
	conflict     = "This account is connected already"
	otherBrowser = "Please start again here"
	stale        = "Please start again"
)

const (
	acmeRef, bloomRef     = "ACME/1", "BLOOM"
	strangeLogin          = "who@else.example"
	started, authorized   = "started", "authorized"
	acmeGrant, bloomGrant = "active acct-acme", "active acct-bloom"
	acmeStrange           = "quarantined acct-strange"

	// rosterWithoutIDs leaves it to the accounts' names whose they are.
	rosterWithoutIDs = "ref,name,owner_email\nACME/1,Acme Bakery,ada@acme.example\nBLOOM,Bloom Florist,ben@bloom.example\n"
)

// attacks is every negative case that a build must pass.
func attacks() []attack {
	return slices.Concat(stateAttacks(), issuerAttacks(), codeAttacks(), errorAttacks(), tokenAttacks(), identityAttacks(), refreshAttacks(), crowds())
}

func stateAttacks() []attack {
	const forgery, binding = "RFC 6749 10.12, RFC 9700 4.7", "RFC 9700 4.7, ASVS V10.1.2"
	untouched := func(a attack) attack {
		a.stage = started
		return a
	}
	return []attack{
		untouched(attack{name: "state absent", source: forgery, act: returns(func(q url.Values) { q.Del("state") }), sees: stale}),
		untouched(attack{name: "state empty", source: forgery, act: returns(func(q url.Values) { q.Set("state", "") }), sees: stale}),
		untouched(attack{name: "state unknown", source: forgery, act: returns(func(q url.Values) { q.Set("state", "made-up") }), sees: stale}),
		untouched(attack{name: "state absent, with an error", source: forgery, act: returns(func(q url.Values) {
			q.Del("state")
			q.Del("code")
			q.Set("error", "access_denied")
		}), sees: stale}),
		untouched(attack{name: "state altered by the server", source: "RFC 6749 4.1.2", faults: []sandbox.Fault{sandbox.AuthorizeStateAltered}, sees: stale}),
		untouched(attack{name: "state dropped by the server", source: "RFC 6749 4.1.2", faults: []sandbox.Fault{sandbox.AuthorizeStateDropped}, sees: stale}),
		untouched(attack{name: "state twice", source: "RFC 6749 3.1", faults: []sandbox.Fault{sandbox.AuthorizeStateTwice}, sees: failed}),
		untouched(attack{name: "state expired", source: "RFC 9700 4.2.4", act: func(t *testing.T, s *scene) page {
			t.Helper()
			owner := s.browser(t)
			back := s.consents(t, owner, s.link, adaLogin)
			s.clock.advance(authflow.ConsentLife)
			return s.ends(t, owner, back)
		}, sees: stale, says: []string{"more than ten minutes have passed"}}),
		{name: "state and code reused after success", source: "RFC 6749 4.1.2, RFC 9700 2.1.1", act: func(t *testing.T, s *scene) page {
			t.Helper()
			owner := s.browser(t)
			back := s.consents(t, owner, s.link, adaLogin)
			s.ends(t, owner, back)
			return s.ends(t, owner, back)
		}, sees: connected, stage: authorized, holds: acmeGrant, codes: 1},
		{name: "state reused with a fresh code", source: "RFC 9700 4.2.4", act: func(t *testing.T, s *scene) page {
			t.Helper()
			owner := s.browser(t)
			provider := owner.post(t, s.link+"/begin", nil).leads(t)
			for i, d := range []sandbox.Decision{sandbox.Deny, sandbox.Allow} {
				back, err := sandbox.Consent(t.Context(), owner.Client, provider, adaLogin, password, d)
				if err != nil {
					t.Fatal(err)
				}
				if p := s.ends(t, owner, back); i == 1 {
					return p
				}
			}
			return page{}
		}, sees: denied, stage: "stalled/declined"},
		untouched(attack{name: "state of another browser's walk", source: binding, act: func(t *testing.T, s *scene) page {
			t.Helper()
			owner := s.browser(t)
			back := s.consents(t, owner, s.link, adaLogin)
			return s.ends(t, s.browser(t), back)
		}, sees: otherBrowser}),
		untouched(attack{name: "an attacker's authorize URL, sent to the owner", source: binding, act: func(t *testing.T, s *scene) page {
			t.Helper()
			provider := s.browser(t).post(t, s.link+"/begin", nil).leads(t)
			victim := s.browser(t)
			back, err := sandbox.Consent(t.Context(), victim.Client, provider, adaLogin, password, sandbox.Allow)
			if err != nil {
				t.Fatal(err)
			}
			return s.ends(t, victim, back)
		}, sees: otherBrowser}),
		untouched(attack{name: "state of another client's walk, in a browser with a walk of its own", source: binding, act: func(t *testing.T, s *scene) page {
			t.Helper()
			owner, other := s.browser(t), s.browser(t)
			s.consents(t, owner, s.link, adaLogin)
			return s.ends(t, owner, s.consents(t, other, s.testBundle.link(t, bloomRef), benLogin))
		}, sees: otherBrowser}),
		untouched(attack{name: "cookie made up", source: binding, act: func(t *testing.T, s *scene) page {
			t.Helper()
			owner := s.browser(t)
			back := s.consents(t, owner, s.link, adaLogin)
			owner.rebake(t, func([]string) []string { return []string{"made-up"} })
			return s.ends(t, owner, back)
		}, sees: otherBrowser}),
		untouched(attack{name: "cookies swapped between two walks of one browser", source: binding, act: func(t *testing.T, s *scene) page {
			t.Helper()
			owner := s.browser(t)
			acme := s.consents(t, owner, s.link, adaLogin)
			bloom := s.consents(t, owner, s.testBundle.link(t, bloomRef), benLogin)
			owner.rebake(t, func(values []string) []string { return []string{values[1], values[0]} })
			s.sees(t, s.ends(t, owner, bloom), otherBrowser)
			return s.ends(t, owner, acme)
		}, sees: otherBrowser}),
		{name: "two tabs of one browser", source: "RFC 9700 4.7", act: func(t *testing.T, s *scene) page {
			t.Helper()
			owner := s.browser(t)
			first, second := s.consents(t, owner, s.link, adaLogin), s.consents(t, owner, s.link, adaLogin)
			s.sees(t, s.ends(t, owner, second), connected)
			return s.ends(t, owner, first)
		}, sees: connected, stage: authorized, holds: acmeGrant, codes: 2},
	}
}

func issuerAttacks() []attack {
	const mixUp = "RFC 9207 2.4, RFC 9700 4.4, ASVS V10.2.2"
	stopped := func(name string, announced bool, f sandbox.Fault) attack {
		a := attack{name: name, source: mixUp, provider: sendsIssuer, faults: []sandbox.Fault{f}, sees: failed, stage: started}
		if announced {
			a.flow = knowsIssuer
		}
		return a
	}
	return []attack{
		{
			name: "`iss` is right", source: mixUp, provider: sendsIssuer, flow: knowsIssuer,
			sees: connected, stage: authorized, holds: acmeGrant, codes: 1,
		},
		stopped("`iss` of another server", true, sandbox.AuthorizeWrongIssuer),
		stopped("`iss` of another server, none announced", false, sandbox.AuthorizeWrongIssuer),
		stopped("`iss` of another issuer of the same server", true, sandbox.AuthorizeSiblingIssuer),
		stopped("`iss` absent although announced", true, sandbox.AuthorizeNoIssuer),
		{
			name: "`iss` of another server, with an error", source: mixUp, provider: sendsIssuer, act: returns(func(q url.Values) {
				q.Del("code")
				q.Set("error", "access_denied")
				q.Set("iss", "https://other.example")
			}), sees: failed, stage: started,
		},
		{
			name: "`iss` absent although announced, with an error", source: mixUp, provider: sendsIssuer, flow: knowsIssuer,
			act: returns(func(q url.Values) {
				q.Del("code")
				q.Del("iss")
				q.Set("error", "access_denied")
			}), sees: failed, stage: started,
		},
	}
}

func sendsIssuer(o *sandbox.Options) { o.Issuer, o.Switches.SendIssuer = o.BaseURL+issuerPath, true }

func knowsIssuer(f *authflow.Flow) { f.Issuer = f.Issuers[0] + issuerPath }

const issuerPath = "/issuer"

func codeAttacks() []attack {
	return []attack{
		{
			name: "PKCE refused", source: "RFC 7636 4.4.1", faults: []sandbox.Fault{sandbox.AuthorizeRefusesPKCE}, act: func(t *testing.T, s *scene) page {
				t.Helper()
				owner := s.browser(t)
				owner.get(t, owner.post(t, s.link+"/begin", nil).leads(t)).has(t, http.StatusBadRequest)
				return page{}
			}, sees: "the provider's own error page", stage: started,
		},
		{name: "code empty", source: "RFC 6749 4.1.2", faults: []sandbox.Fault{sandbox.AuthorizeEmptyCode}, sees: failed, stage: started},
		{name: "neither code nor error", source: "RFC 6749 4.1.2", act: returns(func(q url.Values) { q.Del("code") }), sees: failed, stage: started},
		{
			name: "code together with `error`", source: "RFC 6749 4.1.2.1", faults: []sandbox.Fault{sandbox.AuthorizeCodeAndError},
			sees: denied, stage: "stalled/declined",
		},
		{name: "code twice", source: "RFC 6749 3.1", faults: []sandbox.Fault{sandbox.AuthorizeCodeTwice}, sees: failed, stage: started},
		{name: "code made up", source: "RFC 6749 5.2", act: returns(func(q url.Values) { q.Set("code", "made-up") }), sees: failed, stage: started, codes: 1},
		{name: "code expired", source: "RFC 6749 4.1.2", act: func(t *testing.T, s *scene) page {
			t.Helper()
			owner := s.browser(t)
			back := s.consents(t, owner, s.link, adaLogin)
			s.clock.advance(6 * time.Minute)
			return s.ends(t, owner, back)
		}, sees: failed, stage: started, codes: 1},
		{
			name: "code of another client's walk", source: "RFC 9700 4.5.3.1, RFC 7636 4.6, ASVS V10.2.1", act: injected(benLogin, false),
			sees: failed, stage: started, codes: 1,
		},
		{
			name: "code of another account, to a provider without PKCE", source: "RFC 9700 4.5",
			app: func(c *constantcontact.Config) { c.PKCE = false }, act: injected(strangeLogin, false),
			sees: wrongAccount, says: []string{strange}, stage: "stalled/wrong_account", holds: acmeStrange, codes: 1,
		},
		{
			name: "code reused in another walk", source: "RFC 6749 4.1.2, RFC 9700 4.5", act: injected(benLogin, true),
			sees: failed, stage: started, codes: 2,
		},
	}
}

// injected lets the callback of Acme's walk come with the code that somebody else got in a walk of Bloom's,
// redeemed before if spent.
func injected(login string, spent bool) func(*testing.T, *scene) page {
	return func(t *testing.T, s *scene) page {
		t.Helper()
		owner, other := s.browser(t), s.browser(t)
		theirs := s.consents(t, other, s.testBundle.link(t, bloomRef), login)
		if spent {
			s.sees(t, s.ends(t, other, theirs), connected)
		}
		return s.ends(t, owner, edited(t, s.consents(t, owner, s.link, adaLogin), func(q url.Values) {
			q.Set("code", query(t, theirs).Get("code"))
		}))
	}
}

func errorAttacks() []attack {
	const source = "RFC 6749 4.1.2.1"
	return []attack{
		{name: "`error=access_denied`", source: source, act: func(t *testing.T, s *scene) page {
			t.Helper()
			return s.browser(t).walk(t, s.link, adaLogin, sandbox.Deny)
		}, sees: denied, stage: "stalled/declined"},
		{name: "`error=temporarily_unavailable`", source: source, faults: []sandbox.Fault{sandbox.AuthorizeUnavailable}, sees: unavailable, stage: started},
		{name: "`error=server_error`", source: source, faults: []sandbox.Fault{sandbox.AuthorizeServerError}, sees: unavailable, stage: started},
		{name: "`error` unknown", source: source, faults: []sandbox.Fault{sandbox.AuthorizeUnknownError}, sees: failed, stage: started},
		{name: "`error` and its description are markup", source: source + ", ASVS V1.2.1", faults: []sandbox.Fault{sandbox.AuthorizeMarkup}, sees: failed, stage: started},
	}
}

func tokenAttacks() []attack {
	const answer, refusal, limits, elsewhere = "RFC 6749 5.1", "RFC 6749 5.2", "ASVS V13.2.6", "RFC 9700 4.1, ASVS V15.3.2"
	useless := func(name, source string, f sandbox.Fault) attack {
		return attack{name: name, source: source, faults: []sandbox.Fault{f}, sees: unavailable, stage: started, codes: 1}
	}
	refused := func(name, source string, f sandbox.Fault) attack {
		return attack{name: name, source: source, faults: []sandbox.Fault{f}, sees: failed, stage: started, codes: 1}
	}
	good := func(name, source string, f sandbox.Fault) attack {
		return attack{name: name, source: source, faults: []sandbox.Fault{f}, sees: connected, stage: authorized, holds: acmeGrant, codes: 1}
	}
	missing := func(name string, f sandbox.Fault) attack {
		return attack{
			name: name, source: "RFC 6749 3.3, ASVS V10.2.3", faults: []sandbox.Fault{f},
			sees: incomplete, stage: "stalled/missing_scope", codes: 1,
		}
	}
	slow := func(a attack) attack {
		a.app = impatient
		return a
	}
	return []attack{
		useless("token answer is a web page", answer, sandbox.TokenHTML),
		refused("token answer is an error with status 200", refusal, sandbox.TokenErrorWith200),
		useless("token answer is an empty object", answer, sandbox.TokenEmpty),
		useless("token answer has another content type", answer, sandbox.TokenContentType),
		useless("token endpoint answers 500", refusal, sandbox.Token500),
		useless("token endpoint answers 503 with a web page", refusal, sandbox.Token503),
		useless("token endpoint answers 429", "RFC 6585 4", sandbox.Token429),
		useless("token endpoint answers 429 with Retry-After", "RFC 6585 4", sandbox.Token429RetryAfter),
		refused("token endpoint refuses a good code", refusal, sandbox.TokenInvalidGrant),
		refused("token endpoint refuses the app", refusal, sandbox.TokenInvalidClient),
		useless("token endpoint redirects to itself", elsewhere, sandbox.TokenRedirect),
		useless("token endpoint redirects to another host", elsewhere, sandbox.TokenRedirectAway),
		useless("token answer of 10 MB", limits, sandbox.TokenHuge),
		useless("token answer without end", limits, sandbox.TokenEndless),
		useless("token answer of 10 MB, compressed", limits, sandbox.TokenGzipBomb),
		slow(useless("token endpoint hangs", limits, sandbox.TokenHang)),
		slow(useless("token answer drips, a byte a second", limits, sandbox.TokenDrip)),
		useless("token answer breaks off", answer, sandbox.TokenCut),
		useless("token answer is lost, the code spent", answer, sandbox.TokenLost),
		refused("token answer has `access_token` twice", "RFC 8259 4", sandbox.TokenDuplicateKeys),
		useless("token answer is not UTF-8", "RFC 8259 8.1", sandbox.TokenNotUTF8),
		useless("access token with a line break", "RFC 6749 A.12", sandbox.TokenControlCharacters),
		useless("`token_type` unknown", "RFC 6749 7.1", sandbox.TokenTypeOdd),
		good("`token_type` absent", answer, sandbox.TokenTypeAbsent),
		good("`token_type` in capitals", answer, sandbox.TokenTypeCase),
		good("`expires_in` absent", answer, sandbox.TokenExpiresAbsent),
		good("`expires_in` negative", answer, sandbox.TokenExpiresNegative),
		good("`expires_in` a string", answer, sandbox.TokenExpiresString),
		good("`expires_in` enormous", answer, sandbox.TokenExpiresHuge),
		good("`expires_in` with a fraction", answer, sandbox.TokenExpiresFloat),
		good("`expires_in` null", answer, sandbox.TokenExpiresNull),
		missing("scope shrunk", sandbox.TokenNarrowScope),
		missing("no refresh token", sandbox.TokenNoRefreshToken),
		good("scope widened", "RFC 6749 3.3, ASVS V10.2.3", sandbox.TokenWideScope),
		good("scope reordered", "RFC 6749 3.3", sandbox.TokenScopeReordered),
		good("scope doubled", "RFC 6749 3.3", sandbox.TokenScopeTwice),
		good("scope absent", answer, sandbox.TokenScopeAbsent),
		good("scope with characters that no scope has", "RFC 6749 3.3", sandbox.TokenScopeOdd),
		good("clock of the token 10 minutes ahead", "RFC 7519 4.1.6", sandbox.TokenClockAhead),
		good("clock of the token 10 minutes behind", "RFC 7519 4.1.4", sandbox.TokenClockBehind),
		good("token names another app", "RFC 6749 1.4", sandbox.TokenOtherClient),
		good("token names its user in characters that no database keeps", "RFC 6749 1.4", sandbox.TokenOddSubject),
		refused("token of a login without account", "RFC 6749 1.4", sandbox.TokenUnassigned),
	}
}

func impatient(c *constantcontact.Config) {
	c.HTTP = &http.Client{Transport: c.HTTP.Transport, Timeout: 300 * time.Millisecond}
}

func identityAttacks() []attack {
	const identity, answer = "RFC 6749 10.16, ASVS V10.5.2", "ASVS V16.5.2"
	walksAs := func(login string) func(*testing.T, *scene) page {
		return func(t *testing.T, s *scene) page {
			t.Helper()
			return s.browser(t).walk(t, s.link, login, sandbox.Allow)
		}
	}
	useless := func(name string, f sandbox.Fault) attack {
		return attack{name: name, source: answer, faults: []sandbox.Fault{f}, sees: unavailable, stage: started, codes: 1}
	}
	refused := func(name, source string, f sandbox.Fault) attack {
		return attack{name: name, source: source, faults: []sandbox.Fault{f}, sees: failed, stage: started, codes: 1}
	}
	hanging := useless("API hangs", sandbox.APIHang)
	hanging.app = impatient
	return []attack{
		{
			name: "another account consents", source: identity, act: walksAs(strangeLogin),
			sees: wrongAccount, says: []string{strange}, stage: "stalled/wrong_account", holds: acmeStrange, codes: 1,
		},
		{
			name: "another client's account consents", source: identity, act: walksAs(benLogin),
			sees: conflict, stage: "stalled/conflict", holds: "quarantined acct-bloom", codes: 1,
		},
		{
			name: "another account consents, none known beforehand", source: identity, roster: rosterWithoutIDs, act: walksAs(strangeLogin),
			sees: wrongAccount, says: []string{strange}, stage: "stalled/wrong_account", holds: acmeStrange, codes: 1,
		},
		{
			name: "a live session of another account, and no prompt", source: identity + ", OpenID Connect Core 3.1.2.1",
			app: func(c *constantcontact.Config) { c.Prompt = "" },
			act: func(t *testing.T, s *scene) page {
				t.Helper()
				owner := s.browser(t)
				s.consents(t, owner, s.testBundle.link(t, bloomRef), strangeLogin)
				return s.ends(t, owner, s.consents(t, owner, s.link, adaLogin))
			},
			sees: wrongAccount, says: []string{strange}, stage: "stalled/wrong_account", holds: acmeStrange, codes: 1,
		},
		{
			name: "API describes another account", source: identity, faults: []sandbox.Fault{sandbox.SummaryOfAnother},
			sees: conflict, stage: "stalled/conflict", holds: "quarantined acct-bloom", codes: 1,
		},
		refused("account id missing", identity, sandbox.SummaryWithoutID),
		refused("account id with odd characters", identity, sandbox.SummaryOddID),
		refused("account id of 30,000 characters", identity, sandbox.SummaryLongID),
		{
			name: "organization's name is markup with a NUL", source: "ASVS V1.2.1", faults: []sandbox.Fault{sandbox.SummaryOddName},
			sees: connected, stage: authorized, holds: acmeGrant, codes: 1,
		},
		refused("API answers 401 right after the grant", "RFC 6750 3.1", sandbox.API401),
		useless("API answers 500", sandbox.API500),
		useless("API answers 503", sandbox.API503),
		useless("API answers 429, throttled", sandbox.APIThrottled),
		useless("API answers 429, quota_exceeded", sandbox.APIQuotaExceeded),
		useless("API answers with a web page", sandbox.APIHTML),
		useless("API answers without end", sandbox.APIEndless),
		useless("API redirects to another host", sandbox.APIRedirectAway),
		hanging,
	}
}

// refreshAttacks come when Acme's grant is refreshed, of which the owner sees nothing.
func refreshAttacks() []attack {
	const rotation, answer, refusal = "RFC 9700 4.14.2", "RFC 6749 5.1, 6", "RFC 6749 5.2"
	forgives := func(o *sandbox.Options) { o.Switches.RotationGrace = 30 * time.Second }
	due := func(t *testing.T, s *scene) {
		t.Helper()
		s.sees(t, s.browser(t).walk(t, s.link, adaLogin, sandbox.Allow), connected)
		s.clock.advance(time.Hour)
	}
	heals := func(t *testing.T, s *scene) page { //nolint:unparam // an attack's act
		t.Helper()
		due(t, s)
		s.strike(t, s.attack.later...)
		s.keeps(t)
		s.clock.advance(3 * time.Hour)
		s.keeps(t)
		s.refreshed(t)
		return page{}
	}
	// healed is what strikes one refresh and does no harm. The walk and as many refreshes as it takes are counted.
	healed := func(name, source string, f sandbox.Fault, refreshes int) attack {
		return attack{
			name: "refresh: " + name, source: source, later: []sandbox.Fault{f}, act: heals,
			sees: nothing, stage: authorized, holds: acmeGrant, codes: 1 + refreshes,
		}
	}
	lost := func(name string, f sandbox.Fault) attack {
		a := healed(name+"; the provider forgives for 30 s", rotation, f, 2)
		a.provider = forgives
		return a
	}
	gone := func(a attack) attack {
		a.sees, a.stage, a.holds, a.codes = nothing, "lapsed", "lapsed acct-acme", anyNumber
		return a
	}
	slow := healed("the token endpoint hangs", "ASVS V13.2.6", sandbox.TokenHang, 2)
	slow.app = impatient
	return []attack{
		{
			name: "refresh: eight keepers at once, rotation with reuse detection", source: rotation, act: func(t *testing.T, s *scene) page {
				t.Helper()
				due(t, s)
				together(slices.Repeat([]func(){func() { s.keeps(t) }}, 8)...)
				s.refreshed(t)
				return page{}
			},
			sees: nothing, stage: authorized, holds: acmeGrant, codes: 2,
		},
		{
			name: "refresh: every token once, for a year", source: rotation, act: func(t *testing.T, s *scene) page {
				t.Helper()
				due(t, s)
				for range 5 {
					s.keeps(t)
					s.clock.advance(91 * 24 * time.Hour)
				}
				s.keeps(t)
				s.refreshed(t)
				return page{}
			},
			sees: nothing, stage: authorized, holds: acmeGrant, codes: 1 + 6,
		},
		lost("the answer is lost", sandbox.TokenLost),
		lost("the answer breaks off", sandbox.TokenCut),
		lost("the answer has another content type", sandbox.TokenContentType),
		lost("the answer is not UTF-8", sandbox.TokenNotUTF8),
		lost("an access token with a line break", sandbox.TokenControlCharacters),
		gone(attack{
			name: "refresh: the answer is lost; the provider forgives nothing", source: rotation, act: func(t *testing.T, s *scene) page {
				t.Helper()
				due(t, s)
				s.witness(t)
				s.strike(t, sandbox.TokenLost)
				s.lapses(t)
				return page{}
			},
		}),
		gone(attack{
			name: "refresh: the owner took it back", source: "RFC 6749 5.2", act: func(t *testing.T, s *scene) page {
				t.Helper()
				due(t, s)
				s.witness(t)
				s.box.Revoke("acct-acme")
				s.lapses(t)
				return page{}
			},
		}),
		gone(attack{
			name: "refresh: the owner's later consent on another client's link has ended it", source: rotation, act: func(t *testing.T, s *scene) page {
				t.Helper()
				due(t, s)
				bloom := s.testBundle.link(t, bloomRef)
				s.sees(t, s.browser(t).walk(t, bloom, adaLogin, sandbox.Allow), conflict)
				s.witness(t)
				s.lapses(t)
				return page{}
			},
		}),
		{
			name: "refresh: `invalid_grant` for the loser of a race whose winner has stored", source: rotation,
			provider: func(o *sandbox.Options) { o.Switches.NoReuseDetection = true },
			act: func(t *testing.T, s *scene) page {
				t.Helper()
				due(t, s)
				loser := s.keeper()
				loser.Provider = stunned{s.provider, func() {
					if _, err := s.db.Exec(t.Context(), `UPDATE grants SET leased_until = clock_timestamp() WHERE lease_id IS NOT NULL`); err != nil {
						t.Error(err)
					}
					s.takesOver(t)
				}}
				if _, err := loser.Step(t.Context()); err != nil {
					t.Error(err)
				}
				s.refreshed(t)
				return page{}
			},
			sees: nothing, stage: authorized, holds: acmeGrant, codes: 1 + 2,
		},
		healed("`invalid_grant` for a good token", refusal, sandbox.TokenInvalidGrant, 2),
		healed("the app is refused", refusal, sandbox.TokenInvalidClient, 2),
		healed("the token endpoint answers 500", refusal, sandbox.Token500, 2),
		healed("the token endpoint answers 429", "RFC 6585 4", sandbox.Token429RetryAfter, 2),
		healed("a web page", answer, sandbox.TokenHTML, 2),
		healed("a redirect to another host", "RFC 9700 4.1, ASVS V15.3.2", sandbox.TokenRedirectAway, 2),
		healed("an answer without end", "ASVS V13.2.6", sandbox.TokenEndless, 2),
		slow,
		healed("scope shrunk", "RFC 6749 6", sandbox.TokenNarrowScope, 1),
		healed("scope with characters that no scope has", "RFC 6749 3.3", sandbox.TokenScopeOdd, 1),
		healed("user in characters that no database keeps", "RFC 6749 1.4", sandbox.TokenOddSubject, 1),
		healed("`expires_in` absent", answer, sandbox.TokenExpiresAbsent, 1),
		healed("`expires_in` negative", answer, sandbox.TokenExpiresNegative, 1),
		healed("`expires_in` enormous", answer, sandbox.TokenExpiresHuge, 1),
		healed("no new refresh token", "RFC 6749 6", sandbox.TokenNoRefreshToken, 1),
	}
}

// crowds are attacks by many, or on many at once.
func crowds() []attack {
	const cross, ownGrants = "RFC 9700 4.7, ASVS V10.1.2", "each client's own grant; the others in quarantine; both authorized"
	keepsAll := func(o *sandbox.Options) { o.Switches.KeepEarlierGrant = true } // else who of two at once is kept is the provider's secret
	return []attack{
		{
			name: "eight callbacks at once", source: "RFC 9700 2.1.1, RFC 6749 4.1.2",
			act: func(t *testing.T, s *scene) page {
				t.Helper()
				owner := s.browser(t)
				back := s.consents(t, owner, s.link, adaLogin)
				together(slices.Repeat([]func(){func() { s.sees(t, s.ends(t, owner, back), connected) }}, 8)...)
				return s.ends(t, owner, back)
			},
			sees: connected, stage: authorized, holds: acmeGrant, codes: 1,
		},
		{
			name: "owners of two clients consent on each other's links, in every order", source: cross, provider: keepsAll, act: crossed(orders(4), false),
			sees: "on the own link: " + connected + "; on the other's: " + conflict, kept: ownGrants, codes: 24 * 4,
		},
		{
			name: "the same, at once", source: cross, provider: keepsAll, act: crossed(orders(4)[:4], true),
			sees: "on the own link: " + connected + "; on the other's: " + conflict, kept: ownGrants, codes: 4 * 4,
		},
		{
			name: "the same, at once, no account known beforehand", source: cross, provider: keepsAll, roster: rosterWithoutIDs,
			act:  crossed(orders(4)[:4], true),
			sees: "on the own link: " + connected + "; on the other's: " + wrongAccount + ", or " + conflict, kept: ownGrants, codes: 4 * 4,
		},
		{
			name: "robots from 50 networks press every button", source: "RFC 9110 9.2.1", act: func(t *testing.T, s *scene) page {
				t.Helper()
				for range 50 {
					s.robot(t).prowl(t, s.link)
				}
				s.optedOut(t, acmeRef, "")
				return s.browser(t).get(t, s.link)
			},
			sees: "Connect Acme Bakery to " + agency, stage: started,
		},
		{
			name: "a robot from one network presses every button 50 times", source: "RFC 9110 9.2.1, ASVS V2.4.1", act: func(t *testing.T, s *scene) page {
				t.Helper()
				robot := s.robot(t)
				for range 50 {
					robot.prowl(t, s.link)
				}
				if robot.throttled == 0 {
					t.Error("nobody stops it")
				}
				if got := s.grants(t, acmeRef); got != "" {
					t.Errorf("there are grants %q", got)
				}
				return s.browser(t).get(t, s.link)
			},
			sees: "Connect Acme Bakery to " + agency, kept: "nothing; whatever it pressed before it was stopped",
		},
	}
}

// TestHostile plays every attack, and then lets the owner walk with the same link as if nothing had been. What
// it promises stands in README.md.
func TestHostile(t *testing.T) {
	t.Parallel()
	rows := attacks()
	const scenes = 3
	free := make(chan *scene, scenes)
	for range scenes {
		free <- newScene(t)
	}
	for _, a := range rows {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			s := <-free
			defer func() { free <- s }()
			s.play(t, a)
		})
	}
	readme(t, rows)
}

// TestHostileFaults checks that an attack plays every fault that the sandbox has, as its control page lists them.
func TestHostileFaults(t *testing.T) {
	t.Parallel()
	box, err := sandbox.New(sandbox.Options{BaseURL: "http://127.0.0.1", Control: true})
	if err != nil {
		t.Fatal(err)
	}
	control := httptest.NewRecorder()
	box.ServeHTTP(control, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/_sandbox/", http.NoBody))
	played := map[string]bool{}
	for _, a := range attacks() {
		for _, f := range slices.Concat(a.faults, a.later) {
			played[string(f)] = true
		}
	}
	inputs := find(page{name: "control page", body: control.Body.String()}.doc(t), tag("input"))
	if len(inputs) < 100 {
		t.Fatalf("%d fields on the control page", len(inputs))
	}
	for _, input := range inputs {
		if name, ok := strings.CutPrefix(attribute(input, "name"), "next."); ok && !played[name] {
			t.Errorf("no attack plays %s", name)
		}
	}
}

// readme compares the matrix of all attacks with that in README.md.
func readme(t *testing.T, rows []attack) {
	t.Helper()
	const path, begin, end = "../../../../README.md", "<!-- hostile:begin -->\n", "<!-- hostile:end -->"
	want := matrix(rows)
	t.Log("\n" + want)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, opened := strings.Cut(string(text), begin)
	got, after, closed := strings.Cut(rest, end)
	if !opened || !closed {
		t.Fatalf("README.md has no %s%s", begin, end)
	}
	if got == want {
		return
	}
	if !*update {
		t.Errorf("README.md tells otherwise; go test ./cmd/countersign/internal/web -run TestHostile -update puts it right (-README +suite):\n%s", cmp.Diff(got, want))
		return
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func matrix(rows []attack) string {
	var b strings.Builder
	b.WriteString("\n| what goes wrong | source | the owner sees | what is kept |\n|---|---|---|---|\n")
	for _, a := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", a.name, a.source, a.sees, a.result())
	}
	b.WriteString("\n")
	return b.String()
}

// result tells in words what is stored.
func (a attack) result() string {
	if a.kept != "" {
		return a.kept
	}
	where, why, _ := strings.Cut(a.stage, "/")
	if why != "" {
		where += ", `" + why + "`"
	}
	switch {
	case strings.HasPrefix(a.holds, "active"):
		return "the grant; " + where
	case a.holds != "":
		return "the grant, in quarantine; " + where
	}
	return "nothing; " + where
}
