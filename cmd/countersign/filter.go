package main

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/provisioning"
)

// filterFlags are the flags that select clients.
type filterFlags struct {
	stage, reason, route, tag, query, imported, paused, from, until string
}

func (f *filterFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.stage, "stage", "", "only clients in this stage")
	flags.StringVar(&f.reason, "reason", "", "only clients that are stalled for this reason")
	flags.StringVar(&f.route, "route", "", "only clients that are authorized by this route")
	flags.StringVar(&f.tag, "tag", "", "only clients with this tag")
	flags.StringVar(&f.query, "q", "", "only clients found by these `words`")
	flags.StringVar(&f.imported, "import", "", "only clients that the import with this `id` created or changed")
	flags.StringVar(&f.paused, "paused", "", "only clients that are paused, or not: `yes` or no")
	flags.StringVar(&f.from, "from", "", "only clients whose stage changed at this `time` or later, such as 2026-11-30 or 2026-11-30T09:30:00+01:00")
	flags.StringVar(&f.until, "until", "", "only clients whose stage changed before this `time`")
}

// filter reads the flags.
func (f *filterFlags) filter() (filter provisioning.Filter, err error) {
	filter.Tag, filter.Query = f.tag, f.query
	if f.stage != "" {
		if filter.Stage, err = provisioning.ParseStage(f.stage); err != nil {
			return filter, err
		}
	}
	if f.reason != "" {
		if filter.Reason, err = provisioning.ParseReason(f.reason); err != nil {
			return filter, err
		}
	}
	if f.route != "" {
		if filter.Route, err = provisioning.ParseRoute(f.route); err != nil {
			return filter, err
		}
	}
	if f.imported != "" {
		if filter.Import, err = uuid.Parse(f.imported); err != nil {
			return filter, fmt.Errorf("--import: %q is no import's id: the console and GET /api/v1/imports show them", f.imported)
		}
	}
	switch f.paused {
	case "":
	case "yes", "no":
		paused := f.paused == "yes"
		filter.Paused = &paused
	default:
		return filter, fmt.Errorf("--paused: %q is neither yes nor no", f.paused)
	}
	if filter.From, err = parseMoment("--from", f.from); err != nil {
		return filter, err
	}
	filter.Until, err = parseMoment("--until", f.until)
	return filter, err
}

// parseMoment reads a time, or a day, which begins at midnight here; empty is the zero time.
func parseMoment(flag, typed string) (time.Time, error) {
	if typed == "" {
		return time.Time{}, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, typed, time.Local); err == nil {
		return day, nil
	}
	at, err := time.Parse(time.RFC3339, typed)
	if err != nil {
		return at, fmt.Errorf("%s: %q is no time such as 2026-11-30 or 2026-11-30T09:30:00+01:00, with the zone at its end", flag, typed)
	}
	return at, nil
}
