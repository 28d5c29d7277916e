package follower

import (
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// ErrUnfranked says that a message cannot be proven to its hub later on: its hub, or its author, did not do what the
// draft demands for it.
var ErrUnfranked = errors.New("the message carries no proof")

// CheckFrank checks what the hub vouches for as a receiver does (draft-ietf-mimi-protocol-06 §5.4.1.3): the tag is of
// what was decrypted, and the hub's franking agent signed it for this sender, room and time. data is the whole
// application_data, salt that of the content; the content must have named sender and room itself.
func CheckFrank(g *mls.Group, hub string, item *wire.FanoutMessage, c wire.FrankingContext, salt, data []byte) error {
	if item.Frank == nil {
		return fmt.Errorf("%w: no frank", ErrUnfranked)
	}
	tag, ok := wire.FrankingTagOf(item.Message.AuthenticatedData())
	if !ok || tag != wire.NewFrankingTag(salt, data) {
		return fmt.Errorf("%w: its tag is of something else", ErrUnfranked)
	}
	raw, ok := g.Dictionary().Get(mls.ComponentFrankingAgent)
	if !ok {
		return fmt.Errorf("%w: the room has no franking agent", ErrUnfranked)
	}
	agent, err := wire.UnmarshalFrankingAgent(raw)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnfranked, err)
	}
	if !room.IsProvider(&agent.Credential, hub) {
		return fmt.Errorf("%w: the franking agent is not the hub", ErrUnfranked)
	}
	if err := item.Frank.Verify(g.Suite(), agent.SignatureKey, c); err != nil {
		return fmt.Errorf("%w: %w", ErrUnfranked, err)
	}
	return nil
}
