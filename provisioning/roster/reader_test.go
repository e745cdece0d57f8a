package roster_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	_ "time/tzdata"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/provisioning/roster"
)

var update = flag.Bool("update", false, "write the test files and what comes out of them anew") //nolint:gochecknoglobals // A flag must be there before the tests run.

const goldenFolder = "testdata/rosters"

// TestReaderFiles reads the files of testdata/rosters, shaped as programs really write them, and
// compares what comes out with the JSON file beside each. With -update it writes those, and the files that
// are no text, anew: look at the difference.
func TestReaderFiles(t *testing.T) {
	t.Parallel()
	if *update {
		for name, data := range madeRosters(t) {
			if err := os.WriteFile(filepath.Join(goldenFolder, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, data := range goldenFiles(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := describe(t, bytes.NewReader(data))
			golden := filepath.Join(goldenFolder, strings.TrimSuffix(name, filepath.Ext(name))+".golden.json")
			if *update {
				if err := os.WriteFile(golden, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if again := describe(t, iotest.OneByteReader(bytes.NewReader(data))); !bytes.Equal(again, got) {
				t.Errorf("read byte by byte it gives (-whole +bytes)\n%s", cmp.Diff(string(got), string(again)))
			}
		})
	}
}

// goldenFiles returns the awkward files by name.
func goldenFiles(tb testing.TB) map[string][]byte {
	tb.Helper()
	entries, err := os.ReadDir(goldenFolder)
	if err != nil {
		tb.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".golden.json") {
			continue
		}
		if files[entry.Name()], err = os.ReadFile(filepath.Join(goldenFolder, entry.Name())); err != nil {
			tb.Fatal(err)
		}
	}
	if len(files) < 25 {
		tb.Fatalf("only %d files", len(files))
	}
	return files
}

// reading is all that comes out of a roster file.
type reading struct {
	Format  string                  `json:"format,omitempty"`
	Header  []string                `json:"header,omitempty"`
	Mapping map[roster.Field]string `json:"mapping,omitempty"`
	Rows    []readingRow            `json:"rows,omitempty"`
	Rejects []readingReject         `json:"rejects,omitempty"`
	Error   *roster.Error           `json:"error,omitempty"`
}

type readingRow struct {
	Line       int               `json:"line"`
	Name       string            `json:"name"`
	OwnerEmail string            `json:"owner_email"`
	Ref        string            `json:"ref,omitempty"`
	OwnerName  string            `json:"owner_name,omitempty"`
	AccountID  string            `json:"account_id,omitempty"`
	Route      string            `json:"route,omitempty"`
	SiteURL    string            `json:"site_url,omitempty"`
	Locale     string            `json:"locale,omitempty"`
	TimeZone   string            `json:"time_zone,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Extra      map[string]string `json:"extra,omitempty"`
	Warnings   []roster.Warning  `json:"warnings,omitempty"`
}

type readingReject struct {
	roster.Reject
	Record []string `json:"record"`
}

// describe reads a roster file and writes down all that comes out.
func describe(t *testing.T, file io.Reader) []byte {
	t.Helper()
	var (
		whole bytes.Buffer
		out   reading
	)
	o := roster.Options{Agency: "agency@agency.example"}
	r, err := roster.NewReader(io.TeeReader(file, &whole), o)
	if err == nil {
		out.Header, out.Mapping = r.Header(), r.Mapping()
	}
	for err == nil {
		var (
			row    roster.Row
			reject *roster.Reject
		)
		switch row, reject, err = r.Next(); {
		case err != nil:
		case reject != nil:
			out.Rejects = append(out.Rejects, readingReject{*reject, reject.Record})
		default:
			out.Rows = append(out.Rows, readingRow{
				row.Line, row.Name, row.OwnerEmail, row.Ref, row.OwnerName, row.AccountID, row.Route, row.SiteURL, row.Locale,
				row.TimeZone, row.Tags, row.Extra, row.Warnings,
			})
		}
	}
	if r != nil {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	fatal, isFatal := errors.AsType[*roster.Error](err)
	if isFatal {
		out.Error = fatal
	} else if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if preview, err := roster.ReadPreview(&whole, o); err == nil {
		out.Format = preview.Format
	} else if !isFatal {
		t.Errorf("preview: %v", err)
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "\t")
	if err := encoder.Encode(out); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestReaderCells gives one cell of an otherwise sound row and looks at the value or the code.
func TestReaderCells(t *testing.T) {
	t.Parallel()
	long := strings.Repeat
	tests := []struct {
		field roster.Field
		cell  string
		want  string
		code  roster.RejectCode
	}{
		{"name", "  Acme\u00a0 \u2003Bakery\t", "Acme Bakery", ""},
		{"name", "Acme\r\n  Bakery", "Acme Bakery", ""},
		{"name", "Cafe\u0301", "Café", ""},
		{"name", "\u202egnirts\u200b", "gnirts", ""},
		{"name", "خانه\u200cدار", "خانه\u200cدار", ""}, // a joiner that the script needs
		{"name", long("é", 200), long("é", 200), ""},
		{"name", long("é", 201), "", roster.RejectNameTooLong},
		{"name", " \u200b\n ", "", roster.RejectNameMissing},
		{"name", "a\x00b", "", roster.RejectControlCharacter},
		{"name", "a\u0085b", "a b", ""},
		{"name", "a\u0099b", "", roster.RejectControlCharacter},
		{"name", "a\ufffdb", "", roster.RejectBadEncoding},
		{"name", "'=1+1", "=1+1", ""},
		{"name", "''=1+1", "'=1+1", ""},
		{"name", "'Acme'", "'Acme'", ""},

		{"owner_email", " Ann.Smith+x@Example.COM ", "Ann.Smith+x@example.com", ""},
		{"owner_email", "ann@example.com\n", "ann@example.com", ""},
		{"owner_email", "\ufeffann@exam\u200bple.com", "ann@example.com", ""},
		{"owner_email", "o'brien@example.com", "o'brien@example.com", ""},
		{"owner_email", "'-x@example.com", "-x@example.com", ""},
		{"owner_email", "ann@bücher.example", "ann@xn--bcher-kva.example", ""},
		{"owner_email", "ann@BÜCHER.example", "ann@xn--bcher-kva.example", ""},
		{"owner_email", "ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example", ""},
		{"owner_email", "ann@例え。テスト", "ann@xn--r8jz45g.xn--zckzah", ""},
		{"owner_email", "jürgen@example.com", "jürgen@example.com", ""},
		{"owner_email", "ann@a1.3com.example", "ann@a1.3com.example", ""},
		{"owner_email", long("a", 64) + "@example.com", long("a", 64) + "@example.com", ""},
		{"owner_email", "", "", roster.RejectEmailMissing},
		{"owner_email", "ann", "", roster.RejectEmailInvalid},
		{"owner_email", "@example.com", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@localhost", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@[127.0.0.1]", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@127.0.0.1", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@example.com.", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@.example.com", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@-a.example", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@a-.example", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@a_b.example", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@xn--a.example", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@" + long("a", 64) + ".example", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@" + long("a.", 126) + "example", "", roster.RejectEmailInvalid},
		{"owner_email", long("a", 64) + "@" + long("a.", 92) + "example", "", roster.RejectEmailInvalid},
		{"owner_email", long("a", 65) + "@example.com", "", roster.RejectEmailInvalid},
		{"owner_email", long("é", 33) + "@example.com", "", roster.RejectEmailInvalid},
		{"owner_email", ".ann@example.com", "", roster.RejectEmailInvalid},
		{"owner_email", "ann.@example.com", "", roster.RejectEmailInvalid},
		{"owner_email", "a..b@example.com", "", roster.RejectEmailInvalid},
		{"owner_email", `"ann smith"@example.com`, "", roster.RejectEmailInvalid},
		{"owner_email", `"ann"@example.com`, "", roster.RejectEmailInvalid},
		{"owner_email", "Ann <ann@example.com>", "", roster.RejectEmailInvalid},
		{"owner_email", "<ann@example.com>", "", roster.RejectEmailInvalid},
		{"owner_email", "mailto:ann@example.com", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@example.com;bob@example.com", "", roster.RejectEmailInvalid},
		{"owner_email", "ann(work)@example.com", "", roster.RejectEmailInvalid},
		{"owner_email", "o’brien@example.com", "", roster.RejectEmailInvalid},
		{"owner_email", "ann@example.com\r\nBcc: bob@example.com", "", roster.RejectControlCharacter},

		{"ref", "ACME 1", "ACME 1", ""},
		{"ref", long("é", 128), long("é", 128), ""},
		{"ref", long("é", 129), "", roster.RejectRefTooLong},
		{"ref", "a\nb", "", roster.RejectControlCharacter},

		{"owner_name", "Ann\n Smith", "Ann Smith", ""},
		{"owner_name", long("a", 201), "", roster.RejectNameTooLong},

		{"account_id", "a07e1lxqqqo0", "a07e1lxqqqo0", ""},
		{"account_id", "A-b_9", "A-b_9", ""},
		{"account_id", long("a", 65), "", roster.RejectAccountIDInvalid},
		{"account_id", "1.2E+15", "", roster.RejectAccountIDInvalid},
		{"account_id", "ä1", "", roster.RejectAccountIDInvalid},
		{"account_id", "0015g00000ABCDE", "", roster.RejectAccountIDInvalid},

		{"route", "", "", ""},
		{"route", "PARTNER", "partner", ""},
		{"route", "boss", "", roster.RejectRouteUnknown},

		{"site_url", "", "", ""},
		{"site_url", "example.com", "https://example.com", ""},
		{"site_url", "Example.com:8443/a b", "https://example.com:8443/a%20b", ""},
		{"site_url", "http://WWW.Bücher.example/?q=1#x", "http://www.xn--bcher-kva.example/?q=1#x", ""},
		{"site_url", "ftp://example.com", "", roster.RejectURLInvalid},
		{"site_url", "javascript:alert(1)", "", roster.RejectURLInvalid},
		{"site_url", "https://user:secret@example.com", "", roster.RejectURLInvalid},
		{"site_url", "mailto:ann@example.com", "", roster.RejectURLInvalid},
		{"site_url", "//example.com", "", roster.RejectURLInvalid},
		{"site_url", "n/a", "", roster.RejectURLInvalid},
		{"site_url", "https://", "", roster.RejectURLInvalid},
		{"site_url", "example.com/" + long("a", 2048), "", roster.RejectURLInvalid},

		{"locale", "en_US", "en-US", ""},
		{"locale", "PT-br", "pt-BR", ""},
		{"locale", "english", "", roster.RejectLocaleInvalid},

		{"time_zone", "Europe/Berlin", "Europe/Berlin", ""},
		{"time_zone", "UTC", "UTC", ""},
		{"time_zone", "Local", "", roster.RejectTimeZoneInvalid},
		{"time_zone", "../../etc/passwd", "", roster.RejectTimeZoneInvalid},
		{"time_zone", "CET+1", "", roster.RejectTimeZoneInvalid},

		{"tags", "a, B;c|a,, b ", "a,B,c,b", ""},
		{"tags", " ; ", "", ""},
		{"tags", long("é", 64), long("é", 64), ""},
		{"tags", long("é", 65), "", roster.RejectTagsInvalid},
		{"tags", numbers(50), numbers(50), ""},
		{"tags", numbers(51), "", roster.RejectTagsInvalid},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s %.40q", test.field, test.cell), func(t *testing.T) {
			t.Parallel()
			record := map[roster.Field]string{"name": "Acme", "owner_email": "ann@example.com", test.field: test.cell}
			var header, cells []string
			for field, cell := range record {
				header, cells = append(header, string(field)), append(cells, cell)
			}
			rows, rejects := readAll(t, writeCSV(t, ',', header, cells))
			if test.code != "" {
				if len(rejects) != 1 {
					t.Fatalf("got %+v, want it rejected", rows)
				}
				if got := rejects[0]; got.Code != test.code || got.Column != string(test.field) || !strings.HasSuffix(got.Message, ".") {
					t.Errorf("got %s in %q: %s; want %s", got.Code, got.Column, got.Message, test.code)
				}
				return
			}
			if len(rows) != 1 {
				t.Fatalf("rejected: %+v", rejects)
			}
			row := rows[0]
			got := map[roster.Field]string{
				"name": row.Name, "owner_email": row.OwnerEmail, "ref": row.Ref, "owner_name": row.OwnerName,
				"account_id": row.AccountID, "route": row.Route, "site_url": row.SiteURL, "locale": row.Locale,
				"time_zone": row.TimeZone, "tags": strings.Join(row.Tags, ","),
			}[test.field]
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func numbers(n int) string {
	tags := make([]string, n)
	for i := range tags {
		tags[i] = strconv.Itoa(i)
	}
	return strings.Join(tags, ",")
}

func TestReaderMap(t *testing.T) {
	t.Parallel()
	type columns = map[roster.Field]string
	tests := []struct {
		name   string
		header string
		chosen columns
		want   columns
		code   roster.ErrorCode
	}{
		{"own names", "owner_email,name", nil, columns{"name": "name", "owner_email": "owner_email"}, ""},
		{"any spelling", " OWNER-E.Mail ,N a m e", nil, columns{"name": "N a m e", "owner_email": "OWNER-E.Mail"}, ""},
		{"own name before synonym", "Email,Company,name,owner_email", nil, columns{"name": "name", "owner_email": "owner_email"}, ""},
		{"literal name before spelling", "Name,name,Email", nil, columns{"name": "name", "owner_email": "Email"}, ""},
		{"better synonym", "Company,Client,E-mail,Contact email", nil, columns{"name": "Client", "owner_email": "Contact email"}, ""},
		{"accents", "Société,Courriel", nil, columns{"name": "Société", "owner_email": "Courriel"}, ""},
		{"chosen", "Brand,Name,Email", columns{"name": "Brand"}, columns{"name": "Brand", "owner_email": "Email"}, ""},
		{"chosen by spelling", "Brand,Email", columns{"name": "BRAND"}, columns{"name": "Brand", "owner_email": "Email"}, ""},
		{"chosen literally", "Brand,brand,Email", columns{"name": "brand"}, columns{"name": "brand", "owner_email": "Email"}, ""},
		{"chosen column is taken", "Name,Account ID,Email", columns{"ref": "Account ID"}, columns{"name": "Name", "owner_email": "Email", "ref": "Account ID"}, ""},
		{"left without column", "Name,Locale,Email", columns{"locale": ""}, columns{"name": "Name", "owner_email": "Email"}, ""},
		{"two name columns", "Surname,First name,Company,Email", nil, columns{"name": "Company", "owner_email": "Email", "owner_name": "First name + Surname"}, ""},
		{"one name column before two", "Contact,First name,Last name,Company,Email", nil, columns{"name": "Company", "owner_email": "Email", "owner_name": "Contact"}, ""},
		{"first name alone", "First name,Company,Email", nil, columns{"name": "Company", "owner_email": "Email", "owner_name": "First name"}, ""},
		{"last name alone", "Last name,Company,Email", nil, columns{"name": "Company", "owner_email": "Email"}, ""},
		{"names of people", "Name,First Name,Last Name,Company,Email", nil, columns{"name": "Company", "owner_email": "Email", "owner_name": "Name"}, ""},
		{"people without company", "Name,First Name,Last Name,Email", nil, columns{"name": "Name", "owner_email": "Email", "owner_name": "First Name + Last Name"}, ""},
		{"own name among people", "name,First Name,Last Name,Company,Email", nil, columns{"name": "name", "owner_email": "Email", "owner_name": "First Name + Last Name"}, ""},
		{"list of contacts", "Name,Account Name,Email", nil, columns{"name": "Account Name", "owner_email": "Email", "owner_name": "Name"}, ""},
		{"salesman", "Name,Owner.Name,Owner.Email,Account Owner: Email,Email", nil, columns{"name": "Name", "owner_email": "Email"}, ""},
		{"login name", "organization_name,site_owner_name,contact_email", nil, columns{"name": "organization_name", "owner_email": "contact_email"}, ""},
		{"login name wanted", "organization_name,site_owner_name,contact_email", columns{"owner_name": "site_owner_name"}, columns{"name": "organization_name", "owner_email": "contact_email", "owner_name": "site_owner_name"}, ""},
		{"chosen pair", "Name,Email,Rufname,Zuname", columns{"owner_name": "Rufname + Zuname"}, columns{"name": "Name", "owner_email": "Email", "owner_name": "Rufname + Zuname"}, ""},
		{"chosen header with plus", "Name,Email,Rufname + Zuname", columns{"owner_name": "Rufname + Zuname"}, columns{"name": "Name", "owner_email": "Email", "owner_name": "Rufname + Zuname"}, ""},
		{"chosen by number", "Name,Email,Email", columns{"owner_email": "Email (2)"}, columns{"name": "Name", "owner_email": "Email (2)"}, ""},
		{"number that is a header", "Name,Email,Email,Email (2)", columns{"owner_email": "Email (3)"}, columns{"name": "Name", "owner_email": "Email (3)"}, ""},
		{"chosen without header", "Name,,Email", columns{"ref": "column 2"}, columns{"name": "Name", "owner_email": "Email", "ref": "column 2"}, ""},
		{"chosen one of two", "E-mail,Email,Name", columns{"owner_email": "Email"}, columns{"name": "Name", "owner_email": "Email"}, ""},

		{"required left without column", "Name,Email", columns{"name": ""}, nil, roster.ColumnMissing},
		{"two of one meaning", "E-mail,Email,Name", nil, nil, roster.ColumnDuplicate},
		{"two of one header", "name,name,Email", nil, nil, roster.ColumnDuplicate},
		{"chosen is double", "Brand,Brand,Email", columns{"name": "Brand"}, nil, roster.ColumnDuplicate},
		{"chosen is absent", "Name,Email", columns{"ref": "Key"}, nil, roster.MapInvalid},
		{"chosen twice", "Name,Email", columns{"ref": "Name", "name": "Name"}, nil, roster.MapInvalid},
		{"half of a pair is absent", "Name,Email,First name", columns{"owner_name": "First name + Zuname"}, nil, roster.MapInvalid},
		{"pair of one", "Name,Email,First", columns{"owner_name": "First + First"}, nil, roster.MapInvalid},
		{"pair for a single field", "Name,Email,A,B", columns{"ref": "A + B"}, nil, roster.MapInvalid},
		{"two first names", "First name,First-Name,Company,Email", nil, nil, roster.ColumnDuplicate},
		{"unknown field", "Name,Email", columns{"brand": "Name"}, nil, roster.MapInvalid},
		{"data for header", "Acme,ann@example.com", nil, nil, roster.HeaderMissing},
		{"neither", "Brand,Phone", nil, nil, roster.ColumnMissing},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, err := roster.NewReader(strings.NewReader(test.header+"\n"), roster.Options{Map: test.chosen})
			if test.code != "" {
				if fatal, ok := errors.AsType[*roster.Error](err); !ok || fatal.Code != test.code {
					t.Errorf("got %v, want %s", err, test.code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, r.Mapping()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestReaderAllMistakes looks at a row with several: the first column gives the code.
func TestReaderAllMistakes(t *testing.T) {
	t.Parallel()
	_, rejects := readAll(t, strings.NewReader("route,owner_email,name\nboss,ann,Acme,x\n"))
	if len(rejects) != 1 || rejects[0].Code != roster.RejectRouteUnknown || rejects[0].Column != "route" {
		t.Fatalf("got %+v", rejects)
	}
	for _, part := range []string{"boss", "owner_email: ", "has no @", "column 4: ", "4 cells"} {
		if !strings.Contains(rejects[0].Message, part) {
			t.Errorf("%q is not in %q", part, rejects[0].Message)
		}
	}
}

func TestReaderBounds(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	header := "name,owner_email,Notes\n"
	sound := "Acme,ann@example.com,"
	tests := []struct {
		name string
		row  string
		code roster.RejectCode
	}{
		{"cell of 1 MiB", sound + strings.Repeat("x", mib), ""},
		{"quoted cell of 1 MiB", sound + `"` + strings.Repeat("x\n", mib/2) + `"`, ""},
		{"longer cell", sound + strings.Repeat("x", mib+1), roster.RejectRowTooLong},
		{"longer quoted cell", sound + `"` + strings.Repeat("x", mib+1) + `"`, roster.RejectRowTooLong},
		{"much longer cell", sound + strings.Repeat("x", 9*mib), roster.RejectRowTooLong},
		{"row beyond 4 MiB", strings.Repeat(strings.Repeat("x", mib-1)+",", 5), roster.RejectRowTooLong},
		{"1,000 columns", sound + strings.Repeat(",", 997), ""},
		{"1,001 columns", sound + strings.Repeat(",", 998), roster.RejectRowTooLong},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rows, rejects := readAll(t, strings.NewReader(header+test.row+"\nLast,last@example.com,\n"))
			want := 2
			if test.code != "" {
				want = 1
				if len(rejects) != 1 || rejects[0].Code != test.code || rejects[0].Line != 2 {
					t.Errorf("got rejects %.300v, want %s", rejects, test.code)
				}
			}
			if len(rows) != want {
				t.Fatalf("got %d rows, want %d", len(rows), want)
			}
			last := rows[len(rows)-1]
			if wantLine := 3 + strings.Count(test.row, "\n"); last.Name != "Last" || last.Line != wantLine {
				t.Errorf("the last row is %q on line %d, want it on line %d", last.Name, last.Line, wantLine)
			}
		})
	}
}

// TestReaderLateByte has the first byte that is not UTF-8 behind the part that tells the encoding.
func TestReaderLateByte(t *testing.T) {
	t.Parallel()
	var file strings.Builder
	file.WriteString("name,owner_email\n")
	line := 2
	for ; file.Len() < 4<<20; line++ {
		file.WriteString("Plain,plain@example.com\n")
	}
	file.WriteString("Caf\xe9,cafe@example.com\nLast,last@example.com\n")
	rows, rejects := readAll(t, strings.NewReader(file.String()))
	if len(rejects) != 1 || rejects[0].Code != roster.RejectBadEncoding || rejects[0].Line != line {
		t.Errorf("got %+v, want line %d rejected", rejects, line)
	}
	if last := rows[len(rows)-1]; last.Name != "Last" {
		t.Errorf("the last row is %+v", last)
	}
}

// TestReaderManyQuotes reads files that a reader which looks ahead for the closing quote again and
// again would read for hours.
func TestReaderManyQuotes(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"closed far away":  "\"a\n,\"",
		"never closed":     "\"\"\"a\n",
		"doubled for ever": "\"\"\n\"\"\"\"",
		"odd":              "x,\"\n",
		"run of spaces":    "     \n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := "name,owner_email\n" + strings.Repeat(line, 5<<20/len(line)) + "\nLast,last@example.com\n"
			r, err := roster.NewReader(strings.NewReader(file), roster.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for {
				row, reject, err := r.Next()
				if errors.Is(err, io.EOF) {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if reject == nil && row.Name != "Last" {
					t.Fatalf("%+v passed for a client", row)
				}
			}
		})
	}
}

func TestReaderReadError(t *testing.T) {
	t.Parallel()
	file := io.MultiReader(strings.NewReader("name,owner_email\n"+strings.Repeat("Acme,ann@example.com\n", 100_000)),
		iotest.ErrReader(io.ErrUnexpectedEOF))
	r, err := roster.NewReader(file, roster.Options{})
	for err == nil {
		_, _, err = r.Next()
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want the reader's error", err)
	}
	if _, err = roster.NewReader(iotest.ErrReader(io.ErrClosedPipe), roster.Options{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

// TestReaderRoundTrip writes rows in any of the encodings, delimiters and line ends.
func TestReaderRoundTrip(t *testing.T) {
	t.Parallel()
	bom := unicode.UseBOM
	encodings := map[string]encoding.Encoding{
		"UTF-8":          encoding.Nop,
		"UTF-8 with BOM": unicode.UTF8BOM,
		"UTF-16LE":       unicode.UTF16(unicode.LittleEndian, bom),
		"UTF-16BE":       unicode.UTF16(unicode.BigEndian, bom),
		"Windows-1252":   charmap.Windows1252,
	}
	cell := rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`['=+@"a-z ,;|\n\té€]{0,12}`),
		rapid.SampledFrom([]string{"", `"`, "\n", "\r\n", "a\rb", "日本", "Ünï", "“quoted”", "'=1", "sep=;"}),
	)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(slices.Sorted(maps.Keys(encodings))).Draw(t, "encoding")
		delimiter := rapid.SampledFrom([]rune{',', ';', '\t', '|'}).Draw(t, "delimiter")
		newline := rapid.SampledFrom([]string{"\n", "\r\n", "\r"}).Draw(t, "newline")
		records := rapid.SliceOfN(rapid.SliceOfN(cell, 2, 2), 0, 8).Draw(t, "records")

		var file bytes.Buffer
		fmt.Fprintf(&file, "name%[1]cowner_email%[1]cA%[1]cB%[2]s", delimiter, newline)
		var want [][]string
		for i, record := range records {
			for j, cell := range record {
				cell = strings.Map(func(r rune) rune {
					if _, ok := charmap.Windows1252.EncodeRune(r); !ok && name == "Windows-1252" || r == utf8.RuneError {
						return '?'
					}
					return r
				}, cell)
				record[j] = cell
			}
			record = append([]string{fmt.Sprint("Client ", i), "ann@example.com"}, record...)
			want = append(want, record)
			for j, cell := range record {
				if j > 0 {
					file.WriteRune(delimiter)
				}
				// An apostrophe before a formula is taken away: that is NeutralizeFormula's other half.
				cell = roster.NeutralizeFormula(cell)
				file.WriteString(`"` + strings.ReplaceAll(cell, `"`, `""`) + `"`)
			}
			file.WriteString(newline)
		}
		data, err := encodings[name].NewEncoder().Bytes(file.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		r, err := roster.NewReader(bytes.NewReader(data), roster.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got [][]string
		for {
			row, reject, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if reject != nil {
				if reject.Code != roster.RejectControlCharacter {
					t.Fatalf("rejected: %+v", reject)
				}
				for j, cell := range want[len(got)] { // NUL cannot be stored.
					want[len(got)][j] = strings.ReplaceAll(cell, "\x00", "\ufffd")
				}
				row.Record = reject.Record
			}
			got = append(got, row.Record)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

// TestReaderStandardCSV reads what encoding/csv writes.
func TestReaderStandardCSV(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		delimiter := rapid.SampledFrom([]rune{',', ';', '\t', '|'}).Draw(t, "delimiter")
		notes := rapid.SliceOf(rapid.StringMatching(`["a-z ,;|\n\t]{0,12}`)).Draw(t, "notes")
		records := [][]string{{"name", "owner_email", "Notes"}}
		for _, note := range notes {
			records = append(records, []string{"Acme", "ann@example.com", note})
		}
		rows, rejects := readAll(t, writeCSV(t, delimiter, records...))
		if len(rejects) > 0 || len(rows) != len(notes) {
			t.Fatalf("got %d rows of %d, rejects %+v", len(rows), len(notes), rejects)
		}
		for i, row := range rows {
			if row.Record[2] != notes[i] {
				t.Fatalf("got %q, want %q", row.Record[2], notes[i])
			}
		}
	})
}

func TestNeutralizeFormula(t *testing.T) {
	t.Parallel()
	for cell, want := range map[string]string{
		"":             "",
		"Acme":         "Acme",
		"'Acme'":       "'Acme'",
		"=1+1":         "'=1+1",
		"+1 555":       "'+1 555",
		"-5":           "'-5",
		"@SUM(A1)":     "'@SUM(A1)",
		"\t=1":         "'\t=1",
		"\r=1":         "'\r=1",
		"\n=1":         "'\n=1",
		"＝1":           "'＝1",
		"＋1":           "'＋1",
		"－1":           "'－1",
		"＠x":           "'＠x",
		"'=1":          "''=1",
		"''＝1":         "'''＝1",
		"\xff":         "\xff",
		"ann@acme.com": "ann@acme.com",
	} {
		if got := roster.NeutralizeFormula(cell); got != want {
			t.Errorf("NeutralizeFormula(%q) = %q, want %q", cell, got, want)
		}
	}
}

// TestReaderAddresses holds every accepted address against the standard library's parser.
func TestReaderAddresses(t *testing.T) {
	t.Parallel()
	address := rapid.OneOf(
		rapid.StringMatching(`[a-zA-Z0-9.!#$%&'*+/=?^_{|}~"(),:;<>@\[\] é-]{1,12}@[a-zA-Z0-9.ü_-]{1,12}\.[a-z0-9.]{1,4}`),
		rapid.StringMatching(`[a-z]([a-z.+-]{0,10}[a-z])?@[a-z0-9]([a-z0-9.-]{0,10}[a-z])?\.[a-z]{2,4}`),
	)
	rapid.Check(t, func(t *rapid.T) { checkAddress(t, address.Draw(t, "address")) })
}

// FuzzReader reads anything. Whatever it is, reading ends, and every record that is not blank gives
// one client or one reject, in the order of the lines, within the bounds, fit to be stored. A client that is
// exported and read again is the same.
func FuzzReader(f *testing.F) {
	for _, data := range goldenFiles(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o := roster.Options{Agency: "agency@agency.example"}
		r, err := roster.NewReader(bytes.NewReader(data), o)
		if err != nil {
			if _, ok := errors.AsType[*roster.Error](err); !ok {
				t.Fatal(err)
			}
			return
		}
		defer func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}()
		if header := r.Header(); len(header) == 0 || len(header) > 1000 || !utf8.ValidString(strings.Join(header, "")) {
			t.Fatalf("header %q", header)
		}
		lines := 1 + bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r"))
		isWorkbook := bytes.HasPrefix(data, []byte("PK"))
		for last, n := 0, 0; n < 100_000; n++ { // A small workbook can have a very long sheet.
			row, reject, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if _, ok := errors.AsType[*roster.Error](err); ok && isWorkbook {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if reject != nil {
				if reject.Code == "" || reject.Message == "" || row.Line != 0 {
					t.Fatalf("reject %+v beside row %+v", reject, row)
				}
				row.Line, row.Record = reject.Line, reject.Record
				row.Name = reject.Message
			} else {
				if local, domain, _ := strings.Cut(row.OwnerEmail, "@"); row.Name == "" || local == "" || domain == "" {
					t.Fatalf("row without name or address: %+v", row)
				}
				if n < 20 { // The others are no different, and it takes time.
					checkReadAgain(t, row, o)
				}
			}
			if row.Line <= last || row.Line > lines && !isWorkbook {
				t.Fatalf("line %d after %d of %d", row.Line, last, lines)
			}
			last = row.Line
			size := 0
			for _, text := range append(slices.Clone(row.Record), row.Name, row.OwnerName, row.Ref, row.SiteURL) {
				if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
					t.Fatalf("%q cannot be stored", text)
				}
				size += len(text)
			}
			if len(row.Record) > 1000 || size > 13<<20 { // A byte of Windows-1252 can take three.
				t.Fatalf("a record of %d cells and %d bytes", len(row.Record), size)
			}
		}
	})
}

// checkReadAgain writes a row as an export does and reads it.
func checkReadAgain(t *testing.T, row roster.Row, o roster.Options) {
	t.Helper()
	values := map[roster.Field]string{
		"name": row.Name, "owner_email": row.OwnerEmail, "ref": row.Ref, "owner_name": row.OwnerName, "account_id": row.AccountID,
		"route": row.Route, "site_url": row.SiteURL, "locale": row.Locale, "time_zone": row.TimeZone, "tags": strings.Join(row.Tags, ", "),
	}
	var header, record []string
	for _, field := range roster.Fields() {
		header, record = append(header, string(field)), append(record, roster.NeutralizeFormula(values[field]))
	}
	for column, value := range row.Extra {
		header, record = append(header, roster.NeutralizeFormula(column)), append(record, roster.NeutralizeFormula(value))
	}
	if len(header) > 1000 {
		return
	}
	rows, rejects, err := readRoster(writeCSV(t, ',', header, record), o)
	if err != nil || len(rows) != 1 {
		t.Fatalf("%+v, written as\n%q\n%q, is read with %+v, %v", row, header, record, rejects, err)
	}
	ignored := cmpopts.IgnoreFields(roster.Row{}, "Line", "Record")
	for _, warnings := range [][]roster.Warning{row.Warnings, rows[0].Warnings} {
		for i := range warnings { // They repeat where it stood.
			warnings[i].Line, warnings[i].Column = 0, ""
		}
	}
	byCode := cmpopts.SortSlices(func(a, b roster.Warning) int { return strings.Compare(string(a.Code), string(b.Code)) })
	if diff := cmp.Diff(row, rows[0], ignored, byCode); diff != "" {
		t.Fatalf("written and read again it differs (-first +again)\n%s", diff)
	}
}

// FuzzParseAddress reads any address. What is accepted is an address by the standard library, too, within
// the bounds of the mail protocols, and stays what it is when it is read again.
func FuzzParseAddress(f *testing.F) {
	for _, address := range []string{
		"ann@acme.example", "Ann.Smith+x@Example.COM", "o'brien@example.com", "ann@b\u00fccher.example", "ann@xn--bcher-kva.example",
		"ann@[127.0.0.1]", `"ann smith"@example.com`, "Ann <ann@example.com>", "j\u00fcrgen@example.com", "ann@例え。テスト", "a@b", "@", "",
		"ann@gmial.com", "noreply@acme.con", "agency+x@agency.example",
	} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, typed string) { checkAddress(t, typed) })
}

func checkAddress(t fataler, typed string) {
	t.Helper()
	read := func(address string) string {
		rows, _ := readAll(t, writeCSV(t, ',', []string{"name", "owner_email"}, []string{"Acme", address}))
		if len(rows) == 0 {
			return ""
		}
		return rows[0].OwnerEmail
	}
	got := read(typed)
	if got == "" {
		return
	}
	parsed, err := mail.ParseAddress(got)
	if err != nil || parsed.Address != got || parsed.Name != "" {
		t.Fatalf("%q was accepted as %q, which net/mail reads as %v, %v", typed, got, parsed, err)
	}
	local, domain, _ := strings.Cut(got, "@")
	if len(got) > 254 || len(local) > 64 || len(domain) > 253 || !strings.Contains(domain, ".") || strings.ToLower(domain) != domain ||
		strings.Trim(domain, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		t.Fatalf("%q was accepted as %q", typed, got)
	}
	if again := read(roster.NeutralizeFormula(got)); again != got {
		t.Fatalf("%q was accepted as %q, and that as %q", typed, got, again)
	}
}

// fataler is what *testing.T and *rapid.T share.
type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func readAll(t fataler, file io.Reader) (rows []roster.Row, rejects []roster.Reject) {
	t.Helper()
	rows, rejects, err := readRoster(file, roster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return rows, rejects
}

func readRoster(file io.Reader, o roster.Options) (rows []roster.Row, rejects []roster.Reject, err error) {
	r, err := roster.NewReader(file, o)
	if err != nil {
		return nil, nil, err
	}
	for {
		row, reject, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return rows, rejects, r.Close()
		case err != nil:
			return rows, rejects, errors.Join(err, r.Close())
		case reject != nil:
			rejects = append(rejects, *reject)
		default:
			rows = append(rows, row)
		}
	}
}

func writeCSV(t fataler, delimiter rune, records ...[]string) io.Reader {
	t.Helper()
	var file bytes.Buffer
	w := csv.NewWriter(&file)
	w.Comma = delimiter
	if err := w.WriteAll(records); err != nil {
		t.Fatal(err)
	}
	return &file
}
