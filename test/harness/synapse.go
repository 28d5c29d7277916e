package harness

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Software is what the homeservers of the tests are.
type Software struct {
	Dendrite Dendrite
	// Synapse is a command that runs Synapse, to which its arguments are added; empty means Dendrite.
	Synapse []string
}

// HomeserverSoftware returns what the environment variable HOMESERVER names: a command, in words, that runs an installed
// Synapse, such as "python3 -m synapse.app.homeserver". Without it, it is Dendrite, built as [BuildDendrite] does.
func HomeserverSoftware(ctx context.Context, progress io.Writer) (Software, error) {
	if command := strings.Fields(os.Getenv("HOMESERVER")); len(command) > 0 {
		return Software{Synapse: command}, nil
	}
	bins, err := BuildDendrite(ctx, progress)
	return Software{Dendrite: bins}, err
}

// writeSynapse writes the settings and, at the first start, the signing key.
func (h *Homeserver) writeSynapse() error {
	key := filepath.Join(h.cfg.Dir, "signing.key")
	if _, err := os.Stat(key); err != nil {
		seed := make([]byte, 32)
		rand.Read(seed)
		if err := os.WriteFile(key, []byte("ed25519 a_test "+base64.RawStdEncoding.EncodeToString(seed)+"\n"), 0o600); err != nil {
			return err
		}
	}
	settings, err := h.synapseSettings()
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(settings, "", "  ") // which is YAML too
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(h.cfg.Dir, "homeserver.yaml"), text, 0o600)
}

// synapseSettings are those of a fresh installation, but that it makes no connections, that its users are not limited in
// their rate, and that it tells application services all it can.
func (h *Homeserver) synapseSettings() (map[string]any, error) {
	if h.cfg.PostgresURI != "" {
		return nil, errors.New("Synapse is run with SQLite only")
	}
	unlimited := map[string]any{"per_second": 1e6, "burst_count": 1e6}
	registrations := h.cfg.Registrations
	if registrations == nil {
		registrations = []string{}
	}
	settings := map[string]any{
		"server_name": h.cfg.ServerName, "public_baseurl": h.URL() + "/", "report_stats": false, "pid_file": "homeserver.pid",
		"listeners": []any{map[string]any{"port": h.cfg.Port, "type": "http", "bind_addresses": []string{"127.0.0.1"},
			"resources": []any{map[string]any{"names": []string{"client", "federation"}}}}},
		"database":         map[string]any{"name": "sqlite3", "args": map[string]any{"database": filepath.Join(h.cfg.Dir, "homeserver.db")}},
		"media_store_path": filepath.Join(h.cfg.Dir, "media_store"), "signing_key_path": filepath.Join(h.cfg.Dir, "signing.key"),
		"registration_shared_secret": registrationSecret, "macaroon_secret_key": registrationSecret, "form_secret": registrationSecret,
		"trusted_key_servers": []any{}, "federation_domain_whitelist": []any{}, "app_service_config_files": registrations,
		"experimental_features": map[string]any{"msc2409_to_device_messages_enabled": true, "msc3202_transaction_extensions": true},
		"rc_login":              map[string]any{"address": unlimited, "account": unlimited, "failed_attempts": unlimited},
		"rc_joins":              map[string]any{"local": unlimited, "remote": unlimited},
		"rc_invites":            map[string]any{"per_room": unlimited, "per_user": unlimited, "per_issuer": unlimited},
	}
	for _, limit := range []string{"rc_message", "rc_registration", "rc_joins_per_room", "rc_presence", "rc_room_creation", "rc_media_create", "rc_admin_redaction"} {
		settings[limit] = unlimited
	}
	settings["rc_presence"] = map[string]any{"per_user": unlimited}
	return settings, nil
}
