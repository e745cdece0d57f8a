package interoptest_test

import (
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// startOIDCProvider runs npm's oidc-provider, which the OpenID Foundation certified.
func startOIDCProvider(t *testing.T, a app) *server {
	t.Helper()
	const folder = "testdata/oidc-provider"
	node := needNode(t, folder, "oidc-provider")
	settings, err := json.Marshal(map[string]any{
		"app": map[string]any{
			"client_id": clientID, "client_secret": clientSecret, "redirect_uris": []string{a.redirectURL}, "scope": appScopes,
		},
		"scopes": append(strings.Fields(appScopes), otherScope),
		"logins": slices.Sorted(maps.Keys(accounts())),
		"pkce":   a.pkce,
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "server.js", string(settings))
	cmd.Dir = folder
	issuer := begin(t, cmd, regexp.MustCompile(`(?m)^http://\S+$`))
	return &server{
		app:          a,
		authorizeURL: issuer + "/auth",
		tokenURL:     issuer + "/token",
		apiURL:       startAPI(t, issuer+"/token/introspection"),
		signOutURL:   issuer + "/session/end",
		signIn: func(p page, login string) page {
			consent := p.press(url.Values{"login": {login}, "password": {password}})
			return consent.press(nil)
		},
		decline: func(p page, login string) page {
			consent := p.press(url.Values{"login": {login}, "password": {password}})
			return consent.follow(regexp.MustCompile(`href="([^"]+/abort)"`))
		},
	}
}

// needNode returns the path of node. Without it and the package that npm installs in folder the test ends here.
func needNode(t *testing.T, folder, name string) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(folder + "/node_modules/" + name + "/package.json")
	}
	cure := name + " is not installed; run: apt-get install nodejs npm && npm ci --prefix cmd/countersign/interoptest/" + folder
	switch {
	case err != nil && os.Getenv("COUNTERSIGN_TEST_REQUIRE_PARTS") != "":
		t.Fatal(cure)
	case err != nil:
		t.Skip(cure)
	}
	return node
}
