package templates_test

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
	return func(n *html.Node) bool {
		got, ok := attribute(n, name)
		return ok && got == value
	}
}

func having(name string) match {
	return func(n *html.Node) bool {
		_, ok := attribute(n, name)
		return ok
	}
}

func attribute(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
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

// one is the only such element; any other number of them fails the test.
func one(t *testing.T, root *html.Node, all ...match) *html.Node {
	t.Helper()
	found := find(root, all...)
	if len(found) != 1 {
		t.Fatalf("found %d elements, want 1, in\n%s", len(found), source(root))
	}
	return found[0]
}

func has(t *testing.T, root *html.Node, all ...match) {
	t.Helper()
	if len(find(root, all...)) == 0 {
		t.Errorf("an element is missing in\n%s", source(root))
	}
}

func hasNot(t *testing.T, root *html.Node, all ...match) {
	t.Helper()
	for _, n := range find(root, all...) {
		t.Errorf("there should be no %s", source(n))
	}
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

func says(t *testing.T, root *html.Node, phrase string) {
	t.Helper()
	if !strings.Contains(text(root), phrase) {
		t.Errorf("%q is not said in\n%s", phrase, text(root))
	}
}

func source(n *html.Node) string {
	var b strings.Builder
	_ = html.Render(&b, n)
	return b.String()
}

func parse(t *testing.T, page string) *html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}
