package notify_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/mailsink"
	"github.com/countersign/countersign/provisioning"
)

// pile reads a pile to its end, two mails at a time, and returns whom they are for.
func (f *office) pile(t *testing.T, p notify.Pile) (clients []string, mails []notify.Item) {
	t.Helper()
	cursor := ""
	for pages := 0; pages == 0 || cursor != ""; pages++ {
		page, next, err := f.mailer.Pile(t.Context(), p, cursor, 2)
		if err != nil {
			t.Fatal(err)
		}
		mails, cursor = append(mails, page...), next
	}
	for _, m := range mails {
		clients = append(clients, strings.Fields(m.ClientName)[1])
	}
	return clients, mails
}

func TestPiles(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, many(9))
	for ref, due := range map[string]string{"C0": "5", "C1": "4", "C2": "3", "C3": "3", "C4": "2"} {
		f.put(t, ref, `due_at = '2026-11-23 09:0`+due+`Z'`)
	}
	f.put(t, "C1", deferred, "mail server mx.example:25: RCPT TO answered 452 4.2.2 over quota")
	f.put(t, "C2", `state = 'unknown', attempts = 1, error = $1`, "mail server mx.example:25: end of message: EOF")
	f.put(t, "C5", failed, noUser, "bounced")
	f.put(t, "C6", failed, spam, nil)
	f.put(t, "C7", `state = 'sent', sent_at = now(), ended_at = now()`)
	f.put(t, "C8", failed, spam, nil)
	f.exec(t, `UPDATE clients SET stage = 'authorized' WHERE ref = 'C8'`)
	f.exec(t, `UPDATE messages SET sender_id = gen_random_uuid() WHERE client_id = (SELECT id FROM clients WHERE ref = 'C4')`)

	waiting, mails := f.pile(t, notify.PileWaiting)
	if len(waiting) != 5 || waiting[0] != "4" || waiting[3] != "1" || waiting[4] != "0" {
		t.Errorf("what waits: %v", waiting)
	}
	if m := mails[0]; m.State != notify.StateSending || m.Cause() != "" || m.Kind != provisioning.LetterInvitation || m.ToAddress == "" {
		t.Errorf("%+v", m)
	}
	delayed, mails := f.pile(t, notify.PileDelayed)
	if diff := gocmp.Diff([]string{"2", "1"}, delayed); diff != "" || mails[0].Cause() != notify.CauseBroken || mails[1].Cause() != notify.CauseMailbox {
		t.Errorf("what is put off (-want +got):\n%s%+v", diff, mails)
	}
	given, mails := f.pile(t, notify.PileFailed)
	if diff := gocmp.Diff([]string{"8", "6", "5"}, given); diff != "" {
		t.Errorf("what was given up (-want +got):\n%s", diff)
	}
	if !mails[0].Over || mails[1].Over || mails[1].Cause() != notify.CauseUs || mails[2].Cause() != notify.CauseAddress {
		t.Errorf("%+v", mails)
	}

	for _, cursor := range []string{"x", "2026-11-23T09:00:00Z", "_", "2026-11-23T09:00:00Z_x"} {
		if _, _, err := f.mailer.Pile(t.Context(), notify.PileWaiting, cursor, 2); !errors.Is(err, provisioning.ErrBadCursor) {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
	if _, err := notify.ParsePile("sent"); !errors.Is(err, notify.ErrUnknownPile) {
		t.Error(err)
	}
}

// TestHurry: what was refused for now is tried at once, and nothing else.
func TestHurry(t *testing.T) {
	t.Parallel()
	f := openOffice(t, mailsink.Options{})
	f.imports(t, many(4))
	f.exec(t, `UPDATE messages SET due_at = now() + interval '1 hour', paced = true`)
	f.put(t, "C1", deferred, "busy")
	f.put(t, "C2", `state = 'unknown', attempts = 1`)
	f.put(t, "C3", deferred+`, sender_id = gen_random_uuid()`, "busy")
	for _, want := range []int{1, 0} {
		if n, err := f.mailer.Hurry(t.Context(), "operator Olga"); err != nil || n != want {
			t.Errorf("%d, %v; want %d", n, err, want)
		}
	}
	_, mails := f.pile(t, notify.PileWaiting)
	hurried := slices.DeleteFunc(mails, func(m notify.Item) bool { return m.At.After(time.Now().Add(time.Minute)) })
	if len(hurried) != 1 || hurried[0].State != notify.StateDeferred {
		t.Errorf("%+v", hurried)
	}
}
