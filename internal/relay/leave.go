package relay

import (
	"fmt"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/hub"
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
		if !s.listed(i.Target) {
			s.closeIntents(i.Seq)
			n--
			continue
		}
		if err := s.leave(&v.intents[n]); err != nil {
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
	mayLeave := policy.Decide(s.policyNow(), policy.Actor{URI: i.Target}, policy.Change{Kind: policy.RemoveParticipant, User: i.Target}).Allowed
	switch {
	case v.head.Kind == store.RoomHub && (!active || !mayLeave):
		// The Matrix room leads: who left there has left.
		s.closeIntents(i.Seq)
		s.wish(intentRemove, s.bot, i.Target, d)
		return nil
	case !active:
		s.closeIntents(i.Seq)
		return nil
	}
	messages, refs, err := s.leaveProposals(i.Target, leaf, mayLeave)
	if err != nil {
		return err
	}
	if v.head.Kind == store.RoomHub {
		at := s.hubRoom().Accept(s.now)
		v.head.LastAccepted = int64(at)
		for _, m := range messages {
			s.logEntry("proposal", v.group.Epoch(), m, i.Target, at)
		}
		s.fanout(hub.Providers(v.policy.Participants, v.leaves, s.Naming.Domain),
			wire.FanoutMessage{Timestamp: at, Message: messages[0], MoreProposals: messages[1:]})
		s.closeIntents(i.Seq)
		s.wish(intentCommit, s.bot, "", intentData{})
		return nil
	}
	bundle := wire.HandshakeBundle{Message: messages[0], MoreProposals: messages[1:]}
	o := s.mimi(v.head.Hub, verbUpdate, bundle.Marshal())
	ask(o, refProposals+":"+i.Target, i.Seq)
	if v.st.Proposed == nil {
		v.st.Proposed = map[string]string{}
	}
	for _, ref := range refs {
		v.st.Proposed[refKey(ref)] = proposalSent
	}
	s.setIntent(i, store.IntentAsking, "", d)
	return nil
}

// leaveProposals makes the proposals by which a user of ours leaves: from the list, where its role has the right to that, and
// of its client.
func (s *step) leaveProposals(user string, leaf mls.LeafIndex, fromList bool) (messages []wire.Message, refs [][]byte, err error) {
	g := s.room.group
	aad := room.HandshakeAAD(g.Dictionary())
	if fromList {
		update := policy.ParticipantListUpdate{Removed: []uint32{uint32(s.room.policy.Participants.Index(user))}}
		message, ref, changes, err := g.Propose(s.Rand, s.now, mls.ProposeParams{Leaf: leaf, AAD: aad,
			Proposal: appDataUpdate(mls.ComponentParticipantList, update.Marshal())})
		if err != nil {
			return nil, nil, fmt.Errorf("propose that %s leaves room %s: %w", user, s.room.head.ID, err)
		}
		s.fx.changes = append(s.fx.changes, changes)
		messages, refs = append(messages, wire.NewMessage(message)), append(refs, ref)
	}
	message, ref, changes, err := g.ProposeSelfRemove(s.Rand, s.now, leaf, aad)
	if err != nil {
		return nil, nil, fmt.Errorf("propose that %s leaves room %s: %w", user, s.room.head.ID, err)
	}
	s.fx.changes = append(s.fx.changes, changes)
	return append(messages, wire.NewMessage(message)), append(refs, ref), nil
}

// leaveAnswered: the hub's word on the proposals by which a user leaves. Once taken they are committed by whoever is
// quickest; if nobody does for a while, another client of ours commits them.
func (s *step) leaveAnswered(user string, taken bool) error {
	v := s.room
	for n := range v.intents {
		i := &v.intents[n]
		if i.Kind != intentLeave || i.Target != user || i.State != store.IntentAsking {
			continue
		}
		if taken {
			v.st.Proposed = nil
			s.closeIntents(i.Seq)
			s.later(timerCommit, s.now.Add(commitAfter).UnixMilli())
			return nil
		}
		// The hub does not let them leave: the user stays a participant, without a place in Matrix.
		s.closeIntents(i.Seq)
		s.Log.Warn().Stringer("room", v.head.ID).Msg("the hub did not let a user leave")
		return nil
	}
	return nil
}

// reopenLeave tries again in the present epoch.
func (s *step) reopenLeave(user string) {
	for n := range s.room.intents {
		i := &s.room.intents[n]
		if i.Kind == intentLeave && i.Target == user && i.State == store.IntentAsking {
			s.reopenIntents([]int64{i.Seq}, 10)
			return
		}
	}
}
