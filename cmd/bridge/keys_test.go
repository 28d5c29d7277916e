package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
