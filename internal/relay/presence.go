package relay

import (
	"context"
	"strconv"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Presence goes the way of other current status, where the operator wants it.

// presentUser is the presence of a user of ours.
type presentUser struct {
	now, told event.Presence
	toldMS    int64
}

// presenceEvery is the least time between two presences of a user that are told: the newest counts.
const presenceEvery = 30 * time.Second

var presences = map[string]wire.Presence{"offline": wire.PresenceOffline, "unavailable": wire.PresenceUnavailable, "online": wire.PresenceOnline}

// setPresence takes the presence of a user.
func (r *Relay) setPresence(p *event.Presence) {
	if p == nil || r.ShowPresence == nil || !r.exported(string(p.User)) {
		return
	}
	c := r.current
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.present[string(p.User)]
	if u == nil {
		if len(c.present) >= maxSeen {
			clear(c.present)
		}
		u = &presentUser{}
		c.present[string(p.User)] = u
	}
	u.now = *p
	c.wake()
}

// takePresent lists the presences that are to be told now.
func (c *current) takePresent(nowMS int64) (out []event.Presence) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, mxid := range sortedKeys(c.present) {
		u := c.present[mxid]
		if u.now == u.told || nowMS-u.toldMS < presenceEvery.Milliseconds() {
			continue
		}
		u.told, u.toldMS = u.now, nowMS
		out = append(out, u.now)
	}
	return out
}

// sealPresence makes messages of presences: one for each provider that a user shares a room with.
func (r *Relay) sealPresence(ctx context.Context) {
	for _, p := range r.current.takePresent(r.Clock().UnixMilli()) {
		rows, err := r.Store.RoomsOf(ctx, string(p.User))
		if err != nil {
			continue
		}
		told := map[string]bool{}
		for n, m := range rows {
			if n == maxRenamedRooms {
				break
			}
			if m.Membership != string(event.Join) {
				continue
			}
			_, err := r.runStep(ctx, m.Room, nil, store.Settle{}, func(s *step) error {
				status := &wire.Status{Kind: wire.StatusPresence, Presence: presences[p.State], Text: cutBytes(p.Text, wire.MaxStatusText)}
				s.sealStatus(string(p.User), status, maxTypingRoom, told)
				return nil
			})
			if err != nil {
				r.Log.Debug().Err(err).Stringer("room", m.Room).Msg("presence was not told")
			}
		}
	}
}

// placePresence shows the presence of somebody in Matrix.
func (s *step) placePresence(user string, status *wire.Status) {
	m, ok := s.room.members.ofURI(user)
	if !ok || !m.Ghost || m.Membership != string(event.Join) || s.ShowPresence == nil {
		return
	}
	state, ghost, text := "offline", id.UserID(m.MXID), cutRunes(cleanName(status.Text), 200)
	for name, p := range presences {
		if p == status.Presence {
			state = name
		}
	}
	s.current.put(currentKey{"", "", "presence " + strconv.Quote(m.MXID)}, currentItem{untilMS: s.now.Add(presenceEvery).UnixMilli(), do: func(ctx context.Context) error {
		return s.ShowPresence(ctx, ghost, state, text)
	}})
}
