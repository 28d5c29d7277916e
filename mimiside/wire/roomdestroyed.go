package wire

import "github.com/matrix-mimi/bridge/internal/tlspl"

// RoomDestroyed tells a follower that a room has ended (docs/extensions.md; draft-mahy-mimi-transport-design-reqs-00 §5):
//
//	struct { IdentifierUri roomId; DestroyReason reason; uint64 timestamp; } RoomDestroyed;
type RoomDestroyed struct {
	RoomID    IdentifierURI
	Reason    DestroyReason
	Timestamp uint64 // when it ended, milliseconds since 1970
}

// DestroyReason is why a room has ended.
type DestroyReason uint8

// Reasons. Others are taken as DestroyedUnspecified.
const (
	DestroyedUnspecified  DestroyReason = 0
	DestroyedByAdmin      DestroyReason = 1 // somebody who may ended it
	DestroyedDisconnected DestroyReason = 2 // it goes on at the hub, without other providers
)

// Marshal returns the encoding.
func (d *RoomDestroyed) Marshal() []byte {
	return tlspl.AppendUint64(append(d.RoomID.append(nil), byte(d.Reason)), d.Timestamp)
}

// ReceivedRoomDestroyed is a message as it came, before anything was checked but its encoding.
type ReceivedRoomDestroyed struct{ message RoomDestroyed }

// UnmarshalRoomDestroyed decodes a message.
func UnmarshalRoomDestroyed(b []byte) (*ReceivedRoomDestroyed, error) {
	r := tlspl.NewReader(b)
	d := RoomDestroyed{RoomID: readURI(r), Reason: DestroyReason(r.Uint8()), Timestamp: r.Uint64()}
	if err := finish("RoomDestroyed", r); err != nil {
		return nil, err
	}
	return &ReceivedRoomDestroyed{d}, nil
}

// Marshal returns the bytes that were decoded.
func (d *ReceivedRoomDestroyed) Marshal() []byte { return d.message.Marshal() }

// Check demands that the room is of the provider that says so, its hub.
func (d *ReceivedRoomDestroyed) Check(peer string) (*RoomDestroyed, error) {
	if err := checkURIOf("roomId", d.message.RoomID, peer, KindRoom); err != nil {
		return nil, err
	}
	return &d.message, nil
}
