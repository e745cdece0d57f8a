package templates_test

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/templates"
)

func TestStationeryIsComplete(t *testing.T) {
	t.Parallel()
	if err := stationery().Validate(); err != nil {
		t.Error(err)
	}
	if err := (templates.Letterhead{Agency: "Brightside"}).Validate(); err != nil {
		t.Errorf("the rest may be empty: %v", err)
	}
	for _, logo := range []string{"http://127.0.0.1:8080/logo/1", "http://localhost/l.png", "http://[::1]:9/l.png"} {
		if err := (templates.Letterhead{Agency: "Brightside", LogoURL: logo}).Validate(); err != nil {
			t.Errorf("%s: %v", logo, err)
		}
	}
}

func TestStationeryTellsAllMistakes(t *testing.T) {
	t.Parallel()
	st := templates.Stationery{
		Letterhead: templates.Letterhead{
			Agency:        "\u202e ",
			LogoURL:       "http://brightside.example/logo.png",
			Colour:        "red",
			PostalAddress: strings.Repeat("line\r\n", 7),
			Support:       strings.Repeat("5", 121),
			Phrase:        "see https://evil.example",
			Language:      "tlh",
		},
		Texts: map[string]string{"invitation/en": "Subject: s", "greeting/en": "Subject: s"},
	}
	err := st.Validate()
	if err == nil {
		t.Fatal("nothing is wrong with it")
	}
	for _, want := range []string{
		"agency is empty", "logo_url does not begin with https://", `colour "red" is not a colour`, "postal_address has 7 lines", "support has 121 characters",
		"phrase has the address of a page", `language "tlh" is not among en, es, fr, de, pt`,
		`text greeting/en: there is no text "greeting/en"`, "text invitation/en: line 1: the link is missing",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told:\n%v", want, err)
		}
	}
	for _, logo := range []string{"logo.png", "//x/logo.png", "data:image/png;base64,AA==", "https://user:pass@x/l.png", "https://x/l .png\n", "https://" + strings.Repeat("x", 500)} {
		if (templates.Letterhead{Agency: "Brightside", LogoURL: logo}).Validate() == nil {
			t.Errorf("%q is a logo", logo)
		}
	}
}

func TestStationeryIsKeptAsJSON(t *testing.T) {
	t.Parallel()
	want := stationery()
	want.Texts = map[string]string{"thanks/de": "Subject: s"}
	kept, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got templates.Stationery
	if err := json.Unmarshal(kept, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// contrast is as WCAG 2.2 defines it.
func contrast(t fataler, a, b string) float64 {
	t.Helper()
	luminance := func(colour string) float64 {
		rgb, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 24)
		if err != nil || len(colour) != 7 {
			t.Errorf("%q is not a colour", colour)
		}
		var sum float64
		for i, weight := range []float64{0.0722, 0.7152, 0.2126} {
			v := float64(rgb>>(8*i)&0xff) / 255
			if v <= 0.04045 {
				sum += weight * v / 12.92
			} else {
				sum += weight * math.Pow((v+0.055)/1.055, 2.4)
			}
		}
		return sum
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}
