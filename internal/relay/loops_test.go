package relay

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// A room that is joined to the same MIMI room by two bridges is found out, from both ends.
func TestLoopsAreBroken(t *testing.T) {
	p := newPair(t, warm)
	p.b.conf.Mapping.ExternalID = "hs.a.example" // as a second bridge beside A's homeserver would
	p.b.start()
	p.begin()
	uri := p.a.room(p.room).URI
	n := len(p.portal.timeline)
	p.a.hs.emit(p.room, p.alice, event.TypeMessage, nil, map[string]any{"msgtype": "m.text", "body": "again",
		"im.mimi.message": map[string]any{"id": "00", "room": uri}}, 0)
	p.settle()
	p.equal("events at B", len(p.portal.timeline), n)
	p.last("A", p.a.hs.texts(p.room), "notice mimibot: ⚠ Your message was not delivered: This room is joined to the same MIMI room twice.")
	p.room.find(t, event.TypeSendStatus, "com.beeper.unsupported_event")
	// What names an event of ours came from this very room.
	own := p.a.hs.say(p.room, p.alice, "said once")
	p.settle()
	p.b.hs.queue = append(p.b.hs.queue, p.b.hs.encode(p.portal, hsEvent{id: own, sender: p.bob, typ: event.TypeMessage, ts: 1,
		content: json.RawMessage(`{"msgtype":"m.text","body":"said twice"}`)}))
	p.settle()
	for _, text := range p.a.hs.texts(p.room) {
		if strings.Contains(text, "said twice") {
			t.Errorf("shown: %q", text)
		}
	}
	if len(p.a.alerts) != 1 || !strings.HasPrefix(p.a.alerts[0], "loop:") {
		t.Errorf("alerts %q", p.a.alerts)
	}
}

// Who may not use the bridge, such as the ghost of another bridge that the operator blocks, reads only, on either side: nothing of
// theirs goes over, and they are told once.
func TestWhoMayNotUseTheBridge(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		n := w.a
		if w.who == w.bob {
			n = w.b
		}
		irc, own := w.hs.mxid("irc_carol"), n.relay.Permitted
		n.relay.Permitted = func(mxid string) bool { return mxid != irc && own(mxid) }
		w.hs.invite(w.from, w.who, irc)
		w.hs.join(w.from, irc)
		w.settle()
		events := len(w.to.timeline)
		w.hs.say(w.from, irc, "from another network")
		w.settle()
		w.last("told", w.hs.texts(w.from), "notice mimibot: ⚠ Your message was not delivered: you are not allowed to use this bridge.")
		w.hs.say(w.from, irc, "and again")
		w.settle()
		w.last("told once", w.hs.texts(w.from), "irc_carol: and again")
		w.equal("events on the other side", len(w.to.timeline), events)
	})
}

// What is no conversation, what everybody can read and what another bridge has joined to MIMI is not joined, by invitation or by
// command; whoever asks is told, and when the reason is gone it is joined.
func TestRoomsThatAreNotJoined(t *testing.T) {
	p := newPair(t, warm)
	for name, c := range map[string]struct {
		why         string
		spoil, mend func(r *hsRoom)
	}{
		"a space": {"a space is no conversation", func(r *hsRoom) {
			p.a.hs.set(r, p.alice, event.TypeCreate, map[string]string{"room_version": "10", "type": "m.space"})
		}, nil},
		"a replaced room": {"the room was replaced by another", func(r *hsRoom) {
			p.a.hs.set(r, p.alice, event.TypeTombstone, map[string]string{"replacement_room": "!next:hs.a.example"})
		}, nil},
		"readable for all": {"everybody can read the room without being in it", func(r *hsRoom) {
			p.a.hs.set(r, p.alice, event.TypeHistoryVisibility, map[string]string{"history_visibility": "world_readable"})
		}, func(r *hsRoom) {
			p.a.hs.set(r, p.alice, event.TypeHistoryVisibility, map[string]string{"history_visibility": "shared"})
		}},
		"joined elsewhere": {"another bridge beside this homeserver has joined the room to MIMI already", func(r *hsRoom) {
			p.a.hs.join(r, "@mimi_a.example=2fcarol:hs.a.example")
		}, func(r *hsRoom) { p.a.hs.leave(r, "@mimi_a.example=2fcarol:hs.a.example") }},
		"joined elsewhere over ActivityPub": {"another bridge beside this homeserver has joined the room to MIMI already", func(r *hsRoom) {
			p.a.hs.join(r, "@acct_carol=40a.example:hs.a.example")
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := p.a.hs.create(p.alice, name, "")
			c.spoil(r)
			p.a.hs.invite(r, p.alice, p.bobAtA)
			p.settle()
			p.equal("the ghost", r.members[p.bobAtA], "leave")
			bot := p.a.hs.mxid("mimibot")
			p.a.hs.invite(r, p.alice, bot)
			p.settle()
			if err := p.a.relay.Plumb(t.Context(), r.id, p.alice, "$plumb"); err != nil {
				t.Fatal(err)
			}
			p.settle()
			p.last("told", p.a.hs.texts(r), "notice mimibot: This room cannot be joined to MIMI: "+c.why+".")
			if c.mend == nil {
				return
			}
			c.mend(r)
			p.a.hs.invite(r, p.alice, p.bobAtA)
			p.settle()
			p.equal("the ghost, when nothing is in the way", r.members[p.bobAtA], "join")
		})
	}
}

// A provider that the Matrix room's server ACL keeps out comes in by nobody's invitation.
func TestServerACL(t *testing.T) {
	p := newPair(t, warm, "c.example").begin()
	c := p.nodes["c.example"]
	eve := c.hs.mxid("eve")
	c.hs.users[eve] = true
	p.a.hs.set(p.room, p.alice, event.TypeServerACL, map[string]any{"allow": []string{"*"}, "deny": []string{"c.example"}})
	p.settle()
	eveAtA := p.a.ghost("mimi://c.example/u/eve")
	p.a.hs.invite(p.room, p.alice, eveAtA)
	p.settle()
	p.equal("invited at A", p.room.members[eveAtA], "leave")
	eveAtB := p.b.ghost("mimi://c.example/u/eve")
	p.fault = func(_, to, verb string, _ []byte) fault {
		if to == "c.example" {
			t.Errorf("c.example is asked for %s", verb)
		}
		return deliver
	}
	p.b.hs.invite(p.portal, p.bob, eveAtB)
	p.settle()
	if role := p.a.view(p.room).policy.RoleIndex("mimi://c.example/u/eve"); role != policy.RoleNone {
		t.Errorf("eve has role %d", role)
	}
	p.equal("invited at B", p.portal.members[eveAtB], "leave")
	p.talk(1)
	p.noTrouble()
}

// A role that a moderator gives in the portal becomes a power level in the room that leads.
func TestRoleGivenInThePortal(t *testing.T) {
	p := newPair(t, warm).begin()
	carol := p.a.hs.mxid("carol")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50}, "events": map[string]int{}})
	p.settle()
	carolURI := "mimi://a.example/u/carol"
	carolAtB := p.b.ghost(carolURI)
	levels := p.portal.power.Clone()
	levels.Users[userID(carolAtB)] = levels.User(userID(p.bob))
	p.b.hs.set(p.portal, p.bob, event.TypePowerLevels, levels.Encode())
	p.settle()
	p.equal("carol's level at A", p.room.power.User(userID(carol)), int64(50))
	p.talk(1)
	p.noTrouble()
}

// Events of a sync carry no room id of their own.
func TestEventsOfASync(t *testing.T) {
	p := newPair(t, warm).begin()
	id := p.a.hs.say(p.room, p.alice, "oops")
	p.settle()
	raw := json.RawMessage(`{"event_id":"$red","sender":"` + p.alice + `","type":"m.room.redaction","origin_server_ts":1,"redacts":"` + id + `","content":{"redacts":"` + id + `"}}`)
	r, err := event.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	r.Room = p.room.id
	ev, err := r.Check()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.a.relay.Accept(context.Background(), Delivery{Source: "sync", Events: []event.Event{ev}, Next: "s2"}); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if !p.portal.find(t, event.TypeMessage, "oops").redacted {
		t.Error("the redaction that came by sync had no effect")
	}
	p.noTrouble()
}
