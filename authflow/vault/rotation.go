package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
)

const (
	batchSize = 500
	// maxRounds bounds how often a rotation tries to catch up with processes that seal with another key.
	maxRounds = 3
)

// Rotation seals everything anew under the vault's first key, while the service runs. It may be stopped at any
// point and run again, also several times at once: what is done shows in the database alone.
//
// A round goes once over every shelf, in batches, each in the order of its rows' ids. Then the canaries of
// the keys go that nothing is sealed with. A process that seals with one of them puts its canary back
// (Vault.Watch), so that after Settle it is known whether one does. If so, and if the database has got values
// under another key meanwhile, there is another round.
type Rotation struct {
	Actor   provisioning.Actor // who wants it
	DB      provisioning.DB
	Vault   *Vault
	Shelves []Shelf // that of secrets last: without the old key no process starts before all else is done
	Settle  time.Duration
	// Progress, if not nil, is told how many of the values that were found at the begin of a round were dealt with.
	Progress func(done, total int)
	Log      *slog.Logger
}

// Rotated is what a rotation came to.
type Rotated struct {
	Key       string   // that everything is sealed with now, but for what is left
	Resealed  int      // values
	Broken    int      // values that do not open, and stay as they are; the log names them
	Left      []KeyUse // keys of which something is left, or that another process seals with
	Removed   []string // keys that were removed from the key file: nothing is sealed with them
	Removable []string // keys that may be removed from COUNTERSIGN_VAULT_KEYS likewise
}

// Complete reports whether everything is sealed with one key and nobody seals with another.
func (r Rotated) Complete() bool { return r.Broken == 0 && len(r.Left) == 0 }

// KeyUse is what one key is used for.
type KeyUse struct {
	ID      string         `json:"id"`      // empty for values of which it cannot be told
	Primary bool           `json:"primary"` // this vault seals with it
	Present bool           `json:"present"` // this vault has it
	Canary  bool           `json:"canary"`  // a process seals with it, or did so before the last rotation
	Sealed  map[string]int `json:"sealed"`  // values by shelf
}

// Values returns how many values are sealed with the key.
func (u KeyUse) Values() (n int) {
	for _, values := range u.Sealed {
		n += values
	}
	return n
}

// Uses returns what every key is used for: those of the vault, in their order, and then those that it lacks.
// It counts all values.
func (v *Vault) Uses(ctx context.Context, db provisioning.DB, shelves []Shelf) ([]KeyUse, error) {
	byShelf := make(map[string]map[string]int) // by shelf and key
	for _, shelf := range shelves {
		counts, err := shelf.Keys(ctx, db)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", shelf.Name(), err)
		}
		byShelf[shelf.Name()] = counts
	}
	announced, err := canaries(ctx, db)
	if err != nil {
		return nil, err
	}
	present := v.KeyIDs()
	absent := slices.Clone(announced)
	for _, counts := range byShelf {
		absent = slices.AppendSeq(absent, maps.Keys(counts))
	}
	absent = slices.DeleteFunc(absent, func(id string) bool { return slices.Contains(present, id) })
	slices.Sort(absent)
	var uses []KeyUse
	for i, id := range slices.Concat(present, slices.Compact(absent)) {
		use := KeyUse{
			ID:      id,
			Primary: i == 0,
			Present: i < len(present),
			Canary:  slices.Contains(announced, id),
			Sealed:  make(map[string]int),
		}
		for shelf, counts := range byShelf {
			use.Sealed[shelf] = counts[id]
		}
		uses = append(uses, use)
	}
	return uses, nil
}

// Run rotates. Its error is one of the database or of the key file; whatever else is in the way, what is
// returned tells.
func (r *Rotation) Run(ctx context.Context) (Rotated, error) {
	var out Rotated
	var broken []error
	uses, err := r.Vault.Uses(ctx, r.DB, r.Shelves)
	if err == nil {
		err = r.audit(ctx, "vault.rotate", audit.Fields{"key": uses[0].ID})
	}
	// Even if nothing is left there is a round: canaries that a rotation removed and did not wait for may come back.
	for round := 0; err == nil && round < maxRounds && (left(uses) != nil || round == 0 && len(uses) > 1); round++ {
		var resealed int
		resealed, broken, err = r.round(ctx, uses)
		out.Resealed += resealed
		if err == nil {
			err = r.retire(ctx)
		}
		if err == nil {
			err = pause(ctx, r.Settle)
		}
		if err == nil {
			uses, err = r.Vault.Uses(ctx, r.DB, r.Shelves)
		}
		if onlyBroken(left(uses), len(broken)) {
			break
		}
	}
	if err != nil {
		return out, err
	}
	for _, err := range broken {
		r.Log.WarnContext(ctx, "a sealed value does not open", "error", err)
	}
	out.Key, out.Broken, out.Left = uses[0].ID, len(broken), left(uses)
	for _, use := range uses[1:] {
		if use.Present && !use.Canary && use.Values() == 0 {
			out.Removable = append(out.Removable, use.ID)
		}
	}
	if r.Vault.file != nil && out.Removable != nil {
		out.Removed, err = r.Vault.removeKeys(ctx, r.DB, out.Removable)
		out.Removable = nil
	}
	return out, errors.Join(err, r.audit(ctx, "vault.rotated", audit.Fields{
		"key": out.Key, "resealed": out.Resealed, "broken": out.Broken, "removed": out.Removed,
	}))
}

// audit records a rotation, which takes many transactions: that it begins, before it changes anything, and what it came
// to, unless it was interrupted.
func (r *Rotation) audit(ctx context.Context, action string, after audit.Fields) error {
	return pgx.BeginFunc(ctx, r.DB, func(tx pgx.Tx) error {
		return provisioning.Audit(ctx, tx, r.Actor, audit.Entry{Action: action, Object: "vault", After: after})
	})
}

// left returns the keys but the primary one that something is sealed with, or that a process may seal with.
func left(uses []KeyUse) (others []KeyUse) {
	for _, use := range uses {
		if !use.Primary && (use.Canary || use.Values() > 0) {
			others = append(others, use)
		}
	}
	return others
}

// onlyBroken tells whether no more is left than what another round would not open either.
func onlyBroken(others []KeyUse, broken int) bool {
	values := 0
	for _, use := range others {
		if use.Values() == 0 {
			return false // Its canary came back.
		}
		values += use.Values()
	}
	return values > 0 && values <= broken
}

// round goes once over every shelf.
func (r *Rotation) round(ctx context.Context, uses []KeyUse) (resealed int, broken []error, err error) {
	done, total := 0, 0
	for _, use := range left(uses) {
		total += use.Values()
	}
	for _, shelf := range r.Shelves {
		for after := ""; ; {
			b, err := shelf.Reseal(ctx, r.DB, r.Vault, after, batchSize)
			if err != nil {
				return resealed, broken, fmt.Errorf("seal the %s anew: %w", shelf.Name(), err)
			}
			if b.Last == "" {
				break
			}
			after = b.Last
			resealed += b.Resealed
			broken = append(broken, b.Broken...)
			done += b.Values
			if r.Progress != nil {
				r.Progress(min(done, total), total)
			}
		}
	}
	return resealed, broken, nil
}

// retire removes the canaries of the keys that nothing is sealed with, and sees to it that the primary one's is there.
func (r *Rotation) retire(ctx context.Context) error {
	return alone(ctx, r.DB, func(tx pgx.Tx) error {
		// A key file may have got another first key meanwhile.
		if err := r.Vault.follow(); err != nil {
			return err
		}
		if err := r.Vault.announce(ctx, tx); err != nil {
			return err
		}
		uses, err := r.Vault.Uses(ctx, tx, r.Shelves)
		if err != nil {
			return err
		}
		var names []string
		for _, use := range uses[1:] {
			if use.Present && use.Values() == 0 { // One that this vault lacks is newer.
				names = append(names, canaryPrefix+use.ID)
			}
		}
		if _, err := tx.Exec(ctx, `DELETE FROM secrets WHERE name = ANY($1)`, names); err != nil {
			return fmt.Errorf("remove the canaries of unused keys: %w", err)
		}
		return nil
	})
}

// pause waits, or returns the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
