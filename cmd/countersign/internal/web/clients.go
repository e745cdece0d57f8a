package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

const (
	clientsAPage  = 50
	importChoices = 50 // newest imports that the list can be narrowed to

	columnsCookie = "columns"
	noColumns     = "none"
	aYear         = 365 * 24 * 60 * 60 // seconds
)

// clients shows a page of the list that the address asks for, in the columns that the reader has chosen.
func (s *Server) clients(c *gin.Context) error {
	q := c.Request.URL.Query()
	f, err := filterOf(q)
	if err != nil {
		return err
	}
	f.Limit = clientsAPage
	found, next, err := s.Store.Clients(c, f)
	if err != nil {
		return err
	}
	p, err := s.Store.Progress(c, s.Now())
	if err != nil {
		return err
	}
	page := templates.ClientsPage{
		Console:   s.console(c),
		Filter:    filterOnPage(q),
		Sort:      sortOnPage(f),
		Columns:   s.columnsOf(c),
		Total:     int(p.Total),
		Stages:    stageCounts(p),
		Reasons:   reasonCounts(p),
		Continued: f.Cursor != "",
	}
	if s.mayAct(c) {
		page.Actions = templates.BulkActions()
	}
	if c.Query("done") == "deleted" {
		page.Done = "The client is deleted."
	}
	if page.Imports, err = s.importsToChoose(c, f.Import); err != nil {
		return err
	}
	for _, client := range found {
		page.Clients = append(page.Clients, clientOnPage(client))
	}
	if next != "" {
		q.Set("cursor", next)
		page.Next = "/admin/clients?" + q.Encode()
	}
	return s.show(c, page)
}

// importsToChoose lists the newest imports, and the chosen one if it is older.
func (s *Server) importsToChoose(c *gin.Context, chosen uuid.UUID) (choices []templates.Field, err error) {
	imports, _, err := s.Store.Imports(c, "", importChoices)
	if err != nil {
		return nil, err
	}
	known := chosen == uuid.Nil || slices.ContainsFunc(imports, func(im provisioning.Import) bool { return im.ID == chosen })
	if !known {
		im, err := s.Store.Import(c, chosen)
		if err == nil {
			imports = append(imports, im)
		} else if !errors.Is(err, provisioning.ErrNotFound) {
			return nil, err
		}
	}
	for _, im := range imports {
		choices = append(choices, templates.Field{Name: im.ID.String(), Value: im.FileName + ", " + im.At.UTC().Format("2 Jan 2006, 15:04")})
	}
	return choices, nil
}

// filterOf reads a filter out of a page's query.
func filterOf(q url.Values) (f provisioning.Filter, err error) {
	f.Query, f.Cursor, f.Tag = q.Get("q"), q.Get("cursor"), q.Get("tag")
	if stage := q.Get("stage"); stage != "" {
		if f.Stage, err = provisioning.ParseStage(stage); err != nil {
			return f, err
		}
	}
	if reason := q.Get("reason"); reason != "" {
		if f.Reason, err = provisioning.ParseReason(reason); err != nil {
			return f, err
		}
	}
	if route := q.Get("route"); route != "" {
		if f.Route, err = provisioning.ParseRoute(route); err != nil {
			return f, err
		}
	}
	if im := q.Get("import"); im != "" {
		if f.Import, err = uuid.Parse(im); err != nil {
			return f, errors.Join(errBadRequest, err)
		}
	}
	if paused := q.Get("paused"); paused != "" {
		is := paused == "yes"
		f.Paused = &is
	}
	if f.From, err = dayOf(q.Get("from")); err != nil {
		return f, err
	}
	if f.Until, err = dayOf(q.Get("until")); err != nil {
		return f, err
	}
	if !f.Until.IsZero() {
		f.Until = f.Until.AddDate(0, 0, 1) // The day is one of them.
	}
	sort, descending := strings.CutPrefix(q.Get("sort"), "-")
	f.Descending = descending
	if sort != "" {
		f.Sort, err = provisioning.ParseSort(sort)
	}
	return f, err
}

// dayOf reads a day (UTC), the zero time if there is none.
func dayOf(typed string) (time.Time, error) {
	if typed == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(time.DateOnly, typed)
	if err != nil {
		return time.Time{}, errors.Join(errBadRequest, err)
	}
	return day, nil
}

// filterOnPage is a filter as a query that filterOf has read says it.
func filterOnPage(q url.Values) templates.Filter {
	return templates.Filter{
		Q:      q.Get("q"),
		Stage:  templates.Stage(q.Get("stage")),
		Reason: templates.Reason(q.Get("reason")),
		Route:  q.Get("route"),
		Tag:    q.Get("tag"),
		Import: q.Get("import"),
		Paused: q.Get("paused"),
		From:   q.Get("from"),
		Until:  q.Get("until"),
	}
}

func sortOnPage(f provisioning.Filter) templates.Sort {
	sort := f.Sort
	if sort == "" {
		sort = provisioning.SortImported
	}
	if f.Descending {
		return templates.Sort("-" + sort)
	}
	return templates.Sort(sort)
}

// columnsOf returns the columns that this browser's reader has chosen.
func (s *Server) columnsOf(c *gin.Context) []templates.Column {
	kept := s.cookie(c, columnsCookie)
	if kept == "" {
		return templates.UsualColumns()
	}
	return columns(strings.Split(kept, "."))
}

// columns returns those that are known, in the order of the list.
func columns(chosen []string) []templates.Column {
	return slices.DeleteFunc(templates.Columns(), func(column templates.Column) bool {
		return !slices.Contains(chosen, string(column))
	})
}

// chooseColumns has the browser keep which columns its reader wants to see.
func (s *Server) chooseColumns(c *gin.Context) error {
	var kept []string
	for _, column := range columns(c.PostFormArray("column")) {
		kept = append(kept, string(column))
	}
	if len(kept) == 0 {
		kept = []string{noColumns}
	}
	s.setCookie(c, columnsCookie, strings.Join(kept, "."), aYear)
	back := url.URL{Path: "/admin/clients", RawQuery: c.PostForm("back")}
	c.Redirect(http.StatusSeeOther, back.String())
	return nil
}

func (s *Server) backToClients(c *gin.Context) error {
	c.Redirect(http.StatusSeeOther, "/admin/clients")
	return nil
}

// exportClients sends the clients that the filter selects, or that were ticked, as a roster file.
func (s *Server) exportClients(c *gin.Context) error {
	f, err := filterOf(c.Request.URL.Query())
	if err != nil {
		return err
	}
	ticked, err := idsOf(c.QueryArray("client"))
	if err != nil {
		return err
	}
	c.Header("Content-Type", "text/csv; charset=utf-8")
	c.Header("Content-Disposition", `attachment; filename="roster.csv"`)
	return s.Store.Export(c, c.Writer, f, ticked...)
}

// idsOf reads the clients that were ticked.
func idsOf(ticked []string) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, len(ticked))
	for i, one := range ticked {
		var err error
		if ids[i], err = uuid.Parse(one); err != nil {
			return nil, errors.Join(errBadRequest, err)
		}
	}
	return ids, nil
}
