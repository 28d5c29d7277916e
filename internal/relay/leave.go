package relay

import (
	"fmt"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// leaveAll carries out the wishes of users of ours to leave. Nobody can commit its own removal (RFC 9420 §12.4): the leaver
// proposes to be taken from the list and removes its client (SelfRemove), and somebody else commits. As the hub that is the
// bot, at once; as a follower the hub or whoever commits next.
func (s *step) leaveAll() error {
	v := s.room
	for n := 0; n < len(v.intents); n++ {
		i := v.intents[n]
		if i.Kind != intentLeave || i.State != store.IntentOpen {
			continue
		}
		leaf, active := v.ownLeaf(i.Target)
		if !s.listed(i.Target) || active && s.leaves(uint32(leaf)) {
			s.closeIntents(i.Seq) // gone, or as good as
			n--
			continue
		}
		if s.leavesNow() {
			continue // one after the other: where the hub commits each at once, the others would be of an old epoch
		}
		if err := s.leave(&v.intents[n]); err != nil || s.drop {
			return err
		}
	}
	return nil
}

func (s *step) leave(i *store.Intent) error {
	v := s.room
	d, err := dataOf(i)
	if err != nil {
		return err
	}
	leaf, active := v.ownLeaf(i.Target)
	mayLeave := policy.Decide(s.room.policy, policy.Actor{URI: i.Target}, policy.Change{Kind: policy.RemoveParticipant, User: i.Target}).Allowed
	switch {
	case s.fixed() && !active:
		s.closeIntents(i.Seq)
		return nil
	case v.head.Kind == store.RoomHub && !s.fixed() && (!active || !mayLeave):
		// The Matrix room leads: who left there has left.
		s.closeIntents(i.Seq)
		s.wish(intentRemove, s.bot, i.Target, d)
		return nil
	case !active:
		s.closeIntents(i.Seq)
		return nil
	}
	messages, changes, err := s.leaveProposals(i.Target, leaf, mayLeave)
	if err != nil {
		return err
	}
	if v.head.Kind == store.RoomHub {
		s.fx.changes = append(s.fx.changes, changes...)
		s.acceptProposals(messages, i.Target, s.hubRoom().Accept(s.now))
		s.closeIntents(i.Seq)
		s.wish(intentCommit, s.bot, "", intentData{})
		return nil
	}
	// The proposals count once the hub took them: until then the group that is stored does not know them, and the one in
	// memory, which does, is not used any more.
	s.drop = true
	bundle := wire.HandshakeBundle{Message: messages[0], MoreProposals: messages[1:]}
	o := s.mimi(v.head.Hub, verbUpdate, bundle.Marshal())
	ask(o, refProposals+":"+i.Target, i.Seq)
	d.Epoch = v.group.Epoch()
	s.setIntent(i, store.IntentAsking, "", d)
	s.later(timerGo, s.nowMS())
	return nil
}

// cacheLeaving caches the proposals by which users of ours leave in this epoch: the hub took them. Making them again gives
// the same bytes. It tells whether there were any.
func (s *step) cacheLeaving() (bool, error) {
	v := s.room
	any := false
	for n := range v.intents {
		i := &v.intents[n]
		if i.Kind != intentLeave || i.State != store.IntentAsking {
			continue
		}
		d, err := dataOf(i)
		if err != nil {
			return any, err
		}
		leaf, active := v.ownLeaf(i.Target)
		if !active || d.Epoch != v.group.Epoch() || s.leaves(uint32(leaf)) {
			continue
		}
		mayLeave := policy.Decide(s.room.policy, policy.Actor{URI: i.Target}, policy.Change{Kind: policy.RemoveParticipant, User: i.Target}).Allowed
		_, changes, err := s.leaveProposals(i.Target, leaf, mayLeave)
		if err != nil {
			return any, err
		}
		s.fx.changes = append(s.fx.changes, changes...)
		any = true
	}
	return any, nil
}

// leaveProposals makes the proposals by which a user of ours leaves: from the list, where its role has the right to that, and
// of its client. The group in memory knows them then.
func (s *step) leaveProposals(user string, leaf mls.LeafIndex, fromList bool) (messages []wire.Message, changes []mls.Changes, err error) {
	g := s.room.group
	aad := room.HandshakeAAD(g.Dictionary())
	if fromList {
		update := policy.ParticipantListUpdate{Removed: []uint32{uint32(s.room.policy.Participants.Index(user))}}
		message, _, c, err := g.Propose(s.Rand, s.now, mls.ProposeParams{Leaf: leaf, AAD: aad,
			Proposal: appDataUpdate(mls.ComponentParticipantList, update.Marshal())})
		if err != nil {
			return nil, nil, fmt.Errorf("propose that %s leaves room %s: %w", user, s.room.head.ID, err)
		}
		messages, changes = append(messages, wire.NewMessage(message)), append(changes, c)
	}
	message, _, c, err := g.ProposeSelfRemove(s.Rand, s.now, leaf, aad)
	if err != nil {
		return nil, nil, fmt.Errorf("propose that %s leaves room %s: %w", user, s.room.head.ID, err)
	}
	return append(messages, wire.NewMessage(message)), append(changes, c), nil
}

// leaveAnswered: the hub's word on the proposals by which a user leaves. Once taken they are committed by whoever is
// quickest; if nobody does for a while, another client of ours commits them.
func (s *step) leaveAnswered(user string, taken bool) error {
	i := s.leaving(user)
	if i == nil {
		return nil
	}
	if !taken {
		// The hub does not let them leave: the user stays a participant, without a place in Matrix.
		s.closeIntents(i.Seq)
		s.Log.Warn().Stringer("room", s.room.head.ID).Msg("the hub did not let a user leave")
		return nil
	}
	if s.room.group == nil {
		return nil
	}
	if _, err := s.cacheLeaving(); err != nil {
		return err
	}
	s.closeIntents(i.Seq)
	s.later(timerCommit, s.now.Add(commitAfter).UnixMilli())
	s.release(s.room.head.Epoch + 1) // the commit may have come before the answer
	return nil
}

// leavesNow tells whether the hub was told that a user leaves, and has not answered.
func (s *step) leavesNow() bool {
	return slices.ContainsFunc(s.room.intents, func(i store.Intent) bool { return i.Kind == intentLeave && i.State == store.IntentAsking })
}

// leaving is the wish of a user to leave that the hub was told.
func (s *step) leaving(user string) *store.Intent {
	for n := range s.room.intents {
		if i := &s.room.intents[n]; i.Kind == intentLeave && i.Target == user && i.State == store.IntentAsking {
			return i
		}
	}
	return nil
}

// reopenLeave tries again in the present epoch.
func (s *step) reopenLeave(user string) {
	if i := s.leaving(user); i != nil {
		s.reopenIntents([]int64{i.Seq}, 10)
	}
}
