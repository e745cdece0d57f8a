package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/migrations"
)

func (p *program) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database to the schema of this version",
		Long: "Migrate brings the database to the schema of this version. Every other command does so too: this one is\n" +
			"for those who want it to happen at a time of their own, before the new version starts.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := loadConfig(p.envFile)
			if err != nil {
				return err
			}
			db, err := openDatabase(ctx, c, p.quietLogger())
			if err != nil {
				return err
			}
			current, _, err := migrations.Status(ctx, db.Pool)
			if err == nil {
				_, err = fmt.Fprintf(p.out, "The database is at version %d, as this program needs.\n", current)
			}
			return errors.Join(err, db.Close(context.WithoutCancel(ctx)))
		},
	}
}
