package constantcontact_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
)

// ledger is a budget that writes down what it is told.
type ledger struct {
	wait time.Duration // for every turn
	err  error         // instead of a turn

	mu      sync.Mutex
	entries []string
}

func (l *ledger) note(entry string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry)
}

func (l *ledger) Take(context.Context) (func(bool), error) {
	<-time.After(l.wait)
	l.note("take")
	if l.err != nil {
		return nil, l.err
	}
	return func(sent bool) {
		if sent {
			l.note("done")
		} else {
			l.note("unsent")
		}
	}, nil
}

func (l *ledger) Throttled(_ context.Context, wait time.Duration) {
	l.note(fmt.Sprintf("throttled %v", wait))
}

func (l *ledger) QuotaExceeded(context.Context) { l.note("quota exceeded") }

// TestBudgetIsTold has every call take a turn, and end it with all that the budget has to know.
func TestBudgetIsTold(t *testing.T) {
	t.Parallel()
	const good = `{"access_token":"a","token_type":"Bearer","encoded_account_id":"p07"}`
	html := map[string]string{"Content-Type": "text/html"}
	tests := []struct {
		name  string
		serve http.HandlerFunc
		want  []string
	}{
		{"answered", answer(200, nil, good), []string{"take", "done"}},
		{"refused", answer(400, nil, `{"error":"invalid_grant"}`), []string{"take", "done"}},
		{"broken", answer(503, nil, ``), []string{"take", "done"}},
		{"hung up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, []string{"take", "done"}},
		{"throttled", answer(429, nil, `{"error_key":"throttled"}`), []string{"take", "throttled 0s", "done"}},
		{"throttled, in an array", answer(429, nil, `[{"error_key":"throttled"}]`), []string{"take", "throttled 0s", "done"}},
		{"throttled for a while", answer(429, map[string]string{"Retry-After": "7"}, ``), []string{"take", "throttled 7s", "done"}},
		{"throttled by who knows whom", answer(429, html, `<h1>slow down</h1>`), []string{"take", "throttled 0s", "done"}},
		{"the day's quota", answer(429, nil, `[{"error_key":"quota_exceeded"}]`), []string{"take", "quota exceeded", "done"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(test.serve)
			defer server.Close()
			api, tokens := &ledger{}, &ledger{}
			c := config(server.URL)
			c.Calls, c.Tokens = api, tokens
			client := newClient(t, c)
			_, _ = client.Account(t.Context(), access)
			if diff := cmp.Diff(test.want, api.entries); diff != "" {
				t.Errorf("API (-want +got):\n%s", diff)
			}
			_, _ = client.Refresh(t.Context(), refresh)
			_, _ = client.Exchange(t.Context(), client.TokenURL(), code, verifier)
			if diff := cmp.Diff(append(test.want, test.want...), tokens.entries); diff != "" {
				t.Errorf("token endpoint (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNothingWasSent tells a request that never left from one whose answer was lost.
func TestNothingWasSent(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // It accepts connections and says nothing, not even in TLS.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = deaf.Close() })
	for name, test := range map[string]struct {
		server string
		sent   bool
	}{
		"nobody listens": {"http://" + closed.Addr().String(), false},
		"no TLS":         {"https://" + deaf.Addr().String(), false},
		"no such host":   {"https://provider.invalid", false},
		"no answer":      {"http://" + deaf.Addr().String(), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tokens := &ledger{}
			c := config(test.server)
			c.Tokens, c.HTTP = tokens, &http.Client{Timeout: 200 * time.Millisecond}
			_, err := newClient(t, c).Refresh(t.Context(), refresh)
			if !errors.Is(err, provisioning.ErrProviderUnavailable) || errors.Is(err, provisioning.ErrOutcomeUnknown) != test.sent {
				t.Errorf("error %v; want that its outcome is unknown: %t", err, test.sent)
			}
			end := map[bool]string{true: "done", false: "unsent"}[test.sent]
			if diff := cmp.Diff([]string{"take", end}, tokens.entries); diff != "" {
				t.Errorf("budget (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCanceledBeforeItIsSent(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := newClient(t, config("http://127.0.0.1:9")).Refresh(ctx, refresh)
	if !errors.Is(err, context.Canceled) || errors.Is(err, provisioning.ErrOutcomeUnknown) {
		t.Errorf("error %v, want that it was canceled, and that nothing was sent", err)
	}
}

var errUsedUp = errors.New("no calls to the provider before 00:00:00 UTC")

func TestNoTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spent := &ledger{err: errUsedUp}
		c := config("http://127.0.0.1:9")
		c.Calls, c.Tokens, c.HTTP = spent, spent, &http.Client{Transport: &broken{}}
		for op, err := range calls(t.Context(), newClient(t, c)) {
			if !errors.Is(err, errUsedUp) || !errors.Is(err, provisioning.ErrProviderUnavailable) || errors.Is(err, provisioning.ErrOutcomeUnknown) {
				t.Errorf("%s: error %v", op, err)
			}
			if !strings.Contains(err.Error(), "00:00:00 UTC") {
				t.Errorf("%s: error %q does not say when there are calls again", op, err)
			}
		}

		s := &script{answers: []http.HandlerFunc{pageOf("a", "")}}
		spent = &ledger{err: errUsedUp}
		p, err := constantcontact.NewPartner(constantcontact.PartnerConfig{
			ClientID: partnerID, ClientSecret: partnerSecret, APIKey: partnerKey, Calls: spent,
			TokenURL: partnerHost + "/token", APIURL: partnerHost + "/v3", HTTP: &http.Client{Transport: inProcess{s}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = listAll(t.Context(), p); !errors.Is(err, errUsedUp) || len(s.calls) != 0 {
			t.Errorf("error %v after %d calls", err, len(s.calls))
		}
		if diff := cmp.Diff([]string{"take"}, spent.entries); diff != "" {
			t.Errorf("a budget without turns is asked again (-want +got):\n%s", diff)
		}
	})
}

// TestTimeLimitCountsFromTheTurn waits longer for a turn than a call may take.
func TestTimeLimitCountsFromTheTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := config("http://127.0.0.1:9")
		c.Calls = &ledger{wait: time.Minute}
		c.HTTP = &http.Client{Transport: inProcess{answer(200, nil, `{"encoded_account_id":"p07"}`)}}
		if _, err := newClient(t, c).Account(t.Context(), access); err != nil {
			t.Error(err)
		}
	})
}
