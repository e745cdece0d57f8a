package budget_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/migrations/pgtest"
	"github.com/countersign/countersign/provisioning/budget"
)

// TestReplicas has sixteen replicas make as many calls as they can for some seconds: no second, wherever it begins,
// sees a fifth, and hardly a call is lost. Owners that come meanwhile do not wait behind the others.
//
// What is used is judged by the best three seconds, for the machine may have other things to do in the rest.
func TestReplicas(t *testing.T) {
	t.Parallel()
	const (
		replicas  = 16
		perSecond = 4
		waiting   = 8 // in each replica
		lasts     = 6500 * time.Millisecond
	)
	var mu sync.Mutex
	var arrivals []time.Time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := time.Now()
		mu.Lock()
		arrivals = append(arrivals, now)
		mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	url := pgtest.URL(t)
	meters := make([]*budget.Meter, replicas)
	for i := range meters {
		meters[i] = budget.New(connect(t, url, int32(2+i%3)), name, budget.Limits{PerSecond: perSecond, PerDay: 10_000, Reserve: 100})
	}

	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	call := func(m *budget.Meter, p budget.Priority) bool {
		turn, err := m.Take(ctx, p)
		if err != nil {
			return false
		}
		resp, err := http.Get(server.URL)
		if err != nil {
			t.Error(err)
		} else {
			check(t, resp.Body.Close())
		}
		check(t, turn.Done(ctx))
		return true
	}
	var wg sync.WaitGroup
	for _, m := range meters {
		for range waiting {
			wg.Go(func() {
				for call(m, budget.Background) {
				}
			})
		}
	}
	// Half way through come six owners, at six replicas.
	var slowest time.Duration
	wg.Go(func() {
		<-time.After(lasts / 2)
		came := time.Now()
		var walks sync.WaitGroup
		for _, m := range meters[:6] {
			walks.Go(func() {
				if !call(m, budget.Walk) {
					t.Error("an owner got no turn")
				}
			})
		}
		walks.Wait()
		slowest = time.Since(came)
	})
	wg.Wait()

	slices.SortFunc(arrivals, time.Time.Compare)
	closest, best := time.Hour, time.Hour
	for i := range len(arrivals) - perSecond {
		closest = min(closest, arrivals[i+perSecond].Sub(arrivals[i]))
		if i+3*perSecond < len(arrivals) {
			best = min(best, arrivals[i+3*perSecond].Sub(arrivals[i]))
		}
	}
	if closest < time.Second {
		t.Errorf("%d calls within %v", perSecond+1, closest)
	}
	took := arrivals[len(arrivals)-1].Sub(arrivals[0])
	overall := float64(len(arrivals)-perSecond) / took.Seconds() / perSecond
	usage := 3 / best.Seconds()
	t.Logf("%d calls in %v: %.1f %% of what is allowed, %.1f %% at best; the closest %d took %v; the slowest of 6 owners waited %v",
		len(arrivals), took, 100*overall, 100*usage, perSecond+1, closest, slowest)
	if usage < 0.95 {
		t.Errorf("%.1f %% of what is allowed was used, want 95 %%", 100*usage)
	}
	if slowest > 5*time.Second {
		t.Errorf("an owner waited %v behind %d others", slowest, replicas*waiting)
	}
	if used := state(t, meters[0]).Used; used != len(arrivals) {
		t.Errorf("%d calls are counted, %d arrived", used, len(arrivals))
	}
}
