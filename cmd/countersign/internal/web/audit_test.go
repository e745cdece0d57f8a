package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/templates"
)

// trail are the entries after the one with that id, oldest first, with clients by name and without what differs from run
// to run.
func (b *testBundle) trail(t *testing.T, after int64, refs map[string]string) (entries []string, last int64) {
	t.Helper()
	id := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)
	moment := regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)`)
	lines, next, err := b.Audit.List(t.Context(), audit.Filter{Limit: 500})
	if err != nil || next != "" {
		t.Fatal(next, err)
	}
	last = after
	for _, l := range slices.Backward(lines) {
		if l.ID <= after {
			continue
		}
		last = l.ID
		entry := fmt.Sprintf("%s | %s | %s | %s | %s", l.Actor, l.Action, l.Object, l.Before, l.After)
		entry = id.ReplaceAllStringFunc(entry, func(found string) string {
			if ref, ok := refs[found]; ok {
				return ref
			}
			return "ID"
		})
		entries = append(entries, moment.ReplaceAllString(entry, "TIME"))
	}
	return entries, last
}

// TestAuditTrail does everything that is audited, and reads what the trail says of it.
func TestAuditTrail(t *testing.T) {
	t.Parallel()
	const olga = "operator olga@agency.example"
	b := setup(t)
	ctx, op := t.Context(), provisioning.Operator("olga@agency.example")
	refs := make(map[string]string) // by id
	p := &partner{accounts: []provisioning.ListedAccount{
		{ID: "acct-cafe", Organization: "CAFÉ LUMIÈRE", Managed: true}, {ID: "acct-new", Organization: "Nordlicht", Managed: true},
	}}
	b.reconciles(t, p)
	var last int64
	did := func(what string, err error, want ...string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var got []string
		got, last = b.trail(t, last, refs)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	quietly := func(what string, err error) { t.Helper(); did(what, err) }

	_, err := b.Importer.Import(ctx, strings.NewReader(rosterFile), provisioning.ImportOptions{FileName: "r.csv", Actor: op, DryRun: true})
	quietly("a dry run", err)
	_, err = b.Importer.Import(ctx, strings.NewReader(rosterFile), provisioning.ImportOptions{FileName: "r.csv", Actor: op})
	did("an import", err,
		olga+` | roster.import | import ID |  | {"created":3,"file_name":"r.csv","rejected":0,"rows":3,"unchanged":0,"updated":0}`)
	acme, bloom, cafe := b.client(t, "ACME/1").ID, b.client(t, "BLOOM").ID, b.client(t, "CAFE").ID
	refs[acme.String()], refs[bloom.String()], refs[cafe.String()] = "ACME/1", "BLOOM", "CAFE"

	up, err := b.Uploads.Save(ctx, "u.csv", op, strings.NewReader(rosterFile))
	quietly("an upload", err)
	for range 2 {
		_, err = b.Uploads.Commit(ctx, up.ID, provisioning.ImportOptions{Actor: op, Invite: true})
		if err != nil {
			t.Fatal(err)
		}
	}
	did("an upload committed twice", nil,
		olga+` | roster.import | import ID |  | {"created":0,"file_name":"u.csv","queued":3,"rejected":0,"rows":3,"unchanged":3,"updated":0}`)
	_, err = b.Inviter.Invite(ctx, provisioning.Selection{All: true}, op, false)
	quietly("invitations that are all on their way", err)
	b.exec(t, `UPDATE messages SET state = 'cancelled', ended_at = now()`)
	_, err = b.Inviter.Invite(ctx, provisioning.Selection{Clients: []string{"BLOOM"}}, op, true)
	quietly("invitations tried out", err)
	_, err = b.Inviter.Invite(ctx, provisioning.Selection{Clients: []string{"BLOOM"}}, op, false)
	did("one invitation", err, olga+` | client.invite | client BLOOM |  | {"matched":1,"queued":1,"skipped":{}}`)
	_, err = b.Inviter.Invite(ctx, provisioning.Selection{Stage: provisioning.StageImported}, op, false)
	did("invitations", err, olga+
		` | client.invite | roster |  | {"all":false,"matched":3,"queued":2,"reason":"","skipped":{"queued":1},"stage":"imported","tag":""}`)

	did("a pause", provisioning.SetPaused(ctx, b.db, acme, true, op), olga+` | client.pause | client ACME/1 |  | `)
	quietly("a pause again", provisioning.SetPaused(ctx, b.db, acme, true, op))
	did("its end", provisioning.SetPaused(ctx, b.db, acme, false, op), olga+` | client.resume | client ACME/1 |  | `)
	_, err = b.Renamer.Taken(ctx, uuid.Nil, b.client(t, "BLOOM").Username, op)
	did("another username", err, olga+` | client.username | client BLOOM | {"username":"agency+bloom-florist@brightside.example"} | {"username":"agency+bloom-florist-2@brightside.example"}`)
	_, err = b.Inviter.ChangeOwner(ctx, bloom, provisioning.Owner{Name: "Bo", Email: "bo@bloom.example"}, op)
	did("another owner", err, olga+` | client.owner | client BLOOM | {"owner_email":"ben@bloom.example","owner_name":"Ben Ash"} | {"owner_email":"bo@bloom.example","owner_name":"Bo","queued":1}`)
	_, err = b.Inviter.ChangeOwner(ctx, bloom, provisioning.Owner{Name: "Bo", Email: "bo@bloom.example"}, op)
	quietly("the same owner", err)
	quietly("an owner's no", provisioning.OptOut(ctx, b.db, cafe, provisioning.OptedOutDeclined, provisioning.ActorOwner, nil))
	did("let in again", provisioning.OptIn(ctx, b.db, cafe, op), olga+` | client.opt_in | client CAFE | {"opted_out":"declined"} | {"opted_out":null}`)
	b.refers(t, "CAFE", "Cy", "cy@cafe.example", "")
	quietly("whom an owner names", nil)
	named, err := b.Store.OpenReferral(ctx, cafe)
	if err == nil {
		_, err = b.Inviter.AcceptReferral(ctx, named.ID, op)
	}
	did("taken", err, olga+` | referral.accept | client CAFE | {"owner_email":"cleo@cafe.example","owner_name":""} | {"owner_email":"cy@cafe.example","owner_name":"Cy","queued":1}`)
	b.refers(t, "CAFE", "Di", "di@cafe.example", "")
	if named, err = b.Store.OpenReferral(ctx, cafe); err == nil {
		err = provisioning.DismissReferral(ctx, b.db, named.ID, op)
	}
	did("left", err, olga+` | referral.dismiss | client CAFE | {"owner_email":"di@cafe.example","owner_name":"Di"} | `)

	b.exec(t, `UPDATE messages SET state = 'cancelled', ended_at = now()`)
	b.mail(t, "ACME/1")
	did("mailed by the command line", nil, `command line | client.invite | client ACME/1 |  | {"matched":1,"queued":1,"skipped":{}}`)
	did("a reminder planned", b.Reminders.Plan(ctx, acme, b.Now().Add(48*time.Hour), op),
		olga+` | reminder.plan | client ACME/1 | {"next_at":"TIME","used_up":0} | {"next_at":"TIME","used_up":0}`)
	did("skipped", b.Reminders.Skip(ctx, acme, op),
		olga+` | reminder.skip | client ACME/1 | {"next_at":"TIME","used_up":0} | {"next_at":"TIME","used_up":1}`)
	did("sent", b.Reminders.SendNow(ctx, acme, op),
		olga+` | reminder.send | client ACME/1 | {"next_at":"TIME","used_up":1} | {"next_at":"TIME","used_up":1}`)
	_, _, err = b.Links.HandOver(ctx, acme, op)
	did("a link", err, olga+` | link.issue | client ACME/1 |  | {"expires_at":"TIME"}`)

	b.strays(t, "ACME/1", strangeLogin)
	b.strays(t, "CAFE", benLogin)
	_, last = b.trail(t, last, refs) // Their links.
	_, err = b.Grants.Accept(ctx, b.confined(t, "ACME/1").ID, op)
	did("a grant accepted", err, olga+` | quarantine.accept | client ACME/1 | {"account_id":"acct-strange","grant":"ID","organization":"`+strange+`"} | `)
	did("moved", b.Grants.Move(ctx, b.confined(t, "CAFE").ID, bloom, op),
		olga+` | quarantine.move | client CAFE | {"account_id":"acct-bloom","grant":"ID","organization":"Bloom Florist"} | {"client":"client BLOOM"}`)
	b.strays(t, "CAFE", adaLogin)
	_, last = b.trail(t, last, refs)
	did("discarded", b.Grants.Discard(ctx, b.confined(t, "CAFE").ID, op),
		olga+` | quarantine.discard | client CAFE | {"account_id":"acct-acme","grant":"ID","organization":"Acme Bakery"} | `)

	did("mail paused", b.Switch.Pause(ctx, "holidays", op), olga+` | mail.pause | mail |  | {"why":"holidays"}`)
	quietly("paused again", b.Switch.Pause(ctx, "rain", op))
	did("resumed", b.Switch.Resume(ctx, op), olga+` | mail.resume | mail |  | `)
	quietly("resumed again", b.Switch.Resume(ctx, op))
	did("the stationery", b.Stationery.Change(ctx, op, func(s *templates.Stationery) error {
		s.Phrase, s.Texts["en/thanks/html"] = "blue heron", ""
		delete(s.Texts, "en/thanks/html")
		return nil
	}), olga+` | mail.stationery | stationery | {"phrase":""} | {"phrase":"blue heron"}`)
	messages, err := b.Mailer.Messages(ctx, acme)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Returns.Take(ctx, strings.NewReader("Delivered-To: "+b.Returns.Paths.Bounce(messages[0].ID)+"\r\nFrom: a@b.example\r\nSubject: Hm\r\n\r\nWho?\r\n"))
	quietly("a mail that came back", err)
	unread, err := b.Returns.Unread(ctx, uuid.Nil, 1)
	if err != nil || len(unread) != 1 {
		t.Fatal(unread, err)
	}
	did("put aside", b.Returns.PutAside(ctx, unread[0].ID, op), olga+` | report.aside | report ID |  | `)
	quietly("put aside again", b.Returns.PutAside(ctx, unread[0].ID, op))

	quietly("reading the provider's list", b.Reconciliations.Start(ctx, op))
	b.works(t)
	run, err := b.Reconciliations.Latest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	did("a step ordered", b.Reconciliations.Apply(ctx, run.ID, 0, provisioning.StepFill, op),
		olga+` | reconcile.fill | reconciliation ID |  | {"step":1}`)
	b.works(t)
	did("and done", nil,
		olga+` | roster.import | import ID |  | {"created":0,"file_name":"reconcile","rejected":0,"rows":1,"unchanged":0,"updated":1}`)

	keys, err := vault.ParseKeys(vault.GenerateKey("k2"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = (&vault.Rotation{Actor: provisioning.ActorCLI, DB: b.db, Vault: keys, Log: b.Log}).Run(ctx)
	did("a rotation", err, `command line | vault.rotate | vault |  | {"key":"k2"}`,
		`command line | vault.rotated | vault |  | {"broken":0,"key":"k2","removed":null,"resealed":0}`)

	did("a deletion", b.Store.Delete(ctx, cafe, op), olga+` | client.delete | client CAFE | {"account_id":"acct-cafe","created_at":"TIME","name":"Café Lumière",`+
		`"owner_email":"cy@cafe.example","owner_name":"Cy","reason":"wrong_account","ref":"CAFE","route":"owner","stage":"stalled","tags":[],`+
		`"username":"agency+cafe-lumiere@brightside.example"} | `)
	if v, err := b.Audit.Verify(ctx, nil, nil); err != nil || v.Broken != nil || v.Entries != last {
		t.Errorf("verified: %+v, %v", v, err)
	}
}

// What is refused leaves no entry.
func TestAuditOfWhatIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	op := provisioning.Operator(operatorEmail)
	nobody := uuid.New()
	for what, err := range map[string]error{
		"pause":  provisioning.SetPaused(t.Context(), b.db, nobody, true, op),
		"delete": b.Store.Delete(t.Context(), nobody, op),
		"opt in": provisioning.OptIn(t.Context(), b.db, nobody, op),
		"aside":  b.Returns.PutAside(t.Context(), nobody, op),
		"remind": b.Reminders.SendNow(t.Context(), nobody, op),
	} {
		if err == nil {
			t.Errorf("%s of nobody was done", what)
		}
	}
	if entries, _ := b.trail(t, 0, nil); entries != nil {
		t.Errorf("the trail has %q", entries)
	}
}

func TestAuditPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	b.imports(t, rosterFile)
	acme := b.client(t, "ACME/1").ID
	for n := range 60 {
		if err := provisioning.SetPaused(t.Context(), b.db, acme, n%2 == 0, provisioning.Operator(operatorEmail)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := b.Inviter.ChangeOwner(t.Context(), acme, provisioning.Owner{Name: "<b>Al</b>", Email: adaLogin}, provisioning.APIKey("app"))
	if err != nil {
		t.Fatal(err)
	}
	rows := func(p page) int {
		return len(find(p.has(t, http.StatusOK).doc(t), tag("ol"))) + strings.Count(p.body, "<li>\n<p class=\"soft\"><time")
	}
	first := operator.get(t, "/admin/audit")
	first.has(t, http.StatusOK).says(t, "API key app client.owner on client "+acme.String(), "owner name Ada Moss <b>Al</b>", operatorEmail+" client.resume")
	if got := rows(first); got != 51 {
		t.Errorf("the first page has %d entries", got-1)
	}
	second := operator.get(t, attribute(find(first.doc(t), tag("a"), with("rel", "next"))[0], "href"))
	second.has(t, http.StatusOK).says(t, "Command line roster.import", "file name – roster.csv", "First page")

	operator.get(t, "/admin/audit?"+url.Values{"actor": {operatorEmail}, "action": {"client"}, "object": {"client " + acme.String()}}.Encode()).
		has(t, http.StatusOK).silent(t, "API key app")
	operator.get(t, "/admin/audit?actor=key+app").has(t, http.StatusOK).silent(t, "client.resume")
	operator.get(t, "/admin/audit?until=2020-01-01").has(t, http.StatusOK).says(t, "No entry is like that.")
	operator.get(t, "/admin/audit?from=2020-01-01&until="+b.Now().UTC().Format(time.DateOnly)).has(t, http.StatusOK).says(t, "client.owner")
	for _, bad := range []string{"from=x", "until=1.1.2020", "cursor=x"} {
		operator.get(t, "/admin/audit?"+bad).has(t, http.StatusBadRequest)
	}

	checked := operator.get(t, "/admin/audit/check").has(t, http.StatusOK)
	checked.says(t, "entries fit. This is the head of the trail.")
	head := attribute(find(checked.doc(t), tag("button"), with("hidden", ""))[0], "data-copy")
	operator.get(t, "/admin/audit/check?head="+url.QueryEscape(head)).has(t, http.StatusOK).says(t, "entries fit.")
	operator.get(t, "/admin/audit/check?head=12").has(t, http.StatusUnprocessableEntity).says(t, "This is no head of an audit trail")
	b.exec(t, `ALTER TABLE audit DISABLE TRIGGER USER`)
	b.exec(t, `UPDATE audit SET actor = 'owner' WHERE id = 5`)
	operator.get(t, "/admin/audit/check").has(t, http.StatusOK).says(t, "Entry 5 does not fit. Its hash does not fit", "The 4 before it do.")
	b.browser(t).get(t, "/admin/audit").leads(t)
}

func TestAPIAudit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	c := b.caller(t, admin.ScopeAdmin, admin.ScopeWrite)
	acme := b.client(t, "ACME/1").ID
	c.call(t, http.MethodDelete, "/clients/"+acme.String(), "").has(t, http.StatusNoContent)
	var list struct {
		Entries []struct {
			ID            int64
			Actor, Action string
			Object, Hash  string
			Before, After json.RawMessage
		}
		NextCursor *string `json:"next_cursor"`
	}
	c.call(t, http.MethodGet, "/audit?limit=1&action=client", "").has(t, http.StatusOK).into(t, &list)
	if len(list.Entries) != 1 || list.NextCursor != nil {
		t.Fatalf("%+v", list)
	}
	e := list.Entries[0]
	if !strings.HasPrefix(e.Actor, "key ") || e.Action != "client.delete" || e.Object != "client "+acme.String() || len(e.Hash) != 64 ||
		!strings.Contains(string(e.Before), `"name":"Acme Bakery"`) || string(e.After) != "null" {
		t.Errorf("%+v: %s → %s", e, e.Before, e.After)
	}
	var verdict struct {
		Entries int64
		Head    string
		Broken  *struct{ ID int64 }
	}
	c.call(t, http.MethodGet, "/audit/verdict", "").has(t, http.StatusOK).into(t, &verdict)
	if verdict.Entries < 2 || verdict.Broken != nil || verdict.Head != fmt.Sprintf("%d:%s", verdict.Entries, e.Hash) {
		t.Errorf("%+v", verdict)
	}
	other := strings.Repeat("0", 64)
	c.call(t, http.MethodGet, "/audit/verdict?head=1:"+other, "").has(t, http.StatusOK).into(t, &verdict)
	if verdict.Broken == nil || verdict.Broken.ID != 1 {
		t.Errorf("with another head: %+v", verdict)
	}
	c.call(t, http.MethodGet, "/audit/verdict?head=x", "").has(t, http.StatusBadRequest)
	c.call(t, http.MethodGet, "/audit?cursor=x", "").has(t, http.StatusBadRequest)
	b.caller(t, admin.ScopeWrite).call(t, http.MethodGet, "/audit", "").has(t, http.StatusForbidden)
}
