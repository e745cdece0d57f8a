package templates

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// BrandPath is where Letterhead.Brand has to be served.
const BrandPath = "/brand.css"

// brandSheet puts the agency's colour in place of ours, by day and by night: into what is filled with it as it is, and
// into what is written in it as much of it as can be read. A page cannot say it itself, since it may have no style of its own.
const brandSheet = `:root { --accent: %v; --accent-hover: %v; --tint: %v; --fill: %v; --on-fill: %v; }
@media (prefers-color-scheme: dark) { :root { --accent: %v; --accent-hover: %v; --tint: %v; --fill: %v; --on-fill: %v; } }
`

// Brand is the style sheet that gives owner pages the agency's colour, empty without one.
func (l Letterhead) Brand() string {
	c, err := parseColour(l.Colour)
	if err != nil {
		return ""
	}
	p := mixPaint(l.Colour)
	const faint, far = 8, 13 // parts of the steps: how much of the colour a tint has, and how far off it is under a pointer
	tint, nightTint := white.mix(c, faint), darkPaper.mix(c, faint)
	ink := c.toward(black, darker(tint, page), readable)
	night := c.toward(white, lighter(nightTint, darkPaper), bright)
	return fmt.Sprintf(brandSheet,
		ink, ink.mix(black, far), tint, p.Accent, p.OnAccent,
		night, night.mix(white, far), nightTint, p.Night, p.OnNight)
}

// BrandURL is the address of Brand, another one for every colour, and empty without one.
func (l Letterhead) BrandURL() string {
	sheet := l.Brand()
	if sheet == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(sheet))
	return BrandPath + "?v=" + hex.EncodeToString(sum[:8])
}

func darker(a, b colour) colour {
	if a.luminance() < b.luminance() {
		return a
	}
	return b
}

func lighter(a, b colour) colour {
	if darker(a, b) == a {
		return b
	}
	return a
}
