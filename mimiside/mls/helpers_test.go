package mls

import (
	"bytes"
	"fmt"
	"math/rand"
	"testing"
	"time"
)

// testRand is a reproducible source of randomness.
func testRand(seed int64) *rand.Rand { return rand.New(rand.NewSource(seed)) }

// testNow is the clock of tests.
var testNow = time.Unix(1_800_000_000, 0)

// appendLogic appends updates to a component's data and refuses the update "bad".
var appendLogic = ComponentLogicFunc(func(current []byte, updates [][]byte) ([]byte, error) {
	out := bytes.Clone(current)
	for _, u := range updates {
		if string(u) == "bad" {
			return nil, fmt.Errorf("update %q", u)
		}
		out = append(out, u...)
	}
	return out, nil
})

const testComponent ComponentID = 0x8002

func testConfig() Config {
	return Config{
		Validator:  acceptAll,
		Components: map[ComponentID]ComponentLogic{testComponent: appendLogic},
		PSK: func(id *PreSharedKeyID) Secret {
			if id.Type == PSKExternal && string(id.ID) == "psk" {
				return Secret("pre-shared")
			}
			return nil
		},
	}
}

// testClient is somebody with a signature key.
type testClient struct {
	name string
	key  *SignatureKey
}

func newTestClient(t testing.TB, rand *rand.Rand, suite Suite, name string) *testClient {
	t.Helper()
	key, err := GenerateSignatureKey(rand, suite)
	if err != nil {
		t.Fatal(err)
	}
	return &testClient{name, key}
}

func (c *testClient) leaf() LeafParams {
	dict := AppDataDictionary{}.
		Set(ComponentAppComponents, ComponentsList{ComponentAppComponents, ComponentSafeAAD, testComponent}.Marshal()).
		Set(ComponentSafeAAD, ComponentsList{ComponentFrankAAD}.Marshal())
	return LeafParams{SignatureKey: c.key, Credential: BasicCredential([]byte(c.name)), Capabilities: testCapabilities(),
		Extensions: Extensions{dict.Extension()}}
}

// testLifetime includes testNow.
var testLifetime = Lifetime{NotAfter: 1 << 40}

func (c *testClient) keyPackage(t testing.TB, rand *rand.Rand) JoinKey {
	t.Helper()
	p := c.leaf()
	kp, private, err := NewKeyPackage(rand, KeyPackageParams{Suite: c.key.Suite(), Credential: p.Credential, SignatureKey: c.key,
		Capabilities: p.Capabilities, Lifetime: testLifetime, LeafExtensions: p.Extensions})
	if err != nil {
		t.Fatal(err)
	}
	return JoinKey{kp, private}
}

// testExtensions are the GroupContext extensions of a group like MIMI's.
func testExtensions(external ...ExternalSender) Extensions {
	required := RequiredCapabilities{Extensions: []ExtensionType{ExtensionAppDataDictionary},
		Proposals: []ProposalType{ProposalAppDataUpdate, ProposalSelfRemove}}
	dict := AppDataDictionary{}.
		Set(ComponentAppComponents, ComponentsList{testComponent}.Marshal()).
		Set(ComponentSafeAAD, ComponentsList{ComponentFrankAAD}.Marshal())
	out := Extensions{required.Extension(), dict.Extension()}
	if len(external) > 0 {
		out = append(out, ExternalSendersExtension(external...))
	}
	return out
}

func newTestGroup(t testing.TB, rand *rand.Rand, c *testClient, extensions Extensions) *Group {
	t.Helper()
	g, err := NewGroup(rand, testNow, testConfig(), GroupParams{Suite: c.key.Suite(), GroupID: []byte("group"),
		Extensions: extensions, Creator: c.leaf(), Lifetime: testLifetime})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// must returns v when err is nil.
func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// pieceMap is what a database would hold.
func pieceMap(g *Group) map[PieceKey]Secret {
	m := map[PieceKey]Secret{}
	for _, p := range g.Export() {
		m[p.Key] = p.Data
	}
	return m
}

func pieceList(m map[PieceKey]Secret) []Piece {
	var out []Piece
	for k, d := range m {
		out = append(out, Piece{k, d})
	}
	return out
}

// comparePieces fails when two stored forms differ.
func comparePieces(t testing.TB, what string, got, want map[PieceKey]Secret) {
	t.Helper()
	for k, d := range want {
		if !bytes.Equal(got[k], d) {
			t.Fatalf("%s: piece %v differs or is missing", what, k)
		}
	}
	for k := range got {
		if _, there := want[k]; !there {
			t.Fatalf("%s: piece %v is left over", what, k)
		}
	}
}

// message decodes an MLSMessage.
func message(t testing.TB, b []byte) *MLSMessage {
	t.Helper()
	m, err := UnmarshalMLSMessage(b)
	return must(t, m, err)
}
