package relay

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// pump sends what is to be sent, as the outbox does.
func (n *node) pump() int {
	ctx := context.Background()
	lanes, err := n.db.DueLanes(ctx, "test", 1000)
	if err != nil {
		n.w.t.Fatal(err)
	}
	slices.SortFunc(lanes, func(a, b store.Lane) int { return slices.Compare([]byte(a.Dest), []byte(b.Dest)) })
	total := 0
	for _, l := range lanes {
		total += n.pumpLane(l)
	}
	return total
}

func (n *node) pumpLane(lane store.Lane) int {
	ctx := context.Background()
	head, err := n.db.LaneRows(ctx, lane, 100, 1<<20)
	if err != nil {
		n.w.t.Fatal(err)
	}
	total := n.pumpTogether(lane, head.Rows)
	head.Rows = head.Rows[total:]
	for _, row := range head.Rows {
		if row.State == store.OutboundHeld {
			break
		}
		if n.w.restart {
			n.relay.Forget()
		}
		out, ok := n.send(row)
		var rooms []store.RoomID
		n.leased(lane, func(tx *store.Tx, lease store.LaneLease) (err error) {
			if !ok {
				since := lease.FailingSince
				if since == 0 {
					since = n.w.now.UnixMilli()
				}
				return tx.FailLane(ctx, lease, n.w.now.Add(5*time.Second).UnixMilli(), since, "test")
			}
			_, _, rooms, err = tx.CloseOutbound(ctx, lease, []store.Closing{{Row: row, Outcome: out}}, n.w.now.UnixMilli(), 10_000, false)
			return err
		})
		total++
		if !ok {
			return total
		}
		n.relay.Wake(rooms...)
	}
	if total == 0 {
		n.leased(lane, func(tx *store.Tx, lease store.LaneLease) error {
			_, err := tx.RestLane(ctx, lease, false)
			return err
		})
	}
	return total
}

// pumpTogether sends messages at the head of a lane in one request, where there are several and the peer shares that, and says
// how many were taken.
func (n *node) pumpTogether(lane store.Lane, rows []store.Outbound) int {
	domain, ok := strings.CutPrefix(lane.Dest, destMIMI)
	if !ok || !n.relay.mayShare(domain, verbSubmitMessages) {
		return 0
	}
	var q wire.RoomRequests
	for _, row := range rows {
		if row.Verb != verbSubmitMessage || row.State == store.OutboundHeld || row.Batch == row.Seq {
			break
		}
		q = append(q, wire.RoomRequest{RoomID: wire.IdentifierURI(row.Target), Request: row.Data})
	}
	if len(q) < 2 {
		return 0
	}
	r, err := n.w.request(n.domain, domain, verbSubmitMessages, providerURI(domain), q.Marshal())
	if err != nil || r.Status != 202 {
		return 0
	}
	a, err := wire.UnmarshalBulkResponse(r.Body)
	if err != nil || len(a.Codes) != len(q) || slices.ContainsFunc(a.Codes, func(c wire.BulkCode) bool { return c != wire.BulkTaken }) {
		return 0
	}
	closing := make([]store.Closing, len(q))
	for i := range closing {
		closing[i] = store.Closing{Row: rows[i], Outcome: store.Outcome{Class: store.OutcomeTaken}}
	}
	n.leased(lane, func(tx *store.Tx, lease store.LaneLease) error {
		_, _, _, err := tx.CloseOutbound(context.Background(), lease, closing, n.w.now.UnixMilli(), 10_000, false)
		return err
	})
	return len(q)
}

// send sends one row; ok is false when it is to be tried again.
func (n *node) send(row store.Outbound) (out store.Outcome, ok bool) {
	if strings.HasPrefix(row.Dest, destMatrix) {
		head, err := n.db.Room(context.Background(), row.Room)
		if err != nil {
			n.w.t.Fatal(err)
		}
		if !n.resolve(&row) {
			return store.Outcome{Class: "done", Status: 200}, true
		}
		class, eventID, body := n.hs.exec(row, head.MatrixRoomID)
		if class == "retry" {
			return out, false
		}
		return store.Outcome{Class: class, EventID: eventID, Body: body, Status: 200}, true
	}
	if strings.HasPrefix(row.Dest, destFetch) {
		return n.sendMedia(row)
	}
	_, domain, _ := strings.Cut(row.Dest, ":")
	r, err := n.w.request(n.domain, domain, row.Verb, row.Target, row.Data)
	if err != nil || r.Status >= 500 || r.Status == 429 {
		return out, false
	}
	out = store.Outcome{Class: "done", Status: r.Status, Body: r.Body}
	if r.Status >= 400 {
		out.Class = "refused"
		return out, true
	}
	if row.Verb == verbSubmitMessage {
		a, err := wire.UnmarshalSubmitMessageResponse(r.Body)
		if err != nil || a.StatusCode != wire.SubmitAccepted {
			out.Class = "refused"
		} else {
			out.AcceptedMS = int64(a.AcceptedTimestamp)
		}
	}
	return out, true
}

// leased carries out in a transaction what is done with a lane of which the outbox has the lease.
func (n *node) leased(lane store.Lane, do func(*store.Tx, store.LaneLease) error) {
	n.w.t.Helper()
	ctx := context.Background()
	must0(n.w.t, n.db.Tx(ctx, func(tx *store.Tx) error {
		lease, err := tx.ClaimLane(ctx, lane, "test", 10_000, true)
		if err != nil {
			return err
		}
		return do(tx, lease)
	}))
}

// waiting returns the lanes of what a bridge has not delivered yet.
func (n *node) waiting() []store.Lane {
	n.w.t.Helper()
	rows, err := n.db.Side().Query(`SELECT DISTINCT room, dest FROM outbound ORDER BY room, dest`)
	must0(n.w.t, err)
	defer rows.Close()
	var lanes []store.Lane
	for rows.Next() {
		var l store.Lane
		must0(n.w.t, rows.Scan(&l.Room, &l.Dest))
		lanes = append(lanes, l)
	}
	must0(n.w.t, rows.Err())
	return lanes
}

// waitingFor returns what waits for a destination, by lane.
func (n *node) waitingFor(dest string) map[store.Lane][]store.Outbound {
	n.w.t.Helper()
	found := map[store.Lane][]store.Outbound{}
	for _, l := range n.waiting() {
		if l.Dest != dest {
			continue
		}
		head, err := n.db.LaneRows(context.Background(), l, 100, 1<<20)
		must0(n.w.t, err)
		found[l] = head.Rows
	}
	if len(found) == 0 {
		n.w.t.Fatalf("nothing waits for %s", dest)
	}
	return found
}

// forget deletes what waits for a destination.
func (n *node) forget(dest string) {
	n.w.t.Helper()
	ctx := context.Background()
	for l, rows := range n.waitingFor(dest) {
		must0(n.w.t, n.db.Tx(ctx, func(tx *store.Tx) error {
			for _, row := range rows {
				if err := tx.DropOutbound(ctx, l, row.Seq); err != nil {
					return err
				}
			}
			_, err := tx.WakeLanes(ctx, dest)
			return err
		}))
	}
}

// giveUp closes what waits for a destination as dead, as the outbox does after limits.dead_after.
func (n *node) giveUp(dest string) {
	n.w.t.Helper()
	for l, rows := range n.waitingFor(dest) {
		var dead []store.Closing
		for _, row := range rows {
			dead = append(dead, store.Closing{Row: row, Outcome: store.Outcome{Class: store.OutcomeDead, Reason: "expired"}})
		}
		n.leased(l, func(tx *store.Tx, lease store.LaneLease) error {
			_, _, _, err := tx.CloseOutbound(context.Background(), lease, dead, n.w.now.UnixMilli(), 10_000, true)
			return err
		})
	}
}
