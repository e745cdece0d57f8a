package web_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// match says whether an element is meant.
type match func(*html.Node) bool

func tag(names ...string) match {
	return func(n *html.Node) bool { return slices.Contains(names, n.Data) }
}

func with(name, value string) match {
	return func(n *html.Node) bool { return attribute(n, name) == value }
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// find lists the elements below root that all of the matches mean, in the order of the document.
func find(root *html.Node, all ...match) []*html.Node {
	var found []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && !slices.ContainsFunc(all, func(m match) bool { return !m(n) }) {
			found = append(found, n)
		}
	}
	return found
}

// text is what a reader sees, with single spaces.
func text(root *html.Node) string {
	var b strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "title" {
			b.WriteString(n.Data)
			if n.NextSibling == nil || n.NextSibling.Data != "wbr" {
				b.WriteByte(' ')
			}
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// posts lists where the page's forms post to.
func posts(root *html.Node) []string {
	var actions []string
	for _, form := range find(root, tag("form"), with("method", "post")) {
		actions = append(actions, attribute(form, "action"))
	}
	return actions
}

// says checks that a reader sees all the phrases.
func (p page) says(t *testing.T, phrases ...string) {
	t.Helper()
	seen := text(p.doc(t))
	for _, phrase := range phrases {
		if !strings.Contains(seen, phrase) {
			t.Errorf("%s does not say %q but: %s", p.name, phrase, seen)
		}
	}
}

// silent checks that the phrases stand nowhere in the answer.
func (p page) silent(t *testing.T, phrases ...string) {
	t.Helper()
	for _, phrase := range phrases {
		if strings.Contains(p.body, phrase) {
			t.Errorf("%s says %q", p.name, phrase)
		}
	}
}

// heading is the page's only heading of the first order.
func (p page) heading(t *testing.T) string {
	t.Helper()
	found := find(p.doc(t), tag("h1"))
	if len(found) != 1 {
		t.Fatalf("%s has %d headings: %s", p.name, len(found), p.body)
	}
	return text(found[0])
}

func (p page) doc(t *testing.T) *html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(p.body))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}
