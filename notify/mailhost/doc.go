// Package mailhost is the address of a mail server: where it is, how the way to it is protected and how to sign in, written
// as one URL in the settings.
//
//	smtp://[user:password@]host[:587][?tls=none]      smtps://[user:password@]host[:465]
//	imap://user:password@host[:143][/folder][?tls=none]      imaps://user:password@host[:993][/folder]
//
// Parse reads it and refuses whatever is doubtful, because the doubtful part is mostly a password with a character that was
// not percent-encoded. What it returns can be printed, logged and marshalled: the password never shows.
//
// notify/smtp and notify/inbox dial what stands here; nothing in this package touches the network.
package mailhost
