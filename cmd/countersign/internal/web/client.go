package web

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/bounce"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

const shownEvents = 50 // at once on a client's page

// client shows a client and all that happened to it.
func (s *Server) client(c *gin.Context) error {
	client, err := s.Store.Client(c, c.Param("id"))
	if err != nil {
		return err
	}
	page, err := s.clientPage(c, client)
	if err != nil {
		return err
	}
	page.Done = doneInWords(c.Query("done"))
	return s.show(c, page)
}

func (s *Server) clientPage(c *gin.Context, client provisioning.Client) (templates.ClientPage, error) {
	page := templates.ClientPage{
		Console:   s.console(c),
		Provider:  s.Stationery.Settings.Provider,
		Client:    clientOnPage(client),
		CanRename: s.Renamer != nil,
		Owner:     templates.OwnerForm{Name: client.OwnerName, Email: client.OwnerEmail},
	}
	before, err := eventBefore(c)
	if err != nil {
		return page, err
	}
	page.Later, page.MayAct = before > 0, s.mayAct(c)
	events, err := s.Store.Events(c, client.ID, before, shownEvents+1)
	if err != nil {
		return page, err
	}
	if len(events) > shownEvents {
		events = events[:shownEvents]
		page.Older = fmt.Sprintf("/admin/clients/%s?before=%d", client.ID, events[shownEvents-1].ID)
	}
	page.Events = eventsOnPage(events)
	for _, fill := range []func(*gin.Context, provisioning.Client, *templates.ClientPage) error{
		s.fillMails, s.fillReminders, s.fillReferral, s.fillGrants, s.fillManager, s.fillPartner,
	} {
		if err := fill(c, client, &page); err != nil {
			return page, err
		}
	}
	return page, nil
}

// eventBefore is the event that older ones are asked for of, zero if the newest are.
func eventBefore(c *gin.Context) (int64, error) {
	asked := c.Query("before")
	if asked == "" {
		return 0, nil
	}
	before, err := strconv.ParseInt(asked, 10, 64)
	if err != nil || before <= 0 {
		return 0, errBadRequest
	}
	return before, nil
}

// fillMails shows the mails to the owner, each with what came back for it.
func (s *Server) fillMails(c *gin.Context, client provisioning.Client, page *templates.ClientPage) error {
	messages, err := s.Mailer.Messages(c, client.ID)
	if err != nil {
		return err
	}
	var returns []notify.Return
	if s.Returns != nil {
		if returns, err = s.Returns.OfClient(c, client.ID); err != nil {
			return err
		}
	}
	of := make(map[uuid.UUID][]templates.Return)
	for _, r := range returns {
		message := orZero(r.MessageID)
		of[message] = append(of[message], templates.Return{
			ID: r.ID.String(), Kind: templates.ReturnKind(r.Kind), At: r.At, Words: r.Diagnostic, Readable: r.Readable,
		})
	}
	for _, m := range messages {
		shown := messageOnPage(m)
		shown.Returns = of[m.ID]
		page.Mails = append(page.Mails, shown)
	}
	if page.Bounced() {
		page.Bounce = whyBounced(messages, returns)
	}
	if page.OnItsWay() {
		page.Held, err = s.whyHeld(c)
	}
	return err
}

func messageOnPage(m notify.Message) templates.Mail {
	return templates.Mail{
		ID:        m.ID.String(),
		Kind:      string(m.Kind),
		Number:    m.Number,
		State:     string(m.State),
		To:        m.ToAddress,
		QueuedAt:  m.CreatedAt,
		TriedAt:   orZero(m.AttemptedAt),
		SentAt:    orZero(m.SentAt),
		Attempts:  m.Attempts,
		Unknown:   m.Unknown,
		LastError: orZero(m.Error),
	}
}

// whyBounced is what was said of the address that was written to last, by a report or at once.
func whyBounced(messages []notify.Message, returns []notify.Return) string {
	for _, m := range messages {
		for _, r := range returns {
			if r.Kind == bounce.Hard && orZero(r.MessageID) == m.ID {
				return r.Diagnostic
			}
		}
		if m.State == notify.StateFailed {
			return orZero(m.Error)
		}
	}
	return ""
}

// whyHeld says why nobody's mail goes out, empty if it does.
func (s *Server) whyHeld(c *gin.Context) (string, error) {
	if s.Sender == nil {
		return "Mails wait: no mail server is set up.", nil
	}
	position, err := s.Switch.Position(c)
	if err != nil || position.PausedAt == nil {
		return "", err
	}
	return "Mails wait: all outgoing mail is paused.", nil
}

// fillReminders shows what the owner is reminded of, unless there is nothing to be reminded of.
func (s *Server) fillReminders(c *gin.Context, client provisioning.Client, page *templates.ClientPage) error {
	state, err := s.Reminders.State(c, client.ID)
	if err != nil {
		return err
	}
	switch state.Why {
	case notify.ObstacleAuthorized, notify.ObstacleRoute:
		return nil
	case notify.ObstacleBounced, notify.ObstacleDeclined, notify.ObstacleUnsubscribed: // The page says it, and what to do.
		return nil
	case notify.ObstacleNotMailed: // The invitation comes first.
		if !page.Again() {
			return nil
		}
	default:
	}
	page.Reminders = &templates.Reminders{
		Number: state.Number,
		Of:     state.Of,
		NextAt: orZero(state.NextAt),
		Open:   state.Why == "" || state.Why == notify.ObstacleGone,
		Zone:   s.zone(client),
	}
	if state.PlannedBy != "" {
		page.Reminders.PlannedBy = actorInWords(state.PlannedBy)
	}
	if state.Why != "" {
		page.Reminders.Why = sentence(errors.New(state.Why.Words()))
	}
	return nil
}

// zone is where the owner is, as reminders have it.
func (s *Server) zone(client provisioning.Client) *time.Location {
	if client.TimeZone != "" && client.TimeZone != "Local" {
		if zone, err := time.LoadLocation(client.TimeZone); err == nil {
			return zone
		}
	}
	if s.Reminders.Zone != nil {
		return s.Reminders.Zone
	}
	return time.UTC
}

func (s *Server) fillReferral(c *gin.Context, client provisioning.Client, page *templates.ClientPage) error {
	r, err := s.Store.OpenReferral(c, client.ID)
	if errors.Is(err, provisioning.ErrNotFound) {
		return nil
	}
	if err == nil {
		page.Referral = &templates.Referral{ID: r.ID.String(), Name: r.Owner.Name, Email: r.Owner.Email, Note: r.Note, At: r.At}
	}
	return err
}

func (s *Server) fillGrants(c *gin.Context, client provisioning.Client, page *templates.ClientPage) error {
	grants, err := s.Grants.Of(c, client.ID)
	if err != nil {
		return err
	}
	for _, g := range grants {
		shown := templates.Grant{
			Organization: g.Organization,
			AccountID:    g.AccountID,
			ContactEmail: g.ContactEmail,
			Subject:      g.Subject,
			Scopes:       g.Scopes,
			GrantedAt:    g.CreatedAt,
		}
		switch g.Status {
		case grant.StatusActive:
			page.Grant = &shown
		case grant.StatusQuarantined, grant.StatusLapsed, grant.StatusReplaced, grant.StatusDiscarded:
		}
	}
	held, err := s.Grants.HeldOf(c, client.ID)
	for _, h := range held {
		shown := heldOnPage(h)
		shown.OnClient = true
		page.Quarantined = append(page.Quarantined, shown)
	}
	return err
}

func clientOnPage(c provisioning.Client) templates.Client {
	shown := templates.Client{
		ID:           c.ID.String(),
		Ref:          orZero(c.Ref),
		Name:         c.Name,
		OwnerName:    c.OwnerName,
		OwnerEmail:   c.OwnerEmail,
		AccountID:    orZero(c.AccountID),
		Username:     c.Username,
		Route:        string(c.Route),
		Stage:        templates.Stage(c.Stage),
		Reason:       templates.Reason(orZero(c.Reason)),
		Paused:       c.Paused,
		SiteURL:      c.SiteURL,
		Locale:       c.Locale,
		TimeZone:     c.TimeZone,
		Tags:         c.Tags,
		CreatedAt:    c.CreatedAt,
		ChangedAt:    c.StageAt,
		InvitedAt:    orZero(c.InvitedAt),
		StartedAt:    orZero(c.StartedAt),
		AuthorizedAt: orZero(c.AuthorizedAt),
		ProvenAt:     orZero(c.ProvenAt),
		OptedOut:     string(orZero(c.OptedOut)),
		OptedOutAt:   orZero(c.OptedOutAt),
	}
	for name, value := range c.Extra {
		shown.Extra = append(shown.Extra, templates.Field{Name: name, Value: value})
	}
	slices.SortFunc(shown.Extra, func(a, b templates.Field) int { return strings.Compare(a.Name, b.Name) })
	return shown
}
