package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/synapseadmin"
)

// registrationSecret lets the harness make users; the server only listens on
// loopback and lives as long as the test.
const registrationSecret = "harness-registration-secret"

// HomeserverConfig says how one homeserver runs.
type HomeserverConfig struct {
	ServerName    string   // domain part of its users' ids, for example "one.example"
	Dir           string   // directory of its own for keys, databases, media and log
	Port          int      // loopback port; 0 takes a free one
	Registrations []string // paths of appservice registration files
	PostgresURI   string   // one database of its own; empty means SQLite files in Dir
	Presence      bool     // people and ghosts have a presence, which costs a write for every sync
}

// Homeserver is a running (or stopped) homeserver with its directory.
type Homeserver struct {
	cfg      HomeserverConfig
	software Software
	proc     *Process
}

// StartHomeserver writes the configuration and starts a homeserver, and returns
// when it answers. It does not federate: what crosses between two of them
// crosses over the bridge.
func StartHomeserver(ctx context.Context, software Software, cfg HomeserverConfig) (*Homeserver, error) {
	if cfg.Port == 0 {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		cfg.Port = port
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("set up homeserver %s: %w", cfg.ServerName, err)
	}
	cfg.Dir = dir
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("set up homeserver %s: %w", cfg.ServerName, err)
	}
	h := &Homeserver{cfg: cfg, software: software}
	if err := h.writeFiles(ctx); err != nil {
		return nil, fmt.Errorf("set up homeserver %s: %w", cfg.ServerName, err)
	}
	if err := h.Start(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Homeserver) writeFiles(ctx context.Context) error {
	if len(h.software.Synapse) > 0 {
		return h.writeSynapse()
	}
	key := filepath.Join(h.cfg.Dir, "matrix_key.pem")
	if _, err := os.Stat(key); err != nil {
		out, err := exec.CommandContext(ctx, h.software.Dendrite.GenerateKeys, "--private-key", key).CombinedOutput()
		if err != nil {
			return fmt.Errorf("generate-keys: %w: %s", err, tail(out, 500))
		}
	}
	return os.WriteFile(filepath.Join(h.cfg.Dir, "dendrite.yaml"), []byte(h.yaml()), 0o644)
}

// yaml writes the smallest configuration that serves application services.
// With SQLite Dendrite wants one database file a component.
func (h *Homeserver) yaml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 2\nglobal:\n  server_name: %s\n  private_key: matrix_key.pem\n  disable_federation: true\n", strconv.Quote(h.cfg.ServerName))
	b.WriteString("  jetstream: {storage_path: ./jetstream}\n")
	fmt.Fprintf(&b, "  presence: {enable_inbound: %t, enable_outbound: %t}\n", h.cfg.Presence, h.cfg.Presence)
	if h.cfg.PostgresURI != "" {
		fmt.Fprintf(&b, "  database: {connection_string: %s, max_open_conns: 40, max_idle_conns: 10, conn_max_lifetime: -1}\n", strconv.Quote(h.cfg.PostgresURI))
	}
	b.WriteString("app_service_api:\n  config_files: [")
	for i, r := range h.cfg.Registrations {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Quote(r))
	}
	b.WriteString("]\nclient_api:\n  registration_disabled: true\n")
	fmt.Fprintf(&b, "  registration_shared_secret: %s\n  rate_limiting: {enabled: false}\n", strconv.Quote(registrationSecret))
	if h.cfg.PostgresURI != "" {
		b.WriteString("media_api: {base_path: ./media_store}\n")
	} else {
		b.WriteString("media_api: {base_path: ./media_store, database: {connection_string: \"file:mediaapi.db\"}}\n")
		for _, c := range [][2]string{{"federation_api", "database"}, {"key_server", "database"}, {"room_server", "database"},
			{"sync_api", "database"}, {"user_api", "account_database"}, {"mscs", "database"}, {"relay_api", "database"}} {
			fmt.Fprintf(&b, "%s: {%s: {connection_string: \"file:%s.db\"}}\n", c[0], c[1], strings.ReplaceAll(c[0], "_", ""))
		}
	}
	b.WriteString("logging: [{type: std, level: warn}]\n")
	return b.String()
}

// Start starts a homeserver that was stopped or killed, on the same directory
// and port, and returns when it answers.
func (h *Homeserver) Start(ctx context.Context) error {
	if h.proc != nil && h.proc.Running() {
		return nil
	}
	cmd := Command{Path: h.software.Dendrite.Server, Args: []string{"-config", "dendrite.yaml", "-http-bind-address", Loopback(h.cfg.Port)}}
	if words := h.software.Synapse; len(words) > 0 {
		cmd = Command{Path: words[0], Args: append(slices.Clone(words[1:]), "-c", "homeserver.yaml")}
	}
	cmd.Name, cmd.Dir, cmd.Log = "homeserver "+h.cfg.ServerName, h.cfg.Dir, h.LogPath()
	proc, err := StartProcess(cmd)
	if err != nil {
		return err
	}
	h.proc = proc
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = proc.Await(ctx, h.URL()+" to answer", func(ctx context.Context) error {
		return GetOK(ctx, h.URL()+"/_matrix/client/versions")
	})
	if err != nil {
		proc.Kill()
	}
	return err
}

// Stop ends the homeserver with SIGTERM. Start brings it back.
func (h *Homeserver) Stop() error { return h.proc.Stop(20 * time.Second) }

// Kill ends the homeserver as a crash would. Start brings it back.
func (h *Homeserver) Kill() { h.proc.Kill() }

// Process returns the running child.
func (h *Homeserver) Process() *Process { return h.proc }

// URL returns the base address of the client-server API.
func (h *Homeserver) URL() string { return "http://" + Loopback(h.cfg.Port) }

// ServerName returns the domain part of the users' ids.
func (h *Homeserver) ServerName() string { return h.cfg.ServerName }

// LogPath returns the file with the homeserver's output.
func (h *Homeserver) LogPath() string { return filepath.Join(h.cfg.Dir, "homeserver.log") }

// Password returns the password that User gives to a user.
func Password(localpart string) string { return "pw-" + localpart + "-12345" }

// User makes the user unless it is there, logs it in and returns a client with
// the session. Each call is a new device.
func (h *Homeserver) User(ctx context.Context, localpart string) (*mautrix.Client, error) {
	cli, err := mautrix.NewClient(h.URL(), "", "")
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", localpart, err)
	}
	cli.Log = zerolog.Nop()
	cli.Client.Transport = again{http.DefaultTransport}
	_, err = (&synapseadmin.Client{Client: cli}).SharedSecretRegister(ctx, registrationSecret, synapseadmin.ReqSharedSecretRegister{
		Username: localpart, Password: Password(localpart), Displayname: localpart,
	})
	if err != nil && !errors.Is(err, mautrix.MUserInUse) {
		return nil, fmt.Errorf("register %s on %s: %w", localpart, h.cfg.ServerName, err)
	}
	_, err = cli.Login(ctx, &mautrix.ReqLogin{
		Type:                     mautrix.AuthTypePassword,
		Identifier:               mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: localpart},
		Password:                 Password(localpart),
		InitialDeviceDisplayName: "harness",
		StoreCredentials:         true,
	})
	if err != nil {
		return nil, fmt.Errorf("log %s in on %s: %w", localpart, h.cfg.ServerName, err)
	}
	return cli, nil
}
