// Package bulk does one thing to many clients: invite, remind, pause, resume, tag, untag, owner, extend, delete.
//
//	Preview ──► Start ──► queued ──► running ──► done ──► Undo: a job of its own
//	                         │          │
//	                         └── Stop ──┴──► stopping ──► stopped ──► Undo
//
// Start fixes which clients a job is about, in the transaction that puts it into the queue: nobody is touched who was
// not counted then, however the roster changes meanwhile. Work takes them in the order of the roster, batch by batch.
// Each batch is one transaction: what is done to its clients, what is noted of each of them, and how far the job is. So
// a process that dies at any instant leaves a job that goes on where it stood, here or elsewhere, and does nothing
// twice; and Stop, which is heeded between two batches, leaves none half done.
//
// Each client's history tells the same as if the action had been done to it alone, by the functions of package
// provisioning (batch.go) and of its neighbours: package notify sends reminders and takes letters back, package
// authflow lengthens links. The audit trail has an entry for the beginning of a job and one for its end, and for
// each client that is deleted.
//
// Undo takes back what a job has changed and nobody has changed since. Letters that have gone out stay out: to undo an
// invitation takes back those that wait, and to undo another owner mails nobody. What was reminded, extended or deleted
// stays so.
package bulk
