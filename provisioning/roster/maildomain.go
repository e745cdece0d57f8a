package roster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// MailDomainVerdict says whether mail can be sent to the addresses of a domain.
type MailDomainVerdict string

// The verdicts on a domain. Only MailNowhere and MailRefused are held against an address.
const (
	MailUnknown  MailDomainVerdict = ""         // not asked, or no clear answer
	MailReceives MailDomainVerdict = "receives" // it has a mail server, or an address that serves as one
	MailNowhere  MailDomainVerdict = "nowhere"  // it does not exist, or has neither mail server nor address
	MailRefused  MailDomainVerdict = "refused"  // it says that it takes no mail (RFC 7505)
)

// Refusal says why an address of the domain cannot be an owner's, with the cure; it is empty unless that
// is certain. Its code is RejectEmailUndeliverable.
func (v MailDomainVerdict) Refusal(address string) string {
	_, domain, _ := strings.Cut(address, "@")
	switch v {
	case MailNowhere:
		return fmt.Sprintf("%s cannot get mail: the domain %s does not exist, or has no mail server. Correct the address.", quote(address), domain)
	case MailRefused:
		return fmt.Sprintf("%s cannot get mail: the domain %s takes none at all. Write another address of the Account Owner.", quote(address), domain)
	case MailUnknown, MailReceives:
	}
	return ""
}

// MailResolver is what MailDomains needs of the domain name system; *net.Resolver has it.
type MailResolver interface {
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupNS(ctx context.Context, name string) ([]*net.NS, error)
}

// The bounds of a check: an import may wait a little for it, but never depends on it.
const (
	mailLookups       = 32 // at once, in one check
	mailLookupTimeout = 2 * time.Second
	mailCheckTimeout  = 5 * time.Second
	mailRootTimeout   = 500 * time.Millisecond // a resolver that does not name the root servers by then is left alone…
	mailResolverRest  = time.Minute            // …for a while
	mailReceivesKept  = time.Hour
	mailCannotKept    = 10 * time.Minute
	maxKnownDomains   = 50_000
)

// MailDomains finds the domains that cannot receive mail, and remembers what it found. It may be used
// concurrently.
type MailDomains struct {
	Resolver MailResolver     // nil: every domain is unknown
	Now      func() time.Time // nil: time.Now

	mu      sync.Mutex
	known   map[string]knownDomain
	resting time.Time // until when the resolver is left alone
}

type knownDomain struct {
	verdict MailDomainVerdict
	until   time.Time
}

// Check gives a verdict on every domain, which must be in the form of a Row's address. It takes at most
// five seconds, or half a second if the resolver is silent; what could not be found out until then, or
// until ctx is done, is MailUnknown. Domains that are reserved for examples and private use are not
// looked up. A resolver that cannot name the root servers is not asked: cut off from the public name
// system, it would say of every domain that there is no such name.
func (m *MailDomains) Check(ctx context.Context, domains []string) map[string]MailDomainVerdict {
	verdicts, asked := m.recall(domains)
	if len(asked) == 0 {
		return verdicts
	}
	ctx, cancel := context.WithTimeout(ctx, mailCheckTimeout)
	defer cancel()
	if !m.isPublic(ctx) {
		m.rest()
		return verdicts
	}
	found := make([]MailDomainVerdict, len(asked))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(mailLookups, len(asked)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(asked) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				found[i] = m.lookUp(ctx, asked[i])
			}
		})
	}
	workers.Wait()
	for i, domain := range asked {
		verdicts[domain] = found[i]
	}
	m.remember(asked, found)
	return verdicts
}

// recall returns what is known about the domains, and which of them must be asked about.
func (m *MailDomains) recall(domains []string) (verdicts map[string]MailDomainVerdict, asked []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	silent := m.Resolver == nil || now.Before(m.resting)
	verdicts = make(map[string]MailDomainVerdict, len(domains))
	for _, domain := range domains {
		if _, ok := verdicts[domain]; ok {
			continue
		}
		known := m.known[domain]
		switch {
		case now.Before(known.until):
			verdicts[domain] = known.verdict
		case silent || IsReservedDomain(domain):
			verdicts[domain] = MailUnknown
		default:
			verdicts[domain] = MailUnknown
			asked = append(asked, domain)
		}
	}
	return verdicts, asked
}

// isPublic tells that the resolver answers, and for the public name system.
func (m *MailDomains) isPublic(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, mailRootTimeout)
	defer cancel()
	servers, err := m.Resolver.LookupNS(ctx, ".")
	return err == nil && len(servers) > 0
}

// rest leaves the resolver alone for a while.
func (m *MailDomains) rest() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.resting = m.now().Add(mailResolverRest)
}

func (m *MailDomains) remember(domains []string, verdicts []MailDomainVerdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if m.known == nil {
		m.known = make(map[string]knownDomain)
	}
	for i, domain := range domains {
		switch verdicts[i] {
		case MailUnknown:
		case MailReceives:
			m.known[domain] = knownDomain{MailReceives, now.Add(mailReceivesKept)}
		case MailNowhere, MailRefused:
			m.known[domain] = knownDomain{verdicts[i], now.Add(mailCannotKept)}
		}
	}
	for domain, known := range m.known {
		if len(m.known) <= maxKnownDomains {
			return
		}
		if !now.Before(known.until) {
			delete(m.known, domain)
		}
	}
	for domain := range m.known { // All are fresh: any will do.
		if len(m.known) <= maxKnownDomains {
			return
		}
		delete(m.known, domain)
	}
}

// lookUp asks for the mail servers of a domain and, if it has none, for its own addresses, which then take
// their place (RFC 5321, 5.1).
func (m *MailDomains) lookUp(ctx context.Context, domain string) MailDomainVerdict {
	ctx, cancel := context.WithTimeout(ctx, mailLookupTimeout)
	defer cancel()
	name := domain + "." // without it, the resolver would try the names below its own domain as well
	servers, err := m.Resolver.LookupMX(ctx, name)
	switch {
	case len(servers) == 1 && servers[0].Host == ".":
		return MailRefused
	case len(servers) > 0:
		return MailReceives
	case err != nil && !isNotFound(err):
		return MailUnknown
	}
	// Each family is asked for itself: together, one that failed would pass for one that is empty.
	for _, network := range []string{"ip4", "ip6"} {
		addresses, err := m.Resolver.LookupNetIP(ctx, network, name)
		switch {
		case len(addresses) > 0:
			return MailReceives
		case err != nil && !isNotFound(err):
			return MailUnknown
		}
	}
	return MailNowhere
}

func (m *MailDomains) now() time.Time {
	if m.Now == nil {
		return time.Now()
	}
	return m.Now()
}

// isNotFound tells the clear answer that there is no such name or no such record.
func isNotFound(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound && !dns.IsTimeout && !dns.IsTemporary
}

// IsReservedDomain tells the names that no public server answers for (RFC 2606, 6761, 6762, 7686, 8375,
// 9476).
func IsReservedDomain(domain string) bool {
	dot := strings.LastIndexByte(domain, '.')
	above := domain[:max(dot, 0)]
	second := above[strings.LastIndexByte(above, '.')+1:]
	switch domain[dot+1:] {
	case "example", "test", "invalid", "localhost", "local", "internal", "onion", "alt":
		return true
	case "com", "net", "org":
		return second == "example"
	case "arpa":
		return second == "home"
	}
	return false
}
