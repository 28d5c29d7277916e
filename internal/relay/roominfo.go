package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// RoomInfo is what can be told of a room.
type RoomInfo struct {
	ID           store.RoomID
	Kind         store.RoomKind
	State        string
	URI          string
	MatrixRoomID string
	Hub          string
	Epoch        int64
	Name         string
	Participants int
	// Awaited are the MIMI users without whose providers' answers, or whose consent, a room that is being made is not made.
	Awaited []string
	// Chat tells that a room that is being made is a chat that the bot makes: who asked for it gives it up by leaving.
	Chat bool
}

// StateUnmade is the RoomInfo.State of a chat whose making came to nothing.
const StateUnmade = "unmade"

// RoomOf describes the room that a Matrix room is joined to; ErrNoRoom when it is not known.
func (r *Relay) RoomOf(ctx context.Context, roomID string) (RoomInfo, error) {
	head, err := r.Store.RoomByName(ctx, store.NameMatrix, roomID)
	if errors.Is(err, store.ErrNotFound) {
		return RoomInfo{}, ErrNoRoom
	}
	if err != nil {
		return RoomInfo{}, err
	}
	return r.info(ctx, head)
}

// RoomsOf lists the rooms of a Matrix user that are joined to MIMI.
func (r *Relay) RoomsOf(ctx context.Context, mxid string) ([]RoomInfo, error) {
	rows, err := r.Store.RoomsOf(ctx, mxid)
	if err != nil {
		return nil, err
	}
	var out []RoomInfo
	for _, m := range rows {
		if m.Membership != string(event.Join) && m.Membership != string(event.Invite) {
			continue
		}
		head, err := r.Store.Room(ctx, m.Room)
		if err != nil {
			return nil, err
		}
		if head.Kind != store.RoomHub && head.Kind != store.RoomFollower {
			continue
		}
		i, err := r.info(ctx, head)
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	return out, nil
}

// AllRooms lists at most limit rooms of the bridge that are joined to MIMI, after the one given, in the order in which the store keeps them.
func (r *Relay) AllRooms(ctx context.Context, after store.RoomID, limit int) ([]RoomInfo, error) {
	const batch = 200
	var out []RoomInfo
	for {
		heads, err := r.Store.Rooms(ctx, after, batch)
		if err != nil {
			return nil, err
		}
		for _, head := range heads {
			if head.Kind != store.RoomHub && head.Kind != store.RoomFollower {
				continue
			}
			i, err := r.info(ctx, head)
			if err != nil {
				return nil, err
			}
			if out = append(out, i); len(out) == limit {
				return out, nil
			}
		}
		if len(heads) < batch {
			return out, nil
		}
		after = heads[batch-1].ID
	}
}

func (r *Relay) info(ctx context.Context, head store.Room) (RoomInfo, error) {
	i := RoomInfo{ID: head.ID, Kind: head.Kind, State: head.State, URI: head.URI, MatrixRoomID: head.MatrixRoomID, Hub: head.Hub, Epoch: head.Epoch}
	members, err := r.Store.Members(ctx, head.ID)
	if err != nil {
		return i, err
	}
	for _, m := range members {
		if m.Listed {
			i.Participants++
		}
	}
	if head.Kind == store.RoomNone {
		i.URI = "" // kept for the next time that the room is joined to MIMI
	}
	if head.State == stateOpening {
		if err := r.making(ctx, &i); err != nil {
			return i, err
		}
	}
	raw, err := r.Store.RoomStateValue(ctx, head.ID, keyMatrix)
	if err != nil || raw == "" {
		return i, err
	}
	var m matrixState
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		return i, err
	}
	i.Name = m.Name
	return i, nil
}

// making says how far the making of a room is.
func (r *Relay) making(ctx context.Context, i *RoomInfo) error {
	raw, err := r.Store.RoomStateValue(ctx, i.ID, keyState)
	if err != nil {
		return err
	}
	var st roomState
	if raw != "" {
		if err := json.Unmarshal([]byte(raw), &st); err != nil {
			return fmt.Errorf("read the state of room %s: %w", i.ID, err)
		}
	}
	if st.Opening == nil {
		i.State = StateUnmade
		return nil
	}
	i.Chat = st.Opening.Set != nil
	intents, err := r.Store.Intents(ctx, i.ID)
	if err != nil {
		return err
	}
	for n := range intents {
		d, err := dataOf(&intents[n])
		if err != nil {
			return err
		}
		if intents[n].Kind == intentAdd && len(d.Packages) == 0 {
			i.Awaited = append(i.Awaited, intents[n].Target)
		}
	}
	return nil
}
