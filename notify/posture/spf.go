package posture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"blitiri.com.ar/go/spf"
)

// checkSPF judges the envelope's domain, as receivers do.
func (e *examination) checkSPF(ctx context.Context) Finding {
	n := newNames(e.resolver)
	f, record := n.checkRecord(ctx, e.Envelope)
	include := includeOf(e.server.name)
	if f.Verdict == Fail && record == "" && include != "" {
		f.Cure, f.Record = "publish this record", &Record{Name: e.Envelope, Text: "v=spf1 include:" + include + " ~all"}
	}
	if f.Verdict == Fail || f.Verdict == Skip {
		return f
	}
	if include != "" {
		if n.texts[include] {
			f.Words += fmt.Sprintf("; it includes %s, the hosts that send for %s", include, e.server.name)
			return f
		}
		_, rest, _ := strings.Cut(record, " ")
		return Finding{
			Verdict: Warn,
			Words:   fmt.Sprintf("%s; it does not include %s, the hosts that send for %s", f.Words, include, e.server.name),
			Cure:    "unless it has their addresses in another way, publish this record instead",
			Record:  &Record{Name: e.Envelope, Text: strings.TrimSpace("v=spf1 include:" + include + " " + rest)},
		}
	}
	return e.judgeServer(ctx, f)
}

// checkFromSPF judges a From domain that is not the envelope's. Receivers do not ask it for our mail.
func (e *examination) checkFromSPF(ctx context.Context) Finding {
	f, _ := newNames(e.resolver).checkRecord(ctx, e.From)
	if f.Verdict == Fail {
		f.Verdict = Warn
		f.Words += "; our mail is judged by " + e.Envelope + ", but other mail of yours may be judged by this"
	}
	return f
}

// judgeServer adds to a sound record whether it lets the server send that takes our mail.
func (e *examination) judgeServer(ctx context.Context, f Finding) Finding {
	const proof = "countersign doctor --mail ADDRESS shows it"
	if len(e.server.public) == 0 {
		hidden := e.server.hidden
		if e.server.err != nil {
			hidden = "the resolver does not answer for " + e.server.name
		}
		f.Words += fmt.Sprintf("; %s, so that it cannot be told from here whether the hosts that send for it may: %s", hidden, proof)
		return f
	}
	var allowed, others []string
	for _, ip := range e.server.public {
		result, err := newNames(e.resolver).evaluate(ctx, ip, e.Envelope)
		switch result {
		case spf.TempError:
			return unanswered(err)
		case spf.Pass:
			allowed = append(allowed, ip.String())
		default:
			others = append(others, fmt.Sprintf("%s (%s)", ip, result))
		}
	}
	if len(others) == 0 {
		f.Words += fmt.Sprintf("; it lets %s send (%s)", e.server.name, strings.Join(allowed, ", "))
		return f
	}
	return Finding{
		Verdict: Warn,
		Words:   fmt.Sprintf("%s; it does not let %s send: %s", f.Words, e.server.name, strings.Join(others, ", ")),
		Cure: fmt.Sprintf("if that server delivers mail itself, add a:%s to the record; if others send for it, add the include: that its operator names, "+
			"if it is not there yet: %s", e.server.name, proof),
	}
}

// checkRecord judges the record of a domain for itself, and returns it if there is one. It lets a host ask for leave to which
// no honest record gives it: the evaluation then comes by every part of the record, and by those that it includes.
func (n *names) checkRecord(ctx context.Context, domain string) (_ Finding, record string) {
	texts, err := n.LookupTXT(ctx, domain)
	if silent(err) {
		return unanswered(err), ""
	}
	for _, text := range texts {
		if version, _, _ := strings.Cut(text, " "); strings.EqualFold(version, "v=spf1") {
			record = text
		}
	}
	nobody := netip.AddrFrom4([4]byte{240, 0, 0, 1}) // of a range that nobody may use
	result, err := n.evaluate(ctx, nobody, domain)
	found := fmt.Sprintf("%s has %q", domain, record)
	switch result {
	case spf.TempError:
		return unanswered(err), record
	case spf.None:
		return Finding{
			Verdict: Fail,
			Words:   domain + " has no SPF record: receivers cannot tell who may send for it",
			Cure:    "publish one TXT record at " + domain + ` of the form "v=spf1 include:… ~all", with the include: that your mail host names`,
		}, ""
	case spf.PermError:
		flaw, cure := flawOf(err)
		return Finding{Verdict: Fail, Words: fmt.Sprintf("%s, which receivers ignore: %s", found, flaw), Cure: cure}, record
	case spf.Pass:
		return Finding{
			Verdict: Fail,
			Words:   found + ", which lets everyone send in its name: receivers hold that against it",
			Cure:    "end the record with ~all or -all, and take out what allows all addresses",
		}, record
	case spf.Neutral:
		return Finding{
			Verdict: Warn,
			Words:   found + ", which says of no host that it may not send",
			Cure:    "end the record with ~all or -all",
		}, record
	case spf.Fail, spf.SoftFail:
	}
	return Finding{Verdict: OK, Words: found}, record
}

// evaluate asks as a receiver would whether a host may send for a domain.
func (n *names) evaluate(ctx context.Context, ip netip.Addr, domain string) (spf.Result, error) {
	return spf.CheckHostWithSender(net.IP(ip.AsSlice()), domain, "postmaster@"+domain, spf.WithContext(ctx), spf.WithResolver(n))
}

// flawOf puts into words why a record cannot be evaluated.
func flawOf(err error) (flaw, cure string) {
	for _, known := range []struct {
		err        error
		flaw, cure string
	}{
		{spf.ErrMultipleRecords, "there are several SPF records where one is allowed, here or in what it includes", "put them together into one"},
		{
			spf.ErrLookupLimitReached, "it needs more than 10 lookups",
			"take out includes of services that you no longer use, or replace some by the ip4: and ip6: networks of their hosts",
		},
		{spf.ErrVoidLookupLimitReached, "more than two of the names in it do not exist", "take out the names that do not exist"},
		{spf.ErrTooManyMXRecords, "one of its mx: has more than 10 mail servers", "replace it by the ip4: and ip6: networks of the hosts that send"},
		{spf.ErrNoResult, "an include: or redirect= in it names a domain that has no SPF record", "correct or remove that name"},
		{spf.ErrUnknownField, "a part of it is none that SPF knows", "correct the record: its parts are ip4:, ip6:, a, mx, include:, exists:, redirect= and all"},
	} {
		if errors.Is(err, known.err) {
			return known.flaw, known.cure
		}
	}
	return cmp.Or(err, errors.New("it is malformed")).Error(), "correct the record"
}

// includeOf names the SPF record of the hosts that send for a well-known mail host and keep our envelope; it is empty for
// any other.
func includeOf(host string) string {
	host = fold(host)
	for _, known := range []struct{ domain, include string }{
		{"gmail.com", "_spf.google.com"}, // smtp.gmail.com and smtp-relay.gmail.com
		{"office365.com", "spf.protection.outlook.com"},
		{"mail.protection.outlook.com", "spf.protection.outlook.com"},
		{"fastmail.com", "spf.messagingengine.com"},
		{"protonmail.ch", "_spf.protonmail.ch"},
	} {
		if host == known.domain || strings.HasSuffix(host, "."+known.domain) {
			return known.include
		}
	}
	return ""
}
