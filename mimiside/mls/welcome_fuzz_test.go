package mls

import (
	"testing"
)

// FuzzWelcomeSealed: any bytes as group secrets and GroupInfo of a Welcome that is encrypted as it should be, with any
// tree. What lets the newcomer in leads to the epoch of the group and nowhere else; nothing is refused as a bug.
func FuzzWelcomeSealed(f *testing.F) {
	w := newWorld(f, testSuite, 11)
	inviter := w.singles[0]
	add := w.invitation(false)
	key := w.invites[string(add.Add.Ref())].JoinKey
	staged, err := inviter.g.StageCommit(w.rand, w.now, CommitParams{Leaf: 0, Path: true, Proposals: []Proposal{add}})
	ok(f, "commit", err)
	m, err := UnmarshalMLSMessage(staged.Welcome())
	ok(f, "Welcome", err)
	secrets, err := DecryptWithLabel(testSuite, key.Private.InitKey, labelWelcome, m.Welcome.EncryptedGroupInfo, m.Welcome.Secrets[0].Secrets)
	ok(f, "group secrets", err)
	inner, err := UnmarshalGroupSecrets(secrets)
	ok(f, "group secrets", err)
	welcomeSecret := deriveWelcomeSecret(testSuite, inner.JoinerSecret, testSuite.zeroSecret())
	info, err := openWelcomeGroupInfo(testSuite, welcomeSecret, m.Welcome.EncryptedGroupInfo)
	ok(f, "GroupInfo", err)
	joiner := w.client()
	f.Add([]byte(secrets), info, staged.Tree())
	f.Fuzz(func(t *testing.T, secrets, info, tree []byte) {
		welcome := &Welcome{Suite: testSuite, EncryptedGroupInfo: sealWelcomeGroupInfo(testSuite, welcomeSecret, info)}
		sealed, err := EncryptWithLabel(testSuite, key.KeyPackage.InitKey, labelWelcome, welcome.EncryptedGroupInfo, secrets)
		ok(t, "encrypt", err)
		welcome.Secrets = []EncryptedGroupSecrets{{NewMember: key.KeyPackage.Ref(), Secrets: sealed}}
		g, _, err := JoinWelcome(w.now, w.cfg, JoinParams{Welcome: welcome, Tree: tree, Keys: []JoinKey{key}})
		if err == nil {
			same(t, "epoch authenticator", g.EpochAuthenticator(), staged.EpochAuthenticator())
		} else if KindOf(err) == KindBug {
			t.Fatalf("Welcome is refused as a bug: %v", err)
		}
		gi, err := UnmarshalGroupInfo(info)
		if err != nil {
			return
		}
		if _, err := NewPublicGroup(w.now, w.cfg, PublicGroupParams{GroupInfo: gi, Tree: tree}); err != nil && KindOf(err) == KindBug {
			t.Fatalf("GroupInfo is refused as a bug: %v", err)
		}
		_, err = StageExternalCommit(w.rand, w.now, w.cfg, ExternalCommitParams{GroupInfo: gi, Tree: tree, Leaf: joiner})
		if err != nil && KindOf(err) == KindBug {
			t.Fatalf("GroupInfo for an external commit is refused as a bug: %v", err)
		}
	})
}
