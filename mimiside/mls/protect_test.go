package mls

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// wire is one direction between two members of an epoch.
type wire struct {
	suite   Suite
	ctx     []byte
	secrets *epochSecrets
	key     *SignatureKey
	send    *secretTree
	receive *secretTree
}

func newWire(t rapid.TB, suite Suite) *wire {
	key, err := GenerateSignatureKey(testRand(5), suite)
	ok(t, "signature key", err)
	gc := GroupContext{Version: VersionMLS10, Suite: suite, GroupID: []byte("group"), Epoch: 7}
	secrets := deriveEpochSecrets(suite, bytes.Repeat(Secret{9}, suite.HashLength()))
	return &wire{suite: suite, ctx: gc.Marshal(), secrets: secrets, key: key,
		send:    newSecretTree(suite, 7, 2, secrets.encryption.Clone()),
		receive: newSecretTree(suite, 7, 2, secrets.encryption.Clone())}
}

func (w *wire) content(data, aad string) FramedContent {
	return FramedContent{GroupID: []byte("group"), Epoch: 7, Sender: MemberSender(2), AuthenticatedData: []byte(aad),
		ContentType: ContentApplication, Application: []byte(data)}
}

func (w *wire) seal(t rapid.TB, content FramedContent, padding int) *PrivateMessage {
	a, err := signContent(w.key, WireFormatPrivateMessage, content, w.ctx)
	ok(t, "sign", err)
	k, err := w.send.nextSendKey(content.Sender.Leaf, ratchetKindOf(content.ContentType), &Changes{})
	ok(t, "key", err)
	m, err := sealPrivate(testRand(int64(k.generation)), w.suite, w.secrets.senderData, a, k, padding)
	ok(t, "seal", err)
	return m
}

func (w *wire) open(m *PrivateMessage) (*AuthenticatedContent, error) {
	d, err := openSenderData(w.suite, w.secrets.senderData, m)
	if err != nil {
		return nil, err
	}
	f, err := w.receive.findKey(d.leaf, ratchetKindOf(m.ContentType), d.generation, Limits{}.withDefaults())
	if err != nil {
		return nil, err
	}
	a, err := openPrivate(w.suite, m, d, f.key)
	if err != nil {
		return nil, err
	}
	if err := verifyContent(w.suite, w.key.Public(), a, w.ctx); err != nil {
		return nil, err
	}
	f.use(&Changes{})
	return a, nil
}

func TestPrivateMessageRoundTrip(t *testing.T) {
	for _, suite := range Suites() {
		w := newWire(t, suite)
		sizes := map[int]int{}
		for i, padding := range []int{0, 1, 31, 5000} {
			data := strings.Repeat("x", i)
			m := w.seal(t, w.content(data, "aad"), padding)
			sizes[padding] = len(m.Ciphertext) - i
			again, err := UnmarshalMLSMessage(m.Message())
			ok(t, "decode", err)
			a, err := w.open(again.Private)
			ok(t, "open", err)
			if string(a.Content.Application) != data || string(a.Content.AuthenticatedData) != "aad" || a.Content.Sender.Leaf != 2 {
				t.Fatalf("content differs: %+v", a.Content)
			}
			if _, err := w.open(again.Private); !errors.Is(err, ErrReplay) {
				t.Fatalf("replay: %v", err)
			}
		}
		if suite.must().curve == nil && (sizes[31] != sizes[0]+31 || sizes[5000] != sizes[0]+5000) {
			t.Fatalf("padding does not count: %v", sizes)
		}
	}
}

// Every change of a PrivateMessage is refused and leaves the receiving ratchets as they were; the true one opens after.
func TestForgedPrivateMessages(t *testing.T) {
	w := newWire(t, testSuite)
	m := w.seal(t, w.content("data", "aad"), 8)
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1
		return b
	}
	forged := map[string]struct {
		change func(*PrivateMessage)
		want   error
	}{
		"group id":           {func(m *PrivateMessage) { m.GroupID = []byte("Group") }, ErrDecrypt},
		"epoch":              {func(m *PrivateMessage) { m.Epoch++ }, ErrDecrypt},
		"content type":       {func(m *PrivateMessage) { m.ContentType = ContentProposal }, ErrDecrypt},
		"authenticated data": {func(m *PrivateMessage) { m.AuthenticatedData = []byte("Aad") }, ErrDecrypt},
		"sender data":        {func(m *PrivateMessage) { m.EncryptedSenderData = flip(m.EncryptedSenderData, 3) }, ErrDecrypt},
		"sample":             {func(m *PrivateMessage) { m.Ciphertext = flip(m.Ciphertext, 0) }, ErrDecrypt},
		"ciphertext":         {func(m *PrivateMessage) { m.Ciphertext = flip(m.Ciphertext, len(m.Ciphertext)-1) }, ErrDecrypt},
		"no ciphertext":      {func(m *PrivateMessage) { m.Ciphertext = nil }, ErrDecrypt},
		"no sender data":     {func(m *PrivateMessage) { m.EncryptedSenderData = nil }, ErrDecrypt},
	}
	before := storeTree(w.receive)
	for name, f := range forged {
		c := *m
		f.change(&c)
		if _, err := w.open(&c); !errors.Is(err, f.want) || KindOf(err) != KindInvalid {
			t.Errorf("%s: %v, want %v", name, err, f.want)
		}
		sameStored(t, storeTree(w.receive), before)
	}
	// What a member could forge: it knows the epoch's secrets but not the sender's signature key.
	other, err := GenerateSignatureKey(testRand(6), testSuite)
	ok(t, "other key", err)
	forger := newWire(t, testSuite)
	forger.key = other
	if _, err := w.open(forger.seal(t, w.content("data", "aad"), 0)); !errors.Is(err, ErrSignature) {
		t.Errorf("another member's signature: %v", err)
	}
	far := forger.content("data", "aad")
	far.Sender.Leaf = 4
	forger.send = newSecretTree(testSuite, 7, 3, w.secrets.encryption.Clone())
	if _, err := w.open(forger.seal(t, far, 0)); !errors.Is(err, ErrUnknownSender) {
		t.Errorf("leaf outside the tree: %v", err)
	}
	sameStored(t, storeTree(w.receive), before)
	if _, err := w.open(m); err != nil {
		t.Fatalf("the true message: %v", err)
	}
}

func TestPaddingMustBeZero(t *testing.T) {
	w := newWire(t, testSuite)
	a, err := signContent(w.key, WireFormatPrivateMessage, w.content("data", ""), w.ctx)
	ok(t, "sign", err)
	k, err := w.send.nextSendKey(2, ratchetApplication, &Changes{})
	ok(t, "key", err)
	plain := append(a.Auth.append(a.Content.appendContent(nil), ContentApplication), 0, 0, 1)
	m := &PrivateMessage{GroupID: a.Content.GroupID, Epoch: 7, ContentType: ContentApplication}
	d := senderData{leaf: 2, generation: k.generation}
	m.Ciphertext = testSuite.newAEAD(k.key).Seal(nil, k.guarded(d.reuseGuard), plain, m.appendAAD(nil))
	sdKey, sdNonce := senderDataKey(testSuite, w.secrets.senderData, m.Ciphertext)
	m.EncryptedSenderData = testSuite.newAEAD(sdKey).Seal(nil, sdNonce, d.append(nil), m.senderDataAAD())
	if _, err := w.open(m); !errors.Is(err, ErrPadding) {
		t.Fatalf("padding of 00 00 01: %v", err)
	}
}

// The reuse guard comes from the random source and is mixed into the nonce: the same key twice, as after a rollback
// that nobody noticed, does not give the same key stream.
func TestReuseGuard(t *testing.T) {
	w := newWire(t, testSuite)
	a, err := signContent(w.key, WireFormatPrivateMessage, w.content("data", ""), w.ctx)
	ok(t, "sign", err)
	k, err := w.send.nextSendKey(2, ratchetApplication, &Changes{})
	ok(t, "key", err)
	one, err := sealPrivate(testRand(1), testSuite, w.secrets.senderData, a, k, 0)
	ok(t, "seal", err)
	two, err := sealPrivate(testRand(2), testSuite, w.secrets.senderData, a, k, 0)
	ok(t, "seal", err)
	if bytes.Equal(one.Ciphertext, two.Ciphertext) {
		t.Fatal("the reuse guard makes no difference")
	}
	if _, err := sealPrivate(bytes.NewReader(nil), testSuite, w.secrets.senderData, a, k, 0); !errors.Is(err, ErrRandom) {
		t.Fatalf("no randomness: %v", err)
	}
}

func TestForgedPublicMessages(t *testing.T) {
	w := newWire(t, testSuite)
	content := w.content("", "aad")
	content.ContentType, content.Application, content.Proposal = ContentProposal, nil, &Proposal{Type: ProposalSelfRemove}
	a, err := signContent(w.key, WireFormatPublicMessage, content, w.ctx)
	ok(t, "sign", err)
	message := w.secrets.sealPublic(testSuite, a, w.ctx).Marshal()
	receive := func(b []byte, ctx []byte, tag bool) error {
		m, err := UnmarshalPublicMessage(b)
		if err != nil {
			return err
		}
		a := m.authenticated()
		if tag {
			if a, err = w.secrets.openPublic(testSuite, m, ctx); err != nil {
				return err
			}
		}
		return verifyContent(testSuite, w.key.Public(), a, ctx)
	}
	ok(t, "true message", receive(message, w.ctx, true))
	otherCtx := append(bytes.Clone(w.ctx), 0)
	if err := receive(message, otherCtx, true); !errors.Is(err, ErrMembershipTag) {
		t.Errorf("other GroupContext: %v", err)
	}
	if err := receive(message, otherCtx, false); !errors.Is(err, ErrSignature) {
		t.Errorf("other GroupContext, seen from outside: %v", err)
	}
	for i := range message {
		forged := bytes.Clone(message)
		forged[i] ^= 1
		if receive(forged, w.ctx, true) == nil {
			t.Errorf("byte %d changed and accepted", i)
		}
		if err := receive(forged, w.ctx, false); err == nil && i < len(message)-testSuite.HashLength() {
			t.Errorf("byte %d changed and accepted from outside", i)
		}
	}
	open := &AuthenticatedContent{WireFormat: WireFormatPublicMessage, Content: w.content("data", "")}
	if err := verifyContent(testSuite, w.key.Public(), open, w.ctx); !errors.Is(err, ErrSender) {
		t.Errorf("application data in the open: %v", err)
	}
}

func TestKeyPackageVerify(t *testing.T) {
	for _, suite := range Suites() {
		kp, private := testKeyPackage(t, suite, 3, nil)
		ok(t, "verify", kp.Verify())
		again, err := UnmarshalKeyPackage(kp.Marshal())
		ok(t, "decode", err)
		ok(t, "verify again", again.Verify())
		if !bytes.Equal(again.Ref(), kp.Ref()) || len(kp.Ref()) != suite.HashLength() || kp.LastResort() {
			t.Error("reference or last resort differs")
		}
		pub, err := PublicKeyOf(suite, private.InitKey)
		ok(t, "init key", err)
		same(t, "init key", pub, kp.InitKey)
		stored, err := UnmarshalKeyPackagePrivate(private.Marshal())
		ok(t, "stored private", err)
		same(t, "stored private", stored.Marshal(), private.Marshal())
		same(t, "stored signature key", stored.SignatureKey.Public(), kp.Leaf.SignatureKey)
	}
	kp, _ := testKeyPackage(t, testSuite, 3, func(p *KeyPackageParams) { p.LastResort = true })
	if !kp.LastResort() {
		t.Error("last resort is not marked")
	}
	cases := map[string]struct {
		change func(*KeyPackage)
		want   error
	}{
		"signature":          {func(kp *KeyPackage) { kp.Signature = bytes.Repeat([]byte{1}, 64) }, ErrSignature},
		"init key":           {func(kp *KeyPackage) { kp.InitKey = bytes.Repeat([]byte{1}, 32) }, ErrSignature},
		"short init key":     {func(kp *KeyPackage) { kp.InitKey = kp.InitKey[1:] }, ErrKey},
		"dead init key":      {func(kp *KeyPackage) { kp.InitKey = make([]byte, 32) }, ErrKey},
		"init key of leaf":   {func(kp *KeyPackage) { kp.InitKey = kp.Leaf.EncryptionKey }, ErrKey},
		"leaf signature":     {func(kp *KeyPackage) { kp.Leaf.raw = nil; kp.Leaf.Signature = make([]byte, 64) }, ErrSignature},
		"leaf capabilities":  {func(kp *KeyPackage) { kp.Leaf.raw = nil; kp.Leaf.Capabilities.Extensions = nil }, ErrSignature},
		"leaf source":        {func(kp *KeyPackage) { kp.Leaf.raw = nil; kp.Leaf.Source = LeafSourceUpdate }, ErrUnknownValue},
		"suite":              {func(kp *KeyPackage) { kp.Suite = SuiteX25519ChaCha20Ed25519 }, ErrSignature},
		"unknown suite":      {func(kp *KeyPackage) { kp.Suite = SuiteX448AES256Ed448 }, ErrUnknownSuite},
		"version":            {func(kp *KeyPackage) { kp.Version = 2 }, ErrUnknownVersion},
		"key package's list": {func(kp *KeyPackage) { kp.Extensions = nil }, ErrSignature},
	}
	for name, c := range cases {
		forged := *kp
		forged.raw = nil
		c.change(&forged)
		if err := forged.Verify(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// Keys of small order are refused where they come in, not where something is to be encrypted to them.
func TestKeysOfSmallOrder(t *testing.T) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	ok(t, "generate", err)
	for _, key := range smallOrders {
		for _, high := range []byte{0, 0x80} {
			key[31] |= high
			public, err := ecdh.X25519().NewPublicKey(key[:])
			ok(t, "public key", err)
			if _, err := private.ECDH(public); err == nil {
				t.Errorf("%x is of no small order", key)
			}
			if err := CheckPublicKey(testSuite, key[:]); !errors.Is(err, ErrKey) || KindOf(err) != KindInvalid {
				t.Errorf("%x: %v", key, err)
			}
		}
	}
}

func TestUnknownSuite(t *testing.T) {
	for _, suite := range []Suite{0, 4, 6, 8, 0x4d4c, 0x0a0a} {
		_, errKey := GenerateSignatureKey(testRand(1), suite)
		_, _, errPair := GenerateKeyPair(testRand(1), suite)
		_, errRef := RefHash(suite, "label", nil)
		_, errEncrypt := EncryptWithLabel(suite, nil, "", nil, nil)
		_, errDecrypt := DecryptWithLabel(suite, nil, "", nil, HPKECiphertext{})
		for _, err := range []error{suite.Check(), errKey, errPair, errRef, errEncrypt, errDecrypt,
			VerifyWithLabel(suite, nil, "", nil, nil), CheckPublicKey(suite, nil)} {
			if !errors.Is(err, ErrUnknownSuite) || KindOf(err) != KindUnsupported {
				t.Errorf("suite %d: %v", suite, err)
			}
		}
	}
}

func TestSignatureKeys(t *testing.T) {
	for _, suite := range Suites() {
		key, err := GenerateSignatureKey(testRand(1), suite)
		ok(t, "generate", err)
		again, err := UnmarshalSignatureKey(key.Marshal())
		ok(t, "stored", err)
		same(t, "public key", again.Public(), key.Public())
		sig, err := again.Sign("label", []byte("content"))
		ok(t, "sign", err)
		ok(t, "verify", VerifyWithLabel(suite, key.Public(), "label", []byte("content"), sig))
		for name, err := range map[string]error{
			"label":   VerifyWithLabel(suite, key.Public(), "Label", []byte("content"), sig),
			"content": VerifyWithLabel(suite, key.Public(), "label", []byte("Content"), sig),
			"none":    VerifyWithLabel(suite, key.Public(), "label", []byte("content"), nil),
		} {
			if !errors.Is(err, ErrSignature) {
				t.Errorf("suite %d, %s: %v", suite, name, err)
			}
		}
		if err := VerifyWithLabel(suite, key.Public()[1:], "label", []byte("content"), sig); !errors.Is(err, ErrKey) {
			t.Errorf("short key: %v", err)
		}
		if _, err := UnmarshalSignatureKey(append(Secret{2}, key.Marshal()[1:]...)); !errors.Is(err, ErrStateVersion) {
			t.Errorf("version 2: %v", err)
		}
	}
}

func TestPartialGroupInfo(t *testing.T) {
	key, err := GenerateSignatureKey(testRand(1), testSuite)
	ok(t, "key", err)
	tree := []byte{2, 1, 1} // only hashed and compared here
	gc := GroupContext{Version: VersionMLS10, Suite: testSuite, GroupID: []byte("group"), Epoch: 3}
	pub, treeExt := ExternalPubExtension([]byte{1}), Extension{Type: ExtensionRatchetTree, Data: tree}
	for name, c := range map[string]struct {
		extensions Extensions
		before     bool
		presence   RatchetTreePresence
	}{
		"no tree":    {Extensions{pub}, false, RatchetTreeNone},
		"removed":    {Extensions{pub}, true, RatchetTreeRemoved},
		"added":      {Extensions{pub, treeExt}, false, RatchetTreeAdded},
		"tree first": {Extensions{treeExt, pub}, true, RatchetTreePresent},
	} {
		full := &GroupInfo{Context: gc, Extensions: c.extensions, ConfirmationTag: []byte{7}, Signer: 4}
		ok(t, "sign", full.Sign(key))
		partial := full.Partial(c.before)
		if partial.Presence != c.presence {
			t.Errorf("%s: presence %d, want %d", name, partial.Presence, c.presence)
		}
		rebuilt, err := partial.Full(gc, []byte{7}, 4, key.Public(), tree)
		ok(t, name, err)
		same(t, name, rebuilt.Marshal(), full.Marshal())
		if _, err := partial.Full(gc, []byte{8}, 4, key.Public(), tree); !errors.Is(err, ErrSignature) {
			t.Errorf("%s, other tag: %v", name, err)
		}
	}
}

func TestSafeAADOfGroup(t *testing.T) {
	for _, c := range []struct {
		demanded bool
		aad      []byte
		ok       bool
	}{
		{false, nil, true}, {false, []byte("anything"), true},
		{true, nil, false}, {true, []byte{0}, true}, {true, []byte{0, 0}, false},
		{true, SafeAAD{}.Set(ComponentFrankAAD, []byte("frank")).Marshal(), true},
	} {
		if err := (&groupRules{safeAAD: c.demanded}).checkAAD(c.aad); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrSafeAAD) {
			t.Errorf("%x: %v", c.aad, err)
		}
	}
}

func TestApplicationFramingOfGroup(t *testing.T) {
	types := MediaTypeList{{Type: "application/mimi-content"}, {Type: "text/plain"}}
	with := AppDataDictionary{}.Set(ComponentContentMediaTypes, types.Marshal())
	for _, c := range []struct {
		dict       AppDataDictionary
		sent, want string
	}{
		{nil, "text/plain", ""}, {with, "text/plain", "text/plain"}, {with, "", "application/mimi-content"},
	} {
		framed := FrameApplicationData(c.dict, MediaType{Type: c.sent}, []byte("content"))
		got, content, err := UnframeApplicationData(c.dict, framed)
		ok(t, "unframe", err)
		if got.Type != c.want || string(content) != "content" {
			t.Errorf("sent %q: type %q, want %q, content %q", c.sent, got.Type, c.want, content)
		}
	}
	if _, _, err := UnframeApplicationData(with, []byte("bare")); KindOf(err) != KindMalformed {
		t.Errorf("bare content in a framing group: %v", err)
	}
}
