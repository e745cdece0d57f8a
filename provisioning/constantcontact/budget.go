package constantcontact

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/provisioning"
)

// Budget keeps calls within what the provider allows. Several clients may share one.
type Budget interface {
	// Take waits until a call may be sent, which has to be done at once; the call is over when done is called.
	// A call that was not sent is given back. The wait ends with an error if ctx does, or if there will be no turn
	// for a while; such an error may have a method RetryAfter() time.Duration.
	Take(ctx context.Context) (done func(sent bool), err error)
	// Throttled says that the provider has had too many calls at once. It may have asked for a wait.
	Throttled(ctx context.Context, wait time.Duration)
	// QuotaExceeded says that the provider has had too many calls today.
	QuotaExceeded(ctx context.Context)
}

// unlimited is the budget of a client that has none.
type unlimited struct{}

func (unlimited) Take(ctx context.Context) (func(bool), error) {
	return func(bool) {}, context.Cause(ctx)
}
func (unlimited) Throttled(context.Context, time.Duration) {}
func (unlimited) QuotaExceeded(context.Context)            {}

// noTurn is an error of the budget: nothing was sent. Whoever tries again has waited for the budget already.
type noTurn struct{ error }

func (e noTurn) Unwrap() error { return e.error }

// tell passes on to the budget that a call was one too many. A 429 in a form that is not known is about the second,
// which is the cheaper mistake.
func tell(ctx context.Context, budget Budget, refusal *provisioning.ProviderError) {
	switch {
	case refusal.Status != http.StatusTooManyRequests:
	case refusal.Code == quotaExceeded:
		budget.QuotaExceeded(ctx)
	default:
		budget.Throttled(ctx, refusal.RetryAfter)
	}
}

// postmark notes how far a request came.
type postmark struct {
	begun atomic.Bool // a connection was asked for
	sent  atomic.Bool // its head was written, as far as the connection tells
}

func (p *postmark) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { p.begun.Store(true) },
		WroteHeaders: func() { p.sent.Store(true) },
	})
}

// mayHaveArrived reports whether the provider may have got the request. Only a connection that was asked for, and
// to which nothing was written, is proof that it has not.
func (p *postmark) mayHaveArrived() bool { return p.sent.Load() || !p.begun.Load() }
