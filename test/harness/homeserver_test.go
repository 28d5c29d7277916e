package harness

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// The cache key must move with the pinned module, or an old binary would be
// tested.
func TestDendriteVersionIsThePinnedOne(t *testing.T) {
	root, err := ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "test", "homeserver", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`require github\.com/element-hq/dendrite (v\S+)`).FindSubmatch(mod)
	if m == nil || string(m[1]) != DendriteVersion {
		t.Fatalf("test/homeserver/go.mod pins %s, DendriteVersion is %s", m, DendriteVersion)
	}
}

func TestHomeserverKeepsItsUsersOverKillAndRestart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	software, err := HomeserverSoftware(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	h, err := StartHomeserver(ctx, software, HomeserverConfig{ServerName: "one.example", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
	})
	alice, err := h.User(ctx, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if alice.UserID != "@alice:one.example" {
		t.Fatalf("user id is %s", alice.UserID)
	}
	room, err := alice.CreateRoom(ctx, &mautrix.ReqCreateRoom{Name: "Garden"})
	if err != nil {
		t.Fatal(err)
	}
	h.Kill()
	if h.Process().Running() {
		t.Fatal("still running after Kill")
	}
	if err := h.Start(ctx); err != nil {
		t.Fatal(err)
	}
	again, err := h.User(ctx, "alice")
	if err != nil {
		t.Fatal(err)
	}
	var name event.RoomNameEventContent
	if err := again.StateEvent(ctx, id.RoomID(room.RoomID), event.StateRoomName, "", &name); err != nil {
		t.Fatal(err)
	}
	if name.Name != "Garden" {
		t.Fatalf("room name after the restart is %q", name.Name)
	}
}
