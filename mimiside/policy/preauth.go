package policy

import (
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// ClaimID names a property of an MLS credential (draft-ietf-mimi-room-policy-03, ClaimId).
type ClaimID struct {
	// CredentialType is the MLS credential type that the claim is read from: 1 basic, 2 x509.
	CredentialType uint16
	// ID is the octets of an X.509 OID, a JWT claim name, or the CBOR map key of a CWT.
	ID string
}

// Claim is a property with its value (draft-ietf-mimi-room-policy-03, Claim).
type Claim struct {
	ID    ClaimID
	Value string
}

// PreAuthRoleEntry gives a role to whoever has all claims of a set (draft-ietf-mimi-room-policy-03,
// PreAuthRoleEntry). The structure embeds a whole Role, but only its index counts: the rest stands in the roles list.
type PreAuthRoleEntry struct {
	Claims     []Claim
	TargetRole Role
}

// PreAuthData is the data of component 0x0026 and its update, which replaces everything
// (draft-ietf-mimi-room-policy-03, PreAuthData and PreAuthUpdate).
type PreAuthData []PreAuthRoleEntry

// Marshal encodes the entries.
func (d PreAuthData) Marshal() []byte {
	return appendList(nil, d, func(b []byte, e PreAuthRoleEntry) []byte {
		b = appendList(b, e.Claims, func(b []byte, c Claim) []byte {
			b = tlspl.AppendString(tlspl.AppendUint16(b, c.ID.CredentialType), c.ID.ID)
			return tlspl.AppendString(b, c.Value)
		})
		return e.TargetRole.append(b)
	})
}

// UnmarshalPreAuthData decodes entries.
func UnmarshalPreAuthData(b []byte) (PreAuthData, error) {
	r := tlspl.NewReader(b)
	d := PreAuthData(readList(r, MaxList, func(r *tlspl.Reader) PreAuthRoleEntry {
		return PreAuthRoleEntry{
			Claims: readList(r, MaxList, func(r *tlspl.Reader) Claim {
				return Claim{ID: ClaimID{CredentialType: r.Uint16(), ID: string(r.Opaque(MaxText))}, Value: string(r.Opaque(MaxText))}
			}),
			TargetRole: readRole(r),
		}
	}))
	if err := finish("preauth_list", r); err != nil {
		return nil, err
	}
	return d, nil
}

// Match returns the target role of the first entry whose claims are all among those of a credential.
// An entry without claims matches every credential, as the draft's wording has it.
func (d PreAuthData) Match(credential []Claim) (role uint32, ok bool) {
	for _, e := range d {
		all := true
		for _, c := range e.Claims {
			if !slices.Contains(credential, c) {
				all = false
				break
			}
		}
		if all {
			return e.TargetRole.Index, true
		}
	}
	return 0, false
}
