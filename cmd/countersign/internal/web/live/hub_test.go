package live_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/cmd/countersign/internal/web/live"
	"github.com/countersign/countersign/provisioning"
)

// testBundle is a hub, what it reads, and a server of its streams on a network that is none, in a bubble of synctest.
type testBundle struct {
	*live.Hub

	t                   *testing.T
	network             *network
	written             atomic.Int64 // the mark
	page                atomic.Value // what is read
	broken              atomic.Bool
	marks, reads, doors atomic.Int64 // how often each was asked
	gone                atomic.Value // the session that has ended
}

// network hands connections to a server.
type network struct {
	connections chan net.Conn
	closed      chan struct{}
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.connections:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	close(n.closed)
	return nil
}

func (*network) Addr() net.Addr { return &net.TCPAddr{} }

var errBroken = errors.New("the database does not answer")

// in runs a test in a bubble.
func in(t *testing.T, test func(*testBundle)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &testBundle{t: t, network: &network{make(chan net.Conn), make(chan struct{})}}
		b.gone.Store(provisioning.Secret("nobody"))
		b.writes("<p>one</p>")
		b.Hub = &live.Hub{
			Mark: func(context.Context) (int64, error) {
				b.marks.Add(1)
				if b.broken.Load() {
					return 0, errBroken
				}
				return b.written.Load(), nil
			},
			Read: func(context.Context) ([]byte, error) {
				b.reads.Add(1)
				return []byte(b.page.Load().(string)), nil
			},
			Ended: func(_ context.Context, sessions []provisioning.Secret) ([]provisioning.Secret, error) {
				b.doors.Add(1)
				return slices.DeleteFunc(sessions, func(s provisioning.Secret) bool { return s != b.gone.Load() }), nil
			},
			Log: slog.New(slog.DiscardHandler),
		}
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := b.Stream(w, r, provisioning.Secret(r.Header.Get("Session"))); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
			}
		})}
		server.RegisterOnShutdown(b.Close)
		served := make(chan error, 1)
		go func() { served <- server.Serve(b.network) }()
		t.Cleanup(func() {
			if err := server.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
		test(b)
	})
}

func (b *testBundle) writes(page string) {
	b.page.Store(page)
	b.written.Add(1)
}

// reader is a browser with a stream.
type reader struct {
	t        *testing.T
	conn     net.Conn
	response *http.Response
	lines    *bufio.Reader
}

// opens asks for a stream; header has names and values in turn.
func (b *testBundle) opens(path string, header ...string) *reader {
	b.t.Helper()
	here, there := net.Pipe()
	b.network.connections <- there
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, "http://console"+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	go func() { _ = request.Write(here) }()
	lines := bufio.NewReader(here)
	response, err := http.ReadResponse(lines, request) //nolint:bodyclose // It ends with the connection.
	if err != nil {
		b.t.Fatal(err)
	}
	r := &reader{b.t, here, response, bufio.NewReader(response.Body)}
	b.t.Cleanup(func() { _ = here.Close() })
	return r
}

// leaves closes the connection.
func (r *reader) leaves() {
	_ = r.conn.Close()
	synctest.Wait()
}

// next returns the fields of the next event, heartbeats included, and io.EOF at the end.
func (r *reader) next() (event string, err error) {
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return event, err
		}
		if line == "\n" {
			return event, nil
		}
		if name, _, _ := strings.Cut(line, ":"); name != "id" {
			event += line
		}
	}
}

func (r *reader) says(want ...string) {
	r.t.Helper()
	for _, want := range want {
		if got, err := r.next(); err != nil || got != want {
			r.t.Fatalf("the stream says %q, %v, want %q", got, err, want)
		}
	}
}

func (r *reader) ends() {
	r.t.Helper()
	if got, err := r.next(); !errors.Is(err, io.EOF) {
		r.t.Fatalf("the stream says %q, %v, want its end", got, err)
	}
}

const beat = time.Second

const greeting = "retry: 3000\n"

func state(html string) string { return "event: state\ndata: " + html + "\n" }

func TestOnlyChangesAreSent(t *testing.T) {
	in(t, func(b *testBundle) {
		t := b.t
		r := b.opens("/")
		if diff := cmp.Diff([]string{"text/event-stream", "no-store, no-transform", "no"},
			[]string{r.response.Header.Get("Content-Type"), r.response.Header.Get("Cache-Control"), r.response.Header.Get("X-Accel-Buffering")}); diff != "" {
			t.Error(diff)
		}
		r.says(greeting, state("<p>one</p>"))
		b.written.Add(1) // by somebody who changed nothing of it
		start := time.Now()
		r.says(":\n")
		if silence := time.Since(start); silence != 15*time.Second {
			t.Errorf("a heartbeat after %v", silence)
		}
		b.writes("<p>two\r\nand\rthree</p>\n")
		r.says("event: state\ndata: <p>two\ndata: and\ndata: three</p>\ndata: \n")
		r.leaves()
	})
}

// However many look on, what is read is read once; and nothing when nobody does.
func TestManyCostAsMuchAsOne(t *testing.T) {
	in(t, func(b *testBundle) {
		t := b.t
		var readers []*reader
		for i := range 50 {
			r := b.opens("/", "Session", strconv.Itoa(i))
			r.says(greeting, state("<p>one</p>"))
			readers = append(readers, r)
		}
		b.marks.Store(0)
		b.reads.Store(0)
		b.doors.Store(0)
		<-time.After(10*time.Second + time.Millisecond)
		if b.marks.Load() != 10 || b.doors.Load() != 1 || b.reads.Load() != 0 {
			t.Errorf("in ten seconds %d marks, %d questions for sessions, %d pages", b.marks.Load(), b.doors.Load(), b.reads.Load())
		}
		b.writes("<p>two</p>")
		for _, r := range readers {
			r.says(state("<p>two</p>"))
		}
		if b.reads.Load() != 1 {
			t.Errorf("one change was read %d times", b.reads.Load())
		}
		for _, r := range readers {
			r.leaves()
		}
		<-time.After(time.Second)
		b.marks.Store(0)
		<-time.After(time.Minute)
		if b.marks.Load() != 0 {
			t.Errorf("nobody looks, and %d marks are asked for", b.marks.Load())
		}
		r := b.opens("/")
		r.says(greeting, state("<p>two</p>"))
		b.writes("<p>three</p>")
		r.says(state("<p>three</p>"))
		r.leaves()
	})
}

// Who comes again gets what is there now, at once, and nothing that it shows already.
func TestReconnect(t *testing.T) {
	in(t, func(b *testBundle) {
		t := b.t
		shown, err := b.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		same := b.opens("/?shown=" + shown.ID)
		again := b.opens("/?shown=older", "Last-Event-ID", shown.ID)
		same.says(greeting, ":\n")
		again.says(greeting, ":\n")
		b.writes("<p>two</p>")
		same.says(state("<p>two</p>"))
		again.leaves()
		start := time.Now()
		late := b.opens("/?shown="+shown.ID, "Last-Event-ID", shown.ID)
		late.says(greeting, state("<p>two</p>"))
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the present state came after %v", waited)
		}
		same.leaves()
		late.leaves()
	})
}

// Time alone changes what is told, such as the day.
func TestTimeGoesOn(t *testing.T) {
	in(t, func(b *testBundle) {
		t := b.t
		r := b.opens("/")
		r.says(greeting, state("<p>one</p>"))
		b.page.Store("<p>the next day</p>")
		start := time.Now()
		r.says(":\n", state("<p>the next day</p>"))
		if waited := time.Since(start); waited > 16*time.Second {
			t.Errorf("it came after %v", waited)
		}
		r.leaves()
	})
}

func TestSessionsEnd(t *testing.T) {
	in(t, func(b *testBundle) {
		t := b.t
		open := func(session string) *reader {
			r := b.opens("/", "Session", session)
			r.says(greeting, state("<p>one</p>"))
			return r
		}
		stays, out, removed := open("stays"), open("out"), open("removed")
		b.End("out")
		out.says("event: ended\ndata:\n")
		out.ends()
		b.gone.Store(provisioning.Secret("removed"))
		start := time.Now()
		removed.says("event: ended\ndata:\n")
		removed.ends()
		if waited := time.Since(start); waited > 10*time.Second {
			t.Errorf("it went on for %v", waited)
		}
		stays.says(":\n")
		stays.leaves()
	})
}

func TestASessionHasFewStreams(t *testing.T) {
	in(t, func(b *testBundle) {
		t := b.t
		var readers []*reader
		for range 4 {
			readers = append(readers, b.opens("/", "Session", "olga"))
		}
		refused := b.opens("/", "Session", "olga")
		if refused.response.StatusCode == http.StatusOK {
			t.Error("a session has as many streams as it likes")
		}
		refused.leaves()
		readers[0].leaves()
		readers = append(readers[1:], b.opens("/", "Session", "olga"), b.opens("/", "Session", "sam"))
		for _, r := range readers {
			if r.response.StatusCode != http.StatusOK {
				t.Errorf("%s for one that may", r.response.Status)
			}
			r.leaves()
		}
	})
}

// A reader who stands still holds up nobody, and is dropped.
func TestSlowReader(t *testing.T) {
	in(t, func(b *testBundle) {
		t := b.t
		slow, quick := b.opens("/", "Session", "slow"), b.opens("/", "Session", "quick")
		quick.says(greeting, state("<p>one</p>"))
		for i := range 30 {
			page := fmt.Sprintf("<p>%d</p>", i)
			b.writes(page)
			quick.says(state(page))
		}
		if _, err := io.ReadAll(slow.lines); err == nil {
			t.Error("the connection of the slow reader ended as if all had been sent")
		}
		quick.leaves()
	})
}

// Who was slow for a moment gets the newest state, not all of those in between.
func TestStatesAreNotPiledUp(t *testing.T) {
	in(t, func(b *testBundle) {
		r := b.opens("/")
		r.says(greeting, state("<p>one</p>"))
		<-time.After(beat / 2)
		for i := range 5 {
			b.writes(fmt.Sprintf("<p>%d</p>", i))
			<-time.After(beat)
		}
		r.says(state("<p>0</p>"), state("<p>4</p>")) // the first was under way
		r.leaves()
	})
}

// When nothing can be read, streams end, so that browsers ask and learn why.
func TestReadingFails(t *testing.T) {
	in(t, func(b *testBundle) {
		t := b.t
		r := b.opens("/")
		r.says(greeting, state("<p>one</p>"))
		b.broken.Store(true)
		r.ends()
		if refused := b.opens("/"); refused.response.StatusCode == http.StatusOK {
			t.Error("a stream begins that has nothing to say")
		}
		b.broken.Store(false)
		r = b.opens("/")
		r.says(greeting, state("<p>one</p>"))
		r.leaves()
	})
}

func TestClose(t *testing.T) {
	in(t, func(b *testBundle) {
		t := b.t
		r := b.opens("/")
		r.says(greeting, state("<p>one</p>"))
		start := time.Now()
		b.Close()
		r.ends()
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
		if refused := b.opens("/"); refused.response.StatusCode == http.StatusOK {
			t.Error("a stream begins after the end")
		}
	})
}
