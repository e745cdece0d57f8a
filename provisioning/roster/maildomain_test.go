package roster_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning/roster"
)

// mailZone is a resolver that knows the domains that are named in it, each with the answers to the
// questions for MX, ip4 and ip6; what is not named is not found.
type mailZone struct {
	answers map[string]mailAnswer // by question and domain: "MX acme.com"
	delay   time.Duration
	private bool // it does not know the root of the public name system

	mu     sync.Mutex
	asked  []string
	active int
	most   int // questions at once
}

type mailAnswer struct {
	hosts []string
	err   error
}

func notFound(name string) error {
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z *mailZone) answer(ctx context.Context, question, name string) ([]string, error) {
	domain, rooted := strings.CutSuffix(name, ".")
	if !rooted {
		return nil, fmt.Errorf("%q would be looked for below the resolver's own domain, too", name)
	}
	question += " " + domain
	z.mu.Lock()
	z.asked = append(z.asked, question)
	z.active++
	z.most = max(z.most, z.active)
	z.mu.Unlock()
	defer func() { z.mu.Lock(); z.active--; z.mu.Unlock() }()
	select {
	case <-time.After(z.delay):
	case <-ctx.Done():
		return nil, &net.DNSError{Err: "i/o timeout", Name: domain, IsTimeout: true}
	}
	a, ok := z.answers[question]
	if !ok {
		return nil, notFound(domain)
	}
	return a.hosts, a.err
}

func (z *mailZone) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	hosts, err := z.answer(ctx, "MX", name)
	var servers []*net.MX
	for _, host := range hosts {
		servers = append(servers, &net.MX{Host: host, Pref: 10})
	}
	return servers, err
}

func (z *mailZone) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	hosts, err := z.answer(ctx, network, host)
	var addresses []netip.Addr
	for _, host := range hosts {
		addresses = append(addresses, netip.MustParseAddr(host))
	}
	return addresses, err
}

func (z *mailZone) LookupNS(ctx context.Context, name string) ([]*net.NS, error) {
	select {
	case <-time.After(z.delay):
	case <-ctx.Done():
		return nil, &net.DNSError{Err: "i/o timeout", Name: name, IsTimeout: true}
	}
	if z.private || name != "." {
		return nil, notFound(name)
	}
	return []*net.NS{{Host: "a.root-servers.net."}}, nil
}

func (z *mailZone) questions() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.asked)
}

func TestMailDomainsVerdicts(t *testing.T) {
	t.Parallel()
	failure := mailAnswer{err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}}
	zone := &mailZone{answers: map[string]mailAnswer{
		"MX server.com":          {hosts: []string{"mx1.server.com.", "mx2.server.com."}},
		"MX malformed.com":       {hosts: []string{"mx.malformed.com."}, err: errors.New("some records were malformed")},
		"ip4 address.com":        {hosts: []string{"192.0.2.1"}},
		"ip6 six.com":            {hosts: []string{"2001:db8::1"}},
		"MX empty.com":           {},
		"ip4 empty.com":          {},
		"ip6 empty.com":          {},
		"MX null.com":            {hosts: []string{"."}},
		"MX servfail.com":        failure,
		"ip4 half.com":           failure,
		"ip6 half.com":           {},
		"ip6 otherhalf.com":      failure,
		"MX refused.com":         {err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}},
		"MX notfoundtimeout.com": {err: &net.DNSError{Err: "timeout", IsNotFound: true, IsTimeout: true}},
	}}
	want := map[string]roster.MailDomainVerdict{
		"server.com":          roster.MailReceives,
		"malformed.com":       roster.MailReceives,
		"address.com":         roster.MailReceives,
		"six.com":             roster.MailReceives,
		"empty.com":           roster.MailNowhere,
		"nxdomain.com":        roster.MailNowhere,
		"null.com":            roster.MailRefused,
		"servfail.com":        roster.MailUnknown,
		"half.com":            roster.MailUnknown,
		"otherhalf.com":       roster.MailUnknown,
		"refused.com":         roster.MailUnknown,
		"notfoundtimeout.com": roster.MailUnknown,
	}
	reserved := []string{
		"example.com", "mail.example.com", "example.net", "example.org", "acme.example", "a.test", "b.invalid",
		"c.localhost", "d.local", "e.onion", "f.internal", "g.alt", "h.home.arpa",
	}
	var domains []string
	for domain := range want {
		domains = append(domains, domain, domain)
	}
	for _, domain := range reserved {
		domains = append(domains, domain)
		want[domain] = roster.MailUnknown
	}
	m := &roster.MailDomains{Resolver: zone}
	if diff := cmp.Diff(want, m.Check(t.Context(), domains)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	asked := strings.Join(zone.asked, "\n")
	for _, domain := range reserved {
		if strings.Contains(asked, " "+domain) {
			t.Errorf("%s was looked up", domain)
		}
	}
	if n := strings.Count(asked, "MX server.com"); n != 1 {
		t.Errorf("server.com was asked for %d times", n)
	}
}

func TestMailDomainsRefusal(t *testing.T) {
	t.Parallel()
	for verdict, refused := range map[roster.MailDomainVerdict]bool{
		roster.MailUnknown: false, roster.MailReceives: false,
		roster.MailNowhere: true, roster.MailRefused: true,
	} {
		message := verdict.Refusal("ann@acme.com")
		if refused != (message != "") || refused && (!strings.Contains(message, "acme.com") || !strings.HasSuffix(message, ".")) {
			t.Errorf("%q: %q", verdict, message)
		}
	}
}

// TestMailDomainsMemory asks again after a while.
func TestMailDomainsMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		zone := &mailZone{delay: time.Millisecond, answers: map[string]mailAnswer{
			"MX good.com":    {hosts: []string{"mx.good.com."}},
			"MX unclear.com": {err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}},
		}}
		m := &roster.MailDomains{Resolver: zone}
		domains := []string{"good.com", "bad.com", "unclear.com"}
		for _, step := range []struct {
			wait      time.Duration
			questions int
		}{
			{0, 1 + 3 + 1},
			{9 * time.Minute, 1}, // what is unclear is asked every time
			{time.Minute, 3 + 1}, // the bad news is old
			{49 * time.Minute, 3 + 1},
			{2 * time.Minute, 1 + 1}, // the good news is old; the bad is not
		} {
			time.Sleep(step.wait) //nolint:forbidigo // The clock is the test's own.
			before := zone.questions()
			got := m.Check(t.Context(), domains)
			want := map[string]roster.MailDomainVerdict{
				"good.com": roster.MailReceives, "bad.com": roster.MailNowhere, "unclear.com": roster.MailUnknown,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if n := zone.questions() - before; n != step.questions {
				t.Errorf("after %v: %d questions, want %d: %v", step.wait, n, step.questions, zone.asked[before:])
			}
		}
	})
}

// TestMailDomainsTime measures how long a check takes at most, on a clock that stands still while anybody
// works.
func TestMailDomainsTime(t *testing.T) {
	t.Parallel()
	many := make([]string, 10_000)
	zone := map[string]mailAnswer{}
	for i := range many {
		many[i] = fmt.Sprintf("client%d.com", i)
		zone["MX "+many[i]] = mailAnswer{hosts: []string{"mx."}}
	}
	tests := []struct {
		name     string
		domains  []string
		delay    time.Duration
		limit    time.Duration // of the caller
		want     time.Duration
		receives int
	}{
		{"nothing to ask", nil, time.Hour, time.Hour, 0, 0},
		{"one answer", many[:1], 400 * time.Millisecond, time.Hour, 800 * time.Millisecond, 1},
		{"32 at once", many[:64], 100 * time.Millisecond, time.Hour, 300 * time.Millisecond, 64},
		{"silent resolver", many, time.Hour, time.Hour, 500 * time.Millisecond, 0},
		{"too slow for all", many, 100 * time.Millisecond, time.Hour, 5 * time.Second, 48 * 32},
		{"the caller goes", many, 100 * time.Millisecond, time.Second, time.Second, 8 * 32},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				resolver := &mailZone{delay: test.delay, answers: zone}
				m := &roster.MailDomains{Resolver: resolver}
				ctx, cancel := context.WithTimeout(t.Context(), test.limit)
				defer cancel()
				start := time.Now()
				verdicts := m.Check(ctx, test.domains)
				if took := time.Since(start); took != test.want {
					t.Errorf("took %v, want %v", took, test.want)
				}
				if len(verdicts) != len(test.domains) {
					t.Errorf("%d verdicts on %d domains", len(verdicts), len(test.domains))
				}
				receives := 0
				for _, verdict := range verdicts {
					switch verdict {
					case roster.MailReceives:
						receives++
					case roster.MailUnknown:
					default:
						t.Fatalf("%q after a time-out", verdict)
					}
				}
				// An answer that comes at the very end may be in time or not.
				if receives < test.receives || receives > test.receives+32 {
					t.Errorf("%d receive, want %d", receives, test.receives)
				}
				if resolver.most > 32 {
					t.Errorf("%d questions at once", resolver.most)
				}
			})
		})
	}
}

// TestMailDomainsSlowOne has one domain whose server is silent while the others answer.
func TestMailDomainsSlowOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &roster.MailDomains{Resolver: slowFor{"slow.com", &mailZone{
			answers: map[string]mailAnswer{"MX quick.com": {hosts: []string{"mx."}}},
		}}}
		start := time.Now()
		got := m.Check(t.Context(), []string{"slow.com", "quick.com"})
		want := map[string]roster.MailDomainVerdict{"slow.com": roster.MailUnknown, "quick.com": roster.MailReceives}
		if diff := cmp.Diff(want, got); diff != "" || time.Since(start) != 2*time.Second {
			t.Errorf("after %v (-want +got)\n%s", time.Since(start), diff)
		}
	})
}

type slowFor struct {
	domain string
	*mailZone
}

func (s slowFor) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	if strings.TrimSuffix(name, ".") == s.domain {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.mailZone.LookupMX(ctx, name)
}

// TestMailDomainsSilence leaves a silent resolver alone for a minute.
func TestMailDomainsSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		zone := &mailZone{delay: time.Hour}
		m := &roster.MailDomains{Resolver: zone}
		m.Check(t.Context(), []string{"a.com"})
		before, start := zone.questions(), time.Now()
		m.Check(t.Context(), []string{"b.com"})
		if zone.questions() != before || time.Since(start) != 0 {
			t.Errorf("asked again at once: %v", zone.asked)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // The clock is the test's own.
		zone.delay = 0
		if got := m.Check(t.Context(), []string{"b.com"}); got["b.com"] != roster.MailNowhere {
			t.Errorf("got %v after a minute", got)
		}
	})
}

// TestMailDomainsCutOff: where a resolver knows a private network only, nothing is held against a domain.
func TestMailDomainsCutOff(t *testing.T) {
	t.Parallel()
	zone := &mailZone{private: true}
	m := &roster.MailDomains{Resolver: zone}
	if got := m.Check(t.Context(), []string{"gmail.com"}); got["gmail.com"] != roster.MailUnknown || zone.questions() > 0 {
		t.Errorf("got %v after asking %v", got, zone.asked)
	}
}

func TestMailDomainsWithoutResolver(t *testing.T) {
	t.Parallel()
	var m roster.MailDomains
	if got := m.Check(t.Context(), []string{"acme.com"}); got["acme.com"] != roster.MailUnknown || len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

// TestMailDomainsBound asks for more domains than are remembered, not all at once: a check of a machine that is slow
// ends before its time.
func TestMailDomainsBound(t *testing.T) {
	t.Parallel()
	zone := &mailZone{answers: map[string]mailAnswer{}}
	m := &roster.MailDomains{Resolver: zone}
	domains := make([]string, 60_000)
	for i := range domains {
		domains[i] = fmt.Sprintf("client%d.com", i)
		zone.answers["MX "+domains[i]] = mailAnswer{hosts: []string{"mx."}}
	}
	ask := func() int {
		before := zone.questions()
		for some := range slices.Chunk(domains, 2000) {
			m.Check(t.Context(), some)
		}
		return zone.questions() - before
	}
	if first, again := ask(), ask(); first != 60_000 || again < 10_000 || again > 30_000 {
		t.Errorf("%d questions, then %d again; want 60,000, and those again that 50,000 leave out", first, again)
	}
}
