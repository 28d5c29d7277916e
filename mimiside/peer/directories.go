package peer

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// How long directories are used.
const (
	directoryDefault  = time.Hour          // without Cache-Control
	directoryShortest = time.Minute        // whatever the peer says, and between fetches that fail
	directoryLongest  = 24 * time.Hour     // whatever the peer says
	directoryStale    = 5 * 24 * time.Hour // how long the last one serves when none can be fetched: as long as the outbox tries
	maxDirectories    = 4096
)

// CacheTime returns how long a directory may be used by the header fields of its answer (RFC 9111 §5.2): max-age of
// Cache-Control, the shortest time for no-store and no-cache, an hour when nothing is said; never under a minute or over
// a day.
func CacheTime(h http.Header) time.Duration {
	for _, directive := range strings.Split(strings.ToLower(strings.Join(h.Values("Cache-Control"), ",")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch name {
		case "no-store", "no-cache":
			return directoryShortest
		case "max-age":
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return directoryShortest
			}
			return min(max(time.Duration(seconds)*time.Second, directoryShortest), directoryLongest)
		}
	}
	return directoryDefault
}

// Fetch gets the directory of a provider and says how long it may be used.
type Fetch func(ctx context.Context, domain string) (*wire.Directory, time.Duration, error)

// Directories remembers the directories of peers.
type Directories struct {
	fetch Fetch
	now   func() time.Time

	mu      sync.Mutex
	entries map[string]*directoryEntry
}

type directoryEntry struct {
	directory *wire.Directory
	fetched   time.Time
	until     time.Time
	failed    time.Time     // of the last fetch that failed
	err       error         // of it
	running   chan struct{} // closed when the fetch in progress ends
}

// NewDirectories returns an empty memory.
func NewDirectories(fetch Fetch, now func() time.Time) *Directories {
	return &Directories{fetch: fetch, now: now, entries: map[string]*directoryEntry{}}
}

// Get returns the directory of a provider, from memory or fetched. Callers at the same time share one fetch, which the first
// caller's context bounds. When fetching fails the last directory serves on for five days.
func (d *Directories) Get(ctx context.Context, domain string) (*wire.Directory, error) {
	domain = wire.LowerDomain(domain)
	for {
		d.mu.Lock()
		e := d.entry(domain)
		now := d.now()
		switch {
		case e.directory != nil && now.Before(e.until):
			d.mu.Unlock()
			return e.directory, nil
		case e.running != nil:
			running := e.running
			d.mu.Unlock()
			select {
			case <-running:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		case e.err != nil && now.Sub(e.failed) < directoryShortest:
			dir, err := e.stale(now)
			d.mu.Unlock()
			return dir, err
		}
		e.running = make(chan struct{})
		d.mu.Unlock()
		return d.refresh(ctx, domain, e)
	}
}

// Known returns the directory of a provider if it is in memory, whatever its age, and nil otherwise. It fetches nothing.
func (d *Directories) Known(domain string) *wire.Directory {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.entries[wire.LowerDomain(domain)]; e != nil {
		return e.directory
	}
	return nil
}

// Find returns the providers in memory whose directory fits, in any order. It fetches nothing.
func (d *Directories) Find(fits func(*wire.Directory) bool) (domains []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for domain, e := range d.entries {
		if e.directory != nil && fits(e.directory) {
			domains = append(domains, domain)
		}
	}
	return domains
}

// stale returns the last directory when it is not too old, or else the error of the last fetch.
func (e *directoryEntry) stale(now time.Time) (*wire.Directory, error) {
	if e.directory != nil && now.Sub(e.fetched) < directoryStale {
		return e.directory, nil
	}
	return nil, e.err
}

func (d *Directories) refresh(ctx context.Context, domain string, e *directoryEntry) (*wire.Directory, error) {
	dir, life, err := d.fetch(ctx, domain)
	d.mu.Lock()
	defer d.mu.Unlock()
	close(e.running)
	e.running = nil
	now := d.now()
	if err != nil {
		if ctx.Err() == nil {
			e.failed, e.err = now, err
		}
		if e.directory != nil && now.Sub(e.fetched) < directoryStale {
			return e.directory, nil
		}
		return nil, err
	}
	e.directory, e.fetched, e.until, e.err = dir, now, now.Add(life), nil
	return dir, nil
}

// Expire makes the next Get fetch again: an endpoint of the directory answered 404. A directory younger than a minute is kept,
// so that a peer with a wrong directory is not asked for it at every request. It tells whether the directory was dropped.
func (d *Directories) Expire(domain string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[wire.LowerDomain(domain)]
	if e == nil || e.directory == nil || d.now().Sub(e.fetched) < directoryShortest {
		return false
	}
	e.until = time.Time{}
	return true
}

// Forget drops what is known about a fetch that failed, so that the next Get tries again at once: the peer was heard of.
func (d *Directories) Forget(domain string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.entries[wire.LowerDomain(domain)]; e != nil {
		e.err = nil
	}
}

func (d *Directories) entry(domain string) *directoryEntry {
	e := d.entries[domain]
	if e == nil {
		if len(d.entries) >= maxDirectories {
			for k, old := range d.entries {
				if old.running == nil {
					delete(d.entries, k)
					break
				}
			}
		}
		e = &directoryEntry{}
		d.entries[domain] = e
	}
	return e
}
