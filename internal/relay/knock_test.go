package relay

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// knockable is a hub room of alice's that takes knocks, where B asks its users before they are added; bob has a chat with the bot.
func knockable(t *testing.T, m mode) (p *pair, chat *hsRoom, uri string) {
	p = newPair(t, m)
	p.offers["a.example"], p.offers["b.example"] = true, true
	p.b.relay.Consent = func(string) bool { return false }
	p.room = p.a.hs.create(p.alice, "Club", "")
	p.a.hs.set(p.room, p.alice, event.TypeJoinRules, map[string]string{"join_rule": "knock"})
	p.a.hs.invite(p.room, p.alice, p.a.hs.mxid("mimibot"))
	chat = p.b.hs.create(p.bob, "", "")
	p.b.hs.invite(chat, p.bob, p.b.hs.mxid("mimibot"))
	p.settle()
	must0(t, p.a.relay.Plumb(context.Background(), p.room.id, p.alice, ""))
	p.settle()
	return p, chat, p.a.room(p.room).URI
}

func TestKnockIsReceivedAndAnswered(t *testing.T) {
	for name, m := range map[string]mode{"warm": warm, "restarting": restarting, "doubling": doubling, "losing": losing} {
		t.Run(name, func(t *testing.T) {
			p, chat, uri := knockable(t, m)
			must0(t, p.b.relay.Knock(context.Background(), p.bob, uri, "we met\u202e\nyesterday, שלום"))
			p.pass(20 * time.Second)
			p.last("bob", p.b.hs.texts(chat), "notice mimibot: Your knock was received at the room "+uri+". You will be invited if you are let in.")
			p.equal("bob's ghost", p.room.members[p.bobAtA], "knock")
			texts := p.a.hs.texts(p.room)
			if !strings.Contains(texts[len(texts)-1], "asks to be let in: \"\u2068we met yesterday, שלום\u2069\". Invite") {
				t.Errorf("A sees %q", texts)
			}
			p.pass(30 * 24 * time.Hour)
			p.a.hs.invite(p.room, p.alice, p.bobAtA)
			p.pass(20 * time.Second)
			p.last("bob", p.b.hs.texts(chat), "notice mimibot: You are let into the room "+uri+": the invitation follows.")
			// Bob is not asked again whether alice may add him.
			p.bobJoins()
			p.talk(1)
			p.noTrouble()
		})
	}
}

func TestKnockDeclinedWithdrawnAndBanned(t *testing.T) {
	p, chat, uri := knockable(t, warm)
	ctx := context.Background()
	knock := func() {
		t.Helper()
		must0(t, p.b.relay.Knock(ctx, p.bob, uri, ""))
		p.settle()
		p.equal("bob's ghost", p.room.members[p.bobAtA], "knock")
	}
	knock()
	p.a.hs.kick(p.room, p.alice, p.bobAtA)
	p.settle()
	p.last("bob", p.b.hs.texts(chat), "notice mimibot: You are not let into the room "+uri+".")
	knock()
	must0(t, p.b.relay.Unknock(ctx, p.bob, uri))
	p.settle()
	p.equal("bob's ghost", p.room.members[p.bobAtA], "leave")
	knock()
	p.a.hs.ban(p.room, p.alice, p.bobAtA)
	p.settle()
	p.last("bob", p.b.hs.texts(chat), "notice mimibot: You are not let into the room "+uri+".")
	must0(t, p.b.relay.Knock(ctx, p.bob, uri, ""))
	p.settle()
	p.last("bob", p.b.hs.texts(chat), "notice mimibot: The room "+uri+" takes no knocks.")
	p.equal("consent", stateOf(t, p), "cancelled")
	p.noTrouble()
}

// A room that takes no knocks and one that is not there look the same; who does not share knocks is not asked.
func TestKnocksThatAreNotTaken(t *testing.T) {
	p, chat, uri := knockable(t, warm)
	ctx := context.Background()
	p.a.hs.set(p.room, p.alice, event.TypeJoinRules, map[string]string{"join_rule": "invite"})
	p.settle()
	for _, room := range []string{uri, "mimi://a.example/r/none"} {
		must0(t, p.b.relay.Knock(ctx, p.bob, room, ""))
		p.settle()
		p.last("bob", p.b.hs.texts(chat), "notice mimibot: The room "+room+" takes no knocks.")
	}
	for _, bad := range []string{"", "mimi://b.example/r/own", bobURI} {
		if err := p.b.relay.Knock(ctx, p.bob, bad, ""); err == nil {
			t.Errorf("knocked at %q", bad)
		}
	}
	p.offers["a.example"] = false
	must0(t, p.b.relay.Knock(ctx, p.bob, uri, "")) // not known yet
	p.settle()
	p.last("bob", p.b.hs.texts(chat), "notice mimibot: You cannot knock at the room "+uri+": its provider takes no knocks: ask somebody in the room to invite you.")
	if err := p.b.relay.Knock(ctx, p.bob, uri, ""); err == nil {
		t.Error("knocked at a provider that takes none")
	}
	// Nobody knocks for others, or tells outcomes of other hubs' rooms; what was not asked for is not told.
	if _, err := p.a.relay.KnockAt(ctx, "c.example", wire.IdentifierURI(uri), (&wire.KnockRequest{Operation: wire.KnockAsk, User: bobURI}).Marshal()); err == nil {
		t.Error("c.example knocks for bob")
	}
	n := len(p.b.hs.texts(chat))
	if _, err := p.b.relay.KnockOutcome(ctx, "c.example", "", (&wire.KnockOutcome{RoomID: wire.IdentifierURI(uri), User: bobURI}).Marshal()); err == nil {
		t.Error("c.example answers for a.example")
	}
	_, err := p.b.relay.KnockOutcome(ctx, "a.example", "", (&wire.KnockOutcome{RoomID: wire.IdentifierURI(uri), User: bobURI, Verdict: wire.KnockAccepted}).Marshal())
	must0(t, err)
	p.settle()
	p.equal("texts", len(p.b.hs.texts(chat)), n)
	p.noTrouble()
}
