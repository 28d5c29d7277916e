package wire

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// S004-041: a joining code can be presented; the presence byte may be missing in what is sent, signed or both.
func TestGroupInfoRequestForms(t *testing.T) {
	key := testKeys()[0]
	for _, code := range [][]byte{nil, []byte("c"), []byte("code"), bytes.Repeat([]byte{1}, 100)} {
		for _, sentBare := range []bool{false, true} {
			for _, signedBare := range []bool{false, true} {
				_, hpke, err := mls.GenerateKeyPair(rand.Reader, 1)
				if err != nil {
					t.Fatal(err)
				}
				q := &GroupInfoRequest{Suite: 1, SignatureKey: key.Public(), Credential: mls.BasicCredential([]byte("x")), PublicKey: hpke,
					JoiningCode: code, bareCode: sentBare}
				if q.Signature, err = key.Sign(labelGroupInfoRequest, q.tbs(signedBare)); err != nil {
					t.Fatal(err)
				}
				received, err := UnmarshalGroupInfoRequest(q.Marshal())
				if err != nil {
					t.Fatalf("code %q, bare %v/%v: %v", code, sentBare, signedBare, err)
				}
				got, err := received.Check()
				if err != nil || string(got.JoiningCode) != string(code) {
					t.Errorf("code %q, bare %v/%v: %+v, %v", code, sentBare, signedBare, got, err)
				}
			}
		}
	}
}

// A groupInfoPublicKey to which nothing can be encrypted is the requester's fault, not ours.
func TestGroupInfoKeyIsChecked(t *testing.T) {
	key := testKeys()[0]
	for name, pub := range map[string][]byte{"none": nil, "short": make([]byte, 31), "of small order": make([]byte, 32)} {
		q := &GroupInfoRequest{Credential: mls.BasicCredential([]byte("x")), PublicKey: pub}
		if err := q.Sign(key); err != nil {
			t.Fatal(err)
		}
		received, err := UnmarshalGroupInfoRequest(q.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := received.Check(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGroupInfoExchange(t *testing.T) {
	const room IdentifierURI = "mimi://a.example/r/clubhouse"
	for _, key := range testKeys() {
		priv, pub, err := mls.GenerateKeyPair(rand.Reader, key.Suite())
		if err != nil {
			t.Fatal(err)
		}
		q := &GroupInfoRequest{Credential: mls.BasicCredential([]byte("mimi://b.example/d/bob/x")), PublicKey: pub, JoiningCode: []byte("code")}
		if err := q.Sign(key); err != nil {
			t.Fatal(err)
		}
		received, err := UnmarshalGroupInfoRequest(q.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		asked, err := received.Check()
		if err != nil {
			t.Fatal(err)
		}
		hub := mls.ExternalSender{SignatureKey: key.Public(), Credential: mls.BasicCredential([]byte("mimi://a.example"))}
		info := &mls.GroupInfo{Context: mls.GroupContext{Version: 1, Suite: key.Suite(), GroupID: []byte(testGroup), Epoch: 7,
			Extensions: mls.Extensions{mls.ExternalSendersExtension(hub)}}}
		pending, err := ParseMessage(known(t, "proposal"))
		if err != nil {
			t.Fatal(err)
		}
		content := &GroupInfoRatchetTree{GroupInfo: info, Tree: mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, Tree: []byte{1, 0}},
			Pending: []PendingProposal{{pending, 5}}}
		answer, err := NewGroupInfoResponse(asked, room, content, hub.Credential, key)
		if err != nil {
			t.Fatal(err)
		}
		back, err := UnmarshalGroupInfoResponse(answer.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		opened, err := back.Check(q.Suite, room, priv)
		if err != nil {
			t.Fatal(err)
		}
		if opened.GroupInfo.Context.Epoch != 7 || len(opened.Pending) != 1 || string(opened.Tree.Tree) != "\x01\x00" {
			t.Errorf("opened %+v", opened)
		}
		groupInfoRefusals(t, q, answer, content, room, priv, key)
	}
}

func groupInfoRefusals(t *testing.T, q *GroupInfoRequest, answer *GroupInfoResponse, content *GroupInfoRatchetTree, room IdentifierURI,
	priv mls.Secret, key *mls.SignatureKey) {
	t.Helper()
	refused := func(name string, a *GroupInfoResponse, room IdentifierURI, priv mls.Secret) {
		t.Helper()
		back, err := UnmarshalGroupInfoResponse(a.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := back.Check(q.Suite, room, priv); err == nil {
			t.Errorf("%s passed", name)
		}
	}
	refused("another room", answer, "mimi://a.example/r/other", priv)
	otherPriv, _, err := mls.GenerateKeyPair(rand.Reader, q.Suite)
	if err != nil {
		t.Fatal(err)
	}
	refused("another private key", answer, room, otherPriv)
	changed := *answer
	changed.Signature = slices.Clone(answer.Signature)
	changed.Signature[len(changed.Signature)-1] ^= 1
	refused("a changed signature", &changed, room, priv)
	refused("a failure", &GroupInfoResponse{RoomID: room, Status: GroupInfoNotAuthorized}, room, priv)
	stranger, err := mls.GenerateSignatureKey(rand.Reader, q.Suite)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := NewGroupInfoResponse(q, room, content, mls.BasicCredential([]byte("mimi://a.example")), stranger)
	if err != nil {
		t.Fatal(err)
	}
	refused("a hub that is no external sender", forged, room, priv)
	other := *content
	context := content.GroupInfo.Context
	for _, k := range testKeys() { // a group of another signature scheme, in which the key that signed cannot be
		if !k.Suite().SignsLike(q.Suite) {
			context.Suite = k.Suite()
		}
	}
	other.GroupInfo = &mls.GroupInfo{Context: context}
	for domain, want := range map[string]bool{"mimi://a.example": true, "mimi://c.example": false} {
		a, err := NewGroupInfoResponse(q, room, &other, mls.BasicCredential([]byte(domain)), stranger)
		if err != nil {
			t.Fatal(err)
		}
		back, err := UnmarshalGroupInfoResponse(a.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := back.Check(q.Suite, room, priv); (err == nil) != want {
			t.Errorf("a group of another scheme, from %s: %v", domain, err)
		}
	}
	tree := *content
	info := *content.GroupInfo
	info.Extensions = mls.Extensions{{Type: mls.ExtensionRatchetTree, Data: []byte{0}}}
	tree.GroupInfo = &info
	inside, err := NewGroupInfoResponse(q, room, &tree, mls.BasicCredential([]byte("mimi://a.example")), key)
	if err != nil {
		t.Fatal(err)
	}
	refused("a tree inside the GroupInfo", inside, room, priv)
}
