package relay

import (
	"fmt"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/follower"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// compareGap is how long the hub is not asked again whether it has the same group, in milliseconds.
const compareGap = 60_000

// onRestored: our database was put back to an earlier state (T17). As the hub the keys are renewed at once, which also shows
// the followers that the room has gone back. A follower asks whether the room has gone on: what others say before it has
// joined anew cannot be read.
func (s *step) onRestored() error {
	v := s.room
	if v.group == nil || !v.head.Refresh {
		return nil
	}
	if v.head.Kind == store.RoomHub {
		s.refreshKeys()
		return nil
	}
	v.st.Asked, v.st.Compared, v.st.CatchUp = nil, 0, 0
	s.joinWaits()
	return s.compareGroup()
}

// compareGroup asks the hub for the group's state, to see whether it is ours.
func (s *step) compareGroup() error {
	v := s.room
	user := s.someUser()
	if v.head.Kind != store.RoomFollower || v.group == nil || v.head.State != stateActive || user == "" || v.st.Asked != nil ||
		s.nowMS()-v.st.Compared < compareGap {
		return nil
	}
	v.st.Compared = s.nowMS()
	return s.askGroupInfo(refCompare, user, nil)
}

// inStep tells whether a group is the one that we hold, in the same epoch.
func (s *step) inStep(c *mls.GroupContext) bool {
	g := s.room.group
	return g != nil && g.Epoch() == c.Epoch && string(g.ConfirmedTranscriptHash()) == string(c.ConfirmedTranscriptHash)
}

// catchUpFor is how long the hub's commits are waited for after a restore: after a failover that lost nothing they are on their
// way, with messages that nobody can read who joins anew. Our question to the hub ends its back-off.
const catchUpFor = 5 * time.Second

// mayCatchUp tells whether the hub's commits are still to be waited for. Afterwards the groups are compared again.
func (s *step) mayCatchUp() bool {
	v := s.room
	if v.st.CatchUp == 0 {
		v.st.CatchUp = s.now.Add(catchUpFor).UnixMilli()
		s.later(timerCatchUp, v.st.CatchUp)
	}
	return s.nowMS() < v.st.CatchUp
}

// onCatchUp compares the groups again.
func (s *step) onCatchUp() error {
	s.room.st.Compared = 0
	return s.compareGroup()
}

// onCompared judges the hub's state. When it is ahead, its commits are on their way, unless our database was restored and
// they came before. When it is behind, or has another history, its own database was restored.
func (s *step) onCompared(c *mls.GroupContext) error {
	v := s.room
	if v.group == nil || v.head.State != stateActive {
		return nil
	}
	if v.pending != nil {
		switch fate := s.pendingView().OnGroupInfo(c); fate {
		case follower.Merge, follower.Lost:
			return s.settlePending(fate, "")
		}
	}
	if s.inStep(c) || c.Epoch > v.group.Epoch() && (!v.head.Refresh || s.mayCatchUp()) {
		return nil
	}
	if v.pending != nil {
		if err := s.dropPending(true, ""); err != nil {
			return err
		}
	}
	return s.resync(fmt.Sprintf("the hub is in epoch %d, we are in %d", c.Epoch, v.group.Epoch()))
}
