package browsertest_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What the demo's pages know.
const (
	agency           = "Northwind Marketing"
	mailbox          = "agency@northwind.example"
	closed           = "@closed-shop.example"         // where no mail arrives
	stranger         = "hello@somewhere-else.example" // a login that belongs to no client
	sandboxPassword  = "sandbox-27"
	operator         = "grace@northwind.example"
	operatorPassword = "four words are enough"
)

// demo is a running countersign demo.
type demo struct {
	lab     *lab
	process *process
	tmp     string
	data    string // folder of its private database
	console string
	entry   string // one-time link into the console
	mail    string
	sandbox string
}

func startDemo(l *lab, flags ...string) (*demo, error) {
	tmp, err := l.folder()
	if err != nil {
		return nil, err
	}
	d := &demo{lab: l, tmp: tmp}
	if d.process, err = l.start(tmp, nil, "Ctrl-C ends it.", append([]string{"demo"}, flags...)...); err != nil {
		return nil, err
	}
	welcome := d.process.out.String()
	for name, to := range map[string]*string{"Console": &d.entry, "Mail": &d.mail, "Provider": &d.sandbox} {
		found := regexp.MustCompile(name + `\s+(http://\S+)`).FindStringSubmatch(welcome)
		if found == nil {
			return nil, fmt.Errorf("the demo does not say where its %s is:\n%s", name, welcome)
		}
		*to = found[1]
	}
	entry, err := url.Parse(d.entry)
	if err != nil {
		return nil, err
	}
	d.console = "http://" + entry.Host
	found, err := filepath.Glob(filepath.Join(tmp, "countersign-demo-*"))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("the demo's folders: %q, %w", found, err)
	}
	d.data = found[0]
	return d, nil
}

// newDemo runs a demo for one test. Nothing of it may stay.
func newDemo(t *testing.T, flags ...string) *demo {
	t.Helper()
	d, err := startDemo(need(t), flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.process.stop(); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(d.tmp); len(left) > 0 {
			t.Errorf("the demo leaves %v behind", left)
		}
	})
	return d
}

// settings let a command work on the demo's database.
func (d *demo) settings() []string {
	return []string{
		"COUNTERSIGN_DATA_DIR=" + d.data,
		"COUNTERSIGN_PUBLIC_URL=" + d.console,
		"COUNTERSIGN_AGENCY_MAILBOX=" + mailbox,
	}
}

// command runs a command on the demo's database. wantCode is 0, or 3 for an import that rejects rows.
func (d *demo) command(t *testing.T, wantCode int, input string, args ...string) string {
	t.Helper()
	out, code, err := d.lab.command(d.tmp, d.settings(), input, args...)
	if err != nil {
		t.Fatal(err)
	}
	if code != wantCode {
		t.Fatalf("countersign %v ended with %d, want %d:\n%s", args, code, wantCode, out)
	}
	return out
}

// addOperator makes an operator who signs in by password.
func (d *demo) addOperator() error {
	_, code, err := d.lab.command(d.tmp, d.settings(), operatorPassword+"\n", "admin", "add", operator, "--name", "Grace Hopper")
	if err == nil && code != 0 {
		err = fmt.Errorf("admin add ended with %d", code)
	}
	return err
}

// owner is a client of the demo's roster.
type owner struct{ ref, client, name, email, account string }

// newOwner returns a client of the shared demo that no other test has.
func newOwner(t *testing.T) owner {
	t.Helper()
	l := need(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owners == nil {
		l.owners = reachable(t)
	}
	if len(l.owners) == 0 {
		t.Fatal("the tests have used up the demo's roster: repeat them less often in one run")
	}
	o := l.owners[0]
	l.owners = l.owners[1:]
	return o
}

// reachable lists the clients whose owners get mail, each at an address of their own.
func reachable(t *testing.T) []owner {
	t.Helper()
	var owners []owner
	known := map[string]bool{}
	for _, row := range roster(t)[1:] {
		// The rows that an import rejects have numbers of their own, or repeat another.
		if o := (owner{row[0], row[1], row[2], row[3], row[4]}); o.ref < "MB-1200" && !known[o.email] && !strings.HasSuffix(o.email, closed) {
			known[o.email] = true
			owners = append(owners, o)
		}
	}
	return owners
}

// asCSV writes a file of one row.
func asCSV(t *testing.T, header string, row ...string) string {
	t.Helper()
	var file strings.Builder
	w := csv.NewWriter(&file)
	if err := w.WriteAll([][]string{strings.Split(header, ","), row}); err != nil {
		t.Fatal(err)
	}
	return file.String()
}

const rosterFile = "../demo/roster.csv"

func roster(t *testing.T) [][]string {
	t.Helper()
	file, err := os.Open(rosterFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	reader := csv.NewReader(file)
	reader.FieldsPerRecord = -1
	rows, err := reader.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// links waits for mail to the address and returns the links of the newest: the invitation's and the
// one that stops reminders.
func (d *demo) links(t *testing.T, address string) (invitation, unsubscribe string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		var mails []struct {
			Links []string `json:"links"`
		}
		fetch(t, http.MethodGet, d.mail+"/messages?to="+url.QueryEscape(address), nil, &mails)
		for _, m := range mails { // A thank-you has no link.
			if len(m.Links) == 2 {
				return m.Links[0], m.Links[1]
			}
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatalf("no mail with a link came to %s", address)
	return "", ""
}

// fetch makes a request beside the browser and reads its JSON answer into v.
func fetch(t *testing.T, method, address string, header http.Header, v any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		request.Header = header
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	if response.StatusCode >= http.StatusBadRequest {
		t.Fatalf("%s %s answers %s", method, request.URL.Path, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(v); err != nil {
		t.Fatalf("%s %s: %v", method, request.URL.Path, err)
	}
}
