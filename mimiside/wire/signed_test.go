package wire

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// What is signed, encrypted and authenticated, byte for byte and under the labels of draft-ietf-mimi-protocol-06: two that read
// it otherwise understand each other's structures and nothing else.

func signedBy(t *testing.T, what string, key *mls.SignatureKey, label string, tbs, signature []byte) {
	t.Helper()
	if err := mls.VerifyWithLabel(key.Suite(), key.Public(), label, tbs, signature); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// unhexed is the bytes of hexadecimal digits.
func unhexed(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The values were computed apart: HMAC-SHA256 with Python's hmac.
func TestWhatAFrankIsOver(t *testing.T) {
	key := testKeys()[0]
	tag := NewFrankingTag(bytes.Repeat([]byte{7}, 16), []byte("application data"))
	field(t, "franking_tag", hex.EncodeToString(tag[:]), "baff40885c55324a8f9edf600961fd71cbe8f517a78bd51476f9969c44b63a8a")
	field(t, "authenticated data", hex.EncodeToString(tag.AuthenticatedData()), "23002020"+hex.EncodeToString(tag[:]))
	c := FrankingContext{"mimi://b.example/u/bob", "mimi://a.example/r/x", 1000}
	const context = "166d696d693a2f2f622e6578616d706c652f752f626f62146d696d693a2f2f612e6578616d706c652f722f7800000000000003e8"
	field(t, "ServerFrankingContext", hex.EncodeToString(c.Marshal()), context)
	f, err := NewFrank(mls.Secret(bytes.Repeat([]byte{2}, 32)), key, tag, c)
	if err != nil {
		t.Fatal(err)
	}
	const frank = "b72d88aa70632c6a20da3a9d6733370d1785df58446ddbbaca7d4a638cd53647"
	field(t, "server_frank", hex.EncodeToString(f.ServerFrank[:]), frank)
	signedBy(t, "FrankingIntegrityTBS", key, "FrankingIntegrityTBS", unhexed(t, frank+"0001"+context), f.Signature)
	field(t, "Frank", hex.EncodeToString(f.Marshal()), frank+"00014040"+hex.EncodeToString(f.Signature))

	// One that was made under another suite of the same scheme is no frank for this group.
	other := &Frank{ServerFrank: f.ServerFrank, Suite: 3}
	if other.Signature, err = key.Sign("FrankingIntegrityTBS", unhexed(t, frank+"0003"+context)); err != nil {
		t.Fatal(err)
	}
	if err := other.Verify(key.Suite(), key.Public(), c); err == nil {
		t.Error("a frank under another suite than the group's passed")
	}
}

// ended cuts a signature of 64 bytes off a structure that ends with it.
func ended(t *testing.T, b, signature []byte) []byte {
	t.Helper()
	tail := tlspl.AppendOpaque(nil, signature)
	if !bytes.HasSuffix(b, tail) {
		t.Fatalf("%x does not end with its signature", b)
	}
	return b[:len(b)-len(tail)]
}

func TestWhatRequestsAreSignedOver(t *testing.T) {
	key := testKeys()[0]
	q := signedRequest(t, key)
	signedBy(t, "KeyMaterialRequestTBS", key, "KeyMaterialRequestTBS", ended(t, q.Marshal(), q.Signature), q.Signature)

	private, public, err := mls.GenerateKeyPair(rand.Reader, key.Suite())
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range [][]byte{nil, []byte("code")} {
		g := &GroupInfoRequest{Credential: mls.BasicCredential([]byte("mimi://b.example/d/bob/x")), PublicKey: public, JoiningCode: code}
		if err := g.Sign(key); err != nil {
			t.Fatal(err)
		}
		want := slices.Concat([]byte{1, 0, 1}, tlspl.AppendOpaque(nil, key.Public()), []byte{0, 1}, tlspl.AppendString(nil, "mimi://b.example/d/bob/x"),
			tlspl.AppendOpaque(nil, public), map[bool][]byte{true: {0}, false: append([]byte{1, 4}, code...)}[code == nil])
		field(t, "GroupInfoRequestTBS", ended(t, g.Marshal(), g.Signature), want)
		signedBy(t, "GroupInfoRequestTBS", key, "GroupInfoRequestTBS", want, g.Signature)

		const room IdentifierURI = "mimi://a.example/r/clubhouse"
		content := &GroupInfoRatchetTree{GroupInfo: &mls.GroupInfo{Context: mls.GroupContext{Version: 1, Suite: 1, GroupID: []byte(testGroup)}},
			Tree: mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, Tree: []byte{1, 0}}}
		a, err := NewGroupInfoResponse(g, room, content, mls.BasicCredential([]byte("mimi://a.example")), key)
		if err != nil {
			t.Fatal(err)
		}
		tbs := ended(t, a.Marshal(), a.Signature)
		head := slices.Concat([]byte{1}, tlspl.AppendString(nil, string(room)), []byte{1, 0, 1}, tlspl.AppendOpaque(nil, key.Public()), []byte{0, 1},
			tlspl.AppendString(nil, "mimi://a.example"))
		if !bytes.HasPrefix(tbs, head) {
			t.Errorf("GroupInfoResponseTBS is %x, not %x and what is encrypted", tbs, head)
		}
		signedBy(t, "GroupInfoResponseTBS", key, "GroupInfoResponseTBS", tbs, a.Signature)
		plain, err := mls.DecryptWithLabel(1, private, "GroupInfo and ratchet_tree encryption", []byte(room), a.Encrypted)
		if err != nil || !bytes.Equal(plain, content.Marshal()) {
			t.Errorf("what is encrypted is %x, %v", plain, err)
		}
	}
}
