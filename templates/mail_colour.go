package templates

import (
	"fmt"
	"math"
	"strconv"
)

// colour is 0xrrggbb.
type colour uint32

const (
	black colour = 0x000000
	white colour = 0xffffff
)

// The grounds that mails are written on, by day and by night.
const (
	page      colour = 0xf4f6f7
	darkPaper colour = 0x182127
)

// accent is the agency's colour unless it chooses one.
const accent colour = 0x0b5563

// parseColour reads #rrggbb.
func parseColour(s string) (colour, error) {
	if len(s) == 7 && s[0] == '#' {
		if n, err := strconv.ParseUint(s[1:], 16, 24); err == nil {
			return colour(n), nil
		}
	}
	return 0, fmt.Errorf("%q is not a colour; write it as #rrggbb, such as %v", s, accent)
}

func (c colour) String() string { return fmt.Sprintf("#%06x", uint32(c)) }

// channels are red, green and blue.
func (c colour) channels() [3]uint32 {
	return [3]uint32{uint32(c) >> 16 & 0xff, uint32(c) >> 8 & 0xff, uint32(c) & 0xff}
}

// luminance and contrast are as WCAG 2.2 defines them.
func (c colour) luminance() float64 {
	var linear [3]float64
	for i, channel := range c.channels() {
		v := float64(channel) / 255
		if v <= 0.04045 {
			linear[i] = v / 12.92
		} else {
			linear[i] = math.Pow((v+0.055)/1.055, 2.4)
		}
	}
	return 0.2126*linear[0] + 0.7152*linear[1] + 0.0722*linear[2]
}

func (c colour) contrast(other colour) float64 {
	a, b := c.luminance(), other.luminance()
	return (max(a, b) + 0.05) / (min(a, b) + 0.05)
}

// The least contrast of a text with what it stands on: WCAG 2.2, level AA, and AAA for what has to
// shine in the dark.
const (
	readable = 4.5
	bright   = 7
)

// toward mixes c with as little of end as gives the contrast with ground. End itself has to have it.
func (c colour) toward(end, ground colour, contrast float64) colour {
	for step := range uint32(steps) {
		if mixed := c.mix(end, step); mixed.contrast(ground) >= contrast {
			return mixed
		}
	}
	return end
}

// steps lie between two colours that are mixed.
const steps = 64

// mix has so many of the steps from c to end.
func (c colour) mix(end colour, step uint32) (mixed colour) {
	from, to := c.channels(), end.channels()
	for i := range from {
		mixed = mixed<<8 | colour((from[i]*(steps-step)+to[i]*step)/steps)
	}
	return mixed
}

// ink is white or black, whichever can be read on c: one of them always can.
func (c colour) ink() colour {
	if c.contrast(white) >= readable {
		return white
	}
	return black
}

// paint is what the agency's colour becomes.
type paint struct {
	Accent, OnAccent colour // of the button
	Edge             colour // of the button and of links: readable where the accent is not
	Night, OnNight   colour // of the button where the reader's system is dark
}

// mixPaint uses the colour of every mail unless the agency's is one.
func mixPaint(chosen string) paint {
	c, err := parseColour(chosen)
	if err != nil {
		c = accent
	}
	night := c.toward(white, darkPaper, bright)
	return paint{Accent: c, OnAccent: c.ink(), Edge: c.toward(black, page, readable), Night: night, OnNight: night.ink()}
}
