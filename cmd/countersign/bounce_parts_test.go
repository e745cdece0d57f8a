//go:build linux

package main_test

import (
	"net/url"
	"os"
	"testing"
)

// TestBounceTravelsBack has Postfix accept mail for somebody whom the server behind it does not know. Its report
// comes back to an address of that one message, Dovecot shows it, and the right client stalls.
func TestBounceTravelsBack(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("Postfix runs as root only")
	}
	needPart(t, "postfix", "apt-get install postfix", "/usr/sbin/postfix")
	needPart(t, "Dovecot", "apt-get install dovecot-imapd dovecot-lmtpd", "/usr/sbin/dovecot", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/lmtp")

	const agency, bounces, maria = "agency@agency.example", "bounce@agency.example", "maria@owners.example"
	post := startOddPostOffice(t, "virtual_mailbox_maps = static:ok\n", "", agency, bounces, maria)
	imap := url.URL{Scheme: "imap", Host: post.imap, User: url.UserPassword(bounces, mailboxPassword), RawQuery: "tls=none"}
	service := startService(t, "127.0.0.1:"+freePort(t),
		"COUNTERSIGN_AGENCY_NAME=Northwind Marketing",
		"COUNTERSIGN_AGENCY_MAILBOX="+agency,
		"COUNTERSIGN_MAIL_FROM=hello@agency.example",
		"COUNTERSIGN_SMTP_URL="+post.url(agency),
		"COUNTERSIGN_BOUNCE_ADDRESS="+bounces,
		"COUNTERSIGN_IMAP_URL="+imap.String(),
		"SSL_CERT_FILE="+post.certificate,
	)
	service.load(t, "ref,name,owner_name,owner_email\n"+
		"A,Acme Bakery,Maria Lopez,"+maria+"\n"+
		"C,Nobody Inc,Nobody,nobody@owners.example\n", "--invite")
	service.wait(t, "C", "stalled", "bounced")
	service.wait(t, "A", "invited", "")
	if from := post.onlyMail(t, maria).Header.Get("Return-Path"); len(from) < len("<bounce+@agency.example>")+40 {
		t.Errorf("the mail came from %s, want an address of its own", from)
	}
	// What was read is still there, for whoever looks into the mailbox.
	if subject := post.onlyMail(t, bounces).Header.Get("Subject"); subject == "" {
		t.Error("the report has no subject")
	}
}
