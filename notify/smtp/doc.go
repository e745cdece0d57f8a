// Package smtp hands finished messages to one mail server and tells what became of each.
//
//	Options ──New──► Transport ──Send(Envelope)──► nil: the server has accepted it
//	                     │                     └─► *Error: Kind says what that means for the message
//	                     └──Verify──► nil, or an *Error with a Cure
//
// Seal makes an Envelope of a message. Which message goes out when, and again when, is decided by package notify; where the
// server is and how to sign in stands in a URL, which package notify/mailhost reads.
//
// # Round trips
//
// Over a real network a mail costs what its waits for the server cost. A connection is kept and carries many messages,
// without NOOP or RSET between them, and waits as seldom as the server's answer to EHLO allows:
//
//	the server offers           written at once, then waited                    waits
//	neither                     MAIL │ RCPT │ DATA │ message and dot                4
//	PIPELINING                  MAIL RCPT DATA │ message and dot                    2
//	PIPELINING and CHUNKING     MAIL RCPT BDAT message                              1
//	  on a connection in doubt  MAIL RCPT │ BDAT message                            2
//
// # What may have been accepted
//
// A delivery has two stages, and one write parts them: the one with the last byte of the message. Until that write is done
// nothing can have been accepted, because a server takes no message without its dot and no chunk of which bytes are missing;
// whatever ends such a delivery is Temporary. After it only a refusal is certain. A refused MAIL or RCPT, the answers
// to which come first, rules out that the message was taken, and so does a 421; everything else, be it a lost connection,
// nonsense or silence, is Unknown.
//
// A kept connection can have died unnoticed. That is certain, and the message goes out over a fresh one at once, where
// nothing but MAIL, RCPT and DATA was written and MAIL has no answer, where the write failed, or where the answer is 421.
// With one write a mail that certainty is missing, so a connection in doubt, one that was silent for longer than
// Options.Trust, is asked for MAIL and RCPT before it gets the message.
//
// Answers are matched by their order. A server that refuses a command and consents to one that follows from it, or says
// more than it was asked, has lost the order, and its connection is dropped: so is one that answers 354 to DATA after it
// has refused the only recipient, because to end that empty message with a dot would be to send it.
package smtp
