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
	at := r.Accept(now)
	item := &wire.FanoutMessage{Timestamp: at, Message: m}
	if tag, ok := wire.FrankingTagOf(m.AuthenticatedData()); ok && f != nil && hasFrankingAgent(r.Group) {
		frank, err := wire.NewFrank(f.Secret, f.Key, tag, wire.FrankingContext{SenderURI: q.SendingURI, RoomURI: r.URI, AcceptedTimestamp: at})
		if err != nil {
			return refuse("frank: %v", err)
		}
		item.Frank = frank
	}
	return &SubmitVerdict{Item: item,
		Response: wire.SubmitMessageResponse{StatusCode: wire.SubmitAccepted, AcceptedTimestamp: at, Frank: item.Frank}}
}

func hasFrankingAgent(g *mls.Group) bool {
	_, ok := g.Dictionary().Get(mls.ComponentFrankingAgent)
	return ok
}
