package killpoint

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The process dies at the named place and hit, and a build without the tag does not.
func TestHitKillsAtTheNamedHit(t *testing.T) {
	if os.Getenv("KILLPOINT_CHILD") != "" {
		for range 3 {
			Hit("K10")
			Hit("K11")
		}
		return
	}
	if runtime.GOOS == "windows" {
		t.Skip("processes are killed differently there")
	}
	log := filepath.Join(t.TempDir(), "hits")
	cmd := exec.Command(os.Args[0], "-test.run=TestHitKillsAtTheNamedHit")
	cmd.Env = append(os.Environ(), "KILLPOINT_CHILD=1", Env+"=K11:2", EnvLog+"="+log)
	err := cmd.Run()
	if !Enabled {
		if err != nil {
			t.Fatalf("a build without kill points died: %v", err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the process ended with %v", err)
	}
	hits, err := os.ReadFile(log)
	if err != nil || string(hits) != "K10\nK11\nK10\nK11\n" {
		t.Fatalf("the hits were %q, %v", hits, err)
	}
}

func TestNamesAreDifferent(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range Names {
		if seen[n] {
			t.Errorf("%s is there twice", n)
		}
		seen[n] = true
	}
}
