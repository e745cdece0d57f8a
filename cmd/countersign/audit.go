package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/migrations/postgres"
	"github.com/countersign/countersign/provisioning/audit"
)

func (p *program) auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Read and verify the trail of what operators, keys and this command line changed"}
	cmd.AddCommand(p.auditVerifyCommand(), p.auditListCommand())
	return cmd
}

func (p *program) auditVerifyCommand() *cobra.Command {
	var noted string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify that no entry of the audit trail was changed or removed",
		Long: "Verify computes the chain of the whole audit trail anew, and names the first entry that does not fit. It prints\n" +
			"the head of the trail: its newest entry and that one's hash.\n\n" +
			"Whoever owns the database can rewrite the whole trail so that it fits. Note the head from time to time where they\n" +
			"cannot write, and give it with --head later: what was recorded up to it cannot have changed then.\n\n" +
			"It exits with 1 if something does not fit.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var head *audit.Head
			if noted != "" {
				h, err := audit.ParseHead(noted)
				if err != nil {
					return fmt.Errorf("--head: %w", err)
				}
				head = &h
			}
			return p.withTrail(cmd.Context(), func(trail *audit.Store) error {
				v, err := p.verify(cmd.Context(), trail, head)
				if err != nil {
					return err
				}
				return p.reportVerdict(v, head, asJSON)
			})
		},
	}
	cmd.Flags().StringVar(&noted, "head", "", "a head that was noted before, as this command printed it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (p *program) verify(ctx context.Context, trail *audit.Store, head *audit.Head) (audit.Verdict, error) {
	bar := p.newBar("Verifying", 0)
	bar.unit = "entries"
	defer bar.end()
	return trail.Verify(ctx, head, func(done, total int64) {
		bar.total = total
		bar.reach(done)
	})
}

func (p *program) reportVerdict(v audit.Verdict, noted *audit.Head, asJSON bool) error {
	switch {
	case asJSON:
		if err := json.NewEncoder(p.out).Encode(v); err != nil {
			return err
		}
	case v.Broken != nil:
		fmt.Fprintf(p.out, "Entry %d does not fit. %s\n%d entries before it fit. Somebody has written to the database around Countersign:\n"+
			"compare it with a backup, and find out who else can sign in there.\n", v.Broken.ID, v.Broken.Why, v.Entries)
	default:
		fmt.Fprintf(p.out, "All %d entries fit.\nThe head is %s\n", v.Entries, v.Head)
		if noted == nil {
			fmt.Fprintln(p.out, "Note it where whoever runs the database cannot write, for: countersign audit verify --head")
		}
	}
	if v.Broken != nil {
		return exit(exitFailed)
	}
	return nil
}

// auditLine is what audit list --json prints a line of.
type auditLine struct {
	ID     int64           `json:"id"`
	At     time.Time       `json:"at"`
	Actor  string          `json:"actor"`
	Action string          `json:"action"`
	Object string          `json:"object"`
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

func (p *program) auditListCommand() *cobra.Command {
	var f audit.Filter
	var from, until string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List who changed what, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var badFrom, badUntil error
			f.From, badFrom = parseMoment("--from", from)
			f.Until, badUntil = parseMoment("--until", until)
			if err := errors.Join(badFrom, badUntil); err != nil {
				return err
			}
			return p.withTrail(cmd.Context(), func(trail *audit.Store) error { return p.listTrail(cmd.Context(), trail, f, asJSON) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Actor, "actor", "", `only what they did, such as "operator ann@agency.com", "key app" or "command line"`)
	flags.StringVar(&f.Action, "action", "", "only this, such as client.pause, or client for all that begin so")
	flags.StringVar(&f.Object, "object", "", `only what was done to it, such as "client ID"`)
	flags.StringVar(&from, "from", "", "only from this day or time on, such as 2026-11-30 or 2026-11-30T09:30:00+01:00")
	flags.StringVar(&until, "until", "", "only before this day or time")
	flags.IntVar(&f.Limit, "limit", 0, "how many entries at most; 0 for all")
	flags.BoolVar(&asJSON, "json", false, "print a JSON object a line, with what it was before and after")
	return cmd
}

// listTrail prints the trail page by page, so that memory does not grow with it.
func (p *program) listTrail(ctx context.Context, trail *audit.Store, f audit.Filter, asJSON bool) error {
	const page = 500
	lines := json.NewEncoder(p.out)
	table := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(table, "NO.\tAT\tACTOR\tACTION\tOBJECT")
	}
	for left, all := f.Limit, f.Limit == 0; all || left > 0; left -= page {
		if f.Limit = page; !all {
			f.Limit = min(left, page)
		}
		found, next, err := trail.List(ctx, f)
		if err != nil {
			return err
		}
		for _, l := range found {
			if !asJSON {
				fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", l.ID, l.At.UTC().Format(time.RFC3339), l.Actor, l.Action, l.Object)
				continue
			}
			if err := lines.Encode(auditLine{l.ID, l.At, l.Actor, l.Action, l.Object, l.Before, l.After}); err != nil {
				return err
			}
		}
		if err := table.Flush(); err != nil {
			return err
		}
		if f.Cursor = next; next == "" {
			return nil
		}
	}
	return nil
}

// withTrail runs a command that only reads the audit trail.
func (p *program) withTrail(ctx context.Context, do func(*audit.Store) error) error {
	return p.withDatabase(ctx, func(_ config, db *postgres.Database) error { return do(&audit.Store{DB: db.Pool}) })
}
