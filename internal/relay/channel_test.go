package relay

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// channelWorld is a room of a.example that is a channel, with alice in it, and b.example with bob and carol.
type channelWorld struct {
	t                 *testing.T
	w                 *world
	places            map[string]string // where the listeners of the servers are
	a, b              *apNode
	alice, bob, carol string
	room              *hsRoom // at a
	there             *hsRoom // the portal at b
}

func newChannelWorld(t *testing.T) *channelWorld {
	t.Helper()
	w := newWorld(t, "sqlite")
	places := map[string]string{}
	c := &channelWorld{t: t, w: w, places: places, a: newAPNode(t, w, places, "a.example"), b: newAPNode(t, w, places, "b.example")}
	c.alice, c.bob, c.carol = c.a.hs.mxid("alice"), c.b.hs.mxid("bob"), c.b.hs.mxid("carol")
	c.a.hs.users = map[string]bool{c.alice: true, c.a.hs.mxid("dave"): true}
	c.b.hs.users = map[string]bool{c.bob: true, c.carol: true}
	c.room = c.a.hs.create(c.alice, "Garden", "plants")
	c.a.hs.invite(c.room, c.alice, c.a.hs.mxid("mimibot"))
	c.settle()
	c.must(c.a.face.OfferChannel(context.Background(), c.room.id, c.alice, ""))
	c.settle()
	return c
}

func (c *channelWorld) settle() { c.t.Helper(); settleAP(c.t, c.a, c.b) }

func (c *channelWorld) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// invite brings bob into the channel.
func (c *channelWorld) invite() {
	c.t.Helper()
	c.must(c.a.face.InviteToChannel(context.Background(), c.room.id, c.alice, "@bob@b.example", ""))
	c.settle()
	if c.there = c.b.hs.roomOf(c.bob, "invite"); c.there == nil {
		c.t.Fatalf("bob was not invited: %q", c.a.hs.texts(c.room))
	}
	c.b.hs.join(c.there, c.bob)
	c.settle()
}

// carolComes lets bob invite carol into the portal, and her join it.
func (c *channelWorld) carolComes() {
	c.b.hs.invite(c.there, c.bob, c.carol)
	c.b.hs.join(c.there, c.carol)
}

func (c *channelWorld) hears(hs *fakeHS, room *hsRoom, text string, times int) {
	c.t.Helper()
	n := 0
	for _, s := range hs.texts(room) {
		if strings.HasSuffix(s, ": "+text) && !strings.HasPrefix(s, "notice") {
			n++
		}
	}
	if n != times {
		c.t.Fatalf("%q was heard %d times: %q", text, n, hs.texts(room))
	}
}

func (c *channelWorld) token() string {
	id, err := c.a.db.RoomIDByName(context.Background(), store.NameChannel, c.room.id)
	c.must(err)
	return id.String()
}

// TestAChannelOfTwoBridges: a Matrix room is offered as a channel, found by its name, somebody of another bridge is invited and talks, both ways, adds somebody
// of their server, who talks, is removed and leaves. S000-055 … S000-058, S000-061 … S000-078.
func TestAChannelOfTwoBridges(t *testing.T) {
	c := newChannelWorld(t)
	ctx := context.Background()
	c.invite()
	if got := c.there.str(event.TypeName, "name"); got != "Garden" {
		t.Errorf("the portal is called %q", got)
	}
	c.a.hs.say(c.room, c.alice, "hello")
	c.b.hs.say(c.there, c.bob, "hi there")
	c.settle()
	c.hears(c.b.hs, c.there, "hello", 1)
	c.hears(c.a.hs, c.room, "hi there", 1)
	// Bob adds Carol by inviting her in Matrix.
	c.carolComes()
	c.settle()
	c.b.hs.say(c.there, c.carol, "I am new")
	c.settle()
	c.hears(c.a.hs, c.room, "I am new", 1)
	members, err := c.a.face.Members(ctx, c.token())
	if want := []string{c.a.face.Site.User("alice"), c.b.face.Site.User("bob"), c.b.face.Site.User("carol")}; err != nil || !slices.Equal(members, want) {
		t.Fatalf("followers are %q %v", members, err)
	}
	// Restarted in between; then the room is renamed, and Carol leaves.
	c.a.relay.Forget()
	c.b.relay.Forget()
	c.a.hs.set(c.room, c.alice, event.TypeName, map[string]string{"name": "Yard"})
	c.settle()
	if got := c.there.str(event.TypeName, "name"); got != "Yard" {
		t.Errorf("the portal is called %q", got)
	}
	c.b.hs.leave(c.there, c.carol)
	c.settle()
	if members, _ = c.a.face.Members(ctx, c.token()); len(members) != 2 {
		t.Fatalf("followers are %q", members)
	}
	// Bob, the last of his server, leaves: he proposes it and the channel commits.
	c.b.hs.leave(c.there, c.bob)
	c.settle()
	if members, _ = c.a.face.Members(ctx, c.token()); len(members) != 1 {
		t.Fatalf("followers are %q", members)
	}
	if got := c.a.hs.joined(c.room); len(got) != 2 {
		t.Errorf("joined are %q", got)
	}
}

// TestAChannelIsJoinedByItsName: who follows a public room's channel is let in, who follows another is told that they are not.
func TestAChannelIsJoinedByItsName(t *testing.T) {
	c := newChannelWorld(t)
	ctx := context.Background()
	_, st, err := c.a.face.hostedRoom(ctx, c.token())
	c.must(err)
	name := "@" + st.Account + "@a.example"
	c.must(c.b.face.JoinChannel(ctx, c.bob, name))
	c.settle()
	if r := c.b.hs.roomOf(c.bob, "invite"); r != nil {
		t.Fatal("a closed room lets everybody in")
	}
	c.a.hs.set(c.room, c.alice, event.TypeJoinRules, map[string]string{"join_rule": "public"})
	c.settle()
	c.must(c.b.face.JoinChannel(ctx, c.bob, "acct:"+st.Account+"@a.example"))
	c.settle()
	if c.there = c.b.hs.roomOf(c.bob, "invite"); c.there == nil {
		t.Fatal("bob was not let in")
	}
	c.b.hs.join(c.there, c.bob)
	c.b.hs.say(c.there, c.bob, "by myself")
	c.settle()
	c.hears(c.a.hs, c.room, "by myself", 1)
	for _, resource := range []string{"acct:" + st.Account + "@a.example", st.ID, "matrix:roomid/" + strings.TrimPrefix(c.room.id, "!")} {
		f, err := c.a.face.Find(ctx, resource)
		if err != nil || f.Actor != st.ID || f.Subject != "acct:"+st.Account+"@a.example" {
			t.Errorf("%s: %+v %v", resource, f, err)
		}
	}
	if err := c.b.face.JoinChannel(ctx, c.bob, "@alice@a.example"); !errors.Is(err, ErrRefused) {
		t.Errorf("a person is joined: %v", err)
	}
	if err := c.a.face.InviteToChannel(ctx, c.room.id, c.alice, name, ""); err == nil {
		t.Error("a channel is invited into itself")
	}
}

// deliveries are the activities that a lane of a node holds.
func (c *channelWorld) deliveries(n *apNode) []store.Outbound {
	c.t.Helper()
	ctx := context.Background()
	rooms, err := n.db.Rooms(ctx, store.RoomID{}, 100)
	c.must(err)
	var out []store.Outbound
	for _, r := range rooms {
		for _, to := range []string{"a.example", "b.example"} {
			head, err := n.db.LaneRows(ctx, store.Lane{Room: r.ID, Dest: destAP + "http://" + to}, 100, 1<<20)
			c.must(err)
			out = append(out, head.Rows...)
		}
	}
	return out
}

// push posts an activity of an actor of a node and returns the status.
func (c *channelWorld) push(n *apNode, actor, inbox string, body []byte) int {
	c.t.Helper()
	key, err := n.face.Key(context.Background(), actor)
	c.must(err)
	d, err := n.sender.Deliver(context.Background(), key, inbox, body)
	c.must(err)
	return d.Status
}

func (c *channelWorld) epoch(n *apNode, kind store.NameKind, name string) int64 {
	c.t.Helper()
	r, err := n.db.RoomByName(context.Background(), kind, name)
	c.must(err)
	return r.Epoch
}

// TestAChannelRefuses: strangers, other epochs, what was there before, members without the power, bytes of the group from another than the channel. Nothing changes by
// any of it. S000-076, S000-092 … S000-094.
func TestAChannelRefuses(t *testing.T) {
	c := newChannelWorld(t)
	c.invite()
	site, bob, carol := c.b.face.Site, c.b.face.Site.User("bob"), c.b.face.Site.User("carol")
	channel := c.a.face.Site.Room(c.token())
	inbox := channel + "/inbox"
	// What bob says is caught on its way, and what his bridge would send as somebody else.
	c.b.hs.say(c.there, c.bob, "caught")
	d, _ := c.b.hs.delivery()
	_, err := c.b.face.Accept(context.Background(), d)
	c.must(err)
	rooms, err := c.b.db.Rooms(context.Background(), store.RoomID{}, 100)
	c.must(err)
	for _, r := range rooms {
		c.b.drain(r.ID)
	}
	rows := c.deliveries(c.b)
	if len(rows) != 1 {
		t.Fatalf("%d deliveries", len(rows))
	}
	said, err := ap.ParseObject(rows[0].Data)
	c.must(err)
	forged := func(change func(o ap.Object)) []byte {
		o, err := ap.ParseObject(rows[0].Data)
		c.must(err)
		change(o)
		return o.Marshal()
	}
	// One in whose name the bytes are not; one who is no member.
	as := func(who string) func(ap.Object) {
		return func(o ap.Object) {
			o["actor"], o["id"] = who, o.Str("id")+"-x"
			o["object"].(ap.Object)["attributedTo"] = who
		}
	}
	if code := c.push(c.b, carol, inbox, forged(as(carol))); code != 403 {
		t.Errorf("a stranger: %d", code)
	}
	if code := c.push(c.b, carol, inbox, rows[0].Data); code != 401 {
		t.Errorf("signed by another: %d", code)
	}
	if code := c.push(c.b, bob, inbox, forged(func(o ap.Object) { o["object"].(ap.Object)["content"] = "AAAA" })); code != 400 {
		t.Errorf("no MLS: %d", code)
	}
	// Twice the same.
	for range 2 {
		if code := c.push(c.b, bob, inbox, rows[0].Data); code != 202 {
			t.Errorf("a message: %d", code)
		}
	}
	// The same bytes in another activity.
	if code := c.push(c.b, bob, inbox, forged(func(o ap.Object) { o["id"] = o.Str("id") + "-again" })); code != 202 {
		t.Errorf("the same bytes: %d", code)
	}
	c.settle()
	c.hears(c.a.hs, c.room, "caught", 1)
	// A member without power over the room.
	before := c.epoch(c.a, store.NameChannel, c.room.id)
	update := site.ChannelUpdate(ap.Envelope{ID: "u1", Actor: bob}, channel, ap.Object{"name": "Bob's"})
	if code := c.push(c.b, bob, inbox, update.Marshal()); code != 403 {
		t.Errorf("an update without power: %d", code)
	}
	long := site.ChannelUpdate(ap.Envelope{ID: "u2", Actor: bob}, channel, ap.Object{"name": strings.Repeat("x", 5000)})
	if code := c.push(c.b, bob, inbox, long.Marshal()); code != 400 {
		t.Errorf("a name of 5,000 octets: %d", code)
	}
	// A commit that is none, one that does something else than its activity, one of an epoch that is over.
	octets, err := ap.DecodeBase64(said["object"].(ap.Object).Str("content"))
	c.must(err)
	thread, err := c.b.face.threadOf(context.Background(), store.DerivedRoomID("channel", channel))
	c.must(err)
	more, err := thread.Say(c.b.relay.Rand, bob, []byte("{}"))
	c.must(err)
	remove := site.ChannelRemove(ap.Envelope{ID: "r1", Actor: bob}, channel, c.a.face.Site.User("alice"), more.Message)
	if code := c.push(c.b, bob, inbox, remove.Marshal()); code != 400 {
		t.Errorf("a message as commit: %d", code)
	}
	staged, err := thread.Stage(c.b.relay.Rand, c.w.now, bob, nil, []string{c.a.face.Site.User("alice")})
	c.must(err)
	kick := site.ChannelRemove(ap.Envelope{ID: "r2", Actor: bob}, channel, c.a.face.Site.User("alice"), staged.Commit())
	if code := c.push(c.b, bob, inbox, kick.Marshal()); code != 403 {
		t.Errorf("removing without power: %d", code)
	}
	wrong := site.ChannelRemove(ap.Envelope{ID: "r3", Actor: bob}, channel, carol, staged.Commit())
	if code := c.push(c.b, bob, inbox, wrong.Marshal()); code != 400 {
		t.Errorf("a commit that does something else: %d", code)
	}
	if now := c.epoch(c.a, store.NameChannel, c.room.id); now != before {
		t.Fatalf("epoch %d became %d", before, now)
	}
	c.a.hs.member(c.room, c.alice, c.a.hs.mxid("dave"), "join", "")
	c.settle()
	if code := c.push(c.b, bob, inbox, kick.Marshal()); code != 409 {
		t.Errorf("a commit of an epoch that is over: %d", code)
	}
	// Bytes of the channel's group that do not come from the channel.
	eve := c.a.face.Site.User("alice")
	direct := c.a.face.Site.MLSCreate(ap.Envelope{ID: "d1", Actor: eve, To: []string{bob}}, octets)
	if code := c.push(c.a, eve, bob+"/inbox", direct.Marshal()); code != 403 {
		t.Errorf("past the channel: %d", code)
	}
	announce := c.a.face.Site.Announce(ap.Envelope{ID: "d2", Actor: eve, To: []string{bob}}, said)
	if code := c.push(c.a, eve, bob+"/inbox", announce.Marshal()); code != 403 {
		t.Errorf("an Announce of another than the channel: %d", code)
	}
}

// TestOneCommitAnEpoch: two bridges commit in the same epoch; the channel's own counts, the other is refused and made again. S000-076.
func TestOneCommitAnEpoch(t *testing.T) {
	c := newChannelWorld(t)
	c.invite()
	ctx := context.Background()
	dave := c.a.hs.mxid("dave")
	// Bob's Add is on its way while the channel adds Dave.
	c.carolComes()
	d, _ := c.b.hs.delivery()
	_, err := c.b.face.Accept(ctx, d)
	c.must(err)
	rooms, err := c.b.db.Rooms(ctx, store.RoomID{}, 100)
	c.must(err)
	for _, r := range rooms {
		c.b.drain(r.ID)
	}
	if n := len(c.deliveries(c.b)); n != 1 {
		t.Fatalf("%d deliveries", n)
	}
	c.b.hs.say(c.there, c.carol, "after both")
	c.b.relay.Forget()
	c.a.hs.member(c.room, dave, dave, "join", "")
	for n := c.a.turn(t); n > 0; n = c.a.turn(t) {
	}
	c.settle()
	members, err := c.a.face.Members(ctx, c.token())
	if err != nil || len(members) != 4 {
		t.Fatalf("followers are %q %v", members, err)
	}
	c.hears(c.a.hs, c.room, "after both", 1)
}

// TestAMemberComesBackByGroupInfo: a member whose state is lost makes an external commit with the state that the channel gives to members; nobody else can. S000-059,
// S000-085.
func TestAMemberComesBackByGroupInfo(t *testing.T) {
	c := newChannelWorld(t)
	c.invite()
	ctx := context.Background()
	site, bob, carol := c.b.face.Site, c.b.face.Site.User("bob"), c.b.face.Site.User("carol")
	channel := c.a.face.Site.Room(c.token())
	info, err := c.a.face.GroupInfo(ctx, c.token())
	c.must(err)
	m, _, err := ap.ParseMLS(info)
	c.must(err)
	old, err := c.b.face.threadOf(ctx, store.DerivedRoomID("channel", channel))
	c.must(err)
	leaf, _ := old.Leaf(bob)
	commit := func(actor string, remove *mls.LeafIndex) []byte {
		t.Helper()
		key, err := c.b.face.clientKey(ctx, actor)
		c.must(err)
		s, err := mls.StageExternalCommit(c.b.relay.Rand, c.w.now, mls.Config{Validator: ap.Validator{}}, mls.ExternalCommitParams{GroupInfo: m.GroupInfo, Remove: remove,
			Leaf: mls.LeafParams{SignatureKey: key, Credential: mls.BasicCredential([]byte(actor)), Capabilities: ap.Capabilities()}})
		c.must(err)
		return s.Commit()
	}
	before := c.epoch(c.a, store.NameChannel, c.room.id)
	other := site.MLSCreate(ap.Envelope{ID: "g1", Actor: bob, To: []string{channel}}, commit(carol, nil))
	if code := c.push(c.b, bob, channel+"/inbox", other.Marshal()); code != 400 {
		t.Errorf("somebody else comes in by a member: %d", code)
	}
	stranger := site.MLSCreate(ap.Envelope{ID: "g3", Actor: carol, To: []string{channel}}, commit(carol, nil))
	if code := c.push(c.b, carol, channel+"/inbox", stranger.Marshal()); code != 403 {
		t.Errorf("a stranger comes in: %d", code)
	}
	if now := c.epoch(c.a, store.NameChannel, c.room.id); now != before {
		t.Fatalf("epoch %d became %d", before, now)
	}
	back := site.MLSCreate(ap.Envelope{ID: "g4", Actor: bob, To: []string{channel}}, commit(bob, &leaf))
	if code := c.push(c.b, bob, channel+"/inbox", back.Marshal()); code != 202 {
		t.Errorf("coming back: %d", code)
	}
	members, err := c.a.face.Members(ctx, c.token())
	if now := c.epoch(c.a, store.NameChannel, c.room.id); err != nil || now != before+1 || len(members) != 2 {
		t.Errorf("epoch %d became %d, followers are %q %v", before, now, members, err)
	}
}
