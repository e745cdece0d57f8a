//go:build linux

package main_test

import (
	"slices"
	"strings"
	"testing"
)

// What weakens an owner's walk is said by the doctor, and what would break it is a mistake.
func TestDoctorOnTheWalk(t *testing.T) {
	t.Parallel()
	app := []string{"COUNTERSIGN_OAUTH_CLIENT_ID=app", "COUNTERSIGN_OAUTH_CLIENT_SECRET=hunter2"}
	install(t, app...).doctor(t).of(t, "settings").want(t, "ok", "no mistakes", "")
	install(t, "COUNTERSIGN_OAUTH_PKCE=off").doctor(t).of(t, "settings").want(t, "ok", "no mistakes", "") // There is no app yet.
	install(t, slices.Concat(app, []string{"COUNTERSIGN_OAUTH_PKCE=off"})...).doctor(t).of(t, "settings").
		want(t, "warn", "PKCE is off", "COUNTERSIGN_OAUTH_PKCE=on")

	for issuer, sound := range map[string]bool{
		"https://login.example.com": true, "https://login.example.com/tenant/": true, "http://localhost:8090": true,
		"login.example.com": false, "http://login.example.com": false, "https://login.example.com?x": false,
		"https://login.example.com#x": false, "https://me@login.example.com": false, "https://": false, "%": false,
	} {
		found := install(t, "COUNTERSIGN_PROVIDER_ISSUER="+issuer).doctor(t).of(t, "settings")
		if (found.Status == "ok") != sound || !sound && !strings.Contains(found.Found, "COUNTERSIGN_PROVIDER_ISSUER") {
			t.Errorf("%q: %s: %s", issuer, found.Status, found.Found)
		}
	}
}
