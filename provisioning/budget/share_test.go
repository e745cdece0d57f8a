package budget_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning/budget"
	"github.com/countersign/countersign/provisioning/constantcontact"
)

var _ constantcontact.Budget = budget.Share{}

// TestShareOfAClient has a provider's client spend a budget until the provider says that it was too much.
func TestShareOfAClient(t *testing.T) {
	t.Parallel()
	answers := make(chan string, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		body := <-answers
		if strings.Contains(body, "error_key") {
			w.WriteHeader(http.StatusTooManyRequests)
		}
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	m := budget.New(pgtest.New(t), name, budget.Limits{PerSecond: 4, PerDay: 10_000})
	client, err := constantcontact.New(constantcontact.Config{
		ClientID: "id", ClientSecret: "s3cret", RedirectURL: server.URL, AuthorizeURL: server.URL, TokenURL: server.URL, APIURL: server.URL,
		Calls: budget.Share{Meter: m, Priority: budget.Walk, Patience: 10 * time.Second, Log: slog.New(slog.DiscardHandler)},
	})
	if err != nil {
		t.Fatal(err)
	}
	answers <- `{"encoded_account_id":"a1"}`
	if _, err := client.Account(t.Context(), "t0ken"); err != nil {
		t.Fatal(err)
	}
	answers <- `[{"error_key":"throttled"}]`
	_, err = client.Account(t.Context(), "t0ken")
	if err == nil {
		t.Fatal("throttled, and no error")
	}
	if s := state(t, m); s.Used != 2 || s.Throttled != 1 || s.HeldWhy != budget.Throttled {
		t.Errorf("state %+v", s)
	}
	check(t, m.Throttled(t.Context(), time.Hour))
	_, err = client.Account(t.Context(), "t0ken")
	if ex := exhausted(t, err); ex.RetryAfter() < 59*time.Minute {
		t.Errorf("%v", ex)
	}
	if used := state(t, m).Used; used != 2 {
		t.Errorf("%d calls are counted, want 2", used)
	}
}

func TestPatience(t *testing.T) {
	t.Parallel()
	m := budget.New(pgtest.New(t), name, budget.Limits{PerSecond: 1})
	take(t, m, budget.Background)
	share := budget.Share{Meter: m, Priority: budget.Walk, Patience: 300 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	if _, err := share.Take(t.Context()); err == nil || !strings.Contains(err.Error(), "within 300ms") {
		t.Errorf("error %v, want that there was no turn within 300 ms", err)
	}
}

// TestWriteFails has the database go away while a call is under way.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgtest.URL(t), 2)
	var log bytes.Buffer
	share := budget.Share{
		Meter:    budget.New(pool, name, budget.Limits{PerSecond: 1}),
		Priority: budget.Background,
		Log:      slog.New(slog.NewTextHandler(&log, nil)),
	}
	done, err := share.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool.Close()
	done(true)
	share.Throttled(t.Context(), 0)
	for _, want := range []string{"end the turn of a call", "hold the calls"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log %q does not mention %q", &log, want)
		}
	}
	if _, err := share.Take(context.WithoutCancel(t.Context())); err == nil {
		t.Error("a turn came from a database that is gone")
	}
}
