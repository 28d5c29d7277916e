package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Activity is one that an actor of ours sent or received, with the collections that it is in.
type Activity struct {
	ID, Object string // ids; Object may be ""
	Body       []byte
	Lists      []Listing
	CreatedMS  int64
}

// Listing is a place of an activity in a collection: who sees it there. The reader "" stands for everybody.
type Listing struct{ Box, Owner, Reader string }

// shortHash makes a name of any length a key.
func shortHash(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:16]
}

func hashed(s string) []byte { return shortHash([]byte(s)) }

// PutActivities stores activities with their places in collections. One that is there already keeps its octets and gets further places.
func (tx *Tx) PutActivities(ctx context.Context, list []Activity) error {
	for i := range list {
		a := &list[i]
		key := hashed(a.ID)
		box, err := tx.seal(a.Body, "ap_activity", key)
		if err != nil {
			return err
		}
		object := []byte{}
		if a.Object != "" {
			object = hashed(a.Object)
		}
		if _, err := tx.exec(ctx, `INSERT INTO ap_activity (key, object, sealed_data, created_ms) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING`,
			key, object, box, a.CreatedMS); err != nil {
			return fmt.Errorf("storing an activity: %w", err)
		}
		for _, l := range a.Lists {
			if _, err := tx.exec(ctx, `INSERT INTO ap_listing (box, owner, reader, created_ms, key) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (box, owner, reader, created_ms, key) DO NOTHING`, l.Box, hashed(l.Owner), hashed(l.Reader), a.CreatedMS, key); err != nil {
				return fmt.Errorf("listing an activity: %w", err)
			}
		}
	}
	return nil
}

// findActivity looks for an activity by its id or its object. The index of objects is of those that are not empty, which must be said for it to be used.
const findActivity = `SELECT key, sealed_data, created_ms FROM ap_activity WHERE (key = $1 OR object = $1 AND length(object) > 0) AND EXISTS
	(SELECT 1 FROM ap_listing AS l WHERE l.key = ap_activity.key AND l.reader IN ($2, $3)) ORDER BY created_ms DESC, key LIMIT 1`

type storedActivity struct {
	Key       []byte `db:"key"`
	Data      []byte `db:"sealed_data"`
	CreatedMS int64  `db:"created_ms"`
}

// Page is a page of a collection, newest first.
type Page struct {
	Bodies [][]byte
	Next   string // where the next page begins, "" at the end
}

// maxCounted bounds how far a collection is counted.
const maxCounted = 10_000

// CountActivities tells how many activities a reader sees in a collection, 10,000 at most.
func (r *Reader) CountActivities(ctx context.Context, box, owner, reader string) (int, error) {
	n, err := value[int64](ctx, r, `SELECT COUNT(DISTINCT key) FROM (SELECT key FROM ap_listing WHERE box = $1 AND owner = $2 AND reader IN ($3, $4) LIMIT `+number(maxCounted)+`) AS seen`,
		box, hashed(owner), hashed(reader), hashed(""))
	return int(n), err
}

// Activities returns a page of a collection as a reader sees it: what is for the reader, and what is for everybody. before is Next of the page before, "" for
// the newest. A before that is none begins anew.
func (r *Reader) Activities(ctx context.Context, box, owner, reader, before string, limit int) (Page, error) {
	own, who, all := hashed(owner), hashed(reader), hashed("")
	ms, key := cursor(before)
	rows, err := list[storedActivity](ctx, r, `SELECT a.key, a.sealed_data, a.created_ms FROM ap_activity AS a WHERE a.key IN
		(SELECT key FROM ap_listing WHERE box = $1 AND owner = $2 AND reader IN ($3, $4) AND (created_ms < $5 OR created_ms = $5 AND key < $6)
		ORDER BY created_ms DESC, key DESC LIMIT `+number(2*(limit+1))+`) ORDER BY a.created_ms DESC, a.key DESC LIMIT `+number(limit+1), box, own, who, all, ms, key)
	if err != nil {
		return Page{}, err
	}
	p := Page{}
	for i, row := range rows {
		if i == limit {
			last := rows[i-1]
			p.Next = strconv.FormatInt(last.CreatedMS, 10) + "-" + hex.EncodeToString(last.Key)
			break
		}
		body, err := r.open(ctx, row.Data, "ap_activity", row.Key)
		if err != nil {
			return Page{}, err
		}
		p.Bodies = append(p.Bodies, body)
	}
	return p, nil
}

func cursor(s string) (ms int64, key []byte) {
	at, rest, _ := strings.Cut(s, "-")
	n, err := strconv.ParseInt(at, 10, 64)
	k, hexErr := hex.DecodeString(rest)
	if err != nil || hexErr != nil || len(k) != 16 {
		return 1 << 62, make([]byte, 16)
	}
	return n, k
}

// Activity returns the octets of the activity with an id, or of the latest with that object, if the reader may see it. ErrNotFound otherwise.
func (r *Reader) Activity(ctx context.Context, id, reader string) ([]byte, error) {
	row, err := get[storedActivity](ctx, r, findActivity, hashed(id), hashed(reader), hashed(""))
	if err != nil {
		return nil, err
	}
	return r.open(ctx, row.Data, "ap_activity", row.Key)
}

// DropActivitiesOf deletes what an owner of collections sent, and what it received and stands in nobody else's.
func (tx *Tx) DropActivitiesOf(ctx context.Context, owner string) error {
	key := hashed(owner)
	for _, q := range []string{
		`DELETE FROM ap_activity WHERE key IN (SELECT key FROM ap_listing WHERE box = 'out' AND owner = $1)`,
		`DELETE FROM ap_activity WHERE key IN (SELECT key FROM ap_listing WHERE box = 'in' AND owner = $1)
			AND NOT EXISTS (SELECT 1 FROM ap_listing AS l WHERE l.key = ap_activity.key AND l.owner <> $1)`,
		`DELETE FROM ap_listing WHERE box = 'in' AND owner = $1`,
	} {
		if _, err := tx.exec(ctx, q, key); err != nil {
			return fmt.Errorf("deleting the activities of an actor: %w", err)
		}
	}
	return nil
}

// DropActivities deletes activities by their ids, from all collections. One that is not there is passed over.
func (tx *Tx) DropActivities(ctx context.Context, ids []string) error {
	for _, id := range ids {
		if _, err := tx.exec(ctx, `DELETE FROM ap_activity WHERE key = $1`, hashed(id)); err != nil {
			return fmt.Errorf("deleting an activity: %w", err)
		}
	}
	return nil
}
