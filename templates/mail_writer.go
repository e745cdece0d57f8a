package templates

import (
	"html"
	"slices"
	"strings"
)

// writer makes forms for one language on one letterhead.
type writer struct {
	frame       *frame
	language    *language
	fields      map[string]string // what the letterhead says, by placeholder
	addressed   []string          // lines of the agency's postal address
	may, mayNot []string          // the lists of what is asked for and of what stays out of reach
}

func newWriter(f *frame, language *language, l Letterhead, scopes []string) *writer {
	provider := plainName(l.Provider)
	return &writer{
		frame:    f,
		language: language,
		fields: map[string]string{
			"agency":        plainName(l.Agency),
			"provider":      provider,
			"host":          plainName(l.Host),
			"provider_host": plainName(l.ProviderHost),
			"reply_to":      plainName(l.ReplyTo),
			"support":       plainName(l.Support),
			"phrase":        plainName(l.Phrase),
		},
		addressed: addressLines(l.PostalAddress),
		may:       language.permissions(scopes, provider),
		mayNot:    language.limits(scopes),
	}
}

func slotOf(field string) slot {
	switch field {
	case "client":
		return slotClient
	case "owner":
		return slotOwner
	case "username":
		return slotUsername
	case "organization":
		return slotOrganization
	case "expires":
		return slotExpires
	case "connected":
		return slotConnected
	}
	return slotNone
}

// markup is how characters and bold words are written.
type markup struct {
	escape       func(string) string
	bold, unbold string
}

func plainText() markup { return markup{escape: func(s string) string { return s }} }

func hyperText() markup {
	return markup{escape: html.EscapeString, bold: "<strong>", unbold: "</strong>"}
}

// line writes a line of a text. It is empty if the letterhead has nothing for one of its placeholders.
func (w *writer) line(tokens []token, m markup) segments {
	var (
		line   segments
		bold   bool
		before token // the placeholder just before, bold or not
	)
	for i, t := range tokens {
		switch {
		case t.bold:
			if bold = !bold; bold {
				line.write(m.bold)
			} else {
				line.write(m.unbold)
			}
			continue
		case t.field == "":
			characters := t.characters
			if i+1 < len(tokens) && tokens[i+1].field == "owner" {
				characters = strings.TrimRight(characters, ", ")
			}
			if rest, found := strings.CutPrefix(characters, "."); found && before.field != "" && (rest == "" || rest[0] == ' ') {
				// "Pizza, Inc." brings the full stop of its sentence.
				if slot := slotOf(before.field); slot != slotNone {
					line = append(line, segment{characters: ".", slot: slot, only: unlessStop})
				} else if !strings.HasSuffix(w.fields[before.field], ".") {
					line.write(".")
				}
				characters = rest
			}
			characters, article := w.language.elision(characters)
			line.write(m.escape(characters))
			w.elide(&line, article, tokens[i+1:])
		case t.field == "owner":
			var lead string
			if i > 0 && tokens[i-1].field == "" && !tokens[i-1].bold {
				characters := tokens[i-1].characters
				lead = characters[len(strings.TrimRight(characters, ", ")):]
			}
			line = append(line, segment{characters: m.escape(lead), slot: slotOwner, only: ifValue})
		case slotOf(t.field) != slotNone:
			line = append(line, segment{slot: slotOf(t.field)})
		case w.fields[t.field] == "":
			return nil
		default:
			line.write(m.escape(w.fields[t.field]))
		}
		before = t
	}
	return line
}

// elide writes a word that is shortened before a vowel, which the placeholder after it may bring.
func (w *writer) elide(line *segments, word string, after []token) {
	for len(after) > 0 && after[0].bold {
		after = after[1:]
	}
	switch {
	case word == "":
	case len(after) > 0 && slotOf(after[0].field) != slotNone:
		*line = append(*line, segment{characters: word, slot: slotOf(after[0].field), only: elided})
	case len(after) > 0:
		line.write(elide(word, w.fields[after[0].field]))
	default:
		line.write(word)
	}
}

// lines writes those that have something to say.
func (w *writer) lines(all [][]token, m markup) []segments {
	var written []segments
	for _, tokens := range all {
		if line := w.line(tokens, m); len(line) > 0 {
			written = append(written, line)
		}
	}
	return written
}

// small is what stands below every mail: lines in groups.
func (w *writer) small(key TextKey) [][][]token {
	l := w.language
	sender := [][]token{l.words("{agency}")}
	for _, line := range w.addressed {
		sender = append(sender, []token{{characters: line}})
	}
	why := l.whyThanked
	if key.asks() {
		why = l.whyAsked
	}
	return [][][]token{append(sender, l.words("{reply_to}")), {l.words(l.questions)}, {l.words(why)}}
}

func (w *writer) form(key TextKey, text Text) *form {
	f := &form{
		subject: w.line(text.subject, plainText()).joined(),
		plain:   w.plain(key, text),
		html:    w.hyper(key, text).joined(),
	}
	for _, s := range f.plain {
		f.bytes.plain += len(s.ready)
		for _, part := range s.line {
			f.bytes.plain += len(part.characters)
		}
	}
	for _, part := range f.html {
		f.bytes.html += len(part.characters)
	}
	return f
}

// plain writes the text. Items of a list stand close together, and close below their heading.
func (w *writer) plain(key TextKey, text Text) []stretch {
	var (
		all  []stretch
		last = blockParagraph // the block before
		near bool
	)
	lines := func(prefix string, written []segments) {
		for i, line := range written {
			all = append(all, stretch{
				gap:  i == 0 && !near,
				line: append(segments{{characters: prefix}}, line...),
			})
		}
	}
	list := func(items []string) {
		for _, item := range items {
			lines("* ", []segments{{{characters: item}}})
			near = true
		}
	}
	for i, b := range text.blocks {
		written := w.lines(b.lines, plainText())
		if len(b.lines) > 0 && len(written) == 0 {
			continue
		}
		near = i > 1 && last == blockHeading || last == blockItem && b.kind == blockItem
		last = b.kind
		switch b.kind {
		case blockParagraph, blockHeading:
			lines("", written)
		case blockItem:
			lines("* ", written)
		case blockButton:
			lines("", []segments{{{characters: w.introduce(w.label(b))}}, {{slot: slotLink}}})
		case blockPermissions:
			list(w.may)
		case blockLimits:
			list(w.mayNot)
		}
	}
	near = false
	for _, group := range w.small(key) {
		lines("", w.lines(group, plainText()))
	}
	if key.asks() {
		lines("", []segments{{{characters: w.introduce(w.language.unsubscribe)}}, {{slot: slotUnsubscribe}}})
	}
	return ready(all)
}

// ready wraps the lines that are the same for every client, and joins those that follow on each other.
func ready(all []stretch) []stretch {
	var done []stretch
	for _, s := range all {
		s.line = s.line.joined()
		if len(s.line) > 1 || s.line[0].slot != slotNone {
			done = append(done, s)
			continue
		}
		var b strings.Builder
		n := len(done)
		if n > 0 && done[n-1].ready != "" {
			n--
			b.WriteString(done[n].ready)
			if s.gap {
				b.WriteByte('\n')
			}
			s.gap = done[n].gap
		}
		wrapLine(&b, []byte(s.line[0].characters))
		done = append(done[:n], stretch{gap: s.gap, ready: b.String()})
	}
	return done
}

func (w *writer) label(b block) string {
	if b.label == "" {
		return w.language.button
	}
	return b.label
}

// introduce has a line say that an address follows.
func (w *writer) introduce(line string) string {
	return typeset(w.language.tag, line+w.language.colon)
}

// hyper writes the HTML.
func (w *writer) hyper(key TextKey, text Text) segments {
	var page segments
	m := hyperText()
	link := segments{{slot: slotLink}}
	words := func(characters string) segments { return segments{{characters: m.escape(characters)}} }
	head := m
	head.bold, head.unbold = "", ""
	w.thing(&page, thingHead, words(w.language.tag), w.line(text.subject, head), w.line(opening(text), head))
	listed := false
	for i, b := range text.blocks {
		written := w.lines(b.lines, m)
		if len(b.lines) > 0 && len(written) == 0 {
			continue
		}
		if item := b.kind == blockItem; item != listed {
			if listed = item; listed {
				w.thing(&page, thingList)
			} else {
				w.thing(&page, thingListEnd)
			}
		}
		switch b.kind {
		case blockHeading:
			heading := thingSubheading
			if i == 0 {
				heading = thingHeading
			}
			w.thing(&page, heading, written[0])
		case blockParagraph:
			w.thing(&page, thingParagraph, broken(written))
		case blockItem:
			w.thing(&page, thingItem, written[0])
		case blockButton:
			w.thing(&page, thingButton, link, words(w.label(b)), words(w.language.address), link)
		case blockPermissions:
			for _, item := range w.may {
				w.thing(&page, thingMay, words(item))
			}
		case blockLimits:
			for _, item := range w.mayNot {
				w.thing(&page, thingMayNot, words(item))
			}
		}
	}
	if listed {
		w.thing(&page, thingListEnd)
	}
	w.thing(&page, thingFoot)
	for _, group := range w.small(key) {
		if written := w.lines(group, m); len(written) > 0 {
			w.thing(&page, thingSmall, broken(written))
		}
	}
	if key.asks() {
		w.thing(&page, thingUnsubscribe, segments{{slot: slotUnsubscribe}}, words(w.language.unsubscribe))
	}
	w.thing(&page, thingTail)
	return page
}

// opening is the first line that is no greeting: what mail programs show beside the subject.
func opening(text Text) []token {
	for _, b := range text.blocks {
		if b.kind == blockParagraph && !slices.ContainsFunc(b.lines[0], func(t token) bool { return t.field == "owner" }) {
			return b.lines[0]
		}
	}
	return nil
}

// broken joins lines as HTML breaks them.
func broken(lines []segments) segments {
	var joined segments
	for i, line := range lines {
		if i > 0 {
			joined.write("<br>")
		}
		joined = append(joined, line...)
	}
	return joined
}

// thing writes one of the frame's things with words in its holes.
func (w *writer) thing(page *segments, thing int, words ...segments) {
	for i, piece := range w.frame[thing] {
		page.write(piece)
		if i < len(words) {
			*page = append(*page, words[i]...)
		}
	}
}
