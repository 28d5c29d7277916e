package wire

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
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

// The way of a frank: sender, hub, receiver, reporter, hub.
func TestFranking(t *testing.T) {
	salt, data := bytes.Repeat([]byte{7}, 16), []byte("application data")
	tag := NewFrankingTag(salt, data)
	got, ok := FrankingTagOf(tag.AuthenticatedData())
	if !ok || got != tag {
		t.Fatalf("tag %x came back as %x", tag, got)
	}
	c := FrankingContext{"mimi://b.example/u/bob", "mimi://a.example/r/x", 1000}
	old, current := mls.Secret(bytes.Repeat([]byte{1}, 32)), mls.Secret(bytes.Repeat([]byte{2}, 32))
	for _, key := range testKeys() {
		frank, err := NewFrank(current, key, tag, c)
		if err != nil {
			t.Fatal(err)
		}
		f, err := UnmarshalFrank(frank.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Verify(key.Suite(), key.Public(), c); err != nil {
			t.Errorf("suite %d: %v", key.Suite(), err)
		}
		if !f.Made([]mls.Secret{old, current}, tag, c) || f.Made([]mls.Secret{old}, tag, c) || f.Made(nil, tag, c) {
			t.Error("the hub does not know its own frank, or another's as its own")
		}
		for name, other := range map[string]FrankingContext{"sender": {"mimi://b.example/u/eve", c.RoomURI, 1000}, "room": {c.SenderURI, "mimi://a.example/r/y", 1000},
			"time": {c.SenderURI, c.RoomURI, 1001}} {
			if f.Verify(key.Suite(), key.Public(), other) == nil || f.Made([]mls.Secret{current}, tag, other) {
				t.Errorf("suite %d: another %s passed", key.Suite(), name)
			}
		}
		if f.Made([]mls.Secret{current}, NewFrankingTag(salt, []byte("other data")), c) {
			t.Error("a frank for another message passed")
		}
		if err := f.Verify(key.Suite()+1, key.Public(), c); !errors.Is(err, ErrSignature) {
			t.Errorf("another suite than the group's: %v", err)
		}
	}
	if _, ok := FrankingTagOf([]byte{0}); ok {
		t.Error("an empty SafeAAD has a tag")
	}
	if _, ok := FrankingTagOf([]byte("no safe AAD")); ok {
		t.Error("garbage has a tag")
	}
	agent := &FrankingAgent{testKeys()[0].Public(), mls.BasicCredential([]byte("mimi://a.example"))}
	if again, err := UnmarshalFrankingAgent(agent.Marshal()); err != nil || !bytes.Equal(again.Marshal(), agent.Marshal()) {
		t.Errorf("franking agent: %v", err)
	}
}

func TestSubmitCheck(t *testing.T) {
	received, err := UnmarshalSubmitMessageRequest(known(t, "submit_request"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := received.Check("B.example"); err != nil {
		t.Error(err)
	}
	if _, err := received.Check("a.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a foreign sendingUri: %v", err)
	}
	proposal, err := ParseMessage(known(t, "proposal"))
	if err != nil {
		t.Fatal(err)
	}
	received, err = UnmarshalSubmitMessageRequest((&SubmitMessageRequest{proposal, "mimi://b.example/u/bob"}).Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := received.Check("b.example"); !errors.Is(err, ErrMalformed) {
		t.Errorf("a proposal as a message: %v", err)
	}
}

func TestUpdateCheck(t *testing.T) {
	check := func(b []byte) error {
		t.Helper()
		q, err := UnmarshalUpdateRequest(b)
		if err != nil {
			return err
		}
		_, err = q.Check([]byte(testGroup))
		return err
	}
	for _, name := range []string{"update_commit", "update_partial", "update_wrapped", "update_proposal"} {
		if err := check(known(t, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	q, err := UnmarshalUpdateRequest(known(t, "update_commit"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Check([]byte("other")); !errors.Is(err, ErrMalformed) || q.Epoch() != 7 {
		t.Errorf("another group: %v", err)
	}
	next := known(t, "proposal_next")
	for name, b := range map[string][]byte{
		"a message":                 append(known(t, "application"), 0),
		"a proposal of the future":  tlspl.AppendOpaque(known(t, "proposal"), next),
		"a commit among proposals":  tlspl.AppendOpaque(known(t, "proposal"), known(t, "commit")),
		"no tree":                   known(t, "update_commit")[:len(known(t, "update_commit"))-1],
		"a GroupInfo of the old":    bytes.Replace(known(t, "update_commit"), append([]byte(testGroup), 0, 0, 0, 0, 0, 0, 0, 8), append([]byte(testGroup), 0, 0, 0, 0, 0, 0, 0, 7), 1),
		"a Welcome for nobody":      append(append(known(t, "commit"), 1, 0, 1, 0, 0, 1), append(known(t, "group_info"), 4)...),
		"an encrypted commit":       append((&mls.PrivateMessage{GroupID: []byte(testGroup), ContentType: mls.ContentProposal}).Message(), 0),
		"a reserved representation": append(append(known(t, "commit"), 0, 0), append(known(t, "group_info"), 4)...),
	} {
		if err := check(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNotifyCheck(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":                   {},
		"two groups":              append(known(t, "notify"), bytes.ReplaceAll(known(t, "notify"), []byte("g/clubhouse"), []byte("g/glubhouse"))...),
		"an encrypted commit":     append(append(make([]byte, 8), (&mls.PrivateMessage{GroupID: []byte(testGroup), ContentType: mls.ContentCommit}).Message()...), 0),
		"a KeyPackage":            append(append(make([]byte, 8), 0, 1, 0, 5), known(t, "key_package")...),
		"garbage after a message": append(known(t, "notify"), 1, 2, 3),
		"a welcome for nobody":    append(make([]byte, 8), 0, 1, 0, 3, 0, 1, 0, 0, 4),
		"an old external":         append(append(make([]byte, 8), known(t, "commit")...), tlspl.AppendOpaque(nil, known(t, "proposal"))...),
	} {
		q, err := UnmarshalNotify(b)
		if err == nil {
			_, err = q.Check()
		}
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConsentCheck(t *testing.T) {
	request, err := UnmarshalConsentEntry(known(t, "consent_request"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := request.CheckRequest("a.example", "b.example")
	if err != nil || e.Scope().Key() != "mimi://a.example/u/alice mimi://b.example/u/bob mimi://a.example/r/clubhouse" {
		t.Errorf("%v, %v", e, err)
	}
	if _, err := request.CheckRequest("c.example", "b.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a request in another's name: %v", err)
	}
	if _, err := request.CheckRequest("a.example", "c.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a request to another's user: %v", err)
	}
	if _, err := request.CheckUpdate("b.example", "a.example"); !errors.Is(err, ErrMalformed) {
		t.Errorf("a request by updateConsent: %v", err)
	}
	grant := &ConsentEntry{Operation: ConsentGrant, RequesterURI: "mimi://a.example/u/alice", TargetURI: "mimi://b.example/u/bob", KeyPackages: testKeyPackages()}
	received, err := UnmarshalConsentEntry(grant.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if e, err := received.CheckUpdate("b.example", "a.example"); err != nil || len(e.KeyPackages) != len(testKeyPackages()) {
		t.Errorf("grant: %v", err)
	}
	if _, err := received.CheckUpdate("c.example", "a.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a grant in another's name: %v", err)
	}
	placeholder, err := UnmarshalConsentEntry(known(t, "consent_grant"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := placeholder.CheckUpdate("b.example", "a.example"); !errors.Is(err, ErrSignature) {
		t.Errorf("a grant with a forged KeyPackage: %v", err)
	}
	if _, err := UnmarshalConsentEntry([]byte{1, 0, 0, 1, 0, 0}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a room that is there and empty: %v", err)
	}
}

func TestIdentifierAnswers(t *testing.T) {
	for status, want := range map[int]IdentifierQueryCode{200: IdentifierSuccess, 201: IdentifierSuccess, 404: IdentifierNotFound} {
		if code, ok := IdentifierCodeOf(status); !ok || code != want {
			t.Errorf("%d is %v, %v", status, code, ok)
		}
	}
	for _, status := range []int{403, 500} {
		if _, ok := IdentifierCodeOf(status); ok {
			t.Errorf("%d says something about users", status)
		}
	}
	a, err := UnmarshalIdentifierResponse(known(t, "identifier_response"))
	if err != nil {
		t.Fatal(err)
	}
	if checked, err := a.Check("a.example"); err != nil || checked.Profiles[0].Fields[0] != (ProfileField{FieldOIDCStdClaim, "name", "Alic"}) {
		t.Errorf("%+v, %v", checked, err)
	}
	if _, err := a.Check("b.example"); !errors.Is(err, ErrForbidden) {
		t.Errorf("users of another provider: %v", err)
	}
	for name, q := range map[string]*IdentifierRequest{"nothing": {}, "control": {Elements: []QueryElement{{SearchNick, "", "a\x00"}}},
		"no UTF-8": {Elements: []QueryElement{{SearchNick, "", "\xff"}}}} {
		received, err := UnmarshalIdentifierRequest(q.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := received.Check(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Welcomes of a fan-out are for so many clients at most: every one of them is looked up.
func TestWelcomesAreBounded(t *testing.T) {
	check := func(refs ...[]byte) error {
		w := &mls.Welcome{Suite: 1, EncryptedGroupInfo: []byte{1}}
		for _, ref := range refs {
			w.Secrets = append(w.Secrets, mls.EncryptedGroupSecrets{NewMember: ref})
		}
		message, err := ParseMessage(w.Message())
		if err != nil {
			t.Fatal(err)
		}
		received, err := UnmarshalNotify(MarshalNotify([]FanoutMessage{{Message: message, Tree: &mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, Tree: []byte{1, 0}}}}))
		if err != nil {
			t.Fatal(err)
		}
		_, err = received.Check()
		return err
	}
	many := make([][]byte, maxWelcomed+1)
	for i := range many {
		many[i] = binary.BigEndian.AppendUint32(nil, uint32(i))
	}
	if err := check(many[:maxWelcomed]...); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
	if err := check(many...); !errors.Is(err, ErrMalformed) {
		t.Errorf("too many: %v", err)
	}
}

// Over-long lengths and over-limit counts are refused.
func TestBounds(t *testing.T) {
	long := append([]byte{0x40, 0x18}, "mimi://a.example/u/alice"...) // 24 in two bytes
	tail := append(append([]byte{0x16}, "mimi://b.example/u/bob"...), 0, 0)
	if _, err := UnmarshalConsentEntry(append(append([]byte{1}, long...), tail...)); !errors.Is(err, tlspl.ErrNotMinimal) {
		t.Errorf("a length that is not minimal: %v", err)
	}
	suites := make([]mls.Suite, maxSuites+1)
	elements := make([]QueryElement, maxElements+1)
	for i := range elements {
		elements[i].Type = SearchNick
	}
	refs := make([][]byte, maxProposals+1)
	message := FanoutMessage{Message: NewMessage(known(t, "application"))}
	proposal := NewMessage(known(t, "proposal"))
	for name, err := range map[string]error{
		"suites":   second(UnmarshalKeyMaterialRequest((&KeyMaterialRequest{AcceptableSuites: suites, RequesterCredential: mls.BasicCredential(nil)}).Marshal())),
		"elements": second(UnmarshalIdentifierRequest((&IdentifierRequest{Elements: elements}).Marshal())),
		"refs":     second(UnmarshalUpdateRoomResponse((&UpdateRoomResponse{ResponseCode: 3, InvalidProposals: refs}).Marshal())),
		"clients":  second(UnmarshalKeyMaterialResponse((&KeyMaterialResponse{Clients: clients(maxClients + 1)}).Marshal())),
		"fan-out":  second(UnmarshalNotify(MarshalNotify(slices.Repeat([]FanoutMessage{message}, maxFanout+1)))),
		"proposals": second(UnmarshalUpdateRequest((&HandshakeBundle{Message: proposal,
			MoreProposals: slices.Repeat([]Message{proposal}, maxProposals+1)}).Marshal())),
		"messages": second(UnmarshalAbuseReport((&AbuseReport{Messages: make([]AbusiveMessage, maxReported+1)}).Marshal())),
		"URI":      second(UnmarshalConsentEntry((&ConsentEntry{RequesterURI: IdentifierURI(bytes.Repeat([]byte{'a'}, MaxURI+1))}).Marshal())),
		"note":     second(UnmarshalAbuseReport((&AbuseReport{Note: string(make([]byte, maxText+1))}).Marshal())),
	} {
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("too many %s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func clients(n int) []ClientKeyMaterial {
	return slices.Repeat([]ClientKeyMaterial{{Status: ClientKeyMaterialExhausted}}, n)
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
