package mls

// Group is one MLS group as this process sees it: one epoch, and any number of own leaves in it, none included. With
// none it is the public view of the group: the tree, the GroupContext and the transcript, verified as far as that
// goes without secrets. A Group is not safe for concurrent use. Every operation that returns an error leaves it as it
// was; every operation that returns Changes has changed the Group in memory as well.
type Group struct {
	cfg     Config
	suite   Suite
	groupID []byte
	cur     *epoch
	past    []*pastEpoch // newest first
	own     map[LeafIndex]*ownLeaf
	path    map[nodeIndex]Secret // private keys of parent nodes
	pending *proposalCache
	// resumption PSKs of past epochs
	resumption map[uint64]Secret
	// welcomedBy signed the GroupInfo of the Welcome that this object was joined by; not stored
	welcomedBy *LeafIndex
}

// WelcomedBy is the leaf that signed the GroupInfo of the Welcome (RFC 9420 §12.4.3.1): whoever let us in. It is known to the
// object that [JoinWelcome] returns only, not after [LoadGroup].
func (g *Group) WelcomedBy() (LeafIndex, bool) {
	if g.welcomedBy == nil {
		return 0, false
	}
	return *g.welcomedBy, true
}

// LeafParams says what an own leaf shows of itself.
type LeafParams struct {
	SignatureKey *SignatureKey // of the group's suite
	Credential   Credential
	Capabilities Capabilities
	Extensions   Extensions
}

// GroupParams describes a group to be made.
type GroupParams struct {
	Suite      Suite
	GroupID    []byte
	Extensions Extensions // of the GroupContext
	Creator    LeafParams
	Lifetime   Lifetime // of the creator's leaf
}

// JoinKey is a KeyPackage of ours with its private side.
type JoinKey struct {
	KeyPackage *KeyPackage
	Private    *KeyPackagePrivate
}

// JoinParams is what joining by Welcome takes. All own clients that one Welcome adds can join at once.
type JoinParams struct {
	Welcome *Welcome
	Tree    []byte    // content of the ratchet_tree extension when it travels apart, nil when it is in the GroupInfo
	Keys    []JoinKey // at least one
}

// PublicGroupParams is what following a group without a member in it takes.
type PublicGroupParams struct {
	GroupInfo *GroupInfo
	Tree      []byte // content of the ratchet_tree extension when it travels apart, else nil
}

// Member is one occupied leaf.
type Member struct {
	Index LeafIndex
	Leaf  *LeafNode // not to be changed
	Own   bool
}

// Protected is an own message that may be sent once the Changes are stored.
type Protected struct {
	Message    []byte // encoding of the MLSMessage
	Epoch      uint64
	Leaf       LeafIndex
	Generation uint32
}

// Application is a received application message.
type Application struct {
	Sender     LeafIndex
	Leaf       *LeafNode // of the sender, in the epoch of the message
	Epoch      uint64
	Generation uint32
	Data       []byte
	AAD        []byte // authenticated_data
}

// PendingProposal is a proposal of the present epoch that waits for a commit.
type PendingProposal struct {
	Ref      []byte
	Sender   Sender
	Proposal *Proposal
}

// ResolvedProposal is a proposal as a commit applies it.
type ResolvedProposal struct {
	Sender   Sender // who proposed it: the committer when by value
	Proposal *Proposal
	Ref      []byte // nil when by value
}

// CommitParams says what an own commit shall do.
type CommitParams struct {
	Leaf          LeafIndex           // the own leaf that commits
	Proposals     []Proposal          // by value
	Adds          []CheckedKeyPackage // added after Proposals
	Refs          [][]byte            // pending proposals to include; pending SelfRemoves of others are always included
	Path          bool                // include a path also where none is required
	NewLeaf       *LeafParams
	AAD           []byte
	Private       bool // frame as PrivateMessage instead of PublicMessage
	Padding       int  // bytes of padding of a PrivateMessage
	TreeInWelcome bool // put the ratchet_tree extension into the Welcome's GroupInfo
	NoExternalPub bool // leave external_pub out of the GroupInfo: nobody can join by external commit
	// GroupInfoExtensions are added to GroupInfo and Welcome.
	GroupInfoExtensions Extensions
}

// ExternalCommitParams says how to join by external commit (RFC 9420 §12.4.3.2).
type ExternalCommitParams struct {
	GroupInfo *GroupInfo
	Tree      []byte // content of the ratchet_tree extension when it travels apart, else nil
	Leaf      LeafParams
	Remove    *LeafIndex // an older leaf of the same client that the commit removes
	PSKs      []PreSharedKeyID
	Proposals []Proposal // further proposals by value: AppDataUpdate, AppEphemeral
	// SelfRemoves are encodings of MLSMessages with SelfRemove proposals of the present epoch; they must be included.
	SelfRemoves         [][]byte
	AAD                 []byte
	NoExternalPub       bool
	GroupInfoExtensions Extensions
}

// Epoch returns the number of the present epoch.
func (g *Group) Epoch() uint64 { return g.cur.context.Epoch }

// GroupID returns the group id.
func (g *Group) GroupID() []byte { return g.groupID }

// Suite returns the cipher suite.
func (g *Group) Suite() Suite { return g.suite }

// ProposeParams says what an own proposal is.
type ProposeParams struct {
	Leaf     LeafIndex
	Proposal Proposal
	AAD      []byte
	Private  bool // frame as PrivateMessage; never for SelfRemove
	Padding  int
}
