package provisioning

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Account is the provider's own answer to the question which account a token opens.
type Account struct {
	ID           string // encoded_account_id
	PartnerID    string // encoded_partner_id: the partner that provisioned the account, if any
	Organization string
	ContactEmail string // of the account's owner, not of the user who consented
	FirstName    string
	LastName     string
}

// Tokens is what a code or a refresh token was exchanged for.
type Tokens struct {
	Access    Secret
	Refresh   Secret // empty if the provider gave none
	ExpiresAt time.Time
	Scopes    []string // as granted; nil if the provider did not say
	Subject   string   // the user who consented, as far as the access token tells; may be empty
}

// ErrProviderUnavailable is matched by every failure that says nothing about the grant: the
// network, a time-out, 429, 5xx, an answer that is not the provider's. The cure is to try later.
var ErrProviderUnavailable = errors.New("the provider cannot answer at the moment")

// ErrOutcomeUnknown is matched, beside ErrProviderUnavailable, by a failure after the request was sent: the
// provider may have done what was asked, so that a code or a refresh token may be spent.
var ErrOutcomeUnknown = errors.New("whether the provider did it is not known")

type lastLook struct{}

// WithLastLook returns a context whose request is not sent if look returns an error at the last moment before it
// would be: to connect takes time, and a process may be stunned.
func WithLastLook(ctx context.Context, look func() error) context.Context {
	return context.WithValue(ctx, lastLook{}, look)
}

// LastLook returns the error of the look that ctx was given, nil if it was given none.
func LastLook(ctx context.Context) error {
	if look, ok := ctx.Value(lastLook{}).(func() error); ok {
		return look()
	}
	return nil
}

// ProviderError is an answer in which the provider refused something.
type ProviderError struct {
	Op          string // what was asked, such as "exchange the code"
	Status      int    // HTTP status
	Code        string // error or error_key, such as invalid_grant
	Description string // the provider's words, cut to a sane length
	RetryAfter  time.Duration
}

func (e *ProviderError) Error() string {
	s := fmt.Sprintf("%s: the provider answered %d", e.Op, e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Description != "" {
		s += ": " + e.Description
	}
	return s
}

// Is reports 408, 429 and 5xx as ErrProviderUnavailable.
func (e *ProviderError) Is(target error) bool {
	return target == ErrProviderUnavailable && (e.Status == 408 || e.Status == 429 || e.Status >= 500)
}
