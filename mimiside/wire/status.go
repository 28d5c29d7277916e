package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// StatusKind says what a Status is about (docs/extensions.md, current status).
type StatusKind uint8

// Kinds.
const (
	StatusTyping   StatusKind = 1
	StatusPresence StatusKind = 2
	StatusProfile  StatusKind = 3
)

// Presence is whether a user is there.
type Presence uint8

// Presences.
const (
	PresenceOffline     Presence = 0
	PresenceUnavailable Presence = 1
	PresenceOnline      Presence = 2
)

const (
	// MaxStatusText is the longest text of a status, name or address of a picture in octets.
	MaxStatusText = 1024
	// maxSealedStatus is the longest ciphertext.
	maxSealedStatus = 1 << 14
	// statusNonce is the length of an AES-GCM nonce.
	statusNonce = 12
)

// Status is how a user is now. The newest of a kind takes the place of those before; none is kept.
//
//	enum { typing(1), presence(2), profile(3), (255) } StatusKind;
//	struct {
//	  StatusKind kind;
//	  uint64 time;
//	  select (kind) {
//	    case typing: uint32 typingFor;
//	    case presence: Presence presence; opaque text<V>;
//	    case profile: opaque name<V>; opaque avatar<V>;
//	  };
//	} Status;
type Status struct {
	Kind StatusKind
	Time uint64 // milliseconds since 1970, by the clock of the user's provider
	// TypingFor is for how long the user is shown typing, in milliseconds; 0: not any more.
	TypingFor uint32
	Presence  Presence
	Text      string // of the presence
	Name      string // display name, "" for none
	Avatar    string // https address of the user's picture, "" for none
}

func (s *Status) append(b []byte) []byte {
	b = tlspl.AppendUint64(append(b, byte(s.Kind)), s.Time)
	switch s.Kind {
	case StatusTyping:
		b = tlspl.AppendUint32(b, s.TypingFor)
	case StatusPresence:
		b = tlspl.AppendString(append(b, byte(s.Presence)), s.Text)
	case StatusProfile:
		b = tlspl.AppendString(tlspl.AppendString(b, s.Name), s.Avatar)
	}
	return b
}

func readStatus(r *tlspl.Reader) Status {
	s := Status{Kind: readEnum(r, StatusTyping, StatusProfile), Time: r.Uint64()}
	switch s.Kind {
	case StatusTyping:
		s.TypingFor = r.Uint32()
	case StatusPresence:
		s.Presence, s.Text = readEnum(r, PresenceOffline, PresenceOnline), readStatusText(r)
	case StatusProfile:
		s.Name, s.Avatar = readStatusText(r), readStatusText(r)
	}
	return s
}

func readStatusText(r *tlspl.Reader) string { return string(r.Opaque(MaxStatusText)) }

// StatusMessage is a Status on its way through the hub, which passes the bytes on. Only members of the group in its epoch can
// read it, and the sender's client has signed it:
//
//	struct {
//	  uint64 epoch;
//	  uint32 sender_leaf;
//	  opaque nonce[12];
//	  opaque ciphertext<V>;
//	} StatusMessage;
//
// The ciphertext is AES-256-GCM of
//
//	struct { Status status; opaque signature<V>; opaque zeros<V>; } StatusTBE;
//
// under MLS-Exporter("mimi-bridge status", room URI, 32) of the epoch, with the room URI, epoch and sender_leaf
// (struct { opaque room<V>; uint64 epoch; uint32 sender_leaf; } StatusAAD) as additional data. The signature is
// SignWithLabel(leaf key, "mimi-bridge status", StatusAAD || Status). zeros bring all of it to a multiple of 256 octets.
type StatusMessage struct {
	Epoch      uint64
	Leaf       mls.LeafIndex
	Nonce      []byte
	Ciphertext []byte
}

// StatusLabel is the label of the key and of the signature.
const StatusLabel = "mimi-bridge status"

// StatusKeySize is the length of the key in octets.
const StatusKeySize = 32

// statusBlock is what the size of what is encrypted is a multiple of.
const statusBlock = 256

// Marshal returns the encoding.
func (m *StatusMessage) Marshal() []byte {
	b := tlspl.AppendUint32(tlspl.AppendUint64(nil, m.Epoch), uint32(m.Leaf))
	return tlspl.AppendOpaque(append(b, m.Nonce...), m.Ciphertext)
}

// UnmarshalStatusMessage decodes a message.
func UnmarshalStatusMessage(b []byte) (*StatusMessage, error) {
	r := tlspl.NewReader(b)
	m := &StatusMessage{Epoch: r.Uint64(), Leaf: mls.LeafIndex(r.Uint32()), Nonce: append([]byte(nil), r.Bytes(statusNonce)...)}
	m.Ciphertext = r.Opaque(maxSealedStatus)
	if err := finish("StatusMessage", r); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *StatusMessage) aad(room IdentifierURI) []byte {
	return tlspl.AppendUint32(tlspl.AppendUint64(room.append(nil), m.Epoch), uint32(m.Leaf))
}

// NewStatusMessage signs a status as a client of the group and encrypts it for the members. key is of StatusKeySize octets.
func NewStatusMessage(random io.Reader, room IdentifierURI, epoch uint64, leaf mls.LeafIndex, signer *mls.SignatureKey, key []byte, s *Status) (*StatusMessage, error) {
	m := &StatusMessage{Epoch: epoch, Leaf: leaf, Nonce: make([]byte, statusNonce)}
	if _, err := io.ReadFull(random, m.Nonce); err != nil {
		return nil, fmt.Errorf("seal a status: %w", err)
	}
	status := s.append(nil)
	sig, err := signer.Sign(StatusLabel, append(m.aad(room), status...))
	if err != nil {
		return nil, fmt.Errorf("seal a status: %w", err)
	}
	box, err := statusBox(key)
	if err != nil {
		return nil, fmt.Errorf("seal a status: %w", err)
	}
	plain := tlspl.AppendOpaque(status, sig)
	// The length of the zeros takes one octet up to 63 of them and two above.
	fill := (statusBlock - (len(plain)+1)%statusBlock) % statusBlock
	if fill == 64 {
		fill += statusBlock // 63 or 64 would both miss it
	}
	if fill > 63 {
		fill--
	}
	plain = tlspl.AppendOpaque(plain, make([]byte, fill))
	m.Ciphertext = box.Seal(nil, m.Nonce, plain, m.aad(room))
	return m, nil
}

func statusBox(key []byte) (cipher.AEAD, error) {
	if len(key) != StatusKeySize {
		return nil, fmt.Errorf("key of %d octets", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Open decrypts a message and verifies that the client of the leaf, whose signature key is public, has signed it.
func (m *StatusMessage) Open(room IdentifierURI, suite mls.Suite, public, key []byte) (*Status, error) {
	box, err := statusBox(key)
	if err != nil {
		return nil, unverified("StatusMessage: %w", err)
	}
	plain, err := box.Open(nil, m.Nonce, m.Ciphertext, m.aad(room))
	if err != nil {
		return nil, unverified("StatusMessage: %w", err)
	}
	r := tlspl.NewReader(plain)
	s := readStatus(r)
	sig, zeros := r.Opaque(maxSignature), r.Opaque(maxSealedStatus)
	for _, z := range zeros {
		if z != 0 {
			return nil, malformed("StatusTBE is padded with other than zeros")
		}
	}
	if err := finish("StatusTBE", r); err != nil {
		return nil, err
	}
	if err := mls.VerifyWithLabel(suite, public, StatusLabel, append(m.aad(room), s.append(nil)...), sig); err != nil {
		return nil, unverified("StatusMessage: %w", err)
	}
	return &s, nil
}
