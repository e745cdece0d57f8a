package web

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// What one key may ask. A program that walks through a roster of 100,000 by pages is never held up, and one that
// changes each client takes half an hour; one that has run wild leaves most of a small database to owners.
const (
	callsPerSecond = 50
	callsAtOnce    = 500
)

// keyLimits counts what each key asks. Like doors it is kept in memory: n replicas let a key ask n times as much.
type keyLimits struct {
	mu   sync.Mutex
	keys map[uuid.UUID]*rate.Limiter // only of keys that are ours, so there are few
}

func newKeyLimits() *keyLimits { return &keyLimits{keys: make(map[uuid.UUID]*rate.Limiter)} }

// take counts a request and tells whether it may go on. The answer says what is left, in the headers of
// draft-ietf-httpapi-ratelimit-headers, and how long to wait if nothing is.
func (l *keyLimits) take(ctx huma.Context, key uuid.UUID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, ok := l.keys[key]
	if !ok {
		limiter = rate.NewLimiter(callsPerSecond, callsAtOnce)
		l.keys[key] = limiter
	}
	allowed := limiter.AllowN(now, 1)
	left := max(limiter.TokensAt(now), 0)
	ctx.SetHeader("RateLimit-Policy", fmt.Sprintf(`"key";q=%d;w=%d`, callsAtOnce, callsAtOnce/callsPerSecond))
	ctx.SetHeader("RateLimit", fmt.Sprintf(`"key";r=%d;t=%.0f`, int(left), math.Ceil((callsAtOnce-left)/callsPerSecond)))
	if !allowed {
		ctx.SetHeader("Retry-After", strconv.Itoa(1)) // in which many requests become free
	}
	return allowed
}
