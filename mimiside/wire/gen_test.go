package wire

import (
	"crypto/rand"
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// Generators of valid structures. Keys are real where a signature is checked somewhere, made once.

var testKeys = sync.OnceValue(func() (keys []*mls.SignatureKey) {
	for _, suite := range []mls.Suite{1, 2, 3} {
		k, err := mls.GenerateSignatureKey(rand.Reader, suite)
		if err != nil {
			panic(err)
		}
		keys = append(keys, k)
	}
	return keys
})

func testKeyPackage(user, device string) *mls.KeyPackage {
	key := testKeys()[0]
	kp, _, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageParams{
		Suite: 1, SignatureKey: key, Credential: mls.BasicCredential([]byte("mimi://b.example/d/" + user + "/" + device)),
		Capabilities: mls.Capabilities{Versions: []mls.ProtocolVersion{1}, Suites: []mls.Suite{1},
			Extensions: []mls.ExtensionType{6}, Proposals: []mls.ProposalType{8, 10}, Credentials: []mls.CredentialType{1}},
		Lifetime: mls.Lifetime{NotBefore: 1, NotAfter: 1 << 40},
	})
	if err != nil {
		panic(err)
	}
	return kp
}

var testKeyPackages = sync.OnceValue(func() (list []*mls.KeyPackage) {
	for i := range 4 {
		list = append(list, testKeyPackage("bob", fmt.Sprint("device", i)))
	}
	return list
})

const testGroup = "mimi://a.example/g/clubhouse"

func genBytes(max int) *rapid.Generator[[]byte] { return rapid.SliceOfN(rapid.Byte(), 0, max) }

func genUser() *rapid.Generator[IdentifierURI] {
	return rapid.Map(rapid.StringMatching(`[a-z]{1,8}`), func(s string) IdentifierURI { return IdentifierURI("mimi://b.example/u/" + s) })
}

func genCredential() *rapid.Generator[mls.Credential] {
	return rapid.Custom(func(t *rapid.T) mls.Credential {
		switch rapid.IntRange(1, 3).Draw(t, "type") {
		case 1:
			return mls.BasicCredential(genBytes(70).Draw(t, "identity"))
		case 2:
			return mls.X509Credential(rapid.SliceOfN(genBytes(80), 0, 3).Draw(t, "chain")...)
		default:
			return mls.Credential{Type: 0x1a1a, Raw: genBytes(20).Draw(t, "raw")}
		}
	})
}

func genPublic(content mls.ContentType, epoch uint64) *rapid.Generator[Message] {
	return rapid.Custom(func(t *rapid.T) Message {
		m := mls.PublicMessage{Content: mls.FramedContent{GroupID: []byte(testGroup), Epoch: epoch, ContentType: content,
			Sender: mls.MemberSender(mls.LeafIndex(rapid.Uint32().Draw(t, "leaf"))), AuthenticatedData: genBytes(70).Draw(t, "aad")},
			Auth:          mls.FramedContentAuthData{Signature: genBytes(70).Draw(t, "signature")},
			MembershipTag: genBytes(33).Draw(t, "tag")}
		if content == mls.ContentProposal {
			m.Content.Proposal = &mls.Proposal{Type: mls.ProposalRemove, Remove: 3}
			if rapid.Bool().Draw(t, "external") {
				m.Content.Sender, m.MembershipTag = mls.Sender{Type: mls.SenderExternal}, nil
			}
		} else {
			m.Content.Commit = &mls.Commit{}
			m.Auth.ConfirmationTag = genBytes(33).Draw(t, "confirmation")
		}
		return NewMessage(m.Message())
	})
}

func genPrivate() *rapid.Generator[Message] {
	return rapid.Custom(func(t *rapid.T) Message {
		m := mls.PrivateMessage{GroupID: []byte(testGroup), Epoch: rapid.Uint64().Draw(t, "epoch"), ContentType: mls.ContentApplication,
			AuthenticatedData: genBytes(70).Draw(t, "aad"), EncryptedSenderData: genBytes(20).Draw(t, "sender"), Ciphertext: genBytes(200).Draw(t, "text")}
		return NewMessage(m.Message())
	})
}

func genWelcome() *rapid.Generator[mls.Welcome] {
	return rapid.Custom(func(t *rapid.T) mls.Welcome {
		w := mls.Welcome{Suite: 1, EncryptedGroupInfo: genBytes(90).Draw(t, "info")}
		for range rapid.IntRange(1, 3).Draw(t, "members") {
			w.Secrets = append(w.Secrets, mls.EncryptedGroupSecrets{NewMember: genBytes(33).Draw(t, "ref"),
				Secrets: mls.HPKECiphertext{KEMOutput: genBytes(33).Draw(t, "kem"), Ciphertext: genBytes(40).Draw(t, "ct")}})
		}
		return w
	})
}

func genGroupInfo(epoch uint64) *rapid.Generator[*mls.GroupInfo] {
	return rapid.Custom(func(t *rapid.T) *mls.GroupInfo {
		return &mls.GroupInfo{Context: mls.GroupContext{Version: 1, Suite: 1, GroupID: []byte(testGroup), Epoch: epoch, TreeHash: genBytes(32).Draw(t, "hash"),
			ConfirmedTranscriptHash: genBytes(32).Draw(t, "transcript")},
			Extensions:      mls.Extensions{mls.ExternalPubExtension(genBytes(32).Draw(t, "pub"))},
			ConfirmationTag: genBytes(32).Draw(t, "tag"), Signer: 1, Signature: genBytes(70).Draw(t, "signature")}
	})
}

func genTree() *rapid.Generator[mls.RatchetTreeOption] {
	return rapid.Custom(func(t *rapid.T) mls.RatchetTreeOption {
		o := mls.RatchetTreeOption{Representation: mls.RatchetTreeRepresentation(rapid.IntRange(1, 4).Draw(t, "representation"))}
		switch o.Representation {
		case mls.RatchetTreeFull:
			o.Tree = []byte{2, 0, 0}
		case mls.RatchetTreeHTTPSURI:
			o.URL, o.TreeSignature = []byte("https://a.example/tree"), genBytes(70).Draw(t, "signature")
		case mls.RatchetTreeOutOfBand:
			o.TreeSignature = genBytes(70).Draw(t, "signature")
		}
		return o
	})
}

func genFrank() *rapid.Generator[*Frank] {
	return rapid.Custom(func(t *rapid.T) *Frank {
		if rapid.Bool().Draw(t, "no frank") {
			return nil
		}
		f := &Frank{Suite: 1, Signature: genBytes(70).Draw(t, "signature")}
		copy(f.ServerFrank[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "frank"))
		return f
	})
}

func genDictionary() *rapid.Generator[mls.AppDataDictionary] {
	return rapid.Custom(func(t *rapid.T) (d mls.AppDataDictionary) {
		for range rapid.IntRange(0, 2).Draw(t, "entries") {
			d = d.Set(mls.ComponentID(rapid.Uint16().Draw(t, "component")), genBytes(70).Draw(t, "data"))
		}
		return d
	})
}

func genFanout() *rapid.Generator[FanoutMessage] {
	return rapid.Custom(func(t *rapid.T) FanoutMessage {
		f := FanoutMessage{Timestamp: rapid.Uint64().Draw(t, "timestamp")}
		switch rapid.IntRange(1, 4).Draw(t, "arm") {
		case 1:
			f.Message, f.Frank = genPrivate().Draw(t, "message"), genFrank().Draw(t, "frank")
		case 2:
			w, tree := genWelcome().Draw(t, "welcome"), genTree().Draw(t, "tree")
			f.Message, f.Tree = NewMessage(w.Message()), &tree
		case 3:
			f.Message = genPublic(mls.ContentProposal, 7).Draw(t, "proposal")
			f.MoreProposals = rapid.SliceOfN(genPublic(mls.ContentProposal, 7), 0, 2).Draw(t, "more")
		case 4:
			f.Message = genPublic(mls.ContentCommit, 7).Draw(t, "commit")
			f.ExternalProposals = rapid.SliceOfN(genPublic(mls.ContentProposal, 8), 0, 2).Draw(t, "external")
		}
		return f
	})
}

func genBundle() *rapid.Generator[*HandshakeBundle] {
	return rapid.Custom(func(t *rapid.T) *HandshakeBundle {
		if rapid.Bool().Draw(t, "proposal") {
			return &HandshakeBundle{Message: genPublic(mls.ContentProposal, 7).Draw(t, "message"),
				MoreProposals: rapid.SliceOfN(genPublic(mls.ContentProposal, 7), 0, 3).Draw(t, "more")}
		}
		h := &HandshakeBundle{Message: genPublic(mls.ContentCommit, 7).Draw(t, "message"), wrappedWelcome: rapid.Bool().Draw(t, "wrapped")}
		if rapid.Bool().Draw(t, "welcome") {
			w := genWelcome().Draw(t, "welcome")
			h.Welcome = &w
		}
		info := genGroupInfo(8).Draw(t, "info")
		h.GroupInfo = &GroupInfoOption{Full: info}
		if rapid.Bool().Draw(t, "partial") {
			h.GroupInfo = &GroupInfoOption{Partial: info.Partial(false)}
		}
		tree := genTree().Draw(t, "tree")
		h.Tree = &tree
		return h
	})
}

// same demands that what v encodes to decodes, and encodes to the same bytes again.
func same(t interface{ Fatalf(string, ...any) }, name string, v marshaler, decode func([]byte) (marshaler, error)) {
	b := v.Marshal()
	again, err := decode(b)
	if err != nil {
		t.Fatalf("%s: %x does not decode: %v", name, b, err)
	}
	if got := again.Marshal(); string(got) != string(b) {
		t.Fatalf("%s: %x became %x", name, b, got)
	}
}

// S004-052: fan out of application messages, proposals, commits and welcomes, and all else that providers exchange,
// survives the wire.
func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		same(t, "update", genBundle().Draw(t, "bundle"), decoders["update_commit"])
		same(t, "submit", &SubmitMessageRequest{genPrivate().Draw(t, "message"), genUser().Draw(t, "user")}, decoders["submit_request"])
		for _, a := range []*SubmitMessageResponse{{StatusCode: SubmitAccepted, AcceptedTimestamp: 1, Frank: genFrank().Draw(t, "frank")},
			{StatusCode: SubmitNotAllowed}, {StatusCode: SubmitEpochTooOld, CurrentEpoch: rapid.Uint64().Draw(t, "epoch")}} {
			same(t, "submit answer", a, decoders["submit_response"])
		}
		for _, a := range []*UpdateRoomResponse{{ResponseCode: UpdateSuccess, AcceptedTimestamp: 1}, {ResponseCode: UpdateWrongEpoch, CurrentEpoch: 9},
			{ResponseCode: UpdateNotAllowed, ErrorDescription: rapid.String().Draw(t, "description")},
			{ResponseCode: UpdateInvalidProposal, InvalidProposals: rapid.SliceOfN(genBytes(70), 0, 3).Draw(t, "refs")}} {
			same(t, "update answer", a, decoders["update_response"])
		}
		same(t, "consent", &ConsentEntry{Operation: ConsentOperation(rapid.IntRange(0, 3).Draw(t, "op")), RequesterURI: genUser().Draw(t, "requester"),
			TargetURI: genUser().Draw(t, "target"), RoomID: rapid.SampledFrom([]IdentifierURI{"", "mimi://a.example/r/x"}).Draw(t, "room"),
			KeyPackages: testKeyPackages()[:rapid.IntRange(0, 4).Draw(t, "packages")], Extensions: genDictionary().Draw(t, "extensions")}, decoders["consent_grant"])
	})
}

func TestNotifyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := rapid.SliceOfN(genFanout(), 1, 5).Draw(t, "items")
		q, err := UnmarshalNotify(MarshalNotify(items))
		if err != nil {
			t.Fatal(err)
		}
		got, err := q.Check()
		if err != nil || len(got) != len(items) {
			t.Fatalf("%d items of %d, %v", len(got), len(items), err)
		}
		for i := range items {
			if string(got[i].Marshal()) != string(items[i].Marshal()) {
				t.Fatalf("item %d changed", i)
			}
		}
	})
}

func TestQueriesRoundTrip(t *testing.T) {
	text := rapid.StringN(0, 20, 60)
	rapid.Check(t, func(t *rapid.T) {
		q := &IdentifierRequest{Extensions: genDictionary().Draw(t, "extensions")}
		for range rapid.IntRange(0, 3).Draw(t, "elements") {
			e := QueryElement{Type: SearchIdentifierType(rapid.IntRange(1, 12).Draw(t, "type")), Value: text.Draw(t, "value")}
			if e.Type.hasField() {
				e.Field = text.Draw(t, "field")
			}
			q.Elements = append(q.Elements, e)
		}
		same(t, "query", q, decoders["identifier_request"])
		a := &IdentifierResponse{Code: IdentifierQueryCode(rapid.IntRange(0, 4).Draw(t, "code")), URIs: rapid.SliceOfN(genUser(), 0, 3).Draw(t, "uris")}
		for range rapid.IntRange(0, 2).Draw(t, "profiles") {
			a.Profiles = append(a.Profiles, UserProfile{genUser().Draw(t, "stable"), []ProfileField{{FieldVCard, "FN", text.Draw(t, "name")}}})
		}
		same(t, "query answer", a, decoders["identifier_response"])
		report := &AbuseReport{ReportingUser: genUser().Draw(t, "reporter"), AllegedAbuserURI: genUser().Draw(t, "abuser"), Note: text.Draw(t, "note"),
			ReasonCode: AbuseType(rapid.Byte().Draw(t, "reason")), Extensions: genDictionary().Draw(t, "extensions")}
		for range rapid.IntRange(0, 2).Draw(t, "messages") {
			report.Messages = append(report.Messages, AbusiveMessage{Content: genBytes(90).Draw(t, "content"), AcceptedTimestamp: 5,
				Frank: Frank{Suite: 1, Signature: genBytes(70).Draw(t, "signature")}})
		}
		same(t, "report", report, decoders["report"])
	})
}

func TestKeyMaterialRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := &KeyMaterialRequest{RequestingUser: genUser().Draw(t, "requester"), TargetUser: genUser().Draw(t, "target"),
			AcceptableSuites:      rapid.SliceOfN(rapid.Map(rapid.Uint16(), func(v uint16) mls.Suite { return mls.Suite(v) }), 0, 40).Draw(t, "suites"),
			RequesterSignatureKey: genBytes(70).Draw(t, "key"), RequesterCredential: genCredential().Draw(t, "credential"), Signature: genBytes(70).Draw(t, "signature")}
		same(t, "request", q, decoders["key_material_request"])
		a := &KeyMaterialResponse{UserURI: genUser().Draw(t, "user"), UserStatus: KeyMaterialUserCode(rapid.IntRange(0, 7).Draw(t, "status"))}
		for range rapid.IntRange(0, 3).Draw(t, "clients") {
			c := ClientKeyMaterial{Status: KeyMaterialClientCode(rapid.IntRange(0, 2).Draw(t, "status")), ClientURI: "mimi://b.example/d/bob/x"}
			c.KeyPackage = rapid.SampledFrom(testKeyPackages()).Draw(t, "package")
			if rapid.Bool().Draw(t, "told") {
				c.Capabilities = &c.KeyPackage.Leaf.Capabilities
			}
			a.Clients = append(a.Clients, c)
		}
		same(t, "answer", a, decoders["key_material_response"])
	})
}

func TestGroupInfoRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := &GroupInfoRequest{Suite: 1, SignatureKey: genBytes(70).Draw(t, "key"), Credential: genCredential().Draw(t, "credential"),
			PublicKey: genBytes(70).Draw(t, "hpke"), Signature: genBytes(70).Draw(t, "signature"), bareCode: rapid.Bool().Draw(t, "bare")}
		if rapid.Bool().Draw(t, "code") {
			q.JoiningCode = append([]byte{}, genBytes(70).Draw(t, "code")...)
		}
		same(t, "request", q, decoders["group_info_request"])
		same(t, "answer", &GroupInfoResponse{RoomID: "mimi://a.example/r/x", Status: GroupInfoCode(rapid.IntRange(1, 3).Draw(t, "status")), Suite: 1,
			HubSender: mls.ExternalSender{SignatureKey: genBytes(70).Draw(t, "key"), Credential: genCredential().Draw(t, "hub")},
			Encrypted: mls.HPKECiphertext{KEMOutput: genBytes(70).Draw(t, "kem"), Ciphertext: genBytes(90).Draw(t, "ct")},
			Signature: genBytes(70).Draw(t, "signature")}, decoders["group_info_response"])
		g := &GroupInfoRatchetTree{GroupInfo: genGroupInfo(7).Draw(t, "info"), Tree: genTree().Draw(t, "tree")}
		for range rapid.IntRange(0, 2).Draw(t, "pending") {
			g.Pending = append(g.Pending, PendingProposal{genPublic(mls.ContentProposal, 7).Draw(t, "proposal"), rapid.Uint64().Draw(t, "time")})
		}
		same(t, "content", g, decoders["group_info_tree"])
	})
}
