package relay

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// An invitation of a Matrix user by a Matrix user tells MIMI nothing: who was invited is on no list until they join.
func TestInvitedMatrixUserIsOnNoList(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		carol := w.hs.mxid("carol")
		epoch := w.a.view(w.room).group.Epoch()
		w.hs.invite(w.from, w.who, carol)
		w.settle()
		w.hs.member(w.from, carol, carol, "leave", "") // and declines
		w.settle()
		w.equal("epoch", w.a.view(w.room).group.Epoch(), epoch)
		for _, u := range w.a.view(w.room).policy.Participants {
			if strings.Contains(u.User, "carol") {
				t.Errorf("%s is on the list", u.User)
			}
		}
	})
}

// People of other homeservers in a Matrix room are users of the bridge's provider, and their answers come back to them.
func TestUserOfAnotherHomeserver(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		for _, n := range w.nodes {
			n.relay.Permitted = func(string) bool { return true } // as bridge.permissions with "*"
		}
		carol := "@carol:elsewhere.example"
		uri := "mimi://a.example/u/@carol:elsewhere.example"
		there := w.b
		if w.who == w.bob {
			uri, there = "mimi://b.example/u/@carol:elsewhere.example", w.a
		}
		w.hs.invite(w.from, w.who, carol)
		w.hs.join(w.from, carol)
		w.settle()
		ghost := there.ghost(uri)
		w.equal("ghost", w.to.members[ghost], "join")
		w.hs.say(w.from, carol, "from elsewhere")
		w.settle()
		w.last("seen", w.there.texts(w.to), local(ghost)+": from elsewhere")
		w.hs.leave(w.from, carol)
		w.pass(time.Minute)
		w.equal("ghost", w.to.members[ghost], "leave")
	})
}

// commitBy lets a client make a commit that no wish of a Matrix room leads to, as another implementation may.
func (p *pair) commitBy(n *node, r *hsRoom, user string, change func(s *step, c *plan)) {
	p.t.Helper()
	_, err := n.relay.runStep(context.Background(), n.room(r).ID, nil, store.Settle{}, func(s *step) error {
		leaf, _ := s.room.ownLeaf(user)
		c := &plan{committer: user, leaf: leaf, roles: map[string]uint32{}, removed: map[mls.LeafIndex]bool{}}
		change(s, c)
		if err := s.finishPlan(c); err != nil {
			return err
		}
		params, err := s.commitParams(c)
		if err != nil {
			return err
		}
		staged, err := s.room.group.StageCommit(s.Rand, s.now, params)
		if err != nil {
			return err
		}
		if s.room.head.Kind == store.RoomHub {
			return s.commitAsHub(c, staged)
		}
		return s.commitAsFollower(c, staged)
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.settle()
}

const botURI = "mimi://a.example/u/mimibot"

// A participant without a client is shown: its ghost is in the room, on both sides.
func TestParticipantWithoutClients(t *testing.T) {
	p := newPair(t, warm).begin()
	mute := "mimi://b.example/u/mute"
	p.b.hs.users[p.b.hs.mxid("mute")] = true
	eve := "mimi://c.example/u/eve"
	p.commitBy(p.a, p.room, botURI, func(_ *step, c *plan) {
		c.added = []policy.UserRolePair{{User: eve, Role: policy.RoleMember}, {User: mute, Role: policy.RoleMember}}
	})
	p.equal("eve at A", p.room.members[p.a.ghost(eve)], "join")
	p.equal("eve at B", p.portal.members[p.b.ghost(eve)], "join")
	p.equal("B's own user", p.portal.members[p.b.hs.mxid("mute")], "invite")
	p.talk(1)
	p.noTrouble()
}

// A ban that is lifted into a role brings its user back.
func TestBanLiftedIntoARole(t *testing.T) {
	p := newPair(t, warm, "c.example").begin()
	c := p.nodes["c.example"]
	eve, uri := c.hs.mxid("eve"), "mimi://c.example/u/eve"
	c.hs.users[eve] = true
	p.a.hs.invite(p.room, p.alice, p.a.ghost(uri))
	p.settle()
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50}})
	p.a.hs.ban(p.room, p.alice, p.a.ghost(uri))
	p.settle()
	p.equal("eve at B", p.portal.members[p.b.ghost(uri)], "ban")
	p.commitBy(p.b, p.portal, bobURI, func(_ *step, c *plan) { c.roles[uri] = policy.RoleMember })
	p.equal("eve at A", p.room.members[p.a.ghost(uri)], "join")
	p.equal("eve at B", p.portal.members[p.b.ghost(uri)], "join")
	p.talk(1)
	p.noTrouble()
}

// Who is banned is brought in by nobody's invitation: the ban must be lifted first.
func TestBannedPeopleAreNotInvited(t *testing.T) {
	p := newPair(t, warm).begin()
	carol := p.a.hs.mxid("carol")
	p.a.hs.invite(p.room, p.alice, carol)
	p.a.hs.join(p.room, carol)
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50}})
	p.settle()
	mallory := "mimi://b.example/u/mallory"
	p.b.hs.users[p.b.hs.mxid("mallory")] = true
	p.a.hs.ban(p.room, p.alice, p.a.ghost(mallory))
	p.settle()
	// A command is not judged by the homeserver.
	must0(t, p.a.relay.Invite(context.Background(), p.room.id, carol, mallory, ""))
	p.settle()
	p.equal("role", p.a.view(p.room).policy.RoleIndex(mallory), policy.RoleBanned)
	p.last("told", p.a.hs.texts(p.room), "notice mimibot: mallory (b.example) is banned here: lift the ban first.")
	trudy := "mimi://a.example/u/trudy"
	p.b.hs.ban(p.portal, p.bob, p.b.ghost(trudy))
	p.settle()
	must0(t, p.b.relay.Invite(context.Background(), p.portal.id, p.bob, trudy, ""))
	p.settle()
	p.equal("role", p.a.view(p.room).policy.RoleIndex(trudy), policy.RoleBanned)
	p.last("told", p.b.hs.texts(p.portal), "notice mimibot: trudy (a.example) is banned here: lift the ban first.")
	p.noTrouble()
}

// reasonOf is why somebody left a room.
func (r *hsRoom) reasonOf(user string) string {
	o, _ := event.ParseObject(r.state[event.TypeMember+"\x00"+user])
	return o.Str("reason")
}

// Who was put out by whom is said in the event of the leave, and nothing when somebody went by themselves.
func TestWhoPutSomebodyOutIsSaid(t *testing.T) {
	p := newPair(t, warm).begin()
	carol := p.a.hs.mxid("carol")
	carolAtB := p.b.ghost("mimi://a.example/u/carol")
	join := func() {
		p.a.hs.invite(p.room, p.alice, carol)
		p.a.hs.join(p.room, carol)
		p.settle()
	}
	join()
	p.a.hs.kick(p.room, p.alice, carol)
	p.settle()
	p.equal("carol's ghost", p.portal.reasonOf(carolAtB), "removed by alice (a.example)")
	join()
	p.a.hs.leave(p.room, carol)
	p.settle()
	p.equal("carol's ghost left", []string{p.portal.members[carolAtB], p.portal.reasonOf(carolAtB)}, []string{"leave", ""})
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50}})
	join()
	p.b.hs.kick(p.portal, p.bob, carolAtB)
	p.settle()
	by := p.room.sender[event.TypeMember+"\x00"+carol]
	p.equal("carol", []string{p.room.members[carol], p.room.reasonOf(carol), by}, []string{"leave", "removed by " + local(p.bobAtA), p.bobAtA})
	join()
	p.b.hs.ban(p.portal, p.bob, carolAtB)
	p.settle()
	p.equal("carol is banned", []string{p.room.members[carol], p.room.reasonOf(carol)}, []string{"ban", "banned by " + local(p.bobAtA)})
	p.a.hs.kick(p.room, p.alice, p.bobAtA)
	p.settle()
	p.equal("bob", []string{p.portal.members[p.bob], p.portal.reasonOf(p.bob)}, []string{"leave", "removed by alice (a.example)"})
	p.noTrouble()
}

// nobodyLeaves takes the right to leave from members.
func (p *pair) nobodyLeaves() {
	p.t.Helper()
	roles := p.a.view(p.room).policy.Roles
	for i := range roles {
		if roles[i].Index != policy.RoleMember {
			continue
		}
		for j := range roles[i].AuthorizedChanges {
			if c := &roles[i].AuthorizedChanges[j]; c.From == policy.RoleMember {
				c.Targets = nil
			}
		}
		var keep []policy.RoleChangeTargets
		for _, c := range roles[i].AuthorizedChanges {
			if len(c.Targets) > 0 {
				keep = append(keep, c)
			}
		}
		roles[i].AuthorizedChanges = keep
	}
	p.setPolicy(policy.ComponentRoles, roles.Marshal())
}

// Whose role does not let them leave stays on the list without a client; on Matrix they have left.
func TestLeaveWithoutTheRight(t *testing.T) {
	p := newPair(t, warm).begin()
	p.nobodyLeaves()
	p.b.hs.leave(p.portal, p.bob)
	p.settle()
	p.pass(time.Minute)
	v := p.a.view(p.room)
	p.equal("role", v.policy.RoleIndex(bobURI), policy.RoleMember)
	p.equal("clients", len(v.leaves.Of(bobURI)), 0)
	p.equal("bob", p.portal.members[p.bob], "leave")
	p.noTrouble()
}

// A ghost's name that is the name of nobody is refused.
func TestGhostOfNoURI(t *testing.T) {
	p := newPair(t, warm)
	for _, name := range []string{"mimi_alice", "mimi_a.example=2Falice", "mimi_a.example"} {
		ghost := p.a.hs.mxid(name)
		r := p.a.hs.create(p.alice, "", "")
		p.a.hs.invite(r, p.alice, ghost)
		p.settle()
		p.equal(name, []string{r.members[ghost], r.reasonOf(ghost)}, []string{"leave", "nobody is known by this name"})
	}
	p.equal("requests", len(p.calls), 0)
	p.noTrouble()
}

// Why a ghost declines an invitation stands in the event.
func TestWhyAGhostDeclines(t *testing.T) {
	p := newPair(t, warm).begin()
	ghost := p.a.ghost("mimi://b.example/u/nobody")
	p.a.hs.invite(p.room, p.alice, ghost)
	p.settle()
	p.equal("reason", p.room.reasonOf(ghost), "nobody is known by this name")
	p.last("told", p.a.hs.texts(p.room), "notice mimibot: nobody (b.example) could not be invited: nobody is known by this name.")
	p.noTrouble()
}

// A word taken back ends no membership.
func TestRevokeLeavesMembershipsAsTheyAre(t *testing.T) {
	p := asking(t, warm)
	p.asked()
	must0(t, p.b.relay.GrantConsent(context.Background(), p.bob, aliceURI))
	p.settle()
	p.bobJoins()
	must0(t, p.b.relay.RevokeConsent(context.Background(), p.bob, aliceURI))
	p.settle()
	p.equal("bob's ghost", p.room.members[p.bobAtA], "join")
	p.talk(1)
	// But the next room is asked for in vain.
	other := p.a.hs.create(p.alice, "Other", "")
	p.a.hs.invite(other, p.alice, p.bobAtA)
	p.settle()
	p.equal("bob's ghost in another room", other.members[p.bobAtA], "invite")
	p.noTrouble()
}

// A request that names no room is for all: who agrees can be invited into any.
func TestConsentForNoRoomInParticular(t *testing.T) {
	p := newPair(t, warm)
	p.b.relay.Consent = func(string) bool { return false }
	ctx := context.Background()
	e := &wire.ConsentEntry{Operation: wire.ConsentRequest, RequesterURI: aliceURI, TargetURI: bobURI}
	r, err := p.request("a.example", "b.example", verbRequestConsent, "", e.Marshal())
	p.equal("answer", []any{r.Status, err}, []any{201, nil})
	p.settle()
	chat := p.b.hs.roomOf(p.bob, "invite")
	if chat == nil {
		t.Fatal("bob was not asked")
	}
	p.last("asked", p.b.hs.texts(chat), "notice mimibot: "+aliceURI+` asks to invite you into any room. Say "accept `+aliceURI+`" or "decline `+aliceURI+`".`)
	must0(t, p.b.relay.GrantConsent(ctx, p.bob, aliceURI))
	p.settle()
	p.begin().talk(1)
	p.noTrouble()
}

// A portal has an alias made of the room's URI, is made by the bot, and lets in no guests of its homeserver.
func TestPortalIsKnownByItsURI(t *testing.T) {
	p := newPair(t, warm).begin()
	uri := wire.IdentifierURI(p.a.room(p.room).URI)
	alias, _, err := mapping.AliasLocalpart(uri, mapping.MaxLocalpart(p.b.hs.server))
	must0(t, err)
	p.equal("alias", p.b.hs.aliases[alias], p.portal.id)
	p.equal("creator", p.portal.sender[event.TypeCreate+"\x00"], p.b.hs.mxid("mimibot"))
	p.equal("guests", p.portal.str(event.TypeGuestAccess, "guest_access"), "forbidden")
}

// A room of ours lasts, says who of the bridge takes part in it, and that everything is read there.
func TestWhatRoomsOfOursSay(t *testing.T) {
	p := newPair(t, warm).begin()
	s := p.b.view(p.portal).policy
	bot := s.RoleIndex(botURI)
	p.equal("role of the bot", bot, policy.RoleBridge)
	if b := s.Base; !b.PersistentRoom || b.FixedMembership || b.Discoverable || b.PseudonymsAllowed || !b.MultiDevice {
		t.Errorf("base policy: %+v", b)
	}
	if len(s.Bots) != 1 || s.Bots[0].RoleIndex != policy.RoleBridge || s.Bots[0].LocalClient {
		t.Errorf("bots: %+v", s.Bots)
	}
	if l := s.Logging; l.Logging != policy.Optional || len(l.Clients) != 1 || !strings.HasPrefix(l.Clients[0], "mimi://a.example/d/mimibot/") {
		t.Errorf("logging: %+v", l)
	}
	p.equal("status", []any{s.Status.ReadReceipts, s.Status.DeliveryNotifications}, []any{policy.Optional, policy.Optional})
	p.equal("link previews", s.LinkPreview.SendLinkPreviews, policy.Optional)
}

// What is said before an invitation is taken stands in the portal, at the time that the hub took it.
func TestSaidBeforeTheInvitationIsTaken(t *testing.T) {
	p := newPair(t, warm)
	p.room = p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.portal = p.b.hs.roomOf(p.bob, "invite")
	away := true
	p.fault = func(_, _, _ string, _ []byte) fault {
		if away {
			return dropRequest
		}
		return deliver
	}
	p.a.hs.say(p.room, p.alice, "welcome")
	p.settle()
	l, err := p.a.db.LinkByEvent(t.Context(), p.a.room(p.room).ID, p.room.find(t, event.TypeMessage, "welcome").id)
	must0(t, err)
	p.pass(10 * time.Minute)
	away = false
	p.pass(time.Minute)
	p.equal("time", p.portal.find(t, event.TypeMessage, "welcome").ts, l.AcceptedMS)
	p.b.hs.join(p.portal, p.bob)
	p.settle()
	p.talk(1)
	p.noTrouble()
}

// A Welcome counts for the room that its KeyPackages were claimed for; sent to another one it takes nothing away.
func TestWelcomesThatAreRefused(t *testing.T) {
	p := newPair(t, warm)
	var welcome []byte
	p.fault = func(_, to, verb string, body []byte) fault {
		if verb == verbNotify && to == "b.example" {
			if welcome == nil {
				welcome = append(welcome, body...)
			}
			return dropRequest
		}
		return deliver
	}
	p.room = p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	for _, uri := range []wire.IdentifierURI{"mimi://a.example/r/other", wire.IdentifierURI(p.a.room(p.room).URI)} {
		_, err := p.b.relay.Notify(t.Context(), "a.example", uri, welcome)
		must0(t, err)
		p.settle()
	}
	p.equal("alerts", p.b.alerts, []string{"welcome: a Welcome of a.example uses a KeyPackage that was claimed for another room"})
	if p.b.hs.roomOf(p.bob, "invite") == nil {
		t.Error("bob is not invited")
	}
}

// The keys of clients change without a word in the room.
func TestKeysChangeSilently(t *testing.T) {
	p := newPair(t, warm).begin()
	n, epoch := [2]int{len(p.room.timeline), len(p.portal.timeline)}, p.a.view(p.room).group.Epoch()
	p.pass(8 * 24 * time.Hour)
	if now := p.a.view(p.room).group.Epoch(); now < epoch+3 {
		t.Errorf("the group went from epoch %d to %d in a week", epoch, now)
	}
	p.equal("events", [2]int{len(p.room.timeline), len(p.portal.timeline)}, n)
	p.noTrouble()
}

// Somebody of whose clients only some can take part comes with those.
func TestSomeClientsAreEnough(t *testing.T) {
	p := newPair(t, warm).begin()
	var kp *mls.KeyPackage
	_, err := p.b.relay.runStep(t.Context(), p.b.room(p.portal).ID, nil, store.Settle{}, func(s *step) error {
		_, client, err := s.clientOfURI(s.ctx, bobURI)
		if err != nil {
			return err
		}
		row, err := s.makeKeyPackage(client, false)
		if err != nil {
			return err
		}
		kp, err = mls.UnmarshalKeyPackage(row.Public)
		return err
	})
	must0(t, err)
	answer := &wire.KeyMaterialResponse{UserStatus: wire.KeyMaterialPartialSuccess, UserURI: bobURI, Clients: []wire.ClientKeyMaterial{
		{Status: wire.ClientNothingCompatible, ClientURI: "mimi://b.example/d/bob/old"}, {Status: wire.ClientSuccess, ClientURI: "mimi://b.example/d/bob/new", KeyPackage: kp}}}
	_, err = p.a.relay.runStep(t.Context(), p.a.room(p.room).ID, nil, store.Settle{}, func(s *step) error {
		packages, why := s.packagesOf(answer)
		p.equal("KeyPackages", []any{len(packages), why}, []any{1, ""})
		answer.Clients = answer.Clients[:1]
		answer.UserStatus = wire.KeyMaterialNoCompatibleMaterial
		packages, why = s.packagesOf(answer)
		p.equal("none", []any{len(packages), why}, []any{0, "their devices cannot take part in this room"})
		return nil
	})
	must0(t, err)
}

// A hub may end the group of a room to begin another (RFC 9420 §11.2): the room, its portal and what was said stay.
func TestGroupThatIsBegunAnew(t *testing.T) {
	p := newPair(t, warm).begin()
	own := p.a.hs.say(p.room, p.alice, "in the first group")
	p.settle()
	p.commitBy(p.a, p.room, botURI, func(s *step, c *plan) {
		c.proposals = append(c.proposals, mls.Proposal{Type: mls.ProposalReInit, ReInit: &mls.ReInit{GroupID: []byte("mimi://a.example/g/next"), Version: mls.VersionMLS10,
			Suite: s.cfg.Suite, Extensions: s.room.group.Context().Extensions}})
	})
	p.equal("state at B", p.b.room(p.portal).State, stateClosed)
	_, err := p.a.relay.runStep(t.Context(), p.a.room(p.room).ID, nil, store.Settle{}, func(s *step) error {
		s.room.head.Group++
		s.room.head.GroupID = []byte("mimi://a.example/g/next")
		if err := s.newGroup(s.room.policy.Participants, s.cfg.Bot); err != nil {
			return err
		}
		s.wish(intentAdd, s.bot, aliceURI, intentData{MXID: p.alice})
		s.wish(intentAdd, s.bot, bobURI, intentData{MXID: p.bobAtA})
		return s.advance()
	})
	must0(t, err)
	p.settle()
	p.equal("state at B", p.b.room(p.portal).State, stateActive)
	p.equal("group at B", string(p.b.view(p.portal).group.GroupID()), "mimi://a.example/g/next")
	p.equal("bob", p.portal.members[p.bob], "join")
	p.b.hs.emit(p.portal, p.bob, event.TypeMessage, nil, merge(map[string]any{"msgtype": "m.text", "body": "an answer in the second"},
		inReply(p.portal.find(t, event.TypeMessage, "in the first group").id)), 0)
	p.settle()
	p.equal("answer", p.room.find(t, event.TypeMessage, "an answer in the second").relation().ReplyTo, own)
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}
