package browsertest_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestScreenshots watches simulated owners. With COUNTERSIGN_SCREENSHOTS set to a folder it waits until
// there is something to see, and takes the pictures of the README: progress.png and invitation.png.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	enough := 5
	if os.Getenv("COUNTERSIGN_SCREENSHOTS") != "" {
		enough = 60
	}
	d := newDemo(t, "--walk")

	console := visitWithoutScripts(t, desk)
	console.open(d.entry)
	console.says("Sign in")
	console.inspect("entry")
	console.press("Sign in")
	console.mentions("connected")
	console.scripts = true
	console.allowScripts(true)
	console.reload()
	page := console.document()
	for seen := connected(console); seen < enough; seen = connected(console) {
		console.until("the next consent", `(seen) => parseInt(document.querySelector("h1 .figure").innerText) > seen`, seen)
	}
	if console.document() != page {
		t.Error("the progress page was reloaded; it should have moved by itself")
	}
	console.inspect("progress")
	console.shoot("progress")
	console.paint("dark")
	console.shoot("progress-dark")

	owner := visit(t, phone)
	link, _ := need(t).demo.links(t, newOwner(t).email)
	owner.open(link)
	owner.shoot("invitation")
}

// connected reads how many clients the progress page says are.
func connected(p *tab) int {
	p.t.Helper()
	n, err := strconv.Atoi(strings.ReplaceAll(p.text("h1 .figure"), ",", ""))
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}
