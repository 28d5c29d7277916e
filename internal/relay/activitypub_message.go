package relay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// Receive implements activitypub.Backend: what the MLS bytes of an activity lead to is committed when it returns. An activity without MLS
// bytes is not acted on: nothing is spoken in the clear. When it is of an epoch that has not come here, what was missed is asked for.
func (a *ActivityPub) Receive(ctx context.Context, d ap.Delivered) (bool, error) {
	if handled, fresh, err := a.receiveChannel(ctx, d); handled || err != nil {
		return fresh, err
	}
	if t := d.Activity.Type; (t == "Update" || t == "Delete") && d.Activity.ObjectID == d.Activity.Actor {
		return true, a.onActorChanged(ctx, d.Activity.Actor)
	}
	if handled, err := a.onKeyActivity(ctx, d); handled {
		return err == nil, err
	}
	fresh, err := a.take(ctx, d)
	var early *tooEarly
	if !errors.As(err, &early) {
		return fresh, err
	}
	if _, err := a.catchUp(ctx, early.room, d.Activity.Actor); err != nil {
		return false, err
	}
	fresh, err = a.take(ctx, d)
	if errors.As(err, &early) && early.why != nil {
		err = early.why
	}
	return fresh, err
}

// tooEarly says that a message is of an epoch that its conversation has not reached; it is temporary then: the sender tries again. Or that it is a commit
// or proposal that does not fit, because of another before it that did not come, or for ever: then why says so.
type tooEarly struct {
	room store.RoomID
	why  error
}

// Error implements error.
func (*tooEarly) Error() string { return "a commit before this message did not come" }

// isHandshake tells whether MLS bytes are a commit or a proposal.
func isHandshake(octets []byte) bool {
	m, _, err := ap.ParseMLS(octets)
	switch {
	case err != nil || m == nil:
	case m.Private != nil:
		return m.Private.ContentType != mls.ContentApplication
	case m.Public != nil:
		return true
	}
	return false
}

// isNeed tells whether an error asks for something of another server.
func isNeed(err error) bool {
	var key needKey
	var person needPerson
	return errors.As(err, &key) || errors.As(err, &person)
}

// take takes the MLS bytes of an activity.
func (a *ActivityPub) take(ctx context.Context, d ap.Delivered) (bool, error) {
	var parts [][]byte
	if d.MLS != nil {
		parts = append(parts, d.MLS.Bytes)
	}
	parts = append(parts, d.Activity.Commit, d.Activity.Welcome)
	fresh := false
	for _, octets := range parts {
		if octets == nil {
			continue
		}
		m, _, err := ap.ParseMLS(octets)
		if err != nil {
			return false, err
		}
		var got bool
		switch {
		case m == nil:
		case m.Welcome != nil:
			got, err = a.onWelcome(ctx, d, m.Welcome, octets)
		case m.Private != nil:
			got, err = a.onMLS(ctx, d, m.Private.GroupID, octets)
		case m.Public != nil:
			got, err = a.onMLS(ctx, d, m.Public.Content.GroupID, octets)
		}
		if err != nil {
			return false, err
		}
		fresh = fresh || got
	}
	return fresh, nil
}

// onWelcome joins a conversation with those of ours whom the Welcome is for. They are invited; nothing is said for them before they come.
func (a *ActivityPub) onWelcome(ctx context.Context, d ap.Delivered, w *mls.Welcome, octets []byte) (bool, error) {
	keys, refs, err := a.joinKeysOf(ctx, w)
	if err != nil || len(keys) == 0 {
		return false, err // not for us, or used already
	}
	joined, err := a.peek(ctx, w, keys)
	if err != nil {
		return false, err
	}
	if !slices.Contains(joined.Actors(), d.Activity.Actor) {
		return false, fmt.Errorf("%w: whoever sends a Welcome is in its group", ap.ErrForbidden)
	}
	if bad := a.blockedAmong(joined.Actors()); len(bad) > 0 {
		return false, fmt.Errorf("%w: %s: %w", ap.ErrForbidden, bad[0], ap.ErrBlocked)
	}
	room, err := a.open(ctx, joined.Group.GroupID())
	if err != nil {
		return false, err
	}
	fresh := false
	err = a.run(ctx, room, func(x *apStep) error {
		hash := ap.HashOf(octets)
		if fresh, err = x.fresh("ap", hex.EncodeToString(hash[:])); err != nil || !fresh {
			return err
		}
		x.received(d, joined.Actors())
		x.fx.usedKeys = append(x.fx.usedKeys, refs...)
		if err := x.withdraw(refs); err != nil {
			return err
		}
		if x.thread != nil {
			e, err := x.thread.JoinMore(x.now, w, keys)
			if err != nil && x.onlyOwn(joined) {
				// Added anew: what is here is a branch that lost, or an epoch that the others left behind.
				x.thread, e, err = ap.JoinThread(x.now, a.mls, w, keys)
			}
			if err != nil {
				return fmt.Errorf("%w: %w", ap.ErrActivity, err)
			}
			x.apply(e)
			x.room.st.LeftMS = 0
			return x.enterAll()
		}
		t, e, err := ap.JoinThread(x.now, a.mls, w, keys)
		if err != nil {
			return fmt.Errorf("%w: %w", ap.ErrActivity, err)
		}
		x.thread = t
		x.room.head.Group++
		x.room.st.LeftMS = 0
		x.apply(e)
		x.portal()
		return x.enterAll()
	})
	return fresh, err
}

// onlyOwn tells whether a group that a Welcome leads to has leaves for all of ours who are in the present one.
func (x *apStep) onlyOwn(next *ap.Thread) bool {
	for _, actor := range x.thread.Actors() {
		if _, here := x.thread.Leaf(actor); !here {
			continue
		}
		if _, there := next.Leaf(actor); !there {
			return false
		}
	}
	return true
}

// peek opens a Welcome to see what it leads to. Keys of members that were not seen before are asked for.
func (a *ActivityPub) peek(ctx context.Context, w *mls.Welcome, keys []mls.JoinKey) (*ap.Thread, error) {
	ctx, cancel := context.WithTimeout(ctx, pullTime)
	defer cancel()
	for range maxUnknownKeys {
		joined, _, err := ap.JoinThread(a.Clock(), a.mls, w, keys)
		var need needKey
		if errors.As(err, &need) {
			if err := a.learnKey(ctx, need); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ap.ErrActivity, err)
		}
		return joined, nil
	}
	return nil, fmt.Errorf("%w: too many members", ap.ErrActivity)
}

// maxUnknownKeys bounds how many members a Welcome may bring whom nobody here knows.
const maxUnknownKeys = 100

// onMLS gives a message, proposal or commit to its group.
func (a *ActivityPub) onMLS(ctx context.Context, d ap.Delivered, group, octets []byte) (bool, error) {
	room, err := a.Store.RoomByName(ctx, store.NameGroup, hex.EncodeToString(group))
	if errors.Is(err, store.ErrNotFound) || err == nil && room.State != stateAP {
		return false, ap.ErrNotFound
	}
	if err != nil {
		return false, err
	}
	fresh := false
	err = a.run(ctx, room.ID, func(x *apStep) error {
		hash := ap.HashOf(octets)
		if fresh, err = x.fresh("ap", hex.EncodeToString(hash[:])); err != nil || !fresh {
			return err
		}
		if x.room.st.Channel != nil || x.thread == nil || !slices.Contains(x.thread.Actors(), d.Activity.Actor) {
			return ap.ErrForbidden
		}
		since := x.begin()
		x.received(d, nil)
		e, err := x.thread.Receive(x.now, octets)
		switch {
		case errors.Is(err, ap.ErrOld):
			return nil
		case errors.Is(err, ap.ErrEarly):
			return &tooEarly{room: room.ID}
		case err != nil && isHandshake(octets) && !isNeed(err):
			return &tooEarly{room.ID, fmt.Errorf("%w: %w", ap.ErrActivity, err)}
		case err != nil:
			return fmt.Errorf("%w: %w", ap.ErrActivity, err)
		}
		x.apply(e)
		if e.Said != nil {
			err := x.hear(e.Said)
			x.kept(since, nil)
			return err
		}
		switch {
		case e.Pending:
			x.proposed()
			return nil
		case x.room.st.LeftMS > 0:
			return x.goOut()
		case e.Lost:
			x.lost()
		}
		if len(a.blockedAmong(x.thread.Actors())) > 0 {
			return x.leaveBlocked()
		}
		return x.enterAll()
	})
	return fresh, err
}

// hear shows what somebody said in Matrix.
func (x *apStep) hear(said *ap.Said) error {
	skip := func(why error) error {
		x.Log.Info().Stringer("room", x.room.head.ID).Str("sender", said.Sender).Err(why).Str("fate", "ignored").Msg("a message was not shown")
		return nil
	}
	if x.face.blocked(said.Sender) {
		return skip(ap.ErrBlocked) // in a channel of a third server
	}
	c, err := ap.ParseContent(said.Data, said.Sender)
	if err != nil {
		return skip(err)
	}
	if x.heardOfGroup(c, said.Sender) {
		return nil
	}
	as2 := c.ID
	if c.Type == "Create" && c.Item != nil {
		as2 = c.Item.ID
	}
	if as2 == "" {
		as2 = hex.EncodeToString(ap.HashBytes(said.Data))
	}
	memory := &apMemory{x: x}
	if _, twice := memory.ByAS2(as2, said.Sender); twice {
		return skip(errors.New("its id was used before"))
	}
	salt, err := content.NewSalt(x.Rand)
	if err != nil {
		return err
	}
	m, err := c.ToMIMI(memory, salt)
	if memory.err != nil {
		return memory.err
	}
	if errors.Is(err, ap.ErrUnsupported) {
		x.once("ap-type:"+c.Type, func() {
			x.notice("Somebody sent a message of a kind that is not supported: "+html.Apart(html.Line(c.Type, 100)), "")
		})
	}
	if err != nil {
		return skip(err)
	}
	mxid, _, err := x.mxid(said.Sender)
	if err != nil {
		return err
	}
	mimiID := ap.MIMIID(x.room.head.GroupID, said.Sender, as2)
	data := apLink{AS2: as2, Author: said.Sender}
	if c.Type == "Like" || c.Type == "EmojiReact" {
		data.Like, data.Emoji = c.Ref, c.Text
	}
	return x.showAP(&mapping.Incoming{Message: m, ID: mimiID, SenderURI: said.Sender, Sender: userID(mxid), AcceptedMS: uint64(x.nowMS())}, data)
}

// showAP queues the events that a message becomes, each with its link.
func (x *apStep) showAP(in *mapping.Incoming, data apLink) error {
	links := &linkFinder{s: x.step}
	res := x.mappingAP(links).FromMIMI(*in)
	if links.err != nil {
		return links.err
	}
	for i := range res.Events {
		out := &res.Events[i]
		if out.Redacts != "" {
			if k, ok := x.linkOfEvent(out.Redacts); ok {
				x.markRedacted(known(&k).FirstID())
			}
		}
		if link := x.showEvent(in, out); link != nil {
			data.linkData = linkData{Memory: out.Memory}
			link.Data = string(mustJSON(data))
		}
	}
	return nil
}

// Owns tells whether a Matrix room is a conversation with ActivityPub actors, and which.
func (a *ActivityPub) Owns(ctx context.Context, roomID string) (store.RoomID, bool, error) {
	room, err := a.Store.RoomByName(ctx, store.NameMatrix, roomID)
	if errors.Is(err, store.ErrNotFound) {
		return store.RoomID{}, false, nil
	}
	return room.ID, err == nil && room.State == stateAP, err
}

// speak encrypts a message and sends it.
func (x *apStep) speak(ev event.Event) error {
	sender := string(ev.Sender)
	actor, err := x.face.actorID(sender)
	if err != nil {
		return err
	}
	if _, ok := x.thread.Leaf(actor); !ok {
		x.failed(string(ev.ID), sender, "you do not take part in this conversation", false)
		return nil
	}
	salt, err := content.NewSalt(x.Rand)
	if err != nil {
		return err
	}
	links := &linkFinder{s: x.step}
	files, assets, err := x.uploaded(ev)
	if err != nil {
		return err
	}
	out := x.mappingAP(links).ToMIMI(ev, salt, files)
	if links.err != nil {
		return links.err
	}
	if x.waitsForFile(ev, &out) {
		return nil
	}
	if out.Message == nil {
		if _, why, tell := out.Drop.Tell(); tell {
			x.failed(string(ev.ID), sender, why, false)
		}
		return nil
	}
	// The id is the event's: what is said again, after a commit of ours lost, is the same message.
	seed := content.MessageID(sha256.Sum256([]byte(string(x.room.head.GroupID) + "\n" + string(ev.ID))))
	seed[0] = 1
	memory := &apMemory{x: x}
	c, err := ap.FromMIMI(out.Message, seed, actor, memory, x.mention)
	if memory.err != nil {
		return memory.err
	}
	if err != nil {
		x.failed(string(ev.ID), sender, err.Error(), false)
		return nil
	}
	if c.Item != nil {
		x.putInline(c.Item, assets)
	}
	data := apLink{linkData: linkData{Memory: out.Memory}, AS2: c.ID, Author: actor}
	switch c.Type {
	case "Create":
		data.AS2 = c.Item.ID
	case "Like":
		data.Like, data.Emoji = c.Ref, c.Text
	}
	e, err := x.thread.Say(x.Rand, actor, c.Marshal(true))
	if err != nil {
		return err
	}
	x.apply(e)
	x.rememberSaid(string(ev.ID))
	since, again := x.begin(), (*store.Link)(nil)
	if had, err := x.Store.LinkByEvent(x.ctx, x.room.head.ID, string(ev.ID)); err == nil {
		again = &had
	} else {
		x.keepAssets(assets, x.linkSaid(ev, &out, data))
	}
	err = x.sendMLS(actor, e.Message, x.thread.Actors())
	x.kept(since, again)
	if p := out.Message.Purpose(); p == content.Delete || p == content.Unlike {
		x.markRedacted(out.First)
	}
	return err
}

// linkSaid links an event with the message that it became, and returns the number of the link.
func (x *apStep) linkSaid(ev event.Event, out *mapping.Outgoing, data apLink) int64 {
	mimiID := ap.MIMIID(x.room.head.GroupID, data.Author, data.AS2)
	link := store.Link{Room: x.room.head.ID, Seq: x.seq(), EventID: string(ev.ID), MIMIID: mimiID[:], Direction: store.Out, Kind: string(out.Kind), Sender: data.Author,
		SenderMXID: string(ev.Sender), FirstEvent: string(out.FirstEvent), Target: string(out.Target), State: store.LinkSent, Data: string(mustJSON(data)),
		AcceptedMS: x.nowMS(), CreatedMS: x.nowMS()}
	if !out.First.IsZero() {
		link.FirstID = out.First[:]
	}
	x.fx.links = append(x.fx.links, link)
	return link.Seq
}

// mention is the actor and the handle that a mention stands for.
func (x *apStep) mention(uri string) (href, name string) {
	if p, ok := x.face.personKnown(uri); ok {
		return uri, "@" + p.Acct[len("acct:"):]
	}
	return "", ""
}
