package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/authflow"
	"github.com/countersign/countersign/authflow/admin"
	"github.com/countersign/countersign/authflow/grant"
	"github.com/countersign/countersign/authflow/manager"
	"github.com/countersign/countersign/authflow/vault"
	"github.com/countersign/countersign/migrations/postgres"
	"github.com/countersign/countersign/provisioning"
)

// shelves are all places with sealed values. The secrets come last: see vault.Rotation.
func shelves() []vault.Shelf {
	return []vault.Shelf{grant.Shelf{}, authflow.Shelf{}, manager.Shelf{}, admin.Shelf{}, vault.Secrets{}}
}

func (p *program) vaultCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "vault", Short: "Manage the keys that secrets are sealed with"}
	cmd.AddCommand(p.vaultRotateCommand(), p.vaultStatusCommand())
	return cmd
}

func (p *program) vaultRotateCommand() *cobra.Command {
	var newKey, asJSON bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Seal everything anew with the first key, while the service runs",
		Long: "Rotate opens whatever is sealed in the database and seals it anew with the vault's first key. The service may\n" +
			"run meanwhile. It may be interrupted and started again at any time, and says in the end which keys nothing\n" +
			"is sealed with any more.\n\n" +
			"With keys in COUNTERSIGN_VAULT_KEYS:\n\n" +
			"  1. Put a new key before those that are there, such as k2=… from: echo k2=$(openssl rand -base64 32)\n" +
			"     With several replicas put it behind the others first, and restart them all, so that each of them\n" +
			"     knows it before one of them seals with it.\n" +
			"  2. Restart all replicas.\n" +
			"  3. Run: countersign vault rotate\n" +
			"  4. Remove the keys that it names from COUNTERSIGN_VAULT_KEYS.\n\n" +
			"With the private database's key file, --new-key does all of this: it puts a new key into the file, which a\n" +
			"running service reads by itself, seals everything anew, and removes the old keys.\n\n" +
			"A backup of the database needs the keys of its time: keep them with it. It exits with 1 if something is left.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDatabase(cmd.Context(), func(c config, db *postgres.Database) error {
				keys, err := openVault(cmd.Context(), c, db)
				if err != nil {
					return err
				}
				if newKey {
					if err := addKey(cmd.Context(), keys, db); err != nil {
						return err
					}
				}
				out, err := p.rotate(cmd.Context(), keys, db)
				if err != nil {
					return err
				}
				return p.reportRotation(out, c, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&newKey, "new-key", false, "put a new key first in the private database's key file before")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	return cmd
}

func addKey(ctx context.Context, keys *vault.Vault, db *postgres.Database) error {
	err := keys.AddKey(ctx, db.Pool)
	if errors.Is(err, vault.ErrFixedKeys) {
		return fmt.Errorf("--new-key is for the private database's key file, and the keys are in %[1]sVAULT_KEYS: put the output of "+
			"echo ID=$(openssl rand -base64 32), with an ID of your own, and a comma before what is there, restart all replicas, "+
			"and run countersign vault rotate without --new-key", prefix)
	}
	return err
}

func (p *program) rotate(ctx context.Context, keys *vault.Vault, db *postgres.Database) (vault.Rotated, error) {
	bar := p.newBar("Sealing anew", 0)
	bar.unit = "values"
	defer bar.end()
	r := vault.Rotation{
		Actor:   provisioning.ActorCLI,
		DB:      db.Pool,
		Vault:   keys,
		Shelves: shelves(),
		Settle:  vault.Settling,
		Progress: func(done, total int) {
			bar.total = int64(total)
			bar.reach(int64(done))
			if done == total {
				bar.say("Seeing whether a process still seals with another key …")
			}
		},
		Log: p.quietLogger(),
	}
	return r.Run(ctx)
}

// rotationReport is what vault rotate --json prints.
type rotationReport struct {
	Complete  bool           `json:"complete"`
	Key       string         `json:"key"`
	Resealed  int            `json:"resealed"`
	Broken    int            `json:"broken"`
	Left      []vault.KeyUse `json:"left"`
	Removed   []string       `json:"removed"`
	Removable []string       `json:"removable"`
}

// reportRotation tells the outcome, and fails if there is something left to do.
func (p *program) reportRotation(out vault.Rotated, c config, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(p.out).Encode(rotationReport{
			out.Complete(), out.Key, out.Resealed, out.Broken, listed(out.Left), listed(out.Removed), listed(out.Removable),
		}); err != nil {
			return err
		}
	} else {
		p.printRotation(out, c)
	}
	if !out.Complete() {
		return exit(exitFailed)
	}
	return nil
}

// listed makes an empty list of none, for JSON.
func listed[T any](list []T) []T { return slices.Concat([]T{}, list) }

func (p *program) printRotation(out vault.Rotated, c config) {
	fmt.Fprintf(p.out, "Sealed %d values anew with the key %s.\n", out.Resealed, out.Key)
	if out.Removed != nil {
		fmt.Fprintf(p.out, "Nothing is sealed any more with %s: removed from %s.\n", strings.Join(out.Removed, ", "), c.keyFile())
	}
	if out.Removable != nil {
		fmt.Fprintf(p.out, "Nothing is sealed any more with %s: remove it from %sVAULT_KEYS.\n", strings.Join(out.Removable, ", "), prefix)
	}
	if out.Removed != nil || out.Removable != nil {
		fmt.Fprintln(p.out, "Backups of the database made until now need what was there before.")
	}
	if out.Broken > 0 {
		fmt.Fprintf(p.out, "%d values do not open and stay as they are: somebody has changed them in the database, or their key was\n"+
			"replaced. The warnings name them; restore them from a backup, or have their clients connect again.\n", out.Broken)
	}
	for _, use := range out.Left {
		switch {
		case !use.Present && use.ID != "":
			fmt.Fprintf(p.out, "Another process seals with the key %s, which is not known here. Give all processes the same keys, and run\n"+
				"countersign vault rotate again.\n", use.ID)
		case use.Values() > out.Broken:
			fmt.Fprintf(p.out, "%d values are still sealed with %s: others hold them, or a process seals with that key. Restart those that\n"+
				"run with it as their first key, and run countersign vault rotate again. Do not remove the key yet.\n", use.Values(), use.ID)
		case use.Values() == 0:
			fmt.Fprintf(p.out, "A process still seals with %s. Restart those that run with it as their first key, and run\n"+
				"countersign vault rotate again. Do not remove the key yet.\n", use.ID)
		}
	}
}

func (p *program) vaultStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show which keys there are, and how much is sealed with each",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDatabase(cmd.Context(), func(c config, db *postgres.Database) error {
				// Whether they belong to the database is not checked: that they do not is what this shows.
				keys, err := openKeys(c)
				if err != nil {
					return err
				}
				uses, err := keys.Uses(cmd.Context(), db.Pool, shelves())
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(p.out).Encode(struct {
						Keys []vault.KeyUse `json:"keys"`
					}{uses})
				}
				return p.printUses(uses)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (p *program) printUses(uses []vault.KeyUse) error {
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	header := []string{"KEY", "STATE"}
	for _, shelf := range shelves() {
		header = append(header, strings.ToUpper(shelf.Name()))
	}
	fmt.Fprintln(w, strings.Join(header, "\t"))
	for _, use := range uses {
		row := []string{use.ID, keyState(use)}
		for _, shelf := range shelves() {
			row = append(row, strconv.Itoa(use.Sealed[shelf.Name()]))
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

func keyState(use vault.KeyUse) string {
	switch {
	case use.ID == "":
		return "not sealed by this program"
	case !use.Present:
		return "missing: add it to the keys"
	case use.Primary:
		return "seals"
	case use.Canary || use.Values() > 0:
		return "opens; run countersign vault rotate before it is removed"
	}
	return "unused"
}

// withDatabase runs a command on the settings and the database alone.
func (p *program) withDatabase(ctx context.Context, do func(config, *postgres.Database) error) error {
	c, err := loadConfig(p.envFile)
	if err != nil {
		return err
	}
	db, err := openDatabase(ctx, c, p.quietLogger())
	if err != nil {
		return err
	}
	return errors.Join(do(c, db), db.Close(context.WithoutCancel(ctx)))
}
