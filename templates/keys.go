package templates

import "time"

// KeysPage is which programs may use the API: it posts name, scope and expires to /admin/settings/keys.
type KeysPage struct {
	Console
	Done        string     // what was just done
	Made        *MadeKey   // the key that was just made
	Keys        []APIKey   // oldest first
	Revoked     []APIKey   // likewise
	Scopes      []KeyScope // that can be chosen
	Name        string     // as typed before
	NameError   string
	ScopesError string
}

// MadeKey is a new key, shown this once.
type MadeKey struct {
	Name      string
	Secret    string
	ExpiresAt time.Time // zero if it does not end by itself
}

// KeyScope is something that a key may do.
type KeyScope struct{ Name, About string }

// APIKey is a key, without the key itself. Times are zero for never.
type APIKey struct {
	ID        string
	Name      string
	Scopes    []string
	CreatedAt time.Time
	CreatedBy string
	ExpiresAt time.Time
	Expired   bool
	UsedAt    time.Time
	UsedFrom  string
	Unused    bool // for so long that somebody should ask whether it is needed
	RevokedAt time.Time
	RevokedBy string
}

// Title names the page.
func (KeysPage) Title() string { return "API keys" }

// Status is 422 if a field was refused.
func (p KeysPage) Status() int { return refused(p.NameError, p.ScopesError) }
