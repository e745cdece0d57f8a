package provisioning

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
)

// Field is what a column of a roster file means to us.
type Field string

// The fields of a roster file. A file must have a column for FieldName and for FieldOwnerEmail; the
// others are optional.
const (
	FieldName       Field = "name"
	FieldOwnerEmail Field = "owner_email"
	FieldRef        Field = "ref"
	FieldOwnerName  Field = "owner_name"
	FieldAccountID  Field = "account_id"
	FieldRoute      Field = "route"
	FieldSiteURL    Field = "site_url"
	FieldLocale     Field = "locale"
	FieldTimeZone   Field = "time_zone"
	FieldTags       Field = "tags"
)

// Fields lists every field, the required ones first.
func Fields() []Field {
	return []Field{
		FieldName, FieldOwnerEmail, FieldRef, FieldOwnerName, FieldAccountID,
		FieldRoute, FieldSiteURL, FieldLocale, FieldTimeZone, FieldTags,
	}
}

// Row is one client as a roster file gives it, checked and in canonical form. Its text is in Unicode's
// normal form C, without invisible characters and superfluous white space, and has no control
// characters.
type Row struct {
	Line       int    // line of the file on which the record starts
	Name       string // 1 to 200 characters
	OwnerEmail string // the domain in lower-case ASCII, the local part as typed
	Ref        string
	OwnerName  string
	AccountID  string
	Route      string // a Route, or empty if the file does not say
	SiteURL    string
	Locale     string // BCP 47
	TimeZone   string // IANA
	Tags       []string
	Extra      map[string]string // what is not blank in the other columns, by header, as in the file; nil if nothing
	Record     []string          // the cells as in the file, but for what NeutralizeFormula did to them
}

// RejectCode says to a program why a row was not taken. A code never changes its meaning.
type RejectCode string

// The codes with which a RosterReader rejects a record.
const (
	RejectNameMissing      RejectCode = "name_missing"
	RejectNameTooLong      RejectCode = "name_too_long" // the owner's name as well
	RejectEmailMissing     RejectCode = "email_missing"
	RejectEmailInvalid     RejectCode = "email_invalid"
	RejectControlCharacter RejectCode = "control_character"
	RejectRouteUnknown     RejectCode = "route_unknown"
	RejectAccountIDInvalid RejectCode = "account_id_invalid"
	RejectRefTooLong       RejectCode = "ref_too_long"
	RejectURLInvalid       RejectCode = "url_invalid"
	RejectLocaleInvalid    RejectCode = "locale_invalid"
	RejectTimeZoneInvalid  RejectCode = "time_zone_invalid"
	RejectTagsInvalid      RejectCode = "tags_invalid"
	RejectTooManyColumns   RejectCode = "too_many_columns" // text to the right of the last header
	RejectBadQuotes        RejectCode = "bad_quotes"
	RejectBadEncoding      RejectCode = "bad_encoding"
	RejectRowTooLong       RejectCode = "row_too_long"
)

// The codes with which the import rejects a row that is right in itself, but not beside the other rows of
// the file or the clients of the roster.
const (
	RejectDuplicateRow        RejectCode = "duplicate_row"
	RejectDuplicateAccountID  RejectCode = "duplicate_account_id"
	RejectAccountIDAuthorized RejectCode = "account_id_authorized"
	RejectRefConflict         RejectCode = "ref_conflict"
)

// Reject is a record that did not become a Row.
type Reject struct {
	Line    int        `json:"line" doc:"line of the file on which the record starts"`
	Column  string     `json:"column" doc:"header of the first mistake, in the order of the columns; empty if it is the whole record"`
	Code    RejectCode `json:"code" doc:"of the first mistake"`
	Message string     `json:"message" doc:"all mistakes, each with its cure"`
	Record  []string   `json:"-"` // as in Row; nil if the record could not be taken apart
}

// RosterErrorCode says to a program why a file was not taken.
type RosterErrorCode string

// The codes of a RosterError.
const (
	RosterEmpty           RosterErrorCode = "file_empty"
	RosterNotCSV          RosterErrorCode = "file_not_csv" // a workbook, an archive, a web page…
	RosterHeaderMissing   RosterErrorCode = "header_missing"
	RosterHeaderInvalid   RosterErrorCode = "header_invalid"
	RosterColumnMissing   RosterErrorCode = "column_missing"
	RosterColumnDuplicate RosterErrorCode = "column_duplicate"
	RosterMapInvalid      RosterErrorCode = "map_invalid"
)

// RosterError is a mistake because of which no row of a file can be read.
type RosterError struct {
	Code    RosterErrorCode
	Message string // what is wrong, and the cure
}

func (e *RosterError) Error() string { return e.Message }

// RosterOptions is what an operator may say about a file.
type RosterOptions struct {
	// Map gives fields the columns with these headers (`--map field=column`) instead of those that would
	// be recognised. An empty header leaves the field without a column.
	Map map[Field]string
}

// RosterReader reads a roster file row by row, in constant memory: any file of UTF-8, UTF-16 or
// Windows-1252 text with commas, semicolons, tabs or bars between the cells (see rosterFile), whose
// header names the columns (see Field.synonyms).
type RosterReader struct {
	file      *rosterFile
	header    []string
	columns   []rosterColumn
	locales   memo
	timeZones memo
}

// NewRosterReader reads the header of a roster file. It returns a *RosterError if the file cannot be a
// roster, and other errors only from r.
func NewRosterReader(r io.Reader, o RosterOptions) (*RosterReader, error) {
	file, err := openRosterFile(r)
	if err != nil {
		return nil, err
	}
	header, err := readHeader(file, o)
	if err != nil {
		return nil, err
	}
	columns, err := rosterColumns(header, o.Map)
	if err != nil {
		return nil, err
	}
	return &RosterReader{file: file, header: header, columns: columns, locales: memo{}, timeZones: memo{}}, nil
}

// readHeader returns the first record that is not blank, without the empty cells at its end.
func readHeader(file *rosterFile, o RosterOptions) (header []string, err error) {
	for len(header) == 0 {
		err := file.detectDelimiter(func(cells []string) int { return recognisedHeaders(cells, o.Map) })
		var record rosterRecord
		if err == nil {
			record, err = file.next()
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil, &RosterError{Code: RosterEmpty, Message: "the file is empty:" +
				" it needs a header that names the columns, such as name,owner_email, and one line for each client"}
		case err != nil:
			return nil, err
		case bytes.IndexByte(file.buf[:file.pos], 0) >= 0:
			return nil, &RosterError{Code: RosterNotCSV, Message: "the file is not text, or UTF-16 without a byte order mark:" +
				" export the list as CSV (UTF-8)"}
		case record.code != "":
			return nil, &RosterError{Code: RosterHeaderInvalid, Message: "the header cannot be read: " + record.fault}
		}
		for _, cell := range record.cells {
			if cell, err = cleanText(restoreFormula(cell), true); err != nil {
				return nil, &RosterError{Code: RosterHeaderInvalid, Message: "the header cannot be read: " + err.Error()}
			}
			header = append(header, cell)
		}
		for len(header) > 0 && header[len(header)-1] == "" {
			header = header[:len(header)-1]
		}
	}
	return header, nil
}

// Header returns the headers of the file.
func (r *RosterReader) Header() []string { return slices.Clone(r.header) }

// Mapping returns the header of the column that gives each field. A field without a column is absent.
func (r *RosterReader) Mapping() map[Field]string {
	mapping := make(map[Field]string)
	for _, c := range r.columns {
		if c.field != "" {
			mapping[c.field] = c.header
		}
	}
	return mapping
}

// Next returns the next client, or the reject of the next record, or an error: io.EOF after the last
// record, any other from the reader of the file. Every record that is not blank gives either a client or
// a reject.
func (r *RosterReader) Next() (Row, *Reject, error) {
	for {
		record, err := r.file.next()
		if err != nil {
			return Row{}, nil, err
		}
		for i, cell := range record.cells {
			record.cells[i] = restoreFormula(cell)
		}
		if record.code != "" {
			return Row{}, &Reject{Line: record.line, Code: record.code, Message: record.fault, Record: storable(record.cells)}, nil
		}
		if isBlank(record.cells) {
			continue
		}
		row, reject := r.parse(record)
		return row, reject, nil
	}
}

// parse makes a client of the cells of a record.
func (r *RosterReader) parse(record rosterRecord) (Row, *Reject) {
	row := Row{Line: record.line, Record: record.cells}
	reject := Reject{Line: record.line}
	fail := func(column string, err error) {
		if reject.Code == "" {
			reject.Column, reject.Message = column, err.Error()
			reject.Code = RejectControlCharacter
			if m, ok := errors.AsType[*mistake](err); ok {
				reject.Code = m.code
			}
			return
		}
		reject.Message += " " + column + ": " + err.Error()
	}
	for i, column := range r.columns {
		cell := ""
		if i < len(record.cells) {
			cell = record.cells[i]
		}
		if err := r.parseCell(&row, column, cell); err != nil {
			fail(column.header, err)
		}
	}
	for i := len(r.columns); i < len(record.cells); i++ {
		if strings.TrimSpace(record.cells[i]) != "" {
			fail(unnamedColumn(i), mistaken(RejectTooManyColumns, "The row has %d cells, the header %d. Put the cells that contain the delimiter"+
				" in quotes, or name every column.", len(record.cells), len(r.columns)))
			break
		}
	}
	if reject.Code != "" {
		reject.Record = storable(record.cells)
		return Row{}, &reject
	}
	return row, nil
}

// parseCell puts the value of one cell into the row.
func (r *RosterReader) parseCell(row *Row, column rosterColumn, cell string) (err error) {
	if column.field == "" {
		if err := checkExtra(cell); err != nil {
			return err
		}
		if !column.own && strings.TrimSpace(cell) != "" {
			if row.Extra == nil {
				row.Extra = make(map[string]string)
			}
			row.Extra[column.header] = cell
		}
		return nil
	}
	text, err := cleanText(cell, column.field == FieldName || column.field == FieldOwnerName)
	if err != nil {
		return err
	}
	switch column.field {
	case FieldName:
		row.Name, err = parseName(text)
	case FieldOwnerEmail:
		row.OwnerEmail, err = parseOwnerEmail(text)
	case FieldRef:
		row.Ref, err = parseRef(text)
	case FieldOwnerName:
		row.OwnerName, err = parseOwnerName(text)
	case FieldAccountID:
		row.AccountID, err = parseAccountID(text)
	case FieldRoute:
		row.Route, err = parseRouteWord(text)
	case FieldSiteURL:
		row.SiteURL, err = parseSiteURL(text)
	case FieldLocale:
		row.Locale, err = r.locales.parse(text, parseLocale)
	case FieldTimeZone:
		row.TimeZone, err = r.timeZones.parse(text, parseTimeZone)
	case FieldTags:
		row.Tags, err = parseTags(text)
	}
	return err
}

// memo keeps the results of a slow parse function: a roster has few locales and time zones.
type memo map[string]memoResult

type memoResult struct {
	value string
	err   error
}

func (m memo) parse(s string, parse func(string) (string, error)) (string, error) {
	if s == "" {
		return "", nil
	}
	result, ok := m[s]
	if !ok {
		if len(m) == 1000 { // a column that holds something else
			clear(m)
		}
		result.value, result.err = parse(s)
		m[strings.Clone(s)] = result
	}
	return result.value, result.err
}

func isBlank(cells []string) bool {
	return !slices.ContainsFunc(cells, func(cell string) bool { return strings.TrimSpace(cell) != "" })
}

// storable replaces the one character that no text column of a database takes.
func storable(cells []string) []string {
	for i, cell := range cells {
		cells[i] = strings.ReplaceAll(cell, "\x00", "\uFFFD")
	}
	return cells
}
