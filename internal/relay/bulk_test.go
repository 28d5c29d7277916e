package relay

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// sharingPair is a conversation of two bridges that publish the extensions.
func sharingPair(t *testing.T, m mode) *pair {
	p := newPair(t, m)
	p.offers["a.example"], p.offers["b.example"] = true, true
	return p.begin()
}

// S004-045, S004-046: several messages go to the hub in one request, are taken at once, and their verdicts come later.
func TestMessagesInBulk(t *testing.T) { modes(t, testMessagesInBulk) }

func testMessagesInBulk(t *testing.T, m mode) {
	p := sharingPair(t, m)
	p.patience *= 6
	var want, events []string
	for i := range 6 {
		text := fmt.Sprintf("line %d", i)
		events = append(events, p.b.hs.say(p.portal, p.bob, text))
		want = append(want, local(p.bobAtA)+": "+text)
	}
	clear(p.calls)
	p.settle()
	if p.patience == 0 && !p.restart {
		p.equal("requests for one message", p.calls[verbSubmitMessage], 0)
		if p.calls[verbSubmitMessages] == 0 || p.calls[verbSubmitVerdicts] == 0 {
			t.Errorf("%v", p.calls)
		}
	}
	got := p.a.hs.texts(p.room)
	slices.Sort(got)
	p.last("A", got[max(0, len(got)-6):], want...)
	// The sender knows of each that it was accepted, and of none twice.
	p.equal("rows that wait", len(p.b.waiting()), 0)
	for _, l := range p.links(events) {
		if l.State != store.LinkSent || l.AcceptedMS == 0 {
			t.Errorf("%+v", l)
		}
	}
	p.talk(1)
	p.noTrouble()
}

// S004-044, S004-046: who is removed meanwhile hears of the rejection as by the draft's request.
func TestRejectionInBulk(t *testing.T) {
	p := sharingPair(t, warm)
	p.a.hs.kick(p.room, p.alice, p.bobAtA)
	// And before bob's bridge hears of it.
	p.fault = func(from, _, verb string, _ []byte) fault {
		if from == "a.example" && verb == verbNotify {
			return dropRequest
		}
		return deliver
	}
	for range 5 {
		p.a.turn()
	}
	var events []string
	for i := range 3 {
		events = append(events, p.b.hs.say(p.portal, p.bob, fmt.Sprintf("too late %d", i)))
	}
	p.settle()
	p.fault = nil
	p.patience = time.Minute
	p.settle()
	if p.calls[verbSubmitMessages] == 0 {
		t.Fatalf("%v", p.calls)
	}
	p.equal("texts at A", len(p.a.hs.texts(p.room)), 0)
	p.equal("rows that wait", len(p.b.waiting()), 0)
	for _, l := range p.links(events) {
		p.equal("state", l.State, store.LinkFailed)
	}
}

// links returns the links of bob's events.
func (p *pair) links(events []string) (out []store.Link) {
	p.t.Helper()
	for _, e := range events {
		l, err := p.b.db.LinkByEvent(context.Background(), p.b.room(p.portal).ID, e)
		if err != nil {
			p.t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

// What a provider was told is taken comes before what it sends afterwards, also while the hub does not get round to judging it, as
// right after a restart: a message or commit that would overtake it has to come again.
func TestNothingOvertakesWhatWasTaken(t *testing.T) {
	for _, verb := range []string{verbSubmitMessage, verbUpdate} {
		p := sharingPair(t, warm)
		send := func() {
			p.deliverMatrix(p.b)
			p.b.drainAll()
			p.b.pump()
		}
		p.b.hs.say(p.portal, p.bob, "one")
		p.b.hs.say(p.portal, p.bob, "two")
		send()
		p.equal("requests in bulk", p.calls[verbSubmitMessages], 1)
		epoch, before := p.a.room(p.room).Epoch, p.calls[verb]
		dave := p.b.hs.mxid("dave")
		if verb == verbUpdate {
			p.b.hs.invite(p.portal, p.bob, dave)
			p.b.hs.join(p.portal, dave)
		} else {
			p.b.hs.say(p.portal, p.bob, "three")
		}
		send()
		p.equal(verb+" requests", p.calls[verb], before+1)
		p.equal("epoch", p.a.room(p.room).Epoch, epoch)
		if n := len(p.b.waiting()); n == 0 {
			t.Errorf("the %s was answered", verb)
		}
		p.pass(time.Minute)
		want := []string{local(p.bobAtA) + ": one", local(p.bobAtA) + ": two"}
		if verb == verbUpdate {
			p.equal("dave's ghost", p.room.members[p.a.ghost("mimi://b.example/u/dave")], "join")
		} else {
			want = append(want, local(p.bobAtA)+": three")
		}
		p.equal("A", p.a.hs.texts(p.room), want)
		p.noTrouble()
	}
}

// taken counts the messages that a hub has taken and not told its verdict of.
func (n *node) taken() (rows int) {
	n.w.t.Helper()
	must0(n.w.t, n.db.Side().QueryRow(`SELECT COUNT(*) FROM outbound WHERE taken_ms > 0`).Scan(&rows))
	return rows
}

// A hub that never tells its verdict is asked again by the draft's request, and answers what it decided.
func TestVerdictThatDoesNotCome(t *testing.T) {
	p := sharingPair(t, warm)
	p.fault = func(_, _, verb string, _ []byte) fault {
		if verb == verbSubmitVerdicts {
			return dropRequest
		}
		return deliver
	}
	for i := range 3 {
		p.b.hs.say(p.portal, p.bob, fmt.Sprintf("line %d", i))
	}
	p.settle()
	if n := p.b.taken(); len(p.a.hs.texts(p.room)) != 3 || n != 3 {
		t.Fatalf("%q, %d verdicts are awaited", p.a.hs.texts(p.room), n)
	}
	var lanes []store.Lane
	err := p.b.db.Tx(context.Background(), func(tx *store.Tx) (err error) {
		lanes, err = tx.AskAgain(context.Background(), p.now.Add(time.Minute).UnixMilli(), 100)
		return err
	})
	if err != nil || len(lanes) != 1 {
		t.Fatal(lanes, err)
	}
	p.settle()
	p.equal("rows that wait", []int{len(p.b.waiting()), p.b.taken()}, []int{0, 0})
	p.equal("texts at A", len(p.a.hs.texts(p.room)), 3)
	p.equal("requests for one message", p.calls[verbSubmitMessage], 3)
}

// Nothing is taken for rooms of others or from users of others, and a verdict counts from the room's hub alone.
func TestBulkRefusals(t *testing.T) {
	p := sharingPair(t, warm)
	ctx := context.Background()
	uri := wire.IdentifierURI(p.a.room(p.room).URI)
	q := wire.RoomRequests{{RoomID: uri, Request: []byte("nonsense")}, {RoomID: "mimi://a.example/r/nothing", Request: []byte{1}}}
	r, err := p.a.relay.Extension(ctx, "b.example", verbSubmitMessages, "mimi://a.example", q.Marshal())
	if err != nil || string(r.Body) != "\x02\x01\x01" || r.Status != 202 {
		t.Errorf("%q, %v", r.Body, err)
	}
	r, err = p.b.relay.Extension(ctx, "c.example", verbNotifyRooms, "mimi://b.example", q.Marshal())
	if err != nil || string(r.Body) != "\x02\x01\x01" {
		t.Errorf("%q, %v", r.Body, err)
	}
	verdicts := wire.SubmitVerdicts{{RoomID: uri}, {RoomID: "mimi://a.example/r/nothing"}}
	for _, peer := range []string{"a.example", "c.example"} {
		if _, err := p.b.relay.Extension(ctx, peer, verbSubmitVerdicts, "mimi://b.example", verdicts.Marshal()); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.a.relay.Extension(ctx, "b.example", "dance", "mimi://a.example", nil); err != ErrNotFound {
		t.Error(err)
	}
	p.noTrouble()
}

// A provider cannot fill the inbox of a room without bound.
func TestBulkIsBounded(t *testing.T) {
	p := sharingPair(t, warm)
	ctx := context.Background()
	room := p.a.room(p.room)
	body := submitted(room, bobURI, 1)
	var inputs []store.NewInput
	for i := range maxSubmitted - 1 {
		inputs = append(inputs, store.NewInput{Room: room.ID, Kind: inputSubmit, Peer: "b.example", Source: fmt.Sprint(i), Epoch: -1, Body: []byte{1}, CreatedMS: 1})
	}
	if err := p.a.db.Tx(ctx, func(tx *store.Tx) error { _, err := tx.AddInputs(ctx, inputs); return err }); err != nil {
		t.Fatal(err)
	}
	q := wire.RoomRequests{{RoomID: wire.IdentifierURI(room.URI), Request: body}, {RoomID: wire.IdentifierURI(room.URI), Request: body}}
	r, err := p.a.relay.Extension(ctx, "b.example", verbSubmitMessages, "mimi://a.example", q.Marshal())
	if err != nil || string(r.Body) != "\x02\x00\x02" {
		t.Errorf("%q, %v", r.Body, err)
	}
}

// Nor with few large messages; and what comes after one that was not taken does not overtake it.
func TestBulkIsBoundedByBytes(t *testing.T) {
	p := sharingPair(t, warm)
	ctx := context.Background()
	room := p.a.room(p.room)
	large := submitted(room, bobURI, 1<<20)
	var inputs []store.NewInput
	for i := range 63 {
		inputs = append(inputs, store.NewInput{Room: room.ID, Kind: inputSubmit, Peer: "b.example", Source: fmt.Sprint(i), Epoch: -1, Body: large, CreatedMS: 1})
	}
	must0(t, p.a.db.Tx(ctx, func(tx *store.Tx) error { _, err := tx.AddInputs(ctx, inputs); return err }))
	var q wire.RoomRequests
	for _, body := range [][]byte{submitted(room, bobURI, 1), large, submitted(room, bobURI, 2)} {
		q = append(q, wire.RoomRequest{RoomID: wire.IdentifierURI(room.URI), Request: body})
	}
	r, err := p.a.relay.Extension(ctx, "b.example", verbSubmitMessages, "mimi://a.example", q.Marshal())
	if err != nil || string(r.Body) != "\x03\x00\x02\x02" {
		t.Errorf("%q, %v", r.Body, err)
	}
}

// submitted is the request of a message of about n bytes.
func submitted(room store.Room, user wire.IdentifierURI, n int) []byte {
	m := mls.PrivateMessage{GroupID: room.GroupID, Epoch: uint64(room.Epoch), ContentType: mls.ContentApplication, Ciphertext: make([]byte, n)}
	return (&wire.SubmitMessageRequest{Message: wire.NewMessage(m.Message()), SendingURI: user}).Marshal()
}

// Nothing is stored of what a provider sends to a room in which nobody of it takes part.
func TestBulkOfOutsiders(t *testing.T) {
	p := sharingPair(t, warm)
	ctx := context.Background()
	room := p.a.room(p.room)
	send := func(peer string, user wire.IdentifierURI, n int) string {
		t.Helper()
		q := wire.RoomRequests{{RoomID: wire.IdentifierURI(room.URI), Request: submitted(room, user, n)}}
		r, err := p.a.relay.Extension(ctx, peer, verbSubmitMessages, "mimi://a.example", q.Marshal())
		must0(t, err)
		rows, _, err := p.a.db.InputsOf(ctx, room.ID, inputSubmit, peer)
		must0(t, err)
		return fmt.Sprintf("%x, %d stored", r.Body, rows)
	}
	p.equal("a stranger", send("c.example", "mimi://c.example/u/carl", 1), "0101, 0 stored")
	p.equal("a participant", send("b.example", bobURI, 1), "0100, 1 stored")
	p.settle()
	p.a.hs.kick(p.room, p.alice, p.bobAtA)
	p.settle()
	p.equal("who was removed", send("b.example", bobURI, 2), "0101, 0 stored")
}

// S004-058: what is fanned out in several rooms is stored and acknowledged together.
func TestFanOutOfRoomsTogether(t *testing.T) {
	p := sharingPair(t, warm)
	var q wire.RoomRequests
	ctx := context.Background()
	p.fault = func(_, _, verb string, _ []byte) fault {
		if verb == verbNotify {
			return dropRequest
		}
		return deliver
	}
	p.a.hs.say(p.room, p.alice, "one")
	p.a.hs.say(p.room, p.alice, "two")
	p.settle()
	head, err := p.a.db.LaneRows(ctx, store.Lane{Room: p.a.room(p.room).ID, Dest: "mimi:b.example"}, 10, 1<<20)
	if err != nil || len(head.Rows) != 2 {
		t.Fatal(len(head.Rows), err)
	}
	for _, row := range head.Rows {
		q = append(q, wire.RoomRequest{RoomID: wire.IdentifierURI(row.Target), Request: row.Data})
	}
	q = append(q, wire.RoomRequest{RoomID: "mimi://a.example/r/other", Request: head.Rows[0].Data}, wire.RoomRequest{RoomID: "mimi://c.example/r/x", Request: head.Rows[0].Data})
	for range 2 {
		r, err := p.b.relay.Extension(ctx, "a.example", verbNotifyRooms, "mimi://b.example", q.Marshal())
		if err != nil || string(r.Body) != "\x04\x00\x00\x00\x01" {
			t.Fatalf("%q, %v", r.Body, err)
		}
	}
	p.settle()
	p.last("B", p.b.hs.texts(p.portal), local(p.aliceAtB)+": one", local(p.aliceAtB)+": two")
	p.fault, p.patience = nil, time.Minute
	p.settle()
	p.last("B", p.b.hs.texts(p.portal), local(p.aliceAtB)+": one", local(p.aliceAtB)+": two")
	p.noTrouble()
}
