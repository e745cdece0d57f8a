// Package bounce understands what mail servers and mailboxes send back for a mail: what became of it, for whom, and why.
//
//	Parse ─► scan ─► a report part?  ── feedback-report ──► Complaint, or Delivered for not-spam      (complaint.go)
//	         mime.go      │         ── delivery-status ───► judge ─► Hard · Soft · Policy            (delivery.go)
//	                      │                                         Delayed · Delivered              (verdict.go)
//	                      ├─ a notice in prose (qmail, old Exim, sendmail)? ► judge                  (notice.go)
//	                      ├─ written by a machine? ──────► AutoReply · Challenge                     (answer.go)
//	                      ├─ written by a person? ───────► Reply
//	                      └─ otherwise ──────────────────► Unparsed, with why
//
// The report part comes first, because Postfix marks real bounces as auto-replied. A mail that a person has forwarded is not
// looked into: the report in it was not sent to us. The standards are RFC 6522 and 3461 to 3464 (delivery reports), 3463
// (status codes), 5965 (complaints), 6533 (international addresses), 3834 and 8098 (automatic answers).
//
// Nothing here fails. What r does not give counts as not there, what is too long is cut, and what nobody understands is
// Unparsed. Parse keeps less than 2 MiB however long the mail is, and never reads attachments behind a report.
//
// Whether a report is genuine is not known here: anybody can write one. Package notify finds the mail that it is about by
// the address that it was sent to, which nobody else can make up, and decides what follows for the client.
package bounce
