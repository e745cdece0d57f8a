package admin_test

import (
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
)

// code is what an authenticator app shows at that time.
func code(t *testing.T, secret provisioning.Secret, at time.Time) string {
	t.Helper()
	c, err := totp.GenerateCode(secret.Reveal(), at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// withFactor adds an operator with a second factor, and waits until the code of now has not been used.
func withFactor(t *testing.T) (b bundle, o admin.Operator, secret provisioning.Secret, recovery []provisioning.Secret) {
	t.Helper()
	b, o = withAnn(t)
	if err := b.BeginSecondFactor(t.Context(), o, password, from()); err != nil {
		t.Fatal(err)
	}
	enrolment, err := b.Enrolment(t.Context(), o, "Brightside & Co")
	if err != nil {
		t.Fatal(err)
	}
	if recovery, err = b.ConfirmSecondFactor(t.Context(), o, code(t, enrolment.Secret, b.clock.now()), from()); err != nil {
		t.Fatal(err)
	}
	b.clock.pass(30 * time.Second)
	if o, err = b.Find(t.Context(), ann); err != nil || !o.SecondFactor {
		t.Fatalf("%+v, %v", o, err)
	}
	return b, o, enrolment.Secret, recovery
}

// step signs in with the password and returns the token of the second step.
func (b bundle) step(t *testing.T) provisioning.Secret {
	t.Helper()
	token, o, err := b.SignIn(t.Context(), ann, password, from())
	if !errors.Is(err, admin.ErrSecondFactor) || token == "" || o != (admin.Operator{}) {
		t.Fatalf("the password alone: %+v, %v, want ErrSecondFactor and a token", o, err)
	}
	return token
}

func TestEnrolment(t *testing.T) {
	t.Parallel()
	b, o := withAnn(t)
	if _, err := b.Enrolment(t.Context(), o, "Brightside"); !errors.Is(err, admin.ErrNoSecondFactor) {
		t.Errorf("before: error %v, want ErrNoSecondFactor", err)
	}
	if err := b.BeginSecondFactor(t.Context(), o, "not the password", from()); !errors.Is(err, admin.ErrPresentPassword) {
		t.Errorf("error %v, want ErrPresentPassword", err)
	}
	secrets := map[provisioning.Secret]bool{}
	var enrolment admin.Enrolment
	for range 2 {
		if err := b.BeginSecondFactor(t.Context(), o, password, from()); err != nil {
			t.Fatal(err)
		}
		var err error
		if enrolment, err = b.Enrolment(t.Context(), o, "Brightside & Co"); err != nil {
			t.Fatal(err)
		}
		secrets[enrolment.Secret] = true
	}
	if len(secrets) != 2 || len(enrolment.Secret) != 32 {
		t.Errorf("%d secrets of %d characters, want 2 of the 32 of 160 bits", len(secrets), len(enrolment.Secret))
	}
	address, err := url.Parse(enrolment.URL.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if address.Scheme != "otpauth" || address.Host != "totp" || address.Path != "/Brightside & Co:"+ann ||
		address.Query().Get("issuer") != "Brightside & Co" || address.Query().Get("secret") != enrolment.Secret.Reveal() || strings.Contains(address.RawQuery, "+") {
		t.Errorf("the QR code says %s", address)
	}
	if strings.Contains(b.dump(t, "operators"), enrolment.Secret.Reveal()) {
		t.Error("the secret is in the database")
	}
	if _, _, err := b.SignIn(t.Context(), ann, password, from()); err != nil {
		t.Errorf("a factor without its first code is asked for: %v", err)
	}
	if _, err := b.ConfirmSecondFactor(t.Context(), o, "000000", from()); !errors.Is(err, admin.ErrCode) {
		t.Errorf("error %v, want ErrCode", err)
	}
	if _, err := b.ConfirmSecondFactor(t.Context(), o, code(t, enrolment.Secret, b.clock.now()), from()); err != nil {
		t.Fatal(err)
	}
	if err := b.BeginSecondFactor(t.Context(), o, password, from()); !errors.Is(err, admin.ErrSecondFactorOn) {
		t.Errorf("while it is on: error %v, want ErrSecondFactorOn", err)
	}
	if _, err := b.Enrolment(t.Context(), o, "Brightside"); !errors.Is(err, admin.ErrNoSecondFactor) {
		t.Errorf("its secret is shown again: %v", err)
	}
}

// TestSecondStep accepts the codes of one step of drift, each once, and none before the last.
func TestSecondStep(t *testing.T) {
	t.Parallel()
	b, o, secret, _ := withFactor(t)
	first := b.step(t)
	if _, err := b.Session(t.Context(), first); !errors.Is(err, admin.ErrNoSession) {
		t.Errorf("the token of the step opens a session: %v", err)
	}
	if _, _, err := b.Enter(t.Context(), first, from()); !errors.Is(err, admin.ErrLinkUnknown) {
		t.Errorf("the token of the step is a link: %v", err)
	}
	now := b.clock.now()
	session, got, err := b.SecondStep(t.Context(), first, " "+code(t, secret, now)[:3]+" "+code(t, secret, now)[3:], from())
	if err != nil || got.ID != o.ID || session == first {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := b.Session(t.Context(), session); err != nil {
		t.Error(err)
	}
	if _, _, err := b.SecondStep(t.Context(), first, code(t, secret, now.Add(30*time.Second)), from()); !errors.Is(err, admin.ErrNoSession) {
		t.Errorf("its token once more: error %v, want ErrNoSession", err)
	}
	b.clock.pass(10 * time.Minute)
	now = b.clock.now()
	for _, try := range []struct {
		what string
		at   time.Duration
		want error
	}{
		{"two steps behind", -60 * time.Second, admin.ErrCode},
		{"two steps ahead", 60 * time.Second, admin.ErrCode},
		{"a step behind", -30 * time.Second, nil},
		{"that one again", -30 * time.Second, admin.ErrCode},
		{"a step ahead", 30 * time.Second, nil},
		{"the one before it", 0, admin.ErrCode},
	} {
		if _, _, err := b.SecondStep(t.Context(), b.step(t), code(t, secret, now.Add(try.at)), from()); !errors.Is(err, try.want) {
			t.Errorf("%s: error %v, want %v", try.what, err, try.want)
		}
	}
	late := b.step(t)
	b.clock.pass(10 * time.Minute)
	if _, _, err := b.SecondStep(t.Context(), late, code(t, secret, b.clock.now()), from()); !errors.Is(err, admin.ErrNoSession) {
		t.Errorf("after ten minutes: error %v, want ErrNoSession", err)
	}
	link, err := b.SignInLink(t.Context(), ann, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	entered, _, err := b.Enter(t.Context(), link, from())
	if !errors.Is(err, admin.ErrSecondFactor) {
		t.Fatalf("a sign-in link without a code: %v", err)
	}
	if _, _, err := b.SecondStep(t.Context(), entered, code(t, secret, b.clock.now()), from()); err != nil {
		t.Errorf("and with one: %v", err)
	}
}

// TestCodeAtOnce: of several who show the same code at the same time, one gets in.
func TestCodeAtOnce(t *testing.T) {
	t.Parallel()
	b, _, secret, _ := withFactor(t)
	steps := []provisioning.Secret{b.step(t), b.step(t), b.step(t)}
	var mu sync.Mutex
	in := 0
	var wg sync.WaitGroup
	for _, step := range steps {
		wg.Go(func() {
			_, _, err := b.SecondStep(t.Context(), step, code(t, secret, b.clock.now()), from())
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				in++
			} else if !errors.Is(err, admin.ErrCode) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if in != 1 {
		t.Errorf("%d got in, want one", in)
	}
}

func TestCodesAreThrottled(t *testing.T) {
	t.Parallel()
	b, _, secret, _ := withFactor(t)
	for range 5 {
		if _, _, err := b.SecondStep(t.Context(), b.step(t), "000000", from()); !errors.Is(err, admin.ErrCode) {
			t.Fatal(err)
		}
	}
	if _, _, err := b.SecondStep(t.Context(), b.step(t), code(t, secret, b.clock.now()), at("198.51.100.7")); !errors.Is(err, admin.ErrThrottled) {
		t.Errorf("the sixth: error %v, want ErrThrottled", err)
	}
	b.clock.pass(time.Minute)
	if _, _, err := b.SecondStep(t.Context(), b.step(t), code(t, secret, b.clock.now()), from()); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

// TestRecoveryCodes: each lets in once, however it is typed, and new ones end the old.
func TestRecoveryCodes(t *testing.T) {
	t.Parallel()
	b, o, _, codes := withFactor(t)
	if len(codes) != 10 || len(codes[0]) != 19 {
		t.Fatalf("%d codes of %d characters", len(codes), len(codes[0]))
	}
	if dump := b.dump(t, "recovery_codes"); strings.Contains(dump, codes[0].Reveal()) {
		t.Error("a code is in the database")
	}
	typed := strings.ToUpper(strings.ReplaceAll(codes[0].Reveal(), "-", " "))
	if _, _, err := b.SecondStep(t.Context(), b.step(t), typed, from()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.SecondStep(t.Context(), b.step(t), codes[0].Reveal(), from()); !errors.Is(err, admin.ErrCode) {
		t.Errorf("once more: error %v, want ErrCode", err)
	}
	if n, err := b.RecoveryCodesLeft(t.Context(), o.ID); err != nil || n != 9 {
		t.Errorf("%d are left, %v", n, err)
	}
	if _, err := b.RenewRecoveryCodes(t.Context(), o, "not the password", from()); !errors.Is(err, admin.ErrPresentPassword) {
		t.Errorf("error %v, want ErrPresentPassword", err)
	}
	fresh, err := b.RenewRecoveryCodes(t.Context(), o, password, from())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.SecondStep(t.Context(), b.step(t), codes[1].Reveal(), from()); !errors.Is(err, admin.ErrCode) {
		t.Errorf("an old one: error %v, want ErrCode", err)
	}
	if _, _, err := b.SecondStep(t.Context(), b.step(t), fresh[9].Reveal(), from()); err != nil {
		t.Errorf("a new one: %v", err)
	}
	if got := b.audited(t, "operator.recovery_code"); len(got) != 2 {
		t.Errorf("the audit trail says %q", got)
	}
}

func TestSecondFactorOff(t *testing.T) {
	t.Parallel()
	b, o, secret, codes := withFactor(t)
	waiting := b.step(t)
	if err := b.EndSecondFactor(t.Context(), o, "not the password", from()); !errors.Is(err, admin.ErrPresentPassword) {
		t.Errorf("error %v, want ErrPresentPassword", err)
	}
	if err := b.ResetSecondFactor(t.Context(), "eve@agency.example", provisioning.ActorCLI); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
	if err := b.ResetSecondFactor(t.Context(), ann, provisioning.Operator(bob)); err != nil {
		t.Fatal(err)
	}
	if err := b.EndSecondFactor(t.Context(), o, password, from()); !errors.Is(err, admin.ErrNoSecondFactor) {
		t.Errorf("off already: error %v, want ErrNoSecondFactor", err)
	}
	for _, late := range []string{code(t, secret, b.clock.now()), codes[0].Reveal()} {
		if _, _, err := b.SecondStep(t.Context(), waiting, late, from()); !errors.Is(err, admin.ErrNoSession) {
			t.Errorf("a code of a factor that is off: error %v, want ErrNoSession", err)
		}
	}
	if _, _, err := b.SignIn(t.Context(), ann, password, from()); err != nil {
		t.Error(err)
	}
	want := []string{"operator Ann@Agency.example: operator Ann@Agency.example", "operator bob@agency.example: operator Ann@Agency.example"}
	if got := b.audited(t, "operator.second_factor"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the audit trail says %q", got)
	}
}

// TestShelf seals second factors anew, after which the old key is not needed.
func TestShelf(t *testing.T) {
	t.Parallel()
	b, o := withAnn(t)
	old, fresh := vault.GenerateKey("old"), vault.GenerateKey("new")
	use := func(list string) *vault.Vault {
		t.Helper()
		keys, err := vault.ParseKeys(list)
		if err != nil {
			t.Fatal(err)
		}
		b.Sealer = keys
		return keys
	}
	use(old)
	if err := b.BeginSecondFactor(t.Context(), o, password, from()); err != nil {
		t.Fatal(err)
	}
	before, err := b.Enrolment(t.Context(), o, "Brightside")
	if err != nil {
		t.Fatal(err)
	}
	batch, err := admin.Shelf{}.Reseal(t.Context(), b.pool, use(fresh+","+old), "", 10)
	if err != nil || batch.Values != 1 || batch.Resealed != 1 || batch.Last != o.ID.String() {
		t.Fatalf("%+v, %v", batch, err)
	}
	if counts, err := (admin.Shelf{}).Keys(t.Context(), b.pool); err != nil || len(counts) != 1 || counts["new"] != 1 {
		t.Errorf("sealed with %v, %v", counts, err)
	}
	after, err := b.Enrolment(t.Context(), o, "Brightside")
	if use(fresh); err != nil || after != before {
		t.Errorf("the secret is another one, %v", err)
	}
	if batch, err := (admin.Shelf{}).Reseal(t.Context(), b.pool, use(fresh), o.ID.String(), 10); err != nil || batch.Last != "" {
		t.Errorf("behind the last: %+v, %v", batch, err)
	}
}
