package wire

import (
	"crypto/sha256"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// Bounds on what one body may hold. Bodies themselves are bounded by the server (32 MiB or 1 MiB).
const (
	maxProposals = 4096    // MLSMessages of one moreProposals, externalProposals or pending_proposals
	maxFanout    = 1024    // FanoutMessages of one notify
	maxSuites    = 64      // ciphersuites of one request
	maxClients   = 1024    // clients of one user
	maxElements  = 64      // elements of a query
	maxProfiles  = 1024    // profiles or URIs of a query's answer
	maxFields    = 256     // fields of a profile
	maxReported  = 256     // messages of an abuse report
	maxText      = 1 << 16 // bytes of a text
	maxKey       = 1 << 12 // bytes of a public key
	maxSignature = 1 << 14 // bytes of a signature
	maxCode      = 1 << 12 // bytes of a joining code
)

// Protocol is the end-to-end protocol of a room (draft-ietf-mimi-protocol-06 §5.2): one byte, unlike the
// ProtocolVersion of RFC 9420.
type Protocol uint8

// ProtocolMLS10 is MLS 1.0, the only one there is.
const ProtocolMLS10 Protocol = 1

// readProtocol reads a Protocol and refuses all but MLS 1.0.
func readProtocol(r *tlspl.Reader) {
	if p := Protocol(r.Uint8()); r.Err() == nil && p != ProtocolMLS10 {
		r.Fail(fmt.Errorf("%w: protocol %d", errUnknown, p))
	}
}

// Message is one MLSMessage: its exact bytes, and its parts as far as they are in the clear. It is not verified.
type Message struct {
	// Raw are the bytes as received or made. They are what is forwarded, hashed and handed to the engine.
	Raw []byte
	// MLS is the decoded message, nil for a SemiPrivateMessage.
	MLS *mls.MLSMessage
	// SemiPrivate is the clear part of a SemiPrivateMessage, nil for anything else.
	SemiPrivate *SemiPrivateMessage
}

// SemiPrivateMessage is the clear part of a SemiPrivateMessage (draft-mahy-mls-semiprivatemessage-07). The bridge does not
// offer the format; it reads the header so that refusing and forwarding work.
type SemiPrivateMessage struct {
	GroupID           []byte
	Epoch             uint64
	ContentType       mls.ContentType
	AuthenticatedData []byte
}

// ParseMessage reads one MLSMessage. It refuses trailing bytes and unknown wire formats.
func ParseMessage(b []byte) (Message, error) {
	r := tlspl.NewReader(b)
	m := readMessage(r)
	return m, finish("MLSMessage", r)
}

// NewMessage is ParseMessage for bytes that the engine made; it panics when they are no message.
func NewMessage(b []byte) Message {
	m, err := ParseMessage(b)
	if err != nil {
		panic(fmt.Sprintf("wire: the engine made no MLSMessage: %v", err))
	}
	return m
}

func readMessage(r *tlspl.Reader) Message {
	start := r.Offset()
	var m Message
	if head := r.Peek(4); head != nil && head[0] == 0 && head[1] == byte(mls.VersionMLS10) &&
		mls.WireFormat(uint16(head[2])<<8|uint16(head[3])) == mls.WireFormatSemiPrivateMessage {
		r.Bytes(4)
		m.SemiPrivate = readSemiPrivate(r)
	} else {
		v := mls.ReadMLSMessage(r)
		m.MLS = &v
	}
	m.Raw = r.Since(start)
	return m
}

func readSemiPrivate(r *tlspl.Reader) *SemiPrivateMessage {
	s := &SemiPrivateMessage{GroupID: r.Opaque(-1), Epoch: r.Uint64(), ContentType: mls.ContentType(r.Uint8()), AuthenticatedData: r.Opaque(-1)}
	r.Opaque(-1) // partial_context_hash
	for keys := r.Vector(-1); keys.More(); {
		keys.Opaque(-1) // external_receiver_ref
		mls.ReadHPKECiphertext(keys)
	}
	r.Opaque(-1) // framed_content_tbs_hash
	r.Opaque(-1) // encrypted_sender_data
	r.Opaque(-1) // ciphertext
	return s
}

func (m Message) append(b []byte) []byte { return append(b, m.Raw...) }

// Format returns the wire format, 0 for the zero Message.
func (m Message) Format() mls.WireFormat {
	switch {
	case m.SemiPrivate != nil:
		return mls.WireFormatSemiPrivateMessage
	case m.MLS != nil:
		return m.MLS.WireFormat
	}
	return 0
}

// framing returns what public, private and semi-private messages say in the clear; ok is false for the others.
func (m Message) framing() (group []byte, epoch uint64, content mls.ContentType, ok bool) {
	switch {
	case m.SemiPrivate != nil:
		return m.SemiPrivate.GroupID, m.SemiPrivate.Epoch, m.SemiPrivate.ContentType, true
	case m.MLS == nil:
	case m.MLS.Public != nil:
		c := &m.MLS.Public.Content
		return c.GroupID, c.Epoch, c.ContentType, true
	case m.MLS.Private != nil:
		return m.MLS.Private.GroupID, m.MLS.Private.Epoch, m.MLS.Private.ContentType, true
	}
	return nil, 0, 0, false
}

// GroupID returns the MLS group id, nil for a Welcome, a GroupInfo and a KeyPackage.
func (m Message) GroupID() []byte { group, _, _, _ := m.framing(); return group }

// Epoch returns the epoch that the message was made in, 0 for a Welcome, a GroupInfo and a KeyPackage.
func (m Message) Epoch() uint64 { _, epoch, _, _ := m.framing(); return epoch }

// Content returns the content type, 0 for a Welcome, a GroupInfo and a KeyPackage.
func (m Message) Content() mls.ContentType { _, _, content, _ := m.framing(); return content }

// AuthenticatedData returns the authenticated data of a framed message.
func (m Message) AuthenticatedData() []byte {
	switch {
	case m.SemiPrivate != nil:
		return m.SemiPrivate.AuthenticatedData
	case m.MLS == nil:
	case m.MLS.Public != nil:
		return m.MLS.Public.Content.AuthenticatedData
	case m.MLS.Private != nil:
		return m.MLS.Private.AuthenticatedData
	}
	return nil
}

// Hash returns the SHA-256 of the bytes, by which a repeated message is known.
func (m Message) Hash() [sha256.Size]byte { return sha256.Sum256(m.Raw) }

// handshake tells whether the message is a proposal or commit in a format that a hub can read.
func (m Message) handshake(content mls.ContentType) bool {
	f := m.Format()
	return (f == mls.WireFormatPublicMessage || f == mls.WireFormatSemiPrivateMessage) && m.Content() == content
}

func appendMessages(b []byte, list []Message) []byte {
	return tlspl.AppendVector(b, func(b []byte) []byte {
		for _, m := range list {
			b = m.append(b)
		}
		return b
	})
}

func readMessages(r *tlspl.Reader) []Message { return readVector(r, maxProposals, -1, readMessage) }

// checkProposals demands that every message is a proposal of the group in the epoch.
func checkProposals(what string, list []Message, group []byte, epoch uint64) error {
	for i, m := range list {
		if !m.handshake(mls.ContentProposal) {
			return malformed("%s %d is no proposal that a hub can read", what, i)
		}
		if string(m.GroupID()) != string(group) || m.Epoch() != epoch {
			return malformed("%s %d is of another group or epoch", what, i)
		}
	}
	return nil
}

// appendText appends `string`, which the draft does not define: opaque<V> in UTF-8.
func appendText(b []byte, s string) []byte { return tlspl.AppendString(b, s) }

func readText(r *tlspl.Reader) string { return string(r.Opaque(maxText)) }

// readDictionary reads an AppDataDictionary.
func readDictionary(r *tlspl.Reader) mls.AppDataDictionary {
	start := r.Offset()
	r.Opaque(-1)
	if r.Err() != nil {
		return nil
	}
	d, err := mls.UnmarshalAppDataDictionary(r.Since(start))
	if err != nil {
		r.Fail(err)
	}
	return d
}
