// Package provisioning knows who is to be authorized, how far each one is, and every rule and row
// about it. Its words are client, roster, username, stage, reason, route, event.
//
//	          import            accepted by SMTP      person pressed Continue     verified grant
//	(new) ─────────────► imported ──────────► invited ───────────────► started ────────────► authorized
//	                        │                   │                        │                      │
//	                        └─────────┬─────────┴───────────┬────────────┘                      │ grant gone
//	                                  ▼                     │ any later success                 ▼
//	                               stalled ─────────────────┘                                lapsed ──► invited
//
// Entry points:
//
//	Namer, Renamer  give usernames: slug, pattern, candidates; another one if it is taken     (username.go)
//	Importer        merges a file into the roster in one transaction                            (import.go:
//	                incoming.go stages the file, merge.go compares and writes, reject.go refuses, naming.go names)
//	Uploads         keep a file while an operator looks at what it would do                     (upload.go),
//	                and have a job import it, which tells how far it is                   (upload_order.go)
//	Reconciler      compares the roster with the provider's list of accounts                 (reconcile.go)
//	Reconciliations have that done by jobs and keep what was found for a day           (reconciliations.go)
//	Inviter         selects clients and queues their invitations in one transaction           (invite.go);
//	                changes owners, and takes those whom owners name               (owner.go, referral.go)
//	Route           is how a client gets authorized; one that changes begins anew on the other (client.go, route.go)
//	Filter          selects clients, in an order, page by page                                (filter.go, search.go)
//	PauseAll …      do to a batch of clients what is done to one, for package provisioning/bulk       (batch.go)
//	OptOut, OptIn   what owners say about mail stands beside the stage                        (optout.go)
//	Advance         the only function that changes a stage; it writes the event as well       (stage.go)
//	Store           reads clients, events, imports; Progress counts without counting rows
//
// Neighbours: package authflow makes the links and verifies grants; package notify writes the mails;
// both are plugged into Inviter by the program. What the route partner takes is package provisioning/partner's, and the
// route manager's is package authflow/manager's. Package provisioning/roster reads roster files, package
// provisioning/queue carries jobs. What the provider says of an account or a grant comes in the types of
// provider.go.
package provisioning
