package web_test

import (
	"bufio"
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

func TestProgressPage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	empty := operator.get(t, "/admin").has(t, http.StatusOK)
	empty.says(t, "Import your roster", "owner_email", "First steps", "Done: Set up a mail server")
	if !slices.Contains(posts(empty.doc(t)), "/admin/imports") {
		t.Error("no file can be dropped on the page")
	}
	b.imports(t, rosterFile)
	b.browser(t).walk(t, b.link(t, "ACME/1"), adaLogin, sandbox.Allow)
	b.browser(t).walk(t, b.link(t, "BLOOM"), "who@else.example", sandbox.Allow)
	page := operator.get(t, "/admin").has(t, http.StatusOK)
	if got := page.heading(t); got != "1 of 3 connected" {
		t.Errorf("heading %q", got)
	}
	page.says(t, "33 %", "Wrong account", "Signed in to another account than expected Bloom Florist Owner", "Connected Acme Bakery", "Not invited yet",
		"of 1,000 at the provider", "0 sent today")
	fragment := operator.get(t, "/admin/progress").has(t, http.StatusOK)
	if len(find(fragment.doc(t), tag("header"))) != 0 || !strings.Contains(page.body, strings.TrimSpace(fragment.body)) {
		t.Error("the part that renews itself is not the one of the page")
	}
}

// statements counts what is asked of the database.
type statements struct{ n atomic.Int64 }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	s.n.Add(1)
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// counted gives the rooms that the progress page reads from a pool that counts.
func (b *testBundle) counted(t *testing.T) *statements {
	t.Helper()
	s := &statements{}
	config := b.db.Config()
	config.ConnConfig.Tracer = s
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	b.Store.DB, b.Admin.DB, b.Mailer.DB = pool, pool, pool
	return s
}

// stream is an open tab.
type stream struct {
	response *http.Response
	lines    *bufio.Reader
	leave    context.CancelFunc
}

func (b *browser) streams(t *testing.T, header ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+"/admin/progress/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := b.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return &stream{response, bufio.NewReader(response.Body), cancel}
}

// next returns the name, the id and the data of the next event, and nothing at the end. Heartbeats are none.
func (s *stream) next() (event, id, data string) {
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil || line == "\n" && event != "" {
			return event, id, data
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			event = value
		case "id":
			id = value
		case "data":
			data += value + "\n"
		}
	}
}

// shows waits for a state that has the words in it.
func (s *stream) shows(t *testing.T, words string) (id string) {
	t.Helper()
	for {
		event, id, data := s.next()
		switch {
		case event == "":
			t.Fatalf("the stream ends, and never showed %q", words)
		case strings.Contains(data, words):
			return id
		}
	}
}

// Fifty tabs show what happens, and cost what one does: a statement a second, and one more every ten.
func TestProgressStreams(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, rosterFile)
	op := b.operator(t)
	count := b.counted(t)
	olga, err := b.Admin.Operators(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var tabs []*stream
	for range 50 {
		link, err := b.Admin.SignInLink(t.Context(), olga[0].Email, provisioning.ActorCLI)
		if err != nil {
			t.Fatal(err)
		}
		browser := b.browser(t)
		browser.post(t, "/admin/enter/"+link.Reveal(), nil).leads(t)
		tab := browser.streams(t)
		if got := tab.response.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Fatalf("content type %q of %s", got, tab.response.Status)
		}
		tab.shows(t, "connected")
		tabs = append(tabs, tab)
	}
	began, before := time.Now(), count.n.Load()
	b.browser(t).walk(t, b.link(t, "ACME/1"), adaLogin, sandbox.Allow)
	for _, tab := range tabs {
		tab.shows(t, `<span class="figure">1</span> of 3 connected`)
	}
	asked, seconds := count.n.Load()-before, int64(time.Since(began)/time.Second)+1
	// A page takes a handful of statements, and the walk writes at every second of it.
	if most := 25 + 10*seconds; asked > most {
		t.Errorf("fifty tabs asked %d times within %d s, want at most %d", asked, seconds, most)
	}

	// Who comes again is shown what there is, once.
	id := op.streams(t).shows(t, "of 3 connected")
	again := op.streams(t, "Last-Event-ID", id)
	b.browser(t).walk(t, b.link(t, "BLOOM"), benLogin, sandbox.Allow)
	if event, got, data := again.next(); event != "state" || got == id || !strings.Contains(data, "of 3 connected") {
		t.Errorf("who shows %s already gets %s %s", id, event, got)
	}
}

func TestProgressStreamEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	op, other := b.operator(t), b.browser(t)
	for name, header := range map[string][]string{"a person": {"Accept", "text/html"}, "nobody": nil} {
		browser := op
		if name == "nobody" {
			browser = b.browser(t)
		}
		if page := browser.do(t, http.MethodGet, "/admin/progress/events", nil, header...); page.status != http.StatusSeeOther {
			t.Errorf("%s is answered %d", name, page.status)
		}
	}

	// The session ends by its own button, at once, and by whatever else, soon.
	link, err := b.Admin.SignInLink(t.Context(), operatorEmail, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	other.post(t, "/admin/enter/"+link.Reveal(), nil).leads(t)
	out, stays := op.streams(t), other.streams(t)
	out.shows(t, "Import your roster")
	stays.shows(t, "Import your roster")
	op.post(t, "/admin/sign-out", nil).leads(t)
	if event, _, _ := out.next(); event != "ended" {
		t.Errorf("signing out is told as %q", event)
	}
	if event, _, _ := op.streams(t).next(); event != "ended" {
		t.Errorf("who comes again signed out is told %q", event)
	}
	b.imports(t, rosterFile)
	stays.shows(t, "of 3 connected")

	// The end of the program ends what would go on for ever.
	b.EndStreams()
	for event := "state"; event != ""; event, _, _ = stays.next() {
		if event == "ended" {
			t.Error("the session is said to have ended")
		}
	}
	if again := other.streams(t); again.response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after the end a stream is answered %s", again.response.Status)
	}
}

func TestEndedSessions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.operator(t)
	link, err := b.Admin.SignInLink(t.Context(), operatorEmail, provisioning.ActorCLI)
	if err != nil {
		t.Fatal(err)
	}
	visitor := b.browser(t)
	token := provisioning.Secret(visitor.post(t, "/admin/enter/"+link.Reveal(), nil).cookie(t).Value)
	ended := func() []provisioning.Secret {
		t.Helper()
		ended, err := b.Admin.Ended(t.Context(), []provisioning.Secret{token, "made-up"})
		if err != nil {
			t.Fatal(err)
		}
		return ended
	}
	if got := ended(); !slices.Equal(got, []provisioning.Secret{"made-up"}) {
		t.Errorf("%d have ended, want the one that never was", len(got))
	}
	b.Admin.Now = func() time.Time { return time.Now().Add(13 * time.Hour) }
	if got := ended(); len(got) != 2 {
		t.Error("a night later the session goes on: to ask for it is no use of it")
	}
	if _, err := b.Admin.Session(t.Context(), token); err == nil {
		t.Error("it lets somebody in")
	}
}
