package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/outbox"
	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// operator is what administrators do by talking to the bot (bot.Operator). What is changed and its line in the audit log are
// one transaction.
type operator struct {
	*app
	p    *provider
	mind *relay.Relay
	out  *outbox.Outbox
}

func (o *operator) audited(ctx context.Context, by, action, subject, detail string, do func(tx *store.Tx) error) error {
	return o.db.Tx(ctx, func(tx *store.Tx) error {
		if err := do(tx); err != nil {
			return err
		}
		return tx.Audit(ctx, store.AuditEntry{AtMS: time.Now().UnixMilli(), Actor: by, Action: action, Subject: subject, Detail: detail})
	})
}

// Waiting implements bot.Operator.
func (o *operator) Waiting(ctx context.Context, limit int) (store.Gauges, []store.LaneState, error) {
	g, err := o.db.Gauges(ctx)
	if err != nil {
		return g, nil, err
	}
	lanes, err := o.db.FailingLanes(ctx, limit)
	return g, lanes, err
}

// SendNow implements bot.Operator.
func (o *operator) SendNow(ctx context.Context, by, dest string) (n int64, err error) {
	err = o.audited(ctx, by, "queue now", dest, "", func(tx *store.Tx) (err error) {
		n, err = tx.WakeLanes(ctx, dest)
		return err
	})
	if err == nil && n > 0 {
		if domain, ok := strings.CutPrefix(dest, "mimi:"); ok {
			o.p.client.Heard(domain)
		}
		o.out.Called(dest)
	}
	return n, err
}

// DeadLetters implements bot.Operator.
func (o *operator) DeadLetters(ctx context.Context, limit int) ([]store.DeadLetter, error) {
	return o.db.DeadLetters(ctx, limit)
}

// RetryDeadLetters implements bot.Operator.
func (o *operator) RetryDeadLetters(ctx context.Context, by string, list []store.DeadLetter) (int, error) {
	var lanes []store.Lane
	n, err := eachAudited(ctx, o, by, "retry dead letter", list, letterName, func(tx *store.Tx, d store.DeadLetter) error {
		lane, err := tx.RetryDeadLetter(ctx, store.Lane{Room: d.Room, Dest: d.Dest}, d.Seq, time.Now().UnixMilli())
		if err == nil {
			lanes = append(lanes, lane)
		}
		return err
	})
	o.out.WakeLanes(store.WokenLanes(lanes)...)
	return n, err
}

// DropDeadLetters implements bot.Operator.
func (o *operator) DropDeadLetters(ctx context.Context, by string, list []store.DeadLetter) (int, error) {
	return eachAudited(ctx, o, by, "drop dead letter", list, letterName, func(tx *store.Tx, d store.DeadLetter) error {
		return tx.DropDeadLetter(ctx, store.Lane{Room: d.Room, Dest: d.Dest}, d.Seq)
	})
}

func letterName(d store.DeadLetter) (subject, detail string) {
	return d.Dest, fmt.Sprintf("%s %d %s", d.Room, d.Seq, d.Verb)
}

// Broken implements bot.Operator.
func (o *operator) Broken(ctx context.Context, limit int) ([]store.BrokenInput, error) {
	return o.db.BrokenInputs(ctx, limit)
}

// RetryBroken implements bot.Operator.
func (o *operator) RetryBroken(ctx context.Context, by string, list []store.BrokenInput) (int, error) {
	var rooms []store.RoomID
	n, err := eachAudited(ctx, o, by, "retry broken", list, brokenName, func(tx *store.Tx, x store.BrokenInput) error {
		rooms = append(rooms, x.Room)
		return tx.RetryBroken(ctx, x.Room, x.Seq)
	})
	o.mind.Wake(rooms...)
	return n, err
}

// DropBroken implements bot.Operator.
func (o *operator) DropBroken(ctx context.Context, by string, list []store.BrokenInput) (int, error) {
	return eachAudited(ctx, o, by, "drop broken", list, brokenName, func(tx *store.Tx, x store.BrokenInput) error {
		return tx.DropBroken(ctx, x.Room, x.Seq)
	})
}

func brokenName(x store.BrokenInput) (subject, detail string) {
	return x.Room.String(), fmt.Sprintf("%d %s %s", x.Seq, x.Kind, x.Source)
}

// eachAudited does something to each of a list, each in a transaction of its own, and says how many there were. One that is gone
// meanwhile is passed over.
func eachAudited[T any](ctx context.Context, o *operator, by, action string, list []T, name func(T) (subject, detail string), do func(*store.Tx, T) error) (n int, err error) {
	for _, x := range list {
		subject, detail := name(x)
		err := o.audited(ctx, by, action, subject, detail, func(tx *store.Tx) error { return do(tx, x) })
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return n, err
		default:
			n++
		}
	}
	return n, nil
}

// SetBlocked implements bot.Operator.
func (o *operator) SetBlocked(ctx context.Context, by, domain string, blocked bool) error {
	if domain = wire.LowerDomain(domain); !wire.ValidDomain(domain) {
		return fmt.Errorf("%q is no domain", domain)
	}
	if domain == o.cfg.MIMI.Domain {
		return errors.New("that is this bridge")
	}
	action := "unblock"
	if blocked {
		action = "block"
	}
	err := o.audited(ctx, by, action, domain, "", func(tx *store.Tx) error { return tx.SetPeerBlocked(ctx, domain, blocked) })
	if err != nil {
		return err
	}
	if err := o.loadBlocked(ctx, o.p); err != nil || !blocked || o.fedi == nil {
		return err
	}
	return o.fedi.face.LeaveBlocked(ctx)
}

// loadBlocked puts in force whom administrators have blocked. It is done at the start, after a change, and by the upkeep, because
// another process may have changed it.
func (a *app) loadBlocked(ctx context.Context, p *provider) error {
	list, err := a.db.BlockedPeers(ctx)
	if err == nil {
		p.book.Block(list)
		if a.fedi != nil {
			a.fedi.blocks.set(list)
		}
	}
	return err
}

// AuditLog implements bot.Operator.
func (o *operator) AuditLog(ctx context.Context, limit int) ([]store.AuditEntry, error) {
	return o.db.AuditLog(ctx, limit)
}

// AllRooms implements bot.Operator.
func (o *operator) AllRooms(ctx context.Context, after store.RoomID, limit int) ([]relay.RoomInfo, error) {
	return o.mind.AllRooms(ctx, after, limit)
}

// Resync implements bot.Operator.
func (o *operator) Resync(ctx context.Context, by, matrixRoom string) error {
	info, err := o.mind.RoomOf(ctx, matrixRoom)
	if err == nil && info.Kind != store.RoomFollower {
		err = relay.ErrNoRoom
	}
	if err != nil {
		return err
	}
	if err := o.audited(ctx, by, "resync", info.URI, "", func(*store.Tx) error { return nil }); err != nil {
		return err
	}
	return o.mind.Resync(ctx, info.ID)
}
