// Package zonetest gives a test a name server of its own, over UDP and TCP on loopback.
//
//	address := zonetest.Serve(t, zonetest.Zone{
//		"MX agency.example": {"10 mx.agency.example"},
//		"A mx.agency.example": {"192.0.2.1"},
//		"TXT broken.example": nil, // the server fails
//	})
//	posture.NewResolver(address)
package zonetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Zone has the answers by type and name of the question, without a dot at the name's end: "TXT agency.example". What
// is not in it does not exist, except for the root servers. A question whose answer is nil is one at which the server fails
// (SERVFAIL); an empty one exists and has no records.
type Zone map[string][]string

// maxUDP is the size from which on an answer has to be fetched by TCP. Servers may allow more; this one makes TCP common.
const maxUDP = 512

// Serve answers with what is in a zone until the test ends, and returns where (host:port). The zone must not change.
func Serve(tb testing.TB, z Zone) (address string) {
	tb.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	for range 10 { // Another program may have the same port for the other protocol.
		var err error
		if tcp, err = new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0"); err != nil {
			tb.Fatal(err)
		}
		if udp, err = new(net.ListenConfig).ListenPacket(tb.Context(), "udp", tcp.Addr().String()); err == nil {
			break
		}
		_ = tcp.Close()
	}
	if udp == nil {
		tb.Fatal("zonetest: no port is free for TCP and UDP alike")
	}
	var serving sync.WaitGroup
	complain := func(err error) { tb.Errorf("zonetest: %v", err) }
	serving.Go(func() { z.serveUDP(udp, complain) })
	serving.Go(func() { z.serveTCP(tcp, complain) })
	tb.Cleanup(func() {
		if err := errors.Join(udp.Close(), tcp.Close()); err != nil {
			tb.Error(err)
		}
		serving.Wait()
	})
	return tcp.Addr().String()
}

func (z Zone) serveUDP(conn net.PacketConn, complain func(error)) {
	query := make([]byte, maxUDP)
	for {
		n, from, err := conn.ReadFrom(query)
		if err != nil {
			return // It was closed.
		}
		answer, err := z.answer(query[:n], maxUDP)
		if err != nil {
			complain(err)
			continue
		}
		_, _ = conn.WriteTo(answer, from) // Whoever asked may have gone.
	}
}

func (z Zone) serveTCP(listener net.Listener, complain func(error)) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // It was closed.
		}
		if err := z.serveOne(conn); err != nil {
			complain(err)
		}
	}
}

// serveOne answers the one question that a resolver asks on a connection.
func (z Zone) serveOne(conn net.Conn) error {
	defer conn.Close() //nolint:errcheck // The answer was written.
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil // Whoever connected has nothing to ask.
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, query); err != nil {
		return err
	}
	answer, err := z.answer(query, 1<<16-1)
	if err != nil {
		return err
	}
	_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)) //nolint:gosec // answer keeps to the limit.
	return err
}

// answer answers a query with at most so many bytes.
func (z Zone) answer(query []byte, limit int) ([]byte, error) {
	var asked dnsmessage.Message
	if err := asked.Unpack(query); err != nil || len(asked.Questions) != 1 {
		return nil, fmt.Errorf("not a question: %w", err)
	}
	q := asked.Questions[0]
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: asked.ID, Response: true, RecursionDesired: asked.RecursionDesired, RecursionAvailable: true},
		Questions: asked.Questions,
	}
	values, rcode := z.find(q)
	m.RCode = rcode
	for _, value := range values {
		body, err := parse(q.Type, value)
		if err != nil {
			return nil, fmt.Errorf("%v %v %q: %w", q.Type, q.Name, value, err)
		}
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
			Body:   body,
		})
	}
	packed, err := m.Pack()
	if err == nil && len(packed) > limit {
		m.Answers, m.Truncated = nil, true
		return m.Pack()
	}
	return packed, err
}

// find looks a question up, whatever the case of its name.
func (z Zone) find(q dnsmessage.Question) ([]string, dnsmessage.RCode) {
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	question := strings.TrimPrefix(q.Type.String(), "Type") + " " + name
	values, ok := z[question]
	switch {
	case ok && values == nil:
		return nil, dnsmessage.RCodeServerFailure
	case ok:
		return values, dnsmessage.RCodeSuccess
	case question == "NS ":
		return []string{"a.root-servers.net"}, dnsmessage.RCodeSuccess
	}
	for known := range z {
		if strings.HasSuffix(known, " "+name) {
			return nil, dnsmessage.RCodeSuccess
		}
	}
	return nil, dnsmessage.RCodeNameError
}

func parse(kind dnsmessage.Type, value string) (dnsmessage.ResourceBody, error) {
	switch kind {
	case dnsmessage.TypeTXT:
		var parts []string
		for rest := value; rest != "" || parts == nil; {
			part := rest[:min(len(rest), 255)]
			parts, rest = append(parts, part), rest[len(part):]
		}
		return &dnsmessage.TXTResource{TXT: parts}, nil
	case dnsmessage.TypeMX:
		preference, host, _ := strings.Cut(value, " ")
		number, err := strconv.ParseUint(preference, 10, 16)
		if err != nil {
			return nil, err
		}
		name, err := dnsmessage.NewName(strings.TrimSuffix(host, ".") + ".")
		return &dnsmessage.MXResource{Pref: uint16(number), MX: name}, err
	case dnsmessage.TypeNS:
		name, err := dnsmessage.NewName(value + ".")
		return &dnsmessage.NSResource{NS: name}, err
	case dnsmessage.TypePTR:
		name, err := dnsmessage.NewName(value + ".")
		return &dnsmessage.PTRResource{PTR: name}, err
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
		ip, err := netip.ParseAddr(value)
		if err != nil {
			return nil, err
		}
		if ip.Is4() {
			return &dnsmessage.AResource{A: ip.As4()}, nil
		}
		return &dnsmessage.AAAAResource{AAAA: ip.As16()}, nil
	default:
		return nil, errors.New("no such type is known here")
	}
}
