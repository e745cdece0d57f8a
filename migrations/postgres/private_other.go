//go:build !linux && !darwin

package postgres

import (
	"context"
	"fmt"
)

func private(context.Context, Options) (url string, stop func(context.Context) error, err error) {
	return "", nil, fmt.Errorf("%w: on this system Countersign cannot run one of its own: set COUNTERSIGN_DATABASE_URL", ErrNoServer)
}
