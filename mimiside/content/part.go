package content

import "fmt"

// Disposition is what a part is meant for (draft-ietf-mimi-content-08, baseDispos).
type Disposition uint8

const (
	// Unspecified leaves open what the part is for.
	Unspecified Disposition = 0
	// Render leaves the presentation to the receiver.
	Render Disposition = 1
	// Reaction is one reaction to another message.
	Reaction Disposition = 2
	Profile  Disposition = 3
	// Inline is shown in the conversation itself.
	Inline Disposition = 4
	Icon   Disposition = 5
	// Attachment is downloaded on demand.
	Attachment Disposition = 6
	// Session describes a multimedia session or the URI to join one.
	Session Disposition = 7
	// Preview is a preview made by the sender.
	Preview Disposition = 8
)

// Semantics says how the parts of a MultiPart belong together (draft-ietf-mimi-content-08, partSemantics).
type Semantics uint8

const (
	// ChooseOne: the receiver processes exactly one part.
	ChooseOne Semantics = 0
	// SingleUnit: the receiver processes all parts as one, or none when it does not understand one of them.
	SingleUnit Semantics = 1
	// ProcessAll: the receiver processes every part that it understands.
	ProcessAll Semantics = 2
)

func (s Semantics) String() string {
	switch s {
	case ChooseOne:
		return "chooseOne"
	case SingleUnit:
		return "singleUnit"
	case ProcessAll:
		return "processAll"
	}
	return fmt.Sprintf("semantics %d", uint8(s))
}

// Part is a body part: a disposition, languages and one of four bodies (draft-ietf-mimi-content-08, NestedPart).
type Part struct {
	Disposition Disposition
	// Language is empty or a comma-separated list of RFC 5646 language tags.
	Language string
	// Body is a NullPart, SinglePart, ExternalPart or MultiPart, never nil and never a pointer.
	Body Body
}

// Body is one of NullPart, SinglePart, ExternalPart and MultiPart.
type Body interface{ cardinality() uint64 }

const (
	cardinalityNull     = 0
	cardinalitySingle   = 1
	cardinalityExternal = 2
	cardinalityMulti    = 3
)

// NullPart is no content: the body of a deletion (draft-ietf-mimi-content-08, NullPart).
type NullPart struct{}

// SinglePart is content inside the message (draft-ietf-mimi-content-08, SinglePart).
type SinglePart struct {
	// ContentType is an IANA media type with parameters; see [ParseMediaType].
	ContentType string
	Content     []byte
}

// ExternalPart is content at a URL, usually encrypted (draft-ietf-mimi-content-08, ExternalPart).
// [Seal] makes the encryption fields and [ExternalPart.Open] uses them.
type ExternalPart struct {
	ContentType string
	URL         string
	// Expires is when the content goes away, in seconds since 1970; 0 means never.
	Expires uint32
	// Size of the content at the URL in octets; 0 means unknown. Some senders state the plaintext's size.
	Size uint64
	// EncAlg is an IANA AEAD number; 0 means not encrypted, and Key, Nonce and AAD are empty then.
	EncAlg AEAD
	Key    []byte
	Nonce  []byte
	AAD    []byte
	// HashAlg is an IANA Named Information hash number; 0 means no hash.
	HashAlg HashAlgorithm
	// ContentHash is the hash of the content at the URL. Some senders state the plaintext's hash.
	ContentHash []byte
	Description string
	Filename    string
}

// String leaves the key out, so that a part can be logged.
func (p ExternalPart) String() string {
	return fmt.Sprintf("external part %q, %d octets, AEAD %d", p.ContentType, p.Size, p.EncAlg)
}

// GoString is String: %#v must not print the key either.
func (p ExternalPart) GoString() string { return p.String() }

// MultiPart is two or more parts (draft-ietf-mimi-content-08, MultiPart).
type MultiPart struct {
	Semantics Semantics
	Parts     []Part
}

func (NullPart) cardinality() uint64     { return cardinalityNull }
func (SinglePart) cardinality() uint64   { return cardinalitySingle }
func (ExternalPart) cardinality() uint64 { return cardinalityExternal }
func (MultiPart) cardinality() uint64    { return cardinalityMulti }
