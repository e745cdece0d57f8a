package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/bulk"
	"github.com/countersign/countersign/provisioning/queue"
)

// bulkFlags say what is done, and to whom.
type bulkFlags struct {
	filter  filterFlags
	all     bool
	clients []string
	set     string
	owner   provisioning.Owner
	confirm int
	dryRun  bool
	asJSON  bool
}

func (p *program) bulkCommand() *cobra.Command {
	var f bulkFlags
	words := make([]string, 0, len(bulk.Actions()))
	for _, a := range bulk.Actions() {
		words = append(words, string(a))
	}
	cmd := &cobra.Command{
		Use:   "bulk ACTION",
		Short: "Do something to many clients at once",
		Long: "Bulk does one of these to every selected client: " + strings.Join(words, ", ") + ".\n" +
			"It fixes whom first, and then works batch by batch. If it is interrupted, a running countersign serve goes on\n" +
			"with the job; bulk stop ends it, and bulk undo takes back what can be taken back.",
		Example: "  countersign bulk pause --tag vip\n" +
			"  countersign bulk tag --set spring --import 0199b1c0-7d7e-7c3c-8a51-4a3f6f6d9b10\n" +
			"  countersign bulk delete --stage stalled --reason bounced --dry-run",
		ValidArgs: words,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withApp(cmd.Context(), func(a *app) error { return p.bulk(cmd.Context(), a, bulk.Action(args[0]), f) })
		},
	}
	flags := cmd.Flags()
	f.filter.add(cmd)
	flags.BoolVar(&f.all, "all", false, "all clients")
	flags.StringArrayVar(&f.clients, "client", nil, "the client with this `ref` or id; may be repeated")
	flags.StringVar(&f.set, "set", "", "for tag and untag: the `tag` to give or to take away")
	flags.StringVar(&f.owner.Name, "owner-name", "", "for owner: the new owner's name")
	flags.StringVar(&f.owner.Email, "owner-email", "", "for owner: the new owner's `address`")
	flags.IntVar(&f.confirm, "confirm", 0, "for delete: `how many` clients you expect, as --dry-run tells")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only count, and show ten of them")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	cmd.AddCommand(p.bulkListCommand(), p.bulkStopCommand(), p.bulkUndoCommand())
	return cmd
}

func (f *bulkFlags) order(ctx context.Context, a *app, action bulk.Action) (o bulk.Order, err error) {
	o = bulk.Order{Action: action, Tag: f.set, Owner: f.owner, Confirm: f.confirm}
	if o.Filter, err = f.filter.filter(); err != nil {
		return o, err
	}
	selections := 0
	for _, given := range []bool{f.clients != nil, o.Filter.Restricts(), f.all} {
		if given {
			selections++
		}
	}
	if selections != 1 {
		return o, errors.New("say whom, in one way: by --client, by filters such as --stage and --tag, or by --all")
	}
	if f.clients != nil {
		o.Clients, err = a.store.FindAll(ctx, f.clients)
	}
	return o, err
}

func (p *program) bulk(ctx context.Context, a *app, action bulk.Action, f bulkFlags) error {
	o, err := f.order(ctx, a, action)
	if err != nil {
		return err
	}
	jobs := a.bulk()
	if f.dryRun {
		preview, err := jobs.Preview(ctx, o)
		if err != nil {
			return err
		}
		return p.printPreview(action, preview, f.asJSON)
	}
	j, err := jobs.Start(ctx, o, provisioning.ActorCLI)
	if err != nil {
		return err
	}
	return p.workBulk(ctx, jobs, j, f.asJSON)
}

// workBulk does a job here, beside whoever else does it.
func (p *program) workBulk(ctx context.Context, jobs *bulk.Jobs, j bulk.Job, asJSON bool) error {
	bar := p.newBar(fmt.Sprintf("%d clients", j.Total), int64(j.Total))
	running := queue.Running{Job: queue.Job{Kind: bulk.JobBulk, Row: j.ID}}
	for ended := false; !ended; {
		var err error
		if ended, err = jobs.Step(ctx, running); err != nil {
			bar.end()
			return fmt.Errorf("job %s is not done; a running countersign serve goes on with it: %w", j.ID, err)
		}
		if j, err = jobs.Job(ctx, j.ID); err != nil {
			return err
		}
		bar.reach(int64(j.Done))
	}
	bar.end()
	return p.printBulk(j, asJSON)
}

func (p *program) printPreview(action bulk.Action, preview bulk.Preview, asJSON bool) error {
	names := make([]string, len(preview.Samples))
	for i, c := range preview.Samples {
		names[i] = c.Name
	}
	if asJSON {
		return json.NewEncoder(p.out).Encode(struct {
			Action  bulk.Action `json:"action"`
			Count   int         `json:"count"`
			Samples []string    `json:"samples"`
		}{action, preview.Count, names})
	}
	fmt.Fprintf(p.out, "%s: %d clients.\n", action, preview.Count)
	for _, name := range names {
		fmt.Fprintf(p.out, "  %s\n", name)
	}
	if more := preview.Count - len(names); more > 0 {
		fmt.Fprintf(p.out, "  and %d more\n", more)
	}
	return nil
}

// bulkJSON is a job as a program reads it.
type bulkJSON struct {
	ID         uuid.UUID          `json:"id"`
	Action     bulk.Action        `json:"action"`
	Actor      provisioning.Actor `json:"actor"`
	State      bulk.State         `json:"state"`
	Total      int                `json:"total"`
	Done       int                `json:"done"`
	Changed    int                `json:"changed"`
	Skipped    int                `json:"skipped"`
	SkippedWhy map[string]int     `json:"skipped_why"`
	CreatedAt  time.Time          `json:"created_at"`
	EndedAt    *time.Time         `json:"ended_at"`
	Undoable   bool               `json:"undoable"`
	UndoOf     *uuid.UUID         `json:"undo_of"`
}

func (p *program) printBulk(j bulk.Job, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(p.out).Encode(bulkJSON{
			j.ID, j.Action, j.Actor, j.State, j.Total, j.Done, j.Changed, j.Skipped, j.SkippedWhy, j.CreatedAt, j.EndedAt, j.Undoable, j.UndoOf,
		})
	}
	what := string(j.Action)
	if j.UndoOf != nil {
		what = "undo of " + what
	}
	fmt.Fprintf(p.out, "%s  %s, %s: %d of %d clients done, %d changed, %d left as they were.\n",
		j.ID, what, j.State, j.Done, j.Total, j.Changed, j.Skipped)
	for _, why := range slices.Sorted(maps.Keys(j.SkippedWhy)) {
		fmt.Fprintf(p.out, "  %-16s %d\n", why, j.SkippedWhy[why])
	}
	return nil
}

func (p *program) bulkListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the newest jobs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withApp(cmd.Context(), func(a *app) error {
				found, _, err := a.bulk().List(cmd.Context(), "", 0)
				if err != nil {
					return err
				}
				for _, j := range found {
					if err := p.printBulk(j, asJSON); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON a job")
	return cmd
}

func (p *program) bulkStopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop ID",
		Short: "Stop a job; what it has done stays done",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return fmt.Errorf("%q is no job's id: bulk list shows them", args[0])
			}
			return p.withApp(cmd.Context(), func(a *app) error {
				jobs := a.bulk()
				if err := jobs.Stop(cmd.Context(), id, provisioning.ActorCLI); err != nil {
					return err
				}
				j, err := jobs.Job(cmd.Context(), id)
				if err != nil {
					return err
				}
				return p.printBulk(j, false)
			})
		},
	}
}

func (p *program) bulkUndoCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "undo ID",
		Short: "Take back what a job has changed and nobody has changed since",
		Long: "Undo takes back what a job has changed and nobody has changed since. Mails that have gone out stay out, and\n" +
			"nobody is mailed by it; what was reminded, extended or deleted stays so.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := uuid.Parse(args[0])
			if err != nil {
				return fmt.Errorf("%q is no job's id: bulk list shows them", args[0])
			}
			return p.withApp(cmd.Context(), func(a *app) error {
				jobs := a.bulk()
				j, err := jobs.Undo(cmd.Context(), id, provisioning.ActorCLI)
				if err != nil {
					return err
				}
				return p.workBulk(cmd.Context(), jobs, j, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
