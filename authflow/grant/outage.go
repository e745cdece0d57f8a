package grant

import (
	"context"
	"fmt"
)

// misses is how many attempts in a row may fail before a Keeper takes its time between two.
const misses = 5

// Trouble tells whether this Keeper has only failed of late. What is wrong then is not one grant.
func (k *Keeper) Trouble() bool { return k.missed.Load() >= misses }

// frozen tells whether so many grants are refused at once that none of it is believed. It freezes by what the last
// hour's answers were, and thaws when the grants that are still refused are few, beside those refreshed since.
func (k *Keeper) frozen(ctx context.Context) (bool, error) {
	var refused, answered int
	var was, is bool
	// One statement decides, so that of several processes one tells.
	err := k.Store.DB.QueryRow(ctx, `
		WITH clock AS (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
		answers AS (
			SELECT
				count(DISTINCT grant_id) FILTER (WHERE outcome = 'refused') AS refused,
				count(DISTINCT grant_id) AS answered
			FROM refreshes
			WHERE ended_at > (SELECT now FROM clock) - interval '1 hour'
				AND outcome IN ('refreshed', 'refused')
		),
		before AS (
			SELECT frozen_at
			FROM keeping
			FOR UPDATE
		),
		doubted AS (
			SELECT count(*) AS refused
			FROM grants
			WHERE refused_at IS NOT NULL
				AND status = 'active'
		),
		since AS (
			SELECT
				-- No more of them than it takes to thaw.
				(SELECT count(*) FROM (
					SELECT
					FROM refreshes
					WHERE ended_at > (SELECT frozen_at FROM before)
						AND outcome = 'refreshed'
					ORDER BY ended_at
					LIMIT (SELECT ceil(refused / $3::float8)::bigint + 1 FROM doubted)
				) enough) AS refreshed,
				refused
			FROM doubted
		),
		verdict AS (
			SELECT
				a.refused,
				a.answered,
				b.frozen_at,
				a.refused >= $2 AND a.refused >= $3::float8 * a.answered
					OR b.frozen_at IS NOT NULL AND (
						s.refreshed = 0
						OR s.refused >= $2 AND s.refused >= $3::float8 * (s.refused + s.refreshed)
					) AS frozen
			FROM answers a, before b, since s
		),
		changed AS (
			UPDATE keeping
			SET
				frozen_at = CASE WHEN v.frozen THEN clock.now END,
				frozen_why = CASE WHEN v.frozen THEN
					format('the provider refused to refresh %s of %s grants within an hour', v.refused, v.answered)
				END
			FROM verdict v, clock
			WHERE (v.frozen_at IS NULL) = v.frozen
		)
		SELECT
			refused,
			answered,
			frozen_at IS NOT NULL,
			frozen
		FROM verdict`, k.now(), waveLeast, waveShare).Scan(&refused, &answered, &was, &is)
	switch {
	case err != nil:
		return false, fmt.Errorf("look for a wave of refusals: %w", err)
	case is && !was:
		k.Log.WarnContext(ctx, "the provider refuses to refresh many grants at once, which looks like an outage: until it is over, no client is taken for lapsed that has not been refused for a week",
			"refused", refused, "of", answered)
	case was && !is:
		k.Log.InfoContext(ctx, "the provider refreshes grants again: refusals are believed as before", "refused", refused, "of", answered)
	}
	return is, nil
}

// appRefused notes that the provider refuses our app itself. The log is told once, until it works again.
func (k *Keeper) appRefused(ctx context.Context, answer error) error {
	tag, err := k.Store.DB.Exec(ctx, `
		UPDATE keeping
		SET
			refused_at = coalesce($2::timestamptz, clock_timestamp()),
			refused_why = $1
		WHERE refused_at IS NULL`, clip(answer.Error()), k.now())
	if err != nil {
		return fmt.Errorf("note that the app is refused: %w", err)
	}
	if tag.RowsAffected() > 0 {
		k.Log.ErrorContext(ctx, "the provider refuses this app: no grant can be refreshed until COUNTERSIGN_OAUTH_CLIENT_ID and COUNTERSIGN_OAUTH_CLIENT_SECRET are right",
			"err", answer)
	}
	return nil
}

// healed follows a refresh that worked: the app is right, and an outage may be over.
func (k *Keeper) healed(ctx context.Context) error {
	var frozen bool
	err := k.Store.DB.QueryRow(ctx, `
		WITH healed AS (
			UPDATE keeping
			SET
				refused_at = NULL,
				refused_why = NULL
			WHERE refused_at IS NOT NULL
		)
		SELECT frozen_at IS NOT NULL
		FROM keeping`).Scan(&frozen)
	if err != nil {
		return fmt.Errorf("note that refreshing works: %w", err)
	}
	if frozen {
		_, err = k.frozen(ctx)
	}
	return err
}
