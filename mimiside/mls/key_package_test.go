package mls

import (
	"errors"
	"testing"
)

// A KeyPackage that was checked is added without being verified again; what is added are the bytes that were checked.
func TestCheckedKeyPackagesAreAdded(t *testing.T) {
	for _, suite := range Suites() {
		r := testRand(int64(suite))
		alice, bob, carol := newTestClient(t, r, suite, "alice"), newTestClient(t, r, suite, "bob"), newTestClient(t, r, suite, "carol")
		a := hold(t, newTestGroup(t, r, alice, testExtensions()))
		made, came := bob.keyPackage(t, r), carol.keyPackage(t, r)
		received, err := UnmarshalKeyPackage(came.KeyPackage.Marshal())
		ok(t, "decode", err)
		var adds []CheckedKeyPackage
		for _, kp := range []*KeyPackage{made.KeyPackage, received} {
			c, err := kp.Check()
			ok(t, "check", err)
			kp.Signature, kp.Leaf.SignatureKey = nil, nil // what becomes of the struct afterwards is of no account
			adds = append(adds, c)
		}
		staged, err := a.StageCommit(r, testNow, CommitParams{Adds: adds})
		must(t, staged, err)
		w, err := UnmarshalMLSMessage(staged.Welcome())
		ok(t, "Welcome", err)
		tree := staged.Tree()
		a.merge(staged, nil)
		for _, key := range []JoinKey{made, came} {
			g, _, err := JoinWelcome(testNow, a.cfg, JoinParams{Welcome: w.Welcome, Tree: tree, Keys: []JoinKey{{KeyPackage: mustDecode(t, key.KeyPackage), Private: key.Private}}})
			ok(t, "join", err)
			same(t, "authenticator", g.EpochAuthenticator(), a.EpochAuthenticator())
		}
	}
}

func mustDecode(t *testing.T, kp *KeyPackage) *KeyPackage {
	t.Helper()
	again, err := UnmarshalKeyPackage(kp.Marshal())
	ok(t, "decode", err)
	return again
}

// A forged KeyPackage does not become a checked one, and the zero value adds nobody.
func TestForgedKeyPackagesAreNotChecked(t *testing.T) {
	kp, _ := testKeyPackage(t, SuiteX25519AES128Ed25519, 1, nil)
	raw := kp.Marshal()
	for n := range raw {
		bad := append([]byte(nil), raw...)
		bad[n] ^= 1
		forged, err := UnmarshalKeyPackage(bad)
		if err != nil {
			continue
		}
		if _, err := forged.Check(); err == nil {
			t.Fatalf("byte %d was changed and the KeyPackage passed", n)
		}
	}
	// A copy of our own that was changed and encoded anew is not ours any more.
	forged := *kp
	forged.Signature, forged.raw = append([]byte{1}, kp.Signature[1:]...), nil
	if _, err := forged.Check(); err == nil {
		t.Error("a changed copy passed")
	}
	r := testRand(1)
	a := newTestGroup(t, r, newTestClient(t, r, SuiteX25519AES128Ed25519, "alice"), testExtensions())
	if _, err := a.StageCommit(r, testNow, CommitParams{Adds: []CheckedKeyPackage{{}}}); !errors.Is(err, ErrKey) {
		t.Errorf("the zero value: %v", err)
	}
}
