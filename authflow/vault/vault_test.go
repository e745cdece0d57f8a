package vault_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/authflow/vault"
)

func parseKeys(t *testing.T, keys ...string) *vault.Vault {
	t.Helper()
	v, err := vault.ParseKeys(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func key(size int) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, size))
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	good := key(32)
	tests := []struct {
		name, keys, err string
	}{
		{"one", "k1=" + good, ""},
		{"without padding", "k1=" + strings.TrimRight(good, "="), ""},
		{"several with space around", " k1=" + good + " ,\n K_2-x=" + key(32) + "\n", ""},
		{"longest id", strings.Repeat("i", 32) + "=" + good, ""},
		{"none", " \n", "there is none"},
		{"no id", "=" + good, "key 1 does not have the form"},
		{"key alone", good, "key 1 does not have the form"},
		{"id of other letters", "ké=" + good, "key 1 does not have the form"},
		{"id too long", strings.Repeat("i", 33) + "=" + good, "key 1 does not have the form"},
		{"comma at the end", "k1=" + good + ",", "key 2 does not have the form"},
		{"the same id again", "k1=" + good + ",k2=" + good + ",k1=" + key(32), "key 3 has the id of an earlier one"},
		{"short key", "k1=" + key(16), "key 1 has 16 bytes and needs 32"},
		{"long key", "k1=" + key(33), "key 1 has 33 bytes and needs 32"},
		{"no key", "k1=", "key 1 has 0 bytes"},
		{"no base64", "k1=" + good[:40] + "!!!", "key 1 is not base64"},
		{"base64 for URLs", "k1=" + strings.ReplaceAll(good, "+", "-"), "key 1 is not base64"},
		{"bits left over", "k1=" + good[:42] + "/", "key 1 is not base64"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			v, err := vault.ParseKeys(test.keys)
			if test.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := v.Open(v.Seal([]byte("x"), vault.AD{}), vault.AD{}); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if strings.Contains(err.Error(), good[:8]) {
				t.Errorf("error %q shows a key", err)
			}
		})
	}
}

// ads are the places that things are sealed for. Short parts of few letters make near misses likely.
func ads() *rapid.Generator[vault.AD] {
	part := rapid.StringMatching(`[ab\x00\x01]{0,3}`)
	return rapid.Custom(func(t *rapid.T) vault.AD {
		return vault.AD{
			Row:        part.Draw(t, "row"),
			Kind:       part.Draw(t, "kind"),
			Client:     part.Draw(t, "client"),
			Generation: rapid.IntRange(-2, 200).Draw(t, "generation"),
		}
	})
}

func TestSealedOpensInItsPlaceAlone(t *testing.T) {
	t.Parallel()
	v := parseKeys(t, vault.GenerateKey("k1"))
	rapid.Check(t, func(t *rapid.T) {
		plaintext := rapid.SliceOf(rapid.Byte()).Draw(t, "plaintext")
		home, away := ads().Draw(t, "home"), ads().Draw(t, "away")
		sealed := v.Seal(plaintext, home)
		opened, err := v.Open(sealed, home)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(opened, plaintext) {
			t.Fatalf("opened %x, want %x", opened, plaintext)
		}
		if len(plaintext) >= 8 && bytes.Contains(sealed, plaintext) {
			t.Fatal("the plaintext shows")
		}
		parts := home.Row + home.Kind + home.Client
		i := rapid.IntRange(0, len(parts)).Draw(t, "first border")
		j := rapid.IntRange(i, len(parts)).Draw(t, "second border")
		moved := vault.AD{Row: parts[:i], Kind: parts[i:j], Client: parts[j:], Generation: home.Generation}
		row, kind, client, generation := home, home, home, home
		row.Row, kind.Kind, client.Client, generation.Generation = away.Row, away.Kind, away.Client, away.Generation
		for _, other := range []vault.AD{away, moved, row, kind, client, generation} {
			if _, err := v.Open(sealed, other); home != other && !errors.Is(err, vault.ErrSealBroken) {
				t.Fatalf("sealed for %+v, opened for %+v: error %v, want ErrSealBroken", home, other, err)
			}
		}
	})
}

func TestSealedDoesNotSurviveAChange(t *testing.T) {
	t.Parallel()
	v := parseKeys(t, vault.GenerateKey("k1"), vault.GenerateKey("k2"))
	ad := vault.AD{Row: "7c9e", Kind: "refresh_token", Generation: 3}
	rapid.Check(t, func(t *rapid.T) {
		sealed := v.Seal(rapid.SliceOf(rapid.Byte()).Draw(t, "plaintext"), ad)
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "place")
		changed := bytes.Clone(sealed)
		changed[i] ^= rapid.ByteRange(1, 255).Draw(t, "change")
		for what, damaged := range map[string][]byte{
			"changed": changed, "cut at the end": sealed[:i], "cut at the begin": sealed[i+1:], "with more": append(bytes.Clone(sealed), 0),
		} {
			if _, err := v.Open(damaged, ad); !errors.Is(err, vault.ErrSealBroken) && !errors.Is(err, vault.ErrUnknownKey) {
				t.Fatalf("%s at %d: error %v", what, i, err)
			}
		}
	})
}

func TestOpenTakesAnything(t *testing.T) {
	t.Parallel()
	v := parseKeys(t, vault.GenerateKey("k"))
	rapid.Check(t, func(t *rapid.T) {
		noise := rapid.SliceOf(rapid.Byte()).Draw(t, "noise")
		for _, sealed := range [][]byte{noise, append([]byte{1}, noise...), append([]byte("\x01k\x00"), noise...)} {
			if _, err := v.Open(sealed, vault.AD{}); err == nil {
				t.Fatalf("%x opened", sealed)
			}
		}
	})
}

func TestKeysChange(t *testing.T) {
	t.Parallel()
	k1, k2, other := vault.GenerateKey("k1"), vault.GenerateKey("k2"), vault.GenerateKey("k1")
	ad := vault.AD{Row: "row", Kind: "kind"}
	old := parseKeys(t, k1).Seal([]byte("secret"), ad)

	both := parseKeys(t, k2, k1)
	if opened, err := both.Open(old, ad); err != nil || string(opened) != "secret" {
		t.Errorf("the earlier key no longer opens: %q, %v", opened, err)
	}
	if _, err := parseKeys(t, k2).Open(both.Seal(nil, ad), ad); err != nil {
		t.Errorf("the first key does not seal: %v", err)
	}
	if _, err := parseKeys(t, k2).Open(old, ad); !errors.Is(err, vault.ErrUnknownKey) || !strings.Contains(err.Error(), `"k1"`) {
		t.Errorf("error %v, want ErrUnknownKey with the id k1", err)
	}
	if _, err := parseKeys(t, other).Open(old, ad); !errors.Is(err, vault.ErrSealBroken) {
		t.Errorf("error %v, want ErrSealBroken", err)
	}
	// The same key under two ids: the id in the envelope is sealed as well.
	text, _ := strings.CutPrefix(k1, "k1=")
	twins := parseKeys(t, k1, "k2="+text)
	renamed := bytes.Replace(old, []byte("k1"), []byte("k2"), 1)
	if _, err := twins.Open(renamed, ad); !errors.Is(err, vault.ErrSealBroken) {
		t.Errorf("error %v, want ErrSealBroken", err)
	}
}

func TestSealIsNeverTheSame(t *testing.T) {
	t.Parallel()
	v := parseKeys(t, vault.GenerateKey("k1"))
	if bytes.Equal(v.Seal([]byte("x"), vault.AD{}), v.Seal([]byte("x"), vault.AD{})) {
		t.Error("two seals of one secret are equal")
	}
	if one, other := vault.GenerateKey("k1"), vault.GenerateKey("k1"); one == other {
		t.Error("two keys are equal")
	}
}

func TestVaultPrintsAsRedacted(t *testing.T) {
	t.Parallel()
	v := parseKeys(t, vault.GenerateKey("k1"))
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(format, v); got != "[redacted]" {
			t.Errorf("%s prints %q", format, got)
		}
		if got := fmt.Sprintf(format, *v); got != "[redacted]" {
			t.Errorf("%s of the value prints %q", format, got)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).InfoContext(t.Context(), "start", "vault", v)
	if !strings.Contains(log.String(), "vault=[redacted]") {
		t.Errorf("the log shows %q", log.String())
	}
}
