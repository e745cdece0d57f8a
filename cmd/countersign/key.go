package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/provisioning"
)

func (p *program) keyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Manage the keys of the API"}
	var name, scopes, expires string
	create := &cobra.Command{
		Use:   "create --name NAME --scopes read,write",
		Short: "Make an API key and print it, this once, alone on the last line",
		Long: "Create makes an API key. Scopes: read (roster and progress), write (imports, invitations, changes),\n" +
			"links (fresh invitation URLs), tokens (grants), admin (operators and keys).",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			wanted, err := admin.ParseScopes(scopes)
			if err != nil {
				return err
			}
			end, err := admin.ParseExpiry(expires, time.Now())
			if err != nil {
				return err
			}
			return p.withAdmin(cmd.Context(), func(store *admin.Store) error {
				key, made, err := store.CreateKey(cmd.Context(), admin.NewKey{Name: name, Scopes: wanted, ExpiresAt: end}, provisioning.ActorCLI)
				if err != nil {
					return err
				}
				until := ""
				if made.ExpiresAt != nil {
					until = ", until " + localTime(made.ExpiresAt)
				}
				_, err = fmt.Fprintf(p.out, "Key %q with the scopes %s%s. It is shown only now:\n%s\n", made.Name, join(made.Scopes), until, key.Reveal())
				return err
			})
		},
	}
	create.Flags().StringVar(&name, "name", "", "what the key is for")
	create.Flags().StringVar(&scopes, "scopes", "", "what it may do, separated by commas")
	create.Flags().StringVar(&expires, "expires", "", "when it ends, such as 90d or 2027-01-31; by default it does not")
	for _, flag := range []string{"name", "scopes"} {
		if err := create.MarkFlagRequired(flag); err != nil {
			panic(err) // The flag is defined above.
		}
	}
	cmd.AddCommand(
		create,
		&cobra.Command{
			Use:   "list",
			Short: "List the keys, never their secrets",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return p.withAdmin(cmd.Context(), func(store *admin.Store) error {
					keys, err := store.Keys(cmd.Context())
					if err != nil {
						return err
					}
					return p.printKeys(keys)
				})
			},
		},
		&cobra.Command{
			Use:   "revoke NAME",
			Short: "Revoke the key of that name or id, at once",
			Args:  cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return p.withAdmin(cmd.Context(), func(store *admin.Store) error {
					if err := store.RevokeKey(cmd.Context(), args[0], provisioning.ActorCLI); err != nil {
						return err
					}
					_, err := fmt.Fprintf(p.out, "Key %q is revoked.\n", args[0])
					return err
				})
			},
		},
	)
	return cmd
}

func (p *program) printKeys(keys []admin.Key) error {
	if len(keys) == 0 {
		_, err := fmt.Fprintln(p.out, "There are no keys. Make one: countersign key create --name NAME --scopes read")
		return err
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	now := time.Now()
	fmt.Fprintln(w, "NAME\tSCOPES\tMADE\tBY\tLAST USED\tFROM\tEXPIRES\tREVOKED")
	for _, k := range keys {
		revoked, expires, used := "", localTime(k.ExpiresAt), localTime(k.UsedAt)
		if k.RevokedAt != nil {
			revoked = localTime(k.RevokedAt) + " by " + string(*k.RevokedBy)
		} else if !k.Works(now) {
			expires += " (expired)"
		}
		if k.Unused(now) {
			used += " (unused for 90 days)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			k.Name, join(k.Scopes), localTime(&k.CreatedAt), k.CreatedBy, used, k.UsedFrom, expires, revoked)
	}
	return w.Flush()
}

func join(scopes []admin.Scope) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, ",")
}
