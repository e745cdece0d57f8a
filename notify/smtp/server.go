package smtp

import "github.com/countersign/countersign/notify/mailhost"

// ParseURL reads
//
//	smtp://[user:password@]host[:587][?tls=none]
//	smtps://[user:password@]host[:465]
//
// by the rules of mailhost.Parse.
func ParseURL(raw string) (*mailhost.Server, error) { return mailhost.Parse(mailhost.SMTP, raw) }
