package smtp_test

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// script is an SMTP server that answers by the book unless reply says otherwise. It holds its answers until there is nothing
// left to read, as RFC 2920 wants it, and counts how often that is: so often does the client wait.
type script struct {
	// reply returns the answer to a command of the n-th connection (from 1); "" means the usual one. The verb of the
	// greeting is "", that of a message in full, sent by DATA or BDAT, is ".". Lines end with \n; an answer that ends with
	// hangup closes the connection after it, and after silence nothing is said any more.
	reply func(n int, verb, line string) string
	ehlo  []string
	left  chan struct{} // if made, closed when the client of the only connection has left

	url    string
	mu     sync.Mutex
	conns  [][]string // the commands of every connection
	bodies []string   // every message that came in full
	waits  int
	wg     sync.WaitGroup
}

const (
	hangup  = "\x00"
	silence = "\x01"
)

func (s *script) start(t *testing.T) *script {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "smtp://" + l.Addr().String() + "?tls=none"
	open := make(chan net.Conn, 1000)
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(open)
				return
			}
			open <- conn
			s.mu.Lock()
			s.conns = append(s.conns, nil)
			n := len(s.conns)
			s.mu.Unlock()
			s.wg.Go(func() {
				defer func() { _ = conn.Close() }()
				d := dialogue{script: s, n: n, in: bufio.NewReaderSize(conn, 64<<10), out: bufio.NewWriter(conn)}
				d.run()
				if !d.closed && s.left != nil {
					close(s.left)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		for conn := range open {
			_ = conn.Close()
		}
		s.wg.Wait()
	})
	return s
}

// dialogue is a script's side of one connection.
type dialogue struct {
	*script
	n      int
	in     *bufio.Reader
	out    *bufio.Writer
	sender bool // is known
	owner  bool // the recipient is known
	mute   bool // nothing more is said
	closed bool // by the script
}

func (d *dialogue) run() {
	if _, up := d.answer("", "", "220 script ready\n"); !up {
		return
	}
	for {
		line, err := d.line()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.conns[d.n-1] = append(d.conns[d.n-1], line)
		d.mu.Unlock()
		if !d.command(strings.ToUpper(strings.Fields(line + " x")[0]), line) {
			return
		}
	}
}

// line waits for a line, which is when the answers go out.
func (d *dialogue) line() (string, error) {
	if d.in.Buffered() == 0 {
		if err := d.out.Flush(); err != nil {
			return "", err
		}
		d.mu.Lock()
		d.waits++
		d.mu.Unlock()
	}
	line, err := d.in.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// command obeys one command and reports whether the connection is still up.
func (d *dialogue) command(verb, line string) bool {
	usual := "250 2.0.0 fine\n"
	switch {
	case verb == "EHLO":
		usual = strings.Join(append([]string{"250-script"}, d.ehlo...), "\n250-") + "\n250 8BITMIME\n"
	case verb == "QUIT":
		usual = "221 bye\n" + hangup
	case verb == "MAIL" && d.sender:
		usual = "503 5.5.1 nested MAIL\n"
	case verb == "RCPT" && !d.sender:
		usual = "503 5.5.1 need MAIL\n"
	case verb == "DATA" && !d.owner, verb == "BDAT" && !d.owner:
		usual = "554 5.5.1 no valid recipients\n"
	case verb == "DATA":
		usual = "354 go on\n"
	}
	var body string
	if verb == "BDAT" {
		var size int
		if _, err := fmt.Sscanf(line, "BDAT %d LAST", &size); err != nil {
			return false
		}
		chunk := make([]byte, size)
		if _, err := io.ReadFull(d.in, chunk); err != nil {
			return false
		}
		body = string(chunk)
		if d.owner {
			verb, usual = ".", "250 2.0.0 accepted\n"
			d.ended(body)
		}
	}
	said, up := d.answer(verb, line, usual)
	yes := strings.HasPrefix(said, "25") || (said == silence && strings.HasPrefix(usual, "25"))
	switch {
	case verb == "MAIL":
		d.sender = yes
	case verb == "RCPT":
		d.owner = yes
	case verb == "RSET":
		d.sender, d.owner = false, false
	case up && strings.HasPrefix(said, "354"):
		for line := ""; ; body += line + "\r\n" {
			var err error
			if line, err = d.line(); err != nil {
				return false
			}
			if line == "." {
				break
			}
			line = strings.TrimPrefix(line, ".")
		}
		d.ended(body)
		_, up = d.answer(".", ".", "250 2.0.0 accepted\n")
	}
	return up
}

func (d *dialogue) ended(body string) {
	d.sender, d.owner = false, false
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bodies = append(d.bodies, body)
}

// answer returns what it will say and whether the connection stays up.
func (d *dialogue) answer(verb, line, usual string) (said string, up bool) {
	said = usual
	if d.reply != nil {
		said = cmp.Or(d.reply(d.n, verb, line), usual)
	}
	said, d.closed = strings.CutSuffix(said, hangup)
	if d.mute = d.mute || said == silence; d.mute {
		return said, !d.closed
	}
	_, err := d.out.WriteString(strings.ReplaceAll(said, "\n", "\r\n"))
	if d.closed {
		err = d.out.Flush()
	}
	return said, err == nil && !d.closed
}

// dialogues returns the verbs of every connection so far.
func (s *script) dialogues() (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, lines := range s.conns {
		var verbs []string
		for _, line := range lines {
			verbs = append(verbs, strings.Fields(line)[0])
		}
		found = append(found, strings.Join(verbs, " "))
	}
	return found
}

// lines returns the commands of the n-th connection so far.
func (s *script) lines(n int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conns[n-1])
}

// received returns the messages that came in full so far.
func (s *script) received() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

// waited returns how often the client had to be waited for so far.
func (s *script) waited() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waits
}

// at answers one verb, on every connection.
func at(verb, reply string) func(int, string, string) string {
	return func(_ int, v, _ string) string {
		if v == verb {
			return reply
		}
		return ""
	}
}
