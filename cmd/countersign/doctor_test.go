//go:build linux

package main_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/pgtest"
)

// diagnosis is what countersign doctor --json prints.
type diagnosis struct {
	OK     bool
	Checks []finding
}

type finding struct{ Name, Status, Found, Cure string }

// of returns what was found at the check of a name.
func (d diagnosis) of(t *testing.T, name string) finding {
	t.Helper()
	i := slices.IndexFunc(d.Checks, func(f finding) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("there is no check of %s: %+v", name, d.Checks)
	}
	return d.Checks[i]
}

// want compares a finding with what its status, its text and its cure should be or contain.
func (f finding) want(t *testing.T, status, found, cure string) {
	t.Helper()
	if f.Status != status || !strings.Contains(f.Found, found) || !strings.Contains(f.Cure, cure) || (cure == "") != (f.Cure == "") {
		t.Errorf("%s is %s: %s (cure: %s); want %s: %s (%s)", f.Name, f.Status, f.Found, f.Cure, status, found, cure)
	}
}

// statuses are those of all checks, in their order.
func (d diagnosis) statuses() (all []string) {
	for _, f := range d.Checks {
		all = append(all, f.Name+": "+f.Status)
	}
	return all
}

// doctor asks the doctor, who must not tell a secret.
func (in *installation) doctor(t *testing.T, flags ...string) diagnosis {
	t.Helper()
	out, complaints, code := in.run(t, append([]string{"doctor", "--json"}, flags...)...)
	var d diagnosis
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("%v\n%s%s", err, out, complaints)
	}
	if sick := slices.ContainsFunc(d.Checks, func(f finding) bool { return f.Status == "fail" }); d.OK == sick || (code == 0) == sick || complaints != "" {
		t.Errorf("ok is %v and the exit code %d\n%s%s", d.OK, code, out, complaints)
	}
	if strings.Contains(out, "hunter2") || strings.Contains(out, mailboxPassword) {
		t.Errorf("the doctor told a secret: %s", out)
	}
	return d
}

func TestDoctorWithoutSettings(t *testing.T) {
	t.Parallel()
	in := install(t)
	want := []string{
		"settings: ok", "database: skip", "vault keys: skip", "clock: skip", "usernames: skip", "SMTP: skip", "IMAP: skip",
		"mail domains: skip", "plus-address delivery: skip", "test mail: skip",
	}
	if diff := cmp.Diff(want, in.doctor(t).statuses()); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
	in.doctor(t, "--plus").of(t, "plus-address delivery").want(t, "skip", "needs usernames, SMTP and IMAP", "")
	if _, err := os.Stat(in.dataDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the doctor made the data folder: %v", err)
	}
	if _, complaints, code := in.run(t, "doctor", "--wait", "0s"); code != 1 || !strings.Contains(complaints, "--wait") {
		t.Errorf("--wait 0s: exit code %d, %s", code, complaints)
	}
}

func TestDoctorFindsMistakes(t *testing.T) {
	t.Parallel()
	in := install(t, "COUNTERSIGN_IMAP_URL=imaps://user:hunter2@", "COUNTERSIGN_USERNAME_MAX=many")
	d := in.doctor(t)
	want := []string{
		"settings: fail", "settings: fail", "database: skip", "vault keys: skip", "clock: skip", "usernames: skip",
		"SMTP: skip", "IMAP: skip", "mail domains: skip", "plus-address delivery: skip", "test mail: skip",
	}
	if diff := cmp.Diff(want, d.statuses()); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
	mistakes := d.Checks[0].Found + "\n" + d.Checks[1].Found
	for _, name := range []string{"COUNTERSIGN_IMAP_URL: IMAP URL: names no host", `COUNTERSIGN_USERNAME_MAX: "many" is not a number`} {
		if !strings.Contains(mistakes, name) {
			t.Errorf("%s is not told:\n%s", name, mistakes)
		}
	}
	d.of(t, "database").want(t, "skip", "the settings have mistakes", "")
}

// A slip in the name of a setting would leave it without effect and without a word.
func TestDoctorFindsStrangeSettings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "countersign.env")
	if err := os.WriteFile(file, []byte("COUNTERSIGN_MAILFROM=hunter2\nCOUNTERSIGN_AGENCY_NAME=Agency\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := install(t, "COUNTERSIGN_SMTP_URI=hunter2", "COUNTERSIGN_SMTP_URL_FILE="+os.DevNull)
	d := in.doctor(t, "--env-file", file)
	want := []string{"settings: warn", "settings: warn", "database: skip"}
	if diff := cmp.Diff(want, d.statuses()[:3]); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
	d.Checks[0].want(t, "warn", "COUNTERSIGN_MAILFROM is set, but is no setting", "README")
	d.Checks[1].want(t, "warn", "COUNTERSIGN_SMTP_URI is set, but is no setting", "README")
}

// The report for people has a line a check, and one for its cure.
func TestDoctorPrints(t *testing.T) {
	t.Parallel()
	in := install(t, "COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example")
	out, _, code := in.run(t, "doctor")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, want := range []string{
		`ok    settings               no mistakes`,
		`skip  database               there is none yet in .+`,
		` {29}cure: the first serve, import or migrate makes it; .+`,
	} {
		if !regexp.MustCompile(`^` + want + `$`).MatchString(lines[i]) {
			t.Errorf("line %d is %q, want %s", i, lines[i], want)
		}
	}
	const username = "\nok    usernames              {local}+{slug}@{domain} with agency@agency.example: Acme Bakery would be agency+acme-bakery@agency.example\n"
	if code != 0 || !strings.Contains(out, username) {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestDoctorOfPrivateDatabase(t *testing.T) {
	t.Parallel()
	in := install(t, "COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example")
	keyFile := filepath.Join(in.dataDir, "vault.key")
	in.mustRun(t, "migrate")
	d := in.doctor(t)
	d.of(t, "database").want(t, "ok", "private, in "+in.dataDir+", schema version", "")
	d.of(t, "vault keys").want(t, "skip", "there is no key yet", keyFile)
	d.of(t, "clock").want(t, "ok", "from the database's", "")
	if _, err := os.Stat(keyFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the doctor made a key: %v", err)
	}

	in.mustRun(t, "invite") // makes the key
	in.doctor(t).of(t, "vault keys").want(t, "ok", "they belong to this database", "")
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	in.doctor(t).of(t, "vault keys").want(t, "fail", keyFile+" is gone", "restore it from the backup")
	if _, err := os.Stat(keyFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the doctor made a key: %v", err)
	}
	id, _, _ := strings.Cut(string(key), "=")
	for keys, cure := range map[string]string{
		vault.GenerateKey(id):      "put the earlier one back",
		vault.GenerateKey("other"): "add the key to COUNTERSIGN_VAULT_KEYS, or restore the key file",
	} {
		if err := os.WriteFile(keyFile, []byte(keys), 0o600); err != nil {
			t.Fatal(err)
		}
		in.doctor(t).of(t, "vault keys").want(t, "fail", "", cure)
	}
}

func TestDoctorOfDatabase(t *testing.T) {
	t.Parallel()
	address := pgtest.EmptyURL(t)
	in := install(t, "COUNTERSIGN_DATABASE_URL="+address, "COUNTERSIGN_VAULT_KEYS="+vault.GenerateKey("k1"))
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // It was only asked.
	count := func(what string) (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM `+what).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}

	d := in.doctor(t)
	d.of(t, "database").want(t, "warn", "schema version 0, while this program needs version", "countersign migrate")
	d.of(t, "vault keys").want(t, "skip", "needs a database that has its tables", "")
	if n := count(`pg_tables WHERE schemaname = 'public'`); n != 0 {
		t.Errorf("the doctor made %d tables", n)
	}

	in.mustRun(t, "migrate")
	d = in.doctor(t)
	d.of(t, "database").want(t, "ok", "at COUNTERSIGN_DATABASE_URL, schema version", "")
	d.of(t, "vault keys").want(t, "ok", "they belong to this database", "")
	if n := count(`secrets`); n != 0 {
		t.Errorf("the doctor wrote %d secrets", n)
	}

	if _, err := conn.Exec(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (90000, true)`); err != nil {
		t.Fatal(err)
	}
	in.doctor(t).of(t, "database").want(t, "fail", "schema version 90000, while this program knows versions up to", "start the newer version")
}

// Whatever does not need the database is examined without it.
func TestDoctorWithoutDatabase(t *testing.T) {
	t.Parallel()
	sink, server := startSink(t)
	in := install(t,
		"COUNTERSIGN_DATABASE_URL=postgres://user:hunter2@127.0.0.1:1/countersign",
		"COUNTERSIGN_VAULT_KEYS="+vault.GenerateKey("k1"),
		"COUNTERSIGN_AGENCY_MAILBOX=agency@agency.example",
		"COUNTERSIGN_SMTP_URL=smtp://"+server+"?tls=none",
		"COUNTERSIGN_IMAP_URL=imap://agency:hunter2@127.0.0.1:1?tls=none",
		"COUNTERSIGN_DNS=127.0.0.1:1",
	)
	d := in.doctor(t, "--plus")
	d.of(t, "database").want(t, "fail", "connection refused", "see that the server runs")
	d.of(t, "vault keys").want(t, "skip", "needs", "")
	d.of(t, "clock").want(t, "skip", "needs the database", "")
	d.of(t, "usernames").want(t, "ok", "agency+acme-bakery@agency.example", "")
	d.of(t, "SMTP").want(t, "ok", server+" in the clear, without signing in", "")
	d.of(t, "IMAP").want(t, "fail", "IMAP server 127.0.0.1:1: connect", "check host and port in COUNTERSIGN_IMAP_URL")
	d.of(t, "plus-address delivery").want(t, "skip", "needs usernames, SMTP and IMAP in order", "")
	if n := sink.Count(); n != 0 {
		t.Errorf("the doctor sent %d mails", n)
	}
}
