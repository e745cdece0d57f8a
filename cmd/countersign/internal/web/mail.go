package web

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

const (
	shownReferrals = 20
	reportsAPage   = 50
	longestWhy     = 300 // characters of a reason for a pause
)

// mail shows how outgoing mail stands, and renews itself.
func (s *Server) mail(c *gin.Context) error {
	page := templates.MailPage{Console: s.console(c), Done: mailDone(c.Query("done")), NoServer: s.Sender == nil, Deaf: s.Returns == nil}
	o, err := s.Mailer.Overview(c)
	if err != nil {
		return err
	}
	page.Queued, page.Sending, page.Deferred, page.Unknown = o.Queued, o.Sending, o.Deferred, o.Unknown
	page.SentToday, page.FailedToday, page.CancelledToday = o.Today.Sent, o.Today.Failed, o.Today.Cancelled
	page.Deferrals, page.Failures, page.Unread = troublesOnPage(o.Deferrals), troublesOnPage(o.Failures), o.Unread
	for _, r := range o.Refusals {
		page.Refusals = append(page.Refusals, templates.MailRefusal{Domain: r.Domain, N: r.N, Last: r.Last, Said: r.Said})
	}
	page.Pace = templates.MailPace{Rate: s.Pace.Rate, DomainRate: s.Pace.DomainRate}
	if most, spent, ok := o.Quota(s.Pace); ok {
		page.Pace.Quota, page.Pace.Spent = most, spent
	}
	position, err := s.Switch.Position(c)
	if err != nil {
		return err
	}
	if position.PausedAt != nil {
		page.Paused = &templates.MailPause{
			At: *position.PausedAt, By: actorInWords(orZero(position.PausedBy)), Why: orZero(position.Why), Breaker: position.Breaker,
		}
	}
	p, err := s.Store.Progress(c, s.Now())
	if err != nil {
		return err
	}
	page.Reasons = reasonCounts(p)
	referrals, next, err := s.Store.OpenReferrals(c, "", shownReferrals)
	if err != nil {
		return err
	}
	page.More = next != ""
	for _, r := range referrals {
		page.Referrals = append(page.Referrals, templates.OpenReferral{
			Referral: templates.Referral{ID: r.ID.String(), Name: r.Owner.Name, Email: r.Owner.Email, Note: r.Note, At: r.At},
			Client:   templates.ClientName{ID: r.ClientID.String(), Name: r.ClientName},
		})
	}
	return s.show(c, page)
}

// troublesOnPage leaves those out whose addresses take no mail: they are clients that stand still for that.
func troublesOnPage(troubles []notify.Trouble) []templates.MailTrouble {
	var shown []templates.MailTrouble
	for _, t := range troubles {
		if t.Cause == notify.CauseAddress {
			continue
		}
		trouble := templates.MailTrouble{Words: t.Words, Cure: t.Cure, N: t.N, Said: t.Said}
		for _, client := range t.Clients {
			trouble.Clients = append(trouble.Clients, templates.ClientName{ID: client.ID.String(), Name: client.Name})
		}
		shown = append(shown, trouble)
	}
	return shown
}

// What a button has done, in an address, beside what doneInWords knows.
const (
	donePaused  = "paused"
	doneResumed = "resumed"
	doneSaved   = "saved"
	doneReset   = "reset"
)

// mailDone says it to an operator.
func mailDone(done string) string {
	switch done {
	case donePaused:
		return "No mail goes out any more."
	case doneResumed:
		return "Mail goes out again."
	case doneSaved:
		return "Saved. It holds for every mail from the next one on that is queued; those that wait already go out as they were."
	case doneReset:
		return "The built-in text is used again, from the next mail on that is queued."
	}
	return doneInWords(done)
}

// toMail leads back to a page of the room for mail, which says what was done.
func (s *Server) toMail(c *gin.Context, path, done string) error {
	address := url.URL{Path: "/admin/mail" + path}
	if done != "" {
		address.RawQuery = url.Values{"done": {done}}.Encode()
	}
	c.Redirect(http.StatusSeeOther, address.String())
	return nil
}

func (s *Server) backToMail(c *gin.Context) error { return s.toMail(c, "", "") }

func (s *Server) pauseMail(c *gin.Context) error {
	why := c.PostForm("why")
	if runes := []rune(why); len(runes) > longestWhy {
		why = string(runes[:longestWhy])
	}
	if err := s.Switch.Pause(c, why, provisioning.Operator(operator(c).Email)); err != nil {
		return err
	}
	return s.toMail(c, "", donePaused)
}

func (s *Server) resumeMail(c *gin.Context) error {
	if err := s.Switch.Resume(c, provisioning.Operator(operator(c).Email)); err != nil {
		return err
	}
	return s.toMail(c, "", doneResumed)
}

// acceptNamed and dismissNamed decide on whom an owner names, as the buttons of the client's page do.
func (s *Server) acceptNamed(c *gin.Context) error {
	return s.decideNamed(c, func(id uuid.UUID, actor provisioning.Actor) (string, error) {
		return invited(s.Inviter.AcceptReferral(c, id, actor))
	})
}

func (s *Server) dismissNamed(c *gin.Context) error {
	return s.decideNamed(c, func(id uuid.UUID, actor provisioning.Actor) (string, error) {
		return doneDismissed, provisioning.DismissReferral(c, s.Store.DB, id, actor)
	})
}

func (s *Server) decideNamed(c *gin.Context, decide func(uuid.UUID, provisioning.Actor) (done string, err error)) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return errNoRoute
	}
	done, err := decide(id, provisioning.Operator(operator(c).Email))
	if errors.Is(err, provisioning.ErrNotFound) {
		done, err = doneDecided, nil
	}
	if err != nil {
		return err
	}
	return s.toMail(c, "", done)
}

// mailReports lists what came back and waits for a reader.
func (s *Server) mailReports(c *gin.Context) error {
	page := templates.MailReportsPage{Console: s.console(c), Deaf: s.Returns == nil}
	if s.Returns == nil {
		return s.show(c, page)
	}
	before := uuid.Nil
	if cursor := c.Query("before"); cursor != "" {
		var err error
		if before, err = uuid.Parse(cursor); err != nil {
			return errors.Join(errBadRequest, err)
		}
	}
	page.Continued = before != uuid.Nil
	reports, err := s.Returns.Unread(c, before, reportsAPage+1)
	if err != nil {
		return err
	}
	if len(reports) > reportsAPage {
		reports = reports[:reportsAPage]
		page.Next = "/admin/mail/reports?before=" + reports[reportsAPage-1].ID.String()
	}
	for _, r := range reports {
		page.Reports = append(page.Reports, reportOnPage(r))
	}
	return s.show(c, page)
}

func reportOnPage(r notify.Return) templates.MailReport {
	shown := templates.MailReport{
		ID: r.ID.String(), At: r.At, Kind: templates.ReturnKind(r.Kind), Words: r.Diagnostic, Subject: r.Subject, Recipient: r.Recipient,
	}
	if r.ClientID != nil {
		shown.Client = templates.ClientName{ID: r.ClientID.String(), Name: orZero(r.ClientName)}
	}
	return shown
}

// mailReport shows a mail that came back, as the text that it is.
func (s *Server) mailReport(c *gin.Context) error {
	id, err := s.reportID(c)
	if err != nil {
		return err
	}
	r, content, err := s.Returns.Read(c, id)
	if err != nil {
		return err
	}
	return s.show(c, templates.MailReportPage{
		Console: s.console(c), MailReport: reportOnPage(r), Text: content, ReadBy: actorInWords(orZero((*provisioning.Actor)(r.ReadBy))), ReadAt: orZero(r.ReadAt),
	})
}

func (s *Server) putAside(c *gin.Context) error {
	id, err := s.reportID(c)
	if err != nil {
		return err
	}
	if err := s.Returns.PutAside(c, id, provisioning.Operator(operator(c).Email)); err != nil {
		return err
	}
	return s.toMail(c, "/reports", "")
}

func (s *Server) reportID(c *gin.Context) (uuid.UUID, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil || s.Returns == nil {
		return uuid.Nil, errNoRoute
	}
	return id, nil
}
