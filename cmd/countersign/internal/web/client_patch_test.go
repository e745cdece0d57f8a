package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/admin"
)

// patched is what the tests read of a client.
type patched struct {
	Name      string            `json:"name"`
	Ref       *string           `json:"ref"`
	AccountID *string           `json:"account_id"`
	SiteURL   string            `json:"site_url"`
	Tags      []string          `json:"tags"`
	Extra     map[string]string `json:"extra"`
}

func TestAPIMergePatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	id := b.client(t, "ACME/1").ID.String()
	ref, account := "ACME/1", "acct-acme"
	want := patched{Name: "Acme Bakery", Ref: &ref, AccountID: &account, Tags: []string{"food", "east"}, Extra: map[string]string{"Plan": "Gold"}}
	for _, step := range []struct {
		body string
		then func()
	}{
		{`{}`, func() {}},
		{`{"name": "Acme & Sons", "site_url": "acme.example"}`, func() { want.Name, want.SiteURL = "Acme & Sons", "https://acme.example" }},
		{`{"extra": {"Region": "East"}}`, func() { want.Extra["Region"] = "East" }},
		{`{"extra": {"Plan": null}}`, func() { delete(want.Extra, "Plan") }},
		{`{"site_url": null, "tags": ["west"]}`, func() { want.SiteURL, want.Tags = "", []string{"west"} }},
		{`{"tags": null, "extra": null}`, func() { want.Tags, want.Extra = []string{}, map[string]string{} }},
		{`{"ref": null, "account_id": null}`, func() { want.Ref, want.AccountID = nil, nil }},
	} {
		step.then()
		var got patched
		api.call(t, http.MethodPatch, "/clients/"+id, step.body, "Content-Type", "application/merge-patch+json").has(t, http.StatusOK).into(t, &got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", step.body, diff)
		}
	}
	for body, location := range map[string]string{
		`{"name": null}`:               "body.name",
		`{"name": 7}`:                  "body.name",
		`{"owner_email": "ann"}`:       "body.owner_email",
		`{"ref": "BLOOM"}`:             "body.ref",
		`{"account_id": "acct-bloom"}`: "body.account_id",
		`{"username": "x"}`:            "body.username",
		`{"extra": {"stage": "x"}}`:    "body.extra.stage",
	} {
		got := api.call(t, http.MethodPatch, "/clients/"+id, body).problem(t, http.StatusUnprocessableEntity)
		if got.Type != "urn:countersign:invalid" || len(got.Errors) != 1 || !strings.HasPrefix(got.Errors[0].Location, location) {
			t.Errorf("%s is refused with %+v", body, got)
		}
	}
}

func TestAPIEntityTags(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	const path = "/clients/ref:CAFE"
	seen := api.call(t, http.MethodGet, path, "").has(t, http.StatusOK).header.Get("ETag")
	unchanged := api.call(t, http.MethodGet, path, "", "If-None-Match", `"other", `+seen)
	if unchanged.has(t, http.StatusNotModified).body != "" || unchanged.header.Get("ETag") != seen {
		t.Errorf("304 with %q and the ETag %s", unchanged.body, unchanged.header.Get("ETag"))
	}
	for _, match := range []string{seen, `"other", ` + seen, "*"} {
		api.call(t, http.MethodPatch, path, `{}`, "If-Match", match).has(t, http.StatusOK)
	}
	now := api.call(t, http.MethodPatch, path, `{"locale": "fr"}`, "If-Match", seen).has(t, http.StatusOK).header.Get("ETag")
	clash := api.call(t, http.MethodPatch, path, `{"locale": "de"}`, "If-Match", seen)
	if got := clash.problem(t, http.StatusPreconditionFailed); got.Type != "urn:countersign:client-changed" || clash.header.Get("ETag") != now {
		t.Errorf("%+v with the ETag %s, and not %s", got, clash.header.Get("ETag"), now)
	}
	for _, match := range []string{"W/" + now, "made up", `""`} {
		api.call(t, http.MethodPatch, path, `{"locale": "de"}`, "If-Match", match).problem(t, http.StatusPreconditionFailed)
	}
	api.call(t, http.MethodGet, path, "", "If-None-Match", seen).has(t, http.StatusOK)
	if c := b.client(t, "CAFE"); c.Locale != "fr" {
		t.Errorf("the locale is %q", c.Locale)
	}
	// What only a client by itself tells is in its tag, too.
	b.mail(t, "CAFE")
	mailed := api.call(t, http.MethodGet, path, "").header.Get("ETag")
	api.call(t, http.MethodPost, path+"/reminder", `{"action": "skip"}`).has(t, http.StatusOK)
	api.call(t, http.MethodGet, path, "", "If-None-Match", mailed).has(t, http.StatusOK)
}
