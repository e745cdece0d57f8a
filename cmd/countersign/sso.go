package main

import (
	"github.com/countersign/countersign/authflow/admin/sso"
	"github.com/countersign/countersign/authflow/admin/sso/openid"
	"github.com/countersign/countersign/cmd/countersign/internal/web"
)

// signOn is nil without an issuer of single sign-on. It is asked for nothing before somebody signs in.
func (a *app) signOn() *sso.Door {
	c := &a.config
	if c.SSOIssuer == "" {
		return nil
	}
	return &sso.Door{
		Store: a.admin,
		Issuer: &openid.Issuer{
			Name: c.SSOIssuer, ClientID: c.SSOClientID, ClientSecret: c.SSOClientSecret,
			RedirectURL: c.PublicURL + web.SignOnPath, Now: a.clock.now,
		},
		Name: c.SSOName, Domains: c.ssoDomains, Newcomers: c.ssoRole, Now: a.clock.now,
	}
}
