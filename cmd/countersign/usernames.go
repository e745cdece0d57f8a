package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/roster"
)

func (p *program) usernamesCommand() *cobra.Command {
	var pattern, taken string
	var pairs []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "usernames",
		Short: "Preview the usernames that a pattern gives, or replace one that is taken",
		Long: "With --preview, usernames reads a roster file (- is standard input) and shows the username that every\n" +
			"client of it would get by a pattern, beside those that the roster has already. Nothing is changed.\n" +
			"A pattern is built of {local}, {slug}, {ref}, {n} and {domain}, such as {local}+{slug}@{domain}.\n\n" +
			"With --taken, it replaces a username that the provider refused because another account has it: the\n" +
			"client gets the next candidate, and the old one is kept in its history and never given again.",
		Example: "  countersign usernames --preview '{local}+{ref}@{domain}' clients.csv\n" +
			"  countersign usernames --taken agency+acme-bakery@agency.com",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case (pattern == "") == (taken == ""):
				return errors.New("say either --preview PATTERN FILE or --taken USERNAME")
			case pattern != "":
				return cobra.ExactArgs(1)(cmd, args)
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withApp(cmd.Context(), func(a *app) error {
				if a.importer == nil {
					return errNoMailbox
				}
				if taken != "" {
					return p.replaceUsername(cmd.Context(), a, taken, asJSON)
				}
				mapping, err := roster.ParseMapping(pairs)
				if err != nil {
					return err
				}
				return p.previewUsernames(cmd.Context(), a, pattern, args[0], mapping, asJSON)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&pattern, "preview", "", "show what this `pattern` would give the clients of a file")
	flags.StringVar(&taken, "taken", "", "replace this `username`, which the provider says somebody else has")
	flags.StringArrayVar(&pairs, "map", nil, "`field=column`, for a column whose header is not recognised; may be repeated")
	flags.BoolVar(&asJSON, "json", false, "print JSON; of a preview, one object a line")
	return cmd
}

// previewUsernames imports a file by another pattern and undoes it, so that what it shows is exact.
func (p *program) previewUsernames(
	ctx context.Context, a *app, pattern, path string, mapping map[roster.Field]string, asJSON bool,
) error {
	namer, err := a.config.newNamer(pattern)
	if err != nil {
		return err
	}
	importer := *a.importer
	importer.Namer, importer.Domains = namer, nil
	file, err := p.openRoster(ctx, path)
	if err != nil {
		return err
	}
	show := p.showUsername
	if asJSON {
		encoder := json.NewEncoder(p.out)
		show = func(row provisioning.PlannedRow) error { return encoder.Encode(row) }
	}
	bar := p.newBar("Reading", file.size)
	im, err := importer.Import(ctx, io.TeeReader(file, bar), provisioning.ImportOptions{
		FileName: file.name, Actor: provisioning.ActorCLI, Map: mapping, DryRun: true,
		EachRow: func(row provisioning.PlannedRow) error {
			bar.end()
			return show(row)
		},
	})
	bar.end()
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if im.Rejected > 0 {
		return exit(exitRejected)
	}
	return nil
}

func (p *program) showUsername(row provisioning.PlannedRow) error {
	username, note := row.Username, ""
	switch row.Verdict {
	case provisioning.VerdictCreated:
	case provisioning.VerdictUpdated, provisioning.VerdictUnchanged:
		note = " (has it already)"
	case provisioning.VerdictRejected:
		username, note = "–", fmt.Sprintf(" (rejected: %s)", row.Code)
	}
	_, err := fmt.Fprintf(p.out, "%7s  %-50s  %s%s\n", strconv.Itoa(row.Line), username, row.Name, note)
	return err
}

func (p *program) replaceUsername(ctx context.Context, a *app, taken string, asJSON bool) error {
	client, err := a.renamer.Taken(ctx, uuid.Nil, taken, provisioning.ActorCLI)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(p.out).Encode(map[string]string{"client": client.ID.String(), "name": client.Name, "username": client.Username})
	}
	_, err = fmt.Fprintf(p.out, "%s now has the username %s\n", client.Name, client.Username)
	return err
}
