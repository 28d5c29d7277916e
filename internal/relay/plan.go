package relay

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// maxAdds is how many users one commit adds (docs/mapping.md §3).
const maxAdds = 100

// plan is a commit in the making: what it shall do, and which wishes it fulfils.
type plan struct {
	committer string // user URI of the leaf that commits
	leaf      mls.LeafIndex
	proposals []mls.Proposal
	refs      [][]byte
	path      bool
	alone     bool // nothing else fits into this commit

	roles   map[string]uint32 // participants with a new role, 0: removed
	added   []policy.UserRolePair
	meta    *policy.RoomMetaData
	removed map[mls.LeafIndex]bool
	keys    []mls.JoinKey           // KeyPackages of ours that are added
	checked []mls.CheckedKeyPackage // the public sides of keys
	covers  []int64
}

func (p *plan) empty() bool {
	return len(p.proposals)+len(p.refs)+len(p.roles)+len(p.added)+len(p.keys) == 0 && p.meta == nil && !p.path
}

// verdict is what became of a wish that was to be put into a plan.
type verdict int

const (
	taken    verdict = iota // the plan covers it
	obsolete                // it is fulfilled already
	waits                   // something must be answered first
	unfit                   // it does not go into this commit
	refused                 // it cannot be fulfilled
)

// adds tells whether the plan adds clients.
func (p *plan) adds() bool {
	return len(p.checked) > 0 || slices.ContainsFunc(p.proposals, func(q mls.Proposal) bool { return q.Type == mls.ProposalAdd })
}

// makePlan puts as many open wishes as go together into one commit. It returns nil when there is nothing to commit now.
func (s *step) makePlan() (*plan, error) {
	var p *plan
	if s.room.st.Founding {
		if s.unclaimed() {
			return nil, s.claimAgain()
		}
	}
	// Clients of ours are added before and apart from others, so that the Welcome for others is not about them.
	slices.SortStableFunc(s.room.intents, func(a, b store.Intent) int { return s.rank(&a) - s.rank(&b) })
	for n := 0; n < len(s.room.intents); n++ {
		i := &s.room.intents[n]
		if i.State != store.IntentOpen || i.Kind == intentLeave {
			continue
		}
		d, err := dataOf(i)
		if err != nil {
			return nil, err
		}
		v, why, next, err := s.take(p, i, d)
		if err != nil {
			return nil, err
		}
		switch v {
		case taken:
			p = next
			p.covers = append(p.covers, i.Seq)
		case obsolete:
			s.closeIntents(i.Seq)
			n--
		case refused:
			s.refuse(*i, d, why)
			s.closeIntents(i.Seq)
			n--
		}
		if p != nil && p.alone {
			break
		}
	}
	if p == nil {
		return nil, nil
	}
	return p, s.finishPlan(p)
}

// rank orders wishes: definitions of roles before who gets them, clients of ours before others, then as they came.
func (s *step) rank(i *store.Intent) int {
	switch {
	case i.Kind == intentRoles:
		return 0
	case i.Kind == intentAdd && s.own(i.Target):
		return 1
	}
	return 2
}

// take tries to put a wish into a plan, or begins one for it.
func (s *step) take(p *plan, i *store.Intent, d intentData) (verdict, string, *plan, error) {
	if d.NotBefore > s.nowMS() {
		return waits, "", p, nil
	}
	if i.Kind == intentAdd && s.room.st.Unlogged {
		return refused, whyUnlogged, p, nil
	}
	need, done := s.needOf(i, d)
	if done {
		return obsolete, "", p, nil
	}
	if i.Kind == intentAdd && !s.own(i.Target) && len(d.Packages) == 0 && !d.Inactive {
		return waits, "", p, s.claim(i, d)
	}
	committer, why := s.committer(i, need)
	if committer == "" {
		if s.joinsAlone(i) {
			s.alone = append(s.alone, d.MXID)
			return obsolete, "", p, nil
		}
		return refused, why, p, nil
	}
	if p == nil {
		leaf, _ := s.room.ownLeaf(committer)
		p = &plan{committer: committer, leaf: leaf, roles: map[string]uint32{}, removed: map[mls.LeafIndex]bool{}}
	} else if p.committer != committer || p.alone || i.Kind == intentRenew || i.Kind == intentRoles || i.Kind == intentPolicy || len(p.added)+len(p.keys) >= maxAdds || i.Kind == intentAdd && len(p.keys) > 0 != s.own(i.Target) && p.adds() {
		return unfit, "", p, nil
	}
	v, why, err := s.fold(p, i, d)
	return v, why, p, err
}

// needOf names the change of policy that a wish needs, and tells whether it is fulfilled already.
func (s *step) needOf(i *store.Intent, d intentData) (change *policy.Change, done bool) {
	v := s.room
	role := v.policy.RoleIndex(i.Target)
	switch i.Kind {
	case intentAdd:
		active := v.leaves.Active(wire.IdentifierURI(i.Target))
		switch {
		case role == policy.RoleNone:
			return &policy.Change{Kind: policy.AddParticipant, User: i.Target, Role: s.roleFor(i, d), Clients: 1}, false
		case role == policy.RoleBanned:
			return &policy.Change{Kind: policy.ChangeRole, User: i.Target, Role: s.roleFor(i, d)}, false
		case active:
			return nil, true
		}
		return &policy.Change{Kind: policy.AddClient, User: i.Target, Clients: 1}, false
	case intentRemove:
		return &policy.Change{Kind: policy.RemoveParticipant, User: i.Target}, role == policy.RoleNone
	case intentBan:
		if role == policy.RoleNone {
			return &policy.Change{Kind: policy.AddParticipant, User: i.Target, Role: policy.RoleBanned}, false
		}
		return &policy.Change{Kind: policy.ChangeRole, User: i.Target, Role: policy.RoleBanned}, role == policy.RoleBanned
	case intentUnban:
		return &policy.Change{Kind: policy.RemoveParticipant, User: i.Target}, role != policy.RoleBanned
	case intentRole:
		return &policy.Change{Kind: policy.ChangeRole, User: i.Target, Role: d.Role}, role == d.Role || role <= policy.RoleBanned
	case intentMetadata:
		meta := metadataOf(v.policy.Metadata, d)
		same := string(meta.Marshal()) == string(v.policy.Metadata.Marshal())
		return &policy.Change{Kind: policy.ChangeMetadata, Metadata: &meta}, same
	case intentRoles:
		same := string(s.wantedRoles(s.hierarchy()).Marshal()) == string(v.policy.Roles.Marshal())
		return &policy.Change{Kind: policy.ChangeComponent, Component: policy.ComponentRoles}, same
	case intentPolicy:
		same := true
		for id, data := range d.Components {
			had, _ := v.policy.Data(id)
			same = same && string(had) == string(data)
		}
		return &policy.Change{Kind: policy.ChangeComponent, Component: policy.ComponentBase}, same
	case intentCommit:
		return nil, len(s.commitable()) == 0
	case intentRenew:
		_, ok := v.ownLeaf(i.Target)
		return nil, !ok
	}
	return nil, true
}

// roleFor is the role that an added user gets: as hub by its power level, as follower one of those that the actor may give. The room's
// own for newcomers comes first, then those of people who may say something, the less power over others the better, then the one that most
// participants have.
func (s *step) roleFor(i *store.Intent, d intentData) uint32 {
	v := s.room
	if d.Role != 0 {
		return d.Role
	}
	if v.head.Kind == store.RoomHub {
		return s.hubRole(d.MXID)
	}
	count := map[uint32]int{}
	for _, part := range v.policy.Participants {
		count[part.Role]++
	}
	newcomers := map[uint32]bool{}
	for _, r := range s.givenToOutsiders(policy.RoleNone) {
		newcomers[r.Index] = true
	}
	order := func(a, b *policy.Role) int {
		return cmp.Or(cmp.Compare(btoi(newcomers[b.Index]), btoi(newcomers[a.Index])),
			cmp.Compare(btoi(b.Has(policy.CanSendMessage)), btoi(a.Has(policy.CanSendMessage))),
			cmp.Compare(powers(a), powers(b)), cmp.Compare(count[b.Index], count[a.Index]), cmp.Compare(len(a.Capabilities), len(b.Capabilities)))
	}
	given := s.givenToOutsiders(v.policy.RoleIndex(i.Actor))
	if len(given) == 0 {
		return policy.RoleNone
	}
	return slices.MinFunc(given, order).Index
}

// givenToOutsiders are the roles that somebody in a role may bring outsiders into, so that they take part.
func (s *step) givenToOutsiders(by uint32) (roles []*policy.Role) {
	me := s.room.policy.Role(by)
	if me == nil {
		return nil
	}
	for _, t := range me.AuthorizedChanges {
		if t.From != policy.RoleNone {
			continue
		}
		for _, to := range t.Targets {
			if r := s.room.policy.Role(to); to > policy.RoleBanned && r != nil && r.MayBeActive() {
				roles = append(roles, r)
			}
		}
	}
	return roles
}

// overOthers are the capabilities of those who keep order among others, or decide about the room.
var overOthers = []policy.Capability{policy.CanRemoveParticipant, policy.CanKick, policy.CanBan, policy.CanUnBan, policy.CanChangeUserRole,
	policy.CanDeleteOtherMessage, policy.CanDeleteOtherReaction, policy.CanEditOtherTopic, policy.CanChangeRoleDefinitions,
	policy.CanChangePreauthorizedUserList, policy.CanChangeRoomMembershipStyle, policy.CanChangeOtherPolicyAttribute,
	policy.CanChangeMLSOperationalPolicies, policy.CanSendMLSReinitProposal, policy.CanDestroyRoom}

// powers counts the capabilities of a role that are over others.
func powers(r *policy.Role) (n int) {
	for _, c := range overOthers {
		n += btoi(r.Has(c))
	}
	return n
}

// committer chooses the own leaf that commits a wish: the actor's where its role has the right, otherwise, as the hub, the
// bot's, because the homeserver has decided already (docs/mapping.md §4). As a follower a wish that nobody of ours may fulfil is
// refused.
func (s *step) committer(i *store.Intent, need *policy.Change) (user, why string) {
	v := s.room
	hub := v.head.Kind == store.RoomHub
	state := s.room.policy
	may := func(user string) (bool, string) {
		if _, ok := v.ownLeaf(user); !ok || user == i.Target && i.Kind != intentRenew {
			return false, "no client of the actor is in the room"
		}
		if need == nil {
			return true, ""
		}
		d := policy.Decide(state, policy.Actor{URI: user}, *need)
		return d.Allowed, d.Reason.String()
	}
	if i.Kind == intentRenew {
		return i.Target, ""
	}
	if user, ok := s.founder(); ok && i.Kind == intentAdd {
		return user, ""
	}
	why = "nobody may"
	if i.Actor != "" && s.own(i.Actor) {
		ok, reason := may(i.Actor)
		if ok {
			return i.Actor, ""
		}
		why = reason
	}
	if hub {
		if _, ok := v.ownLeaf(s.bot); ok {
			return s.bot, ""
		}
	}
	if i.Actor == "" || hub || !s.own(i.Actor) {
		for _, leaf := range v.group.OwnLeaves() {
			id, _ := v.leaves.Who(leaf)
			ok, reason := may(string(id.User))
			if ok {
				return string(id.User), ""
			}
			why = reason
		}
	}
	return "", why
}

// fold puts a wish into a plan.
func (s *step) fold(p *plan, i *store.Intent, d intentData) (verdict, string, error) {
	v := s.room
	role := v.policy.RoleIndex(i.Target)
	if _, twice := p.roles[i.Target]; twice || slices.ContainsFunc(p.added, func(u policy.UserRolePair) bool { return u.User == i.Target }) {
		return unfit, "", nil
	}
	switch i.Kind {
	case intentAdd:
		return s.foldAdd(p, i, d, role)
	case intentRemove, intentUnban:
		p.roles[i.Target] = policy.RoleNone
		p.removeLeaves(v.leaves.Of(wire.IdentifierURI(i.Target)))
	case intentBan:
		if role == policy.RoleNone {
			p.added = append(p.added, policy.UserRolePair{User: i.Target, Role: policy.RoleBanned})
			return taken, "", nil
		}
		p.roles[i.Target] = policy.RoleBanned
		p.removeLeaves(v.leaves.Of(wire.IdentifierURI(i.Target)))
	case intentRole:
		if v.policy.Role(d.Role) == nil {
			return refused, "there is no such role", nil
		}
		p.roles[i.Target] = d.Role
	case intentRoles:
		roles := s.wantedRoles(s.hierarchy())
		p.proposals = append(p.proposals, appDataUpdate(mls.ComponentRolesList, roles.Marshal()))
		p.alone = true
	case intentPolicy:
		p.proposals = append(p.proposals, s.componentUpdates(d.Components)...)
		p.alone = true
	case intentMetadata:
		base := v.policy.Metadata
		if p.meta != nil {
			base = *p.meta
		}
		meta := metadataOf(base, d)
		p.meta = &meta
	case intentRenew:
		p.path, p.alone = true, true
	}
	return taken, "", nil
}

func (s *step) foldAdd(p *plan, i *store.Intent, d intentData, role uint32) (verdict, string, error) {
	to := s.roleFor(i, d)
	switch {
	case role == policy.RoleNone && to == policy.RoleNone:
		return refused, "there is no role to add somebody to", nil
	case role == policy.RoleNone:
		p.added = append(p.added, policy.UserRolePair{User: i.Target, Role: to})
	case role == policy.RoleBanned:
		p.roles[i.Target] = to
	}
	if s.own(i.Target) {
		if _, has := s.room.ownLeaf(i.Target); has {
			return taken, "", nil
		}
		_, client, err := s.clientOfURI(s.ctx, i.Target)
		if err != nil {
			return refused, "", err
		}
		s.shown(&client)
		kp, err := puppets.NewKeyPackage(s.Rand, s.now, client, false)
		if err != nil {
			return refused, "", err
		}
		p.keys = append(p.keys, mls.JoinKey{KeyPackage: kp.Public, Private: kp.Private})
		checked, err := kp.Public.Check()
		if err != nil {
			return refused, "", err
		}
		p.checked = append(p.checked, checked)
		return taken, "", nil
	}
	for _, raw := range d.Packages {
		kp, err := mls.UnmarshalKeyPackage(raw)
		if err != nil {
			return refused, "", fmt.Errorf("read a claimed KeyPackage: %w", err)
		}
		if !kp.Leaf.Lifetime.Contains(uint64(s.now.Unix())) {
			// Claimed too long ago: ask for fresh ones.
			d.Packages = nil
			s.setIntent(i, store.IntentOpen, "", d)
			p.dropUser(i.Target)
			return waits, "", s.claim(i, d)
		}
		p.proposals = append(p.proposals, mls.Proposal{Type: mls.ProposalAdd, Add: kp})
	}
	return taken, "", nil
}

func (p *plan) dropUser(user string) {
	delete(p.roles, user)
	p.added = slices.DeleteFunc(p.added, func(u policy.UserRolePair) bool { return u.User == user })
}

func (p *plan) removeLeaves(leaves []mls.LeafIndex) {
	for _, leaf := range leaves {
		if !p.removed[leaf] {
			p.removed[leaf] = true
			p.proposals = append(p.proposals, mls.Proposal{Type: mls.ProposalRemove, Remove: leaf})
		}
	}
}

// finishPlan writes the list and the metadata as AppDataUpdates and adds the proposals that wait.
func (s *step) finishPlan(p *plan) error {
	v := s.room
	if len(p.roles)+len(p.added) > 0 {
		want := make(map[string]uint32, len(v.policy.Participants))
		for _, part := range v.policy.Participants {
			want[part.User] = part.Role
		}
		for user, role := range p.roles {
			want[user] = role
		}
		if u := v.policy.Participants.Update(want, p.added); u != nil {
			p.proposals = append(p.proposals, appDataUpdate(mls.ComponentParticipantList, u.Marshal()))
		}
	}
	if p.meta != nil {
		p.proposals = append(p.proposals, appDataUpdate(mls.ComponentRoomMetadata, p.meta.Marshal()))
	}
	p.refs = v.group.Committable(p.leaf)
	return nil
}

func appDataUpdate(id mls.ComponentID, update []byte) mls.Proposal {
	return mls.Proposal{Type: mls.ProposalAppDataUpdate,
		AppDataUpdate: &mls.AppDataUpdate{Component: id, Operation: mls.AppDataUpdateSet, Update: update}}
}

// commitable are the refs of the proposals that wait for a commit.
func (s *step) commitable() [][]byte {
	if s.room.group == nil {
		return nil
	}
	var refs [][]byte
	for _, p := range s.room.group.PendingProposals() {
		refs = append(refs, p.Ref)
	}
	return refs
}

// own tells whether a user URI is of this bridge.
func (s *step) own(uri string) bool { return s.Naming.Own(wire.IdentifierURI(uri)) }
