package media

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"maunium.net/go/mautrix/crypto/attachment"
	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// seal encrypts a file as Mover does.
func seal(t *rapid.T, clear []byte) (*event.EncryptedFile, []byte) {
	file, err := newAttachment()
	if err != nil {
		t.Fatal(err)
	}
	stream, err := attachmentStream(file)
	if err != nil {
		t.Fatal(err)
	}
	e := &encrypting{from: iotest.HalfReader(bytes.NewReader(clear)), stream: stream, sum: sha256.New()}
	sealed, err := io.ReadAll(e)
	if err != nil {
		t.Fatal(err)
	}
	file.Hashes["sha256"] = base64.RawStdEncoding.EncodeToString(e.sum.Sum(nil))
	return file, sealed
}

// opened decrypts a file, and checks its hash.
func opened(sealed []byte, file *event.EncryptedFile) ([]byte, error) {
	r, err := decrypting(iotest.OneByteReader(bytes.NewReader(sealed)), file)
	if err != nil {
		return nil, err
	}
	clear, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return clear, r.verify(file)
}

// Encrypted files of Matrix go through our code and through that of another making; one changed octet is noticed.
func TestMatrixAttachments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "file")
		file, sealed := seal(t, want)
		if got, err := opened(sealed, file); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("read %d octets, %v", len(got), err)
		}

		var theirs attachment.EncryptedFile
		convert(t, file, &theirs)
		got := bytes.Clone(sealed)
		if err := theirs.DecryptInPlace(got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("the library reads %d octets, %v", len(got), err)
		}

		fresh := attachment.NewEncryptedFile()
		theirBytes := bytes.Clone(want)
		fresh.EncryptInPlace(theirBytes)
		var ours event.EncryptedFile
		convert(t, fresh, &ours)
		if got, err := opened(theirBytes, &ours); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("of the library's file %d octets are read, %v", len(got), err)
		}

		if len(sealed) == 0 {
			return
		}
		sealed[rapid.IntRange(0, len(sealed)-1).Draw(t, "where")] ^= 1
		if _, err := opened(sealed, file); !errors.Is(err, ErrDamaged) {
			t.Fatalf("a changed file: %v", err)
		}
	})
}

// convert hands a description of a file over as clients do, as JSON.
func convert(t *rapid.T, from, to any) {
	b, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, to); err != nil {
		t.Fatal(err)
	}
}

func TestBadAttachments(t *testing.T) {
	for name, change := range map[string]func(*event.EncryptedFile){
		"version":   func(f *event.EncryptedFile) { f.Version = "v1" },
		"algorithm": func(f *event.EncryptedFile) { f.Key.Algorithm = "A128CTR" },
		"key":       func(f *event.EncryptedFile) { f.Key.Key = "c2hvcnQ" },
		"counter":   func(f *event.EncryptedFile) { f.IV = "" },
		"hash":      func(f *event.EncryptedFile) { f.Hashes = nil },
	} {
		f, err := newAttachment()
		if err != nil {
			t.Fatal(err)
		}
		change(f)
		if _, err := opened(nil, f); !errors.Is(err, ErrDamaged) {
			t.Errorf("a file of bad %s: %v", name, err)
		}
	}
}
