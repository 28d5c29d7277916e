package media

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/internal/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

const tokenNobodyHas = "00112233445566778899aabbccddeeff"

// index is a table of assets; err is what it answers instead.
type index struct {
	rows map[string]store.Asset
	err  error
}

func (x *index) Asset(_ context.Context, id string) (store.Asset, error) {
	a, ok := x.rows[id]
	if !ok && x.err == nil {
		return a, store.ErrNotFound
	}
	return a, x.err
}

// shelf is a store of assets at a time.
type shelf struct {
	*Store
	rows *index
	now  time.Time
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{rows: &index{rows: map[string]store.Asset{}}, now: time.Unix(1_800_000_000, 0)}
	var err error
	if s.Store, err = NewStore(filepath.Join(t.TempDir(), "assets"), "https://a.example/", s.rows, func() time.Time { return s.now }); err != nil {
		t.Fatal(err)
	}
	return s
}

// put keeps a file and notes it in the table.
func (s *shelf) put(t *testing.T, octets string) string {
	t.Helper()
	token, part, err := s.Put(strings.NewReader(octets), 1<<20, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	s.rows.rows[token] = store.Asset{ID: token, Direction: store.Out, Size: int64(part.Size), Hash: part.ContentHash}
	return token
}

// files are the names of all that is in the directory.
func (s *shelf) files(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir(s.dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, d.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestAssetsAreKeptEncrypted(t *testing.T) {
	s := newShelf(t)
	const secret = "what nobody at the server may read"
	token, part, err := s.Put(strings.NewReader(secret), 100, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if part.URL != "https://a.example/assets/"+token || s.Token(part.URL) != token || s.URL(token) != part.URL {
		t.Errorf("address %q of token %q", part.URL, token)
	}
	s.rows.rows[token] = store.Asset{Direction: store.Out}
	f, _, err := s.Open(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kept, err := io.ReadAll(f)
	if err != nil || uint64(len(kept)) != part.Size || bytes.Contains(kept, []byte("nobody")) {
		t.Errorf("kept are %d octets (%v), announced %d", len(kept), err, part.Size)
	}
	if plain, err := part.Open(kept); err != nil || string(plain) != secret {
		t.Errorf("opened: %q, %v", plain, err)
	}
}

// Nothing is left of what is not kept.
func TestAssetsThatAreNotKept(t *testing.T) {
	s := newShelf(t)
	fine := func() error { return nil }
	if _, _, err := s.Put(strings.NewReader("four"), 3, fine); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one that is too large: %v", err)
	}
	if _, _, err := s.Put(strings.NewReader("x"), 3, func() error { return ErrDamaged }); !errors.Is(err, ErrDamaged) {
		t.Errorf("one that does not pass: %v", err)
	}
	broken := errors.New("the line broke")
	if _, _, err := s.Put(io.MultiReader(strings.NewReader("x"), failing{broken}), 3, fine); !errors.Is(err, broken) {
		t.Errorf("one that breaks off: %v", err)
	}
	if left := s.files(t); len(left) != 0 {
		t.Errorf("left are %q", left)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestWhatIsServed(t *testing.T) {
	s := newShelf(t)
	token := s.put(t, "hello")
	theirs, expired, lost := s.put(t, "x"), s.put(t, "y"), s.put(t, "z")
	change := func(token string, fn func(*store.Asset)) {
		a := s.rows.rows[token]
		fn(&a)
		s.rows.rows[token] = a
	}
	change(theirs, func(a *store.Asset) { a.Direction = store.In })
	change(expired, func(a *store.Asset) { a.ExpiresMS = s.now.UnixMilli() })
	change(token, func(a *store.Asset) { a.ExpiresMS = s.now.UnixMilli() + 1 })
	if err := s.Delete(lost); err != nil {
		t.Fatal(err)
	}
	get := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, "/", nil)
		r.URL.Path = path
		s.ServeHTTP(w, r)
		return w
	}
	w := get(http.MethodGet, PathPrefix+token)
	if w.Code != http.StatusOK || int64(w.Body.Len()) != s.rows.rows[token].Size {
		t.Errorf("%d, %d octets", w.Code, w.Body.Len())
	}
	for h, want := range map[string]string{"Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"} {
		if got := w.Header().Get(h); got != want {
			t.Errorf("%s: %q, want %q", h, got, want)
		}
	}
	if w := get(http.MethodHead, PathPrefix+token); w.Code != http.StatusOK || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d, %d octets", w.Code, w.Body.Len())
	}
	for path, want := range map[string]int{
		PathPrefix + tokenNobodyHas:          http.StatusNotFound,
		PathPrefix + theirs:                  http.StatusNotFound,
		PathPrefix + expired:                 http.StatusNotFound,
		PathPrefix + lost:                    http.StatusNotFound,
		PathPrefix:                           http.StatusNotFound,
		PathPrefix + "../../etc/passwd":      http.StatusNotFound,
		PathPrefix + strings.ToUpper(token):  http.StatusNotFound,
		"/other/" + token:                    http.StatusNotFound,
		PathPrefix + token + "/" + token[:2]: http.StatusNotFound,
	} {
		if got := get(http.MethodGet, path).Code; got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	if w := get(http.MethodPost, PathPrefix+token); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, allowed %q", w.Code, w.Header().Get("Allow"))
	}
	s.rows.err = errors.New("the database is away")
	if w := get(http.MethodGet, PathPrefix+token); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "database") {
		t.Errorf("without the table: %d %q", w.Code, w.Body)
	}
}

// Files without a row go after a day: those of others stay, and so do all while the table cannot be asked.
func TestSweep(t *testing.T) {
	s := newShelf(t)
	known, orphan, young := s.put(t, "a"), s.put(t, "b"), s.put(t, "c")
	delete(s.rows.rows, orphan)
	delete(s.rows.rows, young)
	begun := filepath.Join(s.dir, "new-17") // of a transfer that a crash ended
	if err := os.WriteFile(begun, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	day := s.now.Add(-25 * time.Hour)
	for _, path := range []string{s.path(known), s.path(orphan), begun} {
		if err := os.Chtimes(path, day, day); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(s.path(young), s.now, s.now); err != nil {
		t.Fatal(err)
	}
	s.rows.err = errors.New("the database is away")
	if n, err := s.Sweep(t.Context()); n != 0 || err == nil || len(s.files(t)) != 4 {
		t.Errorf("without the table %d went: %v", n, err)
	}
	s.rows.err = nil
	if n, err := s.Sweep(t.Context()); n != 2 || err != nil {
		t.Errorf("%d went, %v; want 2", n, err)
	}
	left := map[string]bool{}
	if err := s.Walk(func(token string, info os.FileInfo) { left[token] = info.Size() > 0 }); err != nil || len(left) != 2 || !left[known] || !left[young] {
		t.Errorf("left are %v, %v", left, err)
	}
	for range 2 {
		if err := s.Delete(known); err != nil {
			t.Error(err)
		}
	}
	if err := s.Delete("../" + tokenNobodyHas); err != nil {
		t.Error(err)
	}
}

// FuzzAddresses: whatever others ask for, only files of ours are opened, and a token means a file in the directory.
func FuzzAddresses(f *testing.F) {
	f.Add("https://a.example/assets/" + tokenNobodyHas)
	f.Add("https://a.example/assets/../../etc/passwd")
	f.Add("/assets/" + tokenNobodyHas + "\x00")
	dir := f.TempDir()
	s, err := NewStore(dir, "https://a.example", &index{}, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if token := s.Token(address); token != "" && (s.URL(token) != address || filepath.Dir(filepath.Dir(s.path(token))) != dir) {
			t.Errorf("%q has token %q", address, token)
		}
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path = address
		if s.ServeHTTP(w, r); w.Code != http.StatusNotFound {
			t.Errorf("%q: %d", address, w.Code)
		}
	})
}
