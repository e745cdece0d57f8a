package web

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/budget"
)

const (
	shownDoubtful = 20

	// tokenPause is how long a grant that could not be refreshed rests at least, however often its token is wanted.
	tokenPause = time.Minute
)

// providerAPI is the part of the API that is about the provider: how we stand with it, and tokens for it.
func (s *Server) providerAPI(api huma.API) {
	register(s, api, http.MethodGet, "/provider", admin.ScopeRead,
		"Read what is left of the provider's limits, and how grants are kept alive", s.readProvider)
	register(s, api, http.MethodPost, "/clients/{id}/token", admin.ScopeTokens,
		"Get an access token for a client's account", s.postToken, func(o *huma.Operation) {
			o.Description += " The token lives for a while yet: the grant is refreshed if the one in hand does not." +
				" Some servers end an access token when its grant is refreshed: if the provider answers 401, ask again, once," +
				" and do not keep a token beyond expires_at. A client that is not authorized is answered with 409. Where asking" +
				" later helps, the answer is 503 with Retry-After, and its type says why: " + problemType + codeUnavailable + " or " +
				problemType + codeDoubtful + ", if the provider refuses to refresh the grant and it is not known yet whether for good." +
				" The client's history tells once a day that the key was given a token."
		})
}

// ProviderStanding is how we stand with the provider.
type ProviderStanding struct {
	Calls         ProviderBudget `json:"calls" doc:"at the provider's API, with the app's key"`
	TokenRequests ProviderBudget `json:"token_requests" doc:"at the provider's token endpoint, likewise"`
	Keeping       Keeping        `json:"keeping"`
}

// ProviderBudget is what a key may do at one door of the provider, over all replicas.
type ProviderBudget struct {
	PerSecond int           `json:"per_second" doc:"most in any second; 0 if there is no limit, and nothing is counted"`
	PerDay    *int          `json:"per_day" doc:"null for no limit"`
	Used      int           `json:"used" doc:"of this day, which begins at 00:00 UTC"`
	Left      *int          `json:"left" doc:"of this day; null for no limit"`
	Kept      int           `json:"kept" doc:"how many of those left are kept for owners who consent"`
	DayEnds   time.Time     `json:"day_ends"`
	Throttled int           `json:"throttled" doc:"how often the provider said today that it was too much"`
	Hold      *ProviderHold `json:"hold" doc:"null unless calls wait"`
}

// ProviderHold is a time in which calls wait.
type ProviderHold struct {
	Why   string    `json:"why" enum:"throttled,quota_exceeded,day_used,share_used" doc:"the provider says that there were too many at once, or today; by our own count all are used, or all but those kept for owners: then owners go on"`
	Until time.Time `json:"until"`
}

// Keeping is how grants are kept alive.
type Keeping struct {
	Due        int             `json:"due" doc:"grants that wait to be refreshed; at most 10000 are counted, as of those below"`
	DoneAt     *time.Time      `json:"done_at" doc:"about when they will all be; null if none waits, or nobody can say"`
	NextAt     *time.Time      `json:"next_at" doc:"when the first is due; null if there is none"`
	Refreshes  map[string]int  `json:"refreshes" doc:"attempts of the last 24 hours, by how they ended"`
	Doubted    int             `json:"doubted" doc:"grants that the provider refuses to refresh and that are tried again"`
	Doubtful   []DoubtfulGrant `json:"doubtful" doc:"those of them that have been for the longest, at most 20"`
	Quarantine int             `json:"quarantine" doc:"grants of unexpected accounts, which wait for a decision"`
	AppRefused *Obstacle       `json:"app_refused" doc:"the provider refuses the app itself: its key or secret is wrong; null if it does not"`
	Frozen     *Obstacle       `json:"frozen" doc:"so many grants are refused at once that it looks like an outage, and no client is taken for lapsed that has not been refused for a week; null if they are not"`
}

// Obstacle is what keeps all grants from being refreshed.
type Obstacle struct {
	Since time.Time `json:"since"`
	Why   string    `json:"why"`
}

// DoubtfulGrant is a grant that the provider refuses to refresh.
type DoubtfulGrant struct {
	ClientID   uuid.UUID  `json:"client_id" format:"uuid"`
	ClientName string     `json:"client_name"`
	Since      time.Time  `json:"since"`
	Refusals   int        `json:"refusals"`
	NextAt     *time.Time `json:"next_at" doc:"when it is tried again; null while it is"`
	Proven     bool       `json:"proven" doc:"it was refreshed before"`
}

// ProviderStanding reads how we stand with the provider, as API, console and command line tell it.
func (s *Server) ProviderStanding(ctx context.Context) (ProviderStanding, error) {
	if s.Keeper == nil {
		return ProviderStanding{}, errNoApp
	}
	calls, err := s.Calls.State(ctx)
	if err != nil {
		return ProviderStanding{}, err
	}
	requests, err := s.Tokens.State(ctx)
	if err != nil {
		return ProviderStanding{}, err
	}
	o, err := s.Keeper.Overview(ctx)
	if err != nil {
		return ProviderStanding{}, err
	}
	doubtful, err := s.Keeper.Doubtful(ctx, shownDoubtful)
	if err != nil {
		return ProviderStanding{}, err
	}
	keeping := Keeping{
		Due: o.Due, DoneAt: doneAt(o, requests), NextAt: o.NextAt, Refreshes: map[string]int{},
		Doubted: o.Doubted, Doubtful: []DoubtfulGrant{}, Quarantine: o.Quarantine,
		AppRefused: obstacle(o.RefusedAt, o.RefusedWhy), Frozen: obstacle(o.FrozenAt, o.FrozenWhy),
	}
	for outcome, n := range o.Day {
		keeping.Refreshes[string(outcome)] = n
	}
	for _, d := range doubtful {
		keeping.Doubtful = append(keeping.Doubtful, DoubtfulGrant{d.ClientID, d.ClientName, d.Since, d.Refusals, d.NextAt, d.Proven})
	}
	return ProviderStanding{budgetInJSON(calls), budgetInJSON(requests), keeping}, nil
}

func budgetInJSON(s budget.State) ProviderBudget {
	b := ProviderBudget{PerSecond: s.PerSecond, Used: s.Used, DayEnds: s.DayEnds, Throttled: s.Throttled, Hold: holdOf(s)}
	if s.PerSecond > 0 && s.PerDay > 0 {
		left := s.Remaining(budget.Walk)
		b.PerDay, b.Left, b.Kept = &s.PerDay, &left, left-s.Remaining(budget.Background)
	}
	return b
}

// holdOf tells why calls wait, nil if they do not.
func holdOf(s budget.State) *ProviderHold {
	limited := s.PerSecond > 0 && s.PerDay > 0
	switch {
	case !s.HeldUntil.IsZero():
		return &ProviderHold{string(s.HeldWhy), s.HeldUntil}
	case limited && s.Remaining(budget.Walk) == 0:
		return &ProviderHold{string(budget.DayUsed), s.DayEnds}
	case limited && s.Remaining(budget.Background) == 0:
		return &ProviderHold{string(budget.ShareUsed), s.DayEnds}
	}
	return nil
}

// doneAt estimates when what is due will be refreshed, one request each.
func doneAt(o grant.Overview, requests budget.State) *time.Time {
	if o.Due == 0 || o.RefusedAt != nil || requests.PerSecond == 0 {
		return nil
	}
	at, ever := requests.Finish(o.Due)
	if !ever {
		return nil
	}
	return &at
}

func obstacle(since *time.Time, why *string) *Obstacle {
	if since == nil {
		return nil
	}
	return &Obstacle{*since, orZero(why)}
}

type providerOutput struct {
	Body ProviderStanding
}

func (s *Server) readProvider(ctx context.Context, _ *struct{}) (*providerOutput, error) {
	standing, err := s.ProviderStanding(ctx)
	if err != nil {
		return nil, err
	}
	return &providerOutput{standing}, nil
}

type tokenOutput struct {
	Body struct {
		AccessToken string    `json:"access_token"`
		TokenType   string    `json:"token_type" enum:"Bearer"`
		ExpiresAt   time.Time `json:"expires_at"`
		AccountID   string    `json:"account_id" doc:"the account that it opens"`
		Scopes      []string  `json:"scopes" doc:"what the owner has granted"`
	}
}

// postToken gives a token out only after the client's history tells so.
func (s *Server) postToken(ctx context.Context, in *clientID) (*tokenOutput, error) {
	if s.Keeper == nil {
		return nil, errNoApp
	}
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	token, err := s.Keeper.Token(ctx, c.ID)
	if err != nil {
		return nil, s.noToken(ctx, c.ID, err)
	}
	if err := provisioning.NoteToken(ctx, s.Store.DB, c.ID, actor(ctx)); err != nil {
		return nil, err
	}
	out := &tokenOutput{}
	out.Body.AccessToken, out.Body.TokenType = token.Access.Reveal(), "Bearer"
	out.Body.ExpiresAt, out.Body.AccountID, out.Body.Scopes = token.ExpiresAt, token.AccountID, token.Scopes
	return out, nil
}

// noToken makes a problem of why there is no token, which tells when to ask again.
func (s *Server) noToken(ctx context.Context, client uuid.UUID, err error) error {
	after := tokenPause
	switch {
	case errors.Is(err, grant.ErrDoubtful):
		next, err := s.nextTry(ctx, client)
		if err != nil {
			return err
		}
		after = max(next.Sub(s.Now()), tokenPause)
	case !errors.Is(err, provisioning.ErrProviderUnavailable):
		return err
	}
	return &toldProblem{problemOf(err), http.Header{"Retry-After": {strconv.Itoa(int(after.Seconds()))}}}
}

// nextTry returns when a client's grant is refreshed next, zero if that is not planned.
func (s *Server) nextTry(ctx context.Context, client uuid.UUID) (time.Time, error) {
	grants, err := s.Grants.Of(ctx, client)
	if err != nil {
		return time.Time{}, err
	}
	for _, g := range grants {
		if g.RefreshAt != nil {
			return *g.RefreshAt, nil
		}
	}
	return time.Time{}, nil
}
