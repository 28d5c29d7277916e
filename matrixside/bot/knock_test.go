package bot

import (
	"context"
	"testing"

	"github.com/matrix-mimi/bridge/internal/relay"
)

var _ Knocks = (*relay.Relay)(nil)

func (w *world) Knock(_ context.Context, by, room, reason string) error {
	return w.act("knock %s %s %q", by, room, reason)
}
func (w *world) Unknock(_ context.Context, by, room string) error {
	return w.act("unknock %s %s", by, room)
}

func TestKnockCommands(t *testing.T) {
	for text, want := range map[string]outcome{
		"knock mimi://a.example/r/x":                 {"Knocking at mimi://a.example/r/x.", `knock @u:hs mimi://a.example/r/x ""`},
		"knock <mimi://a.example/r/x> please let me": {"Knocking at mimi://a.example/r/x.", `knock @u:hs mimi://a.example/r/x "please let me"`},
		"unknock mimi://a.example/r/x":               {"You do not knock at mimi://a.example/r/x any more.", `unknock @u:hs mimi://a.example/r/x`},
	} {
		b, w := newBot(t)
		b.Register(Knock(w)...)
		w.expect(t, b, say("@u:hs", text, true), want)
	}
}
