package relay

import (
	"context"
	"errors"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// endRoom ends the MIMI side of a hub room: all users of other providers are removed by a commit, which is the draft's way, and
// followers that know the extension are told before it that the room has ended, so that their people keep the portal to read.
func (s *step) endRoom(reason wire.DestroyReason, d intentData) {
	v := s.room
	told := wire.RoomDestroyed{RoomID: v.uri(), Reason: reason, Timestamp: uint64(s.nowMS())}
	for _, f := range v.followers(s.Naming.Domain) {
		if s.mayShare(f, verbRoomDestroyed) {
			ask(s.mimi(f, verbRoomDestroyed, told.Marshal()), refTold, 0)
		}
	}
	for _, p := range v.policy.Participants {
		if !s.own(p.User) {
			s.wish(intentRemove, s.bot, p.User, d)
		}
	}
}

// RoomDestroyed stores the word of a hub that a room of it has ended (docs/extensions.md). A room that is not known is none of
// ours: that is acknowledged, too. The same word again changes nothing. ErrBusy when the hub has said too much in this hour.
func (r *Relay) RoomDestroyed(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	received, err := wire.UnmarshalRoomDestroyed(body)
	if err != nil {
		return Reply{}, err
	}
	d, err := received.Check(peer)
	if err != nil {
		return Reply{}, err
	}
	if !path.Same(d.RoomID) {
		return Reply{}, ErrForbidden
	}
	head, err := r.Store.RoomByName(ctx, store.NameMIMI, d.RoomID.Key())
	if errors.Is(err, store.ErrNotFound) || err == nil && (head.Kind != store.RoomFollower || head.Hub != peer) {
		return Reply{}, nil
	}
	if err != nil {
		return Reply{}, err
	}
	return r.takeWord(ctx, word{Room: head.ID, Peer: peer, Verb: verbRoomDestroyed, Path: path.Key(), Body: body}, func(tx *store.Tx) ([]store.NewInput, error) {
		return []store.NewInput{{Room: head.ID, Kind: inputEnded, Source: "hub", Peer: peer, Epoch: -1, Body: body, CreatedMS: r.Clock().UnixMilli()}}, nil
	})
}

// onEnded: the hub says that the room has ended. The ghosts leave, the group is forgotten, and our people keep the portal.
func (s *step) onEnded(body []byte) error {
	v := s.room
	received, err := wire.UnmarshalRoomDestroyed(body)
	if err != nil {
		return nil // checked when it came; a newer release may be stricter
	}
	d, err := received.Check(v.head.Hub)
	if err != nil || v.group == nil {
		return nil // told already, or nobody of ours was in it
	}
	why := "It has ended"
	switch d.Reason {
	case wire.DestroyedByAdmin:
		why = "It was ended by " + v.head.Hub
	case wire.DestroyedDisconnected:
		why = v.head.Hub + " does not share it with others any more"
	}
	s.notice("This conversation is over. "+why+": what is written here is not carried over any more. You can go on reading here, or leave.", "")
	for _, mxid := range sortedKeys(v.members.byMXID) {
		m := v.members.byMXID[mxid]
		m.Listed, m.Role = false, 0
		if m.Ghost && (m.Membership == string(event.Join) || m.Membership == string(event.Invite)) {
			s.matrix(event.LeaveRoom{Sender: userID(mxid), Reason: "the conversation is over"})
			m.Membership = string(event.Leave)
		}
		s.setMember(m)
	}
	v.st.Ended = true
	return s.closeRoom()
}
