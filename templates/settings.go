package templates

import "time"

// SettingsPage shows how this installation is set up, /admin/settings. The environment is read at the start and cannot be
// changed here.
type SettingsPage struct {
	Console
	Groups  []SettingGroup
	Version string // of the program
}

// Title names the page.
func (SettingsPage) Title() string { return "Settings" }

// SettingGroup is what is set about one matter.
type SettingGroup struct {
	Title    string
	Note     string // what to know about it; may be empty
	Link     Link   // to where more of it is to be seen or changed; may be empty
	Settings []Setting
}

// Link leads to another page.
type Link struct{ URL, Words string }

// Setting is one variable of the environment.
type Setting struct {
	Name  string // of the variable
	Label string
	Value string // in words, never a secret; empty if there is none
	Given bool   // somebody set it; otherwise it is the default
}

// DoctorPage shows what the doctor has found, /admin/settings/doctor, where its form posts plus. While the doctor is at
// work, it renews itself.
type DoctorPage struct {
	Console
	Actor   string // who asked for it; empty if nobody has yet
	At      time.Time
	EndedAt time.Time // zero while the doctor is at work
	Lost    bool      // it has not ended, and gives no sign of life
	Plus    bool      // mails were sent to try plus addresses
	Checks  []Check
}

// Title names the page.
func (DoctorPage) Title() string { return "Doctor" }

// Running reports whether the doctor is at work.
func (p DoctorPage) Running() bool { return p.Actor != "" && p.EndedAt.IsZero() && !p.Lost }

// Count is how many checks came out so.
func (p DoctorPage) Count(status string) (n int) {
	for _, c := range p.Checks {
		if c.Status == status {
			n++
		}
	}
	return n
}

// Check is a line of the doctor's report.
type Check struct {
	Name   string
	Status string // "ok", "warn", "fail" or "skip"
	Found  string
	Cure   string // empty where there is nothing to do
}

// Label says how it came out.
func (c Check) Label() string {
	switch c.Status {
	case "ok":
		return "In order"
	case "warn":
		return "Look at it"
	case "fail":
		return "Has failed"
	case "skip":
		return "Not examined"
	}
	return label(c.Status)
}

// Icon is the shape that goes with it, which is named as the class of its colour is.
func (c Check) Icon() string {
	switch c.Status {
	case "ok":
		return "authorized"
	case "warn":
		return "lapsed"
	case "fail":
		return "stalled"
	}
	return "imported"
}
