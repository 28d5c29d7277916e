//go:build !unix

package store

import (
	"errors"
	"io"
)

// lockFile cannot keep a second process away on this system.
func lockFile(string) (io.Closer, error) {
	return nil, errors.New("SQLite is offered on Unix systems only: use PostgreSQL")
}
