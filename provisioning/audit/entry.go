package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Entry is what somebody did.
type Entry struct {
	Actor  string // who, such as "operator ada@agency.example", "key app" or "command line"
	Action string // a word with a dot, such as "client.pause"
	Object string // what it was done to, such as "client 0198c0de-…"

	// Before and After are marshalled to JSON: what the change was about and nothing else, never a secret. Nil where
	// there is nothing to tell.
	Before, After any
}

// Fields are what a change was about, by name.
type Fields map[string]any

// Record adds an entry to the trail, in the transaction of the change. It is the last statement of that transaction:
// it holds the head of the chain until the commit, everybody else who records waits that long, and a transaction
// that waited for anything after it could wait for one of them. A transaction that is rolled back leaves no entry and
// no gap.
func Record(ctx context.Context, tx pgx.Tx, e Entry) error {
	err := doAlso(ctx, tx)
	if err == nil {
		err = record(ctx, tx, e)
	}
	if err != nil {
		return fmt.Errorf("record %s of %s in the audit trail: %w", e.Action, e.Object, err)
	}
	return nil
}

func record(ctx context.Context, tx pgx.Tx, e Entry) error {
	before, err := text(e.Before)
	if err != nil {
		return err
	}
	after, err := text(e.After)
	if err != nil {
		return err
	}
	var at time.Time
	var id int64
	var hash []byte
	// The clock is read once the row is held: times grow with the ids.
	err = tx.QueryRow(ctx, `
		WITH head AS (
			SELECT
				id,
				hash
			FROM audit_head
			FOR NO KEY UPDATE
		)
		SELECT
			id,
			hash,
			clock_timestamp()
		FROM head`).Scan(&id, &hash, &at)
	if errors.Is(err, pgx.ErrNoRows) {
		return errors.New("the row of audit_head is gone, without which nothing may be changed: restore it from a backup")
	}
	if err != nil {
		return err
	}
	l := link{id + 1, strconv.FormatInt(at.UnixMicro(), 10), e.Actor, e.Action, e.Object, before, after}
	next := l.hash(Hash(hash))
	_, err = tx.Exec(ctx, `
		WITH entry AS (
			INSERT INTO audit (id, version, at, actor, action, object, before, after, hash)
			VALUES ($1, $2, $3, $4, $5, $6, $7::text::json, $8::text::json, $9)
		)
		UPDATE audit_head
		SET
			id = $1,
			hash = $9`, l.id, version, at, l.actor, l.action, l.object, l.before, l.after, next[:])
	return err
}

// text is the JSON of v; nil if there is nothing to tell.
func text(v any) (*string, error) {
	raw, err := json.Marshal(v)
	if err != nil || string(raw) == "null" {
		return nil, err
	}
	s := string(raw)
	return &s, nil
}
