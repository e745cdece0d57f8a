package grant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/countersign/countersign/provisioning"
)

// judge compares the account that consented with the one the client expects, and holds the client's
// row until tx ends. Between two clients that get one account at once, a unique index decides.
//
// Without an expected account id, the organisation's name and the contact address speak for a client. They
// have to speak for this one alone: what also speaks for another waits for an operator, so that the verdict
// does not depend on whose link was used, nor on who came first. On the route manager the client's own
// Account Manager speaks for it too: its username is unique over all accounts.
func judge(ctx context.Context, tx pgx.Tx, client uuid.UUID, account provisioning.Account, subject string) (Verdict, error) {
	var name, email, username string
	var route provisioning.Route
	var expected *string
	err := tx.QueryRow(ctx, `
		SELECT
			name,
			owner_email,
			account_id,
			username,
			route
		FROM clients
		WHERE id = $1
		FOR UPDATE`, client).Scan(&name, &email, &expected, &username, &route)
	if err != nil {
		return Verdict{}, fmt.Errorf("read the client to verify: %w", err)
	}
	holder, err := holderOf(ctx, tx, account.ID, client)
	if err != nil {
		return Verdict{}, err
	}
	if holder == nil && expected != nil && *expected == account.ID {
		return Verdict{Status: StatusActive, Event: provisioning.EventAuthorized, Evidence: "the account id is the expected one"}, nil
	}
	e, err := gather(ctx, tx, client, name, email, account)
	if err != nil {
		return Verdict{}, err
	}
	wrong := Verdict{Status: StatusQuarantined, Event: provisioning.EventWrongAccount, Reason: provisioning.ReasonWrongAccount}
	switch {
	case holder != nil:
		return Verdict{
			StatusQuarantined, provisioning.EventConflict, provisioning.ReasonConflict,
			fmt.Sprintf("this account belongs to the client %q; %s", holder.Name, e),
		}, nil
	case expected != nil:
		wrong.Evidence = fmt.Sprintf("another account than the expected %s; %s", *expected, e)
		return wrong, nil
	case route == provisioning.RouteManager && strings.EqualFold(subject, username):
		return Verdict{
			Status: StatusActive, Event: provisioning.EventAuthorized,
			Evidence: "no account id was expected; the client's own Account Manager signed in; " + e.String(),
		}, nil
	case e.convinces():
		return Verdict{Status: StatusActive, Event: provisioning.EventAuthorized, Evidence: "no account id was expected; " + e.String()}, nil
	}
	wrong.Evidence = "no account id was expected; " + e.String()
	return wrong, nil
}

// holderOf returns the client, other than this one, that the roster or an active grant gives the account to;
// nil if there is none.
func holderOf(ctx context.Context, tx pgx.Tx, account string, client uuid.UUID) (*provisioning.Namesake, error) {
	var holder provisioning.Namesake
	err := tx.QueryRow(ctx, `
		SELECT
			id,
			name
		FROM clients
		WHERE account_id = $1
			AND id <> $2
		UNION ALL
		SELECT
			c.id,
			c.name
		FROM grants g
		JOIN clients c ON c.id = g.client_id
		WHERE g.account_id = $1
			AND g.status = 'active'
			AND c.id <> $2
		LIMIT 1`, account, client).Scan(&holder.ID, &holder.Name)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find whose account it is: %w", err)
	}
	return &holder, nil
}

// evidence is what an account shows of whose it is.
type evidence struct {
	organization, contact string

	named     bool                    // the organization has the client's name
	addressed bool                    // the contact address is the owner's
	namesakes []provisioning.Namesake // other clients of that name
	neighbors []provisioning.Namesake // other clients whose owner has that address
}

// most is how many other clients are looked at. A name or an address of more than that proves nothing.
const most = 1000

func gather(ctx context.Context, tx pgx.Tx, client uuid.UUID, name, email string, account provisioning.Account) (evidence, error) {
	e := evidence{organization: account.Organization, contact: strings.TrimSpace(account.ContactEmail), named: sameName(account.Organization, name)}
	others, err := provisioning.Namesakes(ctx, tx, account.Organization, most)
	if err != nil {
		return e, err
	}
	for _, other := range others {
		if other.ID != client && (len(others) == most || sameName(account.Organization, other.Name)) {
			e.namesakes = append(e.namesakes, other)
		}
	}
	if e.contact == "" {
		return e, nil
	}
	rows, err := tx.Query(ctx, `
		SELECT
			id,
			name
		FROM clients
		WHERE lower(owner_email) = lower($1 COLLATE "C")
		ORDER BY id
		LIMIT $2`, e.contact, most)
	if err != nil {
		return e, fmt.Errorf("find whose owner has the contact address: %w", err)
	}
	e.neighbors, err = pgx.CollectRows(rows, pgx.RowToStructByPos[provisioning.Namesake])
	if err != nil {
		return e, fmt.Errorf("find whose owner has the contact address: %w", err)
	}
	e.addressed = strings.EqualFold(e.contact, email) && len(e.neighbors) < most
	e.neighbors = slices.DeleteFunc(e.neighbors, func(n provisioning.Namesake) bool { return n.ID == client })
	return e, nil
}

// convinces tells whether name and address speak for the client, and for no other as much. A name alone does
// not: whoever has the link can give an account of their own any name. It does where there is no address to
// gainsay it.
func (e evidence) convinces() bool {
	switch {
	case e.named && e.addressed:
		return !slices.ContainsFunc(e.namesakes, func(n provisioning.Namesake) bool { return slices.Contains(e.neighbors, n) })
	case e.addressed, e.named && e.contact == "":
		return len(e.namesakes) == 0 && len(e.neighbors) == 0
	}
	return false
}

// String tells what agrees and what does not.
func (e evidence) String() string {
	var name, address string
	switch {
	case e.named && len(e.namesakes) > 0:
		name = "the organization has the client's name, but so have other clients"
	case e.named:
		name = "the organization has the client's name"
	case len(e.namesakes) > 0:
		name = fmt.Sprintf("the organization has the name of another client, %q", e.namesakes[0].Name)
	case e.organization == "":
		name = "the account has no organization's name"
	default:
		name = "the organization does not have the client's name"
	}
	switch {
	case e.addressed && len(e.neighbors) > 0:
		address = "its contact address is the owner's, but other clients have the same owner"
	case e.addressed:
		address = "its contact address is the owner's"
	case len(e.neighbors) > 0:
		address = fmt.Sprintf("its contact address is that of another client's owner, of %q", e.neighbors[0].Name)
	case e.contact == "":
		address = "it has no contact address"
	default:
		address = "its contact address is not the owner's"
	}
	return name + "; " + address
}

// sameName compares names as people write them: letters and digits count; case, accents and punctuation do
// not. Legal forms do: "Acme" and "Acme Inc" may be two companies.
func sameName(a, b string) bool {
	a, b = foldName(a), foldName(b)
	return a != "" && a == b
}

func foldName(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, norm.NFKD.String(cases.Fold().String(norm.NFKD.String(name))))
}
