package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"maunium.net/go/mautrix/appservice"

	"github.com/matrix-mimi/bridge/internal/config"
)

func newRegistration(o *options) *cobra.Command {
	var newTokens bool
	cmd := &cobra.Command{
		Use:   "registration",
		Short: "Write the registration that the homeserver needs",
		Long: "Write the registration that the homeserver needs. When the file is there, its tokens are kept and the rest is\n" +
			"made to follow the settings; the homeserver reads it when it starts.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return writeRegistration(cmd.OutOrStdout(), o, newTokens) },
	}
	cmd.Flags().BoolVar(&newTokens, "new-tokens", false, "make new tokens; the homeserver must then be restarted with the file")
	return cmd
}

func writeRegistration(w io.Writer, o *options, newTokens bool) error {
	cfg, err := o.load()
	if err != nil {
		return fmt.Errorf("the settings are not good:\n%w", err)
	}
	path := string(cfg.Appservice.RegistrationFile)
	if path == "" {
		return errors.New("appservice.registration_file is empty; name the file with -r")
	}
	old, err := appservice.LoadRegistration(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the registration %s: %w", path, err)
	}
	reg := buildRegistration(cfg)
	if err == nil {
		reg.MSC4190 = old.MSC4190 // set by hand: what the homeserver wants for encryption (docs/encryption.md)
	}
	if err == nil && !newTokens {
		reg.AppToken, reg.ServerToken, reg.SenderLocalpart = old.AppToken, old.ServerToken, old.SenderLocalpart
	}
	if reg.AppToken == "" || reg.ServerToken == "" || reg.SenderLocalpart == "" {
		reg.AppToken, reg.ServerToken, reg.SenderLocalpart = rand.Text()+rand.Text(), rand.Text()+rand.Text(), strings.ToLower(rand.Text())
	}
	text, err := reg.YAML()
	if err != nil {
		return fmt.Errorf("write the registration: %w", err)
	}
	if err := replaceFile(path, []byte(text)); err != nil {
		return fmt.Errorf("write the registration: %w", err)
	}
	_, err = fmt.Fprintf(w, "wrote %s; name it in the homeserver's settings (Synapse: app_service_config_files, Dendrite: app_service_api.config_files) and restart the homeserver\n", path)
	return err
}

// buildRegistration makes a registration without tokens. The bot is an ordinary
// user of the namespace and sender_localpart a random name beside it, because
// Synapse refuses the logins that encryption needs to the sender itself.
func buildRegistration(cfg *config.Config) *appservice.Registration {
	limited := false
	server := regexp.QuoteMeta(cfg.Homeserver.Domain)
	reg := &appservice.Registration{
		ID:          cfg.Appservice.ID,
		URL:         cfg.Appservice.Address,
		RateLimited: &limited,
		Protocols:   []string{"mimi"},
		// What homeservers call pushing typing, receipts and to-device messages.
		SoruEphemeralEvents: true,
		EphemeralEvents:     true,
		MSC3202:             cfg.Encryption.Allow,
	}
	users := &reg.Namespaces.UserIDs
	exclusive := func(list *appservice.NamespaceList, expr string) {
		*list = append(*list, appservice.Namespace{Regex: expr, Exclusive: true})
	}
	exclusive(users, "^@"+regexp.QuoteMeta(cfg.Appservice.Bot.Username)+":"+server+"$")
	if len(cfg.Appservice.GhostProviders) == 0 {
		exclusive(users, "^@mimi_.*:"+server+"$")
		exclusive(users, "^@acct_.*:"+server+"$")
		exclusive(&reg.Namespaces.RoomAliases, "^#mimi_.*:"+server+"$")
	} else {
		names := make([]string, len(cfg.Appservice.GhostProviders))
		for i, d := range cfg.Appservice.GhostProviders {
			names[i] = regexp.QuoteMeta(d)
		}
		any := "(" + strings.Join(names, "|") + ")"
		exclusive(users, "^@mimi_"+any+"=2f.*:"+server+"$")
		exclusive(users, "^@acct_.*=40"+any+":"+server+"$")
		exclusive(&reg.Namespaces.RoomAliases, "^#mimi_("+strings.Join(append(names, regexp.QuoteMeta(cfg.MIMI.Domain)), "|")+")=2f.*:"+server+"$")
	}
	if cfg.Bridge.DoublePuppet {
		*users = append(*users, appservice.Namespace{Regex: "^@[^:]+:" + server + "$", Exclusive: false})
	}
	return reg
}

// loadRegistration reads the registration and puts the tokens of the token files
// in. It is an error when it does not fit the settings, because the homeserver
// reads the same file and would then do something else than the bridge expects.
func loadRegistration(cfg *config.Config) (*appservice.Registration, error) {
	a := cfg.Appservice
	reg := buildRegistration(cfg)
	if a.RegistrationFile != "" {
		if _, err := config.ReadSecret(a.RegistrationFile); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("%s does not exist; make it with: bridge registration", a.RegistrationFile)
			}
			return nil, err
		}
		read, err := appservice.LoadRegistration(string(a.RegistrationFile))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", a.RegistrationFile, err)
		}
		if read.ID != reg.ID || fmt.Sprint(read.Namespaces) != fmt.Sprint(reg.Namespaces) {
			return nil, fmt.Errorf("%s is not what the settings say (id or namespaces); run: bridge registration, then restart the homeserver", a.RegistrationFile)
		}
		reg = read
	}
	for _, t := range []struct {
		file  config.Path
		token *string
	}{{a.ASTokenFile, &reg.AppToken}, {a.HSTokenFile, &reg.ServerToken}} {
		if t.file == "" {
			continue
		}
		secret, err := config.ReadSecret(t.file)
		if err != nil {
			return nil, err
		}
		*t.token = secret
	}
	if reg.AppToken == "" || reg.ServerToken == "" {
		return nil, errors.New("as_token or hs_token is missing; run: bridge registration")
	}
	return reg, nil
}

// replaceFile writes a file whole or not at all, readable by its owner and
// group (the homeserver reads the registration too).
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o640), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
