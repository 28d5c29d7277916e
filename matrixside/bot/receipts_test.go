package bot

import (
	"context"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/relay"
)

var _ StatusPolicies = (*relay.Relay)(nil)

func (w *world) StatusPolicy(_ context.Context, room, by, ev string, change relay.StatusChange) error {
	return w.act("receipts %s %s %s read %q delivery %q", room, by, ev, change.Read, change.Delivery)
}

func TestReceiptsCommand(t *testing.T) {
	for text, want := range map[string]struct{ reply, did string }{
		"receipts":                    {"", `receipts !r:hs @u:hs $e read "" delivery ""`},
		"receipts read forbidden":     {"", `receipts !r:hs @u:hs $e read "forbidden" delivery ""`},
		"receipts Delivery REQUIRED":  {"", `receipts !r:hs @u:hs $e read "" delivery "required"`},
		"receipts read":               {"Usage: !mimi receipts [read|delivery", ""},
		"receipts sent optional":      {"Usage: !mimi receipts", ""},
		"receipts read optional more": {"Usage: !mimi receipts", ""},
	} {
		b, w := newBot(t)
		b.Register(Receipts(w))
		if err := b.Command(context.Background(), say("@u:hs", text, false)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(w.did, "; "); got != want.did {
			t.Errorf("%s: did %q, want %q", text, got, want.did)
		}
		if len(w.sent) > 0 != (want.reply != "") || len(w.sent) > 0 && !strings.Contains(w.sent[0].Body, want.reply) {
			t.Errorf("%s: said %+v, want %q", text, w.sent, want.reply)
		}
	}
}
