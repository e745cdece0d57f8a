package roster

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// sheet reads the rows of a worksheet of a workbook.
type sheet struct {
	body    io.ReadCloser
	in      *boundedXML
	texts   *sharedTexts
	formats []cellFormat
	line    int // of the last row
	ended   bool

	text []byte // the cells of the row, one after another
	ends []int  // where each ends in text
}

func newSheet(body io.ReadCloser, texts *sharedTexts, formats []cellFormat) *sheet {
	return &sheet{body: body, in: newBoundedXML(body), texts: texts, formats: formats}
}

// next returns the next row, or io.EOF after the last. Its line is the row's number in the sheet.
func (s *sheet) next() (fileRecord, error) {
	for !s.ended {
		token, err := s.in.token()
		switch {
		case errors.Is(err, io.EOF):
			return fileRecord{}, io.ErrUnexpectedEOF
		case err != nil:
			return fileRecord{}, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Local == "row" {
				return s.row(t)
			}
		case xml.EndElement:
			s.ended = t.Name.Local == "sheetData"
		}
	}
	// What follows is of no interest, but only at its end the checksum tells whether all is well.
	if _, err := io.Copy(io.Discard, s.body); err != nil {
		return fileRecord{}, err
	}
	return fileRecord{}, io.EOF
}

// row reads the cells up to the end of the row.
func (s *sheet) row(start xml.StartElement) (fileRecord, error) {
	line := s.line + 1
	if number := attribute(start, "r"); number != "" {
		var err error
		if line, err = strconv.Atoi(number); err != nil || line <= s.line {
			return fileRecord{}, fmt.Errorf("row %q follows row %d", abbreviate(number), s.line)
		}
	}
	s.line = line
	s.text, s.ends = s.text[:0], s.ends[:0]
	record := fileRecord{line: line}
	var (
		cell   cellText
		kind   string
		format cellFormat
		column int // of the cell, from 1
	)
	for {
		token, err := s.in.token()
		switch {
		case errors.Is(err, io.EOF):
			return record, io.ErrUnexpectedEOF
		case err != nil:
			return record, err
		}
		cell.take(token)
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Local != "c" {
				continue
			}
			kind, format = attribute(t, "t"), cellFormat{}
			if style, err := strconv.Atoi(attribute(t, "s")); err == nil && 0 <= style && style < len(s.formats) {
				format = s.formats[style]
			}
			column++
			if position := attribute(t, "r"); position != "" {
				last := column
				if column, _ = cellPosition(position); column < last {
					return record, fmt.Errorf("the cell %q is misplaced in row %d", abbreviate(position), line)
				}
			}
		case xml.EndElement:
			switch t.Name.Local {
			case "c":
				value, err := s.value(kind, format, cell.value())
				if err != nil {
					return record, err
				}
				cell.reset()
				switch {
				case value == "":
				case column > maxColumns, len(value) > maxCellBytes, len(s.text)+len(value) > maxRecordBytes:
					record.code, record.fault = RejectRowTooLong, faultTooLong
				default:
					s.place(column, value)
				}
			case "row":
				if record.code == "" {
					record.cells = s.cells()
				}
				return record, nil
			}
		}
	}
}

// place appends a cell, and empty ones for the columns left out before it.
func (s *sheet) place(column int, value string) {
	for len(s.ends) < column-1 {
		s.ends = append(s.ends, len(s.text))
	}
	s.text = append(s.text, value...)
	s.ends = append(s.ends, len(s.text))
}

func (s *sheet) cells() []string {
	text := string(s.text) // one allocation for all cells
	cells := make([]string, len(s.ends))
	start := 0
	for i, end := range s.ends {
		cells[i] = text[start:end]
		start = end
	}
	return cells
}

// value returns the text of a cell of that type.
func (s *sheet) value(kind string, format cellFormat, raw []byte) (string, error) {
	switch {
	case len(raw) == 0:
		return "", nil
	case kind == "s":
		return s.texts.at(string(raw))
	case kind == "b" && string(raw) == "1":
		return "TRUE", nil
	case kind == "b":
		return "FALSE", nil
	case kind == "" || kind == "n":
		return format.number(string(raw)), nil
	}
	return string(raw), nil // a text, a formula's text, an error such as #N/A, a date in ISO 8601
}

// number writes a number with all its digits, or as the date or the number with leading zeros that the
// sheet shows.
func (f cellFormat) number(raw string) string {
	value, err := strconv.ParseFloat(raw, 64)
	switch {
	case err != nil:
		return raw
	case f.date && 0 <= value && value < 2_958_466: // the year 10000
		return f.moment(value)
	case strings.Trim(raw, "0123456789") == "": // an integer as it stands
	case value == math.Trunc(value) && math.Abs(value) < 1e21:
		raw = strconv.FormatFloat(value, 'f', -1, 64)
	default: // 15 digits are what spreadsheet programs keep: 0.1 and not 0.10000000000000001
		short, err := strconv.ParseFloat(strconv.FormatFloat(value, 'g', 15, 64), 64)
		if err != nil {
			return raw
		}
		raw = strconv.FormatFloat(short, 'f', -1, 64)
	}
	if missing := f.digits - len(raw); missing > 0 && strings.Trim(raw, "0123456789") == "" {
		raw = strings.Repeat("0", missing) + raw
	}
	return raw
}

// moment writes a number of days as a date, as a time of day, or as both.
func (f cellFormat) moment(days float64) string {
	epoch := time.Date(1899, time.December, 30, 0, 0, 0, 0, time.UTC)
	switch {
	case f.date1904:
		epoch = time.Date(1904, time.January, 1, 0, 0, 0, 0, time.UTC)
	case days < 60: // Excel believes that 1900 was a leap year.
		epoch = epoch.AddDate(0, 0, 1)
	}
	day, part := math.Modf(days)
	at := epoch.AddDate(0, 0, int(day)).Add(time.Duration(math.Round(part*24*60*60)) * time.Second)
	switch {
	case part == 0:
		return at.Format(time.DateOnly)
	case day == 0 && !f.date1904:
		return at.Format(time.TimeOnly)
	}
	return at.Format(time.DateTime)
}

// cellText gathers the text of a cell or of a shared text out of its <v>, or its <t>, which rich text has
// many of. What a text sounds like (<rPh>) does not belong to it.
type cellText struct {
	text     []byte
	inside   bool
	phonetic bool
	done     bool
}

func (c *cellText) take(token xml.Token) {
	switch t := token.(type) {
	case xml.StartElement:
		switch t.Name.Local {
		case "v", "t":
			c.inside = !c.phonetic
		case "rPh":
			c.phonetic = true
		}
	case xml.EndElement:
		switch t.Name.Local {
		case "v", "t":
			c.inside = false
		case "rPh":
			c.phonetic = false
		}
	case xml.CharData:
		if c.inside && len(c.text) <= maxCellBytes {
			c.text = append(c.text, t...)
		}
	}
}

// value returns the text, valid until reset. Characters that XML cannot have are written _x001F_.
func (c *cellText) value() []byte {
	if !strings.Contains(string(c.text), "_x") {
		return c.text
	}
	var plain []byte
	for rest := string(c.text); rest != ""; {
		code, isEscape := uint64(0), false
		if len(rest) >= len("_x000D_") && rest[:2] == "_x" && rest[6] == '_' {
			var err error
			code, err = strconv.ParseUint(rest[2:6], 16, 16)
			isEscape = err == nil && !utf16.IsSurrogate(rune(code))
		}
		if isEscape {
			plain = utf8.AppendRune(plain, rune(code))
			rest = rest[len("_x000D_"):]
		} else {
			plain = append(plain, rest[0])
			rest = rest[1:]
		}
	}
	return plain
}

func (c *cellText) reset() { c.text = c.text[:0] }

// cellPosition reads a position such as AB12; column 0 says that it is none.
func cellPosition(position string) (column, row int) {
	digits := strings.TrimLeft(position, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	letters := position[:len(position)-len(digits)]
	row, err := strconv.Atoi(digits)
	if err != nil || len(letters) > 3 {
		return 0, 0
	}
	for _, letter := range []byte(letters) {
		column = column*26 + int(letter-'A'+1)
	}
	return column, row
}

func attribute(element xml.StartElement, name string) string {
	for _, a := range element.Attr {
		if a.Name.Local == name && a.Name.Space == "" {
			return a.Value
		}
	}
	return ""
}

// boundedXML reads XML by tokens, none of which can fill the memory.
type boundedXML struct {
	decoder *xml.Decoder
	src     *boundedReader
}

func newBoundedXML(r io.Reader) *boundedXML {
	src := &boundedReader{r: r, buf: make([]byte, 0, 64<<10)}
	return &boundedXML{decoder: xml.NewDecoder(src), src: src}
}

// token returns the next token, valid until the next call. Tags are not held against each other: who
// reads says where the document must end.
func (b *boundedXML) token() (xml.Token, error) {
	b.src.left = maxRecordBytes
	return b.decoder.RawToken()
}

// boundedReader gives left bytes. It is a ByteReader so that the decoder buffers nothing more.
type boundedReader struct {
	r    io.Reader
	buf  []byte
	pos  int // buf[pos:] is not yet given
	left int
}

func (b *boundedReader) ReadByte() (byte, error) {
	if b.pos == len(b.buf) {
		n, err := io.ReadAtLeast(b.r, b.buf[:cap(b.buf)], 1)
		if b.buf, b.pos = b.buf[:n], 0; err != nil {
			return 0, err
		}
	}
	if b.left--; b.left < 0 {
		return 0, tooLarge("it has a cell of more than 4 MiB")
	}
	b.pos++
	return b.buf[b.pos-1], nil
}

// Read is there because a decoder asks for a Reader.
func (b *boundedReader) Read(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		p[n], err = b.ReadByte()
		if err == nil {
			n++
		}
	}
	return n, err
}

// offsetWriter buffers what goes to a file, and knows how much that was.
type offsetWriter struct {
	*bufio.Writer
	offset int64
}

func newOffsetWriter(w io.Writer) *offsetWriter {
	return &offsetWriter{Writer: bufio.NewWriterSize(w, 64<<10)}
}

func (w *offsetWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.offset += int64(n)
	return n, err
}
