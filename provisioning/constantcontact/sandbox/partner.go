package sandbox

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Partner has credentials for the partner API, which shows the accounts whose
// PartnerID is AccountID and acts for those that are managed.
type Partner struct {
	ClientID  string
	Secret    string
	APIKey    string // sent as x-api-key beside the token
	AccountID string // the partner's own account, the encoded_partner_id of its clients
}

// partner is a Partner with what its rate limits remember.
type partner struct {
	Partner
	meter
}

// pass is a partner's token. There is no refresh token: the partner asks for another.
type pass struct {
	partner *partner
	expires time.Time
}

const partnerScope = "v3api/general.partner"

func (s *Sandbox) addPartners(partners []Partner) error {
	var errs []error
	for _, p := range partners {
		if p.ClientID == "" || p.Secret == "" || p.APIKey == "" || p.AccountID == "" || s.partners[p.ClientID] != nil {
			errs = append(errs, fmt.Errorf("partner %q: every partner needs a client id of its own, a secret, an API key and an account id", p.ClientID))
			continue
		}
		s.partners[p.ClientID] = &partner{Partner: p}
	}
	return errors.Join(errs...)
}

// partnerToken is the partners' token endpoint, which stands at two paths: the host
// of the older one is a cloud's.
func (s *Sandbox) partnerToken(w http.ResponseWriter, r *http.Request) {
	s.count(func(stats *Stats) { stats.TokenRequests++ })
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	err := r.ParseForm()
	if reply := s.instead(tokenDoor, r); reply != nil {
		reply.send(w)
		return
	}
	if err != nil {
		oauthError(http.StatusBadRequest, "invalid_request", "The request could not be read.").send(w)
		return
	}
	reply := s.grantPass(r)
	s.options.Log.DebugContext(r.Context(), "sandbox: partner token request answered", "status", reply.status)
	reply.send(w)
}

// grantPass answers a request whose form has been parsed. As at the provider the
// parameters may stand in the body or in the query.
func (s *Sandbox) grantPass(r *http.Request) *answer {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if mediaType != "application/x-www-form-urlencoded" {
		return oauthError(http.StatusUnsupportedMediaType, "invalid_request",
			"The content type must be application/x-www-form-urlencoded.")
	}
	basicID, basicPassword, _ := r.BasicAuth()
	id, idErr := url.QueryUnescape(basicID)
	password, passwordErr := url.QueryUnescape(basicPassword)
	asking := s.partners[id]
	if idErr != nil || passwordErr != nil || asking == nil {
		return invalidClient()
	}
	if !s.allowToken(&asking.meter) {
		return tooManyTokens()
	}
	if subtle.ConstantTimeCompare([]byte(asking.Secret), []byte(password)) != 1 {
		return invalidClient()
	}
	if r.Form.Get("grant_type") != "client_credentials" {
		return oauthError(http.StatusBadRequest, "unsupported_grant_type", "The grant type must be client_credentials.")
	}
	if scope := r.Form.Get("scope"); scope != "" && scope != partnerScope {
		return oauthError(http.StatusBadRequest, "invalid_scope", "The scope must be "+partnerScope+".")
	}
	now := s.options.Now()
	expires := now.Add(partnerLifetime)
	token, err := s.jwt(claims{
		Version:  1,
		ID:       "AT." + secret(),
		Issuer:   s.options.Issuer,
		Audience: "https://api.cc.email/v3",
		IssuedAt: now.Unix(),
		Expires:  expires.Unix(),
		ClientID: asking.ClientID,
		Scopes:   []string{partnerScope},
		Subject:  asking.ClientID,
	})
	if err != nil {
		return oauthError(http.StatusInternalServerError, "server_error", "The access token could not be signed.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	s.passes[sha256.Sum256([]byte(token))] = &pass{partner: asking, expires: expires}
	return &answer{status: http.StatusOK, body: tokenReply{
		TokenType: "Bearer", ExpiresIn: int(partnerLifetime / time.Second), AccessToken: token, Scope: partnerScope,
	}}
}

// asPartner serves a resource of the partner API. The token comes first, then the
// API key, which the gateway checks, then the limits.
func (s *Sandbox) asPartner(serve func(*http.Request, *partner) *answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		if reply := s.instead(apiDoor, r); reply != nil {
			reply.send(w)
			return
		}
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		caller := s.holder(token)
		if caller == nil || !strings.EqualFold(scheme, "Bearer") {
			unauthorized().send(w)
			return
		}
		if subtle.ConstantTimeCompare([]byte(caller.APIKey), []byte(r.Header.Get("X-Api-Key"))) != 1 {
			s.forbidden(w, r)
			return
		}
		if throttled := s.allowCall(&caller.meter); throttled != nil {
			throttled.send(w)
			return
		}
		serve(r, caller).send(w)
	})
}

// holder returns whose a partner's token is, or nil if it is not good (any more).
func (s *Sandbox) holder(token string) *partner {
	now := s.options.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.passes[sha256.Sum256([]byte(token))]
	if found == nil || now.After(found.expires) {
		return nil
	}
	return found.partner
}

// siteOwner is an account in the partner's list.
type siteOwner struct {
	AccountID    string `json:"encoded_account_id"`
	Subscribers  int    `json:"subscriber_count"`
	Organization string `json:"organization_name"`
	Login        string `json:"site_owner_name"` // a user name, and no address to rely on
	Billing      string `json:"billing_status"`
}

type siteOwnerPage struct {
	SiteOwners []siteOwner     `json:"site_owner_list"`
	Links      *siteOwnerLinks `json:"_links,omitempty"` // absent on the last page
}

type siteOwnerLinks struct {
	Next struct {
		Href string `json:"href"`
	} `json:"next"`
}

// listAccounts is the partner's list of accounts, in pages. A limit that is not
// between 10 and 50 is ignored. The link to the next page has offset and limit, as
// documented, and not the account_type of its page.
func (s *Sandbox) listAccounts(r *http.Request, p *partner) *answer {
	query := r.URL.Query()
	limit, err := strconv.Atoi(query.Get("limit"))
	if err != nil || limit < 10 || limit > 50 {
		limit = 50
	}
	start, err := readOffset(query.Get("offset"))
	if err != nil {
		return apiTrouble(http.StatusBadRequest, "partner.api.validation.error", "The offset is invalid.")
	}
	kind := query.Get("account_type")
	switch kind {
	case "", "all", "managed", "unmanaged":
	default:
		return apiTrouble(http.StatusBadRequest, "partner.api.validation.error", "account_type may be all, managed or unmanaged.")
	}
	page := siteOwnerPage{SiteOwners: []siteOwner{}}
	at := -1
	for _, account := range s.options.Accounts {
		if account.PartnerID != p.AccountID || kind == "managed" && account.Unmanaged || kind == "unmanaged" && !account.Unmanaged {
			continue
		}
		if at++; at < start {
			continue
		}
		if len(page.SiteOwners) == limit {
			page.Links = &siteOwnerLinks{}
			page.Links.Next.Href = fmt.Sprintf("/v3/partner/accounts?offset=%s&limit=%d", writeOffset(at), limit)
			break
		}
		page.SiteOwners = append(page.SiteOwners, account.listed())
	}
	return &answer{status: http.StatusOK, body: page}
}

func (a Account) listed() siteOwner {
	listed := siteOwner{AccountID: a.ID, Subscribers: a.Subscribers, Organization: a.Organization, Billing: a.BillingStatus}
	if listed.Billing == "" {
		listed.Billing = "Open"
	}
	for _, u := range a.Users {
		if u.Role == RoleOwner {
			listed.Login = u.Login
			break
		}
	}
	return listed
}

// writeOffset makes the opaque offset of a position, in base 64 with * for padding,
// as the documentation's own example has it: MTA* is 10.
func writeOffset(position int) string {
	return base64.URLEncoding.WithPadding('*').EncodeToString([]byte(strconv.Itoa(position)))
}

func readOffset(offset string) (int, error) {
	if offset == "" {
		return 0, nil
	}
	text, err := base64.URLEncoding.WithPadding('*').DecodeString(offset)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}

// operation is the body of a call that a partner makes inside an account.
type operation struct {
	URL     string `json:"account_operation_url"`
	Method  string `json:"account_operation_method"`
	Payload string `json:"account_operation_payload"` // JSON in a string
	Query   []struct {
		Key   string `json:"query_param_key"`
		Value string `json:"query_param_value"`
	} `json:"account_operation_query_parameters"`
}

// operate makes a call inside a managed account, without anybody's consent; its
// answer is that of the inner call. An unknown account and an unknown inner resource
// are both 404.
func (s *Sandbox) operate(r *http.Request, p *partner) *answer {
	if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType != "application/json" {
		return apiTrouble(http.StatusUnsupportedMediaType, "partner.api.unsupported_media_type", "The content type must be application/json.")
	}
	var inner operation
	if err := json.NewDecoder(r.Body).Decode(&inner); err != nil || inner.URL == "" || inner.Method == "" {
		return apiTrouble(http.StatusBadRequest, "partner.api.validation.error",
			"account_operation_url and account_operation_method are required.")
	}
	account := s.accounts[r.PathValue("id")]
	if account == nil || account.PartnerID != p.AccountID {
		return apiTrouble(http.StatusNotFound, "partner.api.not_found", "The account does not exist.")
	}
	if account.Unmanaged || strings.HasPrefix(inner.URL, "/partner/") {
		return &answer{status: http.StatusForbidden, body: apiError{
			"access_denied", "The operation is for managed accounts and methods other than the partner's own.",
		}}
	}
	if inner.Method != http.MethodGet || inner.URL != "/account/summary" {
		return apiTrouble(http.StatusNotFound, "account.api.not_found", "The sandbox does not have this method.")
	}
	parameters := url.Values{}
	for _, parameter := range inner.Query {
		parameters.Set(parameter.Key, parameter.Value)
	}
	return s.summary(&http.Request{URL: &url.URL{RawQuery: parameters.Encode()}}, &grant{account: account})
}
