package inbox

import (
	"errors"
	"net"
	"sync/atomic"
)

// connection lets no more bytes through than were allowed, because the IMAP client keeps what it gets.
type connection struct {
	net.Conn

	left atomic.Int64
}

// allow says how many bytes may come from now on.
func (c *connection) allow(n int64) { c.left.Store(n) }

func (c *connection) Read(p []byte) (int, error) {
	if c.left.Load() <= 0 {
		return 0, errors.New("the server sends more than it was asked for")
	}
	n, err := c.Conn.Read(p)
	c.left.Add(int64(-n))
	return n, err
}
