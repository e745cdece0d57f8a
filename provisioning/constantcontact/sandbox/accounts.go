package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
)

// Account is one account at the provider. Its JSON names are those of
// GET /v3/account/summary, so a file for [LoadAccounts] reads like a list of
// summaries with users:
//
//	[{"encoded_account_id": "a07e1lxqqqo0", "organization_name": "Acme Bakery",
//	  "first_name": "Ada", "last_name": "Moss", "contact_email": "ada@acme.example",
//	  "users": [{"login": "ada@acme.example", "password": "amber-harbor-27", "role": "owner"}]}]
//
// Only encoded_account_id, and login, password and role of each user, are required.
type Account struct {
	ID                string   `json:"encoded_account_id,omitempty"`
	PartnerID         string   `json:"encoded_partner_id,omitempty"`
	Organization      string   `json:"organization_name"`
	OrganizationPhone string   `json:"organization_phone"`
	FirstName         string   `json:"first_name"`
	LastName          string   `json:"last_name"`
	ContactEmail      string   `json:"contact_email"`
	ContactPhone      string   `json:"contact_phone"`
	Country           string   `json:"country_code"`
	State             string   `json:"state_code"`
	TimeZone          string   `json:"time_zone_id"`
	Website           string   `json:"website"`
	PhysicalAddress   *Address `json:"physical_address,omitempty"`
	CompanyLogo       *Logo    `json:"company_logo,omitempty"`
	Users             []User   `json:"users,omitempty"`

	// What follows is seen in the partner's list of accounts alone.

	// Unmanaged says that the partner only referred the account and may not act for it.
	Unmanaged bool `json:"unmanaged,omitempty"`
	// BillingStatus is Trial, "Trial End", Open, Active or Canceled; by default Open.
	BillingStatus string `json:"billing_status,omitempty"`
	Subscribers   int    `json:"subscriber_count,omitempty"`
}

// Address is where an account's organization is; the API gives it on request.
type Address struct {
	Line1      string `json:"address_line1"`
	Line2      string `json:"address_line2,omitempty"`
	Line3      string `json:"address_line3,omitempty"`
	City       string `json:"city"`
	State      string `json:"state_code"`
	StateName  string `json:"state_name,omitempty"`
	PostalCode string `json:"postal_code"`
	Country    string `json:"country_code"`
}

// Logo is an account's logo; the API gives it on request.
type Logo struct {
	URL         string `json:"url"`
	ExternalURL string `json:"external_url"`
	InternalID  string `json:"internal_id"`
}

// User can sign in. Logins are unique over all accounts, without regard to case.
type User struct {
	Login    string `json:"login"`
	Password string `json:"password"`
	Role     Role   `json:"role"`
	// PlatformUserID is the provider's id of the user, a UUID; by default it is
	// derived from the login.
	PlatformUserID string `json:"platform_user_id,omitempty"`
}

// Role says what a user may do in its account.
type Role string

const (
	// RoleOwner may do everything.
	RoleOwner Role = "owner"
	// RoleManager may do everything but change the account.
	RoleManager Role = "manager"
	// RoleCampaignCreator may write campaigns and see lists, but neither contacts nor
	// reports nor, in the stricter reading, the account's details.
	RoleCampaignCreator Role = "campaign_creator"
	// RolePartnerManager belongs to a partner's own account and may enter every
	// account of that partner: the consent page asks for which one. The provider
	// does not keep a grant that was made from such a session.
	RolePartnerManager Role = "partner_manager"
)

// user is a User with the account that it belongs to.
type user struct {
	User
	account *Account
}

// LoadAccounts reads accounts as a JSON array; [Account] documents the format. An
// unknown field is an error, as it is most often a misspelt one.
func LoadAccounts(r io.Reader) ([]Account, error) {
	decoder := json.NewDecoder(r)
	decoder.DisallowUnknownFields()
	var accounts []Account
	if err := decoder.Decode(&accounts); err != nil {
		return nil, fmt.Errorf("sandbox: accounts must be a JSON array, see Account for its fields: %w", err)
	}
	return accounts, nil
}

func (s *Sandbox) addAccounts(accounts []Account) error {
	var errs []error
	for _, account := range accounts {
		if account.ID == "" || s.accounts[account.ID] != nil {
			errs = append(errs, fmt.Errorf("account %q (%s): every account needs an id of its own", account.ID, account.Organization))
			continue
		}
		s.accounts[account.ID] = &account
		for _, u := range account.Users {
			if err := s.addUser(u, &account); err != nil {
				errs = append(errs, fmt.Errorf("account %q, user %q: %w", account.ID, u.Login, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (s *Sandbox) addUser(u User, account *Account) error {
	login := strings.ToLower(u.Login)
	switch {
	case u.Login == "" || u.Password == "":
		return errors.New("give a login and a password")
	case s.users[login] != nil:
		return errors.New("the login is taken; logins are unique over all accounts, whatever their case")
	case len(privilegesOf(u.Role)) == 0:
		return fmt.Errorf("role %q: give owner, manager, campaign_creator or partner_manager", u.Role)
	}
	if u.PlatformUserID == "" {
		u.PlatformUserID = uuid.NewSHA1(uuid.NameSpaceURL, []byte(login)).String()
	}
	s.users[login] = &user{User: u, account: account}
	return nil
}

// enters tells which account u acts in when it names one on the consent page, and
// whether that is an entry through a partner login. ok is false if u may not.
func (s *Sandbox) enters(u *user, accountID string) (account *Account, partner, ok bool) {
	if u.Role != RolePartnerManager || accountID == "" || accountID == u.account.ID {
		return u.account, false, true
	}
	account = s.accounts[accountID]
	return account, true, account != nil && account.PartnerID == u.account.ID
}

// RemoveUser deletes a user, as an account's owner may. Its grants end, as the
// provider's do. It reports whether there was such a user.
func (s *Sandbox) RemoveUser(login string) bool {
	login = strings.ToLower(login)
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users[login]
	if !ok {
		return false
	}
	delete(s.users, login)
	for id, session := range s.sessions {
		if session.user == u {
			delete(s.sessions, id)
		}
	}
	for value, code := range s.codes {
		if code.grant.user == u {
			delete(s.codes, value)
		}
	}
	s.endWhere(func(g *grant) bool { return g.user == u }, Revoked)
	return true
}

// find returns up to limit accounts that contain the search words in their name,
// id or one of their logins, in the order of Options.Accounts, and how many match.
func (s *Sandbox) find(search string, limit int) (found []Account, total int) {
	found = []Account{}
	search = strings.ToLower(strings.TrimSpace(search))
	for _, account := range s.options.Accounts {
		text := []string{account.ID, account.Organization}
		for _, u := range account.Users {
			text = append(text, u.Login)
		}
		if !strings.Contains(strings.ToLower(strings.Join(text, "\n")), search) {
			continue
		}
		total++
		if len(found) < limit {
			found = append(found, account)
		}
	}
	return found, total
}
