package templates_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/countersign/countersign/templates"
)

func get(t *testing.T, method, address, encoding string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, address, nil)
	r.Header.Set("Accept-Encoding", encoding)
	w := httptest.NewRecorder()
	newSet(t).Static().ServeHTTP(w, r)
	return w
}

// addresses are the static files that a page asks for.
func addresses(t *testing.T, v templates.View) []string {
	t.Helper()
	var all []string
	doc := render(t, v)
	for _, n := range find(doc, tag("link")) {
		href, _ := attribute(n, "href")
		all = append(all, href)
	}
	for _, n := range find(doc, tag("script")) {
		src, _ := attribute(n, "src")
		all = append(all, src)
	}
	return all
}

func TestStatic(t *testing.T) {
	t.Parallel()
	for _, address := range addresses(t, templates.ProgressPage{Console: console()}) {
		plain := get(t, http.MethodGet, address, "")
		if plain.Code != http.StatusOK || plain.Body.Len() == 0 {
			t.Errorf("%s: %d with %d bytes", address, plain.Code, plain.Body.Len())
		}
		if got := plain.Header().Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Errorf("%s: Cache-Control %q", address, got)
		}
		zipped := get(t, http.MethodGet, address, "br, gzip")
		r, err := gzip.NewReader(zipped.Body)
		if err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		if unzipped, err := io.ReadAll(r); err != nil || !bytes.Equal(unzipped, plain.Body.Bytes()) {
			t.Errorf("%s differs when compressed (%v)", address, err)
		}
		head := get(t, http.MethodHead, address, "")
		if head.Body.Len() != 0 || head.Header().Get("Content-Length") != plain.Header().Get("Content-Length") {
			t.Errorf("%s: HEAD with %d bytes and %v", address, head.Body.Len(), head.Header())
		}
	}
}

func TestStaticOfAnotherVersion(t *testing.T) {
	t.Parallel()
	w := get(t, http.MethodGet, templates.StaticPath+"base.0123456789abcdef.css", "")
	if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if got := w.Header().Get("Content-Type"); got != "text/css; charset=utf-8" {
		t.Errorf("type %q", got)
	}
}

func TestStaticHasNothingElse(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "nothing.css", "../templates.go", "pages/client.tmpl", ".css"} {
		if w := get(t, http.MethodGet, templates.StaticPath+name, ""); w.Code != http.StatusNotFound {
			t.Errorf("%q: %d", name, w.Code)
		}
	}
}

// A console page with all that it loads is at most 80 KB on the wire, an owner's page 12 KB.
func TestWeight(t *testing.T) {
	t.Parallel()
	long := templates.ClientsPage{Console: console(), Total: 100}
	for len(long.Clients) < 100 {
		long.Clients = append(long.Clients, clients()...)
	}
	for _, tt := range []struct {
		view templates.View
		most int
	}{{templates.ProgressPage{Console: console(), Progress: progress()}, 80_000}, {long, 80_000}, {invitation(), 12_000}} {
		var page bytes.Buffer
		z := gzip.NewWriter(&page)
		if _, err := io.Copy(z, strings.NewReader(renderText(t, tt.view))); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		weight := page.Len()
		for _, address := range addresses(t, tt.view) {
			weight += get(t, http.MethodGet, address, "gzip").Body.Len()
		}
		t.Logf("%T: %d bytes", tt.view, weight)
		if weight > tt.most {
			t.Errorf("%T weighs %d bytes", tt.view, weight)
		}
	}
}
