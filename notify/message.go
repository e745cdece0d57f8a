package notify

import (
	"fmt"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/wneessen/go-mail"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// message is a row of messages, with what has to be known of its invitation.
type message struct {
	ID           uuid.UUID
	ClientID     uuid.UUID
	InvitationID uuid.UUID
	Kind         provisioning.LetterKind
	State        State
	ToName       string
	ToAddress    string
	ClientName   string
	CreatedAt    time.Time
	Attempts     int
	ExpiresAt    time.Time // of the invitation
}

// compose returns the mail of a message. Equal messages give equal bytes.
func (m *Mailer) compose(msg message) (*mail.Msg, error) {
	link := m.Linker.URL(msg.InvitationID)
	subject, text, html, err := m.Templates.Mail(templates.InvitationMail{
		Letterhead:      m.Letterhead,
		Client:          msg.ClientName,
		OwnerName:       msg.ToName,
		Scopes:          m.Scopes,
		Link:            link,
		ExpiresAt:       msg.ExpiresAt,
		UnsubscribeLink: link + "/unsubscribe",
	})
	if err != nil {
		return nil, err
	}
	_, domain, _ := strings.Cut(m.From, "@")
	mime := mail.NewMsg(
		mail.WithNoDefaultUserAgent(),
		mail.WithEncoding(mail.EncodingQP),
		mail.WithBoundary(msg.ID.String()),
	)
	from, err := address(m.Letterhead.Agency, m.From)
	if err != nil {
		return nil, fmt.Errorf("sender %q: %w", m.From, err)
	}
	to, err := address(msg.ToName, msg.ToAddress)
	if err != nil {
		return nil, fmt.Errorf("recipient %q: %w", msg.ToAddress, err)
	}
	mime.SetAddrHeaderFromMailAddress(mail.HeaderFrom, from)
	mime.SetAddrHeaderFromMailAddress(mail.HeaderTo, to)
	if reply := m.Letterhead.ReplyTo; reply != m.From {
		if err := mime.ReplyTo(reply); err != nil {
			return nil, fmt.Errorf("reply address %q: %w", reply, err)
		}
	}
	mime.Subject(subject)
	mime.SetDateWithValue(msg.CreatedAt.UTC())
	mime.SetMessageIDWithValue(msg.ID.String() + "@" + domain)
	// RFC 3834: no vacation notice is to be sent back. RFC 2369 and 8058: one click stops our mails.
	mime.SetGenHeader("Auto-Submitted", "auto-generated")
	mime.SetGenHeader(mail.HeaderListUnsubscribe, fmt.Sprintf("<%s/unsubscribe>", link))
	mime.SetGenHeader(mail.HeaderListUnsubscribePost, "List-Unsubscribe=One-Click")
	mime.SetGenHeader("Feedback-ID", fmt.Sprintf("%s:countersign:%s", msg.Kind, domain))
	mime.SetBodyString(mail.TypeTextPlain, text)
	mime.AddAlternativeString(mail.TypeTextHTML, html)
	return mime, nil
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
