package authflow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/provisioning"
)

// Which account may consent for which client of the roster.
func TestVerdict(t *testing.T) {
	t.Parallel()
	account := func(id, organization, contact string) provisioning.Account {
		return provisioning.Account{ID: id, Organization: organization, ContactEmail: contact}
	}
	tests := []struct {
		name, ref string
		account   provisioning.Account
		want      authflow.Outcome
		evidence  string
	}{
		{
			"the expected one, whatever it is called", "ACME", account("acct-acme", "Other Name", "other@mail.example"),
			authflow.OutcomeConnected, "the account id is the expected one",
		},
		{
			"not the expected one, whatever it is called", "ACME", account("acct-2", "Acme Bakery", "ada@acme.example"),
			authflow.OutcomeWrongAccount, "another account than the expected acct-acme; the organization has the client's name; its contact address is the owner's",
		},
		{
			"same name", "BLOOM", account("acct-3", "BLOOM  florist.", ""),
			authflow.OutcomeConnected, "the organization has the client's name",
		},
		{
			"same name, which anybody can give an account, and a stranger's address", "BLOOM", account("acct-18", "Bloom Florist", "other@mail.example"),
			authflow.OutcomeWrongAccount, "the organization has the client's name; its contact address is not the owner's",
		},
		{
			"same name without accents", "CAFE", account("acct-4", "Cafe Lumiere", ""),
			authflow.OutcomeConnected, "the organization has the client's name",
		},
		{
			"same address", "BLOOM", account("acct-5", "Other Name", "Ben@Bloom.example"),
			authflow.OutcomeConnected, "its contact address is the owner's",
		},
		{
			"an address that several clients share", "CAFE", account("acct-6", "Other Name", "cleo@chain.example"),
			authflow.OutcomeWrongAccount, "other clients have the same owner",
		},
		{
			"an address that several share, but the name", "DELI", account("acct-7", "Corner Deli", "cleo@chain.example"),
			authflow.OutcomeConnected, "the organization has the client's name",
		},
		{
			"a name that several clients have", "YOGA-1", account("acct-8", "Yoga Studio", "other@mail.example"),
			authflow.OutcomeWrongAccount, "so have other clients",
		},
		{
			"the namesake's account", "YOGA-1", account("acct-9", "Yoga Studio", "fay@yoga.example"),
			authflow.OutcomeWrongAccount, "so have other clients",
		},
		{
			"a name that several have, but the address", "YOGA-2", account("acct-10", "Yoga Studio", "fay@yoga.example"),
			authflow.OutcomeConnected, "its contact address is the owner's",
		},
		{
			"nothing agrees", "BLOOM", account("acct-11", "Other Name", "other@mail.example"),
			authflow.OutcomeWrongAccount, "the organization does not have the client's name; its contact address is not the owner's",
		},
		{
			"the name, and the address of another client's owner", "BLOOM", account("acct-13", "Bloom Florist", "Eve@Yoga.example"),
			authflow.OutcomeWrongAccount, `the organization has the client's name; its contact address is that of another client's owner, of \"Yoga Studio\"`,
		},
		{
			"the address, and the name of another client", "BLOOM", account("acct-14", "cafe lumiere", "ben@bloom.example"),
			authflow.OutcomeWrongAccount, `the organization has the name of another client, \"Café Lumière\"; its contact address is the owner's`,
		},
		{
			"another client's altogether", "BLOOM", account("acct-15", "Corner Deli", "cleo@chain.example"),
			authflow.OutcomeWrongAccount, `the name of another client, \"Corner Deli\"; its contact address is that of another client's owner`,
		},
		{
			"a name with another legal form", "BLOOM", account("acct-16", "Bloom Florist Inc.", ""),
			authflow.OutcomeWrongAccount, "the organization does not have the client's name; it has no contact address",
		},
		{
			"a name that several clients have, written otherwise, and the address", "YOGA-1", account("acct-17", "YOGA-STUDIO", "eve@yoga.example"),
			authflow.OutcomeConnected, "but so have other clients; its contact address is the owner's",
		},
		{
			"nothing is known of the account", "BLOOM", account("acct-12", "", ""),
			authflow.OutcomeWrongAccount, "the account has no organization's name; it has no contact address",
		},
		{
			"the account that another client expects", "BLOOM", account("acct-acme", "Bloom Florist", "ben@bloom.example"),
			authflow.OutcomeConflict, `belongs to the client \"Acme Bakery\"`,
		},
	}
	b := setup(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b.anew(t)
			b.connect(t, test.ref, test.account, test.want)
			if test.want == authflow.OutcomeConnected {
				b.isAt(t, test.ref, "authorized")
				b.holds(t, test.ref, "active "+test.account.ID)
				if c := b.client(t, test.ref); c.AccountID == nil || *c.AccountID != test.account.ID || c.AuthorizedAt == nil {
					t.Errorf("the client is bound to %v since %v", c.AccountID, c.AuthorizedAt)
				}
			} else {
				b.isAt(t, test.ref, "stalled/"+string(test.want))
				b.holds(t, test.ref, "quarantined "+test.account.ID)
			}
			kind := provisioning.EventKind(test.want)
			if test.want == authflow.OutcomeConnected {
				kind = provisioning.EventAuthorized
			}
			if detail := b.detail(t, test.ref, kind); !strings.Contains(detail, test.evidence) || !strings.Contains(detail, test.account.ID) {
				t.Errorf("the event tells %s, want %s in it", detail, test.evidence)
			}
		})
	}
}

// The tokens of a grant open in its row alone, and nobody else can read them.
func TestTokensAreSealed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect(t, "ACME", stranger(), authflow.OutcomeWrongAccount)
	b.connect(t, "BLOOM", provisioning.Account{ID: "acct-bloom", Organization: "Bloom Florist"}, authflow.OutcomeConnected)
	rows, err := b.db.Query(t.Context(), `
		SELECT
			id::text AS id,
			client_id::text AS client,
			status,
			access_token,
			refresh_token
		FROM grants
		ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		ID, Client, Status        string
		AccessToken, RefreshToken []byte
	}
	grants, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		t.Fatal(err)
	}
	if len(grants) != 2 || grants[0].Status != "quarantined" || grants[1].Status != "active" {
		t.Fatalf("grants %+v", grants)
	}
	for i, g := range grants {
		for kind, sealed := range map[string][]byte{"access_token": g.AccessToken, "refresh_token": g.RefreshToken} {
			plain := strings.ReplaceAll(kind, "_", "-") + "-for-c0de"
			if strings.Contains(string(sealed), "c0de") {
				t.Errorf("the %s of a grant that is %s can be read", kind, g.Status)
			}
			opened, err := b.Vault.Open(sealed, vault.AD{Row: g.ID, Kind: kind, Client: g.Client, Generation: 1})
			if err != nil || string(opened) != plain {
				t.Errorf("the %s opens as %q, %v", kind, opened, err)
			}
			for name, ad := range map[string]vault.AD{
				"another grant":        {Row: grants[1-i].ID, Kind: kind, Client: g.Client, Generation: 1},
				"another client":       {Row: g.ID, Kind: kind, Client: grants[1-i].Client, Generation: 1},
				"nobody":               {Row: g.ID, Kind: kind, Generation: 1},
				"another generation":   {Row: g.ID, Kind: kind, Client: g.Client, Generation: 2},
				"another kind of seal": {Row: g.ID, Kind: "pkce_verifier", Client: g.Client, Generation: 1},
			} {
				if _, err := b.Vault.Open(sealed, ad); !errors.Is(err, vault.ErrSealBroken) {
					t.Errorf("the %s opens for %s: error %v", kind, name, err)
				}
			}
		}
	}
	for _, table := range []string{"grants", "events", "consents"} {
		if dump := b.dump(t, table); strings.Contains(dump, "token-for") || strings.Contains(dump, fmt.Sprintf("%x", "token-for")) {
			t.Errorf("a token can be read in the table %s", table)
		}
	}
}

func TestGrants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect(t, "ACME", stranger(), authflow.OutcomeWrongAccount)
	b.connect(t, "ACME", acme(), authflow.OutcomeConnected)
	got, err := b.Grants.Of(t.Context(), b.client(t, "ACME").ID)
	if err != nil {
		t.Fatal(err)
	}
	scopes := []string{"account_read", "contact_data", "offline_access"}
	client, wrong := b.client(t, "ACME").ID, provisioning.ReasonWrongAccount
	want := []grant.Grant{
		{
			ClientID: client, Status: grant.StatusActive, AccountID: "acct-acme", Organization: "Acme Bakery",
			ContactEmail: "ada@acme.example", Subject: "ada", Scopes: scopes, Evidence: "the account id is the expected one",
		},
		{
			ClientID: client, Status: grant.StatusReplaced, AccountID: "acct-stranger", Organization: "Somebody Else",
			ContactEmail: "who@else.example", Subject: "ada", Scopes: scopes, Reason: &wrong, Evidence: "another account than the expected acct-acme; the organization does not have the client's name; its contact address is not the owner's",
		},
	}
	for i := range got {
		if time.Since(got[i].CreatedAt).Abs() > time.Hour {
			t.Errorf("granted at %s", got[i].CreatedAt)
		}
		got[i].ID, got[i].CreatedAt = want[0].ID, time.Time{}
		// The one that is used is proven within the hour; the other one has ended.
		if due := got[i].RefreshAt; i == 0 && (due == nil || time.Until(*due) < 5*time.Minute || time.Until(*due) > time.Hour) || i == 1 && due != nil {
			t.Errorf("grant %d is refreshed at %v", i, due)
		}
		if ended := got[i].EndedAt; (ended != nil) != (i == 1) {
			t.Errorf("grant %d ended at %v", i, ended)
		}
		got[i].RefreshAt, got[i].EndedAt = nil, nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("grants (-want +got):\n%s", diff)
	}
}

func TestWrongAccountThenRight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	token := b.token(t, "ACME")
	b.provider.says(stranger())
	b.ends(t, b.begin(t, token).back(), authflow.OutcomeWrongAccount)
	b.ends(t, b.begin(t, token).back(), authflow.OutcomeWrongAccount)
	b.holds(t, "ACME", "replaced acct-stranger, quarantined acct-stranger")
	b.provider.says(provisioning.Account{ID: "acct-third", Organization: "Third"})
	b.ends(t, b.begin(t, token).back(), authflow.OutcomeWrongAccount)
	b.holds(t, "ACME", "replaced acct-stranger, quarantined acct-stranger, quarantined acct-third")
	b.provider.says(acme())
	b.ends(t, b.begin(t, token).back(), authflow.OutcomeConnected)
	b.holds(t, "ACME", "replaced acct-stranger, replaced acct-stranger, replaced acct-third, active acct-acme")
	b.onlyLiveTokens(t)
	b.history(t, "ACME",
		"started by owner → started", "wrong_account by owner → stalled/wrong_account",
		"started by owner → started", "wrong_account by owner → stalled/wrong_account",
		"started by owner → started", "wrong_account by owner → stalled/wrong_account",
		"started by owner → started", "authorized by owner → authorized",
	)
}

// onlyLiveTokens checks that a grant which is no longer used has no tokens.
func (b *testBundle) onlyLiveTokens(t *testing.T) {
	t.Helper()
	if n := b.count(t, `
		SELECT count(*)
		FROM grants
		WHERE (status = 'replaced') <> (access_token IS NULL AND refresh_token IS NULL)`); n != 0 {
		t.Errorf("%d grants have tokens that they should not have, or none", n)
	}
}

// The owner of a client that is connected consents again, by another link.
func TestConnectAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.connect(t, "ACME", acme(), authflow.OutcomeConnected)
	since := b.client(t, "ACME").AuthorizedAt
	b.connect(t, "ACME", acme(), authflow.OutcomeConnected)
	b.holds(t, "ACME", "replaced acct-acme, active acct-acme")
	b.connect(t, "ACME", stranger(), authflow.OutcomeWrongAccount)
	b.holds(t, "ACME", "replaced acct-acme, active acct-acme, quarantined acct-stranger")
	b.onlyLiveTokens(t)
	b.isAt(t, "ACME", "authorized")
	if c := b.client(t, "ACME"); !c.AuthorizedAt.Equal(*since) {
		t.Error("the time of the first grant has changed")
	}
	b.history(t, "ACME",
		"started by owner → started", "authorized by owner → authorized",
		"started by owner", "authorized by owner",
		"started by owner", "wrong_account by owner",
	)
}

// Success spends every link of the client, and nobody else's.
func TestSuccessSpendsTheLinks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second, other := b.token(t, "ACME"), b.token(t, "ACME"), b.token(t, "BLOOM")
	b.connect(t, "ACME", acme(), authflow.OutcomeConnected)
	for _, token := range []string{first, second} {
		if _, err := b.Links.Find(t.Context(), token); !errors.Is(err, authflow.ErrLinkSpent) {
			t.Errorf("error %v, want ErrLinkSpent", err)
		}
	}
	if _, err := b.Links.Find(t.Context(), other); err != nil {
		t.Errorf("the link of another client: %v", err)
	}
}

// The owner of one client consents on the link of another, in either order. Bloom and Café have no
// account id yet; the account fits the one by its name and the other by nothing.
func TestOwnerOnAnothersLink(t *testing.T) {
	t.Parallel()
	bloom := provisioning.Account{ID: "acct-bloom", Organization: "Bloom Florist", ContactEmail: "ben@bloom.example"}
	t.Run("on the other's first", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.connect(t, "CAFE", bloom, authflow.OutcomeWrongAccount)
		b.connect(t, "BLOOM", bloom, authflow.OutcomeConnected)
		b.holds(t, "CAFE", "quarantined acct-bloom")
		b.holds(t, "BLOOM", "active acct-bloom")
	})
	t.Run("on the own first", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.connect(t, "BLOOM", bloom, authflow.OutcomeConnected)
		b.connect(t, "CAFE", bloom, authflow.OutcomeConflict)
		b.isAt(t, "CAFE", "stalled/conflict")
		b.isAt(t, "BLOOM", "authorized")
		b.holds(t, "CAFE", "quarantined acct-bloom")
		b.holds(t, "BLOOM", "active acct-bloom")
		b.onlyLiveTokens(t)
	})
}

// One account fits two clients, the one by its name and the other by its address: it is for an operator to say
// whose it is, in whatever order and however often they consent with it.
func TestOneAccountForTwoClients(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.provider.says(provisioning.Account{ID: "acct-both", Organization: "Bloom Florist", ContactEmail: "eve@yoga.example"})
	refs := []string{"BLOOM", "YOGA-1"}
	const each = 8
	var walks []walk
	for _, ref := range refs {
		token := b.token(t, ref)
		for range each {
			walks = append(walks, b.begin(t, token))
		}
	}
	var wg sync.WaitGroup
	for _, w := range walks {
		wg.Go(func() {
			if _, outcome, err := b.Callback(t.Context(), w.back()); err != nil || outcome != authflow.OutcomeWrongAccount {
				t.Errorf("outcome %q, error %v", outcome, err)
			}
		})
	}
	wg.Wait()
	for _, ref := range refs {
		b.isAt(t, ref, "stalled/wrong_account")
		b.confined(t, ref)
	}
	b.onlyLiveTokens(t)
}

// Whatever an account is called and whoever its contact is, it is taken for one client at most, and for the same
// one whoever comes first and however people write its name.
func TestVerdictIsForOneClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "ref,name,owner_email,account_id\n"+
		"OBRIEN,O'Brien & Sons,eve@yoga.example,\nOBRIEN-2,OBrien Sons,dan@obrien.example,\nSTRASSE,Straße 5,ben@bloom.example,\nKNOWN,Bloom Florist,gil@known.example,acct-known\n")
	type entry struct {
		id, invitation uuid.UUID
		name, owner    string
	}
	var clients []entry
	for _, ref := range []string{"ACME", "BLOOM", "CAFE", "DELI", "YOGA-1", "YOGA-2", "OBRIEN", "OBRIEN-2", "STRASSE", "KNOWN"} {
		c := b.client(t, ref)
		invitation, _ := b.issue(t, ref)
		clients = append(clients, entry{c.ID, invitation, c.Name, c.OwnerEmail})
	}
	// verdict judges and takes nothing.
	verdict := func(t *rapid.T, c entry, a provisioning.Account) grant.Verdict {
		tx, err := b.db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // It is all that it can do.
		v, err := b.Grants.Take(t.Context(), tx, grant.Consented{Client: c.id, Invitation: &c.invitation, Tokens: tokensFor("c0de"), Account: a})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	rapid.Check(t, func(t *rapid.T) {
		named, addressed := rapid.SampledFrom(clients).Draw(t, "name of"), rapid.SampledFrom(clients).Draw(t, "address of")
		a := provisioning.Account{ID: "acct-new", Organization: named.name, ContactEmail: addressed.owner}
		if rapid.Bool().Draw(t, "other name") {
			a.Organization = rapid.SampledFrom([]string{"", "Other", "OBrien", "Yoga", "Bloom Florist Ltd"}).Draw(t, "name")
		}
		if rapid.Bool().Draw(t, "other address") {
			a.ContactEmail = rapid.SampledFrom([]string{"", "nobody@other.example"}).Draw(t, "address")
		}
		other := a
		other.Organization = otherwise(t, a.Organization)
		var taken []string
		for _, c := range clients {
			v := verdict(t, c, a)
			if w := verdict(t, c, other); w.Status != v.Status {
				t.Errorf("%s: %q is %s and %q is %s", c.name, a.Organization, v.Status, other.Organization, w.Status)
			}
			if v.Status == grant.StatusActive {
				taken = append(taken, c.name)
			}
		}
		if len(taken) > 1 {
			t.Errorf("%+v is taken for %q", a, taken)
		}
	})
}

// otherwise writes a name as somebody else would.
func otherwise(t *rapid.T, name string) string {
	switch rapid.IntRange(0, 4).Draw(t, "way to write") {
	case 0:
		name = strings.ToUpper(name)
	case 1:
		name = strings.ToLower(name)
	case 2:
		name = norm.NFD.String(name)
	case 3:
		name = "  " + strings.ReplaceAll(name, " ", " - ") + "."
	default:
		name = strings.NewReplacer("é", "e", "è", "e", "ß", "ss", "&", "").Replace(name)
	}
	return name
}

// An import gives the account to another client in the instant in which it is bound: the unique index
// decides, and the owner gets an answer.
func TestImportTakesTheAccountMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.begin(t, b.token(t, "BLOOM"))
	b.provider.says(provisioning.Account{ID: "acct-bloom", Organization: "Bloom Florist"})
	tx, err := b.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // After a commit there is nothing to roll back.
	if _, err := tx.Exec(t.Context(), `UPDATE clients SET account_id = 'acct-bloom' WHERE ref = 'DELI'`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, outcome, err := b.Callback(t.Context(), w.back()); err != nil || outcome != authflow.OutcomeConflict {
			t.Errorf("outcome %q, error %v", outcome, err)
		}
	})
	b.waits(t, 1)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	b.isAt(t, "BLOOM", "stalled/conflict")
	b.holds(t, "BLOOM", "quarantined acct-bloom")
}

// waits returns when so many on this database wait for a lock.
func (b *testBundle) waits(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if b.count(t, `
			SELECT count(*)
			FROM pg_stat_activity
			WHERE datname = current_database()
				AND wait_event_type = 'Lock'`) >= n {
			return
		}
	}
	t.Errorf("there are no %d waiting for a lock", n)
}

// A consent that PostgreSQL ends, because somebody else locks links before clients, is stored all the
// same: its code is spent.
func TestConsentSurvivesADeadlock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.begin(t, b.token(t, "ACME"))
	tx, err := b.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // After a commit there is nothing to roll back.
	for _, sql := range []string{
		`SET LOCAL deadlock_timeout = '1min'`, // It is the consent that notices, and ends.
		`UPDATE invitations SET revoked_at = now()`,
	} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, outcome, err := b.Callback(t.Context(), w.back()); err != nil || outcome != authflow.OutcomeConnected {
			t.Errorf("outcome %q, error %v", outcome, err)
		}
	})
	b.waits(t, 1)
	if _, err := tx.Exec(t.Context(), `UPDATE clients SET owner_email = 'ann@acme.example' WHERE ref = 'ACME'`); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	b.isAt(t, "ACME", "authorized")
}
