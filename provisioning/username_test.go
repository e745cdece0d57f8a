package provisioning_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/provisioning"
)

func TestParseUsername(t *testing.T) {
	t.Parallel()
	long := strings.Repeat
	tests := []struct {
		in   string
		want [3]string // user, detail, domain; all empty if refused
	}{
		{"agency+acme@agency.example", [3]string{"agency", "acme", "agency.example"}},
		{"Agency+ACME@Agency.Example", [3]string{"agency", "acme", "agency.example"}},
		{"agency@agency.example", [3]string{"agency", "", "agency.example"}},
		{"agency+acme+2@agency.example", [3]string{"agency", "acme+2", "agency.example"}},
		{"a.b+c_d-e.f@x-y.example", [3]string{"a.b", "c_d-e.f", "x-y.example"}},
		{"a@b.co", [3]string{"a", "", "b.co"}},
		{long("a", 64) + "@agency.example", [3]string{long("a", 64), "", "agency.example"}},

		{"", [3]string{}},
		{"a@b.c", [3]string{}}, // five characters
		{"agency+@agency.example", [3]string{}},
		{"+acme@agency.example", [3]string{}},
		{"@agency.example", [3]string{}},
		{"agency+acme@", [3]string{}},
		{"agency+acme", [3]string{}},
		{"agency+acme@agency", [3]string{}},
		{"agency+a@c@agency.example", [3]string{}},
		{"agency acme@agency.example", [3]string{}},
		{" agency+acme@agency.example", [3]string{}},
		{"agency+acmé@agency.example", [3]string{}},
		{"agency+acme@agéncy.example", [3]string{}},
		{"agency+a'b@agency.example", [3]string{}},
		{"agency+a..b@agency.example", [3]string{}},
		{".agency+a@agency.example", [3]string{}},
		{"agency+a.@agency.example", [3]string{}},
		{"agency+a@agency_.example", [3]string{}},
		{"agency+a@-agency.example", [3]string{}},
		{"agency+a@agency+b.example", [3]string{}},
		{"agency+\u212aelvin@agency.example", [3]string{}}, // the Kelvin sign, whose lower case is k
		{long("a", 65) + "@agency.example", [3]string{}},
		{long("a", 60) + "@" + long("agency.", 4) + "example", [3]string{}}, // 96 characters
	}
	for _, test := range tests {
		u, err := provisioning.ParseUsername(test.in, 80)
		if (err == nil) != (test.want[2] != "") {
			t.Errorf("ParseUsername(%q) = %q, %v", test.in, u, err)
			continue
		}
		user, detail, domain := u.Split()
		if got := [3]string{user, detail, domain}; got != test.want {
			t.Errorf("ParseUsername(%q) has the parts %q, want %q", test.in, got, test.want)
		}
	}
}

func TestParseMailbox(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"agency@agency.example":          "agency@agency.example",
		" The.Agency@Agency.Example ":    "the.agency@agency.example",
		"agency@bücher.example":          "agency@xn--bcher-kva.example",
		"agency+cc@agency.example":       "agency+cc@agency.example",
		"":                               "",
		"agency":                         "",
		"agency@localhost":               "",
		"agencÿ@agency.example":          "",
		"o'brien@agency.example":         "",
		"Agency <agency@agency.example>": "",
	} {
		m, err := provisioning.ParseMailbox(in)
		if (err == nil) != (want != "") || err == nil && m.String() != want {
			t.Errorf("ParseMailbox(%q) = %v, %v; want %q", in, m, err, want)
		}
	}
}

func TestParsePattern(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"{local}+{slug}@{domain}",
		"{local}{n}@{domain}",
		"{slug}@clients.agency.example",
		"{slug}@clients.{domain}",
		"{local}+{ref}-{slug}.{n}@{domain}",
		"CC-{n}-x@{domain}",
	} {
		p, err := provisioning.ParsePattern(" " + s + " ")
		if err != nil || p.String() != s {
			t.Errorf("ParsePattern(%q) = %q, %v", s, p, err)
		}
	}
	for _, s := range []string{
		"",
		"{local}+{slug}",
		"{local}+{slug}@",
		"{local}+{slug}@{domain}@{domain}",
		"{local}@{domain}",
		"agency@agency.example",
		"{local}+{name}@{domain}",
		"{local}+{slug@{domain}",
		"{local}+slug}@{domain}",
		"{local}+{slug}{slug}@{domain}",
		"{local}+{n}-{slug}@{domain}",
		"{domain}+{slug}@{domain}",
		"{local}+{slug}@{local}",
		"{local} {slug}@{domain}",
		"{local}+ä{slug}@{domain}",
		"{}@{domain}",
		"{{slug}}@{domain}",
	} {
		if p, err := provisioning.ParsePattern(s); err == nil {
			t.Errorf("ParsePattern(%q) = %q, want an error", s, p)
		} else if !strings.Contains(err.Error(), "{local}+{slug}@{domain}") {
			t.Errorf("ParsePattern(%q) gives no example: %v", s, err)
		}
	}
}

func TestNewNamer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern, mailbox string
		limit            int
		ok               bool
	}{
		{"{local}+{slug}@{domain}", "agency@agency.example", 50, true},
		{"{local}+{slug}@{domain}", "agency@agency.example", 31, true},
		{"{local}+{slug}@{domain}", "agency@agency.example", 30, false}, // 8 characters are left
		{"{local}+{slug}@{domain}", strings.Repeat("a", 54) + "@b.example", 254, true},
		{"{local}+{slug}@{domain}", strings.Repeat("a", 55) + "@b.example", 254, false}, // the local part
		{"{local}+{slug}@{domain}", "agency@agency.example", 0, false},
		{"{local}.{slug}@{domain}", "agency@agency.example", 50, true},
		{".{slug}@{domain}", "agency@agency.example", 50, false},
		{"+{slug}@{domain}", "agency@agency.example", 50, false},
		{"{slug}+@{domain}", "agency@agency.example", 50, false},
		{"{slug}.@{domain}", "agency@agency.example", 50, false},
		{"{local}..{slug}@{domain}", "agency@agency.example", 50, false},
		{"{slug}@agency", "agency@agency.example", 50, false},
		{"{slug}@x{domain}", "agency@agency.example", 50, true},
		{"{slug}@-{domain}", "agency@agency.example", 50, false},
		{"{slug}7{n}@{domain}", "agency@agency.example", 50, false},
		{"{slug}x{n}@{domain}", "agency@agency.example", 50, true},
		{"{slug}+{local}{n}@{domain}", "agency2@agency.example", 50, false},
		{"{local}{n}@{domain}", "agency2@agency.example", 50, true},
	}
	for _, test := range tests {
		p, err := provisioning.ParsePattern(test.pattern)
		if err != nil {
			t.Fatal(err)
		}
		m, err := provisioning.ParseMailbox(test.mailbox)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := provisioning.NewNamer(p, m, test.limit); (err == nil) != test.ok {
			t.Errorf("NewNamer(%q, %s, %d): %v", test.pattern, test.mailbox, test.limit, err)
		}
	}
}

func TestNamerParts(t *testing.T) {
	t.Parallel()
	const usual = "{local}+{slug}@{domain}"
	tests := []struct {
		pattern, name, ref string
		limit              int
		want               []provisioning.Username // the first candidates
	}{
		{usual, "Acme Bakery", "A-1", 50, []provisioning.Username{
			"agency+acme-bakery@agency.example", "agency+acme-bakery-2@agency.example", "agency+acme-bakery-3@agency.example",
		}},
		{"{local}{n}@{domain}", "Acme Bakery", "", 50, []provisioning.Username{"agency1@agency.example", "agency2@agency.example"}},
		{"{local}-{n}-cc@{domain}", "Acme", "", 50, []provisioning.Username{"agency-1-cc@agency.example", "agency-2-cc@agency.example"}},
		{"{local}+{slug}-{n}@{domain}", "Acme", "", 50, []provisioning.Username{"agency+acme-1@agency.example", "agency+acme-2@agency.example"}},
		{"{slug}{n}@{domain}", "Acme", "", 50, []provisioning.Username{"acme1@agency.example", "acme2@agency.example"}},
		{"{slug}{n}@{domain}", "Studio 54", "", 50, []provisioning.Username{"studio-54-1@agency.example", "studio-54-2@agency.example"}},
		{"{local}+{ref}@{domain}", "Acme", "ACME/1", 50, []provisioning.Username{"agency+acme-1@agency.example", "agency+acme-1-2@agency.example"}},
		{"{local}+{ref}@{domain}", "Acme", "ACME/7", 50, []provisioning.Username{"agency+acme-7@agency.example", "agency+acme-7-2@agency.example"}},
		{"{local}+{ref}@{domain}", "Acme", "", 50, []provisioning.Username{"agency+acme@agency.example"}},
		{"{slug}.{ref}@cc.{domain}", "Acme", "R1", 50, []provisioning.Username{"acme.r1@cc.agency.example"}},
		{"X-{slug}-Y@{domain}", "Acme", "", 50, []provisioning.Username{"x-acme-y@agency.example", "x-acme-2-y@agency.example"}},

		// A name that ends like a number of ours.
		{usual, "Studio 2", "", 50, []provisioning.Username{"agency+studio-2@agency.example", "agency+studio-2-2@agency.example"}},
		{usual, "54", "", 50, []provisioning.Username{"agency+54@agency.example", "agency+54-2@agency.example"}},
		{usual, "Light 3", "", 36, []provisioning.Username{
			"agency+light-3@agency.example", "agency+light-2@agency.example", "agency+light-4@agency.example",
		}},

		// Nothing readable in the name.
		{usual, "…", "R-7", 50, []provisioning.Username{"agency+r-7@agency.example", "agency+r-7-2@agency.example"}},
		{usual, "…", "?", 50, []provisioning.Username{"agency+client@agency.example", "agency+client-2@agency.example"}},

		// Too long: cut, without a separator at the end; the stem leaves room for any number.
		{usual, "Northern Lights Veterinary", "", 40, []provisioning.Username{
			"agency+northern-lights-ve@agency.example", "agency+northern-l-2@agency.example",
		}},
		{usual, "Northern Lights XYZ Veterinary", "", 38, []provisioning.Username{
			"agency+northern-lights@agency.example", "agency+northern-2@agency.example",
		}},
		{usual, strings.Repeat("a", 200), "", 254, []provisioning.Username{
			provisioning.Username("agency+" + strings.Repeat("a", 57) + "@agency.example"),
		}},
	}
	for _, test := range tests {
		parts := newNamer(t, test.pattern, test.limit).Parts(test.name, test.ref)
		var got []provisioning.Username
		for k := range test.want {
			got = append(got, parts.Candidate(k+1))
		}
		if diff := gocmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s of %q, %q (-want +got)\n%s", test.pattern, test.name, test.ref, diff)
		}
	}
}

func TestNamerSlug(t *testing.T) {
	t.Parallel()
	namer := newNamer(t, "{slug}@{domain}", 80)
	for name, want := range map[string]string{
		"Acme Bakery, Inc.":      "acme-bakery-inc",
		"  --Acme__Bakery--  ":   "acme-bakery",
		"Müller & Söhne GmbH":    "muller-and-sohne-gmbh",
		"AT&T":                   "at-and-t",
		"Ann's Café":             "anns-cafe",
		"Ann’s Cafe\u0301":       "anns-cafe",
		"Łódź":                   "lodz",
		"Ελληνικά":               "ellinika",
		"Ярославль":              "yaroslavl",
		"株式会社さくら":                "zhushihuishesakura",
		"한국":                     "hangug",
		"מאפייה":                 "mfyyh",
		"किराना":                 "kirana",
		"ﬁne ½":                  "fine-1-2",
		"🍞":                      "bread",
		"ＡＢＣ　１２３":                "abc-123",
		"\u202eevil\u202c":       "evil",
		"a@b+c.d_e":              "a-b-c-d-e",
		"':'":                    "client",
		"\u200d\u0301\U000e0001": "client",
	} {
		if got := namer.Parts(name, "").Wanted; got != provisioning.Username(want+"@agency.example") {
			t.Errorf("%q gives %s, want %s", name, got, want)
		}
	}
}

// patterns are settings under which usernames are counted out in different ways.
func patterns() []string {
	return []string{
		"{local}+{slug}@{domain}", "{local}{n}@{domain}", "{local}+{ref}@{domain}", "{slug}{n}@{domain}", "{slug}x{n}y@{domain}",
		"{slug}.{ref}@{domain}", "{local}-{slug}@cc.{domain}", "{local}+{slug}+{ref}.{n}@{domain}", "{slug}-2@{domain}",
	}
}

// name draws names in all scripts, and such that are made to collide.
func name() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.StringOf(rapid.RuneFrom(nil, unicode.Han, unicode.Arabic, unicode.Cyrillic, unicode.Thai, unicode.Mn, unicode.So)),
		rapid.StringMatching(`[Aa1-3 .-]{0,30}`),
		rapid.StringMatching(`(acme|studio){0,12}[ -]?[0-9]{0,9}`),
	)
}

func TestNamerCandidates(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.SampledFrom(patterns()).Draw(t, "pattern")
		limit := rapid.IntRange(36, 254).Draw(t, "limit")
		name, ref := name().Draw(t, "name"), name().Draw(t, "ref")
		p, err := provisioning.ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		namer, err := provisioning.NewNamer(p, provisioning.Mailbox{Local: "agency", Domain: "agency.example"}, limit)
		if err != nil {
			t.Fatal(err)
		}
		parts := namer.Parts(name, ref)
		if again := namer.Parts(name, ref); again != parts {
			t.Fatalf("%+v, then %+v", parts, again)
		}
		seen := make(map[provisioning.Username]int)
		for _, k := range append(seq(1, 50), 999_999, 9_999_998) {
			u := parts.Candidate(k)
			if same, ok := seen[u]; ok {
				t.Fatalf("the candidates %d and %d are both %s", same, k, u)
			}
			seen[u] = k
			if parsed, err := provisioning.ParseUsername(string(u), limit); err != nil || parsed != u {
				t.Fatalf("candidate %d breaks the rules: %v", k, err)
			}
			if u != parts.Wanted && !strings.HasPrefix(string(u), parts.Stem) || !strings.HasSuffix(string(u), parts.Tail) {
				t.Fatalf("candidate %d, %s, is not made of %+v", k, u, parts)
			}
		}
	})
}

func seq(from, to int) (numbers []int) {
	for n := from; n <= to; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

// client is what a username depends on.
type client struct{ name, ref string }

// allocate gives usernames as the import does: by the two steps that the comment of Parts describes. It
// trusts them: it does not look for usernames that two stems share.
func allocate(namer *provisioning.Namer, clients []client) map[client][]provisioning.Username {
	clients = slices.Clone(clients)
	slices.SortFunc(clients, func(a, b client) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.ref, b.ref)) })
	given := make(map[client][]provisioning.Username)
	wanted := make(map[provisioning.Username]bool)
	var others []client
	for _, c := range clients {
		parts := namer.Parts(c.name, c.ref)
		if wanted[parts.Wanted] {
			others = append(others, c)
			continue
		}
		wanted[parts.Wanted] = true
		given[c] = append(given[c], parts.Wanted)
	}
	next := make(map[string]int)
	for _, c := range others {
		parts := namer.Parts(c.name, c.ref)
		for {
			next[parts.Stem] = max(next[parts.Stem], 1) + 1
			u := provisioning.Username(fmt.Sprint(parts.Stem, next[parts.Stem], parts.Tail))
			if !wanted[u] {
				given[c] = append(given[c], u)
				break
			}
		}
	}
	return given
}

// TestNamerSet names 100,000 clients that were made to collide.
func TestNamerSet(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // The same names in every run.
	words := []string{
		"Acme", "acme!", "ACME-2", "Acme 2 3", "Acme 10", "Studio 54", "studio", "a", "1", "2-2", "007", "é", "株式会社", "…", "",
		strings.Repeat("long ", 20), strings.Repeat("long ", 20) + "2", strings.Repeat("x", 19), strings.Repeat("x", 20) + " 3", "long-l", "long",
	}
	clients := make([]client, 100_000)
	for i := range clients {
		clients[i].name = words[random.IntN(len(words))]
		switch random.IntN(3) {
		case 0:
			clients[i].name += fmt.Sprintf(" %d", random.IntN(30))
		case 1:
			clients[i].name += fmt.Sprintf(" %d", random.IntN(3000))
		}
		if random.IntN(2) == 0 {
			clients[i].ref = words[random.IntN(len(words))]
		}
	}
	for i, pattern := range patterns() {
		for _, limit := range []int{40, 254} {
			t.Run(fmt.Sprint(pattern, " ", limit), func(t *testing.T) {
				t.Parallel()
				clients := clients
				if i > 0 || limit > 40 { // The default pattern, cut short, gets them all.
					clients = clients[:10_000]
				}
				namer := newNamer(t, pattern, limit)
				given := allocate(namer, clients)
				owners := make(map[provisioning.Username]client, len(clients))
				for c, usernames := range given {
					for _, u := range usernames {
						if other, ok := owners[u]; ok {
							t.Fatalf("%q and %q both got %s", other, c, u)
						}
						owners[u] = c
						if _, err := provisioning.ParseUsername(string(u), limit); err != nil {
							t.Fatal(err)
						}
					}
				}
				if len(owners) != len(clients) {
					t.Fatalf("%d usernames for %d clients", len(owners), len(clients))
				}
				shuffled := slices.Clone(clients)
				rand.New(rand.NewPCG(3, 4)).Shuffle(len(shuffled), func(i, j int) { //nolint:gosec // As above.
					shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
				})
				if !maps.EqualFunc(given, allocate(namer, shuffled), slices.Equal) {
					t.Error("another order gives other usernames")
				}
			})
		}
	}
}

// newNamer names for the mailbox agency@agency.example.
func newNamer(tb testing.TB, pattern string, limit int) *provisioning.Namer {
	tb.Helper()
	p, err := provisioning.ParsePattern(pattern)
	if err != nil {
		tb.Fatal(err)
	}
	n, err := provisioning.NewNamer(p, provisioning.Mailbox{Local: "agency", Domain: "agency.example"}, limit)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}
