package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/puppets"
)

// clientCache remembers the MLS clients of bridged users. Of a client only its certificate changes.
type clientCache struct {
	mu sync.Mutex
	by map[string]cachedClient
}

type cachedClient struct {
	client puppets.Client
	until  time.Time // when its credential is to be made anew; the zero time for never
}

// maxClients bounds the clients that are remembered.
const maxClients = 20000

func (c *clientCache) get(mxid string, now time.Time) (puppets.Client, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.by[mxid]
	return v.client, ok && (v.until.IsZero() || now.Before(v.until))
}

func (c *clientCache) put(mxid string, v puppets.Client, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil || len(c.by) >= maxClients {
		c.by = map[string]cachedClient{}
	}
	c.by[mxid] = cachedClient{v, until}
}

func (c *clientCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by = nil
}

// userActive is the state of a bridged user who takes part.
const userActive = "active"

// client returns the MLS client of a Matrix user and makes it when the user has none. That is a transaction of its own, so
// that of two rooms that export the same user at once both use the same key.
func (r *Relay) client(ctx context.Context, mxid string) (puppets.Client, error) {
	if c, ok := r.clients.get(mxid, r.Clock()); ok {
		return c, nil
	}
	u, err := r.Store.User(ctx, mxid)
	if errors.Is(err, store.ErrNotFound) {
		u, err = r.makeUser(ctx, mxid)
	}
	if err != nil {
		return puppets.Client{}, fmt.Errorf("client of %s: %w", mxid, err)
	}
	if u.State == userDeleted {
		u.State = userActive // came back
		if err := r.Store.Tx(ctx, func(tx *store.Tx) error { return tx.SetUser(ctx, u) }); err != nil {
			return puppets.Client{}, fmt.Errorf("client of %s: %w", mxid, err)
		}
	}
	key, err := mls.UnmarshalSignatureKey(u.PrivateKey)
	if err != nil {
		return puppets.Client{}, fmt.Errorf("client of %s: %w", mxid, err)
	}
	c := puppets.Client{UserURI: u.URI, ClientURI: u.ClientURI, Key: key}
	until, err := r.certify(&c, mxid)
	if err != nil {
		return puppets.Client{}, fmt.Errorf("credential of %s: %w", mxid, err)
	}
	r.clients.put(mxid, c, until)
	return c, nil
}

func (r *Relay) makeUser(ctx context.Context, mxid string) (store.User, error) {
	uri, err := r.Naming.UserURI(mxid)
	if err != nil {
		return store.User{}, err
	}
	client, err := r.Naming.ClientURI(mxid, puppets.Device)
	if err != nil {
		return store.User{}, err
	}
	key, err := mls.GenerateSignatureKey(r.Rand, r.cfg.Suite)
	if err != nil {
		return store.User{}, err
	}
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.AddUser(ctx, store.User{MXID: mxid, URI: string(uri), ClientURI: string(client), Suite: int64(r.cfg.Suite),
			PublicKey: key.Public(), PrivateKey: key.Marshal(), State: userActive, CreatedMS: r.Clock().UnixMilli()})
		return err
	})
	if err != nil {
		return store.User{}, err
	}
	return r.Store.User(ctx, mxid)
}

// clientOfURI returns the client of one of our users by URI.
func (r *Relay) clientOfURI(ctx context.Context, uri string) (string, puppets.Client, error) {
	mxid, err := r.ownMXID(uri)
	if err != nil {
		return "", puppets.Client{}, err
	}
	c, err := r.client(ctx, mxid)
	return mxid, c, err
}
