package templates_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/templates"
)

func TestParseText(t *testing.T) {
	t.Parallel()
	thanks := templates.TextKey{Kind: templates.LetterThanks, Language: "en"}
	const link = "\n\n{link: Go}\n"
	for _, tt := range []struct {
		name, source string
		key          templates.TextKey
		want         []string // in the error; none if the text is complete
	}{
		{"least", "Subject: s" + link, invitationIn("en"), nil},
		{"label is optional", "Subject: s\n\n{link}", invitationIn("en"), nil},
		{"all placeholders", "Subject: {client} {agency} {provider} {host} {expires}\n# {host} {owner}\n* {provider_host} {reply_to}\n{support}\n{phrase}\n{permissions}\n{limits}" + link, invitationIn("en"), nil},
		{"thanks", "Subject: {organization}\n\n{connected}", thanks, nil},
		{"single star", "Subject: s\n\n5*3 **b** * c" + link, invitationIn("en"), nil},
		{"empty", "", invitationIn("en"), []string{"line 1: a text begins with its subject", "line 1: the link is missing"}},
		{"no subject", "Hello" + link, invitationIn("en"), []string{"line 1: a text begins with its subject"}},
		{"empty subject", "Subject: \u200b\n" + link, invitationIn("en"), []string{"line 1: the subject is empty"}},
		{"long subject", "Subject: " + strings.Repeat("ä", 151) + link, invitationIn("en"), []string{"line 1: the subject has 151 characters; shorten it to 150"}},
		{"bold subject", "Subject: **s**" + link, invitationIn("en"), []string{"no bold words"}},
		{"subject that may be empty", "Subject: {phrase}" + link, invitationIn("en"), []string{"{phrase} may be empty"}},
		{"no link", "Subject: s\n\nHello", invitationIn("de"), []string{"line 3: the link is missing; write {link: Continue}"}},
		{"two links", "Subject: s" + link + link, invitationIn("en"), []string{"line 6: this is the second {link}"}},
		{"link in a line", "Subject: s\n\nPress {link}!", invitationIn("en"), []string{"line 3: {link} is to be alone on its line"}},
		{"link and more", "Subject: s\n\n{link: Go} now", invitationIn("en"), []string{"line 3: the button is to be alone"}},
		{"long label", "Subject: s\n\n{link: " + strings.Repeat("x", 61) + "}", invitationIn("en"), []string{"label has 61 characters"}},
		{"list in a line", "Subject: s\n\nYou allow {permissions}" + link, invitationIn("en"), []string{"line 3: {permissions} is to be alone"}},
		{"link in thanks", "Subject: s" + link, thanks, []string{"line 3: this mail asks for nothing"}},
		{"expiry in thanks", "Subject: s\n\n{expires}", thanks, []string{"line 3: {expires} stands for nothing here"}},
		{"nothing in thanks", "Subject: s\n\n", thanks, []string{"there is nothing below the subject"}},
		{"two mistakes", "Subject: s\n\n{clinet}\n\n{agnecy}" + link, invitationIn("en"), []string{"line 3: {clinet} stands for nothing here; use one of {", "line 5: {agnecy}"}},
		{"label elsewhere", "Subject: s\n\n{client: x}" + link, invitationIn("en"), []string{"{client: x} takes no label"}},
		{"open brace", "Subject: s\n\nHello {client" + link, invitationIn("en"), []string{"line 3: a brace has no partner"}},
		{"closing brace", "Subject: s\n\nHello client}" + link, invitationIn("en"), []string{"line 3: a brace has no partner"}},
		{"open bold", "Subject: s\n\nHello **you" + link, invitationIn("en"), []string{"line 3: ** opens bold words"}},
		{"empty bold", "Subject: s\n\n****" + link, invitationIn("en"), []string{"line 3: there is nothing between ** and **"}},
		{"another address", "Subject: s\n\nSee https://example.com" + link, invitationIn("en"), []string{"line 3: an address of a page"}},
		{"long", "Subject: s\n\n" + strings.Repeat("x", 8<<10) + link, invitationIn("en"), []string{"shorten it to 8192"}},
		{"no such text", "Subject: s" + link, templates.TextKey{Kind: templates.LetterReminder, Language: "en"}, []string{"there is no text"}},
	} {
		_, err := templates.ParseText(tt.key, tt.source)
		if len(tt.want) == 0 && err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %q", tt.name, err, want)
			}
		}
	}
}

// A translation uses what the English text uses.
func TestTextsAgree(t *testing.T) {
	t.Parallel()
	set := newSet(t)
	placeholders := func(source string) []string {
		var used []string
		for _, part := range strings.Split(source, "{")[1:] {
			name, _, _ := strings.Cut(part, "}")
			name, _, _ = strings.Cut(name, ":")
			used = append(used, name)
		}
		slices.Sort(used)
		return slices.Compact(used)
	}
	seen := map[string]templates.TextKey{}
	for _, key := range templates.Keys() {
		source := set.BuiltinText(key)
		english := key
		english.Language = "en"
		if diff := cmp.Diff(placeholders(set.BuiltinText(english)), placeholders(source)); diff != "" {
			t.Errorf("%v uses other placeholders than English: %s", key, diff)
		}
		if strings.Count(source, "\n# ") != strings.Count(set.BuiltinText(english), "\n# ") || strings.Count(source, "\n* ") != strings.Count(set.BuiltinText(english), "\n* ") {
			t.Errorf("%v has other parts than English", key)
		}
		if other, found := seen[source]; found {
			t.Errorf("%v has the words of %v", key, other)
		}
		seen[source] = key
	}
	if len(seen) != 110 {
		t.Errorf("there are %d texts", len(seen))
	}
}

func TestTextKeys(t *testing.T) {
	t.Parallel()
	for _, key := range templates.Keys() {
		got, err := templates.ParseTextKey(key.String())
		if err != nil || got != key {
			t.Errorf("%v became %v (%v)", key, got, err)
		}
		if key.Title() == "" || strings.HasSuffix(key.Title(), " ") {
			t.Errorf("%v has no title", key)
		}
	}
	if got := (templates.TextKey{Kind: templates.LetterReminder, Situation: "unseen", Number: 2, Language: "de"}).String(); got != "reminder/unseen/2/de" {
		t.Errorf("got %q", got)
	}
	for _, name := range []string{"", "invitation", "invitation/xx", "reminder/unseen/4/en", "reminder/unseen/02/en", "thanks/en/", "digest/en"} {
		if _, err := templates.ParseTextKey(name); err == nil {
			t.Errorf("%q names a text", name)
		}
	}
}

// Whatever an agency writes is either refused or makes a mail with one link.
func FuzzParseText(f *testing.F) {
	set, err := templates.New()
	if err != nil {
		f.Fatal(err)
	}
	mails, err := set.Mails(stationery(), scopes())
	if err != nil {
		f.Fatal(err)
	}
	for _, key := range templates.Keys() {
		f.Add(set.BuiltinText(key))
	}
	f.Add("Subject: s\n\n{owner}\n{owner}.\n* {owner}\n\n{link: <b>}\n# **{client}**.\n\ue000\ue001")
	f.Fuzz(func(t *testing.T, source string) {
		for _, key := range []templates.TextKey{invitationIn("fr"), {Kind: templates.LetterThanks, Language: "en"}} {
			l := letter(key)
			l.OwnerName = ""
			mail, err := mails.Preview(key, source, l)
			if err != nil {
				continue
			}
			checkMail(t, mail)
			want := 2
			if key.Kind == templates.LetterThanks {
				want = 0
			}
			if got := len(links(parse(t, mail.HTML))); got != want {
				t.Errorf("%d links, want %d", got, want)
			}
			if got := len(addressesIn(mail.Text)); got != want {
				t.Errorf("%d addresses in the text, want %d", got, want)
			}
		}
	})
}
