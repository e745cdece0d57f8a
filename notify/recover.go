package notify

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// acceptance is a message that a mail server has accepted.
type acceptance struct {
	message uuid.UUID
	noted   chan<- struct{}
}

// note returns when it is noted that a message was accepted, or could not be.
func (s *shift) note(message uuid.UUID) {
	noted := make(chan struct{})
	s.accepted <- acceptance{message, noted}
	<-noted
}

// noteAll notes acceptances, as many at a time as came while the ones before them were noted.
func (s *shift) noteAll(ctx context.Context) {
	for first := range s.accepted {
		batch := []acceptance{first}
		for more := true; more; {
			select {
			case a, open := <-s.accepted:
				if more = open; open {
					batch = append(batch, a)
				}
			default:
				more = false
			}
		}
		ids := make([]uuid.UUID, len(batch))
		for i, a := range batch {
			ids[i] = a.message
		}
		// Its commit does not wait for the disk: it is to outlive this process, not the database. If it fails,
		// settling will tell.
		timeout, cancel := context.WithTimeout(ctx, settlePause)
		_, err := s.DB.Exec(timeout, `
			UPDATE messages
			SET accepted = true
			WHERE id = ANY ($1)
				AND sender_id = $2
				AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL`, ids, s.id)
		cancel()
		if err != nil {
			s.Log.DebugContext(ctx, "acceptances could not be noted before they are settled", "messages", len(ids), "err", err)
		}
		for _, a := range batch {
			close(a.noted)
		}
	}
}

// recoverAll looks after the other senders until ctx ends. It has a goroutine of its own, because it may have to
// wait for somebody who holds a client.
func (s *shift) recoverAll(ctx context.Context) {
	ticker := time.NewTicker(min(beat, s.patience/5))
	defer ticker.Stop()
	// When the database was away, all were silent. They sign again at once, and must not replace each other before.
	const steadily = 2
	for present := 0; ; {
		if present++; !s.present() {
			present = 0
		}
		if present >= steadily {
			if err := s.recover(ctx); err != nil && ctx.Err() == nil {
				s.Log.WarnContext(ctx, "what became of the mails of senders that fell silent could not be noted yet", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// recover settles what senders that fell silent have left behind. What is known to be accepted was sent.
// Of the others nobody knows: they are sent again after a pause, and counted.
func (s *shift) recover(ctx context.Context) error {
	rows, err := s.DB.Query(ctx, `
		SELECT id
		FROM mail_senders
		WHERE seen_at < clock_timestamp() - make_interval(secs => $1)
			AND id <> $2`, s.patience.Seconds(), s.id)
	if err != nil {
		return err
	}
	silent, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return err
	}
	for _, sender := range silent {
		if err := s.replace(ctx, sender); err != nil {
			return err
		}
	}
	return nil
}

// replace takes the place of a sender that fell silent, unless another one does.
func (s *shift) replace(ctx context.Context, sender uuid.UUID) error {
	tx, err := s.DB.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	tag, err := tx.Exec(ctx, `
		SELECT FROM mail_senders
		WHERE id = $1
			AND seen_at < clock_timestamp() - make_interval(secs => $2)
		FOR UPDATE SKIP LOCKED`, sender, s.patience.Seconds())
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	// Whoever holds a client for long, as an import does, is not waited for: the next look is soon. Clients are
	// locked before their messages, as everybody does it.
	if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '500ms'`); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		SELECT
		FROM clients
		WHERE id IN (
			SELECT client_id
			FROM messages
			WHERE ended_at IS NULL
				AND sender_id = $1
		)
		ORDER BY id
		FOR NO KEY UPDATE`, sender)
	if err != nil {
		return err
	}
	inherited, err := s.inherit(ctx, tx, sender)
	if err != nil {
		return err
	}
	repeated, err := s.giveUp(ctx, tx, sender)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM mail_senders WHERE id = $1`, sender); err != nil {
		return err
	}
	err = tx.Commit(ctx)
	// Even if the commit failed, these were accepted.
	s.claimed.Add(int64(len(inherited)))
	for _, m := range inherited {
		s.verdicts <- verdict{message: m, state: StateSent, results: []Result{ResultAccepted}}
	}
	if err != nil {
		return err
	}
	if len(inherited) > 0 {
		s.Log.InfoContext(ctx, "a sender of mail fell silent: what it had sent is recorded", "messages", len(inherited))
	}
	if repeated > 0 {
		s.Log.WarnContext(ctx, "a sender of mail fell silent: what it had begun to send is sent again", "messages", repeated)
	}
	for range repeated {
		s.count(ResultRepeated)
	}
	return nil
}

// inherit makes the acceptances of a silent sender this sender's own.
func (s *shift) inherit(ctx context.Context, tx pgx.Tx, sender uuid.UUID) ([]message, error) {
	rows, err := tx.Query(ctx, `
		UPDATE messages m
		SET sender_id = $2
		WHERE ended_at IS NULL
			AND sender_id = $1
			AND accepted
		RETURNING `+messageColumns+`, NULL::timestamptz, ''`, sender, s.id)
	return collect(nil, rows, err)
}

// giveUp notes that the outcome of what a silent sender had claimed is unknown, and returns how many
// messages that are.
func (s *shift) giveUp(ctx context.Context, tx pgx.Tx, sender uuid.UUID) (int, error) {
	rows, err := tx.Query(ctx, `
		SELECT client_id
		FROM messages
		WHERE ended_at IS NULL
			AND sender_id = $1
			AND client_id IS NOT NULL`, sender)
	if err != nil {
		return 0, err
	}
	clients, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return 0, err
	}
	_, err = provisioning.AdvanceAll(ctx, tx, clients, provisioning.Change{
		Event: provisioning.EventMailRepeated, Actor: provisioning.ActorSystem,
	})
	if err != nil {
		return 0, err
	}
	tag, err := tx.Exec(ctx, `
		UPDATE messages
		SET
			state = 'unknown',
			attempts = attempts + 1,
			unknown = unknown + 1,
			attempted_at = claimed_at,
			tried_since = coalesce(tried_since, claimed_at),
			due_at = greatest(claimed_at + make_interval(secs => $2), clock_timestamp() + make_interval(secs => $2 - $3)),
			sender_id = NULL,
			claimed_at = NULL
		WHERE ended_at IS NULL
			AND sender_id = $1`, sender, s.unknownPause.Seconds(), s.patience.Seconds())
	return int(tag.RowsAffected()), err
}
