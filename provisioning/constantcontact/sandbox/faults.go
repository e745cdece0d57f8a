package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
)

// Rate says how often a fault strikes: the next so many times that it could, and
// after that with a probability from 0 to 1.
type Rate struct {
	Next        int     `json:"next"`
	Probability float64 `json:"probability"`
}

// Faults are the faults that are switched on.
type Faults map[Fault]Rate

// SetFaults replaces the faults that are switched on. It changes nothing if a name
// or a rate is not valid.
func (s *Sandbox) SetFaults(faults Faults) error {
	known := map[Fault]bool{}
	for _, f := range s.faults {
		known[f.name] = true
	}
	var errs []error
	for name, rate := range faults {
		if !known[name] {
			errs = append(errs, fmt.Errorf("fault %q does not exist", name))
		}
		if rate.Next < 0 || !(rate.Probability >= 0 && rate.Probability <= 1) {
			errs = append(errs, fmt.Errorf("fault %q: next must not be negative, probability lie between 0 and 1", name))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = Faults{}
	maps.Copy(s.active, faults)
	return nil
}

// Faults returns what is left of the faults that are switched on.
func (s *Sandbox) Faults() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.active)
}

// strikes says whether a fault happens now, and counts that it did.
func (s *Sandbox) strikes(name Fault) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.strikesLocked(name)
}

// strikesLocked is strikes for a caller that holds the lock.
func (s *Sandbox) strikesLocked(name Fault) bool {
	rate, on := s.active[name]
	switch {
	case !on:
		return false
	case rate.Next > 0:
		rate.Next--
		if s.active[name] = rate; rate == (Rate{}) {
			delete(s.active, name)
		}
	case rand.Float64() >= rate.Probability: //nolint:gosec // bad luck needs no secrecy
		return false
	}
	s.stats.Faults[name]++
	return true
}

// instead returns the answer of a fault that replaces an endpoint's own, or nil.
func (s *Sandbox) instead(at door, r *http.Request) *answer {
	for _, f := range s.faults {
		if f.door == at && s.strikes(f.name) {
			return f.reply(r)
		}
	}
	return nil
}

// distortLanding puts the faults that spoil the way back to the app upon it.
func (s *Sandbox) distortLanding(landing url.Values) {
	for _, f := range s.faults {
		if f.landing != nil && s.strikes(f.name) {
			f.landing(landing)
		}
	}
}

// distortClaims puts the faults that spoil an access token upon what it says.
func (s *Sandbox) distortClaims(c *claims) {
	for _, f := range s.faults {
		if f.claims != nil && s.strikes(f.name) {
			f.claims(c)
		}
	}
}

// distort puts the faults that spoil a good token reply upon it, and upon its way.
func (s *Sandbox) distort(r *http.Request, reply *tokenReply) *answer {
	out := &answer{status: http.StatusOK, body: reply}
	for _, f := range s.faults {
		if f.distort != nil && s.strikes(f.name) {
			f.distort(reply)
		}
	}
	for _, f := range s.faults {
		if f.wire != nil && s.strikes(f.name) {
			f.wire(r, out)
		}
	}
	return out
}

// distortSummary puts the faults that spoil the summary of an account upon it.
func (s *Sandbox) distortSummary(account *Account) {
	for _, f := range s.faults {
		if f.summary != nil && s.strikes(f.name) {
			f.summary(account)
		}
	}
}

// distortScopes narrows or widens what is granted. The caller holds the lock.
func (s *Sandbox) distortScopes(scopes []string) []string {
	if s.strikesLocked(TokenNarrowScope) {
		for i, scope := range scopes {
			if scope != "account_read" && scope != "offline_access" {
				scopes = slices.Delete(slices.Clone(scopes), i, i+1)
				break
			}
		}
	}
	if s.strikesLocked(TokenWideScope) {
		scopes = append(slices.Clone(scopes), "account_update")
	}
	return scopes
}
