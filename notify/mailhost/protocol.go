package mailhost

// Protocol is what we speak with a mail server.
type Protocol string

const (
	// SMTP hands mail to a server; many a server on the same machine wants no sign-in.
	SMTP Protocol = "smtp"
	// IMAP reads a folder of a mailbox, which always belongs to somebody who signs in.
	IMAP Protocol = "imap"
)

// rules are what URLs of one protocol have for themselves.
type rules struct {
	name              string
	example           string
	startTLS, overTLS int // the default ports
	schemes           string
	tail              string // what to say about something that follows the host and should not
	secrets           string // what tls=none would show to everybody
}

func (p Protocol) rules() rules {
	if p == IMAP {
		return rules{ //nolint:gosec // the password is an example
			name:     "IMAP URL",
			example:  "imaps://user:password@host:993",
			startTLS: 143, overTLS: 993,
			schemes: "imaps:// (TLS, port 993) or imap:// (STARTTLS, port 143)",
			tail:    "a / ? # or @ in user, password or folder must be percent-encoded (%2F %3F %23 %40)",
			secrets: "the password and the mails",
		}
	}
	return rules{ //nolint:gosec // the password is an example
		name:     "SMTP URL",
		example:  "smtp://user:password@host:587",
		startTLS: 587, overTLS: 465,
		schemes: "smtp:// (STARTTLS, port 587) or smtps:// (TLS, port 465)",
		tail:    "something follows the host; a / ? # or @ in user or password must be percent-encoded (%2F %3F %23 %40)",
		secrets: "passwords and invitations",
	}
}
