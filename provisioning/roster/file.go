package roster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// The bounds of a record. They keep the memory of an import constant; no spreadsheet program can write
// a cell or a row that reaches them.
const (
	maxCellBytes   = 1 << 20
	maxRecordBytes = 4 << 20
	maxColumns     = 1000
	sniffedBytes   = 1 << 20 // how much is looked at to tell the encoding
)

// textFile splits a roster file into records. It reads what spreadsheet programs write and what
// people write by hand, a little more than RFC 4180:
//
//	file   = *( record newline )              newline is CRLF, LF or CR; the last may lack
//	record = cell *( delimiter cell )
//	cell   = *SP DQUOTE *( any but DQUOTE / DQUOTE DQUOTE ) DQUOTE *SP
//	       / *( any but delimiter and newline )      whose DQUOTEs, not being at the start, are text
//
// A quote that breaks the rules costs one line, not the file: when a quoted cell is not closed, or
// something other than a delimiter follows its end, the line on which the record started is given as a
// fault and reading goes on with the next line. The lines up to the place of the fault are then read
// with distrust (see distrustTo), because a part of a broken record must never pass for a client.
//
// Each record is decoded for itself, so that a file put together from several encodings is not garbled:
// a record of valid UTF-8 is taken as that. Another is Windows-1252 if the file's beginning was so, else
// a fault.
type textFile struct {
	src  io.Reader
	buf  []byte
	pos  int // buf[pos:] is not yet split
	base int // offset of buf[0] in the file
	line int // of buf[pos]
	eof  bool

	delimiter   byte
	windows1252 bool
	encoding    string // in words

	// Records that start before the offset distrustTo must end on their line and be exact, that is have
	// no quotes outside quoted cells. The record that follows a fault must be exact.
	distrustTo int
	exact      bool

	text    []byte // the unquoted cells of the record being split, one after another
	ends    []int  // where each cell ends in text
	inexact bool   // the record has a quote outside quoted cells
}

// openSource tells what kind of file it is and opens it. It refuses, with a *Error, what is neither
// text nor a workbook.
func openSource(r io.Reader) (recordSource, error) {
	f := &textFile{src: r, line: 1, encoding: "UTF-8"}
	if err := f.lookAhead(); err != nil {
		return nil, err
	}
	if bytes.HasPrefix(f.buf, []byte("PK\x03\x04")) {
		w, err := openWorkbook(io.MultiReader(bytes.NewReader(f.buf), r))
		if err != nil {
			return nil, err
		}
		return w, nil
	}
	if message := notCSV(f.buf); message != "" {
		return nil, &Error{Code: FileNotCSV, Message: message}
	}
	switch order, marked := utf16Order(f.buf); {
	case bytes.HasPrefix(f.buf, []byte("\xef\xbb\xbf")):
		f.pos = len("\xef\xbb\xbf")
	case order != nil:
		policy := unicode.IgnoreBOM
		if marked {
			policy = unicode.ExpectBOM
		}
		decoder := unicode.UTF16(*order, policy).NewDecoder()
		f.src = transform.NewReader(io.MultiReader(bytes.NewReader(f.buf), r), decoder)
		f.buf, f.eof, f.encoding = nil, false, "UTF-16"
		if err := f.lookAhead(); err != nil {
			return nil, err
		}
	case looksWindows1252(f.buf, f.eof):
		f.windows1252, f.encoding = true, "Windows-1252"
	}
	return f, nil
}

// utf16Order tells by a byte order mark, or by where the zero bytes of its Latin letters stand, that a
// file is UTF-16, and its order; nil if it is something else.
func utf16Order(data []byte) (order *unicode.Endianness, marked bool) {
	little, big := unicode.LittleEndian, unicode.BigEndian
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		return &little, true
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		return &big, true
	}
	data = data[:min(len(data), 1024)&^1]
	var zeros [2]int
	for i, b := range data {
		if b == 0 {
			zeros[i%2]++
		}
	}
	switch { // A header has Latin letters and delimiters; a stray NUL is not yet UTF-16.
	case 4*zeros[1] > len(data) && zeros[0] == 0:
		return &little, false
	case 4*zeros[0] > len(data) && zeros[1] == 0:
		return &big, false
	}
	return nil, false
}

// notCSV names the format of a file that begins like one that people upload by mistake, and the cure.
func notCSV(data []byte) string {
	const export = ": open it in a spreadsheet program and save it as XLSX or as CSV (UTF-8)"
	begins := func(data []byte, with ...string) bool {
		return slices.ContainsFunc(with, func(w string) bool { return bytes.HasPrefix(data, []byte(w)) })
	}
	switch {
	case begins(data, "\xd0\xcf\x11\xe0") && bytes.Contains(data, []byte("E\x00n\x00c\x00r\x00y\x00p\x00t\x00e\x00d\x00")):
		return "the file is protected with a password: save it without one, as XLSX or as CSV (UTF-8)"
	case begins(data, "\xd0\xcf\x11\xe0"):
		return "the file is an Excel workbook of the old kind (XLS)" + export
	case begins(data, "\x1f\x8b", "7z\xbc\xaf", "Rar!", "BZh", "\xfd7zXZ", "\x28\xb5\x2f\xfd"):
		return archive
	case begins(data, "%PDF-"):
		return "the file is a PDF: export the list as CSV (UTF-8) from the program that made it"
	case begins(data, "\x89PNG", "\xff\xd8\xff", "GIF8"):
		return "the file is a picture: export the list as CSV (UTF-8) from the program that has it"
	case begins(data, "{\\rtf"):
		return "the file is a text document (RTF)" + export
	}
	text := bytes.ToLower(bytes.TrimSpace(bytes.TrimPrefix(data[:min(len(data), 512)], []byte("\xef\xbb\xbf"))))
	switch {
	case begins(text, "<!doctype", "<html", "<head", "<meta", "<table", "<style", "<body", "<?xml"):
		return "the file is a web page or XML, whatever its name says" + export
	case begins(text, "{", "[{", "[\n", "[\r"):
		return "the file is JSON: export the list as CSV (UTF-8)"
	case begins(text, "begin:vcard"):
		return "the file has contacts as vCards: export them as CSV"
	}
	return ""
}

const archive = "the file is an archive: unpack it and import the file in it"

// looksWindows1252 tells by the beginning of a file whether its bytes beyond ASCII are Windows-1252
// rather than UTF-8. A few broken bytes in much good UTF-8 do not make it so: those cells are lost.
func looksWindows1252(data []byte, whole bool) bool {
	sequences, invalid := 0, 0
	for len(data) > 0 {
		if data[0] < utf8.RuneSelf {
			data = data[1:]
			continue
		}
		r, size := utf8.DecodeRune(data)
		switch {
		case r != utf8.RuneError || size > 1:
			sequences++
		case whole || utf8.FullRune(data): // otherwise the beginning ends in the midst of a sequence
			invalid++
		}
		data = data[size:]
	}
	return invalid > sequences
}

// lookAhead fills the buffer with the beginning of the file, or all of it if it is short.
func (f *textFile) lookAhead() error {
	for !f.eof && len(f.buf) < sniffedBytes {
		if err := f.fill(); err != nil {
			return err
		}
	}
	return nil
}

// fill reads until the buffer is full or the file ends. What is not yet split moves to the front, and
// the buffer grows if that is all of it.
func (f *textFile) fill() error {
	if f.pos > 0 {
		f.base += f.pos
		f.buf = f.buf[:copy(f.buf, f.buf[f.pos:])]
		f.pos = 0
	} else if len(f.buf) == cap(f.buf) {
		f.buf = slices.Grow(f.buf, max(len(f.buf), 64<<10))
	}
	for !f.eof && len(f.buf) < cap(f.buf) {
		n, err := f.src.Read(f.buf[len(f.buf):cap(f.buf)])
		f.buf = f.buf[:len(f.buf)+n]
		if errors.Is(err, io.EOF) {
			f.eof = true
		} else if err != nil {
			return fmt.Errorf("read the roster file near line %d: %w", f.line, err)
		}
	}
	return nil
}

// header returns the next record, split with the delimiter that makes most sense of it.
func (f *textFile) header(recognised func(cells []string) int) (fileRecord, error) {
	if err := f.detectDelimiter(recognised); err != nil {
		return fileRecord{}, err
	}
	record, err := f.next()
	if err == nil && bytes.IndexByte(f.buf[:f.pos], 0) >= 0 {
		err = &Error{Code: FileNotCSV, Message: "the file is not text: export the list as CSV (UTF-8)"}
	}
	return record, err
}

func (f *textFile) format() string {
	delimiter := map[byte]string{',': "commas", ';': "semicolons", '\t': "tabs", '|': "bars"}[f.delimiter]
	return "text with " + delimiter + ", " + f.encoding
}

// Close does nothing: all that the file holds is memory.
func (f *textFile) Close() error { return nil }

// detectDelimiter looks at the next record, the header, and takes the delimiter that makes most sense of
// it: the one with which most cells are recognised, else the one that gives most cells. The line
// "sep=;", which Excel understands and hides, decides without that.
func (f *textFile) detectDelimiter(recognised func(cells []string) int) error {
	const delimiters = ",;\t|"
	if err := f.skipEmptyLines(); err != nil {
		return err
	}
	data := f.buf[f.pos:]
	line := bytes.TrimRight(data[:lineSize(data)], "\r\n")
	if len(line) == len("sep=;") && bytes.EqualFold(line[:4], []byte("sep=")) && strings.IndexByte(delimiters, line[4]) >= 0 {
		f.delimiter = line[4]
		return f.skipLine()
	}
	best, mostRecognised, mostCells := byte(','), -1, -1
	for _, delimiter := range []byte(delimiters) {
		f.delimiter = delimiter
		if _, outcome := f.split(data, f.eof); outcome != splitDone {
			continue
		}
		cells := f.cells()
		if n := recognised(cells); n > mostRecognised || n == mostRecognised && len(cells) > mostCells {
			best, mostRecognised, mostCells = delimiter, n, len(cells)
		}
	}
	f.delimiter = best
	return nil
}

// next returns the next record, or io.EOF after the last. Empty lines are skipped.
func (f *textFile) next() (fileRecord, error) {
	if err := f.skipEmptyLines(); err != nil {
		return fileRecord{}, err
	}
	var (
		data    []byte
		n       int
		outcome splitOutcome
	)
	distrusted := f.base+f.pos < f.distrustTo
	for {
		data = f.buf[f.pos:]
		final := f.eof
		if distrusted {
			if size := lineSize(data); size < len(data) {
				data, final = data[:size], true
			}
		}
		n, outcome = f.split(data, final)
		if outcome != splitShort {
			break
		}
		if len(data) > maxRecordBytes {
			outcome = splitTooLong
			break
		}
		if err := f.fill(); err != nil {
			return fileRecord{}, err
		}
	}

	record := fileRecord{line: f.line}
	switch {
	case outcome == splitDone && n > maxRecordBytes:
		record.code, record.fault = RejectRowTooLong, faultTooLong
		f.consume(n)
	case outcome == splitDone:
		record.cells = f.cells()
		f.consume(n)
		if f.inexact && (distrusted || f.exact) {
			record.code, record.fault = RejectBadQuotes, faultQuotes
		} else {
			f.exact = false
		}
	case outcome == splitTooLong && newlineIndex(data[:n]) < 0:
		record.code, record.fault = RejectRowTooLong, faultTooLong
		return record, f.skipLine()
	default: // A record that runs over lines until it is too long has a quote that is not closed.
		record.code, record.fault = RejectBadQuotes, faultQuotes
		record.cells = f.lineCells(data)
		f.exact = true
		f.distrustTo = max(f.distrustTo, f.base+f.pos+n)
		return record, f.skipLine()
	}
	return record, nil
}

const (
	faultQuotes = `The quotes do not match. Put the cell in quotes up to the next delimiter and double the quotes inside it ("").`
	// What maxCellBytes, maxRecordBytes and maxColumns say.
	faultTooLong = "The row is too long. Shorten it: a cell may have 1 MiB, a row 4 MiB and 1,000 columns."
)

type splitOutcome int

const (
	splitDone     splitOutcome = iota // the record is in text and ends
	splitShort                        // the data ends before the record does
	splitBadQuote                     // a quoted cell is not closed or goes on behind its end
	splitTooLong                      // a cell is too long, or there are too many
)

// split takes the record at the beginning of data apart. It returns the size of the record with its
// newline, or the offset at which it could not go on. Final says that nothing follows data.
func (f *textFile) split(data []byte, final bool) (n int, outcome splitOutcome) {
	f.text, f.ends, f.inexact = f.text[:0], f.ends[:0], false
	for i := 0; ; i++ { // once a cell; i stands before it
		start := len(f.text)
		if quote := len(data) - len(bytes.TrimLeft(data[i:], " ")); quote < len(data) && data[quote] == '"' {
			if i, outcome = f.splitQuoted(data, quote+1, final); outcome != splitDone {
				return i, outcome
			}
		} else {
			i = f.splitPlain(data, i)
		}
		if len(f.text)-start > maxCellBytes || len(f.ends) == maxColumns {
			return i, splitTooLong
		}
		f.ends = append(f.ends, len(f.text))
		switch {
		case i == len(data) && final:
			return i, splitDone
		case i == len(data), data[i] == '\r' && i+1 == len(data) && !final:
			return len(data), splitShort
		case data[i] != f.delimiter:
			return i + lineSize(data[i:]), splitDone
		}
	}
}

// splitPlain appends the cell at data[i:], which is not quoted, to text and returns its end.
func (f *textFile) splitPlain(data []byte, i int) (end int) {
	for end = i; end < len(data); end++ {
		switch data[end] {
		case f.delimiter, '\r', '\n':
			f.text = append(f.text, data[i:end]...)
			return end
		case '"':
			f.inexact = true
		}
	}
	f.text = append(f.text, data[i:]...)
	return end
}

// splitQuoted appends the cell whose opening quote stands before data[i] to text and returns the offset
// behind its closing quote and the spaces that follow.
func (f *textFile) splitQuoted(data []byte, i int, final bool) (end int, outcome splitOutcome) {
	for {
		quote := bytes.IndexByte(data[i:], '"')
		switch {
		case quote < 0 && final:
			return len(data), splitBadQuote
		case quote < 0:
			return len(data), splitShort
		}
		f.text = append(f.text, data[i:i+quote]...)
		i += quote + 1
		if i == len(data) || data[i] != '"' {
			break
		}
		f.text = append(f.text, '"')
		i++
	}
	for i < len(data) && data[i] == ' ' {
		i++
	}
	if i < len(data) && data[i] != f.delimiter && data[i] != '\r' && data[i] != '\n' {
		return i, splitBadQuote
	}
	return i, splitDone
}

// cells returns the cells of the record in text, decoded. What cannot be decoded becomes U+FFFD.
func (f *textFile) cells() []string {
	if !f.isUTF8() {
		f.decode()
	}
	text := string(f.text) // one allocation for all cells
	cells := make([]string, len(f.ends))
	start := 0
	for i, end := range f.ends {
		cells[i] = text[start:end]
		start = end
	}
	return cells
}

// isUTF8 looks at each cell: the end of one and the beginning of the next can be a sequence together.
func (f *textFile) isUTF8() bool {
	start := 0
	for _, end := range f.ends {
		if !utf8.Valid(f.text[start:end]) {
			return false
		}
		start = end
	}
	return true
}

func (f *textFile) decode() {
	decoded := make([]byte, 0, 2*len(f.text))
	start := 0
	for i, end := range f.ends {
		cell := f.text[start:end]
		if f.windows1252 {
			for _, b := range cell {
				decoded = utf8.AppendRune(decoded, charmap.Windows1252.DecodeByte(b))
			}
		} else {
			decoded = append(decoded, bytes.ToValidUTF8(cell, []byte("\uFFFD"))...)
		}
		f.ends[i], start = len(decoded), end
	}
	f.text = decoded
}

// lineCells returns the line at the beginning of data as cells, for a person to recognise; nil if the
// line is longer than what is buffered.
func (f *textFile) lineCells(data []byte) []string {
	end := newlineIndex(data)
	if end < 0 {
		if !f.eof {
			return nil
		}
		end = len(data)
	}
	f.text, f.ends = f.text[:0], f.ends[:0]
	for cell := range bytes.SplitSeq(data[:end], []byte{f.delimiter}) {
		f.text = append(f.text, cell...)
		f.ends = append(f.ends, len(f.text))
	}
	return f.cells()
}

// consume moves behind the next n bytes.
func (f *textFile) consume(n int) {
	data := f.buf[f.pos : f.pos+n]
	f.line += bytes.Count(data, []byte("\n"))
	if bytes.IndexByte(data, '\r') >= 0 {
		f.line += bytes.Count(data, []byte("\r")) - bytes.Count(data, []byte("\r\n"))
	}
	f.pos += n
}

// skipEmptyLines moves to the next line that is not empty, or returns io.EOF.
func (f *textFile) skipEmptyLines() error {
	for {
		data := f.buf[f.pos:]
		switch {
		case len(data) == 0 && f.eof:
			return io.EOF
		case len(data) == 0, len(data) == 1 && data[0] == '\r' && !f.eof:
			if err := f.fill(); err != nil {
				return err
			}
		case data[0] != '\r' && data[0] != '\n':
			return nil
		default:
			f.consume(lineSize(data))
		}
	}
}

// skipLine moves behind the next newline, however far it is.
func (f *textFile) skipLine() error {
	for {
		data := f.buf[f.pos:]
		end := newlineIndex(data)
		if end < 0 {
			end = len(data)
		}
		if f.eof || end+1 < len(data) || end < len(data) && data[end] == '\n' {
			f.consume(lineSize(data))
			return nil
		}
		f.pos += end // The newline, or the second half of it, is not in the buffer.
		if err := f.fill(); err != nil {
			return err
		}
	}
}

// newlineIndex returns the offset of the first newline in data, or -1.
func newlineIndex(data []byte) int { return bytes.IndexAny(data, "\r\n") }

// lineSize returns the size of the first line of data with its newline, if that is there.
func lineSize(data []byte) int {
	end := newlineIndex(data)
	switch {
	case end < 0:
		return len(data)
	case data[end] == '\r' && end+1 < len(data) && data[end+1] == '\n':
		return end + 2
	}
	return end + 1
}
