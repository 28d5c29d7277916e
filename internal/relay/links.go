package relay

import (
	"encoding/hex"
	"errors"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// linkFinder answers the mapping's questions about earlier messages from the table of links. An error of the database is
// kept: what was mapped with it is not used.
type linkFinder struct {
	s   *step
	err error
}

func (f *linkFinder) fail(err error) {
	if err != nil && !errors.Is(err, store.ErrNotFound) && f.err == nil {
		f.err = err
	}
}

func known(l *store.Link) mapping.Known {
	var d linkData
	_ = unmarshalString(l.Data, &d) // a link without data is one of a kind that has none
	k := mapping.Known{Event: id.EventID(l.EventID), Part: int(l.Part), FirstEvent: id.EventID(l.FirstEvent), Sender: l.Sender, Seq: l.Seq, Memory: d.Memory}
	copy(k.ID[:], l.MIMIID)
	copy(k.First[:], l.FirstID)
	if k.Kind == "" {
		k.Kind = mapping.Kind(l.Kind)
	}
	return k
}

func knownAll(links []store.Link) []mapping.Known {
	out := make([]mapping.Known, len(links))
	for i := range links {
		out[i] = known(&links[i])
	}
	return out
}

// ByEvent finds the message of an event.
func (f *linkFinder) ByEvent(ev id.EventID) (mapping.Known, bool) {
	l, err := f.s.Store.LinkByEvent(f.s.ctx, f.s.room.head.ID, string(ev))
	f.fail(err)
	if err != nil || l.State == store.LinkFailed && l.Direction == store.Out {
		return mapping.Known{}, false // MIMI never had it
	}
	return known(&l), true
}

// ByID finds all events of a message.
func (f *linkFinder) ByID(mimiID content.MessageID) []mapping.Known {
	links, err := f.s.Store.LinksByMIMI(f.s.ctx, f.s.room.head.ID, mimiID[:])
	f.fail(err)
	return knownAll(links)
}

// Newest is the latest version of a message.
func (f *linkFinder) Newest(first content.MessageID) content.MessageID {
	links, err := f.s.Store.LinksByFirst(f.s.ctx, f.s.room.head.ID, first[:])
	f.fail(err)
	newest := first
	for _, l := range links {
		if l.State != store.LinkFailed && len(l.MIMIID) == len(newest) {
			copy(newest[:], l.MIMIID)
		}
	}
	return newest
}

// Edits are the events that edited a message.
func (f *linkFinder) Edits(first content.MessageID) []mapping.Known {
	links, err := f.s.Store.LinksByFirst(f.s.ctx, f.s.room.head.ID, first[:])
	f.fail(err)
	return knownAll(links)
}

// Topic finds the beginning of a topic and the latest message in it.
func (f *linkFinder) Topic(topic []byte) (root, latest mapping.Known, ok bool) {
	first, last, err := f.s.Store.TopicLinks(f.s.ctx, f.s.room.head.ID, hex.EncodeToString(topic))
	f.fail(err)
	if err == nil {
		root, latest, ok = known(&first), known(&last), true
	}
	if len(topic) != len(content.MessageID{}) {
		return root, latest, ok
	}
	// A message whose id is the topic began it.
	list := f.ByID(content.MessageID(topic))
	if len(list) == 0 {
		return root, latest, ok
	}
	if !ok {
		latest = list[len(list)-1]
	}
	return list[0], latest, true
}

// Thread is the latest message of a Matrix thread.
func (f *linkFinder) Thread(root id.EventID) (mapping.Known, bool) {
	k, ok := f.ByEvent(root)
	if !ok {
		return k, false
	}
	topic := k.Topic
	if len(topic) == 0 {
		first := k.FirstID()
		topic = first[:]
	}
	_, latest, ok := f.Topic(topic)
	return latest, ok
}
