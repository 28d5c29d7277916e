package relay

import (
	"context"
	"errors"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// Bounds of pulls: how often a conversation asks for what it missed, how many members are asked, and how long that may take.
const (
	pullEvery   = 30 * time.Second
	pullMembers = 10
	pullTime    = 20 * time.Second
)

// catchUp reads the outboxes of the members of a conversation that lacks something, and takes what comes of it: a message came of an epoch
// that is not known here, so a commit was not delivered. first is asked first. It tells whether anything was taken. S000-037, S001-096.
func (a *ActivityPub) catchUp(ctx context.Context, room store.RoomID, first string) (bool, error) {
	now := a.Clock()
	a.mu.Lock()
	if last, ok := a.pulled[room]; ok && now.Sub(last) < pullEvery {
		a.mu.Unlock()
		return false, nil
	}
	if len(a.pulled) > 10_000 {
		clear(a.pulled)
	}
	a.pulled[room] = now
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, pullTime)
	defer cancel()
	own, others, err := a.membersOf(ctx, room, first)
	if err != nil || own == "" {
		return false, err
	}
	key, err := a.Key(ctx, own)
	if err != nil {
		return false, err
	}
	taken := false
	for _, actor := range others {
		list, err := a.pullFrom(ctx, actor, own, key)
		if err != nil {
			a.Log.Info().Err(err).Str("actor", actor).Msg("the outbox of a member was not read")
			continue
		}
		for _, d := range list {
			fresh, err := a.take(ctx, d)
			if err != nil {
				a.Log.Debug().Err(err).Str("actor", actor).Str("id", d.Activity.ID).Msg("an activity from an outbox was not taken")
			}
			taken = taken || fresh
		}
	}
	return taken, nil
}

// membersOf are an actor of ours in a conversation, and those of other servers, first at the beginning.
func (a *ActivityPub) membersOf(ctx context.Context, room store.RoomID, first string) (own string, others []string, err error) {
	others = []string{first}
	members, err := a.Store.Members(ctx, room)
	for _, m := range members {
		switch {
		case m.URI == "" || m.URI == first:
		case a.Site.Own(m.URI):
			own = m.URI
		case len(others) < pullMembers:
			others = append(others, m.URI)
		}
	}
	return own, others, err
}

func (a *ActivityPub) pullFrom(ctx context.Context, actor, own string, key ap.SigningKey) ([]ap.Delivered, error) {
	r, err := a.People.Actor(ctx, actor, false)
	if err != nil {
		return nil, err
	}
	list, err := a.People.Pull(ctx, r, key, func(id string) (bool, error) {
		_, err := a.Store.Activity(ctx, id, own)
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	})
	for i := range list {
		list[i].Inbox = own
	}
	return list, err
}
