package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/provisioning"
)

func (p *program) inviteCommand() *cobra.Command {
	var sel provisioning.Selection
	var stage string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "invite",
		Short: "Queue invitation mails",
		Long: "Invite queues one mail for every selected client; a running countersign serve sends them. Without a\n" +
			"selection it takes the clients that were imported and not mailed yet. Clients named by --client are mailed\n" +
			"again even if they were before, or said no: naming them is your decision.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if stage != "" {
				var err error
				if sel.Stage, err = provisioning.ParseStage(stage); err != nil {
					return err
				}
			}
			return p.withApp(cmd.Context(), func(a *app) error {
				invited, err := a.inviter.Invite(cmd.Context(), sel, provisioning.ActorCLI, dryRun)
				if err != nil {
					return err
				}
				return p.printInvited(invited, dryRun)
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&sel.All, "all", false, "everybody who may be mailed and was not yet")
	flags.StringVar(&stage, "stage", "", "only clients in this stage")
	flags.StringVar(&sel.Tag, "tag", "", "only clients with this tag")
	flags.StringArrayVar(&sel.Clients, "client", nil, "the client with this `ref` or id; may be repeated")
	flags.BoolVar(&dryRun, "dry-run", false, "only count")
	return cmd
}

func (p *program) printInvited(in provisioning.Invited, dryRun bool) error {
	verb := "queued"
	if dryRun {
		verb = "would be queued"
	}
	fmt.Fprintf(p.out, "%d of %d selected clients: invitation %s.\n", in.Queued, in.Matched, verb)
	for _, reason := range slices.Sorted(maps.Keys(in.Skipped)) {
		fmt.Fprintf(p.out, "%d skipped: %s\n", in.Skipped[reason], skipInWords(reason))
	}
	if in.Matched == 0 {
		fmt.Fprintln(p.out, "Nobody matches. countersign status shows who is in which stage.")
	}
	return nil
}

func skipInWords(r provisioning.SkipReason) string {
	switch r {
	case provisioning.SkipPaused:
		return "paused"
	case provisioning.SkipAuthorized:
		return "authorized already"
	case provisioning.SkipRoute:
		return "not authorized by the owner's link (another route)"
	case provisioning.SkipQueued:
		return "a mail is on its way already"
	case provisioning.SkipInvited:
		return "mailed before (name them with --client, or take --stage invited, to mail again)"
	case provisioning.SkipGone, provisioning.SkipUnchanged, provisioning.SkipSince: // Inviting never says so.
	}
	return "stalled: " + strings.ReplaceAll(string(r), "_", " ") + " (name them with --client to mail all the same)"
}
