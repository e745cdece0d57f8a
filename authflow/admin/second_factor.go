package admin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/pquerna/otp/hotp"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
)

var (
	// ErrSecondFactor means that all is right so far, and that a code of the second factor is needed as well.
	ErrSecondFactor = errors.New("a code of the second factor is needed")
	// ErrCode means that a code is wrong, too old, or was used before.
	ErrCode = errors.New("this code is wrong, too old, or was used before; take the one that your app shows now")
	// ErrSecondFactorOn means that there is a second factor, which has to be switched off before there can be another.
	ErrSecondFactorOn = errors.New("the second factor is on: switch it off first")
	// ErrNoSecondFactor means that there is no second factor, or none that waits for its first code.
	ErrNoSecondFactor = errors.New("there is no second factor")
)

const (
	codePeriod = 30 * time.Second // RFC 6238
	codeDrift  = 1                // steps that a phone's clock may be ahead or behind
	codeSize   = 6
	factorSize = 20 // bytes of a secret, as RFC 4226 recommends

	stepLife = 10 * time.Minute // from the password to the code
)

// Sealer seals the secrets of second factors. A vault.Vault is one.
type Sealer interface {
	Seal(plaintext []byte, ad vault.AD) []byte
	Open(sealed []byte, ad vault.AD) ([]byte, error)
}

func factorAD(operator uuid.UUID) vault.AD {
	return vault.AD{Row: operator.String(), Kind: "second_factor"}
}

// Enrolment is a second factor that waits for its first code: what an authenticator app has to be told.
type Enrolment struct {
	Secret provisioning.Secret // in base32, for typing
	URL    provisioning.Secret // otpauth://, for a QR code
}

func base32Encoding() *base32.Encoding { return base32.StdEncoding.WithPadding(base32.NoPadding) }

// BeginSecondFactor makes the secret of a second factor, which nobody is asked for before ConfirmSecondFactor. Done
// again, it makes another. It returns ErrPresentPassword, ErrSecondFactorOn or a *ThrottledError.
func (s *Store) BeginSecondFactor(ctx context.Context, o Operator, password provisioning.Secret, v Visitor) error {
	if err := s.confirm(ctx, o, password, v); err != nil {
		return err
	}
	secret := make([]byte, factorSize)
	_, _ = rand.Read(secret) // never fails
	tag, err := s.DB.Exec(ctx, `
		UPDATE operators
		SET
			totp = $2,
			totp_step = 0
		WHERE id = $1
			AND totp_at IS NULL`, o.ID, s.Sealer.Seal(secret, factorAD(o.ID)))
	if err != nil {
		return fmt.Errorf("begin a second factor: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrSecondFactorOn
	}
	return nil
}

// Enrolment returns the second factor that waits for its first code. The issuer is what the app shows beside the
// operator's address. It returns ErrNoSecondFactor if none waits.
func (s *Store) Enrolment(ctx context.Context, o Operator, issuer string) (Enrolment, error) {
	f, err := s.factor(ctx, s.DB, o.ID, "")
	if err != nil {
		return Enrolment{}, err
	}
	if f.on {
		return Enrolment{}, ErrNoSecondFactor
	}
	values := url.Values{"secret": {f.secret}, "issuer": {issuer}}
	address := url.URL{
		Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + o.Email,
		RawQuery: strings.ReplaceAll(values.Encode(), "+", "%20"), // Some apps show a plus sign as it is.
	}
	return Enrolment{Secret: provisioning.Secret(f.secret), URL: provisioning.Secret(address.String())}, nil
}

// factor is the second factor of an operator.
type factor struct {
	secret string // in base32
	on     bool
	last   int64 // step whose code was accepted last
}

// factor opens an operator's second factor. It returns ErrNoSecondFactor.
func (s *Store) factor(ctx context.Context, db DB, operator uuid.UUID, lock string) (factor, error) {
	var f factor
	var sealed []byte
	err := db.QueryRow(ctx, `
		SELECT
			totp,
			totp_at IS NOT NULL,
			totp_step
		FROM operators
		WHERE id = $1
		`+lock, operator).Scan(&sealed, &f.on, &f.last)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && sealed == nil {
		return factor{}, ErrNoSecondFactor
	}
	if err != nil {
		return factor{}, fmt.Errorf("read the second factor: %w", err)
	}
	secret, err := s.Sealer.Open(sealed, factorAD(operator))
	if err != nil {
		return factor{}, fmt.Errorf("read the second factor: %w", err)
	}
	f.secret = base32Encoding().EncodeToString(secret)
	return f, nil
}

// step returns the time step whose code this is, of those that may be accepted now. It returns ErrCode.
func (f factor) step(code string, now time.Time) (int64, error) {
	code = strings.Join(strings.Fields(code), "") // Apps show it in two groups.
	if len(code) != codeSize {
		return 0, ErrCode
	}
	present := now.Unix() / int64(codePeriod/time.Second)
	accepted, found := int64(0), false
	for step := present - codeDrift; step <= present+codeDrift; step++ {
		want, err := hotp.GenerateCode(f.secret, uint64(step)) //nolint:gosec // time goes on from 1970
		if err != nil {
			return 0, fmt.Errorf("compute a code: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && step > f.last && !found {
			accepted, found = step, true
		}
	}
	if !found {
		return 0, ErrCode
	}
	return accepted, nil
}

// takeCode accepts a code of the operator, whose row is locked: no code of its step or of an earlier one is accepted
// again. It returns ErrCode.
func (s *Store) takeCode(ctx context.Context, tx pgx.Tx, operator uuid.UUID, f factor, code string) error {
	step, err := f.step(code, s.Now())
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE operators SET totp_step = $2 WHERE id = $1`, operator, step); err != nil {
		return fmt.Errorf("note the code: %w", err)
	}
	return nil
}

// admitCode counts an attempt at a code.
func (s *Store) admitCode(operator uuid.UUID, v Visitor) error {
	now := s.Now()
	wait := s.byAddress.take(addressKey(v.Address), now)
	if wait == 0 {
		wait = s.byOperator.take(operator.String(), now)
	}
	if wait > 0 {
		return &ThrottledError{RetryAfter: wait}
	}
	return nil
}

// ConfirmSecondFactor switches a second factor on, by the first code that the app shows, and returns its recovery codes
// this once. It returns ErrCode, ErrNoSecondFactor if none waits, or a *ThrottledError.
func (s *Store) ConfirmSecondFactor(ctx context.Context, o Operator, code string, v Visitor) (codes []provisioning.Secret, err error) {
	if err := s.admitCode(o.ID, v); err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		f, err := s.factor(ctx, tx, o.ID, "FOR UPDATE")
		if err != nil {
			return err
		}
		if f.on {
			return ErrNoSecondFactor
		}
		if err := s.takeCode(ctx, tx, o.ID, f, code); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE operators SET totp_at = $2 WHERE id = $1`, o.ID, s.Now()); err != nil {
			return fmt.Errorf("switch the second factor on: %w", err)
		}
		if codes, err = writeRecoveryCodes(ctx, tx, o.ID); err != nil {
			return err
		}
		return record(ctx, tx, o.actor(), "operator.second_factor", o, audit.Fields{"second_factor": false}, audit.Fields{"second_factor": true})
	})
	if err != nil {
		return nil, err
	}
	s.byOperator.forget(o.ID.String())
	return codes, nil
}

// EndSecondFactor switches an operator's own second factor off. It returns ErrPresentPassword, ErrNoSecondFactor or a
// *ThrottledError.
func (s *Store) EndSecondFactor(ctx context.Context, o Operator, password provisioning.Secret, v Visitor) error {
	if err := s.confirm(ctx, o, password, v); err != nil {
		return err
	}
	return s.ResetSecondFactor(ctx, o.ID.String(), o.actor())
}

// ResetSecondFactor switches off the second factor of an operator, given by address or id, who has lost it. It returns
// ErrNotFound or ErrNoSecondFactor.
func (s *Store) ResetSecondFactor(ctx context.Context, who string, actor provisioning.Actor) error {
	return pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		o, err := lockOperator(ctx, tx, who)
		if err != nil {
			return err
		}
		if !o.SecondFactor {
			return ErrNoSecondFactor
		}
		if _, err := tx.Exec(ctx, `
			UPDATE operators
			SET
				totp = NULL,
				totp_at = NULL,
				totp_step = 0
			WHERE id = $1`, o.ID); err != nil {
			return fmt.Errorf("switch the second factor off: %w", err)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM recovery_codes WHERE operator_id = $1`, o.ID); err != nil {
			return fmt.Errorf("end the recovery codes: %w", err)
		}
		return record(ctx, tx, actor, "operator.second_factor", o, audit.Fields{"second_factor": true}, audit.Fields{"second_factor": false})
	})
}

// openStep makes the token of a second step.
func (s *Store) openStep(ctx context.Context, tx pgx.Tx, operator uuid.UUID) (provisioning.Secret, error) {
	return s.insertLink(ctx, tx, forSecondStep, operator, stepLife)
}

// SecondStep begins the session that SignIn or Enter has answered with ErrSecondFactor, by a code of the app or a recovery
// code. It returns ErrCode, a *ThrottledError, or ErrNoSession if too much time has passed: then all begins anew.
func (s *Store) SecondStep(ctx context.Context, token provisioning.Secret, code string, v Visitor) (provisioning.Secret, Operator, error) {
	var operator uuid.UUID
	err := s.DB.QueryRow(ctx, `
		SELECT operator_id
		FROM entry_links
		WHERE token_hash = $1
			AND purpose = 'second_step'
			AND used_at IS NULL
			AND expires_at > $2`, hashSecret(token), s.Now()).Scan(&operator)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", Operator{}, ErrNoSession
	}
	if err != nil {
		return "", Operator{}, fmt.Errorf("read the second step: %w", err)
	}
	if err := s.admitCode(operator, v); err != nil {
		return "", Operator{}, err
	}
	var session provisioning.Secret
	var o Operator
	err = pgx.BeginFunc(ctx, s.DB, func(tx pgx.Tx) error {
		f, err := s.factor(ctx, tx, operator, "FOR UPDATE")
		if errors.Is(err, ErrNoSecondFactor) || err == nil && !f.on {
			return ErrNoSession // It was switched off in the meantime, or its operator is gone.
		}
		if err != nil {
			return err
		}
		if err := s.useLink(ctx, tx, token); err != nil {
			return err
		}
		recovered := false
		err = s.takeCode(ctx, tx, operator, f, code)
		if errors.Is(err, ErrCode) {
			recovered, err = true, takeRecoveryCode(ctx, tx, operator, code)
		}
		if err != nil {
			return err
		}
		if session, o, err = s.openSession(ctx, tx, operator, v); err != nil || !recovered {
			return err
		}
		return record(ctx, tx, o.actor(), "operator.recovery_code", o, nil, nil)
	})
	if errors.Is(err, ErrLinkUsed) {
		err = ErrNoSession // Its button was pressed twice.
	}
	if err != nil {
		return "", Operator{}, err
	}
	s.byOperator.forget(operator.String())
	return session, o, nil
}
