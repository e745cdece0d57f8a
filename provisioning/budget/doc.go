// Package budget shares what the provider allows one key among all replicas: so many calls in any second and so
// many a day, of which a part is kept for owners.
//
//	Take ──► slot free? ──yes──► turn ──► the call is sent ──► Done: the slot is free a second later
//	  ▲           │ no
//	  └── pause ──┘
//
//	  *Exhausted: the day's calls are used up, or the provider says that it was too much (Throttled, QuotaExceeded)
//
// A [Meter] is one key at one door of the provider. Its row (table meters) counts the day's calls, which turn at
// 00:00 UTC, and says until when nobody calls; its slots (table meter_slots) are as many as calls are allowed a
// second. All times are those of the database's clock. Only lengths of time leave it, so that no replica's clock
// matters.
//
// # Why slots
//
// A call takes a slot, and the slot is free again a second after that call was answered or has failed. The provider
// counted the call before it answered, and the call that has the slot next is sent a second after that: so no second,
// wherever it begins, sees more calls than there are slots, however long a call is under way and however late a
// replica gets to run. Turns at fixed intervals (GCRA, a token bucket) promise this only for the moments at which
// calls are allowed: with 260 ms between turns, a replica that is 40 ms late between its turn and the wire makes five
// calls in a second out of four. The price is that slots lie idle while calls are under way: PerSecond/(1+latency)
// calls a second.
//
// A slot whose call was answered has a known time at which it will be free. Whoever waits takes it ahead and sleeps
// until then, so that nobody rushes at that instant. A slot whose call is under way has no known end; should its
// process die, it counts as free when the call must be over. Whoever slept too long finds out, because its slot is
// looked at again before the call, and takes another turn.
//
// # Who comes first
//
// An owner's walk that has to wait says so in the row, and work in the background takes no turn before it has one.
// Within a process those who wait stand in line, and only the first of the walks and the first of the background ask
// the database, a few times a second.
//
// # Neighbours
//
// Package constantcontact declares what it needs of this (Budget), and [Share] is that for one meter and one
// priority; the program plugs them together. [Meter.State] is what the console shows, [State.Finish] when a pile of
// work will be done.
package budget
