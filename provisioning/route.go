package provisioning

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// rerouted is a client whose route changes.
type rerouted struct {
	Client   uuid.UUID
	From, To Route
}

// reroute lets clients whose route changes begin anew on the other one, in tx's transaction: mails that ask for what is
// no longer wanted are taken back. Their links stay good and lead to what the new route asks. Whoever has a grant that
// works, and is to have one, is authorized by it at once.
func (i *Inviter) reroute(ctx context.Context, tx pgx.Tx, list []rerouted, actor Actor) error {
	if len(list) == 0 {
		return nil
	}
	clients := make([]uuid.UUID, len(list))
	for n, r := range list {
		clients[n] = r.Client
	}
	var holding []uuid.UUID
	if i.Grants != nil {
		var err error
		if holding, err = i.Grants.Holding(ctx, tx, clients); err != nil {
			return err
		}
	}
	stages, err := stagesOf(ctx, tx, clients)
	if err != nil {
		return err
	}
	type way struct {
		from, to Route
		stage    Stage
	}
	groups := make(map[way][]uuid.UUID)
	for _, r := range list {
		w := way{r.From, r.To, StageImported}
		if r.To.Consents() && slices.Contains(holding, r.Client) {
			w.stage = StageAuthorized
		}
		if stages[r.Client] != w.stage {
			groups[w] = append(groups[w], r.Client)
		}
	}
	for w, of := range groups {
		_, err := AdvanceAll(ctx, tx, of, Change{
			Event: EventRouteChanged, Actor: actor, To: w.stage, Detail: Detail{"route": map[string]Route{"from": w.from, "to": w.to}},
		})
		if err != nil {
			return err
		}
	}
	return i.Mailer.Cancel(ctx, tx, clients)
}

// stagesOf returns how far clients are.
func stagesOf(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) (map[uuid.UUID]Stage, error) {
	//nolint:rowserrcheck // ForEachRow returns it.
	rows, err := tx.Query(ctx, `SELECT id, stage FROM clients WHERE id = ANY ($1)`, clients)
	if err != nil {
		return nil, fmt.Errorf("read the stages of clients: %w", err)
	}
	stages := make(map[uuid.UUID]Stage, len(clients))
	var id uuid.UUID
	var stage Stage
	_, err = pgx.ForEachRow(rows, []any{&id, &stage}, func() error {
		stages[id] = stage
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the stages of clients: %w", err)
	}
	return stages, nil
}
