package wire

import (
	"crypto/hmac"
	"crypto/sha256"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// FrankingTag binds a message to a value that a hub can vouch for without reading it
// (draft-ietf-mimi-protocol-06 §5.4.1). It is also the FrankAAD, the SafeAAD item of component 0x0020.
type FrankingTag [32]byte

// NewFrankingTag returns HMAC-SHA256 of the whole application_data (with its ApplicationFraming, where the group uses
// that) under the salt of the content.
func NewFrankingTag(salt, applicationData []byte) (tag FrankingTag) {
	m := hmac.New(sha256.New, salt)
	m.Write(applicationData)
	m.Sum(tag[:0])
	return tag
}

// FrankingTagOf returns the tag in the authenticated data of a message, if there is one. Authenticated data that is no
// SafeAAD, or an item of another length, has none.
func FrankingTagOf(authenticatedData []byte) (tag FrankingTag, ok bool) {
	aad, err := mls.UnmarshalSafeAAD(authenticatedData)
	if err != nil {
		return tag, false
	}
	data, ok := aad.Get(mls.ComponentFrankAAD)
	if !ok || len(data) != len(tag) {
		return tag, false
	}
	return FrankingTag(data), true
}

// AuthenticatedData returns the authenticated data of a message that carries the tag and nothing else.
func (t FrankingTag) AuthenticatedData() []byte {
	return mls.SafeAAD{}.Set(mls.ComponentFrankAAD, t[:]).Marshal()
}

// FrankingContext is ServerFrankingContext: what a hub vouches for beside the tag.
type FrankingContext struct {
	SenderURI         IdentifierURI // octets as submitted
	RoomURI           IdentifierURI
	AcceptedTimestamp uint64 // milliseconds since 1970
}

func (c FrankingContext) append(b []byte) []byte {
	b = c.RoomURI.append(c.SenderURI.append(b))
	return tlspl.AppendUint64(b, c.AcceptedTimestamp)
}

// Marshal returns the encoding.
func (c FrankingContext) Marshal() []byte { return c.append(nil) }

// Frank is what a hub gives to the submitter and to every receiver of a message.
type Frank struct {
	ServerFrank [32]byte
	Suite       mls.Suite // of Signature: the group's when the message was accepted
	Signature   []byte    // franking_integrity_signature
}

func (f *Frank) append(b []byte) []byte {
	b = append(b, f.ServerFrank[:]...)
	b = tlspl.AppendUint16(b, uint16(f.Suite))
	return tlspl.AppendOpaque(b, f.Signature)
}

func readFrank(r *tlspl.Reader) Frank {
	var f Frank
	copy(f.ServerFrank[:], r.Bytes(len(f.ServerFrank)))
	f.Suite = mls.Suite(r.Uint16())
	f.Signature = r.Opaque(maxSignature)
	return f
}

// Marshal returns the encoding.
func (f *Frank) Marshal() []byte { return f.append(nil) }

// UnmarshalFrank decodes a Frank, for what was stored.
func UnmarshalFrank(b []byte) (*Frank, error) {
	r := tlspl.NewReader(b)
	f := readFrank(r)
	if err := finish("Frank", r); err != nil {
		return nil, err
	}
	return &f, nil
}

func appendOptionalFrank(b []byte, f *Frank) []byte {
	return tlspl.AppendOptional(b, f != nil, func(b []byte) []byte { return f.append(b) })
}

func readOptionalFrank(r *tlspl.Reader) *Frank {
	if !r.Optional() {
		return nil
	}
	f := readFrank(r)
	return &f
}

const labelFrankingIntegrity = "FrankingIntegrityTBS"

// integrityTBS is FrankingIntegrityTBS.
func (f *Frank) integrityTBS(c FrankingContext) []byte {
	b := append([]byte(nil), f.ServerFrank[:]...)
	return c.append(tlspl.AppendUint16(b, uint16(f.Suite)))
}

func serverFrank(hubKey mls.Secret, tag FrankingTag, c FrankingContext) (frank [32]byte) {
	m := hmac.New(sha256.New, hubKey)
	m.Write(tag[:])
	m.Write(c.Marshal())
	m.Sum(frank[:0])
	return frank
}

// NewFrank franks a message as its hub: server_frank under the hub's secret key (32 random bytes, known to nobody else),
// and the integrity signature under the key whose public half is in the group's franking agent component.
func NewFrank(hubKey mls.Secret, signatureKey *mls.SignatureKey, tag FrankingTag, c FrankingContext) (*Frank, error) {
	f := &Frank{ServerFrank: serverFrank(hubKey, tag, c), Suite: signatureKey.Suite()}
	sig, err := signatureKey.Sign(labelFrankingIntegrity, f.integrityTBS(c))
	if err != nil {
		return nil, err
	}
	f.Signature = sig
	return f, nil
}

// Verify checks the integrity signature as a receiver: suite is the group's (draft §5.4.1.3 demands that the frank's is the
// same), agentKey the signature key of its franking agent, and c is built from the decrypted message.
func (f *Frank) Verify(suite mls.Suite, agentKey []byte, c FrankingContext) error {
	if f.Suite != suite {
		return unverified("frank: suite 0x%04x is not the group's", uint16(f.Suite))
	}
	if err := mls.VerifyWithLabel(suite, agentKey, labelFrankingIntegrity, f.integrityTBS(c), f.Signature); err != nil {
		return unverified("frank: %w", err)
	}
	return nil
}

// Made tells, as the hub that is asked about a reported message, whether one of its secret keys made this frank for the
// tag and the context. Old keys are kept for it.
func (f *Frank) Made(hubKeys []mls.Secret, tag FrankingTag, c FrankingContext) bool {
	made := false
	for _, k := range hubKeys {
		want := serverFrank(k, tag, c)
		made = hmac.Equal(want[:], f.ServerFrank[:]) || made
	}
	return made
}

// FrankingAgent is FrankingAgentData: the data and the update of component 0x0021.
type FrankingAgent struct {
	SignatureKey []byte
	Credential   mls.Credential
}

// Marshal returns the encoding.
func (a *FrankingAgent) Marshal() []byte {
	return append(tlspl.AppendOpaque(nil, a.SignatureKey), a.Credential.Marshal()...)
}

// UnmarshalFrankingAgent decodes FrankingAgentData.
func UnmarshalFrankingAgent(b []byte) (*FrankingAgent, error) {
	r := tlspl.NewReader(b)
	a := &FrankingAgent{SignatureKey: r.Opaque(maxKey), Credential: mls.ReadCredential(r)}
	if err := finish("FrankingAgentData", r); err != nil {
		return nil, err
	}
	return a, nil
}
