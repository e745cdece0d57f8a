package web_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/html"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
	"github.com/countersign/countersign/provisioning/constantcontact/sandbox"
)

// scene is where attacks are played, one at a time.
type scene struct {
	*testBundle

	elsewhere *httptest.Server // where nobody should go
	strays    atomic.Int32     // who went there
	visitors  atomic.Int32     // addresses given out
	config    constantcontact.Config
	provider  *constantcontact.Client
	attack    attack
	link      string // Acme's

	mu      sync.Mutex
	secrets []string // that came through a browser
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{testBundle: setup(t)}
	s.elsewhere = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { s.strays.Add(1) }))
	t.Cleanup(s.elsewhere.Close)
	return s
}

// set begins anew: with a fresh roster, a fresh provider, a fresh link.
func (s *scene) set(t *testing.T, a attack) {
	t.Helper()
	key, err := testKey()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	base, callback := "http://"+server.Listener.Addr().String(), s.PublicURL+"/oauth/callback"
	user := func(login string) []sandbox.User {
		return []sandbox.User{{Login: login, Password: password, Role: sandbox.RoleOwner}}
	}
	options := sandbox.Options{
		BaseURL: base, Elsewhere: s.elsewhere.URL, Unlimited: true, Key: key, Now: s.clock.now,
		Apps: []sandbox.App{{ClientID: "app", Secret: "app-secret", RedirectURIs: []string{callback}}},
		Accounts: []sandbox.Account{
			{ID: "acct-bloom", Organization: "Bloom Florist", ContactEmail: benLogin, Users: user(benLogin)},
			{ID: "acct-acme", Organization: "Acme Bakery", ContactEmail: adaLogin, Users: user(adaLogin)},
			{ID: "acct-strange", Organization: strange, ContactEmail: strangeLogin, Users: user(strangeLogin)},
		},
	}
	if a.provider != nil {
		a.provider(&options)
	}
	if s.box, err = sandbox.New(options); err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = s.box
	server.Start()
	t.Cleanup(server.Close)

	s.config = constantcontact.Config{
		ClientID: "app", ClientSecret: "app-secret", Scopes: s.Scopes, PKCE: true, Prompt: "login", RedirectURL: callback,
		AuthorizeURL: base + "/oauth2/default/v1/authorize", TokenURL: base + "/oauth2/default/v1/token", APIURL: base + "/v3",
		HTTP: server.Client(), Now: s.clock.now,
	}
	s.plugIn(t, a.app)
	s.Flow.Issuer, s.Flow.Issuers = "", authflow.Origins(s.config.AuthorizeURL, s.config.TokenURL)
	if a.flow != nil {
		a.flow(s.Flow)
	}
	s.attack, s.secrets = a, nil
	s.clock.ahead.Store(0)
	s.strays.Store(0)
	s.enroll(t)
}

// plugIn makes the flow speak to the provider.
func (s *scene) plugIn(t *testing.T, change func(*constantcontact.Config)) {
	t.Helper()
	config := s.config
	if change != nil {
		change(&config)
	}
	client, err := constantcontact.New(config)
	if err != nil {
		t.Fatal(err)
	}
	s.Flow.Provider, s.provider = client, client
}

// enroll makes the roster anew, and a link.
func (s *scene) enroll(t *testing.T) {
	t.Helper()
	s.empty(t)
	if s.attack.roster != "" {
		s.imports(t, s.attack.roster)
	} else {
		s.imports(t, rosterFile)
	}
	s.link = s.testBundle.link(t, acmeRef)
}

// play is one attack and what has to hold after it.
func (s *scene) play(t *testing.T, a attack) {
	t.Helper()
	s.set(t, a)
	s.strike(t, a.faults...)
	if a.act == nil {
		a.act = returns(func(url.Values) {})
	}
	end := a.act(t, s)
	if end.name != "" {
		s.sees(t, end, a.sees)
		end.says(t, a.says...)
		end.silent(t, "alert(")
	}
	if a.kept == "" {
		s.isAt(t, acmeRef, a.stage)
		s.holds(t, acmeRef, a.holds)
	}
	if n := s.box.Stats().TokenRequests; a.codes != anyNumber && n != a.codes {
		t.Errorf("%d token requests, want %d", n, a.codes)
	}
	if left := s.box.Faults(); len(left) > 0 {
		t.Errorf("these faults have not struck: %v", left)
	}

	s.plugIn(t, nil)
	if s.testBundle.client(t, acmeRef).Stage == authorized {
		s.browser(t).get(t, s.link).says(t, "is connected")
	} else {
		if a.stage == "lapsed" {
			s.link = s.reconnectLink(t)
		}
		s.sees(t, s.browser(t).walk(t, s.link, adaLogin, sandbox.Allow), connected)
		s.isAt(t, acmeRef, authorized)
		if got, _, _ := strings.Cut(s.grants(t, acmeRef), ","); got != acmeGrant {
			t.Errorf("after another walk the client holds %q", got)
		}
	}
	s.opens(t, "acct-acme")
	if n := s.strays.Load(); n > 0 {
		t.Errorf("%d requests went to another host", n)
	}
	s.keepsSecrets(t)
}

// opens checks that the token which the agency's app gets for Acme opens that account.
func (s *scene) opens(t *testing.T, want string) {
	t.Helper()
	token, err := s.keeper().Token(t.Context(), s.client(t, acmeRef).ID)
	if err != nil {
		t.Errorf("no token: %v", err)
		return
	}
	account, err := s.provider.Account(t.Context(), token.Access)
	if err != nil || account.ID != want || token.AccountID != want {
		t.Errorf("the token of %s opens the account %q: %v", token.AccountID, account.ID, err)
	}
}

// keeper is one of any number.
func (s *scene) keeper() *grant.Keeper {
	return &grant.Keeper{Store: s.Grants, Provider: s.provider, Reconnecter: s.Inviter, Log: s.Log, Now: s.clock.now}
}

// network is the way from an address of its own to our handler, and to everybody else's servers.
type network struct {
	handler http.Handler
	host    string // ours
	address string
	others  http.RoundTripper
}

func (n network) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != n.host {
		return n.others.RoundTrip(r)
	}
	request := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), r.Body)
	request.Header, request.RemoteAddr = r.Header, n.address
	answer := httptest.NewRecorder()
	n.handler.ServeHTTP(answer, request)
	return answer.Result(), nil
}

// browser is a fresh one, from an address of its own.
func (s *scene) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := s.visitors.Add(1)
	return &browser{&http.Client{
		Transport: network{
			handler: s.server.Config.Handler,
			host:    s.server.Listener.Addr().String(),
			address: fmt.Sprintf("198.18.%d.%d:1000", n/256%256, n%256),
			others:  s.server.Client().Transport,
		},
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, s.server.URL}
}

// consents walks from Continue to the way back, and remembers what nobody else may see of that.
func (s *scene) consents(t *testing.T, owner *browser, link, login string) (back string) {
	t.Helper()
	back = owner.consent(t, link+"/begin", login, sandbox.Allow)
	q := query(t, back)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range []string{"code", "state"} {
		if q.Get(name) != "" {
			s.secrets = append(s.secrets, q.Get(name))
		}
	}
	return back
}

// ends follows the way back to the page at its end, whose address tells nothing.
func (s *scene) ends(t *testing.T, owner *browser, back string) page {
	t.Helper()
	end := owner.get(t, back).leads(t)
	if !strings.HasPrefix(end, "/consent") || strings.Contains(end, "=") {
		t.Errorf("the callback leads to %q", end)
	}
	return owner.get(t, end).has(t, http.StatusOK)
}

func (s *scene) sees(t *testing.T, p page, want string) {
	t.Helper()
	if got := p.heading(t); got != want {
		t.Errorf("the owner sees %q, want %q", got, want)
	}
}

// holds checks which grants of a client there are, and that their access tokens are believed to live for something
// between an hour and a day.
func (s *scene) holds(t *testing.T, ref, want string) {
	t.Helper()
	if got := s.grants(t, ref); got != want {
		t.Errorf("%s holds %q, want %q", ref, got, want)
	}
	var odd int
	err := s.db.QueryRow(t.Context(), `
		SELECT count(*)
		FROM grants
		WHERE status IN ('active', 'quarantined')
			AND (access_expires_at NOT BETWEEN $1 AND $2 OR refresh_token IS NULL)`,
		s.clock.now().Add(50*time.Minute), s.clock.now().Add(24*time.Hour)).Scan(&odd)
	if err != nil || odd > 0 {
		t.Errorf("%d grants live too short or too long, or cannot be refreshed; %v", odd, err)
	}
}

// grants lists a client's grants but for those that another has replaced, active ones first.
func (s *scene) grants(t *testing.T, ref string) (list string) {
	t.Helper()
	err := s.db.QueryRow(t.Context(), `
		SELECT coalesce(string_agg(g.status || ' ' || g.account_id, ', ' ORDER BY g.status, g.account_id), '')
		FROM grants g
		JOIN clients c ON c.id = g.client_id
		WHERE c.ref = $1
			AND g.status <> 'replaced'`, ref).Scan(&list)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// keepsSecrets looks for what came through browsers, and for access tokens, in the log and in the database.
func (s *scene) keepsSecrets(t *testing.T) {
	t.Helper()
	log, dump := s.log.String(), s.dump(t)
	for _, secret := range append(s.secrets, "eyJraWQi", "app-secret") {
		if strings.Contains(log, secret) || strings.Contains(dump, secret) || strings.Contains(dump, hex.EncodeToString([]byte(secret))) {
			t.Errorf("the secret %.8s… is readable in the log or the database", secret)
		}
	}
}

// returns is a walk of Acme's owner whose way back is edited.
func returns(edit func(url.Values)) func(*testing.T, *scene) page {
	return func(t *testing.T, s *scene) page {
		t.Helper()
		owner := s.browser(t)
		return s.ends(t, owner, edited(t, s.consents(t, owner, s.link, adaLogin), edit))
	}
}

func edited(t *testing.T, address string, edit func(url.Values)) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	edit(q)
	u.RawQuery = q.Encode()
	return u.String()
}

func query(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

// rebake gives the browser's cookies other values.
func (b *browser) rebake(t *testing.T, change func([]string) []string) {
	t.Helper()
	base, err := url.Parse(b.base)
	if err != nil {
		t.Fatal(err)
	}
	cookies := slices.DeleteFunc(b.Jar.Cookies(base), func(c *http.Cookie) bool { return !strings.HasPrefix(c.Name, "__Host-consent-") })
	values := make([]string, len(cookies))
	for i, c := range cookies {
		values[i] = c.Value
	}
	for i, value := range change(values) {
		cookies[i].Value, cookies[i].Path, cookies[i].Secure = value, "/", true //nolint:gosec // what a browser holds
	}
	b.Jar.SetCookies(base, cookies)
}

func together(all ...func()) {
	var wg sync.WaitGroup
	for _, f := range all {
		wg.Go(f)
	}
	wg.Wait()
}

// orders lists the permutations of n things.
func orders(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, shorter := range orders(n - 1) {
		for at := range n {
			all = append(all, slices.Insert(slices.Clone(shorter), at, n-1))
		}
	}
	return all
}

// crossed lets two owners consent on their own and on each other's links, and come back in each order, or at
// once. Nobody ever gets the other's account.
func crossed(orders [][]int, atOnce bool) func(*testing.T, *scene) page {
	return func(t *testing.T, s *scene) page {
		t.Helper()
		for i, order := range orders {
			if i > 0 {
				s.enroll(t)
			}
			returning := s.crossWalks(t)
			inOrder := make([]func(), len(order))
			for i, which := range order {
				inOrder[i] = returning[which]
			}
			if atOnce {
				together(inOrder...)
			} else {
				for _, f := range inOrder {
					f()
				}
			}
			for ref, want := range map[string]string{acmeRef: acmeGrant, bloomRef: bloomGrant} {
				s.isAt(t, ref, authorized)
				if got, _, _ := strings.Cut(s.grants(t, ref), ","); got != want {
					t.Errorf("in the order %v, %s holds %q, want %q", order, ref, got, want)
				}
			}
		}
		return page{}
	}
}

// crossWalks begins four walks and returns how each ends.
func (s *scene) crossWalks(t *testing.T) []func() {
	t.Helper()
	bloom := s.testBundle.link(t, bloomRef)
	var ends []func()
	for _, walk := range []struct {
		link, login string
		own         bool
	}{{s.link, adaLogin, true}, {s.link, benLogin, false}, {bloom, adaLogin, false}, {bloom, benLogin, true}} {
		owner := s.browser(t)
		back := s.consents(t, owner, walk.link, walk.login)
		ends = append(ends, func() {
			got := s.ends(t, owner, back).heading(t)
			if walk.own && got != connected || !walk.own && got != conflict && (got != wrongAccount || s.attack.roster == "") {
				t.Errorf("%s, on the own link %t, sees %q", walk.login, walk.own, got)
			}
		})
	}
	return ends
}

// stunned is a provider for a keeper that is held up on its way there.
type stunned struct {
	*constantcontact.Client

	meanwhile func()
}

func (s stunned) Refresh(ctx context.Context, token provisioning.Secret) (provisioning.Tokens, error) {
	s.meanwhile()
	return s.Client.Refresh(ctx, token)
}

// strike lets the faults happen once, from now on.
func (s *scene) strike(t *testing.T, all ...sandbox.Fault) {
	t.Helper()
	faults := sandbox.Faults{}
	for _, f := range all {
		faults[f] = sandbox.Rate{Next: 1}
	}
	if err := s.box.SetFaults(faults); err != nil {
		t.Fatal(err)
	}
}

// keeps lets a keeper do all that is due. It does not let go of a token that came once, come what may: so
// somebody has to look at the time.
func (s *scene) keeps(t *testing.T) {
	t.Helper()
	keeper, done := s.keeper(), make(chan error, 1)
	go func() {
		for range 10 {
			if worked, err := keeper.Step(t.Context()); !worked || err != nil {
				done <- err
				return
			}
		}
		done <- errors.New("it does not come to rest")
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("keeping: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("keeping: it does not end")
	}
}

// takesOver lets another keeper refresh what a silent one has leased, which it does when it has reached the
// database for a moment.
func (s *scene) takesOver(t *testing.T) {
	t.Helper()
	keeper := s.keeper()
	keeper.Lease = time.Second
	for range 100 {
		if worked, err := keeper.Step(t.Context()); worked || err != nil {
			if err != nil {
				t.Errorf("taking over: %v", err)
			}
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Error("nobody takes over")
}

// lapses lets a keeper work until it believes that Acme's grant is gone, for two days at most.
func (s *scene) lapses(t *testing.T) {
	t.Helper()
	for range 16 {
		s.keeps(t)
		if s.testBundle.client(t, acmeRef).Stage == provisioning.StageLapsed {
			return
		}
		s.clock.advance(3 * time.Hour)
	}
}

// witness connects another client, whose grant the provider takes.
func (s *scene) witness(t *testing.T) {
	t.Helper()
	s.sees(t, s.browser(t).walk(t, s.testBundle.link(t, bloomRef), benLogin, sandbox.Allow), connected)
}

// reconnectLink is the one in the mail that asks Acme's owner to connect again.
func (s *scene) reconnectLink(t *testing.T) string {
	t.Helper()
	var invitation uuid.UUID
	err := s.db.QueryRow(t.Context(), `
		SELECT m.invitation_id
		FROM messages m
		JOIN clients c ON c.id = m.client_id
		WHERE c.ref = $1
			AND m.kind = 'reconnect'`, acmeRef).Scan(&invitation)
	if err != nil {
		t.Fatalf("the owner is not asked to connect again: %v", err)
	}
	return "/i/" + s.Links.Token(invitation)
}

// refreshed checks that Acme's grant was refreshed and is alive at the provider.
func (s *scene) refreshed(t *testing.T) {
	t.Helper()
	g := s.box.Grants()[0]
	if g.Ended != sandbox.Live || g.Refreshes == 0 {
		t.Errorf("at the provider the grant has ended as %q after %d refreshes", g.Ended, g.Refreshes)
	}
	var proven, refused *time.Time
	if err := s.db.QueryRow(t.Context(), `SELECT proven_at, refused_at FROM grants WHERE status = 'active'`).Scan(&proven, &refused); err != nil {
		t.Fatal(err)
	}
	if proven == nil || refused != nil {
		t.Errorf("the grant is proven at %v and refused at %v", proven, refused)
	}
}

// robot is a mail scanner with a browser.
type robot struct {
	*browser

	throttled int
}

func (s *scene) robot(t *testing.T) *robot {
	t.Helper()
	return &robot{browser: s.browser(t)}
}

// prowl fetches a link, follows the links of our pages and presses all their buttons, and those of the pages behind.
func (r *robot) prowl(t *testing.T, link string) {
	t.Helper()
	r.do(t, http.MethodHead, link, nil).has(t, http.StatusOK)
	r.examine(t, r.get(t, link).has(t, http.StatusOK), map[string]bool{link: true})
}

func (r *robot) examine(t *testing.T, p page, seen map[string]bool) {
	t.Helper()
	if p.status == http.StatusTooManyRequests {
		r.throttled++
		return
	}
	if p.status >= http.StatusInternalServerError {
		t.Errorf("%s answers %d", p.name, p.status)
	}
	if there := p.header.Get("Location"); there != "" {
		r.examine(t, r.get(t, there), seen)
		return
	}
	doc := p.doc(t)
	for _, form := range find(doc, tag("form"), with("method", "post")) {
		action := attribute(form, "action")
		if seen[action] || !strings.HasPrefix(action, "/i/") {
			continue
		}
		seen[action] = true
		r.examine(t, r.post(t, action, filledIn(form)), seen)
		delete(seen, action) // for the next of the buttons that lead there
	}
	for _, a := range find(doc, tag("a")) {
		there := attribute(a, "href")
		if seen[there] || !strings.HasPrefix(there, "/i/") {
			continue
		}
		seen[there] = true
		r.examine(t, r.get(t, there), seen)
	}
}

// filledIn is what a form posts if a robot types a name and an address.
func filledIn(form *html.Node) url.Values {
	values := url.Values{"name": {"Robot"}, "email": {"robot@scanner.example"}}
	for _, field := range find(form, tag("input")) {
		if value := attribute(field, "value"); value != "" {
			values.Set(attribute(field, "name"), value)
		}
	}
	return values
}
