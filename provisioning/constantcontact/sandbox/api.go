package sandbox

import (
	"net/http"
	"slices"
	"strings"
)

// resource is one resource of the API. The provider checks, in this order, the
// token, the app's limits, the token's scope and the user's privilege.
type resource struct {
	path      string
	scope     string // none if empty
	privilege string // none if empty
	read      func(*http.Request, *grant) *answer
}

func (s *Sandbox) resources() []resource {
	return []resource{
		{"/v3/account/summary", "account_read", "account:read", s.summary},
		{"/v3/account/user/privileges", "", "", s.privileges},
	}
}

func (s *Sandbox) serve(served resource) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.call(served, r).send(w)
	})
}

func (s *Sandbox) call(called resource, r *http.Request) *answer {
	if reply := s.instead(apiDoor, r); reply != nil {
		return reply
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	caller := s.lookUp(token)
	if caller == nil || !strings.EqualFold(scheme, "Bearer") {
		return unauthorized()
	}
	if throttled := s.allowCall(&caller.grant.app.meter); throttled != nil {
		return throttled
	}
	if called.scope != "" && !slices.Contains(caller.scopes, called.scope) {
		return &answer{status: http.StatusForbidden, body: apiError{
			"access_denied", "Request forbidden due to insufficient scope.",
		}}
	}
	if called.privilege != "" && !slices.ContainsFunc(privilegesOf(caller.grant.user.Role), func(p privilege) bool {
		return p.Name == called.privilege
	}) {
		return &answer{status: http.StatusForbidden, body: apiError{
			"access_denied", "Request forbidden due to insufficient user privileges.",
		}}
	}
	return called.read(r, caller.grant)
}

// forbidden is what the gateway says to whatever it does not know.
func (s *Sandbox) forbidden(w http.ResponseWriter, _ *http.Request) {
	reply := answer{
		status: http.StatusForbidden,
		header: map[string]string{"x-amzn-ErrorType": "ForbiddenException"},
		body:   map[string]string{"message": "Forbidden"},
	}
	reply.send(w)
}

// summary tells which account a token belongs to. The names are the owner's, whoever
// consented.
func (s *Sandbox) summary(r *http.Request, g *grant) *answer {
	account := *g.account
	if s.strikes(SummaryOfAnother) {
		for _, other := range s.options.Accounts {
			if other.ID != account.ID {
				account = other
				break
			}
		}
	}
	s.distortSummary(&account)
	address, logo := account.PhysicalAddress, account.CompanyLogo
	account.PhysicalAddress, account.CompanyLogo, account.Users = nil, nil, nil
	account.Unmanaged, account.BillingStatus, account.Subscribers = false, "", 0
	if extra := r.URL.Query().Get("extra_fields"); extra != "" {
		for field := range strings.SplitSeq(extra, ",") {
			switch strings.TrimSpace(field) {
			case "physical_address":
				account.PhysicalAddress = address
			case "company_logo":
				account.CompanyLogo = logo
			default:
				return apiTrouble(http.StatusBadRequest, "contacts.api.validation.error",
					"extra_fields may name physical_address and company_logo.")
			}
		}
	}
	return &answer{status: http.StatusOK, body: account}
}

// privilege is a right of a user inside an account.
type privilege struct {
	ID   int    `json:"privilege_id"`
	Name string `json:"privilege_name"`
}

func (s *Sandbox) privileges(_ *http.Request, g *grant) *answer {
	return &answer{status: http.StatusOK, body: privilegesOf(g.user.Role)}
}

// privilegesOf is empty for a role that does not exist.
func privilegesOf(role Role) []privilege {
	all := []privilege{
		{30, "campaign:create"},
		{31, "campaign:read"},
		{32, "campaign:write"},
		{20, "contacts:lists:read"}, // a campaign creator's end here
		{10, "account:read"},
		{21, "contacts:lists:write"},
		{22, "contacts:read"},
		{23, "contacts:write"},
		{33, "campaign:send"},
		{34, "campaign:delete"},
		{40, "ui:campaign:metrics"}, // a manager's end here
		{11, "account:update"},
	}
	return all[:map[Role]int{RoleCampaignCreator: 4, RoleManager: 11, RolePartnerManager: 11, RoleOwner: 12}[role]]
}
