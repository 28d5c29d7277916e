//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// forbidDumps makes sure that a crash leaves no file with the process's memory behind: keys are in it.
func forbidDumps() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}
