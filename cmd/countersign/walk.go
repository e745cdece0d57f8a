package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync"
	"time"

	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
	"github.com/countersign/countersign/provisioning/roster"
)

const (
	ownersAtOnce = 6
	longestPause = 1500 * time.Millisecond // between two steps of an owner
)

// manner is how a simulated owner behaves.
type manner string

const (
	consents     manner = "consents"
	scanned      manner = "is scanned by a robot, then consents"
	forwards     manner = "forwards the mail to somebody who consents"
	wrongAccount manner = "signs in to another account"
	wrongThenOK  manner = "signs in to another account, then to the right one"
	denies       manner = "says no at the provider"
	declines     manner = "says no on the invitation page"
	abandons     manner = "begins and never finishes"
	ignores      manner = "does nothing"
)

// manners are dealt to the owners in turn, so that every demo shows each of them.
func manners() []manner {
	return []manner{
		consents, consents, scanned, consents, wrongThenOK, consents, consents, abandons, consents, forwards,
		consents, denies, consents, consents, ignores, consents, wrongAccount, consents, consents, declines,
	}
}

// walk lets every owner who got a mail act, at a pace that a person can watch.
func (d *demo) walk(ctx context.Context) {
	turns := make(chan int)
	var owners sync.WaitGroup
	for range ownersAtOnce {
		owners.Go(func() {
			for i := range turns {
				how := manners()[i%len(manners())]
				if err := d.act(ctx, d.clients[i], how); err != nil && ctx.Err() == nil {
					d.log.WarnContext(ctx, "a simulated owner is stuck", "client", d.clients[i].Name, "manner", string(how), "err", err)
				}
			}
		})
	}
	defer owners.Wait()
	defer close(turns)
	for _, i := range rand.Perm(len(d.clients)) { //nolint:gosec // The order is no secret.
		select {
		case turns <- i:
		case <-ctx.Done():
			return
		}
	}
}

// act is one owner's way from the mail to the end.
func (d *demo) act(ctx context.Context, client roster.Row, how manner) error {
	if how == ignores {
		return nil
	}
	link, err := d.linkFor(ctx, client)
	if err != nil || link == "" {
		return err
	}
	if how == scanned {
		if err := robot(ctx, link); err != nil {
			return err
		}
	}
	browser, err := newBrowser(ctx)
	if err != nil {
		return err
	}
	if err := browser.open(link); err != nil {
		return err
	}
	if how == forwards { // Somebody else opens the same link.
		if browser, err = newBrowser(ctx); err != nil {
			return err
		}
		if err := browser.open(link); err != nil {
			return err
		}
	}
	switch how {
	case declines:
		_, err := browser.press(link + "/decline")
		return err
	case abandons:
		_, err := browser.press(link + "/begin")
		return err
	case denies:
		return browser.consent(link, client.OwnerEmail, sandbox.Deny)
	case wrongAccount:
		return browser.consent(link, strangerLogin, sandbox.Allow)
	case wrongThenOK:
		if err := browser.consent(link, strangerLogin, sandbox.Allow); err != nil {
			return err
		}
	case consents, scanned, forwards, ignores:
	}
	return browser.consent(link, client.OwnerEmail, sandbox.Allow)
}

// linkFor waits for an owner's mail and returns its link; empty if the mail cannot arrive.
func (d *demo) linkFor(ctx context.Context, client roster.Row) (string, error) {
	if strings.HasSuffix(client.OwnerEmail, closedDomain) {
		return "", nil
	}
	message, err := d.sink.Wait(ctx, func(m mailsink.Message) bool {
		return len(m.To) == 1 && m.To[0] == client.OwnerEmail
	})
	if err != nil {
		return "", err
	}
	links := message.Links
	if len(links) == 0 {
		return "", fmt.Errorf("the mail to %s has no link", client.OwnerEmail)
	}
	return links[0], nil
}

// browser is a simulated owner's browser: it keeps cookies and shows no redirect to another site by
// itself.
type browser struct {
	ctx    context.Context //nolint:containedctx // A browser lives as long as its owner acts.
	client *http.Client
}

func newBrowser(ctx context.Context) (*browser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &browser{ctx, &http.Client{
		Jar:           jar,
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// open looks at a page, for about as long as a person does.
func (b *browser) open(address string) error {
	_, err := b.do(http.MethodGet, address)
	if err != nil {
		return err
	}
	return b.ponder()
}

// press posts a form and returns where it leads.
func (b *browser) press(address string) (string, error) { return b.do(http.MethodPost, address) }

func (b *browser) do(method, address string) (location string, err error) {
	request, err := http.NewRequestWithContext(b.ctx, method, address, nil)
	if err != nil {
		return "", err
	}
	response, err := b.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // It was only read.
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return "", err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return "", fmt.Errorf("%s %s answered %s", method, request.URL.Path, response.Status)
	}
	if location = response.Header.Get("Location"); location == "" {
		return "", nil
	}
	target, err := request.URL.Parse(location)
	if err != nil {
		return "", err
	}
	return target.String(), nil
}

// consent presses Continue, signs in, decides, and comes back.
func (b *browser) consent(link, login string, d sandbox.Decision) error {
	authorize, err := b.press(link + "/begin")
	if err != nil {
		return err
	}
	if err := b.ponder(); err != nil {
		return err
	}
	callback, err := sandbox.Consent(b.ctx, b.client, authorize, login, demoPassword, d)
	if err != nil {
		return err
	}
	ending, err := b.do(http.MethodGet, callback)
	if err != nil {
		return err
	}
	return b.open(ending)
}

// ponder waits as a person does.
func (b *browser) ponder() error {
	pause := time.NewTimer(longestPause/3 + rand.N(longestPause*2/3)) //nolint:gosec // A pause is no secret.
	defer pause.Stop()
	select {
	case <-b.ctx.Done():
		return b.ctx.Err()
	case <-pause.C:
		return nil
	}
}

// robot is a mail scanner: it fetches the link and presses what it finds, many times, from elsewhere.
func robot(ctx context.Context, link string) error {
	for range 5 {
		b, err := newBrowser(ctx)
		if err != nil {
			return err
		}
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			if _, err := b.do(method, link); err != nil {
				return err
			}
		}
		authorize, err := b.press(link + "/begin")
		if err != nil {
			return err
		}
		if _, err := b.do(http.MethodGet, authorize); err != nil {
			return err
		}
	}
	return nil
}
