package web

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/templates"
)

// A draft is what somebody is writing, a text or a letterhead, as the fields of a form. An address carries it to
// the frame that shows it, packed, because proxies cut long addresses.

const mostDraft = 64 << 10 // bytes of a draft

func pack(draft url.Values) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression) // Only an unknown level is an error, and a buffer takes all.
	_, _ = io.WriteString(w, draft.Encode())
	_ = w.Close()
	return base64.RawURLEncoding.EncodeToString(b.Bytes())
}

func unpack(packed string) (url.Values, error) {
	raw, err := base64.RawURLEncoding.DecodeString(packed)
	if err != nil {
		return nil, errors.Join(errBadRequest, err)
	}
	encoded, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(raw)), mostDraft))
	if err != nil {
		return nil, errors.Join(errBadRequest, err)
	}
	draft, err := url.ParseQuery(string(encoded))
	if err != nil {
		return nil, errors.Join(errBadRequest, err)
	}
	return draft, nil
}

// previewed is a mail filled in for nobody in particular.
type previewed struct {
	templates.Rendered

	letterhead templates.Letterhead
	mistakes   []error // in the draft; what is shown is in use then
	page       templates.MailPreview
}

// preview writes the mail of a key: on the letterhead and with the text of the draft, or those in use.
func (s *Server) preview(ctx context.Context, key templates.TextKey, draft url.Values) (p previewed, err error) {
	v, err := s.Stationery.Current(ctx)
	if err != nil {
		return p, err
	}
	source := s.source(v.Content, key)
	switch {
	case draft.Has("source"):
		source = draft.Get("source")
		_, err = templates.ParseText(key, source)
	case draft.Has("agency"):
		v.Content.Letterhead = typedLetterhead(v.Content.Letterhead, draft.Get)
		err = v.Content.Letterhead.Validate()
	}
	p.mistakes = each(err)
	address := url.URL{Path: "/admin/mail/preview/" + key.String()}
	var mails *templates.Mails
	if len(draft) == 0 || len(p.mistakes) > 0 {
		if mails, err = s.Stationery.Mails(ctx, &v.ID); err == nil {
			p.Rendered, err = mails.Render(mails.Sample(key, s.Now()))
		}
	} else {
		address.RawQuery = url.Values{"draft": {pack(draft)}}.Encode()
		if mails, err = s.Templates.Mails(v.Content, s.Scopes); err == nil {
			p.Rendered, err = mails.Preview(key, source, mails.Sample(key, s.Now()))
		}
	}
	if err != nil {
		return p, err
	}
	p.letterhead = mails.Letterhead()
	p.page = templates.MailPreview{Address: address.String(), Subject: p.Subject, Text: p.Text}
	return p, nil
}

// previewFrame answers with the HTML of a mail filled in for nobody in particular.
func (s *Server) previewFrame(c *gin.Context) error {
	key, err := textKey(c)
	if err != nil {
		return err
	}
	var draft url.Values
	if packed := c.Query("draft"); packed != "" {
		if draft, err = unpack(packed); err != nil {
			return err
		}
	}
	p, err := s.preview(c, key, draft)
	if err == nil && len(p.mistakes) > 0 {
		err = errors.Join(append(p.mistakes, errBadRequest)...)
	}
	if err != nil {
		return err
	}
	return s.frame(c, p.HTML)
}

// frame answers with the HTML of a mail, for a frame of our own pages. Mails bring their style along, as no page of
// ours may: nothing else is allowed there, and no link leads anywhere.
func (s *Server) frame(c *gin.Context, mail string) error {
	c.Header("Content-Security-Policy", strings.Join([]string{
		"default-src 'none'",
		"style-src 'unsafe-inline'",
		"img-src 'self' " + s.PublicURL,
		"form-action 'none'",
		"frame-ancestors 'self'",
		"base-uri 'none'",
		"sandbox allow-same-origin",
	}, "; "))
	page := strings.Replace(mail, "<head>", `<head><base target="_blank">`, 1) // A frame in a sandbox opens no window.
	c.Data(http.StatusOK, "text/html; charset=utf-8", []byte(page))
	return nil
}

// allowFrame lets a page show previews.
func (s *Server) allowFrame(c *gin.Context) {
	c.Header("Content-Security-Policy", policy("'self'")+"; frame-src 'self'")
}

// each lists errors that were joined.
func each(err error) []error {
	joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err)
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	return joined.Unwrap()
}
