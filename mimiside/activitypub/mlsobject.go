package activitypub

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// ErrMLSObject: an object that should carry MLS bytes does not. It is permanent.
var ErrMLSObject = errors.New("no MLS message in the object")

// maxMLS bounds the MLS bytes of one object in octets.
const maxMLS = 8 << 20

// MLSTypes are the types of objects that carry MLS bytes (MLS over ActivityPub, "Terms").
var MLSTypes = []string{"PublicMessage", "PrivateMessage", "Welcome", "GroupInfo", "KeyPackage"}

// MLSObject is an object with MLS bytes. What it is follows from the bytes; Label is what the sender called it, which may be
// wrong.
type MLSObject struct {
	ID, Label, AttributedTo string
	// Conversation is a hint of the sender (conversation, else context), never the group's identity.
	Conversation string
	// Bytes are what was decoded from base64; Hash is their SHA-256, the identity of the message.
	Bytes []byte
	Hash  [sha256.Size]byte
	// Message is set for everything framed as MLSMessage. A KeyPackage without frame has KeyPackage only.
	Message    *mls.MLSMessage
	KeyPackage *mls.KeyPackage
	// Suite is the ciphersuite property of a KeyPackage, as its sender wrote it; Client the name of its generator.
	Suite, Client string
}

// DecodeBase64 reads base64 of the standard or the URL alphabet, with or without padding and line breaks.
func DecodeBase64(s string) ([]byte, error) {
	if len(s) > maxMLS*4/3+4 {
		return nil, fmt.Errorf("%w: more than %d octets", ErrMLSObject, maxMLS)
	}
	s = strings.Map(func(r rune) rune {
		switch r {
		case '-':
			return '+'
		case '_':
			return '/'
		case '\r', '\n', ' ', '\t':
			return -1
		}
		return r
	}, s)
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%w: content is not base64", ErrMLSObject)
	}
	return b, nil
}

// ParseMLS reads the bytes of an MLS object: an MLSMessage of a wire format that is known, or a bare KeyPackage. Both forms
// are parsed to their end, since the first octets of one can be those of the other.
func ParseMLS(b []byte) (*mls.MLSMessage, *mls.KeyPackage, error) {
	if len(b) > maxMLS {
		return nil, nil, fmt.Errorf("%w: more than %d octets", ErrMLSObject, maxMLS)
	}
	if m, err := mls.UnmarshalMLSMessage(b); err == nil && m.Unknown == nil {
		return m, m.KeyPackage, nil
	}
	if kp, err := mls.UnmarshalKeyPackage(b); err == nil {
		return nil, kp, nil
	}
	return nil, nil, fmt.Errorf("%w: %d octets that are no MLS message", ErrMLSObject, len(b))
}

// IsMLSObject tells whether a node carries MLS bytes: by its type, or by its media type as some servers do with a Note.
func IsMLSObject(o Object) bool {
	return o.typeAmong(MLSTypes...) != "" || strings.HasPrefix(strings.ToLower(o.Str("mediaType")), typeMLS)
}

// ParseMLSObject reads a node that carries MLS bytes.
func ParseMLSObject(o Object) (*MLSObject, error) {
	if e := o.Str("encoding", "mls:encoding"); e != "" && !strings.EqualFold(e, "base64") {
		return nil, fmt.Errorf("%w: encoding %.40q", ErrMLSObject, e)
	}
	b, err := DecodeBase64(o.Str("content"))
	if err != nil {
		return nil, err
	}
	x := &MLSObject{ID: o.Str("id", "@id"), Label: o.typeAmong(MLSTypes...), AttributedTo: ref(o["attributedTo"]),
		Conversation: ref(o.get("conversation", "mls:conversation", "context")), Bytes: b, Hash: sha256.Sum256(b),
		Suite: o.Str("ciphersuite", "mls:ciphersuite"), Client: clientOf(o["generator"])}
	if x.Message, x.KeyPackage, err = ParseMLS(b); err != nil {
		return nil, err
	}
	return x, nil
}

// clientOf is the name of a generator, at most 100 octets of printable text.
func clientOf(v any) string {
	o, ok := v.(Object)
	if !ok {
		return ""
	}
	name := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, plain(firstOf(o.Str("name"), o.Str("id"))))
	return strings.ToValidUTF8(name[:min(len(name), 100)], "")
}

// MLSCarrier reads the MLS bytes of the object of an activity that is addressed to one of our channels or conversations: there
// a plain Note whose content decodes to a whole MLS message is one, too (AIM §5.2.2).
func MLSCarrier(o Object) (*MLSObject, error) {
	if IsMLSObject(o) || o.typeAmong("Note") != "" {
		return ParseMLSObject(o)
	}
	return nil, ErrMLSObject
}

// HandshakesOf are the groups whose commits and proposals an activity carries, itself or inside an Announce; nil when it carries anything else of MLS, or
// nothing. The activity need not be checked yet.
func (r *ReceivedActivity) HandshakesOf() [][]byte {
	o := r.raw
	if inner, ok := o["object"].(Object); ok && r.Type() == "Announce" {
		o = inner
	}
	commit, err := mlsProperty(o, commitNames...)
	if err != nil {
		return nil
	}
	list := [][]byte{commit}
	if object, ok := o["object"].(Object); ok && (IsMLSObject(object) || object.typeAmong("Note") != "") {
		b, err := DecodeBase64(object.Str("content"))
		if err != nil {
			return nil
		}
		list = append(list, b)
	}
	var groups [][]byte
	for _, b := range list {
		if b == nil {
			continue
		}
		m, _, err := ParseMLS(b)
		switch {
		case err != nil || m == nil:
			return nil
		case m.Private != nil && m.Private.ContentType != mls.ContentApplication:
			groups = append(groups, m.Private.GroupID)
		case m.Public != nil && m.Public.Content.ContentType != mls.ContentApplication:
			groups = append(groups, m.Public.Content.GroupID)
		default:
			return nil
		}
	}
	return groups
}

// kind is the type under which MLS bytes are sent.
func kindOf(b []byte) string {
	m, kp, err := ParseMLS(b)
	switch {
	case err != nil:
		return ""
	case kp != nil:
		return "KeyPackage"
	case m.Public != nil:
		return "PublicMessage"
	case m.Private != nil:
		return "PrivateMessage"
	case m.Welcome != nil:
		return "Welcome"
	}
	return "GroupInfo"
}

// suiteName is the name of a ciphersuite in the IANA registry, which some clients demand beside a KeyPackage.
func suiteName(s mls.Suite) string {
	switch s {
	case mls.SuiteX25519AES128Ed25519:
		return "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"
	case 0x0002:
		return "MLS_128_DHKEMP256_AES128GCM_SHA256_P256"
	case 0x0003:
		return "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519"
	case 0x0005:
		return "MLS_256_DHKEMP521_AES256GCM_SHA512_P521"
	case 0x0007:
		return "MLS_256_DHKEMP384_AES256GCM_SHA384_P384"
	}
	return fmt.Sprintf("0x%04X", uint16(s))
}

// HashOf is the identity of MLS bytes: their SHA-256.
func HashOf(octets []byte) [sha256.Size]byte { return sha256.Sum256(octets) }

// HashBytes is HashOf as a slice.
func HashBytes(octets []byte) []byte { h := sha256.Sum256(octets); return h[:] }
