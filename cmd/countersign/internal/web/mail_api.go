package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
)

// mailAPI is the part of the API that is about mail and whom it goes to.
func (s *Server) mailAPI(api huma.API) {
	register(s, api, http.MethodGet, "/mail", admin.ScopeRead, "Read how outgoing mail stands", s.readMail)
	register(s, api, http.MethodPost, "/mail/pause", admin.ScopeWrite, "Stop all outgoing mail, within a second", s.postPause)
	register(s, api, http.MethodPost, "/mail/resume", admin.ScopeWrite, "Let mail go again", s.postResume)
	register(s, api, http.MethodGet, "/referrals", admin.ScopeRead,
		"List whom owners name as the right person and nobody has decided on", s.listReferrals)
	register(s, api, http.MethodPost, "/referrals/{id}/accept", admin.ScopeWrite,
		"Make whom an owner names the owner, and have them invited", s.postAccept)
	register(s, api, http.MethodPost, "/referrals/{id}/dismiss", admin.ScopeWrite, "Leave the owner as it is", s.postDismiss,
		func(o *huma.Operation) { o.DefaultStatus = http.StatusNoContent })
}

type mailOutput struct {
	Body mailBody
}

type mailBody struct {
	notify.Overview

	Sender bool       `json:"sender" doc:"whether a mail server is set; without one mails wait"`
	Paused *pauseBody `json:"paused" doc:"null while mail goes out"`
	Pace   paceBody   `json:"pace"`
}

type pauseBody struct {
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Why     string    `json:"why"`
	Breaker bool      `json:"breaker" doc:"Countersign did it, as too many addresses bounced"`
}

type paceBody struct {
	Rate       float64 `json:"rate" doc:"mails a second at most; 0 for no limit"`
	DomainRate float64 `json:"domain_rate" doc:"mails a second at most to the addresses of one domain; 0 for no limit"`
	Quota      *int    `json:"quota" doc:"mails that the ramp lets go on this day (UTC); null for no limit"`
	Spent      int     `json:"spent" doc:"how many of them have gone"`
}

func (s *Server) readMail(ctx context.Context, _ *struct{}) (*mailOutput, error) {
	o, err := s.Mailer.Overview(ctx)
	if err != nil {
		return nil, err
	}
	position, err := s.Switch.Position(ctx)
	if err != nil {
		return nil, err
	}
	body := mailBody{Overview: o, Sender: s.Sender != nil, Pace: paceBody{Rate: s.Pace.Rate, DomainRate: s.Pace.DomainRate}}
	if most, spent, ok := o.Quota(s.Pace); ok {
		body.Pace.Quota, body.Pace.Spent = &most, spent
	}
	if position.PausedAt != nil {
		body.Paused = &pauseBody{*position.PausedAt, string(orZero(position.PausedBy)), orZero(position.Why), position.Breaker}
	}
	return &mailOutput{body}, nil
}

type pauseInput struct {
	Body *whyBody // which may be left out
}

type whyBody struct {
	Why string `json:"why,omitempty" maxLength:"300" doc:"for the people who find it paused"`
}

func (s *Server) postPause(ctx context.Context, in *pauseInput) (*mailOutput, error) {
	if err := s.Switch.Pause(ctx, orZero(in.Body).Why, actor(ctx)); err != nil {
		return nil, err
	}
	return s.readMail(ctx, nil)
}

func (s *Server) postResume(ctx context.Context, _ *struct{}) (*mailOutput, error) {
	if err := s.Switch.Resume(ctx, actor(ctx)); err != nil {
		return nil, err
	}
	return s.readMail(ctx, nil)
}

type referralsInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor string `query:"cursor" doc:"next_cursor of the page before"`
}

type referralsOutput struct {
	Body struct {
		Referrals  []referralBody `json:"referrals"`
		NextCursor *string        `json:"next_cursor" doc:"null on the last page"`
	}
}

type referralBody struct {
	ID         uuid.UUID `json:"id" format:"uuid"`
	At         time.Time `json:"at"`
	ClientID   uuid.UUID `json:"client_id" format:"uuid"`
	ClientName string    `json:"client_name"`
	Name       string    `json:"name" doc:"of the person; may be empty"`
	Email      string    `json:"email"`
	Note       string    `json:"note" doc:"what else the owner wrote; may be empty"`
}

func (s *Server) listReferrals(ctx context.Context, in *referralsInput) (*referralsOutput, error) {
	found, next, err := s.Store.OpenReferrals(ctx, in.Cursor, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &referralsOutput{}
	out.Body.Referrals = []referralBody{}
	for _, r := range found {
		out.Body.Referrals = append(out.Body.Referrals, referralBody{
			ID: r.ID, At: r.At, ClientID: r.ClientID, ClientName: r.ClientName, Name: r.Owner.Name, Email: r.Owner.Email, Note: r.Note,
		})
	}
	if next != "" {
		out.Body.NextCursor = &next
	}
	return out, nil
}

type referralID struct {
	ID uuid.UUID `path:"id" format:"uuid"`
}

func (s *Server) postAccept(ctx context.Context, in *referralID) (*invitedOutput, error) {
	result, err := s.Inviter.AcceptReferral(ctx, in.ID, actor(ctx))
	if err != nil {
		return nil, err
	}
	return &invitedOutput{Body: result}, nil
}

func (s *Server) postDismiss(ctx context.Context, in *referralID) (*struct{}, error) {
	return nil, provisioning.DismissReferral(ctx, s.Store.DB, in.ID, actor(ctx))
}
