package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/notify"
	"github.com/countersign/countersign/provisioning"
)

func (p *program) mailCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "mail", Short: "Show how outgoing mail stands, stop it, or let it go again"}
	var asJSON bool
	var why string
	pause := p.mailSwitchCommand(&asJSON, func(ctx context.Context, a *app) error {
		return a.mailSwitch.Pause(ctx, why, provisioning.ActorCLI)
	})
	pause.Use, pause.Short = "pause", "Stop all outgoing mail"
	pause.Long = "Pause stops all mail to owners and operators within a second, but for what is already on the wire. What\n" +
		"is queued waits, and nothing is lost. Mail that is paused already stays as it is."
	pause.Flags().StringVar(&why, "why", "", "the reason, for whoever finds the mail paused")
	resume := p.mailSwitchCommand(&asJSON, func(ctx context.Context, a *app) error {
		return a.mailSwitch.Resume(ctx, provisioning.ActorCLI)
	})
	resume.Use, resume.Short = "resume", "Let outgoing mail go again"
	resume.Long = "Resume lets mail go again, whoever has paused it. If too many addresses bounced, correct those of the\n" +
		"stalled clients first: from now on, bounces are counted anew."
	status := &cobra.Command{
		Use:   "status",
		Short: "Show whether mail goes, what waits, and why",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withApp(cmd.Context(), func(a *app) error {
				s, err := readMailStatus(cmd.Context(), a)
				switch {
				case err != nil:
					return err
				case asJSON:
					return json.NewEncoder(p.out).Encode(s)
				}
				p.printSwitch(s)
				p.printQueue(s.Overview)
				return nil
			})
		},
	}
	cmd.AddCommand(status, pause, resume)
	for _, c := range cmd.Commands() {
		c.Flags().BoolVar(&asJSON, "json", false, "print JSON, the same as GET /api/v1/mail")
	}
	cmd.AddCommand(p.mailQueueCommand(), p.mailHurryCommand(), p.mailSuppressedCommand(), p.mailLetInCommand())
	return cmd
}

// mailSwitchCommand turns the switch and tells how it stands then.
func (p *program) mailSwitchCommand(asJSON *bool, turn func(context.Context, *app) error) *cobra.Command {
	return &cobra.Command{
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withApp(cmd.Context(), func(a *app) error {
				if err := turn(cmd.Context(), a); err != nil {
					return err
				}
				s, err := readMailStatus(cmd.Context(), a)
				switch {
				case err != nil:
					return err
				case *asJSON:
					return json.NewEncoder(p.out).Encode(s)
				}
				p.printSwitch(s)
				return nil
			})
		},
	}
}

// mailStatus is how outgoing mail stands, as GET /api/v1/mail has it.
type mailStatus struct {
	notify.Overview

	Sender bool       `json:"sender"`
	Paused *mailPause `json:"paused"` // null while mail goes
	Pace   mailPace   `json:"pace"`
}

type mailPause struct {
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Why     string    `json:"why"`
	Breaker bool      `json:"breaker"`
}

type mailPace struct {
	Rate       float64 `json:"rate"`
	DomainRate float64 `json:"domain_rate"`
	Quota      *int    `json:"quota"`
	Spent      int     `json:"spent"`
}

func readMailStatus(ctx context.Context, a *app) (s mailStatus, err error) {
	if s.Overview, err = a.mailer.Overview(ctx); err != nil {
		return s, err
	}
	pace := a.config.pace
	s.Sender, s.Pace = a.transport != nil, mailPace{Rate: pace.Rate, DomainRate: pace.DomainRate}
	if most, spent, ok := s.Quota(pace); ok {
		s.Pace.Quota, s.Pace.Spent = &most, spent
	}
	position, err := a.mailSwitch.Position(ctx)
	if err != nil || position.PausedAt == nil {
		return s, err
	}
	s.Paused = &mailPause{At: *position.PausedAt, Breaker: position.Breaker}
	if position.PausedBy != nil {
		s.Paused.By = string(*position.PausedBy)
	}
	if position.Why != nil {
		s.Paused.Why = *position.Why
	}
	return s, nil
}

func (p *program) printSwitch(s mailStatus) {
	switch {
	case s.Paused == nil && s.Sender:
		fmt.Fprintln(p.out, "Outgoing mail goes.")
	case s.Paused == nil:
		fmt.Fprintln(p.out, "Outgoing mail waits: set "+prefix+"SMTP_URL.")
	default:
		fmt.Fprintf(p.out, "Outgoing mail is paused since %s, by the %s.\n", localTime(&s.Paused.At), s.Paused.By)
		if s.Paused.Why != "" {
			fmt.Fprintln(p.out, s.Paused.Why)
		}
	}
}

func (p *program) printQueue(o notify.Overview) {
	fmt.Fprintf(p.out, "\n%7d  wait for their turn\n%7d  are being sent\n%7d  were put off and are tried again\n%7d  may have been sent, and are sent again\n",
		o.Queued, o.Sending, o.Deferred, o.Unknown)
	fmt.Fprintf(p.out, "\nToday (UTC): %d sent, %d given up, %d cancelled.\n", o.Today.Sent, o.Today.Failed, o.Today.Cancelled)
	p.printTroubles("Why mails wait", o.Deferrals)
	p.printTroubles("Why mails were given up", o.Failures)
	if len(o.Refusals) > 0 {
		fmt.Fprintln(p.out, "\nRefused for our sake, not for the address")
		for _, r := range o.Refusals {
			fmt.Fprintf(p.out, "%7d  %s: %s\n", r.N, r.Domain, r.Said)
		}
	}
	if o.Unread > 0 {
		fmt.Fprintf(p.out, "\n%d mails came back that somebody should read: see the console.\n", o.Unread)
	}
}

func (p *program) printTroubles(heading string, troubles []notify.Trouble) {
	if len(troubles) == 0 {
		return
	}
	fmt.Fprintf(p.out, "\n%s\n", heading)
	for _, t := range troubles {
		fmt.Fprintf(p.out, "%7d  %s %s\n", t.N, t.Words, t.Cure)
	}
}
