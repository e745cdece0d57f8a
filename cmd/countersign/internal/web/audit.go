package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/templates"
)

// audit shows the audit trail.
func (s *Server) audit(c *gin.Context) error {
	page, err := s.auditPage(c)
	if err != nil {
		return err
	}
	return s.show(c, page)
}

// checkAudit verifies the trail, and shows the verdict above it.
func (s *Server) checkAudit(c *gin.Context) error {
	page, err := s.auditPage(c)
	if err != nil {
		return err
	}
	page.Head = c.Query("head")
	noted, err := notedHead(page.Head)
	if err != nil {
		page.HeadError = sentence(err)
		return s.show(c, page)
	}
	v, err := s.Audit.Verify(c, noted, nil)
	if err != nil {
		return err
	}
	page.Check = &templates.AuditCheck{Entries: v.Entries, Head: v.Head.String()}
	if v.Broken != nil {
		page.Check.Broken, page.Check.Why = v.Broken.ID, v.Broken.Why
	}
	return s.show(c, page)
}

// notedHead reads a head that somebody has noted, if any.
func notedHead(typed string) (*audit.Head, error) {
	if strings.TrimSpace(typed) == "" {
		return nil, nil
	}
	head, err := audit.ParseHead(typed)
	return &head, err
}

func (s *Server) auditPage(c *gin.Context) (templates.AuditPage, error) {
	q := c.Request.URL.Query()
	q.Del("head")
	f, err := auditFilterOf(q)
	if err != nil {
		return templates.AuditPage{}, err
	}
	lines, next, err := s.Audit.List(c, f)
	if err != nil {
		return templates.AuditPage{}, err
	}
	page := templates.AuditPage{
		Console: s.console(c),
		Filter: templates.AuditFilter{
			Actor: q.Get("actor"), Action: f.Action, Object: f.Object, From: q.Get("from"), Until: q.Get("until"),
		},
		Continued: f.Cursor != "",
	}
	for _, l := range lines {
		entry, err := auditOnPage(l)
		if err != nil {
			return templates.AuditPage{}, err
		}
		page.Entries = append(page.Entries, entry)
	}
	if next != "" {
		q.Set("cursor", next)
		page.Next = "/admin/audit?" + q.Encode()
	}
	return page, nil
}

// auditFilterOf reads a filter out of a page's query. A person may write an operator's address for an operator, and
// means the whole of the last day.
func auditFilterOf(q url.Values) (f audit.Filter, err error) {
	f = audit.Filter{
		Actor:  strings.TrimSpace(q.Get("actor")),
		Action: strings.TrimSpace(q.Get("action")),
		Object: strings.TrimSpace(q.Get("object")),
		Cursor: q.Get("cursor"),
	}
	if strings.Contains(f.Actor, "@") && !strings.Contains(f.Actor, " ") {
		f.Actor = string(provisioning.Operator(f.Actor))
	}
	if f.From, err = day(q.Get("from")); err != nil {
		return f, err
	}
	if f.Until, err = day(q.Get("until")); err == nil && !f.Until.IsZero() {
		f.Until = f.Until.AddDate(0, 0, 1)
	}
	return f, err
}

// day reads a day of a form, if there is one.
func day(typed string) (time.Time, error) {
	if typed == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.DateOnly, typed)
	if err != nil {
		return t, errors.Join(errBadRequest, err)
	}
	return t, nil
}

func auditOnPage(l audit.Line) (templates.AuditEntry, error) {
	all := func(parameter, value string) string { return "/admin/audit?" + url.Values{parameter: {value}}.Encode() }
	entry := templates.AuditEntry{
		ID:     l.ID,
		At:     l.At,
		Actor:  templates.AuditWord{Words: actorInWords(provisioning.Actor(l.Actor)), All: all("actor", l.Actor)},
		Action: templates.AuditWord{Words: l.Action, All: all("action", l.Action)},
		Object: templates.AuditWord{Words: l.Object, All: all("object", l.Object)},
	}
	kind, id, _ := strings.Cut(l.Object, " ")
	switch {
	case kind == "client" && l.Action != "client.delete":
		entry.Page = "/admin/clients/" + id
	case kind == "import":
		entry.Page = "/admin/imports/" + id
	}
	before, err := auditFields(l.Before)
	if err != nil {
		return entry, err
	}
	after, err := auditFields(l.After)
	if err != nil {
		return entry, err
	}
	names := slices.Concat(slices.Collect(maps.Keys(before)), slices.Collect(maps.Keys(after)))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		entry.Changes = append(entry.Changes, templates.AuditChange{
			Field: strings.ReplaceAll(name, "_", " "), Before: auditCell(before[name]), After: auditCell(after[name]),
		})
	}
	return entry, nil
}

func auditFields(raw json.RawMessage) (fields map[string]any, err error) {
	if raw == nil {
		return nil, nil
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("read an entry of the audit trail: %w", err)
	}
	return fields, nil
}

// auditCell is a value of an entry in words.
func auditCell(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case map[string]any:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, strings.ReplaceAll(name, "_", " ")+": "+auditCell(v[name]))
		}
		return strings.Join(parts, ", ")
	case string:
		if at, err := time.Parse(time.RFC3339, v); err == nil {
			return at.UTC().Format("2 Jan 2006, 15:04 UTC")
		}
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return cell(v)
	}
}
