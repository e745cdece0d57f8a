package templates

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// ClientsPage is the list at /admin/clients. Its filter goes by GET; htmx takes the list out of the whole page, so
// that there is no fragment to serve. The list is a form of its own: what is ticked goes with an action to
// /admin/bulk/new. Another one posts the chosen columns to /admin/clients/columns.
type ClientsPage struct {
	Console
	Done      string // what the button that led here has done, in a sentence
	Filter    Filter
	Sort      Sort
	Columns   []Column       // shown beside name and stage
	Imports   []Field        // to choose from: id and words, newest first
	Total     int            // of the roster
	Stages    map[Stage]int  // clients in each stage
	Reasons   map[Reason]int // stalled clients by reason
	Clients   []Client       // of this page of the list
	Next      string         // URL of the next page, empty on the last
	Continued bool           // whether this is a later page than the first
	Actions   []BulkAction   // what the reader may do to many clients; none if they may only look
}

// Title names the page.
func (ClientsPage) Title() string { return "Clients" }

// Filter is the part of the list that is shown, as the URL says it.
type Filter struct {
	Q      string
	Stage  Stage
	Reason Reason
	Route  string
	Tag    string
	Import string // its id
	Paused string // yes, no, or empty for both
	From   string // first day of the last change, such as 2026-11-23
	Until  string // last day of it
}

// query is what the URL says of the filter, in the order in which it is read aloud.
func (f Filter) query() []Field {
	all := []Field{
		{"q", f.Q},
		{"stage", string(f.Stage)},
		{"reason", string(f.Reason)},
		{"route", f.Route},
		{"tag", f.Tag},
		{"import", f.Import},
		{"paused", f.Paused},
		{"from", f.From},
		{"until", f.Until},
	}
	return slices.DeleteFunc(all, func(field Field) bool { return field.Value == "" })
}

// Active reports whether the filter leaves anything out.
func (f Filter) Active() bool { return f != Filter{} }

// More reports whether the filter says anything in the fields that are folded away.
func (f Filter) More() bool {
	f.Q, f.Stage, f.Reason = "", "", ""
	return f.Active()
}

// Fields are what a form has to say to mean the same clients.
func (f Filter) Fields() []Field { return f.query() }

// Sort is the order of the list: imported, name or changed, with a minus before it for the other way round. The
// zero value is imported.
type Sort string

const (
	sortImported Sort = "imported"
	sortName     Sort = "name"
	sortChanged  Sort = "changed"
)

// Sorts are the orders of the list, the usual one first.
func Sorts() []Sort {
	return []Sort{sortImported, "-" + sortImported, sortName, "-" + sortName, "-" + sortChanged, sortChanged}
}

// Label says the order in words.
func (s Sort) Label() string {
	switch s {
	case "-" + sortImported:
		return "Imported last"
	case sortName:
		return "Name, A to Z"
	case "-" + sortName:
		return "Name, Z to A"
	case sortChanged:
		return "Longest unchanged"
	case "-" + sortChanged:
		return "Changed last"
	case sortImported:
	}
	return "Imported first"
}

func (s Sort) or(usual Sort) Sort {
	if s == "" {
		return usual
	}
	return s
}

// Column is one that a reader of the list can choose.
type Column string

// Columns are all of them, in the order in which they stand in the list.
func Columns() []Column {
	return []Column{
		"owner", "username", "account", "route", "tags", "site", "locale", "imported", "invited", "authorized", "proven", "changed",
	}
}

// UsualColumns are those of a reader who has chosen none.
func UsualColumns() []Column { return []Column{"owner", "username", "changed"} }

// Label is the column's heading.
func (c Column) Label() string {
	switch c {
	case "account":
		return "Account id"
	case "proven":
		return "Grant proven"
	case "changed":
		return "Last change"
	}
	return label(string(c))
}

// Sort is the order of the list by this column, empty if there is none.
func (c Column) Sort() Sort {
	switch c {
	case "imported":
		return sortImported
	case "changed":
		return sortChanged
	}
	return ""
}

// At is the time in a column, zero if it has not come.
func (c Client) At(column Column) time.Time {
	switch column {
	case "imported":
		return c.CreatedAt
	case "invited":
		return c.InvitedAt
	case "authorized":
		return c.AuthorizedAt
	case "proven":
		return c.ProvenAt
	case "changed":
		return c.ChangedAt
	}
	return time.Time{}
}

// Shows reports whether the reader has chosen a column.
func (p ClientsPage) Shows(c Column) bool { return slices.Contains(p.Columns, c) }

// Matching is how many clients the filter lets through, or -1 where only a count over the roster
// could tell.
func (p ClientsPage) Matching() int {
	switch f := p.Filter; {
	case f.Q != "" || f.More():
		return -1
	case f.Reason != "" && (f.Stage == "" || f.Stage == stageStalled):
		return p.Reasons[f.Reason]
	case f.Reason != "":
		return 0
	case f.Stage != "":
		return p.Stages[f.Stage]
	default:
		return p.Total
	}
}

// FirstPage is the URL at which the list begins.
func (p ClientsPage) FirstPage() string { return p.address(p.Filter, p.Sort) }

// Back is the query of FirstPage.
func (p ClientsPage) Back() string {
	_, query, _ := strings.Cut(p.FirstPage(), "?")
	return query
}

// Export is the URL of the clients as a file.
func (p ClientsPage) Export() string {
	return strings.Replace(p.FirstPage(), "/admin/clients", "/admin/export.csv", 1)
}

func (p ClientsPage) address(f Filter, s Sort) string {
	q := url.Values{}
	for _, field := range f.query() {
		q.Set(field.Name, field.Value)
	}
	if s.or(sortImported) != sortImported {
		q.Set("sort", string(s))
	}
	if len(q) == 0 {
		return "/admin/clients"
	}
	return "/admin/clients?" + q.Encode()
}

// Head is a heading of the list that sorts it.
type Head struct {
	Label string
	URL   string // of the list sorted by it; empty if it cannot be
	Aria  string // aria-sort: ascending or descending, empty unless the list is sorted by it
}

// NameHead is the heading over the names.
func (p ClientsPage) NameHead() Head { return p.head("Client", sortName) }

// Head is the heading of a column.
func (p ClientsPage) Head(c Column) Head { return p.head(c.Label(), c.Sort()) }

func (p ClientsPage) head(label string, by Sort) Head {
	h := Head{Label: label}
	if by == "" {
		return h
	}
	next, now := by, p.Sort.or(sortImported)
	switch now { //nolint:exhaustive // other columns
	case by:
		h.Aria, next = "ascending", "-"+by
	case "-" + by:
		h.Aria = "descending"
	}
	h.URL = p.address(p.Filter, next)
	return h
}

// Chip is one condition of the filter, with the URL of the list without it.
type Chip struct {
	Words   string
	Without string
}

// Chips are the conditions of the filter.
func (p ClientsPage) Chips() []Chip {
	var chips []Chip
	add := func(words string, without func(*Filter)) {
		f := p.Filter
		without(&f)
		chips = append(chips, Chip{words, p.address(f, p.Sort)})
	}
	for _, field := range p.Filter.query() {
		switch value := field.Value; field.Name {
		case "q":
			add("“"+value+"”", func(f *Filter) { f.Q = "" })
		case "stage":
			add("Stage: "+Stage(value).Label(), func(f *Filter) { f.Stage = "" })
		case "reason":
			add("Stalled because: "+Reason(value).Label(), func(f *Filter) { f.Reason = "" })
		case "route":
			add("Route: "+label(value), func(f *Filter) { f.Route = "" })
		case "tag":
			add("Tag: "+value, func(f *Filter) { f.Tag = "" })
		case "import":
			add("Import: "+p.importName(value), func(f *Filter) { f.Import = "" })
		case "paused":
			add(map[bool]string{true: "Paused", false: "Not paused"}[value == "yes"], func(f *Filter) { f.Paused = "" })
		case "from":
			add("Changed from "+value, func(f *Filter) { f.From = "" })
		case "until":
			add("Changed until "+value, func(f *Filter) { f.Until = "" })
		}
	}
	return chips
}

func (p ClientsPage) importName(id string) string {
	for _, im := range p.Imports {
		if im.Name == id {
			return im.Value
		}
	}
	return id
}

// StageOptions are the choices of the filter, in the order of the walk.
func (ClientsPage) StageOptions() []Stage { return stages() }

// ReasonOptions are the choices of the filter.
func (ClientsPage) ReasonOptions() []Reason { return reasons() }

// RouteOptions are the choices of the filter.
func (ClientsPage) RouteOptions() []string { return routes() }

// SortOptions are the orders to choose from.
func (ClientsPage) SortOptions() []Sort { return Sorts() }

// AllColumns are those to choose from.
func (ClientsPage) AllColumns() []Column { return Columns() }

func routes() []string { return []string{"owner", "manager", "partner", "external"} }
