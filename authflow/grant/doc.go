// Package grant keeps what came of an owner's consent: sealed tokens of one verified account.
//
//	consent ──► Store.Take ──► active ── Keeper ──► refreshed, for ever: proven at the first time
//	                │             │
//	                │             ├── replaced    a later consent of the same client took its place
//	                │             └── lapsed      the provider says that it is gone; the owner is asked to reconnect
//	                └──► quarantined              its account is not the expected one: sealed and unused
//	                              ├── active      an operator accepts it, or moves it to the client it belongs to
//	                              └── discarded   an operator does not
//
// Tokens are sealed for their client, grant, kind and generation (package authflow/vault), and gone as
// soon as a grant is neither active nor in quarantine. A client has at most one active grant, and an account too.
//
// The Keeper refreshes a grant once soon after the consent, which proves it: one that was made through a
// partner's login works for a day and then dies. After that it refreshes by a calendar that lets no grant
// go unused for longer than half of what the provider allows, or when the agency's app wants a fresh
// token. A refresh never loses a token that rotates:
//
//	turn at the provider ──► lease and attempt, committed ──► request, without a lock ──► store, if the generation is still the one
//	        │                       │                               │
//	   holds nothing          one at a time                 a crash here leaves the attempt behind: whoever finds the
//	                          over all replicas             lease overdue tries the same refresh token at once
//
// What the provider answers is a verdict on the grant, on our app, or on nothing (answer.go). That a grant
// is gone is believed only when something else says so too (doubt.go), and not while many are refused at once.
//
// Files: grant.go (what is known of a grant), store.go (storing and sealing), match.go (whose account it is), quarantine.go,
// keeper.go, lease.go and answer.go (refreshing), doubt.go and outage.go (what a refusal means), calendar.go (when), token.go (for the agency's app),
// overview.go (for the console), shelf.go (sealing anew under another key). The owner's walk is package authflow.
package grant
