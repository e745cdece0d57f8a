package browsertest_test

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// rules is a function of the screen's width.
//
//go:embed rules.js
var rules string

// inspect looks at the page as it is now, on every screen, in light and dark.
func (p *tab) inspect(name string) {
	p.t.Helper()
	for _, s := range []screen{smallPhone, phone, desk} {
		p.resize(s)
		for _, scheme := range []string{"light", "dark"} {
			p.paint(scheme)
			for _, wrong := range eval[[]string](p, rules, s.width) {
				p.t.Errorf("%s (%s, %d px, %s) %s", name, p.address().Path, s.width, scheme, wrong)
			}
			if s != smallPhone {
				p.picture(fmt.Sprintf("%s-%d-%s", name, s.width, scheme), s)
			}
		}
	}
	p.paint("light")
	p.resize(p.screen)
}

// paint switches between light and dark, without the transitions that would be in the way.
func (p *tab) paint(scheme string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme},
		{Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// picture writes the whole page, and the first screen of a long one, to the folder of screenshots if
// there is one.
func (p *tab) picture(name string, s screen) {
	p.t.Helper()
	if height := eval[int64](p, "Math.ceil(document.documentElement.getBoundingClientRect().height)"); height > s.height {
		if s.touch {
			p.shoot(name + "-first")
		}
		p.resize(screen{s.width, height, s.touch})
		defer p.resize(s)
	}
	p.shoot(name)
}

// shoot writes what the screen shows.
func (p *tab) shoot(name string) {
	p.t.Helper()
	dir := os.Getenv("COUNTERSIGN_SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // pictures are no secret
		p.t.Fatal(err)
	}
	png := run(p, chromedp.CaptureScreenshot())
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		p.t.Fatal(err)
	}
}
