// Package notify writes and sends our mail, plans reminders, and understands what comes back.
//
//	Mailer.Queue ──► queued ──► claimed ──► sent        client becomes invited; Reminders plans what follows
//	(in the cause's    ▲           │
//	 transaction)      │           ├──────► failed      refused for good: client stalls as bounced
//	                   │           ├──────► deferred ─┐ refused for now: its own pauses grow
//	                   │           └──────► unknown ──┤ nobody knows the outcome: the same bytes again, counted
//	                   └──────────────────────────────┘
//	cancelled: no longer wanted when its turn came (authorized, said no, paused, another address or route)
//
// A message is one row, one for each step of an invitation. What it says is fixed when it is queued, its
// link is derived from its invitation, and its Message-ID from its own id: every attempt sends the same bytes.
// A claim is committed before the network is touched, an acceptance is noted right after it, and what it means
// is settled for many messages at once. So a crash can cost an owner a second mail only between a server's
// answer and its note. A connection that breaks before the answer is the other way; both are counted.
//
//	mailer.go       queues letters and digests; message.go composes them; stationery.go keeps what they look like
//	outbox.go       sends: claim.go takes what is due, pace.go says how fast, settle.go writes down what became of
//	                it, recover.go what senders that died have left; switch.go stops all of it, by hand or by itself
//	reminder.go     asks owners once more, on working days (calendar.go); digest.go tells operators how things stand
//	returnpath.go   gives every mail a sender's address of its own, and returns.go takes what is sent to it
//	probe.go        proves that mail for usernames arrives
//
// Package notify/smtp hands mails to a server, notify/bounce reads reports, notify/inbox a mailbox, and
// notify/posture what the domain name system says of us. Words and looks are package templates'; whom to write to
// is decided by package provisioning; package notify/mailsink is a server to try all this against.
package notify
