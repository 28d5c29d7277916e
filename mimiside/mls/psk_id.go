package mls

import (
	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// PreSharedKeyID names a pre-shared key (RFC 9420 §8.4; type application: draft-ietf-mls-extensions-10 §2.6).
type PreSharedKeyID struct {
	Type      PSKType
	ID        []byte          // external and application: psk_id
	Component ComponentID     // application
	Usage     ResumptionUsage // resumption
	GroupID   []byte          // resumption: psk_group_id
	Epoch     uint64          // resumption: psk_epoch
	Nonce     []byte          // psk_nonce, as long as the suite's hash
}

// ReadPreSharedKeyID reads a PreSharedKeyID from a stream.
func ReadPreSharedKeyID(r *tlspl.Reader) PreSharedKeyID {
	id := PreSharedKeyID{Type: PSKType(r.Uint8())}
	switch id.Type {
	case PSKExternal:
		id.ID = r.Opaque(-1)
	case PSKResumption:
		id.Usage = ResumptionUsage(r.Uint8())
		if id.Usage < ResumptionApplication || id.Usage > ResumptionBranch {
			unknownValue(r, "resumption PSK usage", uint64(id.Usage))
		}
		id.GroupID = r.Opaque(-1)
		id.Epoch = r.Uint64()
	case PSKApplication:
		id.Component = ComponentID(r.Uint16())
		id.ID = r.Opaque(-1)
	default:
		unknownValue(r, "PSK type", uint64(id.Type))
	}
	id.Nonce = r.Opaque(-1)
	return id
}

// UnmarshalPreSharedKeyID decodes a PreSharedKeyID.
func UnmarshalPreSharedKeyID(b []byte) (PreSharedKeyID, error) {
	return decode("PreSharedKeyID", b, ReadPreSharedKeyID)
}

func (id *PreSharedKeyID) append(b []byte) []byte {
	b = append(b, byte(id.Type))
	switch id.Type {
	case PSKExternal:
		b = tlspl.AppendOpaque(b, id.ID)
	case PSKResumption:
		b = tlspl.AppendOpaque(append(b, byte(id.Usage)), id.GroupID)
		b = tlspl.AppendUint64(b, id.Epoch)
	case PSKApplication:
		b = tlspl.AppendOpaque(tlspl.AppendUint16(b, uint16(id.Component)), id.ID)
	}
	return tlspl.AppendOpaque(b, id.Nonce)
}

// Marshal returns the encoding.
func (id *PreSharedKeyID) Marshal() []byte { return id.append(nil) }
