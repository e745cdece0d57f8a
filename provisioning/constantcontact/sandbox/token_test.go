package sandbox_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

func TestTokenReply(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	got := b.exchange(b.consent(b.authorizeURL(), acmeOwner).Get("code"))
	fields := got.json(t)
	access, _ := fields["access_token"].(string)
	refresh, _ := fields["refresh_token"].(string)
	if len(access) < 1000 || len(access) > 1200 || len(refresh) != 43 {
		t.Errorf("access token of %d characters, refresh token of %d", len(access), len(refresh))
	}
	delete(fields, "access_token")
	delete(fields, "refresh_token")
	want := map[string]any{"token_type": "Bearer", "expires_in": 86400.0, "scope": allScopes}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("reply (-want +got):\n%s", diff)
	}
	if got.header.Get("Content-Type") != "application/json" || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", got.header)
	}

	parts := strings.Split(access, ".")
	verify(t, b, parts)
	var claims map[string]any
	if err := json.Unmarshal([]byte(decodePart(t, parts[1])), &claims); err != nil {
		t.Fatal(err)
	}
	if id, _ := claims["jti"].(string); !strings.HasPrefix(id, "AT.") {
		t.Errorf("jti %v", claims["jti"])
	}
	if uid, _ := claims["uid"].(string); len(uid) != 20 || !strings.HasPrefix(uid, "00u") {
		t.Errorf("uid %v", claims["uid"])
	}
	delete(claims, "jti")
	delete(claims, "uid")
	now := float64(b.clock().Unix())
	wantClaims := map[string]any{
		"ver": 1.0, "iss": b.base + "/identity/oauth2/aus1lm3ry9mF7x2Ja0h8", "aud": "https://api.cc.email/v3",
		"iat": now, "exp": now + 86400, "cid": clientID, "auth_time": now, "sub": acmeOwner,
		"scp":              []any{"account_read", "contact_data", "campaign_data", "offline_access"},
		"platform_user_id": "5b1d2f3c-9a77-4c1e-8a55-1234567890ab",
	}
	if diff := cmp.Diff(wantClaims, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

// verify checks a token against the key set of its issuer.
func verify(t *testing.T, b *bundle, parts []string) {
	t.Helper()
	var set struct {
		Keys []struct{ Kid, Kty, N, E string }
	}
	keys := b.get(b.client, b.base+"/identity/oauth2/aus1lm3ry9mF7x2Ja0h8/v1/keys")
	if err := json.Unmarshal([]byte(keys.body), &set); err != nil || len(set.Keys) != 1 || set.Keys[0].Kty != "RSA" {
		t.Fatalf("key set %s: %v", keys.body, err)
	}
	decode := func(text string) []byte { return []byte(decodePart(t, text)) }
	var header struct{ Alg, Kid string }
	if err := json.Unmarshal(decode(parts[0]), &header); err != nil || header.Alg != "RS256" || header.Kid != set.Keys[0].Kid {
		t.Errorf("header %s: %v", decode(parts[0]), err)
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(decode(set.Keys[0].N)), E: int(new(big.Int).SetBytes(decode(set.Keys[0].E)).Int64())}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], decode(parts[2])); err != nil {
		t.Error(err)
	}
}

func decodePart(t *testing.T, part string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestTokenRequests(t *testing.T) {
	t.Parallel()
	const code, refresh = "authorization_code", "refresh_token"
	tests := map[string]struct {
		switches  sandbox.Switches
		authorize []string // changes to the authorize URL
		fields    []string // of the body; CODE stands for the code
		change    func(*http.Request)
		status    int
		problem   string // empty for tokens
	}{
		"basic": {status: 200},
		"credentials in the body": {
			fields: []string{"client_id", clientID, "client_secret", clientSecret},
			change: func(r *http.Request) { r.Header.Del("Authorization") }, status: 200,
		},
		"basic that is not form-encoded": {
			change: func(r *http.Request) { r.SetBasicAuth(clientID, clientSecret) }, status: 401, problem: "invalid_client", // the secret has a +
		},
		"basic that is not form-encoded at all": {
			change: func(r *http.Request) { r.SetBasicAuth(clientID, "%") }, status: 401, problem: "invalid_client",
		},
		"same client id in the body": {fields: []string{"client_id", clientID}, status: 200},
		"both credentials": {
			fields: []string{"client_id", clientID, "client_secret", clientSecret}, status: 400, problem: "invalid_request",
		},
		"another client id in the body": {fields: []string{"client_id", publicID}, status: 400, problem: "invalid_request"},
		"bad secret": {
			change: func(r *http.Request) { r.SetBasicAuth(clientID, "guess") }, status: 401, problem: "invalid_client",
		},
		"no secret": {
			change: func(r *http.Request) { r.SetBasicAuth(clientID, "") }, status: 401, problem: "invalid_client",
		},
		"unknown client": {
			change: func(r *http.Request) { r.SetBasicAuth("nobody", clientSecret) }, status: 401, problem: "invalid_client",
		},
		"no client": {
			change: func(r *http.Request) { r.Header.Del("Authorization") }, status: 401, problem: "invalid_client",
		},
		"no content type": {
			change: func(r *http.Request) { r.Header.Del("Content-Type") }, status: 415, problem: "invalid_request",
		},
		"JSON": {
			change: func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, status: 415, problem: "invalid_request",
		},
		"form with a charset": {
			change: func(r *http.Request) {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
			}, status: 200,
		},
		"parameters in the query": {change: intoQuery, status: 200},
		"parameters in the query, no content type": {
			change: func(r *http.Request) { intoQuery(r); r.Header.Del("Content-Type") }, status: 415, problem: "invalid_request",
		},
		"parameters in the query, any content type": {
			switches: sandbox.Switches{AnyContentType: true},
			change:   func(r *http.Request) { intoQuery(r); r.Header.Del("Content-Type") }, status: 200,
		},
		"malformed query": {
			change: func(r *http.Request) { r.URL.RawQuery = "%zz" }, status: 400, problem: "invalid_request",
		},
		"a parameter twice":    {fields: []string{"code", "x"}, status: 400, problem: "invalid_request"},
		"other redirect URI":   {authorize: []string{"redirect_uri", "https://a.sites.example/cb"}, status: 400, problem: "invalid_grant"},
		"verifier for no PKCE": {fields: []string{"code_verifier", "v"}, status: 400, problem: "invalid_grant"},
		"PKCE": {
			authorize: []string{"code_challenge", challenge("v"), "code_challenge_method", "S256"},
			fields:    []string{"code_verifier", "v"}, status: 200,
		},
		"PKCE, no verifier": {
			authorize: []string{"code_challenge", challenge("v"), "code_challenge_method", "S256"}, status: 400, problem: "invalid_grant",
		},
		"PKCE, wrong verifier": {
			authorize: []string{"code_challenge", challenge("v"), "code_challenge_method", "S256"},
			fields:    []string{"code_verifier", "w"}, status: 400, problem: "invalid_grant",
		},
		"public client": {
			authorize: []string{"client_id", publicID, "code_challenge", challenge("v"), "code_challenge_method", "S256"},
			fields:    []string{"client_id", publicID, "code_verifier", "v"},
			change:    func(r *http.Request) { r.Header.Del("Authorization") }, status: 200,
		},
		"public client, id in the header": {
			authorize: []string{"client_id", publicID, "code_challenge", challenge("v"), "code_challenge_method", "S256"},
			fields:    []string{"code_verifier", "v"},
			change:    func(r *http.Request) { r.SetBasicAuth(publicID, "") }, status: 200,
		},
		"public client with a secret": {
			authorize: []string{"client_id", publicID, "code_challenge", challenge("v"), "code_challenge_method", "S256"},
			fields:    []string{"client_id", publicID, "client_secret", "x", "code_verifier", "v"},
			change:    func(r *http.Request) { r.Header.Del("Authorization") }, status: 401, problem: "invalid_client",
		},
		"code of another client": {
			authorize: []string{"client_id", longLivedID}, status: 400, problem: "invalid_grant",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, func(o *sandbox.Options) { o.Switches = test.switches })
			value := b.consent(b.authorizeURL(test.authorize...), acmeOwner).Get("code")
			fields := append([]string{"grant_type", code, "code", value, "redirect_uri", redirectURI}, test.fields...)
			r := b.tokenRequest(fields...)
			if test.change != nil {
				test.change(r)
			}
			got := b.do(b.client, r)
			if test.problem == "" {
				got.tokens(t)
				return
			}
			got.wantError(t, test.status, test.problem)
			if got.json(t)["error_description"] == "" {
				t.Errorf("no description in %s", got.body)
			}
		})
	}

	b := start(t, nil)
	for name, test := range map[string]struct {
		fields  []string
		problem string
	}{
		"no grant type":         {nil, "invalid_request"},
		"no code":               {[]string{"grant_type", code}, "invalid_request"},
		"unknown code":          {[]string{"grant_type", code, "code", "x", "redirect_uri", redirectURI}, "invalid_grant"},
		"no refresh token":      {[]string{"grant_type", refresh}, "invalid_request"},
		"unknown refresh token": {[]string{"grant_type", refresh, refresh, "x"}, "invalid_grant"},
		"password":              {[]string{"grant_type", "password", "username", acmeOwner, "password", password}, "unsupported_grant_type"},
		"client credentials":    {[]string{"grant_type", "client_credentials"}, "unsupported_grant_type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b.token(test.fields...).wantError(t, 400, test.problem)
		})
	}
}

func intoQuery(r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err) // it is a string's reader
	}
	r.URL.RawQuery, r.Body, r.ContentLength = string(body), http.NoBody, 0
}

func TestCode(t *testing.T) {
	t.Parallel()
	t.Run("lives five minutes", func(t *testing.T) {
		t.Parallel()
		b := start(t, nil)
		code := b.consent(b.authorizeURL(), acmeOwner).Get("code")
		late := b.consent(b.authorizeURL(), bloomOwner).Get("code")
		b.pass(300 * time.Second)
		b.exchange(code).tokens(t)
		b.pass(time.Second)
		b.exchange(late).wantError(t, 400, "invalid_grant")
	})
	t.Run("lives as long as the switch says", func(t *testing.T) {
		t.Parallel()
		b := start(t, func(o *sandbox.Options) { o.Switches.CodeLifetime = time.Minute })
		code := b.consent(b.authorizeURL(), acmeOwner).Get("code")
		b.pass(61 * time.Second)
		b.exchange(code).wantError(t, 400, "invalid_grant")
	})
	t.Run("used twice takes back what it gave", func(t *testing.T) {
		t.Parallel()
		b := start(t, nil)
		code := b.consent(b.authorizeURL(), acmeOwner).Get("code")
		got := b.exchange(code).tokens(t)
		again := b.exchange(code)
		again.wantError(t, 400, "invalid_grant")
		if description, _ := again.json(t)["error_description"].(string); !strings.Contains(description, "authorization") {
			t.Errorf("description %q does not tell a code from a refresh token", description)
		}
		if status := b.call("/v3/account/summary", got.Access).status; status != http.StatusUnauthorized {
			t.Errorf("access token: answer %d, want 401", status)
		}
		b.refresh(got.Refresh).wantError(t, 400, "invalid_grant")
		if diff := cmp.Diff([]sandbox.Ending{sandbox.CodeReused}, b.endings()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("redeemed at once by many makes one grant", func(t *testing.T) {
		t.Parallel()
		b := start(t, nil)
		code := b.consent(b.authorizeURL(), acmeOwner).Get("code")
		if won := together(8, func() bool { return b.exchange(code).status == http.StatusOK }); won != 1 {
			t.Errorf("%d won, want 1", won)
		}
	})
	t.Run("without offline_access gives no refresh token", func(t *testing.T) {
		t.Parallel()
		b := start(t, nil)
		code := b.consent(b.authorizeURL("scope", "account_read"), acmeOwner).Get("code")
		got := b.exchange(code)
		if _, ok := got.json(t)["refresh_token"]; ok || got.tokens(t).Scope != "account_read" {
			t.Errorf("answer %s", got.body)
		}
		if b.Grants()[0].Offline {
			t.Error("the grant is said to be an offline one")
		}
	})
}

// together runs f n times at once and counts how often it succeeds.
func together(n int, f func() bool) (won int) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if f() {
				mu.Lock()
				defer mu.Unlock()
				won++
			}
		})
	}
	all.Wait()
	return won
}

func TestRefreshRotating(t *testing.T) {
	t.Parallel()
	t.Run("each token is good once", func(t *testing.T) {
		t.Parallel()
		b := start(t, nil)
		first := b.grant(acmeOwner)
		b.pass(time.Hour)
		second := b.refresh(first.Refresh).tokens(t)
		if second.Refresh == first.Refresh || second.Access == first.Access || second.Scope != allScopes {
			t.Errorf("second tokens %+v after %+v", second, first)
		}
		for _, access := range []string{first.Access, second.Access} {
			if got := b.call("/v3/account/summary", access); got.status != http.StatusOK {
				t.Errorf("access token: answer %d %s", got.status, got.body)
			}
		}
		third := b.refresh(second.Refresh).tokens(t)

		refused := b.refresh(first.Refresh)
		refused.wantError(t, 400, "invalid_grant")
		want := `{"error":"invalid_grant","error_description":"The refresh token is invalid or expired."}`
		if refused.body != want {
			t.Errorf("body %s, want %s", refused.body, want)
		}
		// Its reuse killed the whole family.
		b.refresh(third.Refresh).wantError(t, 400, "invalid_grant")
		if got := b.call("/v3/account/summary", third.Access); got.status != http.StatusUnauthorized {
			t.Errorf("newest access token: answer %d, want 401", got.status)
		}
		if diff := cmp.Diff([]sandbox.Ending{sandbox.Reused}, b.endings()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("no reuse detection", func(t *testing.T) {
		t.Parallel()
		b := start(t, func(o *sandbox.Options) { o.Switches.NoReuseDetection = true })
		first := b.grant(acmeOwner)
		second := b.refresh(first.Refresh).tokens(t)
		b.refresh(first.Refresh).wantError(t, 400, "invalid_grant")
		b.refresh(second.Refresh).tokens(t)
	})
	t.Run("grace", func(t *testing.T) {
		t.Parallel()
		b := start(t, func(o *sandbox.Options) { o.Switches.RotationGrace = 30 * time.Second })
		first := b.grant(acmeOwner)
		lost := b.refresh(first.Refresh).tokens(t)
		b.pass(30 * time.Second)
		got := b.refresh(first.Refresh).tokens(t)
		if got.Refresh == lost.Refresh {
			t.Error("the second answer repeats the first one's refresh token")
		}
		b.pass(time.Second)
		b.refresh(lost.Refresh).tokens(t) // spent a second ago
		b.refresh(first.Refresh).wantError(t, 400, "invalid_grant")
		if diff := cmp.Diff([]sandbox.Ending{sandbox.Reused}, b.endings()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("at once by many", func(t *testing.T) {
		t.Parallel()
		b := start(t, nil)
		first := b.grant(acmeOwner)
		if won := together(8, func() bool { return b.refresh(first.Refresh).status == http.StatusOK }); won != 1 {
			t.Errorf("%d won, want 1", won)
		}
	})
	t.Run("by another app", func(t *testing.T) {
		t.Parallel()
		b := start(t, nil)
		first := b.grant(acmeOwner)
		r := b.tokenRequest("grant_type", "refresh_token", "refresh_token", first.Refresh)
		r.SetBasicAuth(longLivedID, url.QueryEscape(clientSecret))
		b.do(b.client, r).wantError(t, 400, "invalid_grant")
		b.refresh(first.Refresh).tokens(t)
	})
	t.Run("scope may only shrink", func(t *testing.T) {
		t.Parallel()
		b := start(t, nil)
		first := b.grant(acmeOwner)
		fields := []string{"grant_type", "refresh_token", "refresh_token", first.Refresh, "scope"}
		b.token(append(fields, "account_read account_update")...).wantError(t, 400, "invalid_scope")
		second := b.token(append(fields, "contact_data offline_access")...).tokens(t)
		if second.Scope != "contact_data offline_access" {
			t.Errorf("scope %q", second.Scope)
		}
		if got := b.call("/v3/account/summary", second.Access); got.status != http.StatusForbidden {
			t.Errorf("answer %d without account_read, want 403", got.status)
		}
		if third := b.refresh(second.Refresh).tokens(t); third.Scope != allScopes {
			t.Errorf("scope %q, want all that was granted again", third.Scope)
		}
	})
	t.Run("180 idle days", func(t *testing.T) {
		t.Parallel()
		b := start(t, nil)
		got := b.grant(acmeOwner)
		for range 3 {
			b.pass(180 * 24 * time.Hour)
			got = b.refresh(got.Refresh).tokens(t)
		}
		if g := b.Grants()[0]; g.Refreshes != 3 || !g.RefreshedAt.Equal(b.clock()) || g.Ended != sandbox.Live {
			t.Errorf("grant %+v", g)
		}
		b.pass(180*24*time.Hour + time.Second)
		if diff := cmp.Diff([]sandbox.Ending{sandbox.Expired}, b.endings()); diff != "" {
			t.Error(diff)
		}
		b.refresh(got.Refresh).wantError(t, 400, "invalid_grant")
	})
}

// TestRefreshModel uses refresh tokens old and new in any order and compares every
// answer with a model of three lines.
func TestRefreshModel(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	rapid.Check(t, func(rt *rapid.T) {
		held := []string{b.grant(acmeOwner).Refresh}
		alive := true
		for range rapid.IntRange(1, 6).Draw(rt, "requests") {
			i := rapid.IntRange(0, len(held)-1).Draw(rt, "token")
			alive = alive && i == len(held)-1
			got := b.refresh(held[i])
			if (got.status == http.StatusOK) != alive {
				rt.Fatalf("token %d of %d: answer %d, want success %v", i, len(held), got.status, alive)
			}
			if alive {
				held = append(held, got.tokens(t).Refresh)
			}
		}
	})
}

func TestRefreshLongLived(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	as := func(fields ...string) reply {
		r := b.tokenRequest(fields...)
		r.SetBasicAuth(longLivedID, url.QueryEscape(clientSecret))
		return b.do(b.client, r)
	}
	code := b.consent(b.authorizeURL("client_id", longLivedID), acmeOwner).Get("code")
	first := as("grant_type", "authorization_code", "code", code, "redirect_uri", redirectURI).tokens(t)
	for range 3 {
		b.pass(179 * 24 * time.Hour)
		if got := as("grant_type", "refresh_token", "refresh_token", first.Refresh).tokens(t); got.Refresh != first.Refresh {
			t.Error("the refresh token changed")
		}
	}
	b.pass(181 * 24 * time.Hour)
	as("grant_type", "refresh_token", "refresh_token", first.Refresh).wantError(t, 400, "invalid_grant")
}

func TestNewConsentEndsTheEarlier(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	first := b.grant(acmeOwner)
	byManager := b.grant(acmeManager)
	b.consent(b.authorizeURL(), acmeOwner) // never redeemed, so it ends nothing
	b.refresh(b.refresh(first.Refresh).tokens(t).Refresh).tokens(t)
	second := b.grant(acmeOwner)
	b.refresh(first.Refresh).wantError(t, 400, "invalid_grant")
	b.refresh(byManager.Refresh).tokens(t)
	b.refresh(second.Refresh).tokens(t)
	if diff := cmp.Diff([]sandbox.Ending{sandbox.Superseded, sandbox.Live, sandbox.Live}, b.endings()); diff != "" {
		t.Error(diff)
	}

	b = start(t, func(o *sandbox.Options) { o.Switches.KeepEarlierGrant = true })
	first = b.grant(acmeOwner)
	b.grant(acmeOwner)
	b.refresh(first.Refresh).tokens(t)
}

func TestGrantTakenBack(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	owner, manager, other := b.grant(acmeOwner), b.grant(acmeManager), b.grant(bloomOwner)
	code := b.consent(b.authorizeURL(), acmeManager).Get("code")
	b.RemoveUser(acmeManager)
	b.exchange(code).wantError(t, 400, "invalid_grant")
	b.refresh(manager.Refresh).wantError(t, 400, "invalid_grant")
	if n := b.Revoke(acme); n != 1 {
		t.Errorf("Revoke ended %d grants, want 1", n)
	}
	b.refresh(owner.Refresh).wantError(t, 400, "invalid_grant")
	if got := b.call("/v3/account/summary", owner.Access); got.status != http.StatusUnauthorized {
		t.Errorf("answer %d, want 401", got.status)
	}
	b.refresh(other.Refresh).tokens(t)
	if diff := cmp.Diff([]sandbox.Ending{sandbox.Revoked, sandbox.Revoked, sandbox.Live}, b.endings()); diff != "" {
		t.Error(diff)
	}
}

func TestPartnerLogin(t *testing.T) {
	t.Parallel()
	grant := func(b *bundle, account string) tokens {
		b.t.Helper()
		callback, err := sandbox.ConsentInside(b.t.Context(), b.client, b.authorizeURL(), partnerLogin, password, account, sandbox.Allow)
		if err != nil {
			b.t.Fatal(err)
		}
		return b.exchange(query(b.t, callback).Get("code")).tokens(b.t)
	}
	t.Run("dies at its first refresh", func(t *testing.T) {
		t.Parallel()
		b := start(t, nil)
		got := grant(b, bloom)
		if account := b.call("/v3/account/summary", got.Access).json(t)["encoded_account_id"]; account != bloom {
			t.Errorf("account %v, want the one entered", account)
		}
		b.refresh(got.Refresh).wantError(t, 400, "invalid_grant")
		if status := b.call("/v3/account/summary", got.Access).status; status != http.StatusOK {
			t.Errorf("first access token: answer %d, want it to live out its day", status)
		}
		b.pass(24*time.Hour + time.Second)
		if status := b.call("/v3/account/summary", got.Access).status; status != http.StatusUnauthorized {
			t.Errorf("answer %d after a day, want 401", status)
		}
		if g := b.Grants()[0]; !g.Partner || g.Ended != sandbox.PartnerLogin || g.AccountID != bloom || g.Login != partnerLogin {
			t.Errorf("grant %+v", g)
		}
	})
	t.Run("dies at once", func(t *testing.T) {
		t.Parallel()
		b := start(t, func(o *sandbox.Options) { o.Switches.PartnerEndsAtOnce = true })
		got := grant(b, bloom)
		if status := b.call("/v3/account/summary", got.Access).status; status != http.StatusUnauthorized {
			t.Errorf("answer %d, want 401", status)
		}
	})
	t.Run("keeps a grant of its own account", func(t *testing.T) {
		t.Parallel()
		b := start(t, nil)
		b.refresh(grant(b, "").Refresh).tokens(t)
	})
}

func TestExpiredThingsAreForgotten(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	got := b.grant(acmeOwner)
	b.pass(181 * 24 * time.Hour)
	other := b.grant(bloomOwner) // sweeps
	b.refresh(got.Refresh).wantError(t, 400, "invalid_grant")
	b.refresh(other.Refresh).tokens(t)
	if !slices.Equal(b.endings(), []sandbox.Ending{sandbox.Expired, sandbox.Live}) {
		t.Errorf("endings %v", b.endings())
	}
}
