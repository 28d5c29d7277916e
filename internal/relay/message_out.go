package relay

import (
	"encoding/hex"
	"encoding/json"
	"strconv"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/hub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// linkData is what is remembered of a message of ours beside the columns of its link.
type linkData struct {
	mapping.Memory
	// Salt is that of the content: the same content said again keeps its id.
	Salt []byte `json:"salt,omitempty"`
}

// whyNobodyYet is why nothing can be said in a chat that is not made.
const whyNobodyYet = "nobody else has come into this chat yet"

// onMessage says a Matrix user's message in the MIMI room.
func (s *step) onMessage(ev event.Event) error {
	v := s.room
	sender := string(ev.Sender)
	if v.head.Kind == store.RoomNone || s.echo(sender) {
		return nil
	}
	if v.head.State == stateOpening {
		if v.st.Portal { // a chat that the bot made: nobody else would see the message
			s.failed(string(ev.ID), sender, whyNobodyYet, true)
		}
		return nil
	}
	if !s.present(sender) {
		s.once("not-exported:"+sender, func() {
			s.failed(string(ev.ID), sender, "you are not allowed to use this bridge", false)
		})
		return nil
	}
	if v.head.State == stateDesynced || v.head.State == stateJoining {
		s.waitFor(waitForever, "the group is joined anew")
		return nil
	}
	if v.group == nil {
		if m, ok := v.members.byMXID[sender]; ok && m.Listed && v.head.Kind == store.RoomFollower {
			// A participant whose client was removed: it comes back now that its user wants to say something (docs/mapping.md §4).
			s.waitFor(waitForever, "the sender's client joins again")
			v.st.Join, v.head.State = &joining{By: sender}, stateJoining
			return s.askGroupInfo(refExternal, s.actorOf(sender), nil)
		}
		why := "this conversation is over"
		switch {
		case v.st.Ended:
			why = v.head.Hub + " has ended this conversation"
		case v.st.Unlogged:
			why = whyUnlogged
		}
		s.failed(string(ev.ID), sender, why, false)
		return nil
	}
	if v.st.Unlogged {
		s.failed(string(ev.ID), sender, whyUnlogged, false)
		return nil
	}
	if s.mustCommitFirst() {
		return nil
	}
	user := s.actorOf(sender)
	leaf, ok := v.ownLeaf(user)
	if !ok {
		return s.speakerWithoutLeaf(ev, user)
	}
	salt, err := content.NewSalt(s.Rand)
	if err != nil {
		return err
	}
	s.noteAlone()
	return s.say(ev, user, leaf, salt, nil, 1)
}

// waitForever is the epoch of inputs that wait for something else than an epoch.
const waitForever = int64(1)<<62 - 1

// mustCommitFirst makes a message wait where a commit must come before it: our own is under way, the keys must be renewed
// after a restore (T17), or proposals wait (RFC 9420 §12.4: a member that knows of proposals commits before it sends).
func (s *step) mustCommitFirst() bool {
	v := s.room
	if v.pending != nil {
		if s.nowMS() < v.st.PendingUntil && v.head.State == stateActive {
			s.waitFor(v.head.Epoch, "our commit is under way")
			return true
		}
		return false
	}
	if v.head.Refresh {
		s.waitFor(v.head.Epoch+1, "keys are renewed after a restore")
		s.refreshKeys()
		return true
	}
	if v.head.Kind == store.RoomFollower && len(s.commitable()) > 0 {
		s.wish(intentCommit, "", "", intentData{})
		if s.willCommit() {
			s.waitFor(v.head.Epoch+1, "proposals are committed first")
			s.later(timerPending, s.now.Add(s.cfg.PendingWait).UnixMilli())
			return true
		}
	}
	return false
}

// say encrypts a message and hands it on: as the hub it is accepted and fanned out, as a follower it is sent to the hub. old is
// the link of the same message that was said before.
func (s *step) say(ev event.Event, user string, leaf mls.LeafIndex, salt content.Salt, old *store.Link, tries int) error {
	v := s.room
	links := &linkFinder{s: s}
	files, assets, err := s.uploaded(ev)
	if err != nil {
		return err
	}
	out := s.mappingRoom(links).ToMIMI(ev, salt, files)
	if links.err != nil {
		return links.err
	}
	if old == nil && s.waitsForFile(ev, &out) {
		return nil
	}
	if out.Message == nil {
		s.dropped(ev, &out)
		return nil
	}
	if _, lacks := s.missing(out.Message, user, changedBy(out.Message, links), links); lacks {
		s.dropped(ev, &mapping.Outgoing{Drop: mapping.DropNotAllowed})
		return nil
	}
	octets, err := out.Message.Marshal()
	if err != nil {
		s.failed(string(ev.ID), string(ev.Sender), "the message cannot be written as MIMI content", false)
		return nil
	}
	mimiID, err := content.ID(user, v.head.URI, octets, out.Message.Salt)
	if err != nil {
		return err
	}
	message, err := s.protect(user, leaf, octets, out.Message.Salt)
	if err != nil {
		return err
	}
	link := store.Link{Room: v.head.ID, EventID: string(ev.ID), MIMIID: mimiID[:], Direction: store.Out, Kind: string(out.Kind), Sender: user,
		SenderMXID: string(ev.Sender), FirstEvent: string(out.FirstEvent), Target: string(out.Target), Topic: hex.EncodeToString(out.Topic),
		Data: string(mustJSON(linkData{Memory: out.Memory, Salt: salt[:]})), CreatedMS: s.nowMS()}
	if !out.First.IsZero() {
		link.FirstID = out.First[:]
	}
	if old != nil {
		link.Seq = old.Seq
	} else {
		link.Seq = s.seq()
	}
	s.hand(&link, wire.SubmitMessageRequest{Message: message, SendingURI: wire.IdentifierURI(user)}, tries)
	s.changed(&out, link.State)
	s.expire(mimiID, out.Message.Expires)
	s.keepAssets(assets, link.Seq)
	if old != nil {
		s.fx.setLinks = append(s.fx.setLinks, linkChange{seq: old.Seq, state: link.State, acceptedMS: link.AcceptedMS})
		return nil
	}
	s.fx.links = append(s.fx.links, link)
	return nil
}

// protect encrypts content as a message of one of our leaves.
func (s *step) protect(user string, leaf mls.LeafIndex, octets []byte, salt content.Salt) (wire.Message, error) {
	dict := s.room.group.Dictionary()
	data := mls.FrameApplicationData(dict, mls.MediaType{}, octets)
	killpoint.Hit("K6")
	protected, changes, err := s.room.group.Protect(s.Rand, leaf, data, room.MessageAAD(dict, salt[:], data), 0)
	if err != nil {
		return wire.Message{}, err
	}
	killpoint.Hit("K7")
	s.passes("K8", "K9")
	message := wire.NewMessage(protected.Message)
	hash := message.Hash()
	s.fx.changes = append(s.fx.changes, changes)
	s.fx.used = append(s.fx.used, store.Generation{Epoch: protected.Epoch, Leaf: uint32(protected.Leaf), Generation: protected.Generation, Hash: hash[:]})
	if protected.Generation >= maxEpochMessages {
		s.wish(intentRenew, user, user, intentData{}) // an epoch is not to live for ever
	}
	return message, nil
}

// dropped tells the sender that an event is not carried over, where people want to know: of a kind that MIMI has nothing
// for once a room and kind, of all else each time.
func (s *step) dropped(ev event.Event, out *mapping.Outgoing) {
	sender := string(ev.Sender)
	if len(out.Needs) > 0 {
		s.failed(string(ev.ID), sender, "its file is not there any more", false)
		return
	}
	reason, why, tell := out.Drop.Tell()
	switch {
	case !tell:
	case out.Drop == mapping.DropUnsupported:
		s.once("unsupported:"+ev.Type, func() { s.tellFailed(string(ev.ID), event.StatusFail, reason, why) })
	default:
		s.tellFailed(string(ev.ID), event.StatusFail, reason, why)
	}
}

// hand passes an encrypted message on.
func (s *step) hand(link *store.Link, q wire.SubmitMessageRequest, tries int) {
	v := s.room
	if v.head.Kind == store.RoomFollower {
		o := s.mimi(v.head.Hub, verbSubmitMessage, q.Marshal())
		o.AnswerTo, o.AnswerSeq, o.AnswerRef = store.AnswerLink, link.Seq, refSubmit+":"+strconv.Itoa(tries)
		if s.cfg.StatusEvents {
			o.AnswerTo = store.AnswerInput // the sender is told of success too
		}
		return
	}
	verdict := hub.SubmitMessage(s.now, s.hubRoom(), s.franker(), &q)
	if verdict.Item == nil {
		s.Log.Info().Stringer("room", v.head.ID).Str("reason", verdict.Reason).Str("fate", "refused").Msg("a message of ours was not accepted")
		link.State = store.LinkFailed
		s.failed(link.EventID, link.SenderMXID, "you may not write here", false)
		return
	}
	s.accepted(verdict, link.Sender)
	s.delivered(link.EventID)
	link.State, link.AcceptedMS = store.LinkSent, int64(verdict.Item.Timestamp)
	if f := verdict.Item.Frank; f != nil {
		link.Frank = f.Marshal()
	}
}

// accepted notes that the hub took a message and fans it out.
func (s *step) accepted(verdict *hub.SubmitVerdict, sender string) {
	v := s.room
	item := verdict.Item
	v.head.LastAccepted = int64(item.Timestamp)
	s.logEntry(store.LogMessage, item.Message.Epoch(), item.Message, sender, item.Timestamp)
	s.fanout(v.followers(s.Naming.Domain), *item)
}

// franker holds the keys for franks in this room.
func (s *step) franker() *hub.Franker {
	return &hub.Franker{Secret: s.hub.frank, Key: s.hub.signature[s.room.group.Suite()]}
}

// speakerWithoutLeaf: a participant without a client wants to say something. As the hub it gets one first; in a room of
// another hub it asks to come back.
func (s *step) speakerWithoutLeaf(ev event.Event, user string) error {
	v := s.room
	if !v.members.joined(string(ev.Sender)) {
		return nil
	}
	if v.head.Kind == store.RoomHub {
		s.wish(intentAdd, s.bot, user, intentData{MXID: string(ev.Sender)})
		return s.sayAfter(ev, user)
	}
	if s.listed(user) {
		s.waitFor(waitForever, "the sender's client joins again")
		return s.rejoin(user)
	}
	if j := v.st.Join; j != nil && j.By == string(ev.Sender) {
		s.waitFor(waitForever, "the sender's client joins")
		return nil
	}
	s.failed(string(ev.ID), string(ev.Sender), "you do not take part in this conversation", false)
	return nil
}

// sayAfter carries out the wishes that stand, among them one for a client of the sender, and says the message then.
func (s *step) sayAfter(ev event.Event, user string) error {
	if err := s.advance(); err != nil {
		return err
	}
	leaf, ok := s.room.ownLeaf(user)
	if !ok {
		s.failed(string(ev.ID), string(ev.Sender), "you may not take part in this conversation", false)
		return nil
	}
	salt, err := content.NewSalt(s.Rand)
	if err != nil {
		return err
	}
	return s.say(ev, user, leaf, salt, nil, 1)
}

// sayAgain puts a message that the hub found too old back in line, to be encrypted in the present epoch (T3).
// epoch is the one that the hub is in: the message waits until we are there too.
func (s *step) sayAgain(link *store.Link, tries int, epoch uint64) error {
	var d linkData
	if err := unmarshalString(link.Data, &d); err != nil {
		return err
	}
	s.fx.inputs = append(s.fx.inputs, store.NewInput{Room: s.room.head.ID, Kind: inputAgain, Source: link.EventID, Epoch: -1,
		Body: mustJSON(again{Link: link.Seq, Event: link.EventID, Tries: tries, Epoch: epoch}), CreatedMS: s.nowMS()})
	return nil
}

// again is the body of an input of that kind.
type again struct {
	Link  int64  `json:"link"`
	Event string `json:"event"`
	Tries int    `json:"tries"`
	Epoch uint64 `json:"epoch"`
}

// onAgain says a message again; raw is the event as the homeserver has it now.
func (s *step) onAgain(a again, raw json.RawMessage) error {
	link, err := s.Store.LinkBySeq(s.ctx, s.room.head.ID, a.Link)
	if err != nil {
		return ignoreNotFound(err)
	}
	ev, err := event.ParseChecked(raw)
	if err != nil || s.room.group == nil {
		s.failed(link.EventID, link.SenderMXID, "the room changes too often", true)
		return nil
	}
	if s.room.group.Epoch() < a.Epoch || s.room.head.State != stateActive {
		s.waitFor(int64(a.Epoch), "the epoch that the hub is in has not come")
		s.later(timerWaiting, s.input.CreatedMS+s.cfg.Waiting.Age.Milliseconds())
		return nil
	}
	if s.mustCommitFirst() {
		return nil
	}
	leaf, ok := s.room.ownLeaf(link.Sender)
	if !ok {
		s.failed(link.EventID, link.SenderMXID, "you do not take part in this conversation", false)
		return nil
	}
	var d linkData
	if err := unmarshalString(link.Data, &d); err != nil {
		return err
	}
	var salt content.Salt
	copy(salt[:], d.Salt)
	return s.say(ev, link.Sender, leaf, salt, &link, a.Tries)
}

// once does something the first time only in a room.
func (s *step) once(what string, do func()) {
	if s.room.st.Told[what] || len(s.room.st.Told) > 100 {
		return
	}
	if s.room.st.Told == nil {
		s.room.st.Told = map[string]bool{}
	}
	s.room.st.Told[what] = true
	do()
}

// mappingRoom is the room as messages are mapped in it.
func (s *step) mappingRoom(links *linkFinder) *mapping.Room {
	o := s.cfg.Mapping
	if s.room.policy != nil {
		_, o.Expires = mapping.Retention(s.room.policy.Expiration)
	}
	return &mapping.Room{URI: s.room.head.URI, People: people{s}, Links: links, Options: o}
}

// people knows who takes part.
type people struct{ s *step }

func (p people) URI(mxid id.UserID) (string, bool) {
	if m, ok := p.s.room.members.byMXID[string(mxid)]; ok && m.URI != "" {
		return m.URI, true
	}
	uri := p.s.actorOf(string(mxid))
	return uri, uri != "" && p.s.listed(uri)
}

func (p people) MXID(uri string) (id.UserID, bool) {
	if m, ok := p.s.room.members.ofURI(uri); ok {
		return userID(m.MXID), true
	}
	return "", false
}

func (p people) Name(mxid id.UserID) string {
	if m, ok := p.s.room.members.byMXID[string(mxid)]; ok && m.Display != "" {
		return m.Display
	}
	local, _, err := mapping.SplitMXID(string(mxid))
	if err != nil {
		return string(mxid)
	}
	return local
}
