package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/hub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// slot is the place of a room in this process: one worker at a time, and what it remembers.
type slot struct {
	mu   sync.Mutex
	mem  *roomView // nil: to be loaded
	used int64     // Relay.uses when it was asked for last
	wary bool      // see step.wary
	// members is how many the room had when it was last remembered. Relay.mu guards it.
	members int
}

// roomView is a room as a step sees and changes it: a copy of what is stored under head.Version. After a step that was
// not committed it is thrown away.
type roomView struct {
	head   store.Room
	unread bool          // it is as this process remembers it: the database was not asked
	group  *mls.Group    // nil while there is none
	judge  *judge        // of the credentials in it
	mlsc   mls.Config    // of the group
	policy *policy.State // knows how many clients each participant has
	leaves room.Leaves
	// providers is what followers remembers, nil when it was not asked yet.
	providers []string
	pending   *store.PendingCommit
	intents   []store.Intent
	members   *memberTable
	st        roomState
	matrix    matrixState
	stored    map[string]string // room_state rows as stored
	// renewed says when the keys of own leaves were last renewed, in seconds since 1970, by user URI.
	renewed        map[string]int64
	renewedChanged bool
	// links are the join links of a hub room, oldest first.
	links        []joinLink
	linksChanged bool
}

// States of a room (store.Room.State).
const (
	statePlain    = ""         // kind none: nothing to do with MIMI yet
	stateOpening  = "opening"  // hub: the first MIMI user is invited, the group not made yet
	stateJoining  = "joining"  // follower: an external commit is under way, or a Welcome is awaited
	stateActive   = "active"   // the group stands
	stateDesynced = "desynced" // follower: the group must be joined anew
	stateClosed   = "closed"   // follower: no own client is in the group any more
)

// Keys of room_state rows.
const (
	keyState   = "relay"
	keyMatrix  = "matrix"
	keyRenewed = "renewed"
	keyLinks   = "links"
)

// slot returns the place of a room and bounds how many rooms are remembered.
func (r *Relay) slot(id store.RoomID) *slot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slots[id]
	known := s != nil
	if !known {
		s = &slot{}
		r.slots[id] = s
	}
	r.uses++
	s.used = r.uses
	if !known {
		r.evict()
	}
	return s
}

// remember keeps a room after a step in its place, which the caller has for itself, and bounds how much is remembered.
func (r *Relay) remember(s *slot, view *roomView) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slots[view.head.ID] != s {
		return // forgotten meanwhile
	}
	s.mem = view
	n := len(view.members.byMXID)
	if n == s.members {
		return
	}
	r.members += n - s.members
	s.members = n
	r.evict()
}

// evict forgets the rooms that were not used for the longest time while there are too many, or too many members. A room in use is
// not touched.
func (r *Relay) evict() {
	for len(r.slots) > r.cfg.CachedRooms || r.members > r.cfg.CachedMembers {
		var oldest store.RoomID
		at := r.uses
		for id, s := range r.slots {
			if s.used < at {
				oldest, at = id, s.used
			}
		}
		s := r.slots[oldest]
		if s == nil || !s.mu.TryLock() {
			return
		}
		delete(r.slots, oldest)
		r.members -= s.members
		s.mem = nil
		s.mu.Unlock()
	}
}

// Forget drops everything that is remembered of rooms, as a restart does. Nothing depends on it but speed.
func (r *Relay) Forget() {
	r.mu.Lock()
	clear(r.hubs)
	slots := make([]*slot, 0, len(r.slots))
	for _, s := range r.slots {
		slots = append(slots, s)
	}
	r.mu.Unlock()
	for _, s := range slots {
		s.mu.Lock()
		s.mem = nil
		s.mu.Unlock()
	}
	r.clients.forget()
}

// load returns the room under its present version, from memory where that is still right.
func (r *Relay) load(ctx context.Context, s *slot, id store.RoomID) (*roomView, error) {
	if s.mem != nil && r.alone(id) {
		s.mem.unread = true // whether somebody wrote the room meanwhile shows when the step is written, or in unchanged
		return s.mem, nil
	}
	head, err := r.Store.Room(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("load room %s: %w", id, err)
	}
	if s.mem != nil && s.mem.head.Version == head.Version {
		s.mem.head, s.mem.unread = head, false
		return s.mem, nil
	}
	s.mem = nil
	v := &roomView{head: head}
	r.newJudge(v)
	if err := r.loadRows(ctx, v); err != nil {
		return nil, err
	}
	if err := r.loadGroup(ctx, v); err != nil {
		return nil, err
	}
	// A step of another process between these reads shows in the version: what was read is then torn.
	again, err := r.Store.Room(ctx, id)
	if err != nil {
		return nil, err
	}
	if again.Version != head.Version {
		return nil, fmt.Errorf("load room %s: %w", id, store.ErrConflict)
	}
	return v, nil
}

// alone tells whether nobody else is expected to write a room: this process is the only one, or holds the lease on its shard.
func (r *Relay) alone(id store.RoomID) bool {
	if r.Store.Alone() {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Clock().Before(r.leased[id.Shard()])
}

// unchanged returns ErrConflict when a room that was taken from memory moved on: what was decided about it without writing
// anything is then worth nothing.
func (r *Relay) unchanged(ctx context.Context, v *roomView, head store.Room) error {
	if !v.unread || r.Store.Alone() {
		return nil
	}
	now, err := r.Store.Room(ctx, head.ID)
	if err == nil && now.Version != head.Version {
		err = fmt.Errorf("room %s moved on: %w", head.ID, store.ErrConflict)
	}
	return err
}

func (r *Relay) loadRows(ctx context.Context, v *roomView) error {
	id := v.head.ID
	members, err := r.Store.Members(ctx, id)
	if err != nil {
		return err
	}
	v.members = newMemberTable(members)
	if v.stored, err = r.Store.RoomState(ctx, id); err != nil {
		return err
	}
	for key, into := range map[string]any{keyState: &v.st, keyMatrix: &v.matrix, keyRenewed: &v.renewed, keyLinks: &v.links} {
		if s := v.stored[key]; s != "" {
			if err := json.Unmarshal([]byte(s), into); err != nil {
				return fmt.Errorf("read the %s state of room %s: %w", key, id, err)
			}
		}
	}
	if v.intents, err = r.Store.Intents(ctx, id); err != nil {
		return err
	}
	p, err := r.Store.PendingCommit(ctx, id)
	switch {
	case err == nil:
		v.pending = &p
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	return nil
}

func (r *Relay) loadGroup(ctx context.Context, v *roomView) error {
	pieces, err := r.Store.Pieces(ctx, v.head.ID)
	if err != nil || len(pieces) == 0 {
		return err
	}
	list := make([]mls.Piece, len(pieces))
	for i, p := range pieces {
		list[i] = mls.Piece{Key: mls.PieceKey(p.Key), Data: p.Data}
	}
	g, err := mls.LoadGroup(v.mlsc, list)
	if err != nil {
		return fmt.Errorf("load the group of room %s: %w", v.head.ID, err)
	}
	v.setGroup(g)
	return v.readPolicy()
}

// setGroup puts a group, or its next epoch, in place.
func (v *roomView) setGroup(g *mls.Group) {
	v.group = g
	if g == nil {
		v.policy, v.leaves = nil, room.Leaves{}
		return
	}
	v.leaves = room.LeavesOf(g.Members())
}

// readPolicy reads the room's policy from the group's dictionary.
func (v *roomView) readPolicy() error {
	state, err := policyState(v.group.Dictionary())
	if err != nil {
		return fmt.Errorf("read the policy of room %s: %w", v.head.ID, err)
	}
	clients := make(map[string]int, len(state.Participants))
	for _, p := range state.Participants {
		if n := len(v.leaves.Of(wire.IdentifierURI(p.User))); n > 0 {
			clients[p.User] = n
		}
	}
	v.policy = state.WithClients(clients)
	v.providers = nil
	return nil
}

// followers are the providers that get what we fan out as the hub; own is our domain. They change with the epoch only.
func (v *roomView) followers(own string) []string {
	if v.providers == nil {
		v.providers = append([]string{}, hub.Providers(v.policy.Participants, v.leaves, own)...)
	}
	return v.providers
}

// uri returns the room's URI.
func (v *roomView) uri() wire.IdentifierURI { return wire.IdentifierURI(v.head.URI) }

// ownLeaf returns the own leaf of a user, false when the user has none.
func (v *roomView) ownLeaf(user string) (mls.LeafIndex, bool) {
	if v.group == nil {
		return 0, false
	}
	for _, leaf := range v.leaves.Of(wire.IdentifierURI(user)) {
		if m, ok := v.group.Member(leaf); ok && m.Own {
			return leaf, true
		}
	}
	return 0, false
}
