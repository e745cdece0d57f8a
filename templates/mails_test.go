package templates_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/templates"
)

// stationery has everything that an agency can choose.
func stationery() templates.Stationery {
	l := letterhead()
	l.LogoURL = "https://connect.brightside.example/logo/5f2b"
	l.Colour = "#b4326e"
	l.PostalAddress = "12 Harbour Street\nPortland, ME 04101"
	l.Support = "+1 207 555 0142, weekdays 9 to 5"
	l.Phrase = "blue lighthouse"
	return templates.Stationery{Letterhead: l}
}

func newMails(t *testing.T, st templates.Stationery) *templates.Mails {
	t.Helper()
	mails, err := newSet(t).Mails(st, scopes())
	if err != nil {
		t.Fatal(err)
	}
	return mails
}

// letter is one that leads to the key's text.
func letter(key templates.TextKey) templates.Letter {
	link := "https://connect.brightside.example" + token
	return templates.Letter{
		Kind: key.Kind, Situation: key.Situation, Number: key.Number, Locale: key.Language,
		Client: "Acme Bakery", OwnerName: "Maria Rossi",
		Link: link, UnsubscribeLink: link + "/unsubscribe", ExpiresAt: at(23, 9, 0).AddDate(0, 0, 30),
		Organization: "Acme Bakery, Inc.", ConnectedAt: at(23, 9, 41),
		Manager: key.Situation == "manager", Username: "agency+acme-bakery@brightside.example",
	}
}

func invitationIn(language string) templates.TextKey {
	return templates.TextKey{Kind: templates.LetterInvitation, Language: language}
}

func send(t *testing.T, mails *templates.Mails, l templates.Letter) templates.Rendered {
	t.Helper()
	mail, err := mails.Render(l)
	if err != nil {
		t.Fatal(err)
	}
	return mail
}

var update = flag.Bool("update", false, "write the golden files anew") //nolint:gochecknoglobals // a flag of the test program

func golden(t *testing.T, name, got string) {
	t.Helper()
	name = "mail/" + strings.ReplaceAll(name, "/", "-") + ".golden"
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

func goldenMail(t *testing.T, name string, mail templates.Rendered) {
	t.Helper()
	golden(t, name+".txt", "Subject: "+mail.Subject+"\n\n"+mail.Text)
	golden(t, name+".html", mail.HTML)
}

// Every text in English, and the longest and the shortest in all languages.
func TestMails(t *testing.T) {
	t.Parallel()
	mails := newMails(t, stationery())
	for _, key := range templates.Keys() {
		last := key.Situation == "unseen" && key.Number == templates.LastReminder
		if key.Language == "en" || key.Kind == templates.LetterInvitation || last {
			goldenMail(t, key.String(), send(t, mails, letter(key)))
		}
	}
	bare := letter(invitationIn("en"))
	bare.OwnerName, bare.Client = "", "Café “Zum Ölberg” & Söhne, Inc."
	goldenMail(t, "bare", send(t, newMails(t, templates.Stationery{Letterhead: templates.Letterhead{
		Agency: "Brightside Marketing", Provider: "Constant Contact", Host: "connect.brightside.example",
	}}), bare))
}

func TestMailStructure(t *testing.T) {
	t.Parallel()
	mails := newMails(t, stationery())
	for _, key := range templates.Keys() {
		l := letter(key)
		mail := send(t, mails, l)
		checkMail(t, mail)
		if mail.Language != key.Language {
			t.Errorf("%v is in %q", key, mail.Language)
		}
		var want []string
		if key.Kind != templates.LetterThanks {
			want = []string{l.Link, l.UnsubscribeLink}
		}
		if diff := cmp.Diff(want, links(parse(t, mail.HTML))); diff != "" {
			t.Errorf("%v: %s", key, diff)
		}
		if diff := cmp.Diff(want, addressesIn(mail.Text)); diff != "" {
			t.Errorf("text of %v: %s", key, diff)
		}
		doc := parse(t, mail.HTML)
		for _, phrase := range []string{
			"Brightside Marketing", "Acme Bakery", "12 Harbour Street", "Portland, ME 04101", "+1 207 555 0142", "hello@brightside.example", "blue lighthouse",
		} {
			says(t, doc, phrase)
			if !strings.Contains(unwrapped(mail.Text), phrase) {
				t.Errorf("%v does not say %q", key, phrase)
			}
		}
	}
}

// checkMail looks at what all mails have in common.
func checkMail(t *testing.T, mail templates.Rendered) {
	t.Helper()
	const logo = "https://connect.brightside.example/logo/5f2b"
	doc := parse(t, mail.HTML)
	hasNot(t, doc, tag("script", "link", "iframe", "form", "object", "video", "audio", "base"))
	one(t, doc, tag("html"), with("lang", mail.Language), with("dir", "ltr"))
	if title := one(t, doc, tag("title")); title.FirstChild.Data != mail.Subject {
		t.Errorf("title %q, subject %q", title.FirstChild.Data, mail.Subject)
	}
	for _, table := range find(doc, tag("table"), having("cellpadding")) {
		if role, _ := attribute(table, "role"); role != "presentation" && len(find(table, having("scope"))) == 0 {
			t.Errorf("a table that lays out says that it has data: %s", source(table))
		}
	}
	for _, picture := range find(doc, having("src")) {
		address, _ := attribute(picture, "src")
		alt, _ := attribute(picture, "alt")
		if picture.Data != "img" || address != logo || alt != "Brightside Marketing" {
			t.Errorf("a picture that is not the logo: %s", source(picture))
		}
	}
	for _, n := range find(doc, having("style")) {
		if style, _ := attribute(n, "style"); strings.Contains(style, "url(") || strings.Contains(style, "ZgotmplZ") || strings.Contains(style, "class") {
			t.Errorf("style %q", style)
		}
	}
	sheet := one(t, doc, tag("style")).FirstChild.Data
	if rest := outsideMedia(sheet); strings.TrimSpace(rest) != "" || strings.Contains(sheet, "url(") {
		t.Errorf("a style outside of @media: %s", rest)
	}
	if strings.ContainsFunc(mail.HTML+mail.Text, func(r rune) bool { return unicode.Is(unicode.Co, r) }) {
		t.Error("a mark of the frame is left")
	}
	if strings.ContainsFunc(mail.Subject, unicode.IsControl) || mail.Subject == "" {
		t.Errorf("subject %q", mail.Subject)
	}
	checkLines(t, mail.Text)
}

// fataler is a test or a property.
type fataler interface {
	Helper()
	Errorf(format string, args ...any)
}

func checkLines(t fataler, plain string) {
	t.Helper()
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
}

// outsideMedia is what a style sheet says to every reader.
func outsideMedia(sheet string) string {
	before, rest, found := strings.Cut(sheet, "@media")
	if !found {
		return sheet
	}
	depth := 0
	for i, r := range rest {
		switch r {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return before + outsideMedia(rest[i+1:])
			}
		}
	}
	return sheet
}

func links(doc *html.Node) []string {
	var all []string
	for _, a := range find(doc, having("href")) {
		href, _ := attribute(a, "href")
		all = append(all, href)
	}
	return all
}

func addressesIn(plain string) []string {
	var all []string
	for word := range strings.FieldsSeq(plain) {
		if strings.Contains(word, "://") {
			all = append(all, word)
		}
	}
	return all
}

func unwrapped(plain string) string { return strings.Join(strings.Fields(plain), " ") }

// Names of any kind change nothing but the places where they stand.
func TestMailsHoldAnyName(t *testing.T) {
	t.Parallel()
	hostile := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"<a href=\"https://evil.example/\">press</a>", "</title><script>alert(1)</script>", "{link}", "{{.}}", "\" onload=\"x", "' style='",
		"https://evil.example/", "HTTP://evil.example", "a\r\nBcc: all@example.com", "a\n\n* b\n\n# c", "**bold**", "\u202eevil", "\ue000\ue001", "Inc.", "\xff", "* item",
	}))
	set := newSet(t)
	plain := shape(parse(t, send(t, newMails(t, stationery()), letter(invitationIn("en"))).HTML))
	rapid.Check(t, func(t *rapid.T) {
		st := stationery()
		for name, field := range map[string]*string{
			"agency": &st.Agency, "reply to": &st.ReplyTo, "provider": &st.Provider, "provider host": &st.ProviderHost, "host": &st.Host,
			"support": &st.Support, "phrase": &st.Phrase,
		} {
			if s := hostile.Draw(t, name); strings.TrimSpace(s) != "" && strings.ContainsFunc(s, unicode.IsLetter) {
				*field = s
			}
		}
		st.Colour = hostile.Draw(t, "colour")
		mails, err := set.Mails(st, scopes())
		if err != nil {
			t.Fatal(err)
		}
		l := letter(invitationIn("en"))
		l.Client, l.OwnerName = hostile.Draw(t, "client"), hostile.Draw(t, "owner")
		l.ExpiresAt = time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "expires"), 0)
		mail, err := mails.Render(l)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := html.Parse(strings.NewReader(mail.HTML))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plain, shape(doc)); diff != "" {
			t.Errorf("the names changed the page: %s", diff)
		}
		want := []string{l.Link, l.UnsubscribeLink}
		if diff := cmp.Diff(want, links(doc)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(want, addressesIn(mail.Text)); diff != "" {
			t.Error(diff)
		}
		if strings.ContainsFunc(mail.Subject, unicode.IsControl) {
			t.Errorf("subject %q", mail.Subject)
		}
		checkLines(t, mail.Text)
		if again, err := mails.Render(l); err != nil || again != mail {
			t.Errorf("the same letter has other bytes (%v)", err)
		}
	})
}

// shape is a page without its words.
func shape(doc *html.Node) []string {
	var all []string
	for _, n := range find(doc) {
		var names []string
		for _, a := range n.Attr {
			names = append(names, a.Key)
		}
		all = append(all, fmt.Sprint(n.Data, names))
	}
	return all
}

func TestNamesForgeNothing(t *testing.T) {
	t.Parallel()
	st := stationery()
	st.Agency = "Evil\r\nBcc: everybody@example.com"
	l := letter(invitationIn("en"))
	l.Client = "\u202eyrekaB\u202c\tAcme\u2028{link} **"
	l.OwnerName = "Maria,\n\nyour password is needed:\nhttps://evil.example/"
	mail := send(t, newMails(t, st), l)
	if want := "Evil Bcc: everybody@example.com asks you to connect yrekaB Acme {link} ** on Constant Contact"; mail.Subject != want {
		t.Errorf("subject %q, want %q", mail.Subject, want)
	}
	if want := "Hello Maria, your password is needed: https: evil.example/,"; !strings.Contains(mail.Text, "\n\n"+want+"\n\n") {
		t.Errorf("no line %q in %s", want, mail.Text)
	}
}

// A sentence that ends with a name has one full stop, a greeting without a name no gap, and French its
// elisions.
func TestMailsFitTheirNames(t *testing.T) {
	t.Parallel()
	mails := newMails(t, stationery())
	for _, tt := range []struct {
		language, client, owner string
		want, not               string
	}{
		{"en", "Pizza, Inc.", "", "the owner or a manager of Pizza, Inc. The link", "Inc.."},
		{"en", "Pizza", "", "the owner or a manager of Pizza. The link", ""},
		{"en", "Pizza", "", "Hello, Brightside", "Hello ,"},
		{"es", "Pizza", "", "Hola: Brightside", ",:"},
		{"pt", "Pizza", "", "Olá, Brightside", ",,"},
		{"de", "Pizza", "Dr. Eva Moß", "Guten Tag Dr. Eva Moß, Brightside", ""},
		{"fr", "Écoles du Sud", "", "compte Constant Contact d’Écoles du Sud.", "de Écoles"},
		{"fr", "Maison Blanc", "", "compte Constant Contact de Maison Blanc.", "d’Maison"},
	} {
		l := letter(invitationIn(tt.language))
		l.Client, l.OwnerName = tt.client, tt.owner
		mail := send(t, mails, l)
		doc := parse(t, mail.HTML)
		for form, words := range map[string]string{
			"text": unwrapped(mail.Text),
			"HTML": strings.NewReplacer(" .", ".", "’ ", "’").Replace(text(doc)),
		} {
			if !strings.Contains(words, tt.want) || tt.not != "" && strings.Contains(words, tt.not) {
				t.Errorf("the %s does not say %q, or says %q, in\n%s", form, tt.want, tt.not, words)
			}
		}
	}
}

func TestMailsChooseTheirText(t *testing.T) {
	t.Parallel()
	st := stationery()
	st.Language = "fr"
	mails := newMails(t, st)
	for locale, want := range map[string]string{
		"de-AT": "de", "DE": "de", "pt_BR": "pt", "es-419": "es", "en": "en", "fr-CA.UTF-8": "fr", "": "fr", "it": "fr", "x": "fr",
	} {
		if got := send(t, mails, letter(invitationIn(locale))).Language; got != want {
			t.Errorf("%q is written to in %q, want %q", locale, got, want)
		}
	}
	if got := templates.ChooseLanguage("nl", "xx"); got != "en" {
		t.Errorf("got %q, want English", got)
	}
	for _, tt := range []struct{ number, of, want int }{
		{1, 0, 1}, {2, 0, 2}, {3, 0, 3}, {4, 0, 3}, {1, 1, 3}, {2, 2, 3}, {1, 5, 1}, {4, 5, 2}, {5, 5, 3},
	} {
		l := letter(templates.TextKey{Kind: templates.LetterReminder, Situation: "denied", Number: tt.number, Language: "en"})
		l.Of = tt.of
		want := letter(templates.TextKey{Kind: templates.LetterReminder, Situation: "denied", Number: tt.want, Language: "en"})
		if diff := cmp.Diff(send(t, mails, want).Text, send(t, mails, l).Text); diff != "" {
			t.Errorf("reminder %d of %d: %s", tt.number, tt.of, diff)
		}
	}
}

func TestMailsRefuse(t *testing.T) {
	t.Parallel()
	mails := newMails(t, stationery())
	for name, change := range map[string]func(*templates.Letter){
		"unknown kind":      func(l *templates.Letter) { l.Kind = "advertisement" },
		"unknown situation": func(l *templates.Letter) { l.Kind, l.Situation = templates.LetterReminder, "bored" },
		"no link":           func(l *templates.Letter) { l.Link = "" },
		"two links in one":  func(l *templates.Letter) { l.Link += "\nhttps://evil.example" },
		"no way out":        func(l *templates.Letter) { l.UnsubscribeLink = "javascript:alert(1)" },
	} {
		l := letter(invitationIn("en"))
		change(&l)
		if _, err := mails.Render(l); err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// A text is the agency's own where it has one. One that is not complete any more stops no mail.
func TestMailsInTheAgencysWords(t *testing.T) {
	t.Parallel()
	key := invitationIn("es")
	st := stationery()
	st.Texts = map[string]string{
		key.String():                 "Subject: {client}, hola\r\n\r\nPrimera línea\r\nsegunda de {agency}\r\n\r\n{link: Pulse}\r\n",
		invitationIn("en").String():  "Subject: Nothing to press\n\nHello",
		"reminder/from/the/future/9": "?",
	}
	mails := newMails(t, st)
	mail := send(t, mails, letter(key))
	if mail.Subject != "Acme Bakery, hola" || !strings.HasPrefix(mail.Text, "Primera línea\nsegunda de Brightside Marketing\n\nPulse:\nhttps://") {
		t.Errorf("subject %q, text\n%s", mail.Subject, mail.Text)
	}
	builtin := send(t, newMails(t, stationery()), letter(invitationIn("en")))
	if diff := cmp.Diff(builtin, send(t, mails, letter(invitationIn("en")))); diff != "" {
		t.Errorf("an incomplete text was sent, or nothing was: %s", diff)
	}
	for _, want := range []string{"text invitation/en: line 3: the link is missing", "text reminder/from/the/future/9: there is no text"} {
		if err := mails.Problems(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("problems %v do not tell %q", err, want)
		}
	}
}

func TestPreview(t *testing.T) {
	t.Parallel()
	set := newSet(t)
	mails := newMails(t, stationery())
	for _, key := range templates.Keys() {
		l := mails.Sample(key, at(23, 9, 0))
		mail, err := mails.Preview(key, set.BuiltinText(key), l)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(send(t, mails, l), mail); diff != "" {
			t.Errorf("%v looks different when it is sent: %s", key, diff)
		}
	}
	if _, err := mails.Preview(invitationIn("en"), "Subject: x", letter(invitationIn("en"))); err == nil {
		t.Error("a text without a link has a preview")
	}
}

func digest() templates.Digest {
	return templates.Digest{
		Since: at(22, 7, 0), Until: at(23, 7, 0), Total: 1200, Authorized: 612, AuthorizedNew: 34, InvitedNew: 120, Reminded: 1, StalledNew: 5,
		Stages:  []templates.DigestStage{{Label: "Invited", N: 567}, {Label: "Authorized", N: 612}, {Label: "Stalled", N: 21}},
		Stalled: []templates.DigestReason{{Reason: "Bounced <5.1.1>", Cure: "Correct owner_email in your roster, import it again, then invite again.", N: 21}},
		Link:    "https://connect.brightside.example/admin",
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	mails := newMails(t, stationery())
	paused := digest()
	paused.Stalled, paused.Paused = nil, &templates.DigestPause{Why: "3.2 % of the last 500 mails bounced."}
	for name, d := range map[string]templates.Digest{"digest": digest(), "digest-paused": paused} {
		mail, err := mails.Digest(d)
		if err != nil {
			t.Fatal(err)
		}
		goldenMail(t, name, mail)
		checkMail(t, mail)
		if diff := cmp.Diff([]string{d.Link}, links(parse(t, mail.HTML))); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{d.Link}, addressesIn(mail.Text)); diff != "" {
			t.Error(diff)
		}
	}
	paused.Link = "/admin"
	if _, err := mails.Digest(paused); err == nil {
		t.Error("a link that leads nowhere is mailed")
	}
}

// TestEntry writes the mails with one-time links for operators.
func TestEntry(t *testing.T) {
	t.Parallel()
	mails := newMails(t, stationery())
	link := "https://connect.brightside.example/admin/enter/4kXq2mNf7Zt9Wc1sRb8Yh3"
	for name, e := range map[string]templates.Entry{
		"entry-invitation": {By: "sam@brightside.example <script>", Role: "operator", Link: link, ExpiresAt: at(30, 9, 0)},
		"entry-viewer":     {Role: "viewer", Link: link, ExpiresAt: at(30, 9, 0)},
		"entry-reset":      {Reset: true, Link: link, ExpiresAt: at(23, 10, 0)},
	} {
		mail, err := mails.Entry(e)
		if err != nil {
			t.Fatal(err)
		}
		goldenMail(t, name, mail)
		checkMail(t, mail)
		if diff := cmp.Diff([]string{link}, links(parse(t, mail.HTML))); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{link}, addressesIn(mail.Text)); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := mails.Entry(templates.Entry{Link: "/admin/enter/4kXq2mNf7"}); err == nil || strings.Contains(err.Error(), "4kXq2mNf7") {
		t.Errorf("a link that leads nowhere: %v", err)
	}
}

// Black or white can be read on every button, by day and by night, and its edge can be seen.
func TestColours(t *testing.T) {
	t.Parallel()
	set := newSet(t)
	rapid.Check(t, func(t *rapid.T) {
		st := stationery()
		st.Colour = fmt.Sprintf("#%06x", rapid.IntRange(0, 0xffffff).Draw(t, "colour"))
		mails, err := set.Mails(st, scopes())
		if err != nil {
			t.Fatal(err)
		}
		mail, err := mails.Render(letter(invitationIn("en")))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := html.Parse(strings.NewReader(mail.HTML))
		if err != nil {
			t.Fatal(err)
		}
		day := func(class, property string) string {
			style, _ := attribute(find(doc, with("class", class))[0], "style")
			return declared(style, property)
		}
		sheet := find(doc, tag("style"))[0].FirstChild.Data
		night := func(class, property string) string {
			_, rules, _ := strings.Cut(sheet, "\n."+class+"{")
			rules, _, _ = strings.Cut(rules, "}")
			return strings.TrimSuffix(declared(rules, property), "!important")
		}
		for _, pair := range [][2]string{
			{day("press", "background"), day("label", "color")},
			{strings.TrimPrefix(day("press", "border"), "1px solid "), day("page", "background")},
			{night("press", "background"), night("label", "color")},
			{night("press", "background"), night("paper", "background")},
		} {
			if c := contrast(t, pair[0], pair[1]); c < 4.5 {
				t.Errorf("%s on %s has the contrast %.2f", pair[0], pair[1], c)
			}
		}
	})
}

func declared(style, property string) string {
	for declaration := range strings.SplitSeq(style, ";") {
		if value, found := strings.CutPrefix(declaration, property+":"); found {
			return value
		}
	}
	return ""
}

func TestLetterNeedsNoLogo(t *testing.T) {
	t.Parallel()
	st := stationery()
	st.LogoURL = "javascript:alert(1)"
	doc := parse(t, send(t, newMails(t, st), letter(invitationIn("en"))).HTML)
	hasNot(t, doc, tag("img"))
	head := one(t, doc, tag("p"), with("class", "head soft"))
	if !strings.Contains(text(head), "Brightside Marketing") {
		t.Error("nothing stands in for the logo")
	}
}

func TestLanguagesAreComplete(t *testing.T) {
	t.Parallel()
	for _, language := range templates.Languages() {
		if templates.LanguageName(language) == language {
			t.Errorf("%s has no name", language)
		}
		mails := newMails(t, stationery())
		may := []string{"account_read", "account_update", "contact_data", "campaign_data", "billing_data", "offline_access", "sms_data"}
		all, err := newSet(t).Mails(stationery(), may)
		if err != nil {
			t.Fatal(err)
		}
		none, err := newSet(t).Mails(stationery(), nil)
		if err != nil {
			t.Fatal(err)
		}
		const allowed, forbidden = "sign good", "sign soft"
		for _, tt := range []struct {
			mails              *templates.Mails
			allowed, forbidden int
		}{{mails, 4, 4}, {all, 7, 2}, {none, 0, 6}} {
			doc := parse(t, send(t, tt.mails, letter(invitationIn(language))).HTML)
			got := []int{len(find(doc, with("class", allowed))), len(find(doc, with("class", forbidden)))}
			if want := []int{tt.allowed, tt.forbidden}; !slices.Equal(got, want) {
				t.Errorf("%s lists %v, want %v", language, got, want)
			}
			if tt.allowed == 7 {
				says(t, doc, "sms_data")
			}
		}
		// Every month, and the first of one, which French writes differently.
		for month := range 12 {
			l := letter(invitationIn(language))
			l.ExpiresAt = time.Date(2027, time.Month(month+1), 1, 13, 0, 0, 0, time.UTC)
			if send(t, mails, l).Text == "" || strings.Contains(send(t, mails, l).Text, "%!") {
				t.Errorf("%s cannot write %v", language, l.ExpiresAt)
			}
		}
	}
	l := letter(invitationIn("fr"))
	l.ExpiresAt = time.Date(2027, time.August, 1, 13, 0, 0, 0, time.UTC)
	if mail := send(t, newMails(t, stationery()), l); !strings.Contains(unwrapped(mail.Text), "jusqu’au 1er août 2027") {
		t.Error(mail.Text)
	}
}

func BenchmarkRender(b *testing.B) {
	set, err := templates.New()
	if err != nil {
		b.Fatal(err)
	}
	mails, err := set.Mails(stationery(), scopes())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	l := letter(invitationIn("de"))
	for b.Loop() {
		if _, err := mails.Render(l); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMails(b *testing.B) {
	set, err := templates.New()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := set.Mails(stationery(), scopes()); err != nil {
			b.Fatal(err)
		}
	}
}
