package mls

import (
	"io"
	"time"
)

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
	Leaf          LeafIndex  // the own leaf that commits
	Proposals     []Proposal // by value
	Refs          [][]byte   // pending proposals to include; pending SelfRemoves of others are always included
	Path          bool       // include a path also where none is required
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

var errAPI = fail(KindBug, "use group", ErrEmpty)

// NewGroup makes a group of one member, in epoch 0 (RFC 9420 §11).
func NewGroup(rand io.Reader, now time.Time, cfg Config, params GroupParams) (*Group, error) {
	return nil, errAPI
}

// JoinWelcome joins a group by Welcome with one or more own leaves (RFC 9420 §12.4.3.1).
func JoinWelcome(now time.Time, cfg Config, params JoinParams) (*Group, []LeafIndex, error) {
	return nil, nil, errAPI
}

// AddOwnFromWelcome joins with further own leaves. The group must be in the epoch of the Welcome. When it already has
// an own leaf, the epoch comes from it and the Welcome gives only the path secrets that the pool lacks.
func (g *Group) AddOwnFromWelcome(now time.Time, params JoinParams) ([]LeafIndex, Changes, error) {
	return nil, Changes{}, errAPI
}

// NewPublicGroup starts to follow a group as a public view, from a GroupInfo whose signature it checks.
func NewPublicGroup(now time.Time, cfg Config, params PublicGroupParams) (*Group, error) {
	return nil, errAPI
}

// LoadGroup rebuilds a group from all its pieces, in any order.
func LoadGroup(cfg Config, pieces []Piece) (*Group, error) { return nil, errAPI }

// Export returns all pieces of the group, for a first store.
func (g *Group) Export() []Piece { return nil }

// Context returns the present GroupContext.
func (g *Group) Context() *GroupContext { return nil }

// Dictionary returns the app_data_dictionary of the GroupContext, nil when there is none.
func (g *Group) Dictionary() AppDataDictionary { return nil }

// Members returns all members from left to right.
func (g *Group) Members() []Member { return nil }

// MemberCount returns the number of members.
func (g *Group) MemberCount() int { return 0 }

// Member returns the member at a leaf, false when the leaf is blank.
func (g *Group) Member(leaf LeafIndex) (Member, bool) { return Member{}, false }

// MemberBySignatureKey finds a member by its signature key.
func (g *Group) MemberBySignatureKey(key []byte) (Member, bool) { return Member{}, false }

// OwnLeaves returns the own leaves in ascending order; empty for a public view.
func (g *Group) OwnLeaves() []LeafIndex { return nil }

// TreeHash returns the hash of the present tree.
func (g *Group) TreeHash() []byte { return nil }

// RatchetTree returns the present tree as content of the ratchet_tree extension.
func (g *Group) RatchetTree() []byte { return nil }

// EpochAuthenticator returns the epoch authenticator (RFC 9420 §8.7), nil for a public view.
func (g *Group) EpochAuthenticator() []byte { return nil }

// ConfirmedTranscriptHash returns the confirmed transcript hash of the present epoch.
func (g *Group) ConfirmedTranscriptHash() []byte { return nil }

// ExportSecret is MLS-Exporter (RFC 9420 §8.5).
func (g *Group) ExportSecret(label string, context []byte, length int) (Secret, error) {
	return nil, errAPI
}

// SafeExportSecret returns the exported secret of a component, once an epoch (draft-ietf-mls-extensions-10 §2.5).
func (g *Group) SafeExportSecret(component ComponentID) (Secret, Changes, error) {
	return nil, Changes{}, errAPI
}

// GroupInfo returns a GroupInfo of the present epoch without tree, as an encoded MLSMessage, signed by an own leaf.
func (g *Group) GroupInfo(leaf LeafIndex, withExternalPub bool, extensions Extensions) ([]byte, error) {
	return nil, errAPI
}

// PendingProposals returns the proposals of the present epoch that wait for a commit, oldest first.
func (g *Group) PendingProposals() []PendingProposal { return nil }

// Protect encrypts an application message from an own leaf. The Changes advance its sending ratchet: they must be
// stored before the message is sent.
func (g *Group) Protect(rand io.Reader, leaf LeafIndex, data, aad []byte, padding int) (*Protected, Changes, error) {
	return nil, Changes{}, errAPI
}

// Unprotect decrypts an application message, an encoded MLSMessage, of the present epoch or of one that is
// remembered. A message of an own leaf gives ErrOwnMessage.
func (g *Group) Unprotect(now time.Time, message []byte) (*Application, Changes, error) {
	return nil, Changes{}, errAPI
}

// ProposeParams says what an own proposal is.
type ProposeParams struct {
	Leaf     LeafIndex
	Proposal Proposal
	AAD      []byte
	Private  bool // frame as PrivateMessage; never for SelfRemove
	Padding  int
}

// Propose makes a proposal from an own leaf, caches it and returns the encoded MLSMessage and the ProposalRef.
func (g *Group) Propose(rand io.Reader, params ProposeParams) (message, ref []byte, changes Changes, err error) {
	return nil, nil, Changes{}, errAPI
}

// ProposeUpdate is Propose of an Update with fresh keys for the own leaf. A nil shows leaves all else as it is.
func (g *Group) ProposeUpdate(rand io.Reader, leaf LeafIndex, shows *LeafParams, aad []byte) (message, ref []byte, changes Changes, err error) {
	return nil, nil, Changes{}, errAPI
}

// ProposeSelfRemove is Propose of a SelfRemove of the own leaf.
func (g *Group) ProposeSelfRemove(rand io.Reader, leaf LeafIndex, aad []byte) (message, ref []byte, changes Changes, err error) {
	return nil, nil, Changes{}, errAPI
}

// ReceiveProposal verifies and caches a proposal of a member, an external sender or a new member, an encoded
// MLSMessage.
func (g *Group) ReceiveProposal(now time.Time, message []byte) (*PendingProposal, Changes, error) {
	return nil, Changes{}, errAPI
}

// StageCommit makes a commit from an own leaf and the epoch that follows. The group does not change.
func (g *Group) StageCommit(rand io.Reader, now time.Time, params CommitParams) (*Staged, error) {
	return nil, errAPI
}

// StageReceived verifies another member's commit and builds the epoch that follows. The group does not change. With
// no own leaf it verifies all that can be verified without secrets.
func (g *Group) StageReceived(now time.Time, message []byte) (*Staged, error) { return nil, errAPI }

// StageExternalCommit makes an external commit for a group that this process does not hold. Merge with
// NewGroupFromStaged.
func StageExternalCommit(rand io.Reader, now time.Time, cfg Config, params ExternalCommitParams) (*Staged, error) {
	return nil, errAPI
}

// NewGroupFromStaged returns the group that an accepted external commit leads to. The Staged must not be used again.
func NewGroupFromStaged(now time.Time, cfg Config, s *Staged) (*Group, error) { return nil, errAPI }

// LoadStaged reads what Staged.Marshal wrote, for the group in the epoch in which it was staged.
func (g *Group) LoadStaged(b []byte) (*Staged, error) { return nil, errAPI }

// LoadStagedExternal reads what Marshal of a Staged of StageExternalCommit wrote.
func LoadStagedExternal(cfg Config, b []byte) (*Staged, error) { return nil, errAPI }

// Merge moves the group to the epoch of s. The Staged must not be used again. Discarding is dropping the value.
func (g *Group) Merge(now time.Time, s *Staged) (Changes, error) { return Changes{}, errAPI }

// Staged is a commit with the epoch that it leads to, before it is accepted.
type Staged struct {
	next *epoch
}

// Commit returns the encoded MLSMessage of the commit.
func (s *Staged) Commit() []byte { return nil }

// Welcome returns the encoded MLSMessage of the Welcome, nil when nobody was added or the commit is not our own.
func (s *Staged) Welcome() []byte { return nil }

// GroupInfo returns the encoded MLSMessage of the GroupInfo of the next epoch, without tree; nil when the commit is
// not our own.
func (s *Staged) GroupInfo() []byte { return nil }

// Tree returns the tree of the next epoch as content of the ratchet_tree extension.
func (s *Staged) Tree() []byte { return nil }

// Epoch returns the number of the next epoch.
func (s *Staged) Epoch() uint64 { return 0 }

// Committer returns the leaf of the committer in the next epoch: of an external commit, its new leaf.
func (s *Staged) Committer() LeafIndex { return 0 }

// External tells whether it is an external commit.
func (s *Staged) External() bool { return false }

// OwnCommit tells whether an own leaf made the commit.
func (s *Staged) OwnCommit() bool { return false }

// AAD returns the authenticated_data of the commit.
func (s *Staged) AAD() []byte { return nil }

// Proposals returns the proposals in the order of the commit.
func (s *Staged) Proposals() []ResolvedProposal { return nil }

// Added returns the members that Add proposals or the external commit put in.
func (s *Staged) Added() []Member { return nil }

// Removed returns the members that Remove or SelfRemove proposals took out, as they were.
func (s *Staged) Removed() []Member { return nil }

// Updated returns the members whose leaf an Update or the commit's path replaced, as they will be.
func (s *Staged) Updated() []Member { return nil }

// Context returns the GroupContext of the next epoch.
func (s *Staged) Context() *GroupContext { return nil }

// Dictionary returns the app_data_dictionary of the next epoch.
func (s *Staged) Dictionary() AppDataDictionary { return nil }

// PreviousDictionary returns the app_data_dictionary before the commit.
func (s *Staged) PreviousDictionary() AppDataDictionary { return nil }

// ConfirmedTranscriptHash returns the confirmed transcript hash of the next epoch: equal for two members only if
// they follow the same commit.
func (s *Staged) ConfirmedTranscriptHash() []byte { return nil }

// EpochAuthenticator returns the epoch authenticator of the next epoch, nil where it cannot be known.
func (s *Staged) EpochAuthenticator() []byte { return nil }

// ReInit returns the ReInit proposal of the commit, nil when there is none. After it the group only waits for its
// successor.
func (s *Staged) ReInit() *ReInit { return nil }

// Marshal returns the stored form: everything that Merge needs, and what Commit, Welcome and GroupInfo return.
func (s *Staged) Marshal() Secret { return nil }
