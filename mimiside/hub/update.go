package hub

import (
	"bytes"
	"fmt"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// UpdateVerdict is what the hub makes of an update (draft-ietf-mimi-protocol-06 §5.3).
type UpdateVerdict struct {
	Response wire.UpdateRoomResponse
	// Staged is the accepted commit, to be merged; nil otherwise.
	Staged *mls.Staged
	// Proposals were accepted and cached; Changes are what that changed in the group, in order.
	Proposals []*mls.PendingProposal
	Changes   []mls.Changes
	// Spoiled says that the group in memory is not what is stored: some proposals were cached before another was
	// refused. It must be dropped.
	Spoiled bool
	// Joiner is who joined by external commit.
	Joiner *room.Identity
	// Reason says more than the response, for the log.
	Reason string
}

// All are the proposals that were accepted, those of a commit among them.
func (v *UpdateVerdict) All() (list []*mls.Proposal) {
	for _, p := range v.Proposals {
		list = append(list, p.Proposal)
	}
	if v.Staged != nil {
		for _, p := range v.Staged.Proposals() {
			list = append(list, p.Proposal)
		}
	}
	return list
}

// Update judges a handshake bundle that a provider sent. lent tells whether the credential and key of one who joins from
// outside were given the group's state a moment ago, and by which joining code; it is asked for external commits only.
//
// In this order: the epoch, the signatures and the MLS rules, that the sender speaks for the
// provider that brought it, where added KeyPackages are from, the GroupInfo, the policy. Nothing changes when the verdict
// is not success, save as Spoiled says.
func Update(now time.Time, r *Room, peer string, h *wire.HandshakeBundle, lent func(leaf *mls.LeafNode) (*policy.JoinCode, bool)) *UpdateVerdict {
	if h.Message.Epoch() != r.Group.Epoch() {
		return wrongEpoch(r)
	}
	if h.Message.Format() != mls.WireFormatPublicMessage {
		return notAllowed("this hub reads handshake messages as PublicMessage only")
	}
	if h.Commit() {
		return commit(now, r, peer, h, lent)
	}
	return proposals(now, r, peer, append([]wire.Message{h.Message}, h.MoreProposals...))
}

func wrongEpoch(r *Room) *UpdateVerdict {
	return &UpdateVerdict{Response: wire.UpdateRoomResponse{ResponseCode: wire.UpdateWrongEpoch, CurrentEpoch: r.Group.Epoch()},
		Reason: "wrong epoch"}
}

func notAllowed(format string, args ...any) *UpdateVerdict {
	why := fmt.Sprintf(format, args...)
	return &UpdateVerdict{Response: wire.UpdateRoomResponse{ResponseCode: wire.UpdateNotAllowed, ErrorDescription: why}, Reason: why}
}

// denied turns a verdict of policy into an answer: the closed word for the peer, the detail for the log.
func denied(v policy.Verdict, refs [][]byte) *UpdateVerdict {
	out := notAllowed("%s", v.Reason)
	out.Reason = v.Decision.String()
	if v.Proposal >= 0 && v.Proposal < len(refs) && refs[v.Proposal] != nil && v.Decision.Reason.Invalid() {
		out.Response = wire.UpdateRoomResponse{ResponseCode: wire.UpdateInvalidProposal, ErrorDescription: v.Decision.Reason.String(),
			InvalidProposals: [][]byte{refs[v.Proposal]}}
	}
	return out
}

func commit(now time.Time, r *Room, peer string, h *wire.HandshakeBundle, lent func(*mls.LeafNode) (*policy.JoinCode, bool)) *UpdateVerdict {
	staged, err := r.Group.StageReceived(now, h.Message.Raw)
	if err != nil {
		return notAllowed("commit is not valid: %v", err)
	}
	c := policy.Commit{External: staged.External(), Leaf: uint32(staged.Committer())}
	var joiner *room.Identity
	sender := mls.MemberSender(staged.Committer())
	if c.External {
		id, code, problem := joining(staged, lent)
		if problem != "" {
			return notAllowed("%s", problem)
		}
		joiner, c.Code, sender = id, code, mls.Sender{Type: mls.SenderNewMemberCommit}
		if id.Domain() != peer {
			return notAllowed("the joiner is not a user of %s", peer)
		}
	} else if id, ok := r.Leaves.Who(staged.Committer()); !ok || id.Domain() != peer {
		return notAllowed("the committer is not a user of %s", peer)
	}
	c.Committer = r.actor(sender, joiner)
	var refs [][]byte
	var own []*mls.Proposal // those by reference were looked at when they came
	for _, p := range staged.Proposals() {
		s := p.Sender
		if p.Ref == nil {
			s, own = sender, append(own, p.Proposal)
		}
		c.Proposals = append(c.Proposals, r.proposal(s, p.Proposal, p.Ref, joiner))
		refs = append(refs, p.Ref)
	}
	if domain := r.unclaimed(peer, own); domain != "" {
		return notAllowed(notClaimed, domain)
	}
	if problem := checkBundle(staged, h); problem != "" {
		return notAllowed("%s", problem)
	}
	state, err := r.state()
	if err != nil {
		return notAllowed("the proposals that wait cannot be read")
	}
	if v := policy.JudgeCommit(state, c, r.Envelope); !v.Allowed {
		return denied(v, refs)
	}
	return &UpdateVerdict{Staged: staged, Joiner: joiner,
		Response: wire.UpdateRoomResponse{ResponseCode: wire.UpdateSuccess, AcceptedTimestamp: r.Accept(now)}}
}

const notClaimed = "the KeyPackage of a client of %s was not claimed through this hub"

// joining finds out who joins by an external commit and whether the group's state was given to it.
func joining(staged *mls.Staged, lent func(*mls.LeafNode) (*policy.JoinCode, bool)) (*room.Identity, *policy.JoinCode, string) {
	for _, m := range staged.Added() {
		if m.Index != staged.Committer() {
			continue
		}
		id, err := room.IdentityOf(&m.Leaf.Credential)
		if err != nil {
			return nil, nil, "the joiner's credential names no user"
		}
		code, ok := lent(m.Leaf)
		if !ok {
			return nil, nil, "the group's state was not given to this client, or too long ago"
		}
		return &id, code, ""
	}
	return nil, nil, "the external commit has no joiner"
}

// checkBundle demands that GroupInfo, tree and Welcome are those of the commit.
func checkBundle(staged *mls.Staged, h *wire.HandshakeBundle) string {
	var err error
	switch info := h.GroupInfo; {
	case info == nil:
		return "the GroupInfo is missing"
	case info.Full != nil:
		err = staged.CheckGroupInfo(info.Full)
	default:
		_, err = staged.FullGroupInfo(info.Partial)
	}
	if err != nil {
		return "the GroupInfo is not the committer's of the epoch that the commit leads to"
	}
	if h.Tree != nil && h.Tree.Representation == mls.RatchetTreeFull && !bytes.Equal(h.Tree.Tree, staged.Tree()) {
		return "the ratchet tree is not the one that the commit leads to"
	}
	added := map[string]bool{}
	for _, p := range staged.Proposals() {
		if p.Proposal.Type == mls.ProposalAdd {
			added[string(p.Proposal.Add.Ref())] = true
		}
	}
	if len(added) > 0 && h.Welcome == nil {
		return "clients are added without a Welcome"
	}
	if h.Welcome != nil {
		for _, s := range h.Welcome.Secrets {
			if !added[string(s.NewMember)] {
				return "the Welcome is for somebody who is not added"
			}
			delete(added, string(s.NewMember))
		}
		if len(added) > 0 {
			return "the Welcome leaves somebody out"
		}
	}
	return ""
}

// proposals judges proposals that one client sent together. Each is verified and cached.
func proposals(now time.Time, r *Room, peer string, list []wire.Message) *UpdateVerdict {
	var judged []policy.Proposal
	for _, m := range list {
		c := &m.MLS.Public.Content
		if c.ContentType != mls.ContentProposal || m.Epoch() != r.Group.Epoch() {
			return wrongEpoch(r)
		}
		var joiner *room.Identity
		var domain string
		switch c.Sender.Type {
		case mls.SenderMember:
			id, ok := r.Leaves.Who(c.Sender.Leaf)
			if !ok {
				return notAllowed("the sender is not in the group")
			}
			domain = id.Domain()
		case mls.SenderExternal:
			senders := externalSenders(r.Group)
			if int(c.Sender.Index) >= len(senders) {
				return notAllowed("the external sender is not in the group's list")
			}
			domain, _ = room.ProviderOf(&senders[c.Sender.Index].Credential)
		case mls.SenderNewMemberProposal:
			if c.Proposal.Type != mls.ProposalAdd {
				return notAllowed("a new member can only propose to add itself")
			}
			id, err := room.IdentityOf(&c.Proposal.Add.Leaf.Credential)
			if err != nil {
				return notAllowed("the new member's credential names no user")
			}
			joiner, domain = &id, id.Domain()
		default:
			return notAllowed("a sender of this kind sends no proposals")
		}
		if domain != peer {
			return notAllowed("the sender is not of %s", peer)
		}
		if domain := r.unclaimed(peer, []*mls.Proposal{c.Proposal}); domain != "" {
			return notAllowed(notClaimed, domain)
		}
		judged = append(judged, r.proposal(c.Sender, c.Proposal, nil, joiner))
	}
	state, err := r.state()
	if err != nil {
		return notAllowed("the proposals that wait cannot be read")
	}
	if v := policy.JudgeProposals(state, judged, nil, r.Envelope); !v.Allowed {
		return denied(v, nil)
	}
	out := &UpdateVerdict{}
	for _, m := range list {
		p, changes, err := r.Group.ReceiveProposal(now, m.Raw)
		if err != nil {
			bad := notAllowed("proposal is not valid: %v", err)
			bad.Spoiled = len(out.Proposals) > 0
			return bad
		}
		out.Proposals = append(out.Proposals, p)
		out.Changes = append(out.Changes, changes)
	}
	out.Response = wire.UpdateRoomResponse{ResponseCode: wire.UpdateSuccess, AcceptedTimestamp: r.Accept(now)}
	return out
}
