package web

import (
	"encoding/csv"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/roster"
	"github.com/countersign/countersign/templates"
)

const (
	importsAPage = 50
	shownSamples = 3
	importAtOnce = 2 * time.Second  // that somebody waits for an import before a page tells how far it is
	uploadTime   = 15 * time.Minute // that a file may take to come in: it holds a connection of the database
	formSize     = 1 << 20          // of what a browser sends around a file
	mapPrefix    = "map."           // before a field, for the column that gives it
)

// imports takes a file and shows what was imported.
func (s *Server) imports(c *gin.Context) error {
	page, err := s.importsPage(c)
	if err != nil {
		return err
	}
	return s.show(c, page)
}

func (s *Server) importsPage(c *gin.Context) (templates.ImportsPage, error) {
	page := templates.ImportsPage{Console: s.console(c)}
	if s.Uploads == nil {
		page.Off = "No file can be imported yet: set COUNTERSIGN_AGENCY_MAILBOX, the mailbox that usernames are made of, and start Countersign again."
	} else {
		page.Most = s.Uploads.MaxSize()
	}
	cursor := c.Query("cursor")
	found, next, err := s.Store.Imports(c, cursor, importsAPage)
	if err != nil {
		return page, err
	}
	page.Continued = cursor != ""
	if next != "" {
		page.Next = "/admin/imports?cursor=" + next
	}
	for _, im := range found {
		page.Imports = append(page.Imports, importOnPage(im))
	}
	return page, nil
}

func importOnPage(im provisioning.Import) templates.Import {
	return templates.Import{
		ID:        im.ID.String(),
		FileName:  im.FileName,
		Actor:     actorInWords(im.Actor),
		At:        im.At,
		Rows:      im.Rows,
		Created:   im.Created,
		Updated:   im.Updated,
		Unchanged: im.Unchanged,
		Rejected:  im.Rejected,
		Warned:    im.Warned,
	}
}

// template sends a roster file to begin with.
func (s *Server) template(c *gin.Context) error {
	example := map[roster.Field]string{
		roster.FieldName:       "Acme Bakery",
		roster.FieldOwnerEmail: "maria@acme-bakery.example",
		roster.FieldRef:        "ACME-1",
		roster.FieldOwnerName:  "Maria Rossi",
		roster.FieldRoute:      string(provisioning.RouteOwner),
		roster.FieldSiteURL:    "https://acme-bakery.example",
		roster.FieldLocale:     "en-US",
		roster.FieldTimeZone:   "America/New_York",
		roster.FieldTags:       "food, east",
	}
	var header, row []string
	for _, field := range roster.Fields() {
		header, row = append(header, string(field)), append(row, example[field])
	}
	c.Header("Content-Type", "text/csv; charset=utf-8")
	c.Header("Content-Disposition", `attachment; filename="roster.csv"`)
	return csv.NewWriter(c.Writer).WriteAll([][]string{header, row})
}

// upload keeps the file that a browser sends, if it can be a roster.
func (s *Server) upload(c *gin.Context) error {
	up, err := s.receive(c)
	if err == nil {
		c.Redirect(http.StatusSeeOther, "/admin/uploads/"+up.ID.String())
		return nil
	}
	status := statusOf(err)
	if status != http.StatusUnprocessableEntity && status != http.StatusRequestEntityTooLarge {
		return err
	}
	page, failed := s.importsPage(c)
	if failed != nil {
		return failed
	}
	if status == http.StatusRequestEntityTooLarge {
		err = provisioning.ErrUploadTooLarge // whoever of us noticed it
	}
	page.Code, page.Problem = status, sentence(err)
	return s.show(c, page)
}

func (s *Server) receive(c *gin.Context) (provisioning.Upload, error) {
	if s.Uploads == nil {
		return provisioning.Upload{}, errNoMailbox
	}
	// Not every connection can be told when to give up, such as that of a test.
	_ = http.NewResponseController(c.Writer).SetReadDeadline(time.Now().Add(uploadTime))
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, s.Uploads.MaxSize()+formSize)
	name, file, err := sentFile(c.Request)
	if err != nil {
		return provisioning.Upload{}, err
	}
	up, err := s.Uploads.Save(c, name, provisioning.Operator(operator(c).Email), file)
	if err != nil {
		return up, err
	}
	if _, err := s.Uploads.Preview(c, up.ID, nil); err != nil {
		return up, errors.Join(err, s.Uploads.Discard(c, up.ID))
	}
	return up, nil
}

// sentFile finds the part called file and does not read it yet.
func sentFile(r *http.Request) (name string, file io.Reader, err error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return "", nil, errors.Join(errBadRequest, err)
	}
	for {
		part, err := parts.NextPart()
		switch {
		case errors.Is(err, io.EOF):
			return "", nil, errNoFile
		case err != nil:
			return "", nil, errors.Join(errBadRequest, err)
		case part.FormName() == "file" && part.FileName() != "":
			return fileName(part.FileName()), sentBody{part}, nil
		}
	}
}

// sentBody is what a visitor sends: that it ends too early is not our error.
type sentBody struct{ io.Reader }

func (b sentBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = errors.Join(errBadRequest, err)
	}
	return n, err
}

// fileName is what a visitor calls a file, without folders and what cannot be shown.
func fileName(sent string) string {
	const most = 120
	sent = sent[strings.LastIndexAny(sent, `/\`)+1:]
	name := []rune(strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) && r != unicode.ReplacementChar {
			return r
		}
		return -1
	}, strings.ToValidUTF8(sent, ""))))
	if len(name) == 0 {
		return "roster"
	}
	return string(name[:min(len(name), most)])
}

// uploadID reads the address of an upload.
func (s *Server) uploadID(c *gin.Context) (uuid.UUID, error) {
	if s.Uploads == nil {
		return uuid.Nil, errNoMailbox
	}
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return uuid.Nil, errNoRoute
	}
	return id, nil
}

// pending returns the upload of the address. Once it is imported, or is to be, ok is false and the answer is made.
func (s *Server) pending(c *gin.Context) (up provisioning.Upload, ok bool, err error) {
	id, err := s.uploadID(c)
	if err != nil {
		return up, false, err
	}
	if up, err = s.Uploads.Upload(c, id); err != nil {
		return up, false, err
	}
	if up.Import != nil {
		c.Redirect(http.StatusSeeOther, "/admin/imports/"+up.Import.String())
		return up, false, nil
	}
	order, err := s.Uploads.Ordered(c, id)
	if err == nil && order.Problem == nil {
		c.Redirect(http.StatusSeeOther, importingURL(id))
		return up, false, nil
	}
	if err != nil && !errors.Is(err, provisioning.ErrNotFound) {
		return up, false, err
	}
	return up, true, nil
}

// importingURL is where an upload that is being imported tells how far it is.
func importingURL(id uuid.UUID) string { return "/admin/uploads/" + id.String() + "/importing" }

func (s *Server) backToUpload(c *gin.Context) error {
	c.Redirect(http.StatusSeeOther, (&url.URL{Path: "/admin/uploads/" + c.Param("id"), RawQuery: c.Request.URL.RawQuery}).String())
	return nil
}

// columns shows what the columns of a file mean: as they are recognised, or as the query says.
func (s *Server) columns(c *gin.Context) error {
	up, ok, err := s.pending(c)
	if !ok {
		return err
	}
	page, err := s.uploadPage(c, up)
	if err != nil {
		return err
	}
	return s.show(c, page)
}

// mapping reads what the query says about the columns.
func mapping(c *gin.Context) (chosen map[roster.Field]string, sent url.Values) {
	chosen, sent = make(map[roster.Field]string), make(url.Values)
	for _, field := range roster.Fields() {
		if column, ok := c.GetQuery(mapPrefix + string(field)); ok {
			chosen[field] = column
			sent.Set(mapPrefix+string(field), column)
		}
	}
	return chosen, sent
}

func (s *Server) uploadPage(c *gin.Context, up provisioning.Upload) (templates.UploadPage, error) {
	page := templates.UploadPage{
		Console: s.console(c), ID: up.ID.String(), FileName: up.FileName, Actor: actorInWords(up.Actor), At: up.At,
	}
	found, err := s.Uploads.Preview(c, up.ID, nil)
	if err != nil {
		return page, err
	}
	preview, choices := found, found.Choices()
	if pair := found.Mapping[roster.FieldOwnerName]; pair != "" && !slices.Contains(found.Header, pair) {
		choices = slices.Insert(choices, 0, pair)
	}
	problems := make(map[roster.Field]string)
	if chosen, _ := mapping(c); len(chosen) > 0 {
		preview, err = s.Uploads.Preview(c, up.ID, chosen)
		if wrong, ok := errors.AsType[*roster.Error](err); ok {
			preview = roster.Preview{Format: found.Format, Header: found.Header, Rows: found.Rows, Mapping: chosen}
			if problems = doubled(chosen); len(problems) == 0 {
				page.Problem = sentence(wrong)
			}
		} else if err != nil {
			return page, err
		}
	}
	page.Format, page.Rows, page.Kept = preview.Format, preview.Rows, preview.Kept()
	for _, field := range preview.Missing {
		problems[field] = "Choose the column that has it."
	}
	for field, columns := range preview.Duplicates {
		problems[field] = "More than one column can be it: " + strings.Join(columns, ", ") + ". Choose the right one."
	}
	names := make(map[roster.Field]string)
	for _, field := range roster.Fields() {
		column := templates.NewMappedField(string(field))
		names[field] = column.Label
		column.Column, column.Problem = preview.Mapping[field], problems[field]
		if column.Choices = choices; field != roster.FieldOwnerName {
			column.Choices = found.Choices()
		}
		column.Samples = samples(preview, field)
		page.Columns = append(page.Columns, column)
	}
	for _, column := range preview.Header {
		page.Header = append(page.Header, templates.FileColumn{Name: column, Field: names[preview.Field(column)]})
	}
	return page, nil
}

// doubled says of which fields the column is chosen for another one too.
func doubled(chosen map[roster.Field]string) map[roster.Field]string {
	problems := make(map[roster.Field]string)
	for _, field := range roster.Fields() {
		for _, other := range roster.Fields() {
			if column := chosen[field]; field != other && column != "" && column == chosen[other] {
				problems[field] = "This column is chosen for " + templates.NewMappedField(string(other)).Label +
					" as well. Each needs one of its own."
			}
		}
	}
	return problems
}

// samples are the first values of a field.
func samples(p roster.Preview, field roster.Field) (values []string) {
	gives := func(column string) bool {
		if chosen := p.Mapping[field]; slices.Contains(p.Header, chosen) {
			return column == chosen
		}
		return p.Field(column) == field
	}
	for _, row := range p.Rows {
		var parts []string
		for i, column := range p.Header {
			if i < len(row) && row[i] != "" && gives(column) {
				parts = append(parts, row[i])
			}
		}
		if len(parts) > 0 && len(values) < shownSamples {
			values = append(values, strings.Join(parts, " "))
		}
	}
	return values
}

// plan shows what an import would do.
func (s *Server) plan(c *gin.Context) error {
	up, ok, err := s.pending(c)
	if !ok {
		return err
	}
	chosen, sent := mapping(c)
	plan, err := s.Uploads.Plan(c, up.ID, provisioning.ImportOptions{
		Actor: provisioning.Operator(operator(c).Email), Map: chosen, Invite: true,
	})
	if err != nil {
		return s.showMistake(c, up.ID, err)
	}
	page := templates.PlanPage{
		Console: s.console(c), ID: up.ID.String(), FileName: up.FileName, Mapping: sent,
		Rows: plan.Rows, Created: plan.Created, Updated: plan.Updated, Unchanged: plan.Unchanged,
		Rejected: plan.Rejected, Warned: plan.Warned, Invitable: plan.Invited.Queued,
		Rejects: rejectsOnPage(plan.Rejects), Warnings: warningsOnPage(plan.Warnings),
	}
	for _, row := range plan.Plan {
		if row.Verdict == provisioning.VerdictCreated {
			page.Creations = append(page.Creations, templates.PlannedClient{Line: row.Line, Name: row.Name, Ref: row.Ref, Username: row.Username})
			continue
		}
		page.Updates = append(page.Updates, templates.PlannedUpdate{
			Line: row.Line, ID: orZero(row.ClientID).String(), Name: row.Name, Ref: row.Ref, Changes: changesOnPage(row.Changes),
		})
	}
	return s.show(c, page)
}

// showMistake shows beside the columns of a file why it cannot be imported, if that is the reason.
func (s *Server) showMistake(c *gin.Context, id uuid.UUID, err error) error {
	wrong, ok := errors.AsType[*roster.Error](err)
	if !ok {
		return err
	}
	up, err := s.Uploads.Upload(c, id)
	if err != nil {
		return err
	}
	page, err := s.uploadPage(c, up)
	if err != nil {
		return err
	}
	page.Code = http.StatusUnprocessableEntity
	if !slices.ContainsFunc(page.Columns, func(f templates.MappedField) bool { return f.Problem != "" }) {
		page.Problem = sentence(wrong)
	}
	return s.show(c, page)
}

// changesOnPage lists the fields that change in the order of a roster file, then the other columns.
func changesOnPage(changes map[string]provisioning.Revision) (shown []templates.Change) {
	for _, field := range roster.Fields() {
		if r, ok := changes[string(field)]; ok {
			shown = append(shown, templates.Change{
				Field: templates.NewMappedField(string(field)).Label, From: value(r.From), To: value(r.To),
			})
		}
	}
	extra := changes["extra"]
	before, _ := extra.From.(map[string]any)
	after, _ := extra.To.(map[string]any)
	all := maps.Clone(before)
	if all == nil {
		all = make(map[string]any)
	}
	maps.Copy(all, after)
	for _, column := range slices.Sorted(maps.Keys(all)) {
		if from, to := value(before[column]), value(after[column]); from != to {
			shown = append(shown, templates.Change{Field: column, From: from, To: to})
		}
	}
	return shown
}

// value is cell, empty for what is not there.
func value(v any) string {
	if v == nil {
		return ""
	}
	return cell(v)
}

func rejectsOnPage(rejects []roster.Reject) (shown []templates.Reject) {
	for _, r := range rejects {
		shown = append(shown, templates.Reject{Line: r.Line, Column: r.Column, Code: string(r.Code), Message: r.Message})
	}
	return shown
}

func warningsOnPage(warnings []roster.Warning) (shown []templates.Warning) {
	for _, w := range warnings {
		shown = append(shown, templates.Warning{Line: w.Line, Column: w.Column, Message: w.Message})
	}
	return shown
}

// commit has a file imported. A second press leads to the same import. Most are done at once; of the others a page
// tells how far they are.
func (s *Server) commit(c *gin.Context) error {
	id, err := s.uploadID(c)
	if err != nil {
		return err
	}
	chosen, _ := mapping(c)
	err = s.Uploads.Order(c, id, provisioning.ImportOptions{
		Actor: provisioning.Operator(operator(c).Email), Map: chosen, Invite: c.PostForm("invite") != "",
	})
	if err != nil {
		return s.showMistake(c, id, err)
	}
	order, err := s.Uploads.Await(c, id, importAtOnce)
	if err != nil {
		return err
	}
	if order.Import == nil {
		c.Redirect(http.StatusSeeOther, importingURL(id))
		return nil
	}
	return leadToImport(c, order)
}

func leadToImport(c *gin.Context, order provisioning.UploadOrder) error {
	address := "/admin/imports/" + order.Import.String()
	if order.Invite {
		address += "?invited"
	}
	c.Redirect(http.StatusSeeOther, address)
	return nil
}

// importing tells how far an import is, and leads to what came of it.
func (s *Server) importing(c *gin.Context) error {
	id, err := s.uploadID(c)
	if err != nil {
		return err
	}
	order, err := s.Uploads.Ordered(c, id)
	if errors.Is(err, provisioning.ErrNotFound) {
		return s.backToUpload(c)
	}
	if err != nil {
		return err
	}
	if order.Import != nil {
		return leadToImport(c, order)
	}
	page := templates.ImportingPage{
		Console: s.console(c), ID: id.String(), FileName: order.FileName, Actor: actorInWords(order.Actor), At: order.Ordered,
		Size: order.Size, Read: order.Read, Rows: orZero(order.Rows),
	}
	if order.Problem != nil {
		page.Problem = sentence(errors.New(*order.Problem))
	}
	return s.show(c, page)
}

// discard forgets a file. That somebody was faster, or imported it, shows on the page it leads to.
func (s *Server) discard(c *gin.Context) error {
	id, err := s.uploadID(c)
	if err != nil {
		return err
	}
	if err := s.Uploads.Discard(c, id); err != nil {
		return err
	}
	c.Redirect(http.StatusSeeOther, "/admin/imports")
	return nil
}

// imported shows what an import has done.
func (s *Server) imported(c *gin.Context) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return errNoRoute
	}
	im, err := s.Store.Import(c, id)
	if err != nil {
		return err
	}
	_, invited := c.GetQuery("invited")
	return s.show(c, templates.ImportPage{
		Console: s.console(c), Import: importOnPage(im), Inviting: invited,
		Rejects: rejectsOnPage(im.Rejects), Warnings: warningsOnPage(im.Warnings),
	})
}

// rejects sends the rejected rows of an import, to be corrected and imported again.
func (s *Server) rejects(c *gin.Context) error {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return errNoRoute
	}
	if _, err := s.Store.Import(c, id); err != nil {
		return err
	}
	c.Header("Content-Type", "text/csv; charset=utf-8")
	c.Header("Content-Disposition", `attachment; filename="rejects.csv"`)
	return s.Store.WriteRejects(c, c.Writer, id)
}
