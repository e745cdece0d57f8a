package notify

import (
	"context"
	"encoding/json"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/wneessen/go-mail"

	"github.com/countersign/countersign/notify/smtp"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// compose returns the mail of a message. Equal messages give equal bytes.
func (m *Mailer) compose(ctx context.Context, msg message) (smtp.Envelope, error) {
	mails, err := m.Stationery.Mails(ctx, msg.Stationery)
	if err != nil {
		return smtp.Envelope{}, err
	}
	rendered, link, err := m.render(mails, msg)
	if err != nil {
		return smtp.Envelope{}, err
	}
	return m.seal(msg, mails.Letterhead(), rendered, link)
}

// Trial returns a mail that is in no outbox, for trying a text or the way to an address.
func (m *Mailer) Trial(letterhead templates.Letterhead, rendered templates.Rendered, to string) (smtp.Envelope, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return smtp.Envelope{}, fmt.Errorf("write a trial mail: %w", err)
	}
	return m.seal(message{ID: id, Kind: "trial", ToAddress: to, CreatedAt: m.Now()}, letterhead, rendered, "")
}

// seal writes the header of a mail and puts its parts below.
func (m *Mailer) seal(
	msg message, letterhead templates.Letterhead, rendered templates.Rendered, unsubscribeLink string,
) (smtp.Envelope, error) {
	_, domain, _ := strings.Cut(m.From, "@")
	mime := mail.NewMsg(
		mail.WithNoDefaultUserAgent(),
		mail.WithEncoding(mail.EncodingQP),
		mail.WithBoundary(msg.ID.String()),
	)
	from, err := address(letterhead.Agency, m.From)
	if err != nil {
		return smtp.Envelope{}, fmt.Errorf("sender %q: %w", m.From, err)
	}
	to, err := address(msg.ToName, msg.ToAddress)
	if err != nil {
		return smtp.Envelope{}, fmt.Errorf("recipient %q: %w", msg.ToAddress, err)
	}
	mime.SetAddrHeaderFromMailAddress(mail.HeaderFrom, from)
	mime.SetAddrHeaderFromMailAddress(mail.HeaderTo, to)
	if reply := letterhead.ReplyTo; reply != m.From {
		if err := mime.ReplyTo(reply); err != nil {
			return smtp.Envelope{}, fmt.Errorf("reply address %q: %w", reply, err)
		}
	}
	mime.Subject(rendered.Subject)
	mime.SetDateWithValue(msg.date().UTC())
	mime.SetMessageIDWithValue(msg.ID.String() + "@" + domain)
	mime.SetGenHeader("Content-Language", rendered.Language)
	// RFC 3834: no vacation notice is to be sent back.
	mime.SetGenHeader("Auto-Submitted", "auto-generated")
	mime.SetGenHeader("Feedback-ID", fmt.Sprintf("%s:countersign:%s", msg.Kind, domain))
	if m.Returns != nil {
		if err := mime.EnvelopeFrom(m.Returns.Bounce(msg.ID)); err != nil {
			return smtp.Envelope{}, fmt.Errorf("return path: %w", err)
		}
	}
	if unsubscribeLink != "" { // RFC 2369 and 8058: one click stops our mails.
		unsubscribe := "<" + unsubscribeLink + ">"
		if m.Returns != nil {
			unsubscribe += ", <mailto:" + m.Returns.Unsubscribe(msg.ID) + ">"
		}
		mime.SetGenHeader(mail.HeaderListUnsubscribe, unsubscribe)
		mime.SetGenHeader(mail.HeaderListUnsubscribePost, "List-Unsubscribe=One-Click")
	}
	mime.SetBodyString(mail.TypeTextPlain, rendered.Text)
	mime.AddAlternativeString(mail.TypeTextHTML, rendered.HTML)
	envelope, err := smtp.Seal(mime)
	if err == nil && m.DKIM != nil {
		envelope.Body, err = m.DKIM.Sign(envelope.Body, msg.date())
	}
	return envelope, err
}

// render fills in the text of a message and returns the link that stops such mails, if there is one.
func (m *Mailer) render(mails *templates.Mails, msg message) (r templates.Rendered, unsubscribe string, err error) {
	if msg.Kind == KindDigest {
		var digest templates.Digest
		if err := json.Unmarshal(msg.Facts, &digest); err != nil {
			return r, "", fmt.Errorf("read what the digest is to tell: %w", err)
		}
		r, err = mails.Digest(digest)
		return r, "", err
	}
	if msg.Kind == KindOperatorInvitation || msg.Kind == KindPasswordReset {
		r, err = m.renderEntry(mails, msg)
		return r, "", err
	}
	var facts struct{ Organization, Route, Username string }
	if err := json.Unmarshal(msg.Facts, &facts); err != nil {
		return r, "", fmt.Errorf("read what the mail is to tell: %w", err)
	}
	letter := templates.Letter{
		Kind:         templates.LetterKind(msg.Kind),
		Situation:    string(msg.Situation),
		Number:       msg.Number,
		Of:           m.Reminders,
		Locale:       msg.Locale,
		Client:       msg.ClientName,
		OwnerName:    msg.ToName,
		Manager:      provisioning.Route(facts.Route) == provisioning.RouteManager,
		Username:     facts.Username,
		ExpiresAt:    *msg.ExpiresAt,
		Organization: facts.Organization,
		ConnectedAt:  msg.CreatedAt.UTC(),
	}
	if msg.Kind != provisioning.LetterThanks {
		letter.Link = m.Linker.URL(*msg.InvitationID)
		letter.UnsubscribeLink = letter.Link + "/unsubscribe"
	}
	r, err = mails.Render(letter)
	return r, letter.UnsubscribeLink, err
}

// renderEntry writes a mail with a one-time link for an operator.
func (m *Mailer) renderEntry(mails *templates.Mails, msg message) (templates.Rendered, error) {
	var facts struct {
		Link    uuid.UUID
		Expires time.Time
		By      string
		Role    templates.Role
	}
	if err := json.Unmarshal(msg.Facts, &facts); err != nil {
		return templates.Rendered{}, fmt.Errorf("read what the mail is to tell: %w", err)
	}
	by, _ := strings.CutPrefix(facts.By, string(provisioning.Operator("")))
	return mails.Entry(templates.Entry{
		Reset:     msg.Kind == KindPasswordReset,
		By:        by,
		Role:      facts.Role,
		Link:      m.Entries.LinkURL(facts.Link),
		ExpiresAt: facts.Expires,
	})
}

// address puts a name before an address, whatever characters the name has.
func address(name, addr string) (*netmail.Address, error) {
	parsed, err := netmail.ParseAddress(addr)
	if err != nil {
		return nil, err
	}
	parsed.Name = name
	return parsed, nil
}
