// Package admin lets operators and programs in: accounts, sessions, one-time entry links, API keys.
//
//	set-up link ───SetUp──► first operator ─┐
//	e-mail and password ───SignIn───────────┼──► session ──Session──► Operator
//	sign-in link ──────────Enter────────────┘      until SignOut, a new password, 12 h unused, 7 days
//
//	API key ───────────────Key──────────────────────────────────────► Key with its scopes
//
// A session's token, a link's token and an API key are 256 random bits each. They are handed out
// once; the database has only their SHA-256, so that whoever reads it gets in nowhere. Passwords are
// stored as argon2id.
//
// A link is looked at (PeekLink) without being used up. Set-up links are there only while there is no
// operator: every replica may print its own, and the first that is used ends them all.
//
// All state but the count of sign-in attempts is in the database, so any number of replicas serve
// one session. Attempts are counted by each replica on its own: behind n replicas somebody who
// guesses passwords has n times the attempts, which is still next to none.
//
// A transaction locks an operator's row before that operator's links and sessions, so that removing
// an operator and signing in as the same one cannot block each other.
//
// Cookies, addresses and pages belong to package web, the commands to package main.
package admin
