package admin

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ErrThrottled is matched by every *ThrottledError.
var ErrThrottled = errors.New("there were too many attempts")

// ThrottledError tells when to try again.
type ThrottledError struct {
	RetryAfter time.Duration
}

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("%v: try again in %d seconds", ErrThrottled, int(math.Ceil(e.RetryAfter.Seconds())))
}

// Is reports that this is ErrThrottled.
func (e *ThrottledError) Is(target error) bool { return target == ErrThrottled }

// admit counts an attempt to sign in. An address that has none left does not use up an e-mail's. A
// success makes up for the e-mail's attempts and not for the address's: whoever has one account could
// otherwise guess at the others without end.
func (s *Store) admit(email string, from netip.Addr) error {
	now := s.Now()
	wait := s.byAddress.take(addressKey(from), now)
	if wait == 0 {
		wait = s.byEmail.take(emailKey(email), now)
	}
	if wait > 0 {
		return &ThrottledError{RetryAfter: wait}
	}
	return nil
}

// addressKey takes a /64 of IPv6 addresses for one: every household and every rented server has one.
func addressKey(from netip.Addr) string {
	if from = from.Unmap(); from.Is4() {
		return from.String()
	}
	return netip.PrefixFrom(from.WithZone(""), 64).Masked().String()
}

// emailKey bounds the length as well: longer ones share a limit.
func emailKey(email string) string {
	email = strings.ToLower(strings.TrimSpace(email))
	return email[:min(len(email), 256)]
}

// throttle limits how often something happens for each of many keys: a burst, then once an interval.
type throttle struct {
	burst    int
	interval time.Duration

	mu         sync.Mutex
	young, old map[string]*rate.Limiter
}

// generation bounds the memory of a throttle: after so many keys those not used since the last such
// change are forgotten.
const generation = 10_000

func newThrottle(burst int, interval time.Duration) *throttle {
	return &throttle{burst: burst, interval: interval, young: make(map[string]*rate.Limiter)}
}

// take counts one event, or returns how long to wait and counts nothing.
func (t *throttle) take(key string, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	limiter := cmp.Or(t.young[key], t.old[key])
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Every(t.interval), t.burst)
	}
	if len(t.young) >= generation {
		t.young, t.old = make(map[string]*rate.Limiter), t.young
	}
	t.young[key] = limiter
	r := limiter.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// forget gives a key all its attempts back.
func (t *throttle) forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.young, key)
	delete(t.old, key)
}
