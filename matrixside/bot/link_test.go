package bot

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/relay"
)

var _ JoinLinks = (*relay.Relay)(nil)

func (w *world) CreateLink(_ context.Context, room, by, ev string, o relay.LinkOptions) error {
	return w.act("link %s %s %s %+v", room, by, ev, o)
}
func (w *world) ListLinks(_ context.Context, room, by, ev string) error {
	return w.act("links %s %s %s", room, by, ev)
}
func (w *world) RevokeLink(_ context.Context, room, by, ev, id string) error {
	return w.act("unlink %s %s %s %s", room, by, ev, id)
}

func TestLinkCommand(t *testing.T) {
	week := 7 * 24 * time.Hour
	made := func(o relay.LinkOptions) string { return fmt.Sprintf("link !r:hs @u:hs $e %+v", o) }
	for text, want := range map[string]outcome{
		"link":                             {"This room is mimi://a.example/r/x.", ""},
		"link create":                      {"", made(relay.LinkOptions{Lasts: week})},
		"link create --many --expires 12h": {"", made(relay.LinkOptions{Many: true, Lasts: 12 * time.Hour})},
		"link create —once --expires never --role admin": {"", made(relay.LinkOptions{Role: "admin"})},
		"link create --passphrase open --many sesame":    {"", made(relay.LinkOptions{Lasts: week, Passphrase: "open --many sesame"})},
		"link create --expires 2x":                       {"is no time", ""},
		"link create --expires d":                        {"is no time", ""},
		"link create --role":                             {"I do not understand", ""},
		"link list":                                      {"", "links !r:hs @u:hs $e"},
		"link revoke abc":                                {"", "unlink !r:hs @u:hs $e abc"},
		"link revoke":                                    {"Usage: !mimi link", ""},
		"link whatever":                                  {"Usage: !mimi link", ""},
	} {
		b, w := newBot(t)
		b.Register(Link(w))
		w.expect(t, b, say("@u:hs", text, false), want)
	}
}
