package web

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/bulk"
	"github.com/countersign/countersign/templates"
)

const (
	jobsAPage    = 50
	skippedAPage = 50
)

// bulkForm is what the list of clients asks for, and what the page after it posts: an action, and either all that a
// filter selects or those that were ticked.
type bulkForm struct {
	order bulk.Order
	page  templates.BulkNewPage
}

// bulkFormOf reads it from a query or a form.
func (s *Server) bulkFormOf(c *gin.Context, q url.Values) (f bulkForm, err error) {
	f.page = templates.BulkNewPage{Console: s.console(c), All: q.Get("all") != "", Back: "/admin/clients"}
	f.order.Action = bulk.Action(q.Get("action"))
	if f.order.Filter, err = filterOf(q); err != nil {
		return f, err
	}
	f.order.Filter.Cursor = ""
	shown := filterOnPage(q)
	f.page.Fields = shown.Fields()
	back := url.Values{}
	for _, field := range f.page.Fields {
		back.Set(field.Name, field.Value)
	}
	if len(back) > 0 {
		f.page.Back += "?" + back.Encode()
	}
	if f.page.All {
		f.page.Fields = append(f.page.Fields, templates.Field{Name: "all", Value: "1"})
	} else {
		if f.order.Clients, err = idsOf(q["client"]); err != nil {
			return f, err
		}
		for _, id := range f.order.Clients {
			f.page.Fields = append(f.page.Fields, templates.Field{Name: "client", Value: id.String()})
		}
	}
	if f.order.Action == "" {
		return f, nil
	}
	if !slices.Contains(bulk.Actions(), f.order.Action) {
		return f, bulk.ErrUnknownAction
	}
	f.page.Action = templates.BulkAction(f.order.Action)
	f.page.Fields = append(f.page.Fields, templates.Field{Name: "action", Value: string(f.order.Action)})
	return f, nil
}

// askBulk shows what an action would do, and to whom.
func (s *Server) askBulk(c *gin.Context) error {
	q := c.Request.URL.Query()
	// An export changes nothing: there is nothing to look at before.
	if q.Get("action") == "export" {
		q.Del("action")
		if q.Has("all") {
			q.Del("client")
		}
		if q.Has("all") || q.Has("client") {
			c.Redirect(http.StatusSeeOther, "/admin/export.csv?"+q.Encode())
			return nil
		}
	}
	f, err := s.bulkFormOf(c, q)
	if err != nil {
		return err
	}
	return s.showBulkForm(c, f)
}

func (s *Server) showBulkForm(c *gin.Context, f bulkForm) error {
	// Whom it is about is asked by an action that needs nothing else: the tag or the owner may be missing yet.
	p, err := s.Bulk.Preview(c, bulk.Order{Action: bulk.ActionPause, Filter: f.order.Filter, Clients: f.order.Clients})
	if err != nil {
		return err
	}
	f.page.Count = p.Count
	for _, client := range p.Samples {
		f.page.Samples = append(f.page.Samples, clientOnPage(client))
	}
	return s.show(c, f.page)
}

// startBulk begins what askBulk has shown.
func (s *Server) startBulk(c *gin.Context) error {
	f, err := s.bulkFormOf(c, c.Request.PostForm)
	if err != nil {
		return err
	}
	f.page.Tag, f.page.Confirm = c.PostForm("new_tag"), c.PostForm("confirm")
	f.page.Owner = templates.OwnerForm{Name: c.PostForm("name"), Email: c.PostForm("email")}
	f.order.Tag = f.page.Tag
	f.order.Owner = provisioning.Owner{Name: f.page.Owner.Name, Email: f.page.Owner.Email}
	f.order.Confirm, _ = strconv.Atoi(strings.ReplaceAll(strings.TrimSpace(f.page.Confirm), ",", "")) // No number confirms nothing.
	job, err := s.Bulk.Start(c, f.order, provisioning.Operator(operator(c).Email))
	wrong, isField := errors.AsType[*provisioning.FieldError](err)
	switch {
	case err == nil:
		c.Redirect(http.StatusSeeOther, "/admin/bulk/"+job.ID.String())
		return nil
	case isField && wrong.Field == "email":
		f.page.Owner.EmailError = wrong.Message
	case isField && wrong.Field == "name":
		f.page.Owner.NameError = wrong.Message
	case isField:
		f.page.TagError = wrong.Message
	case errors.Is(err, bulk.ErrUnconfirmed):
		f.page.Problem = "Nothing is deleted: type the number of clients below to say that you mean that many."
	case errors.Is(err, bulk.ErrNobody), errors.Is(err, bulk.ErrUnknownAction):
	default:
		return err
	}
	f.page.Code = http.StatusUnprocessableEntity
	return s.showBulkForm(c, f)
}

func (s *Server) bulkJobs(c *gin.Context) error {
	jobs, next, err := s.Bulk.List(c, c.Query("cursor"), jobsAPage)
	if err != nil {
		return err
	}
	page := templates.BulkPage{Console: s.console(c)}
	for _, job := range jobs {
		page.Jobs = append(page.Jobs, jobOnPage(job))
	}
	if next != "" {
		page.Next = "/admin/bulk?cursor=" + url.QueryEscape(next)
	}
	return s.show(c, page)
}

// bulkJobID reads the id of a job out of the address.
func bulkJobID(c *gin.Context) (uuid.UUID, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return id, errNoRoute
	}
	return id, nil
}

func (s *Server) bulkJob(c *gin.Context) error {
	id, err := bulkJobID(c)
	if err != nil {
		return err
	}
	page, err := s.bulkJobPage(c, id)
	if err != nil {
		return err
	}
	return s.show(c, page)
}

func (s *Server) bulkJobPage(c *gin.Context, id uuid.UUID) (page templates.BulkJobPage, err error) {
	job, err := s.Bulk.Job(c, id)
	if err != nil {
		return page, err
	}
	page = templates.BulkJobPage{Console: s.console(c), BulkJob: jobOnPage(job), MayAct: s.mayAct(c)}
	skipped, next, err := s.Bulk.Skipped(c, id, c.Query("cursor"), skippedAPage)
	if err != nil {
		return page, err
	}
	for _, skip := range skipped {
		shown := templates.BulkSkipped{ID: skip.Client.String(), Name: skip.Name, Ref: skip.Ref, Why: skipInWords(skip.Why)}
		if skip.Name == "" {
			shown.ID, shown.Name = "", "deleted"
		}
		page.Left = append(page.Left, shown)
	}
	if next != "" {
		page.Next = "/admin/bulk/" + id.String() + "?cursor=" + url.QueryEscape(next)
	}
	return page, nil
}

// bulkSkipped sends the clients that a job has left as they were.
func (s *Server) bulkSkipped(c *gin.Context) error {
	id, err := bulkJobID(c)
	if err != nil {
		return err
	}
	if _, err := s.Bulk.Job(c, id); err != nil {
		return err
	}
	c.Header("Content-Type", "text/csv; charset=utf-8")
	c.Header("Content-Disposition", `attachment; filename="left-out.csv"`)
	return s.Bulk.WriteSkipped(c, c.Writer, id)
}

func (s *Server) backToBulk(c *gin.Context) error {
	c.Redirect(http.StatusSeeOther, "/admin/bulk/"+url.PathEscape(c.Param("id")))
	return nil
}

func (s *Server) stopBulkJob(c *gin.Context) error {
	id, err := bulkJobID(c)
	if err != nil {
		return err
	}
	if err := s.Bulk.Stop(c, id, provisioning.Operator(operator(c).Email)); err != nil {
		return err
	}
	return s.backToBulk(c)
}

// undoBulkJob leads to the job that takes everything back.
func (s *Server) undoBulkJob(c *gin.Context) error {
	id, err := bulkJobID(c)
	if err != nil {
		return err
	}
	undo, err := s.Bulk.Undo(c, id, provisioning.Operator(operator(c).Email))
	if errors.Is(err, bulk.ErrNotUndoable) || errors.Is(err, bulk.ErrNobody) {
		page, err := s.bulkJobPage(c, id)
		if err != nil {
			return err
		}
		page.Problem, page.Code = "There is nothing to undo, or it has been undone already.", http.StatusConflict
		return s.show(c, page)
	}
	if err != nil {
		return err
	}
	c.Redirect(http.StatusSeeOther, "/admin/bulk/"+undo.ID.String())
	return nil
}

func jobOnPage(j bulk.Job) templates.BulkJob {
	shown := templates.BulkJob{
		ID:        j.ID.String(),
		Action:    templates.BulkAction(j.Action),
		Tag:       j.Tag,
		To:        cmp.Or(j.Owner.Name, j.Owner.Email),
		State:     string(j.State),
		Actor:     actorInWords(j.Actor),
		Total:     j.Total,
		Done:      j.Done,
		Changed:   j.Changed,
		Skipped:   j.Skipped,
		CreatedAt: j.CreatedAt,
		EndedAt:   orZero(j.EndedAt),
		Undoable:  j.Undoable,
	}
	switch {
	case j.UndoOf != nil:
		shown.UndoOf = j.UndoOf.String()
	case j.Clients != nil:
		shown.About = "clients that were ticked"
	case j.Filter.Restricts():
		shown.About = "all that a filter selected"
	default:
		shown.About = "all clients"
	}
	for why, n := range j.SkippedWhy {
		shown.Why = append(shown.Why, templates.BulkSkips{Words: skipInWords(why), N: n})
	}
	slices.SortFunc(shown.Why, func(a, b templates.BulkSkips) int {
		return cmp.Or(cmp.Compare(b.N, a.N), strings.Compare(a.Words, b.Words))
	})
	return shown
}

// skipInWords says why a client was left as it was. A reason that it does not know is shown as it is.
func skipInWords(why string) string {
	switch provisioning.SkipReason(why) {
	case provisioning.SkipPaused:
		return "paused: resume first"
	case provisioning.SkipAuthorized:
		return "authorized already"
	case provisioning.SkipRoute:
		return "not to be authorized by the owner’s consent"
	case provisioning.SkipQueued:
		return "a mail is on its way already"
	case provisioning.SkipInvited:
		return "mailed before"
	case provisioning.SkipGone:
		return "deleted meanwhile"
	case provisioning.SkipUnchanged:
		return "so already"
	case provisioning.SkipSince:
		return "changed by somebody since"
	case bulk.SkipSent:
		return "its mail has gone out"
	case authflow.SkipNoLink:
		return "without an open link: invite first"
	}
	if words := notify.Obstacle(why).Words(); words != "" {
		return words
	}
	return strings.ReplaceAll(why, "_", " ")
}
