package mls

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// samples are encodings of every structure with a decoder of its own, for fuzzing and for tests of all of them.
type sample struct {
	name   string
	recode func([]byte) ([]byte, error)
	seeds  [][]byte
}

func testCapabilities() Capabilities {
	return Capabilities{
		Versions:    []ProtocolVersion{VersionMLS10},
		Suites:      Suites(),
		Extensions:  []ExtensionType{ExtensionAppDataDictionary, 0x0a0a},
		Proposals:   []ProposalType{ProposalAppDataUpdate, ProposalAppEphemeral, ProposalSelfRemove},
		Credentials: []CredentialType{CredentialBasic, CredentialX509},
	}
}

func testKeyPackage(t testing.TB, suite Suite, seed int64, change func(*KeyPackageParams)) (*KeyPackage, *KeyPackagePrivate) {
	t.Helper()
	rand := testRand(seed)
	key, err := GenerateSignatureKey(rand, suite)
	ok(t, "signature key", err)
	params := KeyPackageParams{
		Suite:          suite,
		Credential:     BasicCredential([]byte("mimi://a.example/d/alice/1")),
		SignatureKey:   key,
		Capabilities:   testCapabilities(),
		Lifetime:       Lifetime{NotBefore: 1, NotAfter: 1 << 40},
		LeafExtensions: Extensions{AppDataDictionary{}.Set(ComponentAppComponents, ComponentsList{1, 2, 3}.Marshal()).Extension()},
	}
	if change != nil {
		change(&params)
	}
	kp, private, err := NewKeyPackage(rand, params)
	ok(t, "KeyPackage", err)
	return kp, private
}

func decoderSamples(t testing.TB) []sample {
	kp, _ := testKeyPackage(t, SuiteX25519AES128Ed25519, 1, func(p *KeyPackageParams) { p.LastResort = true })
	x509, _ := testKeyPackage(t, SuiteP256AES128P256, 2, func(p *KeyPackageParams) {
		p.Credential = X509Credential([]byte("leaf"), []byte("root"))
	})
	ct := HPKECiphertext{KEMOutput: []byte{1, 2}, Ciphertext: []byte{3}}
	path := &UpdatePath{Leaf: kp.Leaf, Nodes: []UpdatePathNode{{EncryptionKey: []byte{5}, PathSecrets: []HPKECiphertext{ct, ct}}}}
	required := RequiredCapabilities{Extensions: []ExtensionType{6}, Proposals: []ProposalType{8, 10}}
	psk := &PreSharedKeyID{Type: PSKResumption, Usage: ResumptionBranch, GroupID: []byte("g"), Epoch: 3, Nonce: []byte{1}}
	gc := GroupContext{Version: VersionMLS10, Suite: SuiteX25519AES128Ed25519, GroupID: []byte("group"), Epoch: 9,
		TreeHash: []byte{1}, ConfirmedTranscriptHash: []byte{2}, Extensions: Extensions{required.Extension()}}
	info := &GroupInfo{Context: gc, Extensions: Extensions{ExternalPubExtension([]byte{4})}, ConfirmationTag: []byte{6}, Signer: 1, Signature: []byte{7}}
	proposals := []*Proposal{
		{Type: ProposalAdd, Add: kp}, {Type: ProposalAdd, Add: x509}, {Type: ProposalUpdate, Update: &kp.Leaf},
		{Type: ProposalRemove, Remove: 4}, {Type: ProposalPSK, PSK: psk},
		{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("h"), Version: VersionMLS10, Suite: 2}},
		{Type: ProposalExternalInit, ExternalInit: []byte{1}},
		{Type: ProposalGroupContextExtensions, GroupContextExtensions: gc.Extensions},
		{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{Component: 7, Operation: AppDataUpdateRemove}},
		{Type: ProposalAppEphemeral, AppEphemeral: &AppEphemeral{Component: 7, Data: []byte{1}}},
		{Type: ProposalSelfRemove}, {Type: 0xf7a0, Unknown: []byte("kept")},
	}
	commit := &Commit{Path: path}
	var proposalSeeds [][]byte
	for _, p := range proposals {
		proposalSeeds = append(proposalSeeds, p.Marshal())
		if p.Type.Known() {
			commit.Proposals = append(commit.Proposals, ProposalOrRef{Proposal: p})
		}
	}
	commit.Proposals = append(commit.Proposals, ProposalOrRef{Ref: []byte("ref")})
	content := FramedContent{GroupID: []byte("group"), Epoch: 9, Sender: MemberSender(3), AuthenticatedData: []byte{0}}
	public := &PublicMessage{Content: content, Auth: FramedContentAuthData{Signature: []byte{1}, ConfirmationTag: []byte{2}}, MembershipTag: []byte{3}}
	public.Content.ContentType, public.Content.Commit = ContentCommit, commit
	external := &PublicMessage{Content: content, Auth: FramedContentAuthData{Signature: []byte{1}}}
	external.Content.Sender, external.Content.ContentType, external.Content.Proposal = Sender{Type: SenderExternal, Index: 1}, ContentProposal, proposals[3]
	private := &PrivateMessage{GroupID: []byte("group"), Epoch: 9, ContentType: ContentApplication, AuthenticatedData: []byte{0}, EncryptedSenderData: []byte{1}, Ciphertext: []byte{2}}
	welcome := &Welcome{Suite: 1, Secrets: []EncryptedGroupSecrets{{NewMember: kp.Ref(), Secrets: ct}}, EncryptedGroupInfo: []byte{1}}
	secrets := &GroupSecrets{JoinerSecret: Secret("joiner"), PathSecret: Secret("path"), PSKs: []PreSharedKeyID{*psk}}
	senders := ExternalSendersExtension(ExternalSender{SignatureKey: []byte{1}, Credential: BasicCredential([]byte("hub"))})
	node := func(leaf *LeafNode) []byte { return vec(u8(1), u8(1), leaf.Marshal()) }
	unknown := &MLSMessage{WireFormat: WireFormatSemiPrivateMessage, Unknown: []byte("kept")}

	return []sample{
		{"MLSMessage", recoder(UnmarshalMLSMessage, (*MLSMessage).Marshal), [][]byte{public.Message(), external.Message(),
			private.Message(), welcome.Message(), info.Message(), kp.Message(), unknown.Marshal()}},
		{"KeyPackage", recoder(UnmarshalKeyPackage, (*KeyPackage).Marshal), [][]byte{kp.Marshal(), x509.Marshal()}},
		{"Welcome", recoder(UnmarshalWelcome, (*Welcome).Marshal), [][]byte{welcome.Marshal()}},
		{"GroupInfo", recoder(UnmarshalGroupInfo, (*GroupInfo).Marshal), [][]byte{info.Marshal()}},
		{"RatchetTree", recodeRatchetTree, [][]byte{node(&kp.Leaf)}},
		{"LeafNode", recoder(UnmarshalLeafNode, (*LeafNode).Marshal), [][]byte{kp.Leaf.Marshal()}},
		{"Proposal", recoder(UnmarshalProposal, (*Proposal).Marshal), proposalSeeds},
		{"Commit", recoder(UnmarshalCommit, (*Commit).Marshal), [][]byte{commit.Marshal(), {0, 0}}},
		{"UpdatePath", recoder(UnmarshalUpdatePath, (*UpdatePath).Marshal), [][]byte{path.Marshal()}},
		{"AuthenticatedContent", recoder(UnmarshalAuthenticatedContent, (*AuthenticatedContent).Marshal), [][]byte{public.authenticated().Marshal()}},
		{"GroupSecrets", recoder(UnmarshalGroupSecrets, func(s *GroupSecrets) []byte { return s.Marshal() }), [][]byte{secrets.Marshal()}},
		{"GroupContext", recoder(UnmarshalGroupContext, (*GroupContext).Marshal), [][]byte{gc.Marshal()}},
		{"Credential", recoder(UnmarshalCredential, func(c Credential) []byte { return c.Marshal() }), [][]byte{kp.Leaf.Credential.Marshal(), x509.Leaf.Credential.Marshal(), {0, 9, 1, 7}}},
		{"Capabilities", recoder(UnmarshalCapabilities, func(c Capabilities) []byte { return c.Marshal() }), [][]byte{kp.Leaf.Capabilities.Marshal()}},
		{"Extensions", recoder(UnmarshalExtensions, Extensions.Marshal), [][]byte{gc.Extensions.Marshal(), kp.Leaf.Extensions.Marshal()}},
		{"RequiredCapabilities", recoder(UnmarshalRequiredCapabilities, func(c RequiredCapabilities) []byte { return c.Marshal() }), [][]byte{required.Marshal()}},
		{"ExternalSenders", recoder(UnmarshalExternalSenders, func(s []ExternalSender) []byte { return ExternalSendersExtension(s...).Data }), [][]byte{senders.Data}},
		{"PreSharedKeyID", recoder(UnmarshalPreSharedKeyID, func(id PreSharedKeyID) []byte { return id.Marshal() }), [][]byte{psk.Marshal()}},
		{"AppDataDictionary", recoder(UnmarshalAppDataDictionary, AppDataDictionary.Marshal), [][]byte{{0}, kp.Extensions[0].Data}},
		{"SafeAAD", recoder(UnmarshalSafeAAD, SafeAAD.Marshal), [][]byte{{0}, SafeAAD{}.Set(1, []byte{1}).Marshal()}},
		{"MediaTypeList", recoder(UnmarshalMediaTypeList, MediaTypeList.Marshal), [][]byte{MediaTypeList{{Type: "a/b", Parameters: []MediaTypeParameter{{"c", "d"}}}}.Marshal()}},
		{"ApplicationFraming", recoder(UnmarshalApplicationFraming, (*ApplicationFraming).Marshal), [][]byte{(&ApplicationFraming{Content: []byte{1}}).Marshal()}},
		{"RatchetTreeOption", recoder(UnmarshalRatchetTreeOption, (*RatchetTreeOption).Marshal), [][]byte{{4}, {1, 1, 0}}},
		{"PartialGroupInfo", recoder(UnmarshalPartialGroupInfo, (*PartialGroupInfo).Marshal), [][]byte{info.Partial(true).Marshal()}},
	}
}

// checkDecoder is the property of every decoder: what it accepts it encodes to the same bytes, and it accepts
// nothing that has a byte more or less, where the structure has an end of its own.
func checkDecoder(t *testing.T, s sample, in []byte, open bool) {
	got, err := s.recode(in)
	if err != nil {
		if KindOf(err) == KindBug {
			t.Fatalf("%s: %x is refused as a bug: %v", s.name, in, err)
		}
		return
	}
	if !bytes.Equal(got, in) {
		t.Fatalf("%s: decoded from %x, encoded to %x", s.name, in, got)
	}
	if open {
		return
	}
	if _, err := s.recode(append(bytes.Clone(in), 0)); err == nil {
		t.Fatalf("%s: %x and a byte more was accepted", s.name, in)
	}
	if len(in) > 0 {
		if _, err := s.recode(in[:len(in)-1]); err == nil {
			t.Fatalf("%s: %x less its last byte was accepted", s.name, in)
		}
	}
}

// openEnded tells whether in is a structure of unknown type, which goes as far as the input goes.
func openEnded(name string, in []byte) bool {
	if len(in) < 2 {
		return false
	}
	switch name {
	case "Proposal":
		return !ProposalType(uint16(in[0])<<8 | uint16(in[1])).Known()
	case "MLSMessage":
		return len(in) < 4 || in[2] != 0 || in[3] == 0 || in[3] > 5
	}
	return false
}

func fuzzDecoder(f *testing.F, name string) {
	for _, s := range decoderSamples(f) {
		if s.name != name {
			continue
		}
		for _, seed := range s.seeds {
			f.Add(seed)
		}
		f.Fuzz(func(t *testing.T, in []byte) { checkDecoder(t, s, in, openEnded(name, in)) })
		return
	}
	f.Fatalf("no sample %s", name)
}

func FuzzMLSMessage(f *testing.F)           { fuzzDecoder(f, "MLSMessage") }
func FuzzKeyPackage(f *testing.F)           { fuzzDecoder(f, "KeyPackage") }
func FuzzWelcome(f *testing.F)              { fuzzDecoder(f, "Welcome") }
func FuzzGroupInfo(f *testing.F)            { fuzzDecoder(f, "GroupInfo") }
func FuzzRatchetTree(f *testing.F)          { fuzzDecoder(f, "RatchetTree") }
func FuzzLeafNode(f *testing.F)             { fuzzDecoder(f, "LeafNode") }
func FuzzProposal(f *testing.F)             { fuzzDecoder(f, "Proposal") }
func FuzzCommit(f *testing.F)               { fuzzDecoder(f, "Commit") }
func FuzzUpdatePath(f *testing.F)           { fuzzDecoder(f, "UpdatePath") }
func FuzzAuthenticatedContent(f *testing.F) { fuzzDecoder(f, "AuthenticatedContent") }
func FuzzGroupSecrets(f *testing.F)         { fuzzDecoder(f, "GroupSecrets") }
func FuzzGroupContext(f *testing.F)         { fuzzDecoder(f, "GroupContext") }
func FuzzCredential(f *testing.F)           { fuzzDecoder(f, "Credential") }
func FuzzCapabilities(f *testing.F)         { fuzzDecoder(f, "Capabilities") }
func FuzzExtensions(f *testing.F)           { fuzzDecoder(f, "Extensions") }
func FuzzRequiredCapabilities(f *testing.F) { fuzzDecoder(f, "RequiredCapabilities") }
func FuzzExternalSenders(f *testing.F)      { fuzzDecoder(f, "ExternalSenders") }
func FuzzPreSharedKeyID(f *testing.F)       { fuzzDecoder(f, "PreSharedKeyID") }
func FuzzAppDataDictionary(f *testing.F)    { fuzzDecoder(f, "AppDataDictionary") }
func FuzzSafeAAD(f *testing.F)              { fuzzDecoder(f, "SafeAAD") }
func FuzzMediaTypeList(f *testing.F)        { fuzzDecoder(f, "MediaTypeList") }
func FuzzApplicationFraming(f *testing.F)   { fuzzDecoder(f, "ApplicationFraming") }
func FuzzRatchetTreeOption(f *testing.F)    { fuzzDecoder(f, "RatchetTreeOption") }
func FuzzPartialGroupInfo(f *testing.F)     { fuzzDecoder(f, "PartialGroupInfo") }

// FuzzStoredRatchets: a stored piece of the secret tree is refused or comes back as it was.
func FuzzStoredRatchets(f *testing.F) {
	r := receiveRatchet{ratchet: ratchet{secret: make(Secret, 32)}}
	n, err := r.find(SuiteX25519AES128Ed25519, 3, 10, 10)
	ok(f, "find", err)
	r.take(n)
	f.Add([]byte(r.Marshal()))
	f.Add([]byte((&sendRatchet{r.ratchet}).Marshal()))
	f.Add([]byte(newExportTree(SuiteX25519AES128Ed25519, make(Secret, 32)).Marshal()))
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, err := unmarshalReceiveRatchet(in); err == nil {
			same(t, "receiving ratchet", r.Marshal(), in)
		}
		if r, err := unmarshalSendRatchet(in); err == nil {
			same(t, "sending ratchet", r.Marshal(), in)
		}
		if e, err := unmarshalExportTree(SuiteX25519AES128Ed25519, in); err == nil {
			same(t, "exporter tree", e.Marshal(), in)
		}
	})
}

func TestDecodersOfSamples(t *testing.T) {
	for _, s := range decoderSamples(t) {
		for _, seed := range s.seeds {
			got, err := s.recode(seed)
			ok(t, s.name, err)
			same(t, s.name, got, seed)
			checkDecoder(t, s, seed, openEnded(s.name, seed))
		}
	}
}

// Every prefix of a sample and every sample with one byte changed is refused or encodes to itself.
func TestDecodersOfDamagedSamples(t *testing.T) {
	for _, s := range decoderSamples(t) {
		for _, seed := range s.seeds {
			for n := range seed {
				checkDecoder(t, s, seed[:n], openEnded(s.name, seed[:n]))
				damaged := bytes.Clone(seed)
				damaged[n] ^= 1 << (n % 8)
				checkDecoder(t, s, damaged, openEnded(s.name, damaged))
			}
		}
	}
}

// A header that promises a gigabyte costs nothing but the refusal.
func TestDecodersAllocateWithinInput(t *testing.T) {
	huge := []byte{0xbf, 0xff, 0xff, 0xff}
	for _, s := range decoderSamples(t) {
		for _, seed := range s.seeds {
			for n := 0; n <= len(seed); n += 1 + len(seed)/16 {
				in := append(bytes.Clone(seed[:n]), huge...)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, _ = s.recode(in)
				runtime.ReadMemStats(&after)
				if used := after.TotalAlloc - before.TotalAlloc; used > uint64(200*len(in)+100_000) {
					t.Errorf("%s: %d bytes allocated for %d bytes of input", s.name, used, len(in))
				}
			}
		}
	}
}

func TestDecoderRefusals(t *testing.T) {
	kp, _ := testKeyPackage(t, SuiteX25519AES128Ed25519, 1, nil)
	leaf := kp.Leaf
	leaf.raw, leaf.Source = nil, 4
	manyExtensions := make(Extensions, maxExtensions+1)
	for i := range manyExtensions {
		manyExtensions[i].Type = ExtensionType(i + 1)
	}
	cases := []struct {
		name   string
		decode func([]byte) error
		in     []byte
		want   error
	}{
		{"version 2", errOf(UnmarshalMLSMessage), []byte{0, 2, 0, 5}, ErrUnknownVersion},
		{"KeyPackage of version 2", errOf(UnmarshalKeyPackage), append([]byte{0, 2}, kp.Marshal()[2:]...), ErrUnknownVersion},
		{"leaf node source 4", errOf(UnmarshalLeafNode), leaf.Marshal(), ErrUnknownValue},
		{"sender type 5", errOf(UnmarshalPublicMessage), cat(vec(), u64(0), u8(5)), ErrUnknownValue},
		{"content type 0", errOf(UnmarshalPrivateMessage), cat(vec(), u64(0), u8(0)), ErrUnknownValue},
		{"content type 4", errOf(UnmarshalPublicMessage), cat(vec(), u64(0), u8(3), vec(), u8(4)), ErrUnknownValue},
		{"ProposalOrRef type 3", errOf(UnmarshalCommit), cat(vec(u8(3), vec()), u8(0)), ErrUnknownValue},
		{"unknown proposal in a commit", errOf(UnmarshalCommit), cat(vec(u8(1), u16(0xf7a0)), u8(0)), ErrUnknownProposal},
		{"path presence 2", errOf(UnmarshalCommit), cat(vec(), u8(2)), tlspl.ErrOptional},
		{"PSK type 4", errOf(UnmarshalPreSharedKeyID), cat(u8(4), vec(), vec()), ErrUnknownValue},
		{"resumption usage 0", errOf(UnmarshalPreSharedKeyID), cat(u8(2), u8(0), vec(), u64(0), vec()), ErrUnknownValue},
		{"AppDataUpdate operation 0", errOf(UnmarshalProposal), cat(u16(8), u16(1), u8(0)), ErrUnknownValue},
		{"AppDataUpdate operation 3", errOf(UnmarshalProposal), cat(u16(8), u16(1), u8(3)), ErrUnknownValue},
		{"SelfRemove with a body", errOf(UnmarshalProposal), cat(u16(10), u8(0)), tlspl.ErrTrailing},
		{"extension twice", errOf(UnmarshalExtensions), vec(u16(6), vec(), u16(6), vec()), ErrOrder},
		{"too many extensions", errOf(UnmarshalExtensions), manyExtensions.Marshal(), ErrTooMany},
		{"dictionary not sorted", errOf(UnmarshalAppDataDictionary), vec(u16(2), vec(), u16(1), vec()), ErrOrder},
		{"dictionary with a double", errOf(UnmarshalAppDataDictionary), vec(u16(1), vec(), u16(1), vec()), ErrOrder},
		{"SafeAAD not sorted", errOf(UnmarshalSafeAAD), vec(u16(2), vec(), u16(1), vec()), ErrSafeAAD},
		{"SafeAAD with bytes after it", errOf(UnmarshalSafeAAD), []byte{0, 0}, ErrSafeAAD},
		{"SafeAAD of no bytes", errOf(UnmarshalSafeAAD), nil, ErrSafeAAD},
		{"odd ComponentsList", errOf(UnmarshalComponentsList), vec(u8(1)), tlspl.ErrTruncated},
		{"empty MediaTypeList", errOf(UnmarshalMediaTypeList), vec(), ErrEmpty},
		{"tree representation 0", errOf(UnmarshalRatchetTreeOption), u8(0), ErrUnknownValue},
		{"tree representation 5", errOf(UnmarshalRatchetTreeOption), u8(5), ErrUnknownValue},
		{"tree presence 4", errOf(UnmarshalPartialGroupInfo), cat(u8(4), vec(), vec()), ErrUnknownValue},
		{"length not minimal", errOf(UnmarshalComponentsList), []byte{0x40, 0x02, 0, 1}, tlspl.ErrNotMinimal},
	}
	for _, c := range cases {
		err := c.decode(c.in)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if kind := KindOf(err); kind != KindMalformed {
			t.Errorf("%s: kind %v, want %v", c.name, kind, KindMalformed)
		}
	}
}

func errOf[T any](unmarshal func([]byte) (T, error)) func([]byte) error {
	return func(b []byte) error {
		_, err := unmarshal(b)
		return err
	}
}

// Unknown proposals, wire formats, credentials and extensions survive as bytes.
func TestUnknownIsKept(t *testing.T) {
	p, err := UnmarshalProposal(cat(u16(0xf7a0), []byte("body")))
	ok(t, "proposal", err)
	if p.Type.Known() || string(p.Unknown) != "body" {
		t.Fatalf("unknown proposal: %+v", p)
	}
	m, err := UnmarshalMLSMessage(cat(u16(1), u16(0xfafe), []byte("body")))
	ok(t, "message", err)
	if string(m.Unknown) != "body" {
		t.Fatalf("unknown wire format: %+v", m)
	}
	c, err := UnmarshalCredential(cat(u16(3), str("bindings")))
	ok(t, "credential", err)
	if string(c.Raw) != "bindings" {
		t.Fatalf("unknown credential: %+v", c)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	const hidden = "hidden material!"
	secret := Secret(hidden)
	key, err := NewSignatureKey(SuiteX25519AES128Ed25519, Secret(hidden+hidden))
	ok(t, "key", err)
	_, private := testKeyPackage(t, SuiteX25519AES128Ed25519, 1, func(p *KeyPackageParams) { p.SignatureKey = key })
	values := []any{secret, &secret, []Secret{secret}, struct{ S Secret }{secret}, map[string]Secret{"k": secret}, key,
		private, Piece{Data: secret}, &epochSecrets{init: secret}, messageKey{key: secret}, GroupSecrets{JoinerSecret: secret},
		Changes{Put: []Piece{{Data: secret}}}}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%08b", "% x"} {
			out := fmt.Sprintf(verb, v)
			for _, leak := range []string{hidden, fmt.Sprintf("%x", hidden), fmt.Sprintf("%X", hidden), fmt.Sprintf("% x", hidden),
				strings.Trim(fmt.Sprint([]byte(hidden)), "[]"), fmt.Sprintf("%#v", []byte(hidden))} {
				if strings.Contains(out, leak) {
					t.Errorf("%T with %s prints its secret", v, verb)
				}
			}
		}
	}
	if b, err := secret.MarshalJSON(); err != nil || string(b) != `"[secret]"` {
		t.Errorf("JSON: %s, %v", b, err)
	}
}

func TestDictionaryIsSorted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d AppDataDictionary
		model := map[ComponentID]string{}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			id := ComponentID(rapid.IntRange(0, 12).Draw(t, "id"))
			before := d.Marshal()
			old := d
			if rapid.Bool().Draw(t, "set") {
				v := rapid.StringN(0, 5, 20).Draw(t, "data")
				d, model[id] = d.Set(id, []byte(v)), v
			} else {
				delete(model, id)
				d = d.Remove(id)
			}
			if !bytes.Equal(old.Marshal(), before) {
				t.Fatal("a change of the new dictionary changed the old one")
			}
		}
		got, err := UnmarshalAppDataDictionary(d.Marshal())
		if err != nil || len(got) != len(model) {
			t.Fatalf("%v, %d entries, want %d", err, len(got), len(model))
		}
		for id, want := range model {
			if v, there := got.Get(id); !there || string(v) != want {
				t.Fatalf("component %d: %q, want %q", id, v, want)
			}
		}
	})
}
