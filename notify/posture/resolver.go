package posture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// lookupPatience bounds a question to the resolver.
const lookupPatience = 5 * time.Second

// Resolver answers questions to the domain name system; *net.Resolver does.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNS(ctx context.Context, name string) ([]*net.NS, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// NewResolver makes a Resolver that asks the name server at an address (host:port), or those of the system if that is empty.
func NewResolver(address string) *net.Resolver {
	// Without StrictErrors, a host whose IPv6 answer is lost would pass for one that has no IPv6 address.
	r := &net.Resolver{PreferGo: true, StrictErrors: true}
	if address != "" {
		r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	}
	return r
}

// names asks a Resolver so that there are two kinds of errors only: a name or a record that does not exist, and no answer.
// The latter all are temporary, which is what package spf goes by. Names are absolute: the resolver would look for others
// below its own domain as well.
type names struct {
	resolver Resolver
	texts    map[string]bool // the names whose TXT records were asked for
}

func newNames(r Resolver) *names { return &names{resolver: r, texts: make(map[string]bool)} }

// LookupTXT asks for TXT records.
func (n *names) LookupTXT(ctx context.Context, name string) ([]string, error) {
	n.texts[strings.ToLower(strings.TrimSuffix(name, "."))] = true
	return ask(ctx, n.resolver.LookupTXT, absolute(name))
}

// LookupMX asks for mail servers. The records that make sense are an answer, whatever there is beside them.
func (n *names) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return ask(ctx, n.resolver.LookupMX, absolute(name))
}

// LookupIPAddr asks for the addresses of a host.
func (n *names) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	return ask(ctx, n.resolver.LookupIPAddr, absolute(host))
}

// LookupAddr asks for the names of an address.
func (n *names) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return ask(ctx, n.resolver.LookupAddr, addr)
}

func absolute(name string) string { return strings.TrimSuffix(name, ".") + "." }

func ask[T any](ctx context.Context, lookUp func(context.Context, string) ([]T, error), name string) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	answers, err := lookUp(ctx, name)
	if err == nil || len(answers) > 0 {
		return answers, nil
	}
	failed, ok := errors.AsType[*net.DNSError](err)
	if ok && failed.IsNotFound && !failed.IsTimeout && !failed.IsTemporary {
		return nil, failed
	}
	if ok {
		err = errors.New(failed.Err)
	}
	return nil, &net.DNSError{Err: err.Error(), Name: strings.TrimSuffix(name, "."), IsTemporary: true}
}

// silent tells an error of names that leaves open whether there is such a record.
func silent(err error) bool {
	failed, ok := errors.AsType[*net.DNSError](err)
	return ok && failed.IsTemporary
}

// checkPublic asks the resolver for the root servers. One that does not know them is cut off from the public name system, and
// would say of every domain that there is no such name.
func checkPublic(ctx context.Context, r Resolver) error {
	servers, err := ask(ctx, r.LookupNS, ".")
	if len(servers) == 0 && !silent(err) {
		return &net.DNSError{Err: "there are none: it is cut off from the public name system", IsNotFound: true}
	}
	return err
}

// unanswered is the finding where the resolver left something open.
func unanswered(err error) Finding {
	words := "the resolver does not answer"
	if failed, ok := errors.AsType[*net.DNSError](err); ok {
		words += fmt.Sprintf(" the question for %s (%s)", cmp.Or(failed.Name, "the root servers"), failed.Err)
	}
	return Finding{Verdict: Skip, Words: words, Cure: "try again later, or set COUNTERSIGN_DNS to another resolver, such as 9.9.9.9:53"}
}
