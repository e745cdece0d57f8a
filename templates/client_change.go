package templates

import (
	"cmp"
	"net/http"
	"time"
)

// ClientEditPage is what the roster says of a client, as a form, /admin/clients/{id}/edit. It posts there what Fields
// are called, with "was." before it what each began with, and the Version.
type ClientEditPage struct {
	Console
	ID      string
	Name    string // of the client
	Version string // that the fields began with
	Fields  []EditField
	Clash   bool // somebody else has changed the client meanwhile
	Code    int  // status, if not 200
}

// EditField is one field of the form.
type EditField struct {
	Name   string // such as owner_email
	Value  string
	Was    string  // what it began with
	Error  string  // what is wrong with it, empty if nothing is
	Theirs *string // what somebody else has put there meanwhile, if they have
}

// Label names the field.
func (f EditField) Label() string {
	switch f.Name {
	case "owner_name":
		return "Owner’s name"
	case "owner_email":
		return "Owner’s address"
	case "account_id":
		return "Account id"
	case "site_url":
		return "Site"
	case "tags":
		return "Tags, with a comma between them"
	}
	return label(f.Name)
}

// Type is that of the input.
func (f EditField) Type() string {
	if f.Name == "owner_email" {
		return "email"
	}
	return "text"
}

// Required reports whether it may not be empty.
func (f EditField) Required() bool { return f.Name == "name" || f.Name == "owner_email" }

// Routes are the choices of the route, nil for any other field.
func (f EditField) Routes() []string {
	if f.Name == "route" {
		return routes()
	}
	return nil
}

// Title names the client.
func (p ClientEditPage) Title() string { return "Edit " + p.Name }

// Status is 200, or that of the problem.
func (p ClientEditPage) Status() int { return cmp.Or(p.Code, http.StatusOK) }

// ClientLinkPage gives an operator a link to hand over, /admin/clients/{id}/link: at first the button, and once, as
// the answer to its press, the link.
type ClientLinkPage struct {
	Console
	ID        string
	Name      string // of the client
	Owner     string
	Link      string // empty until the button is pressed
	ExpiresAt time.Time
}

// Title names the client.
func (p ClientLinkPage) Title() string { return "Link for " + p.Name }

// ClientDeletePage asks whether a client is to be deleted, /admin/clients/{id}/delete.
type ClientDeletePage struct {
	Console
	Client    Client
	Connected bool // whether there is a grant that will be destroyed
	Problem   string
	Code      int // status, if not 200
}

// Title names the client.
func (p ClientDeletePage) Title() string { return "Delete " + p.Client.Name }

// Status is 200, or that of the problem.
func (p ClientDeletePage) Status() int { return cmp.Or(p.Code, http.StatusOK) }

// ClientMailPage is a mail as it was sent, /admin/clients/{id}/mails/{mail}.
type ClientMailPage struct {
	Console
	ID      string
	Name    string // of the client
	Mail    Mail
	From    string
	Preview MailPreview
}

// Title names the mail.
func (p ClientMailPage) Title() string { return p.Mail.Label() + " to " + p.Name }
