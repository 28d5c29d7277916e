package hub

import (
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Room is what the hub knows of a room when it decides.
type Room struct {
	URI    wire.IdentifierURI
	Domain string // the hub's own
	Group  *mls.Group
	// Policy is the committed state with the clients that each participant has ([policy.State.WithClients]); pending
	// proposals are added here.
	Policy *policy.State
	Leaves room.Leaves
	// LastAccepted is the time given to the last thing accepted, in milliseconds since 1970.
	LastAccepted uint64
	// Envelope is what no change of policy may overstep, nil for none.
	Envelope *policy.Envelope
	// Tolerance is how many epochs an application message may be behind.
	Tolerance uint64
	// Source is the provider that a KeyPackage came from when it was claimed through this hub, the hub's own domain for one of
	// its users; "" for one that was not. nil knows none.
	Source func(ref []byte) string
}

// unclaimed is the provider of a client whose KeyPackage nobody claimed through this hub, "" when all of those that are added
// were claimed here or are of peer's own users, for whom peer itself answers. KeyPackages MUST be claimed through the
// hub of their room (draft-ietf-mimi-protocol-06 §5.2); where a credential is basic nothing else shows whose they are, and a
// member could bring clients in the name of people who were never asked.
func (r *Room) unclaimed(peer string, proposals []*mls.Proposal) string {
	for _, p := range proposals {
		if p.Type != mls.ProposalAdd {
			continue
		}
		id, err := room.IdentityOf(&p.Add.Leaf.Credential)
		if err != nil {
			return "nobody"
		}
		if domain := id.Domain(); domain != peer && (r.Source == nil || r.Source(p.Add.Ref()) != domain) {
			return domain
		}
	}
	return ""
}

// Accept is the time to give to what is accepted now: the clock's, but always later than the last one
// (times in a room strictly increase, so that they put its messages in order).
func (r *Room) Accept(now time.Time) uint64 {
	return max(uint64(max(0, now.UnixMilli())), r.LastAccepted+1)
}

// Providers are the domains, in order, that get what is fanned out: those of participants who have a client in the
// group, the hub's own left out (draft-ietf-mimi-protocol-06 §5.5).
func Providers(list policy.ParticipantList, leaves room.Leaves, own string) []string {
	var out []string
	seen := map[string]bool{own: true, "": true}
	for _, p := range list {
		user := wire.IdentifierURI(p.User)
		if d := user.Domain(); !seen[d] && leaves.Active(user) {
			seen[d] = true
			out = append(out, d)
		}
	}
	return out
}

// Knows tells whether a provider may know that the room is there: somebody of it is a participant who is not banned, it is itself one
// of the group's external senders, or everybody may join. To all others the room is as one that does not exist
// (draft-ietf-mimi-protocol-06 §5.6 for groupInfo).
func (r *Room) Knows(peer string) bool {
	for _, p := range r.Policy.Participants {
		if p.Role != policy.RoleBanned && wire.IdentifierURI(p.User).Domain() == peer {
			return true
		}
	}
	for _, sender := range externalSenders(r.Group) {
		if domain, err := room.ProviderOf(&sender.Credential); err == nil && domain == peer {
			return true
		}
	}
	outsider := r.Policy.Role(policy.RoleNone)
	return outsider != nil && outsider.Has(policy.CanOpenJoin)
}

// state is the policy with the proposals that wait.
func (r *Room) state() (*policy.State, error) {
	pending := r.Group.PendingProposals()
	if len(pending) == 0 {
		return r.Policy, nil
	}
	list := make([]policy.Proposal, 0, len(pending))
	for _, p := range pending {
		list = append(list, r.proposal(p.Sender, p.Proposal, p.Ref, nil))
	}
	return r.Policy.WithPending(list)
}

// actor is who a sender is. joiner is the identity of one who comes by external commit or new-member proposal.
func (r *Room) actor(s mls.Sender, joiner *room.Identity) policy.Actor {
	switch s.Type {
	case mls.SenderMember:
		id, _ := r.Leaves.Who(s.Leaf)
		return policy.Actor{URI: r.listed(id.User)}
	case mls.SenderExternal:
		a := policy.Actor{External: true}
		senders := externalSenders(r.Group)
		if int(s.Index) < len(senders) {
			domain, _ := room.ProviderOf(&senders[s.Index].Credential)
			a.URI, a.Hub, a.Trusted = "mimi://"+domain, domain == r.Domain, domain == r.Domain
		}
		return a
	default:
		if joiner != nil {
			return policy.Actor{URI: r.listed(joiner.User)}
		}
		return policy.Actor{}
	}
}

// listed returns a user's URI octet for octet as it stands in the participant list, or as it is when it is not there.
func (r *Room) listed(user wire.IdentifierURI) string {
	if r.Policy.RoleIndex(string(user)) != policy.RoleNone {
		return string(user)
	}
	for _, p := range r.Policy.Participants {
		if wire.IdentifierURI(p.User).Same(user) {
			return p.User
		}
	}
	return string(user)
}

func externalSenders(g *mls.Group) []mls.ExternalSender {
	data, ok := g.Context().Extensions.Find(mls.ExtensionExternalSenders)
	if !ok {
		return nil
	}
	list, err := mls.UnmarshalExternalSenders(data)
	if err != nil {
		return nil
	}
	return list
}

// proposal is what policy has to know about one.
func (r *Room) proposal(sender mls.Sender, p *mls.Proposal, ref []byte, joiner *room.Identity) policy.Proposal {
	out := policy.Proposal{Sender: r.actor(sender, joiner), Ref: ref, Kind: policy.ProposalOther}
	user := func(leaf mls.LeafIndex) {
		id, _ := r.Leaves.Who(leaf)
		out.User, out.Leaf = r.listed(id.User), uint32(leaf)
	}
	switch p.Type {
	case mls.ProposalAdd:
		out.Kind = policy.ProposalAdd
		if id, err := room.IdentityOf(&p.Add.Leaf.Credential); err == nil {
			out.User = r.listed(id.User)
		}
	case mls.ProposalUpdate:
		out.Kind = policy.ProposalUpdate
		user(sender.Leaf)
	case mls.ProposalRemove:
		out.Kind = policy.ProposalRemove
		user(p.Remove)
	case mls.ProposalSelfRemove:
		out.Kind = policy.ProposalSelfRemove
		user(sender.Leaf)
	case mls.ProposalPSK:
		out.Kind = policy.ProposalPSK
	case mls.ProposalReInit:
		out.Kind = policy.ProposalReInit
	case mls.ProposalExternalInit:
		out.Kind = policy.ProposalExternalInit
	case mls.ProposalGroupContextExtensions:
		out.Kind = policy.ProposalGroupContextExtensions
	case mls.ProposalAppDataUpdate:
		out.Component = uint16(p.AppDataUpdate.Component)
		if p.AppDataUpdate.Operation == mls.AppDataUpdateRemove {
			out.Kind = policy.ProposalAppDataRemove
		} else {
			out.Kind, out.Data = policy.ProposalAppDataUpdate, p.AppDataUpdate.Update
		}
	case mls.ProposalAppEphemeral:
		out.Kind = policy.ProposalAppEphemeral
	}
	return out
}
