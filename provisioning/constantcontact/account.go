package constantcontact

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/countersign/countersign/provisioning"
)

// ErrNoAccount is a [*provisioning.ProviderError]: the account summary has no account id, or one that is none, so that
// nothing can be bound to it.
var ErrNoAccount error = &provisioning.ProviderError{
	Op:          readAccount,
	Status:      http.StatusOK,
	Code:        "no_account",
	Description: "the account summary has no encoded_account_id, or one that is none: check the configured API address",
}

const readAccount = "read the account"

// Account asks which account the access token opens.
//
// It returns a *provisioning.ProviderError if the provider refuses (401: the token is not good; 403:
// the scope account_read or the user's privilege is missing), ErrNoAccount if the answer names no
// account, and an error that matches provisioning.ErrProviderUnavailable if there is no usable answer.
func (c *Client) Account(ctx context.Context, access provisioning.Secret) (provisioning.Account, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.apiURL+"/account/summary", nil)
	if err != nil {
		return provisioning.Account{}, fmt.Errorf("%s: %w", readAccount, err)
	}
	req.Header.Set("Authorization", "Bearer "+access.Reveal())

	var answer struct {
		ID           string `json:"encoded_account_id"`
		PartnerID    string `json:"encoded_partner_id"`
		Organization string `json:"organization_name"`
		ContactEmail string `json:"contact_email"`
		FirstName    string `json:"first_name"`
		LastName     string `json:"last_name"`
	}
	if err := c.ask(readAccount, c.calls, req, &answer, access); err != nil {
		return provisioning.Account{}, err
	}
	if !isAccountID(answer.ID) {
		return provisioning.Account{}, ErrNoAccount
	}
	for _, words := range []*string{&answer.PartnerID, &answer.Organization, &answer.ContactEmail, &answer.FirstName, &answer.LastName} {
		*words = clean(*words, nil)
	}
	return provisioning.Account(answer), nil
}

// isAccountID is what the roster takes for an account id, too.
func isAccountID(id string) bool {
	const most = 64
	return id != "" && len(id) <= most && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}
