package templates

import (
	"fmt"
	"strings"
	"time"
)

// Digest is what operators are told once a day.
type Digest struct {
	Since, Until  time.Time // what counts as new
	Total         int       // clients
	Authorized    int       // of them
	AuthorizedNew int
	InvitedNew    int
	Reminded      int // reminders sent
	StalledNew    int
	Stages        []DigestStage  // how far all clients are
	Stalled       []DigestReason // why they stand still, and what to do
	Paused        *DigestPause   // nil while mail goes out
	Link          string         // to the console
}

// DigestStage is how many clients are in a stage.
type DigestStage struct {
	Label string
	N     int
}

// DigestReason is how many clients stand still for a reason, and what an operator can do.
type DigestReason struct {
	Reason, Cure string
	N            int
}

// DigestPause says why no mail goes out.
type DigestPause struct{ Why string }

// Standing is how many clients stand still.
func (d Digest) Standing() int {
	n := 0
	for _, reason := range d.Stalled {
		n += reason.N
	}
	return n
}

// digestView is what the templates of the digest show.
type digestView struct {
	shell
	Digest
}

// Digest writes the operators' mail, in English. Equal digests give equal bytes.
func (m *Mails) Digest(d Digest) (Rendered, error) {
	if !isLink(d.Link) {
		return Rendered{}, fmt.Errorf("%q in the digest is no address of the console", d.Link)
	}
	view := digestView{newShell(m.letterhead), d}
	view.Title = digestSubject(d)
	view.Lang, view.Preheader = "en", fmt.Sprintf("%s new connections, %s reminders, %s newly stalled since %s",
		count(d.AuthorizedNew), count(d.Reminded), count(d.StalledNew), day(d.Since))
	var lines strings.Builder
	if err := m.set.digestText.Execute(&lines, view); err != nil {
		return Rendered{}, fmt.Errorf("write the text of the digest: %w", err)
	}
	page, err := writeMail(m.set.digestHTML, view)
	if err != nil {
		return Rendered{}, err
	}
	return Rendered{Subject: view.Title, Text: wrapLines(lines.String()), HTML: page, Language: "en"}, nil
}

// digestSubject says the most important first.
func digestSubject(d Digest) string {
	subject := fmt.Sprintf("%s of %s connected", count(d.Authorized), count(d.Total))
	if d.AuthorizedNew > 0 {
		subject += fmt.Sprintf(", %s new", count(d.AuthorizedNew))
	}
	if n := d.Standing(); n > 0 {
		subject += fmt.Sprintf("; %s %s help", count(n), plural(n, "needs", "need"))
	}
	if d.Paused != nil {
		return "Mail is paused: " + subject
	}
	return subject
}

// wrapLines wraps every line, and leaves no empty line at the beginning and no two in a row.
func wrapLines(text string) string {
	var b strings.Builder
	empty := true
	for line := range strings.Lines(text) {
		line = oneLine(line)
		if line == "" && empty {
			continue
		}
		empty = line == ""
		wrapLine(&b, []byte(line))
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
