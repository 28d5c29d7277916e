package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// serveReport answers reports as mimiside/server does.
func (n *node) serveReport(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	received, err := wire.UnmarshalAbuseReport(body)
	if err != nil {
		return Reply{}, err
	}
	report, err := received.Check(peer)
	if err != nil {
		return Reply{}, err
	}
	return n.relay.ReportAbuse(ctx, peer, path, report)
}

const admin = "@admin:hs.a.example"

// insulted is a room of A in which alice wrote something bad to bob, as bob sees it.
func insulted(t *testing.T, m mode) (*pair, string) {
	p := newPair(t, m).begin()
	p.a.relay.Admins = []string{admin}
	said := p.a.hs.say(p.room, p.alice, "you are a toad")
	p.settle()
	if said == "" {
		t.Fatal("nothing was said")
	}
	return p, p.portal.find(t, "m.room.message", "you are a toad").id
}

// told are the texts that an operator got.
func (p *pair) told() string {
	p.t.Helper()
	r := p.a.hs.roomOf(admin, "invite")
	if r == nil {
		p.t.Fatalf("the administrator was not told; rows %q", p.a.hs.rows)
	}
	return strings.Join(p.a.hs.texts(r), "\n")
}

// evidence is what B keeps of the message that bob saw, as a report.
func (p *pair) evidence(event string) *wire.AbuseReport {
	p.t.Helper()
	ctx, room := context.Background(), p.b.room(p.portal).ID
	link, err := p.b.db.LinkByEvent(ctx, room, event)
	if err != nil {
		p.t.Fatal(err)
	}
	data, err := p.b.db.Evidence(ctx, room, link.MIMIID)
	if err != nil {
		p.t.Fatal(err)
	}
	m, err := wire.UnmarshalAbusiveMessage(data)
	if err != nil {
		p.t.Fatal(err)
	}
	return &wire.AbuseReport{ReportingUser: bobURI, AllegedAbuserURI: aliceURI, Note: "she insults", Messages: []wire.AbusiveMessage{*m}}
}

func (p *pair) post(peer string, report *wire.AbuseReport) int {
	p.t.Helper()
	r, err := p.a.serve(peer, verbReportAbuse, p.a.room(p.room).URI, report.Marshal())
	if err != nil {
		p.t.Fatal(err)
	}
	p.settle()
	return r.Status
}

// A Matrix user reports a message: its room's hub proves it, tells its administrators, and they act.
func TestReportOfAMessage(t *testing.T) {
	modes(t, func(t *testing.T, m mode) {
		ctx := context.Background()
		p, seen := insulted(t, m)
		for range 2 { // the second one changes nothing
			must0(t, p.b.relay.Report(ctx, Complaint{RoomID: p.portal.id, By: p.bob, Event: seen, Command: seen, Note: "she insults\u202e\nReport 2: שם"}))
			p.settle()
		}
		p.last("answer at B", p.b.hs.texts(p.portal), "notice mimibot: Your report was taken by a.example, which leads this room.")
		text := p.told()
		for _, want := range []string{"mimi://a.example/u/alice", "@alice:hs.a.example", "by " + bobURI, `in "Tea"`, "They say: \u2068she insults Report 2: שם\u2069\n", "Proven", "> you are a toad",
			p.room.find(t, "m.room.message", "toad").id} {
			if !strings.Contains(text, want) {
				t.Errorf("the administrator was not told %q: %s", want, text)
			}
		}
		if n := strings.Count(text, "toad"); n != 1 {
			t.Errorf("the administrator was told %d times", n)
		}
		list, err := p.a.relay.Reports(ctx)
		must0(t, err)
		p.equal("open reports", len(list), 1)

		p.a.hs.set(p.room, p.alice, "m.room.power_levels", map[string]any{"users": map[string]int{p.alice: 100, p.a.hs.mxid("mimibot"): 100}})
		p.settle()
		must0(t, p.a.relay.DecideReport(ctx, admin, "", ReportRedact))
		p.settle()
		if ev := p.portal.find(t, "m.room.message", "toad"); !ev.redacted {
			t.Error("the message is still there at B")
		}
		if ev := p.room.find(t, "m.room.message", "toad"); !ev.redacted {
			t.Error("the message is still there at A")
		}
		must0(t, p.a.relay.DecideReport(ctx, admin, list[0].ID, ReportBan))
		p.settle()
		p.equal("alice's ghost at B", p.portal.members[p.aliceAtB], "ban")
		must0(t, p.a.relay.DecideReport(ctx, admin, list[0].ID, ReportClose))
		p.settle()
		list, err = p.a.relay.Reports(ctx)
		must0(t, err)
		p.equal("open reports", len(list), 0)
		done, err := p.a.db.AuditLog(ctx, 10)
		must0(t, err)
		var what []string
		for _, e := range done {
			what = append(what, e.Actor+" "+e.Action)
		}
		slices.Sort(what)
		p.equal("audit", what, []string{admin + " report-ban", admin + " report-close", admin + " report-redact"})
		p.equal("nothing to act on", p.a.relay.DecideReport(ctx, admin, "", ReportBan), ErrWhichReport)
	})
}

// What is not proven, or not of the room, is refused; nobody is accused by it.
func TestReportRefusals(t *testing.T) {
	p, seen := insulted(t, warm)
	good := p.evidence(seen)
	change := func(f func(*wire.AbuseReport)) *wire.AbuseReport {
		r := *good
		r.Messages = slices.Clone(good.Messages)
		f(&r)
		return &r
	}
	other := p.nodes["a.example"].hs.create(p.alice, "Other", "")
	p.a.hs.invite(other, p.alice, p.bobAtA)
	p.settle()
	for name, c := range map[string]struct {
		peer string
		r    *wire.AbuseReport
		want int
	}{
		"other words": {"b.example", change(func(r *wire.AbuseReport) {
			r.Messages[0].Content = []byte(strings.Replace(string(r.Messages[0].Content), "toad", "frog", 1))
		}), 403},
		"other time":  {"b.example", change(func(r *wire.AbuseReport) { r.Messages[0].AcceptedTimestamp++ }), 403},
		"forged":      {"b.example", change(func(r *wire.AbuseReport) { r.Messages[0].Frank.ServerFrank[0] ^= 1 }), 403},
		"mangled":     {"b.example", change(func(r *wire.AbuseReport) { r.Messages[0].Content = []byte{1, 2, 3} }), 403},
		"one of two":  {"b.example", change(func(r *wire.AbuseReport) { r.Messages = append(r.Messages, wire.AbusiveMessage{}) }), 403},
		"somebody":    {"b.example", change(func(r *wire.AbuseReport) { r.AllegedAbuserURI = bobURI }), 403},
		"a stranger":  {"b.example", change(func(r *wire.AbuseReport) { r.AllegedAbuserURI = "mimi://a.example/u/nobody"; r.Messages = nil }), 403},
		"by nobody":   {"b.example", change(func(r *wire.AbuseReport) { r.ReportingUser = "mimi://b.example/u/nobody" }), 403},
		"for another": {"b.example", change(func(r *wire.AbuseReport) { r.ReportingUser = aliceURI }), 403},
		"not in it":   {"c.example", change(func(r *wire.AbuseReport) { r.ReportingUser = "" }), 404},
	} {
		if got := p.post(c.peer, c.r); got != c.want {
			t.Errorf("%s: status %d, want %d", name, got, c.want)
		}
	}
	r, err := p.a.serve("b.example", verbReportAbuse, "mimi://a.example/r/nowhere", good.Marshal())
	must0(t, err)
	p.equal("unknown room", r.Status, 404)
	r, err = p.a.serve("b.example", verbReportAbuse, p.a.room(other).URI, good.Marshal())
	must0(t, err)
	p.equal("of another room", r.Status, 403)
	list, err := p.a.relay.Reports(context.Background())
	must0(t, err)
	p.equal("reports", len(list), 0)
	p.equal("anonymous", p.post("b.example", change(func(r *wire.AbuseReport) { r.ReportingUser = "" })), 201)
	p.equal("without a message", p.post("b.example", change(func(r *wire.AbuseReport) { r.Messages = nil })), 201)
	if text := p.told(); !strings.Contains(text, "by somebody of b.example") || !strings.Contains(text, "nothing is proven") {
		t.Errorf("the administrator was told %s", text)
	}
	for n := range maxOpen {
		want := 201
		if n+2 >= maxOpen { // two are there
			want = 429
		}
		p.a.relay.cfg.Reports = 1000
		r, err := p.a.serve("b.example", verbReportAbuse, p.a.room(p.room).URI, change(func(r *wire.AbuseReport) { r.Messages, r.Note = nil, fmt.Sprint(n) }).Marshal())
		if err != nil || r.Status != want {
			t.Fatalf("report %d: status %d, want %d, %v", n, r.Status, want, err)
		}
	}
	p.a.relay.cfg.Reports = 1
	p.equal("too many", p.post("b.example", good), 429)
}

// The report of a message that is too old to be proven says so; messages of Matrix are none of ours; outsiders learn nothing.
func TestReportWithoutEvidence(t *testing.T) {
	ctx := context.Background()
	p, seen := insulted(t, warm)
	link, err := p.b.db.LinkByEvent(ctx, p.b.room(p.portal).ID, seen)
	must0(t, err)
	must0(t, p.b.db.Tx(ctx, func(tx *store.Tx) error { return tx.DropEvidence(ctx, link.Room, link.MIMIID) }))
	must0(t, p.b.relay.Report(ctx, Complaint{RoomID: p.portal.id, By: p.bob, Event: seen, Note: "hm", Anonymous: true}))
	p.settle()
	if text := p.told(); !strings.Contains(text, "by somebody of b.example") || !strings.Contains(text, "nothing is proven") {
		t.Errorf("the administrator was told %s", text)
	}
	own := p.b.hs.say(p.portal, p.bob, "I said it")
	p.settle()
	p.equal("own", p.b.relay.Report(ctx, Complaint{RoomID: p.portal.id, By: p.bob, Event: own}), ErrOwnMessage)
	p.equal("outsider", p.b.relay.Report(ctx, Complaint{RoomID: p.portal.id, By: "@eve:hs.b.example", Event: seen}), ErrNoRoom)
	p.equal("unknown", p.b.relay.Report(ctx, Complaint{RoomID: p.portal.id, By: p.bob, Event: "$x"}), ErrNotFound)
}

// A Matrix user of the hub reports a MIMI user: the administrators here are told without a request.
func TestReportAtTheHub(t *testing.T) {
	ctx := context.Background()
	p := newPair(t, warm).begin()
	p.a.relay.Admins = []string{admin}
	p.b.hs.say(p.portal, p.bob, "you are a newt")
	p.settle()
	ev := p.room.find(t, "m.room.message", "newt")
	must0(t, p.a.relay.Report(ctx, Complaint{RoomID: p.room.id, By: p.alice, Event: ev.id, Command: ev.id}))
	p.settle()
	p.last("answer", p.a.hs.texts(p.room), "notice mimibot: Your report was given to the administrators of this bridge, who lead this room.")
	if text := p.told(); !strings.Contains(text, "Proven") || !strings.Contains(text, p.bobAtA) {
		t.Errorf("the administrator was told %s", text)
	}
	must0(t, p.a.relay.DecideReport(ctx, admin, "", ReportBan))
	p.settle()
	p.equal("bob", p.portal.members[p.bob], "ban")
	if text := p.told(); !strings.Contains(text, "On Matrix I have no power") {
		t.Errorf("the administrator was told %s", text)
	}
}

// A report that cannot be read keeps no other one from being listed, and can be closed.
func TestReportThatCannotBeRead(t *testing.T) {
	p, seen := insulted(t, warm)
	ctx := context.Background()
	must0(t, p.b.relay.Report(ctx, Complaint{RoomID: p.portal.id, By: p.bob, Event: seen}))
	p.settle()
	room, now := p.a.room(p.room).ID, p.now.UnixMilli()
	good := p.evidence(seen).Marshal()
	must0(t, p.a.db.Tx(ctx, func(tx *store.Tx) error {
		for n, body := range [][]byte{[]byte("of another version"), good} {
			if err := tx.AddReport(ctx, store.Report{Room: room, ID: fmt.Sprint("r", n), Peer: "b.example", State: store.ReportOpen, Body: body, CreatedMS: now + int64(n+1)}); err != nil {
				return err
			}
		}
		return nil
	}))
	_, err := p.a.db.Side().ExecContext(ctx, `UPDATE report SET sealed_body = substr(sealed_body, 1, length(sealed_body)-1) WHERE id = 'r1'`)
	must0(t, err)
	list, err := p.a.relay.Reports(ctx)
	must0(t, err)
	var got []string
	for _, r := range list {
		got = append(got, r.ID+" "+r.Text)
	}
	p.equal("reports", got, []string{"r1 a report that cannot be read, only closed; it came from b.example", "r0 a report that cannot be read, only closed; it came from b.example",
		reportID(p.evidence(seen)) + " " + aliceURI + " is reported by somebody of b.example; messages: 1"})
	for _, id := range []string{"r0", "r1"} {
		must0(t, p.a.relay.DecideReport(ctx, admin, id, ReportShow))
		p.settle()
		if text := p.told(); !strings.Contains(text, "Report "+id+" cannot be read.") {
			t.Errorf("the administrator was told %s", text)
		}
		must0(t, p.a.relay.DecideReport(ctx, admin, id, ReportClose))
		p.settle()
	}
	list, err = p.a.relay.Reports(ctx)
	must0(t, err)
	p.equal("left", len(list), 1)
}

// Operators see the newest reports, and act on each by its id, however many wait.
func TestReportsAreFoundAmongMany(t *testing.T) {
	p, seen := insulted(t, warm)
	ctx := context.Background()
	report := p.evidence(seen)
	room := p.a.room(p.room).ID
	must0(t, p.a.db.Tx(ctx, func(tx *store.Tx) error {
		for n := range maxReports + 5 {
			row := store.Report{Room: room, ID: fmt.Sprintf("%06d", n), Peer: "b.example", State: store.ReportOpen, Body: report.Marshal(), CreatedMS: int64(n)}
			if err := tx.AddReport(ctx, row); err != nil {
				return err
			}
		}
		return nil
	}))
	list, err := p.a.relay.Reports(ctx)
	must0(t, err)
	p.equal("reports", fmt.Sprint(len(list), list[0].ID, list[len(list)-1].ID), fmt.Sprint(maxReports, "000104", "000005"))
	for _, id := range []string{"000000", "000104"} {
		must0(t, p.a.relay.DecideReport(ctx, admin, id, ReportClose))
		p.settle()
		row, err := p.a.db.Report(ctx, room, id)
		must0(t, err)
		p.equal(id, row.State, store.ReportClosed)
	}
	for _, id := range []string{"", "000000", "nothing"} {
		p.equal("report "+id, p.a.relay.DecideReport(ctx, admin, id, ReportClose), ErrWhichReport)
	}
}
