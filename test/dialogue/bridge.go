package dialogue

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/test/harness"
)

// Bridge is a bridge on stage: the real program with settings of its own.
type Bridge struct {
	plan  BridgePlan
	dir   string
	bin   string
	env   []string
	hsURL string
	proc  *harness.Process

	appservice, mimi, admin int // ports
}

// newBridge gives a bridge its directory and ports.
func newBridge(w *World, plan BridgePlan, hsURL string) (*Bridge, error) {
	b := &Bridge{plan: plan, bin: w.opts.Bridge, env: w.opts.Env, hsURL: hsURL, dir: filepath.Join(w.opts.Dir, "bridge-"+plan.Domain)}
	for _, port := range []*int{&b.appservice, &b.mimi, &b.admin} {
		var err error
		if *port, err = harness.FreePort(); err != nil {
			return nil, err
		}
	}
	return b, os.MkdirAll(b.dir, 0o755)
}

// prepare writes certificate, settings and registration. All bridges of the
// world must have their ports by now, because each is told the others'.
func (b *Bridge) prepare(ctx context.Context, w *World) error {
	cert, err := w.ca.Issue(time.Now(), ca.Options{}, b.plan.Domain)
	if err != nil {
		return err
	}
	if err := ca.Write(cert, filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.dir, "ca.pem"), w.ca.PEM(), 0o644); err != nil {
		return fmt.Errorf("write the certificate authority: %w", err)
	}
	if err := b.writeSettings(ctx, w); err != nil {
		return err
	}
	for _, args := range [][]string{{"registration"}, {"keys", "make"}} {
		if out, err := b.command(ctx, args...); err != nil {
			return fmt.Errorf("bridge %s of %s: %w: %s", strings.Join(args, " "), b.plan.Domain, err, out)
		}
	}
	return nil
}

// writeSettings writes the settings, with a new database if that is PostgreSQL.
func (b *Bridge) writeSettings(ctx context.Context, w *World) error {
	settings, err := b.settings(ctx, w)
	if err != nil {
		return err
	}
	data, err := yaml.Marshal(settings)
	if err == nil {
		err = os.WriteFile(b.configFile(), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the settings of %s: %w", b.plan.Domain, err)
	}
	return nil
}

// beginAnew stops the bridge, takes its database away and starts it.
func (b *Bridge) beginAnew(ctx context.Context, w *World) error {
	if err := b.Stop(); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(b.dir, "bridge.db*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	if err := b.writeSettings(ctx, w); err != nil {
		return err
	}
	return b.Start(ctx)
}

type section = map[string]any

func (b *Bridge) settings(ctx context.Context, w *World) (section, error) {
	peers := section{}
	shared := false
	for _, domain := range w.order {
		other := w.bridges[domain]
		if other != b {
			peers[domain] = section{"address": harness.Loopback(other.mimi), "allow_private_address": true}
			shared = shared || other.plan.Homeserver == b.plan.Homeserver
		}
	}
	for domain, p := range w.strangers {
		peers[domain] = section{"address": p.Addr(), "allow_private_address": true}
	}
	id, bot := "mimi", "mimibot"
	if shared {
		// Two bridges at one homeserver: every name that must be unique there
		// contains the domain, and each has only the others' people as ghosts.
		word := strings.ReplaceAll(b.plan.Domain, ".", "-")
		id, bot = "mimi-"+word, "mimibot-"+word
	}
	out := section{
		"homeserver": section{"address": b.hsURL, "domain": ServerName(b.plan.Homeserver)},
		"appservice": section{"id": id, "address": "http://" + harness.Loopback(b.appservice), "listen": harness.Loopback(b.appservice), "bot": section{"username": bot}},
		"bridge":     section{"permissions": section{"*": "user", "@admin:" + ServerName(b.plan.Homeserver): "admin"}},
		"database":   section{"type": "sqlite", "uri": "bridge.db"},
		"mimi": section{"domain": b.plan.Domain, "listen": harness.Loopback(b.mimi),
			"tls":           section{"certificate_file": "cert.pem", "key_file": "key.pem"},
			"peer_defaults": section{"roots": "file", "ca_file": "ca.pem"}, "peers": peers},
		"limits":  section{"retry_first": "200ms", "retry_max": "2s", "key_claims": 1000, "group_info_requests": 1000},
		"logging": section{"level": "debug", "format": "json"},
		"admin":   section{"listen": harness.Loopback(b.admin)},
	}
	if shared {
		var others []string
		for domain := range peers {
			others = append(others, domain)
		}
		sort.Strings(others)
		out["appservice"].(section)["ghost_providers"] = others
	}
	if b.plan.Postgres || w.opts.AllPostgres {
		if w.opts.Postgres == nil {
			return nil, fmt.Errorf("bridge %s wants PostgreSQL, and none is offered here", b.plan.Domain)
		}
		uri, err := w.opts.Postgres(ctx, b.plan.Domain)
		if err != nil {
			return nil, err
		}
		out["database"] = section{"type": "postgres", "uri": uri}
	}
	return out, override(out, b.plan.Settings)
}

// override sets dotted keys; values are YAML.
func override(settings section, overrides map[string]string) error {
	for key, text := range overrides {
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			return fmt.Errorf("setting %s=%s: %w", key, text, err)
		}
		at, path := settings, strings.Split(key, ".")
		for _, part := range path[:len(path)-1] {
			next, ok := at[part].(section)
			if !ok {
				next = section{}
				at[part] = next
			}
			at = next
		}
		at[path[len(path)-1]] = value
	}
	return nil
}

func (b *Bridge) configFile() string   { return filepath.Join(b.dir, "config.yaml") }
func (b *Bridge) registration() string { return filepath.Join(b.dir, "registration.yaml") }
func (b *Bridge) logFile() string      { return filepath.Join(b.dir, "bridge.log") }

// command runs a subcommand with the bridge's settings.
func (b *Bridge) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.bin, append(args, "-c", b.configFile())...)
	cmd.Dir, cmd.Env = b.dir, append(os.Environ(), b.env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Domain returns the bridge's MIMI domain.
func (b *Bridge) Domain() string { return b.plan.Domain }

// Bot returns the localpart of the bridge's bot.
func (b *Bridge) Bot(w *World) string {
	for _, domain := range w.order {
		if other := w.bridges[domain]; other != b && other.plan.Homeserver == b.plan.Homeserver {
			return "mimibot-" + strings.ReplaceAll(b.plan.Domain, ".", "-")
		}
	}
	return "mimibot"
}

// AdminURL returns the base address of the operator's listener.
func (b *Bridge) AdminURL() string { return "http://" + harness.Loopback(b.admin) }

// Addr returns the host:port of the MIMI listener.
func (b *Bridge) Addr() string { return harness.Loopback(b.mimi) }

// Dir returns the directory with the bridge's settings, keys and database.
func (b *Bridge) Dir() string { return b.dir }

// Start starts a bridge that does not run and returns when it is ready. Extra
// environment, such as a kill point, is for this start only.
func (b *Bridge) Start(ctx context.Context, env ...string) error {
	if err := b.Launch(env...); err != nil {
		return err
	}
	return b.AwaitReady(ctx)
}

// Launch starts the process without waiting for it.
func (b *Bridge) Launch(env ...string) error {
	if b.proc != nil && b.proc.Running() {
		return nil
	}
	proc, err := harness.StartProcess(harness.Command{
		Name: "bridge " + b.plan.Domain, Path: b.bin, Args: []string{"run", "-c", b.configFile()}, Dir: b.dir,
		Env: append(append(os.Environ(), b.env...), env...), Log: b.logFile(),
	})
	if err == nil {
		b.proc = proc
	}
	return err
}

// AwaitReady waits until /readyz says yes, at most a minute.
func (b *Bridge) AwaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return b.proc.Await(ctx, "bridge "+b.plan.Domain+" to be ready", func(ctx context.Context) error {
		return harness.GetOK(ctx, b.AdminURL()+"/readyz")
	})
}

// Process returns the process of the last start.
func (b *Bridge) Process() *harness.Process { return b.proc }

// Kill ends the bridge as a crash would.
func (b *Bridge) Kill() { b.proc.Kill() }

// Stop ends the bridge with SIGTERM and complains when that takes over 20 s or
// ends in another way than exit code 0.
func (b *Bridge) Stop() error {
	if err := b.proc.Stop(20 * time.Second); err != nil {
		return err
	}
	if err := b.proc.Err(); err != nil {
		return fmt.Errorf("bridge %s stopped with %w; its log ends:\n%s", b.plan.Domain, err, b.proc.LogTail(2000))
	}
	return nil
}

// close is Stop for a bridge that may never have run or was killed.
func (b *Bridge) close() error {
	if b.proc == nil || !b.proc.Running() {
		return nil
	}
	return b.Stop()
}
