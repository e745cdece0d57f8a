// Package openid speaks OpenID Connect with the issuer of single sign-on: it implements sso.Issuer.
//
//	Issuer ──► URL          where people sign in
//	       ├─► NamesItself  what answers have to say
//	       └─► Redeem       code ──► tokens ──► signature, issuer, audience, end, nonce ──► person
//
// The issuer is asked for its addresses when they are first needed, and again from time to time: the program starts, and
// passwords work, while it cannot be reached. Its keys are read anew when a token is signed with one that is not known, so
// that it may change them at any time. Which signatures are accepted, it says itself; "none" and those with a shared
// secret never are.
package openid

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/countersign/countersign/authflow/admin/sso"
	"github.com/countersign/countersign/provisioning"
)

const (
	// skew is how far the issuer's clock may be behind ours.
	skew = 2 * time.Minute
	// rediscover is how old what the issuer has told about itself may be.
	rediscover = time.Hour
	// answerTime is how long one answer of the issuer may take.
	answerTime = 10 * time.Second
)

// Issuer is one issuer, and us as its client.
type Issuer struct {
	Name         string // how it names itself, such as https://accounts.google.com
	ClientID     string
	ClientSecret provisioning.Secret // empty for a public client
	RedirectURL  string
	HTTP         http.RoundTripper // nil for http.DefaultTransport
	Now          func() time.Time

	known atomic.Pointer[metadata]
}

// metadata is what the issuer tells about itself.
type metadata struct {
	provider *oidc.Provider
	named    bool
	at       time.Time
}

// ID implements sso.Issuer.
func (i *Issuer) ID() string { return i.Name }

// URL implements sso.Issuer.
func (i *Issuer) URL(ctx context.Context, state, nonce, verifier string) (string, error) {
	m, err := i.discover(ctx)
	if err != nil {
		return "", err
	}
	return i.client(m).AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier)), nil
}

// NamesItself implements sso.Issuer.
func (i *Issuer) NamesItself(ctx context.Context) (bool, error) {
	m, err := i.discover(ctx)
	if err != nil {
		return false, err
	}
	return m.named, nil
}

// Redeem implements sso.Issuer.
func (i *Issuer) Redeem(ctx context.Context, code provisioning.Secret, nonce, verifier string) (sso.Person, error) {
	m, err := i.discover(ctx)
	if err != nil {
		return sso.Person{}, err
	}
	ctx = i.patient(ctx)
	token, err := i.client(m).Exchange(ctx, code.Reveal(), oauth2.VerifierOption(verifier))
	if err != nil {
		if no, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
			if no.Response.StatusCode >= http.StatusInternalServerError || no.Response.StatusCode == http.StatusTooManyRequests {
				return sso.Person{}, fmt.Errorf("%w: it answers %s", sso.ErrUnavailable, no.Response.Status)
			}
			// Its own text would repeat the whole answer.
			return sso.Person{}, fmt.Errorf("%w to redeem the code: %s, %.100q", sso.ErrRefused, no.Response.Status, no.ErrorCode)
		}
		return sso.Person{}, fmt.Errorf("%w: %w", sso.ErrUnavailable, err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return sso.Person{}, fmt.Errorf("%w: it came without an ID token", sso.ErrUntrusted)
	}
	id, err := m.provider.Verifier(&oidc.Config{
		ClientID: i.ClientID,
		Now:      func() time.Time { return i.Now().Add(-skew) },
	}).Verify(ctx, raw)
	if err != nil {
		return sso.Person{}, fmt.Errorf("%w: %w", sso.ErrUntrusted, err)
	}
	var c claims
	if err := id.Claims(&c); err != nil {
		return sso.Person{}, fmt.Errorf("%w: %w", sso.ErrUntrusted, err)
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1:
		return sso.Person{}, fmt.Errorf("%w: its nonce is not that of this attempt", sso.ErrUntrusted)
	case c.Party != "" && c.Party != i.ClientID, c.Party == "" && len(id.Audience) > 1:
		return sso.Person{}, fmt.Errorf("%w: it was issued to somebody else", sso.ErrUntrusted)
	case c.Subject == "":
		return sso.Person{}, fmt.Errorf("%w: it names nobody", sso.ErrUntrusted)
	case c.Email != "" || m.provider.UserInfoEndpoint() == "":
		return c.person(), nil
	}
	return ask(ctx, m, token, c.Subject)
}

// ask reads the address from an issuer that does not put it into ID tokens.
func ask(ctx context.Context, m *metadata, token *oauth2.Token, subject string) (sso.Person, error) {
	info, err := m.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return sso.Person{}, fmt.Errorf("%w: %w", sso.ErrUnavailable, err)
	}
	var c claims
	if err := info.Claims(&c); err != nil {
		return sso.Person{}, fmt.Errorf("%w: %w", sso.ErrUntrusted, err)
	}
	if c.Subject != subject { // OpenID Connect Core, 5.3.2
		return sso.Person{}, fmt.Errorf("%w: its user info is about somebody else", sso.ErrUntrusted)
	}
	return c.person(), nil
}

// claims are what is read of an ID token, or of user info.
type claims struct {
	Subject  string  `json:"sub"`
	Email    string  `json:"email"`
	Verified verdict `json:"email_verified"`
	Name     string  `json:"name"`
	Party    string  `json:"azp"`
}

func (c claims) person() sso.Person {
	return sso.Person{Subject: c.Subject, Email: c.Email, Verified: bool(c.Verified), Name: c.Name}
}

// verdict is a boolean that some issuers send as a text.
type verdict bool

// UnmarshalJSON implements json.Unmarshaler.
func (v *verdict) UnmarshalJSON(raw []byte) error {
	*v = string(raw) == "true" || string(raw) == `"true"`
	return nil
}

// discover returns what the issuer tells about itself, asking it if that was long ago. While it does not answer, what it
// has told before holds on.
func (i *Issuer) discover(ctx context.Context) (*metadata, error) {
	known, now := i.known.Load(), i.Now()
	if known != nil && now.Sub(known.at) < rediscover {
		return known, nil
	}
	provider, err := oidc.NewProvider(i.patient(ctx), i.Name)
	if err != nil {
		if known != nil {
			return known, nil
		}
		return nil, fmt.Errorf("%w: %w", sso.ErrUnavailable, err)
	}
	var told struct {
		Named bool `json:"authorization_response_iss_parameter_supported"`
	}
	if err := provider.Claims(&told); err != nil {
		return nil, fmt.Errorf("%w: %w", sso.ErrUnavailable, err)
	}
	m := &metadata{provider: provider, named: told.Named, at: now}
	i.known.Store(m)
	return m, nil
}

// patient has the issuer asked within answerTime, and no redirect followed: a code and our secret are for one address.
func (i *Issuer) patient(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, &http.Client{
		Transport:     i.HTTP,
		Timeout:       answerTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
}

func (i *Issuer) client(m *metadata) *oauth2.Config {
	return &oauth2.Config{
		ClientID:     i.ClientID,
		ClientSecret: i.ClientSecret.Reveal(),
		Endpoint:     m.provider.Endpoint(),
		RedirectURL:  i.RedirectURL,
		Scopes:       []string{oidc.ScopeOpenID, oidc.ScopeEmail, oidc.ScopeProfile},
	}
}
