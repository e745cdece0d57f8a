package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/provisioning"
)

const watchInterval = time.Second

func (p *program) statusCommand() *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how far everyone is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withStore(cmd.Context(), func(store *provisioning.Store) error {
				return p.status(cmd.Context(), store, asJSON, watch)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, the same as GET /api/v1/progress")
	cmd.Flags().BoolVar(&watch, "watch", false, "show it anew every second until interrupted")
	return cmd
}

// withStore runs a command that only reads the roster.
func (p *program) withStore(ctx context.Context, do func(*provisioning.Store) error) error {
	c, err := loadConfig(p.envFile)
	if err != nil {
		return err
	}
	db, err := openDatabase(ctx, c, p.quietLogger())
	if err != nil {
		return err
	}
	return errors.Join(do(&provisioning.Store{DB: db.Pool}), db.Close(context.WithoutCancel(ctx)))
}

func (p *program) status(ctx context.Context, store *provisioning.Store, asJSON, watch bool) error {
	for {
		progress, err := store.Progress(ctx, time.Now())
		if err != nil {
			if watch && ctx.Err() != nil {
				return nil //nolint:nilerr // Ctrl-C is how a watch ends.
			}
			return err
		}
		var b strings.Builder
		if watch && !asJSON {
			b.WriteString("\x1b[H\x1b[2J") // The top of an empty screen.
		}
		if asJSON {
			err = json.NewEncoder(&b).Encode(progress)
		} else {
			printProgress(&b, progress)
		}
		if err != nil {
			return err
		}
		if _, err := io.WriteString(p.out, b.String()); err != nil || !watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchInterval):
		}
	}
}

func printProgress(w io.Writer, p provisioning.Progress) {
	if p.Total == 0 {
		fmt.Fprintln(w, "There are no clients yet. Import a roster: countersign import FILE")
		return
	}
	fmt.Fprintf(w, "%d of %d clients authorized (%.0f %%)\n\n", p.Stages[provisioning.StageAuthorized], p.Total, 100*p.AuthorizedRatio)
	for _, stage := range provisioning.Stages() {
		n := p.Stages[stage]
		fmt.Fprintf(w, "%-12s %7d  %s\n", stage, n, meter(float64(n)/float64(p.Total), barWidth))
	}
	if p.Stages[provisioning.StageStalled] > 0 {
		fmt.Fprintln(w, "\nStalled because")
		for _, reason := range provisioning.Reasons() {
			if n := p.Reasons[reason]; n > 0 {
				fmt.Fprintf(w, "  %-14s %5d\n", strings.ReplaceAll(string(reason), "_", " "), n)
			}
		}
	}
	if len(p.Routes) > 1 {
		fmt.Fprintln(w, "\nBy route")
		for _, route := range provisioning.Routes() {
			if way, used := p.Routes[route]; used {
				fmt.Fprintf(w, "  %-14s %5d of %d authorized\n", route, way.Stages[provisioning.StageAuthorized], way.Total)
			}
		}
	}
	if p.Paused > 0 {
		fmt.Fprintf(w, "\n%d paused\n", p.Paused)
	}
	if p.ETA != nil {
		fmt.Fprintf(w, "\nAt the pace of the last week all are authorized by %s.\n", p.ETA.Local().Format("2 January 2006"))
	}
}
