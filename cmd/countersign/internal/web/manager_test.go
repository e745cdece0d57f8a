package web_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

// TestManagerLinkIsForOperators: whoever has the link of an activation mail chooses the user's password.
func TestManagerLinkIsForOperators(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "ref,name,owner_email,route\nGYM,Gym,gus@gym.example,manager\n")
	c, err := b.Store.Client(t.Context(), "ref:GYM")
	if err != nil {
		t.Fatal(err)
	}
	const secret = "https://login.provider.example/activate/s3cr3t"
	err = pgx.BeginFunc(t.Context(), b.db, func(tx pgx.Tx) error {
		taken, err := b.Managers.TakeActivation(t.Context(), tx, []string{c.Username}, "no-reply@provider.example", secret, time.Now())
		if !taken {
			t.Error("the mail is nobody's")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	page := "/admin/clients/" + c.ID.String()
	operator := b.operator(t)
	viewer := b.signedIn(t, admin.NewOperator{Email: "lee@brightside.example", Name: "Lee", Role: admin.RoleViewer, Password: password})
	if links := find(operator.get(t, page).doc(t), tag("a"), with("href", secret)); len(links) != 1 {
		t.Errorf("an operator is shown %d links", len(links))
	}
	viewer.get(t, page).has(t, http.StatusOK).silent(t, "s3cr3t")
	b.caller(t, admin.ScopeRead).call(t, http.MethodGet, "/clients/ref:GYM/manager", "").has(t, http.StatusOK).silent(t, "s3cr3t")
	b.caller(t, admin.ScopeRead).call(t, http.MethodGet, "/clients/ref:GYM/events", "").has(t, http.StatusOK).silent(t, "s3cr3t")

	operator.post(t, "/admin/run/start", nil)
	if links := find(operator.get(t, "/admin/run").doc(t), tag("a"), with("href", secret)); len(links) != 1 {
		t.Errorf("in a run %d links are shown", len(links))
	}
	viewer.get(t, "/admin/run").has(t, http.StatusOK).silent(t, "s3cr3t")
}

// TestRunOfAnother: nobody does anything for a client that is another operator's turn.
func TestRunOfAnother(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "ref,name,owner_email,route\nGYM,Gym,gus@gym.example,manager\n")
	c, err := b.Store.Client(t.Context(), "ref:GYM")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Managers.Activate(t.Context(), c.ID, provisioning.ActorCLI); err != nil {
		t.Fatal(err)
	}
	ann := b.operator(t)
	ben := b.signedIn(t, admin.NewOperator{Email: "ben@brightside.example", Name: "Ben", Role: admin.RoleOperator, Password: password})
	ann.post(t, "/admin/run/start", nil)
	ben.post(t, "/admin/run/start", nil)
	for _, button := range []string{"continue", "skip"} {
		ben.post(t, "/admin/run/"+button, url.Values{"client": {c.ID.String()}}).has(t, http.StatusConflict).
			says(t, "This client is not your turn any more", "Nobody else is ready")
	}
	b.isAt(t, "GYM", "started")
	ann.get(t, "/admin/run").says(t, "Gym", c.Username)
}
