package crypto

import (
	"context"
	"errors"
	"sync"
	"time"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
	"maunium.net/go/mautrix/sqlstatestore"
)

// watch notes what the library does with the stores while it works for us: faults of the database, which it
// only logs, and room keys that came, which may be told only after the commit.
type watch struct {
	mu   sync.Mutex
	err  error
	came []roomKey
	// used is the Megolm session that was read last.
	used *crypto.InboundGroupSession
}

type roomKey struct {
	room    id.RoomID
	session id.SessionID
}

type watchKey struct{}

func watched(ctx context.Context) (context.Context, *watch) {
	w := &watch{}
	return context.WithValue(ctx, watchKey{}, w), w
}

func watchOf(ctx context.Context) *watch {
	w, _ := ctx.Value(watchKey{}).(*watch)
	return w
}

func (w *watch) fault() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// note keeps the first fault.
func note(ctx context.Context, err error) error {
	if w := watchOf(ctx); w != nil && err != nil {
		w.mu.Lock()
		if w.err == nil {
			w.err = err
		}
		w.mu.Unlock()
	}
	return err
}

// keyStore is the library's store of keys, with its faults noted. late is told of our room keys, changed of users whose devices
// are others than they were when a room key was shared.
type keyStore struct {
	*crypto.SQLCryptoStore
	late    *late
	changed func(id.UserID)
}

type sharingKey struct{}

// sharing marks a context in which a room key is shared: with the devices that are read in it.
func sharing(ctx context.Context) context.Context { return context.WithValue(ctx, sharingKey{}, true) }

func (s *keyStore) PutDevices(ctx context.Context, user id.UserID, devices map[id.DeviceID]*id.Device) error {
	err := s.SQLCryptoStore.PutDevices(ctx, user, devices)
	if err == nil && ctx.Value(sharingKey{}) == nil {
		s.changed(user)
	}
	return err
}

func (s *keyStore) AddOutboundGroupSession(ctx context.Context, g *crypto.OutboundGroupSession) error {
	err := s.SQLCryptoStore.AddOutboundGroupSession(ctx, g)
	if err == nil {
		s.late.shared(g)
	}
	return err
}

func (s *keyStore) UpdateOutboundGroupSession(ctx context.Context, g *crypto.OutboundGroupSession) error {
	err := s.SQLCryptoStore.UpdateOutboundGroupSession(ctx, g)
	if err == nil {
		s.late.said(g)
	}
	return err
}

func (s *keyStore) PutAccount(ctx context.Context, a *crypto.OlmAccount) error {
	return note(ctx, s.SQLCryptoStore.PutAccount(ctx, a))
}

func (s *keyStore) AddSession(ctx context.Context, key id.SenderKey, o *crypto.OlmSession) error {
	return note(ctx, s.SQLCryptoStore.AddSession(ctx, key, o))
}

func (s *keyStore) UpdateSession(ctx context.Context, key id.SenderKey, o *crypto.OlmSession) error {
	return note(ctx, s.SQLCryptoStore.UpdateSession(ctx, key, o))
}

func (s *keyStore) GetSessions(ctx context.Context, key id.SenderKey) (crypto.OlmSessionList, error) {
	list, err := s.SQLCryptoStore.GetSessions(ctx, key)
	return list, note(ctx, err)
}

func (s *keyStore) PutOlmHash(ctx context.Context, hash [32]byte, at time.Time) error {
	return note(ctx, s.SQLCryptoStore.PutOlmHash(ctx, hash, at))
}

func (s *keyStore) GetOlmHash(ctx context.Context, hash [32]byte) (time.Time, error) {
	at, err := s.SQLCryptoStore.GetOlmHash(ctx, hash)
	return at, note(ctx, err)
}

func (s *keyStore) PutGroupSession(ctx context.Context, g *crypto.InboundGroupSession) error {
	return note(ctx, s.SQLCryptoStore.PutGroupSession(ctx, g))
}

func (s *keyStore) GetGroupSession(ctx context.Context, room id.RoomID, session id.SessionID) (*crypto.InboundGroupSession, error) {
	g, err := s.SQLCryptoStore.GetGroupSession(ctx, room, session)
	if err != nil && !errors.Is(err, crypto.ErrGroupSessionWithheld) {
		return nil, note(ctx, err)
	}
	if w := watchOf(ctx); w != nil && g != nil {
		w.mu.Lock()
		w.used = g
		w.mu.Unlock()
	}
	return g, err
}

func (s *keyStore) PutWithheldGroupSession(ctx context.Context, w event.RoomKeyWithheldEventContent) error {
	return note(ctx, s.SQLCryptoStore.PutWithheldGroupSession(ctx, w))
}

func (s *keyStore) ValidateMessageIndex(ctx context.Context, session id.SessionID, ev id.EventID, index uint, ts int64) (bool, error) {
	ok, err := s.SQLCryptoStore.ValidateMessageIndex(ctx, session, ev, index, ts)
	return ok, note(ctx, err)
}

// roomStore is what is known of encrypted rooms. Its members are those who may have devices: no ghosts.
type roomStore struct {
	*sqlstatestore.SQLStateStore
	messages int
	after    time.Duration
}

// Bounds on what a room's m.room.encryption may ask for are the library's; ours is the upper bound.
func (s *roomStore) GetEncryptionEvent(ctx context.Context, room id.RoomID) (*event.EncryptionEventContent, error) {
	got, err := s.SQLStateStore.GetEncryptionEvent(ctx, room)
	if err != nil || got == nil {
		return got, err
	}
	c := *got
	if c.RotationPeriodMessages <= 0 || c.RotationPeriodMessages > s.messages {
		c.RotationPeriodMessages = s.messages
	}
	if ms := s.after.Milliseconds(); c.RotationPeriodMillis <= 0 || c.RotationPeriodMillis > ms {
		c.RotationPeriodMillis = ms
	}
	return &c, nil
}
