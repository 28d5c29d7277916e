package policy

import (
	"github.com/matrix-mimi/bridge/internal/tlspl"
)

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
