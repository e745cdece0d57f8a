package templates_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/templates"
)

func settings() templates.SettingsPage {
	return templates.SettingsPage{Console: console(), Version: "v1.2.0", Groups: []templates.SettingGroup{
		{Title: "Agency", Link: templates.Link{URL: "/admin/mail/letterhead", Words: "The letterhead"}, Settings: []templates.Setting{
			{Name: "COUNTERSIGN_AGENCY_NAME", Label: "Name", Value: "Brightside Marketing", Given: true},
			{Name: "COUNTERSIGN_USERNAME_PATTERN", Label: "Username", Value: "{local}+{slug}@{domain}: Acme Bakery becomes agency+acme-bakery@brightside.example"},
		}},
		{Title: "Reminders", Note: "On working days.", Settings: []templates.Setting{{Name: "COUNTERSIGN_DNS", Label: "Name server"}}},
	}}
}

func diagnosis(ended time.Time) templates.DoctorPage {
	return templates.DoctorPage{
		Console: console(), Actor: "sam@brightside.example", At: at(23, 9, 0), EndedAt: ended,
		Checks: []templates.Check{
			{Name: "settings", Status: "ok", Found: "no mistakes"},
			{Name: "DMARC", Status: "warn", Found: "brightside.example has no policy", Cure: "publish one"},
			{Name: "SMTP", Status: "fail", Found: "mail server relay.example:587: connect: refused", Cure: "correct COUNTERSIGN_SMTP_URL"},
			{Name: "test mail", Status: "skip", Found: "not tried"},
		},
	}
}

func settingsSamples() []sample {
	lost := diagnosis(time.Time{})
	lost.Lost = true
	return []sample{
		{"settings", settings()},
		{"doctor", diagnosis(at(23, 9, 1))},
		{"doctor-running", diagnosis(time.Time{})},
		{"doctor-lost", lost},
		{"doctor-none", templates.DoctorPage{Console: console()}},
	}
}

func TestDoctorPage(t *testing.T) {
	t.Parallel()
	ended := render(t, diagnosis(at(23, 9, 1)))
	says(t, ended, "1 check has failed")
	says(t, ended, "publish one")
	one(t, ended, tag("form"), with("action", "/admin/settings/doctor"))
	hasNot(t, ended, having("data-hx-get"))
	running := render(t, diagnosis(time.Time{}))
	one(t, running, with("data-hx-get", "/admin/settings/doctor"))
	hasNot(t, running, tag("form"), with("action", "/admin/settings/doctor"))
}
