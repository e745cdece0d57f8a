package provisioning

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning/roster"
)

// Partner is the provider as its partner sees it.
type Partner interface {
	// Accounts yields every account of the partner. One that comes twice is what it is at last.
	Accounts(ctx context.Context) iter.Seq2[ListedAccount, error]
	// ManagedAccount returns an account with its owner's address. A *ProviderError that is neither 401 nor
	// ErrProviderUnavailable says that the provider does not give this one.
	ManagedAccount(ctx context.Context, id string) (Account, error)
}

// ListedAccount is an account in the provider's list, which knows no address of its owner.
type ListedAccount struct {
	ID            string `json:"account_id"`
	Organization  string `json:"organization"`
	OwnerLogin    string `json:"owner_login" doc:"a user name; it may look like an address and need not be one"`
	BillingStatus string `json:"billing_status"`
	Managed       bool   `json:"managed" doc:"the partner may act inside the account"`
}

// Canceled reports whether the account has ended: nobody can consent for it.
func (a ListedAccount) Canceled() bool {
	return strings.EqualFold(a.BillingStatus, "canceled") || strings.EqualFold(a.BillingStatus, "cancelled")
}

// FindingKind says how a client and an account stand to each other.
type FindingKind string

// The kinds of findings. Every client and every account of the list is in exactly one finding.
const (
	FindingBoth         FindingKind = "both"                 // the account ids agree
	FindingMissing      FindingKind = "account_id_missing"   // the client has none; by its name it is this account
	FindingDifferent    FindingKind = "account_id_different" // the client has one that is not listed; by its name it is this account
	FindingAmbiguous    FindingKind = "ambiguous"            // a client or an account whose name others have, too
	FindingRosterOnly   FindingKind = "roster_only"
	FindingProviderOnly FindingKind = "provider_only"
	FindingCanceled     FindingKind = "canceled" // the account has ended; the client, if any, would be its own otherwise
)

// FindingKinds lists every kind.
func FindingKinds() []FindingKind {
	return []FindingKind{
		FindingBoth, FindingMissing, FindingDifferent, FindingAmbiguous, FindingRosterOnly, FindingProviderOnly, FindingCanceled,
	}
}

// Finding is a client, an account, or one of each that belong together.
type Finding struct {
	Kind    FindingKind    `json:"kind"`
	Client  *FoundClient   `json:"client,omitempty"`
	Account *ListedAccount `json:"account,omitempty"`
	Why     string         `json:"why" doc:"the evidence, and what can be done"`
}

// FoundClient is a client in a finding.
type FoundClient struct {
	ID         uuid.UUID `json:"id"`
	Ref        *string   `json:"ref"`
	Name       string    `json:"name"`
	OwnerEmail string    `json:"owner_email"`
	AccountID  *string   `json:"account_id"`
}

// ShownFindings is how many findings of each kind a Reconciliation shows.
const ShownFindings = 100

// Reconciliation is what a comparison of the roster with the provider's list found.
type Reconciliation struct {
	Clients  int                       `json:"clients"`
	Accounts int                       `json:"accounts"`
	Counts   map[FindingKind]int       `json:"counts" doc:"every kind"`
	Addable  int                       `json:"addable" doc:"managed accounts of provider_only: the address of their owners can be read"`
	First    map[FindingKind][]Finding `json:"first" doc:"the first 100 of each kind, by name"`
	Adds     []Finding                 `json:"adds" doc:"the first 100 of the addable ones, by name"`
}

// Reconciler compares the roster with the provider's own list of the partner's accounts, and makes the
// roster follow it where that is safe.
//
// A client and an account belong together if the account ids agree. Of the others those that have the same
// name, whatever its case and spaces, are proposed for each other if nobody else in the roster or in the
// list has that name. An account id that a client has is never changed: which account it is, a verified
// grant decides.
//
// The list is read once, by Accounts, which takes a second for every 190 accounts, and is handed to the
// other methods. They compare it with the roster anew each time, in one short transaction.
type Reconciler struct {
	DB       DB
	Partner  Partner
	Importer *Importer // for Fill and Add: what they change is an import like any other
}

// Accounts reads the provider's list, which is some 200 bytes an account. Progress, if any, is told how
// many accounts have been read.
func (r *Reconciler) Accounts(ctx context.Context, progress func(read int)) ([]ListedAccount, error) {
	var accounts []ListedAccount
	place := make(map[string]int)
	for a, err := range r.Partner.Accounts(ctx) {
		if err != nil {
			return nil, err
		}
		if i, ok := place[a.ID]; ok {
			accounts[i] = a
			continue
		}
		place[a.ID] = len(accounts)
		accounts = append(accounts, a)
		if progress != nil {
			progress(len(accounts))
		}
	}
	return accounts, nil
}

// Compare compares the roster with the list and changes nothing. It hands every finding to each, if that
// is not nil, by name.
func (r *Reconciler) Compare(ctx context.Context, accounts []ListedAccount, each func(Finding) error) (Reconciliation, error) {
	tx, err := r.DB.Begin(ctx)
	if err != nil {
		return Reconciliation{}, fmt.Errorf("reconcile: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // There is nothing in it to keep.
	result := Reconciliation{Counts: make(map[FindingKind]int), First: make(map[FindingKind][]Finding), Adds: []Finding{}}
	for _, kind := range FindingKinds() {
		result.Counts[kind], result.First[kind] = 0, []Finding{}
	}
	err = compare(ctx, tx, accounts, func(f Finding) error {
		if f.Client != nil {
			result.Clients++
		}
		if f.Account != nil {
			result.Accounts++
		}
		if f.addable() {
			if result.Addable++; result.Addable <= ShownFindings {
				result.Adds = append(result.Adds, f)
			}
		}
		if result.Counts[f.Kind]++; result.Counts[f.Kind] <= ShownFindings {
			result.First[f.Kind] = append(result.First[f.Kind], f)
		}
		if each == nil {
			return nil
		}
		return each(f)
	})
	return result, err
}

// WriteMissing writes the accounts that the roster lacks as a roster file, and returns how many there are.
// It can be imported once somebody has filled in owner_email, which the list does not know.
func (r *Reconciler) WriteMissing(ctx context.Context, accounts []ListedAccount, w io.Writer) (n int, err error) {
	out := csv.NewWriter(w)
	// With a column owner_name of its own, the user name in site_owner_name is not taken for one.
	err = writeSafe(out, []string{"name", "owner_email", "owner_name", "account_id", "site_owner_name", "billing_status", "managed"})
	if err != nil {
		return 0, err
	}
	_, err = r.Compare(ctx, accounts, func(f Finding) error {
		if f.Kind != FindingProviderOnly {
			return nil
		}
		n++
		a := f.Account
		return writeSafe(out, []string{a.Organization, "", "", a.ID, a.OwnerLogin, a.BillingStatus, strconv.FormatBool(a.Managed)})
	})
	if err != nil {
		return n, err
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return n, fmt.Errorf("write the missing accounts: %w", err)
	}
	return n, nil
}

// reconcileFile is the file name of the imports that Fill and Add make.
const reconcileFile = "reconcile"

// Fill gives the clients of FindingMissing their account ids, by an import. If there is none, it imports
// nothing and returns an Import without id.
func (r *Reconciler) Fill(ctx context.Context, accounts []ListedAccount, actor Actor) (Import, error) {
	tx, err := r.begin(ctx)
	if err != nil {
		return Import{}, err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	file := newReconcileRoster(roster.FieldName, roster.FieldOwnerEmail, roster.FieldRef, roster.FieldAccountID)
	err = compare(ctx, tx, accounts, func(f Finding) error {
		if f.Kind != FindingMissing {
			return nil
		}
		return file.add(f.Client.Name, f.Client.OwnerEmail, text(f.Client.Ref), f.Account.ID)
	})
	if err != nil {
		return Import{}, err
	}
	return r.importAndCommit(ctx, tx, file, actor)
}

// Added is what Add did.
type Added struct {
	Created  int             `json:"created"`
	Rejected int             `json:"rejected"`
	Rejects  []roster.Reject `json:"rejects" doc:"the first 100"`
	Held     int             `json:"held" doc:"accounts that were not added for a reason of their own"`
	Holds    []Finding       `json:"holds" doc:"the first 100 of them, with the reason"`
	Imports  []uuid.UUID     `json:"imports"`
}

// addBatch is how many accounts are imported at a time: an interruption wastes no more calls than that.
const addBatch = 500

// Add makes clients of the managed accounts that the roster lacks. It asks the provider for the owner's
// address of each, one call an account, and imports them in batches, so that it can be ended at any time
// and begun again. Progress, if any, is told how many of how many accounts have been asked for.
//
// An account whose owner has a client without an account id already is held: it may be the same. With an
// error comes what was added before it.
func (r *Reconciler) Add(
	ctx context.Context, accounts []ListedAccount, actor Actor, progress func(done, total int),
) (Added, error) {
	added := Added{Rejects: []roster.Reject{}, Holds: []Finding{}, Imports: []uuid.UUID{}}
	var missing []Finding
	_, err := r.Compare(ctx, accounts, func(f Finding) error {
		if f.addable() {
			missing = append(missing, f)
		}
		return nil
	})
	if err != nil {
		return added, err
	}
	done := 0
	for batch := range slices.Chunk(missing, addBatch) {
		var found []foundAccount
		var unanswered error
		for _, f := range batch {
			a, err := r.Partner.ManagedAccount(ctx, f.Account.ID)
			refused, isRefusal := errors.AsType[*ProviderError](err)
			switch {
			case err == nil && a.ContactEmail == "":
				added.hold(f, "The provider has no address of its owner: import it with owner_email filled in.")
			case err == nil:
				found = append(found, foundAccount{f, a})
			case isRefusal && refused.Status != http.StatusUnauthorized && !errors.Is(err, ErrProviderUnavailable):
				added.hold(f, "The provider does not give the address of its owner: "+err.Error()+". Import it with owner_email filled in.")
			default:
				unanswered = err
			}
			if unanswered != nil {
				break
			}
			if done++; progress != nil {
				progress(done, len(missing))
			}
		}
		if err := r.addFound(ctx, found, actor, &added); err != nil {
			return added, errors.Join(unanswered, err)
		}
		if unanswered != nil {
			return added, unanswered
		}
	}
	return added, nil
}

// addable says that the account is one for Add.
func (f Finding) addable() bool { return f.Kind == FindingProviderOnly && f.Account.Managed }

func (a *Added) hold(f Finding, why string) {
	if a.Held++; len(a.Holds) < ShownFindings {
		f.Why = why
		a.Holds = append(a.Holds, f)
	}
}

// foundAccount is an account that the roster lacks, as the list and as the account itself have it.
type foundAccount struct {
	Finding
	account Account
}

// addFound imports a batch, without those that the roster has got meanwhile, or may have.
func (r *Reconciler) addFound(ctx context.Context, batch []foundAccount, actor Actor, added *Added) error {
	if len(batch) == 0 {
		return nil
	}
	tx, err := r.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	holds, err := lookAlikes(ctx, tx, batch)
	if err != nil {
		return err
	}
	file := newReconcileRoster(roster.FieldName, roster.FieldOwnerEmail, roster.FieldOwnerName, roster.FieldAccountID)
	for _, f := range batch {
		if why, held := holds[f.Account.ID]; held {
			added.hold(f.Finding, why)
			continue
		}
		owner := strings.TrimSpace(f.account.FirstName + " " + f.account.LastName)
		if err := file.add(f.name(), f.account.ContactEmail, owner, f.Account.ID); err != nil {
			return err
		}
	}
	im, err := r.importAndCommit(ctx, tx, file, actor)
	if err != nil || im.ID == uuid.Nil {
		return err
	}
	added.Created += im.Created
	added.Rejected += im.Rejected
	added.Rejects = append(added.Rejects, im.Rejects[:min(len(im.Rejects), ShownFindings-len(added.Rejects))]...)
	added.Imports = append(added.Imports, im.ID)
	return nil
}

// name is what the client will be called.
func (f foundAccount) name() string {
	if name := listedName(f.Account.Organization); name != "" {
		return name
	}
	return listedName(f.account.Organization)
}

// lookAlikes says which accounts of the batch may be clients already, and why.
func lookAlikes(ctx context.Context, tx pgx.Tx, batch []foundAccount) (map[string]string, error) {
	var ids, names, owners []string
	for _, f := range batch {
		owner := f.account.ContactEmail
		if local, domain, err := roster.ParseAddress(owner); err == nil {
			owner = local + "@" + domain
		}
		ids, names, owners = append(ids, f.Account.ID), append(names, f.name()), append(owners, storedText(owner))
	}
	rows, err := tx.Query(ctx, `
		SELECT DISTINCT ON (a.account_id)
			a.account_id,
			c.why,
			c.name
		FROM unnest($1::text[], $2::text[], $3::text[]) AS a (account_id, name, owner)
		CROSS JOIN LATERAL (
			SELECT 1 AS rank, 'has this account id by now' AS why, name
			FROM clients
			WHERE account_id = a.account_id
			UNION ALL
			SELECT 2, 'has the same name and no account id', name
			FROM clients
			WHERE account_id IS NULL
				AND lower(name) COLLATE "C" = lower(a.name)
			UNION ALL
			SELECT 3, 'has the same owner and no account id', name
			FROM clients
			WHERE account_id IS NULL
				AND lower(owner_email) = lower(a.owner COLLATE "C")
		) c
		ORDER BY a.account_id, c.rank, c.name COLLATE "C"`, ids, names, owners)
	if err != nil {
		return nil, fmt.Errorf("reconcile: find clients that look like accounts: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Account, Why, Client string }])
	if err != nil {
		return nil, fmt.Errorf("reconcile: find clients that look like accounts: %w", err)
	}
	holds := make(map[string]string)
	for _, f := range found {
		holds[f.Account] = fmt.Sprintf("The client %q %s: give it its own account_id if it is not this one, then add again.", f.Client, f.Why)
	}
	return holds, nil
}

// begin starts a transaction in which the roster is nobody else's to change in bulk: what is compared in
// it still holds when it is imported.
func (r *Reconciler) begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := r.DB.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("reconcile: %w", err)
	}
	if err := lockRoster(ctx, tx); err != nil {
		_ = tx.Rollback(ctx) // The error says more.
		return nil, err
	}
	return tx, nil
}

// importAndCommit imports the file, if it has a row, within tx, and ends tx.
func (r *Reconciler) importAndCommit(ctx context.Context, tx pgx.Tx, file *reconcileRoster, actor Actor) (Import, error) {
	if file.rows == 0 {
		return Import{}, nil
	}
	file.csv.Flush()
	importer := *r.Importer
	importer.DB, importer.Domains = tx, nil // The roster is locked: this is no time to ask name servers.
	im, err := importer.Import(ctx, &file.text, ImportOptions{FileName: reconcileFile, Actor: actor})
	if err != nil {
		return Import{}, err
	}
	if err := tx.Commit(ctx); err != nil {
		return Import{}, fmt.Errorf("reconcile: %w", err)
	}
	return im, nil
}

// reconcileRoster is a roster file that Fill and Add make. It is in memory because the connection that
// gives its rows is the one that takes them: some 100 bytes for each change.
type reconcileRoster struct {
	text bytes.Buffer
	csv  *csv.Writer
	rows int
}

func newReconcileRoster(fields ...roster.Field) *reconcileRoster {
	f := &reconcileRoster{rows: -1} // the header is not one
	f.csv = csv.NewWriter(&f.text)
	var header []string
	for _, field := range fields {
		header = append(header, string(field))
	}
	_ = f.add(header...) // a buffer takes everything
	return f
}

func (f *reconcileRoster) add(record ...string) error {
	f.rows++
	return writeSafe(f.csv, record)
}

// compare hands every finding to each, by name.
func compare(ctx context.Context, tx pgx.Tx, accounts []ListedAccount, each func(Finding) error) error {
	if err := stageAccounts(ctx, tx, accounts); err != nil {
		return fmt.Errorf("reconcile: keep the provider's list: %w", err)
	}
	rows, err := tx.Query(ctx, `
		WITH free_clients AS MATERIALIZED (
			SELECT
				c.id,
				lower(c.name) AS key
			FROM clients c
			WHERE NOT EXISTS (SELECT FROM listed l WHERE l.account_id = c.account_id)
		),
		free_accounts AS MATERIALIZED (
			SELECT
				l.account_id,
				lower(l.name) AS key
			FROM listed l
			WHERE NOT EXISTS (SELECT FROM clients c WHERE c.account_id = l.account_id)
		),
		-- The names that link the two sides, with all who have them, whether they are free or not.
		names AS MATERIALIZED (
			SELECT
				key,
				c.n AS clients,
				a.n AS accounts
			FROM (SELECT key FROM free_clients INTERSECT SELECT key FROM free_accounts) shared
			JOIN (SELECT lower(name) AS key, count(*) AS n FROM clients GROUP BY 1) c USING (key)
			JOIN (SELECT lower(name) AS key, count(*) AS n FROM listed GROUP BY 1) a USING (key)
		),
		findings AS (
			SELECT 'id' AS link, c.id AS client_id, l.account_id, 1 AS clients, 1 AS accounts
			FROM listed l
			JOIN clients c ON c.account_id = l.account_id
			UNION ALL
			SELECT 'name', fc.id, fa.account_id, 1, 1
			FROM names n
			JOIN free_clients fc USING (key)
			JOIN free_accounts fa USING (key)
			WHERE n.clients = 1
				AND n.accounts = 1
			UNION ALL
			SELECT 'names', fc.id, NULL, n.clients, n.accounts
			FROM names n
			JOIN free_clients fc USING (key)
			WHERE n.clients > 1
				OR n.accounts > 1
			UNION ALL
			SELECT 'names', NULL, fa.account_id, n.clients, n.accounts
			FROM names n
			JOIN free_accounts fa USING (key)
			WHERE n.clients > 1
				OR n.accounts > 1
			UNION ALL
			SELECT '', fc.id, NULL, 0, 0
			FROM free_clients fc
			WHERE NOT EXISTS (SELECT FROM names n WHERE n.key = fc.key)
			UNION ALL
			SELECT '', NULL, fa.account_id, 0, 0
			FROM free_accounts fa
			WHERE NOT EXISTS (SELECT FROM names n WHERE n.key = fa.key)
		)
		SELECT
			f.link,
			f.clients,
			f.accounts,
			c.id,
			c.ref,
			c.name,
			c.owner_email,
			c.account_id,
			l.account_id,
			l.name,
			l.owner_login,
			l.billing_status,
			l.managed
		FROM findings f
		LEFT JOIN clients c ON c.id = f.client_id
		LEFT JOIN listed l ON l.account_id = f.account_id
		ORDER BY lower(coalesce(c.name, l.name)) COLLATE "C", l.account_id COLLATE "C", c.id`)
	if err != nil {
		return fmt.Errorf("reconcile: compare: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		f, err := scanFinding(rows)
		if err != nil {
			return fmt.Errorf("reconcile: compare: %w", err)
		}
		if err := each(f); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reconcile: compare: %w", err)
	}
	// An import may follow in this transaction, which may itself be part of the caller's.
	for _, sql := range []string{`DROP TABLE listed`, `SET LOCAL enable_nestloop = DEFAULT`} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("reconcile: compare: %w", err)
		}
	}
	return nil
}

// stageAccounts copies the list into the table listed.
func stageAccounts(ctx context.Context, tx pgx.Tx, accounts []ListedAccount) error {
	_, err := tx.Exec(ctx, `
		CREATE TEMPORARY TABLE listed (
			account_id     text PRIMARY KEY,
			name           text NOT NULL,
			owner_login    text NOT NULL,
			billing_status text NOT NULL,
			managed        boolean NOT NULL
		) ON COMMIT DROP`)
	if err != nil {
		return err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"listed"},
		[]string{"account_id", "name", "owner_login", "billing_status", "managed"},
		pgx.CopyFromSlice(len(accounts), func(i int) ([]any, error) {
			a := accounts[i]
			return []any{storedText(a.ID), listedName(a.Organization), storedText(a.OwnerLogin), storedText(a.BillingStatus), a.Managed}, nil
		}))
	if err != nil {
		return err
	}
	// How many clients and accounts are left over is nothing that a planner can guess: told of few, it would
	// compare each of a hundred thousand with all the others.
	for _, sql := range []string{`ANALYZE listed`, `SET LOCAL enable_nestloop = off`} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// listedName writes an organization's name as a roster has it.
func listedName(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, name)
	clean, _ := roster.CleanText(name, true) // nothing is left that it refuses
	return clean
}

func scanFinding(row pgx.CollectableRow) (Finding, error) {
	var (
		link                       string
		clients, accounts          int
		id                         *uuid.UUID
		ref, name, owner, known    *string
		listed, org, login, status *string
		managed                    *bool
		f                          Finding
	)
	err := row.Scan(&link, &clients, &accounts, &id, &ref, &name, &owner, &known, &listed, &org, &login, &status, &managed)
	if err != nil {
		return Finding{}, err
	}
	if id != nil {
		f.Client = &FoundClient{ID: *id, Ref: ref, Name: *name, OwnerEmail: *owner, AccountID: known}
	}
	if listed != nil {
		f.Account = &ListedAccount{ID: *listed, Organization: *org, OwnerLogin: *login, BillingStatus: *status, Managed: *managed}
	}
	f.judge(link, clients, accounts)
	return f, nil
}

// judge says of which kind the finding is and why. The link is what client and account have in common: the
// id, the name, or a name that so many clients and accounts have.
func (f *Finding) judge(link string, clients, accounts int) {
	canceled := f.Account != nil && f.Account.Canceled()
	switch {
	case link == "names":
		f.Kind = FindingAmbiguous
		f.Why = fmt.Sprintf("The roster has this name %s, the provider's list %s, and they cannot be told apart: import the clients with their account_id.",
			times(clients), times(accounts))
	case link == "name" && f.Client.AccountID != nil:
		f.Kind = FindingDifferent
		f.Why = fmt.Sprintf("The roster has the account id %s, which the provider does not list; the account of this name is %s."+
			" A verified grant decides: invite the owner, or correct account_id by an import.", *f.Client.AccountID, f.Account.ID)
	case link == "id" && canceled:
		f.Kind = FindingCanceled
		f.Why = "The account is canceled at the provider: nobody can consent for it. Pause or remove the client."
	case link == "id":
		f.Kind = FindingBoth
		f.Why = "The account ids agree."
	case link == "name" && canceled:
		f.Kind = FindingCanceled
		f.Why = "The account of this name is canceled at the provider: its id is not filled in."
	case link == "name":
		f.Kind = FindingMissing
		f.Why = "Both have this name, and no other client and no other account has it: the account id can be filled in."
	case f.Client != nil && f.Client.AccountID != nil:
		f.Kind = FindingRosterOnly
		f.Why = "The provider lists neither this account id nor an account of this name: check the id, and whether the account has left you."
	case f.Client != nil:
		f.Kind = FindingRosterOnly
		f.Why = "The provider lists no account of this name. If it is there under another name, import the client with its account_id."
	case canceled:
		f.Kind = FindingCanceled
		f.Why = "The account is canceled at the provider: it is not added."
	case f.Account.Managed:
		f.Kind = FindingProviderOnly
		f.Why = "The account is managed, so the provider gives its owner's address: it can be added."
	default:
		f.Kind = FindingProviderOnly
		f.Why = "The account is not managed, so the provider does not give its owner's address: import it with owner_email filled in."
	}
}

// times counts in words.
func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
