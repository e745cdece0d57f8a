package constantcontact

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/countersign/countersign/provisioning"
)

// DefaultPartnerTokenURL is where Constant Contact gives its partners their tokens.
const DefaultPartnerTokenURL = "https://authz.constantcontact.com/partners/oauth2/default/v1/token" //nolint:gosec // An address, not a credential.

// PartnerInterval is what a call of a Partner takes when the provider allows 4 a second and nobody else calls, for
// estimates.
const PartnerInterval = time.Second * 10 / 38

const (
	partnerScope = "v3api/general.partner"

	// tokenMargin is how long before its end a token is renewed.
	tokenMargin = time.Minute

	// maxTries bounds how often a call is made while the provider says that it cannot answer; fewTries
	// where there is no answer, or none of the provider's, which may be a wrong setting of ours.
	maxTries = 6
	fewTries = 4
	maxPause = 30 * time.Second
)

// PartnerConfig says which partner a Partner speaks for. All of it is required, but for the
// budgets, HTTP and Now.
type PartnerConfig struct {
	ClientID     string
	ClientSecret provisioning.Secret
	APIKey       provisioning.Secret // of one of the partner's apps, sent as x-api-key
	TokenURL     string
	APIURL       string
	Calls        Budget           // of the API key; nil: no limits
	Tokens       Budget           // of the partner's token endpoint; nil: no limits
	Shelf        TokenShelf       // nil: the token is kept in memory
	HTTP         *http.Client     // only its Transport and Timeout are used; by default 15 s
	Now          func() time.Time // by default time.Now
}

// TokenShelf keeps a partner's token where all replicas find it.
type TokenShelf interface {
	// Token returns the token on the shelf if it is good for at least margin and not the one that the provider has
	// refused. Else it has fetch get another, for one caller at a time, and keeps that.
	Token(ctx context.Context, margin time.Duration, refused provisioning.Secret,
		fetch func(context.Context) (provisioning.Tokens, error)) (provisioning.Secret, error)
}

// pocket is the TokenShelf of one process.
type pocket struct {
	now func() time.Time

	mu    sync.Mutex // held while a token is asked for, so that one is asked for at a time
	token provisioning.Tokens
}

func (p *pocket) Token(
	ctx context.Context, margin time.Duration, refused provisioning.Secret, fetch func(context.Context) (provisioning.Tokens, error),
) (provisioning.Secret, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now().Before(p.token.ExpiresAt.Add(-margin)) && p.token.Access != refused {
		return p.token.Access, nil
	}
	tokens, err := fetch(ctx)
	if err == nil {
		p.token = tokens
	}
	return tokens.Access, err
}

// Partner speaks to the provider's partner API. It gets its token by itself and tries again where that can
// help, so that a call may take minutes: its context ends it. It is safe for concurrent use.
type Partner struct {
	client Client // with the partner's id and secret
	apiKey provisioning.Secret
	shelf  TokenShelf
}

var _ provisioning.Partner = (*Partner)(nil)

// NewPartner checks the configuration and reports everything that is wrong with it.
func NewPartner(c PartnerConfig) (*Partner, error) {
	var errs []error
	if c.ClientID == "" {
		errs = append(errs, errors.New("the partner client id is empty"))
	}
	if c.ClientSecret == "" {
		errs = append(errs, errors.New("the partner client secret is empty"))
	}
	if c.APIKey == "" {
		errs = append(errs, errors.New("the partner API key is empty"))
	}
	errs = append(errs, checkURL("partner token URL", c.TokenURL), checkURL("API URL", c.APIURL))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	p := &Partner{
		client: Client{
			secret:    c.ClientSecret,
			apiURL:    strings.TrimRight(c.APIURL, "/"),
			calls:     cmp.Or[Budget](c.Calls, unlimited{}),
			tokens:    cmp.Or[Budget](c.Tokens, unlimited{}),
			transport: http.DefaultTransport,
			timeout:   defaultTimeout,
			now:       time.Now,
		},
		apiKey: c.APIKey,
	}
	p.client.oauth.ClientID, p.client.oauth.Endpoint.TokenURL = c.ClientID, c.TokenURL
	if c.HTTP != nil {
		p.client.transport = cmp.Or(c.HTTP.Transport, http.DefaultTransport)
		p.client.timeout = cmp.Or(c.HTTP.Timeout, defaultTimeout)
	}
	if c.Now != nil {
		p.client.now = c.Now
	}
	p.shelf = cmp.Or[TokenShelf](c.Shelf, &pocket{now: p.client.now})
	return p, nil
}

// listAccounts is what is asked of the list, in errors.
const listAccounts = "list the partner's accounts"

// Accounts yields every account of the partner's list, in two passes, as the list tells only by its filter
// whether an account is managed: the unmanaged first, so that an account that becomes managed meanwhile is
// not missed but comes twice, at last as what it is. An error ends it.
func (p *Partner) Accounts(ctx context.Context) iter.Seq2[provisioning.ListedAccount, error] {
	return func(yield func(provisioning.ListedAccount, error) bool) {
		for _, kind := range []string{"unmanaged", "managed"} {
			more, err := p.list(ctx, kind, yield)
			if err != nil {
				yield(provisioning.ListedAccount{}, err)
			}
			if err != nil || !more {
				return
			}
		}
	}
}

// list yields the accounts of one kind, page by page, and reports whether more are wanted.
func (p *Partner) list(ctx context.Context, kind string, yield func(provisioning.ListedAccount, error) bool) (more bool, err error) {
	address := p.client.apiURL + "/partner/accounts?limit=50&account_type=" + kind
	for seen := map[string]bool{}; address != ""; {
		if seen[address] {
			return false, unavailable(listAccounts, errors.New("its link to the next page leads back to one that was read: try again later"))
		}
		seen[address] = true
		var page accountPage
		if err := p.call(ctx, listAccounts, http.MethodGet, address, nil, &page); err != nil {
			return false, err
		}
		for _, a := range page.accounts {
			if !yield(a.listed(kind == "managed"), nil) {
				return false, nil
			}
		}
		if address, err = p.next(page.next, kind); err != nil {
			return false, err
		}
	}
	return true, nil
}

// accountPage is one page of the list.
type accountPage struct {
	accounts []siteOwner
	next     string // as the provider gives it; empty on the last page
}

// siteOwner is an account in the list. Its site_owner_name is a user name, which may look like an address
// and need not be one.
type siteOwner struct {
	ID            string `json:"encoded_account_id"`
	Organization  string `json:"organization_name"`
	Login         string `json:"site_owner_name"`
	BillingStatus string `json:"billing_status"`
}

func (o siteOwner) listed(managed bool) provisioning.ListedAccount {
	return provisioning.ListedAccount{
		ID: o.ID, Organization: o.Organization, OwnerLogin: o.Login, BillingStatus: o.BillingStatus, Managed: managed,
	}
}

// UnmarshalJSON refuses what is no page of the list, so that an answer of another kind is not taken for a
// partner without accounts.
func (p *accountPage) UnmarshalJSON(data []byte) error {
	var page struct {
		Accounts json.RawMessage `json:"site_owner_list"`
		Links    struct {
			Next struct {
				Href string `json:"href"`
			} `json:"next"`
		} `json:"_links"`
	}
	if err := json.Unmarshal(data, &page); err != nil {
		return err
	}
	if page.Accounts == nil {
		return errors.New("it has no site_owner_list")
	}
	p.next = page.Links.Next.Href
	if err := json.Unmarshal(page.Accounts, &p.accounts); err != nil {
		return err
	}
	for _, a := range p.accounts {
		if a.ID == "" {
			return errors.New("an account in it has no encoded_account_id")
		}
	}
	return nil
}

// next resolves the link to the next page, which is a path from the root of the API's host; it is empty
// after the last page. The rest of the link is the provider's affair, except that it forgets the account
// type. The token goes to no other host.
func (p *Partner) next(link, kind string) (string, error) {
	if link == "" {
		return "", nil
	}
	base, err := url.Parse(p.client.apiURL + "/")
	if err != nil {
		return "", fmt.Errorf("%s: %w", listAccounts, err)
	}
	address, err := base.Parse(link)
	if err != nil || address.Scheme != base.Scheme || address.Host != base.Host || address.User != nil {
		return "", unavailable(listAccounts, fmt.Errorf("its link to the next page, %q, leads to another host and is not followed: check the configured API address",
			clean(link, nil)))
	}
	address.Fragment = ""
	if !address.Query().Has("account_type") {
		address.RawQuery = strings.TrimPrefix(address.RawQuery+"&account_type="+kind, "&")
	}
	return address.String(), nil
}

// ManagedAccount asks for an account by acting inside it, which the provider allows for managed accounts
// alone. It returns a *provisioning.ProviderError if the provider refuses this account (403, 404) or tells
// of another one.
func (p *Partner) ManagedAccount(ctx context.Context, id string) (provisioning.Account, error) {
	body, err := json.Marshal(map[string]string{
		"account_operation_url":    "/account/summary",
		"account_operation_method": http.MethodGet,
	})
	if err != nil {
		return provisioning.Account{}, fmt.Errorf("%s: %w", readAccount, err)
	}
	address := p.client.apiURL + "/partner/accounts/" + url.PathEscape(id) + "/account_operations/sync"
	var answer struct {
		ID           string `json:"encoded_account_id"`
		PartnerID    string `json:"encoded_partner_id"`
		Organization string `json:"organization_name"`
		ContactEmail string `json:"contact_email"`
		FirstName    string `json:"first_name"`
		LastName     string `json:"last_name"`
	}
	if err := p.call(ctx, readAccount, http.MethodPost, address, body, &answer); err != nil {
		return provisioning.Account{}, err
	}
	switch answer.ID {
	case id:
		return provisioning.Account(answer), nil
	case "":
		return provisioning.Account{}, ErrNoAccount
	}
	return provisioning.Account{}, &provisioning.ProviderError{
		Op: readAccount, Status: http.StatusOK, Code: "another_account",
		Description: "the answer is about the account " + clean(answer.ID, nil),
	}
}

// call makes one call of the partner API, which has to be one that may be repeated. A token that is refused
// is renewed once; where the provider cannot answer, it is asked again, later and later.
func (p *Partner) call(ctx context.Context, op, method, address string, body []byte, answer any) error {
	var stale provisioning.Secret // the token that was refused
	for try := 1; ; try++ {
		token, err := p.authorize(ctx, stale)
		if err == nil {
			err = p.try(ctx, op, method, address, body, token, answer)
			if refused, ok := errors.AsType[*provisioning.ProviderError](err); ok && refused.Status == http.StatusUnauthorized && stale == "" {
				stale = token
				continue
			}
			err = explainCall(err)
		}
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("%s: %w", op, context.Cause(ctx))
		}
		wait, again := pause(err, try)
		if !again {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", op, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

func (p *Partner) try(ctx context.Context, op, method, address string, body []byte, token provisioning.Secret, answer any) error {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, reader)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	req.Header.Set("X-Api-Key", p.apiKey.Reveal())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return p.client.ask(op, p.client.calls, req, answer, token, p.apiKey)
}

// authorize returns a token that is good for a while, and another one than the one that was refused.
func (p *Partner) authorize(ctx context.Context, refused provisioning.Secret) (provisioning.Secret, error) {
	return p.shelf.Token(ctx, tokenMargin, refused, func(ctx context.Context) (provisioning.Tokens, error) {
		tokens, _, err := p.client.token(ctx, "get the partner's token", p.client.TokenURL(), url.Values{
			"grant_type": {"client_credentials"},
			"scope":      {partnerScope},
		})
		if err != nil {
			return tokens, explainToken(err)
		}
		return tokens, nil
	})
}

// pause says how long to wait before the call that failed is made again, and whether that can help.
func pause(err error, try int) (wait time.Duration, again bool) {
	if _, waited := errors.AsType[noTurn](err); waited || !errors.Is(err, provisioning.ErrProviderUnavailable) {
		return 0, false
	}
	wait = time.Second << (try - 1)
	refused, ok := errors.AsType[*provisioning.ProviderError](err)
	if !ok {
		return wait, try < fewTries
	}
	return max(wait, refused.RetryAfter), try < maxTries && refused.Code != quotaExceeded && refused.RetryAfter <= maxPause
}

// explainToken adds the cure to a refusal of the token endpoint.
func explainToken(err error) error {
	refused, ok := errors.AsType[*provisioning.ProviderError](err)
	if !ok || errors.Is(err, provisioning.ErrProviderUnavailable) {
		return explainQuota(err)
	}
	if refused.Status == http.StatusBadRequest || refused.Status == http.StatusUnauthorized {
		return fmt.Errorf("%w: check the partner's client id and secret (PARTNER_CLIENT_ID, PARTNER_CLIENT_SECRET),"+
			" which are not those of an app", err)
	}
	return fmt.Errorf("%w: check the partner's token address (PARTNER_TOKEN_URL)", err)
}

// explainCall adds the cure to a refusal of the partner API.
func explainCall(err error) error {
	refused, ok := errors.AsType[*provisioning.ProviderError](err)
	switch {
	case !ok || errors.Is(err, provisioning.ErrProviderUnavailable):
		return explainQuota(err)
	case refused.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w: the partner's token was given and is not taken: check that PARTNER_TOKEN_URL and"+
			" PROVIDER_API_URL belong to the same provider, and that the client id is a partner's", err)
	case refused.Status == http.StatusForbidden && refused.Code == "":
		return fmt.Errorf("%w: check the partner's API key (PARTNER_API_KEY): it has to be that of an app of this partner", err)
	}
	return err
}

// explainQuota says of a quota that is used up when there is a new one.
func explainQuota(err error) error {
	if refused, ok := errors.AsType[*provisioning.ProviderError](err); ok && refused.Code == quotaExceeded {
		return fmt.Errorf("%w: the provider's calls for today are used up; there are new ones from 00:00 UTC, in %s",
			err, strings.TrimSuffix(max(refused.RetryAfter.Round(time.Minute), time.Minute).String(), "0s"))
	}
	return err
}
