package inbox_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"github.com/countersign/countersign/notify/inbox"
	"github.com/countersign/countersign/notify/mailhost"
)

// host is a mail host in a synctest bubble, reached by pipes: its servers come and go, its mailbox stays.
type host struct {
	t *testing.T

	user   *imapmemserver.User
	open   atomic.Int32                       // connections
	locked atomic.Bool                        // lets nobody sign in
	lazy   bool                               // does not offer IDLE
	fetch  func(s *session, uid uint32) error // may fail

	mutex  sync.Mutex
	served chan struct{}
	pipes  chan net.Conn // nil while no server runs
	server *imapserver.Server
	dials  []time.Time
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, user: imapmemserver.NewUser(username, password)}
	h.renumber()
	h.start()
	t.Cleanup(h.stop)
	return h
}

// renumber empties the mailbox, and gives it another UIDVALIDITY.
func (h *host) renumber() {
	_ = h.user.Delete("INBOX")
	if err := h.user.Create("INBOX", nil); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) start() {
	users := imapmemserver.New()
	users.AddUser(h.user)
	h.server = imapserver.New(&imapserver.Options{
		NewSession: func(conn *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			h.open.Add(1)
			return &session{users.NewSession(), h, conn}, nil, nil
		},
		Logger:       log.New(io.Discard, "", 0),
		InsecureAuth: true,
	})
	pipes, served := make(chan net.Conn), make(chan struct{})
	go func() {
		defer close(served)
		_ = h.server.Serve(&listener{conns: pipes, closed: make(chan struct{})})
	}()
	h.mutex.Lock()
	h.pipes, h.served = pipes, served
	h.mutex.Unlock()
	synctest.Wait() // A server that is stopped while it starts races with itself.
}

// stop cuts all connections. Nobody is there then until the next start.
func (h *host) stop() {
	h.mutex.Lock()
	running := h.pipes != nil
	h.pipes = nil
	h.mutex.Unlock()
	if running {
		_ = h.server.Close()
		<-h.served
	}
}

func (h *host) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	h.mutex.Lock()
	pipes := h.pipes
	h.dials = append(h.dials, time.Now())
	h.mutex.Unlock()
	if pipes == nil {
		return nil, syscall.ECONNREFUSED
	}
	ours, theirs := net.Pipe()
	if h.lazy {
		theirs = lazy{theirs}
	}
	select {
	case pipes <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), ours.Close(), theirs.Close())
	}
}

// dialled returns how long after one another connections have been asked for, and forgets them.
func (h *host) dialled() (pauses []time.Duration) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for i := range len(h.dials) - 1 {
		pauses = append(pauses, h.dials[i+1].Sub(h.dials[i]))
	}
	h.dials = nil
	return pauses
}

func (h *host) deliver(mails ...string) {
	for _, mail := range mails {
		h.append(mail, time.Time{})
	}
}

// append puts a mail into the mailbox that has come at a time; now, where it is zero.
func (h *host) append(mail string, at time.Time) {
	if _, err := h.user.Append("INBOX", bytes.NewReader([]byte(mail)), &imap.AppendOptions{Time: at}); err != nil {
		h.t.Error(err)
	}
}

func (h *host) options() inbox.Options {
	return inbox.Options{
		Account: &mailhost.Server{
			Protocol: mailhost.IMAP, Host: "mail.example", Port: 143, Security: mailhost.NoTLS,
			Username: username, Password: password, Folder: "INBOX",
		},
		Dial: h.dial,
		Poll: time.Hour,
	}
}

// listener accepts connections from a channel.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	close(l.closed)
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{} }

// lazy is the connection of a server that does not offer IDLE.
type lazy struct{ net.Conn }

func (l lazy) Write(p []byte) (int, error) {
	return l.Conn.Write(bytes.ReplaceAll(p, []byte(" IDLE"), []byte(" LAZY")))
}

// session is one connection to a host. It allows nothing that would change the mailbox.
type session struct {
	imapserver.Session

	host *host
	conn *imapserver.Conn
}

func (s *session) Close() error {
	s.host.open.Add(-1)
	return s.Session.Close()
}

func (s *session) Login(user, given string) error {
	if s.host.locked.Load() {
		return imapserver.ErrAuthFailed
	}
	return s.Session.Login(user, given)
}

func (s *session) Select(name string, o *imap.SelectOptions) (*imap.SelectData, error) {
	if !o.ReadOnly {
		s.host.t.Error("the mailbox is opened for writing")
	}
	return s.Session.Select(name, o)
}

func (s *session) Store(*imapserver.FetchWriter, imap.NumSet, *imap.StoreFlags, *imap.StoreOptions) error {
	s.host.t.Error("a message is marked")
	return nil
}

func (s *session) Expunge(*imapserver.ExpungeWriter, *imap.UIDSet) error {
	s.host.t.Error("messages are deleted")
	return nil
}

func (s *session) Fetch(w *imapserver.FetchWriter, numbers imap.NumSet, o *imap.FetchOptions) error {
	if len(o.BodySection) != 1 || !o.BodySection[0].Peek {
		s.host.t.Errorf("%v is fetched by %+v", numbers, o)
	}
	if uids, ok := numbers.(imap.UIDSet); s.host.fetch != nil && ok && len(uids) == 1 {
		if err := s.host.fetch(s, uint32(uids[0].Start)); err != nil {
			return err
		}
	}
	return s.Session.Fetch(w, numbers, o)
}

// hangUp ends a connection in the midst of what it does.
func (s *session) hangUp() error { return s.conn.NetConn().Close() }
