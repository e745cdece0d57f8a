package browsertest_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestKeyboard goes through the pages by the Tab key: it reaches everything that can be pressed or
// filled in, it shows where it is, and the first thing it offers is to skip what is the same everywhere.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	d := need(t).demo
	o := newOwner(t)
	link, _ := d.links(t, o.email)
	owner, console := visit(t, phone), signIn(t, desk)
	for _, page := range []struct {
		p       *tab
		address string
		status  int
	}{
		{owner, link, http.StatusOK},
		{owner, link + "/unsubscribe", http.StatusOK},
		{owner, d.console + "/i/unknown", http.StatusNotFound},
		{owner, d.console + "/consent", http.StatusOK},
		{console, d.console + "/admin", http.StatusOK},
		{console, d.console + "/admin/clients", http.StatusOK},
		{console, d.console + "/admin/imports", http.StatusOK},
		{console, d.console + "/admin/clients/ref:" + o.ref, http.StatusOK},
		{console, d.console + "/admin/nowhere", http.StatusNotFound},
	} {
		page.p.openTo(page.status, page.address)
		page.p.tabThrough()
		page.p.openTo(page.status, page.address)
		run(page.p, chromedp.KeyEvent("\t"))
		if first := page.p.text(":focus"); first != "Skip to the content" {
			t.Errorf("%s begins with %q", page.address, first)
		}
		run(page.p, chromedp.KeyEvent("\r"))
		page.p.until("the content", `document.activeElement.id === "main"`)
	}
}

// stop is where the Tab key has come to.
type stop struct {
	Element string // empty at the end of the page, from where it may begin anew
	Outline string // what is wrong with how it shows, empty if nothing
}

func (p *tab) tabThrough() {
	p.t.Helper()
	// Radio buttons of one group would be one stop; no page has any.
	want := eval[[]string](p, `[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")].filter((e) => e.checkVisibility()).map(`+stopName+`)`)
	var got []string
	for range len(want) + 1 {
		run(p, chromedp.KeyEvent("\t"))
		at := eval[stop](p, `(() => {
			const e = document.activeElement;
			if (e === document.body || e === document.documentElement) return {};
			const style = getComputedStyle(e), box = e.getBoundingClientRect();
			let outline = "";
			if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) outline = "no outline";
			else if (box.bottom < 1 || box.top > innerHeight - 1 || box.right < 1 || box.left > innerWidth - 1) outline = "out of sight";
			return { element: (`+stopName+`)(e), outline };
		})()`)
		if at.Element == "" || len(got) > 0 && at.Element == got[0] {
			break
		}
		if at.Outline != "" {
			p.t.Errorf("%s, %s: %s", p.address().Path, at.Element, at.Outline)
		}
		got = append(got, at.Element)
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("%s: the Tab key goes to\n%q, want\n%q", p.address().Path, got, want)
	}
}

// stopName is a function of an element.
const stopName = `(e) => e.localName + " " + (e.innerText || e.name || e.ariaLabel || "").replace(/\s+/g, " ").trim().slice(0, 30)`
