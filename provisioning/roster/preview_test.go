package roster_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning/roster"
)

func TestPreviewRoster(t *testing.T) {
	t.Parallel()
	type columns = map[roster.Field]string
	long := strings.Repeat("x", 1000)
	tests := []struct {
		name   string
		file   string
		chosen columns
		want   roster.Preview
	}{
		{
			"sound", "Company;First name;Last name;E-mail;Notes\nAcme;Ann;Smith;ann@acme.example;'=1\n\nBob\n", nil,
			roster.Preview{
				Format: "text with semicolons, UTF-8", Header: []string{"Company", "First name", "Last name", "E-mail", "Notes"},
				Mapping: columns{"name": "Company", "owner_email": "E-mail", "owner_name": "First name + Last name"},
				Rows:    [][]string{{"Acme", "Ann", "Smith", "ann@acme.example", "=1"}, {"Bob"}},
			},
		},
		{
			"missing", "Brand\tPhone\nAcme\t555\n", nil,
			roster.Preview{
				Format: "text with tabs, UTF-8", Header: []string{"Brand", "Phone"}, Mapping: columns{},
				Missing: []roster.Field{"name", "owner_email"}, Rows: [][]string{{"Acme", "555"}},
			},
		},
		{
			"chosen", "Brand,Phone,Email\nAcme,555,ann@acme.example\n",
			columns{"name": "Brand", "ref": ""},
			roster.Preview{
				Format: "text with commas, UTF-8", Header: []string{"Brand", "Phone", "Email"},
				Mapping: columns{"name": "Brand", "owner_email": "Email"}, Rows: [][]string{{"Acme", "555", "ann@acme.example"}},
			},
		},
		{
			"doubled", "name,Email,E-mail,,Tag,Tag\nAcme,a@a.example\n", nil,
			roster.Preview{
				Format: "text with commas, UTF-8", Header: []string{"name", "Email", "E-mail", "column 4", "Tag (1)", "Tag (2)"},
				Mapping:    columns{"name": "name"},
				Duplicates: map[roster.Field][]string{"owner_email": {"Email", "E-mail"}, "tags": {"Tag (1)", "Tag (2)"}},
				Rows:       [][]string{{"Acme", "a@a.example"}},
			},
		},
		{
			"doubled and chosen", "name,Email,Email\nAcme,a@a.example,b@b.example\n",
			columns{"owner_email": "Email (2)"},
			roster.Preview{
				Format: "text with commas, UTF-8", Header: []string{"name", "Email (1)", "Email (2)"},
				Mapping: columns{"name": "name", "owner_email": "Email (2)"}, Rows: [][]string{{"Acme", "a@a.example", "b@b.example"}},
			},
		},
		{
			"broken and long", "name,owner_email\n\"Acme\" x,a\n" + long + ",b\n", nil,
			roster.Preview{
				Format: "text with commas, UTF-8", Header: []string{"name", "owner_email"},
				Mapping: columns{"name": "name", "owner_email": "owner_email"},
				Rows:    [][]string{{`"Acme" x`, "a"}, {long[:60] + "…", "b"}},
			},
		},
		{
			"no rows", "name,owner_email", nil,
			roster.Preview{
				Format: "text with commas, UTF-8", Header: []string{"name", "owner_email"},
				Mapping: columns{"name": "name", "owner_email": "owner_email"},
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := roster.ReadPreview(strings.NewReader(test.file), roster.Options{Map: test.chosen})
			if err != nil {
				t.Fatal(err)
			}
			if test.want.Rows == nil {
				test.want.Rows = [][]string{}
			}
			if test.want.Missing == nil {
				test.want.Missing = []roster.Field{}
			}
			if test.want.Duplicates == nil {
				test.want.Duplicates = map[roster.Field][]string{}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(got.Missing) > 0 || len(got.Duplicates) > 0 {
				return
			}
			r, err := roster.NewReader(strings.NewReader(test.file), roster.Options{Map: got.Mapping})
			if err != nil {
				t.Fatalf("with its own mapping: %v", err)
			}
			if diff := cmp.Diff(got.Mapping, r.Mapping()); diff != "" {
				t.Errorf("with its own mapping (-preview +reader)\n%s", diff)
			}
		})
	}
}

func TestPreviewRosterErrors(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]roster.ErrorCode{
		"":                               roster.FileEmpty,
		"Acme,ann@acme.example\n":        roster.HeaderMissing,
		"%PDF-1.7":                       roster.FileNotCSV,
		"PK\x03\x04":                     roster.FileDamaged,
		"\"name,owner_email\nAcme,ann\n": roster.HeaderInvalid,
	} {
		_, err := roster.ReadPreview(strings.NewReader(file), roster.Options{})
		if fatal, ok := errors.AsType[*roster.Error](err); !ok || fatal.Code != want {
			t.Errorf("%q: got %v, want %s", file, err, want)
		}
	}
}

// TestPreviewRosterReadsLittle has a file that does not end.
func TestPreviewRosterReadsLittle(t *testing.T) {
	t.Parallel()
	file := &endless{text: "name,owner_email\n"}
	p, err := roster.ReadPreview(file, roster.Options{})
	if err != nil || len(p.Rows) != 10 {
		t.Errorf("got %d rows, %v", len(p.Rows), err)
	}
	if file.read > 4<<20 {
		t.Errorf("%d bytes were read", file.read)
	}
}

type endless struct {
	text string
	read int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.text == "" {
		e.text = fmt.Sprintf("Client %d,c%d@acme.example\n", e.read, e.read)
	}
	n := copy(p, e.text)
	e.text = e.text[n:]
	e.read += n
	return n, nil
}
