package main

import (
	"github.com/spf13/cobra"

	"github.com/matrix-mimi/bridge/internal/config"
)

// options are the flags that several subcommands share.
type options struct {
	configPath       string
	registrationPath string
	env              []string // as os.Environ gives it
}

// load reads the settings; -r overrides where the registration is.
func (o *options) load() (*config.Config, error) {
	cfg, err := config.Load(o.configPath, o.env)
	if err != nil {
		return nil, err
	}
	if o.registrationPath != "" {
		cfg.Appservice.RegistrationFile = config.Path(o.registrationPath)
	}
	return cfg, nil
}

// newRoot builds the command line. Without a subcommand it understands the
// flags that users of mautrix bridges type: -g, -e, -c, -r, -v.
func newRoot() *cobra.Command {
	o := &options{}
	var generate, example, noUpdate, showVersion bool
	root := &cobra.Command{
		Use:   "bridge",
		Short: "Matrix–MIMI bridge: an application service beside a homeserver, a MIMI provider to the world",
		Long: `Matrix–MIMI bridge: an application service beside a homeserver, a MIMI provider to the world.
Without a command it runs. The first time:

  bridge -e              writes config.yaml; set homeserver.domain, mimi.domain and mimi.tls in it
  bridge registration    writes registration.yaml, for the homeserver
  bridge keys make       makes the key of the database; SQLite needs no such call
  bridge config check    says what is still missing
  bridge run

README.md has it step by step, docs/operations.md the rest.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			o.env = environ()
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case showVersion:
				return printVersion(cmd.OutOrStdout())
			case example:
				return writeExample(cmd.OutOrStdout(), o.configPath)
			case generate:
				return writeRegistration(cmd.OutOrStdout(), o, false)
			}
			return run(cmd.Context(), o)
		},
	}
	pf := root.PersistentFlags()
	pf.StringVarP(&o.configPath, "config", "c", "config.yaml", "the settings `file`")
	pf.StringVarP(&o.registrationPath, "registration", "r", "", "the registration `file`, instead of appservice.registration_file")
	f := root.Flags()
	f.BoolVarP(&generate, "generate-registration", "g", false, "write the registration and quit (as: bridge registration)")
	f.BoolVarP(&example, "generate-example-config", "e", false, "write the example settings to the settings file and quit")
	f.BoolVarP(&noUpdate, "no-update", "n", false, "taken for those who are used to it: the settings file is never rewritten")
	f.BoolVarP(&showVersion, "version", "v", false, "print the version and quit")
	root.AddCommand(newRun(o), newRegistration(o), newConfig(o), newMigrate(o), newKeys(o), newDemo(), newVersion())
	return root
}
