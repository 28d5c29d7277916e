package policy

import (
	"fmt"
	"strings"
	"testing"
)

// builder makes proposals against a room: leaf indices are those of leafOf.
type builder struct {
	t *testing.T
	s *State
}

// leafOf gives every client of a test room a leaf: participants in their order, one client each.
func (b builder) leafOf(user string) uint32 { return uint32(b.s.Participants.Index(user)) }

func (b builder) index(user string) uint32 {
	i := b.s.Participants.Index(user)
	if i < 0 {
		b.t.Fatalf("%s is not in the list", user)
	}
	return uint32(i)
}

func (b builder) list(sender Actor, u ParticipantListUpdate) Proposal {
	return Proposal{Kind: ProposalAppDataUpdate, Sender: sender, Component: ComponentParticipants, Data: u.Marshal()}
}

func (b builder) addUser(sender Actor, user string, role uint32) Proposal {
	return b.list(sender, ParticipantListUpdate{Added: []UserRolePair{{user, role}}})
}

func (b builder) removeUser(sender Actor, user string) Proposal {
	return b.list(sender, ParticipantListUpdate{Removed: []uint32{b.index(user)}})
}

func (b builder) changeRole(sender Actor, user string, role uint32) Proposal {
	return b.list(sender, ParticipantListUpdate{ChangedRoles: []UserindexRolePair{{b.index(user), role}}})
}

func (b builder) set(sender Actor, component uint16, m interface{ Marshal() []byte }) Proposal {
	return Proposal{Kind: ProposalAppDataUpdate, Sender: sender, Component: component, Data: m.Marshal()}
}

func (b builder) add(sender Actor, user string) Proposal {
	return Proposal{Kind: ProposalAdd, Sender: sender, User: user}
}

func (b builder) remove(sender Actor, user string) Proposal {
	return Proposal{Kind: ProposalRemove, Sender: sender, User: user, Leaf: b.leafOf(user)}
}

// byRef gives proposals references, as if they had come before.
func byRef(proposals ...Proposal) []Proposal {
	for i := range proposals {
		proposals[i].Ref = []byte(fmt.Sprintf("ref-%d-%d-%s-%x", i, proposals[i].Kind, proposals[i].User, proposals[i].Data))
	}
	return proposals
}

func (b builder) pending(proposals ...Proposal) *State {
	b.t.Helper()
	s, err := b.s.WithPending(proposals)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// shout writes the authority of a URI in capitals: another text for the same user (docs of wire.IdentifierURI).
func shout(uri string) string {
	return strings.Replace(uri, "mimi://"+Authority(uri), "mimi://"+strings.ToUpper(Authority(uri)), 1)
}

// zeros is the data of a component, of that many octets, that no component has.
type zeros int

// Marshal makes it what a builder takes.
func (n zeros) Marshal() []byte { return make([]byte, n) }

// changes are the participants who came, left or got another role between two states of a room.
func changes(before, after *State) (list []ParticipantChange) {
	for _, p := range before.Participants {
		if to := after.roles[p.User]; to != p.Role {
			list = append(list, ParticipantChange{p.User, p.Role, to})
		}
	}
	for _, p := range after.Participants {
		if before.roles[p.User] == RoleNone {
			list = append(list, ParticipantChange{p.User, RoleNone, p.Role})
		}
	}
	return list
}
