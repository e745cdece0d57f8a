package posture

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// server is the host that takes our mail, as the name system shows it.
type server struct {
	name   string
	public []netip.Addr // its addresses that other hosts may see mail come from
	hidden string       // why there are none, in words
	err    error        // likewise, if the resolver does not answer
}

// findServer looks a host up as a connection to it would: it may be named in the hosts file or below the resolver's domain.
func findServer(ctx context.Context, r Resolver, name string) server {
	s := server{name: name}
	if ip, err := netip.ParseAddr(name); err == nil {
		s.keep(ip)
		return s
	}
	addresses, err := ask(ctx, r.LookupIPAddr, name)
	switch {
	case silent(err):
		s.err = err
	case len(addresses) == 0:
		s.hidden = name + " has no address in the name system"
	}
	for _, address := range addresses {
		if ip, ok := netip.AddrFromSlice(address.IP); ok {
			s.keep(ip.Unmap())
		}
	}
	return s
}

// keep notes an address, if it is a public one.
func (s *server) keep(ip netip.Addr) {
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10) // RFC 6598, behind a carrier's translation
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || shared.Contains(ip) {
		s.hidden = fmt.Sprintf("%s is reached at %s, an address of a private network", s.name, ip)
		return
	}
	s.public = append(s.public, ip)
}

// checkHost wants every address to have a name that has the address. Receivers demand that of whoever delivers to them.
func (e *examination) checkHost(ctx context.Context) Finding {
	switch {
	case e.server.err != nil:
		return unanswered(e.server.err)
	case len(e.server.public) == 0:
		return Finding{Verdict: Skip, Words: e.server.hidden + ": from which address its mail goes out cannot be told from here"}
	}
	var named, flaws []string
	for _, ip := range e.server.public {
		name, flaw, err := e.nameOf(ctx, ip)
		switch {
		case err != nil:
			return unanswered(err)
		case flaw != "":
			flaws = append(flaws, flaw)
		default:
			named = append(named, fmt.Sprintf("%s is %s, and back", ip, name))
		}
	}
	if len(flaws) > 0 {
		return Finding{
			Verdict: Warn,
			Words: fmt.Sprintf("%s: receivers refuse mail from such an address; that matters only if %s delivers mail itself",
				strings.Join(flaws, "; "), e.server.name),
			Cure: "have whoever owns the address set its PTR record to a name that resolves to it, and have the server greet with that name",
		}
	}
	return Finding{Verdict: OK, Words: strings.Join(named, "; ")}
}

// nameOf returns a name of an address that resolves to that address, or what is wrong with those that it has.
func (e *examination) nameOf(ctx context.Context, ip netip.Addr) (name, flaw string, err error) {
	candidates, err := e.names.LookupAddr(ctx, ip.String())
	if silent(err) {
		return "", "", err
	}
	if len(candidates) == 0 {
		return "", fmt.Sprintf("%s has no name (PTR record)", ip), nil
	}
	for _, name := range candidates {
		addresses, err := e.names.LookupIPAddr(ctx, name)
		if silent(err) {
			return "", "", err
		}
		if slices.ContainsFunc(addresses, func(a net.IPAddr) bool { return a.IP.Equal(net.IP(ip.AsSlice())) }) {
			return fold(name), "", nil
		}
	}
	return "", fmt.Sprintf("%s is named %s, which does not resolve to it", ip, fold(candidates[0])), nil
}
