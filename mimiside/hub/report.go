package hub

import (
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// ErrNotProven says that a message that was reported is not one that its alleged author sent to the room through us.
var ErrNotProven = errors.New("the message is not proven")

// Evidence is a reported message that is proven.
type Evidence struct {
	Message *content.Message
	ID      content.MessageID
	// AcceptedMS is when we accepted it, in milliseconds since 1970.
	AcceptedMS uint64
}

// Prover holds what franks were made with: the secret keys, old ones too, and the signature keys by suite.
type Prover struct {
	Secrets []mls.Secret
	Keys    map[mls.Suite]*mls.SignatureKey
}

// Prove judges a message of an abuse report as the room's hub (draft-ietf-mimi-protocol-06 §5.4.1, §5.9): sender and room
// are those that the content names, the frank is ours for exactly this content, sender, room and time, and the sender is who
// is accused. dict is the group's dictionary, which says whether contents are framed; a content that came without its
// framing is tried with it as well. An error wraps ErrNotProven.
func (p *Prover) Prove(dict mls.AppDataDictionary, room, accused wire.IdentifierURI, m *wire.AbusiveMessage) (*Evidence, error) {
	forms := [][2][]byte{{m.Content, m.Content}, {mls.FrameApplicationData(dict, mls.MediaType{}, m.Content), m.Content}}
	if _, octets, err := mls.UnframeApplicationData(dict, m.Content); err == nil {
		forms = append([][2][]byte{{m.Content, octets}}, forms...)
	}
	why := errors.New("its content cannot be read")
	for _, f := range forms {
		data, octets := f[0], f[1]
		msg, err := content.Unmarshal(octets)
		if err != nil {
			continue
		}
		sender, named := msg.Extensions.Text(content.KeySenderURI)
		in, where := msg.Extensions.Text(content.KeyRoomURI)
		switch {
		case !named || !where:
			why = errors.New("it does not name its sender and room")
			continue
		case in != string(room):
			return nil, fmt.Errorf("%w: it is of another room", ErrNotProven)
		case !wire.IdentifierURI(sender).Same(accused):
			return nil, fmt.Errorf("%w: it is of somebody else", ErrNotProven)
		}
		c := wire.FrankingContext{SenderURI: wire.IdentifierURI(sender), RoomURI: room, AcceptedTimestamp: m.AcceptedTimestamp}
		if !p.made(&m.Frank, wire.NewFrankingTag(msg.Salt[:], data), c) {
			why = errors.New("its frank is not ours")
			continue
		}
		id, err := content.ID(sender, in, octets, msg.Salt)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotProven, err)
		}
		return &Evidence{Message: msg, ID: id, AcceptedMS: m.AcceptedTimestamp}, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrNotProven, why)
}

func (p *Prover) made(f *wire.Frank, tag wire.FrankingTag, c wire.FrankingContext) bool {
	key := p.Keys[f.Suite]
	return key != nil && f.Made(p.Secrets, tag, c) && f.Verify(f.Suite, key.Public(), c) == nil
}
