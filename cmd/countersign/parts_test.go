//go:build linux

package main_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests of this file run the program against mail servers that nobody here wrote: Postfix and Dovecot as
// Debian ships them. They are skipped where a part is not installed, and fail instead when
// COUNTERSIGN_TEST_REQUIRE_PARTS is set. Authorization servers of other make are met in folder interoptest.

// TestPostfixDovecot has Postfix take the program's mail, by STARTTLS and AUTH, and Dovecot deliver it.
func TestPostfixDovecot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("Postfix runs as root only")
	}
	needPart(t, "postfix", "apt-get install postfix", "/usr/sbin/postfix")
	needPart(t, "Dovecot", "apt-get install dovecot-imapd dovecot-lmtpd", "/usr/sbin/dovecot", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/lmtp")

	const agency, maria, jonas = "agency@agency.example", "maria@owners.example", "jonas@owners.example"
	post := startPostOffice(t, agency, maria, jonas)
	service := startService(t, "127.0.0.1:"+freePort(t),
		"COUNTERSIGN_AGENCY_NAME=Northwind Marketing",
		"COUNTERSIGN_AGENCY_MAILBOX="+agency,
		"COUNTERSIGN_MAIL_FROM=hello@agency.example",
		"COUNTERSIGN_SMTP_URL="+post.url(agency),
		"SSL_CERT_FILE="+post.certificate,
	)
	service.load(t, "ref,name,owner_name,owner_email\n"+
		"A,Acme Bakery,Maria Lopez,"+maria+"\n"+
		"B,Jonas Bikes,Jonas Weber,jonas+shop@owners.example\n"+
		"C,Nobody Inc,Nobody,nobody@owners.example\n", "--invite")

	checkInvitation(t, post.onlyMail(t, maria), maria, "Acme Bakery")
	checkInvitation(t, post.onlyMail(t, jonas), "jonas+shop@owners.example", "Jonas Bikes")
	service.wait(t, "C", "stalled", "bounced")
	for _, ref := range []string{"A", "B"} {
		service.wait(t, ref, "invited", "")
	}

	// What the provider will mail to a client's username arrives at the agency.
	username := service.client(t, "A").Username
	if username != "agency+acme-bakery@agency.example" {
		t.Errorf("the username of Acme Bakery is %q", username)
	}
	err := smtp.SendMail(post.mx, nil, "no-reply@provider.example", []string{username},
		[]byte("From: no-reply@provider.example\r\nTo: "+username+"\r\nSubject: You were added\r\n\r\nAccept.\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if subject := post.onlyMail(t, agency).Header.Get("Subject"); subject != "You were added" {
		t.Errorf("the agency's mailbox has a mail with the subject %q", subject)
	}
}

// checkInvitation checks that a mail arrived as it was sent, and that its link works.
func checkInvitation(t *testing.T, m letter, to, client string) {
	t.Helper()
	link := regexp.MustCompile(`http://\S+/i/[a-z2-7]{32}\b`).FindString(m.text)
	if link == "" {
		t.Fatalf("the mail to %s has no link:\n%s", to, m.text)
	}
	wantTitle(t, link, "Connect "+client+" to Northwind Marketing")
	for name, want := range map[string]string{
		"Auto-Submitted":        `auto-generated`,
		"From":                  `"Northwind Marketing" <hello@agency\.example>`,
		"List-Unsubscribe":      `<` + regexp.QuoteMeta(link) + `/unsubscribe>`,
		"List-Unsubscribe-Post": `List-Unsubscribe=One-Click`,
		"Message-Id":            `<[0-9a-f-]{36}@agency\.example>`,
		"To":                    `".+" <` + regexp.QuoteMeta(to) + `>`,
	} {
		got := m.Header[name]
		if len(got) != 1 || !regexp.MustCompile(`^`+want+`$`).MatchString(got[0]) {
			t.Errorf("the mail to %s has %s: %q; want %s", to, name, got, want)
		}
	}
	// RFC 3848: S tells of TLS, A of authentication.
	if received := strings.Join(m.Header["Received"], "\n"); !strings.Contains(received, "with ESMTPSA") {
		t.Errorf("the mail to %s did not come by STARTTLS and AUTH:\n%s", to, received)
	}
}

// wantTitle opens a page, which must have this headline.
func wantTitle(t *testing.T, address, want string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // It was only read.
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(body), "<h1>"+want+"</h1>") {
		t.Fatalf("%s answered %s without the title %q:\n%s", address, response.Status, want, body)
	}
}

// postOffice is a Postfix and a Dovecot of our own.
type postOffice struct {
	submission  string // host:port that takes mail by STARTTLS and AUTH
	mx          string // host:port that takes mail from strangers
	imap        string // host:port
	certificate string // file
}

const mailboxPassword = "p@ss/w%rd#1" // nothing in it may get lost in a URL

// startPostOffice starts Postfix and Dovecot in a folder of the test, with these mailboxes.
func startPostOffice(t *testing.T, mailboxes ...string) *postOffice {
	t.Helper()
	return startOddPostOffice(t, "", "", mailboxes...)
}

// startOddPostOffice starts a post office with lines at the end of main.cf and of dovecot.conf, where they replace others.
func startOddPostOffice(t *testing.T, mainLines, dovecotLines string, mailboxes ...string) *postOffice {
	t.Helper()
	const dovecot = "/usr/sbin/dovecot"
	dir := t.TempDir()
	// The accounts of the servers have to get in.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	submission, mx, imap := freePort(t), freePort(t), freePort(t)
	post := &postOffice{
		submission:  "localhost:" + submission,
		mx:          "127.0.0.1:" + mx,
		imap:        "127.0.0.1:" + imap,
		certificate: filepath.Join(dir, "certificate.pem"),
	}
	writeCertificate(t, post.certificate, filepath.Join(dir, "key.pem"))
	for folder, owner := range map[string]string{"postfix": "root", "queue": "root", "data": "postfix", "run": "root", "mail": "nobody"} {
		makeFolder(t, filepath.Join(dir, folder), owner)
	}
	var users, addresses strings.Builder
	for _, m := range mailboxes {
		fmt.Fprintf(&users, "%s:{PLAIN}%s\n", m, mailboxPassword)
		fmt.Fprintf(&addresses, "%s exists\n", m)
	}
	for name, content := range map[string]string{
		"users":             users.String(),
		"dovecot.conf":      dovecotConf(t, dovecot) + dovecotLines,
		"postfix/mailboxes": addresses.String(),
		"postfix/main.cf":   mainCf + mainLines,
		"postfix/master.cf": masterCf,
	} {
		content = strings.NewReplacer("DIR", dir, "SUBMISSION", submission, "MX", mx, "IMAP", imap).Replace(content)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	daemon(t, exec.CommandContext(t.Context(), dovecot, "-F", "-c", filepath.Join(dir, "dovecot.conf")))
	config := filepath.Join(dir, "postfix")
	if out, err := exec.CommandContext(t.Context(), "/usr/sbin/postfix", "-c", config, "check").CombinedOutput(); err != nil {
		t.Fatalf("postfix check: %v\n%s", err, out)
	}
	// It changes its identity, by which it forgets to end with this process: then it ends after five minutes.
	daemon(t, exec.CommandContext(t.Context(), "/usr/lib/postfix/sbin/master", "-s", "-e", "300", "-c", config))
	for _, address := range []string{post.submission, post.mx, post.imap} {
		eventually(t, address+" answers", func() bool {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
			if err != nil {
				return false
			}
			return conn.Close() == nil
		})
	}
	return post
}

// dovecotConf returns the configuration for the installed version: that of Dovecot 2.4 has another language.
func dovecotConf(t *testing.T, program string) string {
	t.Helper()
	version, err := exec.CommandContext(t.Context(), program, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.HasPrefix(version, []byte("2.3.")) {
		return dovecot23 + dovecotAny
	}
	return dovecot24 + dovecotAny
}

const (
	dovecot23 = `
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
passdb {
  driver = passwd-file
  args = DIR/users
}
userdb {
  driver = static
}
`
	dovecot24 = `
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
passdb passwd-file {
  passwd_file_path = DIR/users
}
userdb static {
}
`
	dovecotAny = `
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
base_dir = DIR/run
state_dir = DIR/run
log_path = /dev/stderr
recipient_delimiter = +
mail_uid = nobody
mail_gid = nogroup
mail_home = DIR/mail/%{user}
service imap-login {
  inet_listener imap {
    port = IMAP
  }
}
service lmtp {
  unix_listener lmtp-postfix {
    user = postfix
  }
}
service auth {
  unix_listener auth-postfix {
    user = postfix
  }
}
`
	mainCf = `
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
daemon_directory = /usr/lib/postfix/sbin
maillog_file = /dev/stdout
myhostname = mail.agency.example
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
inet_interfaces = loopback-only
inet_protocols = ipv4
smtpd_peername_lookup = no
recipient_delimiter = +
virtual_mailbox_domains = agency.example, owners.example
virtual_mailbox_maps = texthash:DIR/postfix/mailboxes
virtual_transport = lmtp:unix:DIR/run/lmtp-postfix
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_sasl_type = dovecot
smtpd_sasl_path = DIR/run/auth-postfix
smtpd_tls_auth_only = yes
smtpd_tls_cert_file = DIR/certificate.pem
smtpd_tls_key_file = DIR/key.pem
`
	masterCf = `
postlog    unix-dgram n - n - 1 postlogd
127.0.0.1:SUBMISSION inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
127.0.0.1:MX inet n - n - - smtpd
cleanup    unix n - n - 0 cleanup
qmgr       unix n - n 300 1 qmgr
tlsmgr     unix - - n 1000? 1 tlsmgr
rewrite    unix - - n - - trivial-rewrite
bounce     unix - - n - 0 bounce
defer      unix - - n - 0 bounce
trace      unix - - n - 0 bounce
proxymap   unix - - n - - proxymap
lmtp       unix - - n - - lmtp
error      unix - - n - - error
retry      unix - - n - - error
anvil      unix - - n - 1 anvil
`
)

// url returns the SMTP URL for the owner of a mailbox.
func (p *postOffice) url(mailbox string) string {
	u := url.URL{Scheme: "smtp", Host: p.submission, User: url.UserPassword(mailbox, mailboxPassword)}
	return u.String()
}

// letter is a mail in a mailbox.
type letter struct {
	*mail.Message

	text string // of the text part
}

// onlyMail waits until a mailbox has a mail, and fails if it has more than one.
func (p *postOffice) onlyMail(t *testing.T, mailbox string) letter {
	t.Helper()
	var found []letter
	eventually(t, "a mail in the mailbox "+mailbox, func() bool {
		found = p.read(t, mailbox)
		return len(found) > 0
	})
	if len(found) > 1 {
		t.Errorf("%s has %d mails where one was sent", mailbox, len(found))
	}
	return found[0]
}

// read returns what is in a mailbox, as its owner's mail program reads it.
func (p *postOffice) read(t *testing.T, mailbox string) []letter {
	t.Helper()
	conn, err := textproto.Dial("tcp", p.imap)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // It was only read.
	var letters []letter
	for tag, command := range []string{
		fmt.Sprintf("LOGIN %s %q", mailbox, mailboxPassword), "SELECT INBOX", "UID FETCH 1:* BODY.PEEK[]", "LOGOUT",
	} {
		if err := conn.PrintfLine("%d %s", tag, command); err != nil {
			t.Fatal(err)
		}
		for {
			line, err := conn.ReadLine()
			if err != nil {
				t.Fatal(err)
			}
			if status, last := strings.CutPrefix(line, strconv.Itoa(tag)+" "); last {
				if !strings.HasPrefix(status, "OK") {
					t.Fatalf("IMAP: %s answers %s", command, status)
				}
				break
			}
			if literal := regexp.MustCompile(`BODY\[\] \{(\d+)\}$`).FindStringSubmatch(line); literal != nil {
				size, _ := strconv.Atoi(literal[1])
				raw := make([]byte, size)
				if _, err := io.ReadFull(conn.R, raw); err != nil {
					t.Fatal(err)
				}
				letters = append(letters, parseLetter(t, raw))
			}
		}
	}
	return letters
}

func parseLetter(t *testing.T, raw []byte) letter {
	t.Helper()
	message, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	body := message.Body
	if kind, parameters, err := mime.ParseMediaType(message.Header.Get("Content-Type")); err == nil && strings.HasPrefix(kind, "multipart/") {
		part, err := multipart.NewReader(body, parameters["boundary"]).NextPart()
		if err != nil {
			t.Fatal(err)
		}
		body = part
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return letter{message, string(text)}
}

// writeCertificate makes a certificate for localhost that vouches for itself.
func writeCertificate(t *testing.T, certificateFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "localhost"},
		DNSNames:              []string{"localhost"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		certificateFile: {Type: "CERTIFICATE", Bytes: certificate},
		keyFile:         {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func makeFolder(t *testing.T, path, owner string) {
	t.Helper()
	account, err := user.Lookup(owner)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(path, 0o755), os.Chown(path, uid, -1)); err != nil { //nolint:gosec // The servers' accounts have to get in.
		t.Fatal(err)
	}
}

// needPart ends the test where one of the programs and files that make up a part is missing.
func needPart(t *testing.T, part, cure string, files ...string) {
	t.Helper()
	for _, file := range files {
		_, err := exec.LookPath(file)
		switch {
		case err != nil && os.Getenv("COUNTERSIGN_TEST_REQUIRE_PARTS") != "":
			t.Fatalf("%s is not installed; run: %s", part, cure)
		case err != nil:
			t.Skipf("%s is not installed; run: %s", part, cure)
		}
	}
}

// daemon runs cmd until the test or this process ends. It is told by SIGTERM.
func daemon(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	// A file and no pipe, which children that outlive cmd would hold open.
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // It was told to end.
		_ = log.Close()
		if output, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(cmd.Path), output)
		}
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // Nobody connected.
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	const patience, interval = 30 * time.Second, 100 * time.Millisecond
	deadline := time.After(patience)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("%s: not within %s", what, patience)
		case <-ticker.C:
		}
	}
}

// service is a running countersign serve.
type service struct {
	*installation

	url string
	key string
}

// startService runs countersign serve until the test ends.
func startService(t *testing.T, listen string, settings ...string) *service {
	t.Helper()
	s := &service{
		installation: install(t, append(settings, "COUNTERSIGN_LISTEN="+listen)...),
		url:          "http://" + listen,
	}
	serving := s.serve(t)
	t.Cleanup(func() {
		if code := serving.terminate(t); code != 0 || t.Failed() {
			t.Errorf("countersign serve: exit code %d\n%s", code, serving.output)
		}
	})
	words := strings.Fields(s.mustRun(t, "key", "create", "--name", "test", "--scopes", "read"))
	s.key = words[len(words)-1]
	return s
}

// load imports a roster.
func (s *service) load(t *testing.T, roster string, flags ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "roster.csv")
	if err := os.WriteFile(file, []byte(roster), 0o600); err != nil {
		t.Fatal(err)
	}
	s.mustRun(t, append([]string{"import", file}, flags...)...)
}

// get asks the API.
func (s *service) get(t *testing.T, path string, answer any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/v1"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // It was only read.
	if response.StatusCode >= http.StatusBadRequest {
		t.Fatalf("%s was answered %s", path, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}

// client is what the tests look at of a client.
type client struct {
	Username string
	Stage    string
	Reason   string
}

func (s *service) client(t *testing.T, ref string) client {
	t.Helper()
	var c client
	s.get(t, "/clients/ref:"+ref, &c)
	return c
}

// wait waits until a client is in a stage.
func (s *service) wait(t *testing.T, ref, stage, reason string) {
	t.Helper()
	eventually(t, fmt.Sprintf("client %s is %s %s", ref, stage, reason), func() bool {
		c := s.client(t, ref)
		return c.Stage == stage && c.Reason == reason
	})
}
