package bot

import (
	"context"
	"testing"

	"github.com/matrix-mimi/bridge/internal/relay"
)

var _ StatusPolicies = (*relay.Relay)(nil)

func (w *world) StatusPolicy(_ context.Context, room, by, ev string, change relay.StatusChange) error {
	return w.act("receipts %s %s %s read %q delivery %q", room, by, ev, change.Read, change.Delivery)
}

func TestReceiptsCommand(t *testing.T) {
	for text, want := range map[string]outcome{
		"receipts":                    {"", `receipts !r:hs @u:hs $e read "" delivery ""`},
		"receipts read forbidden":     {"", `receipts !r:hs @u:hs $e read "forbidden" delivery ""`},
		"receipts Delivery REQUIRED":  {"", `receipts !r:hs @u:hs $e read "" delivery "required"`},
		"receipts read":               {"Usage: !mimi receipts [read|delivery", ""},
		"receipts sent optional":      {"Usage: !mimi receipts", ""},
		"receipts read optional more": {"Usage: !mimi receipts", ""},
	} {
		b, w := newBot(t)
		b.Register(Receipts(w))
		w.expect(t, b, say("@u:hs", text, false), want)
	}
}
