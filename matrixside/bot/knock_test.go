package bot

import (
	"context"
	"strings"
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
	for text, want := range map[string]string{
		"knock mimi://a.example/r/x":                 `knock @u:hs mimi://a.example/r/x ""`,
		"knock <mimi://a.example/r/x> please let me": `knock @u:hs mimi://a.example/r/x "please let me"`,
		"unknock mimi://a.example/r/x":               `unknock @u:hs mimi://a.example/r/x`,
	} {
		b, w := newBot(t)
		b.Register(Knock(w)...)
		if err := b.Command(context.Background(), say("@u:hs", text, true)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(w.did, "; "); got != want || len(w.sent) != 1 {
			t.Errorf("%s: did %q, said %+v", text, got, w.sent)
		}
	}
}
