package main

import (
	"context"
	"time"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/budget"
	"github.com/countersign/countersign/provisioning/constantcontact"
	"github.com/countersign/countersign/provisioning/partner"
)

const (
	// walkPatience is how long an owner who comes back from the provider waits for a turn at it. In a rush of
	// owners a second each, that is how many come through who came in the same moment.
	walkPatience = 45 * time.Second

	// reserve is the share of a day's calls, one in so many, that is kept for owners' walks.
	reserve = 10
)

// openProvider plugs together what speaks to the provider: for owners' walks, for keeping grants, and for the
// partner. Whoever shares a key shares its budget, in all replicas.
func (a *app) openProvider() (err error) {
	c := &a.config
	if c.OAuthClientID != "" {
		a.calls = a.meter(c.OAuthClientID, "api", c.providerRate, c.providerDaily)
		a.tokens = a.meter(c.OAuthClientID, "token", c.tokenRate, 0)
		walks := c.provider()
		walks.Now = a.clock.now
		walks.Calls, walks.Tokens = a.share(a.calls, budget.Walk), a.share(a.tokens, budget.Walk)
		if a.flow.Provider, err = constantcontact.New(walks); err != nil {
			return err
		}
		keeping := walks
		turns := a.share(a.tokens, budget.Background)
		keeping.Calls, keeping.Tokens = a.share(a.calls, budget.Background), inTurn{turns}
		provider, err := constantcontact.New(keeping)
		if err != nil {
			return err
		}
		a.keeper = &grant.Keeper{Store: a.grants, Provider: provider, Turns: turns, Reconnecter: a.inviter, Log: a.log}
	}
	if c.PartnerClientID == "" {
		return nil
	}
	credentials := c.partner()
	credentials.Calls = a.share(a.meter(c.PartnerAPIKey.Reveal(), "api", c.providerRate, c.providerDaily), budget.Background)
	credentials.Tokens = a.share(a.meter(c.PartnerClientID, "token", c.tokenRate, 0), budget.Background)
	credentials.Shelf = &vault.TokenShelf{
		DB: a.db.Pool, Vault: a.grants.Vault, Name: c.PartnerClientID + " at " + credentials.TokenURL, Now: a.clock.now,
	}
	asPartner, err := constantcontact.NewPartner(credentials)
	if err != nil {
		return err
	}
	a.partner = &partner.Checker{DB: a.db.Pool, Provider: asPartner, PerDay: c.providerDaily, Now: a.clock.now, Log: a.log}
	a.reconciler = &provisioning.Reconciler{DB: a.db.Pool, Partner: asPartner, Importer: a.importer}
	return nil
}

func (a *app) meter(key, door string, perSecond, perDay int) *budget.Meter {
	return budget.New(a.db.Pool, budget.Name(key, door), budget.Limits{
		PerSecond: perSecond, PerDay: perDay, Reserve: perDay / reserve,
	})
}

func (a *app) share(m *budget.Meter, p budget.Priority) budget.Share {
	s := budget.Share{Meter: m, Priority: p, Log: a.log}
	if p == budget.Walk {
		s.Patience = walkPatience
	}
	return s
}

// inTurn is a budget for calls that have their turn already: it only hears what the provider says of them.
type inTurn struct{ budget.Share }

func (inTurn) Take(context.Context) (done func(sent bool), err error) { return func(bool) {}, nil }
