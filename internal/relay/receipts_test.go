package relay

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// read is what a user's client does when the user has read up to an event.
func (h *fakeHS) read(r *hsRoom, user, ev string, private bool) {
	h.ephemeral = append(h.ephemeral, event.Ephemeral{Type: event.TypeReceipt, Room: id.RoomID(r.id),
		Receipts: []event.Receipt{{Event: id.EventID(ev), User: id.UserID(user), Private: private}}})
}

// What somebody reads is told to the others, once for several messages, and never takes a receipt back.
func TestReadReceipts(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		var own []string
		var seen []*hsEvent
		for _, text := range []string{"one", "two", "three"} {
			o, s := w.send(text, nil)
			own, seen = append(own, o), append(seen, s)
		}
		other := w.otherSpeaker()
		w.there.read(w.to, other, seen[0].id, false)
		w.settle()
		w.there.read(w.to, other, seen[1].id, false)
		w.settle()
		ghost := w.bobAtA
		if w.who == w.bob {
			ghost = w.aliceAtB
		}
		w.equal("before the reports are due", w.from.reads[ghost], "")
		n := len(w.hs.rows)
		w.pass(6 * time.Second)
		w.equal("read up to", w.from.reads[ghost], own[1])
		w.equal("receipts", countRows(w.hs.rows[n:], "receipt"), 1)
		w.there.read(w.to, other, seen[0].id, false)
		w.pass(6 * time.Second)
		w.equal("after an old receipt", w.from.reads[ghost], own[1])
		w.there.read(w.to, other, seen[2].id, true)
		w.pass(6 * time.Second)
		w.equal("after a private receipt", w.from.reads[ghost], own[1])
		node := w.a
		if w.who == w.bob {
			node = w.b
		}
		l, err := node.db.LinkByEvent(context.Background(), node.room(w.from).ID, own[0])
		w.equal("state of the message", string(l.State)+errText(err), store.LinkDelivered)
	})
}

func countRows(rows []string, verb string) (n int) {
	for _, r := range rows {
		if strings.HasPrefix(r, verb+" ") {
			n++
		}
	}
	return n
}

func errText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestNoReceiptsWhereTheOperatorWantsNone(t *testing.T) {
	p := newPair(t, warm)
	p.a.conf.NoReceipts, p.b.conf.NoReceipts = true, true
	p.a.start()
	p.b.start()
	p.begin()
	p.a.hs.say(p.room, p.alice, "psst")
	p.settle()
	p.b.hs.read(p.portal, p.bob, p.portal.find(t, event.TypeMessage, "psst").id, false)
	p.pass(6 * time.Second)
	p.equal("receipt", p.room.reads[p.bobAtA], "")
	p.noTrouble()
}

// setPolicy lets the hub put a component of the policy into the group.
func (p *pair) setPolicy(component uint16, data []byte) {
	p.t.Helper()
	room := p.a.room(p.room)
	_, err := p.a.relay.runStep(context.Background(), room.ID, nil, store.Settle{}, func(s *step) error {
		s.wish(intentPolicy, s.bot, "", intentData{Components: map[uint16][]byte{component: data}})
		return s.advance()
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.settle()
}

func TestReceiptsUnderThePolicyOfTheRoom(t *testing.T) {
	p := newPair(t, warm).begin()
	p.setPolicy(policy.ComponentStatus, (&policy.StatusNotificationPolicy{DeliveryNotifications: policy.Required, ReadReceipts: policy.Forbidden}).Marshal())
	own := p.a.hs.say(p.room, p.alice, "forbidden to tell")
	p.settle()
	p.b.hs.read(p.portal, p.bob, p.portal.find(t, event.TypeMessage, "forbidden").id, false)
	p.pass(6 * time.Second)
	p.equal("receipt", p.room.reads[p.bobAtA], "")
	l, err := p.a.db.LinkByEvent(context.Background(), p.a.room(p.room).ID, own)
	p.equal("delivery was told", string(l.State)+errText(err), store.LinkDelivered)
	p.setPolicy(policy.ComponentStatus, (&policy.StatusNotificationPolicy{ReadReceipts: policy.Required}).Marshal())
	own = p.a.hs.say(p.room, p.alice, "demanded to tell")
	p.settle()
	p.b.hs.read(p.portal, p.bob, p.portal.find(t, event.TypeMessage, "demanded").id, true)
	p.pass(6 * time.Second)
	p.equal("receipt", p.room.reads[p.bobAtA], own)
	told := p.portal.find(t, event.TypeMessage, "read receipts are sent on")
	p.equal("told by", told.sender, p.b.hs.mxid("mimibot"))
	p.noTrouble()
}

// Where receipts are forbidden none are sent, and those of who sends them all the same are not shown; elsewhere an older one changes nothing.
func TestReceiptsOfOthers(t *testing.T) {
	p := newPair(t, warm).begin()
	var own []string
	var ids []content.MessageID
	for _, text := range []string{"one", "two"} {
		own = append(own, p.a.hs.say(p.room, p.alice, text))
		p.settle()
		l, err := p.a.db.LinkByEvent(t.Context(), p.a.room(p.room).ID, own[len(own)-1])
		must0(t, err)
		ids = append(ids, content.MessageID(l.MIMIID))
	}
	tell := func(message content.MessageID) {
		_, err := p.b.relay.runStep(t.Context(), p.b.room(p.portal).ID, nil, store.Settle{}, func(s *step) error {
			return s.report(bobURI, []content.MessageID{message}, content.Read)
		})
		must0(t, err)
		p.settle()
	}
	tell(ids[1])
	tell(ids[0])
	p.equal("read up to", p.room.reads[p.bobAtA], own[1])
	p.setPolicy(policy.ComponentStatus, (&policy.StatusNotificationPolicy{DeliveryNotifications: policy.Forbidden, ReadReceipts: policy.Forbidden}).Marshal())
	last := p.a.hs.say(p.room, p.alice, "three")
	p.settle()
	sent := p.calls[verbSubmitMessage]
	p.b.hs.read(p.portal, p.bob, p.portal.find(t, event.TypeMessage, "three").id, false)
	p.pass(6 * time.Second)
	p.equal("reports sent", p.calls[verbSubmitMessage], sent)
	l, err := p.a.db.LinkByEvent(t.Context(), p.a.room(p.room).ID, last)
	must0(t, err)
	tell(content.MessageID(l.MIMIID))
	p.equal("read up to", p.room.reads[p.bobAtA], own[1])
	p.noTrouble()
}

// A message that disappears is redacted in the portal at its time.
// What goes when it is read goes also where nobody is told that it was read.
func TestExpiryAfterReadingThatIsNotTold(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		for _, private := range []bool{true, false} {
			text := fmt.Sprintf("private: %t", private)
			_, seen := w.send(text, map[string]any{"com.beeper.disappearing_timer": map[string]any{"type": "after_read", "timer": 30_000}})
			if !private {
				w.setPolicy(policy.ComponentStatus, (&policy.StatusNotificationPolicy{DeliveryNotifications: policy.Forbidden, ReadReceipts: policy.Forbidden}).Marshal())
			}
			w.there.read(w.to, w.otherSpeaker(), seen.id, private)
			w.pass(20 * time.Second)
			if w.to.find(t, event.TypeMessage, text).redacted {
				t.Errorf("%s: gone too early", text)
			}
			w.pass(20 * time.Second)
			if !w.to.find(t, event.TypeMessage, text).redacted {
				t.Errorf("%s: the message that was read stands", text)
			}
		}
	})
}

func TestExpiry(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		_, fixed := w.send("gone in a minute", map[string]any{"com.beeper.disappearing_timer": map[string]any{"type": "after_send", "timer": 60_000}})
		_, afterRead := w.send("gone when read", map[string]any{"com.beeper.disappearing_timer": map[string]any{"type": "after_read", "timer": 30_000}})
		w.equal("timer", afterRead.object().Obj("com.beeper.disappearing_timer").Str("type"), "after_read")
		w.pass(2 * time.Minute)
		if !fixed.redacted && !w.to.find(t, event.TypeMessage, "gone in a minute").redacted {
			t.Error("the message with a time stands")
		}
		if w.to.find(t, event.TypeMessage, "gone when read").redacted {
			t.Error("the message that nobody read is gone")
		}
		w.there.read(w.to, w.otherSpeaker(), afterRead.id, false)
		w.pass(time.Minute)
		if !w.to.find(t, event.TypeMessage, "gone when read").redacted {
			t.Error("the message that was read stands")
		}
	})
}

// Who may change powers in a room that is led here decides about receipts; both sides do so from then on, and are told.
func TestReceiptsByCommand(t *testing.T) {
	p := newPair(t, warm).begin()
	ctx := context.Background()
	const required, forbidden, optional = "required", "forbidden", "optional"
	ask := func(n *node, r *hsRoom, by string, c StatusChange) {
		must0(t, n.relay.StatusPolicy(ctx, r.id, by, "", c))
	}
	both := func(what, text string) {
		p.last(what+" at A", p.a.hs.texts(p.room), "notice mimibot: "+text)
		p.last(what+" at B", p.b.hs.texts(p.portal), "notice mimibot: "+text)
	}
	// read lets both sides read something new, and tells whether the other side hears of it.
	read := func(text string) (a, b bool) {
		one, two := p.a.hs.say(p.room, p.alice, text), p.b.hs.say(p.portal, p.bob, text+" too")
		p.settle()
		p.b.hs.read(p.portal, p.bob, p.portal.find(t, event.TypeMessage, text).id, false)
		p.a.hs.read(p.room, p.alice, p.room.find(t, event.TypeMessage, text+" too").id, false)
		p.pass(6 * time.Second)
		return p.portal.reads[p.aliceAtB] == two, p.room.reads[p.bobAtA] == one
	}
	if a, b := read("as everybody likes"); !a || !b {
		t.Fatalf("at first: %t, %t", a, b)
	}
	ask(p.a, p.room, p.alice, StatusChange{Read: forbidden})
	p.settle()
	both("forbidden", "Read receipts are not sent on in this room.")
	if a, b := read("unread"); a || b {
		t.Errorf("forbidden: %t, %t", a, b)
	}

	// Each wish leaves the other half as it was.
	ask(p.a, p.room, p.alice, StatusChange{Read: required})
	ask(p.a, p.room, p.alice, StatusChange{Delivery: required})
	p.settle()
	p.equal("policy at B", p.b.view(p.portal).policy.Status, policy.StatusNotificationPolicy{DeliveryNotifications: policy.Required, ReadReceipts: policy.Required})
	both("required", "This room asks everybody to tell what they have read: read receipts are sent on, private ones, too. "+
		"This room asks everybody's provider to tell when messages have arrived.")
	if a, b := read("demanded"); !a || !b {
		t.Errorf("required: %t, %t", a, b)
	}

	if err := p.a.relay.StatusPolicy(ctx, p.room.id, p.alice, "", StatusChange{Read: "perhaps"}); err == nil {
		t.Error("a word that says nothing is taken")
	}

	// Nobody else decides.
	ask(p.b, p.portal, p.bob, StatusChange{Read: optional})
	ask(p.b, p.portal, p.bob, StatusChange{})
	p.settle()
	p.last("who follows", p.b.hs.texts(p.portal), "notice mimibot: That is decided at a.example, which leads this room.",
		"notice mimibot: Read receipts in this room: required. Reports that messages have arrived: required.")
	mallory := p.a.hs.mxid("mallory")
	p.a.hs.invite(p.room, p.alice, mallory)
	p.a.hs.join(p.room, mallory)
	p.settle()
	ask(p.a, p.room, mallory, StatusChange{Read: optional})
	ask(p.a, p.room, p.alice, StatusChange{Read: required})
	p.settle()
	p.last("who has no power", p.a.hs.texts(p.room), "notice mimibot: You may not change that in this room: it needs power level 50.", "notice mimibot: So it is.")

	ask(p.a, p.room, p.alice, StatusChange{Read: optional, Delivery: optional})
	p.settle()
	both("optional", "Everybody decides again whether their read receipts are sent on in this room.")
	if a, b := read("as before"); !a || !b {
		t.Errorf("optional: %t, %t", a, b)
	}
	p.a.conf.MaxExport = 2
	p.a.start()
	ask(p.a, p.room, p.alice, StatusChange{Read: required})
	p.settle()
	p.last("large", p.a.hs.texts(p.room), "notice mimibot: This room is larger than 2 people: receipts would flood it.")
	p.noTrouble()
}
