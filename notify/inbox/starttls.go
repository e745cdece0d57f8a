package inbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// startTLS brings a connection in the clear to where the TLS handshake begins. The IMAP client could do it too, but it waits
// for ever where the connection breaks within the server's answer.
func startTLS(conn net.Conn) error {
	lines := textproto.NewReader(bufio.NewReader(conn))
	greeting, err := lines.ReadLine()
	if err != nil {
		return err
	}
	if text, ok := strings.CutPrefix(greeting, "* OK"); !ok || (text != "" && text[0] != ' ') {
		return &imap.Error{Type: imap.StatusResponseTypeBye, Text: strings.TrimPrefix(greeting, "* ")}
	}
	const tag = "S "
	if _, err := fmt.Fprint(conn, tag+"STARTTLS\r\n"); err != nil {
		return err
	}
	answer := ""
	for !strings.HasPrefix(answer, tag) {
		if answer, err = lines.ReadLine(); err != nil {
			return err
		}
	}
	if !strings.HasPrefix(answer, tag+"OK") {
		return &imap.Error{Type: imap.StatusResponseTypeNo, Text: "no STARTTLS: " + strings.TrimPrefix(answer, tag)}
	}
	if lines.R.Buffered() > 0 { // Somebody on the way would like it to be taken for what the server says under TLS.
		return errors.New("the server goes on in the clear after STARTTLS")
	}
	return nil
}

// greeted is an encrypted connection on which the server's greeting, which came in the clear, is read as another one.
type greeted struct {
	net.Conn

	r io.Reader
}

func greet(conn net.Conn) *greeted {
	return &greeted{conn, io.MultiReader(strings.NewReader("* OK\r\n"), conn)}
}

func (g *greeted) Read(p []byte) (int, error) { return g.r.Read(p) }
