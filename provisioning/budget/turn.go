package budget

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Turn is the leave to make one call. Whoever has it ends it, once, by Done or by Unused.
type Turn struct {
	meter *Meter
	slot  int16
	id    uuid.UUID
}

// Done says that the call was answered, or has failed. It works with a context that has ended. If it returns an error,
// the call is none the worse: the slot is free only when the call would count as dead, and the caller may log it.
func (t *Turn) Done(ctx context.Context) error {
	if t.meter.limits.PerSecond == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
	defer cancel()
	tag, err := t.meter.db.Exec(ctx, `
		UPDATE meter_slots
		SET
			turn_id = NULL,
			free_at = clock_timestamp() + make_interval(secs => $4)
		WHERE meter = $1 AND slot = $2 AND turn_id = $3`, t.meter.name, t.slot, t.id, apart.Seconds())
	return t.ended(tag.RowsAffected(), err)
}

// Unused says that the call never left: it is none of the day's. The slot is free a second later all the same, so
// that calls that cannot be sent are not tried faster than those that can. Otherwise it is like Done.
func (t *Turn) Unused(ctx context.Context) error { return t.giveBack(ctx, apart) }

// giveBack uncounts the call. Its slot is free when it would have been, and not before the time of rest is over.
func (t *Turn) giveBack(ctx context.Context, rest time.Duration) error {
	if t.meter.limits.PerSecond == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementTimeout)
	defer cancel()
	tag, err := t.meter.db.Exec(ctx, `
		WITH freed AS (
			UPDATE meter_slots
			SET
				turn_id = NULL,
				free_at = greatest(free_at - make_interval(secs => $4), clock_timestamp() + make_interval(secs => $5))
			WHERE meter = $1 AND slot = $2 AND turn_id = $3
			RETURNING meter
		)
		UPDATE meters m
		SET used = greatest(m.used - 1, 0)
		FROM freed f
		WHERE m.name = f.meter`, t.meter.name, t.slot, t.id, t.meter.limits.occupied().Seconds(), rest.Seconds())
	return t.ended(tag.RowsAffected(), err)
}

func (t *Turn) ended(rows int64, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("end the turn of a call: %w", err)
	case rows == 0:
		return fmt.Errorf("end the turn of a call: it took longer than %s, so that others may have had its slot meanwhile",
			lateness+t.meter.limits.CallTimeout)
	}
	return nil
}

// good reports whether the call may still be made: it is not too late for it, and nobody was told to hold
// meanwhile.
func (t *Turn) good(ctx context.Context) (bool, error) {
	var good bool
	err := t.meter.db.QueryRow(ctx, `
		SELECT
			s.free_at >= clock_timestamp() + make_interval(secs => $4)
			AND (m.hold_until IS NULL OR m.hold_until <= clock_timestamp())
		FROM meter_slots s
		JOIN meters m ON m.name = s.meter
		WHERE s.meter = $1 AND s.slot = $2 AND s.turn_id = $3`,
		t.meter.name, t.slot, t.id, (t.meter.limits.CallTimeout + apart).Seconds()).Scan(&good)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return good, err
}
