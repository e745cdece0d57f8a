package templates

import (
	"cmp"
	"net/http"
	"strings"
	"time"
)

// BulkAction is what is done to many clients, by the word that the rest of the program uses.
type BulkAction string

const (
	bulkInvite BulkAction = "invite"
	bulkRemind BulkAction = "remind"
	bulkPause  BulkAction = "pause"
	bulkResume BulkAction = "resume"
	bulkTag    BulkAction = "tag"
	bulkUntag  BulkAction = "untag"
	bulkOwner  BulkAction = "owner"
	bulkExtend BulkAction = "extend"
	bulkDelete BulkAction = "delete"
)

// BulkActions are all of them, what is done most often first.
func BulkActions() []BulkAction {
	return []BulkAction{
		bulkInvite, bulkRemind, bulkPause, bulkResume, bulkTag, bulkUntag, bulkOwner, bulkExtend, bulkDelete,
	}
}

// Label is the action as words on a button.
func (a BulkAction) Label() string {
	switch a {
	case bulkTag:
		return "Add a tag"
	case bulkUntag:
		return "Remove a tag"
	case bulkOwner:
		return "Change the owner"
	case bulkExtend:
		return "Extend the links"
	case bulkInvite, bulkRemind, bulkPause, bulkResume, bulkDelete:
	}
	return label(string(a))
}

// Meaning says what will happen, and to whom it will not.
func (a BulkAction) Meaning() string {
	switch a {
	case bulkInvite:
		return "Each owner gets an invitation by mail. Left out is who is paused, authorized, has opted out, has a mail on its way, or is not to consent by link."
	case bulkRemind:
		return "Each owner gets the next reminder now instead of when it is planned. Left out is who has no open invitation, or has used all reminders up."
	case bulkPause:
		return "Nobody of them is invited or reminded until you resume. Their links keep working."
	case bulkResume:
		return "Invitations and reminders go out again. Nothing is mailed at once."
	case bulkTag:
		return "Each gets the tag. Who has it already stays as they are."
	case bulkUntag:
		return "The tag is taken from each who has it."
	case bulkOwner:
		return "All of them belong to this owner from then on, who is mailed an invitation for each. With another address than before, earlier links stop working, and what the owner before said is forgotten."
	case bulkExtend:
		return "Each open link lives for another 30 days from now on. Nothing is mailed."
	case bulkDelete:
		return "They are removed with their history, links, mails and sealed tokens, and nobody can bring them back. The app loses access to their accounts. Their usernames are never given again."
	}
	return ""
}

// Undo says what can be taken back later.
func (a BulkAction) Undo() string {
	switch a {
	case bulkPause, bulkResume, bulkTag, bulkUntag, bulkOwner:
		return "It can be undone afterwards."
	case bulkInvite:
		return "To undo it afterwards takes back what still waits to be sent."
	case bulkRemind, bulkExtend, bulkDelete:
		return "It cannot be undone."
	}
	return ""
}

// Tags reports whether the action needs a tag.
func (a BulkAction) Tags() bool { return a == bulkTag || a == bulkUntag }

// Owns reports whether the action needs an owner.
func (a BulkAction) Owns() bool { return a == bulkOwner }

// Deletes reports whether nothing of the clients will be left.
func (a BulkAction) Deletes() bool { return a == bulkDelete }

// BulkNewPage asks whether an action is meant, /admin/bulk/new. Its form posts to /admin/bulk what Fields say, and
// tag, name and email, or confirm, which is the Count as typed.
type BulkNewPage struct {
	Console
	Action   BulkAction
	All      bool     // that the filter selects, not those that were ticked
	Fields   []Field  // of whom it is about, and of what
	Back     string   // URL of the list
	Count    int      // of clients; zero if nobody was chosen
	Samples  []Client // the first of them
	Tag      string   // as typed
	Owner    OwnerForm
	TagError string
	Confirm  string // as typed
	Problem  string // why it was not begun, unless a field says it
	Code     int    // status, if not 200
}

// Title names the action.
func (p BulkNewPage) Title() string {
	switch {
	case p.Action == "" && p.Count == 0:
		return "Select clients"
	case p.Action == "":
		return "Choose an action"
	}
	return p.Action.Label() + ": " + count(p.Count) + " " + plural(p.Count, "client", "clients")
}

// Status is 200, or that of the problem.
func (p BulkNewPage) Status() int { return cmp.Or(p.Code, http.StatusOK) }

// Others is how many clients are meant beside the samples.
func (p BulkNewPage) Others() int { return max(0, p.Count-len(p.Samples)) }

// BulkJob is an action on its way through many clients.
type BulkJob struct {
	ID        string
	Action    BulkAction
	Tag       string
	To        string // whom they are to belong to, in words
	About     string // whom it is about, in words
	State     string // queued, running, stopping, done or stopped
	Actor     string
	Total     int
	Done      int
	Changed   int
	Skipped   int
	Why       []BulkSkips // what Skipped is made of, the most frequent first
	CreatedAt time.Time
	EndedAt   time.Time // zero until it has ended
	Undoable  bool
	UndoOf    string // id of the job that it takes back, empty if none
}

// BulkSkips is how many clients were left out for one reason.
type BulkSkips struct {
	Words string
	N     int
}

// Name says what the job does.
func (j BulkJob) Name() string {
	words := j.Action.Label()
	switch {
	case j.Tag != "" && j.Action == bulkTag:
		words = "Add the tag " + j.Tag
	case j.Tag != "":
		words = "Remove the tag " + j.Tag
	}
	if j.UndoOf != "" {
		words = "Undo: " + strings.ToLower(words[:1]) + words[1:]
	}
	return words
}

// Ended reports whether nothing more will happen.
func (j BulkJob) Ended() bool { return j.State == "done" || j.State == "stopped" }

// Words says the State.
func (j BulkJob) Words() string {
	switch j.State {
	case "queued":
		return "Waits for its turn"
	case "running":
		return "Is at work"
	case "stopping":
		return "Stops"
	}
	return label(j.State)
}

// Fate is what the State looks like in a list: like that of a mail.
func (j BulkJob) Fate() string {
	switch j.State {
	case "done":
		return "sent"
	case "stopped", "stopping":
		return "deferred"
	}
	return "queued"
}

// BulkJobPage is one job, /admin/bulk/{id}. It renews itself until the job has ended. Its forms post to stop and undo
// below that.
type BulkJobPage struct {
	Console
	BulkJob

	MayAct  bool   // whether the reader may stop or undo it
	Problem string // why a button could not do what it says
	Code    int    // status, if not 200
	Left    []BulkSkipped
	Next    string // URL of the next page of Left, empty on the last
}

// Title names the job.
func (p BulkJobPage) Title() string { return p.Name() }

// Status is 200, or that of the problem.
func (p BulkJobPage) Status() int { return cmp.Or(p.Code, http.StatusOK) }

// BulkSkipped is a client that was left out.
type BulkSkipped struct {
	ID   string // empty if it is gone
	Name string
	Ref  string
	Why  string // in words
}

// BulkPage is the list of jobs, /admin/bulk.
type BulkPage struct {
	Console
	Jobs []BulkJob // newest first
	Next string    // URL of the next page, empty on the last
}

// Title names the page.
func (BulkPage) Title() string { return "Bulk actions" }
