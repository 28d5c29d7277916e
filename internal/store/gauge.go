package store

import "context"

// Gauges is what the operator sees of the queues. Ages are the time of the
// oldest row in milliseconds, 0 if there is none.
type Gauges struct {
	InputReady, InputWaiting, InputBroken   int64
	OldestReady, OldestWaiting              int64
	Outbound                                map[string]int64 // by side: matrix, mimi, ap
	OldestOutbound                          map[string]int64
	LanesClaimed, LanesBackingOff           int64
	PendingCommits, OldestPendingCommit     int64
	DeadLetters                             int64
	Groups, Rooms                           int64
	KeyPackagesReady, ShardsHeld            int64
	OpenIntents, OldestIntent, PeersFailing int64
	DataKeys                                int64
}

// Gauges counts. It reads indexes, not tables, except for the small ones; call it each 15 s or so.
func (r *Reader) Gauges(ctx context.Context) (Gauges, error) {
	g := Gauges{Outbound: map[string]int64{}, OldestOutbound: map[string]int64{}}
	type inputs struct {
		State  string `db:"state"`
		N      int64  `db:"n"`
		Oldest int64  `db:"oldest"`
	}
	rows, err := list[inputs](ctx, r, `SELECT state, COUNT(*) AS n, MIN(created_ms) AS oldest FROM input GROUP BY state`)
	if err != nil {
		return g, err
	}
	for _, x := range rows {
		switch InputState(x.State) {
		case InputReady:
			g.InputReady, g.OldestReady = x.N, x.Oldest
		case InputWaiting:
			g.InputWaiting, g.OldestWaiting = x.N, x.Oldest
		case InputBroken:
			g.InputBroken = x.N
		}
	}
	type side struct {
		Side   string `db:"side"`
		N      int64  `db:"n"`
		Oldest int64  `db:"oldest"`
	}
	sides, err := list[side](ctx, r, `SELECT side, COUNT(*) AS n, MIN(created_ms) AS oldest FROM (SELECT created_ms,
		CASE WHEN dest LIKE 'mimi:%' OR dest LIKE 'aside:%' THEN 'mimi' WHEN dest LIKE 'ap:%' THEN 'ap' ELSE 'matrix' END AS side FROM outbound) AS o GROUP BY side`)
	if err != nil {
		return g, err
	}
	for _, x := range sides {
		g.Outbound[x.Side], g.OldestOutbound[x.Side] = x.N, x.Oldest
	}
	for _, q := range []struct {
		into  *int64
		query string
	}{
		{&g.LanesClaimed, `SELECT COUNT(*) FROM lane WHERE owner <> '' AND until_ms > {now}`},
		{&g.LanesBackingOff, `SELECT COUNT(*) FROM lane WHERE failures > 0`},
		{&g.PendingCommits, `SELECT COUNT(*) FROM pending_commit`},
		{&g.OldestPendingCommit, `SELECT COALESCE(MIN(created_ms), 0) FROM pending_commit`},
		{&g.DeadLetters, `SELECT COUNT(*) FROM dead_letter`},
		{&g.Groups, `SELECT COUNT(*) FROM room WHERE epoch >= 0`},
		{&g.Rooms, `SELECT COUNT(*) FROM room`},
		{&g.KeyPackagesReady, `SELECT COUNT(*) FROM keypackage WHERE state = 'ready' AND last_resort = 0`},
		{&g.ShardsHeld, `SELECT COUNT(*) FROM shard_lease WHERE until_ms > {now}`},
		{&g.OpenIntents, `SELECT COUNT(*) FROM intent`},
		{&g.OldestIntent, `SELECT COALESCE(MIN(created_ms), 0) FROM intent`},
		{&g.PeersFailing, `SELECT COUNT(DISTINCT dest) FROM lane WHERE failures > 0 AND (dest LIKE 'mimi:%' OR dest LIKE 'ap:%')`},
		{&g.DataKeys, `SELECT COUNT(*) FROM data_key`},
	} {
		if *q.into, err = value[int64](ctx, r, q.query); err != nil {
			return g, err
		}
	}
	return g, nil
}

// LaneState is a lane as an operator sees it.
type LaneState struct {
	Room         RoomID `db:"room"`
	Dest         string `db:"dest"`
	Owner        string `db:"owner"`
	Rows         int64  `db:"n"`
	DueMS        int64  `db:"due_ms"`
	Failures     int64  `db:"failures"`
	FailingSince int64  `db:"failing_since_ms"`
	LastError    string `db:"last_error"`
}

// FailingLane is a lane that fails and since when.
type FailingLane struct {
	Room         RoomID `db:"room"`
	Dest         string `db:"dest"`
	FailingSince int64  `db:"failing_since_ms"`
}

// FailingBetween lists the lanes that began to fail after one time and not after another and fail still, in milliseconds, in no order.
func (r *Reader) FailingBetween(ctx context.Context, afterMS, untilMS int64) ([]FailingLane, error) {
	return list[FailingLane](ctx, r, `SELECT room, dest, failing_since_ms FROM lane WHERE failures > 0 AND failing_since_ms > $1 AND failing_since_ms <= $2`, afterMS, untilMS)
}

// FailingLanes lists lanes that fail, the longest first.
func (r *Reader) FailingLanes(ctx context.Context, limit int) ([]LaneState, error) {
	return list[LaneState](ctx, r, `SELECT room, dest, owner, (SELECT COUNT(*) FROM outbound AS o WHERE o.shard = l.shard AND o.room = l.room AND o.dest = l.dest) AS n,
		due_ms, failures, failing_since_ms, last_error FROM lane AS l WHERE failures > 0 ORDER BY failing_since_ms LIMIT $1`, limit)
}
