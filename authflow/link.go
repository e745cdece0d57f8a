package authflow

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/audit"
)

// InvitationLife is how long a link works unless it is spent before.
const InvitationLife = 30 * 24 * time.Hour

// What a link can be told apart as. A page answers ErrLinkUnknown and ErrLinkExpired alike, so that
// nobody can try out tokens.
var (
	ErrLinkUnknown = errors.New("no invitation has this link")
	ErrLinkExpired = errors.New("this invitation link is no longer valid")
	ErrLinkSpent   = errors.New("this invitation has been used: the account is connected")
)

// Links makes and reads invitation links.
type Links struct {
	DB        provisioning.DB
	Key       []byte // of the MAC that derives a token from an invitation's id
	PublicURL string // where owners reach us, without a trailing slash
	Now       func() time.Time
}

// tokenEncoding needs no care for case or for marks that a mail program might take for the end of
// the link.
func tokenEncoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// tokenSize is the length of a token in bytes: 160 bits, which base32 writes as 32 characters.
const tokenSize = 20

// Token returns the secret part of an invitation's link. It is the same at every call.
func (l *Links) Token(invitation uuid.UUID) string {
	mac := hmac.New(sha256.New, l.Key)
	mac.Write([]byte("invitation"))
	mac.Write(invitation[:])
	return tokenEncoding().EncodeToString(mac.Sum(nil)[:tokenSize])
}

// URL returns the link of an invitation.
func (l *Links) URL(invitation uuid.UUID) string {
	return l.PublicURL + "/i/" + l.Token(invitation)
}

// hashToken reads a token as it comes out of a URL: in any case, and with whatever punctuation a
// mail program took for a part of the link.
func hashToken(token string) []byte {
	token = strings.TrimFunc(strings.ToLower(token), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// Issue makes one invitation a client in tx's transaction and returns their ids in the same order.
// Earlier invitations stay valid.
func (l *Links) Issue(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, len(clients))
	expires := l.Now().Add(InvitationLife)
	for i := range ids {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("issue invitations: %w", err)
		}
		ids[i] = id
	}
	columns := []string{"id", "client_id", "token_hash", "expires_at"}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"invitations"}, columns, pgx.CopyFromSlice(len(ids), func(i int) ([]any, error) {
		return []any{ids[i], clients[i], hashToken(l.Token(ids[i])), expires}, nil
	}))
	if err != nil {
		return nil, fmt.Errorf("issue invitations: %w", err)
	}
	return ids, nil
}

// Revoke ends the clients' open invitations in tx's transaction.
func (l *Links) Revoke(ctx context.Context, tx pgx.Tx, clients []uuid.UUID) error {
	_, err := tx.Exec(ctx, `
		UPDATE invitations
		SET revoked_at = now()
		WHERE client_id = ANY ($1)
			AND spent_at IS NULL
			AND revoked_at IS NULL`, clients)
	if err != nil {
		return fmt.Errorf("revoke invitations: %w", err)
	}
	return nil
}

// HandOver makes a fresh link for one client, to be given to the owner by other means than our mail.
// It returns provisioning.ErrNotFound.
func (l *Links) HandOver(ctx context.Context, client uuid.UUID, actor provisioning.Actor) (url string, expires time.Time, err error) {
	tx, err := l.DB.Begin(ctx)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("issue a link: %w", err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // After a commit there is nothing to roll back.
	if _, err := provisioning.Advance(ctx, tx, provisioning.Change{
		Client: client, Event: provisioning.EventLinkIssued, Actor: actor,
	}); err != nil {
		return "", time.Time{}, err
	}
	ids, err := l.Issue(ctx, tx, []uuid.UUID{client})
	if err != nil {
		return "", time.Time{}, err
	}
	expires = l.Now().Add(InvitationLife)
	err = provisioning.Audit(ctx, tx, actor, audit.Entry{
		Action: "link.issue", Object: provisioning.AuditObject(client), After: audit.Fields{"expires_at": expires},
	})
	if err != nil {
		return "", time.Time{}, err
	}
	if err := tx.Commit(ctx); err != nil {
		return "", time.Time{}, fmt.Errorf("issue a link: %w", err)
	}
	return l.URL(ids[0]), expires, nil
}

// Invitation is a link handed to an owner, with what a page has to know of its client.
type Invitation struct {
	ID          uuid.UUID
	ClientID    uuid.UUID
	ClientName  string
	OwnerName   string
	OwnerEmail  string
	Username    string
	Route       provisioning.Route
	Stage       provisioning.Stage
	Reason      *provisioning.Reason
	ExpiresAt   time.Time
	SpentAt     *time.Time
	RevokedAt   *time.Time
	OptedOut    *provisioning.OptedOut // nil if the owner takes mails
	OptedOutAt  *time.Time
	LastOutcome *Outcome // of the latest walk that ended; nil if none has
}

// Find returns the invitation of a token. Beside ErrLinkUnknown it returns ErrLinkExpired and
// ErrLinkSpent, both together with the invitation.
func (l *Links) Find(ctx context.Context, token string) (Invitation, error) {
	return l.find(ctx, "i.token_hash = $1", hashToken(token))
}

func (l *Links) find(ctx context.Context, where string, arg any) (Invitation, error) {
	rows, err := l.DB.Query(ctx, `
		SELECT
			i.id,
			i.client_id,
			c.name,
			c.owner_name,
			c.owner_email,
			c.username,
			c.route,
			c.stage,
			c.reason,
			i.expires_at,
			i.spent_at,
			i.revoked_at,
			c.opted_out,
			c.opted_out_at,
			(SELECT s.outcome FROM consents s WHERE s.invitation_id = i.id AND s.outcome IS NOT NULL ORDER BY s.id DESC LIMIT 1)
		FROM invitations i
		JOIN clients c ON c.id = i.client_id
		WHERE `+where, arg)
	if err != nil {
		return Invitation{}, fmt.Errorf("find the invitation: %w", err)
	}
	inv, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Invitation])
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Invitation{}, ErrLinkUnknown
	case err != nil:
		return Invitation{}, fmt.Errorf("find the invitation: %w", err)
	case inv.RevokedAt != nil:
		return inv, ErrLinkExpired // Whoever has it is no longer the owner on record.
	case inv.SpentAt != nil && inv.Stage == provisioning.StageAuthorized:
		return inv, ErrLinkSpent
	case inv.SpentAt != nil || !l.Now().Before(inv.ExpiresAt):
		return inv, ErrLinkExpired
	}
	return inv, nil
}
