package policy

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// world is a room with its tree, on which random actors try random things.
type world struct {
	t        interface{ Fatalf(string, ...any) }
	pick     func(n int) int // a number below n
	s        *State
	leaves   map[uint32]string
	next     uint32
	envelope *Envelope
	pending  []Proposal
	accepted int // commits and proposals
	seen     map[string]int
}

func newWorld(t interface{ Fatalf(string, ...any) }, tb testing.TB, pick func(int) int) *world {
	w := &world{t: t, pick: pick, leaves: make(map[uint32]string), seen: make(map[string]int)}
	roles := []func() RoleData{cooperative, strict, moderated, organizations, func() RoleData {
		return ladderRoles(ladderOptions{membersAdd: true, openJoin: true})
	}}[pick(5)]()
	if pick(3) == 0 {
		roles[0].Capabilities = append(roles[0].Capabilities, CanOpenJoin)
	}
	var list ParticipantList
	for _, r := range roles {
		if r.Index != RoleNone && (r.Index != RoleBanned || pick(2) == 0) {
			list = append(list, UserRolePair{user(r.Index, 1), r.Index})
		}
	}
	w.s = room(tb, roles, list, staff)
	if roles.Role(RoleBridge) != nil && roles.Role(RoleBridge).Name == "bridge" {
		w.s = room(tb, roles, list)
		w.envelope = DefaultEnvelope()
	}
	for _, p := range list {
		for range w.s.Clients(p.User) {
			w.addLeaf(p.User)
		}
	}
	return w
}

func (w *world) addLeaf(user string) {
	w.leaves[w.next] = user
	w.next++
}

// somebody picks a user: a participant mostly, otherwise an outsider.
func (w *world) somebody() string {
	if n := len(w.s.Participants); n > 0 && w.pick(4) > 0 {
		return w.s.Participants[w.pick(n)].User
	}
	return fmt.Sprintf("mimi://o.example/u/outsider%d", w.pick(3))
}

func (w *world) actor() Actor {
	a := Actor{URI: w.somebody()}
	switch w.pick(8) {
	case 0:
		a.Claims = claims("staff")
	case 1:
		a = hubActor
		if w.pick(2) == 0 {
			a.Claims = claims("hub")
		}
	}
	return a
}

func (w *world) role() uint32 {
	return w.s.Roles[w.pick(len(w.s.Roles))].Index
}

// proposal makes one or more proposals of the sender that belong together.
func (w *world) proposal(sender Actor) []Proposal {
	data := func(component uint16, m interface{ Marshal() []byte }) []Proposal {
		return []Proposal{{Kind: ProposalAppDataUpdate, Sender: sender, Component: component, Data: m.Marshal()}}
	}
	target := w.somebody()
	if w.pick(3) == 0 {
		target = sender.URI
	}
	index := uint32(max(w.s.Participants.Index(target), 0))
	var out []Proposal
	switch w.pick(9) {
	case 0:
		out = data(ComponentParticipants, &ParticipantListUpdate{Added: []UserRolePair{{target, max(w.role(), 1)}}})
		for range w.pick(3) {
			out = append(out, Proposal{Kind: ProposalAdd, Sender: sender, User: target})
		}
	case 1:
		out = w.clear(sender, target, data(ComponentParticipants, &ParticipantListUpdate{Removed: []uint32{index}}))
	case 2, 3:
		role := max(w.role(), 1)
		out = data(ComponentParticipants, &ParticipantListUpdate{ChangedRoles: []UserindexRolePair{{index, role}}})
		if role == RoleBanned {
			out = w.clear(sender, target, out)
		}
	case 4:
		out = append(out, Proposal{Kind: ProposalAdd, Sender: sender, User: target})
	case 5:
		out = w.clear(sender, target, nil)
	case 6:
		roles := make(RoleData, len(w.s.Roles))
		copy(roles, w.s.Roles)
		r := &roles[w.pick(len(roles))]
		r.Capabilities = append(slices.Clone(r.Capabilities), Capabilities()[w.pick(len(capabilityNames))])
		r.AuthorizedChanges = append(slices.Clone(r.AuthorizedChanges), RoleChangeTargets{w.role(), []uint32{w.role()}})
		out = data(ComponentRoles, roles)
	case 7:
		out = data(ComponentPreauth, PreAuthData{{Claims: claims("staff"), TargetRole: Role{Index: w.role()}}})
	default:
		out = data(ComponentMetadata, &RoomMetaData{RoomURI: roomURI, RoomName: fmt.Sprint(w.pick(9))})
	}
	return out
}

// clear adds the removal of the user's clients: all of them mostly.
func (w *world) clear(sender Actor, user string, out []Proposal) []Proposal {
	for _, leaf := range slices.Sorted(maps.Keys(w.leaves)) {
		if w.leaves[leaf] == user && w.pick(8) > 0 {
			out = append(out, Proposal{Kind: ProposalRemove, Sender: sender, User: user, Leaf: leaf})
		}
	}
	return out
}

func (w *world) step() {
	before, err := w.s.WithPending(w.pending)
	if err != nil {
		w.t.Fatalf("pending proposals do not fit any more: %v", err)
	}
	if w.pick(3) == 0 {
		w.propose(before)
		return
	}
	committer := w.actor()
	commit := Commit{Committer: committer, Leaf: ^uint32(0), External: w.pick(4) == 0 || before.Clients(committer.URI) == 0}
	if !commit.External {
		commit.Proposals = append(commit.Proposals, w.pending...)
	}
	for range w.pick(3) {
		commit.Proposals = append(commit.Proposals, w.proposal(committer)...)
	}
	if commit.External {
		// Its own Add is the external commit itself.
		commit.Proposals = slices.DeleteFunc(commit.Proposals, func(p Proposal) bool { return p.Kind == ProposalAdd })
		for _, p := range w.pending {
			if p.Kind == ProposalSelfRemove {
				commit.Proposals = append(commit.Proposals, p)
			}
		}
	}
	v := JudgeCommit(before, commit, w.envelope)
	if !v.Allowed {
		w.seen[v.Reason.String()]++
		return
	}
	w.accepted++
	w.check(before, v.Next, commit.Proposals)
	if commit.External {
		w.addLeaf(committer.URI)
	}
	for _, p := range commit.Proposals {
		switch p.Kind {
		case ProposalAdd:
			w.addLeaf(p.User)
		case ProposalRemove, ProposalSelfRemove:
			delete(w.leaves, p.Leaf)
		}
	}
	counts := make(map[string]int)
	for _, user := range w.leaves {
		counts[user]++
	}
	if !maps.Equal(counts, v.Next.clients) {
		w.t.Fatalf("clients are %v, the verdict says %v", counts, v.Next.clients)
	}
	w.s, w.pending = v.Next, nil
}

func (w *world) propose(before *State) {
	proposals := w.proposal(w.actor())
	for i := range proposals {
		proposals[i].Ref = fmt.Appendf(nil, "%d-%d", w.next, len(w.pending)+i)
		// An owner's Remove of itself is a SelfRemove.
		if p := &proposals[i]; p.Kind == ProposalRemove && p.User == p.Sender.URI && w.pick(2) == 0 {
			p.Kind = ProposalSelfRemove
		}
	}
	if v := JudgeProposals(before, proposals, nil, w.envelope); v.Allowed {
		w.accepted++
		w.check(before, v.Next, append(slices.Clone(w.pending), proposals...))
		w.pending = append(w.pending, proposals...)
	} else {
		w.seen[v.Reason.String()]++
	}
}

// check holds an accepted change against what may be, written without the code under test: who gained a role
// was given it by somebody whose role had the entry for it, and so on.
func (w *world) check(before, after *State, proposals []Proposal) {
	givers := make(map[string][]Actor) // user → who proposed a change of it
	definers, openers := []Actor{}, []Actor{}
	for _, p := range proposals {
		switch {
		case p.Kind != ProposalAppDataUpdate:
		case p.Component == ComponentRoles:
			definers = append(definers, p.Sender)
		case p.Component == ComponentPreauth:
			openers = append(openers, p.Sender)
		case p.Component == ComponentParticipants:
			u, err := UnmarshalParticipantListUpdate(p.Data)
			if err != nil {
				w.t.Fatalf("accepted an update that cannot be read: %v", err)
			}
			for _, c := range u.ChangedRoles {
				givers[before.Participants[c.Index].User] = append(givers[before.Participants[c.Index].User], p.Sender)
			}
			for _, i := range u.Removed {
				givers[before.Participants[i].User] = append(givers[before.Participants[i].User], p.Sender)
			}
			for _, a := range u.Added {
				givers[a.User] = append(givers[a.User], p.Sender)
			}
		}
	}
	for _, change := range changes(before, after) {
		senders := givers[change.User]
		if len(senders) != 1 {
			w.t.Fatalf("%+v by %d actors", change, len(senders))
		}
		if !w.mayGive(before, senders[0], change) {
			w.t.Fatalf("%+v was given by %+v", change, senders[0])
		}
	}
	if string(before.raw[ComponentRoles]) != string(after.raw[ComponentRoles]) && !w.anyHas(before, definers, CanChangeRoleDefinitions) {
		w.t.Fatalf("roles changed by %+v", definers)
	}
	if string(before.raw[ComponentPreauth]) != string(after.raw[ComponentPreauth]) && !w.anyHas(before, openers, CanChangePreauthorizedUserList) {
		w.t.Fatalf("preauthorisation changed by %+v", openers)
	}
	if after.Metadata.RoomURI != roomURI {
		w.t.Fatalf("room URI is %s", after.Metadata.RoomURI)
	}
	for user, n := range after.clients {
		role := after.Roles.Role(after.RoleIndex(user))
		if n > 0 && (after.RoleIndex(user) == RoleNone || role == nil || role.MaxActive != nil && *role.MaxActive == 0) {
			w.t.Fatalf("%s has %d clients in role %d", user, n, after.RoleIndex(user))
		}
	}
	if w.envelope != nil {
		for _, r := range after.Roles {
			if r.Index != RoleBridge && (r.Has(CanChangeRoleDefinitions) || r.Has(CanDestroyRoom)) {
				w.t.Fatalf("role %d has what no role may have", r.Index)
			}
		}
		if len(after.InRole(RoleBridge)) != 1 {
			w.t.Fatalf("the bridge's role has %v", after.InRole(RoleBridge))
		}
	}
	if _, err := stateOf(after.Dictionary()); err != nil {
		w.t.Fatalf("the dictionary afterwards: %v", err)
	}
}

// rolesOf are the roles that an actor's proposals may draw on: the committed one, and what pending proposals make of it.
func (w *world) rolesOf(s *State, a Actor) []*Role {
	var out []*Role
	add := func(i uint32) {
		if r := s.Roles.Role(i); r != nil && i > RoleBanned {
			out = append(out, r)
		}
	}
	if a.External {
		if i, ok := s.Preauth.Match(a.Claims); ok {
			add(i)
		}
		return out
	}
	add(s.RoleIndex(a.URI))
	if to, ok := s.pending.roles[a.URI]; ok {
		add(to)
	}
	return out
}

func (w *world) anyHas(s *State, actors []Actor, c Capability) bool {
	for _, a := range actors {
		for _, r := range w.rolesOf(s, a) {
			if r.Has(c) {
				return true
			}
		}
	}
	return false
}

func (w *world) mayGive(s *State, giver Actor, c ParticipantChange) bool {
	nobody := s.Roles.Role(RoleNone)
	matched, preauthorized := s.Preauth.Match(giver.Claims)
	if giver.URI == c.User && !giver.External {
		switch {
		case c.From == RoleNone:
			return c.To != RoleBanned && (nobody.Has(CanOpenJoin) && nobody.MayMove(0, c.To) ||
				preauthorized && matched == c.To && s.Roles.Role(c.To).Has(CanJoinIfPreauthorized))
		case c.To != RoleNone:
			return preauthorized && matched == c.To && w.anyHas(s, []Actor{giver}, CanChangeOwnRole)
		}
	}
	for _, r := range w.rolesOf(s, giver) {
		if !r.MayMove(c.From, c.To) {
			continue
		}
		var may bool
		switch {
		case giver.URI == c.User && !giver.External:
			may = r.Has(CanRemoveSelf)
		case c.From == RoleNone:
			may = r.Has(CanAddParticipant) || c.To == RoleBanned && r.Has(CanBan)
		case c.To == RoleNone:
			may = r.Has(CanRemoveParticipant)
		case c.To == RoleBanned:
			may = r.Has(CanBan) || r.Has(CanChangeUserRole)
		case c.From == RoleBanned:
			may = r.Has(CanUnBan) || r.Has(CanChangeUserRole)
		default:
			may = r.Has(CanChangeUserRole)
		}
		if may {
			return true
		}
	}
	return false
}

// TestNobodyGainsWhatNobodyGave: no sequence of accepted commits and proposals gives anybody a right that
// nobody with the right to give it gave.
func TestNobodyGainsWhatNobodyGave(t *testing.T) {
	accepted, seen := 0, make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, t, func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "pick") })
		for range 30 {
			w.step()
		}
		accepted += w.accepted
		for reason, n := range w.seen {
			seen[reason] += n
		}
	})
	// The property says nothing when everything is refused, or always for the same reason.
	if accepted < 100 || len(seen) < 8 {
		t.Errorf("%d changes accepted, refusals %v", accepted, seen)
	}
	t.Logf("%d changes accepted, refusals %v", accepted, seen)
}

func FuzzPolicySequence(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x01\x00\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17"))
	f.Add(slices.Repeat([]byte{3, 1, 4, 1, 5, 9, 2, 6}, 40))
	f.Fuzz(func(t *testing.T, in []byte) {
		w := newWorld(t, t, func(n int) int {
			if len(in) == 0 {
				return 0
			}
			b := in[0]
			in = in[1:]
			return int(b) % n
		})
		for i := 0; len(in) > 0 && i < 200; i++ {
			w.step()
		}
	})
}
