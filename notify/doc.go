// Package notify writes and sends our mail.
//
//	Mailer.Queue ──► message queued ──► sending ──► sent        client becomes invited
//	(in the cause's        ▲               │
//	 transaction)          │               ├──────► failed      refused for good: client stalls as bounced
//	                       │               │
//	                       └── deferred ◄──┘        refused for now, or the outcome is not known
//
//	cancelled: no longer wanted when its turn came (authorized, said no, paused, another address or route)
//
// A message is one row. What it says is fixed when it is queued, its link is derived from its
// invitation, and its Message-ID from its own id: every attempt sends the same bytes. An attempt is
// committed before the network is touched and its outcome after, so a crash between leaves a row in
// state sending. Whoever finds such a row sends it again and counts it. Beside a connection that breaks
// before the server's verdict, which is counted alike, that is the only way in which an owner can get
// a mail twice.
//
// Files: message.go composes one message, mailer.go queues and works them, transport.go and its
// neighbours keep the SMTP connections, probe.go proves that mail for usernames arrives, verify.go that the
// mail server lets us in. Package notify/inbox reads the mailbox. Words and looks are package templates'; whom to write to is
// decided by package provisioning; package notify/mailsink is a server to try all this against.
package notify
