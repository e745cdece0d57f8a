//go:build linux

package main_test

import (
	"strings"
	"testing"
)

// Settings that would let in everybody, or nobody, are mistakes.
func TestSettingsOfSignOn(t *testing.T) {
	t.Parallel()
	sound := []string{
		"COUNTERSIGN_SSO_ISSUER=https://login.agency.example", "COUNTERSIGN_SSO_CLIENT_ID=countersign",
		"COUNTERSIGN_SSO_CLIENT_SECRET=hunter2", "COUNTERSIGN_SSO_DOMAINS=agency.example, Agency.test",
	}
	for change, told := range map[string]string{
		"":                                    "", // sound as it is
		"SSO_ROLE=operator":                   "",
		"SSO_ISSUER=":                         "", // There is no single sign-on: the others are of no account.
		"SSO_ISSUER=login.agency.example":     "SSO_ISSUER",
		"SSO_ISSUER=http://login.agency.test": "SSO_ISSUER",
		"SSO_CLIENT_ID=":                      "/admin/sso/callback",
		"SSO_DOMAINS=ann@agency.example":      `"ann@agency.example" is not a domain`,
		"SSO_DOMAINS=example":                 `"example" is not a domain`,
		"SSO_DOMAINS=":                        "everybody whom the issuer knows would be let in",
		"SSO_ROLE=boss":                       "the roles owner, operator and viewer",
	} {
		in := install(t, sound...)
		if change != "" {
			in = in.with("COUNTERSIGN_" + change)
		}
		found := in.doctor(t).of(t, "settings")
		if (found.Status == "ok") != (told == "") || !strings.Contains(found.Found, told) || strings.Contains(found.Found, "hunter2") {
			t.Errorf("with %q: %s: %s", change, found.Status, found.Found)
		}
	}
	in := install(t, sound...).with("COUNTERSIGN_SSO_DOMAINS=").with("COUNTERSIGN_SSO_ROLE=")
	in.doctor(t).of(t, "settings").want(t, "ok", "no mistakes", "")
}
