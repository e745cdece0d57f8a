package templates

import "time"

// AuditPage lists what operators, keys and the command line changed, newest first: one page of it.
type AuditPage struct {
	Console
	Filter    AuditFilter
	Entries   []AuditEntry
	Next      string // address of the next page, empty if this is the last
	Continued bool   // this is not the first page
	Check     *AuditCheck
	Head      string // as it was typed, to be checked
	HeadError string
}

// Title names the page.
func (AuditPage) Title() string { return "Audit trail" }

// Status follows what was typed.
func (p AuditPage) Status() int {
	if p.HeadError != "" {
		return 422
	}
	return p.Console.Status()
}

// AuditFilter is the filter of the page, as it stands in its address.
type AuditFilter struct {
	Actor  string
	Action string
	Object string
	From   string // a day
	Until  string // the last day
}

// Empty tells that all entries are shown.
func (f AuditFilter) Empty() bool { return f == AuditFilter{} }

// AuditEntry is what somebody did.
type AuditEntry struct {
	ID      int64
	At      time.Time
	Actor   AuditWord
	Action  AuditWord
	Object  AuditWord
	Page    string // of the object; empty if it has none
	Changes []AuditChange
}

// AuditWord is a word of an entry, and the address of all entries that have it.
type AuditWord struct {
	Words, All string
}

// AuditChange is what a field was before and after. Empty if there is nothing to tell.
type AuditChange struct {
	Field, Before, After string
}

// AuditCheck is what came of checking the chain.
type AuditCheck struct {
	Entries int64
	Head    string
	Broken  int64  // the first entry that does not fit
	Why     string // empty if all fit
}
