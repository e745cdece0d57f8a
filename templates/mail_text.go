package templates

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Text is the words of a mail, parsed and found complete. Their source is plain text:
//
//	text      = "Subject: " words, line, { line }
//	line      = "# " words      a heading; the first line of a text is its title
//	          | "* " words      an item of a list
//	          | "{link}" | "{link: " label "}"     the button; in plain text the address
//	          | "{permissions}" | "{limits}"       a list
//	          | words           a line of a paragraph
//	          | ""              ends a paragraph or a list
//	words     = { characters | "**" bold characters "**" | "{" placeholder "}" }
//
// A line with a placeholder that the agency's letterhead leaves empty is left out. The owner's name,
// where there is none, takes the blank and the comma before it along.
type Text struct {
	subject []token
	blocks  []block
}

// block is what stands between empty lines, or a line that is not of a paragraph.
type block struct {
	kind  blockKind
	lines [][]token // of a paragraph; a heading and an item have one
	label string    // of the button; may be empty
}

type blockKind int

const (
	blockParagraph blockKind = iota
	blockHeading
	blockItem
	blockButton
	blockPermissions
	blockLimits
)

// token is characters, or a placeholder, or the place where bold begins or ends.
type token struct {
	characters string
	field      string
	bold       bool
}

// Placeholder is a word in braces that stands for something in a text.
type Placeholder struct {
	Name    string // "{client}"
	Meaning string // for the agency
}

// Placeholders lists what may stand in a text.
func Placeholders(key TextKey) []Placeholder {
	list := []Placeholder{
		{"{owner}", "the owner’s name; where there is none, “Hello {owner},” becomes “Hello,”"},
		{"{client}", "the client’s name"},
		{"{agency}", "your name"},
		{"{provider}", "the provider’s name"},
		{"{host}", "the site that the link leads to"},
		{"{provider_host}", "the site that owners sign in at"},
		{"{reply_to}", "the address at which you read answers"},
		{"{support}", "your support contact; without one, its line is left out"},
		{"{phrase}", "the phrase to compare on the phone; without one, its line is left out"},
	}
	if key.manages() {
		list = append([]Placeholder{{"{username}", "the address of the user to add; best on a line of its own"}}, list...)
	} else {
		list = append(list,
			Placeholder{"{permissions}", "the list of what you may do; alone on its line"},
			Placeholder{"{limits}", "the list of what you may not do; alone on its line"})
	}
	if key.asks() {
		return append([]Placeholder{
			{"{link: Label}", "the button, alone on its line; the plain text has the address"},
			{"{expires}", "the last day on which the link works"},
		}, list...)
	}
	return append([]Placeholder{
		{"{organization}", "the account’s name at the provider"},
		{"{connected}", "when it was connected"},
	}, list...)
}

const (
	maxSubject = 150
	maxLabel   = 60
	maxBody    = 8 << 10
)

// ParseText reads the source of a text. Its error tells every mistake with its line and its cure.
func ParseText(key TextKey, source string) (Text, error) {
	if !slices.Contains(Keys(), key) {
		return Text{}, fmt.Errorf("there is no text %q", key)
	}
	p := textParser{key: key}
	for _, placeholder := range Placeholders(key) {
		name, _, _ := strings.Cut(strings.Trim(placeholder.Name, "{}"), ":")
		p.known = append(p.known, name)
	}
	header, body, _ := strings.Cut(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(source), "\n")
	p.line = 1
	p.subject(header)
	if len(body) > maxBody {
		p.mistake("the text has %d bytes; shorten it to %d: few people read more", len(body), maxBody)
		return Text{}, errors.Join(p.mistakes...)
	}
	for line := range strings.Lines(body) {
		p.line++
		p.body(typeset(key.Language, oneLine(line)))
	}
	switch {
	case key.asks() && p.links == 0:
		p.mistake("the link is missing; write {link: Continue} on a line of its own")
	case len(p.text.blocks) == 0:
		p.mistake("there is nothing below the subject; write what the mail is to say")
	}
	return p.text, errors.Join(p.mistakes...)
}

type textParser struct {
	key      TextKey
	known    []string // names of placeholders
	text     Text
	line     int
	links    int
	open     bool // a line of a paragraph came just before
	mistakes []error
}

func (p *textParser) mistake(format string, args ...any) {
	p.mistakes = append(p.mistakes, fmt.Errorf("line %d: "+format, append([]any{p.line}, args...)...))
}

func (p *textParser) subject(line string) {
	words, found := strings.CutPrefix(oneLine(line), "Subject:")
	words = oneLine(words)
	switch n := utf8.RuneCountInString(words); {
	case !found:
		p.mistake("a text begins with its subject; write “Subject: …” above everything else")
		return
	case words == "":
		p.mistake("the subject is empty; write one after “Subject:”")
		return
	case n > maxSubject:
		p.mistake("the subject has %d characters; shorten it to %d, of which a phone shows the first 40", n, maxSubject)
	}
	p.text.subject = p.words(words)
	for _, t := range p.text.subject {
		switch t.field {
		case "owner", "provider_host", "reply_to", "support", "phrase":
			p.mistake("{%s} may be empty and cannot stand in the subject; take it out", t.field)
		}
		if t.bold {
			p.mistake("a subject has no bold words; take the ** out")
		}
	}
}

func (p *textParser) body(line string) {
	paragraph := false
	switch {
	case line == "":
	case strings.HasPrefix(line, "# "):
		p.add(block{kind: blockHeading, lines: [][]token{p.words(line[2:])}})
	case strings.HasPrefix(line, "* "):
		p.add(block{kind: blockItem, lines: [][]token{p.words(line[2:])}})
	case line == "{permissions}":
		p.add(block{kind: blockPermissions})
	case line == "{limits}":
		p.add(block{kind: blockLimits})
	case strings.HasPrefix(line, "{link}") || strings.HasPrefix(line, "{link:"):
		p.button(line)
	default:
		paragraph = true
		words := p.words(line)
		if p.open {
			last := &p.text.blocks[len(p.text.blocks)-1]
			last.lines = append(last.lines, words)
		} else {
			p.add(block{kind: blockParagraph, lines: [][]token{words}})
		}
	}
	p.open = paragraph
}

func (p *textParser) add(b block) { p.text.blocks = append(p.text.blocks, b) }

func (p *textParser) button(line string) {
	p.links++
	label := oneLine(strings.TrimPrefix(strings.TrimSuffix(strings.TrimPrefix(line, "{link"), "}"), ":"))
	switch {
	case !p.key.asks():
		p.mistake("this mail asks for nothing and has no link; take {link} out")
	case p.links > 1:
		p.mistake("this is the second {link}; a mail has one, so take the other out")
	case !strings.HasSuffix(line, "}") || strings.ContainsAny(label, "{}"):
		p.mistake("the button is to be alone on its line and its label of plain words; write {link: Continue}")
	case utf8.RuneCountInString(label) > maxLabel:
		p.mistake("the button’s label has %d characters; shorten it to %d", utf8.RuneCountInString(label), maxLabel)
	}
	p.add(block{kind: blockButton, label: label})
}

// words splits a line into tokens.
func (p *textParser) words(line string) []token {
	if strings.Contains(line, "://") {
		p.mistake("an address of a page stands in the words; leave out what is before the name of the site: a mail has one link, because more of them look like a trap")
	}
	var tokens []token
	bold := false
	for line != "" {
		at := strings.IndexAny(line, "*{}")
		if at < 0 {
			at = len(line)
		}
		if at > 0 {
			tokens, line = append(tokens, token{characters: line[:at]}), line[at:]
			continue
		}
		switch {
		case strings.HasPrefix(line, "**"):
			if n := len(tokens); n > 0 && tokens[n-1].bold {
				p.mistake("there is nothing between ** and **; take both out")
			}
			bold = !bold
			tokens, line = append(tokens, token{bold: true}), line[2:]
		case line[0] == '*':
			tokens, line = append(tokens, token{characters: "*"}), line[1:]
		default:
			name, rest, closed := strings.Cut(line[1:], "}")
			if line[0] == '}' || !closed || strings.Contains(name, "{") {
				p.mistake("a brace has no partner; write a placeholder such as {client}, or parentheses")
				return tokens
			}
			p.placeholder(name)
			tokens, line = append(tokens, token{field: name}), rest
		}
	}
	if bold {
		p.mistake("** opens bold words and nothing closes them; write ** behind them as well")
	}
	return tokens
}

func (p *textParser) placeholder(name string) {
	base, _, _ := strings.Cut(name, ":")
	switch {
	case !slices.Contains(p.known, base):
		p.mistake("{%s} stands for nothing here; use one of {%s}", name, strings.Join(p.known, "}, {"))
	case base == "link" || name == "permissions" || name == "limits":
		p.mistake("{%s} is to be alone on its line; give it one", name)
	case name != base:
		p.mistake("{%s} takes no label; write {%s}", name, base)
	}
}
