package sandbox

import (
	"net/http"
	"time"
)

const (
	tokensPerSecond = 1
	callsPerSecond  = 4
	callsPerDay     = 10_000
)

// window allows n events in any second. It remembers the last n.
type window struct {
	last []time.Time
}

func (w *window) allow(now time.Time, n int) bool {
	if len(w.last) == n {
		if now.Sub(w.last[0]) < time.Second {
			return false
		}
		w.last = w.last[1:]
	}
	w.last = append(w.last, now)
	return true
}

// quota allows n events a day; a day ends at 00:00 UTC.
type quota struct {
	day  time.Time
	used int
}

func (q *quota) allow(now time.Time, n int) bool {
	if day := now.UTC().Truncate(24 * time.Hour); !day.Equal(q.day) {
		*q = quota{day: day}
	}
	if q.used == n {
		return false
	}
	q.used++
	return true
}

// meter is what the rate limits remember of an app or a partner.
type meter struct {
	tokens window
	calls  window
	day    quota
}

// allowToken spends one token request, if one is left.
func (s *Sandbox) allowToken(spent *meter) bool {
	now := s.options.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Unlimited || spent.tokens.allow(now, tokensPerSecond) {
		return true
	}
	s.stats.Throttled++
	return false
}

// allowCall spends one API request, whatever the account, and returns the provider's
// answer if none is left.
func (s *Sandbox) allowCall(spent *meter) *answer {
	now := s.options.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.APIRequests++
	var key, message string
	switch {
	case s.options.Unlimited:
		return nil
	case !spent.calls.allow(now, callsPerSecond):
		key, message = "throttled", "Too Many Requests"
	case !spent.day.allow(now, callsPerDay):
		key, message = "quota_exceeded", "Limit Exceeded"
	default:
		return nil
	}
	s.stats.Throttled++
	return apiTrouble(http.StatusTooManyRequests, key, message)
}
