package crypto

import (
	"context"
	"fmt"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"
)

const (
	// userAgain is how long a user whose devices could not be had is left alone.
	userAgain = time.Minute
	// maxFailed bounds how many such users are remembered.
	maxFailed = 10_000
	// choreAgain is the pause after a failure of Run's work.
	choreAgain = 10 * time.Second
	// topUp is how often the one-time keys at the homeserver are counted, whatever it says by itself.
	topUp = 6 * time.Hour
)

func (c *Crypto) wake() {
	select {
	case c.work <- struct{}{}:
	default:
	}
}

// Run keeps the device in order until the context ends: it uploads one-time keys when they run low and asks for the
// devices of users that changed. Start must have succeeded. Nothing is lost when it does not run; messages take longer then.
func (c *Crypto) Run(ctx context.Context) error {
	c.wake()
	pause := time.NewTimer(topUp)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.work:
		case <-pause.C:
			c.mu.Lock()
			c.count = -1
			c.mu.Unlock()
		}
		next := topUp
		if err := c.chores(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn().Err(err).Msg("the device's keys are not in order and will be seen to again")
			next = choreAgain
		}
		pause.Reset(next)
	}
}

func (c *Crypto) chores(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c.mu.Lock()
	count := c.count
	c.mu.Unlock()
	if count < c.wanted {
		if err := c.upload(ctx, count); err != nil {
			return err
		}
	}
	if err := c.freshDevices(ctx); err != nil {
		return err
	}
	return c.giveLate(ctx)
}

// upload fills up the one-time keys at the homeserver; count -1 asks how many there are.
func (c *Crypto) upload(ctx context.Context, count int) error {
	c.inbox.Lock()
	defer c.inbox.Unlock()
	if err := c.mach.ShareKeys(ctx, count); err != nil {
		return fmt.Errorf("upload one-time keys: %w", err)
	}
	c.mu.Lock()
	if c.count == count {
		c.count = c.wanted
	}
	c.mu.Unlock()
	return nil
}

// freshDevices asks for the devices of users that changed. A room with one of them gets a new key.
func (c *Crypto) freshDevices(ctx context.Context) error {
	if !c.stale.Load() {
		return nil
	}
	c.refresh.Lock()
	defer c.refresh.Unlock()
	if !c.stale.Swap(false) {
		return nil
	}
	users, err := c.keys.GetOutdatedTrackedUsers(ctx)
	if err != nil {
		c.stale.Store(true)
		return fmt.Errorf("read whose devices changed: %w", err)
	}
	users = slices.DeleteFunc(users, func(u id.UserID) bool { return !c.tryUser(u) })
	for part := range slices.Chunk(users, 100) {
		if _, err := c.mach.FetchKeys(ctx, part, true); err != nil {
			c.stale.Store(true)
			c.mu.Lock()
			for _, u := range part {
				delete(c.failed, u)
			}
			c.mu.Unlock()
			return fmt.Errorf("ask for devices: %w", err)
		}
	}
	return nil
}

// tryUser says whether the devices of a user may be asked for now, and notes that they are.
func (c *Crypto) tryUser(u id.UserID) bool {
	now := c.cfg.Clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if last, ok := c.failed[u]; ok && now.Sub(last) < userAgain {
		return false
	}
	if len(c.failed) >= maxFailed {
		clear(c.failed)
	}
	c.failed[u] = now
	return true
}
