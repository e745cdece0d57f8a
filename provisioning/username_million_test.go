package provisioning_test

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
)

// adversarialName returns a name that is hard to make a username of, always the same for i: of any script or
// of none, too long, ending in numbers that others get, or differing from others in what a slug leaves out.
func adversarialName(i int) string {
	random := rand.New(rand.NewPCG(uint64(i), 3)) //nolint:gosec // The same names in every run.
	pick := func(words ...string) string { return words[random.IntN(len(words))] }
	word := func() string {
		return pick("Acme", "ACME", "acmé", "Åcme", "A.C.M.E.", "Café", "Bäckerei", "Straße", "O'Neil", "Ресторан", "Заря", "Ταβέρνα",
			"東京", "株式会社", "서울", "ร้านอาหาร", "नमस्ते", "مطعم", "מסעדה", "ბანკი", "Հայաստան", "ቡና", "🍕", "🎉🎉", "№", "½", "Ⅷ",
			"ｆｕｌｌ", "naïve", "Łódź", "Đặng", "İstanbul", "ﬁne", "-", "--", "+", "@", "_", ".", "&", "%", "a", "client", "Client",
			strings.Repeat("long ", 12), strings.Repeat("x", 55), strconv.Itoa(random.IntN(50)), strconv.Itoa(random.IntN(2_000_000)))
	}
	switch random.IntN(6) {
	case 0:
		return pick("...", "!!!", "?", "。", "—", "\u3000.", "( )") // nothing is left of it
	case 1:
		return word()
	case 2:
		return word() + pick(" ", "-", "", "_", " & ") + strconv.Itoa(random.IntN(100_000))
	case 3:
		return strings.Repeat(word()+" ", 1+random.IntN(3)) + strconv.Itoa(i)
	default:
		return word() + pick(" ", "-", ".", "") + word() + pick("", " Inc.", " GmbH", " 2", "-2", " 3")
	}
}

// adversarialFile writes a roster of these rows as it is read.
func adversarialFile(rows []int) io.Reader {
	reader, writer := io.Pipe()
	go func() {
		buffer := bufio.NewWriter(writer)
		w := csv.NewWriter(buffer)
		_ = w.Write([]string{"ref", "name", "owner_email"})
		for _, i := range rows {
			_ = w.Write([]string{fmt.Sprint("R", i), adversarialName(i), "ann@a.example"})
		}
		w.Flush()
		writer.CloseWithError(buffer.Flush())
	}()
	return reader
}

// TestMillionUsernames gives a million adversarial names their usernames: none twice, none against the rules,
// and the same ones in another order of the file and when the file is imported again.
func TestMillionUsernames(t *testing.T) {
	t.Parallel()
	clients := 1_000_000
	if testing.Short() {
		clients = 20_000
	}
	const limit = 40
	rows := make([]int, clients)
	for i := range rows {
		rows[i] = i
	}
	var first string
	for _, order := range []string{"in order", "shuffled"} {
		o := setup(t)
		// What usernames do not need takes most of the time.
		o.exec(t, `DROP INDEX clients_search, clients_tags, clients_stage, clients_route`)
		o.importer.Namer = newNamer(t, pattern, limit)
		if order == "shuffled" {
			rand.New(rand.NewPCG(1, 2)).Shuffle(clients, func(i, j int) { rows[i], rows[j] = rows[j], rows[i] }) //nolint:gosec // any order
		}
		im, err := o.importer.Import(t.Context(), adversarialFile(rows), provisioning.ImportOptions{Actor: provisioning.ActorCLI})
		if err != nil || im.Created != clients {
			t.Fatalf("%s: %d created, %d rejected, %v", order, im.Created, im.Rejected, err)
		}
		given := ask[string](t, o, `SELECT md5(string_agg(ref || ' ' || username, ' ' ORDER BY ref)) FROM clients`)
		if order == "shuffled" {
			if given != first {
				t.Error("another order of the file gives other usernames")
			}
			return
		}
		first = given
		o.checkUsernames(t, clients, limit)
		again, err := o.importer.Import(t.Context(), adversarialFile(rows), provisioning.ImportOptions{Actor: provisioning.ActorCLI})
		if err != nil || again.Unchanged != clients {
			t.Errorf("the same file again: %d unchanged, %v", again.Unchanged, err)
		}
		if given = ask[string](t, o, `SELECT md5(string_agg(ref || ' ' || username, ' ' ORDER BY ref)) FROM clients`); given != first {
			t.Error("the same file again changes usernames")
		}
	}
}

// checkUsernames reads the username of every client and holds it to the rules.
func (o *office) checkUsernames(t *testing.T, clients, limit int) {
	t.Helper()
	rows, err := o.DB.Query(t.Context(), `SELECT username FROM clients`) //nolint:rowserrcheck // ForEachRow returns it.
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool, clients)
	var username string
	_, err = pgx.ForEachRow(rows, []any{&username}, func() error {
		if _, err := provisioning.ParseUsername(username, limit); err != nil {
			return err
		}
		folded := strings.ToLower(username)
		if !strings.HasPrefix(folded, "agency+") || !strings.HasSuffix(folded, "@agency.example") {
			return fmt.Errorf("%q does not follow the pattern", username)
		}
		if seen[folded] {
			return fmt.Errorf("%q is given twice", username)
		}
		seen[folded] = true
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if len(seen) != clients {
		t.Errorf("%d usernames of %d clients", len(seen), clients)
	}
}
