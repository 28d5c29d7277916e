package crypto_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"maunium.net/go/mautrix/crypto/attachment"
	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/matrixside/crypto"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// Files go through our code and through the library's, in pieces of any size; one changed octet is noticed.
func TestFiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "file")
		sealed, err := crypto.SealFile(rand.Reader, iotest.HalfReader(bytes.NewReader(want)))
		if err != nil {
			t.Fatal(err)
		}
		cipher, err := io.ReadAll(io.LimitReader(sealed, int64(len(want)))) // as an upload of known length reads
		if err != nil {
			t.Fatal(err)
		}
		file, err := sealed.File("mxc://one.example/x")
		if err != nil {
			t.Fatal(err)
		}
		r, err := crypto.OpenFile(file, iotest.OneByteReader(bytes.NewReader(cipher)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("read %d octets, %v", len(got), err)
		}
		b, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		var theirs attachment.EncryptedFile
		if err := json.Unmarshal(b, &theirs); err != nil {
			t.Fatal(err)
		}
		if got, err := theirs.Decrypt(cipher); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("the library reads %d octets, %v", len(got), err)
		}
		if len(cipher) == 0 {
			return
		}
		cipher[rapid.IntRange(0, len(cipher)-1).Draw(t, "where")] ^= 1
		if r, err = crypto.OpenFile(file, bytes.NewReader(cipher)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, crypto.ErrFileChanged) {
			t.Fatalf("a changed file: %v", err)
		}
	})
}

func TestFileIsNotDescribedBeforeItsEnd(t *testing.T) {
	sealed, err := crypto.SealFile(rand.Reader, bytes.NewReader(make([]byte, 10)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(sealed, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if _, err := sealed.File("mxc://one.example/x"); err == nil {
		t.Error("half a file was described")
	}
	for name, change := range map[string]func(*event.EncryptedFile){
		"version": func(f *event.EncryptedFile) { f.Version = "v1" },
		"key":     func(f *event.EncryptedFile) { f.Key.Key = "short" },
		"counter": func(f *event.EncryptedFile) { f.IV = "" },
		"hash":    func(f *event.EncryptedFile) { f.Hashes = nil },
	} {
		s, err := crypto.SealFile(rand.Reader, bytes.NewReader(nil))
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.File("")
		if err != nil {
			t.Fatal(err)
		}
		change(f)
		if _, err := crypto.OpenFile(f, bytes.NewReader(nil)); err == nil {
			t.Errorf("a file of bad %s was opened", name)
		}
	}
}
