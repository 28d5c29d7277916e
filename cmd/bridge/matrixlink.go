package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/obs"
	"github.com/matrix-mimi/bridge/internal/store"
	matrix "github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/crypto"
	"github.com/matrix-mimi/bridge/matrixside/intake"
)

// matrixLink keeps the connection with the homeserver: it registers the bot,
// finds out what the homeserver is, reads the bot's /sync where that is needed,
// and asks from time to time whether the homeserver reaches the bridge.
type matrixLink struct {
	cfg       *config.Config
	client    *matrix.Client
	crypt     *crypto.Crypto // nil without encryption
	db        *store.DB
	sink      intake.Sink
	positions intake.Positions
	observe   func(result string, t *intake.Transaction, took time.Duration)
	traffic   intake.Traffic
	up        func(bool)
	log       zerolog.Logger

	once    sync.Once
	known   chan struct{}         // closed when the homeserver knows the bot
	trouble atomic.Pointer[error] // of the last time that the homeserver was asked; nil before the first
}

// botKnown is the setting that says that the bot was registered once.
const botKnown = "bot.registered"

// deviceSecret is the name under which the session of the bot's /sync is kept.
const deviceSecret = "matrix.device"

// check is a condition of readiness: before the first registration of the bot
// nothing works. Later the homeserver may be away without making the bridge
// useless to other providers: that is a warning (away).
func (l *matrixLink) check(ctx context.Context) error {
	select {
	case <-l.known:
		return nil
	default:
	}
	known, err := l.db.Setting(ctx, "", botKnown)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	case known == "":
		return errors.New("the bot is not registered at the homeserver yet")
	}
	return nil
}

// heard notes what came of asking the homeserver.
func (l *matrixLink) heard(err error) {
	l.up(err == nil)
	l.trouble.Store(&err)
}

// away is what is wrong with the homeserver, or with its way to the bridge, since it was last asked. It is no condition of readiness:
// a load balancer that keeps requests from what is not ready would keep the homeserver away for good, because whether it reaches
// the bridge shows only when it does.
func (l *matrixLink) away(context.Context) error {
	err := l.trouble.Load()
	if err == nil || *err == nil {
		return nil
	}
	if hint := remedy(*err); hint != "" {
		return fmt.Errorf("%w; %s", *err, hint)
	}
	return *err
}

// run works until the context ends.
func (l *matrixLink) run(ctx context.Context) error {
	software, err := l.greet(ctx)
	if err != nil {
		return nil // the context has ended
	}
	var wg sync.WaitGroup
	needs := intake.NeedsSync(wants(l.cfg.Homeserver.SyncFallback), l.nameOf(software), software.Ping)
	if l.crypt != nil {
		if l.startDevice(ctx); ctx.Err() != nil {
			return nil
		}
		needs = needs || l.crypt.NeedsSync()
		wg.Go(func() { _ = l.crypt.Run(ctx) })
	}
	if needs {
		wg.Go(func() { l.sync(ctx) })
	}
	l.watch(ctx, software.Ping)
	wg.Wait()
	return nil
}

// wants translates the setting.
func wants(t config.Toggle) intake.Wants {
	switch t {
	case config.ToggleOn:
		return intake.Always
	case config.ToggleOff:
		return intake.Never
	}
	return intake.Auto
}

// nameOf is what the homeserver calls itself, or what the operator says it is.
func (l *matrixLink) nameOf(s matrix.Software) string {
	switch l.cfg.Homeserver.Software {
	case config.SoftwareSynapse:
		return "Synapse"
	case config.SoftwareDendrite:
		return "Dendrite"
	case config.SoftwareAuto:
		return s.Name
	}
	return string(l.cfg.Homeserver.Software)
}

// greet registers the bot and asks who the homeserver is, again and again until
// both worked. The error is that of the context.
func (l *matrixLink) greet(ctx context.Context) (matrix.Software, error) {
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, 30*time.Second) {
		err := l.client.EnsureBot(ctx, l.cfg.Appservice.Bot.Displayname, l.cfg.Appservice.Bot.Avatar)
		var software matrix.Software
		if err == nil {
			software, err = l.client.Software(ctx)
		}
		if err == nil {
			err = l.db.Tx(ctx, func(tx *store.Tx) error { return tx.SetSetting(ctx, "", botKnown, "yes") })
		}
		l.heard(err)
		if err == nil {
			l.once.Do(func() { close(l.known) })
			l.log.Info().Str("software", software.Name).Str("version", software.Version).Msg("the homeserver answers")
			return software, nil
		}
		l.log.Warn().Err(err).Str("hint", remedy(err)).Msg("the homeserver does not answer as it should; trying again")
		if !pauseFor(ctx, pause) {
			return matrix.Software{}, ctx.Err()
		}
	}
}

// remedy says what an operator can do about what a homeserver answers that does not know the bridge or does not reach it.
func remedy(err error) string {
	switch matrix.Code(err) {
	case "M_UNKNOWN_TOKEN", "M_MISSING_TOKEN":
		return "the homeserver does not have this registration: give it the file again and restart it"
	case "M_FORBIDDEN", "M_EXCLUSIVE":
		return "its copy of the registration is not this one, or homeserver.domain is not its server_name: mend that, run bridge registration, give it the file again and restart it"
	case "M_CONNECTION_FAILED", "M_CONNECTION_TIMEOUT", "M_URL_NOT_SET":
		return "the homeserver does not reach the bridge at the url of its copy of the registration, which is made from appservice.address"
	case "M_BAD_STATUS":
		return "what answers at appservice.address refuses the homeserver: its copy of the registration is an old one, or another program listens there"
	case "":
		return "is homeserver.address right, and the homeserver running?"
	}
	return ""
}

// sync reads the bot's /sync, with a session of its own.
func (l *matrixLink) sync(ctx context.Context) {
	for ctx.Err() == nil {
		client, err := l.syncClient(ctx)
		if err == nil {
			var loop *intake.Loop
			loop, err = intake.NewLoop(intake.SyncConfig{
				Client: client, Sink: l.sink, Positions: l.positions, Observe: l.observe, Traffic: &l.traffic, Log: l.log,
			})
			if err == nil {
				err = loop.Run(ctx)
			}
		}
		if ctx.Err() != nil {
			return
		}
		l.log.Warn().Err(err).Msg("the bot's /sync ended; beginning again with a new session")
		err = l.db.Tx(ctx, func(tx *store.Tx) error { return tx.DeleteSecret(ctx, deviceSecret) })
		if err != nil && ctx.Err() == nil {
			l.log.Warn().Err(err).Msg("the old session was not forgotten")
		}
		pauseFor(ctx, 5*time.Second)
	}
}

// syncClient speaks as the device for encrypted rooms, or with a session of its
// own where there is none or it cannot sync.
func (l *matrixLink) syncClient(ctx context.Context) (*mautrix.Client, error) {
	if l.crypt != nil && l.crypt.NeedsSync() {
		return l.crypt.Client(), nil
	}
	device, err := l.device(ctx)
	if err != nil {
		return nil, err
	}
	return l.client.DeviceClient(device), nil
}

// device returns the stored session of the bot, or a new one.
func (l *matrixLink) device(ctx context.Context) (matrix.Device, error) {
	var d matrix.Device
	stored, err := l.db.Secret(ctx, deviceSecret)
	if err == nil {
		return d, json.Unmarshal(stored, &d)
	}
	if !errors.Is(err, store.ErrNotFound) {
		return d, err
	}
	if d, err = l.client.LoginBot(ctx, ""); err != nil {
		return d, err
	}
	data, err := json.Marshal(d)
	if err != nil {
		return d, err
	}
	return d, l.db.Tx(ctx, func(tx *store.Tx) error { return tx.SetSecret(ctx, deviceSecret, data, time.Now().UnixMilli()) })
}

// watch asks at once and then regularly whether the homeserver is there, and, where it knows how
// to tell, whether it reaches the bridge: a Synapse that waits, up to nine minutes after a long absence, then
// delivers again at once.
func (l *matrixLink) watch(ctx context.Context, ping bool) {
	last := ""
	for n, pause := 0, time.Duration(0); n == 0 || pauseFor(ctx, pause); n++ {
		var err error
		if ping {
			err = l.client.Ping(ctx, l.cfg.Appservice.ID, fmt.Sprintf("mimi-ping-%d-%d", n, rand.Uint64()))
		} else {
			_, err = l.client.Whoami(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		l.heard(err)
		pause = askAgain(l.cfg.Homeserver.PingInterval.D(), err)
		switch {
		case err == nil && last != "":
			l.log.Info().Bool("ping", ping).Msg("the homeserver is there again")
			last = ""
		case err != nil && err.Error() != last:
			l.log.Warn().Err(err).Bool("ping", ping).Str("hint", remedy(err)).Msg("the homeserver is away, or does not reach the bridge")
			last = err.Error()
		}
	}
}

// askAgain is after what time the homeserver is asked again: sooner when it was away, because what waits there comes then.
func askAgain(interval time.Duration, err error) time.Duration {
	if err != nil {
		return min(interval, 30*time.Second)
	}
	return interval
}

// newMatrixLink makes the link and registers its gauge and check.
func (a *app) newMatrixLink(hs *matrix.Client, s intake.Sink, p intake.Positions, observe func(string, *intake.Transaction, time.Duration)) *matrixLink {
	gauge := a.metrics.Gauge("homeserver_up", "1 when the homeserver answered when it was last asked and, where it can tell, reached the bridge.")
	l := &matrixLink{
		cfg: a.cfg, client: hs, crypt: a.device, db: a.db, sink: s, positions: p, observe: observe, known: make(chan struct{}),
		log: a.log.With().Str(obs.FieldComponent, "matrix").Logger(),
		up: func(ok bool) {
			v := 0.0
			if ok {
				v = 1
			}
			gauge.WithLabelValues().Set(v)
		},
	}
	a.health.Check("bot", l.check)
	a.health.Warn("homeserver", l.away)
	return l
}

// pauseFor waits; false means that the context ended.
func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
