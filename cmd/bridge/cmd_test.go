package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/test/harness"
)

// do runs the command line as a person would and returns what it printed.
func do(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newRoot()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// must is do for what has to work.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := do(t, args...)
	if err != nil {
		t.Fatalf("bridge %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// certify gives the bridge of a site a certificate of a new authority.
func certify(t *testing.T, dir string, o ca.Options) {
	t.Helper()
	authority, err := ca.New("test", ca.P256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Issue(time.Now(), o, "mimi.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Write(cert, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// site is a directory with settings, certificate and registration of a bridge
// that nothing else belongs to.
func site(t *testing.T) (dir, configFile string, admin string) {
	t.Helper()
	dir = t.TempDir()
	certify(t, dir, ca.Options{})
	port := func() string {
		p, err := harness.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		return harness.Loopback(p)
	}
	admin = port()
	configFile = filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf(`homeserver: {domain: hs.example, address: "http://%s"}
appservice: {listen: "%s"}
mimi:
  domain: mimi.example
  listen: "%s"
  tls: {certificate_file: cert.pem, key_file: key.pem}
admin: {listen: "%s"}
logging: {format: json}
`, port(), port(), port(), admin)
	if err := os.WriteFile(configFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, configFile, admin
}

func TestVersionIsPrintedInEveryWayPeopleAskForIt(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}, {"-v"}} {
		if out := must(t, args...); !strings.HasPrefix(out, "mimi-bridge ") {
			t.Errorf("%v prints %q", args, out)
		}
	}
}
