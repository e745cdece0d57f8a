package web

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

const mailsAPage = 50

// What the buttons of the lists have done, in an address, beside what mailDone knows.
const (
	doneHurried = "hurried"
	doneAgain   = "again"
)

// listDone says it to an operator.
func listDone(done string) string {
	switch done {
	case doneHurried:
		return "What was put off is tried now."
	case doneAgain:
		return "The invitations are queued. Who is paused, authorized or has a mail on its way is left out."
	}
	return mailDone(done)
}

// mailQueue lists what waits, what is put off, or what was given up.
func (s *Server) mailQueue(c *gin.Context) error {
	pile, err := notify.ParsePile(c.DefaultQuery("show", string(notify.PileWaiting)))
	if err != nil {
		return err
	}
	cursor := c.Query("cursor")
	items, next, err := s.Mailer.Pile(c, pile, cursor, mailsAPage)
	if err != nil {
		return err
	}
	page := templates.MailQueuePage{Console: s.console(c), Done: listDone(c.Query("done")), Show: string(pile), Continued: cursor != ""}
	for _, i := range items {
		page.Mails = append(page.Mails, queuedOnPage(i))
	}
	if next != "" {
		page.Next = "/admin/mail/queue?" + url.Values{"show": {string(pile)}, "cursor": {next}}.Encode()
	}
	return s.show(c, page)
}

func queuedOnPage(i notify.Item) templates.QueuedMail {
	mail := templates.QueuedMail{
		To: i.ToAddress, What: templates.Mail{Kind: string(i.Kind), Number: i.Number}.Label(), State: string(i.State),
		At: i.At, Attempts: i.Attempts, Cure: i.Cure(), Said: orZero(i.Said), Address: i.Cause() == notify.CauseAddress, Over: i.Over,
	}
	if i.ClientID != nil {
		mail.Client = templates.ClientName{ID: i.ClientID.String(), Name: i.ClientName}
	}
	if cause := i.Cause(); cause != "" {
		mail.Words = cause.Words()
	}
	return mail
}

// hurryMail has what is put off tried at once.
func (s *Server) hurryMail(c *gin.Context) error {
	if _, err := s.Mailer.Hurry(c, provisioning.Operator(operator(c).Email)); err != nil {
		return err
	}
	return s.toMail(c, "/queue", doneHurried)
}

// inviteAgain invites clients whose mail was given up.
func (s *Server) inviteAgain(c *gin.Context) error {
	clients := c.PostFormArray("client")
	if len(clients) == 0 || len(clients) > mailsAPage {
		return errBadRequest
	}
	if _, err := s.Inviter.Invite(c, provisioning.Selection{Clients: clients}, provisioning.Operator(operator(c).Email), false); err != nil {
		return err
	}
	return s.toMail(c, "/queue", doneAgain)
}

// suppressed lists who is mailed no more.
func (s *Server) suppressed(c *gin.Context) error {
	cursor := c.Query("cursor")
	found, next, err := s.Store.Suppressed(c, cursor, mailsAPage)
	if err != nil {
		return err
	}
	page := templates.SuppressedPage{Console: s.console(c), Done: listDone(c.Query("done")), Continued: cursor != ""}
	for _, f := range found {
		page.Clients = append(page.Clients, templates.SuppressedClient{
			Client: templates.ClientName{ID: f.ClientID.String(), Name: f.Name}, Ref: orZero(f.Ref), Email: f.Owner.Email, At: f.At,
			Why: whySuppressed(f), Said: detailInWords(provisioning.Event{Detail: f.Detail}), Bounced: f.OptedOut == nil,
		})
	}
	if next != "" {
		page.Next = "/admin/mail/suppressed?" + url.Values{"cursor": {next}}.Encode()
	}
	return s.show(c, page)
}

// whySuppressed tells it by the event that did it, or by what is left of that.
func whySuppressed(s provisioning.Suppressed) string {
	switch {
	case s.Event != "":
		return whatHappened(provisioning.Event{Kind: s.Event, Actor: s.Actor, Detail: s.Detail})
	case s.OptedOut == nil:
		return whatHappened(provisioning.Event{Kind: provisioning.EventBounced})
	case *s.OptedOut == provisioning.OptedOutUnsubscribed:
		return whatHappened(provisioning.Event{Kind: provisioning.EventUnsubscribed})
	}
	return whatHappened(provisioning.Event{Kind: provisioning.EventDeclined})
}

// letBackIn lifts an owner's word that they want no mail.
func (s *Server) letBackIn(c *gin.Context) error {
	client, err := s.Store.Client(c, c.Param("id"))
	if err != nil {
		return err
	}
	if err := provisioning.OptIn(c, s.Store.DB, client.ID, provisioning.Operator(operator(c).Email)); err != nil {
		return err
	}
	return s.toMail(c, "/suppressed", doneOptedIn)
}

// backToList leads from the address of a button to the page that has it.
func (s *Server) backToList(c *gin.Context) error {
	list := "/queue"
	if strings.Contains(c.FullPath(), "/suppressed/") {
		list = "/suppressed"
	}
	c.Redirect(http.StatusSeeOther, "/admin/mail"+list)
	return nil
}
