package media

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/content"
)

// PathPrefix is where assets are served: the token follows.
const PathPrefix = "/assets/"

// Index is the table of assets.
type Index interface {
	Asset(ctx context.Context, id string) (store.Asset, error)
}

// Store keeps encrypted files in a directory, each under a token of 128 random bits, which is all that is needed to fetch it.
// What it serves is what the table of assets knows.
type Store struct {
	dir, base string
	index     Index
	now       func() time.Time
}

var tokenForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// NewStore makes the directory if it is not there. base is the URL below which PathPrefix is served, such as https://a.example.
func NewStore(dir, base string, index Index, now func() time.Time) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of assets: %w", err)
	}
	return &Store{dir: dir, base: strings.TrimSuffix(base, "/"), index: index, now: now}, nil
}

// URL is where an asset is.
func (s *Store) URL(token string) string { return s.base + PathPrefix + token }

// Token is the token of a URL of ours, "" for all others.
func (s *Store) Token(url string) string {
	token, ok := strings.CutPrefix(url, s.base+PathPrefix)
	if !ok || !tokenForm.MatchString(token) {
		return ""
	}
	return token
}

func (s *Store) path(token string) string { return filepath.Join(s.dir, token[:2], token) }

// Put encrypts what src has under a new key and keeps it. check is asked after all was read and before anything is kept. A
// file without a row in the table is swept away after a day.
func (s *Store) Put(src io.Reader, limit int64, check func() error) (token string, part content.ExternalPart, err error) {
	var secret [16]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return "", part, err
	}
	token = hex.EncodeToString(secret[:])
	path := s.path(token)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", part, fmt.Errorf("keep an asset: %w", err)
	}
	f, err := os.CreateTemp(s.dir, "new-")
	if err != nil {
		return "", part, fmt.Errorf("keep an asset: %w", err)
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if part, err = content.SealStream(rand.Reader, f, src, limit); err != nil {
		if errors.Is(err, content.ErrLimit) {
			err = fmt.Errorf("%w: %w", ErrTooLarge, err)
		}
		return "", part, err
	}
	if err = check(); err != nil {
		return "", part, err
	}
	if err = f.Sync(); err != nil {
		return "", part, fmt.Errorf("keep an asset: %w", err)
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return "", part, fmt.Errorf("keep an asset: %w", err)
	}
	// The names, too, must be there after a power failure: the row that promises the file follows.
	if err = errors.Join(syncDir(filepath.Dir(path)), syncDir(s.dir)); err != nil {
		return "", part, fmt.Errorf("keep an asset: %w", err)
	}
	part.URL = s.URL(token)
	return token, part, nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Delete removes the file of an asset. One that is not there is no error.
func (s *Store) Delete(token string) error {
	if !tokenForm.MatchString(token) {
		return nil
	}
	if err := os.Remove(s.path(token)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete an asset: %w", err)
	}
	return nil
}

// Open opens an asset that the table knows and that has not expired; os.ErrNotExist for all others.
func (s *Store) Open(ctx context.Context, token string) (*os.File, store.Asset, error) {
	if !tokenForm.MatchString(token) {
		return nil, store.Asset{}, os.ErrNotExist
	}
	a, err := s.index.Asset(ctx, token)
	if errors.Is(err, store.ErrNotFound) || err == nil && (a.Direction != store.Out || a.ExpiresMS > 0 && a.ExpiresMS <= s.now().UnixMilli()) {
		return nil, a, os.ErrNotExist
	}
	if err != nil {
		return nil, a, err
	}
	f, err := os.Open(s.path(token))
	return f, a, err
}

// ServeHTTP serves PathPrefix: GET and HEAD, with ranges. Whoever has the URL may fetch; what is there is encrypted.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.URL.Path, PathPrefix)
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method", http.StatusMethodNotAllowed)
		return
	}
	f, a, err := s.Open(r.Context(), token)
	if errors.Is(err, os.ErrNotExist) {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, "temporary", http.StatusServiceUnavailable)
		return
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Etag", `"`+hex.EncodeToString(a.Hash)+`"`)
	h.Set("Cache-Control", "private, max-age=86400, immutable")
	// A large file takes longer than any other answer.
	_ = http.NewResponseController(w).SetWriteDeadline(s.now().Add(time.Hour))
	http.ServeContent(w, r, "", time.Time{}, f)
}

// Sweep deletes files without a row in the table that are older than a day, and returns how many there were.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	old := s.now().Add(-24 * time.Hour)
	n := 0
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.ModTime().After(old) {
			return nil
		}
		if _, err := s.index.Asset(ctx, d.Name()); err == nil || !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n++
		return os.Remove(path)
	})
	return n, err
}

// Walk calls a function for every asset file, also those without a row.
func (s *Store) Walk(each func(token string, info os.FileInfo)) error {
	return filepath.WalkDir(s.dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !tokenForm.MatchString(d.Name()) {
			return err
		}
		info, err := d.Info()
		if err == nil {
			each(d.Name(), info)
		}
		return err
	})
}
