package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/matrix-mimi/bridge/internal/obs"
	"github.com/matrix-mimi/bridge/internal/store"
)

// upkeep looks after the database: what is past its time goes, values are sealed
// with the newest data key, and the gauges of the queues are kept up.
type upkeep struct {
	app   *app
	p     *provider
	now   func() time.Time
	gauge func(store.Gauges)
	// blocked are the blocked domains of ActivityPub that were looked for last.
	blocked string
}

const (
	gaugeEvery   = 15 * time.Second
	cleanEvery   = time.Hour
	rotateEvery  = 7 * 24 * time.Hour // data keys
	cleanBatch   = 1000               // rows a table and transaction
	upkeepRounds = 1000               // transactions a table and hour at most, so that a large backlog does not keep the database busy
)

// keyRotated is the setting that says when the data key was made, in
// milliseconds since 1970.
const keyRotated = "data_key.rotated"

// recoverRestored begins what must be done after a restore: groups are renewed
// before they send and KeyPackages that nobody claimed are revoked
// (docs/flow.md, T17). It is done before anything works, and again when it was
// cut short.
func (a *app) recoverRestored(ctx context.Context) error {
	if !a.db.Restored().Restored {
		return nil
	}
	rooms, packages, err := a.db.BeginRecovery(ctx)
	if err != nil {
		return err
	}
	a.log.Warn().Int64("rooms", rooms).Int64("key_packages", packages).Msg("recovery from the restore has begun")
	return nil
}

// markEvery is how often the state of the database is marked: a backup is
// recognised as older when it was made so much before the last thing written.
const markEvery = 10 * time.Second

// watchDatabase marks the database's state, and ends the process when another
// server took over: what the process remembers may be newer than what that one
// has. The supervisor starts it anew, and the restore is noticed then.
func (a *app) watchDatabase(ctx context.Context) error {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.db.FailedOver():
			return store.ErrFailedOver
		case <-tick.C:
			if err := a.db.Mark(ctx); err != nil && ctx.Err() == nil {
				a.log.Warn().Err(err).Msg("the state of the database was not marked")
			}
		}
	}
}

// newUpkeep makes the upkeep and registers its gauges and views.
func (a *app) newUpkeep(p *provider) *upkeep {
	u := &upkeep{app: a, p: p, now: time.Now, gauge: a.queueGauges()}
	a.health.Status("queues", func(ctx context.Context) (any, error) { return a.db.Gauges(ctx) })
	a.health.Status("failing_lanes", func(ctx context.Context) (any, error) { return a.db.FailingLanes(ctx, 100) })
	a.health.Status("peers", func(ctx context.Context) (any, error) { return a.providers(ctx, p) })
	a.metrics.GaugeFunc("peer_breakers_open", "Providers that are left alone for a while after failures.", func() float64 { return float64(len(p.client.Open())) })
	return u
}

// run works until the context ends.
func (u *upkeep) run(ctx context.Context) error {
	log := u.app.log.With().Str(obs.FieldComponent, "upkeep").Logger()
	clean := u.now()
	for {
		if g, err := u.app.db.Gauges(ctx); err == nil {
			u.gauge(g)
		} else if ctx.Err() == nil {
			log.Warn().Err(err).Msg("the queues were not counted")
		}
		if err := u.app.loadBlocked(ctx, u.p); err != nil && ctx.Err() == nil {
			log.Warn().Err(err).Msg("who is blocked was not read")
		}
		if err := u.leaveBlocked(ctx); err != nil && ctx.Err() == nil {
			log.Warn().Err(err).Msg("conversations with blocked servers were not left")
		}
		if !u.now().Before(clean) {
			clean = u.now().Add(cleanEvery)
			if err := u.hourly(ctx); err != nil && ctx.Err() == nil {
				log.Warn().Err(err).Msg("the database was not tidied up")
			}
		}
		if !pauseFor(ctx, gaugeEvery) {
			return nil
		}
	}
}

// leaveBlocked leaves conversations with ActivityPub people of servers that were blocked since it was called last, by the settings, by an administrator or by
// another process.
func (u *upkeep) leaveBlocked(ctx context.Context) error {
	fedi := u.app.fedi
	if fedi == nil {
		return nil
	}
	now := fedi.blocks.all()
	if now == u.blocked {
		return nil
	}
	err := fedi.face.LeaveBlocked(ctx)
	if err == nil {
		u.blocked = now
	}
	return err
}

// hourly tidies up once.
func (u *upkeep) hourly(ctx context.Context) error {
	db := u.app.db
	var errs []error
	if _, err := db.Cleanup(ctx, store.DefaultRetention, u.now(), cleanBatch, upkeepRounds); err != nil {
		errs = append(errs, err)
	}
	if err := u.rotate(ctx); err != nil {
		errs = append(errs, err)
	}
	if _, err := db.Reseal(ctx, resealBatch); err != nil {
		errs = append(errs, fmt.Errorf("seal anew: %w", err))
	}
	if u.app.fedi != nil {
		if err := u.app.fedi.face.CareForKeys(ctx); err != nil {
			errs = append(errs, fmt.Errorf("KeyPackages of ActivityPub: %w", err))
		}
	}
	return errors.Join(errs...)
}

// rotate makes a new data key when the last one is a week old.
func (u *upkeep) rotate(ctx context.Context) error {
	db := u.app.db
	text, err := db.Setting(ctx, "", keyRotated)
	if err != nil {
		return err
	}
	at, err := strconv.ParseInt(text, 10, 64)
	if err == nil && u.now().Sub(store.Time(at)) < rotateEvery {
		return nil
	}
	if err == nil { // the first key is as old as the database
		if err := db.RotateDataKey(ctx); err != nil && !errors.Is(err, store.ErrDuplicate) {
			return fmt.Errorf("make a new data key: %w", err)
		}
	}
	return db.Tx(ctx, func(tx *store.Tx) error {
		return tx.SetSetting(ctx, "", keyRotated, strconv.FormatInt(store.Millis(u.now()), 10))
	})
}

// queueGauges registers the gauges of the queues and returns what sets them.
func (a *app) queueGauges() func(store.Gauges) {
	inputs := a.metrics.Gauge("inputs", "Inputs that are not worked off, by state. Those that are broken go 30 days after they came.", "state")
	oldest := a.metrics.Gauge("oldest_seconds", "Age of the oldest row of a queue, 0 for none.", "queue")
	outbound := a.metrics.Gauge("outbound", "Rows to be sent, by side.", "side")
	counts := a.metrics.Gauge("rows", "Rows of what an operator watches, by kind.", "kind")
	return func(g store.Gauges) {
		inputs.WithLabelValues("ready").Set(float64(g.InputReady))
		inputs.WithLabelValues("waiting").Set(float64(g.InputWaiting))
		inputs.WithLabelValues("broken").Set(float64(g.InputBroken))
		now := time.Now()
		ages := map[string]int64{"ready": g.OldestReady, "waiting": g.OldestWaiting, "pending_commit": g.OldestPendingCommit, "intent": g.OldestIntent}
		for _, side := range []string{"matrix", "mimi", "ap"} {
			outbound.WithLabelValues(side).Set(float64(g.Outbound[side]))
			ages["outbound_"+side] = g.OldestOutbound[side]
		}
		for queue, ms := range ages {
			age := 0.0
			if ms > 0 {
				age = max(0, now.Sub(store.Time(ms)).Seconds())
			}
			oldest.WithLabelValues(queue).Set(age)
		}
		for kind, n := range map[string]int64{"lanes_claimed": g.LanesClaimed, "lanes_backing_off": g.LanesBackingOff, "pending_commits": g.PendingCommits,
			"dead_letters": g.DeadLetters, "groups": g.Groups, "rooms": g.Rooms, "key_packages_ready": g.KeyPackagesReady, "shards_held": g.ShardsHeld,
			"intents_open": g.OpenIntents, "peers_failing": g.PeersFailing, "data_keys": g.DataKeys} {
			counts.WithLabelValues(kind).Set(float64(n))
		}
	}
}
