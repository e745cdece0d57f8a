package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/provisioning"
	"github.com/countersign/countersign/provisioning/constantcontact"
	"github.com/countersign/countersign/provisioning/roster"
)

// reconcileFlags say what follows the comparison.
type reconcileFlags struct {
	fill    bool
	add     bool
	missing string
	asJSON  bool
}

func (p *program) reconcileCommand() *cobra.Command {
	var f reconcileFlags
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Compare the roster with the provider's own list of your client accounts",
		Long: "Reconcile reads the provider's list of the partner's accounts and compares it with the roster: by account_id,\n" +
			"then by a name that only one client and only one account have. Without --fill and --add it changes nothing.\n" +
			"An account_id that a client has is never changed.\n\n" +
			"The list has no address of an account's owner. --add asks for it, one call an account, which works for managed\n" +
			"accounts only; --missing writes the others to a file that can be imported when owner_email is filled in.\n\n" +
			"It exits with 0 if all went well, with 3 if something could not be applied, with 1 if it failed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withApp(cmd.Context(), func(a *app) error { return p.reconcile(cmd.Context(), a, f) })
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.fill, "fill", false, "give clients without an account_id that of the account of their name")
	flags.BoolVar(&f.add, "add", false, "add the managed accounts that the roster lacks as clients")
	flags.StringVar(&f.missing, "missing", "", "write the accounts that the roster then still lacks to this `file`; - is standard output")
	flags.BoolVar(&f.asJSON, "json", false, "print the outcome as JSON")
	return cmd
}

var errNoPartner = errors.New("reconcile needs the partner's credentials: set COUNTERSIGN_PARTNER_CLIENT_ID," +
	" COUNTERSIGN_PARTNER_CLIENT_SECRET and COUNTERSIGN_PARTNER_API_KEY")

// reconciled is the outcome of the command: the state after what was applied.
type reconciled struct {
	provisioning.Reconciliation

	Filled  *provisioning.Import `json:"filled,omitempty" doc:"absent if nothing was to be filled in"`
	Added   *provisioning.Added  `json:"added,omitempty"`
	Missing *int                 `json:"missing,omitempty" doc:"accounts in the file of those missing"`
}

func (p *program) reconcile(ctx context.Context, a *app, f reconcileFlags) error {
	if a.reconciler == nil {
		return errNoPartner
	}
	if (f.fill || f.add) && a.importer == nil {
		return errNoMailbox
	}
	if f.missing == "-" && f.asJSON {
		return errors.New("--missing - and --json both write to standard output: name a file")
	}
	bar := p.newBar("Reading the provider's list", 0)
	bar.unit = "accounts"
	accounts, err := a.reconciler.Accounts(ctx, func(read int) { bar.reach(int64(read)) })
	bar.end()
	if err != nil {
		return err
	}
	var out reconciled
	if out.Reconciliation, err = a.reconciler.Compare(ctx, accounts, nil); err != nil {
		return err
	}
	incomplete := p.apply(ctx, a.reconciler, accounts, f, &out)
	// What was applied before an error is told as well.
	if err := p.tell(ctx, a.reconciler, accounts, f, &out); err != nil {
		return errors.Join(incomplete, err)
	}
	if incomplete != nil {
		return incomplete
	}
	if out.Filled != nil && out.Filled.Rejected > 0 || out.Added != nil && out.Added.Rejected+out.Added.Held > 0 {
		return exit(exitRejected)
	}
	return nil
}

// apply does what the flags ask for and compares anew.
func (p *program) apply(
	ctx context.Context, r *provisioning.Reconciler, accounts []provisioning.ListedAccount, f reconcileFlags, out *reconciled,
) error {
	if !f.fill && !f.add {
		return nil
	}
	if f.fill {
		filled, err := r.Fill(ctx, accounts, provisioning.ActorCLI)
		if err != nil {
			return err
		}
		if filled.ID != uuid.Nil {
			out.Filled = &filled
		}
	}
	var incomplete error
	if f.add {
		fmt.Fprintf(p.err, "Asking the provider for owners, one call each: %d managed accounts, about %s.\n",
			out.Addable, estimate(out.Addable))
		bar := p.newBar("Asking for owners", int64(out.Addable))
		added, err := r.Add(ctx, accounts, provisioning.ActorCLI, func(done, _ int) { bar.reach(int64(done)) })
		bar.end()
		incomplete, out.Added = err, &added
	}
	after, err := r.Compare(ctx, accounts, nil)
	if err != nil {
		return errors.Join(incomplete, err)
	}
	out.Reconciliation = after
	return incomplete
}

// estimate is how long so many calls take.
func estimate(calls int) time.Duration {
	took := time.Duration(calls) * constantcontact.PartnerInterval
	if took < time.Minute {
		return took.Round(time.Second)
	}
	return took.Round(time.Minute)
}

// tell writes the file of what is missing and prints the outcome.
func (p *program) tell(
	ctx context.Context, r *provisioning.Reconciler, accounts []provisioning.ListedAccount, f reconcileFlags, out *reconciled,
) error {
	if f.missing != "" {
		err := writeTo(p.out, f.missing, func(w io.Writer) error {
			n, err := r.WriteMissing(ctx, accounts, w)
			out.Missing = &n
			return err
		})
		if err != nil || f.missing == "-" {
			return err
		}
	}
	if f.asJSON {
		enc := json.NewEncoder(p.out)
		enc.SetIndent("", "  ")
		return enc.Encode(out)
	}
	p.printReconciled(out, f)
	return nil
}

// printedFindings is how many findings of a kind a person gets to read.
const printedFindings = 10

func (p *program) printReconciled(out *reconciled, f reconcileFlags) {
	if out.Filled != nil {
		fmt.Fprintf(p.out, "Account ids filled in: %d. Rejected: %d.\n", out.Filled.Updated, out.Filled.Rejected)
		p.printRejects(out.Filled.Rejects)
	} else if f.fill {
		fmt.Fprintln(p.out, "There is no account id to fill in.")
	}
	if out.Added != nil {
		fmt.Fprintf(p.out, "Clients added: %d. Rejected: %d. Held back: %d.\n", out.Added.Created, out.Added.Rejected, out.Added.Held)
		p.printRejects(out.Added.Rejects)
		for _, held := range out.Added.Holds {
			fmt.Fprintf(p.out, "  %s\n    %s\n", nameFinding(held), held.Why)
		}
	}
	if f.fill || f.add {
		fmt.Fprintln(p.out)
	}
	fmt.Fprintf(p.out, "The roster has %d clients, the provider lists %d accounts.\n\n", out.Clients, out.Accounts)
	for _, kind := range provisioning.FindingKinds() {
		fmt.Fprintf(p.out, "%7d  %s\n", out.Counts[kind], kindWords(kind))
	}
	for _, kind := range provisioning.FindingKinds() {
		p.printFindings(kind, out)
	}
	p.printNext(out, f)
}

func (p *program) printRejects(rejects []roster.Reject) {
	for _, r := range rejects {
		fmt.Fprintf(p.out, "  %s (%s)\n    %s\n", strings.Join(r.Record, ", "), r.Code, r.Message)
	}
}

func (p *program) printFindings(kind provisioning.FindingKind, out *reconciled) {
	first := out.First[kind]
	if kind == provisioning.FindingBoth || len(first) == 0 {
		return
	}
	fmt.Fprintf(p.out, "\n%s\n", strings.ToUpper(kindWords(kind)))
	first = first[:min(len(first), printedFindings)]
	why := ""
	for _, f := range first {
		fmt.Fprintf(p.out, "  %s\n", nameFinding(f))
		if f.Why != why { // Neighbours often share theirs.
			why = f.Why
			fmt.Fprintf(p.out, "    %s\n", why)
		}
	}
	if more := out.Counts[kind] - len(first); more > 0 {
		fmt.Fprintf(p.out, "  … and %d more; --json shows %d.\n", more, provisioning.ShownFindings)
	}
}

// printNext says what can be done about it.
func (p *program) printNext(out *reconciled, f reconcileFlags) {
	var next []string
	if n := out.Counts[provisioning.FindingMissing]; n > 0 && !f.fill {
		next = append(next, fmt.Sprintf("Account ids that --fill fills in: %d.", n))
	}
	if n := out.Addable; n > 0 && !f.add {
		next = append(next, fmt.Sprintf("Managed accounts that --add makes clients of: %d, after one call each for the owner's address (about %s).", n, estimate(n)))
	}
	switch n := out.Counts[provisioning.FindingProviderOnly]; {
	case out.Missing != nil:
		next = append(next, fmt.Sprintf("Accounts in %s: %d. Fill in owner_email, which the provider's list does not have, and import the file;"+
			" site_owner_name is a user name and need not be an address.", f.missing, *out.Missing))
	case n > 0:
		next = append(next, fmt.Sprintf("Accounts that --missing FILE writes, to fill in owner_email and import: %d.", n))
	}
	if len(next) > 0 {
		fmt.Fprintf(p.out, "\n%s\n", strings.Join(next, "\n"))
	}
	if !f.fill && !f.add {
		fmt.Fprintln(p.out, "\nNothing was changed.")
	}
}

func kindWords(kind provisioning.FindingKind) string {
	switch kind {
	case provisioning.FindingBoth:
		return "in both"
	case provisioning.FindingMissing:
		return "account_id missing"
	case provisioning.FindingDifferent:
		return "account_id different"
	case provisioning.FindingAmbiguous:
		return "cannot be told apart"
	case provisioning.FindingRosterOnly:
		return "only in the roster"
	case provisioning.FindingProviderOnly:
		return "only at the provider"
	case provisioning.FindingCanceled:
		return "canceled at the provider"
	}
	return string(kind)
}

// nameFinding names the client, the account or both.
func nameFinding(f provisioning.Finding) string {
	var parts []string
	if c := f.Client; c != nil {
		client := fmt.Sprintf("%q", c.Name)
		if c.Ref != nil {
			client += " (ref " + *c.Ref + ")"
		}
		parts = append(parts, client)
	}
	if a := f.Account; a != nil {
		parts = append(parts, fmt.Sprintf("account %s %q, %s", a.ID, a.Organization, a.BillingStatus))
	}
	return strings.Join(parts, " – ")
}
