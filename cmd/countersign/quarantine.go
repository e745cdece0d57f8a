package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/cmd/countersign/internal/web"
	"github.com/countersign/countersign/provisioning"
)

func (p *program) quarantineCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "List the grants of unexpected accounts, and decide on them",
		Long: "Quarantine lists the grants of accounts that are not, or not surely, those of the clients whose links were used.\n" +
			"They are sealed and unused until somebody accepts them, moves them to the clients that they belong to, or\n" +
			"discards them. The longest there come first.",
		Example: "  countersign quarantine\n" +
			"  countersign quarantine move 01a209d9-4d0d-71ad-8ed2-1d6e6d95c5d9 --client ACME-1",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withApp(cmd.Context(), func(a *app) error { return p.listQuarantine(cmd.Context(), a.grants, asJSON) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, the same as GET /api/v1/quarantine")

	accept := p.decisionCommand(func(ctx context.Context, a *app, id uuid.UUID) (string, error) {
		client, err := a.grants.Accept(ctx, id, provisioning.ActorCLI)
		if err != nil {
			return "", err
		}
		return authorized(ctx, a, client)
	})
	accept.Use, accept.Short = "accept ID", "Take the account that consented for the client's"
	accept.Long = "Accept gives the client the account id of the grant and authorizes it. Its links are spent, and its owner is told."

	discard := p.decisionCommand(func(ctx context.Context, a *app, id uuid.UUID) (string, error) {
		return "The grant is discarded. The client's link keeps working.", a.grants.Discard(ctx, id, provisioning.ActorCLI)
	})
	discard.Use, discard.Short = "discard ID", "Destroy the tokens of the grant"

	var to string
	move := p.decisionCommand(func(ctx context.Context, a *app, id uuid.UUID) (string, error) {
		c, err := findClient(ctx, a.store, to)
		if err != nil {
			return "", err
		}
		if err := a.grants.Move(ctx, id, c.ID, provisioning.ActorCLI); err != nil {
			return "", err
		}
		return authorized(ctx, a, c.ID)
	})
	move.Use, move.Short = "move ID --client REF", "Authorize another client with the grant: the one that the account belongs to"
	move.Long = "Move gives the grant to another client, which is authorized with it and learns its account id if it has none.\n" +
		"The client whose link was used stays where it is, until its own owner consents."
	move.Flags().StringVar(&to, "client", "", "the client with this `ref` or id")
	if err := move.MarkFlagRequired("client"); err != nil {
		panic(err) // The flag is defined above.
	}
	cmd.AddCommand(accept, move, discard)
	return cmd
}

// decisionCommand carries out a decision on the grant that is named, and says what came of it.
func (p *program) decisionCommand(decide func(ctx context.Context, a *app, id uuid.UUID) (string, error)) *cobra.Command {
	return &cobra.Command{
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return fmt.Errorf("%q is no id of a grant: countersign quarantine lists them", args[0])
			}
			return p.withApp(cmd.Context(), func(a *app) error {
				outcome, err := decide(cmd.Context(), a, id)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(p.out, outcome)
				return err
			})
		},
	}
}

func authorized(ctx context.Context, a *app, client uuid.UUID) (string, error) {
	c, err := a.store.Client(ctx, client.String())
	if err != nil {
		return "", err
	}
	return c.Name + " is authorized.", nil
}

func (p *program) listQuarantine(ctx context.Context, grants *grant.Store, asJSON bool) error {
	list := struct {
		Grants     []web.HeldGrant `json:"grants"`
		NextCursor *string         `json:"next_cursor"` // All are here.
	}{Grants: []web.HeldGrant{}}
	for cursor := ""; ; {
		page, next, err := grants.Quarantine(ctx, cursor, 0)
		if err != nil {
			return err
		}
		for _, h := range page {
			list.Grants = append(list.Grants, web.HeldInJSON(h))
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if asJSON {
		return json.NewEncoder(p.out).Encode(list)
	}
	if len(list.Grants) == 0 {
		fmt.Fprintln(p.out, "Nothing is in quarantine.")
	}
	for _, g := range list.Grants {
		p.printHeld(g)
	}
	return nil
}

func (p *program) printHeld(g web.HeldGrant) {
	expected := "not in the roster"
	if g.ExpectedAccountID != nil {
		expected = *g.ExpectedAccountID
	}
	fmt.Fprintf(p.out, "%s  since %s\n  client    %s\n  expected  %s, owner %s\n  found     %s, %q, contact %s\n  evidence  %s\n",
		g.ID, localTime(&g.At), named(g.Client), expected, g.OwnerEmail,
		g.Found.AccountID, g.Found.Organization, cmp.Or(g.Found.ContactEmail, "none"), g.Evidence)
	if g.BelongsTo != nil {
		fmt.Fprintf(p.out, "  belongs   to %s\n", named(*g.BelongsTo))
	}
	fmt.Fprintln(p.out)
}

func named(c web.HeldClient) string {
	if c.Ref == nil {
		return fmt.Sprintf("%s (%s)", c.Name, c.ID)
	}
	return fmt.Sprintf("%s (%s)", c.Name, *c.Ref)
}
