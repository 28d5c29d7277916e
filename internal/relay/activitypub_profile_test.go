package relay

import (
	"context"
	"strings"
	"testing"
)

// TestProfilesBothWays: the name and the picture of a user stand in the actor; a change is sent to those who share a conversation, whose ghosts take it.
func TestProfilesBothWays(t *testing.T) {
	p, ctx := newAPPair(t), context.Background()
	ghost := "@acct_alice=40a.example:" + p.b.hs.server
	p.a.hs.names = map[string][2]string{p.alice: {"Alice Bell", p.a.files.add(onePixel)}}
	p.a.w.now = p.a.w.now.Add(2 * ownProfileAge)
	p.a.hs.join(p.at, p.alice) // a change of the profile is an event of the member
	settleAP(t, p.a, p.b)
	g, err := p.b.db.Ghost(ctx, ghost)
	if err != nil || g.Display != "Alice Bell" {
		t.Errorf("%+v %v", g, err)
	}
	self, err := p.a.face.User(ctx, "alice")
	if err != nil || self.DisplayName != "Alice Bell" || !strings.HasPrefix(self.Icon, "https://") {
		t.Errorf("%+v %v", self, err)
	}
	if d := dataOfGhost(&g); d.Picture != self.Icon {
		t.Errorf("the picture is %q", d.Picture)
	}
	l, err := p.a.face.List(ctx, "out", p.aliceID, "", "", 1)
	if err != nil || l.Items[0].Str("type") != "Update" {
		t.Errorf("%+v %v", l, err)
	}
	before, _ := p.a.face.List(ctx, "out", p.aliceID, "", "", 0)
	p.a.hs.join(p.at, p.alice)
	settleAP(t, p.a, p.b)
	if again, _ := p.a.face.List(ctx, "out", p.aliceID, "", "", 0); again.Total != before.Total || before.Total == 0 {
		t.Error("the same profile was sent twice")
	}
}

// TestNamesOfConversations: name and topic of the Matrix room go to the others inside MLS, and theirs come.
func TestNamesOfConversations(t *testing.T) {
	p := newAPPair(t)
	p.a.hs.set(p.at, p.alice, "m.room.name", map[string]string{"name": "Tea"})
	p.a.hs.set(p.at, p.alice, "m.room.topic", map[string]string{"topic": "at five"})
	settleAP(t, p.a, p.b)
	for typ, want := range map[string]string{"m.room.name": "Tea", "m.room.topic": "at five"} {
		if got := string(p.bt.state[typ+"\x00"]); !strings.Contains(got, want) {
			t.Errorf("%s: %s", typ, got)
		}
	}
	p.b.hs.set(p.bt, p.bob, "m.room.name", map[string]string{"name": "Coffee"})
	settleAP(t, p.a, p.b)
	if got := string(p.at.state["m.room.name\x00"]); !strings.Contains(got, "Coffee") {
		t.Errorf("%s", got)
	}
}

// TestReceiptsOverActivityPub: Read of a message is a read receipt of the ghost.
func TestReceiptsOverActivityPub(t *testing.T) {
	p, ctx := newAPPair(t), context.Background()
	p.a.hs.say(p.at, p.alice, "read me")
	settleAP(t, p.a, p.b)
	event := p.at.find(t, "m.room.message", "read me").id
	rooms, _, err := p.a.face.Owns(ctx, p.at.id)
	if err != nil {
		t.Fatal(err)
	}
	link, err := p.a.db.LinkByEvent(ctx, rooms, event)
	if err != nil {
		t.Fatal(err)
	}
	var data apLink
	if err := unmarshalString(link.Data, &data); err != nil {
		t.Fatal(err)
	}
	room, _, err := p.b.face.Owns(ctx, p.bt.id)
	if err != nil {
		t.Fatal(err)
	}
	err = p.b.face.run(ctx, room, func(x *apStep) error {
		e, err := x.thread.Say(x.Rand, p.bobID, []byte(`{"type":"Read","id":"urn:uuid:r","actor":"`+p.bobID+`","object":"`+data.AS2+`"}`))
		if err != nil {
			return err
		}
		x.apply(e)
		return x.sendMLS(p.bobID, e.Message, x.thread.Actors())
	})
	if err != nil {
		t.Fatal(err)
	}
	settleAP(t, p.a, p.b)
	if got := p.at.reads["@acct_bob=40b.example:"+p.a.hs.server]; got != event {
		t.Errorf("read up to %q", got)
	}
}
