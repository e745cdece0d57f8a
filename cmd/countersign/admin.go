package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/migrations/postgres"
	"github.com/countersign/countersign/provisioning"
)

func (p *program) adminCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Manage the operators of the console"}
	cmd.AddCommand(
		p.addOperatorCommand(),
		p.inviteOperatorCommand(),
		&cobra.Command{
			Use:   "list",
			Short: "List the operators",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return p.withAdmin(cmd.Context(), func(store *admin.Store) error { return p.listOperators(cmd.Context(), store) })
			},
		},
		p.operatorCommand("remove EMAIL", "Remove an operator and end their sessions",
			func(ctx context.Context, store *admin.Store, email string) (string, error) {
				return email + " is removed.", store.RemoveOperator(ctx, email, provisioning.ActorCLI)
			}),
		p.operatorCommand("passwd EMAIL", "Set an operator's password and end their sessions",
			func(ctx context.Context, store *admin.Store, email string) (string, error) {
				password, err := p.readPassword()
				if err != nil {
					return "", err
				}
				return "The password of " + email + " is changed.", store.SetPassword(ctx, email, password, provisioning.ActorCLI)
			}),
		p.setRoleCommand(),
		p.operatorCommand("sign-in-link EMAIL", "Print a link that signs an operator in, once, within a day",
			func(ctx context.Context, store *admin.Store, email string) (string, error) {
				token, err := store.SignInLink(ctx, email, provisioning.ActorCLI)
				return store.URL(token), err
			}),
		p.operatorCommand("reset-2fa EMAIL", "Switch off the second factor of an operator who has lost it",
			func(ctx context.Context, store *admin.Store, email string) (string, error) {
				return email + " signs in by the password alone now.", store.ResetSecondFactor(ctx, email, provisioning.ActorCLI)
			}),
	)
	return cmd
}

// operatorCommand is a command on one operator, who may also be given by id. It prints what do returns.
func (p *program) operatorCommand(
	use, short string, do func(ctx context.Context, store *admin.Store, email string) (string, error),
) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withAdmin(cmd.Context(), func(store *admin.Store) error {
				done, err := do(cmd.Context(), store, args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(p.out, done)
				return err
			})
		},
	}
}

const rolesInWords = "owner (everything), operator (imports, invites, changes clients) or viewer (looks)"

func (p *program) addOperatorCommand() *cobra.Command {
	var name, role string
	cmd := p.operatorCommand("add EMAIL", "Add an operator; the password is asked for, or read from standard input",
		func(ctx context.Context, store *admin.Store, email string) (string, error) {
			parsed, err := admin.ParseRole(role)
			if err != nil {
				return "", err
			}
			password, err := p.readPassword()
			if err != nil {
				return "", err
			}
			if name == "" {
				name, _, _ = strings.Cut(email, "@")
			}
			n := admin.NewOperator{Email: email, Name: name, Role: parsed, Password: password}
			o, err := store.CreateOperator(ctx, n, provisioning.ActorCLI)
			return o.Email + " can sign in now.", err
		})
	cmd.Flags().StringVar(&name, "name", "", "name that stands in the history; by default the part of the address before @")
	cmd.Flags().StringVar(&role, "role", string(admin.RoleOwner), "what they may do: "+rolesInWords)
	return cmd
}

func (p *program) setRoleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "role EMAIL ROLE",
		Short: "Give an operator another role",
		Long:  "Role gives an operator the role " + rolesInWords + ".",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withAdmin(cmd.Context(), func(store *admin.Store) error {
				o, err := store.SetRole(cmd.Context(), args[0], admin.Role(args[1]), provisioning.ActorCLI)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(p.out, "%s has the role %s.\n", o.Email, o.Role)
				return err
			})
		},
	}
}

func (p *program) inviteOperatorCommand() *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:   "invite EMAIL",
		Short: "Invite somebody to be an operator: by mail, or by a link to hand over",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withApp(cmd.Context(), func(a *app) error {
				invited, err := a.admin.Invite(cmd.Context(), args[0], admin.Role(role), provisioning.ActorCLI)
				if err != nil {
					return err
				}
				until := localTime(&invited.ExpiresAt)
				if invited.Link == "" {
					_, err = fmt.Fprintf(p.out, "A mail to %s is queued; a running countersign serve sends it. Its link works once, until %s.\n", invited.Email, until)
				} else {
					_, err = fmt.Fprintf(p.out, "There is no mail server: hand this link over to %s. It works once, until %s.\n%s\n", invited.Email, until, invited.Link)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&role, "role", string(admin.RoleOperator), "what they may do: "+rolesInWords)
	return cmd
}

// withAdmin runs a command on operators and keys.
func (p *program) withAdmin(ctx context.Context, do func(*admin.Store) error) error {
	c, err := loadConfig(p.envFile)
	if err != nil {
		return err
	}
	db, err := openDatabase(ctx, c, p.quietLogger())
	if err != nil {
		return err
	}
	return errors.Join(do(newAdmin(db, c)), db.Close(context.WithoutCancel(ctx)))
}

func newAdmin(db *postgres.Database, c config) *admin.Store {
	store := admin.New(db.Pool)
	store.PublicURL = c.PublicURL
	return store
}

// readPassword asks twice on a terminal, unseen; from anything else it reads the first line.
func (p *program) readPassword() (provisioning.Secret, error) {
	f, ok := p.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		line, err := bufio.NewReader(p.in).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return provisioning.Secret(strings.TrimRight(line, "\r\n")), nil
	}
	var typed [2]string
	for i, prompt := range []string{"Password: ", "Once more: "} {
		fmt.Fprint(p.err, prompt)
		line, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(p.err)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		typed[i] = string(line)
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords differ: try again")
	}
	return provisioning.Secret(typed[0]), nil
}

func (p *program) listOperators(ctx context.Context, store *admin.Store) error {
	operators, err := store.Operators(ctx)
	if err != nil {
		return err
	}
	if len(operators) == 0 {
		_, err := fmt.Fprintln(p.out, "There is no operator yet. countersign serve prints a link to set up the first one; or: countersign admin add EMAIL")
		return err
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "E-MAIL\tNAME\tROLE\tSECOND FACTOR\tADDED\tLAST SIGN-IN")
	for _, o := range operators {
		factor := "off"
		if o.SecondFactor {
			factor = "on"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", o.Email, o.Name, o.Role, factor, localTime(&o.CreatedAt), localTime(o.SignedInAt))
	}
	return w.Flush()
}

// localTime writes a time in the reader's zone.
func localTime(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04")
}
