package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
)

// listedAPage is how many lines are read at once, however many are asked for.
const listedAPage = 500

func (p *program) mailQueueCommand() *cobra.Command {
	var show string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "List mails that wait, are put off or were given up",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pile, err := notify.ParsePile(show)
			if err != nil {
				return fmt.Errorf("--show %s: %w", show, err)
			}
			return p.withApp(cmd.Context(), func(a *app) error {
				items, more, err := gather(limit, func(cursor string, limit int) ([]notify.Item, string, error) {
					return a.mailer.Pile(cmd.Context(), pile, cursor, limit)
				})
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(p.out).Encode(map[string]any{"mails": mailsInJSON(items)})
				}
				return p.printMails(items, more)
			})
		},
	}
	cmd.Flags().StringVar(&show, "show", string(notify.PileWaiting), "waiting, delayed (put off, or perhaps sent) or failed (given up)")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many at most")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with mails as GET /api/v1/mail/queue has them")
	return cmd
}

// gather reads page after page until there are as many as asked for, and tells whether there are more.
func gather[T any](most int, read func(cursor string, limit int) ([]T, string, error)) (all []T, more bool, err error) {
	cursor := ""
	for len(all) < most {
		page, next, err := read(cursor, min(most-len(all), listedAPage))
		if err != nil {
			return nil, false, err
		}
		if all, cursor = append(all, page...), next; next == "" {
			return all, false, nil
		}
	}
	return all, true, nil
}

// queuedMail is a mail as GET /api/v1/mail/queue has it.
type queuedMail struct {
	ID         uuid.UUID    `json:"id"`
	ClientID   *uuid.UUID   `json:"client_id"`
	ClientName string       `json:"client_name"`
	Kind       string       `json:"kind"`
	Number     int          `json:"number"`
	State      notify.State `json:"state"`
	To         string       `json:"to"`
	At         time.Time    `json:"at"`
	Attempts   int          `json:"attempts"`
	Cause      notify.Cause `json:"cause"`
	Cure       string       `json:"cure"`
	Said       *string      `json:"said"`
	Over       bool         `json:"over"`
}

func mailsInJSON(items []notify.Item) []queuedMail {
	mails := []queuedMail{}
	for _, i := range items {
		mails = append(mails, queuedMail{
			ID: i.ID, ClientID: i.ClientID, ClientName: i.ClientName, Kind: string(i.Kind), Number: i.Number, State: i.State,
			To: i.ToAddress, At: i.At, Attempts: i.Attempts, Cause: i.Cause(), Cure: i.Cure(), Said: i.Said, Over: i.Over,
		})
	}
	return mails
}

func (p *program) printMails(items []notify.Item, more bool) error {
	if len(items) == 0 {
		_, err := fmt.Fprintln(p.out, "No such mail.")
		return err
	}
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "STATE\tWHEN\tCLIENT\tTO\tMAIL\tWHY")
	for _, i := range items {
		why := ""
		if cause := i.Cause(); cause != "" {
			why = cause.Words()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", i.State, localTime(&i.At), i.ClientName, i.ToAddress, i.Kind, why)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return p.tellMore(more)
}

func (p *program) tellMore(more bool) error {
	if !more {
		return nil
	}
	_, err := fmt.Fprintln(p.out, "There are more: see --limit.")
	return err
}

func (p *program) mailHurryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hurry",
		Short: "Try all mails that are put off at once",
		Long:  "Hurry has every mail that was refused for now tried at once, when what kept it has been mended. A running\nservice sends them.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withApp(cmd.Context(), func(a *app) error {
				n, err := a.mailer.Hurry(cmd.Context(), provisioning.ActorCLI)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(p.out, "%d mails are tried again at once.\n", n)
				return err
			})
		},
	}
}

func (p *program) mailSuppressedCommand() *cobra.Command {
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "suppressed",
		Short: "List who is mailed no more, and why",
		Long: "Suppressed lists the clients whose owner wants no mail and those whose address takes none, the newest first.\n" +
			"The first are let back in by countersign mail let-in, the second by another address.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withApp(cmd.Context(), func(a *app) error {
				clients, more, err := gather(limit, func(cursor string, limit int) ([]provisioning.Suppressed, string, error) {
					return a.store.Suppressed(cmd.Context(), cursor, limit)
				})
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(p.out).Encode(map[string]any{"clients": suppressedInJSON(clients)})
				}
				return p.printSuppressed(clients, more)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "how many at most")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with clients as GET /api/v1/mail/suppressed has them")
	return cmd
}

// suppressedClient is a client as GET /api/v1/mail/suppressed has it.
type suppressedClient struct {
	ClientID   uuid.UUID              `json:"client_id"`
	Ref        *string                `json:"ref"`
	Name       string                 `json:"name"`
	OwnerEmail string                 `json:"owner_email"`
	At         time.Time              `json:"at"`
	Why        string                 `json:"why"`
	Event      provisioning.EventKind `json:"event"`
}

func suppressedInJSON(clients []provisioning.Suppressed) []suppressedClient {
	list := []suppressedClient{}
	for _, s := range clients {
		list = append(list, suppressedClient{s.ClientID, s.Ref, s.Name, s.Owner.Email, s.At, s.Why(), s.Event})
	}
	return list
}

func (p *program) printSuppressed(clients []provisioning.Suppressed, more bool) error {
	if len(clients) == 0 {
		_, err := fmt.Fprintln(p.out, "Everybody may be mailed.")
		return err
	}
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WHY\tSINCE\tREF\tCLIENT\tOWNER")
	for _, s := range clients {
		ref := ""
		if s.Ref != nil {
			ref = *s.Ref
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", s.Why(), localTime(&s.At), ref, s.Name, s.Owner.Email)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return p.tellMore(more)
}

func (p *program) mailLetInCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "let-in CLIENT",
		Short: "Lift the word of a client's owner that they want no mail",
		Long: "Let-in takes back that the owner of a client, named by its ref or id, wants no mail. Do it only if they\n" +
			"told you since that they want mail after all: who is mailed against their word may report you.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withApp(cmd.Context(), func(a *app) error {
				client, err := findClient(cmd.Context(), a.store, args[0])
				if err != nil {
					return err
				}
				if err := provisioning.OptIn(cmd.Context(), a.db.Pool, client.ID, provisioning.ActorCLI); err != nil {
					return err
				}
				_, err = fmt.Fprintf(p.out, "%s may be mailed again.\n", client.Name)
				return err
			})
		},
	}
}
