//go:build !unix

package main

// forbidDumps does nothing here: these systems write no core dumps.
func forbidDumps() error { return nil }
