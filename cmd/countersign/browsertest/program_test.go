package browsertest_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// environment is ours without the settings that somebody may have there, and with the given ones.
func environment(tmp string, settings []string) []string {
	env := []string{"TMPDIR=" + tmp}
	for _, line := range os.Environ() {
		if !strings.HasPrefix(line, "COUNTERSIGN_") && !strings.HasPrefix(line, "TMPDIR=") {
			env = append(env, line)
		}
	}
	return append(env, settings...)
}

// printed keeps what a process prints.
type printed struct {
	mu     sync.Mutex
	text   bytes.Buffer
	marker string
	seen   chan struct{} // closed once the marker was printed
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(b)
	if p.marker != "" && strings.Contains(p.text.String(), p.marker) {
		p.marker = ""
		close(p.seen)
	}
	return len(b), nil
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// process is the program at work.
type process struct {
	cmd     *exec.Cmd
	out     *printed
	log     *printed
	ended   chan struct{} // closed when it has ended, with err
	err     error
	stopped bool
}

// start runs the program and returns once it has printed marker.
func (l *lab) start(tmp string, settings []string, marker string, args ...string) (*process, error) {
	p := &process{
		cmd:   exec.Command(l.program, args...), // stop ends it, gently
		out:   &printed{marker: marker, seen: make(chan struct{})},
		log:   &printed{},
		ended: make(chan struct{}),
	}
	p.cmd.Env = environment(tmp, settings)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	select {
	case <-p.out.seen:
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("countersign %s ended early: %w\n%s", args[0], p.err, p.log)
	case <-time.After(time.Minute):
		return nil, errors.Join(fmt.Errorf("countersign %s does not print %q:\n%s%s", args[0], marker, p.out, p.log), p.stop())
	}
}

// stop presses Ctrl-C, once. The program must end cleanly and must have logged no error.
func (p *process) stop() error {
	if p.stopped {
		return nil
	}
	p.stopped = true
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("%s: stop: %w\n%s", p.cmd, err, p.log)
	}
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		return errors.Join(fmt.Errorf("%s does not end:\n%s", p.cmd, p.log), p.cmd.Process.Kill())
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w\n%s", p.cmd, p.err, p.log)
	}
	if log := p.log.String(); strings.Contains(log, "level=ERROR") {
		return fmt.Errorf("%s logged an error:\n%s", p.cmd, log)
	}
	return nil
}

// service runs the program for one test.
func (l *lab) service(t *testing.T, tmp string, settings []string, marker string, args ...string) *process {
	t.Helper()
	p, err := l.start(tmp, settings, marker, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// command runs one command to its end and returns its standard output and exit code.
func (l *lab) command(tmp string, settings []string, input string, args ...string) (string, int, error) {
	var out, log bytes.Buffer
	cmd := exec.Command(l.program, args...)
	cmd.Env = environment(tmp, settings)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &log
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); ended && cmd.ProcessState.ExitCode() != 1 {
		return out.String(), cmd.ProcessState.ExitCode(), nil
	}
	if err != nil {
		return "", 1, fmt.Errorf("countersign %s: %w\n%s", strings.Join(args, " "), err, &log)
	}
	return out.String(), 0, nil
}
