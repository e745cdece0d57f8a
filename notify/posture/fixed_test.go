package posture_test

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"github.com/countersign/countersign/notify/posture/zonetest"
)

// fixed answers from a zone without a network, for tests that ask often.
type fixed struct{ zonetest.Zone }

func (z fixed) find(kind, name string) ([]string, error) {
	if values := z.Zone[kind+" "+strings.TrimSuffix(name, ".")]; len(values) > 0 {
		return values, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z fixed) LookupTXT(_ context.Context, name string) ([]string, error) {
	return z.find("TXT", name)
}

func (z fixed) LookupNS(context.Context, string) ([]*net.NS, error) {
	return []*net.NS{{Host: "a.root-servers.net."}}, nil
}

func (z fixed) LookupMX(_ context.Context, name string) (servers []*net.MX, err error) {
	values, err := z.find("MX", name)
	for _, value := range values {
		_, host, _ := strings.Cut(value, " ")
		servers = append(servers, &net.MX{Host: host})
	}
	return servers, err
}

func (z fixed) LookupIPAddr(_ context.Context, host string) (addresses []net.IPAddr, err error) {
	values, err := z.find("A", host)
	for _, value := range values {
		addresses = append(addresses, net.IPAddr{IP: netip.MustParseAddr(value).AsSlice()})
	}
	return addresses, err
}

func (z fixed) LookupAddr(context.Context, string) ([]string, error) {
	return []string{"mx.agency.com."}, nil
}
