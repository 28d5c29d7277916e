package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary play a parent that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("HARNESS_DOOMED_PARENT"); dir != "" {
		p, err := StartProcess(Command{Name: "sleeper", Path: "/bin/sleep", Args: []string{"600"}, Dir: dir, Log: filepath.Join(dir, "log"), Temp: []string{filepath.Join(dir, "temp")}})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.PID())
		select {}
	}
	os.Exit(m.Run())
}

func TestChildEndsWithItsParentEvenBySIGKILL(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self)
	dir := t.TempDir()
	temp := filepath.Join(dir, "temp")
	if err := os.MkdirAll(filepath.Join(temp, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	parent.Env = append(os.Environ(), "HARNESS_DOOMED_PARENT="+dir)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(line)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the child %d does not run: %v", pid, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for !gone(pid) || exists(temp) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("the child %d (gone: %v) or its files (there: %v) outlived the killed parent", pid, gone(pid), exists(temp))
		}
		<-time.After(10 * time.Millisecond)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// gone says whether a process no longer runs. Without a reaper in the
// container an orphan stays as a zombie, which counts as gone.
func gone(pid int) bool {
	if err := syscall.Kill(pid, 0); err != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestAwaitReportsTheLogOfAChildThatEnds(t *testing.T) {
	dir := t.TempDir()
	p, err := StartProcess(Command{Name: "failing", Path: "/bin/sh", Args: []string{"-c", "echo no such disk; exit 3"}, Dir: dir, Log: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Await(t.Context(), "nothing", func(context.Context) error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "no such disk") || !strings.Contains(err.Error(), "exit status 3") {
		t.Fatalf("error is %v", err)
	}
	if err := p.Stop(time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestStopKillsWhoDoesNotListen(t *testing.T) {
	dir := t.TempDir()
	p, err := StartProcess(Command{Name: "deaf", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"}, Dir: dir, Log: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Await(t.Context(), "the trap", func(context.Context) error {
		if !strings.Contains(p.LogTail(100), "deaf") {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(100 * time.Millisecond); err == nil || p.Running() {
		t.Fatalf("Stop returned %v, running %v", err, p.Running())
	}
}

func TestFreePortsDiffer(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		p, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[p] || p >= 32768 {
			t.Fatalf("port %d: given before %v", p, seen[p])
		}
		seen[p] = true
		// What another process sees that asks for a port.
		if l, err := reserve(p); runtime.GOOS == "linux" && err == nil {
			l.Close()
			t.Fatalf("port %d can be handed out by another process", p)
		}
	}
}
