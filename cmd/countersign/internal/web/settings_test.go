package web_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/countersign/countersign/cmd/countersign/internal/web"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// examiner is a doctor who needs a word of the test to end.
type examiner struct {
	mu     sync.Mutex
	report *web.DoctorReport
}

func (e *examiner) Start(_ context.Context, plus bool, actor provisioning.Actor) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.report == nil {
		e.report = &web.DoctorReport{
			Actor: actor, Plus: plus, At: time.Now(),
			Checks: []templates.Check{{Name: "SMTP", Status: "fail", Found: "it is <down>", Cure: "start it"}},
		}
	}
	return nil
}

func (e *examiner) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.report.EndedAt = &now
}

func (e *examiner) Report(context.Context) (web.DoctorReport, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.report == nil {
		return web.DoctorReport{}, provisioning.ErrNotFound
	}
	return *e.report, nil
}

func TestSettings(t *testing.T) {
	t.Parallel()
	b := setup(t)
	operator := b.operator(t)
	operator.get(t, "/admin/settings").has(t, http.StatusOK).says(t, "COUNTERSIGN_AGENCY_NAME", agency, "Countersign test")

	doctor := &examiner{}
	b.Doctor = doctor
	operator.get(t, "/admin/settings/doctor").has(t, http.StatusOK).says(t, "Nobody has asked the doctor yet.")
	address := operator.post(t, "/admin/settings/doctor", url.Values{"plus": {"yes"}}).leads(t)
	running := operator.get(t, address).has(t, http.StatusOK)
	running.says(t, "1 check is made.", "up to two minutes", "it is <down>", "start it", operatorEmail)
	doctor.end()
	ended := operator.get(t, address).has(t, http.StatusOK)
	ended.says(t, "1 check has failed", "Examine again")
	if len(find(ended.doc(t), func(n *html.Node) bool { return hasAttribute(n, "data-hx-get") })) > 0 {
		t.Error("the report goes on renewing itself")
	}
}

// TestBrand: owner pages have the agency's colour from a sheet that browsers keep as long as it is the colour.
func TestBrand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	err := b.Stationery.Change(t.Context(), provisioning.ActorCLI, func(st *templates.Stationery) error {
		st.Colour = "#ffd400"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	visitor := b.browser(t)
	page := visitor.get(t, "/consent")
	address := ""
	for _, link := range find(page.doc(t), tag("link"), with("rel", "stylesheet")) {
		if href := attribute(link, "href"); strings.HasPrefix(href, "/brand.css?") {
			address = href
		}
	}
	if address == "" {
		t.Fatal("the page has no sheet with the colour")
	}
	sheet := visitor.get(t, address).has(t, http.StatusOK)
	if got := sheet.header.Get("Cache-Control"); !strings.Contains(got, "immutable") || !strings.Contains(sheet.body, "--fill: #ffd400; --on-fill: #000000") {
		t.Errorf("%s\n%s", got, sheet.body)
	}
	if got := visitor.get(t, "/brand.css?v=00").has(t, http.StatusOK).header.Get("Cache-Control"); got != "no-cache" {
		t.Errorf("the sheet of another colour may be kept: %s", got)
	}
}
