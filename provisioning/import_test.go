package provisioning_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/roster"
)

// TestImportMatches imports one file after another and says what the roster has then: ref, name, owner
// and account id of each client, and the rejects of the last file.
func TestImportMatches(t *testing.T) {
	t.Parallel()
	const header = "ref,name,owner_email,account_id\n"
	tests := map[string]struct {
		files   []string
		counts  [4]int // of the last file: created, updated, unchanged, rejected
		clients string
		rejects string
	}{
		"the ref is the client, whatever else changes": {
			files:   []string{"A,Acme,ann@a.example,X", "A,Acme Inc,bob@a.example,Y"},
			counts:  [4]int{0, 1, 0, 0},
			clients: "A|Acme Inc|bob@a.example|Y",
		},
		"the account id is the client if no ref tells": {
			files:   []string{",Acme,ann@a.example,X", ",Acme Inc,bob@a.example,X"},
			counts:  [4]int{0, 1, 0, 0},
			clients: "|Acme Inc|bob@a.example|X",
		},
		"name and owner are the client if neither tells": {
			files:   []string{",Acme,ann@a.example,", ",ACME,Ann@A.example,"},
			counts:  [4]int{0, 1, 0, 0},
			clients: "|ACME|Ann@a.example|",
		},
		"a ref is added to a client known by name": {
			files:   []string{",Acme,ann@a.example,", "A,Acme,ann@a.example,"},
			counts:  [4]int{0, 1, 0, 0},
			clients: "A|Acme|ann@a.example|",
		},
		"a ref is added to a client known by account": {
			files:   []string{",Acme,ann@a.example,X", "A,Acme Inc,ann@a.example,X"},
			counts:  [4]int{0, 1, 0, 0},
			clients: "A|Acme Inc|ann@a.example|X",
		},
		"an account id is added to a client known by name": {
			files:   []string{"A,Acme,ann@a.example,", ",Acme,ann@a.example,X"},
			counts:  [4]int{0, 1, 0, 0},
			clients: "A|Acme|ann@a.example|X",
		},
		"empty cells leave the ref and the account id": {
			files:   []string{"A,Acme,ann@a.example,X", ",Acme,ann@a.example,"},
			counts:  [4]int{0, 0, 1, 0},
			clients: "A|Acme|ann@a.example|X",
		},
		"refs that differ are two clients of one owner": {
			files:   []string{"A,Acme,ann@a.example,", "B,Acme,ann@a.example,"},
			counts:  [4]int{1, 0, 0, 0},
			clients: "A|Acme|ann@a.example|;B|Acme|ann@a.example|",
		},
		"account ids that differ are two clients of one owner": {
			files:   []string{",Acme,ann@a.example,X", ",Acme,ann@a.example,Y"},
			counts:  [4]int{1, 0, 0, 0},
			clients: "|Acme|ann@a.example|X;|Acme|ann@a.example|Y",
		},
		"the owner's address differs": {
			files:   []string{",Acme,ann@a.example,", ",Acme,bob@a.example,"},
			counts:  [4]int{1, 0, 0, 0},
			clients: "|Acme|ann@a.example|;|Acme|bob@a.example|",
		},
		"the account id of another client": {
			files:   []string{"A,Acme,ann@a.example,X\nB,Bell,bob@b.example,Y", "B,Bell,bob@b.example,X"},
			counts:  [4]int{0, 0, 0, 1},
			clients: "A|Acme|ann@a.example|X;B|Bell|bob@b.example|Y",
			rejects: "2 account_id duplicate_account_id",
		},
		"a new client with the account id of another": {
			files:   []string{"A,Acme,ann@a.example,X", "B,Bell,bob@b.example,X"},
			counts:  [4]int{0, 0, 0, 1},
			clients: "A|Acme|ann@a.example|X",
			rejects: "2 account_id duplicate_account_id",
		},
		"account ids are exchanged": {
			files:   []string{"A,Acme,ann@a.example,X\nB,Bell,bob@b.example,Y", "A,Acme,ann@a.example,Y\nB,Bell,bob@b.example,X"},
			counts:  [4]int{0, 2, 0, 0},
			clients: "A|Acme|ann@a.example|Y;B|Bell|bob@b.example|X",
		},
		"account ids move on, the last to a new client": {
			files:   []string{"A,Acme,ann@a.example,X\nB,Bell,bob@b.example,Y", "B,Bell,bob@b.example,X\nA,Acme,ann@a.example,Z\nC,Cole,cy@c.example,Y"},
			counts:  [4]int{1, 2, 0, 0},
			clients: "A|Acme|ann@a.example|Z;B|Bell|bob@b.example|X;C|Cole|cy@c.example|Y",
		},
		"an account id that cannot move on blocks those behind it": {
			files:   []string{"A,Acme,ann@a.example,X\nB,Bell,bob@b.example,Y", "A,Acme,ann@a.example,Y\nC,Cole,cy@c.example,X"},
			counts:  [4]int{0, 0, 0, 2},
			clients: "A|Acme|ann@a.example|X;B|Bell|bob@b.example|Y",
			rejects: "2 account_id duplicate_account_id;3 account_id duplicate_account_id",
		},
		"several clients have the name and the owner": {
			files:   []string{"A,Acme,ann@a.example,\nB,Acme,ann@a.example,", ",Acme,ann@a.example,X"},
			counts:  [4]int{0, 0, 0, 1},
			clients: "A|Acme|ann@a.example|;B|Acme|ann@a.example|",
			rejects: "2 name ref_conflict",
		},
		"the account id tells which of several": {
			files:   []string{"A,Acme,ann@a.example,\nB,Acme,ann@a.example,X", ",Acme,ann@a.example,X"},
			counts:  [4]int{0, 0, 1, 0},
			clients: "A|Acme|ann@a.example|;B|Acme|ann@a.example|X",
		},
		"two rows want one client that has no ref: one is it, the other is new": {
			files:   []string{",Acme,ann@a.example,", "B,Acme,ann@a.example,\nA,Acme,ann@a.example,"},
			counts:  [4]int{1, 1, 0, 0},
			clients: "A|Acme|ann@a.example|;B|Acme|ann@a.example|",
		},
		"what is left of a choice is taken": {
			files:   []string{",Acme,ann@a.example,X\n,Acme,ann@a.example,Y", "A,Acme,ann@a.example,X\nB,Acme,ann@a.example,"},
			counts:  [4]int{0, 2, 0, 0},
			clients: "A|Acme|ann@a.example|X;B|Acme|ann@a.example|Y",
		},
		"a name that its client gives up is another client's": {
			files:   []string{"A,Acme,ann@a.example,", ",Acme,ann@a.example,\nA,Zed,ann@a.example,"},
			counts:  [4]int{1, 1, 0, 0},
			clients: "|Acme|ann@a.example|;A|Zed|ann@a.example|",
		},
	}
	o := setup(t)
	for name, test := range tests {
		o.inTx(t, func(o *office) {
			var im provisioning.Import
			for _, f := range test.files {
				im = o.imports(t, header+f)
			}
			if got := [4]int{im.Created, im.Updated, im.Unchanged, im.Rejected}; got != test.counts {
				t.Errorf("%s: created, updated, unchanged, rejected %v, want %v", name, got, test.counts)
			}
			rejects := []string{}
			for _, r := range im.Rejects {
				rejects = append(rejects, fmt.Sprint(r.Line, " ", r.Column, " ", r.Code))
			}
			if got := strings.Join(rejects, ";"); got != test.rejects {
				t.Errorf("%s: rejected %q, want %q", name, got, test.rejects)
			}
			clients := askAll[string](t, o, `
				SELECT concat_ws('|', coalesce(ref, ''), name, owner_email, coalesce(account_id, '')) FROM clients ORDER BY 1`)
			want := strings.Split(test.clients, ";")
			slices.Sort(want)
			if diff := cmp.Diff(want, slices.Sorted(slices.Values(clients))); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", name, diff)
			}
		})
	}
}

func TestImportAuthorizedAccount(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_email,account_id\nA,Acme,ann@a.example,X")
	acme := o.client(t, "Acme")
	o.advance(t, acme.ID, provisioning.EventAuthorized, provisioning.StageAuthorized, "")

	im := o.imports(t, "ref,name,owner_email,Encoded Account ID\nA,Acme,ann@a.example,Y")
	if im.Rejected != 1 || im.Rejects[0].Code != roster.RejectAccountIDAuthorized || im.Rejects[0].Column != "Encoded Account ID" {
		t.Errorf("another account for an authorized client: %+v", im.Rejects)
	}
	im = o.imports(t, "ref,name,owner_email,account_id\nA,Acme Inc,ann@a.example,")
	if im.Updated != 1 || *o.client(t, "Acme Inc").AccountID != "X" {
		t.Errorf("no account for an authorized client: %+v", im)
	}
	o.advance(t, acme.ID, provisioning.EventConsentFailed, provisioning.StageLapsed, "")
	if im = o.imports(t, "ref,name,owner_email,account_id\nA,Acme,ann@a.example,Y"); im.Updated != 1 {
		t.Errorf("another account for a lapsed client: %+v", im)
	}
}

func TestImportCounts(t *testing.T) {
	t.Parallel()
	o := setup(t)
	const first = "name,owner_email,ref,Plan\n" +
		"Acme,ann@a.example,A,Gold\n" +
		"Bell,,B,\n" +
		"Cole,cy@c.example,C,Lite\n" +
		"Cole Two,cy@c.example,C,Lite\n"
	im := o.imports(t, first)
	want := provisioning.Import{
		ID: im.ID, FileName: "roster.csv", At: im.At, Actor: provisioning.ActorCLI,
		Header: []string{"name", "owner_email", "ref", "Plan"}, Rows: 4, Created: 1, Rejected: 3,
		Rejects: []roster.Reject{
			{
				Line: 3, Column: "owner_email", Code: roster.RejectEmailMissing,
				Message: "The owner has no mail address. Fill it in.", Record: []string{"Bell", "", "B", ""},
			},
			{
				Line: 4, Column: "ref", Code: roster.RejectDuplicateRow,
				Message: "Lines 4 and 5 are the same client (same ref). Keep one of them, or give each client its own ref.",
				Record:  []string{"Cole", "cy@c.example", "C", "Lite"},
			},
			{
				Line: 5, Column: "ref", Code: roster.RejectDuplicateRow,
				Message: "Lines 4 and 5 are the same client (same ref). Keep one of them, or give each client its own ref.",
				Record:  []string{"Cole Two", "cy@c.example", "C", "Lite"},
			},
		},
		Warnings: []roster.Warning{},
	}
	if diff := cmp.Diff(want, im); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	stored, err := o.Import(t.Context(), im.ID)
	if diff := cmp.Diff(im, stored); diff != "" || err != nil {
		t.Errorf("stored, %v (-made +read)\n%s", err, diff)
	}
	if _, err := o.Import(t.Context(), uuid.New()); !errors.Is(err, provisioning.ErrNotFound) {
		t.Errorf("an unknown import: %v", err)
	}

	tables := []string{"clients", "events", "tally_deltas", "username_counters", "invitations", "messages"}
	before := o.state(t, tables...)
	im = o.imports(t, first)
	if im.Created+im.Updated != 0 || im.Unchanged != 1 || im.Rejected != 3 {
		t.Errorf("the same file again: %+v", im)
	}
	if diff := cmp.Diff(before, o.state(t, tables...)); diff != "" {
		t.Errorf("the same file again changes (-before +after)\n%s", diff)
	}

	im = o.imports(t, "name,owner_email,ref,Plan,Region\nAcme,ann@a.example,A,Platinum,\nCole,cy@c.example,C,,West\nDell,di@d.example,,,\n")
	if im.Created != 2 || im.Updated != 1 || im.Unchanged+im.Rejected != 0 {
		t.Errorf("another file: %+v", im)
	}
	for name, extra := range map[string]map[string]string{
		"Acme": {"Plan": "Platinum"},
		"Cole": {"Region": "West"},
		"Dell": {},
	} {
		if diff := cmp.Diff(extra, o.client(t, name).Extra); diff != "" {
			t.Errorf("what is kept of %s (-want +got)\n%s", name, diff)
		}
	}
	newest, next, err := o.Imports(t.Context(), "", 2)
	if err != nil || len(newest) != 2 || newest[0].ID != im.ID || newest[0].Rejects == nil || next == "" {
		t.Errorf("the newest imports: %v, next %q, %v", newest, next, err)
	}
	older, next, err := o.Imports(t.Context(), next, 2)
	if err != nil || len(older) != 1 || older[0].Created != 1 || older[0].Rejected != 3 || next != "" {
		t.Errorf("the ones before: %v, next %q, %v", older, next, err)
	}
	if _, _, err := o.Imports(t.Context(), "2", 2); !errors.Is(err, provisioning.ErrBadCursor) {
		t.Errorf("%v, want %v", err, provisioning.ErrBadCursor)
	}
}

func TestImportUpdates(t *testing.T) {
	t.Parallel()
	o := setup(t)
	const header = "ref,name,owner_email,owner_name,account_id,route,site_url,locale,time_zone,tags,Plan,Notes\n"
	o.imports(t, header+`A,Acme,ann@a.example,Ann,,,a.example,en,Europe/Rome,"one, two",Gold,hello`)
	created := o.client(t, "Acme")
	im := o.imports(t, header+`A,Acme Inc,ann@a.example,,X,manager,b.example,de-AT,,three,,bye`)
	if im.Updated != 1 {
		t.Fatalf("%+v", im)
	}
	got := o.client(t, "Acme Inc")
	want := created
	account := "X"
	want.Name, want.AccountID, want.Route, want.SiteURL, want.Locale = "Acme Inc", &account, provisioning.RouteManager, "https://b.example", "de-AT"
	want.Tags, want.Extra, want.UpdatedAt = []string{"three"}, map[string]string{"Plan": "Gold", "Notes": "bye"}, got.UpdatedAt
	want.Revision = got.Revision
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !got.UpdatedAt.After(created.UpdatedAt) || got.Version() == created.Version() {
		t.Error("updated_at or the version stays")
	}
	events, err := o.Events(t.Context(), got.ID, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	change := func(from, to any) map[string]any { return map[string]any{"from": from, "to": to} }
	imported := provisioning.StageImported
	wantEvents := []provisioning.Event{
		{Kind: provisioning.EventUpdated, Detail: provisioning.Detail{
			"name": change("Acme", "Acme Inc"), "account_id": change(nil, "X"), "route": change("owner", "manager"),
			"site_url": change("https://a.example", "https://b.example"), "locale": change("en", "de-AT"),
			"tags":  change([]any{"one", "two"}, []any{"three"}),
			"extra": change(map[string]any{"Plan": "Gold", "Notes": "hello"}, map[string]any{"Plan": "Gold", "Notes": "bye"}),
		}},
		{Kind: provisioning.EventImported, Stage: &imported, Detail: provisioning.Detail{}},
	}
	for i := range wantEvents {
		wantEvents[i].ClientID, wantEvents[i].ClientName, wantEvents[i].Actor = got.ID, "Acme Inc", provisioning.ActorCLI
		wantEvents[i].ID, wantEvents[i].At = events[i].ID, events[i].At
	}
	if diff := cmp.Diff(wantEvents, events); diff != "" {
		t.Errorf("its history (-want +got)\n%s", diff)
	}
}

// TestImportUsernames imports names one file after another and says which usernames they have then.
func TestImportUsernames(t *testing.T) {
	t.Parallel()
	const long = "The Extraordinarily Long Name of a Limited Company"
	tests := map[string]struct {
		pattern string
		files   []string // names; the owner of each is another
		want    []string // local parts, in the order of the names
	}{
		"the numbered name comes with the others": {
			pattern,
			[]string{"Acme,Acme,Acme 2,Acme"},
			[]string{"agency+acme", "agency+acme-3", "agency+acme-2", "agency+acme-4"},
		},
		"the numbered name comes first": {
			pattern,
			[]string{"Acme 2", "Acme,Acme,Acme"},
			[]string{"agency+acme-2", "agency+acme", "agency+acme-3", "agency+acme-4"},
		},
		"the numbered name comes last": {
			pattern,
			[]string{"Acme,Acme,Acme", "Acme 2,Acme", "Acme 2"},
			[]string{"agency+acme", "agency+acme-2", "agency+acme-3", "agency+acme-2-2", "agency+acme-4", "agency+acme-2-3"},
		},
		"many names have taken the numbers": {
			pattern,
			[]string{"Acme 2,Acme 3,Acme 4,Acme 6,Acme,Acme,Acme,Acme"},
			[]string{"agency+acme-2", "agency+acme-3", "agency+acme-4", "agency+acme-6", "agency+acme", "agency+acme-5", "agency+acme-7", "agency+acme-8"},
		},
		"names that differ only in what a username cannot have": {
			pattern,
			[]string{"ACME!,Äcme,acme", "Acme"},
			[]string{"agency+acme", "agency+acme-3", "agency+acme-2", "agency+acme-4"},
		},
		"names that are cut short": {
			pattern,
			[]string{long + "," + long + " East," + long + " West"},
			[]string{"agency+the-extraordinarily-long-nam", "agency+the-extraordinarily-2", "agency+the-extraordinarily-3"},
		},
		"names of which nothing is left": {
			pattern,
			[]string{"…,!!!", "…"},
			[]string{"agency+client-2", "agency+client", "agency+client-3"},
		},
		"every username has a number": {
			"{local}{n}@{domain}",
			[]string{"Acme,Bell", "Acme"},
			[]string{"agency1", "agency2", "agency3"},
		},
		"every username of a name has a number": {
			"{slug}.{n}@{domain}",
			[]string{"Acme,Bell,Acme", "Bell"},
			[]string{"acme.1", "bell.1", "acme.2", "bell.2"},
		},
	}
	o := setup(t)
	for name, test := range tests {
		o.inTx(t, func(o *office) {
			o.importer.Namer = newNamer(t, test.pattern, 50)
			n := 0
			for _, names := range test.files {
				records := [][]string{{"name", "owner_email"}}
				for name := range strings.SplitSeq(names, ",") {
					n++
					records = append(records, []string{name, fmt.Sprintf("owner%02d@a.example", n)})
				}
				o.imports(t, file(records...))
				o.imports(t, o.export(t, provisioning.Filter{}))
			}
			got := askAll[string](t, o, `SELECT split_part(username, '@', 1) FROM clients ORDER BY owner_email`)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s (-want +got)\n%s", name, diff)
			}
		})
	}

	o.imports(t, "ref,name,owner_email\nA,Acme,ann@a.example")
	o.imports(t, "ref,name,owner_email\nA,Bell,ann@a.example\nB,Acme,bob@b.example")
	o.exec(t, `UPDATE clients SET username = 'agency+cole@agency.example' WHERE ref = 'B'`)
	o.imports(t, "ref,name,owner_email\nC,Cole,cy@c.example")
	got := askAll[string](t, o, `SELECT username FROM clients ORDER BY ref`)
	want := []string{"agency+acme@agency.example", "agency+cole@agency.example", "agency+cole-2@agency.example"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after a change of name (-want +got)\n%s", diff)
	}
	for _, username := range []string{"agency+acme@agency.example", "Agency+Acme@agency.example"} {
		if _, err := o.DB.Exec(t.Context(), `UPDATE clients SET username = $1 WHERE ref = 'B'`, username); err == nil {
			t.Errorf("two clients have the username %s, but for capitals", username)
		}
	}
}

// TestImportRearms changes the owner's address, and then all else, of clients in every stage.
func TestImportRearms(t *testing.T) {
	t.Parallel()
	o := setup(t)
	stages := []struct {
		stage  provisioning.Stage
		reason provisioning.Reason
		rearms bool
	}{
		{provisioning.StageImported, "", false},
		{provisioning.StageInvited, "", true},
		{provisioning.StageStarted, "", true},
		{provisioning.StageAuthorized, "", false},
		{provisioning.StageLapsed, "", false},
		{provisioning.StageStalled, provisioning.ReasonBounced, true},
		{provisioning.StageStalled, provisioning.ReasonUnsubscribed, true},
		{provisioning.StageStalled, provisioning.ReasonConflict, true},
	}
	for i, s := range stages {
		o.exec(t, `
			INSERT INTO clients (id, ref, name, owner_email, username, stage, reason, search)
			VALUES ($1, $2, $2, 'ann@a.example', lower($2), $3, nullif($4, ''), '')`, uuid.New(), fmt.Sprint("C", i), s.stage, string(s.reason))
	}
	if _, err := o.inviter.Invite(t.Context(), provisioning.Selection{All: true}, provisioning.ActorSystem, false); err != nil {
		t.Fatal(err)
	}
	o.exec(t, `
		INSERT INTO invitations (id, client_id, token_hash, expires_at)
		SELECT gen_random_uuid(), id, name::bytea, now() FROM clients`)
	roster := func(owner, name string) string {
		records := [][]string{{"ref", "name", "owner_email", "owner_name", "tags", "Plan"}}
		for i := range stages {
			records = append(records, []string{fmt.Sprint("C", i), fmt.Sprint(name, i), owner, "Ann", "vip", "Gold"})
		}
		return file(records...)
	}
	stage := func(i int) string {
		return ask[string](t, o, `SELECT concat_ws('/', stage, reason) FROM clients WHERE ref = $1`, fmt.Sprint("C", i))
	}
	pending := func() int {
		return ask[int](t, o, `SELECT count(*) FROM messages WHERE state = 'queued'`)
	}
	before, mails := []string{}, pending()
	for i := range stages {
		before = append(before, stage(i))
	}
	if mails == 0 {
		t.Fatal("no mail is queued")
	}

	if im := o.imports(t, roster("Ann@A.example", "Other")); im.Updated != len(stages) {
		t.Fatalf("%+v", im)
	}
	for i := range stages {
		if got := stage(i); got != before[i] {
			t.Errorf("a change of all but the address moves %s to %s", before[i], got)
		}
	}
	if n := ask[int](t, o, `SELECT count(*) FROM invitations WHERE revoked_at IS NOT NULL`); n > 0 || pending() != mails {
		t.Errorf("it revokes %d links and leaves %d of %d mails", n, pending(), mails)
	}

	o.imports(t, roster("bob@a.example", "Other"))
	for i, s := range stages {
		want := before[i]
		if s.rearms {
			want = "imported"
		}
		if got := stage(i); got != want {
			t.Errorf("another address moves %s to %s, want %s", before[i], got, want)
		}
		kinds := askAll[string](t, o, `
			SELECT concat_ws(' ', kind, e.stage) FROM events e JOIN clients c ON c.id = client_id
			WHERE ref = $1 AND kind <> 'mail_queued' ORDER BY e.id`, fmt.Sprint("C", i))
		wantKinds := []string{"updated", "owner_changed", "updated"}
		if s.rearms {
			wantKinds[1] = "owner_changed imported"
		}
		if diff := cmp.Diff(wantKinds, kinds); diff != "" {
			t.Errorf("history of %s (-want +got)\n%s", before[i], diff)
		}
	}
	if n := ask[int](t, o, `SELECT count(*) FROM invitations WHERE revoked_at IS NULL`); n > 0 || pending() > 0 {
		t.Errorf("it leaves %d links and %d mails", n, pending())
	}
}

func TestImportDryRun(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_email,account_id\nA,Acme,ann@a.example,X\nB,Bell,bob@b.example,")
	const next = "ref,name,owner_email,account_id\n" +
		"A,Acme,other@a.example,\nB,Bell,bob@b.example,X\nC,Acme,cy@c.example,\nD,Acme,di@d.example,\n,Bell,,\nE,Acme 2,di@d.example,"
	before := o.state(t)
	plan := o.imports(t, next, dryRun, invite)
	if diff := cmp.Diff(before, o.state(t)); diff != "" {
		t.Fatalf("a dry run changes (-before +after)\n%s", diff)
	}
	if !plan.At.IsZero() || !plan.DryRun {
		t.Errorf("a dry run says that it was done: %+v", plan)
	}
	type planned struct {
		line     int
		verdict  provisioning.Verdict
		name     string
		username string
		code     roster.RejectCode
	}
	var got []planned
	for _, row := range plan.Plan {
		local, _, _ := strings.Cut(row.Username, "@")
		got = append(got, planned{row.Line, row.Verdict, row.Name, local, row.Code})
	}
	want := []planned{
		{2, provisioning.VerdictUpdated, "Acme", "agency+acme", ""},
		{3, provisioning.VerdictRejected, "Bell", "", roster.RejectDuplicateAccountID},
		{4, provisioning.VerdictCreated, "Acme", "agency+acme-3", ""},
		{5, provisioning.VerdictCreated, "Acme", "agency+acme-4", ""},
		{6, provisioning.VerdictRejected, "", "", roster.RejectEmailMissing},
		{7, provisioning.VerdictCreated, "Acme 2", "agency+acme-2", ""},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(planned{})); diff != "" {
		t.Errorf("the plan (-want +got)\n%s", diff)
	}
	changes := map[string]provisioning.Revision{"owner_email": {From: "ann@a.example", To: "other@a.example"}}
	if diff := cmp.Diff(changes, plan.Plan[0].Changes); diff != "" {
		t.Errorf("what changes of Acme (-want +got)\n%s", diff)
	}

	done := o.imports(t, next, invite)
	plan.ID, plan.At, plan.DryRun, plan.Plan = done.ID, done.At, false, nil
	if diff := cmp.Diff(plan, done); diff != "" {
		t.Errorf("(-plan +done)\n%s", diff)
	}
	if done.Created != 3 || done.Updated != 1 || done.Rejected != 2 || done.Invited.Queued != 4 {
		t.Errorf("%+v", done)
	}
}

func TestImportStrict(t *testing.T) {
	t.Parallel()
	o := setup(t)
	before := o.state(t)
	im, err := o.tryImport("name,owner_email\nAcme,ann@a.example\nBell,\n", strict, invite)
	if !errors.Is(err, provisioning.ErrRejected) || im.Created != 1 || im.Rejected != 1 || len(im.Rejects) != 1 || !im.At.IsZero() {
		t.Errorf("%+v, %v", im, err)
	}
	if diff := cmp.Diff(before, o.state(t)); diff != "" {
		t.Errorf("a strict import with a reject changes (-before +after)\n%s", diff)
	}
	if im := o.imports(t, "name,owner_email\nAcme,ann@a.example\n", strict); im.Created != 1 {
		t.Errorf("%+v", im)
	}
}

// TestImportInvites: the mails go out with the transaction that brings the clients, or not at all.
func TestImportInvites(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_email\nOLD,Old,old@a.example\nA,Acme,ann@a.example")
	before := o.state(t)
	const next = "ref,name,owner_email,route\nA,Acme Inc,ann@a.example,\nB,Bell,bob@b.example,\nC,Cole,cy@c.example,partner\nD,,,"

	broken := *o.inviter
	broken.Mailer = brokenMailer{o.inviter.Mailer}
	importer := provisioning.Importer{DB: o.pool, Namer: o.importer.Namer, Inviter: &broken}
	_, err := importer.Import(t.Context(), strings.NewReader(next), provisioning.ImportOptions{Invite: true})
	if !errors.Is(err, errBroken) {
		t.Errorf("an import whose mails cannot be queued: %v", err)
	}
	if diff := cmp.Diff(before, o.state(t)); diff != "" {
		t.Fatalf("it changes (-before +after)\n%s", diff)
	}

	im := o.imports(t, next, invite)
	want := provisioning.Invited{Matched: 3, Queued: 2, Skipped: map[provisioning.SkipReason]int{provisioning.SkipRoute: 1}}
	if diff := cmp.Diff(want, *im.Invited); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	mails := askAll[string](t, o, `SELECT client_name FROM messages WHERE state = 'queued' ORDER BY 1`)
	if diff := cmp.Diff([]string{"Acme Inc", "Bell"}, mails); diff != "" {
		t.Errorf("mails (-want +got)\n%s", diff)
	}
	im = o.imports(t, next, invite)
	if im.Invited.Queued != 0 || im.Invited.Skipped[provisioning.SkipQueued] != 2 {
		t.Errorf("again: %+v", im.Invited)
	}
}

var errBroken = errors.New("the mailer is broken")

type brokenMailer struct{ provisioning.Mailer }

func (m brokenMailer) Queue(ctx context.Context, tx pgx.Tx, letters []provisioning.Letter) ([]uuid.UUID, error) {
	_, err := m.Mailer.Queue(ctx, tx, letters)
	return nil, errors.Join(err, errBroken)
}

// TestImportFails breaks off at different places; nothing is left of it, and the connection works.
func TestImportFails(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "name,owner_email\nAcme,ann@a.example")
	before := o.state(t)
	for name, file := range map[string]io.Reader{
		"in the header": iotest.ErrReader(errBroken),
		"in a row":      io.MultiReader(strings.NewReader("name,owner_email\nBell,bob@b.example\nCole,"), iotest.ErrReader(errBroken)),
		"after much":    io.MultiReader(strings.NewReader(wideFile(0, 5000)), iotest.ErrReader(errBroken)),
	} {
		if _, err := o.importer.Import(t.Context(), file, provisioning.ImportOptions{}); !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := o.tryImport("owner_email\nbob@b.example"); err == nil {
		t.Error("a file without names is imported")
	} else if refused, ok := errors.AsType[*roster.Error](err); !ok || refused.Code != roster.ColumnMissing {
		t.Errorf("a file without names: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	file := io.MultiReader(strings.NewReader("name,owner_email\nBell,bob@b.example\n"), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, io.EOF
	}))
	if _, err := o.importer.Import(ctx, file, provisioning.ImportOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if diff := cmp.Diff(before, o.state(t)); diff != "" {
		t.Errorf("(-before +after)\n%s", diff)
	}
	if im := o.imports(t, "name,owner_email\nBell,bob@b.example"); im.Created != 1 {
		t.Errorf("afterwards: %+v", im)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestImportInTransaction: several imports may be part of a transaction of the caller.
func TestImportInTransaction(t *testing.T) {
	t.Parallel()
	o := setup(t)
	before := o.state(t)
	o.inTx(t, func(o *office) {
		for i := range 3 {
			if im := o.imports(t, fmt.Sprintf("name,owner_email\nAcme,ann%d@a.example", i)); im.Created != 1 {
				t.Errorf("%+v", im)
			}
			if _, err := o.tryImport("name,owner_email\nBell,\n", strict); !errors.Is(err, provisioning.ErrRejected) {
				t.Error(err)
			}
			o.imports(t, "name,owner_email\nBell,bob@b.example\n", dryRun)
		}
		if n := ask[int](t, o, `SELECT count(*) FROM clients`); n != 3 {
			t.Errorf("%d clients", n)
		}
	})
	if diff := cmp.Diff(before, o.state(t)); diff != "" {
		t.Errorf("(-before +after)\n%s", diff)
	}
}

// TestImportHoldsWhatChanges: what an owner does while a file is merged is not undone by it.
func TestImportHoldsWhatChanges(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_email,account_id\nA,Acme,ann@a.example,\nB,Bell,bob@b.example,X")
	acme, bell := o.client(t, "Acme"), o.client(t, "Bell")
	// The owners consent in a transaction that ends while the import waits for their clients.
	tx, err := o.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // After a commit there is nothing to roll back.
	for id, account := range map[uuid.UUID]string{acme.ID: "Y", bell.ID: "Z"} {
		if _, err := provisioning.Advance(t.Context(), tx, provisioning.Change{
			Client: id, Event: provisioning.EventAuthorized, Actor: provisioning.ActorOwner, To: provisioning.StageAuthorized,
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `UPDATE clients SET account_id = $2 WHERE id = $1`, id, account); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan provisioning.Import, 1)
	go func() {
		im, err := o.tryImport("ref,name,owner_email,account_id\nA,Acme Inc,ann@a.example,\nB,Bell,bob@b.example,V")
		if err != nil {
			t.Error(err)
		}
		ended <- im
	}()
	for ask[int](t, o, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 0 {
		select {
		case im := <-ended:
			t.Fatalf("the import did not wait: %+v", im)
		case <-time.After(time.Millisecond):
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if im := <-ended; im.Updated != 1 || im.Rejected != 1 || im.Rejects[0].Code != roster.RejectAccountIDAuthorized {
		t.Errorf("%+v", im)
	}
	if acme = o.client(t, "Acme Inc"); *acme.AccountID != "Y" || acme.Stage != provisioning.StageAuthorized {
		t.Errorf("%+v", acme)
	}
}

// TestImportJSON holds the names that programs read.
func TestImportJSON(t *testing.T) {
	t.Parallel()
	o := setup(t)
	tests := []struct {
		im   provisioning.Import
		keys string
	}{
		{
			o.imports(t, "name,owner_email\nAcme,ann@a.example\nBell,", dryRun),
			"actor created dry_run file_name id plan rejected rejects rows unchanged updated warned warnings",
		},
		{
			o.imports(t, "name,owner_email\nAcme,ann@a.example\nBell,", invite),
			"actor at created dry_run file_name id invited rejected rejects rows unchanged updated warned warnings",
		},
	}
	for _, test := range tests {
		encoded, err := json.Marshal(test.im)
		if err != nil {
			t.Fatal(err)
		}
		var object struct {
			Rejects []map[string]any `json:"rejects"`
		}
		var all map[string]any
		if err := errors.Join(json.Unmarshal(encoded, &object), json.Unmarshal(encoded, &all)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(slices.Sorted(maps.Keys(all)), " "); got != test.keys {
			t.Errorf("%s, want the keys %s", encoded, test.keys)
		}
		if got := strings.Join(slices.Sorted(maps.Keys(object.Rejects[0])), " "); got != "code column line message" {
			t.Errorf("a reject has the keys %s", got)
		}
	}
	encoded, err := json.Marshal(o.imports(t, "name,owner_email\nAcme,ann@a.example"))
	if err != nil || !strings.Contains(string(encoded), `"rejects":[]`) {
		t.Errorf("without a reject: %s, %v", encoded, err)
	}
}

// TestImportBesideAConsent: an account that an owner binds to a client while a file says that it is another
// one's costs that row, not the file.
func TestImportBesideAConsent(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_email\nA,Acme,ann@a.example\n")
	tx, err := o.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // After a commit there is nothing to roll back.
	if err := provisioning.BindAccount(t.Context(), tx, o.client(t, "Acme").ID, "X"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan provisioning.Import, 1)
	go func() {
		im, err := o.tryImport("ref,name,owner_email,account_id\nB,Bell,bob@b.example,X\nC,Cole,cy@c.example,Y\n")
		if err != nil {
			t.Error(err)
		}
		ended <- im
	}()
	for ask[int](t, o, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 0 {
		select {
		case im := <-ended:
			t.Fatalf("the import did not wait: %+v", im)
		case <-time.After(time.Millisecond):
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if im := <-ended; im.Created != 1 || im.Rejected != 1 || im.Rejects[0].Code != roster.RejectDuplicateAccountID {
		t.Errorf("%+v", im)
	}
	if got := o.client(t, "Cole").Username; got != "agency+cole@agency.example" {
		t.Errorf("Cole is %s", got)
	}
}

// publicNames is a name system in which these domains have a mail server, and no other exists.
type publicNames []string

func (p publicNames) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	if slices.Contains(p, strings.TrimSuffix(name, ".")) {
		return []*net.MX{{Host: "mx." + name}}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (p publicNames) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (p publicNames) LookupNS(context.Context, string) ([]*net.NS, error) {
	return []*net.NS{{Host: "a.root-servers.net."}}, nil
}

// TestImportUndeliverable: an owner whose domain is nowhere is rejected, unless the roster knows the address.
func TestImportUndeliverable(t *testing.T) {
	t.Parallel()
	o := setup(t)
	const first = "ref,name,owner_email\nA,Acme,ann@acme.com\nB,Bell,bob@gone.com\nC,Cole,cy@c.example\n"
	o.importer.Domains = &roster.MailDomains{Resolver: publicNames{"acme.com", "gone.com"}}
	if im := o.imports(t, first); im.Created != 3 {
		t.Fatalf("%+v", im)
	}
	o.importer.Domains = &roster.MailDomains{Resolver: publicNames{}}
	if im := o.imports(t, first); im.Unchanged != 3 {
		t.Errorf("known addresses: %+v", im)
	}
	im := o.imports(t, "Key,Name,Owner mail\nA,Acme,new@nowhere.com\nD,Dell,di@gone.com\nE,Eden,eve@e.example\n",
		func(o *provisioning.ImportOptions) {
			o.Map = map[roster.Field]string{roster.FieldRef: "Key", roster.FieldOwnerEmail: "Owner mail"}
		})
	if im.Created != 1 || im.Rejected != 2 {
		t.Fatalf("new addresses: %+v", im)
	}
	for i, want := range []string{"new@nowhere.com", "di@gone.com"} {
		r := im.Rejects[i]
		if r.Code != roster.RejectEmailUndeliverable || r.Column != "Owner mail" || !strings.Contains(r.Message, want) {
			t.Errorf("%+v", r)
		}
	}
}
