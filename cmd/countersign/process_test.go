//go:build linux

package main_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// executable returns the path of the program, which is this test binary under another name.
func executable(t *testing.T) string {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "countersign")
	if err := os.Symlink(binary, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// installation is a machine on which the program is used: its settings and its data.
type installation struct {
	program string
	dataDir string
	env     []string
}

// install makes an installation with a private database and these settings. It fails the test if a database server
// outlives the test's processes.
func install(t *testing.T, settings ...string) *installation {
	t.Helper()
	in := &installation{program: executable(t), dataDir: filepath.Join(t.TempDir(), "data")}
	// The account that runs root's database server has to get in.
	for dir := filepath.Dir(in.dataDir); dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range os.Environ() {
		if !strings.HasPrefix(line, "COUNTERSIGN_") {
			in.env = append(in.env, line)
		}
	}
	in.env = append(in.env, "COUNTERSIGN_DATA_DIR="+in.dataDir)
	in.env = append(in.env, settings...)
	t.Cleanup(func() { in.expectNoServer(t) })
	return in
}

// run carries out one command and returns what it prints and its exit code.
func (in *installation) run(t *testing.T, args ...string) (out, complaints string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), in.program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = in.env, &stdout, &stderr
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// mustRun carries out one command that succeeds, and returns what it prints.
func (in *installation) mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, complaints, code := in.run(t, args...)
	if code != 0 {
		t.Fatalf("countersign %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, complaints)
	}
	return out
}

// process is the program at work.
type process struct {
	cmd    *exec.Cmd
	output *output       // of both streams
	ended  chan struct{} // closed at its end
}

// start starts a command. It is killed at the end of the test, if it still runs.
func (in *installation) start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{output: &output{changed: make(chan struct{})}, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), in.program, args...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = in.env, p.output, p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // The state tells.
	}()
	t.Cleanup(func() { p.kill() })
	return p
}

// serve starts countersign serve and returns when it serves.
func (in *installation) serve(t *testing.T) *process {
	t.Helper()
	p := in.start(t, "serve")
	serving := func(text string) bool { return strings.Contains(text, "Countersign serves ") }
	if !p.output.wait(serving, p.ended, time.Minute) {
		t.Fatalf("it does not serve:\n%s", p.output)
	}
	return p
}

// kill ends the process as a crash would, and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // It may have ended.
	<-p.ended
}

// terminate tells the process to end, as a service manager does, and returns its exit code.
func (p *process) terminate(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Fatalf("it does not end:\n%s", p.output)
	}
	return p.cmd.ProcessState.ExitCode()
}

// output is what a process has printed so far.
type output struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // closed and replaced at every change
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// wait waits until the text is as wanted, and reports whether that came before the end of the process and of patience.
func (o *output) wait(wanted func(string) bool, ended <-chan struct{}, patience time.Duration) bool {
	deadline := time.After(patience)
	for {
		o.mu.Lock()
		changed, text := o.changed, o.text.String()
		o.mu.Unlock()
		if wanted(text) {
			return true
		}
		select {
		case <-changed:
		case <-ended:
			return false
		case <-deadline:
			return false
		}
	}
}
