package inbox

import "github.com/countersign/countersign/notify/mailhost"

// Account is a folder of a mailbox, and how to get there.
type Account = mailhost.Server

// ParseURL reads an account as package mailhost writes it.
func ParseURL(raw string) (*Account, error) { return mailhost.Parse(mailhost.IMAP, raw) }
