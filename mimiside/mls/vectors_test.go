package mls

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hexBytes is a byte string of the vector files.
type hexBytes []byte

// UnmarshalJSON reads hexadecimal digits; null leaves nil.
func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return err
	}
	v, err := hex.DecodeString(*s)
	*h = v
	if v == nil {
		*h = []byte{}
	}
	return err
}

// vectorsDir is the directory of the working group's vectors: $VECTORS/mls, or ../shared/vectors/mls beside the
// repository. Only when the whole directory is absent is a test skipped, and it says so.
func vectorsDir(t testing.TB) string {
	t.Helper()
	root := os.Getenv("VECTORS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	dir := filepath.Join(root, "mls")
	if _, err := os.Stat(dir); err != nil {
		fmt.Printf("NOT VERIFIED: %s: no official MLS vectors at %s; set VECTORS\n", t.Name(), dir)
		t.Skipf("NOT VERIFIED: no official MLS vectors at %s; set VECTORS", dir)
	}
	return dir
}

// loadVectors reads one file of vectors.
func loadVectors[T any](t testing.TB, file string) []T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorsDir(t), file))
	if err != nil {
		t.Fatal(err)
	}
	var v []T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if len(v) == 0 {
		t.Fatalf("%s: no vectors", file)
	}
	return v
}

// vectorCount counts what a vector test verified and skipped, and prints the line that `make vectors` collects.
type vectorCount struct {
	t        testing.TB
	file     string
	verified int
	skipped  map[string]int
}

// countVectors prints its line when the test ends, unless it failed.
func countVectors(t testing.TB, file string) *vectorCount {
	c := &vectorCount{t: t, file: file, skipped: map[string]int{}}
	t.Cleanup(func() {
		if t.Failed() || t.Skipped() {
			return
		}
		n, reasons := 0, []string{}
		for _, reason := range slices.Sorted(maps.Keys(c.skipped)) {
			n += c.skipped[reason]
			reasons = append(reasons, fmt.Sprintf("%s: %d", reason, c.skipped[reason]))
		}
		why := ""
		if n > 0 {
			why = " (" + strings.Join(reasons, ", ") + ")"
		}
		if c.verified == 0 {
			t.Errorf("%s: nothing was verified", file)
		}
		fmt.Printf("%s: %d verified, %d skipped%s\n", c.file, c.verified, n, why)
	})
	return c
}

// suite tells whether the engine has the suite; if not, the vector counts as skipped. Any suite but 4 and 6 that is
// missing fails the test.
func (c *vectorCount) suite(s Suite) bool {
	if s.Check() == nil {
		return true
	}
	if s != SuiteX448AES256Ed448 && s != SuiteX448ChaCha20Ed448 {
		c.t.Fatalf("%s: suite %d is not implemented", c.file, s)
	}
	c.skipped[fmt.Sprintf("suite %d", s)]++
	return false
}

// ok counts one verified vector.
func (c *vectorCount) ok() { c.verified++ }
