package browsertest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// troubles collects what no page of ours may do: errors and warnings in the console, exceptions, what
// Chromium's audits find (violations of the Content-Security-Policy among it), requests that fail and
// requests to anybody else. The status of a page itself is the business of who opens it.
type troubles struct {
	mu       sync.Mutex
	found    []string
	requests map[network.RequestID]string
	deaf     bool
}

func newTroubles() *troubles { return &troubles{requests: map[network.RequestID]string{}} }

// take returns what was found since the last time.
func (tr *troubles) take() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	found := tr.found
	tr.found = nil
	return found
}

// ignore is for a tab in which nothing matters any more.
func (tr *troubles) ignore() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.found, tr.deaf = nil, true
}

// hear receives the events of a tab.
func (tr *troubles) hear(event any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.deaf {
		return
	}
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		tr.add("exception: %s", asJSON(e.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		switch e.Type { //nolint:exhaustive // the rest is harmless
		case runtime.ConsoleAPICalledTypeError, runtime.ConsoleAPICalledTypeWarning, runtime.ConsoleAPICalledTypeAssert:
			tr.add("console: %s", asJSON(e.Args))
		}
	case *log.EventEntryAdded:
		// What the network says is heard below, with the type of the request.
		if e.Entry.Source != log.EntrySourceNetwork && (e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning) {
			tr.add("log: %s (%s)", e.Entry.Text, e.Entry.URL)
		}
	case *audits.EventIssueAdded:
		// A page that was left before anybody touched it is passed over by the back button: that is right.
		if g := e.Issue.Details.GenericIssueDetails; g == nil || g.ErrorType != audits.GenericIssueErrorTypeNavigationEntryMarkedSkippable {
			tr.add("audit: %s %s", e.Issue.Code, asJSON(e.Issue.Details))
		}
	case *network.EventRequestWillBeSent:
		tr.requests[e.RequestID] = e.Request.URL
		if u, err := url.Parse(e.Request.URL); err != nil || (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "127.0.0.1" {
			tr.add("request to another site: %s", e.Request.URL)
		}
	case *network.EventResponseReceived:
		if e.Type != network.ResourceTypeDocument && e.Response.Status >= http.StatusBadRequest {
			tr.add("%s answers %d", e.Response.URL, e.Response.Status)
		}
	case *network.EventLoadingFailed:
		address, ours := tr.requests[e.RequestID]                     // What the tab did not ask for, the DevTools did.
		if ours && !e.Canceled && e.ErrorText != "net::ERR_ABORTED" { // both: somebody went on
			tr.add("%s failed: %s %s", address, e.ErrorText, e.BlockedReason)
		}
	}
}

func (tr *troubles) add(format string, args ...any) {
	tr.found = append(tr.found, fmt.Sprintf(format, args...))
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestTroubleIsHeard does what no page may do, to see that it would not pass.
func TestTroubleIsHeard(t *testing.T) {
	t.Parallel()
	p := visit(t, desk)
	p.open(p.lab.demo.console + "/admin/sign-in")
	eval[chromedp.Void](p, `(() => {
		document.body.insertAdjacentHTML("beforeend", '<h1 style="color: red">Again</h1><img src="http://localhost/x.png"><input><button></button><a href="/" class="pale">faint</a>');
		document.querySelector(".pale").style.color = "#aaa";
		Object.assign(document.querySelector("button:empty").style, { minHeight: 0, padding: 0 });
		document.querySelector("main").style.width = "1300px";
		document.querySelector("main").style.maxWidth = "none";
		console.error("spoken");
		fetch("/nowhere");
		setTimeout(() => { throw new Error("thrown"); });
	})()`)
	var heard string
	for _, want := range []string{"ContentSecurityPolicyIssue", "another site: http://localhost/x.png", "spoken", "/nowhere answers 404", "thrown"} {
		for deadline := time.Now().Add(patience); !strings.Contains(heard, want); heard += strings.Join(p.troubles.take(), "\n") {
			if time.Now().After(deadline) {
				t.Fatalf("nobody heard of %q, only of:\n%s", want, heard)
			}
			<-time.After(25 * time.Millisecond)
		}
	}
	p.troubles.ignore()
	wrong := strings.Join(append(eval[[]string](p, rules, desk.width), p.violations("light")...), "\n")
	for _, want := range []string{"px wide", "has 2 h1", "px small", "label: ", "button-name: ", "color-contrast: ", "image-alt: "} {
		if !strings.Contains(wrong, want) {
			t.Errorf("nobody sees %q, only:\n%s", want, wrong)
		}
	}
}
