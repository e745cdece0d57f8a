package web_test

import (
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

var update = flag.Bool("update", false, "write the golden files anew") //nolint:gochecknoglobals // a flag of the test binary

// openapi is the part of the document that the tests read.
type openapi struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string
		Security    []map[string][]admin.Scope
	}
}

func (b *testBundle) openapi(t *testing.T) (page, openapi) {
	t.Helper()
	answer := b.browser(t).get(t, "/api/v1/openapi.json").has(t, http.StatusOK)
	var doc openapi
	answer.into(t, &doc)
	return answer, doc
}

// The document is a part of the contract: a change of it has to be seen in a review.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	answer, doc := b.openapi(t)
	if doc.OpenAPI != "3.1.0" || answer.header.Get("Content-Type") != "application/openapi+json" {
		t.Errorf("version %s as %s", doc.OpenAPI, answer.header.Get("Content-Type"))
	}
	var indented any
	answer.into(t, &indented)
	text, err := json.MarshalIndent(indented, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(string(text), b.PublicURL, "https://connect.example.com") + "\n"
	golden := filepath.Join("testdata", "openapi.json")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the API has changed; if that is meant: go test ./cmd/countersign/internal/web -run TestOpenAPI -update (-want +got):\n%s", diff)
	}
	for path := range doc.Paths {
		if strings.Contains(got, "unpkg") || strings.Contains(got, "jsdelivr") {
			t.Errorf("%s loads something from elsewhere", path)
		}
	}
}

// problem is an error's answer (RFC 9457).
type problem struct {
	Type   string
	Title  string
	Status int
	Detail string
	Errors []struct {
		Message, Location string
		Value             any
	}
}

// problem checks that the answer is one, with that status.
func (p page) problem(t *testing.T, status int) problem {
	t.Helper()
	var got problem
	p.has(t, status).into(t, &got)
	if kind := p.header.Get("Content-Type"); kind != "application/problem+json" || got.Status != status || got.Title == "" || !strings.HasPrefix(got.Type, "urn:countersign:") {
		t.Errorf("%s answers %+v as %q", p.name, got, kind)
	}
	return got
}

func TestAPIIsForKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.jobs(t)
	im := b.imports(t, rosterFile)
	_, doc := b.openapi(t)
	b.refers(t, "ACME/1", "Eve Ash", "eve@acme.example", "")
	b.refers(t, "BLOOM", "Flo Ash", "flo@bloom.example", "")
	open, _, err := b.Store.OpenReferrals(t.Context(), "", 2)
	if err != nil {
		t.Fatal(err)
	}
	referrals := map[string]uuid.UUID{"/referrals/{id}/accept": open[0].ID, "/referrals/{id}/dismiss": open[1].ID}
	scopes := []admin.Scope{admin.ScopeRead, admin.ScopeWrite, admin.ScopeLinks, admin.ScopeTokens, admin.ScopeAdmin}
	with, without := map[admin.Scope]caller{}, map[admin.Scope]caller{}
	for _, scope := range scopes {
		with[scope] = b.caller(t, scope)
		without[scope] = b.caller(t, slices.DeleteFunc(slices.Clone(scopes), func(s admin.Scope) bool { return s == scope })...)
	}
	revoked := b.caller(t, scopes...)
	keys, err := b.Admin.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Admin.RevokeKey(t.Context(), keys[len(keys)-1].ID.String(), provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	want := map[string]admin.Scope{ // the contract's
		"GET /audit":                            admin.ScopeAdmin,
		"GET /audit/verdict":                    admin.ScopeAdmin,
		"GET /bulk":                             admin.ScopeRead,
		"POST /bulk":                            admin.ScopeWrite,
		"GET /bulk/{id}":                        admin.ScopeRead,
		"GET /bulk/{id}/skipped.csv":            admin.ScopeRead,
		"POST /bulk/{id}/stop":                  admin.ScopeWrite,
		"POST /bulk/{id}/undo":                  admin.ScopeWrite,
		"GET /clients":                          admin.ScopeRead,
		"DELETE /clients/{id}":                  admin.ScopeWrite,
		"GET /clients/{id}":                     admin.ScopeRead,
		"PATCH /clients/{id}":                   admin.ScopeWrite,
		"GET /clients/{id}/events":              admin.ScopeRead,
		"POST /clients/{id}/link":               admin.ScopeLinks,
		"POST /clients/{id}/check":              admin.ScopeWrite,
		"GET /clients/{id}/manager":             admin.ScopeRead,
		"POST /clients/{id}/manager/active":     admin.ScopeWrite,
		"POST /clients/{id}/opt-in":             admin.ScopeWrite,
		"POST /clients/{id}/owner":              admin.ScopeWrite,
		"POST /clients/{id}/reminder":           admin.ScopeWrite,
		"POST /clients/{id}/token":              admin.ScopeTokens,
		"POST /clients/{id}/username":           admin.ScopeWrite,
		"GET /export.csv":                       admin.ScopeRead,
		"GET /imports":                          admin.ScopeRead,
		"POST /imports":                         admin.ScopeWrite,
		"GET /imports/{id}":                     admin.ScopeRead,
		"GET /imports/{id}/rejects.csv":         admin.ScopeRead,
		"POST /invitations":                     admin.ScopeWrite,
		"GET /keys":                             admin.ScopeAdmin,
		"POST /keys":                            admin.ScopeAdmin,
		"DELETE /keys/{id}":                     admin.ScopeAdmin,
		"GET /mail":                             admin.ScopeRead,
		"GET /clients/{id}/mails":               admin.ScopeRead,
		"GET /clients/{id}/mails/{mail}":        admin.ScopeRead,
		"GET /doctor":                           admin.ScopeRead,
		"POST /doctor":                          admin.ScopeWrite,
		"GET /mail/letterhead":                  admin.ScopeRead,
		"PATCH /mail/letterhead":                admin.ScopeWrite,
		"DELETE /mail/letterhead/logo":          admin.ScopeWrite,
		"PUT /mail/letterhead/logo":             admin.ScopeWrite,
		"GET /mail/reports":                     admin.ScopeRead,
		"GET /mail/reports/{id}":                admin.ScopeRead,
		"POST /mail/reports/{id}/aside":         admin.ScopeWrite,
		"GET /mail/texts":                       admin.ScopeRead,
		"DELETE /mail/texts/{key}":              admin.ScopeWrite,
		"GET /mail/texts/{key}":                 admin.ScopeRead,
		"PUT /mail/texts/{key}":                 admin.ScopeWrite,
		"POST /mail/texts/{key}/preview":        admin.ScopeRead,
		"GET /settings":                         admin.ScopeRead,
		"POST /mail/hurry":                      admin.ScopeWrite,
		"POST /mail/pause":                      admin.ScopeWrite,
		"GET /mail/queue":                       admin.ScopeRead,
		"POST /mail/resume":                     admin.ScopeWrite,
		"GET /mail/suppressed":                  admin.ScopeRead,
		"POST /mail/suppressed/{id}/let-in":     admin.ScopeWrite,
		"GET /operators":                        admin.ScopeAdmin,
		"POST /operators":                       admin.ScopeAdmin,
		"DELETE /operators/invitations/{id}":    admin.ScopeAdmin,
		"DELETE /operators/{id}":                admin.ScopeAdmin,
		"PATCH /operators/{id}":                 admin.ScopeAdmin,
		"DELETE /operators/{id}/second-factor":  admin.ScopeAdmin,
		"DELETE /operators/{id}/sessions":       admin.ScopeAdmin,
		"GET /progress":                         admin.ScopeRead,
		"GET /provider":                         admin.ScopeRead,
		"GET /quarantine":                       admin.ScopeRead,
		"POST /quarantine/{id}/accept":          admin.ScopeWrite,
		"POST /quarantine/{id}/discard":         admin.ScopeWrite,
		"POST /quarantine/{id}/move":            admin.ScopeWrite,
		"POST /reconciliations":                 admin.ScopeWrite,
		"GET /reconciliations/latest":           admin.ScopeRead,
		"GET /reconciliations/{id}/missing.csv": admin.ScopeRead,
		"POST /reconciliations/{id}/steps":      admin.ScopeWrite,
		"GET /referrals":                        admin.ScopeRead,
		"POST /referrals/{id}/accept":           admin.ScopeWrite,
		"POST /referrals/{id}/dismiss":          admin.ScopeWrite,
	}
	got := map[string]admin.Scope{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			method = strings.ToUpper(method)
			scope := op.Security[0]["key"][0]
			got[method+" "+path] = scope
			id := b.client(t, "CAFE").ID
			if strings.HasPrefix(path, "/imports") {
				id = im.ID
			}
			if referral, ok := referrals[path]; ok {
				id = referral
			}
			if method == http.MethodDelete {
				b.imports(t, "ref,name,owner_email\nGONE,Gone Ltd,gus@gone.example\n")
				id = b.client(t, "GONE").ID
			}
			path := strings.ReplaceAll(path, "{id}", id.String())
			body := ""
			if path == "/invitations" {
				body = `{"dry_run":true}`
			}
			if path == "/imports" {
				body = rosterFile
			}
			switch {
			case method == http.MethodPatch:
				body = "{}"
			case strings.HasSuffix(path, "/owner"):
				body = fmt.Sprintf(`{"email":%q}`, b.client(t, "CAFE").OwnerEmail)
			case strings.HasSuffix(path, "/reminder"):
				body = `{"action":"skip"}`
			case strings.HasSuffix(path, "/move"):
				body = `{"client":"ref:CAFE"}`
			case strings.HasSuffix(path, "/username"):
				body = fmt.Sprintf(`{"taken":%q}`, b.client(t, "CAFE").Username)
			}
			for name, header := range map[string][]string{
				"no key":      nil,
				"made up":     {"Authorization", "Bearer csk_made-up"},
				"no scheme":   {"Authorization", with[scope].key.Reveal()},
				"other":       {"Authorization", "Basic " + with[scope].key.Reveal()},
				"empty":       {"Authorization", "Bearer "},
				"revoked":     {"Authorization", "Bearer " + revoked.key.Reveal()},
				"no key, CSV": {"Accept", "text/csv"},
			} {
				answer := b.browser(t).do(t, method, "/api/v1"+path, strings.NewReader(body), header...)
				answer.problem(t, http.StatusUnauthorized)
				if got := answer.header.Get("WWW-Authenticate"); got != `Bearer realm="countersign"` {
					t.Errorf("%s, %s: WWW-Authenticate %q", answer.name, name, got)
				}
			}
			if told := without[scope].call(t, method, path, body).problem(t, http.StatusForbidden); !strings.Contains(told.Detail, string(scope)) {
				t.Errorf("%s %s: %s", method, path, told.Detail)
			}
			// What an operation finds is tested beside it: here it is enough that the key is not what it lacks. A
			// part that is not set up, such as the partner, answers 503.
			answer := with[scope].call(t, method, path, body)
			switch answer.status {
			case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusInternalServerError:
				t.Errorf("%s answers %d: %s", answer.name, answer.status, answer.body)
			}
			b.clock.advance(time.Minute) // who guesses keys is throttled
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operations and scopes (-want +got):\n%s", diff)
	}
	lower := b.browser(t).do(t, http.MethodGet, "/api/v1/progress", nil, "Authorization", "bearer "+with[admin.ScopeRead].key.Reveal())
	lower.has(t, http.StatusOK) // the scheme's case does not matter (RFC 9110, 11.1)
	b.isAt(t, "CAFE", "imported")
}

func TestAPIProblems(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite, admin.ScopeLinks)
	tests := []struct {
		method, path, body string
		status             int
		detail             string
	}{
		{http.MethodGet, "/made-up", "", http.StatusNotFound, ""},
		{http.MethodDelete, "/progress", "", http.StatusMethodNotAllowed, ""},
		{http.MethodGet, "/clients/made-up", "", http.StatusNotFound, "made-up"},
		{http.MethodGet, "/clients/ref:made-up", "", http.StatusNotFound, "made-up"},
		{http.MethodGet, "/clients/" + uuid.NewString() + "/events", "", http.StatusNotFound, "not found"},
		{http.MethodPost, "/clients/" + uuid.NewString() + "/link", "", http.StatusNotFound, "not found"},
		{http.MethodGet, "/clients/ref:%00", "", http.StatusNotFound, ""},
		{http.MethodGet, "/imports/made-up", "", http.StatusUnprocessableEntity, ""},
		{http.MethodGet, "/imports/" + uuid.NewString(), "", http.StatusNotFound, "not found"},
		{http.MethodGet, "/imports/" + uuid.NewString() + "/rejects.csv", "", http.StatusNotFound, "not found"},
		{http.MethodGet, "/clients?stage=made-up", "", http.StatusUnprocessableEntity, ""},
		{http.MethodGet, "/clients?reason=made-up", "", http.StatusUnprocessableEntity, ""},
		{http.MethodGet, "/clients?route=made-up", "", http.StatusUnprocessableEntity, ""},
		{http.MethodGet, "/clients?limit=0", "", http.StatusUnprocessableEntity, ""},
		{http.MethodGet, "/clients?limit=501", "", http.StatusUnprocessableEntity, ""},
		{http.MethodGet, "/clients?cursor=made-up", "", http.StatusBadRequest, "cursor"},
		{http.MethodGet, "/export.csv?stage=made-up", "", http.StatusUnprocessableEntity, ""},
		{http.MethodPost, "/invitations", "", http.StatusBadRequest, ""},
		{http.MethodPost, "/invitations", "{", http.StatusBadRequest, ""},
		{http.MethodPost, "/invitations", `{"made_up":1}`, http.StatusUnprocessableEntity, ""},
		{http.MethodPost, "/invitations", `{"stage":"made-up"}`, http.StatusUnprocessableEntity, ""},
		{http.MethodPost, "/invitations", `{"clients":["ref:made-up","CAFE"]}`, http.StatusNotFound, "made-up"},
		{http.MethodPost, "/invitations", `{"clients":["` + strings.Repeat("x", 2<<20) + `"]}`, http.StatusRequestEntityTooLarge, ""},
		{http.MethodPost, "/invitations", `{"clients":["\u0000"]}`, http.StatusNotFound, ""},
		{http.MethodPost, "/imports?dryrun", rosterFile, http.StatusUnprocessableEntity, ""}, // a slip of the pen must not import
		{http.MethodPost, "/imports", "", http.StatusUnprocessableEntity, "empty"},
		{http.MethodPost, "/imports", "first,second\n1,2\n", http.StatusUnprocessableEntity, "name"},
		{http.MethodPost, "/imports?map=made-up", rosterFile, http.StatusUnprocessableEntity, "field=column"},
	}
	for _, test := range tests {
		got := api.call(t, test.method, test.path, test.body).problem(t, test.status)
		if !strings.Contains(got.Detail, test.detail) {
			t.Errorf("%s %s: detail %q, want %q in it", test.method, test.path, got.Detail, test.detail)
		}
		if strings.Contains(got.Detail, "SQLSTATE") {
			t.Errorf("%s %s: detail %q", test.method, test.path, got.Detail)
		}
	}
	if n := b.count(t, "imports"); n != 1 {
		t.Errorf("%d imports were kept", n)
	}
	if n := b.count(t, "messages"); n != 0 {
		t.Errorf("%d mails were queued", n)
	}
	odd := []string{"Content-Disposition", "attachment; filename*=UTF-8''a%00b.csv"}
	api.call(t, http.MethodPost, "/imports", rosterFile, odd...).problem(t, http.StatusBadRequest)
	b.Importer = nil
	if got := api.call(t, http.MethodPost, "/imports", rosterFile).problem(t, http.StatusServiceUnavailable); !strings.Contains(got.Detail, "COUNTERSIGN_AGENCY_MAILBOX") {
		t.Errorf("without a mailbox: %s", got.Detail)
	}
}

func (b *testBundle) count(t *testing.T, table string) int {
	t.Helper()
	var n int
	if err := b.db.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// imported is the contract's answer to an import.
type imported struct {
	ID         uuid.UUID `json:"id"`
	FileName   string    `json:"file_name"`
	DryRun     bool      `json:"dry_run"`
	Rows       int       `json:"rows"`
	Created    int       `json:"created"`
	Updated    int       `json:"updated"`
	Unchanged  int       `json:"unchanged"`
	Rejected   int       `json:"rejected"`
	Rejects    []reject  `json:"rejects"`
	RejectsURL string    `json:"rejects_url"`

	Actor   string                `json:"actor"`
	Invited *provisioning.Invited `json:"invited"`
}

type reject struct {
	Line                  int
	Column, Code, Message string
}

// mixed has two rows that are fine and two that are not.
const mixed = "\ufeffRef;Company;Email;Note\n" +
	"A-1;\"Deli; the\nold one\";dan@deli.example;x\n" +
	"A-2;Yoga;nobody;=1+1\n" +
	"A-3;;eve@yoga.example;\n" +
	"A-4;Shop;fay@shop.example;y\n"

func TestAPIImport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	post := func(path, body string, status int, header ...string) imported {
		t.Helper()
		var im imported
		answer := api.call(t, http.MethodPost, path, body, append(header, "Content-Type", "text/csv")...).has(t, status)
		answer.into(t, &im)
		return im
	}
	dry := post("/imports?dry_run", mixed, http.StatusOK)
	if !dry.DryRun || dry.Rows != 4 || dry.Created != 2 || dry.Rejected != 2 || dry.RejectsURL != "" || b.count(t, "clients") != 0 || b.count(t, "imports") != 0 {
		t.Errorf("the dry run answers %+v", dry)
	}
	if off := post("/imports?dry_run=false&strict=false&invite=false", mixed, http.StatusCreated, "Content-Disposition", `attachment; filename="mine.csv"`); off.DryRun || off.FileName != "mine.csv" || off.Invited != nil {
		t.Errorf("switched off: %+v", off)
	}

	im := post("/imports", mixed, http.StatusCreated)
	if im.DryRun || im.FileName != "upload.csv" || im.Rows != 4 || im.Created != 0 || im.Updated != 0 || im.Unchanged != 2 || im.Rejected != 2 || !strings.HasPrefix(im.Actor, "key ") {
		t.Errorf("the same again: %+v", im)
	}
	if len(im.Rejects) != 2 || im.Rejects[0].Line != 4 || im.Rejects[0].Column != "Email" || im.Rejects[0].Code != "email_invalid" || im.Rejects[0].Message == "" ||
		im.Rejects[1].Line != 5 || im.Rejects[1].Code != "name_missing" {
		t.Errorf("rejects %+v", im.Rejects)
	}
	if want := "/api/v1/imports/" + im.ID.String() + "/rejects.csv"; im.RejectsURL != want {
		t.Errorf("rejects are at %q, want %q", im.RejectsURL, want)
	}
	var read imported
	api.call(t, http.MethodGet, "/imports/"+im.ID.String(), "").has(t, http.StatusOK).into(t, &read)
	if diff := cmp.Diff(im, read); diff != "" {
		t.Errorf("the import read again (-posted +read):\n%s", diff)
	}
	var list struct{ Imports []imported }
	api.call(t, http.MethodGet, "/imports", "").has(t, http.StatusOK).into(t, &list)
	if len(list.Imports) != 2 || list.Imports[0].ID != im.ID || list.Imports[1].FileName != "mine.csv" {
		t.Errorf("imports %+v", list.Imports)
	}

	// The rejects are corrected in their own file and imported again.
	file := api.do(t, http.MethodGet, im.RejectsURL, nil, "Authorization", "Bearer "+api.key.Reveal(), "Accept", "text/csv").has(t, http.StatusOK)
	if got := file.header.Get("Content-Type"); got != "text/csv; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	rows, err := csv.NewReader(strings.NewReader(file.body)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Ref", "Company", "Email", "Note", "error_code", "error_message"}, rows[0]); diff != "" {
		t.Errorf("header of the rejects (-want +got):\n%s", diff)
	}
	rows[1][2], rows[2][1] = "yan@yoga.example", "Yoga Two"
	var corrected strings.Builder
	if err := csv.NewWriter(&corrected).WriteAll(rows); err != nil {
		t.Fatal(err)
	}
	if again := post("/imports?strict", corrected.String(), http.StatusCreated); again.Created != 2 || again.Rejected != 0 {
		t.Errorf("corrected: %+v", again)
	}
	if c := b.client(t, "A-2"); c.OwnerEmail != "yan@yoga.example" || c.Extra["Note"] != "=1+1" || len(c.Extra) != 1 {
		t.Errorf("the client is %+v", c)
	}
}

func TestAPIImportWays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	api := b.caller(t, admin.ScopeWrite)
	t.Run("strict", func(t *testing.T) {
		b.empty(t)
		got := api.call(t, http.MethodPost, "/imports?strict", mixed).problem(t, http.StatusUnprocessableEntity)
		if len(got.Errors) != 2 || got.Errors[0].Location != "line 4, column Email" || got.Errors[0].Value != "email_invalid" || got.Errors[0].Message == "" {
			t.Errorf("%+v", got)
		}
		if b.count(t, "clients")+b.count(t, "imports") != 0 {
			t.Error("something was imported")
		}
	})
	t.Run("with invitations", func(t *testing.T) {
		b.empty(t)
		for _, want := range []provisioning.Invited{
			{Matched: 2, Queued: 2, Skipped: map[provisioning.SkipReason]int{}},
			{Matched: 2, Queued: 0, Skipped: map[provisioning.SkipReason]int{provisioning.SkipQueued: 2}},
		} {
			var im imported
			api.call(t, http.MethodPost, "/imports?invite", mixed).has(t, http.StatusCreated).into(t, &im)
			if im.Invited == nil {
				t.Fatal("it does not tell who was invited")
			}
			if diff := cmp.Diff(want, *im.Invited); diff != "" {
				t.Errorf("invited (-want +got):\n%s", diff)
			}
		}
		if n := b.count(t, "messages"); n != 2 {
			t.Errorf("%d mails", n)
		}
	})
	t.Run("with a mapping", func(t *testing.T) {
		b.empty(t)
		query := url.Values{"map": {"name=Wer", "owner_email=Wohin"}}
		api.call(t, http.MethodPost, "/imports", "Wer,Wohin\nDeli,dan@deli.example\n").problem(t, http.StatusUnprocessableEntity)
		var im imported
		api.call(t, http.MethodPost, "/imports?"+query.Encode(), "Wer,Wohin\nDeli,dan@deli.example\n").has(t, http.StatusCreated).into(t, &im)
		if im.Created != 1 {
			t.Errorf("%+v", im)
		}
	})
	t.Run("as a form", func(t *testing.T) {
		b.empty(t)
		form := func(parts ...[2]string) (body, kind string) {
			t.Helper()
			var text strings.Builder
			w := multipart.NewWriter(&text)
			for _, part := range parts {
				f, err := w.CreateFormFile(part[0], "folder/clients.csv")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Write([]byte(part[1])); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			return text.String(), w.FormDataContentType()
		}
		body, kind := form([2]string{"note", "x"}, [2]string{"file", mixed})
		var im imported
		api.call(t, http.MethodPost, "/imports", body, "Content-Type", kind).has(t, http.StatusCreated).into(t, &im)
		if im.FileName != "clients.csv" || im.Created != 2 {
			t.Errorf("%+v", im)
		}
		without, kind := form([2]string{"note", "x"})
		cut := body[:len(body)/2]
		for name, request := range map[string][2]string{
			"no part called file": {without, kind},
			"no boundary":         {body, "multipart/form-data"},
			"another boundary":    {body, "multipart/form-data; boundary=other"},
			"no body":             {"", kind},
		} {
			got := api.call(t, http.MethodPost, "/imports", request[0], "Content-Type", request[1]).problem(t, http.StatusBadRequest)
			if len(got.Errors)+len(got.Detail) == 0 {
				t.Errorf("%s: %+v", name, got)
			}
		}
		boundary := strings.TrimPrefix(strings.SplitN(body, "\r\n", 2)[0], "--")
		if answer := api.call(t, http.MethodPost, "/imports", cut, "Content-Type", "multipart/form-data; boundary="+boundary); answer.status < 400 {
			t.Errorf("an upload that breaks off is answered %d", answer.status)
		}
		if n := b.count(t, "imports"); n != 1 {
			t.Errorf("%d imports were kept", n)
		}
	})
}

// empty takes clients and imports away, for the next of several tests.
func (b *testBundle) empty(t *testing.T) {
	t.Helper()
	if _, err := b.db.Exec(t.Context(), `DELETE FROM clients; DELETE FROM imports`); err != nil {
		t.Fatal(err)
	}
}

// client is the contract's client.
type client struct {
	ID           uuid.UUID         `json:"id"`
	Ref          *string           `json:"ref"`
	Name         string            `json:"name"`
	OwnerName    string            `json:"owner_name"`
	OwnerEmail   string            `json:"owner_email"`
	AccountID    *string           `json:"account_id"`
	Username     string            `json:"username"`
	Route        string            `json:"route"`
	Stage        string            `json:"stage"`
	Reason       *string           `json:"reason"`
	Paused       bool              `json:"paused"`
	Tags         []string          `json:"tags"`
	Extra        map[string]string `json:"extra"`
	InvitedAt    *time.Time        `json:"invited_at"`
	AuthorizedAt *time.Time        `json:"authorized_at"`
	ProvenAt     *time.Time        `json:"proven_at"`
}

type clients struct {
	Clients    []client `json:"clients"`
	NextCursor *string  `json:"next_cursor"`
}

func TestAPIClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.browser(t).walk(t, b.link(t, "ACME/1"), "who@else.example", sandbox.Allow)
	api := b.caller(t, admin.ScopeRead)
	acme := b.client(t, "ACME/1")
	text := func(s string) *string { return &s }
	want := client{
		ID: acme.ID, Ref: text("ACME/1"), Name: "Acme Bakery", OwnerName: "Ada Moss", OwnerEmail: adaLogin, AccountID: text("acct-acme"),
		Username: "agency+acme-bakery@brightside.example", Route: "owner", Stage: "stalled", Reason: text("wrong_account"),
		Tags: []string{"food", "east"}, Extra: map[string]string{"Plan": "Gold"},
	}
	for _, key := range []string{acme.ID.String(), "ref:ACME%2F1"} {
		answer := api.call(t, http.MethodGet, "/clients/"+key, "").has(t, http.StatusOK)
		var got client
		answer.into(t, &got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
		var fields map[string]any
		answer.into(t, &fields)
		for _, name := range []string{"account_id", "authorized_at", "invited_at", "proven_at", "extra", "tags", "paused"} {
			if _, ok := fields[name]; !ok {
				t.Errorf("the field %s is missing", name)
			}
		}
	}
	var bare map[string]any
	api.call(t, http.MethodGet, "/clients/ref:CAFE", "").has(t, http.StatusOK).into(t, &bare)
	if bare["account_id"] != nil || bare["reason"] != nil || fmt.Sprint(bare["tags"]) != "[]" || fmt.Sprint(bare["extra"]) != "map[]" {
		t.Errorf("what is not known is %v", bare)
	}
}

// TestAPIPlan asks a dry run for what would change, and for less of it.
func TestAPIPlan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "ref,name,owner_email\nA,Acme,ann@a.example\n")
	api := b.caller(t, admin.ScopeWrite)
	const next = "ref,name,owner_email\nA,Acme,new@a.example\nB,Bell,bob@b.example\nC,,cy@c.example\n"
	type planned struct {
		Line     int                              `json:"line"`
		Verdict  string                           `json:"verdict"`
		Username string                           `json:"username"`
		Changes  map[string]provisioning.Revision `json:"changes"`
		Code     string                           `json:"code"`
	}
	all := []planned{
		{
			Line: 2, Verdict: "updated", Username: "agency+acme@brightside.example",
			Changes: map[string]provisioning.Revision{"owner_email": {From: "ann@a.example", To: "new@a.example"}},
		},
		{Line: 3, Verdict: "created", Username: "agency+bell@brightside.example"},
		{Line: 4, Verdict: "rejected", Code: "name_missing"},
	}
	for query, want := range map[string][]planned{"dry_run": all, "dry_run&plan=2": all[:2]} {
		var got struct {
			Plan []planned `json:"plan"`
		}
		api.call(t, http.MethodPost, "/imports?"+query, next).has(t, http.StatusOK).into(t, &got)
		if diff := cmp.Diff(want, got.Plan); diff != "" {
			t.Errorf("%s (-want +got)\n%s", query, diff)
		}
	}
}

// TestAPIUsername reports a username as taken, once more, and for the wrong client.
func TestAPIUsername(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "ref,name,owner_email\nA,Acme,ann@a.example\nB,Bell,bob@b.example\n")
	api := b.caller(t, admin.ScopeWrite)
	for range 2 {
		var got client
		api.call(t, http.MethodPost, "/clients/ref:A/username", `{"taken": "agency+acme@brightside.example"}`).has(t, http.StatusOK).into(t, &got)
		if got.Username != "agency+acme-2@brightside.example" {
			t.Errorf("the next username is %q", got.Username)
		}
	}
	api.call(t, http.MethodPost, "/clients/ref:B/username", `{"taken": "agency+acme-2@brightside.example"}`).problem(t, http.StatusNotFound)
}

func TestAPIClients(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	b.browser(t).post(t, b.link(t, "ACME/1")+"/decline", nil).has(t, http.StatusOK)
	api := b.caller(t, admin.ScopeRead)
	list := func(query string) clients {
		t.Helper()
		var page clients
		api.call(t, http.MethodGet, "/clients?"+query, "").has(t, http.StatusOK).into(t, &page)
		return page
	}
	names := func(page clients) []string {
		all := []string{}
		for _, c := range page.Clients {
			all = append(all, c.Name)
		}
		return all
	}
	for query, want := range map[string][]string{
		"":                              {"Acme Bakery", "Bloom Florist", "Café Lumière"},
		"stage=imported":                {"Bloom Florist", "Café Lumière"},
		"stage=stalled":                 {"Acme Bakery"},
		"reason=declined":               {"Acme Bakery"},
		"reason=bounced":                {},
		"stage=imported&reason=bounced": {},
		"route=owner&tag=food":          {"Acme Bakery", "Bloom Florist"},
		"route=manager":                 {},
		"tag=east":                      {"Acme Bakery"},
		"tag=eas":                       {},
		"q=bloom":                       {"Bloom Florist"},
		"q=florist+blo":                 {"Bloom Florist"},
		"q=acct-acme":                   {"Acme Bakery"},
		"q=agency%2Bacme":               {"Acme Bakery"},
		"q=" + url.QueryEscape("LUMIÈ"): {"Café Lumière"},
		"q=made-up":                     {},
	} {
		page := list(query)
		if diff := cmp.Diff(want, names(page)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", query, diff)
		}
		if page.NextCursor != nil {
			t.Errorf("%q: there is a cursor behind the last page", query)
		}
	}

	// Over the pages everybody comes once, also those who come in meanwhile.
	var all []string
	query := "limit=1"
	for {
		page := list(query)
		all = append(all, names(page)...)
		if len(all) == 2 {
			b.imports(t, "ref,name,owner_email\nDELI,Corner Deli,dan@deli.example\n")
		}
		if page.NextCursor == nil {
			break
		}
		query = "limit=1&cursor=" + url.QueryEscape(*page.NextCursor)
	}
	if diff := cmp.Diff([]string{"Acme Bakery", "Bloom Florist", "Café Lumière", "Corner Deli"}, all); diff != "" {
		t.Errorf("page by page (-want +got):\n%s", diff)
	}
}

func TestAPIEventsAndLink(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	link := b.link(t, "CAFE")
	owner := b.browser(t)
	owner.post(t, link+"/begin", nil)
	owner.post(t, link+"/decline", nil)
	api := b.caller(t, admin.ScopeRead)
	type event struct {
		ID            int64
		At            time.Time
		Kind, Actor   string
		Stage, Reason *string
		Detail        map[string]any
	}
	type events struct {
		Events     []event
		NextCursor *int64 `json:"next_cursor"`
	}
	var all []string
	for query := "?limit=2"; query != ""; {
		var page events
		api.call(t, http.MethodGet, "/clients/ref:CAFE/events"+query, "").has(t, http.StatusOK).into(t, &page)
		for _, e := range page.Events {
			line := e.Kind + " by " + e.Actor
			if e.Stage != nil {
				line += " → " + *e.Stage
			}
			if e.Reason != nil {
				line += "/" + *e.Reason
			}
			all = append(all, line)
			if e.Detail == nil || time.Since(e.At).Abs() > time.Hour {
				t.Errorf("event %+v", e)
			}
		}
		query = ""
		if page.NextCursor != nil {
			query = "?limit=2&cursor=" + strconv.FormatInt(*page.NextCursor, 10)
		}
	}
	want := []string{"declined by owner → stalled/declined", "started by owner → started", "link_issued by command line", "imported by command line → imported"}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}

	api = b.caller(t, admin.ScopeLinks)
	var handed struct {
		URL       string    `json:"url"`
		ExpiresAt time.Time `json:"expires_at"`
	}
	api.call(t, http.MethodPost, "/clients/ref:CAFE/link", "").has(t, http.StatusCreated).into(t, &handed)
	if days := time.Until(handed.ExpiresAt).Hours() / 24; days < 29 || days > 30 {
		t.Errorf("it lives %f days", days)
	}
	b.browser(t).get(t, handed.URL).has(t, http.StatusOK).says(t, "Connect Café Lumière to "+agency)
	if n := b.count(t, "messages"); n != 0 {
		t.Error("it was mailed, too")
	}
}

func TestAPIInvitations(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile+"DELI,Corner Deli,,dan@deli.example,,,\nYOGA,Yoga Studio,,eve@yoga.example,,,\n")
	b.browser(t).post(t, b.link(t, "BLOOM")+"/decline", nil)
	b.browser(t).walk(t, b.link(t, "ACME/1"), adaLogin, sandbox.Allow)
	if _, err := b.db.Exec(t.Context(), `UPDATE clients SET paused = true WHERE ref = 'DELI'; UPDATE clients SET route = 'partner' WHERE ref = 'YOGA'`); err != nil {
		t.Fatal(err)
	}
	api := b.caller(t, admin.ScopeWrite)
	skipped := func(reasons ...string) map[string]int {
		counts := map[string]int{}
		for _, r := range reasons {
			counts[r]++
		}
		return counts
	}
	tests := []struct {
		query, body     string
		matched, queued int
		skipped         map[string]int
		mails           int // in all
	}{
		{"?dry_run", `{}`, 3, 1, skipped("paused", "other_route"), 0},
		{"", `{"dry_run":true}`, 3, 1, skipped("paused", "other_route"), 0},
		{"", `{"dry_run":true,"all":true}`, 5, 1, skipped("paused", "other_route", "declined", "authorized"), 0},
		{"?dry_run=1", `{"stage":"stalled"}`, 1, 0, skipped("declined"), 0},
		{"", `{"tag":"food"}`, 2, 0, skipped("declined", "authorized"), 0},
		{"?dry_run=false", `{}`, 3, 1, skipped("paused", "other_route"), 1},
		{"", `{"all":true}`, 5, 0, skipped("paused", "other_route", "declined", "authorized", "queued"), 1},
		{"", `{"clients":["ref:BLOOM","CAFE"]}`, 2, 1, skipped("queued"), 2}, // named one by one: a knowing decision
	}
	for _, test := range tests {
		var got struct {
			Matched, Queued int
			Skipped         map[string]int
		}
		api.call(t, http.MethodPost, "/invitations"+test.query, test.body).has(t, http.StatusAccepted).into(t, &got)
		if diff := cmp.Diff(test.skipped, got.Skipped); got.Matched != test.matched || got.Queued != test.queued || diff != "" {
			t.Errorf("%s %s: matched %d, queued %d, skipped (-want +got):\n%s", test.query, test.body, got.Matched, got.Queued, diff)
		}
		if n := b.count(t, "messages WHERE kind = 'invitation'"); n != test.mails {
			t.Errorf("%s %s: %d mails, want %d", test.query, test.body, n, test.mails)
		}
	}
}

// The shape is the contract's to the letter: scripts read it.
func TestAPIProgress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	api := b.caller(t, admin.ScopeRead)
	read := func() (got map[string]any) {
		t.Helper()
		api.call(t, http.MethodGet, "/progress", "").has(t, http.StatusOK).into(t, &got)
		return got
	}
	empty := read()
	names := []string{"authorized_ratio", "eta", "invited_ever", "paused", "per_day", "reasons", "routes", "stages", "total"}
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(empty))); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if empty["total"] != 0.0 || empty["eta"] != nil || empty["authorized_ratio"] != 0.0 {
		t.Errorf("of nobody: %v", empty)
	}

	b.imports(t, rosterFile)
	b.browser(t).walk(t, b.link(t, "ACME/1"), adaLogin, sandbox.Allow)
	b.browser(t).post(t, b.link(t, "BLOOM")+"/decline", nil)
	got := read()
	perDay, ok := got["per_day"].([]any)
	if !ok || len(perDay) == 0 {
		t.Fatalf("per_day is %v", got["per_day"])
	}
	today := perDay[len(perDay)-1]
	if diff := cmp.Diff(map[string]any{"day": time.Now().UTC().Format(time.DateOnly), "authorized": 1.0, "invited": 0.0}, today); diff != "" {
		t.Errorf("today (-want +got):\n%s", diff)
	}
	if eta, err := time.Parse(time.RFC3339, fmt.Sprint(got["eta"])); err != nil || time.Until(eta).Abs() > 100*24*time.Hour {
		t.Errorf("eta %v", got["eta"])
	}
	delete(got, "per_day")
	delete(got, "eta")
	stages := map[string]any{"imported": 1.0, "invited": 0.0, "started": 0.0, "authorized": 1.0, "lapsed": 0.0, "stalled": 1.0}
	want := map[string]any{
		"total":  3.0,
		"stages": stages,
		"routes": map[string]any{"owner": map[string]any{"total": 3.0, "stages": stages}},
		"reasons": map[string]any{
			"bounced": 0.0, "declined": 1.0, "wrong_account": 0.0, "missing_scope": 0.0, "unsubscribed": 0.0, "expired": 0.0, "conflict": 0.0,
			"no_activation": 0.0, "username_taken": 0.0, "user_limit": 0.0, "unmanaged": 0.0, "no_account": 0.0,
		},
		"paused": 0.0, "invited_ever": 0.0, "authorized_ratio": 1.0 / 3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}

func TestAPIExport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile+"EVIL,=cmd(),,eve@evil.example,,,+1\n")
	b.browser(t).walk(t, b.link(t, "ACME/1"), adaLogin, sandbox.Allow)
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	export := func(query string) (page, [][]string) {
		t.Helper()
		file := api.call(t, http.MethodGet, "/export.csv"+query, "").has(t, http.StatusOK)
		rows, err := csv.NewReader(strings.NewReader(file.body)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		return file, rows
	}
	file, rows := export("")
	if file.header.Get("Content-Type") != "text/csv; charset=utf-8" || file.header.Get("Content-Disposition") != `attachment; filename="roster.csv"` {
		t.Errorf("it comes as %v", file.header)
	}
	if len(rows) != 5 || !slices.Contains(rows[0], "username") || !slices.Contains(rows[0], "Plan") {
		t.Errorf("%d rows with the columns %q", len(rows), rows[0])
	}
	for _, row := range rows[1:] {
		for _, cell := range row {
			if strings.HasPrefix(cell, "=") || strings.HasPrefix(cell, "+") {
				t.Errorf("a spreadsheet would run %q", cell)
			}
		}
	}
	if _, rows := export("?stage=authorized"); len(rows) != 2 || !slices.Contains(rows[1], "Acme Bakery") {
		t.Errorf("those who are authorized: %q", rows)
	}
	var again imported
	api.call(t, http.MethodPost, "/imports?strict", file.body).has(t, http.StatusCreated).into(t, &again)
	if again.Unchanged != 4 {
		t.Errorf("imported again: %+v", again)
	}
}
