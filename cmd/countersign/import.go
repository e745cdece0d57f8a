package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/provisioning"
)

func (p *program) importCommand() *cobra.Command {
	var o provisioning.ImportOptions
	var pairs []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Import a roster of clients from a CSV file",
		Long: "Import reads a roster file (- is standard input), one client a row. Columns are found by their names, in\n" +
			"any order and case; name and owner_email are needed, ref, owner_name, account_id, route, site_url,\n" +
			"locale, time_zone and tags are known, all others are kept. A file that is imported again changes nothing.\n\n" +
			"It exits with 0 if all rows were fine, with 3 if some were rejected, with 1 if it failed.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Map, err = provisioning.ParseMapping(pairs); err != nil {
				return err
			}
			o.Actor = provisioning.ActorCLI
			return p.withApp(cmd.Context(), func(a *app) error { return p.importFile(cmd.Context(), a, args[0], o, asJSON) })
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.DryRun, "dry-run", false, "tell what would happen and change nothing")
	flags.BoolVar(&o.Strict, "strict", false, "import nothing if a row is rejected")
	flags.BoolVar(&o.Invite, "invite", false, "queue an invitation for every client of the file that was not mailed before")
	flags.StringArrayVar(&pairs, "map", nil, "`field=column`, for a column whose header is not recognised; may be repeated")
	flags.BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	return cmd
}

var errNoMailbox = errors.New("set COUNTERSIGN_AGENCY_MAILBOX to the mailbox that usernames are made of, such as agency@example.com")

func (p *program) importFile(ctx context.Context, a *app, path string, o provisioning.ImportOptions, asJSON bool) error {
	if a.importer == nil {
		return errNoMailbox
	}
	file, size := p.in, int64(0)
	o.FileName = "standard input"
	if path != "-" {
		opened, err := os.Open(path)
		if err != nil {
			return err
		}
		defer opened.Close() //nolint:errcheck // It was only read.
		info, err := opened.Stat()
		if err != nil {
			return err
		}
		file, size, o.FileName = opened, info.Size(), filepath.Base(path)
	}
	bar := p.newBar("Reading", size)
	im, err := a.importer.Import(ctx, io.TeeReader(file, bar), o)
	bar.end()
	rejected := errors.Is(err, provisioning.ErrRejected)
	if err != nil && !rejected {
		return err
	}
	if asJSON {
		err = p.printImportJSON(im)
	} else {
		err = p.printImport(im, o, rejected)
	}
	if err == nil && im.Rejected > 0 {
		err = exit(exitRejected)
	}
	return err
}

func (p *program) printImportJSON(im provisioning.Import) error {
	out := json.NewEncoder(p.out)
	out.SetIndent("", "  ")
	return out.Encode(im)
}

func (p *program) printImport(im provisioning.Import, o provisioning.ImportOptions, refused bool) error {
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%d\trows\t\n%d\tcreated\t\n%d\tupdated\t\n%d\tunchanged\t\n%d\trejected\t\n",
		im.Rows, im.Created, im.Updated, im.Unchanged, im.Rejected)
	if im.Invited != nil {
		fmt.Fprintf(w, "%d\tinvitations queued\t\n", im.Invited.Queued)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range im.Rejects {
		where := fmt.Sprintf("line %d", r.Line)
		if r.Column != "" {
			where += ", " + r.Column
		}
		fmt.Fprintf(p.out, "\n%s (%s)\n  %s\n", where, r.Code, r.Message)
	}
	if more := im.Rejected - len(im.Rejects); more > 0 {
		fmt.Fprintf(p.out, "\n… and %d more.\n", more)
	}
	switch {
	case refused:
		fmt.Fprintln(p.out, "\nNothing was imported, because of --strict. Correct the rows and import again.")
	case o.DryRun:
		fmt.Fprintln(p.out, "\nThis was a dry run: nothing was changed.")
	case im.Rejected > 0:
		fmt.Fprintln(p.out, "\nCorrect the rejected rows and import the file again: the other rows stay as they are.")
	}
	return nil
}
