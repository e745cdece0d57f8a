// Package web is the HTTP edge: it turns requests into calls of the rooms, and what they answer into
// pages and JSON. It has no rules and no SQL of its own.
//
//	routes.go    every route, with what guards it; edge.go is what all answers go through
//	owner.go     the owner's walk: invitation, consent, ending
//	gate.go      sign-in with its second step, sign-out, and the check of a session; entry.go is what one-time links do
//	account.go   whoever is signed in: name, password, second factor, sessions
//	audit.go     who changed what
//	operators.go who may use the console, and who is invited to; role.go is the check of a role
//	keys.go      which programs may use the API
//	sign_on.go   single sign-on: the way to the issuer and back
//	progress.go  the first page, kept up to date in every open tab (package live)
//	console.go   what the pages for signed-in operators share
//	clients.go   the list of clients, its filter and its columns
//	bulk.go      what is done to many clients: what is asked before, and how far it is
//	client.go    one client; client_action.go is what its buttons do, client_change.go its edit, link, mails and end
//	manager.go   the page that asks an owner to add a user, and how far that is; run.go takes operators through many clients
//	partner.go   whether the partner's token opens an account
//	imports.go   a roster file's way into the roster: upload, columns, plan, import, rejects
//	reconcile.go the roster beside the provider's own list of accounts
//	mail.go      how outgoing mail stands; beside it what waits and who gets none, its texts, its letterhead, and what
//	             came back to be read
//	settings.go  how this installation is set up, and what the doctor finds
//	provider.go  what is left of the provider's limits, and how grants are kept alive
//	words.go     what events and actors are called on pages
//	api.go       JSON under /api/v1, for keys with the right scope; beside it how often a key may ask, what is done
//	             once however often it is sent, and what errors are called
//	bulk_api.go  what is done to many clients at once
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
	"github.com/countersign/countersign/authflow/admin/sso"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/manager"
	"github.com/countersign/countersign/cmd/countersign/internal/web/live"
	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
	"github.com/countersign/countersign/provisioning/budget"
	"github.com/countersign/countersign/provisioning/bulk"
	"github.com/countersign/countersign/provisioning/once"
	"github.com/countersign/countersign/provisioning/partner"
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
	Bulk            *bulk.Jobs
	Flow            *authflow.Flow
	Managers        *manager.Store
	Partner         *partner.Checker // nil without a partner's settings
	PasswordLink    string           // where the agency's password manager has a user's password; may be empty
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
	SignOn          *sso.Door // nil without an issuer of single sign-on
	Audit           *audit.Store
	Once            *once.Store
	Templates       *templates.Set
	Scopes          []string                 // what owners are asked for
	PublicURL       string                   // https, or http on this machine
	Proxies         []string                 // addresses and networks whose X-Forwarded-For is believed
	Version         string                   // of the program
	Settings        []templates.SettingGroup // how it is set up
	Doctor          Doctor
	Ready           func(context.Context) error // nil if requests can be served
	Now             func() time.Time
	Log             *slog.Logger

	doors   *doors
	badKeys *doors
	calls   *keyLimits
	live    *live.Hub
}

// Handler returns the server's routes. It fails if Proxies has something that is no address or network.
func (s *Server) Handler() (http.Handler, error) {
	s.doors, s.live, s.badKeys, s.calls = newDoors(), s.newHub(), newDoors(), newKeyLimits()
	return s.routes()
}

// secure tells whether browsers reach us by https.
func (s *Server) secure() bool { return strings.HasPrefix(s.PublicURL, "https://") }
