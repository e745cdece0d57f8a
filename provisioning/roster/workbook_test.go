package roster_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning/roster"
)

// part is a file in a ZIP.
type part struct{ name, text string }

// archive packs parts in their order.
func archive(tb testing.TB, parts ...part) []byte {
	tb.Helper()
	var file bytes.Buffer
	w := zip.NewWriter(&file)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestSpeed) })
	for _, p := range parts {
		method := zip.Deflate
		if p.text == "" {
			method = zip.Store
		}
		f, err := w.CreateHeader(&zip.FileHeader{Name: p.name, Method: method})
		if err == nil {
			_, err = io.WriteString(f, p.text)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return file.Bytes()
}

// worksheet is a sheet of a workbook: what stands between its tags.
type worksheet struct {
	name, state, kind string
	body              string
}

// workbook packs a workbook as Excel names its parts. Styles 1 to 6 are those of a date, a moment, a number
// of five digits, per cent, thousands in German, and hours and minutes.
func workbook(tb testing.TB, properties string, texts []string, sheets ...worksheet) []byte {
	tb.Helper()
	const declaration = `<?xml version="1.0" encoding="UTF-8" standalone="yes"?>` + "\n"
	const main = `xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"`
	const office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
	var list, relations strings.Builder
	parts := []part{{"[Content_Types].xml", declaration + `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>`}}
	for i, s := range sheets {
		kind := s.kind
		if kind == "" {
			kind = "worksheet"
		}
		state := ""
		if s.state != "" {
			state = fmt.Sprintf(` state=%q`, s.state)
		}
		fmt.Fprintf(&list, `<sheet name=%q sheetId="%d"%s r:id="rId%d"/>`, s.name, i+1, state, i+1)
		fmt.Fprintf(&relations, `<Relationship Id="rId%d" Type="%s/%s" Target="worksheets/sheet%d.xml"/>`, i+1, office, kind, i+1)
		parts = append(parts, part{fmt.Sprintf("xl/worksheets/sheet%d.xml", i+1), declaration +
			`<worksheet ` + main + ` xmlns:r="` + office + `"><dimension ref="A1"/><sheetData>` + s.body + `</worksheet>`})
	}
	fmt.Fprintf(&relations, `<Relationship Id="rId91" Type="%s/styles" Target="styles.xml"/>`, office)
	parts = append(parts, part{"xl/styles.xml", declaration + `<styleSheet ` + main + `><numFmts count="4">` +
		`<numFmt numFmtId="164" formatCode="[$-409]d\-mmm\-yyyy\ h:mm;@"/><numFmt numFmtId="165" formatCode="00000"/>` +
		`<numFmt numFmtId="166" formatCode="#,##0.00\ &quot;Stunden&quot;;[Red]\-#,##0.00"/><numFmt numFmtId="167" formatCode="hh:mm"/></numFmts>` +
		`<cellXfs count="7"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/><xf numFmtId="165"/><xf numFmtId="9"/>` +
		`<xf numFmtId="166"/><xf numFmtId="167"/></cellXfs></styleSheet>`})
	if texts != nil {
		fmt.Fprintf(&relations, `<Relationship Id="rId92" Type="%s/sharedStrings" Target="/xl/sharedStrings.xml"/>`, office)
		parts = append(parts, part{"xl/sharedStrings.xml", declaration +
			`<sst ` + main + ` count="9" uniqueCount="9"><si>` + strings.Join(texts, "</si><si>") + `</si></sst>`})
	}
	parts = append(parts,
		part{"xl/_rels/workbook.xml.rels", declaration +
			`<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">` + relations.String() + `</Relationships>`},
		part{"xl/workbook.xml", declaration + `<workbook ` + main + ` xmlns:r="` + office + `">` + properties +
			`<sheets>` + list.String() + `</sheets></workbook>`})
	return archive(tb, parts...)
}

// inline writes rows of texts as libraries do, which name no positions and share no texts.
func inline(rows ...[]string) string {
	var b strings.Builder
	for _, row := range rows {
		b.WriteString("<row>")
		for _, cell := range row {
			fmt.Fprintf(&b, `<c t="inlineStr"><is><t xml:space="preserve">%s</t></is></c>`, cell)
		}
		b.WriteString("</row>")
	}
	return b.String() + "</sheetData>"
}

// madeRosters makes the test files that no text editor can write.
func madeRosters(tb testing.TB) map[string][]byte {
	tb.Helper()
	clients := inline([]string{"Client name", "Owner email"}, []string{"Acme", "ann@acme.example"})
	shared := func(texts ...string) (plain []string) {
		for _, text := range texts {
			plain = append(plain, "<t>"+text+"</t>")
		}
		return plain
	}
	// As Excel writes it: shared and rich texts, phonetic hints, formulas, and every kind of number.
	excel := workbook(tb, `<workbookPr defaultThemeVersion="166925"/>`, append(
		shared("Client", "Owner e-mail", "Customer no.", "Since", "Last call", "Opens", "Share", "Hours", "Active", "ID", "Notes"),
		`<t>Acme Bakery</t>`, `<t>ann@acme.example</t>`,
		`<r><rPr><b/></rPr><t xml:space="preserve">Bob's </t></r><r><t>Garage &amp; Co.</t></r>`,
		`<t>株式会社さくら</t><rPh sb="0" eb="4"><t>カブシキガイシャ</t></rPh><phoneticPr fontId="1"/>`,
		`<t xml:space="preserve"> two_x000D_
lines, _x005F_x000D_ and _xyz_ </t>`, `<t/>`),
		worksheet{name: "Prices", state: "hidden", body: clients},
		worksheet{name: "Clients", body: `<row r="1" spans="1:11" ht="15"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c><c r="C1" t="s"><v>2</v></c>` +
			`<c r="D1" t="s"><v>3</v></c><c r="E1" t="s"><v>4</v></c><c r="F1" t="s"><v>5</v></c><c r="G1" t="s"><v>6</v></c><c r="H1" t="s"><v>7</v></c>` +
			`<c r="I1" t="s"><v>8</v></c><c r="J1" t="s"><v>9</v></c><c r="K1" t="s"><v>10</v></c><c r="L1" s="1"/></row>` +
			`<row r="2"><c r="A2" t="s"><v>11</v></c><c r="B2" t="s"><v>12</v></c><c r="C2" s="3"><v>42</v></c><c r="D2" s="1"><v>46349</v></c>` +
			`<c r="E2" s="2"><v>46349.604166666664</v></c><c r="F2" s="6"><v>0.375</v></c><c r="G2" s="4"><v>0.07</v></c><c r="H2" s="5"><v>1234.5</v></c>` +
			`<c r="I2" t="b"><v>1</v></c><c r="J2"><v>1234567890123456</v></c><c r="K2" t="s"><v>15</v></c></row>` +
			`<row r="4"><c r="A4" t="s"><v>13</v></c><c r="B4" t="str"><f>LOWER("BOB@GARAGE.EXAMPLE")</f><v>bob@garage.example</v></c>` +
			`<c r="C4" s="3"><v>123456</v></c><c r="D4" s="1"><v>59</v></c><c r="E4" s="2"><v>61.5</v></c><c r="G4" s="4"><v>0.30000000000000004</v></c>` +
			`<c r="H4" s="5"><f>-H2*2</f><v>-2469</v></c><c r="I4" t="b"><v>0</v></c><c r="J4"><v>1.234567890123456E+17</v></c></row>` +
			`<row r="5" hidden="1"><c r="A5" t="s"><v>14</v></c><c r="B5" t="inlineStr"><is><t>sakura@sakura.example</t></is></c><c r="D5" t="d"><v>2026-11-23</v></c>` +
			`<c r="J5"><v>1E-7</v></c><c r="K5" t="e"><v>#N/A</v></c></row>` +
			`<row r="6"><c r="A6" t="e"><v>#REF!</v></c><c r="B6" t="s"><v>12</v></c></row>` +
			`<row r="7"><c r="A7" t="s"><v>16</v></c><c r="B7" s="1"/></row>` +
			`<row r="1048576"><c r="A1048576" t="s"><v>11</v></c><c r="B1048576" t="s"><v>15</v></c></row></sheetData>` +
			`<mergeCells count="1"><mergeCell ref="A20:C20"/></mergeCells><pageMargins left="0.7"/>`},
		worksheet{name: "Old", body: clients}, worksheet{name: "Older", body: clients})
	truncated := workbook(tb, "", nil, worksheet{name: "Clients", body: strings.TrimSuffix(clients, "</sheetData>")})
	damaged := bytes.Clone(excel) // in the midst of the packed sheet
	damaged[bytes.Index(damaged, []byte("sheet2.xml"))+300] ^= 0xff
	return map[string][]byte{
		"excel_workbook.xlsx": excel,
		"excel_1904.xlsx": workbook(tb, `<workbookPr date1904="1"/>`, nil, worksheet{name: "Clients", body: `<row r="3"><c r="B3" t="inlineStr"><is><t>Name</t></is></c>` +
			`<c r="C3" t="inlineStr"><is><t>Email</t></is></c><c r="D3" t="inlineStr"><is><t>Since</t></is></c></row>` +
			`<row r="5"><c r="B5" t="inlineStr"><is><t>Acme</t></is></c><c r="C5" t="inlineStr"><is><t>ann@acme.example</t></is></c><c r="D5" s="1"><v>44887</v></c></row></sheetData>`}),
		"google_sheets_workbook.xlsx": workbook(tb, `<workbookPr/>`, shared("Organization", "Contact email", "Acme Bakery", "ann@acme.example"),
			worksheet{name: "Sheet1", body: `<row r="1"><c r="A1" s="1" t="s"><v>0</v></c><c r="B1" s="1" t="s"><v>1</v></c></row>` +
				`<row r="2"><c r="A2" s="1" t="s"><v>2</v></c><c r="B2" s="1" t="s"><v>3</v></c></row></sheetData><drawing r:id="rId1"/>`}),
		"library_workbook.xlsx": workbook(tb, "", nil, worksheet{name: "Clients", body: clients}),
		"prefixed_workbook.xlsx": archive(tb,
			part{`xl\workbook.xml`, `<x:workbook xmlns:x="m" xmlns:r="r"><x:sheets><x:sheet name="Clients" sheetId="1" r:id="R1"/></x:sheets></x:workbook>`},
			part{`XL\_rels\workbook.xml.rels`, `<Relationships><Relationship Id="R1" Type="http://purl.oclc.org/ooxml/officeDocument/relationships/worksheet" Target="/xl/Sheet.xml"/></Relationships>`},
			part{`xl\Sheet.xml`, `<x:worksheet xmlns:x="m"><x:sheetData><x:row r="1"><x:c r="A1" t="str"><x:v>name</x:v></x:c><x:c r="C1" t="str"><x:v>owner_email</x:v></x:c></x:row>` +
				`<x:row r="2"><x:c r="A2" t="str"><x:v>Acme</x:v></x:c><x:c r="C2" t="str"><x:v><![CDATA[ann@acme.example]]></x:v></x:c></x:row></x:sheetData></x:worksheet>`}),
		"workbook_later_sheet.xlsx": workbook(tb, "", nil, worksheet{name: "Chart", kind: "chartsheet", body: clients},
			worksheet{name: "Secret", state: "veryHidden", body: clients}, worksheet{name: "Sheet1", body: "</sheetData>"},
			worksheet{name: "Sheet2", body: inline([]string{" "}, []string{"", ""})}, worksheet{name: "Kunden", body: clients}, worksheet{name: "Old", body: clients}),
		"error_workbook_empty.xlsx": workbook(tb, "", nil, worksheet{name: "Sheet1", body: "</sheetData>"}),
		"error_numbers_table_title.xlsx": workbook(tb, "", nil, worksheet{name: "Clients", body: inline([]string{"Table 1"},
			[]string{"Client name", "Owner email"}) + `<mergeCells count="1"><mergeCell ref="A1:B1"/></mergeCells>`}),
		"error_workbook_merged_header.xlsx": workbook(tb, "", nil, worksheet{name: "Clients", body: inline([]string{"Name", "Contact", "", "Email"},
			[]string{"Acme", "Ann", "Smith", "ann@acme.example"}) + `<mergeCells count="1"><mergeCell ref="B1:C1"/></mergeCells>`}),
		"error_workbook_cut.xlsx":          excel[:len(excel)/2],
		"error_workbook_checksum.xlsx":     damaged,
		"error_workbook_sheet_cut.xlsx":    truncated,
		"error_workbook_missing_text.xlsx": workbook(tb, "", nil, worksheet{name: "Clients", body: `<row><c t="s"><v>7</v></c></row></sheetData>`}),
		"error_workbook_rows_back.xlsx": workbook(tb, "", nil, worksheet{name: "Clients", body: `<row r="2"><c t="str"><v>name</v></c><c t="str"><v>owner_email</v></c></row>` +
			`<row r="3"><c t="str"><v>Acme</v></c><c t="str"><v>ann@acme.example</v></c></row><row r="3"><c t="str"><v>Bob</v></c></row></sheetData>`}),
		"error_workbook_protected.xlsx": append([]byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "....E\x00n\x00c\x00r\x00y\x00p\x00t\x00e\x00d\x00P\x00a\x00c\x00k\x00a\x00g\x00e\x00"...),
		"error_xlsb.xlsx":               archive(tb, part{"xl/workbook.bin", "\x83\x01"}),
		"error_ods.xlsx": archive(tb, part{"mimetype", "application/vnd.oasis.opendocument.spreadsheet"}, part{"content.xml", "<x/>"},
			part{"META-INF/manifest.xml", "<x/>"}),
		"error_numbers.xlsx": archive(tb, part{"Index/Document.iwa", "x"}, part{"Metadata/Properties.plist", "x"}),
		"error_docx.xlsx":    archive(tb, part{"word/document.xml", "<x/>"}),
		"error_zip.xlsx":     archive(tb, part{"clients.csv", "name,owner_email\n"}),
	}
}

// TestWorkbookBounds gives workbooks that would fill the memory or the disk.
func TestWorkbookBounds(t *testing.T) {
	t.Parallel()
	cell := func(text string) string { return `<c t="str"><v>` + text + `</v></c>` }
	head := `<row>` + cell("name") + cell("owner_email") + `</row>`
	row := func(cells string) string {
		return head + `<row>` + cell("Acme") + cell("ann@acme.example") + cells + `</row></sheetData>`
	}
	const mib = 1 << 20
	tests := []struct {
		name   string
		body   string
		file   roster.ErrorCode
		reject roster.RejectCode
	}{
		{"cell of 1 MiB", row(strings.Repeat(`<c/>`, 900) + cell(strings.Repeat("x", mib))), "", roster.RejectTooManyColumns},
		{"longer cell", row(cell(strings.Repeat("x", mib+1))), "", roster.RejectRowTooLong},
		{"column 1,001", row(`<c r="ALM2" t="str"><v>x</v></c>`), "", roster.RejectRowTooLong},
		{"no such column", row(`<c r="AAAA2" t="str"><v>x</v></c>`), roster.FileDamaged, ""},
		{"empty cells far away", row(`<c r="XFD2"/>`), "", ""},
		{"row beyond 4 MiB", row(strings.Repeat(cell(strings.Repeat("x", mib)), 5)), "", roster.RejectRowTooLong},
		{"text without end", row(cell(strings.Repeat("x", 5*mib))), roster.FileTooLarge, ""},
		{"tag without end", row(`<c t="` + strings.Repeat("x", 5*mib) + `"/>`), roster.FileTooLarge, ""},
		{"packed too well", row("") + strings.Repeat(" ", 65*mib), roster.FileTooLarge, ""},
		{"tags that do not match", row(`<c><v></c></v>`), "", ""},
		{"no XML", head + "<<<", roster.FileDamaged, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := workbook(t, "", nil, worksheet{name: "Clients", body: test.body})
			rows, rejects, err := readRoster(bytes.NewReader(file), roster.Options{})
			if test.file != "" {
				if fatal, ok := errors.AsType[*roster.Error](err); !ok || fatal.Code != test.file {
					t.Errorf("got %.200v, want %s", err, test.file)
				}
				return
			}
			switch {
			case err != nil:
				t.Fatal(err)
			case test.reject != "" && (len(rejects) != 1 || rejects[0].Code != test.reject || rejects[0].Line != 2):
				t.Errorf("got rejects %.200v, want %s", rejects, test.reject)
			case test.reject == "" && len(rows) != 1:
				t.Errorf("got rejects %.200v", rejects)
			}
		})
	}
	t.Run("too many parts", func(t *testing.T) {
		t.Parallel()
		parts := make([]part, 20_000)
		for i := range parts {
			parts[i].name = fmt.Sprintf("xl/media/picture%d.png", i)
		}
		_, _, err := readRoster(bytes.NewReader(archive(t, parts...)), roster.Options{})
		if fatal, ok := errors.AsType[*roster.Error](err); !ok || fatal.Code != roster.FileTooLarge {
			t.Errorf("got %.200v", err)
		}
	})
}

// TestWorkbookTexts reads shared texts in an order in which they are not remembered.
func TestWorkbookTexts(t *testing.T) {
	t.Parallel()
	const clients = 20_000
	texts := make([]string, clients)
	for i := range texts {
		texts[i] = fmt.Sprintf("<t>Client %d%s</t>", i, strings.Repeat("x", i%97))
	}
	texts[7] = "<t>" + strings.Repeat("Long ", 20) + strings.Repeat("z", 100) + "</t>"
	var body strings.Builder
	body.WriteString(`<row><c t="str"><v>name</v></c><c t="str"><v>owner_email</v></c></row>`)
	order := make([]int, clients)
	for i := range order {
		order[i] = i * 7919 % clients // a prime number: every text once
		fmt.Fprintf(&body, `<row><c t="s"><v>%d</v></c><c t="str"><v>c%d@acme.example</v></c></row>`, order[i], order[i])
	}
	rows, rejects, err := readRoster(bytes.NewReader(workbook(t, "", texts, worksheet{name: "Clients", body: body.String() + "</sheetData>"})), roster.Options{})
	if err != nil || len(rejects) > 0 || len(rows) != clients {
		t.Fatalf("%d rows, rejects %.200v, %v", len(rows), rejects, err)
	}
	for i, row := range rows {
		want := strings.TrimSuffix(strings.TrimPrefix(texts[order[i]], "<t>"), "</t>")
		if row.Name != want || row.Line != i+2 {
			t.Fatalf("row %d is %q on line %d, want %q", i, row.Name, row.Line, want)
		}
	}
}

// TestWorkbookLeavesNothing looks for temporary files, after good files and bad, read to the end and not.
func TestWorkbookLeavesNothing(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	for name, data := range madeRosters(t) {
		r, err := roster.NewReader(bytes.NewReader(data), roster.Options{})
		if err == nil {
			if _, _, err := r.Next(); err != nil {
				t.Logf("%s: %v", name, err)
			}
			err = r.Close()
		}
		if _, ok := errors.AsType[*roster.Error](err); err != nil && !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	left, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]os.DirEntry{}, left); diff != "" {
		t.Error(diff)
	}
}
