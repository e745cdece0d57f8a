package web_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

// TestMatrix asks every route as everybody and compares who gets in with a file that people can read. A route that is new
// is not in the file.
func TestMatrix(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.jobs(t)
	people := map[admin.Role]string{}
	for _, role := range admin.Roles() {
		email := string(role) + "@agency.example"
		_, err := b.Admin.CreateOperator(t.Context(), admin.NewOperator{
			Email: email, Name: string(role), Role: role, Password: password,
		}, provisioning.ActorCLI)
		if err != nil {
			t.Fatal(err)
		}
		people[role] = email
	}
	keys := map[admin.Scope]caller{}
	for _, scope := range admin.Scopes() {
		keys[scope] = b.caller(t, scope)
	}
	var lines []string
	for _, route := range b.server.Config.Handler.(interface{ Routes() gin.RoutesInfo }).Routes() {
		line := fmt.Sprintf("%-6s %-52s ", route.Method, route.Path)
		switch {
		case route.Method == http.MethodHead: // answers as GET does
			continue
		case strings.HasPrefix(route.Path, "/api/v1"):
			line += b.keysThatMay(t, route, keys)
		default:
			line += b.rolesThatMay(t, route, people)
		}
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.Fields(a)[1], strings.Fields(b)[1]), cmp.Compare(a, b))
	})
	got := strings.Join(lines, "\n") + "\n"
	golden := filepath.Join("testdata", "matrix.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("who may do what has changed; if that is meant: go test ./cmd/countersign/internal/web -run TestMatrix -update (-want +got):\n%s", diff)
	}
}

// rolesThatMay names who gets past the guards of a page or a button.
func (b *testBundle) rolesThatMay(t *testing.T, route gin.RouteInfo, people map[admin.Role]string) string {
	t.Helper()
	if in, _ := b.getsIn(t, route, ""); in {
		return "anybody"
	}
	var may []string
	var toSignIn bool
	for _, role := range admin.Roles() {
		// What is asked for may end sessions, or an operator's.
		link, err := b.Admin.SignInLink(t.Context(), people[role], provisioning.ActorCLI)
		if err != nil {
			t.Fatal(err)
		}
		session, _, err := b.Admin.Enter(t.Context(), link, admin.Visitor{})
		if err != nil {
			t.Fatal(err)
		}
		var in bool
		if in, toSignIn = b.getsIn(t, route, session.Reveal()); in {
			may = append(may, string(role))
		}
	}
	switch {
	case len(may) == 0 && toSignIn:
		return "anybody" // A part of signing in, which leads to its beginning.
	case len(may) == 0:
		return "nobody"
	}
	return strings.Join(may, ", ")
}

// getsIn tells whether the guards let somebody pass, and whether they ask to sign in.
func (b *testBundle) getsIn(t *testing.T, route gin.RouteInfo, session string) (in, toSignIn bool) {
	t.Helper()
	answer := b.knock(t, route, "Cookie", "__Host-session="+session)
	toSignIn = answer.Code == http.StatusSeeOther && strings.HasPrefix(answer.Header().Get("Location"), "/admin/sign-in")
	return answer.Code != http.StatusForbidden && !toSignIn, toSignIn
}

// keysThatMay names the scopes of which one opens an operation of the API.
func (b *testBundle) keysThatMay(t *testing.T, route gin.RouteInfo, keys map[admin.Scope]caller) string {
	t.Helper()
	if b.knock(t, route, "Authorization", "").Code != http.StatusUnauthorized {
		return "anybody"
	}
	var may []string
	for _, scope := range admin.Scopes() {
		if code := b.knock(t, route, "Authorization", "Bearer "+keys[scope].key.Reveal()).Code; code != http.StatusForbidden && code != http.StatusUnauthorized {
			may = append(may, string(scope))
		}
	}
	return "key: " + strings.Join(may, ", ")
}

// knock asks a route about something that does not exist, from a new address, which no limit knows. Of what goes on for
// ever, it waits for the beginning.
func (b *testBundle) knock(t *testing.T, route gin.RouteInfo, header, value string) *beginning {
	t.Helper()
	path := regexp.MustCompile(`[:*]\w+`).ReplaceAllString(route.Path, uuid.NewString())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request := httptest.NewRequestWithContext(ctx, route.Method, b.PublicURL+path, http.NoBody)
	request.Header.Set(header, value)
	id := uuid.New()
	request.RemoteAddr = fmt.Sprintf("[2001:db8:%x:%x::1]:1", id[:2], id[2:4])
	answer := &beginning{httptest.NewRecorder(), cancel}
	func() {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
				panic(p)
			}
		}()
		b.server.Config.Handler.ServeHTTP(answer, request)
	}()
	if answer.Code >= http.StatusInternalServerError && answer.Code != http.StatusServiceUnavailable { // which is: not set up
		t.Errorf("%s %s answers %d: %s", route.Method, route.Path, answer.Code, answer.Body)
	}
	return answer
}

// beginning is an answer whose reader leaves when it has begun.
type beginning struct {
	*httptest.ResponseRecorder

	leave func()
}

// Flush is what answers that go on for ever do.
func (b *beginning) Flush() {
	b.ResponseRecorder.Flush()
	b.leave()
}
