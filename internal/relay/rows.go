package relay

import (
	"encoding/json"
	"fmt"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

func userID(mxid string) id.UserID { return id.UserID(mxid) }

// Destinations of lanes.
const (
	destMatrix = "matrix"
	destCreate = "matrix:new" // rooms are made apart from what waits to be done in them
	destAside  = "aside:"
	destMIMI   = "mimi:"
)

// Verbs of MIMI rows: the keys of the directory (draft-ietf-mimi-protocol-06 §5.1).
const (
	verbKeyMaterial     = "keyMaterial"
	verbUpdate          = "update"
	verbSubmitMessage   = "submitMessage"
	verbNotify          = "notify"
	verbGroupInfo       = "groupInfo"
	verbRequestConsent  = "requestConsent"
	verbUpdateConsent   = "updateConsent"
	verbIdentifierQuery = "identifierQuery"
	verbReportAbuse     = "reportAbuse"
)

// row numbers an outgoing row and puts it into the step's effects.
func (s *step) row(o store.Outbound) *store.Outbound {
	o.Room, o.Seq, o.CreatedMS = s.room.head.ID, s.seq(), s.nowMS()
	s.fx.out = append(s.fx.out, o)
	return &s.fx.out[len(s.fx.out)-1]
}

// matrix queues a request to the homeserver. Rows of a portal that is still being made are held until its room id is
// known. The pointer is valid until the next row.
func (s *step) matrix(args event.Args) *store.Outbound {
	return s.matrixRequest(event.NewRequest(args))
}

// matrixRequest is matrix for a request that was made elsewhere.
func (s *step) matrixRequest(req event.Request) *store.Outbound {
	o := store.Outbound{Dest: destMatrix, Verb: string(req.Verb), Data: req.Args}
	if s.room.head.MatrixRoomID == "" && req.Verb != event.VerbCreateRoom && req.Verb != event.VerbRegister && req.Verb != event.VerbProfile {
		o.State = store.OutboundHeld
	}
	p := s.row(o)
	if req.Verb == event.VerbCreateRoom {
		p.Dest = destCreate
	}
	p.TxnKey = txnKey(s.room.head.ID, p.Seq)
	return p
}

// txnKey is the transaction key of a Matrix row: the same at every try, and no other row's. The client adds who sends it.
func txnKey(room store.RoomID, seq int64) string { return fmt.Sprintf("%s.%d", room, seq) }

// mimi queues a request to another provider.
func (s *step) mimi(domain, verb string, body []byte) *store.Outbound {
	return s.row(store.Outbound{Dest: destMIMI + domain, Verb: verb, Target: s.room.head.URI, Data: body})
}

// aside queues a request of an extension to another provider, in a lane of its own: messages never wait for it.
func (s *step) aside(domain, verb string, body []byte) *store.Outbound {
	return s.row(store.Outbound{Dest: destAside + domain, Verb: verb, Target: providerURI(domain), Data: body})
}

// ask lets the outcome of a row come back as an input; ref says what it was about.
func ask(o *store.Outbound, ref string, seq int64) {
	o.AnswerTo, o.AnswerRef, o.AnswerSeq = store.AnswerInput, ref, seq
}

// fanout queues the same notify body for several providers, stored once.
func (s *step) fanout(providers []string, items ...wire.FanoutMessage) {
	if len(providers) == 0 || len(items) == 0 {
		return
	}
	body := wire.MarshalNotify(items)
	if len(providers) == 1 {
		s.mimi(providers[0], verbNotify, body).AnswerTo = store.AnswerLink // of no link: onAnswer hears when it is given up
		return
	}
	seq := s.seq()
	s.fx.bodies = append(s.fx.bodies, sharedBody{seq, body})
	for _, p := range providers {
		o := s.mimi(p, verbNotify, nil)
		o.Body, o.AnswerTo = seq, store.AnswerLink
	}
}

// setMember writes a member, in memory and in the effects.
func (s *step) setMember(m store.Member) {
	if old, had := s.room.members.of(m.MXID); old.Membership != m.Membership {
		d := dataOfMember(m)
		was := d.Stranger
		switch event.Membership(m.Membership) {
		case event.Ban:
			d.Stranger = was || !had
		case event.Invite, event.Join:
			d.Stranger = false
		}
		if d.Stranger != was {
			m.Data = string(mustJSON(d))
		}
	}
	m.Room, m.UpdatedMS = s.room.head.ID, s.nowMS()
	s.room.members.put(m)
	if s.fx.members == nil {
		s.fx.members = map[string]store.Member{}
	}
	s.fx.members[m.MXID] = m
}

// later puts a timer on the room: an input that is due after a while.
func (s *step) later(what string, atMS int64) {
	s.fx.inputs = append(s.fx.inputs, store.NewInput{Room: s.room.head.ID, Kind: inputTimer, Source: what, Epoch: -1,
		Body: []byte(what), NotBefore: atMS, CreatedMS: s.nowMS()})
}

// notice says something to the people of the Matrix room, as the bot. replyTo may be "".
func (s *step) notice(text, replyTo string) {
	if s.room.head.MatrixRoomID == "" && !s.room.st.Portal {
		return
	}
	m := event.Message{MsgType: event.MsgNotice, Body: text, Mentions: &event.Mentions{}}
	if replyTo != "" {
		m.Relation.ReplyTo = id.EventID(replyTo)
	}
	s.matrix(event.Send{Sender: s.speaker(), Type: event.TypeMessage, Content: m.Encode()})
}

// speaker is who says what the bridge has to say in the room: the bot, or the ghost through which the room is read when
// the bot is not in it.
func (s *step) speaker() id.UserID {
	who, _ := s.speakerThere()
	return who
}

// speakerThere is speaker, and whether anybody of ours is in the room.
func (s *step) speakerThere() (who id.UserID, there bool) {
	if s.room.members.joined(s.cfg.Bot) || s.room.st.Portal {
		return userID(s.cfg.Bot), true
	}
	if o := s.room.st.Opening; o != nil && o.Ghost != "" && s.room.members.joined(o.Ghost) {
		return userID(o.Ghost), true
	}
	for mxid, m := range s.room.members.byMXID {
		if m.Ghost && m.Membership == string(event.Join) {
			return userID(mxid), true
		}
	}
	return userID(s.cfg.Bot), false
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("relay: encode: %v", err))
	}
	return b
}
