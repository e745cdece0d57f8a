package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

func TestKeysPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	owner := b.operator(t)
	made := owner.post(t, "/admin/settings/keys", url.Values{"name": {"crm"}, "scope": {"read"}, "expires": {"90d"}}).has(t, http.StatusOK)
	key := regexp.MustCompile(`csk_[A-Za-z0-9_-]{43}`).FindString(made.body)
	if key == "" {
		t.Fatal("the key is not shown")
	}
	if again := owner.get(t, "/admin/settings/keys").has(t, http.StatusOK); strings.Contains(again.body, key) || !strings.Contains(again.body, "crm") {
		t.Error("afterwards the page shows the key, or does not name it")
	}
	program := b.browser(t)
	program.do(t, http.MethodGet, "/api/v1/progress", nil, "Authorization", "Bearer "+key).has(t, http.StatusOK)
	for _, form := range []url.Values{
		{"name": {"crm"}, "scope": {"read"}},
		{"name": {"other"}},
		{"name": {""}, "scope": {"read"}},
		{"name": {"other"}, "scope": {"read"}, "expires": {"soon"}},
	} {
		owner.post(t, "/admin/settings/keys", form).has(t, http.StatusUnprocessableEntity)
	}
	keys, err := b.Admin.Keys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if got := owner.post(t, "/admin/settings/keys/"+keys[0].ID.String()+"/revoke", nil).leads(t); got != "/admin/settings/keys?done=revoked" {
		t.Errorf("revoking leads to %q", got)
	}
	program.do(t, http.MethodGet, "/api/v1/progress", nil, "Authorization", "Bearer "+key).has(t, http.StatusUnauthorized)
}

func TestKeysAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.caller(t, admin.ScopeAdmin, admin.ScopeRead)
	c.call(t, http.MethodPost, "/keys", `{"name":"more","scopes":["read","tokens"]}`, "Content-Type", "application/json").problem(t, http.StatusForbidden)
	var made struct{ ID, Key string }
	c.call(t, http.MethodPost, "/keys", `{"name":"less","scopes":["read"]}`, "Content-Type", "application/json").has(t, http.StatusCreated).into(t, &made)
	less := caller{b.browser(t), provisioning.Secret(made.Key)}
	less.call(t, http.MethodGet, "/progress", "").has(t, http.StatusOK)
	less.call(t, http.MethodGet, "/keys", "").problem(t, http.StatusForbidden)
	if list := c.call(t, http.MethodGet, "/keys", "").has(t, http.StatusOK); strings.Contains(list.body, made.Key) || !strings.Contains(list.body, `"less"`) {
		t.Error("the list has the key, or not its name")
	}
	c.call(t, http.MethodDelete, "/keys/"+made.ID, "").has(t, http.StatusNoContent)
	less.call(t, http.MethodGet, "/progress", "").problem(t, http.StatusUnauthorized)
}
