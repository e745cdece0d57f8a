package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
)

// ClientBody is a client in a list. (Huma documents an embedded struct only if its type is exported.)
type ClientBody struct {
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

func clientInJSON(c provisioning.Client) ClientBody {
	return ClientBody{
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
	ETag string `header:"ETag" doc:"of this state of the client; for If-Match and If-None-Match"`
	Body clientDetail
}

// clientDetail is a client by itself. What a list would have to ask for one by one is only here.
type clientDetail struct {
	ClientBody

	NextReminderAt *time.Time `json:"next_reminder_at" doc:"when the next reminder goes out; null if none is planned. Not in lists"`
	RemindersSent  int        `json:"reminders_sent" doc:"reminders of the latest invitation that are over: sent, or skipped by an operator. Not in lists"`
}

func (s *Server) clientAlone(ctx context.Context, c provisioning.Client) (*clientOutput, error) {
	state, err := s.Reminders.State(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	return &clientOutput{entityTag(c, state), clientDetail{clientInJSON(c), state.NextAt, state.Number}}, nil
}

// entityTag names what an answer tells of a client: a version of the client, a point, and what is told beside it. An
// edit does not touch what stands behind the point, so that If-Match compares what stands before it.
func entityTag(c provisioning.Client, state notify.ReminderState) string {
	next := int64(0)
	if state.NextAt != nil {
		next = state.NextAt.UnixMicro()
	}
	return fmt.Sprintf(`"%s.%d-%d"`, c.Version(), state.Number, next)
}

// entityTags reads a list of entity tags, as If-Match and If-None-Match have them. Weak ones are left out: they are
// none of ours.
func entityTags(header string) (tags []string, all bool) {
	for tag := range strings.SplitSeq(header, ",") {
		switch tag = strings.TrimSpace(tag); {
		case tag == "*":
			all = true
		case len(tag) > 2 && tag[0] == '"' && tag[len(tag)-1] == '"':
			tags = append(tags, tag)
		}
	}
	return tags, all
}

type clientInput struct {
	ID          string `path:"id" doc:"id, or ref: and the agency's own key"`
	IfNoneMatch string `header:"If-None-Match" doc:"ETags that you have: if the client still has one of them, the answer is 304, without a body"`
}

func (s *Server) readClient(ctx context.Context, in *clientInput) (*clientOutput, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out, err := s.clientAlone(ctx, c)
	if err != nil {
		return nil, err
	}
	if tags, all := entityTags(in.IfNoneMatch); all || slices.Contains(tags, out.ETag) {
		return nil, &toldProblem{&huma.ErrorModel{Status: http.StatusNotModified}, http.Header{"Etag": {out.ETag}}}
	}
	return out, nil
}

// patch is a field of a JSON merge patch (RFC 7396): absent, null, which clears it, or a value.
type patch[T any] struct {
	given bool
	value T
}

// UnmarshalJSON is called for null too, which leaves the zero value.
func (p *patch[T]) UnmarshalJSON(text []byte) error {
	p.given = true
	return json.Unmarshal(text, &p.value)
}

// Schema documents the field as one that may be null.
func (p *patch[T]) Schema(r huma.Registry) *huma.Schema {
	schema := *r.Schema(reflect.TypeFor[T](), true, "")
	schema.Nullable = true
	return &schema
}

// or returns the value, nil if the field is absent.
func (p *patch[T]) or() *T {
	if !p.given {
		return nil
	}
	return &p.value
}

type clientPatch struct {
	ID      string `path:"id" doc:"id, or ref: and the agency's own key"` // Huma fills no embedded clientID.
	IfMatch string `header:"If-Match" doc:"ETags that a GET or PATCH gave: the client is changed only if it is as it was then, and the answer is 412 otherwise. Without it the last of two changes of the same field wins"`
	Body    clientChanges
}

type clientChanges struct {
	Name       patch[string]             `json:"name,omitzero"`
	OwnerName  patch[string]             `json:"owner_name,omitzero"`
	OwnerEmail patch[string]             `json:"owner_email,omitzero" doc:"with another address, earlier links stop working and the client starts over; the new owner is mailed if the one before was"`
	Ref        patch[string]             `json:"ref,omitzero"`
	AccountID  patch[string]             `json:"account_id,omitzero" doc:"known from the grant once the client is authorized, and not to be changed then"`
	Route      patch[string]             `json:"route,omitzero" doc:"owner, manager, partner or external; null for owner"`
	SiteURL    patch[string]             `json:"site_url,omitzero"`
	Locale     patch[string]             `json:"locale,omitzero"`
	TimeZone   patch[string]             `json:"time_zone,omitzero"`
	Tags       patch[[]string]           `json:"tags,omitzero" doc:"all of them"`
	Extra      patch[map[string]*string] `json:"extra,omitzero" doc:"columns to add or to change; null removes one, and null in place of the object all of them"`
	Paused     patch[bool]               `json:"paused,omitzero" doc:"whether the owner gets neither invitations nor reminders"`
}

func (c *clientChanges) edit() provisioning.Edit {
	return provisioning.Edit{
		Name: c.Name.or(), OwnerName: c.OwnerName.or(), OwnerEmail: c.OwnerEmail.or(), Ref: c.Ref.or(), AccountID: c.AccountID.or(),
		Route: c.Route.or(), SiteURL: c.SiteURL.or(), Locale: c.Locale.or(), TimeZone: c.TimeZone.or(), Tags: c.Tags.or(),
		ClearExtra: c.Extra.given && c.Extra.value == nil, Extra: c.Extra.value, Paused: c.Paused.or(),
	}
}

func (s *Server) patchClient(ctx context.Context, in *clientPatch) (*clientOutput, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	version := ""
	if tags, all := entityTags(in.IfMatch); in.IfMatch != "" && !all {
		version = c.Version()
		if !slices.ContainsFunc(tags, func(tag string) bool { return strings.HasPrefix(tag, `"`+version+".") }) {
			return nil, s.changed(ctx, c.ID)
		}
	}
	c, err = s.Inviter.Edit(ctx, c.ID, version, in.Body.edit(), actor(ctx))
	if errors.Is(err, provisioning.ErrChanged) {
		return nil, s.changed(ctx, c.ID)
	}
	if err != nil {
		return nil, inBody(err)
	}
	return s.clientAlone(ctx, c)
}

// changed tells that a client is no longer what the program saw, with the ETag that it has now.
func (s *Server) changed(ctx context.Context, client uuid.UUID) error {
	out, err := s.readClient(ctx, &clientInput{ID: client.String()})
	if err != nil {
		return err
	}
	return &toldProblem{problemOf(provisioning.ErrChanged), http.Header{"Etag": {out.ETag}}}
}

// inBody tells where in the body of a request a mistake is.
func inBody(err error) error {
	field, ok := errors.AsType[*provisioning.FieldError](err)
	if !ok {
		return err
	}
	model := problemOf(err)
	model.Errors = []*huma.ErrorDetail{{Message: field.Message, Location: "body." + field.Field}}
	return &toldProblem{ErrorModel: model}
}

// deleteClient leaves a line in the log: the client's history goes with it.
func (s *Server) deleteClient(ctx context.Context, in *clientID) (*struct{}, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.Store.Delete(ctx, c.ID, actor(ctx)); err != nil {
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
	if err != nil {
		return nil, inBody(err)
	}
	return &invitedOutput{invited}, nil
}

func (s *Server) postOptIn(ctx context.Context, in *clientID) (*clientOutput, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := provisioning.OptIn(ctx, s.Store.DB, c.ID, actor(ctx)); err != nil {
		return nil, err
	}
	return s.readClient(ctx, &clientInput{ID: c.ID.String()})
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
