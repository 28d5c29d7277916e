package relay

import (
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// madeUp is a KeyPackage in the name of a client, by a key that anybody can make.
func (p *pair) madeUp(client wire.IdentifierURI) *mls.KeyPackage {
	p.t.Helper()
	key, err := mls.GenerateSignatureKey(p.b.relay.Rand, p.view(p.b).group.Suite())
	must0(p.t, err)
	kp, err := puppets.NewKeyPackage(p.b.relay.Rand, p.now, puppets.Client{ClientURI: string(client), Credential: puppets.BasicCredential(string(client)), Key: key}, false)
	must0(p.t, err)
	return kp.Public
}

// propose makes proposals of bob's client.
func (p *pair) propose(proposals ...mls.Proposal) *wire.HandshakeBundle {
	p.t.Helper()
	v := p.view(p.b)
	leaf, _ := v.ownLeaf("mimi://b.example/u/bob")
	var messages []wire.Message
	for _, one := range proposals {
		m, _, _, err := v.group.Propose(p.b.relay.Rand, p.now, mls.ProposeParams{Leaf: leaf, Proposal: one, AAD: room.HandshakeAAD(v.group.Dictionary())})
		must0(p.t, err)
		messages = append(messages, wire.NewMessage(m))
	}
	p.b.relay.Forget() // the group in memory knows them now
	return &wire.HandshakeBundle{Message: messages[0], MoreProposals: messages[1:]}
}

// A basic credential is believed because its leaf came from the provider whose user it names: a KeyPackage in the name of
// another provider's user, or of one of ours, must have come through the hub (S000-011, draft-ietf-mimi-protocol-06 §5.2).
// Otherwise whoever may invite could bring a client of its own in anybody's name, without asking them.
func TestClientsInTheNameOfOthers(t *testing.T) {
	p := newPair(t, warm, "c.example").begin()
	role := p.view(p.a).policy.RoleIndex("mimi://b.example/u/bob")
	add := func(user wire.IdentifierURI, kp *mls.KeyPackage) []mls.Proposal {
		list := []mls.Proposal{{Type: mls.ProposalAdd, Add: kp}}
		if p.view(p.a).policy.RoleIndex(string(user)) == policy.RoleNone {
			list = append(list, listUpdate(policy.ParticipantListUpdate{Added: []policy.UserRolePair{{User: string(user), Role: role}}}))
		}
		return list
	}
	for _, who := range []string{"c.example/d/carol", "a.example/d/trudy", "a.example/d/alice", "B.example.c.example/d/bob"} {
		client := wire.IdentifierURI("mimi://" + who + "/forged")
		u, err := client.Parse()
		must0(t, err)
		user, _ := u.User()
		p.refusedUpdate("a commit with a client of "+string(user), "b.example", p.forge(add(user, p.madeUp(client))...), wire.UpdateNotAllowed)
		p.refusedUpdate("proposals of a client of "+string(user), "b.example", p.propose(add(user, p.madeUp(client))...), wire.UpdateNotAllowed)
	}
	// B answers for its own users, whose KeyPackages it need not fetch anywhere.
	b := p.forge(add("mimi://b.example/u/dave", p.madeUp("mimi://b.example/d/dave/new"))...)
	r, err := p.a.serve("b.example", verbUpdate, string(p.view(p.a).uri()), b.Marshal())
	must0(t, err)
	answer, err := wire.UnmarshalUpdateRoomResponse(r.Body)
	must0(t, err)
	p.equal("a client of B's own", answer.ResponseCode, wire.UpdateSuccess)
}
