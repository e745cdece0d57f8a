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

// allowToken spends one of an app's token requests, if one is left.
func (s *Sandbox) allowToken(client *app) bool {
	now := s.options.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.options.Unlimited || client.tokens.allow(now, tokensPerSecond) {
		return true
	}
	s.stats.Throttled++
	return false
}

// allowCall spends one of an app's API requests, over all accounts, and returns the
// provider's answer if none is left.
func (s *Sandbox) allowCall(client *app) *answer {
	now := s.options.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.APIRequests++
	var key, message string
	switch {
	case s.options.Unlimited:
		return nil
	case !client.calls.allow(now, callsPerSecond):
		key, message = "throttled", "Too Many Requests"
	case !client.day.allow(now, callsPerDay):
		key, message = "quota_exceeded", "Limit Exceeded"
	default:
		return nil
	}
	s.stats.Throttled++
	return apiTrouble(http.StatusTooManyRequests, key, message)
}
