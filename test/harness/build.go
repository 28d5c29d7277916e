package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// DendriteVersion is the release that test/homeserver/go.mod pins. The cache
// key contains it; a test compares it with the go.mod.
const DendriteVersion = "v0.15.2"

// Dendrite names the two binaries that a homeserver needs.
type Dendrite struct {
	Server       string // the homeserver itself
	GenerateKeys string // makes the server's signing key
}

// BuildDendrite returns the homeserver's binaries, from the cache when they
// are there, else built from test/homeserver with CGO_ENABLED=0. The first
// build takes one to four minutes on two cores and about 1 GB of modules;
// progress lines go to progress, which may be nil. Concurrent callers, also in
// other processes, wait for one build.
func BuildDendrite(ctx context.Context, progress io.Writer) (Dendrite, error) {
	cache, err := CacheDir()
	if err != nil {
		return Dendrite{}, err
	}
	dir := filepath.Join(cache, "dendrite-"+DendriteVersion)
	bins := Dendrite{Server: filepath.Join(dir, "dendrite"), GenerateKeys: filepath.Join(dir, "generate-keys")}
	if bins.present() {
		return bins, nil
	}
	unlock, err := lockFile(dir + ".lock")
	if err != nil {
		return Dendrite{}, fmt.Errorf("lock the build of Dendrite: %w", err)
	}
	defer unlock()
	if bins.present() {
		return bins, nil
	}
	root, err := ModuleRoot()
	if err != nil {
		return Dendrite{}, err
	}
	if progress != nil {
		fmt.Fprintf(progress, "building Dendrite %s (first time only, one to four minutes)\n", DendriteVersion)
	}
	// Built aside and renamed: a build that is cut short leaves no half cache.
	tmp, err := os.MkdirTemp(cache, "build-*")
	if err != nil {
		return Dendrite{}, fmt.Errorf("build Dendrite: %w", err)
	}
	defer os.RemoveAll(tmp)
	err = goBuild(ctx, filepath.Join(root, "test", "homeserver"),
		[]string{"-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o", tmp + string(filepath.Separator)},
		"github.com/element-hq/dendrite/cmd/dendrite", "github.com/element-hq/dendrite/cmd/generate-keys")
	if err != nil {
		return Dendrite{}, fmt.Errorf("build Dendrite %s: %w", DendriteVersion, err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return Dendrite{}, fmt.Errorf("build Dendrite: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return Dendrite{}, fmt.Errorf("build Dendrite: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return Dendrite{}, fmt.Errorf("keep the built Dendrite: %w", err)
	}
	return bins, nil
}

func (d Dendrite) present() bool {
	for _, path := range []string{d.Server, d.GenerateKeys} {
		if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// SharedBridge is a bridge that the tests of a package build once, when the first of them wants it. The zero value is ready.
type SharedBridge struct {
	once sync.Once
	dir  string
	bin  string
	err  error
}

// Build returns the path of the binary that BuildBridge makes with the tags of the first caller.
func (b *SharedBridge) Build(ctx context.Context, tags ...string) (string, error) {
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "mimi-bridge-*"); b.err == nil {
			b.bin, b.err = BuildBridge(context.WithoutCancel(ctx), b.dir, tags...) // the others want it, too
		}
	})
	return b.bin, b.err
}

// Remove deletes the binary, if it was built: for TestMain.
func (b *SharedBridge) Remove() error {
	if b.dir == "" {
		return nil
	}
	return os.RemoveAll(b.dir)
}

// BuildBridge builds cmd/bridge as it is shipped (static, pure Go) but for the profile into dir and
// returns the path of the binary. Extra build tags, such as the one that
// compiles kill points in, are added to goolm.
func BuildBridge(ctx context.Context, dir string, tags ...string) (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "bridge")
	all := strings.Join(append([]string{"goolm"}, tags...), ",")
	if err := goBuild(ctx, root, []string{"-tags", all, "-o", out}, "./cmd/bridge"); err != nil {
		return "", fmt.Errorf("build the bridge: %w", err)
	}
	return out, nil
}

// goBuild runs go build in dir with CGO off. GOFLAGS and GOOS of the caller's
// environment are not for the child: the tests of one build must not change
// another.
func goBuild(ctx context.Context, dir string, args []string, pkgs ...string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build"}, args...), pkgs...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("the Go toolchain is not in PATH: %w", err)
		}
		return fmt.Errorf("go build: %w\n%s", err, tail(out.Bytes(), 4000))
	}
	return nil
}

// lockFile takes an exclusive lock that other processes honour and that the
// kernel drops when this one ends.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// tail returns at most the last n bytes of b.
func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}
