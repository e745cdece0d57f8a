package browsertest_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestLiveProgress has the page change under the eyes of an operator, who is reading it meanwhile.
func TestLiveProgress(t *testing.T) {
	t.Parallel()
	s := newService(t)
	first := s.accounts(t)[0]
	s.command(t, "ref,name,owner_email,account_id\nA,"+first.Organization+","+first.login()+","+first.ID+"\nB,Bloom,ben@bloom.example,\nC,Café,cleo@cafe.example,\n", "import", "-")
	p := visit(t, desk)
	p.setUpFirst(s)
	page := p.document()
	p.touch("Day by day")
	eval[chromedp.Void](p, `(() => {
		window.shifts = [];
		new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((e) => e.value + " " + e.sources.map((s) => s.node?.parentElement?.outerHTML.slice(0, 200)).join()))).observe({ type: "layout-shift" });
		window.polled = 0;
		document.addEventListener("htmx:before:request", () => window.polled++);
		document.querySelector(".events a").focus();
		getSelection().selectAllChildren(document.querySelector("#days"));
	})()`)
	focused := eval[string](p, "document.activeElement.href")

	// Somebody presses Continue; then somebody is connected.
	owner := visit(t, phone)
	owner.open(s.link(t, "A"))
	owner.press("Continue to Constant Contact")
	p.until("that somebody has pressed Continue", `document.querySelector(".recent").innerText.includes("Pressed Continue")`)
	owner.signIn(first)
	owner.press("Allow")
	owner.says("Connected, thank you")
	p.until("the one who is connected", `document.querySelector("h1").textContent === "1 of 3 connected"`)
	if shifts := eval[[]string](p, "window.shifts"); len(shifts) > 0 {
		t.Errorf("the page moved:\n%s", strings.Join(shifts, "\n"))
	}
	if eval[int](p, "window.polled") > 0 {
		t.Error("the page asked, though it is told")
	}
	if got := eval[string](p, "getSelection().toString()"); got != "Authorized each day" {
		t.Errorf("%q is selected", got)
	}
	if eval[string](p, "document.activeElement.localName") != "a" || focused == "" {
		t.Error("the focus is lost")
	}
	if !eval[bool](p, `document.querySelector("#day-by-day").open`) {
		t.Error("the table of the days was folded")
	}
	if p.document() != page {
		t.Error("the page was loaded anew")
	}
	p.inspect("progress-live")

	// What happened while nobody looked is there at once; the stream rests as long.
	eval[chromedp.Void](p, `(() => {
		Object.defineProperty(document, "hidden", { value: true, configurable: true });
		document.dispatchEvent(new Event("visibilitychange"));
	})()`)
	s.command(t, "ref,name,owner_email\nD,Dune,dora@dune.example\n", "import", "-")
	eval[chromedp.Void](p, `(() => {
		Object.defineProperty(document, "hidden", { value: false, configurable: true });
		document.dispatchEvent(new Event("visibilitychange"));
	})()`)
	p.until("the new client", `document.querySelector("h1").textContent === "1 of 4 connected"`)
	if eval[int](p, "window.polled") > 0 {
		t.Error("the page asked, though it is told")
	}

	// A service that ends does not wait for who looks on, and the page goes on with the next one.
	if err := s.process.stop(); err != nil {
		t.Fatal(err)
	}
	p.until("the news that the connection is lost", `!document.querySelector("[data-lost]").hidden`)
	s.start(t, "Countersign serves")
	p.until("the end of that", `document.querySelector("[data-lost]").hidden`)
	s.command(t, "ref,name,owner_email\nE,Elm,ed@elm.example\n", "import", "-")
	p.until("the client after that", `document.querySelector("h1").textContent === "1 of 5 connected"`)
	if p.document() != page {
		t.Error("the page was loaded anew")
	}
	p.troubles.ignore() // Of course requests failed meanwhile, and will when the service ends for good.
}
