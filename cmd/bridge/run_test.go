package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/test/harness"
)

// ready asks once whether the bridge is ready.
func ready(ctx context.Context, admin string) error {
	return harness.GetOK(ctx, "http://"+admin+"/readyz")
}

// shown is the serial number of the certificate that a listener shows.
func shown(t *testing.T, addr string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) // only looked at
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// The program itself: a first run makes its database and key, SIGHUP does not
// end it but makes it show its new certificate, SIGTERM does within 20 s with exit code 0, and a second process on
// the same SQLite file is refused.
func TestRunStartsAndStops(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED WITH A HOMESERVER: -short")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir, cfg, admin := site(t)
	bin, err := harness.BuildBridge(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	must(t, "registration", "-c", cfg)
	software, err := harness.HomeserverSoftware(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(loaded.Homeserver.Address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(address.Port())
	if err != nil {
		t.Fatal(err)
	}
	hs, err := harness.StartHomeserver(ctx, software, harness.HomeserverConfig{
		ServerName: "hs.example", Dir: filepath.Join(dir, "hs"), Port: port, Registrations: []string{filepath.Join(dir, "registration.yaml")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hs.Stop() })
	start := func(name string) *harness.Process {
		t.Helper()
		p, err := harness.StartProcess(harness.Command{Name: name, Path: bin, Args: []string{"run", "-c", cfg}, Dir: dir, Log: filepath.Join(dir, name+".log")})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := start("bridge")
	t.Cleanup(func() { _ = p.Stop(time.Second) })
	if err := p.Await(ctx, "the bridge to be ready", func(ctx context.Context) error { return ready(ctx, admin) }); err != nil {
		t.Fatal(err)
	}
	second := start("second")
	select {
	case <-second.Done():
	case <-ctx.Done():
	}
	if err := second.Stop(time.Second); err != nil || second.Err() == nil {
		t.Errorf("a second process on the same file runs: %v", err)
	}
	before := shown(t, loaded.MIMI.Listen)
	certify(t, dir, ca.Options{})
	if after := shown(t, loaded.MIMI.Listen); after != before {
		t.Error("another certificate is shown before SIGHUP")
	}
	if err := p.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	err = p.Await(ctx, "SIGHUP to be heard", func(context.Context) error {
		if !strings.Contains(p.LogTail(10_000), "read certificates again") {
			return fmt.Errorf("not in the log")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if after := shown(t, loaded.MIMI.Listen); after == before {
		t.Error("the old certificate is shown after SIGHUP")
	}
	if err := p.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if p.Err() != nil {
		t.Errorf("ends with %v:\n%s", p.Err(), p.LogTail(2000))
	}
	// Once it was registered, the bridge is ready without its homeserver, for
	// the sake of other providers.
	if err := hs.Stop(); err != nil {
		t.Fatal(err)
	}
	again := start("again")
	t.Cleanup(func() { _ = again.Stop(time.Second) })
	if err := again.Await(ctx, "the bridge to be ready without its homeserver", func(ctx context.Context) error { return ready(ctx, admin) }); err != nil {
		t.Fatal(err)
	}
	if err := again.Stop(20 * time.Second); err != nil || again.Err() != nil {
		t.Errorf("%v, %v", err, again.Err())
	}
	for _, line := range strings.Split(strings.TrimSpace(p.LogTail(100_000)), "\n") {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields["msg"] == nil {
			t.Errorf("a log line that is not JSON: %s", line)
		}
	}
}
