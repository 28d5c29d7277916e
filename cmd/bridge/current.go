package main

import (
	"context"
	"time"

	"maunium.net/go/mautrix/id"

	matrix "github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// nameOf tells what people show of themselves, where the operator lets it be told.
func (a *app) nameOf(hs *matrix.Client) func(ctx context.Context, mxid string) (name, avatar string, err error) {
	if !a.cfg.Bridge.ShareProfiles {
		return nil
	}
	return func(ctx context.Context, mxid string) (string, string, error) { return hs.Name(ctx, id.UserID(mxid)) }
}

// showTyping shows ghosts typing, where the operator wants it.
func (a *app) showTyping(hs *matrix.Client) func(ctx context.Context, room id.RoomID, ghost id.UserID, lasts time.Duration) error {
	if !a.cfg.Bridge.Typing {
		return nil
	}
	return func(ctx context.Context, room id.RoomID, ghost id.UserID, lasts time.Duration) error {
		res := hs.Do(ctx, matrix.Row{Room: room, Request: event.NewRequest(event.Typing{Sender: ghost, Typing: lasts > 0, Timeout: lasts.Milliseconds()})})
		return res.Err
	}
}

// showPresence shows whether ghosts are there, where the operator wants it.
func (a *app) showPresence(hs *matrix.Client) func(ctx context.Context, ghost id.UserID, state, text string) error {
	if !a.cfg.Bridge.Presence {
		return nil
	}
	return hs.SetPresence
}
