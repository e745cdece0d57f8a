// Package mailsink is an SMTP server that keeps what it gets and shows it on a page: the far end of our mail in the demo
// and in tests. Nothing it takes ever leaves it.
//
//	sender ──SMTP──► Serve ─► session ─► parse ─► Sink (newest messages, bounded in number and bytes)
//	                            │ Rules: refuse a recipient      ├─► Messages, Wait, Count, Stats   in this process
//	                            │ Latency: answer late           └─► Handler                        in a browser or script
//	                            └ Faults: lose the answer, or answer and message
//
// Entry points: New, then Serve on a listener, Handler on an HTTP server, and Shutdown at the end.
//
// Handler answers, relative to where it is mounted:
//
//	GET    /                    newest first; ?q= searches recipients, sender and subject; ?before=ID goes back
//	GET    /messages/{id}       one message; ?view=html, text, headers, envelope, source
//	GET    /messages/{id}/html  its HTML part alone, sandboxed
//	GET    /messages/{id}/raw   its bytes as received
//	GET    /messages            the same as JSON; ?to= one recipient, ?q=, ?before=, ?limit=
//	DELETE /messages            forgets all messages
//	GET    /stats               counters as JSON
//
// It has no users and no secrets of its own, and everyone who reaches Handler reads all mail: bind both listeners to a
// loopback address. It is a place to look at mail, not a mail server: it relays nothing, keeps nothing on disk, and shows
// character sets other than UTF-8 as Windows-1252.
package mailsink
