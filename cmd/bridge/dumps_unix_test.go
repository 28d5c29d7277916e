//go:build unix

package main

import (
	"syscall"
	"testing"
)

// A process that holds keys leaves no dump of its memory.
func TestDumpsAreForbidden(t *testing.T) {
	if err := forbidDumps(); err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		t.Errorf("core dumps of %d to %d bytes, %v", limit.Cur, limit.Max, err)
	}
}
