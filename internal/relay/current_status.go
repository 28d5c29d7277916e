package relay

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// statusLate is how far the time of a status may be from ours, in milliseconds.
const statusLate = 120_000

// sealTyping makes messages of who is typing.
func (r *Relay) sealTyping(ctx context.Context) {
	for room, users := range r.current.typed(r.Clock().UnixMilli()) {
		rid, err := r.Store.RoomIDByName(ctx, store.NameMatrix, string(room))
		if err != nil {
			continue
		}
		_, err = r.runStep(ctx, rid, nil, store.Settle{}, func(s *step) error {
			for _, mxid := range sortedKeys(users) {
				s.sealStatus(mxid, &wire.Status{Kind: wire.StatusTyping, TypingFor: uint32(users[mxid].Milliseconds())}, maxTypingRoom, nil)
			}
			return nil
		})
		if err != nil {
			r.Log.Debug().Err(err).Stringer("room", rid).Msg("typing was not told")
		}
	}
}

// maxRenamedRooms bounds the rooms in which a new name is told at once; in others it is seen within a day.
const maxRenamedRooms = 100

// sealProfiles makes messages of profiles that changed.
func (r *Relay) sealProfiles(ctx context.Context) {
	for _, mxid := range r.current.takeRenamed() {
		if r.NameOf == nil {
			return
		}
		p, err := r.profileOf(ctx, mxid)
		if err != nil || !r.current.changed(mxid, p) {
			continue
		}
		rows, err := r.Store.RoomsOf(ctx, mxid)
		if err != nil {
			continue
		}
		for n, m := range rows {
			if n == maxRenamedRooms {
				break
			}
			if m.Membership != string(event.Join) {
				continue
			}
			_, err = r.runStep(ctx, m.Room, nil, store.Settle{}, func(s *step) error {
				s.sealStatus(mxid, &wire.Status{Kind: wire.StatusProfile, Name: p.Name, Avatar: p.Avatar}, s.cfg.MaxExport, nil)
				return nil
			})
			if err != nil {
				r.Log.Debug().Err(err).Stringer("room", m.Room).Msg("a profile was not told")
			}
		}
	}
}

// sealStatus signs and encrypts the status of a user of ours, and lets it go to the hub, or as the hub to the followers: those
// that share the extension. It writes nothing. Where told is not nil, providers in it are left out, and who gets the status is
// put into it.
func (s *step) sealStatus(mxid string, status *wire.Status, largest int, told map[string]bool) {
	v := s.room
	user := s.actorOf(mxid)
	leaf, ok := v.ownLeaf(user)
	if !ok || v.head.State != stateActive || len(v.policy.Participants) > largest || !v.members.joined(mxid) {
		return
	}
	to := slices.DeleteFunc(s.statusTo(""), func(d string) bool { return told[d] })
	if len(to) == 0 {
		return
	}
	_, client, err := s.clientOfURI(s.ctx, user)
	if err != nil {
		return
	}
	key, err := s.statusKey()
	if err != nil {
		return
	}
	status.Time = uint64(s.nowMS())
	m, err := wire.NewStatusMessage(s.Rand, v.uri(), v.group.Epoch(), leaf, client.Key, key, status)
	if err != nil {
		s.Log.Warn().Err(err).Stringer("room", v.head.ID).Msg("a status was not sealed")
		return
	}
	s.sendStatus(to, user, status.Kind, m.Marshal())
	if told != nil {
		for _, d := range to {
			told[d] = true
		}
	}
}

// statusTo lists the providers that get a status: of the room's others those that share the extension, but the one that it came
// from.
func (s *step) statusTo(except string) []string {
	v := s.room
	if v.head.Kind == store.RoomFollower {
		if s.mayShare(v.head.Hub, verbStatus) {
			return []string{v.head.Hub}
		}
		return nil
	}
	return slices.DeleteFunc(slices.Clone(v.followers(s.Naming.Domain)), func(d string) bool { return d == except || !s.mayShare(d, verbStatus) })
}

// sendStatus lets the bytes of a status go out.
func (s *step) sendStatus(to []string, user string, kind wire.StatusKind, body []byte) {
	uri := s.room.head.URI
	for _, domain := range to {
		s.current.put(currentKey{domain, uri, strconv.Itoa(int(kind)) + user}, currentItem{untilMS: s.now.Add(typingFor).UnixMilli(), do: func(ctx context.Context) error {
			_, err := s.Requester.Request(ctx, domain, verbStatus, uri, body)
			return err
		}})
	}
}

// statusKey is the key for status in this epoch of the room.
func (s *step) statusKey() (mls.Secret, error) {
	return s.room.group.ExportSecret(wire.StatusLabel, []byte(s.room.uri()), wire.StatusKeySize)
}

// statusesAnHour bounds the statuses that a provider sends about one room in an hour.
const statusesAnHour = 20_000

// Status takes the current status of a user of a room: as the hub from the user's provider, and passes it on; as a follower from
// the hub. What is of another epoch, late or overtaken has no effect.
func (r *Relay) Status(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	m, err := wire.UnmarshalStatusMessage(body)
	if err != nil {
		return Reply{}, err
	}
	head, err := r.Store.RoomByName(ctx, store.NameMIMI, path.Key())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Reply{}, ErrNotFound
	case err != nil:
		return Reply{}, err
	case head.Kind == store.RoomFollower && head.Hub != peer:
		return Reply{}, ErrNotFound
	}
	// By rooms that are there: a peer that makes names up must not use up what there is for the others.
	if !r.statuses.take(peer+" "+head.ID.String(), r.Clock()) {
		return Reply{}, ErrBusy
	}
	_, err = r.runStep(ctx, head.ID, nil, store.Settle{}, func(s *step) error { return s.onCurrent(peer, m, body) })
	return Reply{}, err
}

func (s *step) onCurrent(peer string, m *wire.StatusMessage, body []byte) error {
	v := s.room
	if v.head.Kind == store.RoomHub {
		if err := s.outsider(peer); err != nil {
			return err
		}
	}
	if v.group == nil || m.Epoch != v.group.Epoch() {
		return nil // it is not worth waiting for the epoch
	}
	member, ok := v.group.Member(m.Leaf)
	if !ok || member.Own {
		return refusal{ErrForbidden}
	}
	who, ok := v.leaves.Who(m.Leaf)
	if !ok || v.head.Kind == store.RoomHub && who.Domain() != peer || s.own(string(who.User)) {
		return refusal{ErrForbidden}
	}
	key, err := s.statusKey()
	if err != nil {
		return err
	}
	status, err := m.Open(v.uri(), v.group.Suite(), member.Leaf.SignatureKey, key)
	if err != nil {
		return refusal{err}
	}
	user := s.listedURIOf(who.User)
	if user == "" || v.policy.RoleIndex(user) <= policy.RoleBanned {
		return nil
	}
	if late := s.nowMS() - int64(status.Time); late > statusLate || late < -statusLate ||
		!s.current.fresh(currentKey{"", v.head.URI, strconv.Itoa(int(status.Kind)) + user}, status.Time) {
		return nil
	}
	if v.head.Kind == store.RoomHub {
		s.sendStatus(s.statusTo(peer), user, status.Kind, body)
	}
	return s.placeStatus(user, status)
}

// placeStatus shows a status in Matrix.
func (s *step) placeStatus(user string, status *wire.Status) error {
	switch status.Kind {
	case wire.StatusProfile:
		return s.placeProfile(&wire.Profile{User: wire.IdentifierURI(user), Time: status.Time, Name: status.Name, Avatar: status.Avatar})
	case wire.StatusPresence:
		s.placePresence(user, status)
	case wire.StatusTyping:
		m, ok := s.room.members.ofURI(user)
		if !ok || !m.Ghost || m.Membership != string(event.Join) || s.ShowTyping == nil || s.room.head.MatrixRoomID == "" {
			return nil
		}
		room, ghost := id.RoomID(s.room.head.MatrixRoomID), id.UserID(m.MXID)
		lasts := min(time.Duration(status.TypingFor)*time.Millisecond, typingFor)
		s.current.put(currentKey{"", string(room), "typing " + m.MXID}, currentItem{untilMS: s.now.Add(typingFor).UnixMilli(), do: func(ctx context.Context) error {
			return s.ShowTyping(ctx, room, ghost, lasts)
		}})
	}
	return nil
}
