package browsertest_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// screen is what somebody looks at.
type screen struct {
	width, height int64
	touch         bool
}

//nolint:gochecknoglobals // they are constants
var (
	smallPhone = screen{360, 640, true}
	phone      = screen{390, 844, true}
	desk       = screen{1280, 900, false}
	wall       = screen{2560, 1440, false}
)

// tab is one tab of somebody's browser. Its methods do what a person does, fail the test where a person
// would be stuck, and remember every trouble on the way.
type tab struct {
	t        *testing.T
	ctx      context.Context //nolint:containedctx // chromedp's handle of a tab is a context
	lab      *lab
	screen   screen
	scripts  bool
	troubles *troubles
}

// visit opens a browser that nobody has used yet, with one empty tab.
func visit(t *testing.T, s screen) *tab {
	t.Helper()
	return newBrowser(t, s, true)
}

// visitWithoutScripts is visit with JavaScript switched off.
func visitWithoutScripts(t *testing.T, s screen) *tab {
	t.Helper()
	return newBrowser(t, s, false)
}

func newBrowser(t *testing.T, s screen, scripts bool) *tab {
	t.Helper()
	p := &tab{t: t, lab: need(t), screen: s, scripts: scripts, troubles: newTroubles()}
	p.attach(p.lab.chromium, chromedp.WithNewBrowserContext())
	return p
}

// attach takes hold of a tab of Chromium, a new one unless the options name it.
func (p *tab) attach(parent context.Context, options ...chromedp.ContextOption) {
	p.t.Helper()
	ctx, end := chromedp.NewContext(parent, append(options, chromedp.WithListener(p.troubles.hear))...)
	p.ctx = ctx
	if err := chromedp.Do(ctx); err != nil { // without a deadline: it would be the tab's
		p.t.Fatal(err)
	}
	call(p, audits.Enable, cdp.Empty{})
	// Tabs in the background are to work like the one that somebody looks at.
	call(p, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	p.allowScripts(p.scripts)
	p.resize(p.screen)
	p.t.Cleanup(func() {
		for _, trouble := range p.troubles.take() {
			p.t.Errorf("on the way to %s: %s", p.address(), trouble)
		}
		end()
	})
}

// run makes the tab act, within a person's patience.
func run[T any](p *tab, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatal(err)
	}
	return result
}

// call sends the tab a command of the DevTools protocol.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	return run(p, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// allowScripts says whether the scripts of pages run from now on.
func (p *tab) allowScripts(allowed bool) {
	p.t.Helper()
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !allowed})
}

// eval asks the page for the value of an expression or, with args, of a function. It works with scripts
// switched off, too.
func eval[T any](p *tab, script string, args ...any) T {
	p.t.Helper()
	return run(p, chromedp.Evaluate[T](applied(script, args)))
}

func applied(script string, args []any) string {
	if len(args) == 0 {
		return script
	}
	written := make([]string, len(args))
	for i, arg := range args {
		written[i] = asJSON(arg)
	}
	return "(" + script + ")(" + strings.Join(written, ", ") + ")"
}

// until waits for a condition, written as for eval, across pages.
func (p *tab) until(what, condition string, args ...any) {
	p.t.Helper()
	condition = "!!(" + applied(condition, args) + ")"
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	for {
		// Between two pages there is nobody to answer.
		if is, err := chromedp.Run(ctx, chromedp.Evaluate[bool](condition)); err == nil && is {
			return
		}
		select {
		case <-ctx.Done():
			p.t.Fatalf("waited in vain for %s at %s, which says:\n%s", what, p.address(), p.text("body"))
		case <-ticker.C:
		}
	}
}

// address returns what stands in the address bar.
func (p *tab) address() *url.URL {
	p.t.Helper()
	u, err := url.Parse(eval[string](p, "location.href"))
	if err != nil {
		p.t.Fatal(err)
	}
	return u
}

// text returns what can be read in an element, in one line.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return eval[string](p, `(selector) => (document.querySelector(selector)?.innerText ?? "").replace(/\s+/g, " ").trim()`, selector)
}

// texts is text of every element that fits.
func (p *tab) texts(selector string) []string {
	p.t.Helper()
	return eval[[]string](p, `(selector) => [...document.querySelectorAll(selector)].map((e) => e.innerText.replace(/\s+/g, " ").trim())`, selector)
}

// says fails the test unless the page's heading is this one.
func (p *tab) says(heading string) {
	p.t.Helper()
	if got := p.text("h1"); got != heading {
		p.t.Fatalf("%s says %q, want %q:\n%s", p.address(), got, heading, p.text("body"))
	}
}

// mentions fails the test unless the page has these words.
func (p *tab) mentions(words string) {
	p.t.Helper()
	if text := p.text("body"); !strings.Contains(text, words) {
		p.t.Errorf("%s does not mention %q:\n%s", p.address(), words, text)
	}
}

// document tells one page from the next, and from itself after a reload.
func (p *tab) document() string {
	p.t.Helper()
	return eval[string](p, "String(performance.timeOrigin)")
}

// arrives waits until the page that act leads to is there, with this status.
func (p *tab) arrives(status int, act func()) {
	p.t.Helper()
	before := p.document()
	act()
	p.until("the next page", `(before) => String(performance.timeOrigin) !== before && document.readyState === "complete"`, before)
	if got := eval[int](p, "performance.getEntriesByType('navigation')[0].responseStatus"); got != status {
		p.t.Fatalf("%s answers %d, want %d:\n%s", p.address(), got, status, p.text("body"))
	}
}

// open types an address.
func (p *tab) open(address string) {
	p.t.Helper()
	p.openTo(http.StatusOK, address)
}

func (p *tab) openTo(status int, address string) {
	p.t.Helper()
	p.arrives(status, func() { p.start(address) })
}

// start types an address and does not wait for the page.
func (p *tab) start(address string) {
	p.t.Helper()
	call(p, page.Navigate, page.NavigateParams{URL: address})
}

func (p *tab) reload() {
	p.t.Helper()
	p.arrives(http.StatusOK, func() { run(p, chromedp.Reload()) })
}

func (p *tab) back() {
	p.t.Helper()
	p.arrives(http.StatusOK, func() {
		history := call(p, page.GetNavigationHistory, cdp.Empty{})
		call(p, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: history.Entries[history.CurrentIndex-1].ID})
	})
}

// press clicks the link or button that says text, which leads to another page.
func (p *tab) press(text string) {
	p.t.Helper()
	p.pressTo(http.StatusOK, text)
}

func (p *tab) pressTo(status int, text string) {
	p.t.Helper()
	p.arrives(status, func() { p.touch(text) })
}

// pressFirst is press for the first element that fits, where what it says is long.
func (p *tab) pressFirst(selector string) {
	p.t.Helper()
	x, y := p.spot(selector, `(selector) => [...document.querySelectorAll(selector)].slice(0, 1)`)
	p.arrives(http.StatusOK, func() { run(p, chromedp.MouseClickXY(x, y)) })
}

// touch clicks the link or button that says text and does not wait for what comes of it.
func (p *tab) touch(text string) {
	p.t.Helper()
	x, y := p.find(text)
	run(p, chromedp.MouseClickXY(x, y))
}

// doubleTouch clicks twice, as impatient people do.
func (p *tab) doubleTouch(text string) {
	p.t.Helper()
	x, y := p.find(text)
	run(p, chromedp.MouseClickXY(x, y))
	run(p, chromedp.MouseClickXY(x, y, chromedp.ClickCount(2)))
}

// find returns where the link or button is that says text. There must be one, and nothing over it.
func (p *tab) find(text string) (x, y float64) {
	p.t.Helper()
	return p.spot(text, `(text) => {
		const says = (e) => (e.ariaLabel ?? e.innerText).replace(/\s+/g, " ").trim();
		return [...document.querySelectorAll("a, button, summary")].filter((e) => e.checkVisibility() && says(e) === text);
	}`)
}

// spot brings the one element that list, a function of what, finds into view, and returns its middle.
func (p *tab) spot(what, list string) (x, y float64) {
	p.t.Helper()
	found := eval[struct {
		X, Y    float64
		Problem string
	}](p, `(what) => {
		const list = (`+list+`)(what);
		if (list.length !== 1) return { problem: list.length + " of them" };
		list[0].scrollIntoView({ block: "center", behavior: "instant" });
		const box = list[0].getClientRects()[0];
		const x = box.x + box.width / 2, y = box.y + box.height / 2;
		const top = document.elementFromPoint(x, y);
		if (!list[0].contains(top)) return { problem: "covered by " + top?.outerHTML.slice(0, 200) };
		return { x, y };
	}`, what)
	if found.Problem != "" {
		p.t.Fatalf("no %q to press at %s: %s\n%s", what, p.address(), found.Problem, p.text("body"))
	}
	return found.X, found.Y
}

// fill types into the field with this label, in place of what stands there.
func (p *tab) fill(label, text string) {
	p.t.Helper()
	p.focus(label)
	eval[chromedp.Void](p, "document.activeElement.select()")
	run(p, chromedp.KeyEvent(text))
}

// focus clicks into the field with this label.
func (p *tab) focus(label string) {
	p.t.Helper()
	x, y := p.spot(label, `(label) => [...document.querySelectorAll("label")].filter((e) => e.innerText.trim() === label).map((e) => e.control)`)
	run(p, chromedp.MouseClickXY(x, y))
}

// choose takes the option that begins with text, by the keyboard.
func (p *tab) choose(label, text string) {
	p.t.Helper()
	eval[chromedp.Void](p, `(label) => [...document.querySelectorAll("label")].find((e) => e.innerText.trim() === label).control.focus()`, label)
	run(p, chromedp.KeyEvent(text))
}

// follow does what opens another tab, and returns that tab.
func (p *tab) follow(act func()) *tab {
	p.t.Helper()
	own := chromedp.FromContext(p.ctx).BrowserContextID
	tabs := func() (ids []target.ID) {
		infos, err := chromedp.Targets(p.ctx)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, info := range infos {
			if info.Type == "page" && info.BrowserContextID == own {
				ids = append(ids, info.TargetID)
			}
		}
		return ids
	}
	before := tabs()
	act()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		for _, id := range tabs() {
			if slices.Contains(before, id) {
				continue
			}
			next := &tab{t: p.t, lab: p.lab, screen: p.screen, scripts: p.scripts, troubles: newTroubles()}
			next.attach(p.ctx, chromedp.WithTargetID(id))
			next.until("the page in the new tab", "document.readyState === 'complete' && location.protocol === 'http:'")
			next.reload() // Only now does the tab hear of every trouble.
			return next
		}
		<-time.After(25 * time.Millisecond)
	}
	p.t.Fatalf("no new tab opens from %s", p.address())
	return nil
}

// touchInFrame is touch for a link of the page's one frame, which may live in a process of its own.
func (p *tab) touchInFrame(text string) {
	p.t.Helper()
	own := chromedp.FromContext(p.ctx).Target.TargetID
	infos, err := chromedp.Targets(p.ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	i := slices.IndexFunc(infos, func(info *target.Info) bool {
		return info.Type == "iframe" && string(info.ParentFrameID) == string(own)
	})
	if i < 0 {
		p.t.Fatalf("%s has no frame of its own process", p.address())
	}
	ctx, leave := chromedp.NewContext(p.ctx, chromedp.WithTargetID(infos[i].TargetID), chromedp.WithListener(p.troubles.hear), chromedp.WithDetachOnCancel())
	defer leave()
	if err := chromedp.Do(ctx); err != nil {
		p.t.Fatal(err)
	}
	frame := &tab{t: p.t, ctx: ctx, lab: p.lab, troubles: p.troubles}
	x, y := frame.find(text)
	at := eval[struct{ X, Y float64 }](p, `(() => {
		const frame = document.querySelector("iframe");
		frame.scrollIntoView({ block: "center", behavior: "instant" });
		const box = frame.getBoundingClientRect();
		return { x: box.x + frame.clientLeft, y: box.y + frame.clientTop };
	})()`)
	run(p, chromedp.CaptureScreenshot()) // Once a picture is made, both processes agree on what is where.
	run(p, chromedp.MouseClickXY(at.X+x, at.Y+y))
}

// resize changes the screen.
func (p *tab) resize(s screen) {
	p.t.Helper()
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: s.width, Height: s.height, DeviceScaleFactor: 1, Mobile: s.touch,
	})
	call(p, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: s.touch})
}
