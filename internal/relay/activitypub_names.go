package relay

import (
	"crypto/sha256"
	"strings"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// maxThreadName bounds names and topics of conversations, in octets.
const maxThreadName = 1000

// heardOfGroup takes what somebody says of the conversation itself: its name and topic, and what was read.
func (x *apStep) heardOfGroup(c *ap.Content, sender string) bool {
	if name, topic, ok := c.Names(x.room.head.GroupID); ok {
		if x.room.st.Channel != nil {
			return true // a channel is named by an Update of who may do that
		}
		x.showThreadState(event.TypeName, "name", cutBytes(name, maxThreadName), &x.room.matrix.Name)
		x.showThreadState(event.TypeTopic, "topic", cutBytes(topic, maxThreadName), &x.room.matrix.Topic)
		return true
	}
	about, ok := c.Receipt()
	if !ok {
		return false
	}
	known, ok := (&apMemory{x: x}).ByAS2(about, "")
	if !ok || x.cfg.NoReceipts {
		return true
	}
	links, err := x.Store.LinksByMIMI(x.ctx, x.room.head.ID, known.ID[:])
	if err != nil || len(links) == 0 || links[0].EventID == "" {
		return true
	}
	if mxid, ghost, err := x.mxid(sender); err == nil && ghost {
		x.matrix(event.ReadUpTo{Sender: userID(mxid), Event: id.EventID(links[0].EventID)})
	}
	return true
}

// showThreadState writes name or topic into the Matrix room, unless there is none.
func (x *apStep) showThreadState(kind, key, value string, have *string) {
	if value != "" {
		x.setText(x.speaker(), kind, key, value, have)
	}
}

// onThreadState tells the others of a new name or topic of the Matrix room.
func (x *apStep) onThreadState(ev event.Event) error {
	m := &x.room.matrix
	name, topic := m.Name, m.Topic
	switch ev.Type {
	case event.TypeName:
		name = cutBytes(strings.TrimSpace(ev.Content.Str("name")), maxThreadName)
	case event.TypeTopic:
		topic = cutBytes(strings.TrimSpace(ev.Content.Str("topic")), maxThreadName)
	}
	if name == m.Name && topic == m.Topic || !x.exported(string(ev.Sender)) {
		return nil
	}
	m.Name, m.Topic = name, topic
	actor, err := x.face.actorID(string(ev.Sender))
	if err != nil {
		return err
	}
	if _, in := x.thread.Leaf(actor); !in {
		return nil
	}
	seed := content.MessageID(sha256.Sum256([]byte(string(x.room.head.GroupID) + "\n" + string(ev.ID))))
	seed[0] = 1
	e, err := x.thread.Say(x.Rand, actor, ap.Naming(seed, actor, string(x.room.head.GroupID), name, topic).Marshal(false))
	if err != nil {
		return err
	}
	x.apply(e)
	return x.sendMLS(actor, e.Message, x.thread.Actors())
}
