package web

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning/audit"
)

// auditAPI is the part of the API that reads the audit trail.
func (s *Server) auditAPI(api huma.API) {
	register(s, api, http.MethodGet, "/audit", admin.ScopeAdmin, "List what operators, keys and the command line changed, newest first", s.listAudit)
	register(s, api, http.MethodGet, "/audit/verdict", admin.ScopeAdmin, "Verify the whole audit trail", s.readVerdict)
}

type auditInput struct {
	Actor  string    `query:"actor" doc:"such as \"operator ann@agency.com\", \"key app\" or \"command line\""`
	Action string    `query:"action" doc:"such as client.pause, or client for all that begin so"`
	Object string    `query:"object" doc:"such as \"client 0198c0de-1111-7000-8000-000000000000\""`
	From   time.Time `query:"from"`
	Until  time.Time `query:"until" doc:"exclusive"`
	Limit  int       `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor string    `query:"cursor" doc:"next_cursor of the page before"`
}

type auditOutput struct {
	Body struct {
		Entries    []auditBody `json:"entries"`
		NextCursor *string     `json:"next_cursor" doc:"null on the last page"`
	}
}

type auditBody struct {
	ID     int64           `json:"id" doc:"without gaps from 1"`
	At     time.Time       `json:"at"`
	Actor  string          `json:"actor"`
	Action string          `json:"action"`
	Object string          `json:"object"`
	Before json.RawMessage `json:"before" doc:"what was changed, as it was; null if there is nothing to tell"`
	After  json.RawMessage `json:"after" doc:"what was changed, as it is then; null if there is nothing to tell"`
	Hash   string          `json:"hash" doc:"SHA-256 over the hash of the entry before and all of this one"`
}

func (s *Server) listAudit(ctx context.Context, in *auditInput) (*auditOutput, error) {
	lines, next, err := s.Audit.List(ctx, audit.Filter{
		Actor: in.Actor, Action: in.Action, Object: in.Object, From: in.From, Until: in.Until, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	out := &auditOutput{}
	out.Body.Entries = []auditBody{}
	for _, l := range lines {
		out.Body.Entries = append(out.Body.Entries, auditBody{
			ID: l.ID, At: l.At, Actor: l.Actor, Action: l.Action, Object: l.Object, Before: l.Before, After: l.After,
			Hash: hex.EncodeToString(l.Hash),
		})
	}
	if next != "" {
		out.Body.NextCursor = &next
	}
	return out, nil
}

type verdictInput struct {
	Head string `query:"head" doc:"one that was noted before, to be found in the trail"`
}

type verdictOutput struct {
	Body verdictBody
}

type verdictBody struct {
	Entries int64        `json:"entries" doc:"that fit, from the first on"`
	Head    string       `json:"head" doc:"the last of them and its hash: note it elsewhere"`
	Broken  *audit.Break `json:"broken" doc:"the first entry that does not fit; null if the whole trail fits"`
}

func (s *Server) readVerdict(ctx context.Context, in *verdictInput) (*verdictOutput, error) {
	noted, err := notedHead(in.Head)
	if err != nil {
		return nil, err
	}
	v, err := s.Audit.Verify(ctx, noted, nil)
	if err != nil {
		return nil, err
	}
	return &verdictOutput{verdictBody{v.Entries, v.Head.String(), v.Broken}}, nil
}
