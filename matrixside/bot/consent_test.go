package bot

import (
	"context"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
)

var _ Consents = (*relay.Relay)(nil)

// permits is who asks, and who may; Time is 3,700 seconds after the epoch.
type permits struct{ list []store.Consent }

func (p *permits) GrantConsent(context.Context, string, string) error        { return nil }
func (p *permits) DeclineConsent(context.Context, string, string) error      { return nil }
func (p *permits) RevokeConsent(context.Context, string, string) error       { return nil }
func (p *permits) Consents(context.Context, string) ([]store.Consent, error) { return p.list, nil }

// What is told of permissions is who, since when, and what can be done about it; nothing of how the bridge calls it.
func TestConsentsInWords(t *testing.T) {
	const bob = "mimi://a.example/u/bob"
	for _, c := range []struct {
		x    store.Consent
		want string
	}{
		{store.Consent{Requester: bob, State: store.ConsentRequested},
			bob + " asks to invite you into any room, since 1970-01-01: accept " + bob + " or decline " + bob},
		{store.Consent{Requester: bob, State: store.ConsentRequested, Room: "mimi://a.example/r/1", ExpiresMS: 9_000_000, UpdatedMS: 2_000_000},
			bob + " asks to invite you into the room mimi://a.example/r/1, since 1970-01-01: accept " + bob + " or decline " + bob},
		{store.Consent{Requester: bob, State: store.ConsentRequested, ExpiresMS: 3_000_000}, "Nobody asks to invite you, and nobody has your permission."},
		{store.Consent{Requester: bob, State: store.ConsentGranted}, bob + " may invite you into any room, since 1970-01-01: revoke " + bob + " takes it back"},
		{store.Consent{Requester: "mimi://a.example", State: store.ConsentGranted, Room: "mimi://a.example/r/1"},
			"the people of a.example may invite you into the room mimi://a.example/r/1, since 1970-01-01: unknock and its address takes it back"},
		{store.Consent{Requester: bob, State: store.ConsentRevoked}, bob + " may not invite you into any room, since 1970-01-01: accept " + bob + " allows it"},
		{store.Consent{Requester: bob, State: store.ConsentCancelled}, "Nobody asks to invite you, and nobody has your permission."},
	} {
		b, w := newBot(t)
		b.Register(Consent(&permits{[]store.Consent{c.x}})...)
		if err := b.Command(t.Context(), say("@u:hs", "consents", true)); err != nil || len(w.sent) != 1 {
			t.Fatalf("%v %+v", err, w.sent)
		}
		if got := strings.TrimPrefix(w.sent[0].Body, "- "); strings.TrimSpace(strings.TrimLeft(got, "•* ")) != c.want {
			t.Errorf("%+v: %q, want %q", c.x, got, c.want)
		}
	}
}

// A chat that is being made says whom it waits for, one that came to nothing what can be done.
func TestChatsThatAreNotMadeInWords(t *testing.T) {
	who := []string{"mimi://a.example/u/1", "mimi://a.example/u/2", "mimi://a.example/u/3", "mimi://a.example/u/4", "mimi://a.example/u/5"}
	for _, c := range []struct {
		i    relay.RoomInfo
		want string
	}{
		{relay.RoomInfo{State: "opening", Awaited: who[:1], Chat: true}, "led by this bridge, being made as soon as there is an answer from " + who[0] + "; leave the room to give it up"},
		{relay.RoomInfo{State: "opening", Awaited: who}, "answer from " + strings.Join(who[:3], ", ") + ", 2 more"},
		{relay.RoomInfo{State: relay.StateUnmade}, "led by this bridge, not made, because not everybody could come: say start-chat with the same addresses to try again, or leave the room"},
		{relay.RoomInfo{State: "active", Participants: 1}, "led by this bridge, 1 participant"},
	} {
		b, w := newBot(t)
		c.i.URI = "mimi://b.example/r/x"
		w.room = &c.i
		if err := b.Command(t.Context(), say("@u:hs", "list-rooms", true)); err != nil || len(w.sent) != 1 {
			t.Fatalf("%v %+v", err, w.sent)
		}
		if got := strings.TrimSpace(w.sent[0].Body); !strings.HasSuffix(got, c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
