package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/cmd/countersign/internal/web"
)

func (p *program) providerCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "provider",
		Short: "Show what is left of the provider's limits, and how grants are kept alive",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withApp(cmd.Context(), func(a *app) error {
				standing, err := a.web().ProviderStanding(cmd.Context())
				switch {
				case err != nil:
					return err
				case asJSON:
					return json.NewEncoder(p.out).Encode(standing)
				}
				p.printBudget("calls", standing.Calls)
				p.printBudget("token requests", standing.TokenRequests)
				p.printKeeping(standing.Keeping)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, the same as GET /api/v1/provider")
	return cmd
}

func (p *program) printBudget(what string, b web.ProviderBudget) {
	switch {
	case b.PerSecond == 0:
		fmt.Fprintf(p.out, "No limit is set for %s, so that they are not counted.\n", what)
		return
	case b.Left == nil:
		fmt.Fprintf(p.out, "%d %s today (UTC), at most %d a second\n", b.Used, what, b.PerSecond)
	default:
		fmt.Fprintf(p.out, "%d of %d %s left today (UTC), %d of them kept for owners who consent; at most %d a second\n%s\n",
			*b.Left, *b.PerDay, what, b.Kept, b.PerSecond, meter(min(1, float64(b.Used)/float64(*b.PerDay)), barWidth))
	}
	if b.Throttled > 0 {
		fmt.Fprintf(p.out, "The provider said %d times that it was too much.\n", b.Throttled)
	}
	if b.Hold != nil {
		fmt.Fprintf(p.out, "They wait until %s: %s.\n", localTime(&b.Hold.Until), holdInWords(b.Hold.Why))
	}
}

func holdInWords(why string) string {
	switch why {
	case "throttled":
		return "the provider had too many at once"
	case "quota_exceeded":
		return "the provider says that those of today are used up"
	case "day_used":
		return "those of today are used up"
	case "share_used":
		return "the rest of today's are kept for owners who consent"
	}
	return why
}

func (p *program) printKeeping(k web.Keeping) {
	fmt.Fprintf(p.out, "\n%7d  grants wait to be refreshed", k.Due)
	switch {
	case k.DoneAt != nil:
		fmt.Fprintf(p.out, ", all done by about %s", localTime(k.DoneAt))
	case k.Due == 0 && k.NextAt != nil:
		fmt.Fprintf(p.out, "; the next one is due %s", localTime(k.NextAt))
	}
	fmt.Fprintf(p.out, "\n%7d  are refused by the provider and tried again\n%7d  are in quarantine\n", k.Doubted, k.Quarantine)
	if len(k.Refreshes) > 0 {
		fmt.Fprintln(p.out, "\nRefreshes of the last 24 hours")
		for _, outcome := range slices.Sorted(maps.Keys(k.Refreshes)) {
			fmt.Fprintf(p.out, "%7d  %s\n", k.Refreshes[outcome], outcome)
		}
	}
	if k.AppRefused != nil {
		fmt.Fprintf(p.out, "\nThe provider refuses this app since %s: check %sOAUTH_CLIENT_ID and %sOAUTH_CLIENT_SECRET.\n%s\n",
			localTime(&k.AppRefused.Since), prefix, prefix, k.AppRefused.Why)
	}
	if k.Frozen != nil {
		fmt.Fprintf(p.out, "\nMany grants are refused at once since %s, which looks like an outage: until it is over, no client is taken for lapsed that has not been refused for a week.\n%s\n",
			localTime(&k.Frozen.Since), k.Frozen.Why)
	}
	if len(k.Doubtful) > 0 {
		fmt.Fprintln(p.out, "\nRefused and tried again")
	}
	for _, d := range k.Doubtful {
		next := "under way"
		if d.NextAt != nil {
			next = localTime(d.NextAt)
		}
		fmt.Fprintf(p.out, "  %s  since %s, %d times, next try %s\n", d.ClientName, localTime(&d.Since), d.Refusals, next)
	}
}
