package policy

import (
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// BaseRoomPolicy is the data of component 0x0027 and its update, which replaces everything
// (draft-ietf-mimi-room-policy-03, BaseRoomPolicy).
type BaseRoomPolicy struct {
	// FixedMembership: nobody is added, leaves or is removed (direct messages).
	FixedMembership bool
	// ParentDependent: all participants are participants of ParentRoom, too. The draft's struct writes parent_dependant.
	ParentDependent bool
	// ParentRoom is the URI of the parent room, empty without one.
	ParentRoom string
	// MultiDevice: a user may have several clients in the group.
	MultiDevice bool
	// MaxClients bounds the clients in the group; nil means no bound.
	MaxClients *uint32
	// MaxUsers bounds the participants who are not banned; nil means no bound.
	MaxUsers *uint32
	// PseudonymsAllowed: credentials may be pseudonymous.
	PseudonymsAllowed bool
	// PersistentRoom: the room outlives its last client.
	PersistentRoom bool
	// Discoverable: the room can be found by searching.
	Discoverable bool
	// PolicyComponents lists the other policy components that are in force; one that is not listed is not enforced.
	PolicyComponents []uint16
}

// Marshal encodes the policy. The parent room is encoded as the draft writes it, "Uri parent_room<V>": a
// vector of Uri structures, empty without a parent.
func (p *BaseRoomPolicy) Marshal() []byte {
	b := appendBool(appendBool(nil, p.FixedMembership), p.ParentDependent)
	b = appendURIVector(b, p.ParentRoom)
	b = appendBool(b, p.MultiDevice)
	b = appendOptional32(appendOptional32(b, p.MaxClients), p.MaxUsers)
	b = appendBool(appendBool(appendBool(b, p.PseudonymsAllowed), p.PersistentRoom), p.Discoverable)
	return appendList(b, p.PolicyComponents, tlspl.AppendUint16)
}

// UnmarshalBaseRoomPolicy decodes a policy; the parent room may also be one Uri without the vector around it.
func UnmarshalBaseRoomPolicy(b []byte) (*BaseRoomPolicy, error) {
	r := tlspl.NewReader(b)
	p := &BaseRoomPolicy{
		FixedMembership:   readBool(r),
		ParentDependent:   readBool(r),
		ParentRoom:        readURIVector(r),
		MultiDevice:       readBool(r),
		MaxClients:        readOptional32(r),
		MaxUsers:          readOptional32(r),
		PseudonymsAllowed: readBool(r),
		PersistentRoom:    readBool(r),
		Discoverable:      readBool(r),
		PolicyComponents:  readList(r, MaxList, readUint16),
	}
	if err := finish("base_room_policy", r); err != nil {
		return nil, err
	}
	if p.ParentDependent && p.ParentRoom == "" {
		return nil, malformed("base_room_policy: parent-dependent without a parent room")
	}
	return p, nil
}

// Enforces tells whether the policy lists the component.
func (p *BaseRoomPolicy) Enforces(component uint16) bool {
	return slices.Contains(p.PolicyComponents, component)
}

// appendURIVector appends "Uri x<V>" with no or one element.
func appendURIVector(b []byte, uri string) []byte {
	return tlspl.AppendVector(b, func(b []byte) []byte {
		if uri == "" {
			return b
		}
		return tlspl.AppendString(b, uri)
	})
}

// readURIVector reads "Uri x<V>", which the draft writes where its prose means one Uri: a vector that holds
// one Uri structure, or the octets of the URI themselves.
func readURIVector(r *tlspl.Reader) string {
	body := r.Opaque(MaxURI + 4)
	if len(body) == 0 {
		return ""
	}
	inner := tlspl.NewReader(body)
	if uri := readURI(inner); inner.Close() == nil {
		return uri
	}
	bare := tlspl.NewReader(tlspl.AppendOpaque(nil, body))
	uri := readURI(bare)
	if err := bare.Err(); err != nil {
		r.Fail(err)
	}
	return uri
}
