package admin_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

func TestParseScopes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		list string
		want []admin.Scope
	}{
		{"read", []admin.Scope{admin.ScopeRead}},
		{" read , write,links,tokens,admin ", []admin.Scope{admin.ScopeRead, admin.ScopeWrite, admin.ScopeLinks, admin.ScopeTokens, admin.ScopeAdmin}},
		{"", nil},
		{",", nil},
		{"read,", nil},
		{"read write", nil},
		{"Read", nil},
		{"root", nil},
	}
	for _, test := range tests {
		got, err := admin.ParseScopes(test.list)
		if test.want == nil {
			if !errors.Is(err, admin.ErrScopes) {
				t.Errorf("%q: error %v, want ErrScopes", test.list, err)
			}
		} else if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%q: error %v, scopes (-want +got):\n%s", test.list, err, diff)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, key, err := b.CreateKey(t.Context(), " app ", []admin.Scope{admin.ScopeWrite, admin.ScopeRead, admin.ScopeRead})
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^csk_[A-Za-z0-9_-]{43}$`).MatchString(secret.Reveal()) {
		t.Errorf("the key looks like %q", secret.Reveal())
	}
	if dump := b.dump(t, "api_keys"); strings.Contains(dump, secret.Reveal()[len("csk_"):]) {
		t.Error("the key is in the database")
	}
	want := admin.Key{ID: key.ID, Name: "app", Scopes: []admin.Scope{admin.ScopeRead, admin.ScopeWrite}, CreatedAt: b.clock.now()}
	if diff := cmp.Diff(want, key); diff != "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	got, err := b.Key(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("presented (-want +got):\n%s", diff)
	}
	if !got.May(admin.ScopeRead) || !got.May(admin.ScopeWrite) || got.May(admin.ScopeAdmin) || got.May("") {
		t.Errorf("may the wrong things: %v", got.Scopes)
	}
	for _, bad := range []provisioning.Secret{
		"", "csk_", secret[:len(secret)-1], secret + "A", secret[len("csk_"):], provisioning.Secret(strings.ToUpper(secret.Reveal())), "csk_\x00",
	} {
		if _, err := b.Key(t.Context(), bad); !errors.Is(err, admin.ErrBadKey) {
			t.Errorf("%q: error %v, want ErrBadKey", bad.Reveal(), err)
		}
	}
}

func TestCreateKeyRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	read := []admin.Scope{admin.ScopeRead}
	if _, _, err := b.CreateKey(t.Context(), "app", read); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		scopes []admin.Scope
		want   error
	}{
		{"app", read, admin.ErrKeyNameTaken},
		{"", read, admin.ErrName},
		{"a\x00b", read, admin.ErrName},
		{"other", nil, admin.ErrScopes},
		{"other", []admin.Scope{admin.ScopeRead, "root"}, admin.ErrScopes},
	} {
		if _, _, err := b.CreateKey(t.Context(), test.name, test.scopes); !errors.Is(err, test.want) {
			t.Errorf("%q %v: error %v, want %v", test.name, test.scopes, err, test.want)
		}
	}
}

func TestRevokeKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	read := []admin.Scope{admin.ScopeRead}
	secret, first, err := b.CreateKey(t.Context(), "app", read)
	if err != nil {
		t.Fatal(err)
	}
	b.clock.pass(time.Hour)
	if err := b.RevokeKey(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Key(t.Context(), secret); !errors.Is(err, admin.ErrBadKey) {
		t.Errorf("revoked: error %v, want ErrBadKey", err)
	}
	if err := b.RevokeKey(t.Context(), "app"); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("revoking again: error %v, want ErrNotFound", err)
	}
	if err := b.RevokeKey(t.Context(), secret.Reveal()); !errors.Is(err, admin.ErrNotFound) || strings.Contains(err.Error(), secret.Reveal()) {
		t.Errorf("revoking by the key itself: error %v, want ErrNotFound without it", err)
	}

	secret, second, err := b.CreateKey(t.Context(), "app", read)
	if err != nil {
		t.Fatalf("the name is not free again: %v", err)
	}
	if err := b.RevokeKey(t.Context(), second.ID.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Key(t.Context(), secret); !errors.Is(err, admin.ErrBadKey) {
		t.Errorf("revoked by id: error %v, want ErrBadKey", err)
	}

	now := b.clock.now()
	first.RevokedAt, second.RevokedAt = &now, &now
	keys, err := b.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]admin.Key{first, second}, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestKeyIsTouchedOnceAMinute(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret, _, err := b.CreateKey(t.Context(), "app", []admin.Scope{admin.ScopeRead})
	if err != nil {
		t.Fatal(err)
	}
	start := b.clock.now()
	for _, step := range []struct{ pass, want time.Duration }{
		{0, 0},
		{59 * time.Second, 0},
		{time.Second, 60 * time.Second},
		{59 * time.Second, 60 * time.Second},
		{2 * time.Second, 121 * time.Second},
	} {
		b.clock.pass(step.pass)
		if _, err := b.Key(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		if got := b.queryTime(t, `SELECT used_at FROM api_keys`).Sub(start); got != step.want {
			t.Errorf("after %v it was last used after %v, want %v", b.clock.now().Sub(start), got, step.want)
		}
	}
}
