package templates

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/andybalholm/cascadia"
	"github.com/tdewolff/parse/v2"
	"github.com/tdewolff/parse/v2/css"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Many mail programs ignore style sheets, so a mail's style is written into its elements. Rules below
// @media cannot be: they stay, are obeyed where they can be, and have to say !important.

// rule is what a style sheet says of the elements that a selector matches.
type rule struct {
	selector     cascadia.Sel
	declarations []declaration
}

type declaration struct{ property, value string }

// inlineStyle moves the style sheet of a document into its elements.
func inlineStyle(doc *html.Node) error {
	var rules []rule
	for n := range doc.Descendants() {
		if n.DataAtom == atom.Style {
			var err error
			if rules, n.FirstChild.Data, err = parseSheet(n.FirstChild.Data); err != nil {
				return fmt.Errorf("style of the mails: %w", err)
			}
		}
	}
	for n := range doc.Descendants() {
		if style := styleOf(n, rules); style != "" {
			n.Attr = append(n.Attr, html.Attribute{Key: "style", Val: style})
		}
	}
	return nil
}

// styleOf is what the rules, sorted by how much their say counts, say of an element.
func styleOf(n *html.Node, rules []rule) string {
	var style []string
	value := map[string]string{}
	for _, r := range rules {
		if n.Type != html.ElementNode || !r.selector.Match(n) {
			continue
		}
		for _, d := range r.declarations {
			// A shorthand may come after its part or before it, so what is said again moves to the end.
			style = append(slices.DeleteFunc(style, func(said string) bool { return said == d.property }), d.property)
			value[d.property] = d.value
		}
	}
	for i, property := range style {
		style[i] = property + ":" + value[property]
	}
	return strings.Join(style, ";")
}

// parseSheet splits a style sheet into its rules, sorted by specificity and place, and what stands
// below @media.
func parseSheet(sheet string) (rules []rule, rest string, err error) {
	var (
		kept         strings.Builder
		depth        int // below at-rules
		selectors    cascadia.SelectorGroup
		declarations []declaration
	)
	p := css.NewParser(parse.NewInputString(sheet), false)
	for {
		grammar, _, data := p.Next()
		var words strings.Builder
		for _, token := range p.Values() {
			words.Write(token.Data)
		}
		if grammar == css.BeginAtRuleGrammar {
			depth++
		}
		switch {
		case grammar == css.ErrorGrammar:
			if err := p.Err(); !errors.Is(err, io.EOF) {
				return nil, "", err
			}
			slices.SortStableFunc(rules, func(a, b rule) int {
				x, y := a.selector.Specificity(), b.selector.Specificity()
				return slices.Compare(x[:], y[:])
			})
			return rules, kept.String(), nil
		case depth > 0:
			keep(&kept, grammar, string(data), words.String())
		case grammar == css.BeginRulesetGrammar:
			if selectors, err = cascadia.ParseGroup(words.String()); err != nil {
				return nil, "", fmt.Errorf("selector %q: %w", words.String(), err)
			}
			declarations = nil
		case grammar == css.DeclarationGrammar:
			declarations = append(declarations, declaration{string(data), words.String()})
		case grammar == css.EndRulesetGrammar:
			for _, selector := range selectors {
				rules = append(rules, rule{selector, declarations})
			}
		default:
			return nil, "", fmt.Errorf("%s has no place here, only rules and @media have", data)
		}
		if grammar == css.EndAtRuleGrammar {
			depth--
		}
	}
}

// keep writes what was read as it was.
func keep(b *strings.Builder, grammar css.GrammarType, name, words string) {
	switch grammar {
	case css.BeginAtRuleGrammar:
		b.WriteString(name + " " + words + "{")
	case css.BeginRulesetGrammar:
		b.WriteString(words + "{")
	case css.DeclarationGrammar:
		b.WriteString(name + ":" + words + ";")
	case css.EndRulesetGrammar, css.EndAtRuleGrammar:
		b.WriteString("}\n")
	default:
	}
}
