package notify_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/notify"
)

func location(tb testing.TB, name string) *time.Location {
	tb.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		tb.Fatal(err)
	}
	return zone
}

// TestCalendarNext looks at days and hours alone: the minutes are the client's own.
func TestCalendarNext(t *testing.T) {
	t.Parallel()
	night := notify.Calendar{Opens: 2, Closes: 4}
	tests := []struct {
		name     string
		calendar notify.Calendar
		zone     string
		locale   string
		t        string // in that zone
		from, to string // between which the answer is, both included
	}{
		{"at work", notify.Calendar{}, "America/New_York", "en-US", "2026-11-23 16:59:59", "2026-11-23 16:59:59", "2026-11-23 16:59:59"},
		{"early", notify.Calendar{}, "America/New_York", "en-US", "2026-11-23 03:00:00", "2026-11-23 09:00:00", "2026-11-23 11:00:00"},
		{"closed", notify.Calendar{}, "America/New_York", "en-US", "2026-11-23 17:00:00", "2026-11-24 09:00:00", "2026-11-24 11:00:00"},
		{"weekend", notify.Calendar{}, "America/New_York", "en-US", "2026-11-20 17:00:00", "2026-11-23 09:00:00", "2026-11-23 11:00:00"},
		{"no locale", notify.Calendar{}, "Europe/Berlin", "", "2026-11-21 12:00:00", "2026-11-23 09:00:00", "2026-11-23 11:00:00"},
		{"odd locale", notify.Calendar{}, "Europe/Berlin", "so-und_so!", "2026-11-21 12:00:00", "2026-11-23 09:00:00", "2026-11-23 11:00:00"},
		{"Sunday in Egypt", notify.Calendar{}, "Africa/Cairo", "ar-EG", "2026-11-22 12:00:00", "2026-11-22 12:00:00", "2026-11-22 12:00:00"},
		{"Friday in Israel", notify.Calendar{}, "Asia/Jerusalem", "he", "2026-11-20 12:00:00", "2026-11-22 09:00:00", "2026-11-22 11:00:00"},
		{"Saturday in India", notify.Calendar{}, "Asia/Kolkata", "hi-IN", "2026-11-21 12:00:00", "2026-11-21 12:00:00", "2026-11-21 12:00:00"},
		{"Sunday in India", notify.Calendar{}, "Asia/Kolkata", "en-IN", "2026-11-22 12:00:00", "2026-11-23 09:00:00", "2026-11-23 11:00:00"},
		{"Thursday in Iran", notify.Calendar{}, "Asia/Tehran", "fa-IR", "2026-11-19 12:00:00", "2026-11-19 12:00:00", "2026-11-19 12:00:00"},
		{"a quarter past the hour", notify.Calendar{}, "Asia/Kathmandu", "ne-NP", "2026-11-23 08:59:00", "2026-11-23 09:00:00", "2026-11-23 11:00:00"},
		{"a day left out", notify.Calendar{}, "Pacific/Apia", "en-WS", "2011-12-29 18:00:00", "2012-01-02 09:00:00", "2012-01-02 11:00:00"},
		{"the opening hour left out", night, "America/New_York", "en-IN", "2027-03-13 12:00:00", "2027-03-15 02:00:00", "2027-03-15 04:00:00"},
		{"the opening hour left out on a working day", night, "America/New_York", "ar-EG", "2027-03-13 12:00:00", "2027-03-14 03:00:00", "2027-03-14 04:00:00"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			zone := location(t, test.zone)
			at := func(text string) time.Time {
				at, err := time.ParseInLocation(time.DateTime, text, zone)
				if err != nil {
					t.Fatal(err)
				}
				return at
			}
			for range 50 {
				got := test.calendar.Next(at(test.t), zone, test.locale, uuid.New())
				if got.Before(at(test.from)) || got.After(at(test.to)) {
					t.Fatalf("Next(%s) = %s, want from %s to %s", test.t, got.Format(time.DateTime), test.from, test.to)
				}
			}
		})
	}
}

// TestCalendarProperty: whatever the zone does with its clocks, the answer is in working time, not in the
// past, not much later than the first working moment, and stays as it is when it is asked for again.
func TestCalendarProperty(t *testing.T) {
	t.Parallel()
	zones := []string{
		"UTC", "America/New_York", "America/Sao_Paulo", "Asia/Kathmandu", "Asia/Tehran", "Australia/Lord_Howe",
		"Pacific/Apia", "Pacific/Chatham", "Africa/Casablanca", "Europe/Dublin", "America/St_Johns", "Antarctica/Troll",
	}
	// Hours in which clocks are changed are among them.
	calendars := []notify.Calendar{{}, {Opens: 0, Closes: 24}, {Opens: 0, Closes: 3}, {Opens: 1, Closes: 4}, {Opens: 22, Closes: 24}}
	rest := map[string]string{"en-US": "Sat Sun", "ar-EG": "Fri Sat", "en-IN": "Sun", "fa-IR": "Fri", "": "Sat Sun", "ps-AF": "Thu Fri"}
	rapid.Check(t, func(rt *rapid.T) {
		zone := location(t, rapid.SampledFrom(zones).Draw(rt, "zone"))
		calendar := rapid.SampledFrom(calendars).Draw(rt, "calendar")
		locale := rapid.SampledFrom([]string{"en-US", "ar-EG", "en-IN", "fa-IR", "", "ps-AF"}).Draw(rt, "locale")
		client := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "client"))
		at := time.Unix(rapid.Int64Range(
			time.Date(2005, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC).Unix(),
		).Draw(rt, "t"), 0)
		works := func(t time.Time) bool {
			opens, closes := calendar.Opens, calendar.Closes
			if closes == 0 {
				opens, closes = 9, 17
			}
			t = t.In(zone)
			for _, day := range []string{rest[locale][:3], rest[locale][len(rest[locale])-3:]} {
				if t.Format("Mon") == day {
					return false
				}
			}
			return t.Hour() >= opens && t.Hour() < closes
		}
		got := calendar.Next(at, zone, locale, client)
		if got.Before(at) || !works(got) {
			rt.Fatalf("Next(%s) = %s", at.In(zone), got)
		}
		first := at
		for !works(first) {
			first = first.Truncate(15 * time.Minute).Add(15 * time.Minute) // All clocks are changed at such times.
		}
		if late := got.Sub(first); late > 3*time.Hour || works(at) && late != 0 {
			rt.Fatalf("Next(%s) = %s, %s after the first working moment", at.In(zone), got, late)
		}
		if again := calendar.Next(got, zone, locale, client); !again.Equal(got) {
			rt.Fatalf("Next(%s) = %s", got, again)
		}
	})
}

func TestCalendarSpreads(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) // a Sunday
	minutes := make(map[int]int)
	const clients = 6000
	for range clients {
		id, err := uuid.NewV7()
		if err != nil {
			t.Fatal(err)
		}
		got := notify.Calendar{}.Next(at, time.UTC, "en-US", id)
		minutes[int(got.Sub(at.Add(21*time.Hour)).Minutes())]++
	}
	for minute, n := range minutes {
		if minute < 0 || minute >= 120 || n > 3*clients/120 {
			t.Errorf("%d of %d clients in minute %d after the opening", n, clients, minute)
		}
	}
}
