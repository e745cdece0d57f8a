package roster_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/countersign/countersign/provisioning/roster"
)

// BenchmarkReader reads rosters of 12 columns; the goal is 100,000 rows well under a second.
func BenchmarkReader(b *testing.B) {
	const rows = 100_000
	var file bytes.Buffer
	w := csv.NewWriter(&file)
	_ = w.Write([]string{
		"name", "owner_email", "ref", "owner_name", "account_id", "route", "site_url", "locale", "time_zone", "tags",
		"Plan", "Notes",
	})
	for i := range rows {
		_ = w.Write([]string{
			fmt.Sprintf("Café & Bakery %d, Inc.", i), fmt.Sprintf("ann.smith%d@client%d.example", i, i), fmt.Sprintf("ACME-%d", i),
			"Ann Smith", fmt.Sprintf("a07e1l%d", i), "owner", fmt.Sprintf("https://www.client%d.example/", i), "en-US",
			"America/New_York", "vip,bakery", "Gold", "called twice",
		})
	}
	w.Flush()
	b.ReportAllocs()
	b.SetBytes(int64(file.Len()))
	for b.Loop() {
		r, err := roster.NewReader(bytes.NewReader(file.Bytes()), roster.Options{})
		if err != nil {
			b.Fatal(err)
		}
		for {
			_, reject, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || reject != nil {
				b.Fatal(err, reject)
			}
		}
	}
	b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkReaderWorkbook reads a workbook of 12 columns, all of whose texts are shared, as in Excel.
func BenchmarkReaderWorkbook(b *testing.B) {
	const rows = 20_000
	var (
		texts []string
		body  strings.Builder
	)
	numbers := make(map[string]int)
	write := func(cells ...string) {
		body.WriteString("<row>")
		for _, cell := range cells {
			number, ok := numbers[cell]
			if !ok {
				number = len(texts)
				numbers[cell] = number
				texts = append(texts, "<t>"+cell+"</t>")
			}
			fmt.Fprintf(&body, `<c t="s"><v>%d</v></c>`, number)
		}
		body.WriteString("</row>")
	}
	write("name", "owner_email", "ref", "owner_name", "account_id", "route", "site_url", "locale", "time_zone", "tags", "Plan", "Notes")
	for i := range rows {
		write(fmt.Sprintf("Café Bakery %d, Inc.", i), fmt.Sprintf("ann.smith%d@client%d.example", i, i), fmt.Sprintf("ACME-%d", i),
			"Ann Smith", fmt.Sprintf("a07e1l%d", i), "owner", fmt.Sprintf("https://www.client%d.example/", i), "en-US",
			"America/New_York", "vip,bakery", "Gold", "called twice")
	}
	file := workbook(b, "", texts, worksheet{name: "Clients", body: body.String() + "</sheetData>"})
	b.ReportAllocs()
	for b.Loop() {
		got, rejects, err := readRoster(bytes.NewReader(file), roster.Options{})
		if err != nil || len(rejects) > 0 || len(got) != rows {
			b.Fatal(err, len(rejects), len(got))
		}
	}
	b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
}
