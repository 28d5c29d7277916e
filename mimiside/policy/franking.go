package policy

import (
	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// FrankAAD is the SafeAAD item of component 0x0020 in an application message (draft-ietf-mimi-protocol-06
// §5.4.1, FrankAAD): HMAC-SHA256 with the content's salt as key over the application data.
type FrankAAD struct {
	Tag [32]byte
}

// Marshal encodes the item: the 32 octets without a length.
func (f FrankAAD) Marshal() []byte { return f.Tag[:] }

// UnmarshalFrankAAD decodes the item.
func UnmarshalFrankAAD(b []byte) (FrankAAD, error) {
	if len(b) != 32 {
		return FrankAAD{}, malformed("frank_aad of %d octets", len(b))
	}
	return FrankAAD{Tag: [32]byte(b)}, nil
}

// FrankingAgentData is the data of component 0x0021, which the draft calls franking_agent and its registry
// franking_signature_key (draft-ietf-mimi-protocol-06 §5.4.1): the hub's key for signatures on franks. The
// update has the same structure.
type FrankingAgentData struct {
	// SignatureKey is a public key of the signature scheme of the group's ciphersuite.
	SignatureKey []byte
	// Credential is the encoded MLS Credential of the hub (RFC 9420 §5.3): type, then what the type defines.
	Credential []byte
}

// Marshal encodes the data.
func (f *FrankingAgentData) Marshal() []byte {
	return append(tlspl.AppendOpaque(nil, f.SignatureKey), f.Credential...)
}

// UnmarshalFrankingAgentData decodes the data. The credential is cut out, not checked.
func UnmarshalFrankingAgentData(b []byte) (*FrankingAgentData, error) {
	r := tlspl.NewReader(b)
	f := &FrankingAgentData{SignatureKey: append([]byte(nil), r.Opaque(MaxText)...), Credential: append([]byte(nil), r.Rest()...)}
	if err := finish("franking_agent", r); err != nil {
		return nil, err
	}
	if len(f.SignatureKey) == 0 || len(f.Credential) < 2 {
		return nil, malformed("franking_agent without a key or credential")
	}
	return f, nil
}
