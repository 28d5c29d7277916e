package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// modulePath is the module whose checkout ModuleRoot looks for.
const modulePath = "github.com/matrix-mimi/bridge"

// ModuleRoot returns the directory of the bridge's go.mod: the nearest one at
// or above the working directory whose module line names the bridge. Building
// Dendrite and the bridge needs a checkout, so its absence is an error that
// says so.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), "module "+modulePath+"\n") {
			return dir, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("find the checkout: %w", err)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the checkout: no go.mod of " + modulePath +
				" above the working directory; run this from a checkout of the bridge")
		}
		dir = parent
	}
}

// CacheDir returns the directory that keeps built binaries between runs:
// $BRIDGE_CACHE, or mimi-bridge in the user's cache directory. It is created.
func CacheDir() (string, error) {
	dir := os.Getenv("BRIDGE_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a cache directory (set BRIDGE_CACHE): %w", err)
		}
		dir = filepath.Join(base, "mimi-bridge")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find a cache directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w", err)
	}
	return dir, nil
}
