// Package posture says how our mail looks to those who receive it.
//
//	Mail ─► Examine ─► SPF            may the host that sends use the envelope's domain?
//	 our domains,      DKIM           is our key the one that is published?
//	 key and host      DMARC          what is to become of mails that prove nothing, and do ours prove enough?
//	                   bounce domain  do reports come back?
//	                   reply domains  can our mail be answered?
//	                   sending host   does its address have a name, and the name that address?
//
//	ParseResults     ─► what a receiving server wrote about a mail that it got (Authentication-Results)
//
// Each Finding has a verdict, words for an operator, and the cure, with the record to publish where that is certain. Only
// what a resolver has said is held against a domain: one that is silent, or that is cut off from the public name system,
// makes a finding Skip.
//
// Most installations hand their mail to a host that relays it, and DNS does not tell from which addresses that host sends.
// The findings say so where it matters; the proof is a mail that was received.
//
// The package knows nothing of sending: cmd/countersign asks it on behalf of the doctor, and mails the proof.
package posture
