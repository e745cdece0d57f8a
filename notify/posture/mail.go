package posture

import (
	"cmp"
	"context"
	"strings"
)

// Mail is what receivers get to know of our mail. Domains are in ASCII.
type Mail struct {
	From      string     // domain of the From address
	ReplyTo   string     // domain of the Reply-To address, empty if that is From's
	Envelope  string     // domain of the envelope's sender, to whom reports go; empty if that is From's
	Server    string     // host that takes our mail, by name or address
	Signature *Signature // nil if we do not sign
}

// Examine asks a resolver what receivers would be told. Every subject has one finding, in the order of the subjects; only
// FromSPF has none where the envelope's domain is From's, and DNS none unless the resolver is of no use: then it stands alone.
func (m Mail) Examine(ctx context.Context, r Resolver) []Finding {
	m.From = fold(m.From)
	m.ReplyTo, m.Envelope = cmp.Or(fold(m.ReplyTo), m.From), cmp.Or(fold(m.Envelope), m.From)
	if err := checkPublic(ctx, r); err != nil {
		f := unanswered(err)
		f.Subject = DNS
		return []Finding{f}
	}
	e := examination{Mail: m, resolver: r, names: newNames(r), server: findServer(ctx, r, m.Server)}
	var findings []Finding
	for _, next := range []struct {
		subject Subject
		check   func(context.Context) Finding
	}{
		{SPF, e.checkSPF},
		{FromSPF, e.checkFromSPF},
		{DKIM, e.checkDKIM},
		{DMARC, e.checkDMARC},
		{Returns, e.checkReturns},
		{Replies, e.checkReplies},
		{Host, e.checkHost},
	} {
		if next.subject == FromSPF && m.Envelope == m.From {
			continue
		}
		f := next.check(ctx)
		f.Subject = next.subject
		findings = append(findings, f)
	}
	return findings
}

// fold gives a domain the form in which domains can be compared.
func fold(domain string) string { return strings.ToLower(strings.TrimSuffix(domain, ".")) }

// examination is an Examine at work.
type examination struct {
	Mail
	resolver Resolver
	names    *names
	server   server
}
