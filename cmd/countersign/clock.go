package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/provisioning"
)

const (
	clockPause   = time.Minute     // between two looks at the database's clock
	clockTimeout = 5 * time.Second // for one of them
)

// clock is the database's, which all replicas share: their own may differ by more than a walk may take.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// set reads the database's clock.
func (c *clock) set(ctx context.Context, db provisioning.DB) error {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	began := time.Now()
	var theirs time.Time
	if err := db.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&theirs); err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	c.ahead.Store(int64(theirs.Sub(began.Add(time.Since(began) / 2))))
	return nil
}

// follow sets the clock now and then until ctx ends.
func (c *clock) follow(ctx context.Context, db provisioning.DB, log *slog.Logger) error {
	ticker := time.NewTicker(clockPause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := c.set(ctx, db); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "the clock goes on by itself", "err", err)
		}
	}
}
