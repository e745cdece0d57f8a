package admin

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"

	"github.com/countersign/countersign/provisioning"
)

const (
	minPassword, maxPassword = 12, 256

	// hashers is how many passwords are hashed at a time. Each takes 19 MiB of memory; the others wait.
	hashers = 4
)

// ErrPassword means that a new password breaks the rules, which its text names.
var ErrPassword = errors.New("a password needs 12 to 256 characters; four or five words that do not belong together are easy to remember")

// argon2Params is the least memory that OWASP recommends for argon2id.
func argon2Params() *argon2id.Params {
	return &argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
}

// hashPassword returns ErrPassword if the password breaks the rules.
func (s *Store) hashPassword(ctx context.Context, password provisioning.Secret) (string, error) {
	if n := utf8.RuneCountInString(password.Reveal()); n < minPassword || n > maxPassword {
		return "", ErrPassword
	}
	if err := s.hashing.Acquire(ctx, 1); err != nil {
		return "", fmt.Errorf("hash the password: %w", err)
	}
	defer s.hashing.Release(1)
	return argon2id.CreateHash(password.Reveal(), argon2Params())
}

// checkPassword compares with a stored hash. An empty one matches nothing and takes as long as any,
// so that the time does not tell who is an operator.
func (s *Store) checkPassword(ctx context.Context, password provisioning.Secret, hash string) (bool, error) {
	if err := s.hashing.Acquire(ctx, 1); err != nil {
		return false, fmt.Errorf("check the password: %w", err)
	}
	defer s.hashing.Release(1)
	if hash == "" {
		_, err := argon2id.CreateHash(password.Reveal(), argon2Params())
		return false, err
	}
	return argon2id.ComparePasswordAndHash(password.Reveal(), hash)
}
