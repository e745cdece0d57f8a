package sandbox

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Ending says why a grant is no longer live.
type Ending string

const (
	// Live grants have not ended.
	Live Ending = ""
	// Superseded grants gave way to a later one of the same user to the same app.
	Superseded Ending = "superseded"
	// Reused grants ended, all tokens of theirs, when a spent refresh token came again.
	Reused Ending = "reused"
	// CodeReused grants ended when their authorization code came again.
	CodeReused Ending = "code_reused"
	// PartnerLogin grants were made through a partner login, which the provider
	// does not keep.
	PartnerLogin Ending = "partner_login"
	// Revoked grants were ended by [Sandbox.Revoke] or [Sandbox.RemoveUser].
	Revoked Ending = "revoked"
	// Expired grants were not refreshed for 180 days.
	Expired Ending = "expired"
)

// Grant is what the provider knows of one consent that became tokens.
type Grant struct {
	AccountID   string    `json:"account_id"`
	Login       string    `json:"login"`
	ClientID    string    `json:"client_id"`
	Scopes      []string  `json:"scopes"`
	Offline     bool      `json:"offline"` // has refresh tokens
	Partner     bool      `json:"partner"` // made through a partner login
	Ended       Ending    `json:"ended"`
	CreatedAt   time.Time `json:"created_at"`
	RefreshedAt time.Time `json:"refreshed_at"` // CreatedAt before the first refresh
	Refreshes   int       `json:"refreshes"`
}

// grant is one consent with the chain of refresh tokens that grew from it.
type grant struct {
	app       *app
	user      *user
	account   *Account
	scopes    []string
	partner   bool
	signedIn  time.Time
	created   time.Time
	touched   time.Time // created or last refreshed
	refreshes int
	newest    string // the refresh token that rotation left
	ended     Ending
	void      bool // access tokens are refused, too
}

// grantOwner has at most one live grant, by default.
type grantOwner struct {
	client string
	user   *user
}

func (g *grant) owner() grantOwner { return grantOwner{g.app.ClientID, g.user} }

func (g *grant) offline() bool { return slices.Contains(g.scopes, "offline_access") }

func (g *grant) idle(now time.Time) bool { return now.Sub(g.touched) > refreshIdle }

// code is an authorization code. Once it is spent its grant is the one it made.
type code struct {
	app         *app
	redirectURI string
	challenge   string
	expires     time.Time
	spent       bool
	grant       *grant
}

// refreshToken is one link of a grant's chain.
type refreshToken struct {
	grant *grant
	spent time.Time // when rotation replaced it; zero for the newest
}

// issued is what a successful token request leads to.
type issued struct {
	grant   *grant
	scopes  []string
	refresh string
}

// Grants lists every grant made so far, ended ones included, oldest first.
func (s *Sandbox) Grants() []Grant {
	now := s.options.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	grants := make([]Grant, len(s.grants))
	for i, g := range s.grants {
		ended := g.ended
		if ended == Live && g.idle(now) {
			ended = Expired
		}
		grants[i] = Grant{
			AccountID: g.account.ID, Login: g.user.Login, ClientID: g.app.ClientID,
			Scopes: slices.Clone(g.scopes), Offline: g.offline(), Partner: g.partner,
			Ended: ended, CreatedAt: g.created, RefreshedAt: g.touched, Refreshes: g.refreshes,
		}
	}
	return grants
}

// Revoke ends every live grant inside an account, as its owner or the provider's
// support may, and returns how many there were. Access tokens end as well.
func (s *Sandbox) Revoke(accountID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endWhere(func(g *grant) bool { return g.account.ID == accountID }, Revoked)
}

// endWhere ends the live grants that match. The caller holds the lock.
func (s *Sandbox) endWhere(match func(*grant) bool, why Ending) (n int) {
	for _, g := range s.grants {
		if g.ended == Live && match(g) {
			s.end(g, why)
			n++
		}
	}
	return n
}

// end revokes a grant with all its tokens. The caller holds the lock.
func (s *Sandbox) end(g *grant, why Ending) {
	g.ended, g.void = why, true
}

// issueCode keeps a code and returns its value.
func (s *Sandbox) issueCode(c *code) string {
	value, now := secret(), s.options.Now()
	c.expires = now.Add(s.options.Switches.CodeLifetime)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	s.stats.Allowed++
	s.codes[value] = c
	return value
}

// redeem turns an authorization code into a grant. The caller holds the lock.
func (s *Sandbox) redeem(client *app, value, redirectURI, verifier string, now time.Time) (issued, *answer) {
	c := s.codes[value]
	if c == nil || c.app != client || now.After(c.expires) {
		return issued{}, oauthError(http.StatusBadRequest, "invalid_grant", "The authorization code is invalid or has expired.")
	}
	if c.spent {
		s.end(c.grant, CodeReused)
		return issued{}, oauthError(http.StatusBadRequest, "invalid_grant", "The authorization code is invalid or has expired.")
	}
	if c.redirectURI != redirectURI {
		return issued{}, oauthError(http.StatusBadRequest, "invalid_grant",
			"The 'redirect_uri' does not match the redirection URI used in the authorization request.")
	}
	hash := sha256.Sum256([]byte(verifier))
	proof := base64.RawURLEncoding.EncodeToString(hash[:])
	if c.challenge != "" && proof != c.challenge || c.challenge == "" && verifier != "" {
		return issued{}, oauthError(http.StatusBadRequest, "invalid_grant", "PKCE verification of the authorization code failed.")
	}
	c.spent = true
	s.stats.Exchanges++

	g := c.grant
	g.created, g.touched = now, now
	g.scopes = s.distortScopes(g.scopes)
	if earlier := s.live[g.owner()]; earlier != nil && earlier.ended == Live && !s.options.Switches.KeepEarlierGrant {
		s.end(earlier, Superseded)
	}
	s.live[g.owner()] = g
	s.grants = append(s.grants, g)
	if g.partner && s.options.Switches.PartnerEndsAtOnce {
		s.end(g, PartnerLogin)
	}
	out := issued{grant: g, scopes: g.scopes}
	if g.offline() && !s.strikesLocked(TokenNoRefreshToken) {
		out.refresh = s.link(g)
	}
	return out, nil
}

// renew turns a refresh token into the next tokens. scope, when given, may only
// leave out some of the grant's scopes. The caller holds the lock.
func (s *Sandbox) renew(client *app, value, scope string, now time.Time) (issued, *answer) {
	refused := oauthError(http.StatusBadRequest, "invalid_grant", "The refresh token is invalid or expired.")
	token := s.refresh[value]
	if token == nil || token.grant.app != client || token.grant.ended != Live || token.grant.idle(now) {
		return issued{}, refused
	}
	g := token.grant
	grace := s.options.Switches.RotationGrace
	switch {
	case g.partner:
		g.ended = PartnerLogin // the access token lives out its day
		return issued{}, refused
	case !token.spent.IsZero() && (grace == 0 || now.Sub(token.spent) > grace):
		if !s.options.Switches.NoReuseDetection {
			s.end(g, Reused)
		}
		return issued{}, refused
	}
	scopes := g.scopes
	if scope != "" {
		scopes = strings.Fields(scope)
		if slices.ContainsFunc(scopes, func(name string) bool { return !slices.Contains(g.scopes, name) }) {
			return issued{}, oauthError(http.StatusBadRequest, "invalid_scope", "The scope exceeds what the resource owner granted.")
		}
	}
	g.touched = now
	g.refreshes++
	s.stats.Refreshes++
	out := issued{grant: g, scopes: s.distortScopes(scopes)}
	switch {
	case s.strikesLocked(TokenNoRefreshToken): // nor is the one in hand spent
	case client.LongLived:
		out.refresh = value
	default:
		if newest := s.refresh[g.newest]; newest.spent.IsZero() {
			newest.spent = now
		}
		out.refresh = s.link(g)
	}
	return out, nil
}

// link adds a refresh token to a grant's chain. The caller holds the lock.
func (s *Sandbox) link(g *grant) string {
	g.newest = secret()
	s.refresh[g.newest] = &refreshToken{grant: g}
	return g.newest
}
