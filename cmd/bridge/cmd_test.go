package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/appservice"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/peer/ca"
	"github.com/matrix-mimi/bridge/mimiside/wire"
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

func TestExampleSettingsAreWrittenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	must(t, "-e", "-c", path)
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if printed := must(t, "config", "example"); printed != string(written) {
		t.Error("-e and config example differ")
	}
	if _, err := do(t, "-e", "-c", path); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second -e says %v", err)
	}
}

func TestRegistrationKeepsItsTokensAndFollowsTheSettings(t *testing.T) {
	dir, cfg, _ := site(t)
	must(t, "-g", "-c", cfg)
	path := filepath.Join(dir, "registration.yaml")
	first, err := appservice.LoadRegistration(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.AppToken) < 32 || first.AppToken == first.ServerToken || first.SenderLocalpart == "mimibot" {
		t.Errorf("%+v", first)
	}
	for _, ns := range append(first.Namespaces.UserIDs, first.Namespaces.RoomAliases...) {
		if !strings.HasPrefix(ns.Regex, "^") || !strings.HasSuffix(ns.Regex, `:hs\.example$`) || !ns.Exclusive {
			t.Errorf("namespace %+v", ns)
		}
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm()&0o007 != 0 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	t.Setenv("MIMIBRIDGE_APPSERVICE__GHOST_PROVIDERS", "[two.example]")
	if out, err := do(t, "config", "check", "-c", cfg); err == nil || !strings.Contains(out, "run: bridge registration") {
		t.Errorf("an old registration is taken: %v\n%s", err, out)
	}
	must(t, "registration", "-c", cfg)
	second, err := appservice.LoadRegistration(path)
	if err != nil {
		t.Fatal(err)
	}
	if second.AppToken != first.AppToken || second.ServerToken != first.ServerToken || second.SenderLocalpart != first.SenderLocalpart {
		t.Error("the tokens changed")
	}
	if got := second.Namespaces.UserIDs[1].Regex; got != `^@mimi_(two\.example)=2f.*:hs\.example$` {
		t.Error(got)
	}
	// Synapse makes rooms for these aliases only: of other providers, of the bridge itself, and those of ActivityPub.
	loaded, err := config.Load(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	names := mapping.Naming{Domain: loaded.MIMI.Domain, Server: "hs.example"}
	own, _, err := mapping.AliasLocalpart(wire.IdentifierURI("mimi://"+names.Domain+"/r/x"), 200)
	if err != nil {
		t.Fatal(err)
	}
	for _, alias := range []string{"mimi_two.example=2fx", own, names.MarkedAlias("group", "0a"), names.MarkedAlias("channel", "0a")} {
		for _, reg := range []*appservice.Registration{first, second} {
			if ok, err := regexp.MatchString(reg.Namespaces.RoomAliases[0].Regex, "#"+alias+":hs.example"); !ok || err != nil {
				t.Errorf("%s is not in %s", alias, reg.Namespaces.RoomAliases[0].Regex)
			}
		}
	}
	second.MSC4190 = true // set by hand
	if err := second.Save(path); err != nil {
		t.Fatal(err)
	}
	must(t, "registration", "--new-tokens", "-c", cfg)
	third, err := appservice.LoadRegistration(path)
	if err != nil || third.AppToken == first.AppToken || third.ServerToken == first.ServerToken {
		t.Error("--new-tokens keeps them", err)
	}
	if !third.MSC4190 {
		t.Error("io.element.msc4190 was lost")
	}
}

func TestConfigCheckNamesEveryFileThatIsNotGood(t *testing.T) {
	_, cfg, _ := site(t)
	out, err := do(t, "config", "check", "-c", cfg)
	if err == nil || strings.Count(out, "\nbad ") != 1 || !strings.Contains(out, "bridge registration") {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, "registration", "-c", cfg)
	must(t, "config", "check", "-c", cfg) // a new SQLite database gets its key at the first start
	t.Setenv("MIMIBRIDGE_DATABASE__TYPE", "postgres")
	t.Setenv("MIMIBRIDGE_DATABASE__URI", "postgres://bridge@localhost/bridge?sslmode=disable")
	if out, err := do(t, "config", "check", "-c", cfg); err == nil || !strings.Contains(out, "bridge keys make") {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, "keys", "make", "-c", cfg)
	must(t, "config", "check", "-c", cfg)
	if err := os.WriteFile(cfg, []byte("homeserver:\n  domian: hs.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := do(t, "config", "check", "-c", cfg); err == nil || !strings.Contains(err.Error(), `config.yaml:2: homeserver.domian: unknown key; did you mean "domain"?`) {
		t.Error(err)
	}
}

// A file that is not good is named with the line of its setting and what to do about it.
func TestConfigCheckSaysLineAndRemedy(t *testing.T) {
	dir, cfg, _ := site(t)
	text := `homeserver: {domain: hs.example}
mimi:
  domain: mimi.example
  tls:
    certificate_file: none.pem
  peers:
    two.example:
      roots: file
      ca_file: none-ca.pem
database:
  type: postgres
  uri: postgres://bridge@localhost/bridge?sslmode=disable
  password_file: none-password
`
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := do(t, "config", "check", "-c", cfg)
	if err == nil || !strings.Contains(err.Error(), "5 of the files") {
		t.Errorf("%v", err)
	}
	for _, want := range []string{
		`registration\.yaml: .*config\.yaml: appservice\.registration_file: .*; make it with: bridge registration`,
		`none\.pem: .*config\.yaml:5: mimi\.tls\.certificate_file: .*; get a certificate for mimi\.example`,
		`none-ca\.pem: .*config\.yaml:9: mimi\.peers\.two\.example\.ca_file: .*; put the authorities' certificates there`,
		`sealing\.key: .*config\.yaml:10: database\.sealing_key_file: .*; make it with: bridge keys make`,
		`none-password: .*config\.yaml:13: database\.password_file: .*; write the password into it`,
	} {
		if ok, err := regexp.MatchString(`(?m)^bad   .*`+want, out); !ok || err != nil {
			t.Errorf("no line like %s in\n%s", want, out)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 4 {
		t.Errorf("the check changed something: %v, %v", entries, err)
	}
}

// Tokens and the database's password come from files, which nobody else may read.
func TestSecretsComeFromFiles(t *testing.T) {
	dir, cfg, _ := site(t)
	for name, text := range map[string]string{"as": "as-secret\n", "hs": "hs-secret\n", "password": "p@ss/word\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "registration", "-c", cfg)
	must(t, "keys", "make", "-c", cfg)
	for key, value := range map[string]string{"APPSERVICE__AS_TOKEN_FILE": "as", "APPSERVICE__HS_TOKEN_FILE": "hs", "DATABASE__TYPE": "postgres",
		"DATABASE__URI": "postgres://bridge@localhost/bridge?sslmode=disable", "DATABASE__PASSWORD_FILE": "password"} {
		t.Setenv("MIMIBRIDGE_"+key, value)
	}
	loaded, err := config.Load(cfg, os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	reg, err := loadRegistration(loaded)
	if err != nil || reg.AppToken != "as-secret" || reg.ServerToken != "hs-secret" {
		t.Errorf("tokens %q and %q, %v", reg.AppToken, reg.ServerToken, err)
	}
	sc, err := storeConfig(loaded, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(sc.DSN)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := u.User.Password(); got != "p@ss/word" || u.User.Username() != "bridge" {
		t.Errorf("the database is asked as %q with %q", u.User.Username(), got)
	}
	for _, name := range []string{"as", "hs", "password"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o604); err != nil {
			t.Fatal(err)
		}
		if out, err := do(t, "config", "check", "-c", cfg); err == nil || !strings.Contains(out, "can be read by everybody") || strings.Contains(out, "secret\n") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if err := os.Chmod(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "config", "check", "-c", cfg)
}

// -r names another registration than the settings do.
func TestRegistrationElsewhere(t *testing.T) {
	dir, cfg, _ := site(t)
	elsewhere := filepath.Join(t.TempDir(), "mimi.yaml")
	must(t, "-g", "-c", cfg, "-r", elsewhere)
	if _, err := os.Stat(filepath.Join(dir, "registration.yaml")); !os.IsNotExist(err) {
		t.Errorf("the settings' file was written too: %v", err)
	}
	if _, err := do(t, "config", "check", "-c", cfg); err == nil {
		t.Error("config check is content without a registration")
	}
	must(t, "config", "check", "-c", cfg, "-r", elsewhere)
}

func TestSealingKeyIsMadeShownAndRotated(t *testing.T) {
	dir, cfg, _ := site(t)
	must(t, "keys", "make", "-c", cfg)
	if _, err := do(t, "keys", "make", "-c", cfg); err == nil {
		t.Error("a key in use is overwritten")
	}
	must(t, "migrate", "-c", cfg)
	before := must(t, "keys", "show", "-c", cfg)
	must(t, "keys", "rotate", "-c", cfg)
	after := must(t, "keys", "show", "-c", cfg)
	if before == after || strings.Count(after, "sealing key") != 1 {
		t.Errorf("before\n%safter\n%s", before, after)
	}
	pin := strings.TrimSpace(must(t, "keys", "fingerprint", filepath.Join(dir, "cert.pem")))
	if len(pin) != 64 || !strings.Contains(after, pin) {
		t.Errorf("pin %q", pin)
	}
	if err := os.Remove(filepath.Join(dir, "sealing.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := do(t, "migrate", "-c", cfg); err == nil || !strings.Contains(err.Error(), "bring the old file back") {
		t.Errorf("a database whose key is gone: %v", err)
	}
}

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

// The demonstration as such, with a script that needs no bridge.
func TestDemoPlaysAScriptAndClearsUp(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script.txt")
	text := "title \"small\"\nhomeserver one\nalice@one: creates public room \"A\"\nbob@one: joins \"A\"\nalice@one: says \"hi\"\nbob@one: sees \"hi\" from alice@one\n"
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := must(t, "demo", "--script", script, "--dir", t.TempDir())
	for _, want := range []string{"alice@one: says \"hi\"", "ms after it was sent", "bob@one sees \"A\" (join):", "alice: hi", "\ndemo ok: 1 messages, 0 lost, 0 doubled\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	text += "alice@one: says \"nobody hears this\"\n"
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := do(t, "demo", "--script", script); err == nil || !strings.Contains(err.Error(), "2 messages, 1 lost, 0 doubled") {
		t.Errorf("a lost message gives %v\n%s", err, out)
	}
}

// What works for few only is noted, and does not count as bad.
func TestConfigCheckNotesWhatSeldomWorks(t *testing.T) {
	dir, cfg, _ := site(t)
	must(t, "registration", "-c", cfg)
	if out := must(t, "config", "check", "-c", cfg); !strings.Contains(out, "note  certificate") || !strings.Contains(out, "fullchain.pem") {
		t.Errorf("a certificate without its authority's:\n%s", out)
	}
	file := filepath.Join(dir, "cert.pem")
	leaf, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(leaf, authority...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "config", "check", "-c", cfg); strings.Contains(out, "note") {
		t.Errorf("with a chain:\n%s", out)
	}
	t.Setenv("MIMIBRIDGE_HOMESERVER__DOMAIN", "mimi.example")
	must(t, "registration", "-c", cfg)
	if out := must(t, "config", "check", "-c", cfg); !strings.Contains(out, "note  mimi.domain is the homeserver's domain") {
		t.Errorf("one domain for both:\n%s", out)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if out, err := do(t, "config", "check", "-c", cfg); err == nil || !strings.Contains(out, "get a certificate for mimi.example") {
		t.Errorf("%v\n%s", err, out)
	}
}

// watched is an output that closes seen when a text has been written to it.
type watched struct {
	mu   sync.Mutex
	buf  strings.Builder
	text string
	seen chan struct{}
	once sync.Once
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(b)
	if strings.Contains(w.buf.String(), w.text) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// With --keep the demonstration goes on running until it is told to stop, and people can log in with what it prints.
func TestDemoIsKept(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script.txt")
	if err := os.WriteFile(script, []byte("title \"small\"\nhomeserver one\nalice@one: creates public room \"A\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out := &watched{text: "password", seen: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- demo(ctx, out, demoOptions{keep: true, script: script}) }()
	select {
	case <-out.seen:
	case err := <-ended:
		t.Fatalf("it ended: %v\n%s", err, out)
	}
	m := regexp.MustCompile(`homeserver (\S+)  user (\S+)  password (\S+)\n`).FindStringSubmatch(out.String())
	if m == nil {
		t.Fatalf("it is not said how to log in:\n%s", out)
	}
	body := fmt.Sprintf(`{"type":"m.login.password","identifier":{"type":"m.id.user","user":%q},"password":%q}`, m[2], m[3])
	resp, err := http.Post(m[1]+"/_matrix/client/v3/login", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the login is answered with %s", resp.Status)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
	if _, err := http.Get(m[1] + "/_matrix/client/versions"); err == nil {
		t.Error("the homeserver still runs")
	}
}

// A step that takes long says every 15 s that it goes on.
func TestLongStepsShowProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &watched{seen: make(chan struct{})}
		stop := progress(out, "still building")
		<-time.After(40 * time.Second) // in the bubble's time
		stop()
		<-time.After(time.Minute)
		if got := out.String(); got != "still building (15 s)\nstill building (30 s)\n" {
			t.Errorf("%q", got)
		}
	})
}
