package templates

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Entry is a mail to an operator with a one-time link.
type Entry struct {
	Reset     bool   // the link sets another password; otherwise it makes an operator of somebody who was invited
	By        string // who invites, such as an address; may be empty
	Role      Role   // of who is invited
	Link      string
	ExpiresAt time.Time
}

// entryView is what the templates of such a mail show.
type entryView struct {
	shell
	Entry
}

// Entry writes a mail with a one-time link, in English. Equal entries give equal bytes. It fails for a link that is none.
func (m *Mails) Entry(e Entry) (Rendered, error) {
	if !isLink(e.Link) {
		// The address itself is a secret.
		return Rendered{}, errors.New("the link of a mail is not an address that begins with https:// or http://")
	}
	e.By = plainName(e.By)
	view := entryView{newShell(m.letterhead), e}
	view.Title, view.Preheader = "You are invited to "+view.Agency+"’s console", "The link works once, until "+moment(e.ExpiresAt)
	if e.Reset {
		view.Title = "Set another password for " + view.Agency + "’s console"
	}
	view.Lang = "en"
	var lines strings.Builder
	if err := m.set.entryText.Execute(&lines, view); err != nil {
		return Rendered{}, fmt.Errorf("write the text of a mail with a link: %w", err)
	}
	page, err := writeMail(m.set.entryHTML, view)
	if err != nil {
		return Rendered{}, err
	}
	return Rendered{Subject: view.Title, Text: wrapLines(lines.String()), HTML: page, Language: "en"}, nil
}
