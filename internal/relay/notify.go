package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Notify stores what the hub of a room fans out; it is durable when this returns (draft-ietf-mimi-protocol-06 §5.5).
func (r *Relay) Notify(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	f, err := readNotify(peer, path, body)
	if err != nil {
		return Reply{}, err
	}
	killpoint.Hit("K15")
	var inputs []store.NewInput
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		if inputs, err = r.notifyInputs(ctx, tx, peer, f); err != nil || len(inputs) == 0 {
			return err
		}
		_, err = tx.AddInputs(ctx, inputs)
		killpoint.Hit("K16")
		return err
	})
	if err != nil {
		return Reply{}, err
	}
	killpoint.Hit("K17")
	if len(inputs) > 0 {
		r.Wake(inputs[0].Room)
	}
	return Reply{Status: http.StatusCreated}, nil
}

// fanned is what a hub fans out in a room, checked.
type fanned struct {
	room     wire.IdentifierURI
	items    []wire.FanoutMessage
	welcomes [][]byte
}

func readNotify(peer string, room wire.IdentifierURI, body []byte) (*fanned, error) {
	if room.Domain() != peer {
		return nil, ErrForbidden
	}
	received, err := wire.UnmarshalNotify(body)
	if err != nil {
		return nil, err
	}
	items, err := received.Check()
	return &fanned{room, items, received.Welcomes()}, err
}

// notifyInputs makes inputs of what is fanned out in a room of ours; none in another one.
func (r *Relay) notifyInputs(ctx context.Context, tx *store.Tx, peer string, f *fanned) ([]store.NewInput, error) {
	room, ok, err := r.followerRoom(ctx, tx, peer, f.room, f.welcomes)
	if err != nil || !ok {
		return nil, err
	}
	if err := r.takesMore(ctx, tx, &room, f.items); err != nil {
		return nil, err
	}
	inputs := make([]store.NewInput, len(f.items))
	for i := range f.items {
		hash := f.items[i].Message.Hash()
		key := fmt.Sprintf("%x", hash[:])
		inputs[i] = store.NewInput{Room: room.ID, Kind: inputNotify, Source: key[:12], Peer: peer, Epoch: int64(f.items[i].Message.Epoch()),
			Body: f.items[i].Marshal(), CreatedMS: r.Clock().UnixMilli(), SeenKind: "notify", SeenKey: key}
	}
	return inputs, nil
}

// unreadEvery is after how many arrivals it is counted what a room has not worked off; largeFanout, in bytes, is counted always.
const (
	unreadEvery = 64
	largeFanout = 256 << 10
)

// takesMore tells whether a hub may send more into a room: ErrBusy when what it sent before and was not worked off is too much. It
// sends it again later.
func (r *Relay) takesMore(ctx context.Context, tx *store.Tx, room *store.Room, items []wire.FanoutMessage) error {
	size := 0
	for i := range items {
		size += len(items[i].Message.Raw)
	}
	if room.NextIn/unreadEvery == (room.NextIn+int64(len(items)))/unreadEvery && size < largeFanout {
		return nil
	}
	rows, bytes, err := tx.Unread(ctx, room.ID, room.Hub)
	if err == nil && (rows >= r.cfg.MaxUnread || bytes >= r.cfg.MaxUnreadBytes) {
		err = fmt.Errorf("room %s has %d items of %d bytes that are not worked off: %w", room.ID, rows, bytes, ErrBusy)
	}
	return err
}

// followerRoom finds the room that a fan-out is for. One that is not known is made when there is a Welcome for us in it;
// otherwise it is none of ours, and what comes is acknowledged and forgotten.
func (r *Relay) followerRoom(ctx context.Context, tx *store.Tx, peer string, uri wire.IdentifierURI, refs [][]byte) (store.Room, bool, error) {
	room, err := tx.RoomByName(ctx, store.NameMIMI, uri.Key())
	if err == nil {
		return room, room.Kind == store.RoomFollower && room.Hub == peer, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return room, false, err
	}
	if ours, err := tx.KeyPackageRefs(ctx, refs); err != nil || len(ours) == 0 {
		return room, false, err
	}
	room, err = r.newFollowerRoom(ctx, tx, peer, uri)
	return room, err == nil, err
}

func (r *Relay) newFollowerRoom(ctx context.Context, tx *store.Tx, hubDomain string, uri wire.IdentifierURI) (store.Room, error) {
	id, err := store.NewRoomID(r.Clock(), r.Rand)
	if err != nil {
		return store.Room{}, err
	}
	// The name is the lookup form; the octets stay as they came.
	room, _, err := tx.FindOrCreateRoom(ctx, store.NameMIMI, uri.Key(), store.Room{ID: id, Kind: store.RoomFollower, State: stateClosed,
		URI: uri.Key(), Hub: hubDomain, Epoch: -1, CreatedMS: r.Clock().UnixMilli()})
	return room, err
}
