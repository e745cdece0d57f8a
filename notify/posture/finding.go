package posture

import "strings"

// Subject is what a Finding is about.
type Subject string

const (
	SPF     Subject = "SPF"           // of the envelope's domain, by which receivers judge
	FromSPF Subject = "SPF of From"   // where that is another domain
	DKIM    Subject = "DKIM"          // our key and its record
	DMARC   Subject = "DMARC"         // of the From domain
	Returns Subject = "bounce domain" // the envelope's: where reports go
	Replies Subject = "reply domains" // those of From and Reply-To
	Host    Subject = "sending host"  // the server that takes our mail, should it be the one that delivers it
	DNS     Subject = "DNS"           // the resolver, where it is of no use
)

// Verdict is how a Finding turned out.
type Verdict string

const (
	OK   Verdict = "ok"
	Warn Verdict = "warn" // mail arrives, but not as surely as it could
	Fail Verdict = "fail" // many receivers refuse the mail, or take it for spam
	Skip Verdict = "skip" // cannot be told from here
)

// Finding is what was found out about one subject.
type Finding struct {
	Subject Subject
	Verdict Verdict
	Words   string
	Cure    string  // empty where there is nothing to do
	Record  *Record // what to publish, where Cure ends in that; else nil
}

// Record is a TXT record.
type Record struct {
	Name string // absolute, without a dot at its end
	Text string
}

// maxString is how many bytes a string in a TXT record may have (RFC 1035, 3.3). A record may have several, which readers
// put together.
const maxString = 255

// String is the record as a line of a zone file.
func (r Record) String() string {
	var line strings.Builder
	line.WriteString(r.Name + ". TXT")
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	for rest := r.Text; ; {
		part := rest[:min(len(rest), maxString)]
		line.WriteString(` "` + escape.Replace(part) + `"`)
		if rest = rest[len(part):]; rest == "" {
			return line.String()
		}
	}
}
