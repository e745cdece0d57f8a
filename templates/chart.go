package templates

import (
	"fmt"
	"strings"
)

// Chart is the authorizations per day as bars of an SVG that is Width by Height units.
type Chart struct {
	Bars          []Bar
	Width, Height int
	Peak          int // the most on one day
	Sum           int
}

// Bar is one day.
type Bar struct {
	Day
	X, Y, Width, Height float64
}

// Chart draws PerDay.
func (p Progress) Chart() Chart {
	const step, gap, height, least = 10, 2, 40, 0.75
	c := Chart{Width: max(len(p.PerDay)*step-gap, 1), Height: height}
	for _, day := range p.PerDay {
		c.Peak = max(c.Peak, day.Authorized)
		c.Sum += day.Authorized
	}
	for i, day := range p.PerDay {
		h := least // a day without any still shows that it was
		if day.Authorized > 0 {
			h = max(2*least, height*float64(day.Authorized)/float64(c.Peak))
		}
		c.Bars = append(c.Bars, Bar{Day: day, X: float64(i * step), Y: height - h, Width: step - gap, Height: h})
	}
	return c
}

// First is the earliest day of the chart.
func (c Chart) First() Day { return c.Bars[0].Day }

// Last is the latest day of the chart.
func (c Chart) Last() Day { return c.Bars[len(c.Bars)-1].Day }

// Text says the same as the bars to those who cannot see them.
func (c Chart) Text() string {
	var b strings.Builder
	b.WriteString("Authorized each day: ")
	for i, bar := range c.Bars {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %d", bar.Day.Day.UTC().Format("2 Jan"), bar.Authorized)
	}
	return b.String()
}
