package roster

import (
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
	Warnings   []Warning         // what a person should look at although the row was taken; mostly nil
}

// RejectCode says to a program why a row was not taken. A code never changes its meaning.
type RejectCode string

// The codes with which a Reader rejects a record.
const (
	RejectNameMissing      RejectCode = "name_missing"
	RejectNameTooLong      RejectCode = "name_too_long" // the owner's name as well
	RejectEmailMissing     RejectCode = "email_missing"
	RejectEmailInvalid     RejectCode = "email_invalid"
	RejectControlCharacter RejectCode = "control_character"
	RejectFormulaError     RejectCode = "formula_error" // #N/A and the like
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

// RejectEmailUndeliverable is the code with which the import rejects a row whose owner cannot get mail:
// see MailDomains.
const RejectEmailUndeliverable RejectCode = "email_undeliverable"

// Reject is a record that did not become a Row.
type Reject struct {
	Line    int        `json:"line" doc:"line of the file on which the record starts"`
	Column  string     `json:"column" doc:"header of the first mistake, in the order of the columns; empty if it is the whole record"`
	Code    RejectCode `json:"code" doc:"of the first mistake"`
	Message string     `json:"message" doc:"all mistakes, each with its cure"`
	Record  []string   `json:"-"` // as in Row; nil if the record could not be taken apart
}

// ErrorCode says to a program why a file was not taken.
type ErrorCode string

// The codes of a Error.
const (
	FileEmpty       ErrorCode = "file_empty"
	FileNotCSV      ErrorCode = "file_not_csv" // nor XLSX: an archive, a web page…
	FileDamaged     ErrorCode = "file_damaged"
	FileTooLarge    ErrorCode = "file_too_large"
	HeaderMissing   ErrorCode = "header_missing"
	HeaderInvalid   ErrorCode = "header_invalid"
	ColumnMissing   ErrorCode = "column_missing"
	ColumnDuplicate ErrorCode = "column_duplicate"
	MapInvalid      ErrorCode = "map_invalid"
)

// Error is a mistake because of which no row of a file can be read.
type Error struct {
	Code    ErrorCode
	Message string // what is wrong, and the cure
}

func (e *Error) Error() string { return e.Message }

// Options is what an operator may say about a file.
type Options struct {
	// Map gives fields the columns with these headers (`--map field=column`) instead of those that would
	// be recognised. An empty header leaves the field without a column. FieldOwnerName can have two
	// columns: "First name + Last name".
	Map map[Field]string
	// Agency is the address of the agency's own mailbox, about which a row is warned; empty if there is none.
	Agency string
}

// Reader reads a roster file row by row, in constant memory: any file of UTF-8, UTF-16 or
// Windows-1252 text with commas, semicolons, tabs or bars between the cells (see textFile), or an Excel
// workbook (see workbook), whose header names the columns (see Field.synonyms).
type Reader struct {
	source    recordSource
	header    []string
	columns   []headerColumn
	agency    string
	providers mailProviders
	locales   memo
	timeZones memo

	verdict int          // the column with the code of an earlier reject, or -1
	ahead   []fileRecord // read already, to make sense of the header
	err     error        // comes after ahead
}

// recordSource is a file that is taken apart into records of cells.
type recordSource interface {
	// header returns the next record as one that may be the header. Recognised counts the cells that
	// would be columns of ours. Its errors are those of next and a *Error.
	header(recognised func(cells []string) int) (fileRecord, error)
	// next returns the next record, or io.EOF after the last. Lines rise.
	next() (fileRecord, error)
	// format says in words what kind of file it is.
	format() string
	io.Closer
}

// fileRecord is one record of a roster file as text: cells, or what is wrong with it.
type fileRecord struct {
	line  int
	cells []string
	code  RejectCode // empty if the record is sound
	fault string     // what is wrong and the cure
}

// NewReader reads the header of a roster file. It returns a *Error if the file cannot be a
// roster, and other errors only from r and from the temporary file that a workbook needs. The reader must
// be closed.
func NewReader(r io.Reader, o Options) (*Reader, error) {
	reader, gaps, err := openReader(r, o)
	if err != nil {
		return nil, err
	}
	if err := gaps.err(reader.header); err != nil {
		return nil, errors.Join(err, reader.Close())
	}
	return reader, nil
}

// openReader makes a reader even if columns are missing.
func openReader(r io.Reader, o Options) (*Reader, headerGaps, error) {
	source, err := openSource(r)
	if err != nil {
		return nil, headerGaps{}, err
	}
	reader := &Reader{
		source: source, agency: o.Agency, providers: newMailProviders(), locales: memo{}, timeZones: memo{},
	}
	gaps, err := reader.readHeader(o)
	if err != nil {
		return nil, headerGaps{}, errors.Join(err, source.Close())
	}
	return reader, gaps, nil
}

// readHeader takes the first record that is not blank for the header, without the empty cells at its end.
func (r *Reader) readHeader(o Options) (gaps headerGaps, err error) {
	for len(r.header) == 0 {
		record, err := r.source.header(func(cells []string) int { return recognisedHeaders(cells, o.Map) })
		switch {
		case errors.Is(err, io.EOF):
			return gaps, &Error{Code: FileEmpty, Message: "the file is empty:" +
				" it needs a header that names the columns, such as name,owner_email, and one line for each client"}
		case err != nil:
			return gaps, err
		case record.code != "":
			return gaps, &Error{Code: HeaderInvalid, Message: "the header cannot be read: " + record.fault}
		}
		for _, cell := range record.cells {
			if cell, err = CleanText(restoreFormula(cell), true); err != nil {
				return gaps, &Error{Code: HeaderInvalid, Message: "the header cannot be read: " + err.Error()}
			}
			r.header = append(r.header, cell)
		}
		for len(r.header) > 0 && r.header[len(r.header)-1] == "" {
			r.header = r.header[:len(r.header)-1]
		}
	}
	r.lookAhead()
	r.columns, gaps, err = headerColumns(r.header, r.ahead, o.Map)
	r.verdict = slices.IndexFunc(r.columns, func(c headerColumn) bool { return c.own && c.header == RejectColumns()[0] })
	return gaps, err
}

// lookAhead reads the first records.
func (r *Reader) lookAhead() {
	size := 0
	for len(r.ahead) < previewRows && size < maxRecordBytes && r.err == nil {
		var record fileRecord
		if record, r.err = r.source.next(); r.err == nil {
			r.ahead = append(r.ahead, record)
			for _, cell := range record.cells {
				size += len(cell)
			}
		}
	}
}

// Close releases what the reader holds, but not the file that it reads.
func (r *Reader) Close() error { return r.source.Close() }

// Header returns the headers of the file.
func (r *Reader) Header() []string { return slices.Clone(r.header) }

// Mapping returns the header of the column that gives each field, so that Options.Map takes it. A
// field without a column is absent. An owner's name out of two columns is "First name + Last name", given
// name first; a header that the file repeats has its number: "Email (2)".
func (r *Reader) Mapping() map[Field]string {
	mapping := make(map[Field]string)
	given, family := "", ""
	for _, c := range r.columns {
		switch {
		case c.part == givenName:
			given = c.label
		case c.part == familyName:
			family = c.label
		case c.field != "":
			mapping[c.field] = c.label
		}
	}
	if family != "" {
		mapping[FieldOwnerName] = given + joinedColumns + family
	}
	return mapping
}

// Next returns the next client, or the reject of the next record, or an error: io.EOF after the last
// record, a *Error if the rest of a workbook is damaged, any other from the reader of the file.
// Every record that is not blank gives either a client or a reject.
func (r *Reader) Next() (Row, *Reject, error) {
	for {
		record, err := r.nextRecord()
		if err != nil {
			return Row{}, nil, err
		}
		for i, cell := range record.cells {
			record.cells[i] = restoreFormula(cell)
		}
		if record.code == "" && isBlank(record.cells) {
			continue
		}
		if record.code == "" && r.verdict >= 0 {
			r.judgeAgain(&record)
		}
		if record.code != "" {
			return Row{}, &Reject{Line: record.line, Code: record.code, Message: record.fault, Record: storable(record.cells)}, nil
		}
		row, reject := r.parse(record)
		return row, reject, nil
	}
}

func (r *Reader) nextRecord() (fileRecord, error) {
	switch {
	case len(r.ahead) > 0:
		record := r.ahead[0]
		r.ahead = r.ahead[1:]
		return record, nil
	case r.err != nil:
		return fileRecord{}, r.err
	}
	return r.source.next()
}

// judgeAgain keeps a record rejected that comes back in a file of rejects as it was: there it stands with
// sound quotes, so that nothing else would tell that its cells are only the pieces of a broken line.
func (r *Reader) judgeAgain(record *fileRecord) {
	if r.verdict >= len(record.cells) {
		return
	}
	given := func(i int) bool { return i >= len(r.columns) || !r.columns[i].own }
	switch RejectCode(strings.TrimSpace(record.cells[r.verdict])) {
	case RejectBadQuotes:
		for i, cell := range record.cells {
			if given(i) && strings.Contains(cell, `"`) {
				record.code, record.fault = RejectBadQuotes, faultQuotes+
					" The cells are the pieces of a line whose quotes did not match. Correct them and empty the cell under "+
					r.columns[r.verdict].header+"."
				return
			}
		}
	case RejectRowTooLong:
		for i, cell := range record.cells {
			if given(i) && strings.TrimSpace(cell) != "" {
				return
			}
		}
		record.code, record.fault = RejectRowTooLong, faultTooLong
	default: // Every other mistake is seen in the cells themselves.
	}
}

// parse makes a client of the cells of a record.
func (r *Reader) parse(record fileRecord) (Row, *Reject) {
	row := Row{Line: record.line, Record: record.cells}
	var reject *Reject
	fail := func(column string, err error) {
		if reject == nil {
			reject = &Reject{Line: record.line, Column: column, Code: RejectControlCharacter, Message: err.Error()}
			if m, ok := errors.AsType[*mistake](err); ok {
				reject.Code = m.code
			}
			return
		}
		reject.Message += " " + column + ": " + err.Error()
	}
	var given, family string
	for i := range r.columns {
		column := &r.columns[i]
		cell := ""
		if i < len(record.cells) {
			cell = record.cells[i]
		}
		var err error
		switch column.part {
		case wholeName:
			err = r.parseCell(&row, column, cell)
		case givenName:
			given, err = cleanCell(cell, true)
		case familyName:
			family, err = cleanCell(cell, true)
		}
		if err == nil && column.field == FieldOwnerName && column.part != wholeName {
			row.OwnerName, err = parseOwnerName(strings.TrimSpace(given + " " + family))
		}
		if err != nil {
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
	if reject != nil {
		reject.Record = storable(record.cells)
		return Row{}, reject
	}
	return row, nil
}

// parseCell puts the value of one cell into the row.
func (r *Reader) parseCell(row *Row, column *headerColumn, cell string) (err error) {
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
	text, err := cleanCell(cell, column.field == FieldName || column.field == FieldOwnerName)
	if err != nil {
		return err
	}
	switch column.field {
	case FieldName:
		row.Name, err = parseName(text)
	case FieldOwnerEmail:
		row.OwnerEmail, err = parseOwnerEmail(text)
		if err == nil {
			r.warnOfAddress(row, column.label)
		}
	case FieldRef:
		row.Ref, err = parseRef(text)
		if err == nil && isRounded(text) {
			row.warn(column.label, WarningRefRounded, "%s is a long number of which the spreadsheet program has kept only the"+
				" first digits. Format the column as text, fill it in again and save the file anew.", quote(text))
		}
	case FieldOwnerName:
		row.OwnerName, err = parseOwnerName(text)
	case FieldAccountID:
		row.AccountID, err = parseAccountID(text)
	case FieldRoute:
		row.Route, err = parseRoute(text)
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
