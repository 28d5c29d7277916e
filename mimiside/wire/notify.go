package wire

import (
	"bytes"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// FanoutMessage is what a hub sends to every follower (draft-ietf-mimi-protocol-06 §5.5):
//
//	struct {
//	  uint64 timestamp;
//	  MLSMessage message;
//	  select (…) {
//	    case application: optional<Frank> frank;
//	    case welcome:     RatchetTreeOption ratchetTreeOption;
//	    case proposal:    MLSMessage moreProposals<V>;
//	    case commit:      MLSMessage externalProposals<V>;
//	  };
//	} FanoutMessage;
//
// There is no protocol on the wire. A PrivateMessage takes the application arm, a Welcome the welcome arm; for public
// and semi-private messages the clear content type decides.
type FanoutMessage struct {
	Timestamp uint64 // when the hub accepted it, milliseconds since 1970
	Message   Message

	Frank             *Frank                 // application
	Tree              *mls.RatchetTreeOption // welcome
	MoreProposals     []Message              // proposal: the list of the update that it was part of
	ExternalProposals []Message              // commit, after an external one: the hub's proposals for the new epoch
}

// arm says which arm of the select a message takes.
type arm int

const (
	armNone arm = iota
	armApplication
	armWelcome
	armProposal
	armCommit
)

func armOf(m Message) arm {
	switch m.Format() {
	case mls.WireFormatPrivateMessage:
		return armApplication
	case mls.WireFormatWelcome:
		return armWelcome
	case mls.WireFormatPublicMessage, mls.WireFormatSemiPrivateMessage:
		switch m.Content() {
		case mls.ContentProposal:
			return armProposal
		case mls.ContentCommit:
			return armCommit
		}
	}
	return armNone
}

// Append appends the encoding to b. Several messages for the same room may be put one after the other in one body.
func (f *FanoutMessage) Append(b []byte) []byte {
	b = f.Message.append(tlspl.AppendUint64(b, f.Timestamp))
	switch armOf(f.Message) {
	case armApplication:
		b = appendOptionalFrank(b, f.Frank)
	case armWelcome:
		b = f.Tree.Append(b)
	case armProposal:
		b = appendMessages(b, f.MoreProposals)
	case armCommit:
		b = appendMessages(b, f.ExternalProposals)
	}
	return b
}

// Marshal returns the encoding.
func (f *FanoutMessage) Marshal() []byte { return f.Append(nil) }

func readFanoutMessage(r *tlspl.Reader) FanoutMessage {
	f := FanoutMessage{Timestamp: r.Uint64(), Message: readMessage(r)}
	if r.Err() != nil {
		return f
	}
	switch armOf(f.Message) {
	case armApplication:
		f.Frank = readOptionalFrank(r)
	case armWelcome:
		tree := mls.ReadRatchetTreeOption(r)
		f.Tree = &tree
	case armProposal:
		f.MoreProposals = readMessages(r)
	case armCommit:
		f.ExternalProposals = readMessages(r)
	default:
		r.Fail(errUnknown)
	}
	return f
}

// ReceivedNotify is the body of a notify as it came: one or several FanoutMessages.
type ReceivedNotify struct{ items []FanoutMessage }

// UnmarshalNotify decodes a body. A remainder that is no FanoutMessage spoils all of it.
func UnmarshalNotify(b []byte) (*ReceivedNotify, error) {
	r := tlspl.NewReader(b)
	var q ReceivedNotify
	for r.More() && len(q.items) < maxFanout {
		q.items = append(q.items, readFanoutMessage(r))
	}
	if err := finish("notify", r); err != nil {
		return nil, err
	}
	if len(q.items) == 0 {
		return nil, malformed("notify is empty")
	}
	return &q, nil
}

// Marshal returns the bytes that were decoded.
func (q *ReceivedNotify) Marshal() []byte { return MarshalNotify(q.items) }

// Welcomes returns the KeyPackageRefs that the Welcomes in the body are for. A follower that does not know the room yet
// recognises itself by them.
func (q *ReceivedNotify) Welcomes() (refs [][]byte) {
	for i := range q.items {
		if m := q.items[i].Message; m.MLS != nil && m.MLS.Welcome != nil {
			for j := range m.MLS.Welcome.Secrets {
				refs = append(refs, m.MLS.Welcome.Secrets[j].NewMember)
			}
		}
	}
	return refs
}

// maxWelcomed bounds the clients that the Welcomes of one body are for: each is looked up.
const maxWelcomed = 1 << 14

// Check demands that all messages are of one group (Welcomes do not say), that encrypted ones are application messages, and
// that the proposals beside a proposal or commit fit to it. Whether the sender is the hub of the room, and whether
// anything verifies, is judged later.
func (q *ReceivedNotify) Check() ([]FanoutMessage, error) {
	var group []byte
	welcomed := 0
	for i := range q.items {
		f := &q.items[i]
		m := f.Message
		a := armOf(m)
		if a == armWelcome {
			if len(m.MLS.Welcome.Secrets) == 0 {
				return nil, malformed("notify has a Welcome for nobody")
			}
			if welcomed += len(m.MLS.Welcome.Secrets); welcomed > maxWelcomed {
				return nil, malformed("notify has Welcomes for too many")
			}
			continue
		}
		if a == armApplication && m.Content() != mls.ContentApplication {
			return nil, malformed("notify has an encrypted handshake message")
		}
		if group == nil {
			group = m.GroupID()
		} else if !bytes.Equal(group, m.GroupID()) {
			return nil, malformed("notify is for several groups")
		}
		if err := checkProposals("moreProposals", f.MoreProposals, m.GroupID(), m.Epoch()); err != nil {
			return nil, err
		}
		if err := checkProposals("externalProposals", f.ExternalProposals, m.GroupID(), m.Epoch()+1); err != nil {
			return nil, err
		}
	}
	return q.items, nil
}

// MarshalNotify returns a body with the messages in their order.
func MarshalNotify(items []FanoutMessage) []byte {
	var b []byte
	for i := range items {
		b = items[i].Append(b)
	}
	return b
}
