package web_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
)

// people is setup with what inviting and second factors need, without a mail server.
func people(t *testing.T) *testBundle {
	t.Helper()
	b := setup(t)
	keys, err := vault.ParseKeys(vault.GenerateKey("k1"))
	if err != nil {
		t.Fatal(err)
	}
	b.Admin.PublicURL, b.Admin.LinkKey, b.Admin.Sealer, b.Admin.ResetTime = b.PublicURL, []byte("a key"), keys, 0
	return b
}

// handedOver returns the one link that the page hands over.
func (p page) handedOver(t *testing.T, b *testBundle) string {
	t.Helper()
	for _, code := range find(p.has(t, http.StatusOK).doc(t), tag("code")) {
		if link, found := strings.CutPrefix(text(code), b.PublicURL); found {
			return link
		}
	}
	t.Fatalf("%s hands no link over: %s", p.name, p.body)
	return ""
}

// TestInviteWithoutMail hands the link over once, and makes an operator of whoever brings it.
func TestInviteWithoutMail(t *testing.T) {
	t.Parallel()
	b := people(t)
	olga := b.operator(t)
	const operators = "/admin/settings/operators"
	olga.get(t, operators).has(t, http.StatusOK).says(t, operatorEmail, "There is no mail server")
	olga.post(t, operators, url.Values{"email": {operatorEmail}, "role": {"viewer"}}).has(t, http.StatusUnprocessableEntity).
		says(t, "There is already an operator with this e-mail address.")
	form := url.Values{"email": {"kim@brightside.example"}, "role": {"viewer"}}
	first := olga.post(t, operators, form).handedOver(t, b)
	link := olga.post(t, operators, form).handedOver(t, b)
	olga.get(t, operators).silent(t, link, first)
	b.browser(t).get(t, first).has(t, http.StatusNotFound)

	kim := b.browser(t)
	kim.get(t, link).has(t, http.StatusOK).says(t, "You are invited", "a viewer", "kim@brightside.example")
	kim.post(t, link, url.Values{"name": {""}, "password": {password}}).has(t, http.StatusUnprocessableEntity)
	kim.post(t, link, url.Values{"name": {"Kim"}, "password": {"short"}}).has(t, http.StatusUnprocessableEntity).silent(t, "short")
	if got := kim.post(t, link, url.Values{"name": {"Kim"}, "password": {password}}).leads(t); got != "/admin" {
		t.Errorf("it leads to %q", got)
	}
	kim.get(t, "/admin/account").has(t, http.StatusOK).says(t, "Viewer", "iPhone", "127.0.0.1")

	o, err := b.Admin.Find(t.Context(), "kim@brightside.example")
	if err != nil {
		t.Fatal(err)
	}
	own, err := b.Admin.Find(t.Context(), operatorEmail)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ path, leads string }{
		{"/operators/" + o.ID.String() + "/role", "?done=role"},
		{"/operators/" + o.ID.String() + "/sign-out", "?done=signed-out"},
		{"/operators/" + o.ID.String() + "/remove", "?done=removed"},
	} {
		done := olga.post(t, "/admin/settings"+step.path, url.Values{"role": {"operator"}}).leads(t)
		if done != operators+step.leads {
			t.Errorf("%s leads to %q", step.path, done)
		}
		olga.get(t, done).has(t, http.StatusOK)
	}
	if got := kim.get(t, "/admin/account").leads(t); got != "/admin/sign-in?ended" {
		t.Errorf("the removed operator is led to %q", got)
	}
	for _, path := range []string{"/remove", "/role"} {
		olga.post(t, operators+"/"+own.ID.String()+path, url.Values{"role": {"viewer"}}).has(t, http.StatusConflict).says(t, "This is the last owner")
	}
	olga.post(t, operators+"/"+own.ID.String()+"/second-factor", nil).has(t, http.StatusConflict)
	olga.post(t, operators+"/"+o.ID.String()+"/remove", nil).has(t, http.StatusNotFound)
	olga.post(t, "/admin/settings/invitations/none/take-back", nil).has(t, http.StatusNotFound)
}

// TestAccount changes one's own name and password, and ends sessions.
func TestAccount(t *testing.T) {
	t.Parallel()
	b := people(t)
	olga := b.operator(t)
	signIn := func(password string) page {
		t.Helper()
		return b.browser(t).post(t, "/admin/sign-in", url.Values{"email": {operatorEmail}, "password": {password}})
	}
	signIn(password).leads(t)
	olga.get(t, "/admin/account").has(t, http.StatusOK).says(t, "End all others")
	olga.post(t, "/admin/account/name", url.Values{"name": {" "}}).has(t, http.StatusUnprocessableEntity)
	olga.get(t, olga.post(t, "/admin/account/name", url.Values{"name": {"Olga Petrova"}}).leads(t)).says(t, "Olga Petrova", "Your name is saved.")
	fresh := "another-horse-2"
	for wrong, says := range map[string]string{"wrong-horse-1": "This is not your present password.", password: "A password needs 12 to 256 characters"} {
		form := url.Values{"present": {wrong}, "password": {"short"}}
		olga.post(t, "/admin/account/password", form).has(t, http.StatusUnprocessableEntity).says(t, says)
	}
	changed := olga.post(t, "/admin/account/password", url.Values{"present": {password}, "password": {fresh}}).leads(t)
	olga.get(t, changed).has(t, http.StatusOK).says(t, "Your password is changed", "this one")
	signIn(password).has(t, http.StatusUnauthorized)
	signIn(fresh).leads(t)

	page := olga.get(t, "/admin/account")
	ends := slices.DeleteFunc(posts(page.doc(t)), func(action string) bool { return !strings.HasSuffix(action, "/end") })
	if len(ends) != 2 {
		t.Fatalf("sessions can be ended at %q, want the other one and all others", ends)
	}
	olga.get(t, olga.post(t, ends[0], nil).leads(t)).says(t, "The session has ended.")
	if got := olga.get(t, ends[0]).leads(t); got != "/admin/account" {
		t.Errorf("the button's address leads to %q", got)
	}
	olga.get(t, olga.post(t, "/admin/account/sessions/end", nil).leads(t)).has(t, http.StatusOK)
	olga.post(t, "/admin/account/sessions/none/end", nil).has(t, http.StatusNotFound)
}

// TestSecondFactor sets one up, and signs in with it.
func TestSecondFactor(t *testing.T) {
	t.Parallel()
	b := people(t)
	b.Admin.Now = b.clock.now
	olga := b.operator(t)
	if got := olga.get(t, "/admin/account/second-factor").leads(t); got != "/admin/account" {
		t.Errorf("before there is one, its page leads to %q", got)
	}
	olga.post(t, "/admin/account/second-factor", url.Values{"present": {"wrong-horse-1"}}).has(t, http.StatusUnprocessableEntity)
	shown := olga.get(t, olga.post(t, "/admin/account/second-factor", url.Values{"present": {password}}).leads(t)).has(t, http.StatusOK)
	pictures := find(shown.doc(t), tag("img"))
	if len(pictures) != 1 || !strings.HasPrefix(attribute(pictures[0], "src"), "data:image/png;base64,iVBOR") {
		t.Errorf("there is no QR code: %s", shown.body)
	}
	key := strings.ReplaceAll(text(find(shown.doc(t), tag("code"))[0]), " ", "")
	code := func() url.Values {
		t.Helper()
		c, err := totp.GenerateCode(key, b.clock.now())
		if err != nil {
			t.Fatal(err)
		}
		return url.Values{"code": {c}}
	}
	olga.post(t, "/admin/account/second-factor/confirm", url.Values{"code": {"12"}}).has(t, http.StatusUnprocessableEntity).says(t, "This code is wrong")
	codes := find(olga.post(t, "/admin/account/second-factor/confirm", code()).has(t, http.StatusOK).doc(t), tag("code"))
	if len(codes) != 10 {
		t.Fatalf("%d recovery codes", len(codes))
	}
	if got := olga.post(t, "/admin/account/second-factor/confirm", code()).leads(t); got != "/admin/account" {
		t.Errorf("pressed twice, it leads to %q", got)
	}

	visitor := b.browser(t)
	right := url.Values{"email": {operatorEmail}, "password": {password}}
	if got := visitor.get(t, "/admin/sign-in/code").leads(t); got != "/admin/sign-in" {
		t.Errorf("without the password it leads to %q", got)
	}
	if got := visitor.post(t, "/admin/sign-in/code", code()).leads(t); got != "/admin/sign-in?ended" {
		t.Errorf("a code without the password leads to %q", got)
	}
	signedIn := visitor.post(t, "/admin/sign-in", right)
	if got := signedIn.leads(t); got != "/admin/sign-in/code" {
		t.Fatalf("the password alone leads to %q", got)
	}
	if cookie := signedIn.cookie(t); cookie.Name != "__Host-step" || !cookie.HttpOnly || !cookie.Secure || cookie.MaxAge != 600 {
		t.Errorf("cookie %s", cookie)
	}
	visitor.get(t, "/admin").leads(t)
	b.clock.advance(time.Minute)
	visitor.post(t, "/admin/sign-in/code", url.Values{"code": {"000000"}}).has(t, http.StatusUnauthorized)
	if got := visitor.post(t, "/admin/sign-in/code", code()).leads(t); got != "/admin" {
		t.Errorf("the code leads to %q", got)
	}
	visitor.get(t, "/admin").has(t, http.StatusOK)

	olga.post(t, "/admin/account/second-factor/off", url.Values{"present": {"wrong-horse-1"}}).has(t, http.StatusUnprocessableEntity)
	renewed := olga.post(t, "/admin/account/second-factor/codes", url.Values{"present": {password}}).has(t, http.StatusOK)
	renewed.silent(t, text(codes[0]))
	olga.get(t, olga.post(t, "/admin/account/second-factor/off", url.Values{"present": {password}}).leads(t)).says(t, "The second factor is off.")
	if got := b.browser(t).post(t, "/admin/sign-in", right).leads(t); got != "/admin" {
		t.Errorf("without it, the password leads to %q", got)
	}
}

// TestForgot answers alike whoever asks, and mails a link.
func TestForgot(t *testing.T) {
	t.Parallel()
	b := people(t)
	b.operator(t)
	visitor := b.browser(t)
	visitor.get(t, "/admin/forgot").has(t, http.StatusOK).says(t, "no mail server")
	visitor.post(t, "/admin/forgot", url.Values{"email": {operatorEmail}}).has(t, http.StatusOK).says(t, "no mail server")
	b.Admin.Mailer = b.Mailer
	b.Mailer.Entries = b.Admin
	for _, email := range []string{operatorEmail, "eve@else.example", ""} {
		if got := visitor.post(t, "/admin/forgot", url.Values{"email": {email}}).leads(t); got != "/admin/forgot?sent" {
			t.Errorf("%q leads to %q", email, got)
		}
	}
	var link uuid.UUID
	if err := b.db.QueryRow(t.Context(), `SELECT (facts ->> 'link')::uuid FROM messages WHERE kind = 'password_reset'`).Scan(&link); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(b.Admin.LinkURL(link), b.PublicURL)
	visitor.get(t, path).has(t, http.StatusOK).says(t, "Set another password", operatorEmail)
	visitor.post(t, path, url.Values{"password": {"short"}}).has(t, http.StatusUnprocessableEntity)
	done := visitor.post(t, path, url.Values{"password": {"another-horse-2"}}).leads(t)
	visitor.get(t, done).has(t, http.StatusOK).says(t, "Your password is set. Sign in with it.")
	visitor.post(t, path, url.Values{"password": {"another-horse-2"}}).has(t, http.StatusNotFound)
	for range 3 {
		visitor.post(t, "/admin/forgot", url.Values{"email": {operatorEmail}})
	}
	throttled := visitor.post(t, "/admin/forgot", url.Values{"email": {operatorEmail}}).has(t, http.StatusTooManyRequests)
	if throttled.header.Get("Retry-After") == "" {
		t.Error("it does not say when to try again")
	}
}

// TestOperatorsAPI does what the page does.
func TestOperatorsAPI(t *testing.T) {
	t.Parallel()
	b := people(t)
	b.operator(t)
	c := b.caller(t, admin.ScopeAdmin)
	b.caller(t, admin.ScopeRead, admin.ScopeWrite).call(t, http.MethodGet, "/operators", "").has(t, http.StatusForbidden)
	type body struct {
		Operators []struct {
			ID, Email, Name, Role string
			SecondFactor          bool `json:"second_factor"`
		}
		Invitations []struct{ ID, Email, Role string }
	}
	list := func() (l body) {
		t.Helper()
		c.call(t, http.MethodGet, "/operators", "").has(t, http.StatusOK).into(t, &l)
		return l
	}
	var invited struct{ ID, Email, Role, Link string }
	c.call(t, http.MethodPost, "/operators", `{"email":"kim@brightside.example","role":"viewer"}`).has(t, http.StatusCreated).into(t, &invited)
	if !strings.HasPrefix(invited.Link, b.PublicURL+"/admin/enter/") || invited.Role != "viewer" {
		t.Errorf("invited %+v", invited)
	}
	if l := list(); len(l.Operators) != 1 || l.Operators[0].Role != "owner" || len(l.Invitations) != 1 || l.Invitations[0].ID != invited.ID {
		t.Errorf("listed %+v", l)
	}
	c.call(t, http.MethodPost, "/operators", `{"email":"kim@brightside.example","role":"root"}`).has(t, http.StatusUnprocessableEntity)
	c.call(t, http.MethodPost, "/operators", `{"email":"kim","role":"viewer"}`).has(t, http.StatusUnprocessableEntity)
	c.call(t, http.MethodPost, "/operators", `{"email":"`+operatorEmail+`","role":"viewer"}`).has(t, http.StatusConflict)
	c.call(t, http.MethodDelete, "/operators/invitations/"+invited.ID, "").has(t, http.StatusNoContent)
	c.call(t, http.MethodDelete, "/operators/invitations/"+invited.ID, "").has(t, http.StatusNotFound)

	n := admin.NewOperator{Email: "lee@brightside.example", Name: "Lee", Role: admin.RoleViewer, Password: password}
	if _, err := b.Admin.CreateOperator(t.Context(), n, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	c.call(t, http.MethodPatch, "/operators/"+operatorEmail, `{"role":"viewer"}`).has(t, http.StatusConflict)
	c.call(t, http.MethodPatch, "/operators/lee@brightside.example", `{"role":"operator"}`).has(t, http.StatusOK)
	var roles []string
	for _, o := range list().Operators {
		roles = append(roles, o.Role)
	}
	if diff := cmp.Diff([]string{"operator", "owner"}, roles); diff != "" {
		t.Errorf("roles (-want +got):\n%s", diff)
	}
	c.call(t, http.MethodDelete, "/operators/lee@brightside.example/second-factor", "").has(t, http.StatusConflict)
	c.call(t, http.MethodDelete, "/operators/lee@brightside.example/sessions", "").has(t, http.StatusNoContent)
	c.call(t, http.MethodDelete, "/operators/lee@brightside.example", "").has(t, http.StatusNoContent)
	c.call(t, http.MethodDelete, "/operators/lee@brightside.example", "").has(t, http.StatusNotFound)
	c.call(t, http.MethodDelete, "/operators/"+operatorEmail, "").has(t, http.StatusConflict)
}
