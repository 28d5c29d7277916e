package mapping

import (
	"bytes"
	"fmt"
	"strings"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

const testRoom = "mimi://b.example/r/room"

// people is a list of participants of tests.
type people struct {
	uris  map[id.UserID]string
	names map[id.UserID]string
}

func newPeople(list ...[3]string) *people {
	p := &people{uris: map[id.UserID]string{}, names: map[id.UserID]string{}}
	for _, l := range list {
		p.uris[id.UserID(l[0])], p.names[id.UserID(l[0])] = l[1], l[2]
	}
	return p
}

func (p *people) URI(u id.UserID) (string, bool) { s, ok := p.uris[u]; return s, ok }
func (p *people) MXID(uri string) (id.UserID, bool) {
	for u, s := range p.uris {
		if s == uri {
			return u, true
		}
	}
	return "", false
}
func (p *people) Name(u id.UserID) string {
	if n := p.names[u]; n != "" {
		return n
	}
	return string(u)
}

// book keeps links in memory as the store does.
type book struct{ list []Known }

func (b *book) ByEvent(ev id.EventID) (Known, bool) {
	for _, k := range b.list {
		if k.Event == ev && ev != "" {
			return k, true
		}
	}
	return Known{}, false
}

func (b *book) ByID(m content.MessageID) (out []Known) {
	for _, k := range b.list {
		if k.ID == m {
			out = append(out, k)
		}
	}
	return out
}

func (b *book) Newest(first content.MessageID) content.MessageID {
	n := first
	for _, k := range b.list {
		if k.First == first {
			n = k.ID
		}
	}
	return n
}

func (b *book) Edits(first content.MessageID) (out []Known) {
	for _, k := range b.list {
		if k.First == first && k.Kind != "" {
			out = append(out, k)
		}
	}
	return out
}

func (b *book) Topic(topic []byte) (root, latest Known, ok bool) {
	for _, k := range b.list {
		first := k.FirstID()
		if bytes.Equal(k.Topic, topic) || bytes.Equal(first[:], topic) && k.First.IsZero() {
			if !ok {
				root, ok = k, true
			}
			latest = k
		}
	}
	return root, latest, ok
}

func (b *book) Thread(root id.EventID) (latest Known, ok bool) {
	for _, k := range b.list {
		if k.Thread == root {
			latest, ok = k, true
		}
	}
	return latest, ok
}

func (b *book) add(k Known) {
	k.Seq = int64(len(b.list) + 1)
	b.list = append(b.list, k)
}

// side is one bridge of a test: a Matrix room with what it remembers.
type side struct {
	*Room
	book *book
	n    int
}

func newSide(p *people) *side {
	b := &book{}
	return &side{Room: &Room{URI: testRoom, People: p, Links: b, Options: Options{MentionPrefix: true}}, book: b}
}

// send maps an event to MIMI, encodes it and remembers it.
func (s *side) send(e event.Event, files Files) ([]byte, content.MessageID, Outgoing, error) {
	s.n++
	salt := content.Salt{byte(s.n), byte(s.n >> 8), 7}
	o := s.ToMIMI(e, salt, files)
	if o.Message == nil {
		return nil, content.MessageID{}, o, fmt.Errorf("nothing to send: %q, needs %v", o.Drop, o.Needs)
	}
	octets, err := o.Message.Marshal()
	if err != nil {
		return nil, content.MessageID{}, o, err
	}
	uri, _ := s.People.URI(e.Sender)
	mimi, err := content.ID(uri, testRoom, octets, salt)
	if err != nil {
		return nil, mimi, o, err
	}
	s.book.add(Known{Event: e.ID, ID: mimi, First: o.First, FirstEvent: o.FirstEvent, Sender: uri, Memory: o.Memory})
	return octets, mimi, o, nil
}

// receive maps octets to Matrix events and remembers them with the event ids
// that it gives them.
func (s *side) receive(sender string, octets []byte, acceptedMS uint64) (Rendering, []id.EventID, error) {
	r, err := content.Receive(octets, content.Envelope{SenderURI: sender, RoomURI: testRoom, AcceptedMS: acceptedMS})
	if err != nil {
		return Rendering{}, nil, err
	}
	mxid, ok := s.People.MXID(sender)
	if !ok {
		return Rendering{}, nil, fmt.Errorf("%s takes no part", sender)
	}
	res := s.FromMIMI(Incoming{Message: r.Message, ID: r.ID, SenderURI: sender, Sender: mxid, AcceptedMS: acceptedMS, MayNotifyRoom: true})
	var ids []id.EventID
	for _, o := range res.Events {
		s.n++
		ev := id.EventID(fmt.Sprintf("$in%d", s.n))
		ids = append(ids, ev)
		if o.Kind != "" {
			s.book.add(Known{Event: ev, ID: r.ID, Part: o.Part, First: o.First, FirstEvent: o.FirstEvent, Sender: sender, Memory: o.Memory})
		}
	}
	return res, ids, nil
}

// evt makes a room event of a content.
func evt(evID, sender, typ, contentJSON string) event.Event {
	raw := fmt.Sprintf(`{"event_id":%q,"room_id":"!r:hs","sender":%q,"type":%q,"origin_server_ts":1700000000000,"content":%s}`, evID, sender, typ, contentJSON)
	e, err := event.ParseChecked([]byte(raw))
	if err != nil {
		panic(err.Error() + ": " + raw)
	}
	return e
}

// uploaded answers for every file.
func uploaded(mxc string) (Uploaded, bool) {
	name := mxc[strings.LastIndexByte(mxc, '/')+1:]
	mediaType := "image/png"
	if t := byExtension[extension(name)]; t != "" {
		mediaType = t
	}
	return Uploaded{Part: content.ExternalPart{ContentType: mediaType, URL: "https://assets.b.example/" + name, Size: 1000, EncAlg: content.AES128GCM,
		Key: bytes.Repeat([]byte{1}, 16), Nonce: bytes.Repeat([]byte{2}, 12), HashAlg: content.SHA256, ContentHash: bytes.Repeat([]byte{3}, 32)}}, true
}
