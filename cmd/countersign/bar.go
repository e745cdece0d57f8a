package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// bar shows on a terminal how much of a long work is done. It is an io.Writer: what is written to it
// counts as done. Where there is no terminal it shows nothing.
type bar struct {
	out   io.Writer // nil without a terminal
	what  string
	unit  string // of what is counted; bytes if empty
	total int64
	done  int64
	drawn time.Time
}

const barWidth = 30

// newBar starts a bar; total is 0 if it is not known.
func (p *program) newBar(what string, total int64) *bar {
	b := &bar{what: what, total: total}
	if f, ok := p.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b.out = f
	}
	return b
}

func (b *bar) Write(data []byte) (int, error) {
	b.reach(b.done + int64(len(data)))
	return len(data), nil
}

// reach shows that so much is done.
func (b *bar) reach(done int64) {
	b.done = done
	if b.out != nil && time.Since(b.drawn) > 50*time.Millisecond {
		b.drawn = time.Now()
		b.draw()
	}
}

func (b *bar) draw() {
	if b.total <= 0 && b.unit != "" {
		fmt.Fprintf(b.out, "\r%s … %d %s", b.what, b.done, b.unit)
		return
	}
	if b.total <= 0 {
		fmt.Fprintf(b.out, "\r%s … %d KiB", b.what, b.done>>10)
		return
	}
	share := min(float64(b.done)/float64(b.total), 1)
	fmt.Fprintf(b.out, "\r%s %s %3.0f %%", b.what, meter(share, barWidth), 100*share)
}

// say shows what is going on instead of the bar.
func (b *bar) say(what string) {
	b.end()
	if b.out != nil {
		fmt.Fprint(b.out, what)
	}
}

// end clears the line.
func (b *bar) end() {
	if b.out != nil {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}

// meter draws a share of 1 with as many characters as width says.
func meter(share float64, width int) string {
	full := int(share*float64(width) + 0.5)
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}
