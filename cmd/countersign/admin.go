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
	"github.com/countersign/countersign/provisioning"
)

func (p *program) adminCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Manage the operators of the console"}
	var name string
	add := &cobra.Command{
		Use:   "add EMAIL",
		Short: "Add an operator; the password is asked for, or read from standard input",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withAdmin(cmd.Context(), func(store *admin.Store) error {
				password, err := p.readPassword()
				if err != nil {
					return err
				}
				if name == "" {
					name, _, _ = strings.Cut(args[0], "@")
				}
				o, err := store.CreateOperator(cmd.Context(), args[0], name, password)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(p.out, "%s can sign in now.\n", o.Email)
				return err
			})
		},
	}
	add.Flags().StringVar(&name, "name", "", "name that stands in the history; by default the part of the address before @")
	cmd.AddCommand(
		add,
		&cobra.Command{
			Use:   "list",
			Short: "List the operators",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return p.withAdmin(cmd.Context(), func(store *admin.Store) error { return p.listOperators(cmd.Context(), store) })
			},
		},
		&cobra.Command{
			Use:   "remove EMAIL",
			Short: "Remove an operator and end their sessions",
			Args:  cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return p.withAdmin(cmd.Context(), func(store *admin.Store) error {
					if err := store.RemoveOperator(cmd.Context(), args[0]); err != nil {
						return err
					}
					_, err := fmt.Fprintf(p.out, "%s is removed.\n", args[0])
					return err
				})
			},
		},
		&cobra.Command{
			Use:   "passwd EMAIL",
			Short: "Set an operator's password and end their sessions",
			Args:  cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return p.withAdmin(cmd.Context(), func(store *admin.Store) error {
					password, err := p.readPassword()
					if err != nil {
						return err
					}
					if err := store.SetPassword(cmd.Context(), args[0], password); err != nil {
						return err
					}
					_, err = fmt.Fprintf(p.out, "The password of %s is changed.\n", args[0])
					return err
				})
			},
		},
	)
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
	return errors.Join(do(admin.New(db.Pool)), db.Close(context.WithoutCancel(ctx)))
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
	fmt.Fprintln(w, "E-MAIL\tNAME\tADDED\tLAST SIGN-IN")
	for _, o := range operators {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", o.Email, o.Name, localTime(&o.CreatedAt), localTime(o.SignedInAt))
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
