package posture

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// checkDMARC looks for the policy of the From domain, and for what lets our mail pass it: an SPF or a DKIM pass of a domain
// that is aligned with From's (RFC 7489, 3.1).
func (e *examination) checkDMARC(ctx context.Context) Finding {
	own := "_dmarc." + e.From
	at, organization := own, organizationOf(e.From)
	records, err := e.policies(ctx, at)
	if err == nil && len(records) == 0 && organization != e.From {
		at = "_dmarc." + organization
		records, err = e.policies(ctx, at)
	}
	switch {
	case err != nil:
		return unanswered(err)
	case len(records) == 0:
		return Finding{
			Verdict: Warn,
			Words:   e.From + " has no DMARC policy: Gmail, Yahoo and Microsoft demand one of those who send much",
			Cure:    "publish this record; it changes nothing for anyone until you make the policy stricter",
			Record:  &Record{Name: "_dmarc." + organization, Text: "v=DMARC1; p=none"},
		}
	case len(records) > 1:
		return Finding{
			Verdict: Warn,
			Words:   fmt.Sprintf("%s has %d DMARC records, so that receivers heed none", at, len(records)),
			Cure:    "leave one of them",
		}
	}
	t, err := parseTags(records[0], "DMARC1")
	if err != nil {
		return Finding{Verdict: Warn, Words: fmt.Sprintf("%s is %q, which receivers ignore: %s", at, records[0], err), Cure: "correct the record"}
	}
	policy := strings.ToLower(t["p"])
	if at != own {
		policy = strings.ToLower(cmp.Or(t["sp"], policy))
	}
	switch policy {
	case "none", "quarantine", "reject":
	default:
		return Finding{
			Verdict: Warn,
			Words:   fmt.Sprintf("%s is %q, whose policy is none of none, quarantine and reject", at, records[0]),
			Cure:    "correct the record",
		}
	}
	return e.judgeAlignment(t, at, policy)
}

// policies returns the DMARC records of a name.
func (e *examination) policies(ctx context.Context, name string) ([]string, error) {
	texts, err := e.names.LookupTXT(ctx, name)
	if silent(err) {
		return nil, err
	}
	var records []string
	for _, text := range texts {
		if hasVersion(text, "DMARC1") {
			records = append(records, text)
		}
	}
	return records, nil
}

// judgeAlignment says what our mail passes the policy by.
func (e *examination) judgeAlignment(t tags, at, policy string) Finding {
	bySPF := aligned(e.Envelope, e.From, t["aspf"])
	byDKIM := e.Signature != nil && aligned(fold(e.Signature.Domain), e.From, t["adkim"])
	consequence := map[string]string{
		"none":       "mail that passes neither is not refused for that",
		"quarantine": "mail that passes neither goes to spam",
		"reject":     "mail that passes neither is refused",
	}[policy]
	found := fmt.Sprintf("%s has the policy %s (%s)", at, policy, consequence)
	var f Finding
	switch {
	case byDKIM && bySPF:
		f = Finding{Verdict: OK, Words: "ours can pass by DKIM and by SPF"}
	case byDKIM:
		f = Finding{Verdict: OK, Words: fmt.Sprintf("ours can pass by DKIM; not by SPF, which proves %s instead of %s", e.Envelope, e.From)}
	case e.Signature == nil && bySPF:
		f = Finding{Verdict: OK, Words: "ours can pass by SPF, unless it is forwarded; by DKIM, if the mail host signs for " + e.From}
	case e.Signature == nil:
		f = Finding{
			Verdict: Warn,
			Words:   fmt.Sprintf("ours passes only if the mail host signs for %s, as SPF proves %s", e.From, e.Envelope),
			Cure: "see with countersign doctor --mail ADDRESS that it does, or set COUNTERSIGN_BOUNCE_ADDRESS to an address of " +
				organizationOf(e.From),
		}
	case bySPF:
		f = Finding{
			Verdict: Warn,
			Words:   fmt.Sprintf("ours can pass by SPF alone, and not once it is forwarded: DKIM proves %s instead of %s", e.Signature.Domain, e.From),
			Cure:    "set COUNTERSIGN_DKIM_DOMAIN to " + e.From,
		}
	default:
		f = Finding{
			Verdict: Fail,
			Words:   fmt.Sprintf("ours cannot pass: SPF proves %s and DKIM %s, neither of them %s", e.Envelope, e.Signature.Domain, e.From),
			Cure:    "set COUNTERSIGN_DKIM_DOMAIN to " + e.From,
		}
	}
	f.Words = found + "; " + f.Words
	return f
}

// aligned tells that what is proved for a domain counts for From's: the same in strict mode, of the same organization in
// relaxed mode, which is the default.
func aligned(domain, from, mode string) bool {
	if strings.EqualFold(mode, "s") {
		return domain == from
	}
	return organizationOf(domain) == organizationOf(from)
}

// organizationOf returns the part of a domain that somebody registered.
func organizationOf(domain string) string {
	organization, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil { // It is a public suffix itself.
		return domain
	}
	return organization
}
