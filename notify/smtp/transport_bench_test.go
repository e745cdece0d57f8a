package smtp_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/countersign/countersign/notify/smtp"
)

// BenchmarkSend sends mails of 8 kB over ten connections to a server that does nothing but read and answer.
func BenchmarkSend(b *testing.B) {
	for _, extensions := range []string{"8BITMIME", "PIPELINING", "PIPELINING CHUNKING"} {
		b.Run(extensions, func(b *testing.B) {
			const connections = 10
			transport, err := smtp.New(smtp.Options{URL: startHole(b, extensions), MaxConns: connections, MaxMessages: 1000})
			if err != nil {
				b.Fatal(err)
			}
			e := smtp.Envelope{From: "bounce+1@agency.example", To: "owner@acme.example", Body: bytes.Repeat([]byte("Connect your account, please: it takes a minute.\r\n"), 160)}
			b.ReportAllocs()
			b.SetParallelism(connections)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := transport.Send(b.Context(), e); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
			if err := transport.Close(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
}

// startHole starts a server that takes every mail and keeps none, and returns its URL.
func startHole(b *testing.B, extensions string) string {
	b.Helper()
	l, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_ = swallow(conn, strings.Fields(extensions))
			}()
		}
	}()
	return "smtp://" + l.Addr().String() + "?tls=none"
}

func swallow(conn net.Conn, extensions []string) error {
	in, out := bufio.NewReaderSize(conn, 64<<10), bufio.NewWriter(conn)
	_, _ = out.WriteString("220 hole\r\n")
	for body := false; ; {
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		answer := "250 fine\r\n"
		switch {
		case body:
			if line[0] != '.' || len(line) != 3 {
				continue
			}
			body = false
		case line[0] == 'E':
			answer = "250-hole\r\n250-" + strings.Join(extensions, "\r\n250-") + "\r\n250 HELP\r\n"
		case line[0] == 'D':
			answer, body = "354 go on\r\n", true
		case line[0] == 'B':
			var size int64
			if _, err := fmt.Sscanf(string(line), "BDAT %d LAST", &size); err != nil {
				return err
			}
			if _, err := io.CopyN(io.Discard, in, size); err != nil {
				return err
			}
		case line[0] == 'Q':
			answer = "221 bye\r\n"
		}
		_, _ = out.WriteString(answer)
	}
}
