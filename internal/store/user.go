package store

import (
	"context"
	"fmt"
)

// User is a Matrix user who is a MIMI user here.
type User struct {
	MXID       string `db:"mxid"`
	URI        string `db:"uri"`
	ClientURI  string `db:"client_uri"`
	Suite      int64  `db:"suite"` // MLS cipher suite of the signature key
	PublicKey  []byte `db:"public_key"`
	PrivateKey []byte `db:"sealed_key"` // signature key; sealed in the database
	State      string `db:"state"`
	Data       string `db:"data"`
	CreatedMS  int64  `db:"created_ms"`
}

const userColumns = `mxid, uri, client_uri, suite, public_key, sealed_key, state, data, created_ms`

func (r *Reader) user(ctx context.Context, column, v string) (User, error) {
	u, err := get[User](ctx, r, `SELECT `+userColumns+` FROM bridge_user WHERE `+column+` = $1`, v)
	if err == nil {
		u.PrivateKey, err = r.open(ctx, u.PrivateKey, "bridge_user", u.MXID)
	}
	return u, err
}

// User returns a bridged user by Matrix id, or ErrNotFound.
func (r *Reader) User(ctx context.Context, mxid string) (User, error) {
	return r.user(ctx, "mxid", mxid)
}

// UserByURI returns a bridged user by user URI, or ErrNotFound.
func (r *Reader) UserByURI(ctx context.Context, uri string) (User, error) {
	return r.user(ctx, "uri", uri)
}

// Users lists bridged users after a Matrix id, without their keys.
func (r *Reader) Users(ctx context.Context, after string, limit int) ([]User, error) {
	rows, err := list[User](ctx, r, `SELECT `+userColumns+` FROM bridge_user WHERE mxid > $1 ORDER BY mxid LIMIT $2`, after, limit)
	for i := range rows {
		rows[i].PrivateKey = nil
	}
	return rows, err
}

// AddUser stores a bridged user. When they are there already, nothing is changed and it reports false:
// read them again, the stored keys are the ones that count.
func (tx *Tx) AddUser(ctx context.Context, u User) (bool, error) {
	box, err := tx.seal(u.PrivateKey, "bridge_user", u.MXID)
	if err != nil {
		return false, err
	}
	n, err := tx.exec(ctx, `INSERT INTO bridge_user (mxid, uri, client_uri, suite, public_key, sealed_key, state, data, created_ms)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (mxid) DO NOTHING`,
		u.MXID, u.URI, u.ClientURI, u.Suite, u.PublicKey, box, u.State, u.Data, u.CreatedMS)
	if unique(err) {
		return false, fmt.Errorf("storing user %s: %w", u.MXID, ErrDuplicate)
	}
	return n > 0, err
}

// SetUser changes a user's state, data and keys.
func (tx *Tx) SetUser(ctx context.Context, u User) error {
	box, err := tx.seal(u.PrivateKey, "bridge_user", u.MXID)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `UPDATE bridge_user SET client_uri = $2, suite = $3, public_key = $4, sealed_key = $5, state = $6, data = $7 WHERE mxid = $1`,
		u.MXID, u.ClientURI, u.Suite, u.PublicKey, box, u.State, u.Data)
	return err
}

// Ghost is a MIMI or ActivityPub user who is a Matrix user here.
type Ghost struct {
	MXID       string `db:"mxid"`
	URI        string `db:"uri"` // as first received
	Display    string `db:"display"`
	Avatar     string `db:"avatar"`
	Registered bool   `db:"registered"`
	Data       string `db:"data"`
	UpdatedMS  int64  `db:"updated_ms"`
}

const ghostColumns = `mxid, uri, display, avatar, registered, data, updated_ms`

// Ghost returns a ghost by Matrix id, or ErrNotFound.
func (r *Reader) Ghost(ctx context.Context, mxid string) (Ghost, error) {
	return get[Ghost](ctx, r, `SELECT `+ghostColumns+` FROM ghost WHERE mxid = $1`, mxid)
}

// GhostByURI returns a ghost by the URI first received, or ErrNotFound.
func (r *Reader) GhostByURI(ctx context.Context, uri string) (Ghost, error) {
	return get[Ghost](ctx, r, `SELECT `+ghostColumns+` FROM ghost WHERE uri = $1 ORDER BY mxid LIMIT 1`, uri)
}

// PutGhost writes a ghost. The URI of one that is there stays.
func (tx *Tx) PutGhost(ctx context.Context, g Ghost) error {
	_, err := tx.exec(ctx, `INSERT INTO ghost (mxid, uri, display, avatar, registered, data, updated_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (mxid) DO UPDATE SET display = excluded.display, avatar = excluded.avatar, registered = excluded.registered, data = excluded.data, updated_ms = excluded.updated_ms`,
		g.MXID, g.URI, g.Display, g.Avatar, bit(g.Registered), g.Data, g.UpdatedMS)
	return err
}
