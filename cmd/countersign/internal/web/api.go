package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/roster"
)

const (
	apiPath        = "/api/v1"
	mostRosterFile = 1 << 30 // bytes of one upload
)

// api serves JSON under /api/v1. Every operation names the scope that a key needs for it.
func (s *Server) api(router *gin.Engine) huma.API {
	group := router.Group(apiPath)
	config := huma.DefaultConfig("Countersign", s.Version)
	config.Info.Description = "Gets many client accounts authorized: import a roster, invite, follow the progress. " +
		"Errors are RFC 9457 problem details."
	config.Servers = []*huma.Server{{URL: s.PublicURL + apiPath}}
	config.DocsPath, config.SchemasPath = "", "" // The built-in page loads scripts from elsewhere.
	config.CreateHooks = nil
	config.Transformers = []huma.Transformer{withCode}
	config.RejectUnknownQueryParameters = true // A misspelt dry_run must not import.
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"key": {Type: "http", Scheme: "bearer", Description: "An API key, made by: countersign key create"},
	}
	api := humagin.NewWithGroup(router, group, config)
	api.UseMiddleware(s.requireKey(api))

	register(s, api, http.MethodPost, "/imports", admin.ScopeWrite, "Import a roster file", s.postImport,
		func(o *huma.Operation) {
			o.DefaultStatus = http.StatusCreated
			o.MaxBodyBytes = mostRosterFile
			o.BodyReadTimeout = -1
			o.Responses = answers("200", "A dry run: nothing was changed", "application/json",
				&huma.Schema{Ref: "#/components/schemas/ImportBody"})
		})
	// The body is streamed by importInput: told to huma while registering, it would be read and parsed there.
	api.OpenAPI().Paths["/imports"].Post.RequestBody = &huma.RequestBody{
		Required: true,
		Content: map[string]*huma.MediaType{
			"text/csv": {Schema: &huma.Schema{Type: huma.TypeString}},
			"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
			"multipart/form-data": {Schema: &huma.Schema{
				Type:       huma.TypeObject,
				Properties: map[string]*huma.Schema{"file": {Type: huma.TypeString, Format: "binary"}},
				Required:   []string{"file"},
			}},
		},
	}
	register(s, api, http.MethodGet, "/imports", admin.ScopeRead, "List imports, newest first", s.listImports)
	register(s, api, http.MethodGet, "/imports/{id}", admin.ScopeRead, "Read an import", s.readImport)
	register(s, api, http.MethodGet, "/imports/{id}/rejects.csv", admin.ScopeRead,
		"Download the rejected rows, to be corrected and imported again", s.rejectsFile, sendsCSV)
	register(s, api, http.MethodGet, "/clients", admin.ScopeRead, "List clients", s.listClients)
	register(s, api, http.MethodGet, "/clients/{id}", admin.ScopeRead, "Read a client", s.readClient)
	register(s, api, http.MethodPatch, "/clients/{id}", admin.ScopeWrite, "Change a client by a JSON merge patch", s.patchClient, takesMergePatch)
	register(s, api, http.MethodDelete, "/clients/{id}", admin.ScopeWrite,
		"Delete a client with its history, links, mails and sealed grants", s.deleteClient,
		func(o *huma.Operation) { o.DefaultStatus = http.StatusNoContent })
	register(s, api, http.MethodGet, "/clients/{id}/events", admin.ScopeRead, "Read a client's history, newest first", s.listEvents)
	register(s, api, http.MethodGet, "/clients/{id}/mails", admin.ScopeRead, "List the mails to a client's owner, newest first", s.listMails)
	register(s, api, http.MethodGet, "/clients/{id}/mails/{mail}", admin.ScopeRead,
		"Read a mail as the owner gets it, but for the secret of its link", s.readSentMail)
	register(s, api, http.MethodPost, "/clients/{id}/link", admin.ScopeLinks, "Make a fresh invitation link to hand over", s.postLink,
		func(o *huma.Operation) { o.DefaultStatus = http.StatusCreated })
	register(s, api, http.MethodPost, "/clients/{id}/username", admin.ScopeWrite,
		"Give a client another username because the provider says that its own is taken", s.postUsername)
	register(s, api, http.MethodPost, "/clients/{id}/owner", admin.ScopeWrite,
		"Correct who the owner is, and invite them even if they were mailed before", s.postOwner)
	register(s, api, http.MethodPost, "/clients/{id}/opt-in", admin.ScopeWrite,
		"Lift an opt-out, as the owner has told you that they want mails after all", s.postOptIn)
	register(s, api, http.MethodPost, "/clients/{id}/reminder", admin.ScopeWrite,
		"Send the next reminder now, leave it out, or choose when it goes out", s.postReminder)
	register(s, api, http.MethodPost, "/invitations", admin.ScopeWrite, "Queue invitations", s.postInvitations,
		func(o *huma.Operation) { o.DefaultStatus = http.StatusAccepted })
	register(s, api, http.MethodGet, "/progress", admin.ScopeRead, "Read the progress", s.readProgress)
	register(s, api, http.MethodGet, "/export.csv", admin.ScopeRead, "Download the roster with usernames and stages", s.exportFile, sendsCSV)
	s.managerAPI(api)
	s.partnerAPI(api)
	s.quarantineAPI(api)
	s.providerAPI(api)
	s.mailAPI(api)
	s.bulkAPI(api)
	s.mailListsAPI(api)
	s.mailReportsAPI(api)
	s.stationeryAPI(api)
	s.auditAPI(api)
	s.operatorsAPI(api)
	s.keysAPI(api)
	s.settingsAPI(api)
	s.reconcileAPI(api)
	describe(api.OpenAPI())
	return api
}

// describe completes the document with what does not show in the type of a handler.
func describe(doc *huma.OpenAPI) {
	for _, path := range []string{"/clients/{id}", "/mail/letterhead"} {
		changes := doc.Paths[path].Patch.RequestBody.Content
		changes["application/merge-patch+json"] = changes["application/json"]
	}
	kind := doc.Components.Schemas.Map()["ErrorModel"].Properties["type"]
	kind.Description, kind.Default, kind.Examples = "What is wrong: it never changes, and programs go by it.", nil, nil
	for _, c := range problemCodes() {
		kind.Enum = append(kind.Enum, problemType+c.code)
	}
}

// sendsCSV documents that the answer is a file.
func sendsCSV(o *huma.Operation) {
	o.Responses = answers("200", "OK", "text/csv", &huma.Schema{Type: huma.TypeString})
}

// takesMergePatch documents the proper type of the body, beside the general one.
func takesMergePatch(o *huma.Operation) {
	o.Description += " What the body does not name stays as it is; null clears it. The answer has the ETag of what it is then."
}

// answers documents an answer that does not show in the type of a handler.
func answers(status, description, media string, schema *huma.Schema) map[string]*huma.Response {
	return map[string]*huma.Response{status: {
		Description: description, Content: map[string]*huma.MediaType{media: {Schema: schema}},
	}}
}

// register adds an operation whose errors are answered by the one table.
func register[I, O any](
	s *Server, api huma.API, method, path string, scope admin.Scope, summary string,
	h func(context.Context, *I) (*O, error), adjust ...func(*huma.Operation),
) {
	op := huma.Operation{
		OperationID: operationID(method, path),
		Method:      method,
		Path:        path,
		Summary:     summary,
		Description: "Needs a key with the scope " + string(scope) + ".",
		Security:    []map[string][]string{{"key": {string(scope)}}},
	}
	if method == http.MethodPost {
		op.Parameters = []*huma.Param{{
			Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
			Description: "of your own choice, such as a UUID: the same request with the same key is carried out once",
		}}
	}
	for _, a := range adjust {
		a(&op)
	}
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, in)
		if err != nil {
			return nil, s.apiProblem(ctx, apiPath+path, err)
		}
		return out, nil
	})
}

func operationID(method, path string) string {
	words := strings.FieldsFunc(path, func(r rune) bool { return strings.ContainsRune("/{}.", r) })
	return strings.ToLower(method) + "-" + strings.Join(words, "-")
}

type keyOfRequest struct{}

// requireKey lets a request go on that has a key with the operation's scope.
func (s *Server) requireKey(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		refuse := func(status int, message string) {
			if status == http.StatusUnauthorized {
				ctx.SetHeader("WWW-Authenticate", `Bearer realm="countersign"`)
			}
			if err := huma.WriteErr(api, ctx, status, message); err != nil {
				s.Log.ErrorContext(ctx.Context(), "cannot answer", "err", err)
			}
		}
		scheme, presented, _ := strings.Cut(ctx.Header("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			refuse(http.StatusUnauthorized, "send an API key as: Authorization: Bearer KEY")
			return
		}
		from, _ := netip.ParseAddr(humagin.Unwrap(ctx).ClientIP()) // One that is none is told as unknown.
		key, err := s.Admin.Key(ctx.Context(), provisioning.Secret(presented), from)
		if errors.Is(err, admin.ErrBadKey) {
			if !s.badKeys.allow(s.Now(), humagin.Unwrap(ctx).ClientIP()) {
				ctx.SetHeader("Retry-After", strconv.Itoa(int(throttleRest.Seconds())))
				refuse(http.StatusTooManyRequests, "too many requests with keys that are none of ours")
				return
			}
			refuse(http.StatusUnauthorized, "this API key is unknown, expired or revoked")
			return
		}
		if err != nil {
			s.fail(humagin.Unwrap(ctx), err)
			return
		}
		if !s.calls.take(ctx, key.ID, s.Now()) {
			refuse(http.StatusTooManyRequests, "this key has sent too many requests: wait as long as Retry-After says")
			return
		}
		for _, scopes := range ctx.Operation().Security {
			for _, scope := range scopes["key"] {
				if !key.May(admin.Scope(scope)) {
					refuse(http.StatusForbidden, fmt.Sprintf("this key lacks the scope %q", scope))
					return
				}
			}
		}
		s.once(huma.WithValue(ctx, keyOfRequest{}, key), key.ID, provisioning.Secret(presented), next)
	}
}

func actor(ctx context.Context) provisioning.Actor {
	key, _ := ctx.Value(keyOfRequest{}).(admin.Key) // requireKey sets it.
	return provisioning.APIKey(key.Name)
}

// Imports.

type importInput struct {
	DryRun bool     `query:"dry_run" doc:"tell what would happen and change nothing"`
	Strict bool     `query:"strict" doc:"import nothing if a row is rejected"`
	Invite bool     `query:"invite" doc:"queue an invitation for every client of the file that was not mailed before"`
	Plan   int      `query:"plan" minimum:"1" maximum:"100000" default:"100" doc:"how many rows the plan of a dry run has"`
	Map    []string `query:"map,explode" doc:"field=column, for columns whose header is not recognised"`

	file     io.Reader
	fileName string
}

// Resolve finds the file in the request: the whole body, or the part called file. It is not read yet.
func (in *importInput) Resolve(ctx huma.Context) []error {
	address := ctx.URL()
	q := address.Query()
	in.DryRun, in.Strict, in.Invite = flag(q, "dry_run"), flag(q, "strict"), flag(q, "invite")
	r := humagin.Unwrap(ctx).Request
	body := http.MaxBytesReader(nil, r.Body, mostRosterFile)
	in.file, in.fileName = body, "upload.csv"
	media, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "multipart/form-data" {
		if _, dp, err := mime.ParseMediaType(r.Header.Get("Content-Disposition")); err == nil && dp["filename"] != "" {
			in.fileName = dp["filename"]
		}
		return nil
	}
	if parameters["boundary"] == "" {
		return []error{huma.Error400BadRequest("the multipart body has no boundary")}
	}
	r.Body = body
	parts, err := r.MultipartReader()
	if err != nil {
		return []error{huma.Error400BadRequest("the multipart body cannot be read: " + err.Error())}
	}
	for {
		part, err := parts.NextPart()
		if err != nil {
			return []error{huma.Error400BadRequest("the multipart body has no part called file")}
		}
		if part.FormName() == "file" {
			in.file = part
			if part.FileName() != "" {
				in.fileName = part.FileName()
			}
			return nil
		}
	}
}

// flag reads a switch that may stand alone: ?dry_run means ?dry_run=true.
func flag(q url.Values, name string) bool {
	if !q.Has(name) {
		return false
	}
	on, err := strconv.ParseBool(q.Get(name))
	return on || err != nil
}

type importOutput struct {
	Status int
	Body   importBody
}

type importBody struct {
	provisioning.Import

	RejectsURL string `json:"rejects_url" doc:"all rejected rows as CSV, to be corrected and imported again; empty for a dry run"`
}

func importInJSON(im provisioning.Import) importBody {
	body := importBody{Import: im}
	if !im.DryRun {
		body.RejectsURL = apiPath + "/imports/" + im.ID.String() + "/rejects.csv"
	}
	return body
}

func (s *Server) postImport(ctx context.Context, in *importInput) (*importOutput, error) {
	if s.Importer == nil {
		return nil, errNoMailbox
	}
	mapping, err := roster.ParseMapping(in.Map)
	if err != nil {
		return nil, err
	}
	im, err := s.Importer.Import(ctx, in.file, provisioning.ImportOptions{
		FileName: in.fileName, Actor: actor(ctx), Map: mapping, DryRun: in.DryRun, Strict: in.Strict, Invite: in.Invite,
		PlanRows: in.Plan,
	})
	if errors.Is(err, provisioning.ErrRejected) {
		return nil, rejected(err, im.Rejects)
	}
	if err != nil {
		return nil, err
	}
	out := &importOutput{Status: http.StatusCreated, Body: importInJSON(im)}
	if in.DryRun {
		out.Status = http.StatusOK
	}
	return out, nil
}

// rejected tells a strict import's rejects: there is no file of them, as nothing was imported.
func rejected(err error, rejects []roster.Reject) error {
	details := make([]*huma.ErrorDetail, len(rejects))
	for i, r := range rejects {
		location := "line " + strconv.Itoa(r.Line)
		if r.Column != "" {
			location += ", column " + r.Column
		}
		details[i] = &huma.ErrorDetail{Message: r.Message, Location: location, Value: string(r.Code)}
	}
	model := problemOf(err)
	model.Errors = details
	return model
}

type importsInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor string `query:"cursor" doc:"next_cursor of the page before"`
}

type importsOutput struct {
	Body struct {
		Imports    []importBody `json:"imports"`
		NextCursor *string      `json:"next_cursor" doc:"null on the last page"`
	}
}

func (s *Server) listImports(ctx context.Context, in *importsInput) (*importsOutput, error) {
	found, next, err := s.Store.Imports(ctx, in.Cursor, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &importsOutput{}
	out.Body.Imports = []importBody{}
	for _, im := range found {
		out.Body.Imports = append(out.Body.Imports, importInJSON(im))
	}
	if next != "" {
		out.Body.NextCursor = &next
	}
	return out, nil
}

type importID struct {
	ID uuid.UUID `path:"id" format:"uuid"`
}

func (s *Server) readImport(ctx context.Context, in *importID) (*importOutput, error) {
	im, err := s.Store.Import(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &importOutput{Status: http.StatusOK, Body: importInJSON(im)}, nil
}

func (s *Server) rejectsFile(ctx context.Context, in *importID) (*huma.StreamResponse, error) {
	if _, err := s.Store.Import(ctx, in.ID); err != nil {
		return nil, err
	}
	return s.csv("rejects.csv", func(w io.Writer) error { return s.Store.WriteRejects(ctx, w, in.ID) }), nil
}

// csv streams a file.
func (s *Server) csv(name string, write func(io.Writer) error) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", "text/csv; charset=utf-8")
		ctx.SetHeader("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
		if err := write(ctx.BodyWriter()); err != nil {
			s.fail(humagin.Unwrap(ctx), err)
		}
	}}
}

// Clients.

// ClientSelection is which clients are meant. (Huma fills an embedded struct only if its type is exported.)
type ClientSelection struct {
	Stage  string    `query:"stage" enum:"imported,invited,started,authorized,lapsed,stalled"`
	Reason string    `query:"reason" enum:"bounced,declined,wrong_account,missing_scope,unsubscribed,expired,conflict"`
	Route  string    `query:"route" enum:"owner,manager,partner,external"`
	Tag    string    `query:"tag"`
	Q      string    `query:"q" doc:"words; each must begin a word of the name, ref, account id, owner or username"`
	Import uuid.UUID `query:"import" format:"uuid" doc:"an import that created or changed the client"`
	Paused string    `query:"paused" enum:"true,false"`
	From   time.Time `query:"from" doc:"of the last change of stage"`
	Until  time.Time `query:"until" doc:"of the last change of stage, exclusive"`
}

func (in *ClientSelection) filter() provisioning.Filter {
	f := provisioning.Filter{
		Stage: provisioning.Stage(in.Stage), Reason: provisioning.Reason(in.Reason), Route: provisioning.Route(in.Route),
		Tag: in.Tag, Query: in.Q, Import: in.Import, From: in.From, Until: in.Until,
	}
	if in.Paused != "" {
		f.Paused = new(in.Paused == "true")
	}
	return f
}

type clientsInput struct {
	ClientSelection

	Sort       string `query:"sort" enum:"imported,name,changed" default:"imported" doc:"in the order of imports, by name, or by the last change of stage"`
	Descending bool   `query:"descending"`
	Limit      int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor     string `query:"cursor" doc:"next_cursor of the page before"`
}

type clientsOutput struct {
	Body struct {
		Clients    []ClientBody `json:"clients"`
		NextCursor *string      `json:"next_cursor" doc:"null on the last page"`
	}
}

func (s *Server) listClients(ctx context.Context, in *clientsInput) (*clientsOutput, error) {
	f := in.filter()
	f.Sort, f.Descending, f.Limit, f.Cursor = provisioning.Sort(in.Sort), in.Descending, in.Limit, in.Cursor
	found, next, err := s.Store.Clients(ctx, f)
	if err != nil {
		return nil, err
	}
	out := &clientsOutput{}
	out.Body.Clients = []ClientBody{}
	for _, c := range found {
		out.Body.Clients = append(out.Body.Clients, clientInJSON(c))
	}
	if next != "" {
		out.Body.NextCursor = &next
	}
	return out, nil
}

type eventsInput struct {
	ID     string `path:"id" doc:"id, or ref: and the agency's own key"` // Huma fills no embedded clientID.
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
	Cursor int64  `query:"cursor" minimum:"0" doc:"next_cursor of the page before"`
}

type eventBody struct {
	ID     int64               `json:"id"`
	At     time.Time           `json:"at"`
	Kind   string              `json:"kind"`
	Actor  string              `json:"actor"`
	Stage  *string             `json:"stage" doc:"the stage it moved the client to; null if it moved nothing"`
	Reason *string             `json:"reason"`
	Detail provisioning.Detail `json:"detail"`
}

type eventsOutput struct {
	Body struct {
		Events     []eventBody `json:"events"`
		NextCursor *int64      `json:"next_cursor" doc:"null on the last page"`
	}
}

func (s *Server) listEvents(ctx context.Context, in *eventsInput) (*eventsOutput, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	found, err := s.Store.Events(ctx, c.ID, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &eventsOutput{}
	out.Body.Events = []eventBody{}
	for i, e := range found {
		if i == in.Limit {
			out.Body.NextCursor = &found[i-1].ID
			break
		}
		out.Body.Events = append(out.Body.Events, eventBody{
			ID: e.ID, At: e.At, Kind: string(e.Kind), Actor: string(e.Actor),
			Stage: (*string)(e.Stage), Reason: (*string)(e.Reason), Detail: e.Detail,
		})
	}
	return out, nil
}

type linkOutput struct {
	Body struct {
		URL       string    `json:"url" doc:"opens this client's invitation: give it to its owner only"`
		ExpiresAt time.Time `json:"expires_at"`
	}
}

func (s *Server) postLink(ctx context.Context, in *clientID) (*linkOutput, error) {
	c, err := s.Store.Client(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := &linkOutput{}
	out.Body.URL, out.Body.ExpiresAt, err = s.Links.HandOver(ctx, c.ID, actor(ctx))
	return out, err
}

// Invitations and progress.

type invitationsInput struct {
	DryRunQuery bool `query:"dry_run" doc:"only count"`
	Body        struct {
		Clients []string `json:"clients,omitempty" doc:"ids, ref:… or plain refs; these are mailed again even if they were before" maxItems:"10000"`
		All     bool     `json:"all,omitempty" doc:"everybody who may be mailed"`
		Stage   string   `json:"stage,omitempty" enum:"imported,invited,started,authorized,lapsed,stalled"`
		Reason  string   `json:"reason,omitempty" enum:"bounced,declined,wrong_account,missing_scope,unsubscribed,expired,conflict"`
		Tag     string   `json:"tag,omitempty"`
		DryRun  bool     `json:"dry_run,omitempty" doc:"only count"`
	}
}

// Resolve takes ?dry_run for an answer too.
func (in *invitationsInput) Resolve(ctx huma.Context) []error {
	address := ctx.URL()
	in.DryRunQuery = flag(address.Query(), "dry_run")
	return nil
}

type invitedOutput struct {
	Body provisioning.Invited
}

func (s *Server) postInvitations(ctx context.Context, in *invitationsInput) (*invitedOutput, error) {
	sel := provisioning.Selection{
		Clients: in.Body.Clients, All: in.Body.All,
		Stage: provisioning.Stage(in.Body.Stage), Reason: provisioning.Reason(in.Body.Reason), Tag: in.Body.Tag,
	}
	invited, err := s.Inviter.Invite(ctx, sel, actor(ctx), in.Body.DryRun || in.DryRunQuery)
	if err != nil {
		return nil, err
	}
	return &invitedOutput{Body: invited}, nil
}

type progressOutput struct {
	Body provisioning.Progress
}

func (s *Server) readProgress(ctx context.Context, _ *struct{}) (*progressOutput, error) {
	p, err := s.Store.Progress(ctx, s.Now())
	if err != nil {
		return nil, err
	}
	return &progressOutput{Body: p}, nil
}

func (s *Server) exportFile(ctx context.Context, in *ClientSelection) (*huma.StreamResponse, error) {
	return s.csv("roster.csv", func(w io.Writer) error { return s.Store.Export(ctx, w, in.filter()) }), nil
}
