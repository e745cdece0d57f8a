package web_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Large pages and answers of the API are compressed for whoever takes that; small pages and what is streamed are not.
func TestCompression(t *testing.T) {
	t.Parallel()
	b := setup(t)
	file := strings.Builder{}
	file.WriteString("ref,name,owner_email\n")
	for i := range 60 {
		fmt.Fprintf(&file, "R%d,Client %d,owner%d@client.example\n", i, i, i)
	}
	b.imports(t, file.String())
	op := b.operator(t)
	for path, compressed := range map[string]bool{"/admin/clients": true, "/api/v1": true, "/admin/export.csv": false, "/admin/sign-in": false} {
		for _, accept := range []string{"gzip, deflate, br", "identity"} {
			got := op.do(t, http.MethodGet, path, nil, "Accept-Encoding", accept)
			want := ""
			if compressed && accept != "identity" {
				want = "gzip"
			}
			if encoding := got.header.Get("Content-Encoding"); encoding != want || got.status != http.StatusOK {
				t.Errorf("%s, status %d, for who takes %s has the encoding %q, want %q", path, got.status, accept, encoding, want)
			}
			if !strings.Contains(strings.Join(got.header.Values("Vary"), ","), "Accept-Encoding") {
				t.Errorf("%s does not vary", path)
			}
			if want == "" {
				continue
			}
			r, err := gzip.NewReader(strings.NewReader(got.body))
			if err != nil {
				t.Fatal(err)
			}
			plain, err := io.ReadAll(r)
			if err != nil || !strings.HasSuffix(strings.TrimSpace(string(plain)), "</html>") || 3*len(got.body) > len(plain) {
				t.Errorf("%s: %d bytes of %d, %v", path, len(got.body), len(plain), err)
			}
		}
	}
}
