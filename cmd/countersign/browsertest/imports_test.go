package browsertest_test

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// save writes a file for somebody to upload.
func save(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// drop drags a file from the desktop onto the element.
func (p *tab) drop(path, selector string) {
	p.t.Helper()
	x, y := p.spot(selector, `(selector) => [...document.querySelectorAll(selector)]`)
	for _, step := range []input.DispatchDragEventType{
		input.DispatchDragEventTypeDragEnter, input.DispatchDragEventTypeDragOver, input.DispatchDragEventTypeDrop,
	} {
		call(p, input.DispatchDragEvent, input.DispatchDragEventParams{
			Type: step, X: x, Y: y, Data: &input.DragData{Items: []*input.DragDataItem{}, Files: []string{path}, DragOperationsMask: 1},
		})
	}
}

// pick chooses a file, as in the dialog that the system opens.
func (p *tab) pick(path string) {
	p.t.Helper()
	doc := call(p, dom.GetDocument, dom.GetDocumentParams{})
	field := call(p, dom.QuerySelector, dom.QuerySelectorParams{NodeID: doc.Root.NodeID, Selector: "input[type=file]"})
	call(p, dom.SetFileInputFiles, dom.SetFileInputFilesParams{Files: []string{path}, NodeID: field.NodeID})
}

// download does what downloads a file and returns it.
func (p *tab) download(name string, act func()) string {
	p.t.Helper()
	dir := p.t.TempDir()
	if _, err := chromedp.CallBrowser(p.ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior:         browser.SetDownloadBehaviorBehaviorAllow,
		BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID,
		DownloadPath:     dir,
		EventsEnabled:    new(true),
	}); err != nil {
		p.t.Fatal(err)
	}
	act()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if file, err := os.ReadFile(filepath.Join(dir, name)); err == nil { // it is called otherwise before it is whole
			return string(file)
		}
		<-time.After(25 * time.Millisecond)
	}
	p.t.Fatalf("%s is not downloaded", name)
	return ""
}

func records(t *testing.T, file string) [][]string {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(file)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestImports(t *testing.T) {
	t.Parallel()
	p := signIn(t, desk)
	p.press("Imports")
	p.inspect("imports")
	x, y := p.spot("the rejected rows of roster.csv", `() => [...document.querySelectorAll(".imports tbody tr")].filter((e) => e.querySelector("th").innerText === "roster.csv").map((e) => e.querySelector("a[download]"))`)
	rejects := records(t, p.download("rejects.csv", func() { run(p, chromedp.MouseClickXY(x, y)) }))
	want := append(slices.Clone(roster(t)[0]), "error_code", "error_message")
	if !slices.Equal(rejects[0], want) {
		t.Errorf("the columns are %q, want %q", rejects[0], want)
	}
	if len(rejects) < 2 || len(rejects[1]) != len(want) || rejects[1][len(want)-1] == "" {
		t.Errorf("no row says what is wrong with it: %q", rejects)
	}
	template := records(t, p.download("roster.csv", func() { p.touch("Download a template") }))
	if len(template) != 2 || !slices.Contains(template[0], "owner_email") {
		t.Errorf("the template is %q", template)
	}
	p.touch("All columns")
	p.until("the columns", `document.querySelector("details").open`)
	p.inspect("imports-columns")
}

// TestImportWalk goes from a file that nobody could import at once to a complete roster.
func TestImportWalk(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]screen{"desk": desk, "phone": phone} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := signIn(t, s)
			p.press("Imports")
			ref := func(n int) string { return fmt.Sprintf("%s-%d", name, n) }
			rows := "Nr;Firma;Mail;Vorname;Nachname;Website;Tarif;Notiz zum letzten Gespräch\n" +
				ref(1) + ";Bäckerei Lindner GmbH;lena@lindner-" + name + ".example;Lena;Lindner;https://lindner.example;Gold;ruft im Januar noch einmal an, wenn die neue Filiale steht\n" +
				ref(2) + ";Dachdecker Öztürk;;Emre;Öztürk;;;\n" +
				ref(3) + ";Yoga am See;office@gmial.com;Jana;Vogt;;;\n" +
				ref(4) + ";;max@hafen-" + name + ".example;Max;Petersen;;Gold;\n"
			if name == "desk" {
				p.arrives(http.StatusOK, func() { p.drop(save(t, "kunden.csv", rows), "h1") })
			} else {
				p.arrives(http.StatusOK, func() { p.pick(save(t, "kunden.csv", rows)) })
			}
			p.says("kunden.csv")
			p.mentions("Lena Lindner")
			p.inspect("upload-" + name)

			p.choose("Ref", "Firma")
			p.until("the news that a column cannot be two fields", `document.querySelector("#map-ref-problem").innerText.includes("chosen for Name as well")`)
			p.inspect("upload-clash-" + name)
			page := p.document()
			eval[chromedp.Void](p, "document.activeElement.blur()") // A screenshot leaves the keys of a focused select dead.
			p.choose("Ref", "Nr")
			p.until("the other choice", `!document.querySelector("#map-ref-problem").innerText && !document.querySelector(".kept").innerText.includes("Nr")`)
			if got := p.text("#mapping li:nth-child(3) .samples"); !strings.Contains(got, ref(1)) {
				t.Errorf("the ref is shown as %q", got)
			}
			if focus := eval[string](p, "document.activeElement.id"); focus != "map-ref" || p.document() != page {
				t.Errorf("choosing moves the focus to %q", focus)
			}
			p.reload()
			if ref := eval[string](p, `document.querySelector("#map-ref").value`); ref != "Nr" {
				t.Errorf("after a reload the ref is %q", ref)
			}
			p.press("Check the file")
			p.says("What the import would do")
			if got := p.text(".tally"); got != "Created 2 Updated 0 Unchanged 0 Rejected 2 Doubtful 1" {
				t.Errorf("planned: %s", got)
			}
			p.inspect("plan-" + name)
			p.press("Change the columns")
			if ref := eval[string](p, `document.querySelector("#map-ref").value`); ref != "Nr" {
				t.Errorf("on the way back the ref is %q", ref)
			}
			p.press("Check the file")
			p.press("Import 2 clients")
			p.says("kunden.csv")
			p.mentions("Correct the rejected rows")
			p.inspect("import-" + name)

			rejects := p.download("rejects.csv", func() { p.touch("Download 2 rejected rows") })
			corrected := strings.NewReplacer("Dachdecker Öztürk,,", "Dachdecker Öztürk,emre@dach-"+name+".example,", ref(4)+",,", ref(4)+",Hafencafé,").Replace(rejects)
			corrected += ref(1) + ",Bäckerei Lindner,lena@lindner-" + name + ".example,Lena,Lindner,https://lindner.example,Silber,\n"
			p.pressFirst(`a[href="/admin/imports"]`)
			p.arrives(http.StatusOK, func() { p.pick(save(t, "rejects.csv", corrected)) })
			p.choose("Ref", "Nr")
			p.until("the choice", `location.search.includes("map.ref=Nr")`)
			p.press("Check the file")
			p.mentions("Silber")
			p.inspect("plan-again-" + name)
			p.press("Import 2 and update 1 client")
			p.inspect("import-again-" + name)
			for _, n := range []int{1, 2, 3, 4} {
				p.open(p.lab.demo.console + "/admin/clients/ref:" + ref(n))
			}
			p.says("Hafencafé")

			// Once more: there is nothing to do.
			p.pressFirst(`a[href="/admin/imports"]`)
			p.arrives(http.StatusOK, func() { p.pick(save(t, "rejects.csv", corrected)) })
			p.choose("Ref", "Nr")
			p.until("the choice", `location.search.includes("map.ref=Nr")`)
			p.press("Check the file")
			p.mentions("Nothing would change")
			p.inspect("plan-nothing-" + name)
			p.press("Discard")
			p.says("Imports")
		})
	}
}

// TestImportRefuses: what cannot be a roster is told where the file was chosen, and nothing is lost.
func TestImportRefuses(t *testing.T) {
	t.Parallel()
	p := signIn(t, desk)
	p.press("Imports")
	page := p.document()
	p.drop(save(t, "page.csv", "<!doctype html><title>Sign in</title>"), "#file")
	p.until("the refusal", `document.querySelector("#file-problem").innerText.includes("web page")`)
	if trouble := strings.Join(p.troubles.take(), "\n"); !strings.Contains(trouble, "/admin/imports answers 422") || strings.Contains(trouble, "\n") {
		t.Errorf("in the console stands:\n%s", trouble)
	}
	if p.document() != page || eval[string](p, "document.activeElement.id") != "file" {
		t.Error("the page or the focus went elsewhere")
	}
	p.inspect("imports-refused")

	huge := save(t, "huge.csv", "name,owner_email\n")
	if err := os.Truncate(huge, 256<<20+1); err != nil {
		t.Fatal(err)
	}
	p.pick(huge)
	p.until("the refusal, before anything is sent", `document.querySelector("#file-problem").innerText.includes("larger than 256 MB")`)
	p.arrives(http.StatusOK, func() { p.pick(save(t, "roster.csv", "Who,Where\nAcme,ann@acme.example\n")) })
	p.inspect("upload-missing")
	p.touch("Check the file")
	if invalid := eval[string](p, `document.querySelector(":invalid:not(form)").id`); invalid != "map-name" {
		t.Errorf("the browser objects to %q", invalid)
	}
	p.press("Discard")
}

// TestImportByKeyboard needs no mouse; only the dialog to choose a file is the system's.
func TestImportByKeyboard(t *testing.T) {
	t.Parallel()
	p := signIn(t, desk)
	p.press("Imports")
	p.arrives(http.StatusOK, func() {
		p.pick(save(t, "keyboard.csv", "ref,name,owner_email\nKEY-1,Keyboard Shop,kim@keyboard-shop.example\n"))
	})
	p.tabThrough()
	p.press("Check the file")
	p.tabThrough()
	to := func(what, is string) {
		t.Helper()
		for range 60 {
			run(p, chromedp.KeyEvent("\t"))
			if eval[bool](p, is, what) {
				return
			}
		}
		t.Fatalf("the Tab key does not come to %q", what)
	}
	const says = `(what) => document.activeElement.innerText === what`
	p.reload()
	to("invite", `(what) => document.activeElement.id === what`)
	run(p, chromedp.KeyEvent(" "))
	to("Import 1 client", says)
	p.arrives(http.StatusOK, func() { run(p, chromedp.KeyEvent("\r")) })
	p.mentions("Follow the invitations")
	p.inspect("import-invited")
	p.tabThrough()
	p.lab.demo.links(t, "kim@keyboard-shop.example")
}

func TestImportWithoutScripts(t *testing.T) {
	t.Parallel()
	p := visitWithoutScripts(t, phone)
	p.signInAtConsole()
	p.press("Imports")
	p.pick(save(t, "plain.csv", "Kundennummer,Who,Mail\nPLAIN-1,Plain Shop,pat@plain-shop.example\n"))
	p.press("Upload the file")
	p.choose("Name required", "Who")
	p.press("Check the file")
	p.mentions("Plain Shop")
	p.press("Import 1 client")
	p.mentions("What to do next")
	p.open(p.lab.demo.console + "/admin/clients/ref:PLAIN-1")
	p.says("Plain Shop")
}

// TestImportShowsThatItWorks looks while a slow line sends the file, and while the file is checked.
func TestImportShowsThatItWorks(t *testing.T) {
	t.Parallel()
	p := signIn(t, desk)
	p.press("Imports")
	slow := func(conditions ...*network.Conditions) {
		call(p, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: conditions})
	}
	slow(&network.Conditions{DownloadThroughput: -1, UploadThroughput: 128 << 10})
	var rows strings.Builder
	rows.WriteString("ref,name,owner_email\n")
	for i := range 4000 {
		fmt.Fprintf(&rows, "BUSY-%d,Busy Shop %d,busy%d@busy-shop.example\n", i, i, i)
	}
	p.arrives(http.StatusOK, func() {
		p.pick(save(t, "busy.csv", rows.String()))
		p.until("the bar", `((value) => value > 0 && value < 1)(document.querySelector("progress").value) && document.querySelector("progress").checkVisibility()`)
		if said := p.text(".primary"); said != "Uploading …" {
			t.Errorf("meanwhile the button says %q", said)
		}
		p.shoot("imports-uploading")
	})
	slow(&network.Conditions{DownloadThroughput: -1, UploadThroughput: -1})
	eval[chromedp.Void](p, `(() => {
		const button = document.querySelector(".primary");
		new MutationObserver(() => { sessionStorage.seen = [button.innerText, button.ariaBusy, button.disabled].join(); }).observe(button, { attributes: true });
	})()`)
	p.press("Check the file")
	if seen := eval[string](p, "sessionStorage.seen"); seen != "Checking …,true,true" {
		t.Errorf("the button said %q", seen)
	}
	p.mentions("Created: the first 100 of 4,000 clients")
	p.back()
	if words := p.text(".primary"); words != "Check the file" {
		t.Errorf("after the back button, the button says %q", words)
	}
	p.press("Discard")
}
