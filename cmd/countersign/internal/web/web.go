// Package web is the HTTP edge: it turns requests into calls of the rooms, and what they answer into
// pages and JSON. It has no rules and no SQL of its own.
//
//	routes.go    every route, with what guards it
//	owner.go     the owner's walk: invitation, consent, ending
//	gate.go      set-up, sign-in, sign-out, and the check of a session
//	console.go   progress and the list of clients, for signed-in operators
//	client.go    one client; client_action.go is what its buttons do
//	imports.go   a roster file's way into the roster: upload, columns, plan, import, rejects
//	reconcile.go the roster beside the provider's own list of accounts
//	mail.go      how outgoing mail stands; beside it its texts, its letterhead, and what came back to be read
//	provider.go  what is left of the provider's limits, and how grants are kept alive
//	words.go     what events and actors are called on pages
//	api.go       JSON under /api/v1, for keys with the right scope
//	problem.go   the one table from error to status, and who is told what
//	guard.go     headers, cookies, limits, cross-origin check
//
// A handler returns an error and never answers it: problem.go does, logs it once, and hides what a
// visitor need not know.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/budget"
	"github.com/countersign/countersign/templates"
)

// Server serves everything that Countersign shows. All fields are needed unless they say otherwise.
type Server struct {
	Store           *provisioning.Store
	Inviter         *provisioning.Inviter
	Importer        *provisioning.Importer        // nil if there is no agency mailbox to make usernames of
	Uploads         *provisioning.Uploads         // likewise
	Renamer         *provisioning.Renamer         // likewise
	Reconciliations *provisioning.Reconciliations // nil without a partner's settings
	Links           *authflow.Links
	Flow            *authflow.Flow
	Grants          *grant.Store
	Keeper          *grant.Keeper // nil without an app at the provider
	Calls           *budget.Meter // of the app's key, likewise
	Tokens          *budget.Meter // of the token endpoint, likewise
	Mailer          *notify.Mailer
	Sender          notify.Sender // nil without a mail server
	Pace            notify.Pace   // of the Outbox
	Stationery      *notify.Stationery
	Switch          *notify.Switch
	Reminders       *notify.Reminders
	Returns         *notify.Returns // nil without a bounce address
	Admin           *admin.Store
	Templates       *templates.Set
	Scopes          []string                    // what owners are asked for
	PublicURL       string                      // https, or http on this machine
	Proxies         []string                    // addresses and networks whose X-Forwarded-For is believed
	Version         string                      // of the program
	Ready           func(context.Context) error // nil if requests can be served
	Now             func() time.Time
	Log             *slog.Logger

	doors *doors
}

// Handler returns the server's routes. It fails if Proxies has something that is no address or network.
func (s *Server) Handler() (http.Handler, error) {
	s.doors = newDoors()
	return s.routes()
}

// secure tells whether browsers reach us by https.
func (s *Server) secure() bool { return strings.HasPrefix(s.PublicURL, "https://") }
