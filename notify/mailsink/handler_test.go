package mailsink_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/notify/mailsink"
)

// site is a Sink with its handler.
type site struct {
	running
	handler http.Handler
}

func startSite(t *testing.T) site {
	t.Helper()
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	sink := start(t, mailsink.Options{Now: func() time.Time { return noon }})
	return site{running: sink, handler: sink.Handler()}
}

func (s site) do(method, url string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, http.NoBody)
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// page gets a page and parses it.
func (s site) page(t *testing.T, url string) *html.Node {
	t.Helper()
	w := s.do("GET", url)
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s = %d %s", url, w.Code, w.Body)
	}
	doc, err := html.Parse(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// all returns the elements of one kind.
func all(doc *html.Node, a atom.Atom) (found []*html.Node) {
	for n := range doc.Descendants() {
		if n.DataAtom == a {
			found = append(found, n)
		}
	}
	return found
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func text(doc *html.Node) string {
	var words []string
	for n := range doc.Descendants() {
		if n.Type == html.TextNode {
			words = append(words, strings.Fields(n.Data)...)
		}
	}
	return strings.Join(words, " ")
}

// mailLinks are the links of the list to messages.
func mailLinks(doc *html.Node) (found []string) {
	for _, a := range all(doc, atom.A) {
		if strings.HasPrefix(attr(a, "href"), "messages/") {
			found = append(found, attr(a, "href"))
		}
	}
	return found
}

func TestListPage(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	s.dialogue(t) // now it serves for certain
	if got := text(s.page(t, "/")); !strings.Contains(got, "No mail yet Send something to smtp://"+s.addr) {
		t.Errorf("empty page says %q", got)
	}
	for n := range 52 {
		content := fmt.Sprintf("Subject: <b>Mail</b> %d\n\nx\n", n+1)
		if err := s.send("a@example.com", fmt.Sprintf("owner%d@example.com", n+1), content); err != nil {
			t.Fatal(err)
		}
	}
	newest := s.page(t, "/")
	if links := mailLinks(newest); len(links) != 50 || links[0] != "messages/52" || links[49] != "messages/3" {
		t.Errorf("first page links %v", links)
	}
	if !strings.Contains(text(newest), "owner52@example.com 12:00:00 <b>Mail</b> 52") {
		t.Errorf("first page says %q", text(newest))
	}
	more := slices.IndexFunc(all(newest, atom.A), func(a *html.Node) bool { return text(a) == "Older messages" })
	older := s.page(t, "/"+attr(all(newest, atom.A)[more], "href"))
	if diff := cmp.Diff([]string{"messages/2", "messages/1"}, mailLinks(older)); diff != "" {
		t.Errorf("older page (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"messages/7"}, mailLinks(s.page(t, "/?q=OWNER7@"))); diff != "" {
		t.Errorf("search (-want +got):\n%s", diff)
	}
	nothing := s.page(t, "/?q=%3Cscript%3E")
	if got := text(nothing); !strings.Contains(got, "Nothing matches “<script>”") {
		t.Errorf("fruitless search says %q", got)
	}
	if value := attr(all(nothing, atom.Input)[0], "value"); value != "<script>" {
		t.Errorf("search box holds %q", value)
	}
}

func TestListIsSentOnceAVersion(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	version := s.do("GET", "/").Header().Get("ETag")
	if w := s.do("GET", "/", "If-None-Match", version); w.Code != http.StatusNotModified {
		t.Errorf("unchanged list = %d, want 304", w.Code)
	}
	if err := s.send("a@example.com", "b@example.com", "Subject: x\n\nx\n"); err != nil {
		t.Fatal(err)
	}
	if w := s.do("GET", "/", "If-None-Match", version); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "messages/1") {
		t.Errorf("changed list = %d", w.Code)
	}
}

func TestMessagePage(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	if err := s.send("bounce@agency.example", "owner@acme.example", invitation); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"text":     "Grüße. Open https://app.example/i/abc?x=1 . Or ( https://help.example/a ).",
		"headers":  "From Büro Nord <office@agency.example>",
		"envelope": "MAIL FROM bounce@agency.example RCPT TO owner@acme.example EHLO localhost",
		"source":   "Gr=C3=BC=C3=9Fe.",
	}
	for view, want := range tests {
		if got := text(s.page(t, "/messages/1?view="+view)); !strings.Contains(got, want) {
			t.Errorf("view %s lacks %q:\n%s", view, want, got)
		}
	}
	page := s.page(t, "/messages/1")
	frames := all(page, atom.Iframe)
	if len(frames) != 1 || attr(frames[0], "src") != "1/html" ||
		attr(frames[0], "sandbox") != "allow-popups allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation" {
		t.Errorf("HTML view has frames %v", frames)
	}
	for _, want := range []string{"Connect Acme – one minute", "roster.csv text/csv, 3 bytes", "Monday 23 November 2026, 12:00:00"} {
		if !strings.Contains(text(page), want) {
			t.Errorf("page lacks %q", want)
		}
	}
	if got := s.do("GET", "/messages/1/raw").Body.String(); got != strings.ReplaceAll(invitation, "\n", "\r\n") {
		t.Errorf("raw message was changed:\n%s", got)
	}
}

func TestLinksOfMailOpenInNewTabs(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	const markup = `<!DOCTYPE html><BODY STYLE="color:red"><A HREF="https://a.example/?x=1&amp;y=2" target=_top>a</A>` +
		`<a href='https://b.example/"' rel=opener><img src=x></a><map><area href="/c"/></map><!-- <a href=d> --><p>1 < 2`
	if err := s.send("a@example.com", "b@example.com", "Content-Type: text/html\n\n"+markup+"\n"); err != nil {
		t.Fatal(err)
	}
	w := s.do("GET", "/messages/1/html")
	const inNewTab = ` target="_blank" rel="noopener noreferrer" href=`
	want := `<!DOCTYPE html><BODY STYLE="color:red"><a` + inNewTab + `"https://a.example/?x=1&amp;y=2">a</A>` +
		`<a` + inNewTab + `"https://b.example/&#34;"><img src=x></a><map><area` + inNewTab + `"/c"/></map><!-- <a href=d> --><p>1 < 2`
	if diff := cmp.Diff(want, strings.TrimSpace(w.Body.String())); diff != "" {
		t.Errorf("HTML part (-want +got):\n%s", diff)
	}
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "style-src 'unsafe-inline'", "frame-ancestors 'self'", "sandbox allow-popups"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "script") {
		t.Errorf("policy %q lets scripts run", policy)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	if got := s.do("GET", "/messages").Body.String(); got != "[]\n" {
		t.Errorf("no messages = %q, want an empty array", got)
	}
	if err := s.send("a@example.com", "agency+acme@agency.example", "Subject: Hi\nMessage-ID: <1@x>\n\nSee https://x.example/i/1.\n"); err != nil {
		t.Fatal(err)
	}
	if err := s.send("a@example.com", "other@example.com", "Subject: Other\n\nx\n"); err != nil {
		t.Fatal(err)
	}
	want := []any{map[string]any{
		"id": 1.0, "envelope_from": "a@example.com", "envelope_to": []any{"agency+acme@agency.example"}, "subject": "Hi",
		"message_id": "1@x", "received_at": "2026-11-23T12:00:00Z", "text": "See https://x.example/i/1.\r\n",
		"links": []any{"https://x.example/i/1"},
	}}
	// A + that nobody escaped arrives as a space.
	for _, to := range []string{"agency%2Bacme@agency.example", "agency+acme@agency.example"} {
		var got []any
		if err := json.Unmarshal(s.do("GET", "/messages?to="+to).Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("to=%s (-want +got):\n%s", to, diff)
		}
	}
	if got := s.do("GET", "/messages?limit=1").Body.String(); !strings.Contains(got, `"Other"`) || strings.Contains(got, `"Hi"`) {
		t.Errorf("limit=1 = %s, want the newest", got)
	}
	if got := s.do("GET", "/stats").Body.String(); got != `{"connections":2,"accepted":2,"refused":0,"repeats":0}`+"\n" {
		t.Errorf("stats = %s", got)
	}
	if w := s.do("DELETE", "/messages"); w.Code != http.StatusNoContent || s.Count() != 0 {
		t.Errorf("DELETE = %d, %d messages left", w.Code, s.Count())
	}
}

func TestStatusAndHeaders(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	tests := map[string]int{
		"/": 200, "/sink.css": 200, "/sink.js": 200, "/messages": 200, "/messages/1": 404, "/messages/1/html": 404,
		"/messages/1/raw": 404, "/messages/x": 404, "/head.html": 404, "/?before=x": 400, "/messages?limit=0": 400, "/messages?before=-1": 400,
	}
	for url, want := range tests {
		w := s.do("GET", url)
		if w.Code != want {
			t.Errorf("GET %s = %d, want %d", url, w.Code, want)
		}
		for header, want := range map[string]string{
			"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
		} {
			if got := w.Header().Get(header); got != want {
				t.Errorf("GET %s: %s = %q, want %q", url, header, got, want)
			}
		}
		if policy := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") {
			t.Errorf("GET %s: policy %q", url, policy)
		}
	}
}

// Whatever comes in over SMTP is kept byte for byte and every page of it can be shown.
func TestAnythingCanBeShown(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.OneOf(
			rapid.SampledFrom([]string{
				"", "--b", "--b--", "Content-Type: multipart/mixed; boundary=b", "Content-Type: text/html", "<a href=",
				"Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: quoted-printable", "=", "Subject: =?utf-8?b?!?=",
				" folded", ".", "..", "https://",
			}),
			rapid.StringMatching(`[ -~]{0,40}`),
			rapid.Map(rapid.SliceOfN(rapid.ByteRange(0x80, 0xff), 0, 20), func(b []byte) string { return string(b) }),
		)
		content := strings.Join(rapid.SliceOfN(line, 1, 20).Draw(t, "lines"), "\n") + "\n"
		if err := s.send("a@example.com", "b@example.com", content); err != nil {
			t.Fatal(err)
		}
		m := s.Messages(mailsink.Filter{Limit: 1})[0]
		if diff := cmp.Diff(strings.ReplaceAll(content, "\n", "\r\n"), string(m.Raw)); diff != "" {
			t.Fatalf("raw (-want +got):\n%s", diff)
		}
		for _, rest := range []string{"?view=html", "?view=text", "?view=headers", "?view=envelope", "?view=source", "/html", "/raw"} {
			w := s.do("GET", fmt.Sprintf("/messages/%d%s", m.ID, rest))
			if _, err := io.Copy(io.Discard, w.Body); err != nil || w.Code != http.StatusOK {
				t.Fatalf("GET %s = %d, %v", rest, w.Code, err)
			}
		}
	})
}
