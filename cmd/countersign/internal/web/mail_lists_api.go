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

// mailListsAPI is the part of the API that lists mails, and who gets none.
func (s *Server) mailListsAPI(api huma.API) {
	register(s, api, http.MethodGet, "/mail/queue", admin.ScopeRead, "List mails that wait, or were given up", s.listQueue)
	register(s, api, http.MethodPost, "/mail/hurry", admin.ScopeWrite, "Try all mails that are put off at once", s.postHurry)
	register(s, api, http.MethodGet, "/mail/suppressed", admin.ScopeRead, "List who is mailed no more, newest first", s.listSuppressed)
	register(s, api, http.MethodPost, "/mail/suppressed/{id}/let-in", admin.ScopeWrite,
		"Lift an owner's word that they want no mail", s.postLetIn,
		func(o *huma.Operation) { o.DefaultStatus = http.StatusNoContent })
}

type queueInput struct {
	Show   string `query:"show" enum:"waiting,delayed,failed" default:"waiting" doc:"waiting: all that have not come to an end; delayed: of these, what was refused for now or perhaps sent; failed: what was given up, newest first"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor string `query:"cursor" doc:"next_cursor of the page before"`
}

type queueOutput struct {
	Body struct {
		Mails      []queuedBody `json:"mails"`
		NextCursor *string      `json:"next_cursor" doc:"null on the last page"`
	}
}

type queuedBody struct {
	ID         uuid.UUID  `json:"id" format:"uuid"`
	ClientID   *uuid.UUID `json:"client_id" format:"uuid" doc:"null for a digest, which goes to an operator"`
	ClientName string     `json:"client_name"`
	Kind       string     `json:"kind"`
	Number     int        `json:"number" doc:"of a reminder, from 1; 0 for others"`
	State      string     `json:"state" enum:"queued,sending,deferred,unknown,failed"`
	To         string     `json:"to"`
	At         time.Time  `json:"at" doc:"not before; of a mail that was given up, when it was"`
	Attempts   int        `json:"attempts"`
	Cause      string     `json:"cause" doc:"why it is not sent, as in GET /mail; empty if only its turn has not come"`
	Cure       string     `json:"cure" doc:"what to do about it; may be empty"`
	Said       *string    `json:"said" doc:"by a mail server or about it; null if nothing was"`
	Over       bool       `json:"over" doc:"it was given up and nothing has to be done: its client was mailed since, or needs no mail"`
}

func (s *Server) listQueue(ctx context.Context, in *queueInput) (*queueOutput, error) {
	items, next, err := s.Mailer.Pile(ctx, notify.Pile(in.Show), in.Cursor, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &queueOutput{}
	out.Body.Mails = []queuedBody{}
	for _, i := range items {
		out.Body.Mails = append(out.Body.Mails, queuedBody{
			ID: i.ID, ClientID: i.ClientID, ClientName: i.ClientName, Kind: string(i.Kind), Number: i.Number, State: string(i.State),
			To: i.ToAddress, At: i.At, Attempts: i.Attempts, Cause: string(i.Cause()), Cure: i.Cure(), Said: i.Said, Over: i.Over,
		})
	}
	if next != "" {
		out.Body.NextCursor = &next
	}
	return out, nil
}

type hurriedOutput struct {
	Body struct {
		Hurried int `json:"hurried" doc:"mails"`
	}
}

func (s *Server) postHurry(ctx context.Context, _ *struct{}) (*hurriedOutput, error) {
	n, err := s.Mailer.Hurry(ctx, actor(ctx))
	if err != nil {
		return nil, err
	}
	out := &hurriedOutput{}
	out.Body.Hurried = n
	return out, nil
}

type suppressedInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor string `query:"cursor" doc:"next_cursor of the page before"`
}

type suppressedOutput struct {
	Body struct {
		Clients    []suppressedBody `json:"clients"`
		NextCursor *string          `json:"next_cursor" doc:"null on the last page"`
	}
}

type suppressedBody struct {
	ClientID   uuid.UUID `json:"client_id" format:"uuid"`
	Ref        *string   `json:"ref"`
	Name       string    `json:"name"`
	OwnerEmail string    `json:"owner_email"`
	At         time.Time `json:"at" doc:"since when"`
	Why        string    `json:"why" enum:"bounced,declined,unsubscribed" doc:"bounced: the address takes no mail, and another one lifts it; the others: the owner wants none"`
	Event      string    `json:"event" doc:"what did it, such as not_me or complained; empty if that is not known"`
}

func (s *Server) listSuppressed(ctx context.Context, in *suppressedInput) (*suppressedOutput, error) {
	found, next, err := s.Store.Suppressed(ctx, in.Cursor, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &suppressedOutput{}
	out.Body.Clients = []suppressedBody{}
	for _, f := range found {
		out.Body.Clients = append(out.Body.Clients, suppressedBody{
			ClientID: f.ClientID, Ref: f.Ref, Name: f.Name, OwnerEmail: f.Owner.Email, At: f.At, Why: f.Why(), Event: string(f.Event),
		})
	}
	if next != "" {
		out.Body.NextCursor = &next
	}
	return out, nil
}

type clientKey struct {
	ID string `path:"id" doc:"id of a client, or ref: and its ref"`
}

func (s *Server) postLetIn(ctx context.Context, in *clientKey) (*struct{}, error) {
	client, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return nil, provisioning.OptIn(ctx, s.Store.DB, client.ID, actor(ctx))
}
