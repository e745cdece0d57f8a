package templates

import "time"

// Event is one line of a history.
type Event struct {
	At       time.Time
	What     string // in words
	Actor    string // who, in words
	Detail   string // may be empty
	ClientID string // with Client: where a line stands outside its client's page
	Client   string
	Stage    Stage // that the client moved to, empty if it did not move
	Reason   Reason
}
