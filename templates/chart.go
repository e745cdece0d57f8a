package templates

import (
	"net/url"
	"time"
)

// Chart is the authorizations of each day as bars of an SVG that is Width by Height units.
type Chart struct {
	Bars          []Bar // oldest first
	Width, Height int
	Peak          int // the most on one day
	Sum           int
}

// Bar is one day.
type Bar struct {
	Day
	X, Y, Width, Height float64
	Marked              bool // its date stands below it
}

const (
	fewestDays = 7  // of a chart: what is new begins with room to grow
	mostMarked = 10 // days whose dates all fit
	leastPeak  = 4  // that fills the height: the first one of all is no mountain
)

// Chart draws PerDay, without the days before the first on which something happened.
func (p Progress) Chart() Chart {
	const step, gap, height, least = 10, 2, 40, 0.75
	days := p.PerDay
	for len(days) > fewestDays && days[0].Authorized == 0 {
		days = days[1:]
	}
	c := Chart{Width: max(len(days)*step-gap, 1), Height: height}
	for _, day := range days {
		c.Peak = max(c.Peak, day.Authorized)
		c.Sum += day.Authorized
	}
	for i, day := range days {
		h := least // a day without any still shows that it was
		if day.Authorized > 0 {
			h = max(2*least, height*float64(day.Authorized)/float64(max(c.Peak, leastPeak)))
		}
		c.Bars = append(c.Bars, Bar{
			Day: day, X: float64(i * step), Y: height - h, Width: step - gap, Height: h,
			Marked: len(days) <= mostMarked || i == 0 || i == len(days)-1,
		})
	}
	return c
}

// Clients is the address of those who were authorized that day.
func (d Day) Clients() string {
	day := d.Day.UTC().Format(time.DateOnly)
	return "/admin/clients?" + url.Values{"stage": {string(stageAuthorized)}, "from": {day}, "until": {day}}.Encode()
}
