package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/notify/smtp"
)

// startSink returns the address of the sink that was named, or of one of our own in another process.
func startSink(ctx context.Context, named string) (address string, stop func(), err error) {
	if named != "" {
		return named, func() {}, nil
	}
	program, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	sink := exec.CommandContext(ctx, program, "sink") //nolint:gosec // it is this program
	sink.Stderr = os.Stderr
	output, err := sink.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := sink.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = sink.Process.Kill()
		_ = sink.Wait()
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("the sink says no address: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}

// serveSink accepts every mail and forgets it. It does as little as a server can.
func serveSink(ctx context.Context, out io.Writer) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close() //nolint:errcheck // The client is gone or said goodbye.
			_ = converse(conn)
		}()
	}
}

// converse speaks SMTP with a client until it leaves. Answers go out when no command waits to be read.
func converse(conn net.Conn) error {
	in, out := bufio.NewReaderSize(conn, 64<<10), bufio.NewWriter(conn)
	say := func(answer string) { _, _ = out.WriteString(answer + "\r\n") }
	say("220 sink.example ESMTP")
	for {
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		verb, rest, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(" "))
		switch strings.ToUpper(string(verb)) {
		case "EHLO":
			say("250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-CHUNKING\r\n250 ENHANCEDSTATUSCODES")
		case "BDAT":
			size, last, _ := bytes.Cut(rest, []byte(" "))
			n, err := strconv.Atoi(string(size))
			if err != nil {
				return err
			}
			if _, err := in.Discard(n); err != nil {
				return err
			}
			if len(last) > 0 {
				say("250 2.0.0 taken")
			}
		case "DATA":
			say("354 go on")
			if err := out.Flush(); err != nil {
				return err
			}
			for {
				line, err := in.ReadSlice('\n')
				if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
					return err
				}
				if string(line) == ".\r\n" {
					break
				}
			}
			say("250 2.0.0 taken")
		case "QUIT":
			say("221 2.0.0 bye")
			return out.Flush()
		default:
			say("250 2.1.0 fine")
		}
	}
}

// writeMails sends a mail over one connection while there are some left.
func writeMails(ctx context.Context, address string, left *atomic.Int64, mail smtp.Envelope) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // All answers have been read.
	in := bufio.NewReader(conn)
	answer := func(last string) error {
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				return err
			}
			if bytes.HasPrefix(line, []byte(last)) {
				return nil
			}
			if line[0] >= '4' {
				return fmt.Errorf("the sink says %s", line)
			}
		}
	}
	if err := answer("220 "); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("EHLO bench.example\r\n")); err != nil {
		return err
	}
	chunking := false
	for more := true; more; {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		chunking = chunking || bytes.Contains(line, []byte("CHUNKING"))
		more = line[3] == '-'
	}
	opening := fmt.Sprintf("MAIL FROM:<%s> BODY=8BITMIME\r\nRCPT TO:<%s>\r\n", mail.From, mail.To)
	whole := []byte(opening + fmt.Sprintf("BDAT %d LAST\r\n%s", len(mail.Body), mail.Body))
	parts := [][]byte{[]byte(opening + "DATA\r\n"), append(bytes.Clone(mail.Body), ".\r\n"...)}
	for left.Add(-1) >= 0 {
		if chunking {
			if _, err := conn.Write(whole); err != nil {
				return err
			}
			for range 3 {
				if err := answer("250 "); err != nil {
					return err
				}
			}
			continue
		}
		if _, err := conn.Write(parts[0]); err != nil {
			return err
		}
		for _, code := range []string{"250 ", "250 ", "354 "} {
			if err := answer(code); err != nil {
				return err
			}
		}
		if _, err := conn.Write(parts[1]); err != nil {
			return err
		}
		if err := answer("250 "); err != nil {
			return err
		}
	}
	return nil
}

// proxy passes everything on, and every answer late.
type proxy struct {
	address  string
	listener net.Listener
	conns    sync.WaitGroup
}

// startProxy delays what the server says. The way there takes no time: it is the sum that a client sees.
func startProxy(ctx context.Context, server string, delay time.Duration) (*proxy, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{address: listener.Addr().String(), listener: listener}
	p.conns.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.conns.Go(func() { pass(ctx, client, server, delay) })
		}
	})
	return p, nil
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.conns.Wait()
}

// pass joins a client with the server until either leaves.
func pass(ctx context.Context, client net.Conn, server string, delay time.Duration) {
	defer client.Close() //nolint:errcheck // Either side has ended it.
	upstream, err := new(net.Dialer).DialContext(ctx, "tcp", server)
	if err != nil {
		return
	}
	type piece struct {
		at      time.Time
		content []byte
	}
	late := make(chan piece, 1024)
	var ways sync.WaitGroup
	ways.Go(func() {
		_, _ = io.Copy(upstream, client)
		_ = upstream.Close()
	})
	ways.Go(func() {
		defer close(late)
		buffer := make([]byte, 4096)
		for {
			n, err := upstream.Read(buffer)
			if err != nil {
				return
			}
			late <- piece{time.Now().Add(delay), bytes.Clone(buffer[:n])}
		}
	})
	for p := range late {
		<-time.After(time.Until(p.at))
		_, _ = client.Write(p.content)
	}
	_ = client.Close()
	ways.Wait()
}

func collectStrings(rows pgx.Rows) ([]string, error) { return pgx.CollectRows(rows, pgx.RowTo[string]) }
