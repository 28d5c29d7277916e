package mls

import (
	"fmt"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// Proposal is a change to the group (RFC 9420 §12.1, draft-ietf-mls-extensions-10 §2.8, §2.9, §4.3). Type says which
// of the other fields counts; a SelfRemove has none.
type Proposal struct {
	Type                   ProposalType
	Add                    *KeyPackage
	Update                 *LeafNode
	Remove                 LeafIndex
	PSK                    *PreSharedKeyID
	ReInit                 *ReInit
	ExternalInit           []byte // kem_output
	GroupContextExtensions Extensions
	AppDataUpdate          *AppDataUpdate
	AppEphemeral           *AppEphemeral
	Unknown                []byte // body of a proposal of unknown type, decoded on its own
}

// ReInit closes the group in favour of a new one (RFC 9420 §12.1.5).
type ReInit struct {
	GroupID    []byte
	Version    ProtocolVersion
	Suite      Suite
	Extensions Extensions
}

func readReInit(r *tlspl.Reader) *ReInit {
	return &ReInit{GroupID: r.Opaque(-1), Version: ProtocolVersion(r.Uint16()), Suite: Suite(r.Uint16()),
		Extensions: ReadExtensions(r)}
}

func (p *ReInit) append(b []byte) []byte {
	b = tlspl.AppendOpaque(b, p.GroupID)
	b = tlspl.AppendUint16(tlspl.AppendUint16(b, uint16(p.Version)), uint16(p.Suite))
	return p.Extensions.append(b)
}

// ReadProposal reads a Proposal from a stream. A proposal of unknown type has no end that could be found there:
// ErrUnknownProposal.
func ReadProposal(r *tlspl.Reader) Proposal {
	p := Proposal{Type: ProposalType(r.Uint16())}
	if !p.readBody(r) {
		r.Fail(fmt.Errorf("proposal type 0x%04x: %w", uint16(p.Type), ErrUnknownProposal))
	}
	return p
}

// readBody reads what follows the type and tells whether the type is known.
func (p *Proposal) readBody(r *tlspl.Reader) bool {
	switch p.Type {
	case ProposalAdd:
		kp := ReadKeyPackage(r)
		p.Add = &kp
	case ProposalUpdate:
		leaf := ReadLeafNode(r)
		p.Update = &leaf
	case ProposalRemove:
		p.Remove = LeafIndex(r.Uint32())
	case ProposalPSK:
		id := ReadPreSharedKeyID(r)
		p.PSK = &id
	case ProposalReInit:
		p.ReInit = readReInit(r)
	case ProposalExternalInit:
		p.ExternalInit = r.Opaque(-1)
	case ProposalGroupContextExtensions:
		p.GroupContextExtensions = ReadExtensions(r)
	case ProposalAppDataUpdate:
		p.AppDataUpdate = readAppDataUpdate(r)
	case ProposalAppEphemeral:
		p.AppEphemeral = readAppEphemeral(r)
	case ProposalSelfRemove:
	default:
		return false
	}
	return true
}

// UnmarshalProposal decodes a Proposal. One of unknown type keeps everything after the type in Unknown.
func UnmarshalProposal(b []byte) (*Proposal, error) {
	return decode("Proposal", b, func(r *tlspl.Reader) *Proposal {
		p := &Proposal{Type: ProposalType(r.Uint16())}
		if !p.readBody(r) {
			p.Unknown = r.Rest()
		}
		return p
	})
}

func (p *Proposal) append(b []byte) []byte {
	b = tlspl.AppendUint16(b, uint16(p.Type))
	switch p.Type {
	case ProposalAdd:
		return p.Add.append(b)
	case ProposalUpdate:
		return p.Update.append(b)
	case ProposalRemove:
		return tlspl.AppendUint32(b, uint32(p.Remove))
	case ProposalPSK:
		return p.PSK.append(b)
	case ProposalReInit:
		return p.ReInit.append(b)
	case ProposalExternalInit:
		return tlspl.AppendOpaque(b, p.ExternalInit)
	case ProposalGroupContextExtensions:
		return p.GroupContextExtensions.append(b)
	case ProposalAppDataUpdate:
		return p.AppDataUpdate.append(b)
	case ProposalAppEphemeral:
		return p.AppEphemeral.append(b)
	default:
		return append(b, p.Unknown...)
	}
}

// Marshal returns the encoding.
func (p *Proposal) Marshal() []byte { return p.append(nil) }

// Known tells whether the engine knows the type.
func (t ProposalType) Known() bool { return t >= ProposalAdd && t <= ProposalSelfRemove }

// proposalOrRefType tags a ProposalOrRef (RFC 9420 §12.4).
const (
	proposalByValue     = 1
	proposalByReference = 2
)

// ProposalOrRef is one entry of a Commit: a proposal, or the ProposalRef of one that was sent before.
type ProposalOrRef struct {
	Proposal *Proposal
	Ref      []byte
}

func readProposalOrRef(r *tlspl.Reader) ProposalOrRef {
	switch t := r.Uint8(); t {
	case proposalByValue:
		p := ReadProposal(r)
		return ProposalOrRef{Proposal: &p}
	case proposalByReference:
		return ProposalOrRef{Ref: r.Opaque(-1)}
	default:
		unknownValue(r, "ProposalOrRefType", uint64(t))
		return ProposalOrRef{}
	}
}

func (p *ProposalOrRef) append(b []byte) []byte {
	if p.Proposal != nil {
		return p.Proposal.append(append(b, proposalByValue))
	}
	return tlspl.AppendOpaque(append(b, proposalByReference), p.Ref)
}

// UpdatePath is the new path of a committer (RFC 9420 §7.6).
type UpdatePath struct {
	Leaf  LeafNode
	Nodes []UpdatePathNode // from the leaf's filtered direct path, bottom up
}

// UpdatePathNode is a new public key and, for each node of the copath's resolution, the encrypted path secret.
type UpdatePathNode struct {
	EncryptionKey []byte
	PathSecrets   []HPKECiphertext
}

func readUpdatePathNode(r *tlspl.Reader) UpdatePathNode {
	return UpdatePathNode{EncryptionKey: r.Opaque(-1), PathSecrets: readList(r, maxMembers, ReadHPKECiphertext)}
}

func (n *UpdatePathNode) append(b []byte) []byte {
	return appendList(tlspl.AppendOpaque(b, n.EncryptionKey), n.PathSecrets, (*HPKECiphertext).append)
}

// ReadUpdatePath reads an UpdatePath from a stream.
func ReadUpdatePath(r *tlspl.Reader) UpdatePath {
	return UpdatePath{Leaf: ReadLeafNode(r), Nodes: readList(r, maxPathNodes, readUpdatePathNode)}
}

// UnmarshalUpdatePath decodes an UpdatePath.
func UnmarshalUpdatePath(b []byte) (*UpdatePath, error) {
	p, err := decode("UpdatePath", b, ReadUpdatePath)
	if err != nil {
		return nil, err
	}
	return &p, nil
}

func (p *UpdatePath) append(b []byte) []byte {
	return appendList(p.Leaf.append(b), p.Nodes, (*UpdatePathNode).append)
}

// Marshal returns the encoding.
func (p *UpdatePath) Marshal() []byte { return p.append(nil) }

// Commit moves the group to the next epoch (RFC 9420 §12.4).
type Commit struct {
	Proposals []ProposalOrRef
	Path      *UpdatePath // nil when there is none
}

// ReadCommit reads a Commit from a stream.
func ReadCommit(r *tlspl.Reader) Commit {
	c := Commit{Proposals: readList(r, maxProposals, readProposalOrRef)}
	if r.Optional() {
		p := ReadUpdatePath(r)
		c.Path = &p
	}
	return c
}

// UnmarshalCommit decodes a Commit.
func UnmarshalCommit(b []byte) (*Commit, error) {
	c, err := decode("Commit", b, ReadCommit)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func (c *Commit) append(b []byte) []byte {
	b = appendList(b, c.Proposals, (*ProposalOrRef).append)
	return tlspl.AppendOptional(b, c.Path != nil, func(b []byte) []byte { return c.Path.append(b) })
}

// Marshal returns the encoding.
func (c *Commit) Marshal() []byte { return c.append(nil) }
