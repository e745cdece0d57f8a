package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// Doctor examines what the service depends on, as the command of that name does, one examination at a time over all
// replicas.
type Doctor interface {
	// Start begins to examine, unless it is being done. With plus it also sends two mails to the agency mailbox.
	Start(ctx context.Context, plus bool, actor provisioning.Actor) error
	// Report is what was found last, or so far. It returns provisioning.ErrNotFound if nobody has asked for it yet.
	Report(ctx context.Context) (DoctorReport, error)
}

// DoctorReport is what a Doctor found.
type DoctorReport struct {
	Actor   provisioning.Actor
	Plus    bool
	At      time.Time
	EndedAt *time.Time // nil while it is at work
	Lost    bool       // it has not ended, and gives no sign of life
	Checks  []templates.Check
}

// settings shows how this installation is set up.
func (s *Server) settings(c *gin.Context) error {
	return s.show(c, templates.SettingsPage{Console: s.console(c), Groups: s.Settings, Version: s.Version})
}

// doctor shows what the doctor has found.
func (s *Server) doctor(c *gin.Context) error {
	page := templates.DoctorPage{Console: s.console(c)}
	r, err := s.Doctor.Report(c)
	if errors.Is(err, provisioning.ErrNotFound) {
		return s.show(c, page)
	}
	if err != nil {
		return err
	}
	page.Actor, page.At, page.EndedAt = actorInWords(r.Actor), r.At, orZero(r.EndedAt)
	page.Lost, page.Plus, page.Checks = r.Lost, r.Plus, r.Checks
	return s.show(c, page)
}

// startDoctor has everything examined. Another press, of whoever, leads to the same examination.
func (s *Server) startDoctor(c *gin.Context) error {
	if err := s.Doctor.Start(c, c.PostForm("plus") != "", provisioning.Operator(operator(c).Email)); err != nil {
		return err
	}
	c.Redirect(http.StatusSeeOther, "/admin/settings/doctor")
	return nil
}
