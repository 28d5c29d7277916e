package wire

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

func TestStatusMessages(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	signer, err := mls.GenerateSignatureKey(random, mls.SuiteX25519AES128Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	const room IdentifierURI = "mimi://hub.example/r/x"
	key := bytes.Repeat([]byte{7}, StatusKeySize)
	for n := range MaxStatusText {
		for _, s := range []Status{
			{Kind: StatusTyping, Time: 5, TypingFor: 30_000},
			{Kind: StatusPresence, Time: 6, Presence: PresenceOnline, Text: strings.Repeat("t", n)},
			{Kind: StatusProfile, Time: 7, Name: "Alice", Avatar: strings.Repeat("a", n)},
		} {
			m, err := NewStatusMessage(random, room, 9, 3, signer, key, &s)
			if err != nil {
				t.Fatal(err)
			}
			if (len(m.Ciphertext)-16)%statusBlock != 0 {
				t.Fatalf("a status of kind %d with a text of %d shows its length: %d", s.Kind, n, len(m.Ciphertext))
			}
			again, err := UnmarshalStatusMessage(m.Marshal())
			if err != nil {
				t.Fatal(err)
			}
			got, err := again.Open(room, signer.Suite(), signer.Public(), key)
			if err != nil || *got != s {
				t.Fatalf("%+v became %+v, %v", s, got, err)
			}
		}
	}
	m, err := NewStatusMessage(random, room, 9, 3, signer, key, &Status{Kind: StatusTyping})
	if err != nil {
		t.Fatal(err)
	}
	other, err := mls.GenerateSignatureKey(random, mls.SuiteX25519AES128Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	moved, later, changed := *m, *m, *m
	moved.Leaf, later.Epoch = 4, 10
	changed.Ciphertext = bytes.Clone(m.Ciphertext)
	changed.Ciphertext[0] ^= 1
	for what, open := range map[string]func() (*Status, error){
		"another room":   func() (*Status, error) { return m.Open("mimi://hub.example/r/y", signer.Suite(), signer.Public(), key) },
		"another leaf":   func() (*Status, error) { return moved.Open(room, signer.Suite(), signer.Public(), key) },
		"another epoch":  func() (*Status, error) { return later.Open(room, signer.Suite(), signer.Public(), key) },
		"another text":   func() (*Status, error) { return changed.Open(room, signer.Suite(), signer.Public(), key) },
		"another signer": func() (*Status, error) { return m.Open(room, signer.Suite(), other.Public(), key) },
		"another key": func() (*Status, error) {
			return m.Open(room, signer.Suite(), signer.Public(), bytes.Repeat([]byte{8}, 32))
		},
		"a short key": func() (*Status, error) { return m.Open(room, signer.Suite(), signer.Public(), key[:31]) },
	} {
		if s, err := open(); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %+v, %v", what, s, err)
		}
	}
}

func TestProfiles(t *testing.T) {
	q, err := UnmarshalProfilesRequest(known(t, "profiles_request"))
	if err != nil {
		t.Fatal(err)
	}
	asked, err := q.Check("b.example")
	if err != nil || len(asked.Users) != 2 || asked.Users[1] != "mimi://b.example/p/cool" {
		t.Errorf("%+v, %v", asked, err)
	}
	if _, err := q.Check("a.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("users of another provider: %v", err)
	}
	a, err := UnmarshalProfilesResponse(known(t, "profiles_response"))
	if err != nil {
		t.Fatal(err)
	}
	told, err := a.Check("b.example")
	if err != nil || len(told.Profiles) != 1 || told.Profiles[0] != (Profile{"mimi://b.example/u/bob", 0x19000000001, "Böb", "https://b.example/assets/bob.png"}) {
		t.Errorf("%+v, %v", told, err)
	}
	if _, err := a.Check("a.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("profiles of another provider's users: %v", err)
	}
}

func FuzzWireStatus(f *testing.F) {
	signer, err := mls.GenerateSignatureKey(rand.NewChaCha8([32]byte{1}), mls.SuiteX25519AES128Ed25519)
	if err != nil {
		f.Fatal(err)
	}
	fuzzStructs(f, func(v marshaler) {
		switch v := v.(type) {
		case *StatusMessage:
			if _, err := v.Open("mimi://hub.example/r/x", signer.Suite(), signer.Public(), make([]byte, StatusKeySize)); err == nil {
				f.Error("opened")
			}
		case *ReceivedProfilesRequest:
			_, _ = v.Check("b.example")
		case *ReceivedProfilesResponse:
			_, _ = v.Check("b.example")
		}
	}, "status_message", "profiles_request", "profiles_response")
}

// What is inside of a status is decoded only after it was decrypted, but from a peer it comes.
func FuzzWireStatusInside(f *testing.F) {
	for _, s := range []Status{{Kind: StatusTyping, TypingFor: 1}, {Kind: StatusPresence, Presence: 2, Text: "x"}, {Kind: StatusProfile, Name: "x", Avatar: "y"}} {
		f.Add(s.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := tlspl.NewReader(b)
		s := readStatus(r)
		if finish("Status", r) == nil && !bytes.Equal(s.append(nil), b) {
			t.Fatalf("%x became %x", b, s.append(nil))
		}
	})
}
