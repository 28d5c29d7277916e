package main

import (
	"context"
	"errors"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
)

// ghostRegistry remembers in the database which ghosts the homeserver knows. It
// implements the Registry of matrixside/client.
type ghostRegistry struct{ db *store.DB }

// Registered implements client.Registry.
func (g ghostRegistry) Registered(ctx context.Context, user id.UserID) (bool, error) {
	ghost, err := g.db.Ghost(ctx, string(user))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return ghost.Registered, err
}

// MarkRegistered implements client.Registry. A ghost that no room knows, such
// as the bot, is not written down: registering it again does no harm.
func (g ghostRegistry) MarkRegistered(ctx context.Context, user id.UserID) error {
	return g.db.Tx(ctx, func(tx *store.Tx) error {
		ghost, err := tx.Ghost(ctx, string(user))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil || ghost.Registered {
			return err
		}
		ghost.Registered, ghost.UpdatedMS = true, time.Now().UnixMilli()
		return tx.PutGhost(ctx, ghost)
	})
}

// pendingEvents finds the events of messages that were still on their way when
// a row referred to them. It implements the Pending of matrixside/client.
type pendingEvents struct{ db *store.DB }

// Resolve implements client.Pending.
func (p pendingEvents) Resolve(ctx context.Context, room id.RoomID, mimiID []byte, part int) (id.EventID, error) {
	for _, kind := range []store.NameKind{store.NameMatrix, store.NameChannel} {
		own, err := p.db.RoomIDByName(ctx, kind, string(room))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", err
		}
		links, err := p.db.LinksByMIMI(ctx, own, mimiID)
		if err != nil {
			return "", err
		}
		for _, l := range links {
			if l.Part == int64(part) {
				return id.EventID(l.EventID), nil
			}
		}
	}
	return "", nil
}
