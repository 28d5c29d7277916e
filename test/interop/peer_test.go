package interop

import (
	"errors"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// peer is one client of another implementation, in at most one group. Messages are encoded MLSMessages.
type peer interface {
	identity() string
	can() abilities
	keyPackage() []byte
	signatureKey() []byte
	// create makes a group with this client as its only member.
	create(groupID []byte) error
	// join joins by Welcome. tree is nil when the Welcome has it inside.
	join(welcome, tree []byte) error
	// joinExternal makes an external commit and moves to the epoch that follows. With resync it removes the older
	// leaf of the same client.
	joinExternal(info, tree []byte, resync bool) (commit []byte, err error)
	// commit commits the given changes by value and all proposals that wait by reference, and moves on.
	commit(c changes) (*made, error)
	// propose makes one proposal.
	propose(c changes) ([]byte, error)
	// proposeOwnAdd asks to be added to a group that the client is not in.
	proposeOwnAdd(info []byte) ([]byte, error)
	// proposeExternal makes one proposal as the external sender 0.
	proposeExternal(info []byte, c changes) ([]byte, error)
	setPSK(id, secret []byte) error
	send(data []byte) ([]byte, error)
	// receive takes any message and returns the data of an application message.
	receive(message []byte) ([]byte, error)
	// groupInfo returns a GroupInfo with external_pub, and the tree inside or apart.
	groupInfo(withTree bool) (info, tree []byte, err error)
	state() (*state, error)
}

// abilities says what a peer's defects and gaps leave.
type abilities struct {
	takesTreeApart       bool // joins with a tree that travels apart
	proposesUpdate       bool
	privateCommits       bool // makes commits as PrivateMessage
	privateProposal      bool // makes proposals as PrivateMessage
	joinUnmerged         bool // joins a tree whose nodes differ in their unmerged leaves
	resync               bool // makes external commits that remove its older leaf
	paddedHandshake      bool // reads proposals and commits with padding
	commitsExtensions    bool // commits GroupContextExtensions
	requiredCapabilities bool // reads required_capabilities; else external_senders stand in for it
}

// changes is what a commit or proposal does; a proposal has one of them.
type changes struct {
	add         [][]byte // KeyPackages
	remove      []mls.LeafIndex
	psk         [][]byte // ids of external PSKs
	resumption  []uint64 // epochs of this group
	update      bool
	treeOutside bool // keep the tree out of the Welcome
	private     bool // frame as PrivateMessage
}

// made is what a commit yields. tree is the one of the next epoch.
type made struct{ commit, welcome, tree []byte }

// state is what must be equal for all members.
type state struct {
	epoch         uint64
	treeHash      []byte
	authenticator []byte
	exported      []byte
	leaf          mls.LeafIndex
}

// What is exported in every epoch.
const (
	exportLabel   = "interop"
	exportContext = "context"
	exportLength  = 32
)

var errCannot = errors.New("the peer cannot do this")
