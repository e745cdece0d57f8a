// Package once has a request carried out once, however often a program sends it, by an Idempotency-Key of the
// program's choice.
//
//	(new) ──Begin──► running ──End──► answered ──a day──► forgotten
//	                   │ │ ▲
//	                   │ │ └─Begin, when the process that ran it is dead and had changed nothing
//	                   │ └──► lost: that process had changed something, and died before it could tell
//	                   └─Forget: refused or failed, so that it may be sent again
//
//	Store.Begin   gives either a Run, for who is to carry the request out, or the Answer of who did
//	Run.Mark      notes, in the transaction of a change, that this run changes something (audit.With has it called)
//	Run.Hold      keeps others from taking the run for dead while it lasts
//	Run.End       keeps the answer; Run.Forget lets the request be sent again
//	Store.Sweep   forgets what is a day old
//
// # What holds
//
// The work of a request and its answer cannot be one transaction: the rooms commit theirs before there is an answer.
// But every change records itself in the audit trail, and with it, in its own transaction, that the request has
// changed something. So after a kill -9 at any instant there are two cases. Nothing was committed: the next Begin
// carries the request out, and the first process, if it was only slow, can no longer commit, as the run is not its
// own any more. Something was committed: the request is never carried out again, and without its answer Begin returns
// ErrLost, upon which the program reads how things stand. What changes nothing that an operator would be asked about,
// such as to be given a token, is not recorded and may be done again.
package once
