package roster_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning/roster"
)

func TestReaderTypos(t *testing.T) {
	t.Parallel()
	tests := map[string]string{ // by domain, what is meant
		"gmial.com": "gmail.com", "gamil.com": "gmail.com", "gmal.com": "gmail.com", "gnail.com": "gmail.com", "gmaill.com": "gmail.com",
		"gmail.con": "gmail.com", "gmail.cmo": "gmail.com", "gmail.co": "gmail.com", "gmail.cm": "gmail.com", "gmail.om": "gmail.com",
		"gmail.comm": "gmail.com", "gmail.com.com": "gmail.com", "gmail.cpm": "gmail.com", "gmial.con": "gmail.com",
		"googlemial.com": "googlemail.com", "yaho.com": "yahoo.com", "yahooo.com": "yahoo.com", "yahho.con": "yahoo.com",
		"hotmial.com": "hotmail.com", "hotmaill.com": "hotmail.com", "homtial.com": "hotmail.com", "hotmail.co": "hotmail.com",
		"outlok.com": "outlook.com", "outllook.com": "outlook.com", "outlook.con": "outlook.com", "iclould.com": "icloud.com",
		"icoud.com": "icloud.com", "protonmial.com": "protonmail.com", "comcats.net": "comcast.net", "comcast.nte": "comcast.net",
		"tonline.de": "t-online.de", "sbcgobal.net": "sbcglobal.net", "acme.con": "acme.com", "shop.acme.cmo": "shop.acme.com",
		"acme.ogr": "acme.org", "acme.co.con": "acme.co.com",
	}
	for _, right := range []string{
		"gmail.com", "googlemail.com", "yahoo.com", "yahoo.de", "yahoo.co.uk", "yahoo.com.br", "yahoo.ca", "yahoo.co.jp", "ymail.com", "mail.com", "email.com",
		"gmx.net", "gmx.de", "gmx.at", "hotmail.fr", "hotmail.co.uk", "hotmail.it", "outlook.de", "outlook.com.au", "live.com", "msn.com",
		"aol.com", "icloud.com", "me.com", "web.de", "proton.me", "protonmail.ch", "protonmail.com", "comcast.com", "cloud.com",
		"acme.com", "acme.co", "acme.cm", "acme.example", "acme.co.uk", "gmailer.example", "mygmail.com", "fotomail.com", "horizon.net",
		"hushmail.com", "gmaster.com", "outlet.com", "icloudy.de", "xn--bcher-kva.example", "a.gmail.com", "yandex.ru", "x.y",
		"t-online.de", "gm.com", "g.co", "fastmail.fm", "hostmail.com", "comms.com",
	} {
		tests[right] = ""
	}
	var file strings.Builder
	file.WriteString("name,owner_email\n")
	var want, got []string
	for domain, meant := range tests {
		file.WriteString(domain + ",ann@" + domain + "\n")
		want = append(want, domain+" "+meant)
	}
	rows, rejects := readAll(t, strings.NewReader(file.String()))
	if len(rejects) > 0 {
		t.Fatalf("rejected: %+v", rejects)
	}
	for _, row := range rows {
		meant := ""
		for _, w := range row.Warnings {
			_, meant, _ = strings.Cut(w.Message, "Did you mean ")
			meant, _, _ = strings.Cut(meant, "?")
			if w.Code != roster.WarningEmailTypo || w.Line != row.Line || w.Column != "owner_email" || !strings.HasSuffix(w.Message, ".") {
				t.Errorf("%s: %+v", row.Name, w)
			}
		}
		got = append(got, row.Name+" "+meant)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestReaderDoubtfulMailboxes(t *testing.T) {
	t.Parallel()
	tagged := "agency+clients@agency.example"
	tests := []struct {
		address string
		agency  string
		want    roster.WarningCode
	}{
		{"ann@acme.example", tagged, ""},
		{"agency@agency.example", tagged, roster.WarningEmailAgency},
		{"AGENCY+acme-bakery@Agency.Example", tagged, roster.WarningEmailAgency},
		{"agency+clients@agency.example", tagged, roster.WarningEmailAgency},
		{"ann@agency.example", tagged, ""},
		{"agency@acme.example", tagged, ""},
		{"agency2@agency.example", tagged, ""},
		{"agency@agency.example", "", ""},
		{"info@acme.example", tagged, roster.WarningEmailRole},
		{"INFO+news@acme.example", tagged, roster.WarningEmailRole},
		{"info.smith@acme.example", tagged, ""},
		{"informatics@acme.example", tagged, ""},
		{"noreply@acme.example", tagged, roster.WarningEmailRole},
		{"Do-Not-Reply@acme.example", tagged, roster.WarningEmailRole},
		{"admin@agency.example", "admin@agency.example", roster.WarningEmailAgency},
	}
	for _, test := range tests {
		rows, _, err := readRoster(strings.NewReader("name,E-Mail\nAcme,"+test.address), roster.Options{Agency: test.agency})
		if err != nil || len(rows) != 1 {
			t.Fatalf("%s: %v", test.address, err)
		}
		var got roster.WarningCode
		for _, w := range rows[0].Warnings {
			got += w.Code
			if w.Line != 2 || w.Column != "E-Mail" || !strings.HasSuffix(w.Message, ".") && !strings.HasSuffix(w.Message, "know it.") {
				t.Errorf("%s: %+v", test.address, w)
			}
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.address, got, test.want)
		}
	}
}
