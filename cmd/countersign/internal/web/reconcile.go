package web

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
	"github.com/countersign/countersign/templates"
)

const (
	askTime  = constantcontact.PartnerInterval      // of an account's owner
	readTime = constantcontact.PartnerInterval / 50 // of an account of the list, which has 50 a page
)

var errNoPartner = fmt.Errorf("%w: set the partner's credentials", errNotConfigured)

// reconcile shows the roster beside the provider's list, or how far a job is with that.
func (s *Server) reconcile(c *gin.Context) error {
	page := templates.ReconcilePage{Console: s.console(c), Provider: s.Stationery.Settings.Provider}
	if s.Reconciliations == nil {
		page.Settings = []string{
			"COUNTERSIGN_PARTNER_CLIENT_ID", "COUNTERSIGN_PARTNER_CLIENT_SECRET", "COUNTERSIGN_PARTNER_API_KEY",
		}
		return s.show(c, page)
	}
	if s.Importer == nil {
		page.NoImport = "Nothing can be applied yet: set COUNTERSIGN_AGENCY_MAILBOX, the mailbox that usernames are made of, and start Countersign again."
	}
	run, err := s.Reconciliations.Latest(c)
	if err != nil && !errors.Is(err, provisioning.ErrNotFound) {
		return err
	}
	if err == nil {
		showRun(&page, run)
	}
	return s.show(c, page)
}

func showRun(page *templates.ReconcilePage, run provisioning.ReconcileRun) {
	page.ID, page.Actor, page.At = run.ID.String(), actorInWords(run.Actor), run.At
	page.Done, page.Total = run.Done, orZero(run.Total)
	page.Steps, page.Applied = len(run.Steps), templates.ReconcileStep(run.Step())
	page.By, page.ByAt = actorInWords(orZero(run.AppliedBy)), orZero(run.AppliedAt)
	each := readTime
	if page.Reading = run.State == provisioning.RunReading; !page.Reading {
		each = askTime
	}
	if run.State == provisioning.RunApplying {
		page.Applying = page.Applied
	}
	page.Left = max(0, time.Duration(page.Total-page.Done)*each)
	if run.Error != nil {
		page.Problem = sentence(errors.New(*run.Error))
	}
	if found := run.Found; found != nil {
		page.Clients, page.Accounts, page.Kinds = found.Clients, found.Accounts, kindsOnPage(*found)
		page.AddTakes = time.Duration(found.Addable) * askTime
	}
	if done := run.Outcome; done != nil {
		page.Held, page.Holds = done.Held, findingsOnPage(done.Holds)
		for _, im := range done.Imports {
			page.Imports = append(page.Imports, importOnPage(im))
		}
	}
}

// kindsOnPage parts what is only at the provider into what can be added and what cannot.
func kindsOnPage(found provisioning.Reconciliation) []templates.Findings {
	kinds := []templates.Findings{}
	for _, kind := range templates.FindingKinds() {
		word := provisioning.FindingKind(kind)
		n, rows := found.Counts[word], found.First[word]
		switch kind {
		case templates.FindingAddable:
			n, rows = found.Addable, found.Adds
		case templates.FindingProviderOnly:
			n -= found.Addable
			rows = slices.DeleteFunc(rows, func(f provisioning.Finding) bool { return f.Account.Managed })
		}
		if n > 0 {
			kinds = append(kinds, templates.Findings{Kind: kind, N: n, Rows: findingsOnPage(rows)})
		}
	}
	return kinds
}

func findingsOnPage(findings []provisioning.Finding) []templates.Finding {
	shown := make([]templates.Finding, len(findings))
	for i, f := range findings {
		shown[i].Why = f.Why
		if client := f.Client; client != nil {
			shown[i].ClientID, shown[i].Client = client.ID.String(), client.Name
			shown[i].Ref, shown[i].OwnerEmail = orZero(client.Ref), client.OwnerEmail
		}
		if account := f.Account; account != nil {
			shown[i].AccountID, shown[i].Organization, shown[i].Status = account.ID, account.Organization, account.BillingStatus
		}
	}
	return shown
}

// startReconcile has the list read. Another press, of whoever, leads to the same reading.
func (s *Server) startReconcile(c *gin.Context) error {
	if s.Reconciliations == nil {
		return errNoPartner
	}
	if err := s.Reconciliations.Start(c, provisioning.Operator(operator(c).Email)); err != nil {
		return err
	}
	return s.backToReconcile(c)
}

// apply has done what the page offers, once for a page.
func (s *Server) apply(step provisioning.ReconcileStep) handler {
	return func(c *gin.Context) error {
		if s.Reconciliations == nil {
			return errNoPartner
		}
		if s.Importer == nil {
			return errNoMailbox
		}
		id, err := uuid.Parse(c.Param("id"))
		if err != nil {
			return errNoRoute
		}
		seen, err := strconv.Atoi(c.Query("seen"))
		if err != nil {
			return errBadRequest
		}
		if err := s.Reconciliations.Apply(c, id, seen, step, provisioning.Operator(operator(c).Email)); err != nil {
			return err
		}
		return s.backToReconcile(c)
	}
}

func (s *Server) backToReconcile(c *gin.Context) error {
	c.Redirect(http.StatusSeeOther, "/admin/reconcile")
	return nil
}

// missing sends the accounts that the roster lacks, to be completed and imported.
func (s *Server) missing(c *gin.Context) error {
	if s.Reconciliations == nil {
		return errNoPartner
	}
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return errNoRoute
	}
	c.Header("Content-Type", "text/csv; charset=utf-8")
	c.Header("Content-Disposition", `attachment; filename="missing.csv"`)
	return s.Reconciliations.WriteMissing(c, id, c.Writer)
}
