package web

import (
	"context"
	"errors"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
)

// clientBody is a client in a list.
type clientBody struct {
	ID           uuid.UUID         `json:"id" format:"uuid"`
	Ref          *string           `json:"ref"`
	Name         string            `json:"name"`
	OwnerName    string            `json:"owner_name"`
	OwnerEmail   string            `json:"owner_email"`
	AccountID    *string           `json:"account_id"`
	Username     string            `json:"username"`
	Route        string            `json:"route"`
	Stage        string            `json:"stage"`
	Reason       *string           `json:"reason"`
	Paused       bool              `json:"paused"`
	SiteURL      string            `json:"site_url"`
	Locale       string            `json:"locale"`
	TimeZone     string            `json:"time_zone"`
	Tags         []string          `json:"tags"`
	Extra        map[string]string `json:"extra"`
	CreatedAt    time.Time         `json:"created_at"`
	UpdatedAt    time.Time         `json:"updated_at"`
	StageAt      time.Time         `json:"stage_at"`
	InvitedAt    *time.Time        `json:"invited_at"`
	StartedAt    *time.Time        `json:"started_at"`
	AuthorizedAt *time.Time        `json:"authorized_at"`
	ProvenAt     *time.Time        `json:"proven_at"`
	OptedOut     *string           `json:"opted_out" enum:"declined,unsubscribed" doc:"how the owner said that they want no more mails; null if they did not"`
	OptedOutAt   *time.Time        `json:"opted_out_at"`
}

func clientInJSON(c provisioning.Client) clientBody {
	return clientBody{
		ID: c.ID, Ref: c.Ref, Name: c.Name, OwnerName: c.OwnerName, OwnerEmail: c.OwnerEmail, AccountID: c.AccountID,
		Username: c.Username, Route: string(c.Route), Stage: string(c.Stage), Reason: (*string)(c.Reason), Paused: c.Paused,
		SiteURL: c.SiteURL, Locale: c.Locale, TimeZone: c.TimeZone, Tags: c.Tags, Extra: c.Extra,
		CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt, StageAt: c.StageAt, InvitedAt: c.InvitedAt,
		StartedAt: c.StartedAt, AuthorizedAt: c.AuthorizedAt, ProvenAt: c.ProvenAt,
		OptedOut: (*string)(c.OptedOut), OptedOutAt: c.OptedOutAt,
	}
}

type clientID struct {
	ID string `path:"id" doc:"id, or ref: and the agency's own key"`
}

type clientOutput struct {
	Body clientDetail
}

// clientDetail is a client by itself. What a list would have to ask for one by one is only here.
type clientDetail struct {
	clientBody

	NextReminderAt *time.Time `json:"next_reminder_at" doc:"when the next reminder goes out; null if none is planned. Not in lists"`
	RemindersSent  int        `json:"reminders_sent" doc:"reminders of the latest invitation that are over: sent, or skipped by an operator. Not in lists"`
}

func (s *Server) clientAlone(ctx context.Context, c provisioning.Client) (*clientOutput, error) {
	state, err := s.Reminders.State(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	return &clientOutput{clientDetail{clientInJSON(c), state.NextAt, state.Number}}, nil
}

func (s *Server) readClient(ctx context.Context, in *clientID) (*clientOutput, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.clientAlone(ctx, c)
}

type clientPatch struct {
	ID   string `path:"id" doc:"id, or ref: and the agency's own key"` // Huma fills no embedded clientID.
	Body struct {
		Paused *bool `json:"paused,omitempty" doc:"whether the owner gets neither invitations nor reminders; left as it is if absent"`
	}
}

func (s *Server) patchClient(ctx context.Context, in *clientPatch) (*clientOutput, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if in.Body.Paused != nil {
		if err := provisioning.SetPaused(ctx, s.Store.DB, c.ID, *in.Body.Paused, actor(ctx)); err != nil {
			return nil, err
		}
	}
	return s.readClient(ctx, &clientID{c.ID.String()})
}

// deleteClient leaves a line in the log: the client's history goes with it.
func (s *Server) deleteClient(ctx context.Context, in *clientID) (*struct{}, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.Store.Delete(ctx, c.ID); err != nil {
		return nil, err
	}
	s.Log.InfoContext(ctx, "a client was deleted, with its history, links, mails and grants",
		"client", c.ID, "name", c.Name, "username", c.Username, "actor", actor(ctx))
	return nil, nil
}

type usernameInput struct {
	ID   string `path:"id" doc:"id, or ref: and the agency's own key"`
	Body struct {
		Taken string `json:"taken" doc:"the username that the provider refused, so that a repeated report changes nothing"`
	}
}

func (s *Server) postUsername(ctx context.Context, in *usernameInput) (*clientOutput, error) {
	if s.Renamer == nil {
		return nil, errNoMailbox
	}
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	c, err = s.Renamer.Taken(ctx, c.ID, in.Body.Taken, actor(ctx))
	if err != nil && !errors.Is(err, provisioning.ErrNoLongerUsername) {
		return nil, err
	}
	return s.clientAlone(ctx, c)
}

type ownerInput struct {
	ID   string `path:"id" doc:"id, or ref: and the agency's own key"`
	Body struct {
		Name  *string `json:"name,omitempty" doc:"left as it is if absent"`
		Email string  `json:"email" doc:"with another address than before, earlier links stop working and the client starts over"`
	}
}

func (s *Server) postOwner(ctx context.Context, in *ownerInput) (*invitedOutput, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	to := provisioning.Owner{Name: c.OwnerName, Email: in.Body.Email}
	if in.Body.Name != nil {
		to.Name = *in.Body.Name
	}
	invited, err := s.Inviter.ChangeOwner(ctx, c.ID, to, actor(ctx))
	if field, ok := errors.AsType[*provisioning.FieldError](err); ok {
		return nil, huma.NewError(statusOf(err), err.Error(), &huma.ErrorDetail{Message: field.Message, Location: "body." + field.Field})
	}
	if err != nil {
		return nil, err
	}
	return &invitedOutput{invited}, nil
}

type reminderInput struct {
	ID   string `path:"id" doc:"id, or ref: and the agency's own key"`
	Body struct {
		Action string     `json:"action" enum:"send,skip,plan" doc:"send the next reminder now, leave it out, or have it go out at a time"`
		At     *time.Time `json:"at,omitempty" doc:"when it goes out; for plan"`
	}
}

// Resolve refuses a time that would not be heeded, and none where one is needed.
func (in *reminderInput) Resolve(huma.Context) []error {
	if (in.Body.Action == "plan") == (in.Body.At != nil) {
		return nil
	}
	return []error{&huma.ErrorDetail{Message: "plan needs a time, and nothing else has one", Location: "body.at"}}
}

func (s *Server) postReminder(ctx context.Context, in *reminderInput) (*clientOutput, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	switch in.Body.Action {
	case "send":
		err = s.Reminders.SendNow(ctx, c.ID, actor(ctx))
	case "skip":
		err = s.Reminders.Skip(ctx, c.ID, actor(ctx))
	default:
		err = s.Reminders.Plan(ctx, c.ID, *in.Body.At, actor(ctx))
	}
	if err != nil {
		return nil, err
	}
	return s.clientAlone(ctx, c)
}
