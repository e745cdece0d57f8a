// Command countersign gets many client accounts authorized at their provider: it imports a roster,
// gives every client a username, mails every owner a link that runs the consent, verifies which
// account consented, keeps the grant, and shows how far everyone is.
//
//	main.go      the commands and how they end
//	config.go    the settings, from the environment
//	app.go       the wiring: which room is plugged into which
//	serve.go     the service: pages, API, jobs, shutdown
//	demo.go      everything at once, with a provider, a mail server and owners of its own
//	…            one file a command
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	_ "time/tzdata" // Rosters name time zones; not every machine knows them.

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// streams are what a command reads and writes.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// Exit codes, beside 0.
const (
	exitFailed   = 1
	exitUnknown  = 2 // there is no such command
	exitRejected = 3 // an import left rows out
)

// exit ends a command with a code of its own; its error, if any, has been told.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args []string, std streams) int {
	root := newRoot(std)
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	err := root.ExecuteContext(ctx)
	if code, ok := errors.AsType[exit](err); ok {
		return int(code)
	}
	if err != nil {
		fmt.Fprintln(std.err, "countersign:", err)
		if errors.Is(err, errUnknownCommand) {
			return exitUnknown
		}
		return exitFailed
	}
	return 0
}

// program is what commands share: where they read and write, and the settings.
type program struct {
	streams

	envFile string
}

func newRoot(std streams) *cobra.Command {
	p := &program{streams: std}
	root := &cobra.Command{
		Use:   "countersign",
		Short: "Gets many client accounts authorized with little manual work",
		Long: "Countersign imports your roster of client accounts, gives each a unique username, mails every\n" +
			"Account Owner a link that runs the consent, verifies which account consented, keeps the grant,\n" +
			"and shows how far everyone is.\n\n" +
			"Settings are environment variables named COUNTERSIGN_…; README.md lists them. To look around\n" +
			"without any, run: countersign demo",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&p.envFile, "env-file", "", "read settings from this file where the environment does not set them")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		p.serveCommand(),
		p.importCommand(),
		p.inviteCommand(),
		p.bulkCommand(),
		p.statusCommand(),
		p.exportCommand(),
		p.usernamesCommand(),
		p.reconcileCommand(),
		p.remindCommand(),
		p.quarantineCommand(),
		p.providerCommand(),
		p.mailCommand(),
		p.bounceCommand(),
		p.doctorCommand(),
		p.adminCommand(),
		p.keyCommand(),
		p.auditCommand(),
		p.vaultCommand(),
		p.migrateCommand(),
		p.sandboxCommand(),
		p.demoCommand(),
		p.versionCommand(),
	)
	root.InitDefaultCompletionCmd()
	refuseUnknown(root)
	return root
}

var errUnknownCommand = errors.New("there is no command")

// refuseUnknown has every command with commands of its own refuse a word that names none of them, and explain itself if
// it only groups them.
func refuseUnknown(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		refuseUnknown(c)
	}
	if !cmd.HasSubCommands() {
		return
	}
	cmd.SuggestionsMinimumDistance = 2
	allowed := cobra.NoArgs
	if cmd.Args != nil {
		allowed = cmd.Args
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if allowed(cmd, args) == nil {
			return nil
		}
		word, guess := strings.Join(args[:min(1, len(args))], ""), ""
		if near := cmd.SuggestionsFor(word); len(near) > 0 {
			guess = fmt.Sprintf(" (did you mean %s?)", strings.Join(near, " or "))
		}
		return fmt.Errorf("%w %s %s%s: %s --help lists all", errUnknownCommand, cmd.CommandPath(), word, guess, cmd.CommandPath())
	}
	if !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}

// logger writes to standard error: standard output is for what was asked.
func (p *program) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(p.err, nil))
}

// quietLogger tells only what an operator at a terminal has to know.
func (p *program) quietLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(p.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// withApp runs a command on the whole program, and closes it.
func (p *program) withApp(ctx context.Context, do func(*app) error) error {
	c, err := loadConfig(p.envFile)
	if err != nil {
		return err
	}
	a, err := openApp(ctx, c, p.quietLogger(), nil)
	if err != nil {
		return err
	}
	return errors.Join(do(a), a.close(context.WithoutCancel(ctx)))
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.out, "countersign", version())
			return err
		},
	}
}

// version is the module's version, with the commit if it was built from one.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return info.Main.Version + " " + s.Value
		}
	}
	return info.Main.Version
}
