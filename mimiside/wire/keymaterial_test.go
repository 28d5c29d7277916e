package wire

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

func signedRequest(t *testing.T, key *mls.SignatureKey) *KeyMaterialRequest {
	t.Helper()
	q := &KeyMaterialRequest{RequestingUser: "mimi://a.example/u/alice", TargetUser: "mimi://b.example/u/bob", RoomID: "mimi://a.example/r/clubhouse",
		AcceptableSuites:     []mls.Suite{key.Suite(), 0x0a0a},
		RequiredCapabilities: mls.RequiredCapabilities{Extensions: []mls.ExtensionType{6}, Proposals: []mls.ProposalType{8}},
		RequesterCredential:  mls.BasicCredential([]byte("mimi://a.example/d/alice/x"))}
	if err := q.Sign(key); err != nil {
		t.Fatal(err)
	}
	return q
}

// S003-097: protocol messages are signed by their senders.
func TestKeyMaterialRequestSignature(t *testing.T) {
	for _, key := range testKeys() {
		body := signedRequest(t, key).Marshal()
		received, err := UnmarshalKeyMaterialRequest(body)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := received.Check(); err != nil {
			t.Errorf("suite %d: %v", key.Suite(), err)
		}
		if !bytes.Equal(received.Raw(), body) {
			t.Error("the bytes to forward are not the bytes that came")
		}
		// no byte can be changed: the request stops to decode, to be well-formed or to verify
		for i := range body {
			changed := slices.Clone(body)
			changed[i] ^= 1
			if received, err := UnmarshalKeyMaterialRequest(changed); err == nil {
				if _, err := received.Check(); err == nil {
					t.Errorf("suite %d: byte %d was changed and nobody saw", key.Suite(), i)
				}
			}
		}
	}
	q := signedRequest(t, testKeys()[0])
	q.AcceptableSuites = []mls.Suite{2}
	if err := q.Sign(testKeys()[0]); err == nil {
		t.Error("signed under a suite of another scheme")
	}
}

func TestKeyMaterialRequestRefused(t *testing.T) {
	for name, change := range map[string]func(*KeyMaterialRequest){
		"requester is no user":  func(q *KeyMaterialRequest) { q.RequestingUser = "mimi://a.example/r/x" },
		"requester is no URI":   func(q *KeyMaterialRequest) { q.RequestingUser = "alice" },
		"target is no user":     func(q *KeyMaterialRequest) { q.TargetUser = "mimi://b.example/d/bob/x" },
		"room is no room":       func(q *KeyMaterialRequest) { q.RoomID = "mimi://a.example/u/x" },
		"other key, old signed": func(q *KeyMaterialRequest) { q.RequesterSignatureKey = testKeys()[2].Public() },
	} {
		q := signedRequest(t, testKeys()[0])
		change(q)
		if name != "other key, old signed" {
			if err := q.Sign(testKeys()[0]); err != nil {
				t.Fatal(err)
			}
		}
		received, err := UnmarshalKeyMaterialRequest(q.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := received.Check(); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// a room is not needed; a suite that we lack may come first
	q := signedRequest(t, testKeys()[0])
	q.RoomID = ""
	if err := q.Sign(testKeys()[0]); err != nil {
		t.Fatal(err)
	}
	received, err := UnmarshalKeyMaterialRequest(q.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := received.Check(); err != nil {
		t.Error(err)
	}
	// another protocol: the user is still known, so that the answer can name it
	other := append([]byte{9}, q.tbs()[1:]...)
	received, err = UnmarshalKeyMaterialRequest(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := received.Check(); !errors.Is(err, ErrProtocol) || received.TargetUser() != q.TargetUser || !bytes.Equal(received.Marshal(), other) {
		t.Errorf("another protocol: %v", err)
	}
}

// S004-018, S004-019: an error or a KeyPackage for each client, and codes for the rest.
func TestKeyMaterialResponseCheck(t *testing.T) {
	q := signedRequest(t, testKeys()[0])
	good, other := testKeyPackages()[0], testKeyPackages()[1]
	tampered := *other
	b := slices.Clone(other.Marshal())
	b[len(b)-1] ^= 1
	if kp, err := mls.UnmarshalKeyPackage(b); err != nil {
		t.Fatal(err)
	} else {
		tampered = *kp
	}
	a := &KeyMaterialResponse{UserStatus: KeyMaterialPartialSuccess, UserURI: "mimi://B.example/u/bob", Clients: []ClientKeyMaterial{
		{ClientSuccess, "mimi://b.example/d/bob/1", good, nil},
		{ClientSuccess, "mimi://b.example/d/bob/2", &tampered, nil},
		{ClientSuccess, "mimi://c.example/d/bob/3", other, nil},
		{ClientSuccess, "mimi://b.example/d/bob/4", good, nil},
		{ClientKeyMaterialExhausted, "mimi://b.example/d/bob/5", nil, nil},
	}}
	received, err := UnmarshalKeyMaterialResponse(a.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	checked, err := received.Check(q)
	if err != nil {
		t.Fatal(err)
	}
	if len(checked.Clients) != 2 || checked.Clients[0].ClientURI != "mimi://b.example/d/bob/1" || len(checked.Refused) != 3 {
		t.Errorf("%d clients, refused %v", len(checked.Clients), checked.Refused)
	}
	alone, err := UnmarshalKeyMaterialResponse((&KeyMaterialResponse{UserURI: q.TargetUser, Clients: a.Clients[1:2]}).Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if checked, err := alone.Check(q); err != nil || len(checked.Clients) != 0 || len(checked.Refused) != 1 || !errors.Is(checked.Refused[0].Reason, ErrSignature) {
		t.Errorf("a KeyPackage with a broken signature: %+v, %v", checked, err)
	}
	strict := *q
	strict.RequiredCapabilities.Proposals = []mls.ProposalType{9}
	if checked, err := received.Check(&strict); err != nil || len(checked.Clients) != 1 {
		t.Errorf("a KeyPackage without a required capability: %v, %v", checked.Clients, err)
	}
	strict = *q
	strict.AcceptableSuites = []mls.Suite{3}
	if checked, err := received.Check(&strict); err != nil || len(checked.Clients) != 1 {
		t.Errorf("a KeyPackage of another suite: %v, %v", checked.Clients, err)
	}
	for name, bad := range map[string]*KeyMaterialResponse{
		"another user":         {UserStatus: KeyMaterialNoConsent, UserURI: "mimi://b.example/u/carol"},
		"success, no clients":  {UserStatus: KeyMaterialSuccess, UserURI: q.TargetUser},
		"no consent, a client": {UserStatus: KeyMaterialNoConsent, UserURI: q.TargetUser, Clients: a.Clients[:1]},
	} {
		received, err := UnmarshalKeyMaterialResponse(bad.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := received.Check(q); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A SemiPrivateMessage is read as far as it is in the clear.
func TestSemiPrivateHeader(t *testing.T) {
	b := []byte{0, 1, 0xfa, 0xfe}
	b = tlspl.AppendString(b, testGroup)
	b = tlspl.AppendUint64(b, 7)
	b = append(b, byte(mls.ContentCommit), 1, 0)
	b = append(b, 1, 9)       // partial_context_hash
	b = append(b, 3, 0, 0, 0) // keys_for_external_receivers: one of empty parts
	b = append(b, 1, 8, 0, 0) // framed_content_tbs_hash, encrypted_sender_data, ciphertext
	m, err := ParseMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	if m.Format() != mls.WireFormatSemiPrivateMessage || string(m.GroupID()) != testGroup || m.Epoch() != 7 || m.Content() != mls.ContentCommit ||
		!bytes.Equal(m.Raw, b) || !bytes.Equal(m.AuthenticatedData(), []byte{0}) {
		t.Errorf("%+v", m)
	}
	if _, err := ParseMessage(append(b, 0)); err == nil {
		t.Error("a byte at the end passed")
	}
	if _, err := ParseMessage([]byte{0, 1, 0xff, 0xff}); !errors.Is(err, ErrMalformed) {
		t.Errorf("an unknown wire format: %v", err)
	}
}
