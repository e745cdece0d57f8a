package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/countersign/countersign/templates"
)

// shownDepth is how deep the reference looks into a body.
const shownDepth = 3

// reference makes a page of the API's document.
func (s *Server) reference(doc *huma.OpenAPI) templates.ReferencePage {
	page := templates.ReferencePage{Address: s.PublicURL + apiPath, Document: apiPath + "/openapi.json"}
	sections := map[string]int{}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		name = strings.TrimSuffix(name, ".csv")
		if _, ok := sections[name]; !ok {
			sections[name] = len(page.Sections)
			page.Sections = append(page.Sections, templates.ReferenceSection{Name: name})
		}
		section := &page.Sections[sections[name]]
		item := doc.Paths[path]
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op != nil {
				section.Operations = append(section.Operations, referenceOperation(doc, page.Address, path, op))
			}
		}
	}
	for _, c := range problemCodes() {
		if c.status != statusClientClosed { // nobody is there to read it
			page.Codes = append(page.Codes, templates.ReferenceCode{Code: c.code, Status: c.status, Meaning: c.meaning})
		}
	}
	return page
}

func referenceOperation(doc *huma.OpenAPI, address, path string, op *huma.Operation) templates.ReferenceOperation {
	o := templates.ReferenceOperation{
		ID: op.OperationID, Method: op.Method, Path: path, Summary: op.Summary, Description: op.Description,
	}
	for _, p := range op.Parameters {
		o.Parameters = append(o.Parameters, templates.ReferenceField{
			Name: p.Name, In: p.In, Type: inWords(doc, p.Schema), Required: p.Required, About: p.Description,
		})
	}
	var body *huma.Schema
	if op.RequestBody != nil {
		o.Media = slices.Sorted(maps.Keys(op.RequestBody.Content))
		for _, media := range o.Media {
			if content := op.RequestBody.Content[media]; strings.HasSuffix(media, "json") {
				body = content.Schema
			}
		}
		o.Body = fieldsOf(doc, body, "", shownDepth)
	}
	for status, answer := range op.Responses {
		if !strings.HasPrefix(status, "2") || o.Status != "" && status > o.Status {
			continue
		}
		o.Status = status
		for _, content := range answer.Content {
			o.Answer = fieldsOf(doc, content.Schema, "", shownDepth)
			if len(o.Answer) == 0 {
				o.Answer = []templates.ReferenceField{{Name: "file", Type: inWords(doc, content.Schema)}}
			}
		}
	}
	o.Curl = curlOf(doc, address, path, op, body)
	return o
}

// resolved follows a reference.
func resolved(doc *huma.OpenAPI, schema *huma.Schema) *huma.Schema {
	if schema != nil && schema.Ref != "" {
		return doc.Components.Schemas.SchemaFromRef(schema.Ref)
	}
	return schema
}

// fieldsOf lists what an object has, and what is in that, as deep as told.
func fieldsOf(doc *huma.OpenAPI, schema *huma.Schema, prefix string, depth int) []templates.ReferenceField {
	schema = resolved(doc, schema)
	if schema == nil || depth == 0 {
		return nil
	}
	if schema.Items != nil {
		return fieldsOf(doc, schema.Items, prefix+"[]", depth)
	}
	var fields []templates.ReferenceField
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		property := schema.Properties[name]
		full := strings.TrimPrefix(prefix+"."+name, ".")
		fields = append(fields, templates.ReferenceField{
			Name: full, Type: inWords(doc, property), Required: slices.Contains(schema.Required, name),
			About: cmp.Or(property.Description, resolved(doc, property).Description),
		})
		fields = append(fields, fieldsOf(doc, property, full, depth-1)...)
	}
	return fields
}

// inWords says what a value is.
func inWords(doc *huma.OpenAPI, schema *huma.Schema) string {
	schema = resolved(doc, schema)
	if schema == nil {
		return ""
	}
	words := cmp.Or(schema.Format, schema.Type)
	switch {
	case len(schema.Enum) > 0:
		choices := make([]string, len(schema.Enum))
		for i, choice := range schema.Enum {
			choices[i] = fmt.Sprint(choice)
		}
		words = strings.Join(choices, " | ")
	case schema.Type == huma.TypeArray:
		words = "list of " + inWords(doc, schema.Items)
	case schema.Type == huma.TypeInteger || schema.Type == huma.TypeNumber || schema.Type == "":
		words = cmp.Or(schema.Type, "any value")
	case schema.Format == "date-time":
		words = "time"
	}
	if schema.Default != nil {
		words += fmt.Sprintf(", %v by default", schema.Default)
	}
	if schema.Nullable {
		words += " or null"
	}
	return words
}

// curlOf writes a request that does the operation, with what it must have.
func curlOf(doc *huma.OpenAPI, address, path string, op *huma.Operation, body *huma.Schema) string {
	lines := []string{"curl"}
	if op.Method != http.MethodGet {
		lines[0] += " -X " + op.Method
	}
	lines[0] += " " + strconv.Quote(address+path)
	lines = append(lines, `-H "Authorization: Bearer $KEY"`)
	if op.Method == http.MethodPost {
		lines = append(lines, `-H "Idempotency-Key: $(uuidgen)"`)
	}
	switch {
	case op.RequestBody == nil:
	case body == nil:
		lines = append(lines, `-H "Content-Type: text/csv"`, "--data-binary @roster.csv")
	default:
		example, err := json.Marshal(exampleOf(doc, body))
		if err != nil {
			example = []byte("{}")
		}
		lines = append(lines, `-H "Content-Type: application/json"`, "-d '"+string(example)+"'")
	}
	return strings.Join(lines, " \\\n  ")
}

// exampleOf makes a value of a schema: an object has what it must have.
func exampleOf(doc *huma.OpenAPI, schema *huma.Schema) any {
	schema = resolved(doc, schema)
	switch {
	case schema == nil:
		return nil
	case len(schema.Enum) > 0:
		return schema.Enum[0]
	}
	switch schema.Type {
	case huma.TypeObject:
		object := map[string]any{}
		for _, name := range schema.Required {
			object[name] = exampleOf(doc, schema.Properties[name])
		}
		return object
	case huma.TypeArray:
		return []any{exampleOf(doc, schema.Items)}
	case huma.TypeBoolean:
		return true
	case huma.TypeInteger, huma.TypeNumber:
		return 1
	}
	return "…"
}
