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
)

// reconcileAPI is the part of the API that is about the provider's own list of accounts.
func (s *Server) reconcileAPI(api huma.API) {
	accepted := func(o *huma.Operation) { o.DefaultStatus = http.StatusAccepted }
	register(s, api, http.MethodPost, "/reconciliations", admin.ScopeWrite,
		"Have the provider's list of accounts read and compared with the roster", s.postReconciliation, accepted)
	register(s, api, http.MethodGet, "/reconciliations/latest", admin.ScopeRead,
		"Read what the latest comparison has found", s.readReconciliation)
	register(s, api, http.MethodGet, "/reconciliations/{id}/missing.csv", admin.ScopeRead,
		"Download the accounts that the roster lacks, as a roster file", s.missingFile, sendsCSV)
	register(s, api, http.MethodPost, "/reconciliations/{id}/steps", admin.ScopeWrite,
		"Fill in the account ids that were found, or add the accounts that the roster lacks", s.postStep, accepted)
}

type reconciliationOutput struct {
	Body reconciliationBody
}

type reconciliationBody struct {
	ID        uuid.UUID                      `json:"id" format:"uuid"`
	Actor     string                         `json:"actor"`
	At        time.Time                      `json:"at"`
	State     string                         `json:"state"`
	Done      int                            `json:"done" doc:"accounts that the job at work has read, or asked for their owners"`
	Total     *int                           `json:"total" doc:"how many there will be; null if that is not known"`
	Steps     []string                       `json:"steps" doc:"that were done, or are being done"`
	AppliedBy *string                        `json:"applied_by"`
	AppliedAt *time.Time                     `json:"applied_at" doc:"when the last step was begun"`
	Found     *provisioning.Reconciliation   `json:"found" doc:"null until the list is read"`
	Outcome   *provisioning.ReconcileOutcome `json:"outcome" doc:"of the last step"`
	Error     *string                        `json:"error" doc:"with the cure"`
}

func (s *Server) readReconciliation(ctx context.Context, _ *struct{}) (*reconciliationOutput, error) {
	if s.Reconciliations == nil {
		return nil, errNoPartner
	}
	run, err := s.Reconciliations.Latest(ctx)
	if err != nil {
		return nil, err
	}
	steps := make([]string, len(run.Steps))
	for i, step := range run.Steps {
		steps[i] = string(step)
	}
	return &reconciliationOutput{reconciliationBody{
		ID: run.ID, Actor: string(run.Actor), At: run.At, State: string(run.State), Done: run.Done, Total: run.Total, Steps: steps,
		AppliedBy: (*string)(run.AppliedBy), AppliedAt: run.AppliedAt, Found: run.Found, Outcome: run.Outcome, Error: run.Error,
	}}, nil
}

func (s *Server) postReconciliation(ctx context.Context, _ *struct{}) (*reconciliationOutput, error) {
	if s.Reconciliations == nil {
		return nil, errNoPartner
	}
	if err := s.Reconciliations.Start(ctx, actor(ctx)); err != nil {
		return nil, err
	}
	return s.readReconciliation(ctx, nil)
}

type stepInput struct {
	ID   uuid.UUID `path:"id" format:"uuid"`
	Body struct {
		Step string `json:"step" enum:"fill,add"`
		Seen int    `json:"seen" minimum:"0" doc:"how many steps the run had when you read it: if there are more by now, nothing happens"`
	}
}

func (s *Server) postStep(ctx context.Context, in *stepInput) (*reconciliationOutput, error) {
	if s.Reconciliations == nil {
		return nil, errNoPartner
	}
	err := s.Reconciliations.Apply(ctx, in.ID, in.Body.Seen, provisioning.ReconcileStep(in.Body.Step), actor(ctx))
	if err != nil {
		return nil, err
	}
	return s.readReconciliation(ctx, nil)
}

type reconciliationID struct {
	ID uuid.UUID `path:"id" format:"uuid"`
}

func (s *Server) missingFile(ctx context.Context, in *reconciliationID) (*huma.StreamResponse, error) {
	if s.Reconciliations == nil {
		return nil, errNoPartner
	}
	return s.csv("missing.csv", func(w io.Writer) error { return s.Reconciliations.WriteMissing(ctx, in.ID, w) }), nil
}
