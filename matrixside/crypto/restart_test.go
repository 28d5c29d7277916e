package crypto_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/crypto"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// The database fails in the middle of a to-device message: the delivery fails, and the same one again succeeds.
func fault(t *testing.T, ctx context.Context, w *world, room id.RoomID, alice *person) {
	w.change(func() { w.hold = true })
	alice.newKey(t, ctx, room)
	ev := w.arrived(t, ctx, alice.say(t, ctx, room, "robust"))
	w.await(t, ctx, "the key at the door", func() bool { return len(w.held) > 0 })
	rename := func(from, to string) {
		if _, err := w.store.Side().ExecContext(ctx, `ALTER TABLE `+from+` RENAME TO `+to); err != nil {
			t.Fatal(err)
		}
	}
	rename("crypto_megolm_inbound_session", "away")
	w.mu.Lock()
	held := w.held
	w.mu.Unlock()
	if err := w.device.Receive(ctx, crypto.Delivery{ToDevice: held}); err == nil {
		t.Error("a delivery whose key was not stored is acknowledged")
	}
	rename("away", "crypto_megolm_inbound_session")
	w.release(t, ctx)
	if plain, err := w.device.Decrypt(ctx, ev); err != nil || body(t, plain) != "robust" {
		t.Fatalf("after the fault: %v", err)
	}
}

func restart(t *testing.T, ctx context.Context, w *world, room id.RoomID, alice *person) {
	old := w.arrived(t, ctx, alice.say(t, ctx, room, "before the restart"))
	w.opened(t, ctx, old.ID)
	_, sent, err := w.device.Encrypt(ctx, room, "row of the crash", ghost, event.TypeMessage, text("crash").Encode())
	if err != nil {
		t.Fatal(err)
	}
	device, fingerprint := w.device.Client().DeviceID, w.device.Fingerprint()
	w.stop()
	while := alice.say(t, ctx, room, "while the bridge was away")
	w.start(t, ctx)
	if w.device.Client().DeviceID != device || w.device.Fingerprint() != fingerprint {
		t.Errorf("the device is another: %s, was %s", w.device.Client().DeviceID, device)
	}
	if signed, err := w.device.Signed(ctx); err != nil || !signed {
		t.Errorf("the device is no longer cross-signed: %v", err)
	}
	if got := body(t, w.opened(t, ctx, while)); got != "while the bridge was away" {
		t.Errorf("opened %q", got)
	}
	if plain, err := w.device.Decrypt(ctx, old); err != nil || body(t, plain) != "before the restart" {
		t.Errorf("an event that was not finished before the crash: %v", err)
	}
	_, again, err := w.device.Encrypt(ctx, room, "row of the crash", ghost, event.TypeMessage, text("crash").Encode())
	if err != nil || string(again) != string(sent) {
		t.Errorf("a row that was being sent in the crash is sent with other bytes: %v", err)
	}
	alice.read(t, ctx, w.say(t, ctx, room, text("back again")))
	if got := body(t, w.opened(t, ctx, alice.say(t, ctx, room, "welcome back"))); got != "welcome back" {
		t.Errorf("opened %q", got)
	}
}

// A database that was restored from a backup has keys that were used since: the bot gets a new device.
func restored(t *testing.T, ctx context.Context, w *world, room id.RoomID, alice *person) {
	old := w.device.Client().DeviceID
	w.stop()
	file := w.db.DSN + ".marker"
	mark, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(string(mark), " ") // of the installation, see store.DB.Mark
	if err := os.WriteFile(file, []byte(name+" ofalatertime\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(t, ctx)
	device := w.device.Client().DeviceID
	if device == old {
		t.Error("the device goes on after its database was restored")
	}
	if signed, err := w.device.Signed(ctx); err != nil || !signed {
		t.Errorf("the new device is not cross-signed: %v", err)
	}
	alice.read(t, ctx, w.say(t, ctx, room, text("from the new device")))
	for {
		known, err := alice.helper.Machine().CryptoStore.GetDevices(ctx, w.client.Bot())
		if err == nil && known[device] != nil {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("alice does not learn of the new device")
		case <-time.After(10 * time.Millisecond):
		}
	}
	alice.newKey(t, ctx, room)
	if got := body(t, w.opened(t, ctx, alice.say(t, ctx, room, "to the new device"))); got != "to the new device" {
		t.Errorf("opened %q", got)
	}
}
