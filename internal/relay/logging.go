package relay

import (
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

const whyLogging = "its policy forbids logging, which a bridge to Matrix cannot promise"

// whyUnlogged is what people hear who write in a room that ours leave, or left, because it forbids logging.
const whyUnlogged = "the room forbids logging, and this bridge has left it"

// logsTooMuch tells whether a room demands of its members what a bridge cannot promise.
func (s *step) logsTooMuch(state *policy.State) bool {
	return state.Logging.Logging == policy.Forbidden && !s.cfg.AllowLoggingForbidden
}

// leaveUnlogged lets ours leave a room of another hub that has come to forbid logging. It is asked after every change of the room and
// at every comparison: a leave that the hub did not take, or that nobody committed, is tried again, and an operator who forbids it
// later is heard as well. The people keep the portal to read.
func (s *step) leaveUnlogged() {
	v := s.room
	if v.head.Kind != store.RoomFollower || v.group == nil {
		return
	}
	if !s.logsTooMuch(v.policy) {
		v.st.Unlogged = false
		return
	}
	if !v.st.Unlogged {
		v.st.Unlogged = true
		s.notice("This room forbids logging from now on, which a bridge to Matrix cannot promise. Everybody of this bridge leaves it: what is written here is not carried over any more. You can go on reading here, or leave.", "")
		s.Log.Warn().Stringer("room", v.head.ID).Msg("ours leave a room that has come to forbid logging")
		s.Alert("logging-forbidden", "ours leave the room "+v.head.URI+": "+whyLogging)
	}
	for _, leaf := range v.group.OwnLeaves() {
		id, ok := v.leaves.Who(leaf)
		if user := s.listedURI(id.User); ok && !s.wished(user, intentLeave) && !s.leaves(uint32(leaf)) {
			s.wish(intentLeave, user, user, intentData{Reason: "logging"})
		}
	}
}
