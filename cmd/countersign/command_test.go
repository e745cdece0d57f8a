package main

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/provisioning"
)

// TestUnknownCommands: a slip in a command is told, at every level, and never taken for success.
func TestUnknownCommands(t *testing.T) {
	t.Parallel()
	carryOut := func(args ...string) (int, string) {
		var complaints strings.Builder
		code := run(t.Context(), args, streams{strings.NewReader(""), io.Discard, &complaints})
		return code, complaints.String()
	}
	groups := 0
	var walk func(*cobra.Command, []string)
	walk = func(cmd *cobra.Command, path []string) {
		path = slices.Clip(path)
		if cmd.HasSubCommands() {
			groups++
			if code, said := carryOut(append(path, "made-up")...); code != exitUnknown || !strings.Contains(said, "made-up") {
				t.Errorf("%s made-up: exit code %d, %s", cmd.CommandPath(), code, said)
			}
		}
		for _, c := range cmd.Commands() {
			walk(c, append(path, c.Name()))
		}
	}
	walk(newRoot(streams{strings.NewReader(""), io.Discard, io.Discard}), nil)
	if groups < 5 {
		t.Errorf("only %d commands have commands of their own", groups)
	}
	if _, said := carryOut("mail", "stats"); !strings.Contains(said, "did you mean status?") {
		t.Errorf("no guess: %s", said)
	}
	if code, said := carryOut("mail"); code != 0 || said != "" {
		t.Errorf("mail: exit code %d, %s", code, said)
	}
}

// TestSettingsOnAPage: every setting is described, and no secret is told.
func TestSettingsOnAPage(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	c := config{
		given:   map[string]bool{"SMTP_URL": true},
		SMTPURL: "smtps://ada:" + secret + "@mail.example.com", IMAPURL: "imaps://ada:" + secret + "@imap.example.com",
		DatabaseURL: "postgres://ada:" + secret + "@db.example.com/roster",
	}
	v := reflect.ValueOf(&c).Elem()
	for i, field := range reflect.VisibleFields(v.Type()) {
		if field.Type == reflect.TypeFor[provisioning.Secret]() && v.Field(i).IsZero() {
			v.Field(i).SetString(secret)
		}
	}
	described := c.describe()
	for name, s := range described {
		if strings.Contains(s.Value, secret) {
			t.Errorf("%s tells the secret: %s", name, s.Value)
		}
	}
	for name, want := range map[string]string{
		"SMTP_URL": "mail.example.com:465", "IMAP_URL": "imap.example.com", "DATABASE_URL": "roster at db.example.com:5432", "OAUTH_CLIENT_SECRET": "set",
	} {
		if got := described[name]; !strings.Contains(got.Value, want) || got.Given != (name == "SMTP_URL") {
			t.Errorf("%+v; want %s", got, want)
		}
	}
	for _, group := range settingGroups() {
		for _, s := range group.Settings {
			if _, ok := described[s.Name]; !ok {
				t.Errorf("%s is shown and is no setting", s.Name)
			}
		}
	}
}

// TestNoReminders: a list of reminders that is empty sends none, one that is not there the usual ones.
func TestNoReminders(t *testing.T) {
	t.Parallel()
	for content, want := range map[string][]int{
		"":                            {3, 7, 14},
		"COUNTERSIGN_REMINDERS=\n":    {},
		"COUNTERSIGN_REMINDERS=2,4\n": {2, 4},
	} {
		file := filepath.Join(t.TempDir(), "countersign.env")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := loadConfig(file)
		if err != nil {
			t.Fatal(err)
		}
		if c.reminders == nil || !slices.Equal(c.reminders, want) {
			t.Errorf("%q gives %#v, want %#v", content, c.reminders, want)
		}
	}
}
