package grant

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Obstacles are what stands in the way of keeping grants alive.
type Obstacles struct {
	FrozenAt   *time.Time // since when refusals are not believed, as too many came at once; nil if they are
	FrozenWhy  *string
	RefusedAt  *time.Time // since when the provider refuses our app; nil if it does not
	RefusedWhy *string
}

// Obstacles returns what stands in the way.
func (k *Keeper) Obstacles(ctx context.Context) (Obstacles, error) {
	var o Obstacles
	err := k.Store.DB.QueryRow(ctx, `
		SELECT
			frozen_at,
			frozen_why,
			refused_at,
			refused_why
		FROM keeping`).Scan(&o.FrozenAt, &o.FrozenWhy, &o.RefusedAt, &o.RefusedWhy)
	if err != nil {
		return Obstacles{}, fmt.Errorf("read what keeps grants from being refreshed: %w", err)
	}
	return o, nil
}

// Overview is how keeping grants alive goes, for the console.
type Overview struct {
	Obstacles

	Due        int // grants that wait to be refreshed, at most MostCounted
	Doubted    int // grants that the provider refuses to refresh and that are tried again, at most MostCounted
	Quarantine int // grants that wait for an operator, at most MostCounted
	NextAt     *time.Time
	Day        map[Outcome]int // attempts that ended in the last 24 hours
}

// MostCounted is where an Overview stops counting: it costs the same with any roster.
const MostCounted = 10_000

// Overview returns how keeping goes. Its cost grows with the attempts of a day, not with the grants.
func (k *Keeper) Overview(ctx context.Context) (Overview, error) {
	obstacles, err := k.Obstacles(ctx)
	if err != nil {
		return Overview{}, err
	}
	o := Overview{Obstacles: obstacles}
	err = k.Store.DB.QueryRow(ctx, `
		WITH clock AS (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now)
		SELECT
			(SELECT count(*) FROM (
				SELECT
				FROM grants
				WHERE app = $3
					AND refresh_at <= (SELECT now FROM clock)
					AND lease_id IS NULL
				ORDER BY refresh_at
				LIMIT $2
			) x),
			(SELECT count(*) FROM (SELECT FROM grants WHERE refused_at IS NOT NULL AND status = 'active' LIMIT $2) x),
			(SELECT count(*) FROM (SELECT FROM grants WHERE status = 'quarantined' LIMIT $2) x),
			(SELECT min(refresh_at) FROM grants WHERE app = $3 AND refresh_at IS NOT NULL AND lease_id IS NULL)`,
		k.now(), MostCounted, k.Store.App,
	).Scan(&o.Due, &o.Doubted, &o.Quarantine, &o.NextAt)
	if err != nil {
		return Overview{}, fmt.Errorf("read how grants are kept: %w", err)
	}
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := k.Store.DB.Query(ctx, `
		SELECT
			outcome,
			count(*)
		FROM refreshes
		WHERE ended_at > (SELECT coalesce($1::timestamptz, clock_timestamp()) - interval '24 hours')
		GROUP BY outcome`, k.now())
	if err != nil {
		return Overview{}, fmt.Errorf("read how grants are kept: %w", err)
	}
	o.Day = make(map[Outcome]int)
	var outcome Outcome
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&outcome, &n}, func() error {
		o.Day[outcome] = n
		return nil
	}); err != nil {
		return Overview{}, fmt.Errorf("read how grants are kept: %w", err)
	}
	return o, nil
}

// Doubtful is a grant that the provider refuses to refresh.
type Doubtful struct {
	Grant      uuid.UUID
	ClientID   uuid.UUID
	ClientName string
	Since      time.Time
	Refusals   int
	NextAt     *time.Time
	Proven     bool // it was refreshed before
}

// Doubtful returns the grants that the provider refuses to refresh, longest first, at most limit.
func (k *Keeper) Doubtful(ctx context.Context, limit int) ([]Doubtful, error) {
	rows, err := k.Store.DB.Query(ctx, `
		SELECT
			g.id,
			g.client_id,
			c.name,
			g.refused_at,
			g.refusals,
			g.refresh_at,
			g.proven_at IS NOT NULL
		FROM grants g
		JOIN clients c ON c.id = g.client_id
		WHERE g.refused_at IS NOT NULL
			AND g.status = 'active'
		ORDER BY g.refused_at
		LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("read doubtful grants: %w", err)
	}
	doubtful, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Doubtful])
	if err != nil {
		return nil, fmt.Errorf("read doubtful grants: %w", err)
	}
	return doubtful, nil
}
