package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// marker is the small file beside the process by which a restored database is told from the one that was used last (T17),
// and by which an installation knows its own leases again. It holds two words: the installation's name, made with the file,
// and the last marker. The file is locked as long as the process lives, so that whoever has it knows that the process
// which had it before is gone.
type marker struct {
	path  string // "" for none
	id    string
	last  string // "" when the file was made just now
	lock  io.Closer
	place string // of the lock
	mu    sync.Mutex
}

// openMarker reads the marker file, or takes a name for a new one. A file that another process of this machine holds is
// left alone: this process has none then.
func (db *DB) openMarker() error {
	m := &db.mark
	if m.path = db.cfg.MarkerFile; m.path == "" {
		return nil
	}
	lock, err := lockFile(m.path + ".lock")
	if errors.Is(err, ErrInUse) && db.dialect == postgresDialect {
		db.cfg.Log.Info().Str("file", m.path).Msg("another process uses the marker file: this one goes without, and waits for leases to end")
		m.path = ""
		return nil
	}
	if err != nil {
		return fmt.Errorf("locking the marker file: %w", err)
	}
	m.lock, m.place = lock, placeOf(lock)
	b, err := os.ReadFile(m.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading the marker file: %w", err)
	}
	if words := strings.Fields(string(b)); len(words) == 2 {
		m.id, m.last = words[0], words[1]
		return nil
	}
	m.id = newMark()
	return nil
}

// suffix tells the rows of this installation from those of others on the same database.
func (m *marker) suffix() string { return "." + m.id }

func newMark() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// Mark writes a new random marker to the database and then to the marker file, if anything was written since the last time.
// A database that is restored to an earlier state than that of the last Mark is recognised at the next start. Call it
// every few seconds; Close does it, too.
func (db *DB) Mark(ctx context.Context) error {
	m := &db.mark
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.path == "" || !db.changed.Swap(false) {
		return nil
	}
	next := newMark()
	err := db.Tx(ctx, func(tx *Tx) error {
		// What stands in the file is the marker before, also when the process died between the two writes.
		return errors.Join(tx.setInstance(ctx, "marker_before"+m.suffix(), m.last), tx.setInstance(ctx, "marker"+m.suffix(), next),
			tx.setInstance(ctx, "life"+m.suffix(), db.life), tx.setInstance(ctx, "place"+m.suffix(), m.place))
	})
	if err == nil {
		err = m.write(next)
	}
	if err != nil {
		db.changed.Store(true)
		return fmt.Errorf("marking the database's state: %w", err)
	}
	m.last = next
	db.changed.Store(false) // the marker itself is no news
	return nil
}

func (m *marker) write(mark string) error {
	tmp, err := os.CreateTemp(filepath.Dir(m.path), ".marker-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(m.id + " " + mark + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), m.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(m.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close()) // the file's name is the directory's
}

func (m *marker) close() error {
	if m.lock == nil {
		return nil
	}
	return m.lock.Close()
}
