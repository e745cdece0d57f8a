package notify

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	mime "github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // mails come in all of them
	"github.com/jackc/pgx/v5"
	"golang.org/x/net/html"

	"github.com/countersign/countersign/provisioning"
)

// ActivationTaker is told of the mails by which the provider lets new users in. The program plugs package
// authflow/manager in.
type ActivationTaker interface {
	// TakeActivation notes the mail in tx's transaction and reports whether somebody waits for it. to are the addresses
	// that it may have been sent to, in lower case.
	TakeActivation(ctx context.Context, tx pgx.Tx, to []string, from string, link provisioning.Secret, at time.Time) (bool, error)
}

// Activations reads the agency's mailbox, to which the mail for all usernames is delivered, for the provider's mails to
// new users. It looks for nothing else there, changes nothing and opens no link.
type Activations struct {
	DB    provisioning.DB
	Taker ActivationTaker
	Hosts []string // the provider's: what leads elsewhere is not its link, whoever the mail says that it is from
	Now   func() time.Time
	Log   *slog.Logger
}

// TakeFrom looks at a mail of the mailbox, and notes in the same transaction that the mailbox has been read up to it.
// received is when it came; zero if that is not known.
func (a *Activations) TakeFrom(ctx context.Context, account string, validity, uid uint32, raw []byte, received time.Time) error {
	found := readActivation(raw, a.Hosts)
	if received.IsZero() {
		received = a.Now()
	}
	taken := false
	err := pgx.BeginFunc(ctx, a.DB, func(tx pgx.Tx) error {
		var err error
		if found.link != "" && len(found.to) > 0 {
			if taken, err = a.Taker.TakeActivation(ctx, tx, found.to, found.from, provisioning.Secret(found.link), received); err != nil {
				return err
			}
		}
		return setBookmark(ctx, tx, account, validity, uid)
	})
	if err != nil {
		return fmt.Errorf("take message %d of %s: %w", uid, account, err)
	}
	if taken {
		a.Log.InfoContext(ctx, "an activation mail came", "to", found.to[0], "mailbox", account, "uid", uid)
	}
	return nil
}

// activation is what a mail shows of itself.
type activation struct {
	to   []string
	from string
	link string // to the provider; empty if there is none
}

// recipientFields are where mail servers write whom a mail was delivered to: a tag is often only in some of them.
func recipientFields() []string {
	return []string{"To", "Cc", "Delivered-To", "X-Original-To", "Envelope-To", "X-Delivered-To", "X-Envelope-To"}
}

// readActivation finds in a mail to whom it was sent and a link to one of the hosts. A mail that cannot be read has
// neither.
func readActivation(raw []byte, hosts []string) activation {
	entity, err := mime.Read(bytes.NewReader(raw))
	if entity == nil || err != nil && !mime.IsUnknownCharset(err) && !mime.IsUnknownEncoding(err) {
		return activation{}
	}
	var a activation
	for _, field := range recipientFields() {
		for values := entity.Header.FieldsByKey(field); values.Next(); {
			a.to = append(a.to, addressesIn(values.Value())...)
		}
	}
	slices.Sort(a.to)
	a.to = slices.Compact(a.to)
	if from := addressesIn(entity.Header.Get("From")); len(from) > 0 {
		a.from = from[0]
	}
	var links []string
	walk := func(_ []int, part *mime.Entity, err error) error {
		if part == nil {
			return err
		}
		kind, _, err := part.Header.ContentType()
		if err != nil || !strings.HasPrefix(kind, "text/") {
			return nil //nolint:nilerr // A part that does not say what it is has nothing to press.
		}
		body, _ := io.ReadAll(io.LimitReader(part.Body, mostActivation)) // What can be read of it counts.
		if kind == "text/html" {
			links = append(links, linksInHTML(body)...)
		} else {
			links = append(links, linksInText(string(body))...)
		}
		return nil
	}
	if err := entity.Walk(walk); err != nil && len(links) == 0 {
		return a
	}
	links = slices.DeleteFunc(links, func(link string) bool { return !leadsTo(link, hosts) })
	slices.SortStableFunc(links, func(x, y string) int { return cmp.Compare(lure(y), lure(x)) })
	if len(links) > 0 {
		a.link = links[0]
	}
	return a
}

const (
	mostActivation = 256 << 10 // bytes of a part that are looked at
	mostLink       = 4 << 10
)

// addressesIn returns the addresses of a field, in lower case. Servers write some of them without brackets, and fields
// that no rule describes.
func addressesIn(field string) []string {
	var found []string
	parsed, err := mail.ParseAddressList(field)
	if err != nil {
		for _, word := range strings.FieldsFunc(field, func(r rune) bool { return strings.ContainsRune("<>,; \t\r\n\"", r) }) {
			if at := strings.IndexByte(word, '@'); at > 0 && at < len(word)-1 {
				found = append(found, strings.ToLower(word))
			}
		}
		return found
	}
	for _, one := range parsed {
		found = append(found, strings.ToLower(one.Address))
	}
	return found
}

// linksInHTML returns the addresses that a page's links lead to.
func linksInHTML(page []byte) []string {
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		return nil
	}
	var links []string
	for node := range doc.Descendants() {
		if node.Type != html.ElementNode || node.Data != "a" {
			continue
		}
		for _, attribute := range node.Attr {
			if attribute.Key == "href" {
				links = append(links, strings.TrimSpace(attribute.Val))
			}
		}
	}
	return links
}

func linksInText(text string) []string {
	links := regexp.MustCompile(`https?://[^\s<>"']+`).FindAllString(text, -1)
	for i, link := range links {
		links[i] = strings.TrimRight(link, ".,;:!?)]}")
	}
	return links
}

// leadsTo tells whether a link leads to one of the hosts, or to one below it. Only a host of this machine, which a
// sandbox has, need not have TLS.
func leadsTo(link string, hosts []string) bool {
	u, err := url.Parse(link)
	if err != nil || len(link) > mostLink || u.User != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	local := host == "127.0.0.1" || host == "localhost"
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return false
	}
	return slices.ContainsFunc(hosts, func(h string) bool { return host == h || !local && strings.HasSuffix(host, "."+h) })
}

// lure tells how much a link looks like the one to press: mails have others beside it, such as to a help page.
func lure(link string) int {
	u, err := url.Parse(link)
	if err != nil {
		return 0
	}
	for _, word := range []string{"activat", "invit", "accept", "redeem", "register", "signup", "sign-up", "welcome", "setup"} {
		if strings.Contains(strings.ToLower(u.Path+"?"+u.RawQuery), word) {
			return 2
		}
	}
	if u.RawQuery != "" {
		return 1
	}
	return 0
}
