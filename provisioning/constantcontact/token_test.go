package constantcontact_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
)

func jwt(payload string) string {
	return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2lnbmF0dXJl"
}

// revealed is a set of tokens that a diff can compare and show.
type revealed struct {
	Access, Refresh, Subject string
	ExpiresIn                time.Duration
	Scopes                   []string
}

func reveal(t provisioning.Tokens) revealed {
	return revealed{t.Access.Reveal(), t.Refresh.Reveal(), t.Subject, t.ExpiresAt.Sub(now()), t.Scopes}
}

func TestTokenAnswers(t *testing.T) {
	t.Parallel()
	user := jwt(`{"sub":"ann@acme.example","platform_user_id":"6d2c","iat":1000,"exp":87400,"scp":["account_read"]}`)
	tests := []struct {
		name, body string
		want       revealed
	}{
		{
			"Constant Contact's",
			`{"token_type":"Bearer","expires_in":86400,"access_token":"` + user + `","scope":"account_read offline_access","refresh_token":"r2","id_token":"x"}`,
			revealed{user, "r2", "ann@acme.example", 24 * time.Hour, []string{"account_read", "offline_access"}},
		},
		{
			"an opaque token of few words",
			`{"access_token":"` + access + `"}`,
			revealed{Access: access, ExpiresIn: time.Hour},
		},
		{
			"type in lower case, empty scope, nulls",
			`{"access_token":"a","token_type":"bearer","scope":"","refresh_token":null,"expires_in":null}`,
			revealed{Access: "a", ExpiresIn: time.Hour},
		},
		{
			"type in upper case, scopes apart",
			`{"access_token":"a","token_type":"BEARER","scope":"  b   a ","expires_in":60}`,
			revealed{Access: "a", ExpiresIn: time.Minute, Scopes: []string{"b", "a"}},
		},
		{
			"three parts that are no JWT",
			`{"access_token":"a.b!.c","token_type":"Bearer","expires_in":60}`,
			revealed{Access: "a.b!.c", ExpiresIn: time.Minute},
		},
		{
			"a claim of another type",
			`{"access_token":"` + jwt(`{"sub":"ann","iat":"yesterday"}`) + `","expires_in":60}`,
			revealed{Access: jwt(`{"sub":"ann","iat":"yesterday"}`), Subject: "ann", ExpiresIn: time.Minute},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := provider(t, answer(200, map[string]string{"Content-Type": "application/json;charset=UTF-8"}, test.body))
			exchanged, err := client.Exchange(t.Context(), client.TokenURL(), code, verifier)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, reveal(exchanged)); diff != "" {
				t.Errorf("exchanged (-want +got):\n%s", diff)
			}
			refreshed, err := client.Refresh(t.Context(), refresh)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, reveal(refreshed)); diff != "" {
				t.Errorf("refreshed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	const assumed, longest = time.Hour, 24 * time.Hour
	day, hour := jwt(`{"iat":5,"exp":86405}`), jwt(`{"iat":5,"exp":3605}`)
	tests := []struct {
		access, expiresIn string
		want              time.Duration
	}{
		{access, `86400`, 24 * time.Hour},
		{access, `"3600"`, time.Hour},
		{access, `7199.9`, 7199 * time.Second},
		{access, `"7199.9"`, 7199 * time.Second},
		{access, `1`, time.Second},
		{access, `0`, assumed},
		{access, `-5`, assumed},
		{access, `-1e300`, assumed},
		{access, `""`, assumed},
		{access, `"soon"`, assumed},
		{access, `"NaN"`, assumed},
		{access, `true`, assumed},
		{access, `{}`, assumed},
		{access, `[60]`, assumed},
		{access, `1795464000`, longest}, // a point in time
		{access, `99999999999999999999999`, longest},
		{access, `1e400`, longest},
		{access, `"Inf"`, longest},
		{day, `null`, 24 * time.Hour},
		{day, `600`, 10 * time.Minute},
		{hour, `null`, time.Hour},
		{hour, `86400`, time.Hour},
		{hour, `1795464000`, time.Hour},
		{jwt(`{"iat":3605,"exp":5}`), `600`, 10 * time.Minute},
		{jwt(`{"exp":1795464000}`), `null`, assumed},
		{jwt(`{"iat":1,"exp":1e300}`), `null`, longest},
	}
	for _, test := range tests {
		client := provider(t, answer(200, nil, fmt.Sprintf(`{"access_token":%q,"token_type":"Bearer","expires_in":%s}`, test.access, test.expiresIn)))
		tokens, err := client.Refresh(t.Context(), refresh)
		if err != nil {
			t.Errorf("expires_in %s: %v", test.expiresIn, err)
		} else if got := tokens.ExpiresAt.Sub(now()); got != test.want {
			t.Errorf("expires_in %s with %s: expires in %v, want %v", test.expiresIn, test.access, got, test.want)
		}
	}
}

func TestUnassigned(t *testing.T) {
	t.Parallel()
	client := provider(t, answer(200, nil, `{"access_token":"`+jwt(`{"sub":"ann","platform_user_id":"UNASSIGNED"}`)+`","token_type":"Bearer","refresh_token":"r2"}`))
	tokens, err := client.Exchange(t.Context(), client.TokenURL(), code, verifier)
	if !errors.Is(err, constantcontact.ErrUnassigned) {
		t.Errorf("exchange: error %v, want ErrUnassigned", err)
	}
	if _, refused := errors.AsType[*provisioning.ProviderError](err); !refused {
		t.Errorf("exchange: %v is no ProviderError, the callers' word for a refusal", err)
	}
	if tokens.Access != "" {
		t.Error("tokens came with the error")
	}
	// A rotated refresh token must not be lost over it.
	if tokens, err = client.Refresh(t.Context(), refresh); err != nil || tokens.Refresh != "r2" {
		t.Errorf("refresh: error %v", err)
	}
}
