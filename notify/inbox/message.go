package inbox

import "time"

// Bookmark is how far a mailbox has been read: everything up to UID has been handed out. The empty one is that of a mailbox
// which has never been read.
type Bookmark struct {
	// UIDValidity changes when the mailbox numbers its messages anew. UIDs mean nothing any more then.
	UIDValidity uint32
	UID         uint32
}

// Message is one message of the mailbox.
type Message struct {
	Bookmark // of the mailbox when it has been read up to and with this message

	// Raw is the message as it was received, at most its first MaxMessage bytes.
	Raw []byte
	// Truncated says that the message is longer than Raw, or that the server could not be brought to hand out more of it,
	// which may be nothing at all.
	Truncated bool
	// ReceivedAt is when the mailbox got the message; zero where the server does not say so in a way that can be read.
	ReceivedAt time.Time
}
