package audit

import (
	"context"

	"github.com/jackc/pgx/v5"
)

type also struct{}

// With returns a context with which Record does something else, too, in the transaction of the change and before the
// entry: what has to be known of every change that a request makes, whichever room makes it. Its error undoes the
// change. It must not wait for anything that another recording transaction holds.
func With(ctx context.Context, do func(context.Context, pgx.Tx) error) context.Context {
	return context.WithValue(ctx, also{}, do)
}

// doAlso does what With was given.
func doAlso(ctx context.Context, tx pgx.Tx) error {
	do, ok := ctx.Value(also{}).(func(context.Context, pgx.Tx) error)
	if !ok {
		return nil
	}
	return do(ctx, tx)
}
