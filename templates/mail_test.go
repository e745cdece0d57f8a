package templates_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/templates"
)

func TestInvitationMail(t *testing.T) {
	t.Parallel()
	bare := mail()
	bare.OwnerName, bare.ReplyTo, bare.ProviderHost = "", "", ""
	bare.Client = "Café “Zum Ölberg” & Söhne"
	bare.Scopes = []string{"contact_data"}
	for name, m := range map[string]templates.InvitationMail{"invitation": mail(), "invitation-bare": bare} {
		subject, text, html, err := newSet(t).Mail(m)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt.golden", "Subject: "+subject+"\n\n"+text)
		golden(t, name+".html.golden", html)
	}
}

var update = flag.Bool("update", false, "write the golden files anew") //nolint:gochecknoglobals // a flag of the test program

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(filepath.Join("testdata", name), []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := fs.ReadFile(os.DirFS("testdata"), name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("testdata/%s is out of date; if the change is meant, run the test with -update\n%s", name, diff)
	}
}

func TestMailHTML(t *testing.T) {
	t.Parallel()
	_, _, page, err := newSet(t).Mail(mail())
	if err != nil {
		t.Fatal(err)
	}
	doc := parse(t, page)
	hasNot(t, doc, tag("img", "script", "link", "iframe", "form"))
	var links []string
	for _, a := range find(doc, tag("a")) {
		href, _ := attribute(a, "href")
		links = append(links, href)
	}
	if diff := cmp.Diff([]string{mail().Link, mail().UnsubscribeLink}, links); diff != "" {
		t.Error(diff)
	}
	says(t, doc, mail().Link)
	for _, n := range find(doc, having("style")) {
		if style, _ := attribute(n, "style"); strings.Contains(style, "url(") || strings.Contains(style, "ZgotmplZ") {
			t.Errorf("style %q", style)
		}
	}
}

// Both parts say who asks, for what, what not, how to undo it and how to check the mail.
func TestMailPartsAgree(t *testing.T) {
	t.Parallel()
	m := mail()
	_, plain, page, err := newSet(t).Mail(m)
	if err != nil {
		t.Fatal(err)
	}
	unwrapped := strings.Join(strings.Fields(plain), " ")
	doc := parse(t, page)
	phrases := append(m.Permissions().May, m.Permissions().MayNot...)
	phrases = append(phrases, m.Agency, m.Client, m.Host, m.ProviderHost, "reply to this mail", "22 December 2026", m.ReplyTo)
	for _, phrase := range phrases {
		if !strings.Contains(unwrapped, phrase) {
			t.Errorf("%q is not in the text", phrase)
		}
		if !strings.Contains(strings.ToLower(text(doc)), strings.ToLower(phrase)) {
			t.Errorf("%q is not in the HTML", phrase)
		}
	}
}

func TestMailHoldsAnyName(t *testing.T) {
	t.Parallel()
	set := newSet(t)
	rapid.Check(t, func(t *rapid.T) {
		m := mail()
		m.Agency, m.Client, m.OwnerName = rapid.String().Draw(t, "agency"), rapid.String().Draw(t, "client"), rapid.String().Draw(t, "owner")
		m.ExpiresAt = time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "expires"), 0)
		subject, plain, html, err := set.Mail(m)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(subject, "\r\n\x00") {
			t.Errorf("subject %q", subject)
		}
		if strings.Contains(plain, "\n\n\n") || strings.HasPrefix(plain, "\n") || !strings.HasSuffix(plain, "\n") {
			t.Errorf("empty lines in %q", plain)
		}
		for line := range strings.Lines(plain) {
			line = strings.TrimSuffix(line, "\n")
			if strings.TrimRight(line, " \t\r") != line {
				t.Errorf("blank at the end of %q", line)
			}
			if utf8.RuneCountInString(line) > 76 && strings.Contains(strings.TrimLeft(strings.TrimPrefix(line, "* "), " "), " ") {
				t.Errorf("long line %q", line)
			}
		}
		againSubject, againPlain, againHTML, err := set.Mail(m)
		if err != nil || againSubject != subject || againPlain != plain || againHTML != html {
			t.Errorf("the same mail has other bytes (%v)", err)
		}
	})
}

func TestNamesForgeNothing(t *testing.T) {
	t.Parallel()
	m := mail()
	m.Agency = "Evil\r\nBcc: everybody@example.com"
	m.Client = "\u202eyrekaB\u202c\tAcme\u2028"
	m.OwnerName = "Maria,\n\nyour password is needed:\nhttps://evil.example/"
	subject, plain, _, err := newSet(t).Mail(m)
	if err != nil {
		t.Fatal(err)
	}
	if want := "Evil Bcc: everybody@example.com asks you to connect yrekaB Acme on Constant Contact"; subject != want {
		t.Errorf("subject %q, want %q", subject, want)
	}
	first, _, _ := strings.Cut(plain, "\n\n")
	if want := "Hello Maria, your password is needed: https://evil.example/,"; first != want {
		t.Errorf("first paragraph %q, want %q", first, want)
	}
}
