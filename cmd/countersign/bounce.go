package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/notify/bounce"
	"github.com/countersign/countersign/provisioning"
)

// Exit codes of sysexits.h, by which a mail server knows what to do with the mail that it pipes in.
const (
	exitUsage    = 64 // EX_USAGE: the command line is wrong
	exitTempFail = 75 // EX_TEMPFAIL: the mail server keeps the mail and tries again
	exitConfig   = 78 // EX_CONFIG: a setting is wrong or missing
)

func (p *program) bounceCommand() *cobra.Command {
	var recipient string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bounce FILE",
		Short: "Take a mail that came back to the bounce address, for a mail server on this machine",
		Long: "Bounce takes one mail, a delivery report, a complaint or an answer, from a file or, with -, from standard\n" +
			"input, and applies it to the client whose mail it is about. It is for a mail server that has the bounce\n" +
			"address on this machine; otherwise set COUNTERSIGN_IMAP_URL, and the mailbox is read.\n\n" +
			"With Postfix, a line of the alias file has all of bounce+…@ if recipient_delimiter is +:\n\n" +
			"  bounce: \"|countersign --env-file /etc/countersign.env bounce -\"\n\n" +
			"The mail is recognised by the address that it was sent to, which mail servers note in Delivered-To or\n" +
			"X-Original-To. One that does not can say it: --recipient ${original_recipient}.\n\n" +
			"It ends with 0 if the mail was taken, also if that changes nothing: a copy, a forgery, somebody else's mail.\n" +
			"75 asks the mail server to try again, as the database did not answer; 64 and 78 tell of a wrong command line\n" +
			"and of wrong settings.",
		Args: func(cmd *cobra.Command, args []string) error { return p.misused(cobra.ExactArgs(1)(cmd, args)) },
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.takeBounce(cmd.Context(), args[0], recipient, asJSON)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return p.misused(err) })
	cmd.Flags().StringVar(&recipient, "recipient", "", "the `address` that the mail was sent to, if the mail server does not note it in the mail")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// misused ends a command whose command line is wrong.
func (p *program) misused(err error) error {
	if err == nil {
		return nil
	}
	return p.end(exitUsage, err)
}

// end tells an error and ends with a code.
func (p *program) end(code exit, err error) error {
	fmt.Fprintln(p.err, "countersign:", err)
	return code
}

func (p *program) takeBounce(ctx context.Context, path, recipient string, asJSON bool) error {
	file, err := p.openRoster(ctx, path)
	if err != nil {
		return p.end(exitUsage, err)
	}
	// A mail server that cannot write all of the mail blames the command, whatever its exit code says.
	defer func() {
		_, _ = io.Copy(io.Discard, file)
		_ = file.Close()
	}()
	c, err := loadConfig(p.envFile)
	if err != nil {
		return p.end(exitConfig, err)
	}
	if c.BounceAddress == "" {
		return p.end(exitConfig, errors.New("set "+prefix+"BOUNCE_ADDRESS, as it is set where countersign serve runs: mails are recognised by it"))
	}
	a, err := openApp(ctx, c, p.quietLogger(), nil)
	if err != nil {
		return p.end(exitTempFail, err)
	}
	taken, err := takeReturn(ctx, a, addressed(file, recipient))
	if err := errors.Join(err, a.close(context.WithoutCancel(ctx))); err != nil {
		return p.end(exitTempFail, err)
	}
	// From here on nothing may fail: the mail server would bounce what was taken.
	if asJSON {
		_ = json.NewEncoder(p.out).Encode(taken)
	} else {
		_, _ = fmt.Fprintln(p.out, taken)
	}
	return nil
}

// addressed puts the recipient that the mail server knows before what it has noted in the mail.
func addressed(mail io.Reader, recipient string) io.Reader {
	if recipient = strings.Join(strings.Fields(recipient), ""); recipient == "" {
		return mail
	}
	return io.MultiReader(strings.NewReader("Delivered-To: "+recipient+"\r\n"), mail)
}

// takenReturn is a mail that was taken.
type takenReturn struct {
	Kind       bounce.Kind          `json:"kind"`
	Before     bool                 `json:"before"` // it had been taken before
	Address    string               `json:"address,omitempty"`
	Status     string               `json:"status,omitempty"`
	Diagnostic string               `json:"diagnostic,omitempty"`
	Readable   bool                 `json:"readable"` // it is kept for reading
	ClientID   *uuid.UUID           `json:"client,omitempty"`
	Name       string               `json:"name,omitempty"`
	Stage      provisioning.Stage   `json:"stage,omitempty"` // that the client is in now
	Reason     *provisioning.Reason `json:"reason,omitempty"`
}

func takeReturn(ctx context.Context, a *app, mail io.Reader) (takenReturn, error) {
	r, err := a.returns.Take(ctx, mail)
	before := errors.Is(err, notify.ErrTakenBefore)
	if err != nil && !before {
		return takenReturn{}, err
	}
	taken := takenReturn{
		Kind: r.Kind, Before: before, Address: r.Recipient, Status: r.Status, Diagnostic: r.Diagnostic, Readable: r.Readable, ClientID: r.ClientID,
	}
	if r.ClientID == nil {
		return taken, nil
	}
	client, err := a.store.Client(ctx, r.ClientID.String())
	if errors.Is(err, provisioning.ErrNotFound) { // It went meanwhile.
		return taken, nil
	}
	taken.Name, taken.Stage, taken.Reason = client.Name, client.Stage, client.Reason
	return taken, err
}

// String tells in a line what it was and where the client stands now.
func (t takenReturn) String() string {
	switch {
	case t.Before:
		return "a mail that was taken before: nothing was changed"
	case t.Kind == notify.KindForged:
		return "a forged mail: nothing was changed"
	case t.Kind == notify.KindForeign:
		return "a mail that is not for the bounce address: nothing was changed"
	}
	line := strings.ReplaceAll(string(t.Kind), "_", " ")
	if t.Address != "" {
		line += " for " + t.Address
	}
	if t.Diagnostic != "" {
		line += ": " + t.Diagnostic
	}
	if t.Readable {
		line += " It is kept for reading in the console."
	}
	if t.Name == "" {
		return line
	}
	line += " " + t.Name + " is " + string(t.Stage)
	if t.Reason != nil {
		line += ", " + strings.ReplaceAll(string(*t.Reason), "_", " ")
	}
	return line + "."
}
