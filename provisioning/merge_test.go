package provisioning_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/roster"
)

// entry is a client as the rules of an import see it.
type entry struct {
	Name, Owner, Ref, Account, Username string
	Authorized                          bool
}

// line is a row of a roster file.
type line struct {
	number                    int
	name, owner, ref, account string
}

// verdict says why a line was rejected: the code, and the other line if they repeat each other.
type verdict struct {
	Code  roster.RejectCode
	Other int
}

// book is the roster by the rules of Importer.Import, one row after the other and without a database.
type book struct {
	namer   *provisioning.Namer
	entries []*entry
	numbers map[string]int // the last number tried behind each stem
}

type outcome struct {
	Created, Updated, Unchanged int
	Rejects                     map[int]verdict
}

// merge takes a file into the book.
func (b *book) merge(lines []line) outcome {
	out := outcome{Rejects: make(map[int]verdict)}
	for _, l := range lines {
		if other := repeated(lines, l); other > 0 {
			out.Rejects[l.number] = verdict{roster.RejectDuplicateRow, other}
		}
	}
	isRejected := func(l line) bool { _, ok := out.Rejects[l.number]; return ok }
	lines = slices.DeleteFunc(slices.Clone(lines), isRejected)
	found := b.match(lines, out.Rejects)
	lines = slices.DeleteFunc(lines, isRejected)
	b.checkAccounts(lines, found, out.Rejects)
	lines = slices.DeleteFunc(lines, isRejected)

	var added []line
	for _, l := range lines {
		e := found[l.number]
		if e == nil {
			added = append(added, l)
			continue
		}
		before := *e
		e.Name, e.Owner, e.Ref, e.Account = l.name, l.owner, cmp.Or(l.ref, e.Ref), cmp.Or(l.account, e.Account)
		if *e == before {
			out.Unchanged++
		} else {
			out.Updated++
		}
	}
	out.Created = len(added)
	b.add(added)
	return out
}

func contradict(a, b string) bool { return a != "" && b != "" && a != b }

func agree(a, b string) bool { return a != "" && a == b }

func sameOwner(name, owner, otherName, otherOwner string) bool {
	return strings.EqualFold(name, otherName) && strings.EqualFold(owner, otherOwner)
}

// repeated returns the number of another line that is the same client by the strongest key that tells: the
// first of them, or the last if l is the first; 0 if there is none.
func repeated(lines []line, l line) int {
	for i, same := range []func(o line) bool{
		func(o line) bool { return agree(o.ref, l.ref) },
		func(o line) bool { return agree(o.account, l.account) },
		func(o line) bool {
			return sameOwner(o.name, o.owner, l.name, l.owner) && !contradict(o.ref, l.ref) && !contradict(o.account, l.account)
		},
	} {
		var others []int
		for _, o := range lines {
			if o.number != l.number && same(o) {
				others = append(others, o.number)
			}
		}
		if len(others) == 0 {
			continue
		}
		// Beside rows of its name and owner, a row with a key of its own is never what they all have in common.
		ofTheirKind := i < 2 || l.ref == "" && l.account == ""
		if first := slices.Min(others); first < l.number || !ofTheirKind {
			return first
		}
		return slices.Max(others)
	}
	return 0
}

// match finds the entries of lines by the strongest key first; a line without one is a new client.
func (b *book) match(lines []line, rejects map[int]verdict) map[int]*entry {
	found := make(map[int]*entry)
	taken := make(map[*entry]bool)
	take := func(same func(l line, e *entry) bool) {
		wins := make(map[*entry]line)
		for _, l := range lines {
			if found[l.number] != nil {
				continue
			}
			candidates := slices.DeleteFunc(slices.Clone(b.entries), func(e *entry) bool { return taken[e] || !same(l, e) })
			if len(candidates) != 1 {
				continue
			}
			if win, ok := wins[candidates[0]]; !ok || compareKeys(l, win) < 0 {
				wins[candidates[0]] = l
			}
		}
		for e, l := range wins {
			found[l.number], taken[e] = e, true
		}
	}
	byName := func(l line, e *entry) bool {
		return sameOwner(l.name, l.owner, e.Name, e.Owner) && !contradict(l.ref, e.Ref) && !contradict(l.account, e.Account)
	}
	take(func(l line, e *entry) bool { return agree(l.ref, e.Ref) })
	take(func(l line, e *entry) bool { return agree(l.account, e.Account) && !contradict(l.ref, e.Ref) })
	for n := -1; n < len(found); {
		n = len(found)
		take(byName)
	}
	for _, l := range lines {
		if found[l.number] == nil && slices.ContainsFunc(b.entries, func(e *entry) bool { return !taken[e] && byName(l, e) }) {
			rejects[l.number] = verdict{Code: roster.RejectRefConflict}
		}
	}
	return found
}

// compareKeys orders lines by ref and account id, the empty last.
func compareKeys(a, b line) int {
	last := func(s string) string {
		if s == "" {
			return "\xff"
		}
		return s
	}
	return cmp.Or(cmp.Compare(last(a.ref), last(b.ref)), cmp.Compare(last(a.account), last(b.account)))
}

// checkAccounts rejects lines whose account is that of an authorized client or would be of two clients.
func (b *book) checkAccounts(lines []line, found map[int]*entry, rejects map[int]verdict) {
	for _, l := range lines {
		if e := found[l.number]; e != nil && e.Authorized && contradict(e.Account, l.account) {
			rejects[l.number] = verdict{Code: roster.RejectAccountIDAuthorized}
		}
	}
	for {
		wrong := []int{}
		for _, l := range lines {
			if _, ok := rejects[l.number]; ok || l.account == "" {
				continue
			}
			holder := slices.IndexFunc(b.entries, func(e *entry) bool { return e.Account == l.account && e != found[l.number] })
			if holder < 0 {
				continue
			}
			leaves := slices.ContainsFunc(lines, func(o line) bool {
				_, rejected := rejects[o.number]
				return !rejected && found[o.number] == b.entries[holder] && contradict(o.account, l.account)
			})
			if !leaves {
				wrong = append(wrong, l.number)
			}
		}
		if len(wrong) == 0 {
			return
		}
		for _, number := range wrong {
			rejects[number] = verdict{Code: roster.RejectDuplicateAccountID}
		}
	}
}

// add gives new clients their usernames, by the rule of provisioning.Parts.
func (b *book) add(lines []line) {
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(a.name, b.name), compareKeys(a, b), cmp.Compare(a.owner, b.owner), cmp.Compare(a.number, b.number))
	})
	taken := make(map[string]bool)
	for _, e := range b.entries {
		taken[e.Username] = true
	}
	var others []line
	enter := func(l line, username string) {
		taken[username] = true
		b.entries = append(b.entries, &entry{Name: l.name, Owner: l.owner, Ref: l.ref, Account: l.account, Username: username})
	}
	for _, l := range lines {
		if wanted := string(b.namer.Parts(l.name, l.ref).Wanted); taken[wanted] {
			others = append(others, l)
		} else {
			enter(l, wanted)
		}
	}
	for _, l := range others {
		parts := b.namer.Parts(l.name, l.ref)
		k := max(b.numbers[parts.Stem], 1) + 1
		for taken[parts.Stem+strconv.Itoa(k)+parts.Tail] {
			k++
		}
		b.numbers[parts.Stem] = k
		enter(l, parts.Stem+strconv.Itoa(k)+parts.Tail)
	}
}

// sorted returns the clients by username.
func (b *book) sorted() []entry {
	entries := []entry{}
	for _, e := range b.entries {
		entries = append(entries, *e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.Username, b.Username) })
	return entries
}

func (b *book) clone() *book {
	c := &book{namer: b.namer, numbers: maps.Clone(b.numbers)}
	for _, e := range b.entries {
		copied := *e
		c.entries = append(c.entries, &copied)
	}
	return c
}

func newBook(tb testing.TB, pattern string, limit int) *book {
	tb.Helper()
	return &book{namer: newNamer(tb, pattern, limit), numbers: make(map[string]int)}
}

// lines draws rows that repeat, resemble and contradict each other.
func lines() *rapid.Generator[[]line] {
	name := rapid.SampledFrom([]string{"Acme", "Acme", "Acme", "ACME", "acme!", "Acme 2", "Acme 3", "Acme-2 2", "Über Acme", "…", "Zed"})
	owner := rapid.SampledFrom([]string{"ann@example.com", "ann@example.com", "Ann@example.com", "bob@example.com"})
	ref := rapid.SampledFrom([]string{"", "", "A", "B", "C", "D"})
	account := rapid.SampledFrom([]string{"", "", "", "X", "Y", "Z"})
	one := rapid.Custom(func(t *rapid.T) line {
		return line{name: name.Draw(t, "name"), owner: owner.Draw(t, "owner"), ref: ref.Draw(t, "ref"), account: account.Draw(t, "account")}
	})
	return rapid.Map(rapid.SliceOfN(one, 1, 12), func(lines []line) []line {
		for i := range lines {
			lines[i].number = i + 2
		}
		return lines
	})
}

func linesFile(lines []line) string {
	records := [][]string{{"name", "owner_email", "ref", "account_id"}}
	for _, l := range lines {
		records = append(records, []string{l.name, l.owner, l.ref, l.account})
	}
	return file(records...)
}

// readBook reads the roster of the database as a book has it.
func (o *office) readBook(tb fataler) []entry {
	tb.Helper()
	rows, err := o.DB.Query(context.Background(), `
		SELECT name, owner_email, coalesce(ref, ''), coalesce(account_id, ''), username, stage = 'authorized'
		FROM clients
		ORDER BY username COLLATE "C"`)
	if err != nil {
		tb.Fatal(err)
	}
	entries, err := pgx.CollectRows(rows, pgx.RowToStructByPos[entry])
	if err != nil {
		tb.Fatal(err)
	}
	return entries
}

func outcomeOf(im provisioning.Import) outcome {
	out := outcome{Created: im.Created, Updated: im.Updated, Unchanged: im.Unchanged, Rejects: make(map[int]verdict)}
	for _, r := range im.Rejects {
		v := verdict{Code: r.Code}
		var first, last int
		if n, _ := fmt.Sscanf(r.Message, "Lines %d and %d are the same client", &first, &last); n == 2 {
			v.Other = first + last - r.Line
		}
		out.Rejects[r.Line] = v
	}
	return out
}

// TestImportFollowsTheRules compares several imports in sequence, with consents between them, with the
// same imports into a book.
func TestImportFollowsTheRules(t *testing.T) {
	t.Parallel()
	o := setup(t)
	patterns := map[string]*provisioning.Namer{}
	for _, p := range []string{pattern, "{local}{slug}{n}@{domain}", "{local}+{ref}@{domain}"} {
		patterns[p] = newNamer(t, p, 40)
	}
	rapid.Check(t, func(t *rapid.T) {
		o.inTx(t, func(o *office) {
			b := &book{numbers: make(map[string]int)}
			b.namer = patterns[rapid.SampledFrom(slices.Sorted(maps.Keys(patterns))).Draw(t, "pattern")]
			o.importer.Namer = b.namer
			for range rapid.IntRange(1, 3).Draw(t, "imports") {
				lines := lines().Draw(t, "lines")
				want := b.merge(lines)
				im := o.imports(t, linesFile(lines))
				if diff := gocmp.Diff(want, outcomeOf(im)); diff != "" {
					t.Fatalf("the outcome differs (-book +database)\n%s", diff)
				}
				if diff := gocmp.Diff(b.sorted(), o.readBook(t)); diff != "" {
					t.Fatalf("the roster differs (-book +database)\n%s", diff)
				}
				if im.Rows != len(lines) || im.Rejected != len(want.Rejects) {
					t.Fatalf("%d rows, %d rejected", im.Rows, im.Rejected)
				}
				for _, e := range b.entries {
					if e.Account != "" && !e.Authorized && rapid.IntRange(0, 3).Draw(t, "authorize") == 0 {
						e.Authorized = true
						o.exec(t, `UPDATE clients SET stage = 'authorized' WHERE username = $1`, e.Username)
					}
				}
			}
		})
	})
}

// TestRulesKeepTheirPromises: whatever is imported, the same file again changes nothing, and the order
// of its rows does not matter. The database follows the book in all of it.
func TestRulesKeepTheirPromises(t *testing.T) {
	t.Parallel()
	empty := newBook(t, pattern, 40)
	rapid.Check(t, func(t *rapid.T) {
		b := empty.clone()
		for range rapid.IntRange(0, 2).Draw(t, "imports") {
			b.merge(lines().Draw(t, "earlier lines"))
			for _, e := range b.entries {
				e.Authorized = e.Authorized || e.Account != "" && rapid.Bool().Draw(t, "authorize")
			}
		}
		lines := lines().Draw(t, "lines")
		shuffled := rapid.Permutation(lines).Draw(t, "shuffled")
		other := b.clone()
		first := b.merge(lines)
		roster := b.sorted()

		second := b.merge(lines)
		want := outcome{Unchanged: len(lines) - len(first.Rejects), Rejects: first.Rejects}
		if diff := gocmp.Diff(want, second); diff != "" {
			t.Fatalf("the same file again has another outcome (-first +second)\n%s", diff)
		}
		if diff := gocmp.Diff(roster, b.sorted()); diff != "" {
			t.Fatalf("the same file again changes the roster (-before +after)\n%s", diff)
		}
		if diff := gocmp.Diff(first, other.merge(shuffled)); diff != "" {
			t.Fatalf("another order has another outcome (-first +other)\n%s", diff)
		}
		if diff := gocmp.Diff(roster, other.sorted()); diff != "" {
			t.Fatalf("another order gives another roster (-first +other)\n%s", diff)
		}
	})
}
