package relay

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// endings are the ways in which a hub room ends.
var endings = map[string]func(p *pair){
	"unplumb": func(p *pair) {
		if err := p.a.relay.Unplumb(context.Background(), p.room.id, p.alice, ""); err != nil {
			p.t.Fatal(err)
		}
	},
	"tombstone": func(p *pair) { p.a.hs.set(p.room, p.alice, event.TypeTombstone, map[string]any{"body": "we are done"}) },
}

// S004-056: followers that share the extension show that the room has ended and let their people read on.
func TestRoomEnds(t *testing.T) { modes(t, testRoomEnds) }

func testRoomEnds(t *testing.T, m mode) {
	for name, end := range endings {
		p := sharingPair(t, m)
		p.shuffle = nil // the word is told before the commit, on the same lane
		end(p)
		p.settle()
		p.equal(name+": bob's ghost", p.room.members[p.bobAtA], "leave")
		p.equal(name+": alice's ghost", p.portal.members[p.aliceAtB], "leave")
		p.equal(name+": bob", p.portal.members[p.bob], "join")
		texts := p.b.hs.texts(p.portal)
		if len(texts) != 1 || !strings.Contains(texts[0], "This conversation is over") {
			t.Errorf("%s: %q", name, texts)
		}
		// What is said afterwards is refused, with words, and carried nowhere.
		before := len(p.a.hs.texts(p.room))
		p.b.hs.say(p.portal, p.bob, "is anybody there?")
		p.settle()
		if texts := p.b.hs.texts(p.portal); !strings.Contains(texts[len(texts)-1], "a.example has ended this conversation") {
			t.Errorf("%s: %q", name, texts)
		}
		p.equal(name+": texts at A", len(p.a.hs.texts(p.room)), before)
		p.equal(name+": rows that wait", len(p.b.waiting()), 0)
		p.noTrouble()
	}
}

// The room can be joined to MIMI again; the portal goes on.
func TestEndedRoomGoesOn(t *testing.T) {
	p := sharingPair(t, warm)
	endings["unplumb"](p)
	p.settle()
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.equal("bob", p.portal.members[p.bob], "join")
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

// Followers that do not share the extension see the draft's way: their people are removed.
func TestRoomEndsForDraftPeers(t *testing.T) {
	for name, end := range endings {
		p := newPair(t, warm).begin()
		p.offers["a.example"] = true
		end(p)
		p.settle()
		p.equal(name+": bob's ghost", p.room.members[p.bobAtA], "leave")
		p.equal(name+": bob", p.portal.members[p.bob], "leave")
		p.equal(name+": words about the end", p.calls[verbRoomDestroyed], 0)
		p.noTrouble()
	}
}

// Only the hub of a room can end it, and a Matrix room that is replaced has not ended.
func TestWhoEndsRooms(t *testing.T) {
	p := sharingPair(t, warm)
	uri := wire.IdentifierURI(p.b.room(p.portal).URI)
	ctx := context.Background()
	body := (&wire.RoomDestroyed{RoomID: uri}).Marshal()
	for _, c := range []struct{ peer, path string }{{"c.example", string(uri)}, {"a.example", "mimi://a.example/r/other"}} {
		if _, err := p.b.relay.Extension(ctx, c.peer, verbRoomDestroyed, wire.IdentifierURI(c.path), body); !errors.Is(err, ErrForbidden) && !errors.Is(err, wire.ErrForbidden) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	other := (&wire.RoomDestroyed{RoomID: "mimi://a.example/r/other"}).Marshal()
	if _, err := p.b.relay.Extension(ctx, "a.example", verbRoomDestroyed, "mimi://a.example/r/other", other); err != nil {
		t.Errorf("a room that is not known: %v", err)
	}
	// The portal of a room that the other bridge leads.
	if _, err := p.a.relay.Extension(ctx, "a.example", verbRoomDestroyed, uri, body); err != nil {
		t.Error(err)
	}
	p.a.hs.set(p.room, p.alice, event.TypeTombstone, map[string]any{"replacement_room": "!next:hs.a.example"})
	p.settle()
	p.equal("bob", p.portal.members[p.bob], "join")
	p.equal("bob's ghost", p.room.members[p.bobAtA], "join")
	p.talk(1)
}
