package bot

import (
	"context"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
)

var _ Introductions = (*relay.Relay)(nil)

func (w *world) CreateIntroduction(_ context.Context, mxid string, many bool, lasts time.Duration) (string, string, error) {
	return "mimi://b.example/u/u?introduction=abc", "id1", w.act("create %s %v %v", mxid, many, lasts)
}
func (w *world) Introductions(context.Context, string) ([]store.Introduction, error) {
	return []store.Introduction{{ID: "id1", Many: true, Uses: 2, UntilMS: store.Never}, {ID: "id2"}}, w.fail
}
func (w *world) RevokeIntroduction(_ context.Context, mxid, id string) error {
	return w.act("revoke %s %s", mxid, id)
}
func (w *world) Introduce(_ context.Context, mxid, text string) (string, error) {
	return "mimi://a.example/u/bob", w.act("introduce %s %s", mxid, text)
}

func TestIntroductionCommands(t *testing.T) {
	for text, want := range map[string]outcome{
		"introduction create":                               {"introduction=abc", "create @u:hs false 168h0m0s"},
		"introduction create --many --expires never":        {"Whoever presents it", "create @u:hs true 0s"},
		"introduction create --role x":                      {"Usage", ""},
		"introduction list":                                 {"id1: whoever presents it may invite you, without end; presented by 2 so far", ""},
		"introduction revoke id1":                           {"cannot be used any more", "revoke @u:hs id1"},
		"introduction revoke":                               {"Usage", ""},
		"introduce <mimi://a.example/u/bob?introduction=x>": {"mimi://a.example/u/bob is told", "introduce @u:hs mimi://a.example/u/bob?introduction=x"},
	} {
		b, w := newBot(t)
		b.Register(Introduction(w)...)
		w.expect(t, b, say("@u:hs", text, true), want)
	}
}
