package relay

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/follower"
	"github.com/matrix-mimi/bridge/mimiside/hub"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// statuses are the states that people were told of an event.
func (r *hsRoom) statuses(ev string) (out []string) {
	for _, e := range r.timeline {
		if o := e.object(); e.typ == event.TypeSendStatus && event.ParseRelation(o).References.String() == ev {
			out = append(out, o.Str("status")+" "+o.Str("reason"))
		}
	}
	return out
}

// What MIMI has no words for is not sent: of votes, of calls that go on and of kinds that clients do not show nothing is said, of what people
// mean to do and cannot their sender is told once in a room.
func TestWhatMIMILacks(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		own, _ := w.send("helo", nil)
		edit, _ := w.send("* hello", editOf(own, "hello"))
		again, _ := w.send("* hello!", editOf(own, "hello!"))
		n := len(w.to.timeline)
		for i, typ := range []string{"m.poll.response", "m.call.candidates", "m.beacon", "org.example.board"} {
			ev := w.hs.emit(w.from, w.who, typ, nil, map[string]any{"move": i}, 0)
			w.settle()
			w.equal(typ, w.from.statuses(ev), []string{})
		}
		for i, version := range []string{edit, again} {
			ev := w.hs.emit(w.from, w.who, event.TypeRedaction, nil, map[string]string{"redacts": version}, 0)
			w.settle()
			w.equal("redaction of a version", w.from.statuses(ev), []string{"FAIL_PERMANENT com.beeper.unsupported_event"}[:1-i])
		}
		w.equal("events on the other side", len(w.to.timeline), n)
	})
}

// A message that cannot be decrypted has a notice in its place, and the conversation goes on. A hub that is in the room does not take it:
// nobody but its sender's provider hears of it.
func TestMessageThatCannotBeDecrypted(t *testing.T) {
	p := newPair(t, warm).begin()
	spoiled := func(n *node, r *hsRoom, user string, send func(s *step, q *wire.SubmitMessageRequest)) {
		_, err := n.relay.runStep(context.Background(), n.room(r).ID, nil, store.Settle{}, func(s *step) error {
			leaf, _ := s.room.ownLeaf(user)
			m, err := s.protect(user, leaf, []byte("octets"), content.Salt{1})
			if err != nil {
				return err
			}
			m.Raw[len(m.Raw)-1] ^= 1
			send(s, &wire.SubmitMessageRequest{Message: wire.NewMessage(m.Raw), SendingURI: wire.IdentifierURI(user)})
			return nil
		})
		must0(t, err)
		p.settle()
	}
	spoiled(p.b, p.portal, bobURI, func(s *step, q *wire.SubmitMessageRequest) {
		s.mimi(s.room.head.Hub, verbSubmitMessage, q.Marshal())
	})
	p.equal("A", p.heard(p.room, p.a, "could not be decrypted"), false)
	spoiled(p.a, p.room, aliceURI, func(s *step, q *wire.SubmitMessageRequest) {
		s.accepted(hub.SubmitMessage(s.now, s.hubRoom(), s.franker(), q), aliceURI)
	})
	p.last("B", p.b.hs.texts(p.portal), "notice mimibot: A message could not be decrypted.")
	p.talk(1)
	p.noTrouble()
}

// What is no content, says that it is of somebody else or of another room, is shown to nobody.
func TestContentThatIsNotShown(t *testing.T) {
	p := newPair(t, warm).begin()
	n := len(p.room.timeline)
	p.sendOctets(func(*step, string, content.Salt) []byte { return []byte("no content") })
	p.sendOctets(func(*step, string, content.Salt) []byte { return nil })
	hello := textPart("text/plain", "hello")
	p.sendContent(hello, func(m *content.Message) { m.Extensions.SetNames(aliceURI, p.a.room(p.room).URI) })
	p.sendContent(hello, func(m *content.Message) { m.Extensions.SetNames(bobURI, "mimi://a.example/r/other") })
	p.equal("events", len(p.room.timeline), n)
	// The same message, said twice, is shown once.
	var salt content.Salt
	p.sendContent(textPart("text/plain", "once"), func(m *content.Message) { salt = m.Salt })
	p.sendContent(textPart("text/plain", "once"), func(m *content.Message) { m.Salt = salt })
	p.equal("events", len(p.room.timeline), n+1)
	p.talk(1)
	p.noTrouble()
}

// A Welcome that cannot be used leads nowhere, and the operator is told.
func TestWelcomeThatCannotBeUsed(t *testing.T) {
	p := newPair(t, warm)
	p.fault = func(_, to, verb string, body []byte) fault {
		if verb == verbNotify && to == "b.example" {
			body[len(body)-1] ^= 1 // the end of the tree
		}
		return deliver
	}
	p.room = p.a.hs.create(p.alice, "Tea", "")
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	if p.b.hs.roomOf(p.bob, "invite") != nil {
		t.Error("bob is invited to a room that was not joined")
	}
	p.equal("alerts", p.b.alerts, []string{"welcome: a Welcome of a.example could not be used"})
	// The next one is.
	p.fault = nil
	p.b.alerts = nil
	p.a.hs.kick(p.room, p.alice, p.bobAtA)
	p.settle()
	p.a.hs.invite(p.room, p.alice, p.bobAtA)
	p.settle()
	p.bobJoins()
	p.talk(1)
	p.noTrouble()
}

// A message that the hub found too old again and again, or that did not reach it in days, can be sent again; one that it refused cannot.
func TestWhatCanBeSentAgain(t *testing.T) {
	p := newPair(t, warm).begin()
	old := (&wire.SubmitMessageResponse{StatusCode: wire.SubmitEpochTooOld, CurrentEpoch: 1}).Marshal()
	no := (&wire.SubmitMessageResponse{StatusCode: wire.SubmitNotAllowed}).Marshal()
	for name, c := range map[string]struct {
		class, status, says string
		body                []byte
		tries               int
	}{
		"too old":     {"refused", "FAIL_RETRIABLE m.foreign_network_error", "the room changes too often", old, follower.MaxResends},
		"not reached": {"dead", "FAIL_RETRIABLE m.foreign_network_error", "the room's provider could not be reached", nil, 1},
		"refused":     {"refused", "FAIL_PERMANENT m.no_permission", "the room does not accept this message", no, 1},
	} {
		ev := p.b.hs.say(p.portal, p.bob, name)
		p.settle()
		l, err := p.b.db.LinkByEvent(t.Context(), p.b.room(p.portal).ID, ev)
		must0(t, err)
		_, err = p.b.relay.runStep(t.Context(), l.Room, nil, store.Settle{}, func(s *step) error {
			return s.onAnswer(&store.Answer{Class: c.class, Body: c.body, Ref: fmt.Sprint(refSubmit, ":", c.tries), For: l.Seq, Dest: destMIMI + "a.example", Verb: verbSubmitMessage})
		})
		must0(t, err)
		p.settle()
		p.equal(name, p.portal.statuses(ev), []string{c.status})
		p.last(name, p.b.hs.texts(p.portal), "notice mimibot: ⚠ Your message was not delivered: "+c.says+".")
	}
	p.noTrouble()
}

// What was written while the hub was away and its writer was put out meanwhile reaches nobody, and the writer is told.
func TestWrittenByWhoWasPutOutMeanwhile(t *testing.T) {
	p := newPair(t, warm).begin()
	away := true
	p.fault = func(_, _, _ string, _ []byte) fault {
		if away {
			return dropRequest
		}
		return deliver
	}
	one := p.b.hs.say(p.portal, p.bob, "one")
	two := p.b.hs.say(p.portal, p.bob, "two")
	p.settle()
	p.a.hs.kick(p.room, p.alice, p.bobAtA)
	p.settle()
	away = false
	p.pass(time.Hour)
	for _, ev := range []string{one, two} {
		if got := p.portal.statuses(ev); len(got) != 1 || !strings.HasPrefix(got[0], "FAIL_PERMANENT") {
			t.Errorf("status %q", got)
		}
	}
	p.equal("A", p.a.hs.texts(p.room), []string{})
	p.equal("bob", p.portal.members[p.bob], "leave")
	p.noTrouble()
}

// What a hub says of a refusal is shown as one short line.
func TestWordsOfARefusalAreBounded(t *testing.T) {
	p := newPair(t, warm).begin()
	p.fault = func(_, _, verb string, _ []byte) fault {
		if verb == verbUpdate {
			return dropRequest
		}
		return deliver
	}
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50}})
	p.settle()
	p.b.hs.set(p.portal, p.bob, event.TypeName, map[string]string{"name": "Wine"})
	p.settle()
	v := p.b.view(p.portal)
	if v.pending == nil {
		t.Fatal("no commit is under way")
	}
	answer := (&wire.UpdateRoomResponse{ResponseCode: wire.UpdateNotAllowed, ErrorDescription: "no\n\n@room\tpay " + strings.Repeat("x", 900)}).Marshal()
	_, err := p.b.relay.runStep(t.Context(), v.head.ID, nil, store.Settle{}, func(s *step) error {
		return s.onAnswer(&store.Answer{Class: "done", Body: answer, Ref: refUpdate, Seq: s.room.pending.OutboundSeq, Dest: destMIMI + "a.example", Verb: verbUpdate})
	})
	must0(t, err)
	p.settle()
	texts := p.b.hs.texts(p.portal)
	said, ok := strings.CutPrefix(texts[len(texts)-1], "notice mimibot: The change was not accepted: no @room pay xxx")
	if !ok || len(said) > 250 || strings.ContainsAny(said, "\n\t") {
		t.Errorf("said %q", texts)
	}
	p.equal("name", p.portal.str(event.TypeName, "name"), "Tea")
}

// Who cannot show a message says so, once to each room.
func TestMessageThatOthersCannotShow(t *testing.T) {
	p := newPair(t, warm).begin()
	for _, text := range []string{"one", "two"} {
		own := p.a.hs.say(p.room, p.alice, text)
		p.settle()
		l, err := p.a.db.LinkByEvent(t.Context(), p.a.room(p.room).ID, own)
		must0(t, err)
		_, err = p.b.relay.runStep(t.Context(), p.b.room(p.portal).ID, nil, store.Settle{}, func(s *step) error {
			return s.report(bobURI, []content.MessageID{content.MessageID(l.MIMIID)}, content.Failed)
		})
		must0(t, err)
		p.settle()
	}
	p.equal("A", p.a.hs.texts(p.room), []string{"alice: one", "notice mimibot: " + local(p.bobAtA) + " says that this message could not be shown to them.", "alice: two"})
	p.noTrouble()
}

// What expires after reading ends after a month that nobody reads it.
func TestExpiryOfWhatNobodyReads(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		w.send("unread", map[string]any{"com.beeper.disappearing_timer": map[string]any{"type": "after_read", "timer": 30_000}})
		w.pass(29 * 24 * time.Hour)
		if w.to.find(t, event.TypeMessage, "unread").redacted {
			t.Error("gone too early")
		}
		w.pass(3 * 24 * time.Hour)
		if !w.to.find(t, event.TypeMessage, "unread").redacted {
			t.Error("the message that nobody read stands")
		}
	})
}

// What a homeserver refuses to show is accepted in the MIMI room all the same: people are told once, and its ghost comes in again with the next.
func TestMessageThatTheHomeserverRefuses(t *testing.T) {
	p := newPair(t, warm).begin()
	p.a.hs.member(p.room, p.bobAtA, p.bobAtA, "leave", "")
	p.a.hs.queue = nil // the bridge does not hear of it
	p.b.hs.say(p.portal, p.bob, "one")
	p.settle()
	p.last("A", p.a.hs.texts(p.room), "notice mimibot: A message of "+local(p.bobAtA)+" could not be shown here.")
	p.b.hs.say(p.portal, p.bob, "two")
	p.settle()
	p.last("A", p.a.hs.texts(p.room), local(p.bobAtA)+": two")
	p.equal("bob's statuses", p.portal.statuses(p.portal.find(t, event.TypeMessage, "one").id), []string{})
	p.noTrouble()
}
