// Package admin lets operators and programs in: accounts, sessions, one-time entry links, API keys.
//
//	set-up link ───SetUp──► first operator ─┐
//	invitation ────Accept─► operator ───────┼──────────────────► session ──Session──► Operator with their Role
//	e-mail and password ───SignIn───────────┤                       ▲    until SignOut, EndSession, a new password,
//	sign-in link ──────────Enter────────────┴─► a second factor? ───┘    12 h unused, 7 days
//	                                            ErrSecondFactor, SecondStep
//	forgotten password ────RequestReset──► mail ──Reset──► another password; nobody is signed in
//
//	API key ───────────────Key──────────────────────────────────────► Key with its scopes
//
// A session's token, a link's token and an API key are 256 random bits each. They are handed out
// once; the database has only their SHA-256, so that whoever reads it gets in nowhere. Passwords are
// stored as argon2id. The token of a link that is mailed is derived from the link's id by a MAC (LinkURL),
// so that the mail in the outbox has no secret either. Secrets of second factors have to be read again:
// they are sealed (Sealer), and stand on a Shelf for the vault's rotation.
//
// Roles are owner, operator and viewer. This package keeps at least one owner; what a role may do, whoever
// asks May decides. Changes of operators are in the audit trail, signing in and out is not.
//
// A link is looked at (PeekLink) without being used up. Set-up links are there only while there is no
// operator: every replica may print its own, and the first that is used ends them all.
//
// All state but the count of attempts at passwords, codes and resets is in the database, so any number of replicas serve
// one session. Attempts are counted by each replica on its own: behind n replicas somebody who
// guesses passwords has n times the attempts, which is still next to none.
//
// A transaction locks an operator's row before that operator's links and sessions, so that removing
// an operator and signing in as the same one cannot block each other.
//
// Cookies, addresses and pages belong to package web, the commands to package main.
package admin
