// Package inbox reads one IMAP mailbox.
//
//	ParseURL ─► Account ─► Open ─► Mailbox ─► Next, Next, … ─► Close
//	                       connect          │ looks for what has arrived since Open,
//	                       TLS              │ waits for more by IDLE, and asks again now and then,
//	                       sign in          │ because servers and routers forget
//	                       open the folder  ▼
//	                                        the message, cut at Options.MaxMessage
//
// The folder is opened by EXAMINE and read by BODY.PEEK: nothing in it is ever changed, deleted or marked as read.
// A Mailbox is one connection. It does not come back by itself: whoever wants to go on after an error opens it anew.
//
// The server is not trusted with our memory or our time. Every exchange with it may take Options.Timeout and no more bytes
// than it needs, and ends with its context.
//
// Package notify says what it wants from an inbox by an interface of its own; cmd/countersign plugs the two together.
package inbox
