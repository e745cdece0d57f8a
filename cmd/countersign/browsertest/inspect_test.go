package browsertest_test

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// rules is a function of the screen's width.
//
//go:embed rules.js
var rules string

// inspect looks at the page as it is now, on every screen, in light and dark. Where scripts are off they are on
// meanwhile, for what looks waits on timers; those of the page were passed over when it was read.
func (p *tab) inspect(name string) {
	p.t.Helper()
	if !p.scripts {
		p.allowScripts(true)
		defer func() {
			p.allowScripts(false)
			// Only what is laid out anew shows its noscript elements again.
			eval[chromedp.Void](p, `(() => { const all = document.documentElement; all.hidden = true; void all.offsetHeight; all.hidden = false; })()`)
		}()
	}
	p.weigh(name)
	for _, s := range []screen{smallPhone, phone, desk, wall} {
		p.resize(s)
		for _, scheme := range []string{"light", "dark"} {
			p.paint(scheme)
			for _, wrong := range eval[[]string](p, rules, s.width) {
				p.t.Errorf("%s (%s, %d px, %s) %s", name, p.address().Path, s.width, scheme, wrong)
			}
			if s == phone || s == desk {
				for _, wrong := range p.violations(scheme) {
					p.t.Errorf("%s (%s, %d px, %s) violates %s", name, p.address().Path, s.width, scheme, wrong)
				}
			}
			if s != smallPhone {
				p.picture(fmt.Sprintf("%s-%d-%s", name, s.width, scheme), s)
			}
		}
	}
	p.paint("light")
	p.resize(p.screen)
}

// violations has axe-core look for what WCAG 2.2 forbids on level A or AA. It lives in a world of its own, which
// neither sees the page's scripts nor is subject to its policy. In the dark only colours are different.
func (p *tab) violations(scheme string) []string {
	p.t.Helper()
	frame := string(chromedp.FromContext(p.ctx).Target.TargetID)
	world := call(p, page.CreateIsolatedWorld, page.CreateIsolatedWorldParams{FrameID: cdp.FrameID(frame)}).ExecutionContextID
	inWorld := func(e *runtime.EvaluateParams) { e.ContextID = world }
	run(p, chromedp.Evaluate[chromedp.Void](p.lab.axe, inWorld))
	return run(p, chromedp.Evaluate[[]string](applied(`async (dark) => {
		const { violations } = await axe.run(document, {
			runOnly: dark ? ["color-contrast"] : ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"],
			rules: { "target-size": { enabled: !dark } },
			iframes: false,
			resultTypes: ["violations"],
		});
		return violations.flatMap(({ id, nodes }) => nodes.map((n) => id + ": " + n.html.slice(0, 200) + " " + n.failureSummary.replace(/\s+/g, " ")));
	}`, []any{scheme == "dark"}), inWorld, chromedp.EvalAwaitPromise))
}

// heaviest is how many bytes a page may cost who opens it for the first time, as they are transferred.
const heaviest = 80 << 10

// weigh holds the page to its weight, and tells when it was painted first, and by how much it moved while it came.
func (p *tab) weigh(name string) {
	p.t.Helper()
	cost := run(p, chromedp.Evaluate[struct {
		Bytes int
		Shift float64
		Paint float64
		Moved []string
	}](`(async () => {
		const files = performance.getEntries().filter((e) => e.entryType === "navigation" || e.entryType === "resource" && !["fetch", "xmlhttprequest", "eventsource", "iframe"].includes(e.initiatorType));
		const shifts = await new Promise((done) => {
			new PerformanceObserver((list) => done(list.getEntries())).observe({ type: "layout-shift", buffered: true });
			setTimeout(() => done([]), 50);
		});
		return {
			bytes: files.reduce((sum, e) => sum + e.encodedBodySize + 300, 0), // 300 as browsers count headers
			paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0,
			moved: shifts.filter((e) => !e.hadRecentInput).flatMap((e) => e.sources.map((s) => s.node?.outerHTML?.slice(0, 120) ?? "")),
			shift: shifts.filter((e) => !e.hadRecentInput).reduce((sum, e) => sum + e.value, 0),
		};
	})()`, chromedp.EvalAwaitPromise))
	p.t.Logf("%s weighs %d bytes, is painted after %.0f ms, shifts by %.4f %q", name, cost.Bytes, cost.Paint, cost.Shift, cost.Moved)
	if cost.Bytes > heaviest {
		p.t.Errorf("%s weighs %d bytes, %d are allowed", name, cost.Bytes, heaviest)
	}
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
	if os.Getenv("COUNTERSIGN_SCREENSHOTS") == "" {
		return
	}
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
