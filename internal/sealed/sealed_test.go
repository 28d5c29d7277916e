package sealed

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func ring(t testing.TB, ids ...uint32) *Ring {
	t.Helper()
	keys := map[uint32]Secret{}
	for _, id := range ids {
		k, err := NewDataKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[id] = k
	}
	r := NewRing()
	if err := r.Set(keys, ids[len(ids)-1]); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestASecretPrintsAsSecret(t *testing.T) {
	s := Secret("hunter2")
	j, err := json.Marshal(struct{ S Secret }{s})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{s.String(), fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s, s, s, s), fmt.Sprintf("%v", struct{ S Secret }{s}), string(j), fmt.Sprint(&KeyFile{keys: []Secret{s}}), fmt.Sprintf("%+v", &Ring{keys: map[uint32]Secret{1: s}})} {
		if strings.Contains(got, "hunter2") || strings.Contains(got, "104") || strings.Contains(got, "68756e") || !strings.Contains(got, "[secret]") {
			t.Errorf("it prints as %s", got)
		}
	}
}

func TestWhatIsSealedOpensOnlyInItsPlace(t *testing.T) {
	r := ring(t, 1, 7)
	rapid.Check(t, func(rt *rapid.T) {
		secret := rapid.SliceOf(rapid.Byte()).Draw(rt, "secret")
		table, key := rapid.String().Draw(rt, "table"), rapid.Int64().Draw(rt, "key")
		box, err := r.Seal(rand.Reader, AAD(table, key), secret)
		if err != nil {
			rt.Fatal(err)
		}
		if len(box) != len(secret)+Overhead {
			rt.Fatalf("%d bytes became %d", len(secret), len(box))
		}
		if got, err := r.Open(AAD(table, key), box); err != nil || !bytes.Equal(got, secret) {
			rt.Fatalf("it came back as %d bytes, %v", len(got), err)
		}
		for _, aad := range [][]byte{AAD(table, key+1), AAD(table+"x", key), AAD(table), AAD(table, key, key), nil} {
			if _, err := r.Open(aad, box); !errors.Is(err, ErrBroken) {
				rt.Fatalf("it opened in another place: %v", err)
			}
		}
		bad := bytes.Clone(box)
		bad[rapid.IntRange(0, len(bad)-1).Draw(rt, "at")] ^= byte(rapid.IntRange(1, 255).Draw(rt, "by"))
		if _, err := r.Open(AAD(table, key), bad); !errors.Is(err, ErrBroken) && !errors.Is(err, ErrUnknownKey) {
			rt.Fatalf("a changed value opened: %v", err)
		}
		if _, err := r.Open(AAD(table, key), box[:rapid.IntRange(0, len(box)-1).Draw(rt, "cut")]); err == nil {
			rt.Fatal("a cut value opened")
		}
	})
}

func TestPlacesDoNotMeet(t *testing.T) {
	all := [][]byte{AAD("ab", "c"), AAD("a", "bc"), AAD("a", "b", "c"), AAD("abc"), AAD("a", []byte("b"), "c", ""), AAD("a", int64(1)), AAD("a", int64(1), int64(0)), AAD("a", [16]byte{})}
	for i := range all {
		for j := range i {
			if bytes.Equal(all[i], all[j]) {
				t.Errorf("places %d and %d are the same", i, j)
			}
		}
	}
	if !bytes.Equal(AAD("a", "k"), AAD("a", []byte("k"))) {
		t.Error("text and bytes differ: one driver gives the one, another the other")
	}
}

func TestOldKeysOpenAndOnlyTheActiveOneSeals(t *testing.T) {
	r := ring(t, 1)
	old, err := r.Seal(rand.Reader, nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	key, _ := NewDataKey(rand.Reader)
	keys := map[uint32]Secret{1: r.keys[1], 2: key}
	if err := r.Set(keys, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(nil, old); err != nil {
		t.Fatal(err)
	}
	fresh, err := r.Seal(rand.Reader, nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := KeyID(fresh); err != nil || id != 2 {
		t.Fatalf("sealed with %d, %v", id, err)
	}
	delete(keys, 1)
	if err := r.Set(keys, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(nil, old); !errors.Is(err, ErrUnknownKey) {
		t.Fatalf("with the old key gone: %v", err)
	}
	if err := r.Set(keys, 9); err == nil {
		t.Fatal("a key that is not there became active")
	}
	if _, err := NewRing().Seal(rand.Reader, nil, nil); !errors.Is(err, ErrUnknownKey) {
		t.Fatal("an empty ring seals")
	}
}

func TestTheKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bridge.key")
	f, err := CreateKeyFile(rand.Reader, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateKeyFile(rand.Reader, path); err == nil {
		t.Fatal("a key file was overwritten")
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", st.Mode(), err)
	}
	key, _ := NewDataKey(rand.Reader)
	wrapped, err := f.Wrap(rand.Reader, 5, key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Unwrap(5, wrapped); err != nil || !bytes.Equal(got, key) {
		t.Fatalf("after loading: %v", err)
	}
	if _, err := again.Unwrap(6, wrapped); !errors.Is(err, ErrWrongKeyFile) {
		t.Fatalf("under another id: %v", err)
	}
	other, _ := NewKeyFile(rand.Reader)
	if _, err := other.Unwrap(5, wrapped); !errors.Is(err, ErrWrongKeyFile) || other.Save() == nil {
		t.Fatalf("with another file: %v", err)
	}

	// Rotation: the new key wraps, the old one still unwraps, then it is gone.
	if err := errors.Join(again.Add(rand.Reader), again.Save()); err != nil {
		t.Fatal(err)
	}
	if again, err = LoadKeyFile(path); err != nil || len(again.Fingerprints()) != 2 || again.Fingerprints()[1] != f.Fingerprints()[0] {
		t.Fatalf("after adding a key: %v, %v", again.Fingerprints(), err)
	}
	if _, err := again.Unwrap(5, wrapped); err != nil {
		t.Fatal(err)
	}
	rewrapped, err := again.Wrap(rand.Reader, 5, key)
	if err != nil {
		t.Fatal(err)
	}
	again.Retire()
	if _, err := again.Unwrap(5, wrapped); !errors.Is(err, ErrWrongKeyFile) {
		t.Fatalf("the retired key unwraps: %v", err)
	}
	if _, err := again.Unwrap(5, rewrapped); err != nil {
		t.Fatal(err)
	}
}

func TestBadKeyFilesAreRefused(t *testing.T) {
	good, _ := NewKeyFile(rand.Reader)
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"empty":       {"# nothing\n", 0o600, "no key"},
		"short":       {"AAAA\n", 0o600, "line 1"},
		"no base64":   {"\n!!\n", 0o600, "line 2"},
		"world":       {string(good.marshal()), 0o644, "0600"},
		"far too big": {strings.Repeat("#\n", 40<<10), 0o600, "larger"},
		"many keys":   {strings.Repeat(strings.Split(string(good.marshal()), "\n")[2]+"\n", 65), 0o600, "more than 64"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKeyFile(path)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := LoadKeyFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
