package relay

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// A moderator of a portal does by commands what power levels cannot express; the hub decides, and refusals are told.
func TestModerationByCommands(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		ctx := context.Background()
		p := newPair(t, m).begin()
		carol, carolURI := p.a.hs.mxid("carol"), "mimi://a.example/u/carol"
		p.a.hs.invite(p.room, p.alice, carol)
		p.a.hs.join(p.room, carol)
		p.a.hs.set(p.room, p.alice, "m.room.power_levels", map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50, p.a.hs.mxid("mimibot"): 100}})
		p.settle()
		ghost := p.b.ghost(carolURI)
		roles, err := p.b.relay.RolesOf(ctx, p.portal.id)
		must0(t, err)
		mine := p.b.view(p.portal).policy.RoleIndex(bobURI)
		found := false
		for _, r := range roles {
			found = found || r.Index == mine && len(r.Users) == 1 && r.Users[0] == bobURI && r.Name != ""
		}
		if !found {
			t.Errorf("bob's role is not listed: %+v", roles)
		}
		act := func(what, target, role string) {
			t.Helper()
			must0(t, p.b.relay.Moderate(ctx, p.portal.id, p.bob, what, target, role, ""))
			p.settle()
		}
		act(ModerateRole, ghost, strconv.Itoa(int(mine)))
		p.equal("carol's role", p.a.view(p.room).policy.RoleIndex(carolURI), mine)
		act(ModerateRole, ghost, "emperor")
		p.last("no such role", p.b.hs.texts(p.portal), "notice mimibot: There is no role emperor here: see the command roles.")
		act(ModerateKick, p.aliceAtB, "") // she is above him
		p.equal("alice", p.a.view(p.room).policy.RoleIndex(aliceURI) > policy.RoleBanned, true)
		if texts := p.b.hs.texts(p.portal); !strings.Contains(texts[len(texts)-1], "This could not be done") {
			t.Errorf("bob was told %q", texts[len(texts)-1])
		}
		dave := p.a.hs.mxid("dave")
		p.a.hs.invite(p.room, p.alice, dave)
		p.a.hs.join(p.room, dave)
		p.settle()
		act(ModerateKick, "mimi://a.example/u/dave", "")
		p.equal("dave after the kick", p.room.members[dave], "leave")
		act(ModerateBan, "mimi://a.example/u/dave", "")
		p.equal("dave after the ban", p.room.members[dave], "ban")
		act(ModerateUnban, "mimi://a.example/u/dave", "")
		p.equal("dave after the unban", p.a.view(p.room).policy.RoleIndex("mimi://a.example/u/dave"), policy.RoleNone)
		act(ModerateKick, "@nobody:"+p.b.hs.server, "")
		p.last("a stranger", p.b.hs.texts(p.portal), "notice mimibot: @nobody:"+p.b.hs.server+" does not take part in this room.")
		must0(t, p.a.relay.Moderate(ctx, p.room.id, p.alice, ModerateKick, p.bobAtA, "", ""))
		p.settle()
		p.last("at the hub", p.a.hs.texts(p.room), "notice mimibot: This room is led here: use what your client offers for that.")
		p.talk(1)
		p.noTrouble()
	})
}

// Who asked for a chat or a room of a provider that is away for longer than a minute is told in the chat with the bot, once.
func TestDelaysAreToldToWhoWaits(t *testing.T) {
	ctx := context.Background()
	p := newPair(t, warm)
	chat := p.botChat(t)
	away := true
	p.fault = func(_, _, _ string, _ []byte) fault {
		if away {
			return dropRequest
		}
		return deliver
	}
	p.start(t, bobURI)
	must0(t, p.a.relay.Join(ctx, p.alice, "mimi://b.example/r/club", ""))
	p.settle()
	p.pass(2 * time.Minute)
	for range 2 {
		must0(t, p.a.relay.TellDelays(ctx))
		p.settle()
	}
	said := p.a.hs.texts(chat)[1:] // behind the greeting
	slices.Sort(said)
	p.equal("told", said, []string{"notice mimibot: b.example does not answer. Its people are invited when it does.",
		"notice mimibot: b.example does not answer. You come into mimi://b.example/r/club when it does."})
	away = false
	p.pass(time.Minute)
	if p.b.hs.roomOf(p.bob, "invite") == nil {
		t.Error("bob was not invited when his provider came back")
	}
}

// However many rooms wait for providers that are away, the people of each are told, and no room is woken by it again.
func TestDelaysAreToldInEveryRoom(t *testing.T) {
	ctx := context.Background()
	p := newPair(t, warm).begin()
	since := p.a.relay.Clock().Add(-time.Hour).UnixMilli()
	must0(t, p.a.db.Tx(ctx, func(tx *store.Tx) error {
		for i := range 501 { // which fail for longer
			room := store.Room{ID: store.RoomID{1, byte(i), byte(i >> 8)}, Kind: store.RoomNone, Epoch: -1}
			lane := store.Lane{Room: room.ID, Dest: "mimi:gone.example"}
			if err := tx.CreateRoom(ctx, room); err != nil {
				return err
			}
			if _, err := tx.AddOutbound(ctx, []store.Outbound{{Room: room.ID, Dest: lane.Dest, Seq: 1, Verb: "x"}}); err != nil {
				return err
			}
			lease, err := tx.ClaimLane(ctx, lane, "test", 1, true)
			if err == nil {
				err = tx.FailLane(ctx, lease, store.Never-1, since, "away")
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))
	p.fault = func(_, _, _ string, _ []byte) fault { return dropRequest }
	p.a.hs.say(p.room, p.alice, "are you there?")
	p.settle()
	p.pass(2 * time.Minute)
	must0(t, p.a.relay.TellDelays(ctx))
	p.settle()
	p.last("A", p.a.hs.texts(p.room), "alice: are you there?", "notice mimibot: b.example does not answer. Its people get what is written here when it does.")
	arrived := func() int64 {
		head, err := p.a.db.RoomByName(ctx, store.NameMatrix, p.room.id)
		must0(t, err)
		return head.NextIn
	}
	before := arrived()
	must0(t, p.a.relay.TellDelays(ctx))
	if after := arrived(); after != before {
		t.Errorf("the room was woken again: %d arrivals, then %d", before, after)
	}
}

// While a provider is away for longer than a minute people are told, once.
func TestDelaysAreTold(t *testing.T) {
	ctx := context.Background()
	p := newPair(t, warm).begin()
	away := false
	p.fault = func(_, _, _ string, _ []byte) fault {
		if away {
			return dropRequest
		}
		return deliver
	}
	away = true
	p.b.hs.say(p.portal, p.bob, "are you there?")
	p.a.hs.say(p.room, p.alice, "and you?")
	p.settle()
	tell := func() {
		t.Helper()
		must0(t, p.a.relay.TellDelays(ctx))
		must0(t, p.b.relay.TellDelays(ctx))
		p.settle()
	}
	tell() // too early
	p.last("B at once", p.b.hs.texts(p.portal), "bob: are you there?")
	p.pass(2 * time.Minute)
	tell()
	tell()
	p.last("B", p.b.hs.texts(p.portal), "bob: are you there?", "notice mimibot: a.example, which leads this room, does not answer. What you write waits until it does.")
	p.last("A", p.a.hs.texts(p.room), "alice: and you?", "notice mimibot: b.example does not answer. Its people get what is written here when it does.")
	away = false
	p.pass(time.Minute)
	p.last("A after all", p.a.hs.texts(p.room), local(p.bobAtA)+": are you there?")
	p.noTrouble()
}
