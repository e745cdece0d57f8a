package provisioning

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// Collided tells whether a transaction failed only because of another one at the same time.
func Collided(err error) bool {
	const uniqueViolation, deadlockDetected = "23505", "40P01"
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == uniqueViolation || pg.Code == deadlockDetected)
}

// Passing tells whether a statement failed because the database could not be reached, was ending, or lacked
// something at the moment: it is then worth trying again, though it may have been carried out.
func Passing(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code[:2] { // PostgreSQL, Appendix A: connection, resources, operator, system
		case "08", "53", "57", "58":
			return true
		}
		return false
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	return connecting || network || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}
