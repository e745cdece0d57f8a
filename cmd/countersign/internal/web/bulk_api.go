package web

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/bulk"
)

// bulkAPI is what is done to many clients at once.
func (s *Server) bulkAPI(api huma.API) {
	register(s, api, http.MethodPost, "/bulk", admin.ScopeWrite, "Do something to many clients", s.postBulk,
		func(o *huma.Operation) {
			o.DefaultStatus = http.StatusAccepted
			o.Responses = answers("200", "A dry run: nothing was changed", "application/json",
				&huma.Schema{Ref: "#/components/schemas/BulkBody"})
		})
	register(s, api, http.MethodGet, "/bulk", admin.ScopeRead, "List bulk jobs, newest first", s.listBulk)
	register(s, api, http.MethodGet, "/bulk/{id}", admin.ScopeRead, "Read a bulk job", s.readBulk)
	register(s, api, http.MethodPost, "/bulk/{id}/stop", admin.ScopeWrite,
		"Stop a bulk job; what it has done stays done", s.stopBulk)
	register(s, api, http.MethodPost, "/bulk/{id}/undo", admin.ScopeWrite,
		"Take back what a bulk job has changed and nobody has changed since", s.undoBulk,
		func(o *huma.Operation) { o.DefaultStatus = http.StatusAccepted })
	register(s, api, http.MethodGet, "/bulk/{id}/skipped.csv", admin.ScopeRead,
		"Download the clients that a bulk job has left as they were, and why", s.skippedFile, sendsCSV)
}

// bulkFilter selects clients; an absent field does not restrict.
type bulkFilter struct {
	Stage  string    `json:"stage,omitempty" enum:"imported,invited,started,authorized,lapsed,stalled"`
	Reason string    `json:"reason,omitempty" enum:"bounced,declined,wrong_account,missing_scope,unsubscribed,expired,conflict"`
	Route  string    `json:"route,omitempty" enum:"owner,manager,partner,external"`
	Tag    string    `json:"tag,omitempty"`
	Q      string    `json:"q,omitempty" doc:"words; each must begin a word of the name, ref, account id, owner or username"`
	Import uuid.UUID `json:"import,omitzero" format:"uuid" doc:"an import that created or changed the client"`
	Paused *bool     `json:"paused,omitempty"`
	From   time.Time `json:"from,omitzero" doc:"of the last change of stage"`
	Until  time.Time `json:"until,omitzero" doc:"of the last change of stage, exclusive"`
}

func (f bulkFilter) filter() provisioning.Filter {
	return provisioning.Filter{
		Stage: provisioning.Stage(f.Stage), Reason: provisioning.Reason(f.Reason), Route: provisioning.Route(f.Route),
		Tag: f.Tag, Query: f.Q, Import: f.Import, Paused: f.Paused, From: f.From, Until: f.Until,
	}
}

func bulkFilterInJSON(f provisioning.Filter) *bulkFilter {
	return &bulkFilter{
		Stage: string(f.Stage), Reason: string(f.Reason), Route: string(f.Route),
		Tag: f.Tag, Q: f.Query, Import: f.Import, Paused: f.Paused, From: f.From, Until: f.Until,
	}
}

type bulkInput struct {
	DryRunQuery bool `query:"dry_run" doc:"only count, and show ten of them"`
	Body        struct {
		Action     string      `json:"action" enum:"invite,remind,pause,resume,tag,untag,owner,extend,delete"`
		Clients    []string    `json:"clients,omitempty" doc:"ids, ref:… or plain refs" maxItems:"10000"`
		Filter     *bulkFilter `json:"filter,omitempty" doc:"all clients that it selects"`
		All        bool        `json:"all,omitempty" doc:"all clients"`
		Tag        string      `json:"tag,omitempty" doc:"for tag and untag"`
		OwnerName  string      `json:"owner_name,omitempty" doc:"for owner"`
		OwnerEmail string      `json:"owner_email,omitempty" doc:"for owner"`
		Confirm    int         `json:"confirm,omitempty" minimum:"0" doc:"for delete: how many clients you expect; a dry run tells"`
		DryRun     bool        `json:"dry_run,omitempty" doc:"only count, and show ten of them"`
	}
}

// Resolve takes ?dry_run for an answer too, and wants one selection and no other.
func (in *bulkInput) Resolve(ctx huma.Context) []error {
	address := ctx.URL()
	in.DryRunQuery = flag(address.Query(), "dry_run")
	selections := 0
	for _, given := range []bool{in.Body.Clients != nil, in.Body.Filter != nil, in.Body.All} {
		if given {
			selections++
		}
	}
	if selections != 1 {
		return []error{&huma.ErrorDetail{Message: "say whom: exactly one of clients, filter and all", Location: "body"}}
	}
	return nil
}

func (s *Server) order(ctx context.Context, in *bulkInput) (bulk.Order, error) {
	o := bulk.Order{
		Action: bulk.Action(in.Body.Action), Tag: in.Body.Tag, Confirm: in.Body.Confirm,
		Owner: provisioning.Owner{Name: in.Body.OwnerName, Email: in.Body.OwnerEmail},
	}
	if in.Body.Filter != nil {
		if o.Filter = in.Body.Filter.filter(); !o.Filter.Restricts() {
			return o, huma.NewError(http.StatusUnprocessableEntity, "the filter selects all clients: say so with all",
				&huma.ErrorDetail{Message: "it restricts nothing", Location: "body.filter"})
		}
	}
	if in.Body.Clients != nil {
		var err error
		if o.Clients, err = s.Store.FindAll(ctx, in.Body.Clients); err != nil {
			return o, err
		}
	}
	return o, nil
}

// bulkBody is a job, or what an order would be about.
type bulkBody struct {
	ID         *uuid.UUID     `json:"id" format:"uuid" doc:"null for a dry run"`
	Action     string         `json:"action"`
	Filter     *bulkFilter    `json:"filter,omitempty" doc:"absent if the clients were named one by one"`
	Tag        string         `json:"tag,omitempty"`
	OwnerName  string         `json:"owner_name,omitempty"`
	OwnerEmail string         `json:"owner_email,omitempty"`
	Actor      string         `json:"actor"`
	State      string         `json:"state" enum:"dry_run,queued,running,stopping,done,stopped"`
	Total      int            `json:"total"`
	Done       int            `json:"done" doc:"clients that had their turn"`
	Changed    int            `json:"changed"`
	Skipped    int            `json:"skipped" doc:"clients that were left as they were"`
	SkippedWhy map[string]int `json:"skipped_why" doc:"how many of them, by reason"`
	SkippedURL string         `json:"skipped_url" doc:"all of them as CSV; empty for a dry run"`
	CreatedAt  *time.Time     `json:"created_at"`
	EndedAt    *time.Time     `json:"ended_at"`
	Undoable   bool           `json:"undoable"`
	UndoOf     *uuid.UUID     `json:"undo_of" format:"uuid" doc:"the job whose changes this one takes back"`
	Samples    []ClientBody   `json:"samples,omitempty" doc:"of a dry run: the first ten clients"`
}

func bulkInJSON(j bulk.Job) bulkBody {
	body := bulkBody{
		ID: &j.ID, Action: string(j.Action), Tag: j.Tag, OwnerName: j.Owner.Name, OwnerEmail: j.Owner.Email,
		Actor: string(j.Actor), State: string(j.State), Total: j.Total, Done: j.Done, Changed: j.Changed, Skipped: j.Skipped,
		SkippedWhy: j.SkippedWhy, SkippedURL: apiPath + "/bulk/" + j.ID.String() + "/skipped.csv",
		CreatedAt: &j.CreatedAt, EndedAt: j.EndedAt, Undoable: j.Undoable, UndoOf: j.UndoOf,
	}
	if j.Clients == nil {
		body.Filter = bulkFilterInJSON(j.Filter)
	}
	return body
}

type bulkOutput struct {
	Status int
	Body   bulkBody
}

func (s *Server) postBulk(ctx context.Context, in *bulkInput) (*bulkOutput, error) {
	o, err := s.order(ctx, in)
	if err != nil {
		return nil, err
	}
	if in.Body.DryRun || in.DryRunQuery {
		p, err := s.Bulk.Preview(ctx, o)
		if err != nil {
			return nil, err
		}
		out := &bulkOutput{Status: http.StatusOK, Body: bulkBody{
			Action: in.Body.Action, Filter: in.Body.Filter, Tag: o.Tag, OwnerName: o.Owner.Name, OwnerEmail: o.Owner.Email,
			Actor: string(actor(ctx)), State: "dry_run", Total: p.Count, SkippedWhy: map[string]int{},
		}}
		for _, c := range p.Samples {
			out.Body.Samples = append(out.Body.Samples, clientInJSON(c))
		}
		return out, nil
	}
	j, err := s.Bulk.Start(ctx, o, actor(ctx))
	if err != nil {
		return nil, err
	}
	return &bulkOutput{Status: http.StatusAccepted, Body: bulkInJSON(j)}, nil
}

type bulkListInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor string `query:"cursor" doc:"next_cursor of the page before"`
}

type bulkListOutput struct {
	Body struct {
		Jobs       []bulkBody `json:"jobs"`
		NextCursor *string    `json:"next_cursor" doc:"null on the last page"`
	}
}

func (s *Server) listBulk(ctx context.Context, in *bulkListInput) (*bulkListOutput, error) {
	found, next, err := s.Bulk.List(ctx, in.Cursor, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &bulkListOutput{}
	out.Body.Jobs = []bulkBody{}
	for _, j := range found {
		out.Body.Jobs = append(out.Body.Jobs, bulkInJSON(j))
	}
	if next != "" {
		out.Body.NextCursor = &next
	}
	return out, nil
}

type bulkID struct {
	ID uuid.UUID `path:"id" format:"uuid"`
}

func (s *Server) readBulk(ctx context.Context, in *bulkID) (*bulkOutput, error) {
	j, err := s.Bulk.Job(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &bulkOutput{Status: http.StatusOK, Body: bulkInJSON(j)}, nil
}

func (s *Server) stopBulk(ctx context.Context, in *bulkID) (*bulkOutput, error) {
	if err := s.Bulk.Stop(ctx, in.ID, actor(ctx)); err != nil {
		return nil, err
	}
	return s.readBulk(ctx, in)
}

func (s *Server) undoBulk(ctx context.Context, in *bulkID) (*bulkOutput, error) {
	j, err := s.Bulk.Undo(ctx, in.ID, actor(ctx))
	if err != nil {
		return nil, err
	}
	return &bulkOutput{Status: http.StatusAccepted, Body: bulkInJSON(j)}, nil
}

func (s *Server) skippedFile(ctx context.Context, in *bulkID) (*huma.StreamResponse, error) {
	if _, err := s.Bulk.Job(ctx, in.ID); err != nil {
		return nil, err
	}
	return s.csv("skipped.csv", func(w io.Writer) error { return s.Bulk.WriteSkipped(ctx, w, in.ID) }), nil
}
