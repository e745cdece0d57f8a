package web

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/templates"
)

// editable is what of a client the form has, in its order, and how it reads.
func editable() []editableField {
	return []editableField{
		{"name", func(c provisioning.Client) string { return c.Name }, func(e *provisioning.Edit) **string { return &e.Name }},
		{"ref", func(c provisioning.Client) string { return orZero(c.Ref) }, func(e *provisioning.Edit) **string { return &e.Ref }},
		{"owner_name", func(c provisioning.Client) string { return c.OwnerName }, func(e *provisioning.Edit) **string { return &e.OwnerName }},
		{"owner_email", func(c provisioning.Client) string { return c.OwnerEmail }, func(e *provisioning.Edit) **string { return &e.OwnerEmail }},
		{"account_id", func(c provisioning.Client) string { return orZero(c.AccountID) }, func(e *provisioning.Edit) **string { return &e.AccountID }},
		{"route", func(c provisioning.Client) string { return string(c.Route) }, func(e *provisioning.Edit) **string { return &e.Route }},
		{"site_url", func(c provisioning.Client) string { return c.SiteURL }, func(e *provisioning.Edit) **string { return &e.SiteURL }},
		{"locale", func(c provisioning.Client) string { return c.Locale }, func(e *provisioning.Edit) **string { return &e.Locale }},
		{"time_zone", func(c provisioning.Client) string { return c.TimeZone }, func(e *provisioning.Edit) **string { return &e.TimeZone }},
		{"tags", func(c provisioning.Client) string { return strings.Join(c.Tags, ", ") }, nil},
	}
}

type editableField struct {
	name string
	of   func(provisioning.Client) string
	in   func(*provisioning.Edit) **string // nil for tags
}

func (s *Server) editClient(c *gin.Context) error {
	client, err := s.Store.Client(c, c.Param("id"))
	if err != nil {
		return err
	}
	page := s.editPage(c, client)
	for _, field := range editable() {
		value := field.of(client)
		page.Fields = append(page.Fields, templates.EditField{Name: field.name, Value: value, Was: value})
	}
	return s.show(c, page)
}

func (s *Server) editPage(c *gin.Context, client provisioning.Client) templates.ClientEditPage {
	return templates.ClientEditPage{Console: s.console(c), ID: client.ID.String(), Name: client.Name, Version: client.Version()}
}

// editTries is how often a change is tried that somebody else's change does not touch.
const editTries = 5

// saveClient saves what was changed in the form. What somebody else has changed since it was shown stays theirs where
// this form did not touch it; where both did, the form comes back with both values.
func (s *Server) saveClient(c *gin.Context) error {
	client, err := s.Store.Client(c, c.Param("id"))
	if err != nil {
		return err
	}
	var edit provisioning.Edit
	var fields []templates.EditField
	for _, field := range editable() {
		value, was := strings.TrimSpace(c.PostForm(field.name)), c.PostForm("was."+field.name)
		fields = append(fields, templates.EditField{Name: field.name, Value: value, Was: was})
		switch {
		case value == was:
		case field.in == nil:
			tags := strings.FieldsFunc(value, func(r rune) bool { return r == ',' })
			edit.Tags = &tags
		default:
			*field.in(&edit) = &value
		}
	}
	version := c.PostForm("version")
	for range editTries {
		_, err = s.Inviter.Edit(c, client.ID, version, edit, provisioning.Operator(operator(c).Email))
		if !errors.Is(err, provisioning.ErrChanged) {
			break
		}
		if client, err = s.Store.Client(c, client.ID.String()); err != nil {
			return err
		}
		version, err = client.Version(), provisioning.ErrChanged
		if clash(fields, client) {
			break
		}
	}
	page := s.editPage(c, client)
	page.Version, page.Fields = version, fields
	wrong, isField := errors.AsType[*provisioning.FieldError](err)
	switch {
	case err == nil:
		c.Redirect(http.StatusSeeOther, "/admin/clients/"+client.ID.String()+"?done="+doneEdited)
		return nil
	case errors.Is(err, provisioning.ErrChanged):
		page.Clash, page.Code = true, http.StatusConflict
	case isField:
		page.Code = statusOf(err)
		for i := range page.Fields {
			if page.Fields[i].Name == wrong.Field {
				page.Fields[i].Error = wrong.Message
			}
		}
	default:
		return err
	}
	return s.show(c, page)
}

// clash brings the fields up to what the client is now, and reports whether one that was changed in the form has
// another value there than the form began with.
func clash(fields []templates.EditField, now provisioning.Client) (clashes bool) {
	for i, field := range editable() {
		f, theirs := &fields[i], field.of(now)
		switch {
		case f.Value == f.Was:
			f.Value = theirs
		case theirs != f.Was && theirs != f.Value:
			f.Theirs, clashes = &theirs, true
		}
		f.Was = theirs
	}
	return clashes
}

// askLink tells what a link to hand over is, and has the button.
func (s *Server) askLink(c *gin.Context) error {
	client, err := s.Store.Client(c, c.Param("id"))
	if err != nil {
		return err
	}
	return s.show(c, s.linkPage(c, client))
}

func (s *Server) linkPage(c *gin.Context, client provisioning.Client) templates.ClientLinkPage {
	page := templates.ClientLinkPage{Console: s.console(c), ID: client.ID.String(), Name: client.Name, Owner: client.OwnerName}
	if page.Owner == "" {
		page.Owner = client.OwnerEmail
	}
	return page
}

// handOver makes a link and shows it in its answer: it is kept nowhere that another page could show it from.
func (s *Server) handOver(c *gin.Context) error {
	client, err := s.Store.Client(c, c.Param("id"))
	if err != nil {
		return err
	}
	page := s.linkPage(c, client)
	page.Link, page.ExpiresAt, err = s.Links.HandOver(c, client.ID, provisioning.Operator(operator(c).Email))
	if err != nil {
		return err
	}
	return s.show(c, page)
}

func (s *Server) askDelete(c *gin.Context) error {
	client, err := s.Store.Client(c, c.Param("id"))
	if err != nil {
		return err
	}
	return s.show(c, s.deletePage(c, client))
}

func (s *Server) deletePage(c *gin.Context, client provisioning.Client) templates.ClientDeletePage {
	return templates.ClientDeletePage{
		Console: s.console(c), Client: clientOnPage(client), Connected: client.Stage == provisioning.StageAuthorized,
	}
}

func (s *Server) endClient(c *gin.Context) error {
	client, err := s.Store.Client(c, c.Param("id"))
	if err != nil {
		return err
	}
	if c.PostForm("sure") != "yes" {
		page := s.deletePage(c, client)
		page.Problem, page.Code = "Nothing is deleted: tick the box to say that you mean it.", http.StatusUnprocessableEntity
		return s.show(c, page)
	}
	if err := s.Store.Delete(c, client.ID, provisioning.Operator(operator(c).Email)); err != nil {
		return err
	}
	c.Redirect(http.StatusSeeOther, "/admin/clients?done=deleted")
	return nil
}

// clientMail finds a mail of a client that the address names.
func (s *Server) clientMail(ctx context.Context, key, mail string) (client provisioning.Client, message notify.Message, err error) {
	if client, err = s.Store.Client(ctx, key); err != nil {
		return client, message, err
	}
	id, err := uuid.Parse(mail)
	if err != nil {
		return client, message, errNoRoute
	}
	messages, err := s.Mailer.Messages(ctx, client.ID)
	if err != nil {
		return client, message, err
	}
	for _, m := range messages {
		if m.ID == id {
			return client, m, nil
		}
	}
	return client, message, errNoRoute
}

// sender is whom owners see as the sender of a mail.
func (s *Server) sender(l templates.Letterhead) string { return l.Agency + " <" + s.Mailer.From + ">" }

// sentMail shows a mail as its owner got it.
func (s *Server) sentMail(c *gin.Context) error {
	client, m, err := s.clientMail(c, c.Param("id"), c.Param("mail"))
	if err != nil {
		return err
	}
	rendered, letterhead, err := s.Mailer.Sent(c, client.ID, m.ID)
	if err != nil {
		return err
	}
	s.allowFrame(c)
	return s.show(c, templates.ClientMailPage{
		Console: s.console(c),
		ID:      client.ID.String(),
		Name:    client.Name,
		Mail:    messageOnPage(m),
		From:    s.sender(letterhead),
		Preview: templates.MailPreview{
			Address: "/admin/clients/" + client.ID.String() + "/mails/" + m.ID.String() + "/html", Subject: rendered.Subject, Text: rendered.Text,
		},
	})
}

// sentFrame answers with the HTML of a mail for the frame of sentMail.
func (s *Server) sentFrame(c *gin.Context) error {
	client, m, err := s.clientMail(c, c.Param("id"), c.Param("mail"))
	if err != nil {
		return err
	}
	rendered, _, err := s.Mailer.Sent(c, client.ID, m.ID)
	if err != nil {
		return err
	}
	return s.frame(c, rendered.HTML)
}
