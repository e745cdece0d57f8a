// Package authflow leads an owner to the provider's consent screen and back, verifies which account
// consented, and keeps the grant.
//
//	Links.Issue ──► invitation ──► Flow.Begin ──► consent ──► (provider) ──► Flow.Callback ──► grant
//	                    │                            │                            │
//	               lives 30 days               lives 10 minutes              one transaction: grant sealed and
//	               spent only by a             bound to one browser,         stored, client advanced, invitation
//	               verified grant              claimed by one callback       spent, account bound to one client
//
// An invitation's token is derived from its id by a MAC, so that a repeated mail carries the same
// link; the database has only the token's hash. Looking at a link changes nothing. Pressing Continue
// starts a consent and moves the client to started, and still does not spend the link: denied,
// abandoned and robot-made attempts leave it valid.
//
// Every walk ends in an Outcome, which decides the page that the owner sees (package web), the event
// and the stage:
//
//	connected       authorized
//	declined        stalled/declined        wrong_account   stalled/wrong_account, grant quarantined
//	missing_scope   stalled/missing_scope   conflict        stalled/conflict, grant quarantined
//	unavailable, failed                     the stage stays; the owner may try again at once
//	other_browser, expired, unknown         nothing was redeemed
//
// Transactions lock a client before what hangs on it, so that none waits for another crosswise.
//
// Files: link.go (invitations), consent.go (the walk), answer.go (decline, unsubscribe, renew, expiry),
// sweep.go (walks that were cut off, and old ones), shelf.go (sealing verifiers anew). What came of a
// consent is kept by package authflow/grant, sealed by authflow/vault. The provider is spoken to by package
// constantcontact; operators are let in by package authflow/admin. On the route manager it is an operator who walks
// (Flow.BeginAs): package authflow/manager knows for whom.
package authflow
