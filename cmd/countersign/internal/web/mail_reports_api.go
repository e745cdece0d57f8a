package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
)

var errNoReturns = fmt.Errorf("%w: set COUNTERSIGN_BOUNCE_ADDRESS, to which reports come back", errNotConfigured)

// mailReportsAPI is the part of the API that is about what came back and waits to be read.
func (s *Server) mailReportsAPI(api huma.API) {
	register(s, api, http.MethodGet, "/mail/reports", admin.ScopeRead, "List what came back and waits to be read, newest first", s.listReports)
	register(s, api, http.MethodGet, "/mail/reports/{id}", admin.ScopeRead, "Read a mail that came back", s.readReport)
	register(s, api, http.MethodPost, "/mail/reports/{id}/aside", admin.ScopeWrite, "Put a mail aside that somebody has read", s.postAside,
		func(o *huma.Operation) { o.DefaultStatus = http.StatusNoContent })
}

type reportsInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor string `query:"cursor" doc:"next_cursor of the page before"`
}

type reportsOutput struct {
	Body struct {
		Reports    []ReportBody `json:"reports"`
		NextCursor *string      `json:"next_cursor" doc:"null on the last page"`
	}
}

// ReportBody is a mail that came back. (Huma documents an embedded struct only if its type is exported.)
type ReportBody struct {
	ID         uuid.UUID  `json:"id" format:"uuid"`
	At         time.Time  `json:"at"`
	Kind       string     `json:"kind" doc:"such as challenge, reply, unparsed or unmatched"`
	ClientID   *uuid.UUID `json:"client_id" format:"uuid" doc:"null if it belongs to none"`
	ClientName *string    `json:"client_name"`
	Recipient  string     `json:"recipient" doc:"whom it is about; may be empty"`
	Said       string     `json:"said" doc:"what was understood of it; may be empty"`
	Subject    string     `json:"subject"`
}

func reportInJSON(r notify.Return) ReportBody {
	return ReportBody{r.ID, r.At, string(r.Kind), r.ClientID, r.ClientName, r.Recipient, r.Diagnostic, r.Subject}
}

func (s *Server) listReports(ctx context.Context, in *reportsInput) (*reportsOutput, error) {
	if s.Returns == nil {
		return nil, errNoReturns
	}
	before := uuid.Nil
	if in.Cursor != "" {
		var err error
		if before, err = uuid.Parse(in.Cursor); err != nil {
			return nil, provisioning.ErrBadCursor
		}
	}
	found, err := s.Returns.Unread(ctx, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &reportsOutput{}
	out.Body.Reports = []ReportBody{}
	if len(found) > in.Limit {
		found = found[:in.Limit]
		next := found[in.Limit-1].ID.String()
		out.Body.NextCursor = &next
	}
	for _, r := range found {
		out.Body.Reports = append(out.Body.Reports, reportInJSON(r))
	}
	return out, nil
}

type reportID struct {
	ID uuid.UUID `path:"id" format:"uuid"`
}

type reportOutput struct {
	Body struct {
		ReportBody

		Text   string     `json:"text" doc:"what is to be read in it, as plain text"`
		ReadBy *string    `json:"read_by" doc:"who has put it aside; null if nobody has"`
		ReadAt *time.Time `json:"read_at"`
	}
}

func (s *Server) readReport(ctx context.Context, in *reportID) (*reportOutput, error) {
	if s.Returns == nil {
		return nil, errNoReturns
	}
	r, text, err := s.Returns.Read(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := &reportOutput{}
	out.Body.ReportBody, out.Body.Text, out.Body.ReadBy, out.Body.ReadAt = reportInJSON(r), text, r.ReadBy, r.ReadAt
	return out, nil
}

func (s *Server) postAside(ctx context.Context, in *reportID) (*struct{}, error) {
	if s.Returns == nil {
		return nil, errNoReturns
	}
	return nil, s.Returns.PutAside(ctx, in.ID, actor(ctx))
}

type mailsOutput struct {
	Body struct {
		Mails []SentMail `json:"mails" doc:"100 at most"`
	}
}

// SentMail is a mail to a client's owner. (Huma documents an embedded struct only if its type is exported.)
type SentMail struct {
	ID       uuid.UUID  `json:"id" format:"uuid"`
	Kind     string     `json:"kind" enum:"invitation,reminder,reconnect,thanks"`
	Number   int        `json:"number" doc:"of a reminder, from 1; 0 for others"`
	State    string     `json:"state" doc:"queued, sending, deferred, unknown, sent, failed or cancelled"`
	To       string     `json:"to"`
	QueuedAt time.Time  `json:"queued_at"`
	TriedAt  *time.Time `json:"tried_at"`
	SentAt   *time.Time `json:"sent_at" doc:"when a mail server accepted it"`
	Attempts int        `json:"attempts"`
	Error    *string    `json:"error" doc:"of the last attempt"`
}

func mailInJSON(m notify.Message) SentMail {
	return SentMail{m.ID, string(m.Kind), m.Number, string(m.State), m.ToAddress, m.CreatedAt, m.AttemptedAt, m.SentAt, m.Attempts, m.Error}
}

func (s *Server) listMails(ctx context.Context, in *clientID) (*mailsOutput, error) {
	client, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	messages, err := s.Mailer.Messages(ctx, client.ID)
	if err != nil {
		return nil, err
	}
	out := &mailsOutput{}
	out.Body.Mails = []SentMail{}
	for _, m := range messages {
		out.Body.Mails = append(out.Body.Mails, mailInJSON(m))
	}
	return out, nil
}

type sentMailID struct {
	ID   string `path:"id" doc:"id, or ref: and the agency's own key"`
	Mail string `path:"mail" doc:"id of the mail"`
}

type sentMailOutput struct {
	Body struct {
		SentMail
		RenderedMail

		From string `json:"from"`
	}
}

// RenderedMail is what a mail says. (Huma documents an embedded struct only if its type is exported.)
type RenderedMail struct {
	Subject string `json:"subject"`
	Text    string `json:"text"`
	HTML    string `json:"html"`
}

func (s *Server) readSentMail(ctx context.Context, in *sentMailID) (*sentMailOutput, error) {
	client, m, err := s.clientMail(ctx, in.ID, in.Mail)
	if err != nil {
		return nil, err
	}
	rendered, letterhead, err := s.Mailer.Sent(ctx, client.ID, m.ID)
	if err != nil {
		return nil, err
	}
	out := &sentMailOutput{}
	out.Body.SentMail, out.Body.From = mailInJSON(m), s.sender(letterhead)
	out.Body.RenderedMail = RenderedMail{rendered.Subject, rendered.Text, rendered.HTML}
	return out, nil
}
