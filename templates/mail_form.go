package templates

import (
	"iter"
	"strings"
)

// slot is where something goes that differs from client to client.
type slot int

const (
	slotNone slot = iota
	slotClient
	slotOwner
	slotUsername
	slotOrganization
	slotExpires
	slotConnected
	slotLink
	slotUnsubscribe
	slots
)

// values are what goes into the slots of one mail.
type values [slots]string

// segment is a piece of a mail: characters, and then the value of a slot.
type segment struct {
	characters string
	slot       slot
	only       condition
}

type condition int

const (
	always     condition = iota
	ifValue              // only if there is a value
	unlessStop           // the characters, a full stop, unless the value before brought one; no value
	elided               // the characters, such as "de ", as the value after them needs it; no value
)

// segments is a line, or a whole page of HTML.
type segments []segment

func (s *segments) write(characters string) { *s = append(*s, segment{characters: characters}) }

// joined makes characters that follow on each other one segment.
func (s segments) joined() segments {
	var (
		all  segments
		open strings.Builder
	)
	for _, part := range s {
		if part.only == always {
			open.WriteString(part.characters)
			if part.slot == slotNone {
				continue
			}
			part.characters = open.String()
			open.Reset()
		} else if open.Len() > 0 {
			all = append(all, segment{characters: open.String()})
			open.Reset()
		}
		all = append(all, part)
	}
	if open.Len() > 0 {
		all.write(open.String())
	}
	return all
}

// pieces are the strings that the segments consist of, with the values in their slots.
func (s segments) pieces(v *values) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range s {
			part := &s[i]
			characters, value := part.characters, v[part.slot]
			switch part.only {
			case always:
			case ifValue:
				if value == "" {
					continue
				}
			case unlessStop:
				if strings.HasSuffix(value, ".") {
					continue
				}
				value = ""
			case elided:
				characters, value = elide(characters, value), ""
			}
			if !yield(characters) || !yield(value) {
				return
			}
		}
	}
}

// form is a mail with the agency's words, the same for all clients.
type form struct {
	subject segments
	plain   []stretch
	html    segments
	bytes   struct{ plain, html int } // without what goes into the slots
}

// stretch is a part of the plain text: lines that are ready, or one to be filled and wrapped.
type stretch struct {
	gap   bool // an empty line comes before it, unless nothing does
	ready string
	line  segments
}

// room is for what goes into the slots.
const room = 1 << 10

func (f *form) writeSubject(v *values) string {
	var b strings.Builder
	for piece := range f.subject.pieces(v) {
		b.WriteString(piece)
	}
	return oneLine(b.String())
}

// writePlain leaves a line out if its values leave nothing of it.
func (f *form) writePlain(v *values) string {
	var b strings.Builder
	b.Grow(f.bytes.plain + room)
	line := make([]byte, 0, room)
	gap := false
	for i := range f.plain {
		s := &f.plain[i]
		gap = gap || s.gap
		line = line[:0]
		for piece := range s.line.pieces(v) {
			line = append(line, piece...)
		}
		if len(line) == 0 && s.ready == "" {
			continue
		}
		if gap && b.Len() > 0 {
			b.WriteByte('\n')
		}
		gap = false
		if s.ready != "" {
			b.WriteString(s.ready)
		} else {
			wrapLine(&b, line)
		}
	}
	return b.String()
}

// writeHTML expects values that are escaped.
func (f *form) writeHTML(v *values) string {
	var b strings.Builder
	b.Grow(f.bytes.html + room)
	for piece := range f.html.pieces(v) {
		b.WriteString(piece)
	}
	return b.String()
}
