package web

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/authflow/admin"
)

// settingsAPI is the part of the API that is about the installation.
func (s *Server) settingsAPI(api huma.API) {
	register(s, api, http.MethodGet, "/settings", admin.ScopeRead, "Read the settings, without their secrets", s.readSettings)
	register(s, api, http.MethodGet, "/doctor", admin.ScopeRead, "Read what the doctor found last, or has found so far", s.readDoctor)
	register(s, api, http.MethodPost, "/doctor", admin.ScopeWrite,
		"Have the doctor examine what the service depends on, unless that is being done", s.postDoctor,
		func(o *huma.Operation) { o.DefaultStatus = http.StatusAccepted })
}

type settingsOutput struct {
	Body struct {
		Version  string        `json:"version" doc:"of the program"`
		Settings []settingBody `json:"settings"`
	}
}

type settingBody struct {
	Name  string `json:"name" doc:"of the variable of the environment"`
	Label string `json:"label"`
	Group string `json:"group"`
	Value string `json:"value" doc:"in words, never a secret; empty if there is none"`
	Given bool   `json:"given" doc:"somebody set it; otherwise it is the default"`
}

func (s *Server) readSettings(context.Context, *struct{}) (*settingsOutput, error) {
	out := &settingsOutput{}
	out.Body.Version, out.Body.Settings = s.Version, []settingBody{}
	for _, group := range s.Settings {
		for _, set := range group.Settings {
			out.Body.Settings = append(out.Body.Settings, settingBody{set.Name, set.Label, group.Title, set.Value, set.Given})
		}
	}
	return out, nil
}

type doctorOutput struct {
	Body struct {
		Actor   string      `json:"actor" doc:"who asked for it"`
		Plus    bool        `json:"plus" doc:"mails were sent to see whether plus addresses arrive"`
		At      time.Time   `json:"at"`
		EndedAt *time.Time  `json:"ended_at" doc:"null while it is at work"`
		Lost    bool        `json:"lost" doc:"it has not ended and gives no sign of life: start it again"`
		Checks  []checkBody `json:"checks"`
	}
}

type checkBody struct {
	Name   string `json:"name"`
	Status string `json:"status" enum:"ok,warn,fail,skip"`
	Found  string `json:"found"`
	Cure   string `json:"cure" doc:"empty where there is nothing to do"`
}

func (s *Server) readDoctor(ctx context.Context, _ *struct{}) (*doctorOutput, error) {
	r, err := s.Doctor.Report(ctx)
	if err != nil {
		return nil, err
	}
	out := &doctorOutput{}
	out.Body.Actor, out.Body.Plus, out.Body.At, out.Body.EndedAt, out.Body.Lost = string(r.Actor), r.Plus, r.At, r.EndedAt, r.Lost
	out.Body.Checks = []checkBody{}
	for _, c := range r.Checks {
		out.Body.Checks = append(out.Body.Checks, checkBody(c))
	}
	return out, nil
}

type doctorInput struct {
	Body *plusBody // which may be left out
}

type plusBody struct {
	Plus bool `json:"plus,omitempty" doc:"also send two mails to the agency mailbox, to see whether plus addresses arrive; it takes up to two minutes"`
}

func (s *Server) postDoctor(ctx context.Context, in *doctorInput) (*doctorOutput, error) {
	if err := s.Doctor.Start(ctx, orZero(in.Body).Plus, actor(ctx)); err != nil {
		return nil, err
	}
	return s.readDoctor(ctx, nil)
}
