package templates

import (
	"fmt"
	"time"
)

// ReconcilePage compares the roster with the provider's own list of accounts, /admin/reconcile. To have the
// list read is posted there. While a job is at work the page asks for itself every other second.
type ReconcilePage struct {
	Console
	Provider string   // display name
	Settings []string // that are missing, so that nothing can be read
	NoImport string   // why nothing can be applied, empty if it can

	ID       string // of the latest comparison, empty if there is none
	Actor    string // who had the list read
	At       time.Time
	Reading  bool          // a job reads the list
	Applying ReconcileStep // a job does that
	Done     int           // accounts that the job has read or asked for
	Total    int           // how many there will be, zero if nobody knows
	Left     time.Duration // that the job takes, zero if nobody knows
	Problem  string        // why the job ended early

	Clients  int // of the comparison, like what follows
	Accounts int
	Kinds    []Findings // the kinds of which there are any
	AddTakes time.Duration
	Steps    int           // how many were applied
	Applied  ReconcileStep // the last of them, empty if there is none
	By       string
	ByAt     time.Time
	Imports  []Import // what it changed
	Held     int
	Holds    []Finding // the first ones
}

// Title names the page.
func (p ReconcilePage) Title() string { return "Reconcile" }

// Running says that a job is at work.
func (p ReconcilePage) Running() bool { return p.Reading || p.Applying != "" }

// Compared says that there is a comparison to look at.
func (p ReconcilePage) Compared() bool { return !p.Running() && p.Kinds != nil }

// Fill is how many account ids can be filled in.
func (p ReconcilePage) Fill() int { return p.n(findingMissing) }

// Add is how many accounts can be added.
func (p ReconcilePage) Add() int { return p.n(FindingAddable) }

// Missing is how many accounts the roster lacks.
func (p ReconcilePage) Missing() int { return p.n(FindingAddable) + p.n(FindingProviderOnly) }

// Differs says that something is not as it should be.
func (p ReconcilePage) Differs() bool { return len(p.Kinds) > 1 || p.n(findingBoth) == 0 }

func (p ReconcilePage) n(kind FindingKind) int {
	for _, f := range p.Kinds {
		if f.Kind == kind {
			return f.N
		}
	}
	return 0
}

// Created is how many clients the last step created.
func (p ReconcilePage) Created() (n int) {
	for _, im := range p.Imports {
		n += im.Created
	}
	return n
}

// Updated is how many clients the last step changed.
func (p ReconcilePage) Updated() (n int) {
	for _, im := range p.Imports {
		n += im.Updated
	}
	return n
}

// ReconcileStep is something that can be applied, by the word that the rest of the program uses.
type ReconcileStep string

// The steps.
const (
	StepFill ReconcileStep = "fill"
	StepAdd  ReconcileStep = "add"
)

// Findings are the first findings of a kind.
type Findings struct {
	Kind FindingKind
	N    int // how many there are
	Rows []Finding
}

// Clients says whether a client is in any of the rows.
func (f Findings) Clients() bool {
	for _, row := range f.Rows {
		if row.Client != "" {
			return true
		}
	}
	return false
}

// Accounts says whether an account is in any of the rows.
func (f Findings) Accounts() bool {
	for _, row := range f.Rows {
		if row.AccountID != "" {
			return true
		}
	}
	return false
}

// Shared is what all rows say, empty if they say different things.
func (f Findings) Shared() string {
	for _, row := range f.Rows {
		if row.Why != f.Rows[0].Why {
			return ""
		}
	}
	if len(f.Rows) == 0 {
		return ""
	}
	return f.Rows[0].Why
}

// Finding is a client, an account, or one of each that belong together.
type Finding struct {
	ClientID     string
	Client       string // empty if there is none
	Ref          string
	OwnerEmail   string
	AccountID    string // empty if there is none
	Organization string
	Status       string
	Why          string // the evidence, and the cure
}

// FindingKind says how clients and accounts stand to each other, by the word that the rest of the program
// uses. A kind that this package has no words for is shown as it is.
type FindingKind string

const (
	findingBoth       FindingKind = "both"
	findingMissing    FindingKind = "account_id_missing"
	findingDifferent  FindingKind = "account_id_different"
	findingAmbiguous  FindingKind = "ambiguous"
	findingRosterOnly FindingKind = "roster_only"
	findingCanceled   FindingKind = "canceled"

	// What is only at the provider are two kinds on the page.
	FindingProviderOnly FindingKind = "provider_only" // and not managed
	FindingAddable      FindingKind = "addable"
)

// FindingKinds are the kinds in the order in which an operator looks at them.
func FindingKinds() []FindingKind {
	return []FindingKind{
		findingMissing, FindingAddable, FindingProviderOnly, findingDifferent, findingAmbiguous, findingRosterOnly, findingCanceled, findingBoth,
	}
}

// Label is the kind as a heading.
func (k FindingKind) Label() string {
	switch k {
	case findingBoth:
		return "In both"
	case findingMissing:
		return "Account id missing in the roster"
	case findingDifferent:
		return "Another account id"
	case findingAmbiguous:
		return "Cannot be told apart"
	case findingRosterOnly:
		return "Only in the roster"
	case FindingAddable:
		return "Only at the provider, managed"
	case FindingProviderOnly:
		return "Only at the provider, not managed"
	case findingCanceled:
		return "Canceled at the provider"
	}
	return label(string(k))
}

// Meaning says what it means.
func (k FindingKind) Meaning() string {
	switch k {
	case findingBoth:
		return "The account ids agree."
	case findingMissing:
		return "The client has none; by its name it is an account of the list, and nobody else has that name."
	case findingDifferent:
		return "The client’s account id is not in the list, and the account of its name has another one."
	case findingAmbiguous:
		return "More than one client or account has the name."
	case findingRosterOnly:
		return "The list has neither the client’s account id nor its name."
	case FindingAddable:
		return "The roster has no client for the account, and the provider gives its owner’s address."
	case FindingProviderOnly:
		return "The roster has no client for the account, and the provider keeps its owner’s address to itself."
	case findingCanceled:
		return "The account has ended: nobody can consent for it."
	}
	return ""
}

// about says in words how long something takes.
func about(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return "a few seconds"
	case d < 90*time.Second:
		return fmt.Sprintf("about %d seconds", d.Round(10*time.Second)/time.Second)
	case d < 90*time.Minute:
		return fmt.Sprintf("about %d minutes", d.Round(time.Minute)/time.Minute)
	default:
		return fmt.Sprintf("about %d hours", d.Round(time.Hour)/time.Hour)
	}
}
