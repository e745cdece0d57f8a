package budget

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Share is a meter as those of one priority use it. What goes wrong after a call goes to the log: the call itself is
// none the worse.
type Share struct {
	Meter    *Meter
	Priority Priority
	Patience time.Duration // how long a turn is waited for at most; 0 for as long as the context lives
	Log      *slog.Logger
}

// Take waits for a turn like [Meter.Take]. The caller says when the call is over, and whether it was sent.
func (s Share) Take(ctx context.Context) (done func(sent bool), err error) {
	wait := ctx
	if s.Patience > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeoutCause(ctx, s.Patience,
			fmt.Errorf("there was none within %s, as many calls are waiting: try again in a moment", s.Patience))
		defer cancel()
	}
	turn, err := s.Meter.Take(wait, s.Priority)
	if err != nil {
		return nil, err
	}
	return func(sent bool) {
		end := turn.Done
		if !sent {
			end = turn.Unused
		}
		s.tell(ctx, end(ctx))
	}, nil
}

// Throttled is [Meter.Throttled].
func (s Share) Throttled(ctx context.Context, after time.Duration) {
	s.tell(ctx, s.Meter.Throttled(ctx, after))
}

// QuotaExceeded is [Meter.QuotaExceeded].
func (s Share) QuotaExceeded(ctx context.Context) { s.tell(ctx, s.Meter.QuotaExceeded(ctx)) }

func (s Share) tell(ctx context.Context, err error) {
	if err != nil {
		s.Log.WarnContext(ctx, "budget", "error", err)
	}
}
