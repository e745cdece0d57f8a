package provisioning_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning"
)

func TestSuppressed(t *testing.T) {
	t.Parallel()
	o := setup(t)
	o.imports(t, "ref,name,owner_email\nA,Acme,ann@a.example\nB,Bloom,ben@b.example\nC,Cole,cy@c.example\nD,Dell,di@d.example\n")
	id := func(ref string) provisioning.Client {
		t.Helper()
		c, err := o.Client(t.Context(), "ref:"+ref)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	bounced := provisioning.Change{
		Client: id("A").ID, Event: provisioning.EventBounced, To: provisioning.StageStalled, Reason: provisioning.ReasonBounced,
		Actor: provisioning.ActorSystem, Detail: provisioning.Detail{"said": "no such user"},
	}
	if _, err := provisioning.Advance(t.Context(), o.pool, bounced); err != nil {
		t.Fatal(err)
	}
	if err := provisioning.NotMe(t.Context(), o.pool, id("B").ID); err != nil {
		t.Fatal(err)
	}
	if err := provisioning.OptOut(t.Context(), o.pool, id("C").ID, provisioning.OptedOutUnsubscribed, provisioning.ActorOwner, nil); err != nil {
		t.Fatal(err)
	}
	// Whoever pressed afterwards is suppressed all the same: a robot may have pressed.
	o.exec(t, `UPDATE clients SET stage = 'started', reason = NULL WHERE ref = 'C'`)

	read := func() (list []provisioning.Suppressed) {
		t.Helper()
		cursor := ""
		for pages := 0; pages == 0 || cursor != ""; pages++ {
			page, next, err := o.Suppressed(t.Context(), cursor, 1)
			if err != nil {
				t.Fatal(err)
			}
			list, cursor = append(list, page...), next
		}
		return list
	}
	type line struct {
		Name, Email string
		OptedOut    provisioning.OptedOut
		Event       provisioning.EventKind
	}
	lines := func() (lines []line) {
		for _, s := range read() {
			l := line{Name: s.Name, Email: s.Owner.Email, Event: s.Event}
			if s.OptedOut != nil {
				l.OptedOut = *s.OptedOut
			}
			lines = append(lines, l)
		}
		return lines
	}
	want := []line{
		{"Cole", "cy@c.example", provisioning.OptedOutUnsubscribed, provisioning.EventUnsubscribed},
		{"Bloom", "ben@b.example", provisioning.OptedOutDeclined, provisioning.EventNotMe},
		{"Acme", "ann@a.example", "", provisioning.EventBounced},
	}
	if diff := cmp.Diff(want, lines()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if said := read()[2].Detail["said"]; said != "no such user" {
		t.Errorf("the bounce says %v", said)
	}

	if err := provisioning.OptIn(t.Context(), o.pool, id("B").ID, "operator Olga"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]line{want[0], want[2]}, lines()); diff != "" {
		t.Errorf("after one was let in (-want +got)\n%s", diff)
	}
	if _, _, err := o.Suppressed(t.Context(), "x", 1); !errors.Is(err, provisioning.ErrBadCursor) {
		t.Errorf("%v, want %v", err, provisioning.ErrBadCursor)
	}
}
