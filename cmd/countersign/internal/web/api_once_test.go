package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/authflow/admin"
)

func TestAPIIdempotencyKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite, admin.ScopeLinks)
	replayed := func(p page) bool { return p.header.Get("Idempotency-Replayed") == "true" }
	importing := func(key, file string) page {
		return api.call(t, http.MethodPost, "/imports?strict", file, "Content-Type", "text/csv", "Idempotency-Key", key)
	}
	first := importing(`"k1"`, rosterFile).has(t, http.StatusCreated)
	again := importing(`k1`, rosterFile).has(t, http.StatusCreated)
	if replayed(first) || !replayed(again) || again.body != first.body || again.header.Get("Content-Type") != first.header.Get("Content-Type") {
		t.Errorf("%s and then %s %v", first.body, again.body, again.header)
	}
	if got := importing("k1", rosterFile+"\n").problem(t, http.StatusUnprocessableEntity); got.Type != "urn:countersign:idempotency-key-reused" {
		t.Errorf("another file: %+v", got)
	}
	if n := b.count(t, "imports"); n != 1 {
		t.Errorf("%d imports", n)
	}

	// What is refused may be corrected.
	wrong := "ref,name,owner_email\nX,,ann@x.example\n"
	if got := importing("k2", wrong).problem(t, http.StatusUnprocessableEntity); got.Type != "urn:countersign:rows-rejected" {
		t.Errorf("%+v", got)
	}
	importing("k2", "ref,name,owner_email\nX,Xylo,ann@x.example\n").has(t, http.StatusCreated)

	// The same key at another address is another request; an answer is no longer than its key is known.
	link := api.call(t, http.MethodPost, "/clients/ref:CAFE/link", "", "Idempotency-Key", "k1").has(t, http.StatusCreated)
	if same := api.call(t, http.MethodPost, "/clients/ref:CAFE/link", "", "Idempotency-Key", "k1"); same.body != link.body || !replayed(same) {
		t.Errorf("%s and then %s", link.body, same.body)
	}
	var kept int
	err := b.db.QueryRow(t.Context(), `SELECT count(*) FROM requests WHERE position('/i/' IN encode(answer, 'escape')) > 0`).Scan(&kept)
	if err != nil || kept != 0 {
		t.Errorf("%d links can be read in the database, %v", kept, err)
	}
	for _, key := range []string{`""`, "a b", strings.Repeat("x", 256)} {
		api.call(t, http.MethodPost, "/invitations", `{}`, "Idempotency-Key", key).problem(t, http.StatusBadRequest)
	}

	// Of many at once one is carried out.
	before := b.count(t, "messages")
	answers := make([]page, 8)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			answers[i] = api.call(t, http.MethodPost, "/invitations", `{"clients": ["CAFE"]}`, "Idempotency-Key", "at-once")
		})
	}
	all.Wait()
	for _, p := range answers {
		if p.status != http.StatusAccepted && p.status != http.StatusConflict {
			t.Errorf("%d: %s", p.status, p.body)
		}
	}
	if n := b.count(t, "messages") - before; n != 1 {
		t.Errorf("%d mails are queued", n)
	}
	api.call(t, http.MethodPost, "/invitations", `{"clients": ["CAFE"]}`, "Idempotency-Key", "at-once").has(t, http.StatusAccepted)

	// A process died before it could tell: nobody does it again.
	if _, err := b.db.Exec(t.Context(), `UPDATE requests SET fingerprint = NULL, answer = NULL, leased_until = '-infinity' WHERE key = 'at-once'`); err != nil {
		t.Fatal(err)
	}
	lost := api.call(t, http.MethodPost, "/invitations", `{"clients": ["CAFE"]}`, "Idempotency-Key", "at-once").problem(t, http.StatusConflict)
	if lost.Type != "urn:countersign:answer-lost" || b.count(t, "messages")-before != 1 {
		t.Errorf("%+v", lost)
	}
}

func TestAPIRateLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begin := time.Now()
	b.Now = func() time.Time { return begin.Add(time.Duration(b.clock.ahead.Load())) }
	api, other := b.caller(t, admin.ScopeRead), b.caller(t, admin.ScopeRead)
	handler, err := b.Handler() // with the clock that stands still
	if err != nil {
		t.Fatal(err)
	}
	b.server.Config.Handler = handler
	for left := 499; left >= 0; left-- {
		p := api.call(t, http.MethodGet, "/imports?limit=1", "").has(t, http.StatusOK)
		if got, want := p.header.Get("RateLimit"), fmt.Sprintf(`"key";r=%d;`, left); !strings.HasPrefix(got, want) || p.header.Get("RateLimit-Policy") != `"key";q=500;w=10` {
			t.Fatalf("%s %s, want %s", got, p.header.Get("RateLimit-Policy"), want)
		}
	}
	refused := api.call(t, http.MethodGet, "/imports?limit=1", "")
	if got := refused.problem(t, http.StatusTooManyRequests); got.Type != "urn:countersign:too-many-requests" || refused.header.Get("Retry-After") != "1" {
		t.Errorf("%+v after %s", got, refused.header.Get("Retry-After"))
	}
	other.call(t, http.MethodGet, "/imports?limit=1", "").has(t, http.StatusOK)
	b.clock.advance(time.Second)
	api.call(t, http.MethodGet, "/imports?limit=1", "").has(t, http.StatusOK)

	other.key = "csk_made-up"
	for range 100 {
		other.call(t, http.MethodGet, "/progress", "").problem(t, http.StatusUnauthorized)
	}
	guessed := other.call(t, http.MethodGet, "/progress", "")
	if guessed.problem(t, http.StatusTooManyRequests); guessed.header.Get("Retry-After") == "" {
		t.Error("who guesses keys is not told when to go on")
	}
	api.call(t, http.MethodGet, "/imports?limit=1", "").has(t, http.StatusOK)
}

// Every error has a type that the document names, whoever finds it.
func TestAPIErrorsHaveTypes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	api := b.caller(t, admin.ScopeRead, admin.ScopeWrite)
	document := b.browser(t).get(t, "/api/v1/openapi.json").body
	for _, test := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{http.MethodGet, "/nowhere", "", http.StatusNotFound, "not-found"},
		{http.MethodDelete, "/progress", "", http.StatusMethodNotAllowed, "method-not-allowed"},
		{http.MethodGet, "/clients/ref:nobody", "", http.StatusNotFound, "not-found"},
		{http.MethodGet, "/clients?cursor=x", "", http.StatusBadRequest, "cursor-invalid"},
		{http.MethodGet, "/clients?made_up", "", http.StatusUnprocessableEntity, "invalid"},
		{http.MethodPost, "/invitations", "{", http.StatusBadRequest, "bad-request"},
		{http.MethodPost, "/invitations", `{"made": "up"}`, http.StatusUnprocessableEntity, "invalid"},
		{http.MethodPost, "/imports", "no roster", http.StatusUnprocessableEntity, "invalid"},
		{http.MethodPost, "/clients/ref:nobody/link", "", http.StatusForbidden, "scope-missing"},
	} {
		got := api.call(t, test.method, test.path, test.body).problem(t, test.status)
		if got.Type != "urn:countersign:"+test.code || !strings.Contains(document, `"`+got.Type+`"`) {
			t.Errorf("%s %s %s: %+v", test.method, test.path, test.body, got)
		}
	}
	media := api.call(t, http.MethodPost, "/invitations", "x", "Content-Type", "image/png").problem(t, http.StatusUnsupportedMediaType)
	if media.Type != "urn:countersign:media-type-unsupported" {
		t.Errorf("%+v", media)
	}
	reference := b.browser(t).get(t, "/api/v1").has(t, http.StatusOK)
	for _, text := range []string{"idempotency-key-reused", "/clients/{id}", "If-Match", "curl -X PATCH"} {
		if !strings.Contains(reference.body, text) {
			t.Errorf("the reference says nothing of %s", text)
		}
	}
}
