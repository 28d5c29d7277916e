package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/sealed"
	"github.com/matrix-mimi/bridge/internal/store"
)

func newMigrate(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's tables up to this release",
		Long:  "Bring the database's tables up to this release. `bridge run` does it too; this is for those who do it apart, with other rights.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.load()
			if err != nil {
				return fmt.Errorf("the settings are not good:\n%w", err)
			}
			sc, err := storeConfig(cfg, zerolog.Nop())
			if err != nil {
				return err
			}
			v, err := store.Migrate(cmd.Context(), sc)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "the database is at schema %d\n", v)
			return err
		},
	}
}

// freshSQLite tells whether the settings name an SQLite database that is not there yet.
func freshSQLite(cfg *config.Config) bool {
	return cfg.Database.Type == config.SQLite && notThere(cfg.Database.URI)
}

// storeConfig turns the settings into what the store needs. The sealing key of
// a new SQLite database is made on the way, so that a first run needs no
// preparation; for any other database its absence is an error, because a new
// key would make everything that the old one sealed unreadable.
func storeConfig(cfg *config.Config, log zerolog.Logger) (store.Config, error) {
	d := cfg.Database
	key, err := sealed.LoadKeyFile(string(d.SealingKeyFile))
	if errors.Is(err, os.ErrNotExist) {
		if !freshSQLite(cfg) {
			return store.Config{}, fmt.Errorf("the sealing key %s does not exist; for a new database make it with `bridge keys make`, for one in use bring the old file back", d.SealingKeyFile)
		}
		key, err = sealed.CreateKeyFile(rand.Reader, string(d.SealingKeyFile))
	}
	if err != nil {
		return store.Config{}, err
	}
	dsn := d.URI
	if d.PasswordFile != "" {
		password, err := config.ReadSecret(d.PasswordFile)
		if err != nil {
			return store.Config{}, err
		}
		u, err := url.Parse(dsn)
		if err != nil {
			return store.Config{}, errors.New("database.uri is no address")
		}
		u.User = url.UserPassword(u.User.Username(), password)
		dsn = u.String()
	}
	marker := string(d.MarkerFile)
	if marker == "" && d.Type == config.Postgres {
		marker = string(d.SealingKeyFile) + ".marker"
	}
	return store.Config{
		Driver: string(d.Type), DSN: dsn, Sealer: key, MaxConns: d.MaxConnections, AllowUnsafe: d.AllowUnsynced, MarkerFile: marker, Log: log,
	}, nil
}

func notThere(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist)
}
