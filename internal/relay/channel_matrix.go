package relay

import (
	"context"
	"errors"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// acceptChannel makes an input of an event for the channel that a Matrix room is; ok is false when it is none, or the event is nothing to it. It is beside
// the input for the MIMI side of the same room, in the same transaction.
func (r *Relay) acceptChannel(ctx context.Context, tx *store.Tx, ev *event.Event) (in store.NewInput, ok bool, err error) {
	if r.channels == nil || !r.mattersToChannel(ev) {
		return in, false, nil
	}
	room, err := tx.RoomIDByName(ctx, store.NameChannel, string(ev.Room))
	if err != nil {
		return in, false, ignoreNotFound(err)
	}
	kind := inputChannelEvent
	switch ev.Type {
	case event.TypeEncrypted:
		kind = inputChannelEncrypted
	case event.TypeMessage:
		if m, is := ev.Message(); is && m.Relation.Replaces == "" {
			if _, prefixed := cutPrefix(m.Body, r.cfg.CommandPrefix); prefixed && !r.ours(string(ev.Sender)) {
				return in, false, nil
			}
		}
	}
	return store.NewInput{Room: room, Kind: kind, Source: string(ev.ID), Epoch: -1, Body: ev.Raw, CreatedMS: r.Clock().UnixMilli(),
		SeenKind: "event", SeenKey: string(ev.ID)}, true, nil
}

// mattersToChannel tells whether an event can have an effect in a channel. What the bot and the ghosts of its own world did was written down when it was asked for, but for what
// the bot did to them in the name of the other world.
func (r *Relay) mattersToChannel(ev *event.Event) bool {
	sender := string(ev.Sender)
	if sender == r.cfg.Bot || r.acctGhost(sender) {
		if ev.StateKey == nil {
			return sender == r.cfg.Bot && ev.Type == event.TypeRedaction // by a moderator of the other world
		}
		switch ev.Type {
		case event.TypeMember:
			return *ev.StateKey != r.cfg.Bot && (sender == r.cfg.Bot || !r.acctGhost(*ev.StateKey))
		case event.TypeName, event.TypeTopic, event.TypePowerLevels, event.TypeJoinRules:
			return sender == r.cfg.Bot
		}
		return false
	}
	if ev.StateKey != nil {
		return slices.Contains(stateTypes, ev.Type)
	}
	return slices.Contains(messageTypes, ev.Type)
}

// hasChannel tells whether a Matrix room is a channel.
func (r *Relay) hasChannel(ctx context.Context, db memberReader, roomID string) (bool, error) {
	if r.channels == nil {
		return false, nil
	}
	_, err := db.RoomIDByName(ctx, store.NameChannel, roomID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// onChannelEvent takes an event of the Matrix room of a channel.
func (x *apStep) onChannelEvent(ev event.Event) error {
	if x.room.st.Channel == nil || x.leftAlready(ev) {
		return nil
	}
	switch {
	case ev.Type == event.TypeMember:
		return x.onChannelMember(ev)
	case ev.StateKey != nil:
		return x.onChannelState(ev)
	}
	if ev.Type == event.TypeRedaction {
		x.byAuthor(&ev)
	}
	if x.thread == nil || x.acctGhost(string(ev.Sender)) || string(ev.Sender) == x.cfg.Bot {
		return nil
	}
	if !x.face.partakes(string(ev.Sender)) {
		x.once("not-exported:"+string(ev.Sender), func() {
			x.failed(string(ev.ID), string(ev.Sender), "you are not allowed to use this bridge", false)
		})
		return nil
	}
	if x.room.pending != nil {
		x.waitFor(x.room.head.Epoch+1, "our commit is under way")
		return nil
	}
	actor, err := x.face.actorID(string(ev.Sender))
	if err != nil {
		return err
	}
	if _, in := x.thread.Leaf(actor); !in && x.room.members.joined(string(ev.Sender)) {
		if err := x.change(string(ev.Sender), []string{actor}, nil, string(ev.ID)); err != nil {
			return err
		}
		if !x.room.st.Channel.Hub {
			if err := x.advanceChannel(); err != nil {
				return err
			}
			if x.room.pending != nil {
				x.waitFor(x.room.head.Epoch+1, "the sender's client joins first")
				return nil
			}
		}
	}
	if x.refusedClear(ev) {
		return nil
	}
	return x.speak(ev)
}

// byAuthor lets a message that a moderator took back be taken back by its author, if that is one of ours: nobody else can in this world.
func (x *apStep) byAuthor(ev *event.Event) {
	l, ok := x.linkOfEvent(ev.Redacts)
	if !ok || x.thread == nil || l.Direction != store.Out || l.SenderMXID == string(ev.Sender) {
		return
	}
	if _, in := x.thread.Leaf(l.Sender); in {
		ev.Sender = userID(l.SenderMXID)
	}
}

// onChannelMember takes a change of membership in the Matrix room: who comes is added to the group, who goes is removed.
func (x *apStep) onChannelMember(ev event.Event) error {
	m, ok := ev.Member()
	if !ok {
		return nil
	}
	target, sender := string(m.User), string(m.Sender)
	had, known := x.room.members.of(target)
	was := had.Membership
	if target == x.cfg.Bot {
		had.Membership = string(m.Membership)
		x.setMember(had)
		return nil
	}
	if x.acctGhost(target) {
		if sender == x.cfg.Bot && m.Membership == event.Invite || known && was == string(m.Membership) {
			return nil // our own doing
		}
		had.Ghost = true
	} else if !x.face.partakes(target) {
		return nil
	}
	actor, err := x.actorOfMXID(target)
	if err != nil {
		return ignoreNotFound(err)
	}
	had.Membership, had.URI = string(m.Membership), actor
	if m.DisplayName != "" {
		had.Display = m.DisplayName
	}
	x.setMember(had)
	if m.Classify(event.Membership(was), false) == event.MoveUnbanned {
		if x.thread == nil || !slices.Contains(x.thread.Actors(), actor) {
			return nil
		}
		return x.place([]string{actor}, nil, x.room.st.Channel.ID) // the channel kept them
	}
	switch m.Membership {
	case event.Join:
		if !had.Ghost {
			x.tellEncrypted() // now they have the key
			return x.change(target, []string{actor}, nil, string(ev.ID))
		}
	case event.Invite:
		if had.Ghost {
			return x.change(sender, []string{actor}, nil, string(ev.ID))
		}
	case event.Leave, event.Ban:
		return x.change(sender, nil, []string{actor}, string(ev.ID))
	}
	return nil
}

// onChannelState takes a state event of the Matrix room.
func (x *apStep) onChannelState(ev event.Event) error {
	v := x.room
	if *ev.StateKey != "" {
		return nil
	}
	switch ev.Type {
	case event.TypePowerLevels:
		v.matrix.Power = ev.Content.Encode()
	case event.TypeJoinRules:
		v.matrix.Join = ev.Content.Str("join_rule")
	case event.TypeServerACL:
		var r event.Room
		r.Apply(ev)
		v.matrix.ACL = r.ACL
	case event.TypeEncryption:
		v.matrix.Crypt = true
		x.tellEncrypted()
	case event.TypeName:
		name := cleanName(ev.Content.Str("name"))
		if name == v.matrix.Name {
			return nil
		}
		was := v.matrix.Name
		v.matrix.Name = name
		return x.tellUpdate(ev, ap.Object{"name": name}, was, name)
	case event.TypeTopic:
		topic := ev.Content.Str("topic")
		if topic == v.matrix.Topic {
			return nil
		}
		was := v.matrix.Topic
		v.matrix.Topic = topic
		return x.tellUpdate(ev, ap.Object{"summary": topic}, was, topic)
	case event.TypeAvatar:
		mxc := ev.Content.Str("url")
		if mxc == v.matrix.Avatar {
			return nil
		}
		was := v.matrix.Avatar
		v.matrix.Avatar = mxc
		if address, ok := x.publicURL(mxc); ok {
			return x.tellUpdate(ev, ap.Object{"icon": ap.Object{"type": "Image", "url": address}}, was, mxc)
		}
	}
	return nil
}

// channelUpdate is a change of a channel's metadata that its server is asked for: what a state event changed, and to what.
type channelUpdate struct {
	Event string `json:"event"`
	Type  string `json:"type"`
	Now   string `json:"now"`
}

// onUpdateAnswer takes the word of a channel's server on a change; why it was not made, "" when it was.
func (x *apStep) onUpdateAnswer(u channelUpdate, why string) {
	c := x.room.st.Channel
	change := c.Changes[u.Type]
	if change == nil {
		return
	}
	if change.Asked--; change.Asked <= 0 {
		delete(c.Changes, u.Type)
	}
	if why == "" {
		change.Has = u.Now
		return
	}
	what := x.showKept(u, change)
	x.notice("The "+what+" of this room was not changed: "+why+".", u.Event)
}

// showKept shows again what the channel has, unless more changes are on their way to it or Matrix was changed again. It returns what it is.
func (x *apStep) showKept(u channelUpdate, change *channelChange) string {
	m, by, last := &x.room.matrix, userID(x.cfg.Bot), change.Asked <= 0
	switch u.Type {
	case event.TypeName:
		if last && m.Name == u.Now {
			x.setText(by, event.TypeName, "name", change.Has, &m.Name)
		}
		return "name"
	case event.TypeTopic:
		if last && m.Topic == u.Now {
			x.setText(by, event.TypeTopic, "topic", change.Has, &m.Topic)
		}
		return "topic"
	}
	if last && m.Avatar == u.Now {
		x.showAvatar(change.Has)
	}
	return "picture"
}

// tellUpdate says that the channel's metadata are others now, after a state event that changed something in Matrix: to all members as its host, to the channel as a
// member of it (AIM figure 9).
func (x *apStep) tellUpdate(ev event.Event, changes ap.Object, was, now string) error {
	c := x.room.st.Channel
	if x.thread == nil {
		return nil
	}
	env := ap.Envelope{ID: envelopeID([]byte(ev.ID)) + "-u", Actor: c.ID, Published: x.now}
	if !c.Hub {
		actor, err := x.actorOfMXID(string(ev.Sender))
		if err != nil {
			return ignoreNotFound(err)
		}
		if _, in := x.thread.Leaf(actor); !in {
			return nil
		}
		env.Actor = actor
		row := x.postOne(ap.Post{Inbox: c.Inbox, Body: x.face.Site.ChannelUpdate(env, c.ID, changes)})
		ask(row, refChannelUpdate+string(mustJSON(channelUpdate{string(ev.ID), ev.Type, now})), 0)
		if c.Changes[ev.Type] == nil {
			if c.Changes == nil {
				c.Changes = map[string]*channelChange{}
			}
			c.Changes[ev.Type] = &channelChange{Has: was}
		}
		c.Changes[ev.Type].Asked++
		return nil
	}
	to, err := x.channelTo(x.thread.Actors(), "")
	if err != nil {
		return err
	}
	for _, r := range to {
		env.To = append(env.To, r.Actor)
	}
	body := x.face.Site.ChannelUpdate(env, c.ID, changes)
	var inboxes []string
	for _, r := range to {
		inbox := r.SharedInbox
		if inbox == "" {
			inbox = r.Inbox
		}
		if r.Dialect == ap.DialectAIM && !slices.Contains(inboxes, inbox) {
			inboxes = append(inboxes, inbox)
			x.post([]ap.Post{{Inbox: inbox, Body: body}})
		}
	}
	return nil
}
