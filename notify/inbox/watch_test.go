package inbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/notify/inbox"
)

// reader is somebody who watches a mailbox, and what was handed to him.
type reader struct {
	stop func()     // ends it as its owner would, and waits for it
	done chan error // what Watch has returned

	mutex    sync.Mutex
	messages []inbox.Message
	log      bytes.Buffer
}

// watch begins to read in the bubble of the test. handle may be nil.
func watch(t *testing.T, o inbox.Options, from inbox.Bookmark, handle func(inbox.Message) error) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &reader{done: make(chan error, 1)}
	o.Log = slog.New(slog.NewTextHandler(&r.log, nil))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.done <- inbox.Watch(ctx, o, from, func(_ context.Context, m inbox.Message) error {
			if handle != nil {
				if err := handle(m); err != nil {
					return err
				}
			}
			r.mutex.Lock()
			defer r.mutex.Unlock()
			r.messages = append(r.messages, m)
			return nil
		})
	}()
	r.stop = func() {
		t.Helper()
		began := time.Now()
		cancel()
		<-ended
		if took := time.Since(began); took > 0 {
			t.Errorf("Watch took %s to end", took)
		}
		if strings.Contains(r.log.String(), "hunter2") {
			t.Errorf("the log tells the password:\n%s", &r.log)
		}
	}
	t.Cleanup(r.stop)
	synctest.Wait()
	return r
}

// read takes the subjects of what has been handed out.
func (r *reader) read() (subjects []string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, m := range r.messages {
		subject, _, _ := strings.Cut(strings.TrimPrefix(string(m.Raw), "Subject: "), "\r\n")
		subjects = append(subjects, fmt.Sprintf("%d %s", m.UID, subject))
	}
	r.messages = nil
	return subjects
}

// want waits until the reader waits, too, and compares.
func (r *reader) want(t *testing.T, subjects ...string) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(subjects, r.read()); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

// logged compares what has been told, by the beginnings of the lines' messages.
func (r *reader) logged(t *testing.T, messages ...string) {
	t.Helper()
	synctest.Wait()
	var got []string
	for line := range strings.Lines(r.log.String()) {
		_, message, _ := strings.Cut(line, ` msg="`)
		message, _, _ = strings.Cut(message, `"`)
		for _, want := range messages {
			if strings.HasPrefix(message, want) {
				message = want
			}
		}
		got = append(got, message)
	}
	if diff := cmp.Diff(messages, got); diff != "" {
		t.Errorf("log (-want +got):\n%s\n%s", diff, &r.log)
	}
}

const lost, back, anew = "the mailbox cannot be read", "the mailbox is read again", "the mailbox numbers its messages anew"

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.deliver(mail("a"), mail("b"))
		came := time.Now()
		r := watch(t, h.options(), inbox.Bookmark{}, nil)
		r.want(t, "1 a", "2 b")
		for i := range 3 { // IDLE: nothing is asked for before an hour is over.
			pass(time.Minute)
			h.deliver(mail("c"), mail("d"))
			r.want(t, fmt.Sprintf("%d c", 2*i+3), fmt.Sprintf("%d d", 2*i+4))
		}
		pass(24 * time.Hour)
		h.deliver(mail("e"))
		synctest.Wait()
		want := []inbox.Message{{
			Bookmark: inbox.Bookmark{UIDValidity: 1, UID: 9}, Raw: []byte(mail("e")), ReceivedAt: came.Add(24*time.Hour + 3*time.Minute),
		}}
		r.mutex.Lock()
		if diff := cmp.Diff(want, r.messages); diff != "" {
			t.Errorf("message (-want +got):\n%s", diff)
		}
		r.mutex.Unlock()
		r.logged(t)
		status, err := h.user.Status("INBOX", &imap.StatusOptions{NumMessages: true, NumUnseen: true})
		if err != nil || *status.NumMessages != 9 || *status.NumUnseen != 9 {
			t.Errorf("the mailbox is %+v, %v; want 9 unread mails", status, err)
		}
		r.stop()
		if err := <-r.done; err != nil {
			t.Errorf("Watch = %v", err)
		}
	})
}

func TestWatchBegins(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		since time.Duration
		from  inbox.Bookmark
		want  []string
	}{
		"with what arrived in two weeks":   {want: []string{"2 last week", "3 moved here", "4 abroad", "5 today"}},
		"with what arrived in a few days":  {since: 72 * time.Hour, want: []string{"4 abroad", "5 today"}},
		"at its bookmark":                  {from: inbox.Bookmark{UIDValidity: 1, UID: 3}, want: []string{"4 abroad", "5 today"}},
		"at its bookmark, however old":     {from: inbox.Bookmark{UIDValidity: 1}, want: []string{"1 last year", "2 last week", "3 moved here", "4 abroad", "5 today"}},
		"behind all":                       {from: inbox.Bookmark{UIDValidity: 1, UID: 5}},
		"anew, where numbers mean no more": {from: inbox.Bookmark{UIDValidity: 7, UID: 3}, want: []string{"2 last week", "3 moved here", "4 abroad", "5 today"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.append(mail("last year"), time.Now().AddDate(-1, 0, 0))
				h.append(mail("last week"), time.Now().AddDate(0, 0, -7))
				h.append(mail("moved here"), time.Now().AddDate(-2, 0, 0))
				h.append(mail("abroad"), time.Now().Add(-71*time.Hour).In(time.FixedZone("", -10*3600))) // another day there
				h.append(mail("today"), time.Now())
				o := h.options()
				o.Since = tt.since
				r := watch(t, o, tt.from, nil)
				r.want(t, tt.want...)
				h.append(mail("moved, too"), time.Now().AddDate(-2, 0, 0))
				r.want(t, "6 moved, too")
			})
		})
	}
}

// A mailbox with nothing new in it is read from now on, and not from its beginning.
func TestWatchOldMailbox(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		for range 3 {
			h.append(mail("old"), time.Now().AddDate(-1, 0, 0))
		}
		r := watch(t, h.options(), inbox.Bookmark{}, nil)
		r.want(t)
		h.append(mail("moved"), time.Now().AddDate(-2, 0, 0))
		r.want(t, "4 moved")
	})
}

func TestWatchComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		r := watch(t, h.options(), inbox.Bookmark{}, nil)
		h.deliver(mail("a"))
		r.want(t, "1 a")
		pass(time.Hour)
		h.dialled()
		h.stop()
		h.deliver(mail("b"))
		pass(time.Hour)
		r.logged(t, lost)
		h.start()
		pass(10 * time.Minute)
		r.want(t, "2 b")
		r.logged(t, lost, back)
		h.deliver(mail("c"))
		r.want(t, "3 c")

		pauses := h.dialled()
		for i, pause := range pauses {
			shortest := min(2*time.Second<<i, 5*time.Minute)
			if pause < shortest || pause > shortest*5/4 {
				t.Errorf("pause %d is %s", i, pause)
			}
		}
		if len(pauses) < 16 {
			t.Errorf("pauses were %s", pauses)
		}

		// After a connection that held, all begins anew.
		pass(2 * time.Hour)
		h.stop()
		h.start()
		pass(2 * time.Second)
		h.deliver(mail("d"))
		r.want(t, "4 d")
		r.logged(t, lost, back, lost, back)

		// After some that did not, it does not.
		pass(2 * time.Hour)
		h.dialled()
		for range 10 {
			h.stop()
			h.start()
			pass(10 * time.Second)
		}
		if pauses := h.dialled(); len(pauses) > 5 {
			t.Errorf("pauses were %s", pauses)
		}
		pass(10 * time.Minute)
		h.deliver(mail("e"))
		r.want(t, "5 e")
	})
}

// The mailbox is made anew while it is watched.
func TestWatchRenumbered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		r := watch(t, h.options(), inbox.Bookmark{}, nil)
		h.deliver(mail("a"), mail("b"))
		r.want(t, "1 a", "2 b")
		h.stop()
		h.renumber()
		h.deliver(mail("b"))
		h.start()
		pass(2 * time.Second)
		r.want(t, "1 b")
		r.logged(t, lost, anew, back)
		h.stop()
		h.start()
		pass(time.Minute)
		r.want(t)
	})
}

func TestWatchWrongPassword(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.stop()
		h.locked.Store(true)
		r := watch(t, h.options(), inbox.Bookmark{}, nil)
		r.logged(t, lost)
		h.start()
		pass(time.Minute)
		r.logged(t, lost, lost)
		if got := r.log.String(); !strings.Contains(got, "Authentication failed") || !strings.Contains(got, "check user and password") {
			t.Errorf("log:\n%s", got)
		}
		h.dialled()
		pass(time.Hour)
		pauses := h.dialled()
		for _, pause := range pauses {
			if pause < 5*time.Minute {
				t.Errorf("tried again after %s", pause)
			}
		}
		if len(pauses) < 8 {
			t.Errorf("pauses were %s", pauses)
		}
		h.deliver(mail("a"))
		h.locked.Store(false)
		pass(10 * time.Minute)
		r.want(t, "1 a")
		r.logged(t, lost, lost, back)
	})
}

// A server without IDLE is asked.
func TestWatchPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.lazy = true
		o := h.options()
		o.Poll = 30 * time.Second
		r := watch(t, o, inbox.Bookmark{}, nil)
		pass(10 * time.Second)
		h.deliver(mail("a"))
		r.want(t)
		pass(21 * time.Second)
		r.want(t, "1 a")
	})
}

// What arrives while a message is handled, at a server that does not tell of it by itself, is not left until the next one.
func TestWatchArrivalMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.deliver(mail("a"))
		r := watch(t, h.options(), inbox.Bookmark{}, func(m inbox.Message) error {
			if m.UID < 5 {
				h.deliver(mail("again"))
			}
			return nil
		})
		r.want(t, "1 a", "2 again", "3 again", "4 again", "5 again")
	})
}

func TestWatchCuts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		o := h.options()
		o.MaxMessage = 1000
		fits := mail("fits")
		fits += strings.Repeat("x", 1000-len(fits))
		h.deliver(fits, fits+"x", mail("huge")+strings.Repeat("x", 10<<20), mail("behind"))
		r := watch(t, o, inbox.Bookmark{}, nil)
		synctest.Wait()
		r.mutex.Lock()
		defer r.mutex.Unlock()
		var got []string
		for _, m := range r.messages {
			got = append(got, fmt.Sprint(m.UID, len(m.Raw), m.Truncated))
		}
		if diff := cmp.Diff([]string{"1 1000 false", "2 1000 true", "3 1000 true", fmt.Sprint(4, len(mail("behind")), false)}, got); diff != "" {
			t.Errorf("UID, length and truncated (-want +got):\n%s", diff)
		}
	})
}

func TestWatchHandleFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.deliver(mail("a"), mail("b"), mail("c"))
		down := errors.New("the database is down")
		var stored inbox.Bookmark
		handle := func(m inbox.Message) error {
			if m.UID == 2 && stored.UID < 2 && down != nil {
				return down
			}
			stored = m.Bookmark
			return nil
		}
		r := watch(t, h.options(), inbox.Bookmark{}, handle)
		if err := <-r.done; !errors.Is(err, down) || !strings.Contains(err.Error(), "message 2 of imap://") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Watch = %v", err)
		}
		r.want(t, "1 a")
		if open := h.open.Load(); open != 0 {
			t.Errorf("%d connections are left open", open)
		}
		down = nil
		r = watch(t, h.options(), stored, handle)
		r.want(t, "2 b", "3 c")
	})
}

// A message that cannot be had does not keep those behind it, and neither is one lost because the server has a bad hour.
func TestWatchOddMessage(t *testing.T) {
	t.Parallel()
	refuse := func(*session) error { return &imap.Error{Type: imap.StatusResponseTypeNo, Text: "internal error"} }
	for name, fail := range map[string]func(*session) error{
		"refused":    refuse,
		"hanging up": func(s *session) error { return s.hangUp() },
		"unanswered": func(*session) error { <-time.After(2 * time.Minute); return errors.New("too late") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.fetch = func(s *session, uid uint32) error {
					if uid == 2 || uid == 3 {
						return fail(s)
					}
					return nil
				}
				h.deliver(mail("a"), mail("b"), mail("c"), mail("d"), mail("e"))
				r := watch(t, h.options(), inbox.Bookmark{}, nil)
				pass(time.Hour)
				r.want(t, "1 a", "2 ", "3 ", "4 d", "5 e")
				r.logged(t, lost, back)
			})
		})
	}
	t.Run("each for a while", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			var asked [4]atomic.Int32
			h.fetch = func(s *session, uid uint32) error {
				if asked[uid].Add(1) < 3 {
					return refuse(s)
				}
				return nil
			}
			h.deliver(mail("a"), mail("b"), mail("c"))
			r := watch(t, h.options(), inbox.Bookmark{}, nil)
			pass(time.Hour)
			r.want(t, "1 a", "2 b", "3 c")
		})
	})
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			var well atomic.Bool
			h.fetch = func(s *session, _ uint32) error {
				if !well.Load() {
					return refuse(s)
				}
				return nil
			}
			h.deliver(mail("a"), mail("b"))
			r := watch(t, h.options(), inbox.Bookmark{}, nil)
			pass(24 * time.Hour)
			r.want(t)
			r.logged(t, lost)
			well.Store(true)
			pass(10 * time.Minute)
			r.want(t, "1 a", "2 b")
			r.logged(t, lost, back)
		})
	})
}

// Servers say more than they are asked for, less, and other things.
func TestWatchOddServers(t *testing.T) {
	t.Parallel()
	const opening = "LOGIN\nEXAMINE > 3 EXISTS > OK [UIDVALIDITY 1] v > OK [UIDNEXT 7] n\nNOOP\n"
	for name, tt := range map[string]struct {
		scripts []string
		want    []string
		took    time.Duration // at most
	}{
		"tells of a message before IDLE": {
			scripts: []string{opening + `UID SEARCH > 4 EXISTS
				IDLE
				DONE
				NOOP
				UID SEARCH UID 7:* > SEARCH 7
				UID FETCH 7 > 4 FETCH (UID 7 BODY[]<0> "Subject: a")
				NOOP
				UID SEARCH
				IDLE`},
			want: []string{"7 a"},
		},
		"tells of a message in IDLE, and of one that is gone": {
			scripts: []string{opening + `UID SEARCH
				IDLE > 2 EXPUNGE > 3 EXISTS
				DONE
				NOOP
				UID SEARCH UID 7:* > SEARCH 7
				UID FETCH 7 > 1 EXPUNGE > 2 FETCH (UID 7 INTERNALDATE " 1-Jan-2000 00:00:00 +0000" BODY[]<0> "Subject: a")
				NOOP
				UID SEARCH
				IDLE`},
			want: []string{"7 a"},
		},
		"counts at every opportunity": {
			scripts: []string{opening + `UID SEARCH > 3 EXISTS
				IDLE > 3 EXISTS > OK still here
				DONE > 3 EXISTS
				IDLE > 3 EXISTS
				DONE
				IDLE
				DONE
				NOOP > 3 EXISTS
				UID SEARCH > 3 EXISTS
				IDLE > 3 EXISTS`},
			took: time.Hour,
		},
		"tells of flags instead of the message": {
			scripts: []string{
				opening + `UID SEARCH > SEARCH 7
				UID FETCH 7 > 4 FETCH (UID 7 FLAGS (\Seen))
				LOGOUT`,
				opening + `UID SEARCH > SEARCH 7
				UID FETCH 7 > 4 FETCH (UID 7 BODY[]<0> "Subject: a")
				NOOP
				UID SEARCH
				IDLE`,
			},
			want: []string{"7 a"},
			took: 2 * time.Second,
		},
		"dates a message as nobody does": {
			scripts: []string{
				opening + `UID SEARCH > SEARCH 7
				UID FETCH 7 > 4 FETCH (UID 7 INTERNALDATE "yesterday" BODY[]<0> "Subject: a")`,
				opening + `UID SEARCH > SEARCH 7
				UID FETCH 7 (UID BODY.PEEK[]<0. > 4 FETCH (UID 7 BODY[]<0> "Subject: a")
				NOOP
				UID SEARCH
				IDLE`,
			},
			want: []string{"7 a"},
			took: 2 * time.Second,
		},
		"sends all of a message that is too long": {
			scripts: []string{
				opening + `UID SEARCH > SEARCH 7
				UID FETCH 7 > 4 FETCH (UID 7 BODY[]<0> {3000000}CRLFSubject: aCRLF` + strings.Repeat("x", 3000000-len("Subject: a\r\n")) + ")",
				opening + "UID SEARCH\nIDLE",
			},
			want: []string{"7 a"},
			took: 2 * time.Second,
		},
		"finds numbers that cannot be": {
			scripts: []string{opening + `UID SEARCH > SEARCH 0 4294967295 7
				UID FETCH 7 > 4 FETCH (UID 7 BODY[]<0> "Subject: a")
				UID FETCH 4294967295 > 5 FETCH (UID 4294967295 BODY[]<0> "Subject: b")
				IDLE`},
			want: []string{"7 a", "4294967295 b"},
		},
		"finds what is gone": {
			scripts: []string{opening + `UID SEARCH > SEARCH 7 8
				UID FETCH 7
				UID FETCH 8 > 4 FETCH (UID 8 BODY[]<0> "Subject: a")
				NOOP
				UID SEARCH UID 9:*
				IDLE`},
			want: []string{"8 a"},
		},
		"says good-bye": {
			scripts: []string{opening + "UID SEARCH\nIDLE > BYE autologout", opening + "UID SEARCH\nIDLE"},
			took:    2 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				played := make(chan error)
				scripts := tt.scripts
				o := (&host{}).options()
				o.Dial = func(context.Context, string, string) (net.Conn, error) {
					if len(scripts) == 0 {
						return nil, errors.New("the play is over")
					}
					script := scripts[0]
					scripts = scripts[1:]
					ours, theirs := net.Pipe()
					go func() { played <- play(theirs, script) }()
					return ours, nil
				}
				began := time.Now()
				r := watch(t, o, inbox.Bookmark{UIDValidity: 1, UID: 6}, nil)
				for range tt.scripts {
					if err := <-played; err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(began); took > tt.took {
					t.Errorf("took %s", took)
				}
				r.want(t, tt.want...)
			})
		})
	}
}
