package provisioning_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/provisioning"
)

// A corrected address is mailed at once; what the address before was said to be is past.
func TestChangeOwner(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_name,owner_email\nA,Acme,Ann,ann@a.exmaple")
	id := o.client(t, "Acme").ID
	sam := provisioning.Operator("sam")
	queued := provisioning.Invited{Matched: 1, Queued: 1, Skipped: map[provisioning.SkipReason]int{}}
	skipped := func(why provisioning.SkipReason) provisioning.Invited {
		return provisioning.Invited{Matched: 1, Skipped: map[provisioning.SkipReason]int{why: 1}}
	}
	for _, test := range []struct {
		name    string
		sql     string // done to the client before
		to      provisioning.Owner
		want    provisioning.Invited
		stands  string
		history []string
	}{
		{
			name: "bounced", sql: `stage = 'stalled', reason = 'bounced', opted_out = 'declined', opted_out_at = now()`,
			to: provisioning.Owner{Name: "Ann", Email: " ann@A.example"}, want: queued, stands: "imported",
			history: []string{"owner_changed by operator sam → imported", "updated by operator sam", "mail_queued by operator sam"},
		},
		{
			name: "the same address", sql: `stage = 'stalled', reason = 'bounced', opted_out = 'declined', opted_out_at = now()`,
			to: provisioning.Owner{Name: "Ann", Email: "ann@a.exmaple"}, want: queued, stands: "stalled/bounced declined",
			history: []string{"mail_queued by operator sam"},
		},
		{
			name: "another name", sql: `stage = 'invited'`,
			to: provisioning.Owner{Name: "Ann Moss", Email: "Ann@a.exmaple"}, want: queued, stands: "invited",
			history: []string{"updated by operator sam", "mail_queued by operator sam"},
		},
		{
			name: "paused", sql: `stage = 'invited', paused = true`,
			to: provisioning.Owner{Email: "ann@a.example"}, want: skipped(provisioning.SkipPaused), stands: "imported",
			history: []string{"owner_changed by operator sam → imported", "updated by operator sam"},
		},
		{
			name: "authorized", sql: `stage = 'authorized'`,
			to: provisioning.Owner{Name: "Ann", Email: "ann@a.example"}, want: skipped(provisioning.SkipAuthorized), stands: "authorized",
			history: []string{"owner_changed by operator sam", "updated by operator sam"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			o.inTx(t, func(o *office) {
				o.exec(t, `UPDATE clients SET `+test.sql)
				got, err := o.inviter.ChangeOwner(t.Context(), id, test.to, sam)
				if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
					t.Errorf("%v (-want +got)\n%s", err, diff)
				}
				if got := o.standing(t, id); got != test.stands {
					t.Errorf("the client is %s, want %s", got, test.stands)
				}
				if diff := cmp.Diff(test.history, o.history(t, id)[1:]); diff != "" {
					t.Errorf("history (-want +got)\n%s", diff)
				}
			})
		})
	}
	before := o.state(t)
	if _, err := o.inviter.ChangeOwner(t.Context(), id, provisioning.Owner{Email: "ann"}, sam); err == nil {
		t.Error("no address is taken for one")
	} else if _, ok := errors.AsType[*provisioning.FieldError](err); !ok {
		t.Error(err)
	}
	if _, err := o.inviter.ChangeOwner(t.Context(), uuid.New(), provisioning.Owner{Email: "ann@a.example"}, sam); !errors.Is(err, provisioning.ErrNotFound) {
		t.Error(err)
	}
	if diff := cmp.Diff(before, o.state(t)); diff != "" {
		t.Errorf("what was refused changes (-before +after)\n%s", diff)
	}
}
