package wire

import "github.com/matrix-mimi/bridge/internal/tlspl"

// UserDeleted tells other providers that a user does not exist any more (docs/extensions.md;
// draft-mahy-mimi-transport-design-reqs-00 §5):
//
//	struct { IdentifierUri userUri; uint64 timestamp; } UserDeleted;
type UserDeleted struct {
	UserURI   IdentifierURI
	Timestamp uint64 // milliseconds since 1970
}

// Marshal returns the encoding.
func (d *UserDeleted) Marshal() []byte { return tlspl.AppendUint64(d.UserURI.append(nil), d.Timestamp) }

// ReceivedUserDeleted is a message as it came, before anything was checked but its encoding.
type ReceivedUserDeleted struct{ message UserDeleted }

// UnmarshalUserDeleted decodes a message.
func UnmarshalUserDeleted(b []byte) (*ReceivedUserDeleted, error) {
	r := tlspl.NewReader(b)
	d := UserDeleted{UserURI: readURI(r), Timestamp: r.Uint64()}
	if err := finish("UserDeleted", r); err != nil {
		return nil, err
	}
	return &ReceivedUserDeleted{d}, nil
}

// Marshal returns the bytes that were decoded.
func (d *ReceivedUserDeleted) Marshal() []byte { return d.message.Marshal() }

// Check demands that the user is of the provider that says so.
func (d *ReceivedUserDeleted) Check(peer string) (*UserDeleted, error) {
	if err := checkURIOf("userUri", d.message.UserURI, peer, KindUser, KindPseudonym); err != nil {
		return nil, err
	}
	return &d.message, nil
}
