package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/roster"
)

func (p *program) importCommand() *cobra.Command {
	var o provisioning.ImportOptions
	var pairs []string
	var planPath string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Import a roster of clients from a CSV file or an Excel workbook",
		Long: "Import reads a roster file (- is standard input), one client a row. Columns are found by their names, in\n" +
			"any order and case; name and owner_email are needed, ref, owner_name, account_id, route, site_url,\n" +
			"locale, time_zone and tags are known, all others are kept. A file that is imported again changes nothing.\n\n" +
			"With --dry-run it shows the plan: what would be created, what would change from what to what, what would\n" +
			"be rejected and why. With --plan the whole plan is written to a file, row by row.\n\n" +
			"It exits with 0 if all rows were fine, with 3 if some were rejected, with 1 if it failed.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Map, err = roster.ParseMapping(pairs); err != nil {
				return err
			}
			o.Actor = provisioning.ActorCLI
			return p.withApp(cmd.Context(), func(a *app) error {
				if planPath == "" {
					return p.importFile(cmd.Context(), a, args[0], o, asJSON)
				}
				return writePlan(planPath, func(write func(provisioning.PlannedRow) error) error {
					o.EachRow = write
					return p.importFile(cmd.Context(), a, args[0], o, asJSON)
				})
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.DryRun, "dry-run", false, "tell what would happen and change nothing")
	flags.BoolVar(&o.Strict, "strict", false, "import nothing if a row is rejected")
	flags.BoolVar(&o.Invite, "invite", false, "queue an invitation for every client of the file that was not mailed before")
	flags.StringArrayVar(&pairs, "map", nil, "`field=column`, for a column whose header is not recognised; may be repeated")
	flags.StringVar(&planPath, "plan", "", "write what happens to every row of the file to this CSV `file`")
	flags.BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	return cmd
}

// writePlan hands a function to do that writes rows of a plan to a CSV file, safe to open in a spreadsheet.
func writePlan(path string, do func(write func(provisioning.PlannedRow) error) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	out := csv.NewWriter(file)
	write := func(record ...string) error {
		for i, cell := range record {
			record[i] = roster.NeutralizeFormula(cell)
		}
		return out.Write(record)
	}
	err = write("line", "verdict", "ref", "name", "username", "changes", "code", "message")
	if err == nil {
		err = do(func(r provisioning.PlannedRow) error {
			return write(strconv.Itoa(r.Line), string(r.Verdict), r.Ref, r.Name, r.Username, changesInWords(r), string(r.Code), r.Message)
		})
	}
	out.Flush()
	return errors.Join(err, out.Error(), file.Close())
}

// changesInWords lists what an updated row changes, in the order of the fields' names.
func changesInWords(r provisioning.PlannedRow) string {
	var changes []string
	for field, revision := range r.Changes {
		changes = append(changes, fmt.Sprintf("%s: %s → %s", field, valueInWords(revision.From), valueInWords(revision.To)))
	}
	slices.Sort(changes)
	return strings.Join(changes, "; ")
}

func valueInWords(value any) string {
	if value == nil || value == "" {
		return "(empty)"
	}
	if text, ok := value.(string); ok {
		return text
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(encoded)
}

var errNoMailbox = errors.New("set COUNTERSIGN_AGENCY_MAILBOX to the mailbox that usernames are made of, such as agency@example.com")

func (p *program) importFile(ctx context.Context, a *app, path string, o provisioning.ImportOptions, asJSON bool) error {
	if a.importer == nil {
		return errNoMailbox
	}
	file, err := p.openRoster(ctx, path)
	if err != nil {
		return err
	}
	o.FileName = file.name
	bar := p.newBar("Reading", file.size)
	o.Bytes = bar
	o.Read = func(rows int) { bar.say(fmt.Sprintf("Comparing and writing %d rows …", rows)) }
	im, err := a.importer.Import(ctx, file, o)
	bar.end()
	err = errors.Join(err, file.Close())
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

// rosterFile is a file that a command reads, or standard input.
type rosterFile struct {
	io.ReadCloser

	name string
	size int64 // 0 if unknown
}

func (p *program) openRoster(ctx context.Context, path string) (*rosterFile, error) {
	if path == "-" {
		return &rosterFile{ReadCloser: interruptible(ctx, p.in), name: "standard input"}, nil
	}
	opened, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := opened.Stat()
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return &rosterFile{ReadCloser: opened, name: filepath.Base(path), size: info.Size()}, nil
}

// interruptible reads from r until ctx is done: a terminal or another program may keep r open for ever.
func interruptible(ctx context.Context, r io.Reader) io.ReadCloser {
	reader, writer := io.Pipe()
	go func() {
		_, err := io.Copy(writer, r)
		writer.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { writer.CloseWithError(ctx.Err()) })
	return reader
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
	if im.Warned > 0 {
		fmt.Fprintf(w, "%d\twith warnings\t\n", im.Warned)
	}
	if im.Invited != nil {
		fmt.Fprintf(w, "%d\tinvitations queued\t\n", im.Invited.Queued)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	p.printPlan(im)
	for _, w := range im.Warnings {
		fmt.Fprintf(p.out, "\n%s (warning %s)\n  %s\n", place(w.Line, w.Column), w.Code, w.Message)
	}
	for _, r := range im.Rejects {
		fmt.Fprintf(p.out, "\n%s (%s)\n  %s\n", place(r.Line, r.Column), r.Code, r.Message)
	}
	if more := im.Rejected - len(im.Rejects); more > 0 {
		fmt.Fprintf(p.out, "\n… and %d more rejected rows.\n", more)
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

// printPlan shows the first rows that a dry run would create or update.
func (p *program) printPlan(im provisioning.Import) {
	shown := 0
	for _, row := range im.Plan {
		var what string
		switch row.Verdict {
		case provisioning.VerdictCreated:
			what = "create, with the username " + row.Username
		case provisioning.VerdictUpdated:
			what = "update, " + changesInWords(row)
		case provisioning.VerdictUnchanged, provisioning.VerdictRejected:
			continue
		}
		if shown == 0 {
			fmt.Fprintln(p.out)
		}
		shown++
		fmt.Fprintf(p.out, "line %d, %s: %s\n", row.Line, row.Name, what)
	}
	if more := im.Created + im.Updated - shown; im.DryRun && more > 0 {
		fmt.Fprintf(p.out, "… and %d more; --plan FILE writes them all.\n", more)
	}
}

func place(line int, column string) string {
	if column == "" {
		return fmt.Sprintf("line %d", line)
	}
	return fmt.Sprintf("line %d, %s", line, column)
}
