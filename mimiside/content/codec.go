package content

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// decMode decodes strictly. What it still lets pass (long forms, unsorted keys, tags around known types) is
// caught by checkDeterministic and by encoding again.
var decMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		IntDec:           cbor.IntDecConvertSignedOrFail,
		UTF8:             cbor.UTF8RejectInvalid,
		MaxNestedLevels:  maxCBORLevels,
		MaxArrayElements: MaxStatuses,
		MaxMapPairs:      MaxExtensions,
		TagsMd:           cbor.TagsAllowed,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constant
	}
	return mode
}()

// encMode encodes deterministically (RFC 8949 §4.2.1); empty and nil strings are the same.
var encMode = func() cbor.EncMode {
	opts := cbor.CoreDetEncOptions()
	opts.NilContainers = cbor.NilContainerAsEmpty
	mode, err := opts.EncMode()
	if err != nil {
		panic(err) // the options are constant
	}
	return mode
}()

func decodeError(what string, err error) error {
	var (
		dup   *cbor.DupMapKeyError
		indef *cbor.IndefiniteLengthError
		level *cbor.MaxNestedLevelError
		elems *cbor.MaxArrayElementsError
		pairs *cbor.MaxMapPairsError
	)
	kind := ErrMalformed
	switch {
	case errors.As(err, &dup), errors.As(err, &indef):
		kind = ErrNotDeterministic
	case errors.As(err, &level), errors.As(err, &elems), errors.As(err, &pairs):
		kind = ErrLimit
	}
	return fmt.Errorf("%w: %s: %w", kind, what, err)
}

// Marshal encodes the message in deterministic CBOR and refuses what Unmarshal would refuse.
// The octets are the input of [ID]; they must be sent unchanged.
func (m *Message) Marshal() ([]byte, error) {
	if err := m.check(MaxExtensionValue); err != nil {
		return nil, fmt.Errorf("encoding a message: %w", err)
	}
	b, err := m.encode()
	if err != nil {
		return nil, fmt.Errorf("encoding a message: %w", err)
	}
	if len(b) > MaxMessage {
		return nil, overLimit("message of %d octets", len(b))
	}
	return b, nil
}

// Unmarshal decodes a message: one CBOR item in deterministic encoding within all limits, that encodes to the
// same octets again. The result does not alias b. Messages from other providers go through [Receive] instead.
func Unmarshal(b []byte) (*Message, error) {
	m, err := unmarshal(b)
	if err != nil {
		return nil, fmt.Errorf("decoding a message: %w", err)
	}
	return m, nil
}

func unmarshal(b []byte) (*Message, error) {
	if len(b) > MaxMessage {
		return nil, overLimit("message of %d octets", len(b))
	}
	if err := checkDeterministic(b, maxCBORLevels); err != nil {
		return nil, err
	}
	fields, err := array("message", b, 7)
	if err != nil {
		return nil, err
	}
	m := new(Message)
	var salt []byte
	if err := scalar("salt", fields[0], majorBytes, &salt); err != nil {
		return nil, err
	}
	if len(salt) != len(m.Salt) {
		return nil, malformed("salt of %d octets", len(salt))
	}
	m.Salt = Salt(salt)
	if m.Replaces, err = optionalID("replaces", fields[1]); err != nil {
		return nil, err
	}
	if err := scalar("topicId", fields[2], majorBytes, &m.TopicID); err != nil {
		return nil, err
	}
	if m.Expires, err = parseExpiration(fields[3]); err != nil {
		return nil, err
	}
	if m.InReplyTo, err = optionalID("inReplyTo", fields[4]); err != nil {
		return nil, err
	}
	if m.Extensions, err = parseExtensions(fields[5]); err != nil {
		return nil, err
	}
	parts := 0
	if m.Body, err = parsePart(fields[6], 1, &parts); err != nil {
		return nil, err
	}
	if err := m.check(maxReceivedExtensionValue); err != nil {
		return nil, err
	}
	again, err := m.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: encodes to other octets", ErrNotDeterministic)
	}
	return m, nil
}

// check tests everything about a message that can be wrong before encoding and is not wrong by type.
func (m *Message) check(maxExtensionValue int) error {
	for _, id := range []MessageID{m.Replaces, m.InReplyTo} {
		if !id.IsZero() && !id.Known() {
			return discard("message id with unknown hash algorithm %d", id[0])
		}
	}
	if len(m.TopicID) > MaxTopicID {
		return fmt.Errorf("%w: %w", ErrDiscard, overLimit("topic id of %d octets", len(m.TopicID)))
	}
	if err := m.Extensions.check(maxExtensionValue); err != nil {
		return err
	}
	parts := 0
	return m.Body.check(1, &parts)
}

func (p *Part) check(level int, parts *int) error {
	if *parts++; *parts > MaxParts {
		return overLimit("more than %d parts", MaxParts)
	}
	if level > MaxPartLevels {
		return overLimit("parts nested more than %d levels deep", MaxPartLevels)
	}
	texts := []string{p.Language}
	switch body := p.Body.(type) {
	case NullPart:
	case SinglePart:
		texts = append(texts, body.ContentType)
	case ExternalPart:
		texts = append(texts, body.ContentType, body.URL, body.Description, body.Filename)
		if body.EncAlg == 0 && len(body.Key)+len(body.Nonce)+len(body.AAD) > 0 {
			return malformed("external part without encryption has a key, nonce or aad")
		}
	case MultiPart:
		if len(body.Parts) < 2 {
			return malformed("multipart of %d parts", len(body.Parts))
		}
		if body.Semantics > ProcessAll {
			return discard("multipart with unknown %v", body.Semantics)
		}
		for i := range body.Parts {
			if err := body.Parts[i].check(level+1, parts); err != nil {
				return err
			}
		}
	default:
		return malformed("part with body of type %T", body)
	}
	for _, s := range texts {
		if !utf8.ValidString(s) {
			return malformed("text that is not UTF-8 in part %d", *parts-1)
		}
	}
	return nil
}

func (m *Message) encode() ([]byte, error) {
	fields := []any{
		m.Salt[:], idValue(m.Replaces), m.TopicID, nil, idValue(m.InReplyTo),
		cbor.RawMessage(m.Extensions.append(nil)), m.Body.value(),
	}
	if m.Expires != nil {
		fields[3] = []any{m.Expires.Relative, m.Expires.Time}
	}
	return encMode.Marshal(fields)
}

func idValue(id MessageID) any {
	if id.IsZero() {
		return nil
	}
	return id[:]
}

// value returns the elements of the part in the draft's order (NestedPart).
func (p *Part) value() []any {
	head := []any{uint8(p.Disposition), p.Language, p.Body.cardinality()}
	switch body := p.Body.(type) {
	case SinglePart:
		return append(head, body.ContentType, body.Content)
	case ExternalPart:
		return append(head, body.ContentType, body.URL, body.Expires, body.Size, uint16(body.EncAlg), body.Key,
			body.Nonce, body.AAD, uint8(body.HashAlg), body.ContentHash, body.Description, body.Filename)
	case MultiPart:
		parts := make([]any, len(body.Parts))
		for i := range body.Parts {
			parts[i] = body.Parts[i].value()
		}
		return append(head, uint8(body.Semantics), parts)
	default:
		return head
	}
}

// scalar decodes raw, an item of the given major type, into the value that dst points to.
func scalar(what string, raw []byte, major byte, dst any) error {
	if raw[0]>>5 != major {
		return malformed("%s has CBOR major type %d", what, raw[0]>>5)
	}
	if err := decMode.Unmarshal(raw, dst); err != nil {
		return decodeError(what, err)
	}
	return nil
}

// array decodes raw as an array of n elements, or of any number when n is negative.
func array(what string, raw []byte, n int) ([]cbor.RawMessage, error) {
	var out []cbor.RawMessage
	if err := scalar(what, raw, majorArray, &out); err != nil {
		return nil, err
	}
	if n >= 0 && len(out) != n {
		return nil, malformed("%s has %d elements, not %d", what, len(out), n)
	}
	return out, nil
}

const cborNull = 0xf6

func isNull(raw []byte) bool { return len(raw) == 1 && raw[0] == cborNull }

func optionalID(what string, raw []byte) (MessageID, error) {
	if isNull(raw) {
		return MessageID{}, nil
	}
	var b []byte
	if err := scalar(what, raw, majorBytes, &b); err != nil {
		return MessageID{}, err
	}
	return ParseMessageID(b)
}

func parseExpiration(raw []byte) (*Expiration, error) {
	if isNull(raw) {
		return nil, nil
	}
	pair, err := array("expires", raw, 2)
	if err != nil {
		return nil, err
	}
	e := new(Expiration)
	if err := scalar("expires.relative", pair[0], 7, &e.Relative); err != nil {
		return nil, err
	}
	return e, scalar("expires.time", pair[1], majorUint, &e.Time)
}

func parsePart(raw []byte, level int, parts *int) (Part, error) {
	if *parts++; *parts > MaxParts {
		return Part{}, overLimit("more than %d parts", MaxParts)
	}
	if level > MaxPartLevels {
		return Part{}, overLimit("parts nested more than %d levels deep", MaxPartLevels)
	}
	elems, err := array("part", raw, -1)
	if err != nil {
		return Part{}, err
	}
	if len(elems) < 3 {
		return Part{}, malformed("part has %d elements", len(elems))
	}
	var p Part
	var cardinality uint64
	if err := errors.Join(
		scalar("disposition", elems[0], majorUint, (*uint8)(&p.Disposition)),
		scalar("language", elems[1], majorText, &p.Language),
		scalar("cardinality", elems[2], majorUint, &cardinality)); err != nil {
		return Part{}, err
	}
	switch rest := elems[3:]; {
	case cardinality == cardinalityNull && len(rest) == 0:
		p.Body = NullPart{}
	case cardinality == cardinalitySingle && len(rest) == 2:
		p.Body, err = parseSingle(rest)
	case cardinality == cardinalityExternal && len(rest) == 12:
		p.Body, err = parseExternal(rest)
	case cardinality == cardinalityMulti && len(rest) == 2:
		p.Body, err = parseMulti(rest, level, parts)
	default:
		err = malformed("part of cardinality %d has %d elements", cardinality, len(elems))
	}
	return p, err
}

func parseSingle(elems []cbor.RawMessage) (Body, error) {
	var p SinglePart
	err := errors.Join(
		scalar("contentType", elems[0], majorText, &p.ContentType),
		scalar("content", elems[1], majorBytes, &p.Content))
	return p, err
}

func parseExternal(elems []cbor.RawMessage) (Body, error) {
	var p ExternalPart
	err := errors.Join(
		scalar("contentType", elems[0], majorText, &p.ContentType),
		scalar("url", elems[1], majorText, &p.URL),
		scalar("expires", elems[2], majorUint, &p.Expires),
		scalar("size", elems[3], majorUint, &p.Size),
		scalar("encAlg", elems[4], majorUint, (*uint16)(&p.EncAlg)),
		scalar("key", elems[5], majorBytes, &p.Key),
		scalar("nonce", elems[6], majorBytes, &p.Nonce),
		scalar("aad", elems[7], majorBytes, &p.AAD),
		scalar("hashAlg", elems[8], majorUint, (*uint8)(&p.HashAlg)),
		scalar("contentHash", elems[9], majorBytes, &p.ContentHash),
		scalar("description", elems[10], majorText, &p.Description),
		scalar("filename", elems[11], majorText, &p.Filename))
	return p, err
}

func parseMulti(elems []cbor.RawMessage, level int, parts *int) (Body, error) {
	var p MultiPart
	if err := scalar("partSemantics", elems[0], majorUint, (*uint8)(&p.Semantics)); err != nil {
		return nil, err
	}
	children, err := array("parts", elems[1], -1)
	if err != nil {
		return nil, err
	}
	p.Parts = make([]Part, 0, min(len(children), MaxParts))
	for _, raw := range children {
		child, err := parsePart(raw, level+1, parts)
		if err != nil {
			return nil, err
		}
		p.Parts = append(p.Parts, child)
	}
	return p, nil
}
