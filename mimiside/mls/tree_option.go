package mls

import (
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// PartialGroupInfo is a GroupInfo without what a hub knows (draft-mahy-mls-ratchet-tree-options): see Full.
type PartialGroupInfo struct {
	Presence   RatchetTreePresence
	Extensions Extensions // of the GroupInfo, ratchet_tree left out
	Signature  []byte
}

// ReadPartialGroupInfo reads a PartialGroupInfo from a stream.
func ReadPartialGroupInfo(r *tlspl.Reader) PartialGroupInfo {
	p := PartialGroupInfo{Presence: RatchetTreePresence(r.Uint8())}
	if p.Presence > RatchetTreeAdded {
		unknownValue(r, "ratchet_tree_presence", uint64(p.Presence))
	}
	p.Extensions = ReadExtensions(r)
	p.Signature = r.Opaque(-1)
	return p
}

// UnmarshalPartialGroupInfo decodes a PartialGroupInfo.
func UnmarshalPartialGroupInfo(b []byte) (*PartialGroupInfo, error) {
	p, err := decode("PartialGroupInfo", b, ReadPartialGroupInfo)
	if err != nil {
		return nil, err
	}
	return &p, nil
}

// Marshal returns the encoding.
func (p *PartialGroupInfo) Marshal() []byte {
	return tlspl.AppendOpaque(p.Extensions.append([]byte{byte(p.Presence)}), p.Signature)
}

// Full rebuilds the GroupInfo from what a hub knows after a commit: the new GroupContext, the confirmation tag and the
// committer of the commit, the committer's signature key, and the content of the ratchet_tree extension of the new
// epoch, which counts only when Presence says that the GroupInfo has one. The signature is verified. The draft does
// not say where in the list ratchet_tree stands, so its end and its beginning are both tried.
func (p *PartialGroupInfo) Full(context GroupContext, confirmationTag []byte, committer LeafIndex,
	signatureKey, tree []byte) (*GroupInfo, error) {
	const op = "rebuild GroupInfo"
	if _, ok := p.Extensions.Find(ExtensionRatchetTree); ok {
		return nil, failf(KindInvalid, op, ErrOrder, "ratchet_tree must be left out")
	}
	candidates := []Extensions{p.Extensions}
	if p.Presence == RatchetTreePresent || p.Presence == RatchetTreeAdded {
		if tree == nil {
			return nil, failf(KindMissing, op, ErrEmpty, "ratchet tree")
		}
		ext := Extension{Type: ExtensionRatchetTree, Data: tree}
		candidates = []Extensions{append(slices.Clone(p.Extensions), ext), append(Extensions{ext}, p.Extensions...)}
	}
	var err error
	for _, extensions := range candidates {
		g := &GroupInfo{Context: context, Extensions: extensions, ConfirmationTag: confirmationTag, Signer: committer,
			Signature: p.Signature}
		if err = g.Verify(signatureKey); err == nil {
			g.raw = g.appendFields(nil)
			return g, nil
		}
	}
	return nil, fail(KindInvalid, op, err)
}

// Partial returns g as a PartialGroupInfo; previousTree says whether the GroupInfo of the epoch before had a
// ratchet_tree extension.
func (g *GroupInfo) Partial(previousTree bool) *PartialGroupInfo {
	p := &PartialGroupInfo{Extensions: g.Extensions, Signature: g.Signature}
	_, tree := g.Extensions.Find(ExtensionRatchetTree)
	switch {
	case tree:
		p.Extensions = g.Extensions.Without(ExtensionRatchetTree)
		p.Presence = RatchetTreeAdded
		if previousTree {
			p.Presence = RatchetTreePresent
		}
	case previousTree:
		p.Presence = RatchetTreeRemoved
	}
	return p
}

// RatchetTreeOption says where the ratchet tree of a GroupInfo or Welcome is (draft-mahy-mls-ratchet-tree-options).
type RatchetTreeOption struct {
	Representation RatchetTreeRepresentation
	Tree           []byte // full: the content of the ratchet_tree extension, its vector header included
	URL            []byte // httpsUri
	TreeSignature  []byte // httpsUri, outOfBand
}

// ReadRatchetTreeOption reads a RatchetTreeOption from a stream. The nodes of a full tree are left undecoded.
func ReadRatchetTreeOption(r *tlspl.Reader) RatchetTreeOption {
	o := RatchetTreeOption{Representation: RatchetTreeRepresentation(r.Uint8())}
	switch o.Representation {
	case RatchetTreeFull:
		start := r.Offset()
		r.Opaque(-1)
		o.Tree = r.Since(start)
	case RatchetTreeHTTPSURI:
		o.URL, o.TreeSignature = r.Opaque(-1), r.Opaque(-1)
	case RatchetTreeOutOfBand:
		o.TreeSignature = r.Opaque(-1)
	case RatchetTreeDistributionService:
	default:
		unknownValue(r, "ratchet tree representation", uint64(o.Representation))
	}
	return o
}

// UnmarshalRatchetTreeOption decodes a RatchetTreeOption.
func UnmarshalRatchetTreeOption(b []byte) (*RatchetTreeOption, error) {
	o, err := decode("RatchetTreeOption", b, ReadRatchetTreeOption)
	if err != nil {
		return nil, err
	}
	return &o, nil
}

// Append appends the encoding to b.
func (o *RatchetTreeOption) Append(b []byte) []byte {
	b = append(b, byte(o.Representation))
	switch o.Representation {
	case RatchetTreeFull:
		b = append(b, o.Tree...)
	case RatchetTreeHTTPSURI:
		b = tlspl.AppendOpaque(tlspl.AppendOpaque(b, o.URL), o.TreeSignature)
	case RatchetTreeOutOfBand:
		b = tlspl.AppendOpaque(b, o.TreeSignature)
	}
	return b
}

// Marshal returns the encoding.
func (o *RatchetTreeOption) Marshal() []byte { return o.Append(nil) }
