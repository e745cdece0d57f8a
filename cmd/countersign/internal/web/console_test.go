package web_test

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

const operatorEmail = "olga@brightside.example"

// operator is a browser that is signed in.
func (b *testBundle) operator(t *testing.T) *browser {
	t.Helper()
	return b.signedIn(t, admin.NewOperator{Email: operatorEmail, Name: "Olga", Role: admin.RoleOwner, Password: password})
}

// signedIn is a browser that a new operator is signed in with.
func (b *testBundle) signedIn(t *testing.T, n admin.NewOperator) *browser {
	t.Helper()
	o, err := b.Admin.CreateOperator(t.Context(), n, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	link, err := b.Admin.SignInLink(t.Context(), o.Email, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	operator := b.browser(t)
	if got := operator.post(t, "/admin/enter/"+link.Reveal(), nil).leads(t); got != "/admin" {
		t.Fatalf("signing in leads to %q", got)
	}
	return operator
}

func TestConsoleIsForOperators(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	for _, path := range []string{
		"/admin", "/admin/progress", "/admin/provider", "/admin/clients", "/admin/clients/" + b.client(t, "CAFE").ID.String(), "/admin/imports",
		"/admin/imports/" + uuid.NewString() + "/rejects.csv",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			page := b.browser(t).do(t, method, path, nil)
			if got := page.leads(t); got != "/admin/sign-in" {
				t.Errorf("%s leads to %q", page.name, got)
			}
			page.silent(t, "CAFE")
			page = b.browser(t).do(t, method, path, nil, "Cookie", "__Host-session=made-up")
			if got := page.leads(t); got != "/admin/sign-in?ended" {
				t.Errorf("%s with a made-up session leads to %q", page.name, got)
			}
		}
	}
}

func TestEntryLinks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	link, err := b.Admin.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	path, first := "/admin/enter/"+link.Reveal(), b.browser(t)
	for range 2 {
		page := first.get(t, path).has(t, http.StatusOK)
		if diff := cmp.Diff([]string{path}, posts(page.doc(t))); page.heading(t) != "Set up the first operator" || diff != "" {
			t.Errorf("%s: forms (-want +got):\n%s", page.heading(t), diff)
		}
	}
	form := func(email, name, password string) url.Values {
		return url.Values{"email": {email}, "name": {name}, "password": {password}}
	}
	for _, mistake := range []struct {
		form url.Values
		says string
	}{
		{form("nobody", "Olga", password), "This is no e-mail address"},
		{form(operatorEmail, "", password), "A name has 1 to 100 printable characters"},
		{form(operatorEmail, "Olga", "short"), "12"},
		{nil, "This is no e-mail address"},
	} {
		page := first.post(t, path, mistake.form).has(t, http.StatusUnprocessableEntity)
		page.says(t, mistake.says)
		page.silent(t, "short")
	}
	entered := first.post(t, path, form(operatorEmail, "Olga", password))
	if got := entered.leads(t); got != "/admin" {
		t.Errorf("it leads to %q", got)
	}
	cookie := entered.cookie(t)
	if cookie.Name != "__Host-session" || !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode ||
		cookie.Path != "/" || cookie.Domain != "" || cookie.MaxAge != 0 {
		t.Errorf("cookie %s", cookie)
	}
	first.get(t, "/admin").has(t, http.StatusOK).says(t, "Olga", "Import your roster")
	for _, page := range []page{b.browser(t).get(t, path), b.browser(t).post(t, path, form("eve@else.example", "Eve", password))} {
		page.has(t, http.StatusNotFound).says(t, "This link was used or has expired")
	}

	// A link that signs an operator in does so once, at a press.
	link, err = b.Admin.SignInLink(t.Context(), operatorEmail, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	entry, visitor := "/admin/enter/"+link.Reveal(), b.browser(t)
	page := visitor.get(t, entry).has(t, http.StatusOK)
	page.says(t, "This link signs you in once.")
	page.silent(t, operatorEmail)
	visitor.post(t, entry, nil).leads(t)
	visitor.get(t, "/admin").has(t, http.StatusOK)
	for _, path := range []string{entry, "/admin/enter/made-up"} {
		b.browser(t).get(t, path).has(t, http.StatusNotFound)
		b.browser(t).post(t, path, nil).has(t, http.StatusNotFound)
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	visitor := b.browser(t)
	page := visitor.get(t, "/admin/sign-in").has(t, http.StatusOK)
	if diff := cmp.Diff([]string{"/admin/sign-in"}, posts(page.doc(t))); diff != "" {
		t.Errorf("forms (-want +got):\n%s", diff)
	}
	for _, form := range []url.Values{
		nil,
		{"email": {operatorEmail}, "password": {"wrong-horse-1"}},
		{"email": {"nobody@brightside.example"}, "password": {password}},
		{"email": {"<b>"}, "password": {"\x00"}},
	} {
		page := visitor.post(t, "/admin/sign-in", form).has(t, http.StatusUnauthorized)
		page.says(t, "The e-mail address or the password is wrong.")
		page.silent(t, "wrong-horse", "<b>")
		if page.header.Get("Set-Cookie") != "" {
			t.Error("a cookie was set")
		}
	}
	right := url.Values{"email": {strings.ToUpper(operatorEmail)}, "password": {password}}
	if got := visitor.post(t, "/admin/sign-in", right).leads(t); got != "/admin" {
		t.Errorf("it leads to %q", got)
	}
	visitor.get(t, "/admin").has(t, http.StatusOK)

	signedOut := visitor.post(t, "/admin/sign-out", nil)
	if got := signedOut.leads(t); got != "/admin/sign-in?out" {
		t.Errorf("signing out leads to %q", got)
	}
	if cookie := signedOut.cookie(t); cookie.MaxAge != -1 || cookie.Value != "" {
		t.Errorf("cookie %s", cookie)
	}
	visitor.get(t, "/admin/sign-in?out").says(t, "You are signed out.")
	if got := visitor.get(t, "/admin").leads(t); got != "/admin/sign-in" {
		t.Errorf("signed out, the console leads to %q", got)
	}
	operator.get(t, "/admin").has(t, http.StatusOK) // the other browser's session goes on
	b.Admin.Now = func() time.Time { return time.Now().Add(13 * time.Hour) }
	if got := operator.get(t, "/admin").leads(t); got != "/admin/sign-in?ended" {
		t.Errorf("after a night, the console leads to %q", got)
	}
	operator.get(t, "/admin/sign-in?ended").says(t, "Your session has ended.")
}

func TestSignInIsThrottled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.operator(t)
	visitor := b.browser(t)
	wrong := url.Values{"email": {operatorEmail}, "password": {"wrong-horse-1"}}
	for range 20 {
		page := visitor.post(t, "/admin/sign-in", wrong)
		if page.status != http.StatusTooManyRequests {
			continue
		}
		page.says(t, "Too many attempts. Wait a minute, then try again.")
		if page.header.Get("Retry-After") == "" {
			t.Error("it does not tell when to come again")
		}
		return
	}
	t.Error("anybody may guess for ever")
}

func TestClientsPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	operator.get(t, "/admin/clients").has(t, http.StatusOK).says(t, "There are no clients yet.")
	b.imports(t, rosterFile)
	var more strings.Builder
	more.WriteString("ref,name,owner_email,tags\n")
	for i := range 110 {
		fmt.Fprintf(&more, "R-%d,Shop %d,shop%d@shops.example,retail\n", i, i, i)
	}
	b.imports(t, more.String())
	b.browser(t).walk(t, b.link(t, "ACME/1"), adaLogin, sandbox.Deny)
	listed := func(p page) (names []string) {
		for _, row := range find(p.doc(t), tag("th"), with("scope", "row")) {
			names = append(names, text(find(row, tag("a"))[0]))
		}
		return names
	}
	for query, want := range map[string][]string{
		"stage=stalled":                     {"Acme Bakery"},
		"stage=stalled&reason=declined":     {"Acme Bakery"},
		"reason=declined&q=acme":            {"Acme Bakery"},
		"stage=stalled&reason=bounced":      nil,
		"q=acm":                             {"Acme Bakery"},
		"q=ben%40bloom.example":             {"Bloom Florist"},
		"q=shop+109":                        {"Shop 109"},
		"q=%3A%2A+%26+%21":                  nil, // no word at all
		"q=%00":                             nil,
		"q=acme&stage=&reason=&cursor=":     {"Acme Bakery"},
		"q=" + url.QueryEscape("Café lumi"): {"Café Lumière"},
	} {
		page := operator.get(t, "/admin/clients?"+query).has(t, http.StatusOK)
		if diff := cmp.Diff(want, listed(page)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
		if want == nil {
			page.says(t, "No client matches.", "Show all 113")
		}
	}
	// Page by page, everybody comes once.
	var all []string
	for address, pages := "/admin/clients", 0; address != ""; pages++ {
		page := operator.get(t, address).has(t, http.StatusOK)
		all = append(all, listed(page)...)
		address = ""
		if next := find(page.doc(t), tag("a"), with("rel", "next")); len(next) > 0 {
			address = attribute(next[0], "href")
		}
		if pages > 3 {
			t.Fatal("the pages never end")
		}
	}
	if len(all) != 113 || all[0] != "Acme Bakery" || all[112] != "Shop 109" {
		t.Errorf("%d clients from %s to %s", len(all), all[0], all[len(all)-1])
	}
}

func TestClientPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	b.imports(t, rosterFile)
	if _, err := b.Inviter.Invite(t.Context(), provisioning.Selection{All: true}, provisioning.Operator(operatorEmail), false); err != nil {
		t.Fatal(err)
	}
	b.browser(t).walk(t, b.link(t, "ACME/1"), "who@else.example", sandbox.Allow)
	path := "/admin/clients/" + b.client(t, "ACME/1").ID.String()
	page := operator.get(t, path).has(t, http.StatusOK)
	if got := page.heading(t); got != "Acme Bakery" {
		t.Errorf("heading %q", got)
	}
	page.says(t,
		"ACME/1", "Stalled", "Wrong account", "agency+acme-bakery@brightside.example", "Ada Moss", adaLogin, "food, east", "Plan", "Gold",
		"Another account consented", "acct-acme", strange, "acct-strange",
		"Imported · Command line", "Invitation queued · "+operatorEmail, "Link taken to hand over · Command line", "Pressed Continue · Owner",
		"Signed in to another account than expected · Owner", "evidence: another account than the expected acct-acme",
		"Invitation", "to "+adaLogin, "None. Constant Contact gives access when the owner consents.",
	)
	b.browser(t).walk(t, b.link(t, "ACME/1"), adaLogin, sandbox.Allow)
	connected := operator.get(t, path).has(t, http.StatusOK)
	connected.says(t, "Authorized", "Consented by", "contact_data", "Not proven yet", "Connected · Owner", "evidence: the account id is the expected one")
	connected.silent(t, "Another account consented")
}

func TestImportsPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	operator.get(t, "/admin/imports").has(t, http.StatusOK).says(t, "Nothing was imported yet.")
	b.imports(t, rosterFile)
	im := b.imports(t, "name,owner_email,Plan\nDeli,dan@deli.example,Silver\n,nobody,=1+1\n")
	page := operator.get(t, "/admin/imports").has(t, http.StatusOK)
	page.says(t, "roster.csv", "Command line")
	link := find(page.doc(t), tag("a"), with("href", "/admin/imports/"+im.ID.String()+"/rejects.csv"))
	if len(link) != 1 || text(link[0]) != "1 rejected rows as a file" {
		t.Errorf("there are %d links to the rejects", len(link))
	}
	file := operator.get(t, attribute(link[0], "href")).has(t, http.StatusOK)
	if got := file.header.Get("Content-Disposition"); got != `attachment; filename="rejects.csv"` {
		t.Errorf("Content-Disposition %q", got)
	}
	rows, err := csv.NewReader(strings.NewReader(file.body)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"name", "owner_email", "Plan", "error_code", "error_message"}, rows[0]); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if len(rows) != 2 || rows[1][3] != "name_missing" || strings.HasPrefix(rows[1][2], "=") {
		t.Errorf("rejects %q", rows[1:])
	}
}

// A file that cannot be read to its end does not arrive as a whole one, and a page with an error not as
// a file.
func TestFileIsWholeOrNone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator, api := b.operator(t), b.caller(t, admin.ScopeRead)
	var many strings.Builder
	many.WriteString("ref,name,owner_email\n")
	for i := range 500 {
		fmt.Fprintf(&many, "R-%d,Shop %d,shop%d@shops.example\n", i, i, i)
	}
	b.imports(t, many.String())
	if _, err := b.db.Exec(t.Context(), `UPDATE clients SET extra = '{"odd": 1}' WHERE ref = 'R-499'`); err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api.base+"/api/v1/export.csv", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+api.key.Reveal())
	response, err := api.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if file, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) || len(file) == 0 {
		t.Errorf("%d bytes arrive, and then %v", len(file), err)
	}
	if !strings.Contains(b.log.String(), "route=/api/v1/export.csv") {
		t.Errorf("nobody is told: %s", b.log)
	}

	im := b.imports(t, "name,owner_email\n,nobody\n")
	if _, err := b.db.Exec(t.Context(), `ALTER TABLE import_rejects RENAME TO lost; ALTER TABLE clients RENAME COLUMN extra TO lost`); err != nil {
		t.Fatal(err)
	}
	page := operator.get(t, "/admin/imports/"+im.ID.String()+"/rejects.csv").has(t, http.StatusInternalServerError)
	if page.header.Get("Content-Disposition") != "" || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
		t.Errorf("the error is sent as a file: %v", page.header)
	}
	for _, path := range []string{"/imports/" + im.ID.String() + "/rejects.csv", "/export.csv"} {
		answer := api.call(t, http.MethodGet, path, "").has(t, http.StatusInternalServerError)
		if answer.header.Get("Content-Disposition") != "" || answer.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: the error is sent as a file: %v", answer.name, answer.header)
		}
		answer.silent(t, "SQLSTATE", "lost")
	}
}

// TestConsoleUsername gives a client another username, once however often the button is pressed.
func TestConsoleUsername(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	operator := b.operator(t)
	page := "/admin/clients/" + b.client(t, "CAFE").ID.String()
	form := url.Values{"taken": {b.client(t, "CAFE").Username}}
	for range 2 {
		if answer := operator.post(t, page+"/username", form); answer.status != http.StatusSeeOther || answer.header.Get("Location") != page {
			t.Errorf("answered %d, %s", answer.status, answer.header.Get("Location"))
		}
	}
	shown := operator.get(t, page).has(t, http.StatusOK)
	for _, want := range []string{"cafe-lumiere-2@brightside.example", "Username taken at the provider, another one given"} {
		if !strings.Contains(shown.body, want) {
			t.Errorf("the client's page lacks %q", want)
		}
	}
	b.browser(t).post(t, page+"/username", form).has(t, http.StatusSeeOther) // to the sign-in
	if got := b.client(t, "CAFE").Username; got != "agency+cafe-lumiere-2@brightside.example" {
		t.Errorf("the username is %s", got)
	}
}
