package main

import (
	"context"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/outbox"
	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/bot"
)

// build makes the parts of the bridge and puts them together: this is the only
// place that knows all of them.
func (a *app) build(ctx context.Context) error {
	p, err := newProvider(a.cfg)
	if err != nil {
		return err
	}
	a.reload = append(a.reload, func() error { return p.reload(a.cfg) })
	a.metrics.GaugeFunc("cert_expiry_seconds", "Seconds until the provider's certificate ends.", p.certificateExpiry)
	hs, err := a.newMatrixClient()
	if err != nil {
		return err
	}
	if err := a.newMedia(hs, p); err != nil {
		return err
	}
	// The relay, the outbox and the device wake each other; nothing happens before all are there.
	var out *outbox.Outbox
	var mind *relay.Relay
	err = a.newDevice(ctx, hs, func(ctx context.Context, room, session string) error { return mind.KeyCame(ctx, room, session) })
	if err != nil {
		return err
	}
	mind, err = a.newRelay(ctx, hs, p, func(lanes []store.Woken) { out.WakeLanes(lanes...) })
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	p.publish(mind.Authorities())
	commands, err := a.newBot(hs, p, mind)
	if err != nil {
		return err
	}
	mind.Commander = commands
	if a.fedi, err = a.newActivityPub(ctx, mind, p); err != nil {
		return err
	}
	if a.fedi != nil {
		commands.Register(a.fedi.commands()...)
		commands.UseChannels(a.fedi.face)
	}
	if out, err = a.newOutbox(hs, p, func(rooms []store.RoomID) { mind.Wake(rooms...) }); err != nil {
		return err
	}
	commands.Register(bot.Operate(&operator{app: a, p: p, mind: mind, out: out})...)
	if err := a.loadBlocked(ctx, p); err != nil {
		return fmt.Errorf("read who is blocked: %w", err)
	}
	a.work = append(a.work, part{"relay", mind.Run}, part{"outbox", out.Run}, part{"upkeep", a.newUpkeep(p).run},
		part{"database", a.watchDatabase})
	return a.buildEdges(hs, p, mind, out)
}
