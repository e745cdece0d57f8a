package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/templates"
)

// stationeryAPI is the part of the API that is about what mails say and look like.
func (s *Server) stationeryAPI(api huma.API) {
	register(s, api, http.MethodGet, "/mail/texts", admin.ScopeRead, "List the texts of all mails", s.listTexts)
	register(s, api, http.MethodGet, "/mail/texts/{key}", admin.ScopeRead, "Read a text", s.readText)
	register(s, api, http.MethodPut, "/mail/texts/{key}", admin.ScopeWrite, "Write a text of your own", s.putText)
	register(s, api, http.MethodDelete, "/mail/texts/{key}", admin.ScopeWrite, "Go back to the built-in text", s.deleteText)
	register(s, api, http.MethodPost, "/mail/texts/{key}/preview", admin.ScopeRead,
		"Show the mail that a text makes, filled in for nobody in particular", s.postPreview)
	register(s, api, http.MethodGet, "/mail/letterhead", admin.ScopeRead, "Read the letterhead", s.readLetterhead)
	register(s, api, http.MethodPatch, "/mail/letterhead", admin.ScopeWrite, "Change the letterhead by a JSON merge patch", s.patchLetterhead, takesMergePatch)
	register(s, api, http.MethodPut, "/mail/letterhead/logo", admin.ScopeWrite, "Put a logo on the letterhead: PNG, JPEG or GIF", s.putLogoAPI)
	register(s, api, http.MethodDelete, "/mail/letterhead/logo", admin.ScopeWrite, "Take the logo off the letterhead", s.deleteLogo)
}

type textsOutput struct {
	Body struct {
		Texts []TextBody `json:"texts"`
	}
}

// TextBody names a text. (Huma documents an embedded struct only if its type is exported.)
type TextBody struct {
	Key   string `json:"key" doc:"such as invitation.en or reminder.unseen.1.de"`
	Title string `json:"title"`
	Own   bool   `json:"own" doc:"it is the agency's own; otherwise the built-in one is sent"`
}

// nameInPath is a key as a part of an address, where it cannot have slashes.
func nameInPath(key templates.TextKey) string { return strings.ReplaceAll(key.String(), "/", ".") }

func (s *Server) listTexts(ctx context.Context, _ *struct{}) (*textsOutput, error) {
	v, err := s.Stationery.Current(ctx)
	if err != nil {
		return nil, err
	}
	out := &textsOutput{}
	for _, key := range templates.Keys() {
		own, _ := s.textOf(v.Content, key)
		out.Body.Texts = append(out.Body.Texts, TextBody{nameInPath(key), key.Title(), own})
	}
	return out, nil
}

// TextInput names a text. (Huma fills an embedded struct only if its type is exported.)
type TextInput struct {
	Key string `path:"key" doc:"such as invitation.en or reminder.unseen.1.de"`
}

func (in TextInput) key() (templates.TextKey, error) {
	key, err := templates.ParseTextKey(strings.ReplaceAll(in.Key, ".", "/"))
	if err != nil {
		return key, errors.Join(errNoRoute, err)
	}
	return key, nil
}

type textOutput struct {
	ETag string `header:"ETag" doc:"of this text; for If-Match"`
	Body struct {
		TextBody
		Source string `json:"source" doc:"the subject, an empty line, and the text"`
	}
}

func (s *Server) readText(ctx context.Context, in *TextInput) (*textOutput, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	v, err := s.Stationery.Current(ctx)
	if err != nil {
		return nil, err
	}
	out := &textOutput{}
	own, source := s.textOf(v.Content, key)
	out.ETag, out.Body.TextBody, out.Body.Source = `"`+seen(source)+`"`, TextBody{nameInPath(key), key.Title(), own}, source
	return out, nil
}

// MatchInput says what a change of the stationery goes out from. (Huma fills an embedded struct only if its type is exported.)
type MatchInput struct {
	IfMatch string `header:"If-Match" doc:"ETags that a GET gave: it is changed only if it is as it was then, and the answer is 412 otherwise"`
}

// was is the state that must not have changed, as seen names it; now is how it is named at present. It is empty if any
// state will do.
func (in MatchInput) was(now string) string {
	tags, all := entityTags(in.IfMatch)
	switch {
	case in.IfMatch == "" || all:
		return ""
	case slices.Contains(tags, now):
		return strings.Trim(now, `"`)
	default:
		return "another"
	}
}

type textPut struct {
	TextInput
	MatchInput

	Body struct {
		Source string `json:"source" doc:"the subject, an empty line, and the text, as GET tells it"`
	}
}

func (s *Server) putText(ctx context.Context, in *textPut) (*textOutput, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	source := plainText(in.Body.Source)
	if _, err := templates.ParseText(key, source); err != nil {
		return nil, mistakesIn(err, "body.source")
	}
	return s.setText(ctx, in.TextInput, in.MatchInput, key, source)
}

type textDelete struct {
	TextInput
	MatchInput
}

func (s *Server) deleteText(ctx context.Context, in *textDelete) (*textOutput, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	return s.setText(ctx, in.TextInput, in.MatchInput, key, s.Templates.BuiltinText(key))
}

func (s *Server) setText(ctx context.Context, in TextInput, match MatchInput, key templates.TextKey, source string) (*textOutput, error) {
	now, err := s.readText(ctx, &in)
	if err != nil {
		return nil, err
	}
	err = s.keepText(ctx, actor(ctx), key, source, match.was(now.ETag))
	if err != nil {
		return nil, withTag(err, func() (string, error) {
			theirs, err := s.readText(ctx, &in)
			return orZero(theirs).ETag, err
		})
	}
	return s.readText(ctx, &in)
}

// withTag tells that something is no longer what the program saw, with the ETag that it has now: it may have changed since
// this request read it.
func withTag(err error, now func() (string, error)) error {
	if !errors.Is(err, errSomebodyElse) {
		return err
	}
	tag, failed := now()
	if failed != nil {
		return failed
	}
	return &toldProblem{problemOf(err), http.Header{"Etag": {tag}}}
}

// mistakesIn tells each mistake of an error, and where in the request it is: at the field that it names, or else at the place.
func mistakesIn(err error, place string) error {
	model := problemOf(errors.Join(errBadRequest, err))
	model.Status, model.Title, model.Type = http.StatusUnprocessableEntity, http.StatusText(http.StatusUnprocessableEntity), problemType+"invalid"
	model.Detail = "There are mistakes in it: errors tells them."
	for _, mistake := range each(err) {
		detail := &huma.ErrorDetail{Message: mistake.Error(), Location: place}
		if field, ok := errors.AsType[*templates.FieldError](mistake); ok {
			detail.Message, detail.Location = field.Message, "body."+field.Field
		}
		model.Errors = append(model.Errors, detail)
	}
	return &toldProblem{ErrorModel: model}
}

type previewInput struct {
	TextInput

	Body *draftBody // which may be left out
}

type draftBody struct {
	Source *string `json:"source,omitempty" doc:"instead of the text that is sent"`
}

type previewOutput struct {
	Body RenderedMail
}

func (s *Server) postPreview(ctx context.Context, in *previewInput) (*previewOutput, error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	var draft map[string][]string
	if source := orZero(in.Body).Source; source != nil {
		draft = map[string][]string{"source": {plainText(*source)}}
	}
	p, err := s.preview(ctx, key, draft)
	if err != nil {
		return nil, err
	}
	if len(p.mistakes) > 0 {
		return nil, mistakesIn(errors.Join(p.mistakes...), "body.source")
	}
	return &previewOutput{RenderedMail{p.Subject, p.Text, p.HTML}}, nil
}

type letterheadOutput struct {
	ETag string `header:"ETag" doc:"of this letterhead without its logo; for If-Match"`
	Body letterheadBody
}

type letterheadBody struct {
	Agency        string `json:"agency" doc:"the agency's name"`
	Colour        string `json:"colour" doc:"#rrggbb; empty for the built-in one"`
	PostalAddress string `json:"postal_address" doc:"of several lines"`
	Support       string `json:"support" doc:"a phone number or an address, with office hours"`
	Phrase        string `json:"phrase" doc:"what the agency can say on the phone to prove that a mail is its own"`
	Language      string `json:"language" doc:"of mails to clients whose own is not known; empty for English"`
	ReplyTo       string `json:"reply_to" doc:"set by COUNTERSIGN_MAIL_REPLY_TO"`
	LogoURL       string `json:"logo_url" doc:"empty if there is none"`
}

func (s *Server) readLetterhead(ctx context.Context, _ *struct{}) (*letterheadOutput, error) {
	v, err := s.Stationery.Current(ctx)
	if err != nil {
		return nil, err
	}
	l := v.Content.Letterhead
	return &letterheadOutput{`"` + seenLetterhead(l) + `"`, letterheadBody{
		l.Agency, l.Colour, l.PostalAddress, l.Support, l.Phrase, l.Language, l.ReplyTo, l.LogoURL,
	}}, nil
}

type letterheadPatch struct {
	MatchInput

	Body struct {
		Agency        patch[string] `json:"agency,omitzero"`
		Colour        patch[string] `json:"colour,omitzero"`
		PostalAddress patch[string] `json:"postal_address,omitzero"`
		Support       patch[string] `json:"support,omitzero"`
		Phrase        patch[string] `json:"phrase,omitzero"`
		Language      patch[string] `json:"language,omitzero"`
	}
}

func (s *Server) patchLetterhead(ctx context.Context, in *letterheadPatch) (*letterheadOutput, error) {
	now, err := s.readLetterhead(ctx, nil)
	if err != nil {
		return nil, err
	}
	var wrong error
	err = s.keepLetterhead(ctx, actor(ctx), in.was(now.ETag), func(l templates.Letterhead) templates.Letterhead {
		for field, value := range map[*string]patch[string]{
			&l.Agency: in.Body.Agency, &l.Colour: in.Body.Colour, &l.PostalAddress: in.Body.PostalAddress,
			&l.Support: in.Body.Support, &l.Phrase: in.Body.Phrase, &l.Language: in.Body.Language,
		} {
			if value.given {
				*field = typedAddress(value.value)
			}
		}
		wrong = l.Validate()
		return l
	})
	switch {
	case wrong != nil && err != nil && !errors.Is(err, errSomebodyElse):
		return nil, mistakesIn(wrong, "body")
	case err != nil:
		return nil, withTag(err, func() (string, error) {
			theirs, err := s.readLetterhead(ctx, nil)
			return orZero(theirs).ETag, err
		})
	}
	return s.readLetterhead(ctx, nil)
}

type logoInput struct {
	RawBody []byte `contentType:"application/octet-stream"`
}

func (s *Server) putLogoAPI(ctx context.Context, in *logoInput) (*letterheadOutput, error) {
	address, err := s.Stationery.SaveLogo(ctx, in.RawBody)
	if err != nil {
		return nil, err
	}
	if err := s.setLogo(ctx, actor(ctx), address); err != nil {
		return nil, err
	}
	return s.readLetterhead(ctx, nil)
}

func (s *Server) deleteLogo(ctx context.Context, _ *struct{}) (*letterheadOutput, error) {
	if err := s.setLogo(ctx, actor(ctx), ""); err != nil {
		return nil, err
	}
	return s.readLetterhead(ctx, nil)
}
