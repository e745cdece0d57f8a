package templates

import "net/http"

// ReferencePage tells programmers what the API does, /api/v1: it is made of the document that programs read.
type ReferencePage struct {
	Address  string // of the API
	Document string // path of the document
	Sections []ReferenceSection
	Codes    []ReferenceCode
}

// Title names the page.
func (ReferencePage) Title() string { return "API" }

// Status is 200.
func (ReferencePage) Status() int { return http.StatusOK }

func (ReferencePage) frame() string { return "reference" }

// ReferenceSection is the operations on one kind of thing.
type ReferenceSection struct {
	Name       string // the first word of their paths
	Operations []ReferenceOperation
}

// ReferenceOperation is a method at a path.
type ReferenceOperation struct {
	ID          string
	Method      string
	Path        string
	Summary     string
	Description string
	Parameters  []ReferenceField
	Media       []string // types that the body may have
	Body        []ReferenceField
	Status      string // of success
	Answer      []ReferenceField
	Curl        string
}

// ReferenceField is a parameter, or a value in a body or an answer, at any depth.
type ReferenceField struct {
	Name     string // such as "clients[].name"
	In       string // of a parameter: path, query or header
	Type     string // in words
	Required bool
	About    string
}

// ReferenceCode is why a request is refused.
type ReferenceCode struct {
	Code    string
	Status  int
	Meaning string
}
