package interoptest_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// begin starts cmd, whose context is the test's, and returns what it printed that ready matches. It is told by
// SIGTERM when the test ends, and all that it printed is shown if the test has failed.
func begin(t *testing.T, cmd *exec.Cmd, ready *regexp.Regexp) string {
	t.Helper()
	out := &output{ready: ready, marker: make(chan string, 1)}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // It was told to end, or what it printed says why it did.
	}()
	t.Cleanup(func() {
		<-ended
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(cmd.Path), out)
		}
	})
	select {
	case marker := <-out.marker:
		return marker
	case <-ended:
		t.Fatalf("%s ended at once", filepath.Base(cmd.Path))
	case <-time.After(time.Minute):
		t.Fatalf("%s does not print %s", filepath.Base(cmd.Path), ready)
	}
	return ""
}

// output is what a process has printed so far.
type output struct {
	mu     sync.Mutex
	text   strings.Builder
	ready  *regexp.Regexp // nil once it was found
	marker chan string    // gets what ready matched
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.text.Write(p)
	if o.ready != nil {
		if marker := o.ready.FindString(o.text.String()); marker != "" {
			o.ready = nil
			o.marker <- marker
		}
	}
	return n, err
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
