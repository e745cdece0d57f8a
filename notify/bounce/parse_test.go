package bounce_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/countersign/countersign/notify/bounce"
)

// report is a delivery report about one recipient.
func report(action, status, diagnostic string) string {
	return "From: MAILER-DAEMON@relay.example\nSubject: Undelivered\n" +
		"Content-Type: multipart/report; report-type=delivery-status; boundary=x\n\n" +
		"--x\nContent-Type: text/plain\n\nIt did not work.\n" +
		"--x\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; relay.example\n\n" +
		"Final-Recipient: rfc822; bea@acme.example\nAction: " + action + "\nStatus: " + status +
		"\nDiagnostic-Code: smtp; " + diagnostic + "\n\n--x--\n"
}

func parse(s string) bounce.Report { return bounce.Parse(strings.NewReader(s)) }

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		action, status, said string
		want                 bounce.Kind
	}{
		{"failed", "5.1.1", "550 5.1.1 User unknown", bounce.Hard},
		{"failed", "5.1.2", "", bounce.Hard},
		{"failed", "5.1.3", "", bounce.Hard},
		{"failed", "5.1.6", "", bounce.Hard},
		{"failed", "5.1.7", "", bounce.Policy},
		{"failed", "5.1.8", "550 5.1.8 Sender address rejected: Domain not found", bounce.Policy},
		{"failed", "5.1.10", "556 5.1.10 Domain does not accept mail (nullMX)", bounce.Hard},
		{"failed", "5.2.0", "", bounce.Soft},
		{"failed", "5.2.1", "", bounce.Hard},
		{"failed", "5.2.2", "", bounce.Soft},
		{"failed", "5.2.3", "", bounce.Policy},
		{"failed", "5.3.0", "", bounce.Soft},
		{"failed", "5.3.4", "552 5.3.4 Message size exceeds fixed limit", bounce.Policy},
		{"failed", "5.0.0", "552 Message too large", bounce.Policy},
		{"failed", "5.4.1", "", bounce.Soft},
		{"failed", "5.4.4", "", bounce.Hard},
		{"failed", "5.4.6", "mail for acme.example loops back to myself", bounce.Soft},
		{"failed", "5.4.7", "550 5.4.7 Delivery expired (message too old)", bounce.Soft},
		{"failed", "5.5.2", "", bounce.Policy},
		{"failed", "5.6.0", "", bounce.Policy},
		{"failed", "5.7.0", "", bounce.Policy},
		{"failed", "5.7.1", "550 5.7.1 Unable to relay", bounce.Policy},
		{"failed", "5.7.1", "550 5.7.1 Unknown user", bounce.Hard},
		{"failed", "5.7.1", "550 5.7.1 User unknown, and your message looks like spam", bounce.Policy},
		{"failed", "5.7.8", "535 5.7.8 User unknown", bounce.Policy},
		{"failed", "5.7.1", "554 5.7.1 <bea@acme.example>: Recipient address rejected: Access denied", bounce.Policy},
		{"failed", "5.4.1", "550 5.4.1 <bea@acme.example>: Recipient address rejected: Access denied", bounce.Hard},
		{"failed", "5.0.0", "550 Requested action not taken: mailbox unavailable", bounce.Hard},
		{"failed", "5.0.0", "550-Requested action not taken: mailbox unavailable 550 invalid DNS MX or A/AAAA resource record", bounce.Policy},
		{"failed", "5.0.0", "550 Administrative prohibition", bounce.Policy},
		{"failed", "5.0.0", "554 Message rejected", bounce.Policy},
		{"failed", "5.0.0", "", bounce.Hard},
		{"failed", "5.9.9", "", bounce.Soft}, // no status of RFC 3463
		{"failed", "5.1.1", "550 5.1.1 Your IP address is on a blocklist", bounce.Policy},
		{"failed", "5.1.1", "550 5.1.1 Over quota", bounce.Soft},
		{"failed", "5.1.0", "550 5.1.0 Mailbox full", bounce.Soft},
		{"failed", "5.0.0", "550 This account has been suspended", bounce.Hard},
		{"failed", "5.0.0", "550 Your account has been suspended", bounce.Policy},
		{"failed", "4.1.1", "450 4.1.1 User unknown", bounce.Soft},
		{"failed", "4.2.2", "452 4.2.2 Over quota", bounce.Soft},
		{"failed", "4.7.1", "450 4.7.1 Greylisted", bounce.Soft},
		{"failed", "2.1.5", "250 2.1.5 Ok", bounce.Soft},
		{"failed", "", "", bounce.Soft},
		{"failed", "", "550 Go away", bounce.Hard},
		{"failed", "", "451 Come back", bounce.Soft},
		{"failed", "", "Exim 5.94.2 at 5.9.12.7 gave up", bounce.Soft},
		{"", "5.1.1", "", bounce.Hard},
		{"", "2.1.5", "", bounce.Delivered},
		{"delayed", "4.4.1", "", bounce.Delayed},
		{"delayed", "5.1.1", "550 5.1.1 User unknown", bounce.Delayed},
		{"delivered", "2.1.5", "", bounce.Delivered},
		{"relayed", "2.0.0", "", bounce.Delivered},
		{"expanded", "2.0.0", "", bounce.Delivered},
		{"failed (once more)", "5.1.1 (no such user)", "", bounce.Hard},
	} {
		got := parse(report(test.action, test.status, test.said))
		if got.Kind != test.want {
			t.Errorf("%s %s %q is %s, want %s", test.action, test.status, test.said, got.Kind, test.want)
		}
		if got.Words == "" || strings.ContainsAny(got.Words, "{}") {
			t.Errorf("%s %s %q in words: %q", test.action, test.status, test.said, got.Words)
		}
	}
}

// TestPolicyBurnsNoAddress tries what servers say when they refuse the sender.
func TestPolicyBurnsNoAddress(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		said := rapid.SampledFrom([]string{
			"Message rejected due to content restrictions", "blocked using bl.list.example", "DMARC policy of agency.example",
			"Unauthenticated email is not accepted", "SPF check failed", "poor reputation", "too many messages", "Relay access denied",
			"Sender address rejected: user unknown", "your domain does not exist", "spam",
		}).Draw(t, "said")
		status := rapid.SampledFrom([]string{"5.0.0", "5.1.0", "5.1.1", "5.2.1", "5.4.1", "5.7.0", "5.7.1", "5.7.26", "5.7.509", ""}).Draw(t, "status")
		around := rapid.SampledFrom([]string{"%s", "<bea@acme.example>: %s", "Recipient rejected: %s", "Mail to this recipient: %s (see https://unknown.user.example)"}).Draw(t, "around")
		if got := parse(report("failed", status, "550 "+status+" "+fmt.Sprintf(around, said))); got.Kind != bounce.Policy {
			t.Fatalf("%s: %s", got.Kind, got.Diagnostic)
		}
	})
}

// TestHardNeedsProof tries reports of any action, status and words.
func TestHardNeedsProof(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		action := rapid.SampledFrom([]string{"failed", "delayed", "delivered", "relayed", "expanded", "odd", ""}).Draw(t, "action")
		status := rapid.StringMatching(`|[245]\.[0-7]\.[0-9]{1,3}`).Draw(t, "status")
		said := rapid.StringMatching(`[a-z ]{0,20}`).Draw(t, "said")
		got := parse(report(action, status, said))
		if got.Kind != bounce.Hard {
			return
		}
		switch {
		case slices.Contains([]string{"delayed", "delivered", "relayed", "expanded"}, action), strings.HasPrefix(status, "4."),
			strings.HasPrefix(status, "2."), strings.HasPrefix(status, "5.7."), status == "5.2.2":
			t.Fatalf("%s %s %q is hard", action, status, said)
		}
	})
}

// TestTruncated cuts every mail of the corpus in all its parts.
func TestTruncated(t *testing.T) {
	t.Parallel()
	for name, raw := range corpus(t) {
		whole := bounce.Parse(bytes.NewReader(raw))
		for end := 0; end < len(raw); end += 29 {
			got := bounce.Parse(bytes.NewReader(raw[:end]))
			check(t, got)
			if whole.Kind == bounce.Policy && strings.HasPrefix(whole.Status, "5.7.") && got.Kind == bounce.Hard {
				t.Errorf("%s: the first %d bytes are hard, all of it is policy", name, end)
			}
		}
	}
}

// endless is a reader of n bytes that counts them.
type endless struct {
	pattern string
	n, read int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.read >= e.n {
		return 0, io.EOF
	}
	p = p[:min(len(p), e.n-e.read)]
	for i := range p {
		p[i] = e.pattern[(e.read+i)%len(e.pattern)]
	}
	e.read += len(p)
	return len(p), nil
}

// TestTenMegabytes is not parallel, as it measures memory.
func TestTenMegabytes(t *testing.T) {
	base64Lines := strings.Repeat("QUJD", 19) + "\r\n"
	bouncing := strings.TrimSuffix(report("failed", "5.1.1", "550 5.1.1 User unknown"), "--x--\n")
	for _, test := range []struct {
		name, head, pattern string
		tail                string
		want                bounce.Kind
		most                int // bytes that may be read
	}{
		{"a report with a big mail", bouncing + "--x\nContent-Type: message/rfc822\n\nMessage-ID: <m@agency.example>\nContent-Type: multipart/mixed; boundary=y\n\n--y\n\n", base64Lines, "", bounce.Hard, 256 << 10},
		{"a person with an attachment", "From: bea@acme.example\nContent-Type: multipart/mixed; boundary=y\n\n--y\n\nHello\n--y\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n", base64Lines, "", bounce.Reply, 3 << 20},
		{"one line", "From: bea@acme.example\n\n", "x", "", bounce.Reply, 3 << 20},
		{"a header", "From: bea@acme.example\n", "X-Long: abc\n def\n", "", bounce.Reply, 3 << 20},
		{"a folded field", "From: bea@acme.example\nSubject: ", "\n x", "", bounce.Reply, 3 << 20},
		{"a million parts", "From: bea@acme.example\nContent-Type: multipart/mixed; boundary=y\n\n", "--y\n\na\n", "", bounce.Reply, 3 << 20},
		{"no line end but NUL", "From: bea@acme.example\n\n", "\x00", "", bounce.Reply, 3 << 20},
	} {
		body := &endless{pattern: test.pattern, n: 10 << 20}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := bounce.Parse(io.MultiReader(strings.NewReader(test.head), body, strings.NewReader(test.tail)))
		runtime.ReadMemStats(&after)
		if got.Kind != test.want {
			t.Errorf("%s: %s, want %s", test.name, got.Kind, test.want)
		}
		if body.read > test.most {
			t.Errorf("%s: %d bytes were read", test.name, body.read)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 24<<20 {
			t.Errorf("%s: %d bytes were allocated", test.name, used)
		}
		check(t, got)
	}
}

func FuzzParse(f *testing.F) {
	for _, raw := range corpus(f) {
		f.Add(raw)
	}
	f.Add([]byte("Content-Type: multipart/mixed; boundary=\"\"\n\n--\n--\n"))
	f.Add([]byte("From: \xff\xfe\n\x00\nContent-Type: text/plain; charset=utf-16\n\n\x00a"))
	f.Fuzz(func(t *testing.T, raw []byte) { check(t, bounce.Parse(bytes.NewReader(raw))) })
}

// check holds a report to what callers rely on.
func check(tb testing.TB, r bounce.Report) {
	tb.Helper()
	kinds := []bounce.Kind{
		bounce.Hard, bounce.Soft, bounce.Policy, bounce.Delayed, bounce.Delivered, bounce.AutoReply, bounce.Challenge,
		bounce.Complaint, bounce.Reply, bounce.Unparsed,
	}
	if !slices.Contains(kinds, r.Kind) || r.Words == "" {
		tb.Errorf("kind %q, words %q", r.Kind, r.Words)
	}
	lines := append(slices.Concat(r.Addressed, r.Senders), r.MessageID, r.ReportingMTA, r.From, r.Subject)
	for _, f := range append(slices.Clone(r.Fates), r.Fate) {
		lines = append(lines, f.Recipient, f.Final, f.Status, f.Diagnostic, f.RemoteMTA, f.Words)
	}
	for _, s := range lines {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) || len(s) > 600 {
			tb.Errorf("not a line of clean text: %q", s)
		}
	}
	if !utf8.ValidString(r.Text) || strings.ContainsFunc(r.Text, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }) || len(r.Text) > 40<<10 {
		tb.Errorf("not clean text: %q", r.Text)
	}
	if len(r.Fates) > 51 || len(r.Addressed) > 50 || len(r.Senders) > 50 {
		tb.Errorf("%d fates, %d addresses, %d senders", len(r.Fates), len(r.Addressed), len(r.Senders))
	}
}

// corpus returns the mails of testdata.
func corpus(tb testing.TB) map[string][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.eml")
	if err != nil {
		tb.Fatal(err)
	}
	mails := make(map[string][]byte, len(files))
	for _, file := range files {
		if mails[file], err = os.ReadFile(file); err != nil {
			tb.Fatal(err)
		}
	}
	return mails
}
