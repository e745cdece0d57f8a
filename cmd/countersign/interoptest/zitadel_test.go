package interoptest_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// startZitadel runs the example provider of zitadel/oidc. It signs people in and never asks for their
// consent; PKCE is up to the app.
func startZitadel(t *testing.T, a app) *server {
	t.Helper()
	listener := httptest.NewUnstartedServer(nil)
	issuer := "http://" + listener.Listener.Addr().String()
	clients := map[string]*storage.Client{clientID: storage.WebClient(clientID, clientSecret, a.redirectURL)}
	// The logger becomes that of the whole process.
	listener.Config.Handler = exampleop.SetupServer(issuer,
		zitadelStorage{storage.NewStorageWithClients(zitadelUsers{}, clients)}, slog.New(slog.DiscardHandler), false)
	listener.Start()
	t.Cleanup(listener.Close)
	return &server{
		app:          a,
		authorizeURL: issuer + "/auth",
		tokenURL:     issuer + "/oauth/token",
		apiURL:       startAPI(t, issuer+"/oauth/introspect"),
		signOutURL:   issuer + "/end_session",
		signIn: func(p page, login string) page {
			return p.press(url.Values{"username": {login}, "password": {password}})
		},
	}
}

// zitadelUsers is who can sign in.
type zitadelUsers struct{}

func (zitadelUsers) GetUserByID(id string) *storage.User {
	if _, ok := accounts()[id]; !ok {
		return nil
	}
	return &storage.User{ID: id, Username: id, Password: password}
}

func (u zitadelUsers) GetUserByUsername(login string) *storage.User { return u.GetUserByID(login) }

func (zitadelUsers) ExampleClientID() string { return "" }

// zitadelStorage is the example's, whose clients may ask for our scopes, and which names the user to
// an app that did not ask for openid.
type zitadelStorage struct{ *storage.Storage }

func (s zitadelStorage) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	client, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return zitadelClient{client}, nil
}

func (s zitadelStorage) SetIntrospectionFromToken(ctx context.Context, answer *oidc.IntrospectionResponse, token, subject, client string) error {
	err := s.Storage.SetIntrospectionFromToken(ctx, answer, token, subject, client)
	answer.Subject = subject
	return err
}

type zitadelClient struct{ op.Client }

func (zitadelClient) IsScopeAllowed(scope string) bool {
	return slices.Contains(strings.Fields(appScopes), scope)
}
