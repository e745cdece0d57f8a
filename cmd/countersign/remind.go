package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
)

func (p *program) remindCommand() *cobra.Command {
	var client, at string
	var now, skip, asJSON bool
	cmd := &cobra.Command{
		Use:   "remind --client REF",
		Short: "Show when an owner is reminded, or send, skip or plan the next reminder",
		Long: "Remind shows where a client's owner is in the row of reminders. With --now the next one goes out at once,\n" +
			"with --skip it is left out, and with --at it goes out at that time, be it in working hours or not.",
		Example: "  countersign remind --client ACME-1\n" +
			"  countersign remind --client ACME-1 --at 2026-11-30T09:30:00+01:00",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			wish := func(*app, uuid.UUID) error { return nil }
			switch {
			case now:
				wish = func(a *app, id uuid.UUID) error { return a.reminders.SendNow(cmd.Context(), id, provisioning.ActorCLI) }
			case skip:
				wish = func(a *app, id uuid.UUID) error { return a.reminders.Skip(cmd.Context(), id, provisioning.ActorCLI) }
			case at != "":
				when, err := time.Parse(time.RFC3339, at)
				if err != nil {
					return fmt.Errorf("--at: %q is no time such as 2026-11-30T09:30:00+01:00, with the zone at its end", at)
				}
				wish = func(a *app, id uuid.UUID) error {
					return a.reminders.Plan(cmd.Context(), id, when, provisioning.ActorCLI)
				}
			}
			return p.withApp(cmd.Context(), func(a *app) error {
				c, err := findClient(cmd.Context(), a.store, client)
				if err != nil {
					return err
				}
				if err := wish(a, c.ID); err != nil {
					return err
				}
				state, err := a.reminders.State(cmd.Context(), c.ID)
				if err != nil {
					return err
				}
				return p.printReminders(c, state, asJSON)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&client, "client", "", "the client with this `ref` or id")
	flags.BoolVar(&now, "now", false, "send the next reminder at once")
	flags.BoolVar(&skip, "skip", false, "leave the next reminder out")
	flags.StringVar(&at, "at", "", "send the next reminder at this `time`, as RFC 3339 has it")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("now", "skip", "at")
	if err := cmd.MarkFlagRequired("client"); err != nil {
		panic(err) // The flag is defined above.
	}
	return cmd
}

// findClient finds a client by its id, by "ref:" and its ref, or by its ref alone.
func findClient(ctx context.Context, store *provisioning.Store, key string) (provisioning.Client, error) {
	c, err := store.Client(ctx, key)
	if errors.Is(err, provisioning.ErrNotFound) {
		if c, err := store.Client(ctx, "ref:"+key); err == nil {
			return c, nil
		}
		return c, fmt.Errorf("no client has the ref or id %q", key)
	}
	return c, err
}

func (p *program) printReminders(c provisioning.Client, s notify.ReminderState, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(p.out).Encode(struct {
			Client    uuid.UUID          `json:"client"`
			Number    int                `json:"number"` // used up
			Of        int                `json:"of"`
			NextAt    *time.Time         `json:"next_at"`
			PlannedBy provisioning.Actor `json:"planned_by,omitempty"`
			Why       notify.Obstacle    `json:"why,omitempty"`
		}{c.ID, s.Number, s.Of, s.NextAt, s.PlannedBy, s.Why})
	}
	if s.NextAt == nil {
		_, err := fmt.Fprintf(p.out, "%s: no reminder is planned (%d of %d are used up): %s.\n", c.Name, s.Number, s.Of, s.Why.Words())
		return err
	}
	chosen := ""
	if s.PlannedBy != "" {
		chosen = fmt.Sprintf(", as the %s chose", s.PlannedBy)
	}
	_, err := fmt.Fprintf(p.out, "%s: reminder %d of %d goes out at %s%s.\n", c.Name, s.Number+1, s.Of, localTime(s.NextAt), chosen)
	return err
}
