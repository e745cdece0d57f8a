package notify

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// notShown stands in place of the secret of a link.
const notShown = "only-in-the-mail"

// Sent returns a mail to a client's owner as it was written, or will be: it says what was fixed when it was queued.
// Only the secret of its link is left out, as whoever has it can act as the owner. It returns
// provisioning.ErrNotFound.
func (m *Mailer) Sent(ctx context.Context, client, id uuid.UUID) (templates.Rendered, templates.Letterhead, error) {
	rows, err := m.DB.Query(ctx, `
		SELECT `+messageColumns+`,
			i.expires_at,
			''
		FROM messages m
		LEFT JOIN invitations i ON i.id = m.invitation_id
		WHERE m.id = $1
			AND m.client_id = $2`, id, client)
	found, err := collect(nil, rows, err)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("mail %s of client %s: %w", id, client, provisioning.ErrNotFound)
	}
	if err != nil {
		return templates.Rendered{}, templates.Letterhead{}, err
	}
	msg := found[0]
	mails, err := m.Stationery.Mails(ctx, msg.Stationery)
	if err != nil {
		return templates.Rendered{}, templates.Letterhead{}, err
	}
	rendered, _, err := m.render(mails, msg)
	if err != nil {
		return templates.Rendered{}, templates.Letterhead{}, err
	}
	if msg.InvitationID != nil {
		link := m.Linker.URL(*msg.InvitationID)
		secret := link[strings.LastIndexByte(link, '/')+1:]
		rendered.Text = strings.ReplaceAll(rendered.Text, secret, notShown)
		rendered.HTML = strings.ReplaceAll(rendered.HTML, secret, notShown)
	}
	return rendered, mails.Letterhead(), nil
}
