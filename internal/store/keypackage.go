package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
)

// States of a KeyPackage. One goes from ready to claimed once; a last resort stays ready.
const (
	KeyPackageReady   = "ready"
	KeyPackageClaimed = "claimed"
	KeyPackageUsed    = "used"
	KeyPackageRevoked = "revoked"
)

// KeyPackage is one of a bridged user.
type KeyPackage struct {
	Ref         []byte `db:"ref"` // KeyPackageRef (RFC 9420 §5.2)
	UserURI     string `db:"user_uri"`
	ClientURI   string `db:"client_uri"`
	Suite       int64  `db:"suite"` // MLS cipher suite
	State       string `db:"state"`
	LastResort  bool   `db:"last_resort"`    // may be used more than once
	Public      []byte `db:"public"`         // the KeyPackage, encoded
	Private     []byte `db:"sealed_private"` // sealed in the database
	ClaimedBy   string `db:"claimed_by"`     // the peer's domain or the actor's id, "" while nobody has it
	ClaimedRoom string `db:"claimed_room"`   // URI of the room that it is for, or ""
	ClaimedMS   int64  `db:"claimed_ms"`
	NotAfterMS  int64  `db:"not_after_ms"` // end of its lifetime
	CreatedMS   int64  `db:"created_ms"`
}

const keyPackageColumns = `ref, user_uri, client_uri, suite, state, last_resort, public, sealed_private, claimed_by, claimed_room, claimed_ms, not_after_ms, created_ms`

// AddKeyPackages stores new KeyPackages (T12), as ready where they have no state. Publish them after the commit.
func (tx *Tx) AddKeyPackages(ctx context.Context, kps ...KeyPackage) error {
	return chunks(tx.db, kps, 13, func(part []KeyPackage) error {
		args := make([]any, 0, len(part)*13)
		for i := range part {
			k := &part[i]
			box, err := tx.seal(k.Private, "keypackage", k.Ref)
			if err != nil {
				return err
			}
			args = append(args, k.Ref, k.UserURI, k.ClientURI, k.Suite, cmp.Or(k.State, KeyPackageReady), bit(k.LastResort), k.Public, box, k.ClaimedBy, k.ClaimedRoom, k.ClaimedMS,
				k.NotAfterMS, k.CreatedMS)
		}
		_, err := tx.exec(ctx, `INSERT INTO keypackage (ref, user_uri, client_uri, suite, state, last_resort, public, sealed_private, claimed_by, claimed_room, claimed_ms, not_after_ms, created_ms) VALUES `+
			values(1, len(part), 13), args...)
		if unique(err) {
			return fmt.Errorf("storing KeyPackages: %w", ErrDuplicate)
		}
		return err
	})
}

// ClaimKeyPackage hands out a user's oldest ready KeyPackage of one of the suites (in the order of
// preference given), never the same one twice (T13); when there is none, the last resort. ErrNotFound
// when there is not even that. Its private part is not returned. minNotAfterMS is the time that it
// must still be valid at.
func (tx *Tx) ClaimKeyPackage(ctx context.Context, userURI string, suites []int64, peer, room string, nowMS, minNotAfterMS int64) (KeyPackage, error) {
	for _, suite := range suites {
		for {
			ref, err := value[[]byte](ctx, &tx.Reader, `SELECT ref FROM keypackage WHERE user_uri = $1 AND state = 'ready' AND last_resort = 0 AND suite = $2 AND +not_after_ms >= $3
				ORDER BY created_ms, ref LIMIT 1`, userURI, suite, minNotAfterMS)
			if errors.Is(err, ErrNotFound) {
				break
			}
			if err != nil {
				return KeyPackage{}, err
			}
			kp, err := get[KeyPackage](ctx, &tx.Reader, `UPDATE keypackage SET state = 'claimed', claimed_by = $2, claimed_room = $3, claimed_ms = $4
				WHERE ref = $1 AND state = 'ready' RETURNING `+keyPackageColumns, ref, peer, room, nowMS)
			if errors.Is(err, ErrNotFound) {
				continue // another was quicker; each turn of this loop means that one was handed out
			}
			kp.Private = nil
			return kp, err
		}
	}
	for _, suite := range suites {
		kp, err := get[KeyPackage](ctx, &tx.Reader, `SELECT `+keyPackageColumns+` FROM keypackage WHERE user_uri = $1 AND state = 'ready' AND last_resort = 1 AND suite = $2 AND +not_after_ms >= $3
			ORDER BY created_ms DESC, ref LIMIT 1`, userURI, suite, minNotAfterMS)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err == nil {
			kp.Private = nil
			_, err = tx.exec(ctx, `UPDATE keypackage SET claimed_by = $2, claimed_room = $3, claimed_ms = $4 WHERE ref = $1`, kp.Ref, peer, room, nowMS)
		}
		return kp, err
	}
	return KeyPackage{}, ErrNotFound
}

// KeyPackage returns a KeyPackage with its private part, or ErrNotFound.
func (r *Reader) KeyPackage(ctx context.Context, ref []byte) (KeyPackage, error) {
	kp, err := get[KeyPackage](ctx, r, `SELECT `+keyPackageColumns+` FROM keypackage WHERE ref = $1`, bytesOf(ref))
	if err == nil && len(kp.Private) > 0 {
		kp.Private, err = r.open(ctx, kp.Private, "keypackage", kp.Ref)
	}
	return kp, err
}

// KeyPackageRefs returns those of some references whose KeyPackages are ours, in no order.
func (r *Reader) KeyPackageRefs(ctx context.Context, refs [][]byte) (ours [][]byte, err error) {
	err = chunks(r.db, refs, 1, func(part [][]byte) error {
		args := make([]any, len(part))
		for i, ref := range part {
			args[i] = bytesOf(ref)
		}
		args = evened(args, args[0])
		found, err := column[[]byte](ctx, r, `SELECT ref FROM keypackage WHERE ref IN (`+strings.Trim(values(1, 1, len(args)), "()")+`)`, args...)
		ours = append(ours, found...)
		return err
	})
	return ours, err
}

// UseKeyPackage ends a KeyPackage with the Welcome that used it: its private part is deleted (T14). A
// last resort stays until RevokeKeyPackages.
func (tx *Tx) UseKeyPackage(ctx context.Context, ref []byte) error {
	kp, err := tx.KeyPackage(ctx, ref)
	if err != nil || kp.LastResort {
		return err
	}
	box, err := tx.seal(nil, "keypackage", kp.Ref)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, `UPDATE keypackage SET state = 'used', sealed_private = $2 WHERE ref = $1`, ref, box)
	return err
}

// RevokeKeyPackages makes single KeyPackages unavailable that no Welcome has used. A Welcome that is on its way can still be opened.
func (tx *Tx) RevokeKeyPackages(ctx context.Context, refs ...[]byte) error {
	for _, ref := range refs {
		if _, err := tx.exec(ctx, `UPDATE keypackage SET state = 'revoked' WHERE ref = $1 AND state IN ('ready', 'claimed')`, ref); err != nil {
			return err
		}
	}
	return nil
}

// RevokeKeyPackagesOf makes all ready KeyPackages of a user unavailable.
func (tx *Tx) RevokeKeyPackagesOf(ctx context.Context, userURI string) error {
	_, err := tx.exec(ctx, `UPDATE keypackage SET state = 'revoked' WHERE user_uri = $1 AND state = 'ready'`, userURI)
	return err
}

// DeleteKeyPackagesOf deletes all KeyPackages of a user, those that were claimed among them: a Welcome made with one leads nowhere.
func (tx *Tx) DeleteKeyPackagesOf(ctx context.Context, userURI string) error {
	_, err := tx.exec(ctx, `DELETE FROM keypackage WHERE user_uri = $1`, userURI)
	return err
}

// Stock is what a user has in stock for a suite.
type Stock struct {
	UserURI    string `db:"user_uri"`
	Suite      int64  `db:"suite"`
	Ready      int64  `db:"ready"`
	LastResort int64  `db:"last_resort"` // ready last resorts that nobody got yet
}

// KeyPackageStock counts a user's ready KeyPackages that are valid at a time.
func (r *Reader) KeyPackageStock(ctx context.Context, userURI string, minNotAfterMS int64) ([]Stock, error) {
	return list[Stock](ctx, r, `SELECT user_uri, suite, SUM(CASE WHEN last_resort = 0 THEN 1 ELSE 0 END) AS ready,
		SUM(CASE WHEN last_resort = 1 AND claimed_ms = 0 THEN 1 ELSE 0 END) AS last_resort FROM keypackage
		WHERE user_uri = $1 AND state = 'ready' AND +not_after_ms >= $2 GROUP BY user_uri, suite ORDER BY suite`, userURI, minNotAfterMS)
}

// Route says where the Welcome for a KeyPackage goes.
type Route struct {
	Ref      []byte `db:"ref"`
	Provider string `db:"provider"`
	Client   string `db:"client"`
	UntilMS  int64  `db:"until_ms"`
}

// PutRoutes remembers where Welcomes go (T13, as hub).
func (tx *Tx) PutRoutes(ctx context.Context, routes ...Route) error {
	return chunks(tx.db, routes, 4, func(part []Route) error {
		args := make([]any, 0, len(part)*4)
		for _, r := range part {
			args = append(args, r.Ref, r.Provider, r.Client, r.UntilMS)
		}
		_, err := tx.exec(ctx, `INSERT INTO keypackage_route (ref, provider, client, until_ms) VALUES `+values(1, len(part), 4)+
			` ON CONFLICT (ref) DO UPDATE SET until_ms = excluded.until_ms WHERE keypackage_route.provider = excluded.provider`, args...)
		return err
	})
}

// Route returns where the Welcome for a KeyPackage goes, or ErrNotFound.
func (r *Reader) Route(ctx context.Context, ref []byte) (Route, error) {
	return get[Route](ctx, r, `SELECT ref, provider, client, until_ms FROM keypackage_route WHERE ref = $1`, bytesOf(ref))
}
