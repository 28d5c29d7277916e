package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	bridge "github.com/matrix-mimi/bridge"
)

func newConfig(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Print or check the settings", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(
		&cobra.Command{
			Use: "example", Short: "Print every setting with its default and one sentence", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := cmd.OutOrStdout().Write(bridge.ExampleConfig)
				return err
			},
		},
		&cobra.Command{
			Use: "check", Short: "Check the settings and the files that they name", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := o.load()
				if err != nil {
					return fmt.Errorf("the settings are not good:\n%w", err)
				}
				return checkFiles(cmd.OutOrStdout(), cfg)
			},
		},
	)
	return cmd
}

// writeExample writes the example settings, but never over a file.
func writeExample(w io.Writer, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already; name another file with -c, or print the example with: bridge config example", path)
	}
	if err != nil {
		return fmt.Errorf("write the example settings: %w", err)
	}
	_, err = f.Write(bridge.ExampleConfig)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the example settings: %w", err)
	}
	_, err = fmt.Fprintf(w, "wrote %s; set homeserver.domain and mimi.domain in it, then run: bridge registration -c %s\n", path, path)
	return err
}
