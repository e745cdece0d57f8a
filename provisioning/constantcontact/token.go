package constantcontact

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign/countersign/provisioning"
)

const (
	// maxLife bounds what is believed about an access token: the provider's live a day, and its own
	// SDK takes expires_in for a point in time, which read as seconds would be decades.
	maxLife = 24 * time.Hour
	// assumedLife is for an access token that does not tell. Too short costs one refresh, too long
	// would cost a failed call.
	assumedLife = time.Hour
)

// ErrUnassigned is a [*provisioning.ProviderError]: the person who consented signed in with a login
// that belongs to no account. The provider issues tokens all the same, and they open nothing.
var ErrUnassigned error = &provisioning.ProviderError{
	Op:          exchange,
	Status:      http.StatusOK,
	Code:        "unassigned",
	Description: "the login that consented belongs to no account (platform_user_id is UNASSIGNED): sign in as the account's owner or manager and consent again",
}

const exchange = "exchange the code"

// Exchange redeems the code of a callback at the token URL of the same walk. The verifier is the
// one that AuthorizeURL got.
//
// It returns a *provisioning.ProviderError if the provider refuses (invalid_grant: the code was
// used, is too old or belongs to another walk), ErrUnassigned if the tokens open no account, and
// an error that matches provisioning.ErrProviderUnavailable if there is no usable answer; the code
// may have been redeemed if it matches provisioning.ErrOutcomeUnknown as well.
func (c *Client) Exchange(ctx context.Context, tokenURL, code, verifier string) (provisioning.Tokens, error) {
	form := url.Values{
		"grant_type":   {"authorization_code"},
		"code":         {code},
		"redirect_uri": {c.oauth.RedirectURL},
	}
	if verifier != "" {
		form.Set("code_verifier", verifier)
	}
	tokens, claims, err := c.token(ctx, exchange, tokenURL, form)
	if err != nil {
		return provisioning.Tokens{}, err
	}
	if claims.PlatformUserID == "UNASSIGNED" {
		return provisioning.Tokens{}, ErrUnassigned
	}
	return tokens, nil
}

// Refresh trades the refresh token for new tokens. Tokens.Refresh is empty if the provider gave no
// new one: the old one stays good.
//
// It returns a *provisioning.ProviderError if the provider refuses (invalid_grant: the grant is
// gone, or somebody else used this refresh token first), and an error that matches
// provisioning.ErrProviderUnavailable if there is no usable answer; the refresh token may have been
// used up if it matches provisioning.ErrOutcomeUnknown as well.
func (c *Client) Refresh(ctx context.Context, refresh provisioning.Secret) (provisioning.Tokens, error) {
	tokens, _, err := c.token(ctx, "refresh the grant", c.TokenURL(), url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {refresh.Reveal()},
	})
	return tokens, err
}

// token makes a token request. The request is this package's own because oauth2.Config takes form
// bodies for an answer, loses the tokens over an expires_in with a fraction, prints whole answers in
// its errors and cannot say that no refresh token came.
func (c *Client) token(ctx context.Context, op, tokenURL string, form url.Values) (provisioning.Tokens, claims, error) {
	if err := checkURL("token URL", tokenURL); err != nil {
		return provisioning.Tokens{}, claims{}, fmt.Errorf("%s: %w", op, err)
	}
	if c.secret == "" {
		form.Set("client_id", c.oauth.ClientID)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, tokenURL, nil)
	if err != nil {
		return provisioning.Tokens{}, claims{}, fmt.Errorf("%s: %w", op, err)
	}
	body := form.Encode()
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) {
		return io.NopCloser(looking{strings.NewReader(body), ctx}), nil
	}
	req.Body, _ = req.GetBody()
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.secret != "" {
		// RFC 6749, 2.3.1: both are form-encoded before they are joined by a colon.
		req.SetBasicAuth(url.QueryEscape(c.oauth.ClientID), url.QueryEscape(c.secret.Reveal()))
	}

	var answer struct {
		AccessToken  provisioning.Secret `json:"access_token"`
		TokenType    string              `json:"token_type"`
		RefreshToken provisioning.Secret `json:"refresh_token"`
		ExpiresIn    json.RawMessage     `json:"expires_in"`
		Scope        string              `json:"scope"`
	}
	asked := c.now()
	if err := c.ask(op, c.tokens, req, &answer,
		c.secret,
		provisioning.Secret(form.Get("code")),
		provisioning.Secret(form.Get("code_verifier")),
		provisioning.Secret(form.Get("refresh_token")),
	); err != nil {
		return provisioning.Tokens{}, claims{}, err
	}
	if answer.AccessToken == "" {
		return provisioning.Tokens{}, claims{}, unknown(op, errors.New("its answer has no access_token"))
	}
	if !isToken(answer.AccessToken) || !isToken(answer.RefreshToken) {
		return provisioning.Tokens{}, claims{}, unknown(op, errors.New("its tokens have characters that no token has"))
	}
	if answer.TokenType != "" && !strings.EqualFold(answer.TokenType, "bearer") {
		return provisioning.Tokens{}, claims{}, unknown(op, fmt.Errorf("its token is of type %q and not bearer", clean(answer.TokenType, nil)))
	}

	claims := parseClaims(answer.AccessToken)
	tokens := provisioning.Tokens{
		Access:    answer.AccessToken,
		Refresh:   answer.RefreshToken,
		ExpiresAt: asked.Add(life(answer.ExpiresIn, claims)),
		Subject:   clean(claims.Subject, nil),
	}
	if answer.Scope != "" {
		tokens.Scopes = slices.DeleteFunc(strings.Fields(answer.Scope), func(scope string) bool { return !isScope(scope) })
	}
	return tokens, claims, nil
}

// isToken tells whether t can be sent as a token (RFC 6749, A.12 and A.17).
func isToken(t provisioning.Secret) bool {
	return !strings.ContainsFunc(t.Reveal(), func(r rune) bool { return r < 0x20 || r > 0x7e })
}

// isScope tells whether s can be a scope (RFC 6749, 3.3).
func isScope(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e || r == '"' || r == '\\' })
}

// looking is a body that leaves only if the last look allows it when the connection is ready.
type looking struct {
	io.Reader
	ctx context.Context //nolint:containedctx // It is asked only for its last look.
}

func (l looking) Read(p []byte) (int, error) {
	if err := provisioning.LastLook(l.ctx); err != nil {
		return 0, err
	}
	return l.Reader.Read(p)
}

// claims is what an access token says about itself, if it is a JWT.
type claims struct {
	Subject        string  `json:"sub"`
	PlatformUserID string  `json:"platform_user_id"`
	IssuedAt       float64 `json:"iat"`
	ExpiresAt      float64 `json:"exp"`
}

// parseClaims reads the payload of a JWT and nothing from an opaque token. The signature is not
// checked: the token came straight from the token endpoint over TLS, and nothing is decided by its
// claims; which account it opens is asked of the API.
func parseClaims(access provisioning.Secret) claims {
	var c claims
	if parts := strings.Split(access.Reveal(), "."); len(parts) == 3 {
		if payload, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			// A claim of an unexpected type is left empty, the others are filled.
			_ = json.Unmarshal(payload, &c)
		}
	}
	return c
}

// life returns how long the access token lives: the shorter of what expires_in and the token itself
// say. The claims are compared with each other and not with our clock, which may be off. An
// expires_in that is absent, not positive or no number says nothing.
func life(expiresIn json.RawMessage, c claims) time.Duration {
	said, _ := strconv.ParseFloat(strings.Trim(string(expiresIn), `"`), 64)
	var claimed float64
	if c.IssuedAt > 0 {
		claimed = c.ExpiresAt - c.IssuedAt
	}
	notPositive := func(s float64) bool { return !(s > 0) } // NaN included
	seconds := slices.DeleteFunc([]float64{said, claimed}, notPositive)
	if len(seconds) == 0 {
		return assumedLife
	}
	return time.Duration(min(slices.Min(seconds), maxLife.Seconds())) * time.Second
}
