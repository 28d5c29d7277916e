package relay

import (
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/follower"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// onNotify takes one item of the hub's fan-out (draft-ietf-mimi-protocol-06 §5.5).
func (s *step) onNotify(in *store.Input) error {
	v := s.room
	received, err := wire.UnmarshalNotify(in.Body)
	if err != nil {
		return nil // checked when it came; a newer release may be stricter
	}
	items, err := received.Check()
	if err != nil || len(items) != 1 {
		return nil
	}
	item := &items[0]
	if m := item.Message.MLS; m != nil && m.Welcome != nil {
		return s.onWelcome(in, item)
	}
	if v.group == nil {
		if v.head.State == stateJoining {
			s.waitFor(waitForever, "the room is being joined")
		}
		return nil
	}
	out := follower.Take(s.now, v.group, s.pendingView(), item)
	if out.Kind == follower.Early && item.Message.Epoch() == v.group.Epoch() {
		// A commit of proposals that we do not know: of our own, whose acceptance we have not heard of?
		any, err := s.cacheLeaving()
		if err != nil {
			return err
		}
		if any {
			out = follower.Take(s.now, v.group, s.pendingView(), item)
		}
	}
	s.fx.changes = append(s.fx.changes, out.Changes...)
	if err := s.taken(in, item, &out); err != nil {
		return err
	}
	return s.stapled(item)
}

// stapled takes the hub's proposals for the next epoch that come with an external commit, which took those before away
// (draft-ietf-mimi-protocol-06 §5.5): commits may refer to them at once.
func (s *step) stapled(item *wire.FanoutMessage) error {
	g, list := s.room.group, item.ExternalProposals
	if len(list) == 0 || g == nil || g.Epoch() != item.Message.Epoch()+1 {
		return nil
	}
	out := follower.Take(s.now, g, nil, &wire.FanoutMessage{Timestamp: item.Timestamp, Message: list[0], MoreProposals: list[1:]})
	s.fx.changes = append(s.fx.changes, out.Changes...)
	if out.Kind != follower.Proposals {
		s.Log.Warn().Err(out.Err).Stringer("room", s.room.head.ID).Str("fate", "ignored").Msg("proposals beside a commit of the hub are not valid")
		return nil
	}
	return s.onProposals()
}

// taken does what follows from an item of the fan-out.
func (s *step) taken(in *store.Input, item *wire.FanoutMessage, out *follower.Outcome) error {
	v := s.room
	switch out.Kind {
	case follower.Message:
		killpoint.Hit("K18")
		return s.onApplication(out.Application, item)
	case follower.Proposals:
		return s.onProposals()
	case follower.Commit:
		s.passes("K30", "")
		return s.onCommit(out.Staged)
	case follower.OwnCommit:
		return s.settlePending(follower.Merge, "")
	case follower.Stale:
		return s.compareGroup()
	case follower.Early:
		return s.onEarly(in, item)
	case follower.Unreadable:
		return s.onUnreadable(item, out.Err)
	case follower.Desync:
		s.Log.Warn().Err(out.Err).Stringer("room", v.head.ID).Uint64("epoch", item.Message.Epoch()).Msg("a commit of the hub cannot be followed")
		return s.resync(fmt.Sprintf("a commit could not be followed: %v", out.Err))
	case follower.Invalid:
		s.Log.Warn().Err(out.Err).Stringer("room", v.head.ID).Str("fate", "ignored").Msg("an item of the hub's fan-out is not valid")
	}
	return nil
}

// onCommit moves to the epoch of another member's commit (T10). If a commit of ours was under way for the same epoch, it
// lost.
func (s *step) onCommit(staged *mls.Staged) error {
	was := s.snapshot()
	why := s.causeOf(staged)
	if p := s.room.pending; p != nil && uint64(p.BaseEpoch) == s.room.group.Epoch() {
		if err := s.dropPending(true, ""); err != nil {
			return err
		}
	}
	if err := s.merge(staged); err != nil {
		return err
	}
	return s.reconcile(was, why)
}

// causeOf says who brought a commit's changes about. It is asked before the commit is merged.
func (s *step) causeOf(staged *mls.Staged) cause {
	why := cause{self: map[string]bool{}}
	if staged.External() {
		for _, m := range staged.Added() {
			if m.Index == staged.Committer() {
				if id, ok := identityOf(m.Leaf); ok {
					why.actor = s.listedURI(id.User)
				}
			}
		}
	} else if id, ok := s.room.leaves.Who(staged.Committer()); ok {
		why.actor = s.listedURI(id.User)
	}
	for _, p := range staged.Proposals() {
		if p.Ref == nil || p.Sender.Type != mls.SenderMember {
			continue
		}
		id, ok := s.room.leaves.Who(p.Sender.Leaf)
		if !ok {
			continue
		}
		if p.Proposal.Type == mls.ProposalSelfRemove {
			why.self[s.listedURI(id.User)] = true
		}
	}
	return why
}

// listedURI is a user's URI octet for octet as in the participant list.
func (s *step) listedURI(user wire.IdentifierURI) string {
	if s.room.policy.RoleIndex(string(user)) != policy.RoleNone {
		return string(user)
	}
	if m, ok := s.room.members.ofURI(string(user)); ok {
		return m.URI
	}
	return string(user)
}

// onProposals: proposals of others wait for a commit. If nobody commits them, we do.
func (s *step) onProposals() error {
	s.later(timerCommit, s.now.Add(commitAfter).UnixMilli())
	s.release(s.room.head.Epoch + 1) // their commit may have come before them
	return nil
}

// onEarly makes an item wait for what must come before it, within bounds (T11).
func (s *step) onEarly(in *store.Input, item *wire.FanoutMessage) error {
	v := s.room
	rows, size, err := s.Store.Waiting(s.ctx, v.head.ID)
	if err != nil {
		return err
	}
	epoch := item.Message.Epoch()
	if epoch == v.group.Epoch() {
		epoch++ // a commit whose proposals have not come: it is tried again with the next item that changes something
		if s.nowMS()-in.CreatedMS > s.cfg.Waiting.Age.Milliseconds() {
			return s.resync("the proposals of a commit did not come")
		}
	}
	if s.cfg.Waiting.Admit(v.group.Epoch(), item.Message.Epoch(), int(rows), size) == follower.Resync {
		s.waitFor(int64(epoch), "later epoch")
		return s.resync("too much is missing")
	}
	s.waitFor(int64(epoch), "later epoch")
	s.later(timerWaiting, in.CreatedMS+s.cfg.Waiting.Age.Milliseconds())
	return nil
}

// onWelcome joins own clients to a group (T14).
func (s *step) onWelcome(in *store.Input, item *wire.FanoutMessage) error {
	v := s.room
	welcome := item.Message.MLS.Welcome
	keys, refs, err := s.joinKeys(welcome)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return nil // not for us, or used already
	}
	params := mls.JoinParams{Welcome: welcome, Keys: keys}
	if item.Tree != nil && item.Tree.Representation == mls.RatchetTreeFull {
		params.Tree = item.Tree.Tree
	}
	if v.group != nil {
		return s.joinMore(in, params, refs)
	}
	g, _, err := mls.JoinWelcome(s.now, s.room.mlsc, params)
	if err != nil {
		s.Log.Warn().Err(err).Stringer("room", v.head.ID).Str("fate", "refused").Msg("a Welcome could not be used")
		s.Alert("welcome", "a Welcome of "+v.head.Hub+" could not be used")
		s.fx.usedKeys = append(s.fx.usedKeys, refs...)
		return nil
	}
	if why := s.checkJoined(g); why != "" {
		s.Log.Warn().Stringer("room", v.head.ID).Str("reason", why).Str("fate", "refused").Msg("a room was not joined")
		s.Alert("welcome", "a room of "+v.head.Hub+" was not joined: "+why)
		s.fx.usedKeys = append(s.fx.usedKeys, refs...)
		return nil
	}
	s.fx.usedKeys = append(s.fx.usedKeys, refs...)
	return s.joined(g, "")
}

// joinMore adds own clients to a group that we are in. When its commit has not come yet the Welcome waits for it.
func (s *step) joinMore(in *store.Input, params mls.JoinParams, refs [][]byte) error {
	_, changes, err := s.room.group.AddOwnFromWelcome(s.now, params)
	switch {
	case err == nil:
		s.fx.changes = append(s.fx.changes, changes)
		s.fx.usedKeys = append(s.fx.usedKeys, refs...)
		was := s.snapshot()
		if err := s.enterOwn(); err != nil {
			return err
		}
		return s.reconcile(was, cause{})
	case errors.Is(err, mls.ErrAlreadyMember):
		s.fx.usedKeys = append(s.fx.usedKeys, refs...)
		return nil
	case mls.KindOf(err) == mls.KindEpoch:
		s.waitFor(s.room.head.Epoch+1, "the commit of a Welcome has not come")
		s.later(timerWaiting, in.CreatedMS+s.cfg.Waiting.Age.Milliseconds())
		return nil
	}
	s.Log.Warn().Err(err).Stringer("room", s.room.head.ID).Str("fate", "refused").Msg("a Welcome could not be used")
	s.fx.usedKeys = append(s.fx.usedKeys, refs...)
	return nil
}

// joinKeys finds the private sides of the KeyPackages that a Welcome is for.
func (s *step) joinKeys(w *mls.Welcome) (keys []mls.JoinKey, refs [][]byte, err error) {
	all := make([][]byte, len(w.Secrets))
	for i := range w.Secrets {
		all[i] = w.Secrets[i].NewMember
	}
	ours, err := s.Store.KeyPackageRefs(s.ctx, all)
	if err != nil {
		return nil, nil, err
	}
	mine := map[string]bool{}
	for _, ref := range ours {
		mine[string(ref)] = true
	}
	for _, ref := range all {
		if !mine[string(ref)] {
			continue
		}
		delete(mine, string(ref)) // a reference that is there twice counts once
		row, err := s.Store.KeyPackage(s.ctx, ref)
		if errors.Is(err, store.ErrNotFound) || err == nil && len(row.Private) == 0 {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if s.claimedElsewhere(&row) {
			// It stays good for its own room: others know the reference, too.
			s.Log.Warn().Stringer("room", s.room.head.ID).Str("user", row.UserURI).Str("fate", "refused").Msg("a Welcome uses a KeyPackage that was claimed for another room")
			s.Alert("welcome", "a Welcome of "+s.room.head.Hub+" uses a KeyPackage that was claimed for another room")
			continue
		}
		public, err := mls.UnmarshalKeyPackage(row.Public)
		if err != nil {
			return nil, nil, err
		}
		private, err := mls.UnmarshalKeyPackagePrivate(row.Private)
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, mls.JoinKey{KeyPackage: public, Private: private})
		refs = append(refs, row.Ref)
	}
	return keys, refs, nil
}

// checkJoined says why a group that a Welcome leads to is not joined, "" when it is (docs/mapping.md §3): it must say that it is
// this room, have the hub among its external senders, and our users in its list.
func (s *step) checkJoined(g *mls.Group) string {
	state, err := policyState(g.Dictionary())
	if err != nil {
		return "its policy cannot be read"
	}
	if !wire.IdentifierURI(state.Metadata.RoomURI).Same(s.room.uri()) {
		return "it says that it is another room"
	}
	if !s.hubSends(g) {
		return "its hub is no external sender"
	}
	for _, leaf := range g.OwnLeaves() {
		m, _ := g.Member(leaf)
		id, ok := identityOf(m.Leaf)
		if !ok || state.RoleIndex(string(id.User)) <= policy.RoleBanned {
			return "our user is not in its participant list"
		}
	}
	if s.logsTooMuch(state) {
		return whyLogging
	}
	return ""
}

// joined puts a newly joined group in place: the portal is made, or lives again.
func (s *step) joined(g *mls.Group, joiner string) error {
	v := s.room
	v.head.Group++
	v.head.GroupID = g.GroupID()
	if state, err := policyState(g.Dictionary()); err == nil && state.Metadata.RoomURI != "" {
		v.head.URI = state.Metadata.RoomURI // octet for octet, as it is hashed and signed elsewhere
	}
	v.head.State = stateActive
	s.joinEnds()
	v.st.Resync, v.st.Ended = nil, false
	v.forgetRenewed(s.now.Unix())
	s.fx.newGroup, s.fx.dropGroup, s.fx.changes = g, false, nil
	s.fx.names = append(s.fx.names, name{store.NameGroup, fmt.Sprintf("%x", g.GroupID())})
	if v.pending != nil {
		s.clearPending()
	}
	if err := s.enter(g); err != nil {
		return err
	}
	s.passes("K37", "")
	s.releaseAll()
	why := cause{joiner: joiner}
	if leaf, ok := g.WelcomedBy(); ok {
		if id, ok := s.room.leaves.Who(leaf); ok {
			why.actor = s.listedURI(id.User)
		}
	}
	if err := s.makePortal(why); err != nil {
		return err
	}
	if err := s.reconcile(before{}, why); err != nil {
		return err
	}
	s.dropAbsent()
	s.noteDirect()
	s.scheduleCare()
	s.checkAgain(s.cfg.Consistency)
	return nil
}

// dropAbsent lets those leave the portal who were in it in an earlier life of the room and are no participants now.
func (s *step) dropAbsent() {
	for _, mxid := range sortedKeys(s.room.members.byMXID) {
		m := s.room.members.byMXID[mxid]
		if m.URI == "" || mxid == s.cfg.Bot || s.room.policy.RoleIndex(m.URI) != policy.RoleNone {
			continue
		}
		s.placeOut(&m, policy.RoleNone, cause{})
		m.Listed, m.Role = false, 0
		s.setMember(m)
	}
}
