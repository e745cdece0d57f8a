package bulk

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
)

// Action is what is done to each client.
type Action string

const (
	ActionInvite Action = "invite" // an invitation by mail, as provisioning.Inviter.Invite does
	ActionRemind Action = "remind" // the next reminder, now
	ActionPause  Action = "pause"
	ActionResume Action = "resume"
	ActionTag    Action = "tag"
	ActionUntag  Action = "untag"
	ActionOwner  Action = "owner"  // another owner, who is invited
	ActionExtend Action = "extend" // another life for the newest link, without a mail
	ActionDelete Action = "delete"
)

// Actions lists all actions.
func Actions() []Action {
	return []Action{
		ActionInvite, ActionRemind, ActionPause, ActionResume, ActionTag, ActionUntag, ActionOwner, ActionExtend, ActionDelete,
	}
}

// Undoable reports whether what the action has done can be taken back.
func (a Action) Undoable() bool {
	return slices.Contains([]Action{ActionInvite, ActionPause, ActionResume, ActionTag, ActionUntag, ActionOwner}, a)
}

// Order says what to do, and to whom.
type Order struct {
	Action  Action
	Filter  provisioning.Filter // all that it selects
	Clients []uuid.UUID         // instead of Filter, if not nil
	Tag     string              // of ActionTag and ActionUntag
	Owner   provisioning.Owner  // of ActionOwner
	Confirm int                 // of ActionDelete: how many clients whoever orders it expects
}

// What an order is refused for.
var (
	ErrUnknownAction = fmt.Errorf("%w: there are the actions %v", provisioning.ErrUnknownWord, Actions())
	ErrNobody        = errors.New("the selection has no clients: choose another one")
	ErrUnconfirmed   = errors.New("deleting needs the number of clients as a confirmation")
	ErrNotUndoable   = errors.New("this job cannot be undone: it has not ended, has changed nothing, was undone before, or is of a kind that cannot be taken back")
)

// parse brings an order into the form in which it is stored. It returns ErrUnknownAction or a
// *provisioning.FieldError.
func (o Order) parse() (Order, error) {
	var err error
	switch o.Action {
	case ActionTag, ActionUntag:
		o.Tag, err = provisioning.ParseTag(o.Tag)
	case ActionOwner:
		o.Owner, err = provisioning.ParseOwner(o.Owner.Name, o.Owner.Email)
	case ActionInvite, ActionRemind, ActionPause, ActionResume, ActionExtend, ActionDelete:
	default:
		return Order{}, ErrUnknownAction
	}
	return o, err
}
