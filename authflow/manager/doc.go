// Package manager leads clients of the route manager from an owner who was asked to a consent: the owner adds a user
// for the agency, whose address is the client's username, and an operator consents as that user.
//
//	owner asked ──► claimed ──────► activation mail seen ──► active ──► consent ──► authorized
//	(invited)       the owner       the provider's mail      an operator  by a Run, verified
//	                says "done"     reached the agency       set the      like any other
//	                   │                                     password
//	                   ├── the username is taken: another one, and after a few of them stalled/username_taken
//	                   ├── the plan allows no further user: stalled/user_limit
//	                   └── no mail two days after: stalled/no_activation, until it comes or the owner says "done" again
//
// Steps may be missing: an owner need not say anything, and where no mailbox is read an operator says that the user is
// active. What the steps say stands beside the stage and never goes back; the stage is moved by provisioning.Advance.
//
// A [Run] takes an operator through the clients that are ready, one after the other. A client is in one open turn at
// most, so that several operators at once never get the same one.
//
// Files: manager.go (the steps), run.go (runs), shelf.go (sealing anew). The mail is read by package notify, the consent
// is package authflow's, and whether the account is the right one is judged by package grant.
package manager
