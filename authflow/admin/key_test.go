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
	secret, key, err := b.CreateKey(t.Context(), admin.NewKey{Name: " app ", Scopes: []admin.Scope{admin.ScopeWrite, admin.ScopeRead, admin.ScopeRead}}, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^csk_[A-Za-z0-9_-]{43}$`).MatchString(secret.Reveal()) {
		t.Errorf("the key looks like %q", secret.Reveal())
	}
	if dump := b.dump(t, "api_keys"); strings.Contains(dump, secret.Reveal()[len("csk_"):]) {
		t.Error("the key is in the database")
	}
	want := admin.Key{ID: key.ID, Name: "app", Scopes: []admin.Scope{admin.ScopeRead, admin.ScopeWrite}, CreatedAt: b.clock.now(), CreatedBy: provisioning.ActorCLI}
	if diff := cmp.Diff(want, key); diff != "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	got, err := b.Key(t.Context(), secret, from().Address)
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
		if _, err := b.Key(t.Context(), bad, from().Address); !errors.Is(err, admin.ErrBadKey) {
			t.Errorf("%q: error %v, want ErrBadKey", bad.Reveal(), err)
		}
	}
}

func TestCreateKeyRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	read := []admin.Scope{admin.ScopeRead}
	if _, _, err := b.CreateKey(t.Context(), admin.NewKey{Name: "app", Scopes: read}, provisioning.ActorCLI); err != nil {
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
		if _, _, err := b.CreateKey(t.Context(), admin.NewKey{Name: test.name, Scopes: test.scopes}, provisioning.ActorCLI); !errors.Is(err, test.want) {
			t.Errorf("%q %v: error %v, want %v", test.name, test.scopes, err, test.want)
		}
	}
}

func TestRevokeKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	read := []admin.Scope{admin.ScopeRead}
	secret, first, err := b.CreateKey(t.Context(), admin.NewKey{Name: "app", Scopes: read}, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	b.clock.pass(time.Hour)
	if err := b.RevokeKey(t.Context(), "app", provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Key(t.Context(), secret, from().Address); !errors.Is(err, admin.ErrBadKey) {
		t.Errorf("revoked: error %v, want ErrBadKey", err)
	}
	if err := b.RevokeKey(t.Context(), "app", provisioning.ActorCLI); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("revoking again: error %v, want ErrNotFound", err)
	}
	if err := b.RevokeKey(t.Context(), secret.Reveal(), provisioning.ActorCLI); !errors.Is(err, admin.ErrNotFound) || strings.Contains(err.Error(), secret.Reveal()) {
		t.Errorf("revoking by the key itself: error %v, want ErrNotFound without it", err)
	}

	secret, second, err := b.CreateKey(t.Context(), admin.NewKey{Name: "app", Scopes: read}, provisioning.ActorCLI)
	if err != nil {
		t.Fatalf("the name is not free again: %v", err)
	}
	if err := b.RevokeKey(t.Context(), second.ID.String(), provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Key(t.Context(), secret, from().Address); !errors.Is(err, admin.ErrBadKey) {
		t.Errorf("revoked by id: error %v, want ErrBadKey", err)
	}

	now := b.clock.now()
	by := provisioning.ActorCLI
	first.RevokedAt, second.RevokedAt, first.RevokedBy, second.RevokedBy = &now, &now, &by, &by
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
	secret, _, err := b.CreateKey(t.Context(), admin.NewKey{Name: "app", Scopes: []admin.Scope{admin.ScopeRead}}, provisioning.ActorCLI)
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
		if _, err := b.Key(t.Context(), secret, from().Address); err != nil {
			t.Fatal(err)
		}
		if got := b.queryTime(t, `SELECT used_at FROM api_keys`).Sub(start); got != step.want {
			t.Errorf("after %v it was last used after %v, want %v", b.clock.now().Sub(start), got, step.want)
		}
	}
}

func TestParseExpiry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"90d": now.AddDate(0, 0, 90), " 1d ": now.AddDate(0, 0, 1),
		"2027-01-31": time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC),
		"2026-11-23": time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := admin.ParseExpiry(text, now); err != nil || got == nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	if got, err := admin.ParseExpiry(" ", now); got != nil || err != nil {
		t.Errorf("nothing: %v, %v", got, err)
	}
	for _, text := range []string{"0d", "-1d", "d", "90", "90h", "36501d", "99999999999999999999d", "2026-11-22", "2026-02-30", "soon"} {
		if got, err := admin.ParseExpiry(text, now); !errors.Is(err, admin.ErrExpiry) {
			t.Errorf("%q: %v, %v, want ErrExpiry", text, got, err)
		}
	}
}

func TestKeyExpires(t *testing.T) {
	t.Parallel()
	b := setup(t)
	end := b.clock.now().Add(time.Hour)
	n := admin.NewKey{Name: "app", Scopes: []admin.Scope{admin.ScopeRead}, ExpiresAt: &end}
	secret, _, err := b.CreateKey(t.Context(), n, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	b.clock.pass(time.Hour - time.Microsecond)
	if _, err := b.Key(t.Context(), secret, from().Address); err != nil {
		t.Errorf("before its end: %v", err)
	}
	b.clock.pass(time.Microsecond)
	if _, err := b.Key(t.Context(), secret, from().Address); !errors.Is(err, admin.ErrBadKey) {
		t.Errorf("at its end: error %v, want ErrBadKey", err)
	}
	n.Name = "late"
	if _, _, err := b.CreateKey(t.Context(), n, provisioning.ActorCLI); !errors.Is(err, admin.ErrExpiry) {
		t.Errorf("made after its end: error %v, want ErrExpiry", err)
	}
}

func TestKeyGivesNoMoreThanItHas(t *testing.T) {
	t.Parallel()
	soon, later := time.Unix(1000, 0), time.Unix(2000, 0)
	giver := admin.Key{Scopes: []admin.Scope{admin.ScopeAdmin, admin.ScopeRead}, ExpiresAt: &soon}
	read := []admin.Scope{admin.ScopeRead}
	for _, test := range []struct {
		name  string
		giver admin.Key
		n     admin.NewKey
		want  error
	}{
		{"less", giver, admin.NewKey{Scopes: read, ExpiresAt: &soon}, nil},
		{"another scope", giver, admin.NewKey{Scopes: []admin.Scope{admin.ScopeRead, admin.ScopeTokens}, ExpiresAt: &soon}, admin.ErrMoreThanOwn},
		{"longer", giver, admin.NewKey{Scopes: read, ExpiresAt: &later}, admin.ErrMoreThanOwn},
		{"for ever", giver, admin.NewKey{Scopes: read}, admin.ErrMoreThanOwn},
		{"for ever, of one that is", admin.Key{Scopes: read}, admin.NewKey{Scopes: read}, nil},
		{"of no key", admin.Key{}, admin.NewKey{Scopes: read}, admin.ErrMoreThanOwn},
	} {
		if err := test.giver.MayGive(test.n); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.name, err, test.want)
		}
	}
}

func TestKeyUnused(t *testing.T) {
	t.Parallel()
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	used := made.AddDate(0, 0, 10)
	day := func(n int) time.Time { return made.AddDate(0, 0, n) }
	for _, test := range []struct {
		key  admin.Key
		now  time.Time
		want bool
	}{
		{admin.Key{CreatedAt: made}, day(89), false},
		{admin.Key{CreatedAt: made}, day(90), true},
		{admin.Key{CreatedAt: made, UsedAt: &used}, day(90), false},
		{admin.Key{CreatedAt: made, UsedAt: &used}, day(100), true},
		{admin.Key{CreatedAt: made, RevokedAt: &used}, day(100), false},
		{admin.Key{CreatedAt: made, ExpiresAt: &used}, day(100), false},
	} {
		if got := test.key.Unused(test.now); got != test.want {
			t.Errorf("%+v at %v: %v", test.key, test.now, got)
		}
	}
}
