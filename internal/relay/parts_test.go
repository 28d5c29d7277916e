package relay

import (
	"context"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// sendContent lets bob's client say something that Matrix has no words for, as another MIMI client would.
func (p *pair) sendContent(body content.Part, change func(*content.Message)) content.MessageID {
	p.t.Helper()
	var id content.MessageID
	p.sendOctets(func(s *step, user string, salt content.Salt) []byte {
		m := &content.Message{Salt: salt, Body: body, Extensions: content.Extensions{}}
		m.Extensions.SetNames(user, s.room.head.URI)
		if change != nil {
			change(m)
		}
		octets, err := m.Marshal()
		must0(p.t, err)
		id, err = content.ID(user, s.room.head.URI, octets, m.Salt)
		must0(p.t, err)
		return octets
	})
	return id
}

// sendOctets lets bob's client say something, whatever it is.
func (p *pair) sendOctets(octets func(s *step, user string, salt content.Salt) []byte) {
	p.t.Helper()
	_, err := p.b.relay.runStep(context.Background(), p.b.room(p.portal).ID, nil, store.Settle{}, func(s *step) error {
		user := s.actorOf(p.bob)
		salt, err := content.NewSalt(s.Rand)
		if err != nil {
			return err
		}
		leaf, _ := s.room.ownLeaf(user)
		message, err := s.protect(user, leaf, octets(s, user, salt), salt)
		if err != nil {
			return err
		}
		q := wire.SubmitMessageRequest{Message: message, SendingURI: wire.IdentifierURI(user)}
		s.mimi(s.room.head.Hub, verbSubmitMessage, q.Marshal())
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.settle()
}

func textPart(typ, text string) content.Part {
	return content.Part{Disposition: content.Render, Body: content.SinglePart{ContentType: typ, Content: []byte(text)}}
}

func multi(how content.Semantics, parts ...content.Part) content.Part {
	return content.Part{Disposition: content.Render, Body: content.MultiPart{Semantics: how, Parts: parts}}
}

const unknownType = "application/vnd.example.unknown"

// The three ways in which parts belong together, and parts of unknown types.
func TestMultiparts(t *testing.T) {
	p := newPair(t, warm).begin()
	bob := local(p.bobAtA)
	p.sendContent(multi(content.ChooseOne, textPart("text/plain", "plain"), textPart(content.TypeMarkdownMIMI, "*marked*")), nil)
	p.last("choose one", p.a.hs.texts(p.room), bob+": *marked*")
	if html := p.room.find(t, event.TypeMessage, "marked").object().Str("formatted_body"); !strings.Contains(html, "<em>marked</em>") {
		t.Errorf("Markdown became %q", html)
	}
	id := p.sendContent(multi(content.ProcessAll, textPart("text/plain", "first part"), textPart("text/plain", "second part")), nil)
	p.last("process all", p.a.hs.texts(p.room), bob+": first part", bob+": second part")
	second := p.room.find(t, event.TypeMessage, "second part")
	// An answer to the second part is one to the message; a deletion of it takes all of the message.
	p.a.hs.emit(p.room, p.alice, event.TypeMessage, nil, merge(map[string]any{"msgtype": "m.text", "body": "to the second"}, inReply(second.id)), 0)
	p.settle()
	links, err := p.a.db.LinksByMIMI(context.Background(), p.a.room(p.room).ID, id[:])
	if err != nil || len(links) != 2 {
		t.Fatalf("%d links, %v", len(links), err)
	}
	p.a.hs.redact(p.room, p.alice, second.id)
	p.settle()
	if !p.room.find(t, event.TypeMessage, "first part").redacted {
		t.Error("the other part stands")
	}
	p.sendContent(multi(content.SingleUnit, textPart("text/plain", "one of two"), textPart(unknownType, "?")), nil)
	p.room.find(t, event.TypeMessage, "one of two") // what is of an unknown type comes beside it, as a file
	p.talk(1)
	p.noTrouble()
}

// A reaction that is changed takes the old one back; one with several keys becomes several.
func TestChangedReaction(t *testing.T) {
	p := newPair(t, warm).begin()
	own := p.a.hs.say(p.room, p.alice, "react")
	p.settle()
	l, err := p.a.db.LinkByEvent(context.Background(), p.a.room(p.room).ID, own)
	if err != nil {
		t.Fatal(err)
	}
	target := content.MessageID(l.MIMIID)
	reaction := func(key string) content.Part {
		return content.Part{Disposition: content.Reaction, Body: content.SinglePart{ContentType: "text/plain;charset=utf-8", Content: []byte(key)}}
	}
	first := p.sendContent(reaction("👍"), func(m *content.Message) { m.InReplyTo = target })
	p.equal("target", p.room.find(t, event.TypeReaction, "👍").relation().Annotates, own)
	p.sendContent(reaction("🎉"), func(m *content.Message) { m.InReplyTo, m.Replaces = target, first })
	if !p.room.find(t, event.TypeReaction, "👍").redacted {
		t.Error("the old reaction stands")
	}
	p.equal("new", p.room.find(t, event.TypeReaction, "🎉").relation().Annotates, own)
	p.noTrouble()
}

// A message that somebody else wrote is edited by nobody, even if a peer sends such a thing.
func TestForeignEditIsNotShown(t *testing.T) {
	p := newPair(t, warm).begin()
	own := p.a.hs.say(p.room, p.alice, "mine")
	p.settle()
	l, err := p.a.db.LinkByEvent(context.Background(), p.a.room(p.room).ID, own)
	if err != nil {
		t.Fatal(err)
	}
	n := len(p.room.timeline)
	target := content.MessageID(l.MIMIID)
	p.sendContent(textPart("text/plain", "yours"), func(m *content.Message) { m.Replaces = target })
	p.sendContent(content.Part{Disposition: content.Render, Body: content.NullPart{}}, func(m *content.Message) { m.Replaces = target })
	p.equal("events", len(p.room.timeline), n)
	if p.room.find(t, event.TypeMessage, "mine").redacted {
		t.Error("deleted by somebody who may not")
	}
	p.noTrouble()
}

// In a room beyond the limit, who speaks gets a client first.
func TestLargeRoom(t *testing.T) {
	p := newPair(t, warm)
	p.a.conf.MaxExport = 3
	p.a.start()
	p.room = p.a.hs.create(p.alice, "Hall", "")
	for _, name := range []string{"b1", "b2", "b3", "b4", "b5"} {
		u := p.a.hs.mxid(name)
		p.a.hs.invite(p.room, p.alice, u)
		p.a.hs.join(p.room, u)
	}
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.bobJoins()
	if n := len(p.a.view(p.room).group.OwnLeaves()); n > 4 {
		t.Errorf("%d clients of A at first", n)
	}
	p.a.hs.say(p.room, p.a.hs.mxid("b5"), "may I?")
	p.settle()
	p.last("B", p.b.hs.texts(p.portal), local(p.b.ghost("mimi://a.example/u/b5"))+": may I?")
	status := p.b.view(p.portal).policy.Status
	p.equal("status policy", []any{status.ReadReceipts, status.DeliveryNotifications}, []any{policy.Forbidden, policy.Forbidden})
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}
