//go:build !unix

package store

import (
	"errors"
	"os"
)

// lockFile cannot keep a second process away on this system.
func lockFile(string) (*os.File, error) {
	return nil, errors.New("SQLite is offered on Unix systems only: use PostgreSQL")
}

func placeOf(*os.File) string { return "" }
