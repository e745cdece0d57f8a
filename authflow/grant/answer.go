package grant

import (
	"errors"

	"github.com/countersign/countersign/provisioning"
)

// Outcome is how an attempt to refresh a grant ended.
type Outcome string

const (
	Refreshed     Outcome = "refreshed"     // new tokens are stored
	Refused       Outcome = "refused"       // the provider says that the refresh token is not good
	Unavailable   Outcome = "unavailable"   // no answer that says anything; the refresh token was not spent
	Misconfigured Outcome = "misconfigured" // the provider refuses our app, whatever the grant
	Lost          Outcome = "lost"          // the request was sent and its answer did not come: the refresh token may be spent
	Superseded    Outcome = "superseded"    // somebody else has stored newer tokens, or has ended the grant
)

// classify reads the provider's answer: whether it is a verdict on the grant, on our app, or on nothing
// (RFC 6749, 5.2). An error of ours says nothing about the grant.
//
//	invalid_grant                           refused
//	any other refusal, such as              misconfigured: every grant would be refused alike
//	  invalid_client, unauthorized_client
//	request sent, no answer, or a 5xx that  lost
//	  does not ask to come again
//	not sent, 429, come again later,        unavailable
//	  an answer that is not the provider's
func classify(err error) Outcome {
	refusal, refused := errors.AsType[*provisioning.ProviderError](err)
	switch {
	case err == nil:
		return Refreshed
	case errors.Is(err, provisioning.ErrOutcomeUnknown):
		return Lost
	case errors.Is(err, provisioning.ErrProviderUnavailable) || !refused:
		return Unavailable
	case refusal.Code == "invalid_grant":
		return Refused
	}
	return Misconfigured
}
