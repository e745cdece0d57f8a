package posture

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// checkReturns wants reports of failed deliveries to find their way back.
func (e *examination) checkReturns(ctx context.Context) Finding {
	f := e.checkDelivery(ctx, e.Envelope)
	switch f.Verdict {
	case Fail:
		f.Words += ": no report of a failed delivery comes back"
		f.Cure = "publish an MX record of " + e.Envelope + " that names the mail server of the address that reports come back to"
	case OK, Warn, Skip:
	}
	return f
}

// checkReplies wants our mail to be answerable: some receivers refuse mail that is not.
func (e *examination) checkReplies(ctx context.Context) Finding {
	worst := e.checkDelivery(ctx, e.From)
	if e.ReplyTo != e.From {
		other := e.checkDelivery(ctx, e.ReplyTo)
		order := []Verdict{OK, Skip, Warn, Fail}
		switch here, there := slices.Index(order, worst.Verdict), slices.Index(order, other.Verdict); {
		case there > here:
			worst = other
		case there == here && worst.Verdict == OK:
			worst.Words += "; " + other.Words
		}
	}
	if worst.Verdict == Fail {
		worst.Words += ": nobody can answer our mail, and some receivers refuse it for that"
		worst.Cure = "publish an MX record of that domain, or set COUNTERSIGN_MAIL_FROM and COUNTERSIGN_MAIL_REPLY_TO to addresses that receive mail"
	}
	return worst
}

// checkDelivery says whether mail for a domain reaches a host (RFC 5321, 5.1, and RFC 7505).
func (e *examination) checkDelivery(ctx context.Context, domain string) Finding {
	servers, err := e.names.LookupMX(ctx, domain)
	switch {
	case silent(err):
		return unanswered(err)
	case len(servers) == 1 && servers[0].Host == ".":
		return Finding{Verdict: Fail, Words: domain + " says that it takes no mail (its MX record is a single dot)"}
	case len(servers) == 0:
		addresses, err := e.names.LookupIPAddr(ctx, domain)
		switch {
		case silent(err):
			return unanswered(err)
		case len(addresses) == 0:
			return Finding{Verdict: Fail, Words: domain + " has neither a mail server (MX record) nor an address"}
		}
		return Finding{
			Verdict: Warn,
			Words:   fmt.Sprintf("%s has no mail server (MX record), only the address %s, which many senders try instead", domain, addresses[0].String()),
			Cure:    "publish an MX record of " + domain,
		}
	}
	hosts := make([]string, len(servers))
	for i, server := range servers {
		hosts[i] = fold(server.Host)
	}
	for _, host := range hosts {
		addresses, err := e.names.LookupIPAddr(ctx, host)
		switch {
		case silent(err):
			return unanswered(err)
		case len(addresses) > 0:
			return Finding{Verdict: OK, Words: fmt.Sprintf("mail for %s goes to %s", domain, strings.Join(hosts, ", "))}
		}
	}
	return Finding{Verdict: Fail, Words: fmt.Sprintf("the mail server of %s, %s, has no address", domain, strings.Join(hosts, ", "))}
}
