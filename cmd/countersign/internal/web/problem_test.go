package web_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
)

// leaver is a visitor who goes while the answer is written, as net/http tells it.
type leaver struct {
	*httptest.ResponseRecorder

	leave context.CancelFunc
}

func (l leaver) Write([]byte) (int, error) {
	l.leave()
	return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
}

func TestVisitorWhoLeavesIsNoErrorOfOurs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	handler, err := b.Handler()
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/admin/sign-in", http.NoBody)
	handler.ServeHTTP(leaver{httptest.NewRecorder(), leave}, r)
	if log := b.log.String(); log != "" {
		t.Errorf("logged: %s", log)
	}

	stays := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/admin/sign-in", http.NoBody)
	func() {
		defer func() { _ = recover() }() // the answer is broken off
		handler.ServeHTTP(leaver{httptest.NewRecorder(), func() {}}, stays)
	}()
	if log := b.log.String(); log == "" {
		t.Error("a write that fails although the visitor is there is not logged")
	}
}
