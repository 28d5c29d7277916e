package policy

import "fmt"

// Reason says why a change is not allowed. It is one of a closed list, so that it can be counted and told to peers.
type Reason uint8

const (
	// ReasonNone: the change is allowed.
	ReasonNone Reason = iota
	// ReasonNotParticipant: the actor is not in the participant list.
	ReasonNotParticipant
	// ReasonBlocked: the actor is banned, or about to be removed; it may only remove clients of its own.
	ReasonBlocked
	// ReasonNoCapability: the actor's role lacks a capability; it is in Decision.Capability.
	ReasonNoCapability
	// ReasonNoTransition: the actor's role has the capability, but not for this pair of roles.
	ReasonNoTransition
	// ReasonNotPreauthorized: no preauthorisation rule gives the actor this role.
	ReasonNotPreauthorized
	// ReasonJoinCode: the joining code is missing, not valid, or for another role.
	ReasonJoinCode
	// ReasonNotActive: the user has no client in the group.
	ReasonNotActive
	// ReasonTooFew and ReasonTooMany: a role's constraint on its participants would be broken.
	ReasonTooFew
	ReasonTooMany
	// ReasonTooFewActive and ReasonTooManyActive: a role's constraint on participants with clients would be broken.
	ReasonTooFewActive
	ReasonTooManyActive
	// ReasonMaxUsers, ReasonMaxClients, ReasonSingleDevice, ReasonFixedMembership and ReasonParent: the base
	// room policy forbids it.
	ReasonMaxUsers
	ReasonMaxClients
	ReasonSingleDevice
	ReasonFixedMembership
	ReasonParent
	// ReasonCombination: changes that must not be in one commit.
	ReasonCombination
	// ReasonImmutable: nobody may change this.
	ReasonImmutable
	// ReasonEnvelope: the hub's operator does not let any policy change go there.
	ReasonEnvelope
	// ReasonOperational: the operational policy forbids external proposals or commits.
	ReasonOperational
	// ReasonHubOnly: only the hub changes this.
	ReasonHubOnly

	// From here on the change makes no sense, whoever makes it; see [Reason.Invalid].

	// ReasonMalformed: data that cannot be read or contradicts itself.
	ReasonMalformed
	// ReasonUnknownRole: a role that is not defined.
	ReasonUnknownRole
	// ReasonAlreadyParticipant: the user to add is in the list.
	ReasonAlreadyParticipant
	// ReasonNotInList: the user to change is not in the list.
	ReasonNotInList
	// ReasonDuplicate: a user, or a component with one update, is changed twice.
	ReasonDuplicate
	// ReasonOutsiderClient: a client of somebody who is not in the participant list.
	ReasonOutsiderClient
	// ReasonClientsRemain: clients of a user remain whose role allows none.
	ReasonClientsRemain
	// ReasonMissingProposal: the commit leaves out a proposal that the hub accepted.
	ReasonMissingProposal
	// ReasonExternalCommit: a proposal that an external commit must not have, or one that it lacks.
	ReasonExternalCommit
	// ReasonUnknownProposal: a proposal type, component or change without a rule.
	ReasonUnknownProposal
)

var reasonNames = [...]string{
	"none", "not a participant", "blocked", "no capability", "no transition", "not preauthorized", "join code",
	"not active", "too few in role", "too many in role", "too few active in role", "too many active in role",
	"max users", "max clients", "single device", "fixed membership", "parent room", "combination", "immutable",
	"envelope", "operational policy", "hub only", "malformed", "unknown role", "already a participant",
	"not in list", "duplicate", "client of an outsider", "clients remain", "missing proposal", "external commit",
	"unknown proposal",
}

// String returns two or three words that can be shown to peers and used as a metric's label.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// Invalid tells whether the change makes no sense whoever makes it: a hub answers invalidProposal, and
// notAllowed otherwise (draft-ietf-mimi-protocol-06 §5.3, UpdateResponseCode).
func (r Reason) Invalid() bool { return r >= ReasonMalformed }

// Decision is whether a change is allowed and, if not, why.
type Decision struct {
	Allowed bool
	Reason  Reason
	// Capability is the one that the actor lacks, with ReasonNoCapability.
	Capability Capability
	// Detail says more for the log; it may hold user URIs.
	Detail string
}

// String describes the decision for the log.
func (d Decision) String() string {
	switch {
	case d.Allowed:
		return "allowed"
	case d.Reason == ReasonNoCapability:
		return fmt.Sprintf("%v %v: %s", d.Reason, d.Capability, d.Detail)
	default:
		return fmt.Sprintf("%v: %s", d.Reason, d.Detail)
	}
}

var allowed = Decision{Allowed: true}

func deny(r Reason, format string, args ...any) Decision {
	return Decision{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

func lacks(c Capability, format string, args ...any) Decision {
	return Decision{Reason: ReasonNoCapability, Capability: c, Detail: fmt.Sprintf(format, args...)}
}

// Actor is who makes a change.
type Actor struct {
	// URI is the user URI of the client that acts, octet for octet; for an external sender, its provider's URI.
	URI string
	// Claims of the actor's credential, for preauthorisation.
	Claims []Claim
	// External: an external sender (RFC 9420 §12.1.8), not a user. It acts in the role that preauthorisation
	// gives it.
	External bool
	// Hub: the external sender is the room's hub. Besides what its role allows, it may remove clients of users
	// who must not have any and keep the list of external senders.
	Hub bool
	// Trusted: all its changes are allowed as far as they make sense. A hub sets it for itself where the room is
	// its own, and a follower for the hub, which decides what the policy means.
	Trusted bool
}

// JoinCode is a joining code that the hub found to be valid.
type JoinCode struct {
	// Role is what the code is good for.
	Role uint32
}

// ChangeKind is what a Change does.
type ChangeKind uint8

const (
	// AddParticipant adds User in Role to the list, with Clients clients. By User itself it is Join.
	AddParticipant ChangeKind = iota
	// RemoveParticipant removes User and all its clients; by User itself it is leaving.
	RemoveParticipant
	// ChangeRole gives User the Role: a promotion or demotion, a ban (to role 1) or its end (from role 1).
	// A ban takes all clients of User.
	ChangeRole
	// Join adds the actor itself from outside in Role, perhaps by Code, with Clients clients.
	Join
	// AddClient adds Clients clients of User, who is in the list.
	AddClient
	// RemoveClient removes Clients clients of User and leaves the list as it is.
	RemoveClient
	// ChangeMetadata makes Metadata the room's metadata.
	ChangeMetadata
	// ChangeComponent makes a change to Component other than those above.
	ChangeComponent
	// RemoveComponent removes Component.
	RemoveComponent
	// SendMessage submits an application message.
	SendMessage
	// ReceiveMessage gets application messages.
	ReceiveMessage
	// Use needs Capability and nothing else: most of what receiving clients enforce.
	Use
	// TakePart needs no capability, only a participant who is not blocked.
	TakePart
	// ClaimKeyMaterial asks for KeyPackages of User to add its clients.
	ClaimKeyMaterial
	// FetchGroupInfo asks for the key information for an external commit, perhaps with Code.
	FetchGroupInfo
	// SendReInit proposes to start the group anew (RFC 9420 §12.1.5).
	SendReInit
	// ChangeGroupContext proposes other GroupContext extensions than the dictionary (RFC 9420 §12.1.7).
	ChangeGroupContext
	// DestroyRoom ends the room.
	DestroyRoom
)

// Change is something that an actor wants to do. Which fields count is said at the kinds.
type Change struct {
	Kind       ChangeKind
	User       string
	Role       uint32
	Clients    int
	Code       *JoinCode
	Metadata   *RoomMetaData
	Component  uint16
	Capability Capability
}
