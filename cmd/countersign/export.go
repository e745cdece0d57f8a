package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/provisioning"
)

func (p *program) exportCommand() *cobra.Command {
	var selected filterFlags
	var path string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the roster with usernames and stages as CSV",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := selected.filter()
			if err != nil {
				return err
			}
			return p.withStore(cmd.Context(), func(store *provisioning.Store) error {
				return writeTo(p.out, path, func(w io.Writer) error { return store.Export(cmd.Context(), w, f) })
			})
		},
	}
	selected.add(cmd)
	cmd.Flags().StringVarP(&path, "output", "o", "-", "write to this `file`; - is standard output")
	return cmd
}

// writeTo writes a file as a whole or not at all; "-" is out.
func writeTo(out io.Writer, path string, write func(io.Writer) error) (err error) {
	if path == "-" {
		return write(out)
	}
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		_ = f.Close()
		_ = os.Remove(part)
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(part, path)
}
