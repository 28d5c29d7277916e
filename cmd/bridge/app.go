package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/appservice"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/media"
	"github.com/matrix-mimi/bridge/internal/obs"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/crypto"
)

// app is a bridge that is about to run: everything that is opened before the
// first part starts.
type app struct {
	cfg     *config.Config
	log     zerolog.Logger
	metrics *obs.Registry
	health  *obs.Health
	reg     *appservice.Registration
	db      *store.DB
	media   *media.Mover
	fedi    *activityPub   // nil when it is switched off
	device  *crypto.Crypto // nil when encryption.allow is off

	intake  []part // what takes work in: listeners, /sync
	work    []part // what does it: rooms, lanes
	reload  []func() error
	closers []io.Closer // listeners that are bound but may never be served
}

// maxBeat is how long the main loop may stand still before /livez says so.
const maxBeat = 30 * time.Second

// newApp opens the database and builds the parts. On an error everything that
// was opened is closed again.
func newApp(ctx context.Context, cfg *config.Config, logTo io.Writer) (*app, error) {
	a := &app{cfg: cfg, health: obs.NewHealth(time.Now, maxBeat), metrics: obs.NewRegistry(buildVersion())}
	redact := &obs.Redactor{}
	var err error
	a.log, err = obs.NewLogger(obs.LogOptions{Level: string(cfg.Logging.Level), Format: string(cfg.Logging.Format), Out: logTo, Redact: redact})
	if err != nil {
		return nil, err
	}
	if a.reg, err = loadRegistration(cfg); err != nil {
		return nil, fmt.Errorf("registration: %w", err)
	}
	redact.Add(a.reg.AppToken, a.reg.ServerToken)
	if err := checkCertificate(cfg, time.Now()); err != nil {
		return nil, fmt.Errorf("certificate (mimi.tls): %w", err)
	}
	if err := a.openStore(ctx); err != nil {
		return nil, err
	}
	if err := a.recoverRestored(ctx); err != nil {
		return nil, errors.Join(err, a.close())
	}
	if err := a.build(ctx); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// close closes what was opened, in case it was never run or is no longer.
func (a *app) close() error {
	var errs []error
	for _, c := range a.closers {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, a.db.Close())...)
}

func (a *app) openStore(ctx context.Context) error {
	sc, err := storeConfig(a.cfg, a.log.With().Str(obs.FieldComponent, "store").Logger())
	if err != nil {
		return err
	}
	retries := a.metrics.Counter("db_tx_retries_total", "Transactions run again, by the database's error code.", "code")
	sc.OnRetry = func(code string) { retries.WithLabelValues(code).Inc() }
	if _, err := store.Migrate(ctx, sc); err != nil {
		return err
	}
	if a.db, err = store.Open(ctx, sc); err != nil {
		return err
	}
	restored := a.metrics.Gauge("restore_detected", "1 when the database was found to be restored from a backup at this start.")
	if r := a.db.Restored(); r.Restored {
		restored.WithLabelValues().Set(1)
		a.log.Warn().Str("reason", r.Reason).Msg("the database was restored: groups are renewed before they send, unclaimed KeyPackages are revoked")
	} else {
		restored.WithLabelValues().Set(0)
	}
	return nil
}

// run runs the parts and closes everything after them.
func (a *app) run(ctx context.Context, hup <-chan os.Signal) error {
	var admin *obs.Admin
	if a.cfg.Admin.Listen != "" {
		var err error
		admin, err = obs.StartAdmin(obs.AdminOptions{Listen: a.cfg.Admin.Listen, Health: a.health, Registry: a.metrics, Pprof: a.cfg.Admin.Pprof})
		if err != nil {
			return errors.Join(err, a.close())
		}
	}
	a.log.Info().Str("version", buildVersion()).Str("domain", a.cfg.MIMI.Domain).Str("hs", a.cfg.Homeserver.Domain).Msg("starting")
	intake := append([]part{{"heartbeat", func(ctx context.Context) error { return a.beat(ctx, hup) }}}, a.intake...)
	a.health.Started()
	err := runParts(ctx, a.log, intake, a.work)
	a.health.Stopping()
	err = errors.Join(err, a.close())
	if admin != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		err = errors.Join(err, admin.Stop(closing))
	}
	if err == nil {
		a.log.Info().Msg("stopped")
	}
	return err
}

// beat keeps /livez alive and reads certificates again on SIGHUP.
func (a *app) beat(ctx context.Context, hup <-chan os.Signal) error {
	tick := time.NewTicker(maxBeat / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.health.Beat()
		case <-hup:
			a.health.Beat()
			for _, f := range a.reload {
				if err := f(); err != nil {
					a.log.Error().Err(err).Msg("reading again failed; the old one stays in use")
				}
			}
			a.log.Info().Msg("read certificates again")
		}
	}
}
