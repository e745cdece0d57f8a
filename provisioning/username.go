package provisioning

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/anyascii/go"

	"github.com/countersign/countersign/provisioning/roster"
)

// Username is the plus-addressed Account Manager username of a client: a mail address that is
// delivered to the agency's mailbox, in lower case, so that equal usernames are equal strings. The
// zero Username stands for none.
type Username string

// ParseUsername reads a username of at most limit characters and returns it in lower case.
//
//	username = user [ "+" detail ] "@" domain   6 to limit characters, all of a-z 0-9 - _ . + @
//	user     = one or more characters but +     the mailbox (RFC 5233)
//	detail   = one or more characters           may contain further +
//	domain   = as in a mail address
//
// The characters and the lower bound are the provider's; a mail address bounds the rest (see
// roster.ParseAddress): user and detail together have at most 64 octets, no dot at an end, no two in a row.
func ParseUsername(s string, limit int) (Username, error) {
	if strings.ContainsFunc(s, func(r rune) bool { return r != '@' && !isUsernameRune(r) }) {
		return "", fmt.Errorf("username %q: only letters, digits and - _ . + @ are allowed", s)
	}
	folded := strings.ToLower(s)
	if len(folded) < 6 || len(folded) > limit {
		return "", fmt.Errorf("username %q has %d characters: 6 to %d are allowed", s, len(folded), limit)
	}
	local, _, err := roster.ParseAddress(folded)
	if err != nil {
		return "", fmt.Errorf("username %q: %w", s, err)
	}
	if user, detail, tagged := strings.Cut(local, "+"); user == "" || tagged && detail == "" {
		return "", fmt.Errorf("username %q: something must stand on both sides of the first +", s)
	}
	return Username(folded), nil
}

// Split returns the parts of u; detail is empty when u has no plus sign.
func (u Username) Split() (user, detail, domain string) {
	local, domain, _ := strings.Cut(string(u), "@")
	user, detail, _ = strings.Cut(local, "+")
	return user, detail, domain
}

func isASCIIAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

func isUsernameRune(r rune) bool {
	return isASCIIAlphanumeric(r) || strings.ContainsRune("-_.+", r)
}

// Mailbox is the agency's mailbox, to which the mail for every username is delivered.
type Mailbox struct {
	Local  string
	Domain string
}

// ParseMailbox reads a mail address, in which the provider must accept every character as part of a
// username, and returns it in lower case.
func ParseMailbox(s string) (Mailbox, error) {
	local, domain, err := roster.ParseAddress(strings.TrimSpace(s))
	if err != nil {
		return Mailbox{}, fmt.Errorf("agency mailbox %q: %w; write an address such as agency@example.com", s, err)
	}
	if strings.ContainsFunc(local, func(r rune) bool { return !isUsernameRune(r) }) {
		return Mailbox{}, fmt.Errorf("agency mailbox %q: the provider allows only letters, digits and - _ . + in usernames;"+
			" use a mailbox with a plainer name", s)
	}
	return Mailbox{Local: strings.ToLower(local), Domain: domain}, nil
}

func (m Mailbox) String() string { return m.Local + "@" + m.Domain }

// Pattern says how usernames are built. Its grammar:
//
//	pattern     = 1*( literal / placeholder ) "@" 1*( literal / "{domain}" )
//	placeholder = "{local}"    what stands before the @ of the agency's mailbox
//	            / "{slug}"     the client's name in a-z, 0-9 and hyphens
//	            / "{ref}"      the agency's own key of the client, likewise
//	            / "{n}"        a number: 1, 2, 3, …
//	literal     = letters, digits and - _ . +
//
// Each placeholder stands at most once, {n} after {slug} and {ref}, and one of the three must be there
// to tell clients apart. Without {n} a number is added only where it is needed: behind the last {slug}
// or {ref}, with a hyphen.
type Pattern struct {
	source   string
	before   []string // tokens up to the first of {slug} and {ref}
	variable []string // tokens from there to the last of them; empty if there is none
	between  []string // tokens from there to {n}; empty without {n}
	numbered bool     // {n} is there
	after    []string // the other tokens before the @
	domain   []string // the tokens behind the @
}

// ParsePattern reads a pattern such as {local}+{slug}@{domain}.
func ParsePattern(s string) (Pattern, error) {
	fail := func(format string, args ...any) (Pattern, error) {
		return Pattern{}, fmt.Errorf("username pattern %q: "+format+"; an example is {local}+{slug}@{domain}", append([]any{s}, args...)...)
	}
	source := strings.TrimSpace(s)
	left, right, found := strings.Cut(source, "@")
	if !found || strings.Contains(right, "@") {
		return fail("it must contain exactly one @")
	}
	tokens, err := patternTokens(left, "{local}", "{slug}", "{ref}", "{n}")
	if err != nil {
		return fail("before the @ %w", err)
	}
	domain, err := patternTokens(right, "{domain}")
	if err != nil {
		return fail("behind the @ %w", err)
	}
	if len(domain) == 0 {
		return fail("a domain or {domain} must follow the @")
	}
	p := Pattern{source: source, domain: domain}
	isVariable := func(token string) bool { return token == "{slug}" || token == "{ref}" }
	number := slices.Index(tokens, "{n}")
	p.numbered = number >= 0
	first := slices.IndexFunc(tokens, isVariable)
	switch {
	case first < 0 && !p.numbered:
		return fail("it must contain {slug}, {ref} or {n}, or every client would get the same username")
	case first < 0:
		p.before, p.after = tokens[:number], tokens[number+1:]
		return p, nil
	}
	last := first
	for i, token := range tokens {
		if isVariable(token) {
			last = i
		}
	}
	p.before, p.variable, p.after = tokens[:first], tokens[first:last+1], tokens[last+1:]
	if p.numbered {
		if number < last {
			return fail("{n} must come after {slug} and {ref}")
		}
		p.between, p.after = tokens[last+1:number], tokens[number+1:]
	}
	return p, nil
}

func (p Pattern) String() string { return p.source }

// patternTokens splits one side of a pattern into literals, in lower case, and placeholders.
func patternTokens(s string, placeholders ...string) (tokens []string, err error) {
	for s != "" {
		brace := strings.IndexByte(s, '{')
		if brace == 0 {
			end := strings.IndexByte(s, '}') + 1
			token := s[:end]
			switch {
			case !slices.Contains(placeholders, token):
				return nil, fmt.Errorf("only the placeholders %s are known", strings.Join(placeholders, " "))
			case slices.Contains(tokens, token):
				return nil, fmt.Errorf("%s stands twice", token)
			}
			tokens, s = append(tokens, token), s[end:]
			continue
		}
		literal := s
		if brace > 0 {
			literal = s[:brace]
		}
		for _, r := range literal {
			if !isUsernameRune(r) {
				return nil, fmt.Errorf("%s is not allowed: only letters, digits and - _ . +", strconv.QuoteRuneToGraphic(r))
			}
		}
		tokens, s = append(tokens, strings.ToLower(literal)), s[len(literal):]
	}
	return tokens, nil
}

// numberDigits is how long the number in a username can get: ten million clients of one name.
const numberDigits = 7

// maxNumber is the last number in a username.
const maxNumber = 9_999_999

// Namer gives usernames by one pattern, for one mailbox.
type Namer struct {
	variable  []string // tokens of the part that differs between clients
	prefix    string   // what stands before it
	separator string   // what stands between it and the number
	tail      string   // what stands behind the number
	numbered  bool     // every username has a number
	room      int      // how long variable part, separator and number can be together
}

// NewNamer makes a Namer whose usernames have at most limit characters and a local part of at most 64.
// It refuses settings under which a username would not be a valid address or could not tell clients
// apart.
func NewNamer(p Pattern, m Mailbox, limit int) (*Namer, error) {
	expand := strings.NewReplacer("{local}", m.Local, "{domain}", m.Domain)
	join := func(tokens []string) string { return expand.Replace(strings.Join(tokens, "")) }
	domain := join(p.domain)
	n := &Namer{
		variable:  p.variable,
		prefix:    join(p.before),
		separator: join(p.between),
		tail:      join(p.after) + "@" + domain,
		numbered:  p.numbered,
	}
	if !p.numbered {
		n.separator = "-"
	}
	if last := len(n.separator) - 1; last >= 0 && '0' <= n.separator[last] && n.separator[last] <= '9' {
		return nil, fmt.Errorf("username pattern %q: a digit stands before {n}, so that numbers could be confused;"+
			" put a letter or a hyphen before {n}", p)
	}
	n.room = min(limit, 254, 64+len("@")+len(domain)) - len(n.prefix) - len(n.tail)
	// One character of the variable part, a separator and the longest number must fit.
	if need := 1 + max(len(n.separator), len("-")) + numberDigits; n.room < need {
		return nil, fmt.Errorf("username pattern %q with mailbox %s leaves %d characters of %d for the client:"+
			" at least %d are needed; use a shorter mailbox, domain or pattern, or raise the maximum if the provider allows it",
			p, m, max(0, n.room), limit, need)
	}
	if _, err := ParseUsername(string(n.Parts("client", "client").Wanted), limit); err != nil {
		return nil, fmt.Errorf("username pattern %q with mailbox %s gives no valid address: %w", p, m, err)
	}
	return n, nil
}

// Parts are all usernames that one client may get, in the order of preference: Wanted, then
// Stem || k || Tail for k = 2, 3, 4, …
//
// The number can be read back from a username, and what stands before it is the whole Stem: two clients
// of different stems never get the same username with a number. A set of clients is therefore named in
// two steps, in SQL as in Go, which need not compare the stems:
//
//  1. For each distinct Wanted that nobody has yet, the first client gets it.
//  2. Every other client gets, in order within its Stem, the next k ≥ 2 for which nobody has
//     Stem || k || Tail, be it from step 1 or from before.
//
// When "first" is by content (name, ref, address), the order of the file does not matter.
type Parts struct {
	Wanted Username
	Stem   string // ends with the separator before the number
	Tail   string // the same for every client of a Namer
}

// Candidate returns the k-th username in the order of preference, from 1 to 9,999,998. No two are equal.
func (p Parts) Candidate(k int) Username {
	if k <= 1 {
		return p.Wanted
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(string(p.Wanted), p.Stem), p.Tail)
	if n, err := strconv.Atoi(bare); err == nil && 1 < n && n <= k {
		k++ // Wanted is the one with the number n: the name itself ends so.
	}
	return Username(p.Stem + strconv.Itoa(k) + p.Tail)
}

// Parts returns the usernames that a client of this name and ref may get. They depend on nothing else,
// so that a second run gives the same. A name that leaves nothing in Latin letters and digits is
// replaced by the ref, and the other way round, and both by "client".
func (n *Namer) Parts(name, ref string) Parts {
	variable := n.fill(name, ref)
	p := Parts{Stem: n.stem(variable), Tail: n.tail}
	if n.numbered {
		p.Wanted = Username(p.Stem + "1" + p.Tail)
	} else {
		p.Wanted = Username(n.prefix + cutSlug(variable, n.room) + p.Tail)
	}
	return p
}

// fill replaces the placeholders of the variable part.
func (n *Namer) fill(name, ref string) string {
	if len(n.variable) == 0 {
		return ""
	}
	var b strings.Builder
	for _, token := range n.variable {
		switch token {
		case "{slug}":
			b.WriteString(firstSlug(name, ref))
		case "{ref}":
			b.WriteString(firstSlug(ref, name))
		default:
			b.WriteString(token)
		}
	}
	return b.String()
}

// stem returns what stands before a number of any length. The number must be readable back from behind
// it: where the pattern has no separator, a stem that ends with a digit gets a hyphen.
func (n *Namer) stem(variable string) string {
	if n.separator != "" || variable == "" {
		return n.prefix + cutSlug(variable, n.room-len(n.separator)-numberDigits) + n.separator
	}
	variable = cutSlug(variable, n.room-len("-")-numberDigits)
	if last := variable[len(variable)-1]; '0' <= last && last <= '9' {
		variable += "-"
	}
	return n.prefix + variable
}

// cutSlug returns at most size characters of s, without separators at the end. It never cuts away the
// first character, which is none.
func cutSlug(s string, size int) string {
	if len(s) <= size {
		return s
	}
	return strings.TrimRight(s[:size], "-._+")
}

// firstSlug returns the slug of the first text that has one.
func firstSlug(texts ...string) string {
	for _, text := range texts {
		if s := slug(text); s != "" {
			return s
		}
	}
	return "client"
}

// slug writes a text of any script in a-z, 0-9 and single hyphens between them: letters are
// transliterated, apostrophes dropped, & becomes "and". It stops at 64 characters, the longest local
// part. The slug of a text without letters, digits and symbols that have a name is empty.
func slug(text string) string {
	var b strings.Builder
	gap := false
	write := func(s string) {
		if gap && b.Len() > 0 {
			b.WriteByte('-')
		}
		gap = false
		b.WriteString(s)
	}
	for _, r := range text {
		latin := anyascii.TransliterateRune(r)
		for i := range len(latin) {
			switch c := latin[i]; {
			case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
				write(latin[i : i+1])
			case 'A' <= c && c <= 'Z':
				write(strings.ToLower(latin[i : i+1]))
			case c == '\'':
			case c == '&':
				gap = true
				write("and")
				gap = true
			default:
				gap = true
			}
		}
		if b.Len() >= 64 {
			break
		}
	}
	return b.String()
}
