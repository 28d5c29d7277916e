package interop

import (
	"fmt"
	"os"
	"testing"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// theNode holds the clients of ts-mls for all tests; whyNot says why it is nil.
var (
	theNode *node
	whyNot  error
)

func TestMain(m *testing.M) {
	if theNode, whyNot = startNode(); whyNot != nil {
		fmt.Fprintln(os.Stderr, "interop:", whyNot)
	}
	code := m.Run()
	if theNode != nil {
		theNode.Close()
	}
	os.Exit(code)
}

// scenarios are played with every peer in every suite that it has.
var scenarios = []struct {
	name string
	play func(w *world)
}{
	{"they join by Welcome, tree inside", theyJoinTreeInside},
	{"they join by Welcome, tree apart", theyJoinTreeApart},
	{"we join by Welcome, tree inside", weJoinTreeInside},
	{"we join by Welcome, tree apart", weJoinTreeApart},
	{"commits of both sides in our group", commitsInOurs},
	{"commits of both sides in their group", commitsInTheirs},
	{"proposals by reference", proposalsByReference},
	{"handshake messages as PrivateMessage", privateHandshakes},
	{"their commit wins over our staged one", lostCommit},
	{"messages out of order and of the last epoch", lateMessages},
	{"our external commit", ourExternalCommit},
	{"their external commit", theirExternalCommit},
	{"external sender", externalSender},
	{"new member proposes its Add", newMemberProposals},
	{"pre-shared keys", preSharedKeys},
	{"GroupContextExtensions", contextExtensions},
	{"random play", randomPlay},
}

func TestMLSGo(t *testing.T) {
	for _, suite := range []mls.Suite{mls.SuiteX25519AES128Ed25519, mls.SuiteP256AES128P256, mls.SuiteX25519ChaCha20Ed25519} {
		play(t, suite, func(name string) (peer, error) { return newGoPeer(suite, name) })
	}
}

func TestTSMLS(t *testing.T) {
	if theNode == nil {
		t.Skip(whyNot)
	}
	for _, suite := range []mls.Suite{mls.SuiteX25519AES128Ed25519, mls.SuiteX25519ChaCha20Ed25519} {
		play(t, suite, func(name string) (peer, error) { return newTSPeer(theNode, suite, name) })
	}
}

func play(t *testing.T, suite mls.Suite, newPeer func(string) (peer, error)) {
	t.Run(fmt.Sprintf("suite %d", suite), func(t *testing.T) {
		for _, s := range scenarios {
			t.Run(s.name, func(t *testing.T) {
				s.play(&world{T: t, newPeer: newPeer, ours: newPool(t, suite)})
			})
		}
	})
}
