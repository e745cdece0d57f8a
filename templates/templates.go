// Package templates holds the pages and the mails, parsed and complete or an error at start.
//
// It imports none of our packages. The handlers (cmd/countersign/internal/web) and the mailer
// (notify) fill the types that stand here and hand them to a Set:
//
//	New ──► Set ──► Page      a whole page, from a View such as InvitationPage or ClientsPage
//	            ├─► Fragment  the part of a page that renews itself
//	            ├─► Mails     all mails on the agency's Stationery: Render one from a Letter
//	            └─► Static    style sheets, scripts and the icon, under names with a hash
//
// A page is a file below pages/, inside one of three frames below frames/: owner (phone first, no
// script but to copy, nothing about us but the agency's name), gate (before an operator is signed in, and
// errors) and console. Each file belongs to exactly one Go type, see views. Words for stages,
// reasons and permissions are in words.go and permissions.go.
//
// A mail to an owner is a Text, one below mail/texts/ or the agency's own, in a frame whose things are
// in mail/letter.html.tmpl. Mails writes texts, frame and letterhead together once, into a form with
// slots; Render only fills these in. What mails say beside their texts is in language.go. The digest
// for operators has templates of its own.
//
// The pages keep to this Content-Security-Policy: default-src 'none' with style-src, script-src,
// img-src, connect-src and form-action 'self'. There is no inline style or script, and htmx is set
// to neither evaluate code nor inject styles. Owner pages post to the provider's redirect, so
// form-action has to name the provider's origin there as well.
package templates

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"reflect"
	"strconv"
	"strings"
	texttemplate "text/template"
	"time"
)

//go:embed frames pages mail static
var files embed.FS

// Set renders everything. It is safe for concurrent use.
type Set struct {
	pages      map[reflect.Type]*template.Template
	static     assets
	texts      map[TextKey]builtin
	letterHTML *template.Template
	digestHTML *template.Template
	digestText *texttemplate.Template
	entryHTML  *template.Template
	entryText  *texttemplate.Template
}

// New parses all templates. It fails if a page type has no file, a file has no page type, or a
// template cannot be executed.
func New() (*Set, error) {
	static, err := newAssets(files)
	if err != nil {
		return nil, err
	}
	s := &Set{pages: map[reflect.Type]*template.Template{}, static: static}
	frames, err := template.New("").Funcs(s.functions()).ParseFS(files, "frames/*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("parse the frames: %w", err)
	}
	if err := s.parsePages(frames); err != nil {
		return nil, err
	}
	if err := s.parseMails(); err != nil {
		return nil, err
	}
	return s, nil
}

// parsePages pairs files with types. It renders each type's zero value because a template is only
// checked for safe escaping when it is executed first.
func (s *Set) parsePages(frames *template.Template) error {
	undeclared := map[string]bool{}
	names, err := fs.Glob(files, "pages/*")
	if err != nil {
		return fmt.Errorf("list the pages: %w", err)
	}
	for _, name := range names {
		undeclared[name] = true
	}
	for name, view := range views() {
		file := "pages/" + name + ".tmpl"
		page, err := frames.Clone()
		if err != nil {
			return fmt.Errorf("page %s: %w", file, err)
		}
		if _, err := page.ParseFS(files, file); err != nil {
			return fmt.Errorf("page %s: %w", file, err)
		}
		delete(undeclared, file)
		s.pages[reflect.TypeOf(view)] = page
		if err := s.Page(io.Discard, view); err != nil {
			return err
		}
	}
	for file := range undeclared {
		return fmt.Errorf("page %s belongs to no type: add it to the table of views or delete it", file)
	}
	return nil
}

// Page writes the whole page v, or nothing and an error.
func (s *Set) Page(w io.Writer, v View) error { return s.render(w, v, v.frame()) }

// Fragment writes the part of page v that renews itself, or nothing and an error. Only a page
// whose file defines "fragment" has one.
func (s *Set) Fragment(w io.Writer, v View) error { return s.render(w, v, "fragment") }

func (s *Set) render(w io.Writer, v View, name string) error {
	page, ok := s.pages[reflect.TypeOf(v)]
	if !ok {
		return fmt.Errorf("render %T: the type is not in the table of views", v)
	}
	var b bytes.Buffer
	if err := page.ExecuteTemplate(&b, name, v); err != nil {
		return fmt.Errorf("render %q of %T: %w", name, v, err)
	}
	if _, err := b.WriteTo(w); err != nil {
		return fmt.Errorf("write %T: %w", v, err)
	}
	return nil
}

func (s *Set) functions() template.FuncMap {
	return template.FuncMap{
		"about":   about,
		"asset":   s.static.url,
		"count":   count,
		"plural":  plural,
		"mask":    mask,
		"initial": initial,
		"lastDay": lastDay,
		"day":     day,
		"short":   func(t time.Time) string { return t.UTC().Format("2 Jan") },
		"moment":  moment,
		"machine": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"label":   label,
		"address": address,
		"stop":    stop,
		"join":    strings.Join,
	}
}

// address lets a mail address, or a username of that form, be broken before its domain, which is better than within it.
func address(mailbox string) template.HTML {
	at := max(strings.LastIndexByte(mailbox, '@'), 0)
	return template.HTML(template.HTMLEscapeString(mailbox[:at]) + "<wbr>" + template.HTMLEscapeString(mailbox[at:])) //nolint:gosec // both sides are escaped
}

// stop ends a sentence that ends with a name, which may bring its own full stop, as "Pizza, Inc." does.
func stop(name string) string {
	if strings.HasSuffix(name, ".") {
		return ""
	}
	return "."
}

// count writes a number with commas between the thousands.
func count(n int) string {
	s := strconv.Itoa(n)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural picks the form of a noun that goes with n.
func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// moment writes a time for people who may be anywhere.
func moment(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04 UTC") }

// day writes a date for people, in the zone that t is in.
func day(t time.Time) string { return t.Format("2 January 2006") }
