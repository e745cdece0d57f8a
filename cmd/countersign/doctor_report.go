package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/cmd/countersign/internal/web"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/queue"
	"github.com/countersign/countersign/templates"
)

const (
	// jobDoctor is the kind of the jobs of doctorReports.
	jobDoctor queue.Kind = "doctor"
	// doctorLimit is enough for all checks, the wait for mails included.
	doctorLimit = 10 * time.Minute
	// plusWait is how long a service waits for the mails that try plus addresses.
	plusWait = 2 * time.Minute
	// doctorSilence is longer than any check takes: whoever was silent for so long has died.
	doctorSilence = plusWait + 3*doctorPatience
)

// doctorReports let operators ask the doctor in the console. A job of whichever replica examines, one at a time, and what
// it finds is in the database as soon as it is found.
type doctorReports struct{ *app }

// Start implements web.Doctor.
func (d doctorReports) Start(ctx context.Context, plus bool, actor provisioning.Actor) error {
	id := uuid.New()
	err := pgx.BeginFunc(ctx, d.db.Pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			INSERT INTO doctor_reports AS r (id, actor, plus)
			VALUES ($1, $2, $3)
			ON CONFLICT (single) DO UPDATE
			SET
				id = excluded.id,
				actor = excluded.actor,
				plus = excluded.plus,
				at = excluded.at,
				seen_at = excluded.seen_at,
				ended_at = NULL,
				checks = excluded.checks
			WHERE r.ended_at IS NOT NULL
				OR r.seen_at < now() - $4::interval`, id, actor, plus, doctorSilence)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return d.jobs.Put(ctx, tx, queue.Job{Kind: jobDoctor, Row: id})
	})
	if err != nil {
		return fmt.Errorf("ask the doctor: %w", err)
	}
	return nil
}

// Report implements web.Doctor.
func (d doctorReports) Report(ctx context.Context) (r web.DoctorReport, err error) {
	var checks []check
	err = d.db.Pool.QueryRow(ctx, `
		SELECT
			actor,
			plus,
			at,
			ended_at,
			ended_at IS NULL AND seen_at < now() - $1::interval,
			checks
		FROM doctor_reports`, doctorSilence).Scan(&r.Actor, &r.Plus, &r.At, &r.EndedAt, &r.Lost, &checks)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, fmt.Errorf("the doctor's report: %w", provisioning.ErrNotFound)
	}
	if err != nil {
		return r, fmt.Errorf("read the doctor's report: %w", err)
	}
	for _, c := range checks {
		r.Checks = append(r.Checks, templates.Check{Name: c.Name, Status: string(c.Status), Found: c.Found, Cure: c.Cure})
	}
	return r, nil
}

// work does a job of jobDoctor.
func (d doctorReports) work(ctx context.Context, job queue.Running) error {
	examiner := &doctor{
		running: d.app, log: d.log, wait: plusWait,
		waiting: func(string, time.Duration) (end func()) { return func() {} },
	}
	err := d.db.Pool.QueryRow(ctx, `SELECT plus FROM doctor_reports WHERE id = $1`, job.Row).Scan(&examiner.plus)
	if errors.Is(err, pgx.ErrNoRows) { // Another one has begun since.
		return nil
	}
	if err == nil {
		err = d.examine(ctx, job.Row, examiner)
	}
	if ctx.Err() != nil {
		return queue.Later(0) // The process ends, not the job.
	}
	return err
}

func (d doctorReports) examine(ctx context.Context, id uuid.UUID, examiner *doctor) error {
	checks := []check{}
	for c := range examiner.examine(ctx) {
		checks = append(checks, c)
		if err := d.keep(ctx, id, checks, false); err != nil {
			return err
		}
	}
	return d.keep(ctx, id, checks, true)
}

func (d doctorReports) keep(ctx context.Context, id uuid.UUID, checks []check, ended bool) error {
	_, err := d.db.Pool.Exec(ctx, `
		UPDATE doctor_reports
		SET
			checks = $2,
			seen_at = now(),
			ended_at = CASE WHEN $3 THEN now() END
		WHERE id = $1`, id, checks, ended)
	if err != nil {
		return fmt.Errorf("keep the doctor's report: %w", err)
	}
	return nil
}
