package provisioning

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/roster"
)

// What is done to a batch of clients is done in the caller's transaction, which holds the roster (LockRoster), tells
// each client's history as the same action on one client does, and leaves the audit trail to the caller.

// Skips says of the clients of a batch that were left as they were why; all others were changed.
type Skips map[uuid.UUID]SkipReason

const (
	SkipGone      SkipReason = "gone"      // deleted meanwhile
	SkipUnchanged SkipReason = "unchanged" // it was so already
	SkipSince     SkipReason = "changed_since"
)

// LockRoster makes tx the only bulk change until it ends, so that no two wait crosswise. It comes before any client
// is locked.
func LockRoster(ctx context.Context, tx pgx.Tx) error { return lockRoster(ctx, tx) }

// FindAll returns the ids of clients that are named by id, "ref:…" or plain ref. It returns ErrNotFound, naming those
// that are unknown.
func (s *Store) FindAll(ctx context.Context, keys []string) ([]uuid.UUID, error) {
	return findAll(ctx, s.DB, keys)
}

// ClientsOf returns the clients with these ids that there are, in the order of the roster.
func (s *Store) ClientsOf(ctx context.Context, ids []uuid.UUID) ([]Client, error) {
	rows, err := s.DB.Query(ctx, `SELECT `+clientColumns+` FROM clients c WHERE c.id = ANY ($1) ORDER BY c.id`, ids)
	if err != nil {
		return nil, fmt.Errorf("read clients: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Client])
	if err != nil {
		return nil, fmt.Errorf("read clients: %w", err)
	}
	return found, nil
}

// PauseAll is SetPaused for a batch.
func PauseAll(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, paused bool, actor Actor) (Skips, error) {
	event := EventPaused
	if !paused {
		event = EventResumed
	}
	skips, turned, err := switchAll(ctx, tx, clients, `paused = $2`, `paused <> $2`, paused)
	if err != nil {
		return nil, fmt.Errorf("pause or resume clients: %w", err)
	}
	_, err = AdvanceAll(ctx, tx, turned, Change{Event: event, Actor: actor})
	return skips, err
}

// TagAll gives a tag to a batch, or takes it away. It returns a *FieldError of the field tag.
func TagAll(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, tag string, on bool, actor Actor) (Skips, error) {
	tag, err := ParseTag(tag)
	if err != nil {
		return nil, err
	}
	set, when := `tags = array_append(tags, $2::text)`, `NOT tags @> ARRAY[$2::text]`
	detail := Detail{"tag_added": tag}
	if !on {
		set, when = `tags = array_remove(tags, $2::text)`, `tags @> ARRAY[$2::text]`
		detail = Detail{"tag_removed": tag}
	}
	skips, changed, err := switchAll(ctx, tx, clients, set, when, tag)
	if err != nil {
		return nil, fmt.Errorf("tag clients: %w", err)
	}
	_, err = AdvanceAll(ctx, tx, changed, Change{Event: EventUpdated, Actor: actor, Detail: detail})
	return skips, err
}

// ParseTag reads a tag as a roster file may have it. It returns a *FieldError of the field tag.
func ParseTag(typed string) (string, error) {
	tags, err := roster.ParseTags([]string{typed})
	switch {
	case err != nil:
		return "", &FieldError{"tag", err.Error()}
	case len(tags) != 1:
		return "", &FieldError{"tag", "The tag is missing. Please write one word or a few."}
	}
	return tags[0], nil
}

// SetTag gives a tag to a client, or takes it away. Where it stands so already, nothing changes. It returns a
// *FieldError of the field tag, or ErrNotFound.
func SetTag(ctx context.Context, db DB, client uuid.UUID, tag string, on bool, actor Actor) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		skips, err := TagAll(ctx, tx, []uuid.UUID{client}, tag, on, actor)
		switch {
		case err != nil:
			return err
		case skips[client] == SkipGone:
			return fmt.Errorf("client %s: %w", client, ErrNotFound)
		case skips[client] != "":
			return nil
		}
		action := "client.tag"
		if !on {
			action = "client.untag"
		}
		return Audit(ctx, tx, actor, audit.Entry{Action: action, Object: AuditObject(client), After: audit.Fields{"tag": tag}})
	})
}

// switchAll sets a column of those clients where it stands otherwise, and returns them, and why the others were not.
func switchAll(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, set, when string, value any) (Skips, []uuid.UUID, error) {
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := tx.Query(ctx, `
		WITH before AS (
			SELECT
				id,
				`+when+` AS turns
			FROM clients
			WHERE id = ANY ($1)
			ORDER BY id
			FOR NO KEY UPDATE
		),
		after AS (
			UPDATE clients c
			SET
				`+set+`,
				updated_at = now()
			FROM before b
			WHERE c.id = b.id
				AND b.turns
		)
		SELECT
			id,
			turns
		FROM before`, clients, value)
	if err != nil {
		return nil, nil, err
	}
	skips := gone(clients)
	var turned []uuid.UUID
	var id uuid.UUID
	var turns bool
	_, err = pgx.ForEachRow(rows, []any{&id, &turns}, func() error {
		if delete(skips, id); turns {
			turned = append(turned, id)
		} else {
			skips[id] = SkipUnchanged
		}
		return nil
	})
	return skips, turned, err
}

// gone says of all clients that they are gone, until one is found.
func gone(clients []uuid.UUID) Skips {
	skips := make(Skips, len(clients))
	for _, id := range clients {
		skips[id] = SkipGone
	}
	return skips
}

// HoldAll locks those of a batch that there are until tx ends, and returns them, and the others.
func HoldAll(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) (held []uuid.UUID, skips Skips, err error) {
	rows, err := tx.Query(ctx, `SELECT id FROM clients WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE`, clients)
	if err != nil {
		return nil, nil, fmt.Errorf("lock clients: %w", err)
	}
	if held, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
		return nil, nil, fmt.Errorf("lock clients: %w", err)
	}
	skips = gone(clients)
	for _, id := range held {
		delete(skips, id)
	}
	return held, skips, nil
}

// DeleteAll is Store.Delete for a batch. Each of its clients has a line in the audit trail, since nothing else tells
// of it any more; the transaction waits for nothing after it.
func DeleteAll(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, actor Actor) (Skips, error) {
	if _, _, err := HoldAll(ctx, tx, clients); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, `DELETE FROM clients c WHERE id = ANY ($1) RETURNING `+clientColumns, clients)
	if err != nil {
		return nil, fmt.Errorf("delete clients: %w", err)
	}
	deleted, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Client])
	if err != nil {
		return nil, fmt.Errorf("delete clients: %w", err)
	}
	skips := gone(clients)
	for _, c := range deleted {
		delete(skips, c.ID)
		err := Audit(ctx, tx, actor, audit.Entry{Action: "client.delete", Object: AuditObject(c.ID), Before: c.facts()})
		if err != nil {
			return nil, err
		}
	}
	return skips, nil
}

// ChangeOwners is ChangeOwner for a batch, but for those that belong to this owner already. It returns whom the others
// belonged to.
func (i *Inviter) ChangeOwners(ctx context.Context, tx pgx.Tx, clients []uuid.UUID, to Owner, actor Actor) (Skips, map[uuid.UUID]Owner, error) {
	to, err := ParseOwner(to.Name, to.Email)
	if err != nil {
		return nil, nil, err
	}
	skips, owners, err := holdOwners(ctx, tx, clients)
	if err != nil {
		return nil, nil, err
	}
	for _, client := range slices.SortedFunc(maps.Keys(owners), compareIDs) {
		if owners[client] == to {
			skips[client] = SkipUnchanged
			delete(owners, client)
			continue
		}
		if _, err := i.changeOwner(ctx, tx, client, to, actor); err != nil {
			return nil, nil, err
		}
	}
	return skips, owners, nil
}

// RestoreOwners gives clients back to whom they belonged before. Nobody is mailed by that: links and waiting mails to
// the one between are void, and the client can be invited anew.
func (i *Inviter) RestoreOwners(ctx context.Context, tx pgx.Tx, before map[uuid.UUID]Owner, actor Actor) (Skips, error) {
	clients := slices.SortedFunc(maps.Keys(before), compareIDs)
	skips, _, err := holdOwners(ctx, tx, clients)
	if err != nil {
		return nil, err
	}
	for _, client := range clients {
		if _, ok := skips[client]; ok {
			continue
		}
		if _, err := i.setOwner(ctx, tx, client, before[client], actor); err != nil {
			return nil, err
		}
	}
	return skips, nil
}

func compareIDs(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }

// holdOwners locks clients and returns whom they belong to.
func holdOwners(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) (Skips, map[uuid.UUID]Owner, error) {
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := tx.Query(ctx, `SELECT id, owner_name, owner_email FROM clients WHERE id = ANY ($1) ORDER BY id FOR UPDATE`, clients)
	if err != nil {
		return nil, nil, fmt.Errorf("lock clients: %w", err)
	}
	skips, owners := gone(clients), make(map[uuid.UUID]Owner)
	var id uuid.UUID
	var o Owner
	_, err = pgx.ForEachRow(rows, []any{&id, &o.Name, &o.Email}, func() error {
		delete(skips, id)
		owners[id] = o
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("lock clients: %w", err)
	}
	return skips, owners, nil
}
