package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// maxSecret bounds a file that holds a token or a password.
const maxSecret = 64 << 10

// ReadSecret reads a token or password from its file and drops the line end. A
// file that other users of the machine may read is refused, because such files
// are made by mistake far more often than on purpose; a group may read it, which
// is how containers hand secrets over.
func ReadSecret(path Path) (string, error) {
	f, err := os.Open(string(path))
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	if st.Mode().IsRegular() && st.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("read a secret: %s can be read by everybody (mode %04o); run: chmod o= %s", path, st.Mode().Perm(), path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	data = bytes.TrimRight(data, "\r\n")
	switch {
	case len(data) > maxSecret:
		return "", fmt.Errorf("read a secret: %s is larger than %d bytes", path, maxSecret)
	case len(data) == 0:
		return "", fmt.Errorf("read a secret: %s is empty", path)
	}
	return string(data), nil
}
