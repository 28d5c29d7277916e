package relay

import (
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Somebody can be banned who never was in the room, from either side.
func TestBanOfAStranger(t *testing.T) {
	p := newPair(t, warm).begin()
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50}})
	p.settle()
	p.a.hs.ban(p.room, p.alice, p.a.ghost("mimi://b.example/u/mallory"))
	p.settle()
	p.equal("banned at A", p.a.view(p.room).policy.RoleIndex("mimi://b.example/u/mallory"), policy.RoleBanned)
	p.equal("in the portal", p.portal.members[p.b.hs.mxid("mallory")], "ban")
	p.b.hs.ban(p.portal, p.bob, p.b.ghost("mimi://a.example/u/trudy"))
	p.settle()
	p.equal("banned from B", p.a.view(p.room).policy.RoleIndex("mimi://a.example/u/trudy"), policy.RoleBanned)
	p.equal("at A", p.room.members[p.a.hs.mxid("trudy")], "ban")
	p.talk(1)
	p.noTrouble()
}

// A Matrix user who joins a portal by nobody's right is put out of it again, with the reason.
func TestJoinOfAPortalWithoutRight(t *testing.T) {
	p := newPair(t, warm)
	p.room = p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100}, "invite": 50})
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.bobJoins()
	dave := p.b.hs.mxid("dave")
	p.b.hs.invite(p.portal, p.b.hs.mxid("admin"), dave) // a server administrator can
	p.b.hs.join(p.portal, dave)
	p.settle()
	p.equal("dave", p.portal.members[dave], "leave")
	p.equal("dave's ghost", p.room.members[p.a.ghost("mimi://b.example/u/dave")], "")
	p.talk(1)
}

// Why somebody has no KeyPackage is said in people's words, one for each code of the draft.
func TestWhyThereIsNoKeyPackage(t *testing.T) {
	said := map[string]bool{}
	for _, code := range []wire.KeyMaterialUserCode{wire.KeyMaterialUserUnknown, wire.KeyMaterialUserDeleted, wire.KeyMaterialNoConsent, wire.KeyMaterialNoCompatibleMaterial} {
		said[noMaterial(code)] = true
	}
	if len(said) != 4 || noMaterial(wire.KeyMaterialNoConsentForThisRoom) != whyNoConsent || noMaterial(99) != "they cannot be reached now" {
		t.Errorf("%v", said)
	}
}

// Who takes part in a room of ours is served as its hub, and nobody else; it is looked up once a minute.
func TestOnlyWhoTakesPartIsServed(t *testing.T) {
	p := newPair(t, warm).begin()
	leads := func(n *node, domain string) bool {
		t.Helper()
		is, err := n.relay.Leads(t.Context(), domain)
		must0(t, err)
		return is
	}
	p.equal("who follows, a stranger, a pattern", []bool{leads(p.a, "b.example"), leads(p.a, "c.example"), leads(p.a, "%")}, []bool{true, false, false})
	p.equal("the hub of a room that we follow", leads(p.b, "a.example"), false)
	p.a.hs.kick(p.room, p.alice, p.bobAtA)
	p.settle()
	p.equal("at once", leads(p.a, "b.example"), true)
	p.now = p.now.Add(2 * time.Minute)
	p.equal("after bob was removed", leads(p.a, "b.example"), false)
}
