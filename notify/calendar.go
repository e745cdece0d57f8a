package notify

import (
	"hash/fnv"
	"time"

	"github.com/google/uuid"
	"golang.org/x/text/language"
)

// Calendar says when people work. What can wait is mailed to them then.
type Calendar struct {
	// Opens and Closes are hours of the day, from 0 to 24; 9 and 17 if both are zero.
	Opens, Closes int
}

// spread is how long after the start of a working day the mails of that day begin to go out: not all of
// them at its first second.
const spread = 2 * time.Hour

// Next returns t if it is in working time where the client's owner is, and else a moment near the
// beginning of the next working time, always the same for a client. The days of rest are those of the
// locale's region; Saturday and Sunday if it has none.
func (c Calendar) Next(t time.Time, zone *time.Location, locale string, client uuid.UUID) time.Time {
	c = c.orDefault()
	rest := restDays(locale)
	works := func(t time.Time) bool { return !rest[t.Weekday()] && t.Hour() >= c.Opens && t.Hour() < c.Closes }
	t = t.In(zone)
	if works(t) {
		return t
	}
	later := c.later(client)
	year, month, day := t.Date()
	for ahead := range 15 {
		opens := time.Date(year, month, day+ahead, c.Opens, 0, 0, 0, zone)
		// Where a clock is put forward over the opening hour, that hour is the next one; and a zone that
		// changes sides of the date line leaves out a day.
		for _, at := range []time.Time{opens.Add(later), opens, opens.Add(time.Hour)} {
			if works(at) && !at.Before(t) {
				return at
			}
		}
	}
	return t // It never opens.
}

// Works tells whether a day is a working day in the region of a locale.
func (c Calendar) Works(day time.Weekday, locale string) bool { return !restDays(locale)[day] }

func (c Calendar) orDefault() Calendar {
	if c == (Calendar{}) {
		return Calendar{Opens: 9, Closes: 17}
	}
	return c
}

// later returns how long after the opening a client's mail goes out.
func (c Calendar) later(client uuid.UUID) time.Duration {
	h := fnv.New32a()
	h.Write(client[:])
	within := min(spread, time.Duration(c.Closes-c.Opens)*time.Hour)
	return time.Duration(float64(within) * float64(h.Sum32()) / (1 << 32)).Truncate(time.Second)
}

// restDays returns the weekend of a locale's region, or of the region where its language is mostly
// spoken, after the week data of CLDR.
func restDays(locale string) [7]bool {
	var rest [7]bool
	region, _ := language.Make(locale).Region()
	switch region.String() {
	case "AF":
		rest[time.Thursday], rest[time.Friday] = true, true
	case "IR":
		rest[time.Friday] = true
	case "BH", "DZ", "EG", "IL", "IQ", "JO", "KW", "LY", "OM", "QA", "SA", "SD", "SY", "YE":
		rest[time.Friday], rest[time.Saturday] = true, true
	case "IN", "UG":
		rest[time.Sunday] = true
	default:
		rest[time.Saturday], rest[time.Sunday] = true, true
	}
	return rest
}
