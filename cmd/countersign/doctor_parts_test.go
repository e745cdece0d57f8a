//go:build linux

package main_test

import (
	"net/url"
	"os"
	"testing"
)

// TestDoctorPlus has Postfix and Dovecot deliver plus addresses, or not, in all the ways in which hosts do.
func TestDoctorPlus(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("Postfix runs as root only")
	}
	needPart(t, "postfix", "apt-get install postfix", "/usr/sbin/postfix")
	needPart(t, "Dovecot", "apt-get install dovecot-imapd dovecot-lmtpd", "/usr/sbin/dovecot", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/lmtp")

	const agency, other, noTags = "agency@agency.example", "other@agency.example", "recipient_delimiter =\n"
	type visit struct {
		name    string
		reads   string // the mailbox that is read, the agency's by default
		setting string
		wait    string
		status  string
		found   []string
		cure    string
	}
	for name, office := range map[string]struct {
		postfix, dovecot string
		visits           []visit
	}{
		"with tags": {visits: []visit{
			{
				name: "it works", status: "ok",
				found: []string{"mail to agency+", "-probe@agency.example arrived, and its Delivered-To names that address"},
			},
			{
				name: "another mailbox is read", reads: other, wait: "2s", status: "fail",
				found: []string{"no mail to agency@agency.example arrived within 2s, neither"}, cure: "COUNTERSIGN_IMAP_URL must be the account",
			},
			{
				name: "the mailbox does not exist", setting: "COUNTERSIGN_AGENCY_MAILBOX=typo@agency.example", status: "fail",
				found: []string{"mail to typo@agency.example is refused", "RCPT TO answered 550 5.1.1"}, cure: "an address that exists",
			},
			{
				name: "no tags are wanted", setting: "COUNTERSIGN_USERNAME_PATTERN={local}{n}@{domain}", status: "fail",
				found: []string{"the pattern has no +", "agency1@agency.example", "550 5.1.1"}, cure: "as aliases or by a catch-all",
			},
		}},
		"without tags": {postfix: noTags, dovecot: noTags, visits: []visit{{
			name: "refused", status: "fail",
			found: []string{
				"the mail host does not know plus addresses (agency@agency.example is accepted)", "RCPT TO answered 550 5.1.1", "User unknown",
			},
			cure: "recipient_delimiter = +",
		}}},
		"without tags behind a relay": {postfix: "virtual_mailbox_maps = static:ok\n", dovecot: noTags, visits: []visit{{
			name: "returned", setting: "COUNTERSIGN_MAIL_FROM=" + agency, status: "fail",
			found: []string{"the mail host does not know plus addresses", "it came back: 550 5.1.1", "User doesn't exist"},
			cure:  "recipient_delimiter = +",
		}}},
		"tags go elsewhere": {
			postfix: noTags + "virtual_alias_maps = inline:{ { " + agency + " = " + agency + " }, { " + other + " = " + other + " }, { @agency.example = " + other + " } }\n",
			visits: []visit{
				{
					name: "lost", wait: "3s", status: "fail",
					found: []string{"mail to agency@agency.example arrived, mail to agency+", "did not within 3s"}, cure: "look for it in the spam folder",
				},
				{
					name: "and no tags are wanted", reads: other, setting: "COUNTERSIGN_USERNAME_PATTERN={local}{n}@{domain}", status: "warn",
					found: []string{"the pattern has no +", "mail to agency1@agency.example arrived", "Delivered-To: other@agency.example; only To"},
					cure:  "keep the whole address",
				},
			},
		},
		"tags are dropped": {
			postfix: "virtual_alias_maps = inline:{ " + agency + "=" + agency + " }\npropagate_unmatched_extensions =\n",
			visits: []visit{{
				name: "stripped", status: "warn",
				found: []string{"the mail host has written down Delivered-To: agency@agency.example; only To, which is up to the sender"},
				cure:  "propagate_unmatched_extensions",
			}},
		},
		"tags are rewritten": {
			postfix: "recipient_canonical_maps = inline:{ " + agency + "=" + agency + " }\npropagate_unmatched_extensions =\n",
			visits: []visit{{
				name: "rewritten", status: "warn", found: []string{"Delivered-To: agency@agency.example: mails for different clients cannot be told apart"},
				cure: "leave To as it is",
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			post := startOddPostOffice(t, office.postfix, office.dovecot, agency, other)
			for _, v := range office.visits {
				t.Run(v.name, func(t *testing.T) {
					t.Parallel()
					reads := agency
					if v.reads != "" {
						reads = v.reads
					}
					wait := "1m"
					if v.wait != "" {
						wait = v.wait
					}
					imap := url.URL{Scheme: "imap", Host: post.imap, User: url.UserPassword(reads, mailboxPassword), RawQuery: "tls=none"}
					in := install(t,
						"COUNTERSIGN_AGENCY_MAILBOX="+agency,
						"COUNTERSIGN_MAIL_FROM=hello@agency.example",
						"COUNTERSIGN_SMTP_URL="+post.url(agency),
						"COUNTERSIGN_IMAP_URL="+imap.String(),
						"COUNTERSIGN_DNS=127.0.0.1:1",
						"SSL_CERT_FILE="+post.certificate,
						v.setting,
					)
					d := in.doctor(t, "--plus", "--wait", wait)
					d.of(t, "SMTP").want(t, "ok", "with STARTTLS, signed in as "+agency, "")
					d.of(t, "IMAP").want(t, "ok", "in the clear, signed in as "+reads+", folder INBOX", "")
					delivery := d.of(t, "plus-address delivery")
					for _, found := range v.found {
						delivery.want(t, v.status, found, v.cure)
					}
				})
			}
		})
	}
}
