package mls_test

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// Alice makes a group and adds two clients of one bridge, which holds a single Group for both. A message from one of
// the two reaches Alice, and hers reaches both at the cost of one decryption.
func Example() {
	const suite = mls.SuiteX25519AES128Ed25519
	now := time.Now()
	cfg := mls.Config{Validator: mls.ValidatorFunc(func(mls.CredentialCheck) error { return nil })}
	capabilities := mls.Capabilities{
		Versions:    []mls.ProtocolVersion{mls.VersionMLS10},
		Suites:      mls.Suites(),
		Extensions:  []mls.ExtensionType{mls.ExtensionAppDataDictionary},
		Proposals:   []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalAppEphemeral, mls.ProposalSelfRemove},
		Credentials: []mls.CredentialType{mls.CredentialBasic},
	}
	lifetime := mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(24 * time.Hour).Unix())}

	aliceKey := must(mls.GenerateSignatureKey(rand.Reader, suite))
	alice := must(mls.NewGroup(rand.Reader, now, cfg, mls.GroupParams{
		Suite: suite, GroupID: []byte("mimi://a.example/g/room"), Lifetime: lifetime,
		Creator: mls.LeafParams{SignatureKey: aliceKey, Credential: mls.BasicCredential([]byte("mimi://a.example/d/alice/phone")),
			Capabilities: capabilities},
	}))

	// The bridge publishes a KeyPackage for each of its clients.
	var keys []mls.JoinKey
	var adds []mls.Proposal
	for _, name := range []string{"bob", "carol"} {
		kp, private, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageParams{
			Suite: suite, SignatureKey: must(mls.GenerateSignatureKey(rand.Reader, suite)), Capabilities: capabilities,
			Lifetime: lifetime, Credential: mls.BasicCredential([]byte("mimi://b.example/d/" + name + "/bridge")),
		})
		if err != nil {
			panic(err)
		}
		keys = append(keys, mls.JoinKey{KeyPackage: kp, Private: private})
		adds = append(adds, mls.Proposal{Type: mls.ProposalAdd, Add: kp})
	}

	// A staged commit changes nothing until it is merged: here the hub has accepted it.
	staged := must(alice.StageCommit(rand.Reader, now, mls.CommitParams{Leaf: 0, Proposals: adds}))
	fmt.Println("before the merge Alice is in epoch", alice.Epoch())
	must(alice.Merge(now, staged)) // returns the Changes to store
	welcome := must(mls.UnmarshalMLSMessage(staged.Welcome()))
	bridge, leaves, err := mls.JoinWelcome(now, cfg, mls.JoinParams{Welcome: welcome.Welcome, Tree: staged.Tree(), Keys: keys})
	if err != nil {
		panic(err)
	}
	fmt.Println("the bridge holds leaves", leaves, "in epoch", bridge.Epoch())
	by, known := bridge.WelcomedBy()
	fmt.Println("let in by leaf", by, known)

	// The Changes of Protect are stored before the message is sent.
	sent, changes, err := bridge.Protect(rand.Reader, leaves[0], []byte("hello from Bob"), nil, 0)
	if err != nil {
		panic(err)
	}
	fmt.Println("a message changes the stored form:", !changes.Empty())
	got, _, err := alice.Unprotect(now, sent.Message)
	if err != nil {
		panic(err)
	}
	fmt.Printf("Alice reads %q from leaf %d\n", got.Data, got.Sender)
	// Output:
	// before the merge Alice is in epoch 0
	// the bridge holds leaves [1 2] in epoch 1
	// let in by leaf 0 true
	// a message changes the stored form: true
	// Alice reads "hello from Bob" from leaf 1
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
