package relay

import (
	"context"
	"fmt"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// What was said while a commit was on its way is taken (S004-043), unless it is too old, of an epoch that there is not, or of
// somebody whom the commit removed (S004-044).
func TestMessagesOfOtherEpochs(t *testing.T) {
	p := newPair(t, warm).begin()
	p.fault = func(_, _, verb string, _ []byte) fault {
		if verb == verbNotify {
			return dropRequest // B stays where it is
		}
		return deliver
	}
	v, n, status, user := p.view(p.b), 0, 0, wire.IdentifierURI("mimi://b.example/u/bob")
	say := func(epoch uint64) wire.SubmitMessageResponse {
		t.Helper()
		n++
		data := []byte(fmt.Sprint("not read ", n))
		m, _, err := v.group.Protect(p.b.relay.Rand, p.leaf(), data, room.MessageAAD(v.group.Dictionary(), []byte("salt"), data), 0)
		must0(t, err)
		message := wire.NewMessage(m.Message)
		if epoch != v.group.Epoch() {
			forged := *message.MLS.Private
			forged.Epoch = epoch
			message = wire.NewMessage(forged.Message())
		}
		q := wire.SubmitMessageRequest{Message: message, SendingURI: user}
		r, err := p.a.serve("b.example", verbSubmitMessage, string(p.view(p.a).uri()), q.Marshal())
		must0(t, err)
		status = r.Status
		if status == 404 {
			return wire.SubmitMessageResponse{}
		}
		a, err := wire.UnmarshalSubmitMessageResponse(r.Body)
		must0(t, err)
		return *a
	}
	epoch := v.group.Epoch()
	p.equal("of a future epoch", say(epoch+1).StatusCode, wire.SubmitNotAllowed)
	for i := range hubTolerance + 1 {
		p.equal(fmt.Sprintf("%d epochs behind", i), say(epoch).StatusCode, wire.SubmitAccepted)
		p.a.hs.set(p.room, p.alice, "m.room.topic", map[string]string{"topic": fmt.Sprint("epoch ", i)})
		p.settle()
	}
	late := say(epoch)
	p.equal("too far behind", late.StatusCode, wire.SubmitEpochTooOld)
	p.equal("the epoch that is told", late.CurrentEpoch, p.view(p.a).group.Epoch())
	user = "mimi://b.example/u/dave"
	p.equal("too far behind, of nobody in the room", say(epoch).StatusCode, wire.SubmitNotAllowed)
	user = "mimi://b.example/u/bob"

	p = newPair(t, warm).begin()
	p.fault = func(_, _, verb string, _ []byte) fault {
		if verb == verbNotify {
			return dropRequest
		}
		return deliver
	}
	v = p.view(p.b)
	p.a.hs.kick(p.room, p.alice, p.bobAtA)
	p.settle()
	say(v.group.Epoch())
	p.equal("by one who was removed meanwhile, the last of a provider", status, 404)
}

// A provider brings what its own users send, and nothing of others' (draft-ietf-mimi-protocol-06 §4.1): an external commit, a
// proposal.
func TestWhoMayBringHandshakes(t *testing.T) {
	p := newPair(t, warm, "c.example")
	uri := p.openRoom()
	var body []byte
	p.fault = func(from, _, verb string, b []byte) fault {
		if from == "b.example" && verb == verbUpdate {
			body = b
			return dropRequest
		}
		return deliver
	}
	must0(t, p.b.relay.Join(context.Background(), p.bob, uri, ""))
	p.settle()
	received, err := wire.UnmarshalUpdateRequest(body)
	must0(t, err)
	join, err := received.Check(p.view(p.a).group.GroupID())
	must0(t, err)
	p.refusedUpdate("an external commit that another provider brings", "c.example", join, wire.UpdateNotAllowed)
	p.accepted("an external commit", join)

	p = newPair(t, warm, "c.example").begin()
	p.nodes["c.example"].hs.users[p.nodes["c.example"].hs.mxid("eve")] = true
	p.a.hs.invite(p.room, p.alice, p.a.ghost("mimi://c.example/u/eve"))
	p.settle()
	p.refusedUpdate("a proposal that another provider brings", "c.example", p.propose(mls.Proposal{Type: mls.ProposalSelfRemove}), wire.UpdateNotAllowed)
	p.accepted("a proposal", p.propose(mls.Proposal{Type: mls.ProposalSelfRemove}))
}

// The proposals that a hub staples to a commit are of the epoch that it leads to: the next commit may refer to them
// (draft-ietf-mimi-protocol-06 §5.5).
func TestStapledProposals(t *testing.T) {
	p := newPair(t, warm).begin()
	v := p.view(p.a)
	aad, epoch := room.HandshakeAAD(v.group.Dictionary()), v.group.Epoch()
	alice, _ := v.ownLeaf("mimi://a.example/u/alice")
	bot, ok := v.ownLeaf("mimi://a.example/u/mimibot")
	if !ok {
		t.Fatal("the bot has no leaf")
	}
	commit := func(params mls.CommitParams) wire.Message {
		t.Helper()
		params.Leaf, params.AAD = bot, aad
		staged, err := v.group.StageCommit(p.a.relay.Rand, p.now, params)
		must0(t, err)
		_, err = v.group.Merge(p.now, staged)
		must0(t, err)
		return wire.NewMessage(staged.Commit())
	}
	first := commit(mls.CommitParams{Path: true})
	stapled, ref, err := mls.SignExternalProposal(mls.ExternalProposalParams{GroupID: v.group.GroupID(), Epoch: v.group.Epoch(), Suite: v.group.Suite(),
		SignatureKey: p.a.relay.hub.signature[v.group.Suite()], Proposal: mls.Proposal{Type: mls.ProposalRemove, Remove: alice}, AAD: aad})
	must0(t, err)
	_, _, err = v.group.ReceiveProposal(p.now, stapled)
	must0(t, err)
	second := commit(mls.CommitParams{Refs: [][]byte{ref}})
	at := uint64(p.now.UnixMilli())
	_, err = p.b.serve("a.example", verbNotify, string(v.uri()), wire.MarshalNotify([]wire.FanoutMessage{
		{Timestamp: at, Message: first, ExternalProposals: []wire.Message{wire.NewMessage(stapled)}}, {Timestamp: at + 1, Message: second}}))
	must0(t, err)
	p.settle()
	p.equal("epoch at B", p.view(p.b).group.Epoch(), epoch+2)
	p.equal("alice's clients at B", len(p.view(p.b).leaves.Of("mimi://a.example/u/alice")), 0)
	p.a.relay.Forget()
}
