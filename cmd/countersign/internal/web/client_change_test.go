package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
)

// editForm is the form as a browser posts it when nothing is typed.
func (d *desk) editForm(t *testing.T) url.Values {
	t.Helper()
	page := d.get(t, d.path(t)+"/edit").has(t, http.StatusOK)
	values := page.form(t, d.path(t)+"/edit")
	for _, field := range find(page.doc(t), tag("input")) {
		if attribute(field, "type") != "hidden" {
			values.Set(attribute(field, "name"), attribute(field, "value"))
		}
	}
	values.Set("route", "owner")
	return values
}

// TestEditClient edits a client that two people have open at once: what only one has touched is kept from each, and
// where both have, both see it.
func TestEditClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	d := b.desk(t, "ACME/1")
	mine, theirs := d.editForm(t), d.editForm(t)
	theirs.Set("name", "Acme Bread")
	theirs.Set("tags", "food, west")
	if got := d.post(t, d.path(t)+"/edit", theirs).leads(t); got != d.path(t)+"?done=edited" {
		t.Errorf("saving leads to %s", got)
	}
	d.get(t, d.path(t)+"?done=edited").says(t, "The changes are saved.", "food, west", "Details changed · "+operatorEmail)

	mine.Set("locale", "de")
	d.post(t, d.path(t)+"/edit", mine).leads(t)
	c := d.client(t, d.ref)
	if diff := cmp.Diff([]any{"Acme Bread", "de", []string{"food", "west"}}, []any{c.Name, c.Locale, c.Tags}); diff != "" {
		t.Errorf("after both (-want +got):\n%s", diff)
	}

	mine.Set("name", "Acme Cakes")
	clash := d.post(t, d.path(t)+"/edit", mine).has(t, http.StatusConflict)
	clash.says(t, "Nothing is saved", "Theirs: Acme Bread")
	if !strings.Contains(clash.body, `value="Acme Cakes"`) {
		t.Error("what was typed is lost")
	}
	again := clash.form(t, d.path(t)+"/edit")
	for name := range again {
		if field, ok := strings.CutPrefix(name, "was."); ok {
			again.Set(field, again.Get(name))
		}
	}
	again.Set("name", "Acme Cakes")
	d.post(t, d.path(t)+"/edit", again).leads(t)
	if got := d.client(t, d.ref).Name; got != "Acme Cakes" {
		t.Errorf("the name is %q", got)
	}

	wrong := d.editForm(t)
	wrong.Set("owner_email", "nobody")
	page := d.post(t, d.path(t)+"/edit", wrong).has(t, http.StatusUnprocessableEntity)
	if len(find(page.doc(t), with("aria-invalid", "true"), with("name", "owner_email"))) != 1 {
		t.Errorf("the page does not say what is wrong: %s", page.body)
	}
	wrong = d.editForm(t)
	wrong.Set("ref", "BLOOM")
	d.post(t, d.path(t)+"/edit", wrong).has(t, http.StatusUnprocessableEntity).says(t, "Another client has the ref")
}

// TestHandOver makes a link at a press and shows it once.
func TestHandOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	d := b.desk(t, "ACME/1")
	asked := d.get(t, d.path(t)+"/link").has(t, http.StatusOK)
	asked.says(t, "Ada Moss", "Nothing is mailed.")
	asked.silent(t, "/i/")
	made := d.post(t, d.path(t)+"/link", nil).has(t, http.StatusOK)
	links := find(made.doc(t), tag("button"))
	var link string
	for _, button := range links {
		if copies := attribute(button, "data-copy"); copies != "" {
			link = copies
		}
	}
	b.browser(t).get(t, link).has(t, http.StatusOK).says(t, "Acme Bakery")
	d.page(t).says(t, "Link taken to hand over · "+operatorEmail)
	d.page(t).silent(t, link)
}

// TestDeleteClient deletes one that somebody means to.
func TestDeleteClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	d := b.desk(t, "CAFE")
	d.get(t, d.path(t)+"/delete").has(t, http.StatusOK).says(t, "Delete Café Lumière", "agency+cafe-lumiere@brightside.example")
	d.refused(t, http.StatusUnprocessableEntity, "delete", nil).says(t, "Nothing is deleted")
	address := d.path(t)
	to := d.post(t, address+"/delete", url.Values{"sure": {"yes"}}).leads(t)
	d.get(t, to).has(t, http.StatusOK).says(t, "The client is deleted.", "2 of 2 clients")
	d.get(t, address).has(t, http.StatusNotFound)
}

// TestSentMail shows a mail as it was sent, without the secret of its link.
func TestSentMail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.mail(t, "ACME/1")
	d := b.desk(t, "ACME/1")
	messages, err := b.Mailer.Messages(t.Context(), d.client(t, d.ref).ID)
	if err != nil {
		t.Fatal(err)
	}
	address := d.path(t) + "/mails/" + messages[0].ID.String()
	if links := find(d.page(t).doc(t), tag("a"), with("href", address)); len(links) != 1 {
		t.Errorf("the client's page has %d links to the mail", len(links))
	}
	var invitation uuid.UUID
	err = b.db.QueryRow(t.Context(), `SELECT id FROM invitations WHERE client_id = $1`, d.client(t, d.ref).ID).Scan(&invitation)
	if err != nil {
		t.Fatal(err)
	}
	secret := b.Links.Token(invitation)
	page := d.get(t, address).has(t, http.StatusOK)
	page.says(t, "Invitation to Acme Bakery", adaLogin, agency+" <hello@brightside.example>", "Acme Bakery")
	frame := d.get(t, address+"/html").has(t, http.StatusOK)
	for _, shown := range []string{page.body, frame.body} {
		if !strings.Contains(shown, "/i/only-in-the-mail") || strings.Contains(shown, secret) {
			t.Errorf("the link is shown, or nothing in its place: %s", shown)
		}
	}
	if policy := frame.header.Get("Content-Security-Policy"); !strings.Contains(policy, "sandbox allow-same-origin") {
		t.Errorf("the frame may do more than show: %s", policy)
	}
	bloom := "/admin/clients/" + b.client(t, "BLOOM").ID.String()
	d.get(t, bloom+"/mails/"+messages[0].ID.String()).has(t, http.StatusNotFound)
	d.get(t, d.path(t)+"/mails/x/html").has(t, http.StatusNotFound)
}

// TestOlderEvents goes back through a long history.
func TestOlderEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	d := b.desk(t, "ACME/1")
	for range 40 {
		for _, paused := range []bool{true, false} {
			if err := provisioning.SetPaused(t.Context(), b.db, d.client(t, d.ref).ID, paused, provisioning.ActorCLI); err != nil {
				t.Fatal(err)
			}
		}
	}
	seen, address := 0, d.path(t)
	for range 3 {
		page := d.get(t, address).has(t, http.StatusOK)
		for _, list := range find(page.doc(t), tag("ol"), with("class", "events")) {
			seen += len(find(list, tag("li")))
		}
		next := find(page.doc(t), tag("a"), with("rel", "next"))
		if len(next) == 0 {
			page.says(t, "Imported", "Newest")
			break
		}
		address = attribute(next[0], "href")
	}
	if seen != 81 {
		t.Errorf("%d events are shown, want all 81 once", seen)
	}
	d.get(t, d.path(t)+"?before=x").has(t, http.StatusBadRequest)
}
