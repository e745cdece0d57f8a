package admin_test

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	b, o := withAnn(t)
	token, signedIn, err := b.SignIn(t.Context(), " aNN@agency.example ", password, from())
	if err != nil {
		t.Fatal(err)
	}
	now := b.clock.now()
	o.SignedInAt = &now
	if diff := cmp.Diff(o, signedIn); diff != "" {
		t.Errorf("operator (-want +got):\n%s", diff)
	}
	got, err := b.Session(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(o, got); diff != "" {
		t.Errorf("session's operator (-want +got):\n%s", diff)
	}
	if len(token) != 43 {
		t.Errorf("the token has %d characters, want the 43 of 256 bits", len(token))
	}
	if strings.Contains(b.dump(t, "sessions"), token.Reveal()) {
		t.Error("the token is in the database")
	}

	other, _, err := b.SignIn(t.Context(), ann, password, from())
	if err != nil {
		t.Fatal(err)
	}
	if other == token {
		t.Error("two sessions have one token")
	}
	if err := b.SignOut(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if err := b.SignOut(t.Context(), token); err != nil {
		t.Errorf("signing out twice: %v", err)
	}
	if _, err := b.Session(t.Context(), token); !errors.Is(err, admin.ErrNoSession) {
		t.Errorf("after signing out: error %v, want ErrNoSession", err)
	}
	if _, err := b.Session(t.Context(), other); err != nil {
		t.Errorf("the other session: %v", err)
	}
}

func TestSignInRefuses(t *testing.T) {
	t.Parallel()
	b, _ := withAnn(t)
	for _, test := range []struct {
		email    string
		password provisioning.Secret
	}{
		{ann, "correct horse batterx"},
		{ann, ""},
		{ann, provisioning.Secret(strings.Repeat("x", 100_000))},
		{"eve@agency.example", password},
		{"eve@agency.example", ""},
		{"", ""},
		{"ann", password},
		{"ann\x00@agency.example", password},
		{"%@agency.example", password},
	} {
		token, o, err := b.SignIn(t.Context(), test.email, test.password, from())
		if !errors.Is(err, admin.ErrBadCredentials) || err.Error() != admin.ErrBadCredentials.Error() {
			t.Errorf("%q: error %v, want the one of every refusal", test.email, err)
		}
		if token != "" || o != (admin.Operator{}) {
			t.Errorf("%q: something came with the error", test.email)
		}
	}
	for _, token := range []provisioning.Secret{"", "x", provisioning.Secret(strings.Repeat("A", 43))} {
		if _, err := b.Session(t.Context(), token); !errors.Is(err, admin.ErrNoSession) {
			t.Errorf("session %q: error %v, want ErrNoSession", token.Reveal(), err)
		}
	}
}

// The time it takes must not tell who is an operator. What takes time is to fill 19 MiB of memory, and
// that is measured more surely than time; not beside other tests, which fill memory too.
func TestUnknownOperatorCostsAsMuch(t *testing.T) {
	b, _ := withAnn(t)
	cost := func(email string) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, _, err := b.SignIn(t.Context(), email, "not the password", from()); !errors.Is(err, admin.ErrBadCredentials) {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	known, unknown := cost(ann), cost("eve@agency.example")
	if known < 19<<20 || unknown < known*9/10 || unknown > known*11/10 {
		t.Errorf("refusing a known operator fills %d bytes, an unknown one %d", known, unknown)
	}
}

func TestSessionEnds(t *testing.T) {
	t.Parallel()
	b, _ := withAnn(t)
	signIn := func() provisioning.Secret {
		t.Helper()
		token, _, err := b.SignIn(t.Context(), ann, password, from())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	check := func(what string, token provisioning.Secret, want error) {
		t.Helper()
		if _, err := b.Session(t.Context(), token); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", what, err, want)
		}
	}

	idle := signIn()
	b.clock.pass(12*time.Hour - time.Second)
	check("unused for nearly 12 h", idle, nil)
	b.clock.pass(12*time.Hour - time.Second)
	check("used, then unused for nearly 12 h", idle, nil)
	b.clock.pass(12 * time.Hour)
	check("unused for 12 h", idle, admin.ErrNoSession)

	busy := signIn()
	for range 14 {
		check("in use", busy, nil)
		b.clock.pass(12*time.Hour - time.Second)
	}
	check("in use for nearly 7 days", busy, nil)
	b.clock.pass(14 * time.Second)
	check("in use for 7 days", busy, admin.ErrNoSession)

	signIn()
	if n := strings.Count(b.dump(t, "sessions"), "\n") + 1; n != 1 {
		t.Errorf("%d sessions are kept, want the live one alone", n)
	}
}

func TestSessionIsTouchedOnceAMinute(t *testing.T) {
	t.Parallel()
	b, _ := withAnn(t)
	token, _, err := b.SignIn(t.Context(), ann, password, from())
	if err != nil {
		t.Fatal(err)
	}
	start := b.clock.now()
	for _, step := range []struct{ pass, want time.Duration }{
		{59 * time.Second, 0},
		{time.Second, 60 * time.Second},
		{59 * time.Second, 60 * time.Second},
		{2 * time.Second, 121 * time.Second},
	} {
		b.clock.pass(step.pass)
		if _, err := b.Session(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		if got := b.queryTime(t, `SELECT seen_at FROM sessions`).Sub(start); got != step.want {
			t.Errorf("after %v it was last seen after %v, want %v", b.clock.now().Sub(start), got, step.want)
		}
	}
}

func TestSignInIsThrottledByEmail(t *testing.T) {
	t.Parallel()
	b, _ := withAnn(t)
	try := func(email string, p provisioning.Secret, i int) error {
		_, _, err := b.SignIn(t.Context(), email, p, at(fmt.Sprintf("198.51.100.%d", i)))
		return err
	}
	for i := range 10 {
		if err := try([]string{ann, strings.ToUpper(ann), " " + ann}[i%3], "not the password", i); !errors.Is(err, admin.ErrBadCredentials) {
			t.Fatalf("attempt %d: %v", i, err)
		}
	}
	err := try(ann, password, 11)
	throttled, ok := errors.AsType[*admin.ThrottledError](err)
	if !ok || !errors.Is(err, admin.ErrThrottled) {
		t.Fatalf("attempt 11: error %v, want a ThrottledError", err)
	}
	if throttled.RetryAfter != 30*time.Second || !strings.Contains(err.Error(), "30 seconds") {
		t.Errorf("retry after %v: %v", throttled.RetryAfter, err)
	}
	if err := try("eve@agency.example", password, 12); !errors.Is(err, admin.ErrBadCredentials) {
		t.Errorf("another e-mail: %v", err)
	}
	b.clock.pass(throttled.RetryAfter)
	if err := try(ann, password, 13); err != nil {
		t.Fatalf("after the wait: %v", err)
	}
	for i := range 10 {
		if err := try(ann, "not the password", i); !errors.Is(err, admin.ErrBadCredentials) {
			t.Fatalf("attempt %d after a success: %v", i, err)
		}
	}
}

func TestSignInIsThrottledByAddress(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]func(i int) netip.Addr{
		"IPv4": func(int) netip.Addr { return from().Address },
		"IPv4 in IPv6 and bare": func(i int) netip.Addr {
			return []netip.Addr{from().Address, netip.AddrFrom16(from().Address.As16())}[i%2]
		},
		"IPv6 of one network": func(i int) netip.Addr {
			return netip.MustParseAddr(fmt.Sprintf("2001:db8:1:2:%x::%x", i, i))
		},
		"unknown": func(int) netip.Addr { return netip.Addr{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := withAnn(t)
			// An address that is none is refused at once, so that 50 attempts are quick.
			for i := range 50 {
				if _, _, err := b.SignIn(t.Context(), fmt.Sprintf("guess%d", i), password, admin.Visitor{Address: address(i)}); !errors.Is(err, admin.ErrBadCredentials) {
					t.Fatalf("attempt %d: %v", i, err)
				}
			}
			// What the address is denied does not count against the e-mail.
			for range 20 {
				if _, _, err := b.SignIn(t.Context(), ann, password, admin.Visitor{Address: address(50)}); !errors.Is(err, admin.ErrThrottled) {
					t.Fatalf("attempt 51: error %v, want ErrThrottled", err)
				}
			}
			for _, other := range []string{"192.0.2.2", "2001:db8:1:3::1"} {
				if _, _, err := b.SignIn(t.Context(), ann, password, at(other)); err != nil {
					t.Errorf("another address: %v", err)
				}
			}
		})
	}
}

// A flood of other e-mails and addresses neither stops sign-in nor wipes out a limit that was reached.
func TestThrottleInAFlood(t *testing.T) {
	t.Parallel()
	b, _ := withAnn(t)
	for range 10 {
		if _, _, err := b.SignIn(t.Context(), "eve", password, from()); !errors.Is(err, admin.ErrBadCredentials) {
			t.Fatal(err)
		}
	}
	for i := range 25_000 {
		a := admin.Visitor{Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
		if _, _, err := b.SignIn(t.Context(), fmt.Sprintf("guess%d", i), password, a); !errors.Is(err, admin.ErrBadCredentials) {
			t.Fatalf("attempt %d: %v", i, err)
		}
		if i%9_000 == 0 {
			if _, _, err := b.SignIn(t.Context(), "eve", password, a); !errors.Is(err, admin.ErrThrottled) {
				t.Fatalf("after %d others: error %v, want ErrThrottled", i, err)
			}
		}
	}
	if _, _, err := b.SignIn(t.Context(), ann, password, from()); err != nil {
		t.Error(err)
	}
}

// A password that is changed while somebody signs in with the old one lets nobody in.
func TestSignInWhileThePasswordChanges(t *testing.T) {
	t.Parallel()
	b, _ := withAnn(t)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	changing := *b.Store
	changing.DB = tx
	if err := changing.SetPassword(t.Context(), ann, "another horse battery", provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		_, _, err := b.SignIn(t.Context(), ann, password, from())
		result <- err
	}()
	b.awaitBlocked(t, 1)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, admin.ErrBadCredentials) {
		t.Errorf("error %v, want ErrBadCredentials", err)
	}
}
