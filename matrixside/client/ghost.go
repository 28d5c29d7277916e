package client

import (
	"context"
	"fmt"
	"hash/maphash"
	"net/http"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

var seed = maphash.MakeSeed()

// EnsureGhost makes sure that a ghost exists, has its name and is muted.
func (c *Client) EnsureGhost(ctx context.Context, ghost id.UserID) error { return c.ensure(ctx, ghost) }

// ensure makes sure that a ghost exists, has its name and is muted. Users that
// are no ghosts are left alone.
func (c *Client) ensure(ctx context.Context, user id.UserID) error {
	if user == c.cfg.Bot || !c.cfg.IsGhost(user) || c.isKnown(user) {
		return nil
	}
	// One registration of a ghost at a time.
	lock := &c.ghosts[maphash.String(seed, string(user))%uint64(len(c.ghosts))]
	lock.Lock()
	defer lock.Unlock()
	if c.isKnown(user) {
		return nil
	}
	if c.cfg.Registry != nil {
		ok, err := c.cfg.Registry.Registered(ctx, user)
		if err != nil {
			return fmt.Errorf("look up ghost: %w", err)
		}
		if ok {
			c.setKnown(user)
			return nil
		}
	}
	var name, avatar string
	if c.cfg.GhostName != nil {
		var err error
		if name, avatar, err = c.cfg.GhostName(ctx, user); err != nil {
			return fmt.Errorf("name of ghost: %w", err)
		}
	}
	return c.makeGhost(ctx, user, name, avatar)
}

// makeGhost registers, mutes and names a ghost. All of it may be repeated, so
// it is marked only when all of it is done.
func (c *Client) makeGhost(ctx context.Context, user id.UserID, name, avatar string) error {
	if r := c.registerUser(ctx, user); r.Class != Done {
		return r.asError()
	}
	if r := c.mute(ctx, user); r.Class == Retry {
		return r.asError()
	}
	if name != "" {
		if r := c.setProfile(ctx, user, "displayname", name); r.Class == Retry {
			return r.asError()
		}
	}
	if avatar != "" {
		if r := c.setProfile(ctx, user, "avatar_url", avatar); r.Class == Retry {
			return r.asError()
		}
	}
	if c.cfg.Registry != nil {
		if err := c.cfg.Registry.MarkRegistered(ctx, user); err != nil {
			return fmt.Errorf("mark ghost: %w", err)
		}
	}
	c.setKnown(user)
	return nil
}

func (c *Client) registerUser(ctx context.Context, user id.UserID) Result {
	local, _, err := user.Parse()
	if err != nil {
		return refused("M_INVALID_USERNAME", fmt.Errorf("register ghost: %w", err))
	}
	// The request speaks as the bot: the ghost does not exist yet.
	r := c.raw(ctx, c.cfg.Bot, http.MethodPost, mautrix.ClientURLPath{"v3", "register"}, nil, map[string]any{
		"type": "m.login.application_service", "username": local, "inhibit_login": true,
	})
	if r.Code == "M_USER_IN_USE" {
		return done(map[string]string{"user_id": string(user)})
	}
	return r
}

// mute switches on the rule that silences all others. Without it Dendrite
// counts notifications for every ghost in a room with every message.
func (c *Client) mute(ctx context.Context, user id.UserID) Result {
	path := mautrix.ClientURLPath{"v3", "pushrules", "global", "override", ".m.rule.master", "enabled"}
	return c.raw(ctx, user, http.MethodPut, path, nil, map[string]bool{"enabled": true})
}

func (c *Client) setProfile(ctx context.Context, user id.UserID, field, value string) Result {
	return c.raw(ctx, user, http.MethodPut, mautrix.ClientURLPath{"v3", "profile", user, field}, nil, map[string]string{field: value})
}

func (c *Client) isKnown(user id.UserID) bool {
	c.knownMu.Lock()
	defer c.knownMu.Unlock()
	return c.known[user]
}

func (c *Client) setKnown(user id.UserID) {
	c.knownMu.Lock()
	defer c.knownMu.Unlock()
	if len(c.known) >= maxKnown {
		clear(c.known)
	}
	c.known[user] = true
}

// forget makes the client ask again whether a ghost exists.
func (c *Client) forget(user id.UserID) {
	c.knownMu.Lock()
	defer c.knownMu.Unlock()
	delete(c.known, user)
}

func (c *Client) register(ctx context.Context, k call) Result {
	a, bad := read[event.Register](k)
	if bad != nil {
		return *bad
	}
	if !c.cfg.IsGhost(a.User) && a.User != c.cfg.Bot {
		return refused("M_EXCLUSIVE", fmt.Errorf("register ghost: user is no ghost of this bridge"))
	}
	if err := c.makeGhost(ctx, a.User, a.Name, a.Avatar); err != nil {
		return classify(nil, nil, err)
	}
	return done(map[string]string{"user_id": string(a.User)})
}

func (c *Client) profile(ctx context.Context, k call) Result {
	a, bad := read[event.Profile](k)
	if bad != nil {
		return *bad
	}
	if err := c.ensure(ctx, a.User); err != nil {
		return classify(nil, nil, err)
	}
	for field, value := range map[string]*string{"displayname": a.Name, "avatar_url": a.Avatar} {
		if value == nil {
			continue
		}
		if r := c.setProfile(ctx, a.User, field, *value); r.Class != Done {
			return r
		}
	}
	return done(struct{}{})
}

func (c *Client) mutePush(ctx context.Context, k call) Result {
	a, bad := read[event.MutePush](k)
	if bad != nil {
		return *bad
	}
	if err := c.ensure(ctx, a.User); err != nil {
		return classify(nil, nil, err)
	}
	return c.mute(ctx, a.User)
}
