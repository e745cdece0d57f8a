package provisioning

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/audit"
)

// Audit records what an actor did in the audit trail, as the last statement of the transaction that does it: see
// audit.Record. What owners and the system do are events of a client, and nothing more.
func Audit(ctx context.Context, tx pgx.Tx, actor Actor, e audit.Entry) error {
	if actor == ActorOwner || actor == ActorSystem {
		return nil
	}
	e.Actor = string(actor)
	return audit.Record(ctx, tx, e)
}

// AuditObject is what the audit trail calls a client.
func AuditObject(client uuid.UUID) string { return "client " + client.String() }
