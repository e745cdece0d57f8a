package provisioning_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
)

// An edit changes what it names and nothing else, tells both histories what it was before, and is found by its words.
func TestEdit(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_name,owner_email,tags,Plan,Region\nA,Acme,Ann,ann@a.example,\"x, y\",Gold,East\nB,Bloom,Ben,ben@b.example,,,")
	c := o.client(t, "Acme")
	sam := provisioning.Operator("sam")
	e := provisioning.Edit{
		Name: new("  Acme   Bakery "), Ref: new(""), AccountID: new("a01acme"), Route: new("Manager"), SiteURL: new("ACME.example/Shop"),
		Locale: new("de-at"), TimeZone: new("Europe/Vienna"), Tags: &[]string{"z", "x", "z"}, Paused: new(true),
		Extra: map[string]*string{"Plan": new("Silver"), "Region": nil, "Note": new("new")},
	}
	got, err := o.inviter.Edit(t.Context(), c.ID, c.Version(), e, sam)
	if err != nil {
		t.Fatal(err)
	}
	want := c
	want.Name, want.Ref, want.AccountID, want.Route, want.SiteURL = "Acme Bakery", nil, new("a01acme"), provisioning.RouteManager, "https://acme.example/Shop"
	want.Locale, want.TimeZone, want.Tags, want.Paused = "de-AT", "Europe/Vienna", []string{"z", "x"}, true
	want.Extra = map[string]string{"Plan": "Silver", "Note": "new"}
	want.UpdatedAt, want.Revision = got.UpdatedAt, got.Revision
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got.Version() == c.Version() || !got.UpdatedAt.After(c.UpdatedAt) {
		t.Error("the version or the time of the change stays")
	}
	if diff := cmp.Diff([]string{"updated by operator sam"}, o.history(t, c.ID)[1:]); diff != "" {
		t.Errorf("history (-want +got)\n%s", diff)
	}
	found, _, err := o.Clients(t.Context(), provisioning.Filter{Query: "bakery a01acme"})
	if err != nil || len(found) != 1 {
		t.Errorf("found %d clients, %v", len(found), err)
	}
	var action, object, before, after string
	err = o.pool.QueryRow(t.Context(), `SELECT action, object, before, after FROM audit ORDER BY id DESC LIMIT 1`).Scan(&action, &object, &before, &after)
	if err != nil {
		t.Fatal(err)
	}
	var was, is map[string]any
	if err := errors.Join(json.Unmarshal([]byte(before), &was), json.Unmarshal([]byte(after), &is)); err != nil {
		t.Fatal(err)
	}
	if action != "client.edit" || object != "client "+c.ID.String() || was["name"] != "Acme" || is["name"] != "Acme Bakery" || len(is) != 10 {
		t.Errorf("the audit trail has %s of %s: %s, %s", action, object, before, after)
	}

	before = o.state(t)["clients"]
	if _, err := o.inviter.Edit(t.Context(), c.ID, c.Version(), provisioning.Edit{Name: new("Other")}, sam); !errors.Is(err, provisioning.ErrChanged) {
		t.Errorf("an old version: %v", err)
	}
	if same, err := o.inviter.Edit(t.Context(), c.ID, "", provisioning.Edit{Name: new("Acme Bakery"), Extra: map[string]*string{"gone": nil}}, sam); err != nil || same.Version() != got.Version() {
		t.Errorf("an edit without a change: %v", err)
	}
	if _, err := o.inviter.Edit(t.Context(), uuid.New(), "", provisioning.Edit{}, sam); !errors.Is(err, provisioning.ErrNotFound) {
		t.Error(err)
	}
	o.exec(t, `UPDATE clients SET stage = 'authorized' WHERE ref = 'B'`)
	b := o.client(t, "Bloom").ID
	for field, e := range map[string]provisioning.Edit{
		"name":        {Name: new(" ")},
		"owner_email": {OwnerEmail: new("ben@")},
		"ref":         {Ref: new(strings.Repeat("x", 129))},
		"account_id":  {AccountID: new("other")},
		"route":       {Route: new("carrier pigeon")},
		"site_url":    {SiteURL: new("ftp://x")},
		"locale":      {Locale: new("no language")},
		"time_zone":   {TimeZone: new("Mars/North")},
		"tags":        {Tags: &[]string{strings.Repeat("x", 65)}},
		"extra.stage": {Extra: map[string]*string{"stage": new("x")}},
		"extra.Plan":  {Extra: map[string]*string{"Plan": new("\x00")}},
	} {
		_, err := o.inviter.Edit(t.Context(), b, "", e, sam)
		if wrong, ok := errors.AsType[*provisioning.FieldError](err); !ok || wrong.Field != field || wrong.Message == "" {
			t.Errorf("%s: %v", field, err)
		}
	}
	_, err = o.inviter.Edit(t.Context(), c.ID, "", provisioning.Edit{Ref: new("B")}, sam)
	if wrong, ok := errors.AsType[*provisioning.FieldError](err); !ok || wrong.Field != "ref" {
		t.Errorf("a ref of another client: %v", err)
	}
	o.exec(t, `UPDATE clients SET stage = 'imported' WHERE ref = 'B'`)
	if after := o.state(t)["clients"]; len(after) != len(before) {
		t.Error("a refused edit changes something")
	}
}

// Who was to be mailed is mailed at a new address; who was not is not.
func TestEditOwner(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_name,owner_email\nA,Acme,Ann,ann@a.example\nB,Bloom,Ben,ben@b.example")
	sam := provisioning.Operator("sam")
	if _, err := o.inviter.Invite(t.Context(), provisioning.Selection{Clients: []string{"A"}}, sam, false); err != nil {
		t.Fatal(err)
	}
	for name, history := range map[string][]string{
		"Acme":  {"mail_queued by operator sam", "owner_changed by operator sam", "updated by operator sam", "mail_queued by operator sam"},
		"Bloom": {"owner_changed by operator sam", "updated by operator sam"},
	} {
		c := o.client(t, name)
		edited, err := o.inviter.Edit(t.Context(), c.ID, "", provisioning.Edit{OwnerEmail: new("new@A.example")}, sam)
		if err != nil || edited.OwnerEmail != "new@a.example" || edited.OwnerName != c.OwnerName {
			t.Errorf("%s belongs to %s <%s>, %v", name, edited.OwnerName, edited.OwnerEmail, err)
		}
		if diff := cmp.Diff(history, o.history(t, c.ID)[1:]); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}
