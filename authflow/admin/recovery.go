package admin

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

const (
	recoveryCodes    = 10
	recoveryCodeSize = 10 // bytes: 80 bits, too many to guess even from a stolen hash
)

// RenewRecoveryCodes gives an operator other recovery codes, this once; earlier ones no longer work. It returns
// ErrPresentPassword, ErrNoSecondFactor or a *ThrottledError.
func (s *Store) RenewRecoveryCodes(ctx context.Context, o Operator, password provisioning.Secret, v Visitor) (codes []provisioning.Secret, err error) {
	if err := s.confirm(ctx, o, password, v); err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		o, err := lockOperator(ctx, tx, o.ID.String())
		if err != nil {
			return err
		}
		if !o.SecondFactor {
			return ErrNoSecondFactor
		}
		if codes, err = writeRecoveryCodes(ctx, tx, o.ID); err != nil {
			return err
		}
		return record(ctx, tx, o.actor(), "operator.recovery_codes", o, nil, nil)
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// RecoveryCodesLeft counts an operator's recovery codes that were not used yet.
func (s *Store) RecoveryCodesLeft(ctx context.Context, operator uuid.UUID) (n int, err error) {
	err = s.DB.QueryRow(ctx, `SELECT count(*) FROM recovery_codes WHERE operator_id = $1`, operator).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the recovery codes: %w", err)
	}
	return n, nil
}

// writeRecoveryCodes puts new codes in the place of all others. The operator is locked.
func writeRecoveryCodes(ctx context.Context, tx pgx.Tx, operator uuid.UUID) ([]provisioning.Secret, error) {
	codes := make([]provisioning.Secret, recoveryCodes)
	hashes := make([][]byte, recoveryCodes)
	for i := range codes {
		random := make([]byte, recoveryCodeSize)
		_, _ = rand.Read(random) // never fails
		code := strings.ToLower(base32Encoding().EncodeToString(random))
		hashes[i] = hashRecoveryCode(code)
		codes[i] = provisioning.Secret(code[:4] + "-" + code[4:8] + "-" + code[8:12] + "-" + code[12:])
	}
	if _, err := tx.Exec(ctx, `DELETE FROM recovery_codes WHERE operator_id = $1`, operator); err != nil {
		return nil, fmt.Errorf("end earlier recovery codes: %w", err)
	}
	if _, err := tx.Exec(ctx, `
		INSERT INTO recovery_codes (operator_id, code_hash)
		SELECT
			$1,
			unnest($2::bytea[])`, operator, hashes); err != nil {
		return nil, fmt.Errorf("store the recovery codes: %w", err)
	}
	return codes, nil
}

// takeRecoveryCode uses a recovery code up. It returns ErrCode.
func takeRecoveryCode(ctx context.Context, tx pgx.Tx, operator uuid.UUID, code string) error {
	tag, err := tx.Exec(ctx, `
		DELETE FROM recovery_codes
		WHERE operator_id = $1
			AND code_hash = $2`, operator, hashRecoveryCode(code))
	if err != nil {
		return fmt.Errorf("use the recovery code: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrCode
	}
	return nil
}

// hashRecoveryCode reads a code in any case, with whatever stands between its letters.
func hashRecoveryCode(code string) []byte {
	return hashSecret(provisioning.Secret(strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, code)))
}
