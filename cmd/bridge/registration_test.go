package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"maunium.net/go/mautrix/appservice"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

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
