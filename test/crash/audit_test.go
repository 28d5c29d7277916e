package crash

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/matrix-mimi/bridge/internal/sealed"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/test/fakes/stage"
)

// leftovers are tables that are empty when everything was dealt with. Timers may lie in the future.
var leftovers = []string{
	`SELECT 'input', kind, state, reason, tries FROM input WHERE kind <> 'timer'`,
	`SELECT 'outbound', dest, verb, state, attempts FROM outbound`,
	`SELECT 'dead letter', dest, verb, reason FROM dead_letter`,
	`SELECT 'pending commit', base_epoch FROM pending_commit`,
	`SELECT 'intent', kind, state, target, reason FROM intent`,
}

// quiet waits until a bridge has nothing left to do.
func quiet(ctx context.Context, b *stage.Bridge) error {
	db, err := b.Database()
	if err != nil {
		return err
	}
	defer db.Close()
	var left []string
	var stir atomic.Int64
	err = poll(ctx, b.Domain+" to have nothing left to do", stir.Load, func() (bool, error) {
		before := left
		left = nil
		for _, query := range leftovers {
			lines, err := stage.Lines(ctx, db, query)
			if err != nil {
				return false, err
			}
			left = append(left, lines...)
		}
		if !slices.Equal(left, before) {
			stir.Add(1)
		}
		return len(left) == 0, nil
	})
	if err != nil && len(left) > 0 {
		return fmt.Errorf("%w: left are %q", err, left)
	}
	return err
}

// state is what a bridge holds of a room.
type state struct {
	kind, epoch, auth string
}

// made are the ciphertexts that the bridges have written down, noted while they talk: a bridge forgets the generations of an
// epoch that is gone.
type made struct {
	hash map[string]string          // bridge, room, group, epoch, leaf, kind and generation → hash
	all  map[string]map[string]bool // bridge → hashes
}

func newMade() *made { return &made{hash: map[string]string{}, all: map[string]map[string]bool{}} }

// note reads what a bridge has written down now, and says which generations stand for another ciphertext than before.
func (m *made) note(ctx context.Context, b *stage.Bridge) (reused []string, err error) {
	db, err := b.Database()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return m.read(ctx, b.Domain, db)
}

// read is note with the database at hand.
func (m *made) read(ctx context.Context, domain string, db *sql.DB) (reused []string, err error) {
	lines, err := stage.Lines(ctx, db, `SELECT room, grp, epoch, leaf, kind, generation, hash FROM outbound_mls`)
	if err != nil {
		return nil, err
	}
	if m.all[domain] == nil {
		m.all[domain] = map[string]bool{}
	}
	for _, l := range lines {
		cut := strings.LastIndexByte(l, ' ')
		key, hash := domain+" "+l[:cut], l[cut+1:]
		if had := m.hash[key]; had != "" && had != hash {
			reused = append(reused, key)
		}
		m.hash[key] = hash
		m.all[domain][hash] = true
	}
	return reused, nil
}

// snapshot is what a stopped bridge's database says.
type snapshot struct {
	rooms map[string]state // by room URI
	log   map[string]map[string]string
}

// open reads a stopped bridge's database. Of SQLite a copy is read, so that the evidence stays as it is.
func open(ctx context.Context, b *stage.Bridge, scratch string) (*snapshot, error) {
	key, err := sealed.LoadKeyFile(filepath.Join(b.Dir, "sealing.key"))
	if err != nil {
		return nil, err
	}
	cfg := store.Config{Driver: "postgres", DSN: b.Postgres, Sealer: key}
	if b.Postgres == "" {
		cfg.Driver, cfg.DSN = "sqlite", filepath.Join(scratch, b.Domain+".db")
		for _, end := range []string{"", "-wal"} {
			data, err := os.ReadFile(filepath.Join(b.Dir, "bridge.db"+end))
			if os.IsNotExist(err) {
				continue
			}
			if err == nil {
				err = os.WriteFile(cfg.DSN+end, data, 0o600)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	db, err := store.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	snap := &snapshot{rooms: map[string]state{}, log: map[string]map[string]string{}}
	heads, err := db.Rooms(ctx, store.RoomID{}, 10_000)
	if err != nil {
		return nil, err
	}
	byID := map[string]string{}
	for _, head := range heads {
		byID[fmt.Sprintf("%x", head.ID[:])] = head.URI
		if head.URI == "" || head.Kind == store.RoomNone {
			continue
		}
		auth, err := authenticator(ctx, db, head.ID)
		if err != nil {
			return nil, fmt.Errorf("%s: read the group of %s: %w", b.Domain, head.URI, err)
		}
		snap.rooms[head.URI] = state{string(head.Kind), fmt.Sprint(head.Epoch), auth}
	}
	raw, err := b.Database()
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	return snap, snap.readHashes(ctx, raw, byID)
}

func (s *snapshot) readHashes(ctx context.Context, db *sql.DB, byID map[string]string) error {
	lines, err := stage.Lines(ctx, db, `SELECT room, hash, sender FROM room_log WHERE kind = 'message'`)
	if err != nil {
		return err
	}
	for _, l := range lines {
		cells := strings.SplitN(l, " ", 3)
		uri := byID[cells[0]]
		if s.log[uri] == nil {
			s.log[uri] = map[string]string{}
		}
		s.log[uri][cells[1]] = cells[2]
	}
	return nil
}

// authenticator is the epoch authenticator of the stored group: equal at two members only when their whole history is.
func authenticator(ctx context.Context, db *store.DB, room store.RoomID) (string, error) {
	pieces, err := db.Pieces(ctx, room)
	if err != nil || len(pieces) == 0 {
		return "", err
	}
	list := make([]mls.Piece, len(pieces))
	for i, p := range pieces {
		list[i] = mls.Piece{Key: mls.PieceKey(p.Key), Data: p.Data}
	}
	cfg := mls.Config{Validator: mls.ValidatorFunc(func(mls.CredentialCheck) error { return nil }), Components: map[mls.ComponentID]mls.ComponentLogic{}}
	for id, logic := range policy.Components() {
		cfg.Components[mls.ComponentID(id)] = logic
	}
	g, err := mls.LoadGroup(cfg, list)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d %x", g.Epoch(), g.EpochAuthenticator()), nil
}

// compare is the auditor's work on two stopped bridges: the hub's, and another domain's.
func compare(a, b *snapshot, domain string, m *made, rooms int) verdict {
	var v verdict
	if len(a.rooms) != rooms || len(b.rooms) != rooms {
		v.forked++
		v.note("%d rooms were made, the hub knows %d and %s %d", rooms, len(a.rooms), domain, len(b.rooms))
	}
	for uri, at := range a.rooms {
		other := b.rooms[uri]
		if at.auth == "" || at.auth != other.auth || at.epoch != other.epoch {
			v.forked++
			v.note("%s: the hub is in epoch %s %q, %s in %s %q", uri, at.epoch, at.auth, domain, other.epoch, other.auth)
		}
		// Every message that the hub accepted was made once, by the bridge whose user sent it, and written down there first.
		for hash, sender := range a.log[uri] {
			maker, _, _ := strings.Cut(strings.TrimPrefix(sender, "mimi://"), "/")
			if !m.all[maker][hash] {
				v.reused++
				v.note("%s: a ciphertext of %s was sent that its bridge has not written down", uri, sender)
			}
		}
	}
	return v
}
