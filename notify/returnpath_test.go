package notify_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/notify"
)

var returnKey = []byte(strings.Repeat("k", 32)) //nolint:gochecknoglobals // a constant but for its type

func TestReturnPaths(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("0198f0a2-1111-7abc-8def-000000000001")
	for _, address := range []string{
		"bounce@example.com", "Bounce@Mail.Example.com", "bounce+list@example.com", "b@bücher.example", strings.Repeat("b", 22) + "@example.com",
	} {
		paths, err := notify.NewReturnPaths(address, returnKey)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		for purpose, path := range map[notify.Purpose]string{
			notify.PurposeBounce: paths.Bounce(id), notify.PurposeUnsubscribe: paths.Unsubscribe(id),
		} {
			if local, _, _ := strings.Cut(path, "@"); len(local) > 64 || strings.ContainsFunc(path, func(r rune) bool { return r > '~' }) {
				t.Errorf("%s gives %s", address, path)
			}
			for _, changed := range []string{path, strings.ToUpper(path), strings.ToLower(path), path + "."} {
				got, as, err := paths.Parse(changed)
				if err != nil || got != id || as != purpose {
					t.Errorf("%s: %s, %s, %v", changed, got, as, err)
				}
			}
		}
		if _, _, err := paths.Parse(address); !errors.Is(err, notify.ErrBareAddress) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestBadBounceAddress(t *testing.T) {
	t.Parallel()
	for address, part := range map[string]string{
		"":                                       "plain address",
		"bounce":                                 "plain address",
		"Bounce <bounce@example.com>":            "plain address",
		`"a b"@example.com`:                      "plain address",
		"a@b@example.com":                        "plain address",
		"bünce@example.com":                      "ASCII",
		strings.Repeat("b", 23) + "@example.com": "at most 22",
		"bounce@" + strings.Repeat(strings.Repeat("d", 60)+".", 4) + "example": "take 254",
	} {
		if _, err := notify.NewReturnPaths(address, returnKey); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want %q in it", address, err, part)
		}
	}
	if _, err := notify.NewReturnPaths("bounce@example.com", nil); err == nil {
		t.Error("no key is needed")
	}
}

func TestForgedReturnPath(t *testing.T) {
	t.Parallel()
	paths, err := notify.NewReturnPaths("bounce@example.com", returnKey)
	if err != nil {
		t.Fatal(err)
	}
	others, err := notify.NewReturnPaths("bounce@example.com", []byte(strings.Repeat("o", 32)))
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.New()
	path := paths.Bounce(id)
	for address, want := range map[string]error{
		others.Bounce(id):                                        notify.ErrForgedAddress,
		strings.Replace(path, "+b", "+u", 1):                     notify.ErrForgedAddress,
		strings.Replace(path, "+b", "+x", 1):                     notify.ErrForeignAddress,
		strings.Replace(path, "example.com", "example.net", 1):   notify.ErrForeignAddress,
		strings.Replace(path, "@", "a@", 1):                      notify.ErrForeignAddress,
		strings.Replace(path, "+", "-", 1):                       notify.ErrForeignAddress,
		"bounce+acme-bakery@example.com":                         notify.ErrForeignAddress,
		"bounce+b" + strings.Repeat("1", 40) + "@example.com":    notify.ErrForeignAddress,
		"bounce+b" + strings.Repeat("\x00", 40) + "@example.com": notify.ErrForeignAddress,
		"no address": notify.ErrForeignAddress,
		"":           notify.ErrForeignAddress,
	} {
		if _, _, err := paths.Parse(address); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", address, err, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(len("bounce+b"), len("bounce+b")+39).Draw(t, "at")
		to := rapid.StringMatching(`[a-z2-7]`).Draw(t, "to")
		changed := path[:at] + to + path[at+1:]
		if _, _, err := paths.Parse(changed); changed != path && !errors.Is(err, notify.ErrForgedAddress) {
			t.Fatalf("%s: %v", changed, err)
		}
	})
}
