// Package inbox reads one IMAP mailbox.
//
//	ParseURL ─► Account ─┬─► Open ─► Mailbox ─► Next, Next, … ─► Close      for as long as the connection holds:
//	                     │                                                  what arrives from Open on
//	                     └─► Watch ─► handle(Message), handle(Message), …   for ever:
//	                           ▲          │                                 everything after a Bookmark
//	                           └ Bookmark ┘
//
// Both work on a folder, which is one connection:
//
//	open ─► look ─► fetch, fetch, …
//	         ▲        │
//	         └─ wait ─┘   by IDLE, and no longer than Options.Poll, because servers and routers forget
//
// Watch opens it again, after growing pauses, however often it is lost. Each message is handed out at least once: handle
// stores the Bookmark together with what it does, and does nothing for a message that it has had before.
//
// The folder is opened by EXAMINE and read by BODY.PEEK: nothing in it is ever changed, deleted or marked as read. So the
// mailbox may be one that people read, too.
//
// The server is not trusted with our memory or our time. Every exchange with it may take Options.Timeout and no more bytes
// than it needs, and ends with its context. Of a message, Options.MaxMessage is read. A message that the server cannot be
// brought to hand out does not keep those behind it.
//
// Package notify says what it wants from an inbox by an interface of its own; cmd/countersign plugs the two together. Package
// mailhost reads the URL; package bounce understands the messages.
package inbox
