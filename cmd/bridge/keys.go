package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/sealed"
	"github.com/matrix-mimi/bridge/internal/store"
)

func newKeys(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Make, show and rotate the bridge's keys", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	withConfig := func(f func(ctx context.Context, w io.Writer, cfg *config.Config) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.load()
			if err != nil {
				return fmt.Errorf("the settings are not good:\n%w", err)
			}
			return f(cmd.Context(), cmd.OutOrStdout(), cfg)
		}
	}
	cmd.AddCommand(
		&cobra.Command{Use: "make", Short: "Make the sealing key of a new database", Args: cobra.NoArgs, RunE: withConfig(makeKey)},
		&cobra.Command{Use: "show", Short: "Print the fingerprints of the sealing key and of the certificate", Args: cobra.NoArgs, RunE: withConfig(showKeys)},
		&cobra.Command{Use: "rotate", Short: "Make a new sealing key and seal everything in the database anew; the bridge must not run with SQLite, and must be restarted after it with PostgreSQL",
			Args: cobra.NoArgs, RunE: withConfig(rotateKeys)},
		&cobra.Command{Use: "authority", Short: "Print the certificates of the authority that certifies the bridge's users, for mimi.peers.<domain>.credential_ca_file of others",
			Args: cobra.NoArgs, RunE: withConfig(showAuthority)},
		&cobra.Command{Use: "fingerprint <certificate.pem>", Short: "Print the pin of a peer's certificate, for mimi.peers.<domain>.pins", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				pin, err := certificatePin(args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), pin)
				return err
			}},
	)
	return cmd
}

func makeKey(_ context.Context, w io.Writer, cfg *config.Config) error {
	path := string(cfg.Database.SealingKeyFile)
	key, err := sealed.CreateKeyFile(rand.Reader, path)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already; a new key would make the database unreadable. To change it: bridge keys rotate", path)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "wrote %s (%s); keep a copy apart from the database's backups\n", path, key.Fingerprints()[0])
	return err
}

func showKeys(_ context.Context, w io.Writer, cfg *config.Config) error {
	key, err := sealed.LoadKeyFile(string(cfg.Database.SealingKeyFile))
	if err != nil {
		return err
	}
	for i, f := range key.Fingerprints() {
		state := "in use"
		if i > 0 {
			state = "old, of a rotation that has not ended: run bridge keys rotate"
		}
		fmt.Fprintf(w, "sealing key   %s  %s\n", f, state)
	}
	pin, err := certificatePin(string(cfg.MIMI.TLS.CertificateFile))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "certificate   %s\n", pin)
	return err
}

// showAuthority prints the authorities that the bridge made when it first ran with
// mls.credential: x509.
func showAuthority(ctx context.Context, w io.Writer, cfg *config.Config) error {
	db, _, err := openStore(ctx, cfg)
	if err != nil {
		return err
	}
	list, err := relay.StoredAuthorities(ctx, db)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("there is no authority yet; the bridge makes one when it starts with mls.credential: x509")
	}
	for _, a := range list {
		if err := pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw}); err != nil {
			return err
		}
	}
	return nil
}

// certificatePin returns the SHA-256 of the SubjectPublicKeyInfo of the first
// certificate in a PEM file, in hex.
func certificatePin(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the certificate: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", fmt.Errorf("read the certificate: %s does not begin with one in PEM form", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("read the certificate: %w", err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:]), nil
}

// resealBatch is how many values of a table one transaction seals anew.
const resealBatch = 500

// rotateKeys changes both layers: the key in the file, which wraps, and the data
// key in the database, which seals. A run that is cut short leaves the old keys
// in place and can be repeated.
func rotateKeys(ctx context.Context, w io.Writer, cfg *config.Config) error {
	db, file, err := openStore(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(rotate(ctx, w, db, file), db.Close())
}

// openStore opens the database of a command, and its sealing key.
func openStore(ctx context.Context, cfg *config.Config) (*store.DB, *sealed.KeyFile, error) {
	sc, err := storeConfig(cfg, zerolog.Nop())
	if err != nil {
		return nil, nil, err
	}
	db, err := store.Open(ctx, sc)
	return db, sc.Sealer, err
}

func rotate(ctx context.Context, w io.Writer, db *store.DB, file *sealed.KeyFile) error {
	// The file is saved before the first use of the new key: a crash in between
	// must not leave data keys that no file opens.
	if err := file.Add(rand.Reader); err != nil {
		return err
	}
	if err := file.Save(); err != nil {
		return err
	}
	if err := db.Rewrap(ctx); err != nil {
		return fmt.Errorf("wrap the data keys anew: %w", err)
	}
	if err := db.RotateDataKey(ctx); err != nil {
		return fmt.Errorf("make a new data key: %w", err)
	}
	total := 0
	for {
		n, err := db.Reseal(ctx, resealBatch)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		total += n
	}
	file.Retire()
	if err := file.Save(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "rotated: sealing key %s, %d values sealed anew; destroy the copies of the old key file\n", file.Fingerprints()[0], total)
	return err
}
