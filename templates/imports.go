package templates

import (
	"cmp"
	"net/http"
	"net/url"
	"time"
)

// ImportsPage takes a roster file and lists what was imported, newest first, /admin/imports. The file is
// posted there as "file".
type ImportsPage struct {
	Console
	Off     string // why no file can be imported, empty if one can
	Most    int64  // bytes of a file
	Problem string // what is wrong with the file that was sent
	Code    int    // status, if not 200
	Imports []Import

	Next      string // URL of the next page, empty on the last
	Continued bool   // whether this is a later page than the first
}

// Title names the page.
func (ImportsPage) Title() string { return "Imports" }

// Status is 200, or that of the problem.
func (p ImportsPage) Status() int { return cmp.Or(p.Code, http.StatusOK) }

// Fields are what a roster file may have.
func (ImportsPage) Fields() []RosterField { return rosterFields() }

// MostMB is Most for people.
func (p ImportsPage) MostMB() int { return int(p.Most >> 20) }

// Import is one file that was read.
type Import struct {
	ID        string
	FileName  string
	Actor     string
	At        time.Time
	Rows      int
	Created   int
	Updated   int
	Unchanged int
	Rejected  int
	Warned    int
}

// RosterField is a field of a roster file by the name that its column has.
type RosterField struct {
	Name     string
	Label    string
	Meaning  string
	Required bool
}

func rosterFields() []RosterField {
	return []RosterField{
		{"name", "Name", "The client, as its owner knows it", true},
		{"owner_email", "Owner email", "Where the invitation goes", true},
		{"ref", "Ref", "Your own key: by it the same client is recognised when you import again", false},
		{"owner_name", "Owner name", "How the mail greets the owner", false},
		{"account_id", "Account ID", "The provider’s id of the account that has to consent", false},
		{"route", "Route", "How the client gets authorized: owner, manager, partner or external", false},
		{"site_url", "Site URL", "The client’s website", false},
		{"locale", "Locale", "The owner’s language, such as en-US", false},
		{"time_zone", "Time zone", "Where the owner is, such as America/New_York", false},
		{"tags", "Tags", "To group clients by, with commas between them", false},
	}
}

// UploadPage is a file that was sent, and what its columns mean, /admin/uploads/{id}. Its form sends a
// column for every field, as map.name and so on: by GET to the same address when one of them changes, and
// to /admin/uploads/{id}/plan to be checked.
type UploadPage struct {
	Console
	ID       string
	FileName string
	Actor    string
	At       time.Time
	Format   string // what kind of file it is, in words
	Problem  string // because of which it cannot be imported, unless one of the Columns says it
	Code     int    // status, if not 200
	Columns  []MappedField
	Header   []FileColumn
	Rows     [][]string // the first ones
	Kept     []string   // columns without a field, which are kept with the client
}

// Title names the file.
func (p UploadPage) Title() string { return p.FileName }

// Status is 200, or that of the problem.
func (p UploadPage) Status() int { return cmp.Or(p.Code, http.StatusOK) }

// MappedField is a field and the column that gives it.
type MappedField struct {
	RosterField

	Column  string   // empty if the file does not have it
	Choices []string // the columns that it can be
	Samples []string // the first values of the column
	Problem string   // why the column cannot be it, or that one has to be chosen
}

// NewMappedField returns the field of that name, without a column.
func NewMappedField(name string) MappedField {
	for _, f := range rosterFields() {
		if f.Name == name {
			return MappedField{RosterField: f}
		}
	}
	return MappedField{RosterField: RosterField{Name: name, Label: label(name)}}
}

// FileColumn is a column of a file and the field that it gives, if any.
type FileColumn struct{ Name, Field string }

// PlanPage says what the import of a file would do, exactly, /admin/uploads/{id}/plan. Its button posts to
// ImportURL, with "invite" if the owners are to be invited as well.
type PlanPage struct {
	Console
	ID        string
	FileName  string
	Mapping   url.Values // as the UploadPage's form sends it
	Rows      int
	Created   int
	Updated   int
	Unchanged int
	Rejected  int
	Warned    int
	Invitable int // owners who would get a mail
	Updates   []PlannedUpdate
	Creations []PlannedClient
	Rejects   []Reject
	Warnings  []Warning
}

// Title names the page.
func (PlanPage) Title() string { return "What the import would do" }

// ColumnsURL leads back to the columns as they were chosen.
func (p PlanPage) ColumnsURL() string { return p.address("") }

// ImportURL is where the button posts to.
func (p PlanPage) ImportURL() string { return p.address("/import") }

func (p PlanPage) address(page string) string {
	u := url.URL{Path: "/admin/uploads/" + p.ID + page, RawQuery: p.Mapping.Encode()}
	return u.String()
}

// Tally lists the numbers of the plan; each leads to its rows below.
func (p PlanPage) Tally() []Number {
	return tally(p.Created, p.Updated, p.Unchanged, p.Rejected, p.Warned)
}

// Number is one of several that stand side by side.
type Number struct {
	Label string
	N     int
	Link  string // to what it counts, empty if that is nowhere
	Class string // "bad" or "doubt" if somebody has to look at it
}

// tally are the numbers of a file; they lead to the lists of the page.
func tally(created, updated, unchanged, rejected, warned int) []Number {
	numbers := []Number{
		{"Created", created, "#creations", ""},
		{"Updated", updated, "#updates", ""},
		{"Unchanged", unchanged, "", ""},
		{"Rejected", rejected, "#rejects", "bad"},
		{"Doubtful", warned, "#warnings", "doubt"},
	}
	for i := range numbers {
		if numbers[i].N == 0 {
			numbers[i].Link, numbers[i].Class = "", ""
		}
	}
	return numbers
}

// Changing is how many clients the import would create or change.
func (p PlanPage) Changing() int { return p.Created + p.Updated }

// Button says what pressing it does.
func (p PlanPage) Button() string {
	clients := func(n int) string { return count(n) + " " + plural(n, "client", "clients") }
	switch {
	case p.Updated == 0:
		return "Import " + clients(p.Created)
	case p.Created == 0:
		return "Update " + clients(p.Updated)
	default:
		return "Import " + count(p.Created) + " and update " + clients(p.Updated)
	}
}

// Nothing says why there is nothing to import.
func (p PlanPage) Nothing() string {
	switch {
	case p.Rows == 0:
		return "The file has no clients, only a header."
	case p.Rejected == p.Rows:
		return "Every row is rejected. Correct the file and upload it again."
	case p.Rejected == 0:
		return "Nothing would change: the roster has all of this already."
	default:
		return "Nothing would change: what is not rejected is in the roster already."
	}
}

// PlannedUpdate is a client that would change.
type PlannedUpdate struct {
	Line    int
	ID      string // of the client
	Name    string
	Ref     string
	Changes []Change
}

// Change is a value before and after.
type Change struct{ Field, From, To string }

// PlannedClient is a client that would be new.
type PlannedClient struct {
	Line     int
	Name     string
	Ref      string
	Username string
}

// Reject is a row that is not taken.
type Reject struct {
	Line    int
	Column  string // empty if it is the whole row
	Code    string
	Message string // with the cure
}

// Warning is a row that is taken and yet looks doubtful.
type Warning struct {
	Line    int
	Column  string
	Message string
}

// ImportingPage is a file that is being imported, /admin/uploads/{id}/importing. It asks for itself until it is led to
// what came of it.
type ImportingPage struct {
	Console

	ID       string
	FileName string
	Actor    string
	At       time.Time
	Size     int64 // of the file, in bytes
	Read     int64 // of them
	Rows     int   // of the file, 0 until it is read
	Problem  string
}

// Title names the file.
func (p ImportingPage) Title() string { return p.FileName }

// Percent is how much of the file is read.
func (p ImportingPage) Percent() int64 { return 100 * p.Read / max(p.Size, 1) }

// ImportPage is what an import has done, /admin/imports/{id}.
type ImportPage struct {
	Console
	Import
	Rejects  []Reject  // the first ones
	Warnings []Warning // the first ones
	Inviting bool      // whether its owners are being invited
}

// Title names the file.
func (p ImportPage) Title() string { return p.FileName }

// Changed is how many clients the import created or changed.
func (p ImportPage) Changed() int { return p.Created + p.Updated }

// Tally lists the numbers of the import. Clients that are new and clients that changed are in one list.
func (p ImportPage) Tally() []Number {
	numbers := tally(p.Created, p.Updated, p.Unchanged, p.Rejected, p.Warned)
	for i := range numbers[:2] {
		if numbers[i].Link != "" {
			numbers[i].Link = "/admin/clients?import=" + p.ID
		}
	}
	return numbers
}
