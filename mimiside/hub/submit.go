package hub

import (
	"fmt"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Franker makes franks: the hub's keys (draft-ietf-mimi-protocol-06 §5.4.1).
type Franker struct {
	Secret mls.Secret
	Key    *mls.SignatureKey // of the group's suite, the one in the franking agent component
}

// SubmitVerdict is what the hub makes of an application message.
type SubmitVerdict struct {
	Response wire.SubmitMessageResponse
	// Item is what every follower gets, nil unless accepted.
	Item *wire.FanoutMessage
	// Reason says why not, for the log.
	Reason string
}

// SubmitMessage judges an application message that a provider, or the hub's own user, sends
// (draft-ietf-mimi-protocol-06 §5.4). That the sender is of the provider was checked with the request; which leaf sent it the
// hub cannot see. A message of an epoch that is a little behind is taken (requirement S004-043), one of a user that
// the newer epoch removed is not (S004-044), because the participant list of now decides.
func SubmitMessage(now time.Time, r *Room, f *Franker, q *wire.SubmitMessageRequest) *SubmitVerdict {
	refuse := func(format string, args ...any) *SubmitVerdict {
		return &SubmitVerdict{Response: wire.SubmitMessageResponse{StatusCode: wire.SubmitNotAllowed}, Reason: fmt.Sprintf(format, args...)}
	}
	m, epoch := q.Message, r.Group.Epoch()
	if string(m.GroupID()) != string(r.Group.GroupID()) {
		return refuse("another group")
	}
	state, err := r.state()
	if err != nil {
		return refuse("the proposals that wait cannot be read")
	}
	if d := policy.Decide(state, policy.Actor{URI: string(q.SendingURI)}, policy.Change{Kind: policy.SendMessage}); !d.Allowed {
		return refuse("%s", d)
	}
	switch { // only who takes part hears which epoch it is
	case m.Epoch() > epoch:
		return refuse("epoch %d is in the future", m.Epoch())
	case epoch-m.Epoch() > r.Tolerance:
		return &SubmitVerdict{Response: wire.SubmitMessageResponse{StatusCode: wire.SubmitEpochTooOld, CurrentEpoch: epoch}, Reason: "epoch too old"}
	}
	a, err := accept(r, f, q, r.Accept(now))
	if err != nil {
		return refuse("frank: %v", err)
	}
	return &SubmitVerdict{Response: *a, Item: &wire.FanoutMessage{Timestamp: a.AcceptedTimestamp, Message: m, Frank: a.Frank}}
}

// Repeated judges a message that SubmitMessage would accept and that was accepted before: at a time in milliseconds since 1970, of sender.
// Nobody is to get it again, because its place in the sender's ratchet was used (RFC 9420 §9.1). Its sender hears what they heard then,
// in case the answer did not arrive; it is not accepted of anybody else.
func Repeated(r *Room, f *Franker, q *wire.SubmitMessageRequest, sender wire.IdentifierURI, at uint64) *SubmitVerdict {
	if q.SendingURI.Same(sender) {
		if a, err := accept(r, f, q, at); err == nil {
			return &SubmitVerdict{Response: *a, Reason: "accepted before, and answered as then"}
		}
	}
	return &SubmitVerdict{Response: wire.SubmitMessageResponse{StatusCode: wire.SubmitNotAllowed}, Reason: "accepted before, of " + string(sender)}
}

// accept is the answer to a message that is accepted at a time.
func accept(r *Room, f *Franker, q *wire.SubmitMessageRequest, at uint64) (*wire.SubmitMessageResponse, error) {
	a := &wire.SubmitMessageResponse{StatusCode: wire.SubmitAccepted, AcceptedTimestamp: at}
	if tag, ok := wire.FrankingTagOf(q.Message.AuthenticatedData()); ok && f != nil && hasFrankingAgent(r.Group) {
		var err error
		a.Frank, err = wire.NewFrank(f.Secret, f.Key, tag, wire.FrankingContext{SenderURI: q.SendingURI, RoomURI: r.URI, AcceptedTimestamp: at})
		if err != nil {
			return nil, err
		}
	}
	return a, nil
}

func hasFrankingAgent(g *mls.Group) bool {
	_, ok := g.Dictionary().Get(mls.ComponentFrankingAgent)
	return ok
}
