package templates

import (
	"bytes"
	"fmt"
	"html/template"
	"strings"
	texttemplate "text/template"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// The characters that stand between the things of mail/letter.html.tmpl and where words go. They are
// for private use, and oneLine takes such characters out of whatever other people write.
const (
	cut  = "\ue000"
	hole = "\ue001"
)

// The things of mail/letter.html.tmpl, in its order.
const (
	thingHead = iota // with holes for the language, the title and what shows before a mail is opened
	thingHeading
	thingSubheading
	thingParagraph
	thingList
	thingItem
	thingListEnd
	thingButton // with holes for the address, the label, the hint at the address and the address
	thingMay
	thingMayNot
	thingFoot
	thingSmall
	thingUnsubscribe // with holes for the address and the label
	thingTail
	things
)

// frame is the HTML of mails to owners, cut into things and these at their holes.
type frame [things][]string

// shell is what every mail's HTML is framed by.
type shell struct {
	Lang, Title, Preheader string
	Agency, LogoURL        string
	Paint                  paint
}

func newShell(l Letterhead) shell {
	logo := l.LogoURL
	if checkLogo(logo) != "" {
		logo = ""
	}
	return shell{Agency: plainName(l.Agency), LogoURL: logo, Paint: mixPaint(l.Colour)}
}

// parseMailFrames reads what mails are framed by.
func (s *Set) parseMailFrames() error {
	functions := s.functions()
	functions["cut"] = func() string { return cut }
	functions["hole"] = func() string { return hole }
	for file, target := range map[string]**template.Template{
		"mail/letter.html.tmpl": &s.letterHTML,
		"mail/digest.html.tmpl": &s.digestHTML,
		"mail/entry.html.tmpl":  &s.entryHTML,
	} {
		parsed, err := template.New("").Funcs(functions).ParseFS(files, "mail/shell.html.tmpl", file)
		if err != nil {
			return fmt.Errorf("parse the HTML of the mails: %w", err)
		}
		*target = parsed
	}
	for name, target := range map[string]**texttemplate.Template{"digest.txt.tmpl": &s.digestText, "entry.txt.tmpl": &s.entryText} {
		parsed, err := texttemplate.New(name).Funcs(functions).ParseFS(files, "mail/"+name)
		if err != nil {
			return fmt.Errorf("parse the text of the mails: %w", err)
		}
		*target = parsed
	}
	return nil
}

// newFrame writes the letterhead into the HTML of mails to owners.
func (s *Set) newFrame(l Letterhead) (*frame, error) {
	view := newShell(l)
	view.Lang, view.Title, view.Preheader = hole, hole, hole
	page, err := writeMail(s.letterHTML, view)
	if err != nil {
		return nil, err
	}
	cuts := strings.Split(page, cut)
	if len(cuts) != things {
		return nil, fmt.Errorf("mail/letter.html.tmpl has %d things, not %d", len(cuts), things)
	}
	f := new(frame)
	for i := range f {
		f[i] = strings.Split(cuts[i], hole)
	}
	return f, nil
}

// writeMail executes the HTML of a mail and writes its style into its elements.
func writeMail(t *template.Template, view any) (string, error) {
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "shell", view); err != nil {
		return "", fmt.Errorf("write the HTML of a mail: %w", err)
	}
	doc, err := html.Parse(&b)
	if err != nil {
		return "", fmt.Errorf("read the HTML of a mail: %w", err)
	}
	for n := range doc.Descendants() {
		for i, attribute := range n.Attr {
			// The template cannot have a hole there: it would write the character as %EE%80%81.
			if n.DataAtom == atom.A && attribute.Key == "href" && attribute.Val == "#" {
				n.Attr[i].Val = hole
			}
		}
	}
	if err := inlineStyle(doc); err != nil {
		return "", err
	}
	b.Reset()
	if err := html.Render(&b, doc); err != nil {
		return "", fmt.Errorf("write the HTML of a mail: %w", err)
	}
	return b.String(), nil
}
