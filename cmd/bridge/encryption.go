package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/config"
	"github.com/matrix-mimi/bridge/internal/obs"
	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/matrixside/bot"
	matrix "github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/crypto"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/intake"
)

// newDevice makes the bridge's part in encrypted rooms, unless encryption.allow
// is off. key is told of room keys that came.
func (a *app) newDevice(ctx context.Context, hs *matrix.Client, key func(ctx context.Context, room, session string) error) error {
	c := a.cfg.Encryption
	if !c.Allow {
		return nil
	}
	names := a.naming()
	log := a.log.With().Str(obs.FieldComponent, "encryption").Logger()
	happened := a.metrics.Counter("encryption_total", "What happened in encrypted rooms: decrypted, waiting, undecryptable, encrypted, repeated, shared, rotated, requested, late.", "what")
	device, err := crypto.New(ctx, crypto.Config{
		Store: a.db, Client: hs, SelfSign: c.SelfSign, RotateMessages: c.RotateMessages, RotateAfter: c.RotateAfter.D(),
		IsGhost: func(u id.UserID) bool { return names.IsGhost(string(u)) },
		OnKey: func(ctx context.Context, room id.RoomID, session id.SessionID) {
			if err := key(ctx, string(room), string(session)); err != nil {
				log.Warn().Err(err).Str("matrix_room", string(room)).Msg("events that wait for a key are tried again later")
			}
		},
		Observe: func(what string) { happened.WithLabelValues(what).Inc() },
		Log:     log,
	})
	if err != nil {
		return err
	}
	hs.UseEncrypter(device)
	a.device = device
	a.closers = append(a.closers, device)
	return nil
}

// encryptionConfig is what the relay has to keep to.
func encryptionConfig(c config.Encryption) relay.Encryption {
	return relay.Encryption{
		Portals: c.Default && c.Allow, Require: c.Require && c.Allow,
		RotateMessages: c.RotateMessages, RotateAfter: c.RotateAfter.D(),
	}
}

// decrypter is nil when the bridge takes no part in encrypted rooms.
func (a *app) decrypter() relay.Decrypter {
	if a.device == nil {
		return nil
	}
	return decrypter{a.device}
}

// decrypter opens events for the relay. It implements relay.Decrypter.
type decrypter struct{ device *crypto.Crypto }

// Decrypt implements relay.Decrypter.
func (d decrypter) Decrypt(ctx context.Context, ev event.Event) (event.Event, error) {
	plain, err := d.device.Decrypt(ctx, ev)
	var wait *crypto.WaitingError
	switch {
	case errors.As(err, &wait):
		return plain, &relay.NoKeyError{Session: string(wait.Session)}
	case errors.Is(err, crypto.ErrUndecryptable):
		return plain, fmt.Errorf("%w: %s", relay.ErrUnreadable, strings.TrimPrefix(err.Error(), crypto.ErrUndecryptable.Error()+": "))
	}
	return plain, err
}

// Known implements relay.Decrypter.
func (d decrypter) Known(ctx context.Context, roomID, session string) (bool, error) {
	return d.device.Known(ctx, id.RoomID(roomID), id.SessionID(session))
}

// deviceSink lets the bridge's device take what concerns it before a delivery is
// stored: when the homeserver is answered, room keys are safe.
type deviceSink struct {
	device *crypto.Crypto
	next   intake.Sink
}

// Store implements intake.Sink.
func (s deviceSink) Store(ctx context.Context, t *intake.Transaction) (dup bool, err error) {
	err = s.device.Receive(ctx, crypto.Delivery{Events: t.Events, ToDevice: t.ToDevice, DeviceLists: t.DeviceLists, KeyCounts: t.KeyCounts})
	if err != nil {
		return false, err
	}
	return s.next.Store(ctx, t)
}

// withDevice puts the device before a sink, where there is one.
func (a *app) withDevice(next intake.Sink) intake.Sink {
	if a.device == nil {
		return next
	}
	return deviceSink{a.device, next}
}

// discardSession is the command that gives a room a new key.
func discardSession(device *crypto.Crypto) *bot.Handler {
	return &bot.Handler{
		Name: "discard-megolm-session", Aliases: []string{"discard-session"}, Needs: bot.User, InRoom: true,
		Help: "makes the bridge use a new key in this encrypted room, for people who cannot read it",
		Do: func(ctx context.Context, e *bot.Event) error {
			if err := device.Discard(ctx, id.RoomID(e.RoomID)); err != nil {
				return err
			}
			return e.Reply("The next message of the bridge in this room uses a new key.")
		},
	}
}

// startDevice logs the device in, again and again until it worked or the
// context ends.
func (l *matrixLink) startDevice(ctx context.Context) {
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, 30*time.Second) {
		err := l.crypt.Start(ctx)
		if err == nil {
			l.log.Info().Str("fingerprint", l.crypt.Fingerprint()).Msg("the bridge's device for encrypted rooms is ready")
			return
		}
		l.log.Warn().Err(err).Msg("the bridge's device for encrypted rooms is not ready; trying again")
		if !pauseFor(ctx, pause) {
			return
		}
	}
}
