package provisioning

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/text/unicode/norm"
)

// maxSearchRunes is how much of a word is kept and looked for; a database bounds the length of one.
const maxSearchRunes = 64

// searchText returns the words by which a client with these texts is found, with a space between them: in
// lower case, without accents, split at everything that is neither letter nor digit. What an operator types is
// taken apart alike, so that "cafe" finds "Café" and any part of an address finds its owner.
func searchText(texts ...string) string {
	var b strings.Builder
	b.Grow(128)
	for _, text := range texts {
		length := -1 // of the word being written, in characters; -1 between words
		for _, r := range foldText(text) {
			switch {
			case isNoWordRune(r):
				length = -1
			case length >= maxSearchRunes:
			default:
				if length < 0 {
					if b.Len() > 0 {
						b.WriteByte(' ')
					}
					length = 0
				}
				b.WriteRune(r)
				length++
			}
		}
	}
	return b.String()
}

// searchWords is searchText, word by word.
func searchWords(texts ...string) []string { return strings.Fields(searchText(texts...)) }

func isNoWordRune(r rune) bool {
	if r <= unicode.MaxASCII {
		return !isASCIIAlphanumeric(r)
	}
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.Is(unicode.Mc, r)
}

// foldText writes a text in lower case and without accents.
func foldText(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) {
		return strings.ToLower(text)
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(text))
}

func firstRunes(s string, n int) string {
	if len(s) <= n || utf8.RuneCountInString(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// searchTerms returns the words that a client must have the beginnings of, each once: one that begins another says nothing.
func searchTerms(typed string) []string {
	words := searchWords(firstRunes(typed, 500))
	slices.Sort(words)
	terms := words[:0]
	for i, word := range words {
		if i+1 == len(words) || !strings.HasPrefix(words[i+1], word) {
			terms = append(terms, word)
		}
	}
	return terms
}

// searchQuery finds clients of whose words each of the typed ones begins one, as text of a tsquery; it
// is empty, and finds none, if no word was typed.
func searchQuery(typed string) string {
	words := searchTerms(typed)
	for i, word := range words {
		words[i] = "'" + word + "':*" // Letters and digits: there is nothing to escape.
	}
	return strings.Join(words, " & ")
}

// reindex finds the words of one client anew after one of its texts has changed.
func reindex(ctx context.Context, db DB, client uuid.UUID) error {
	texts := make([]string, 6)
	err := db.QueryRow(ctx, `
		SELECT name, coalesce(ref, ''), owner_name, owner_email, coalesce(account_id, ''), username
		FROM clients
		WHERE id = $1`, client).Scan(&texts[0], &texts[1], &texts[2], &texts[3], &texts[4], &texts[5])
	if err != nil {
		return fmt.Errorf("index client %s: %w", client, err)
	}
	_, err = db.Exec(ctx, `UPDATE clients SET search = array_to_tsvector($2::text[]) WHERE id = $1`, client, searchWords(texts...))
	if err != nil {
		return fmt.Errorf("index client %s: %w", client, err)
	}
	return nil
}

// SortSearch sorts what was added to the roster lately into its search indexes. Until then it waits in a
// list that every search reads to its end. Any number of processes may call it at any time.
func SortSearch(ctx context.Context, db DB) error {
	for _, index := range []string{"clients_search", "clients_tags"} {
		if _, err := db.Exec(ctx, `SELECT gin_clean_pending_list($1::regclass)`, index); err != nil {
			return fmt.Errorf("sort the search index: %w", err)
		}
	}
	return nil
}
