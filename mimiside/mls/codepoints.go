package mls

// Every number of the registries that the engine knows. Those of RFC 9420 are final; those marked provisional
// are the suggestions of draft-ietf-mls-extensions-10, draft-mahy-mls-ratchet-tree-options,
// draft-mahy-mls-semiprivatemessage and draft-ietf-mimi-protocol-06 and change only here.

// Suite is a cipher suite number (RFC 9420 §17.1).
type Suite uint16

// Suites that the engine implements, and the two that it does not.
const (
	SuiteX25519AES128Ed25519   Suite = 0x0001
	SuiteP256AES128P256        Suite = 0x0002
	SuiteX25519ChaCha20Ed25519 Suite = 0x0003
	SuiteX448AES256Ed448       Suite = 0x0004 // known by name only
	SuiteP521AES256P521        Suite = 0x0005
	SuiteX448ChaCha20Ed448     Suite = 0x0006 // known by name only
	SuiteP384AES256P384        Suite = 0x0007
)

// ProtocolVersion is the version of the protocol in KeyPackages, GroupContexts and messages (RFC 9420 §6).
type ProtocolVersion uint16

// VersionMLS10 is mls10, the only version there is.
const VersionMLS10 ProtocolVersion = 1

// WireFormat says what an MLSMessage carries (RFC 9420 §17.2).
type WireFormat uint16

// Wire formats. The semi-private one is provisional: the number is the one of the mls-spec crate.
const (
	WireFormatPublicMessage      WireFormat = 0x0001
	WireFormatPrivateMessage     WireFormat = 0x0002
	WireFormatWelcome            WireFormat = 0x0003
	WireFormatGroupInfo          WireFormat = 0x0004
	WireFormatKeyPackage         WireFormat = 0x0005
	WireFormatSemiPrivateMessage WireFormat = 0xFAFE // provisional
)

// ExtensionType names an extension (RFC 9420 §17.3).
type ExtensionType uint16

// Extension types. 0x0006 and up are provisional (draft-ietf-mls-extensions-10 §5.1).
const (
	ExtensionApplicationID            ExtensionType = 0x0001
	ExtensionRatchetTree              ExtensionType = 0x0002
	ExtensionRequiredCapabilities     ExtensionType = 0x0003
	ExtensionExternalPub              ExtensionType = 0x0004
	ExtensionExternalSenders          ExtensionType = 0x0005
	ExtensionAppDataDictionary        ExtensionType = 0x0006 // provisional
	ExtensionSupportedWireFormats     ExtensionType = 0x0007 // provisional
	ExtensionRequiredWireFormats      ExtensionType = 0x0008 // provisional
	ExtensionRatchetTreeSourceDomains ExtensionType = 0xF4C0 // provisional, number of the mls-spec crate
)

// ProposalType names a proposal (RFC 9420 §17.4).
type ProposalType uint16

// Proposal types. 0x0008 and up are provisional (draft-ietf-mls-extensions-10 §5.2).
const (
	ProposalAdd                    ProposalType = 0x0001
	ProposalUpdate                 ProposalType = 0x0002
	ProposalRemove                 ProposalType = 0x0003
	ProposalPSK                    ProposalType = 0x0004
	ProposalReInit                 ProposalType = 0x0005
	ProposalExternalInit           ProposalType = 0x0006
	ProposalGroupContextExtensions ProposalType = 0x0007
	ProposalAppDataUpdate          ProposalType = 0x0008 // provisional
	ProposalAppEphemeral           ProposalType = 0x0009 // provisional
	ProposalSelfRemove             ProposalType = 0x000a // provisional
)

// CredentialType names a credential (RFC 9420 §17.5).
type CredentialType uint16

// Credential types. The multi-credentials are provisional (draft-ietf-mls-extensions-10 §5.3) and kept as bytes.
const (
	CredentialBasic     CredentialType = 0x0001
	CredentialX509      CredentialType = 0x0002
	CredentialMulti     CredentialType = 0x0003 // provisional
	CredentialWeakMulti CredentialType = 0x0004 // provisional
)

// PSKType says where a pre-shared key comes from (RFC 9420 §8.4).
type PSKType uint8

// PSK types. Application is provisional (draft-ietf-mls-extensions-10 §2.6).
const (
	PSKExternal    PSKType = 1
	PSKResumption  PSKType = 2
	PSKApplication PSKType = 3 // provisional
)

// ResumptionUsage says what a resumption PSK is for (RFC 9420 §8.4).
type ResumptionUsage uint8

// Usages of resumption PSKs.
const (
	ResumptionApplication ResumptionUsage = 1
	ResumptionReInit      ResumptionUsage = 2
	ResumptionBranch      ResumptionUsage = 3
)

// ContentType says what a framed content carries (RFC 9420 §6).
type ContentType uint8

// Content types.
const (
	ContentApplication ContentType = 1
	ContentProposal    ContentType = 2
	ContentCommit      ContentType = 3
)

// SenderType says who sent a framed content (RFC 9420 §6).
type SenderType uint8

// Sender types.
const (
	SenderMember            SenderType = 1
	SenderExternal          SenderType = 2
	SenderNewMemberProposal SenderType = 3
	SenderNewMemberCommit   SenderType = 4
)

// LeafNodeSource says how a leaf node came to be (RFC 9420 §7.2).
type LeafNodeSource uint8

// Leaf node sources.
const (
	LeafSourceKeyPackage LeafNodeSource = 1
	LeafSourceUpdate     LeafNodeSource = 2
	LeafSourceCommit     LeafNodeSource = 3
)

// NodeType is the tag of a node in the ratchet_tree extension (RFC 9420 §7.8).
type NodeType uint8

// Node types.
const (
	NodeLeaf   NodeType = 1
	NodeParent NodeType = 2
)

// LeafIndex is the position of a member in the tree, from the left, from 0 (RFC 9420 §4.2).
type LeafIndex uint32

// ComponentID names a component of the application (draft-ietf-mls-extensions-10 §2.1).
type ComponentID uint16

// Components of draft-ietf-mls-extensions-10 §5.6 and of MIMI, all provisional.
const (
	ComponentAppComponents                       ComponentID = 0x0001
	ComponentSafeAAD                             ComponentID = 0x0002
	ComponentContentMediaTypes                   ComponentID = 0x0003
	ComponentLastResortKeyPackage                ComponentID = 0x0004
	ComponentAppAck                              ComponentID = 0x0005
	ComponentFrankAAD                            ComponentID = 0x0020
	ComponentFrankingAgent                       ComponentID = 0x0021
	ComponentParticipantList                     ComponentID = 0x0022
	ComponentRoomMetadata                        ComponentID = 0x0023
	ComponentOperationalPolicy                   ComponentID = 0x0024
	ComponentRolesList                           ComponentID = 0x0025
	ComponentPreauthList                         ComponentID = 0x0026
	ComponentBaseRoomPolicy                      ComponentID = 0x0027
	ComponentStatusNotificationPolicyComponentID             = 0x0028
	ComponentJoinLinkPolicy                      ComponentID = 0x0029
	ComponentJoinLinks                           ComponentID = 0x002A
	ComponentLinkPreviewPolicy                   ComponentID = 0x002B
	ComponentAssetPolicy                         ComponentID = 0x002C
	ComponentLoggingPolicy                       ComponentID = 0x002D
	ComponentChatHistoryPolicy                   ComponentID = 0x002E
	ComponentBotPolicy                           ComponentID = 0x002F
	ComponentMessageExpirationPolicy             ComponentID = 0x0030
)

// AppDataUpdateOperation is what an AppDataUpdate does (draft-ietf-mls-extensions-10 §2.8).
type AppDataUpdateOperation uint8

// Operations of an AppDataUpdate.
const (
	AppDataUpdateSet    AppDataUpdateOperation = 1 // update(1)
	AppDataUpdateRemove AppDataUpdateOperation = 2 // remove(2)
)

// RatchetTreeRepresentation says how a ratchet tree is conveyed (draft-mahy-mls-ratchet-tree-options).
type RatchetTreeRepresentation uint8

// Representations of a ratchet tree, provisional.
const (
	RatchetTreeFull                RatchetTreeRepresentation = 1
	RatchetTreeHTTPSURI            RatchetTreeRepresentation = 2
	RatchetTreeOutOfBand           RatchetTreeRepresentation = 3
	RatchetTreeDistributionService RatchetTreeRepresentation = 4
)

// RatchetTreePresence tells a hub how the ratchet_tree extension of the new GroupInfo relates to the last one
// (draft-mahy-mls-ratchet-tree-options).
type RatchetTreePresence uint8

// Presences of the ratchet_tree extension, provisional.
const (
	RatchetTreeNone    RatchetTreePresence = 0 // no_ratchet_tree
	RatchetTreePresent RatchetTreePresence = 1
	RatchetTreeRemoved RatchetTreePresence = 2
	RatchetTreeAdded   RatchetTreePresence = 3
)
