// Package audit keeps the audit trail: who changed what, when, and what it was before and after. An event tells what
// happened to one client; an entry tells what an operator, a key or the command line did, to whatever it was.
//
//	Record         the last statement of the transaction that makes the change: no change without its entry,
//	               no entry without its change
//	Store.List     the newest entries first, filtered, page by page
//	Store.Verify   reads the whole trail and names the first entry that does not fit
//
// Package provisioning decides whose doings are recorded (provisioning.Audit); the rooms record their own changes.
//
// # The chain
//
// Entries are numbered from 1 without gaps, and the hash of each covers the hash of the one before:
//
//	hash(0) = 32 zero bytes
//	hash(n) = SHA-256("countersign audit 1\n" + hash(n-1) + field(id) + field(at) + field(actor) + field(action) +
//	          field(object) + field(before) + field(after))
//
// That is version 1. A field is its length in bytes, as eight bytes with the most significant first, and then its
// bytes; a before or after that does not exist is eight bytes of 255 and nothing. The id is in decimal; at is in
// microseconds since 1970-01-01 UTC, in decimal; before and after are JSON, byte by byte as the table has them. The
// hash before has a fixed length, so that no two entries have the same encoding.
//
// # What it proves
//
// That no entry was changed, removed, added or put elsewhere since its hash was computed, as long as the newest hash
// is what it was. The table audit_head keeps that head, which shows an end that was cut off carelessly; and triggers
// refuse to change or remove an entry, which shows nothing and prevents accidents.
//
// It does not prove that against whoever owns the database: they can lift the triggers, rewrite the trail from any
// entry on, with new hashes, and the head as well. So note the head elsewhere from time to time, where they cannot
// write, such as a ticket or a log: "countersign audit verify" prints it, and with --head compares. What was recorded
// up to a head that was noted cannot be changed unnoticed; what came after it can. Nor does it prove that an actor is
// who they seem to be, or that what was changed around this program is recorded.
package audit
