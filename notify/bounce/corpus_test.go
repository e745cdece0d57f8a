package bounce_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/notify/bounce"
)

var update = flag.Bool("update", false, "write the outcomes of testdata anew") //nolint:gochecknoglobals // a flag of the test program

// TestCorpus reads mails as servers and people send them. Beside each lies what is to be made of it.
func TestCorpus(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 60 {
		t.Fatalf("only %d mails", len(files))
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.TrimSuffix(file, "eml") + "want"
		got := describe(bounce.Parse(bytes.NewReader(raw)))
		if *update {
			if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(want)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(golden), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
		// The files have the line ends of files; mails on their way have others.
		crlf := bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))
		if diff := cmp.Diff(string(golden), describe(bounce.Parse(bytes.NewReader(crlf)))); diff != "" {
			t.Errorf("%s with CRLF (-want +got):\n%s", file, diff)
		}
	}
}

// describe writes a report as testdata has it.
func describe(r bounce.Report) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	fate := func(f bounce.Fate) {
		line("kind", string(f.Kind))
		line("words", f.Words)
		line("recipient", f.Recipient)
		if f.Final != f.Recipient {
			line("final", f.Final)
		}
		line("status", f.Status)
		line("diagnostic", f.Diagnostic)
		line("remote mta", f.RemoteMTA)
	}
	fate(r.Fate)
	line("from", r.From)
	line("subject", r.Subject)
	line("addressed", strings.Join(r.Addressed, ", "))
	line("senders", strings.Join(r.Senders, ", "))
	line("message id", r.MessageID)
	line("reporting mta", r.ReportingMTA)
	if len(r.Fates) > 1 {
		for _, f := range r.Fates {
			b.WriteString("\n")
			fate(f)
		}
	}
	first, _, _ := strings.Cut(strings.TrimSpace(r.Text), "\n")
	line("text", first)
	return b.String()
}
