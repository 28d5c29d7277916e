package sealed

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize is the size of every key in bytes.
const KeySize = chacha20poly1305.KeySize

const (
	fileHeader   = "# Wrapping keys of the bridge's database, the newest first.\n# Keep this file apart from the database and from its backups.\n"
	maxKeyFile   = 64 << 10 // bytes
	maxFileKeys  = 64       // keys
	wrapLabel    = "mimi-bridge data key"
	fingerprintN = 8 // bytes of a fingerprint
)

// ErrWrongKeyFile says that a data key of the database cannot be opened with the key file: it is
// the key file of another database, or an old copy of this one's. Permanent.
var ErrWrongKeyFile = errors.New("the key file does not belong to this database")

// KeyFile holds the keys that wrap a database's data keys. The first wraps; the others, left by a
// rotation that has not ended, only unwrap. It is safe for concurrent use.
type KeyFile struct {
	path string
	mu   sync.RWMutex
	keys []Secret
}

// NewKeyFile makes a key file with one new key that is only in memory until Save.
func NewKeyFile(rand io.Reader) (*KeyFile, error) {
	f := &KeyFile{}
	if err := f.Add(rand); err != nil {
		return nil, err
	}
	return f, nil
}

// CreateKeyFile makes a key file with one new key at path, readable by its owner only. It fails when
// something is there already.
func CreateKeyFile(rand io.Reader, path string) (*KeyFile, error) {
	f, err := NewKeyFile(rand)
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the key file: %w", err)
	}
	if err := writeSynced(out, f.marshal()); err != nil {
		return nil, fmt.Errorf("writing the key file: %w", err)
	}
	f.path = path
	return f, syncDir(filepath.Dir(path))
}

// LoadKeyFile reads a key file. It refuses one that every user of the machine can read.
func LoadKeyFile(path string) (*KeyFile, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the key file: %w", err)
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at the key file: %w", err)
	}
	if st.Mode().IsRegular() && st.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("the key file %s is open to every user (mode %04o): make it 0600", path, st.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the key file: %w", err)
	}
	f, err := parseKeyFile(raw)
	if err != nil {
		return nil, fmt.Errorf("reading the key file %s: %w", path, err)
	}
	f.path = path
	return f, nil
}

func parseKeyFile(raw []byte) (*KeyFile, error) {
	if len(raw) > maxKeyFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxKeyFile)
	}
	f := &KeyFile{}
	for n, line := range strings.Split(string(raw), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(key) != KeySize {
			return nil, fmt.Errorf("line %d is not a key of %d bytes in base64", n+1, KeySize)
		}
		f.keys = append(f.keys, key)
	}
	if len(f.keys) == 0 {
		return nil, errors.New("it holds no key")
	}
	if len(f.keys) > maxFileKeys {
		return nil, fmt.Errorf("it holds more than %d keys", maxFileKeys)
	}
	return f, nil
}

// Reload reads the file again, after another process may have rotated its keys. A key file that is
// only in memory stays as it is.
func (f *KeyFile) Reload() error {
	if f.path == "" {
		return nil
	}
	fresh, err := LoadKeyFile(f.path)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys = fresh.keys
	return nil
}

func (f *KeyFile) marshal() []byte {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var b bytes.Buffer
	b.WriteString(fileHeader)
	for _, k := range f.keys {
		b.WriteString(base64.StdEncoding.EncodeToString(k))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// Save writes the file anew: a crash leaves the old one or the new one, never half of one.
func (f *KeyFile) Save() error {
	if f.path == "" {
		return errors.New("saving the key file: it has no path")
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), ".key-*")
	if err != nil {
		return fmt.Errorf("saving the key file: %w", err)
	}
	defer os.Remove(tmp.Name())
	if err := writeSynced(tmp, f.marshal()); err != nil {
		return fmt.Errorf("saving the key file: %w", err)
	}
	if err := os.Rename(tmp.Name(), f.path); err != nil {
		return fmt.Errorf("saving the key file: %w", err)
	}
	return syncDir(filepath.Dir(f.path))
}

// Add puts a new key in front: it wraps from now on. Call Save before anything is wrapped with it.
func (f *KeyFile) Add(rand io.Reader) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.keys) >= maxFileKeys {
		return fmt.Errorf("the key file already holds %d keys", len(f.keys))
	}
	key := make([]byte, KeySize)
	if _, err := io.ReadFull(rand, key); err != nil {
		return fmt.Errorf("making a wrapping key: %w", err)
	}
	f.keys = append([]Secret{key}, f.keys...)
	return nil
}

// Retire forgets all keys but the first. Call it, and Save, when every data key was wrapped anew.
func (f *KeyFile) Retire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.keys[1:] {
		clear(k)
	}
	f.keys = f.keys[:1]
}

// Fingerprints names the keys, the wrapping one first, without giving them away.
func (f *KeyFile) Fingerprints() []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	out := make([]string, len(f.keys))
	for i, k := range f.keys {
		h := sha256.Sum256(append([]byte("mimi-bridge key fingerprint\x00"), k...))
		out[i] = hex.EncodeToString(h[:fingerprintN])
	}
	return out
}

// Wrap seals a data key under the first key of the file. The id of the data key is bound in.
func (f *KeyFile) Wrap(rand io.Reader, id uint32, dataKey Secret) ([]byte, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return sealWith(rand, f.keys[0], nil, AAD(wrapLabel, int64(id)), dataKey)
}

// Unwrap opens a data key. ErrWrongKeyFile when no key of the file opens it.
func (f *KeyFile) Unwrap(id uint32, wrapped []byte) (Secret, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, k := range f.keys {
		if key, err := openWith(k, wrapped, AAD(wrapLabel, int64(id))); err == nil && len(key) == KeySize {
			return key, nil
		}
	}
	return nil, fmt.Errorf("opening data key %d: %w", id, ErrWrongKeyFile)
}

func writeSynced(f *os.File, b []byte) error {
	_, err := f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
