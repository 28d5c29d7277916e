package content

import (
	"bytes"
	"fmt"
)

// earliestMS is before the first publication of the format, 2022-01-01, in milliseconds since 1970.
const earliestMS = 1640995200000

// Envelope is what MLS and the hub say about a message from outside, to compare it with.
type Envelope struct {
	// SenderURI is the user URI of the sending leaf, as it stands in the participant list.
	SenderURI string
	// RoomURI is the URI of the room, as it stands in the room metadata.
	RoomURI string
	// AcceptedMS is when the hub accepted the message, in milliseconds since 1970.
	AcceptedMS uint64
	// CreatedMS is when the room was created, in milliseconds since 1970; 0 when not known.
	CreatedMS uint64
	// LatestMS is the latest AcceptedMS that is believed, in milliseconds since 1970: some minutes after now.
	// 0 believes the hub, for deployments that do not want to depend on their own clock.
	LatestMS uint64
}

// Received is a message that passed [Receive].
type Received struct {
	Message *Message
	// Octets are the exact octets of the content, a copy.
	Octets []byte
	// ID is the message id; OldID is its form in draft-ietf-mimi-content-07 and earlier, for matching only.
	ID, OldID MessageID
	// Named tells whether the message names its sender and its room itself, which franking needs.
	Named bool
}

// Receive decodes the content of a message from outside, makes the checks of draft-ietf-mimi-content-08
// (General handling) that need no memory of other messages, and computes its ids. Left to the caller: whether
// the sender is a member, and whether the id was seen before.
//
// The expiration is measured from the hub's acceptance, not from a clock of ours.
func Receive(octets []byte, env Envelope) (*Received, error) {
	m, err := Unmarshal(octets)
	if err != nil {
		return nil, err
	}
	if err := m.checkEnvelope(env); err != nil {
		return nil, fmt.Errorf("receiving a message: %w", err)
	}
	r := &Received{Message: m, Octets: bytes.Clone(octets)}
	if r.ID, err = ID(env.SenderURI, env.RoomURI, r.Octets, m.Salt); err != nil {
		return nil, err
	}
	r.OldID = OldID(env.SenderURI, env.RoomURI, r.Octets, m.Salt)
	_, sender := m.Extensions[KeySenderURI]
	_, room := m.Extensions[KeyRoomURI]
	r.Named = sender && room
	return r, nil
}

func (m *Message) checkEnvelope(env Envelope) error {
	for key, want := range map[Key]string{KeySenderURI: env.SenderURI, KeyRoomURI: env.RoomURI} {
		if have, there := m.Extensions.Text(key); there && have != want {
			return discard("extension %v says %.200q, but it came as %.200q", key, have, want)
		}
	}
	switch {
	case env.AcceptedMS < earliestMS:
		return discard("accepted at %d ms, before the format existed", env.AcceptedMS)
	case env.AcceptedMS < env.CreatedMS:
		return discard("accepted at %d ms, before the room was created", env.AcceptedMS)
	case env.LatestMS != 0 && env.AcceptedMS > env.LatestMS:
		return discard("accepted at %d ms, in the future", env.AcceptedMS)
	case env.AcceptedMS > maxSafeInteger:
		return discard("accepted at %d ms, beyond all dates", env.AcceptedMS)
	}
	return m.Expires.checkAt(int64(env.AcceptedMS / 1000))
}
