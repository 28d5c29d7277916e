// Package stage runs the real bridge, each as a child process, beside homeservers of package fakes: two or more providers
// with mutual TLS over loopback, each reached through a link that can be cut. It is what the crash, refusal and cost tests
// stand on.
package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/test/fakes"
	"github.com/matrix-mimi/bridge/test/harness"
)

// Options say what is on stage.
type Options struct {
	Dir string // everything is kept in here
	Bin string // the bridge's binary
	// Bridges are the domains of the bridges that run.
	Bridges []string
	// Peers are addresses (host:port) of providers that are no bridges, by domain.
	Peers map[string]string
	// Postgres makes a database for a bridge and returns its URI; nil for SQLite.
	Postgres func(ctx context.Context, hint string) (string, error)
	// Database are settings of the section "database" beside type and URI.
	Database map[string]any
	// Bridge are settings of the section "bridge" beside the stage's own.
	Bridge map[string]any
	// MIMI are more settings of the section mimi.
	MIMI map[string]any
	// ActivityPub are the settings of the section activitypub; the face is off without them. Its servers are named in Peers.
	ActivityPub map[string]any
	// LogLevel of the bridges, "info" by default.
	LogLevel string
	// Homeserver, if set, takes the place of the fake homeserver: its server_name and base address. The registration must
	// then be given to it before Start.
	Homeserver func(domain string) (name, url string)
}

// Stage is a set of providers.
type Stage struct {
	opts    Options
	CA      *ca.CA
	Bridges map[string]*Bridge
	order   []string
}

// Bridge is one bridge with its homeserver.
type Bridge struct {
	Domain string
	Dir    string
	// Homeserver is nil when Options.Homeserver named another.
	Homeserver *fakes.Homeserver
	// Link carries what others send to the bridge's MIMI listener.
	Link *fakes.Link
	// Postgres is the URI of the database, "" for SQLite.
	Postgres string
	// Tokens of the registration.
	Token, HomeserverToken string

	stage                   *Stage
	proc                    *harness.Process
	appservice, mimi, admin int
	hsName, hsURL           string
}

// New writes settings, keys and certificates and starts the homeservers, but no bridge. Close ends all.
func New(ctx context.Context, o Options) (*Stage, error) {
	authority, err := ca.New("providers on stage", ca.P256, time.Now())
	if err != nil {
		return nil, err
	}
	s := &Stage{opts: o, CA: authority, Bridges: map[string]*Bridge{}, order: o.Bridges}
	for _, domain := range o.Bridges {
		b := &Bridge{Domain: domain, Dir: filepath.Join(o.Dir, domain), stage: s}
		s.Bridges[domain] = b
		for _, port := range []*int{&b.appservice, &b.mimi, &b.admin} {
			if *port, err = harness.FreePort(); err != nil {
				return nil, errors.Join(err, s.Close())
			}
		}
		if b.Link, err = fakes.NewLink("127.0.0.1:0", harness.Loopback(b.mimi)); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	for _, domain := range o.Bridges {
		if err := s.Bridges[domain].prepare(ctx); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Close ends everything that runs.
func (s *Stage) Close() error {
	var errs []error
	for _, domain := range s.order {
		b := s.Bridges[domain]
		if b == nil {
			continue
		}
		if b.proc != nil && b.proc.Running() {
			errs = append(errs, b.Stop())
		}
		if b.Link != nil {
			b.Link.Close()
		}
		if b.Homeserver != nil {
			b.Homeserver.Close()
		}
	}
	return errors.Join(errs...)
}

type section = map[string]any

func (b *Bridge) prepare(ctx context.Context) error {
	s := b.stage
	if err := os.MkdirAll(b.Dir, 0o755); err != nil {
		return err
	}
	cert, err := s.CA.Issue(time.Now(), ca.Options{}, b.Domain)
	if err != nil {
		return err
	}
	if err := ca.Write(cert, filepath.Join(b.Dir, "cert.pem"), filepath.Join(b.Dir, "key.pem")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.Dir, "ca.pem"), s.CA.PEM(), 0o644); err != nil {
		return err
	}
	listen := ""
	if s.opts.Homeserver != nil {
		b.hsName, b.hsURL = s.opts.Homeserver(b.Domain)
	} else {
		port, err := harness.FreePort()
		if err != nil {
			return err
		}
		listen = harness.Loopback(port)
		b.hsName, b.hsURL = "hs."+b.Domain, "http://"+listen
	}
	settings, err := b.settings(ctx)
	if err != nil {
		return err
	}
	data, err := yaml.Marshal(settings)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.Dir, "config.yaml"), data, 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{{"registration"}, {"keys", "make"}} {
		if out, err := b.command(ctx, args...); err != nil {
			return fmt.Errorf("bridge %s of %s: %w: %s", strings.Join(args, " "), b.Domain, err, out)
		}
	}
	if err := b.readTokens(); err != nil || listen == "" {
		return err
	}
	b.Homeserver, err = fakes.Start(fakes.Config{Name: b.hsName, Listen: listen, Bot: "mimibot", Bridge: "http://" + harness.Loopback(b.appservice),
		BridgeToken: b.HomeserverToken, Token: b.Token})
	return err
}

func (b *Bridge) readTokens() error {
	data, err := os.ReadFile(b.Registration())
	if err != nil {
		return err
	}
	var reg struct {
		AS string `yaml:"as_token"`
		HS string `yaml:"hs_token"`
	}
	if err := yaml.Unmarshal(data, &reg); err != nil {
		return fmt.Errorf("read the registration of %s: %w", b.Domain, err)
	}
	b.Token, b.HomeserverToken = reg.AS, reg.HS
	return nil
}

func (b *Bridge) settings(ctx context.Context) (section, error) {
	s := b.stage
	peers := section{}
	for _, domain := range s.order {
		if domain != b.Domain {
			peers[domain] = section{"address": s.Bridges[domain].Link.Addr(), "allow_private_address": true}
		}
	}
	for domain, addr := range s.opts.Peers {
		peers[domain] = section{"address": addr, "allow_private_address": true}
	}
	db := section{"type": "sqlite", "uri": "bridge.db"}
	if s.opts.Postgres != nil {
		uri, err := s.opts.Postgres(ctx, b.Domain)
		if err != nil {
			return nil, err
		}
		b.Postgres = uri
		db = section{"type": "postgres", "uri": uri}
	}
	maps.Copy(db, s.opts.Database)
	level := s.opts.LogLevel
	if level == "" {
		level = "info"
	}
	own := section{"permissions": section{"*": "user"}, "max_export": 2000}
	maps.Copy(own, s.opts.Bridge)
	mimi := section{"domain": b.Domain, "listen": harness.Loopback(b.mimi),
		"tls":           section{"certificate_file": "cert.pem", "key_file": "key.pem"},
		"peer_defaults": section{"roots": "file", "ca_file": "ca.pem"}, "peers": peers}
	maps.Copy(mimi, s.opts.MIMI)
	return section{
		"homeserver": section{"address": b.hsURL, "domain": b.hsName},
		"appservice": section{"address": "http://" + harness.Loopback(b.appservice), "listen": harness.Loopback(b.appservice), "bot": section{"username": "mimibot"}},
		"bridge":     own,
		"database":   db,
		"mimi":       mimi, "activitypub": maps.Clone(s.opts.ActivityPub),
		"limits": section{"retry_first": "100ms", "retry_max": "1s", "key_claims": 100000, "peer_key_claims": 100000, "group_info_requests": 100000,
			"peer_requests": 100000},
		// The fake homeserver knows no devices.
		"encryption": section{"allow": false},
		"logging":    section{"level": level, "format": "json"},
		"admin":      section{"listen": harness.Loopback(b.admin)},
	}, nil
}

// Registration is the file for the homeserver.
func (b *Bridge) Registration() string { return filepath.Join(b.Dir, "registration.yaml") }

// Log is the file with the bridge's log.
func (b *Bridge) Log() string { return filepath.Join(b.Dir, "bridge.log") }

// MIMIAddr is the host:port of the bridge's MIMI listener itself.
func (b *Bridge) MIMIAddr() string { return harness.Loopback(b.mimi) }

// AppserviceURL is the base address of the listener for the homeserver.
func (b *Bridge) AppserviceURL() string { return "http://" + harness.Loopback(b.appservice) }

// AdminURL is the base address of the operator's listener.
func (b *Bridge) AdminURL() string { return "http://" + harness.Loopback(b.admin) }

// Process is that of the last start.
func (b *Bridge) Process() *harness.Process { return b.proc }

func (b *Bridge) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.stage.opts.Bin, append(args, "-c", filepath.Join(b.Dir, "config.yaml"))...)
	cmd.Dir = b.Dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Launch starts the bridge without waiting for it. env is for this start only.
func (b *Bridge) Launch(env ...string) error {
	proc, err := harness.StartProcess(harness.Command{Name: "bridge " + b.Domain, Path: b.stage.opts.Bin,
		Args: []string{"run", "-c", filepath.Join(b.Dir, "config.yaml")}, Dir: b.Dir, Env: append(os.Environ(), env...), Log: b.Log()})
	if err == nil {
		b.proc = proc
	}
	return err
}

// Start starts the bridge and waits until it is ready.
func (b *Bridge) Start(ctx context.Context, env ...string) error {
	if err := b.Launch(env...); err != nil {
		return err
	}
	return b.AwaitReady(ctx)
}

// AwaitReady waits until /readyz says yes, at most a minute.
func (b *Bridge) AwaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return b.proc.Await(ctx, "bridge "+b.Domain+" to be ready", func(ctx context.Context) error {
		return harness.GetOK(ctx, b.AdminURL()+"/readyz")
	})
}

// Stop ends the bridge with SIGTERM.
func (b *Bridge) Stop() error {
	if err := b.proc.Stop(20 * time.Second); err != nil {
		return err
	}
	if err := b.proc.Err(); err != nil {
		return fmt.Errorf("bridge %s stopped with %w; its log ends:\n%s", b.Domain, err, b.proc.LogTail(2000))
	}
	return nil
}

// Ghost is the Matrix id that a user of a provider has at this bridge's homeserver.
func (b *Bridge) Ghost(domain, local string) string {
	return "@mimi_" + escape(domain) + "=2f" + escape(local) + ":" + b.hsName
}

// escape is the rule of docs/decisions/0007 for simple names, written apart from the bridge's own code.
func escape(s string) string { return strings.ReplaceAll(s, "_", "__") }

// Profile takes a CPU profile of the running bridge for a while and writes it to a file.
func (b *Bridge) Profile(ctx context.Context, d time.Duration, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", b.AdminURL(), int(d.Seconds())), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("profile bridge %s: %s: %s", b.Domain, resp.Status, said)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
