package roster

import (
	"io"
	"slices"
	"strings"
)

// Preview is the beginning of a roster file as it would be read, so that an operator can say what its
// columns mean before anything is imported.
type Preview struct {
	Format     string             `json:"format" doc:"what kind of file it is, in words"`
	Header     []string           `json:"header" doc:"the columns; one without a header, or with a repeated one, has its number"`
	Mapping    map[Field]string   `json:"mapping" doc:"the column of each field, one of the header or two with \" + \" between them; a file is imported with this as its map"`
	Missing    []Field            `json:"missing" doc:"required fields without a column"`
	Duplicates map[Field][]string `json:"duplicates" doc:"fields for which the file has several columns: choose one"`
	Rows       [][]string         `json:"rows" doc:"the first records, long cells cut short"`
}

// previewRows is how many records a Preview has, and how many are read to make sense of a header.
const previewRows = 10

// ReadPreview reads the beginning of a roster file. Columns that are missing or doubled are told in the
// Preview; other mistakes because of which no row could be read are a *Error.
func ReadPreview(r io.Reader, o Options) (Preview, error) {
	reader, gaps, err := openReader(r, o)
	if err != nil {
		return Preview{}, err
	}
	defer reader.Close() //nolint:errcheck // Nothing was written that could be lost.
	p := Preview{
		Format: reader.source.format(), Header: make([]string, len(reader.columns)), Mapping: reader.Mapping(),
		Missing: gaps.missing, Duplicates: gaps.duplicates, Rows: [][]string{},
	}
	if p.Missing == nil {
		p.Missing = []Field{}
	}
	for i, c := range reader.columns {
		p.Header[i] = c.label
	}
	for _, record := range reader.ahead {
		if isBlank(record.cells) {
			continue
		}
		cells := make([]string, len(record.cells))
		for i, cell := range record.cells {
			cells[i] = abbreviate(restoreFormula(cell))
		}
		p.Rows = append(p.Rows, cells)
	}
	return p, nil
}

// Choices lists the columns that a field can have: all but those that Countersign itself wrote into an
// export or a file of rejects.
func (p Preview) Choices() []string {
	own := ownColumns(p.Header)
	return slices.DeleteFunc(slices.Clone(p.Header), func(column string) bool { return slices.Contains(own, column) })
}

// Kept lists the columns that no field has and that are kept with the client.
func (p Preview) Kept() []string {
	return slices.DeleteFunc(p.Choices(), func(column string) bool { return p.Field(column) != "" })
}

// Field returns the field that a column gives, alone or with another, or nothing.
func (p Preview) Field(column string) Field {
	for _, field := range Fields() {
		if p.Mapping[field] == column {
			return field
		}
	}
	if owner := p.Mapping[FieldOwnerName]; !slices.Contains(p.Header, owner) {
		if given, family, two := strings.Cut(owner, joinedColumns); two && (column == given || column == family) {
			return FieldOwnerName
		}
	}
	return ""
}
