package templates_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/templates"
)

// brand reads the properties that a colour gives to owner pages, by day and by night.
func brand(t fataler, colour string) (day, night map[string]string) {
	t.Helper()
	sheets := strings.SplitN(templates.Letterhead{Colour: colour}.Brand(), "@media", 2)
	if len(sheets) != 2 {
		t.Errorf("the colour %s gives no style", colour)
		return nil, nil
	}
	read := func(sheet string) map[string]string {
		properties := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(sheet, -1) {
			properties[m[1]] = m[2]
		}
		return properties
	}
	return read(sheets[0]), read(sheets[1])
}

// TestBrandIsReadable: whatever colour an agency chooses, its owners can read the page.
func TestBrandIsReadable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.IntRange(0, 0xffffff), rapid.SampledFrom([]int{0, 0xffffff, 0xffff00, 0x808080})).Draw(t, "colour")
		day, night := brand(t, fmt.Sprintf("#%06x", n))
		grounds := []struct {
			p       map[string]string
			grounds []string
		}{{day, []string{"#f4f6f7", "#ffffff"}}, {night, []string{"#0f1519", "#182127"}}}
		for _, g := range grounds {
			for _, ground := range append(g.grounds, g.p["tint"]) {
				for _, ink := range []string{"accent", "accent-hover"} {
					if c := contrast(t, g.p[ink], ground); c < 4.5 {
						t.Errorf("%s %s on %s has a contrast of %.2f", ink, g.p[ink], ground, c)
					}
				}
			}
			if c := contrast(t, g.p["fill"], g.p["on-fill"]); c < 4.5 {
				t.Errorf("%s on %s has a contrast of %.2f", g.p["on-fill"], g.p["fill"], c)
			}
		}
	})
}

func TestBrandURL(t *testing.T) {
	t.Parallel()
	plain := letterhead()
	if plain.Brand() != "" || plain.BrandURL() != "" {
		t.Errorf("without a colour: %q at %q", plain.Brand(), plain.BrandURL())
	}
	page := invitation()
	page.Colour = "#ffd400"
	one(t, render(t, page), tag("link"), with("href", page.BrandURL()))
	other := page
	other.Colour = "#7a1fa2"
	if other.BrandURL() == page.BrandURL() {
		t.Error("two colours have one address, which browsers keep for ever")
	}
}
