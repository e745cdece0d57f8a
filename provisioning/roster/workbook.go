package roster

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// The bounds of a workbook. They keep its memory constant and its disk space small, whatever a hostile
// file claims; a million rows of twelve columns stay below them.
const (
	maxWorkbookBytes  = 256 << 20 // as uploaded
	maxDirectoryBytes = 1 << 20   // the list of the parts
	maxPartBytes      = 16 << 20  // a part that is held in memory
	maxSheetBytes     = 2 << 30   // the sheet, and the table of texts, unpacked
	maxPacking        = 200       // times smaller than unpacked is no text, but an attack…
	maxPackedBytes    = 64 << 20  // …if unpacked it is larger than this
)

// workbook reads the first visible sheet of an Excel workbook (XLSX, ISO/IEC 29500) that is not empty, a
// row at a time. A workbook is a ZIP, which must be read at random: the file goes to a temporary one, and
// so do the texts that its cells share.
//
// Cells are text as in a CSV file, but for what such a file would lose: a number keeps all its digits
// however it is shown, and a date is always written 2006-01-02 15:04:05. A formula gives what was last
// computed.
type workbook struct {
	spool *spool
	parts map[string]*zip.File // by lower-case name
	texts *sharedTexts
	sheet *sheet
	first fileRecord // the first row that is not blank; given by header
	name  string     // of the sheet
	other int        // visible sheets after it
}

// openWorkbook returns a *Error if r has no workbook of that kind.
func openWorkbook(r io.Reader) (_ *workbook, err error) {
	w := &workbook{parts: make(map[string]*zip.File)}
	if w.spool, err = newSpool(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(damage(err), w.Close())
		}
	}()
	size, err := io.Copy(w.spool, io.LimitReader(r, maxWorkbookBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the roster file: %w", err)
	}
	if size > maxWorkbookBytes {
		return nil, tooLarge("it is larger than 256 MiB")
	}
	// A section takes a nonsensical offset for the end of the file, and not for a fault of the system.
	metered := &meteredReaderAt{r: io.NewSectionReader(w.spool, 0, size), left: maxDirectoryBytes}
	archive, err := zip.NewReader(metered, size)
	if err != nil {
		return nil, err
	}
	metered.unmetered = true
	for _, f := range archive.File {
		w.parts[strings.ToLower(strings.ReplaceAll(f.Name, `\`, "/"))] = f
	}
	if message := w.notWorkbook(); message != "" {
		return nil, &Error{Code: FileNotCSV, Message: message}
	}
	return w, w.openSheet()
}

// notWorkbook names what else is a ZIP, and the cure.
func (w *workbook) notWorkbook() string {
	const export = ": open it in a spreadsheet program and save it as XLSX or as CSV (UTF-8)"
	has := func(part string) bool { return w.parts[part] != nil }
	switch {
	case has("xl/workbook.xml"):
		return ""
	case has("xl/workbook.bin"):
		return "the file is a binary Excel workbook (XLSB)" + export
	case has("content.xml") && has("meta-inf/manifest.xml"):
		return "the file is an OpenDocument spreadsheet" + export
	case has("index/document.iwa"), has("index.zip"):
		return "the file is a Numbers spreadsheet: export it as XLSX or as CSV (UTF-8)"
	case has("word/document.xml"):
		return "the file is a Word document: copy the table into a spreadsheet program and save it as CSV (UTF-8)"
	}
	return archive
}

// openSheet finds the first visible sheet that is not empty.
func (w *workbook) openSheet() error {
	var book struct {
		Properties struct {
			Date1904 string `xml:"date1904,attr"`
		} `xml:"workbookPr"`
		Sheets []struct {
			Name  string `xml:"name,attr"`
			State string `xml:"state,attr"`
			ID    string `xml:"id,attr"`
		} `xml:"sheets>sheet"`
	}
	var relations struct {
		Relations []struct {
			ID     string `xml:"Id,attr"`
			Type   string `xml:"Type,attr"`
			Target string `xml:"Target,attr"`
		} `xml:"Relationship"`
	}
	if err := w.decode("xl/workbook.xml", &book); err != nil {
		return err
	}
	if err := w.decode("xl/_rels/workbook.xml.rels", &relations); err != nil {
		return err
	}
	worksheets := make(map[string]string)
	styles, texts := "", ""
	for _, relation := range relations.Relations {
		target := relation.Target
		if !strings.HasPrefix(target, "/") {
			target = path.Join("xl", target)
		}
		target = strings.TrimPrefix(target, "/")
		switch path.Base(relation.Type) {
		case "worksheet":
			worksheets[relation.ID] = target
		case "styles":
			styles = target
		case "sharedStrings":
			texts = target
		}
	}
	formats, err := w.cellFormats(styles, book.Properties.Date1904)
	if err != nil {
		return err
	}
	if err := w.openTexts(texts); err != nil {
		return err
	}
	for i, s := range book.Sheets {
		part := worksheets[s.ID] // a chart, too, can be a sheet
		if part == "" || s.State == "hidden" || s.State == "veryHidden" {
			continue
		}
		body, err := w.open(part, maxSheetBytes)
		if err != nil {
			return err
		}
		w.sheet = newSheet(body, w.texts, formats)
		for w.first, err = w.sheet.next(); err == nil && w.first.code == "" && isBlank(w.first.cells); {
			w.first, err = w.sheet.next()
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = body.Close() // It was only read.
			continue
		case err != nil:
			return err
		}
		w.name = s.Name
		for _, later := range book.Sheets[i+1:] {
			if worksheets[later.ID] != "" && later.State != "hidden" && later.State != "veryHidden" {
				w.other++
			}
		}
		return w.checkMerged(part)
	}
	return &Error{Code: FileEmpty, Message: "the workbook has no visible sheet with cells:" +
		" it needs a row that names the columns, such as name and owner_email, and one row for each client"}
}

// checkMerged refuses a header with merged cells, of which only the first has a name, and a title above the
// header. Where cells are merged stands behind all rows, so it is looked up only if the header has gaps.
func (w *workbook) checkMerged(part string) error {
	if len(w.first.cells) > 1 && !slices.Contains(w.first.cells, "") {
		return nil
	}
	body, err := w.open(part, maxSheetBytes)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // It was only read.
	in := newBoundedXML(body)
	for {
		token, err := in.token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "mergeCell" {
			continue
		}
		from, to, _ := strings.Cut(attribute(start, "ref"), ":")
		left, top := cellPosition(from)
		right, bottom := cellPosition(to)
		if left < right && top <= w.first.line && w.first.line <= bottom {
			return &Error{Code: HeaderInvalid, Message: fmt.Sprintf(
				"the first row of the sheet %q has merged cells (%s:%s): delete titles above the row that names the columns, and give"+
					" every column a cell and a name of its own", w.name, from, to)}
		}
	}
}

func (w *workbook) header(func(cells []string) int) (fileRecord, error) {
	if w.first.line > 0 {
		record := w.first
		w.first = fileRecord{}
		return record, nil
	}
	return w.next()
}

func (w *workbook) next() (fileRecord, error) {
	record, err := w.sheet.next()
	if err != nil && !errors.Is(err, io.EOF) {
		err = damage(err)
	}
	return record, err
}

func (w *workbook) format() string {
	text := fmt.Sprintf("Excel workbook, sheet %q", w.name)
	switch w.other {
	case 0:
		return text
	case 1:
		return text + "; another sheet is not read"
	}
	return text + fmt.Sprintf("; %d other sheets are not read", w.other)
}

// Close removes the temporary files.
func (w *workbook) Close() error {
	var errs []error
	if w.sheet != nil {
		_ = w.sheet.body.Close() // It was only read.
	}
	if w.texts != nil {
		errs = append(errs, w.texts.file.Close())
	}
	return errors.Join(append(errs, w.spool.Close())...)
}

// decode reads a small part as XML.
func (w *workbook) decode(name string, into any) error {
	body, err := w.open(name, maxPartBytes)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // It was only read.
	return xml.NewDecoder(body).Decode(into)
}

// open opens a part of at most limit bytes.
func (w *workbook) open(name string, limit uint64) (io.ReadCloser, error) {
	f := w.parts[strings.ToLower(name)]
	switch {
	case f == nil:
		return nil, fmt.Errorf("%q is missing", name)
	case f.Flags&1 != 0:
		return nil, &Error{Code: FileNotCSV, Message: "the file is protected with a password: save it without one"}
	case f.UncompressedSize64 > limit:
		return nil, tooLarge(fmt.Sprintf("its part %s has %d bytes", path.Base(name), f.UncompressedSize64))
	case f.UncompressedSize64 > maxPackedBytes && f.UncompressedSize64/maxPacking > f.CompressedSize64:
		return nil, tooLarge("unpacked it grows more than a table does")
	}
	return f.Open() // The ZIP reader gives no more than UncompressedSize64.
}

func tooLarge(what string) error {
	return &Error{Code: FileTooLarge, Message: "the workbook cannot be read, because " + what +
		": save the sheet as CSV (UTF-8), which can have any size"}
}

// damage says what a workbook that breaks the rules of its format is. It leaves errors of the operating
// system and verdicts alone.
func damage(err error) error {
	_, isSystem := errors.AsType[*fs.PathError](err)
	_, isVerdict := errors.AsType[*Error](err)
	if isSystem || isVerdict {
		return err
	}
	return &Error{Code: FileDamaged, Message: "the file is a damaged workbook or archive, perhaps because it was not copied whole (" +
		err.Error() + "): save it again, as XLSX or as CSV (UTF-8)"}
}

// cellFormat is what the number format of a cell says about its value.
type cellFormat struct {
	date     bool
	date1904 bool
	digits   int // a number of fewer digits is shown with zeros before it
}

// cellFormats returns the formats of cells by the index of their style.
func (w *workbook) cellFormats(part, date1904 string) ([]cellFormat, error) {
	if part == "" {
		return nil, nil
	}
	var styles struct {
		Formats []struct {
			ID   int    `xml:"numFmtId,attr"`
			Code string `xml:"formatCode,attr"`
		} `xml:"numFmts>numFmt"`
		Cells []struct {
			Format int `xml:"numFmtId,attr"`
		} `xml:"cellXfs>xf"`
	}
	if err := w.decode(part, &styles); err != nil {
		return nil, err
	}
	codes := make(map[int]string, len(styles.Formats))
	for _, f := range styles.Formats {
		codes[f.ID] = f.Code
	}
	formats := make([]cellFormat, len(styles.Cells))
	for i, cell := range styles.Cells {
		formats[i].date1904 = date1904 == "1" || date1904 == "true"
		if code, ok := codes[cell.Format]; ok {
			formats[i].date = isDateFormat(code)
			if strings.Trim(code, "0") == "" {
				formats[i].digits = len(code)
			}
		} else { // The built-in formats of dates, those of East Asia included.
			n := cell.Format
			formats[i].date = 14 <= n && n <= 22 || 27 <= n && n <= 36 || 45 <= n && n <= 47 || 50 <= n && n <= 58
		}
	}
	return formats, nil
}

// isDateFormat tells the number formats that show a number of days as a date or a time of day.
func isDateFormat(code string) bool {
	code, _, _ = strings.Cut(code, ";")
	quoted := false
	for i := 0; i < len(code); i++ {
		switch c := code[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '\\', c == '_', c == '*':
			i++
		case c == '[': // a colour, a currency, a condition, or hours beyond a day
			i += max(strings.IndexByte(code[i:], ']'), 0)
		case bytes.IndexByte([]byte("yYmMdDhHsS"), c) >= 0:
			return true
		}
	}
	return false
}

// spool is a temporary file, whose name is gone at once where the system allows that: then nothing is left
// of it however the process ends.
type spool struct {
	*os.File
	named bool
}

func newSpool() (*spool, error) {
	f, err := os.CreateTemp("", "countersign-roster-")
	if err != nil {
		return nil, fmt.Errorf("make room for the workbook: %w", err)
	}
	return &spool{File: f, named: os.Remove(f.Name()) != nil}, nil
}

func (s *spool) Close() error {
	err := s.File.Close()
	if s.named {
		err = errors.Join(err, os.Remove(s.Name()))
	}
	return err
}

// meteredReaderAt gives at most left bytes until it is unmetered.
type meteredReaderAt struct {
	r         io.ReaderAt
	left      int
	unmetered bool
}

func (m *meteredReaderAt) ReadAt(p []byte, offset int64) (int, error) {
	if m.left -= len(p); m.left < 0 && !m.unmetered {
		return 0, tooLarge("it has too many parts")
	}
	return m.r.ReadAt(p, offset)
}

// sharedTexts are the texts to which cells refer by number. They are kept in a file.
type sharedTexts struct {
	file   *spool
	ends   [][]uint32 // where each text ends in the file, in blocks of textBlock
	count  int
	window []byte // a stretch of the file: cells mostly refer to one text after another
	start  int64  // of window in the file
	recent map[int]string
}

const (
	textBlock   = 1 << 16
	maxTexts    = 16 << 20
	recentTexts = 4096
)

// openTexts copies the shared texts to a file of their own. A workbook need not have any.
func (w *workbook) openTexts(part string) error {
	if part == "" {
		return nil
	}
	body, err := w.open(part, maxSheetBytes)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // It was only read.
	file, err := newSpool()
	if err != nil {
		return err
	}
	w.texts = &sharedTexts{file: file, recent: make(map[int]string), window: make([]byte, 0, 8<<10)}
	return w.texts.read(body)
}

// read writes the texts of an <sst> to the file.
func (t *sharedTexts) read(body io.Reader) error {
	in := newBoundedXML(body)
	out := newOffsetWriter(t.file)
	var text cellText
	for {
		token, err := in.token()
		switch {
		case errors.Is(err, io.EOF) && !text.done:
			return io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return out.Flush()
		case err != nil:
			return err
		}
		text.take(token)
		end, ok := token.(xml.EndElement)
		if !ok {
			continue
		}
		switch end.Name.Local {
		case "si":
			if t.count == maxTexts {
				return tooLarge("it has more than 16,777,216 texts")
			}
			if _, err := out.Write(text.value()); err != nil {
				return err
			}
			text.reset()
			if t.count%textBlock == 0 {
				t.ends = append(t.ends, make([]uint32, 0, textBlock))
			}
			block := &t.ends[len(t.ends)-1]
			*block = append(*block, uint32(out.offset)) //nolint:gosec // maxSheetBytes is less than 4 GiB.
			t.count++
		case "sst":
			text.done = true
		}
	}
}

// at returns the text of that number.
func (t *sharedTexts) at(number string) (string, error) {
	i, err := strconv.Atoi(number)
	if t == nil || err != nil || i < 0 || i >= t.count {
		return "", fmt.Errorf("a cell refers to the text %q, which is missing", abbreviate(number))
	}
	if text, ok := t.recent[i]; ok {
		return text, nil
	}
	start, end := int64(0), int64(t.ends[i/textBlock][i%textBlock])
	if i > 0 {
		start = int64(t.ends[(i-1)/textBlock][(i-1)%textBlock])
	}
	if start < t.start || end > t.start+int64(len(t.window)) {
		t.window = slices.Grow(t.window[:0], int(end-start))
		n, err := t.file.ReadAt(t.window[:cap(t.window)], start)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the texts of the workbook: %w", err)
		}
		t.window, t.start = t.window[:n], start
	}
	text := string(t.window[start-t.start : end-t.start])
	if len(t.recent) == recentTexts {
		clear(t.recent)
	}
	t.recent[i] = text
	return text, nil
}
