package main

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/matrix-mimi/bridge/internal/config"
)

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
