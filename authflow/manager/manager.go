package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
)

// Patience is how long after an owner's word the provider's mail may take before somebody has to ask: it is sent at
// once, and mail servers try for a day or two.
const Patience = 48 * time.Hour

// MostNames is how many usernames an owner may report as taken by themselves. That the provider refuses more of them
// means something else.
const MostNames = 3

// ErrOtherRoute is matched when a client is not on the route manager, or is authorized.
var ErrOtherRoute = errors.New("no Account Manager is needed for this client now")

// Store keeps how far the Account Managers are.
type Store struct {
	DB      provisioning.DB
	Vault   *vault.Vault
	Renamer *provisioning.Renamer // nil without an agency mailbox: then no username can be replaced
	Now     func() time.Time
}

// State is how far the Account Manager of a client is. The zero State is that of one of whom nothing is known.
type State struct {
	ClaimedAt      *time.Time // when the owner said that the user is added
	ActivationAt   *time.Time // when the provider's mail came
	ActivationFrom string
	ActiveAt       *time.Time // when the user could sign in
	HasLink        bool       // of the provider's mail: Link returns it
}

// State returns how far the Account Manager of a client is.
func (s *Store) State(ctx context.Context, client uuid.UUID) (State, error) {
	rows, err := s.DB.Query(ctx, `
		SELECT
			claimed_at,
			activation_at,
			activation_from,
			active_at,
			activation_link IS NOT NULL
		FROM managers
		WHERE client_id = $1`, client)
	if err != nil {
		return State{}, fmt.Errorf("read how far the Account Manager is: %w", err)
	}
	state, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[State])
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return State{}, fmt.Errorf("read how far the Account Manager is: %w", err)
	}
	return state, nil
}

// Link returns the link of the provider's mail: whoever opens it chooses the user's password. It returns
// provisioning.ErrNotFound if there is none, or no longer.
func (s *Store) Link(ctx context.Context, client uuid.UUID) (provisioning.Secret, error) {
	var sealed []byte
	err := s.DB.QueryRow(ctx, `SELECT activation_link FROM managers WHERE client_id = $1`, client).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && sealed == nil {
		return "", fmt.Errorf("activation link of client %s: %w", client, provisioning.ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("read the activation link: %w", err)
	}
	link, err := s.Vault.Open(sealed, linkAD(client))
	if err != nil {
		return "", fmt.Errorf("open the activation link of client %s: %w", client, err)
	}
	return provisioning.Secret(link), nil
}

func linkAD(client uuid.UUID) vault.AD {
	return vault.AD{Row: client.String(), Kind: "activation_link"}
}

// hold locks a client, and its steps behind it, until tx ends. It returns ErrOtherRoute or provisioning.ErrNotFound.
func hold(ctx context.Context, tx pgx.Tx, client uuid.UUID) error {
	var route provisioning.Route
	var stage provisioning.Stage
	err := tx.QueryRow(ctx, `
		SELECT
			route,
			stage
		FROM clients
		WHERE id = $1
		FOR NO KEY UPDATE`, client).Scan(&route, &stage)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("client %s: %w", client, provisioning.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("hold the client: %w", err)
	}
	if route != provisioning.RouteManager || stage == provisioning.StageAuthorized {
		return ErrOtherRoute
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO managers (client_id, open)
		VALUES ($1, true)
		ON CONFLICT DO NOTHING`, client)
	if err != nil {
		return fmt.Errorf("hold the client: %w", err)
	}
	return nil
}

// change does something to the steps of a client that hold has locked, in a transaction of its own, and tells its
// history.
func (s *Store) change(ctx context.Context, client uuid.UUID, do func(pgx.Tx) (provisioning.Change, error)) error {
	err := pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		if err := hold(ctx, tx, client); err != nil {
			return err
		}
		ch, err := do(tx)
		if err != nil || ch.Event == "" {
			return err
		}
		ch.Client = client
		_, err = provisioning.Advance(ctx, tx, ch)
		return err
	})
	if err != nil {
		return fmt.Errorf("the client's Account Manager: %w", err)
	}
	return nil
}

// Claim notes that the owner says to have added the user. To say so twice changes nothing unless the provider's mail
// has been missed meanwhile: then it is waited for anew. It returns ErrOtherRoute or provisioning.ErrNotFound.
func (s *Store) Claim(ctx context.Context, client uuid.UUID) error {
	return s.change(ctx, client, func(tx pgx.Tx) (provisioning.Change, error) {
		tag, err := tx.Exec(ctx, `
			UPDATE managers
			SET
				claimed_at = $2,
				missed = false
			WHERE client_id = $1
				AND (claimed_at IS NULL OR missed)`, client, s.Now())
		if err != nil || tag.RowsAffected() == 0 {
			return provisioning.Change{}, err
		}
		return provisioning.Change{Event: provisioning.EventClaimed, Actor: provisioning.ActorOwner, To: provisioning.StageStarted}, nil
	})
}

// Unclaim takes the owner's word back: they pressed too early. It returns the errors of Claim.
func (s *Store) Unclaim(ctx context.Context, client uuid.UUID) error {
	return s.change(ctx, client, func(tx pgx.Tx) (provisioning.Change, error) {
		tag, err := tx.Exec(ctx, `
			UPDATE managers
			SET
				claimed_at = NULL,
				missed = false
			WHERE client_id = $1
				AND claimed_at IS NOT NULL
				AND ready_at IS NULL`, client)
		if err != nil || tag.RowsAffected() == 0 {
			return provisioning.Change{}, err
		}
		return provisioning.Change{Event: provisioning.EventUnclaimed, Actor: provisioning.ActorOwner}, nil
	})
}

// Taken gives the client the next username, as the owner says that the provider refuses the one they were shown. To say
// it of a username that was replaced before changes nothing. After MostNames of them the client stalls, for an operator
// to find out why. It returns the errors of Claim.
func (s *Store) Taken(ctx context.Context, client uuid.UUID, username string) error {
	return s.change(ctx, client, func(tx pgx.Tx) (provisioning.Change, error) {
		refused := provisioning.Change{
			Event: provisioning.EventNameRefused, Actor: provisioning.ActorOwner,
			To: provisioning.StageStalled, Reason: provisioning.ReasonUsernameTaken, Detail: provisioning.Detail{"username": username},
		}
		var asked int
		if err := tx.QueryRow(ctx, `SELECT asked_names FROM managers WHERE client_id = $1`, client).Scan(&asked); err != nil {
			return provisioning.Change{}, err
		}
		if s.Renamer == nil || asked >= MostNames {
			return refused, forgetWord(ctx, tx, client)
		}
		renamer := *s.Renamer
		renamer.DB = tx
		switch _, err := renamer.Taken(ctx, client, username, provisioning.ActorOwner); {
		case errors.Is(err, provisioning.ErrNoLongerUsername):
			return provisioning.Change{}, nil
		case err != nil:
			return provisioning.Change{}, err
		}
		if _, err := tx.Exec(ctx, `UPDATE managers SET asked_names = asked_names + 1 WHERE client_id = $1`, client); err != nil {
			return provisioning.Change{}, err
		}
		return provisioning.Change{}, forgetWord(ctx, tx, client)
	})
}

// Limit stalls a client whose plan allows no further user, as its owner says. It returns the errors of Claim.
func (s *Store) Limit(ctx context.Context, client uuid.UUID) error {
	return s.change(ctx, client, func(tx pgx.Tx) (provisioning.Change, error) {
		return provisioning.Change{
			Event: provisioning.EventUserLimit, Actor: provisioning.ActorOwner,
			To: provisioning.StageStalled, Reason: provisioning.ReasonUserLimit,
		}, forgetWord(ctx, tx, client)
	})
}

// forgetWord takes it that the user is not added, whatever the owner said before: they have said otherwise since.
func forgetWord(ctx context.Context, tx pgx.Tx, client uuid.UUID) error {
	_, err := tx.Exec(ctx, `
		UPDATE managers
		SET
			claimed_at = NULL,
			missed = false
		WHERE client_id = $1
			AND ready_at IS NULL`, client)
	return err
}

// Activate notes that the user can sign in: an operator has opened the link of the provider's mail and has chosen a
// password. The link is forgotten. It returns the errors of Claim.
func (s *Store) Activate(ctx context.Context, client uuid.UUID, actor provisioning.Actor) error {
	return s.change(ctx, client, func(tx pgx.Tx) (provisioning.Change, error) {
		tag, err := tx.Exec(ctx, `
			UPDATE managers
			SET
				active_at = $2,
				activation_link = NULL
			WHERE client_id = $1
				AND active_at IS NULL`, client, s.Now())
		if err != nil || tag.RowsAffected() == 0 {
			return provisioning.Change{}, err
		}
		return provisioning.Change{Event: provisioning.EventActive, Actor: actor, To: provisioning.StageStarted}, nil
	})
}

// TakeActivation implements notify.ActivationTaker: whose the mail is, is told by the username that it was sent to. A
// later mail for the same user has the link that works.
func (s *Store) TakeActivation(
	ctx context.Context, tx pgx.Tx, to []string, from string, link provisioning.Secret, at time.Time,
) (bool, error) {
	var client uuid.UUID
	err := tx.QueryRow(ctx, `
		SELECT id
		FROM clients
		WHERE username = ANY ($1)
			AND route = 'manager'
		ORDER BY id
		LIMIT 1`, to).Scan(&client)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find whose activation mail it is: %w", err)
	}
	if err := hold(ctx, tx, client); errors.Is(err, ErrOtherRoute) || errors.Is(err, provisioning.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	tag, err := tx.Exec(ctx, `
		UPDATE managers
		SET
			activation_at = coalesce(activation_at, $2),
			activation_from = $3,
			activation_link = $4
		WHERE client_id = $1
			AND active_at IS NULL`,
		client, at, from, s.Vault.Seal([]byte(link.Reveal()), linkAD(client)))
	if err != nil {
		return false, fmt.Errorf("keep the activation mail: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return false, nil
	}
	_, err = provisioning.Advance(ctx, tx, provisioning.Change{
		Client: client, Event: provisioning.EventActivation, Actor: provisioning.ActorSystem, To: provisioning.StageStarted,
		Detail: provisioning.Detail{"from": from},
	})
	return true, err
}

const sweepBatch = 500

// Sweep stalls the clients whose owners said that the user is added, and for whom the provider's mail did not come
// within Patience. Any number of processes may call it at once.
func (s *Store) Sweep(ctx context.Context) error {
	for n := sweepBatch; n == sweepBatch; {
		err := pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `
				WITH due AS (
					SELECT m.client_id
					FROM managers m
					JOIN clients c ON c.id = m.client_id
					WHERE m.open
						AND m.ready_at IS NULL
						AND NOT m.missed
						AND m.claimed_at <= $1
					ORDER BY m.claimed_at
					LIMIT $2
					FOR NO KEY UPDATE OF c, m SKIP LOCKED
				)
				UPDATE managers m
				SET missed = true
				FROM due
				WHERE m.client_id = due.client_id
				RETURNING m.client_id`, s.Now().Add(-Patience), sweepBatch)
			if err != nil {
				return err
			}
			clients, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			if err != nil {
				return err
			}
			n = len(clients)
			_, err = provisioning.AdvanceAll(ctx, tx, clients, provisioning.Change{
				Event: provisioning.EventNoActivation, Actor: provisioning.ActorSystem,
				To: provisioning.StageStalled, Reason: provisioning.ReasonNoActivation,
			})
			return err
		})
		if err != nil {
			return fmt.Errorf("sweep Account Managers: %w", err)
		}
	}
	return nil
}
