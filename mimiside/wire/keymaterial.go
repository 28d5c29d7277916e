package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// ErrProtocol: the room is to use another protocol than MLS 1.0. A KeyMaterialRequest with it is answered with
// incompatibleProtocol.
var ErrProtocol = errors.New("protocol is not MLS 1.0")

// KeyMaterialRequest claims KeyPackages of all clients of one user (draft-ietf-mimi-protocol-06 §5.2):
//
//	struct {
//	  Protocol protocol;
//	  IdentifierUri requestingUser;
//	  IdentifierUri targetUser;
//	  IdentifierUri roomId;
//	  select (protocol) { case mls10:
//	    CipherSuite acceptableCiphersuites<V>;
//	    RequiredCapabilities requiredCapabilities;
//	    SignaturePublicKey requesterSignatureKey;
//	    Credential requesterCredential;
//	    opaque key_material_request_signature<V>;
//	  };
//	} KeyMaterialRequest;
//
// The signature is by the label "KeyMaterialRequestTBS" over everything before it, in the signature scheme of the first
// ciphersuite. A hub passes the bytes on unchanged.
type KeyMaterialRequest struct {
	RequestingUser        IdentifierURI
	TargetUser            IdentifierURI
	RoomID                IdentifierURI // empty: outside of any room
	AcceptableSuites      []mls.Suite   // the requester's order
	RequiredCapabilities  mls.RequiredCapabilities
	RequesterSignatureKey []byte
	RequesterCredential   mls.Credential
	Signature             []byte
}

const labelKeyMaterialRequest = "KeyMaterialRequestTBS"

func (q *KeyMaterialRequest) tbs() []byte {
	b := []byte{byte(ProtocolMLS10)}
	return q.appendRequester(q.RoomID.append(q.TargetUser.append(q.RequestingUser.append(b))))
}

// appendRequester appends what the requester can take, and who it is.
func (q *KeyMaterialRequest) appendRequester(b []byte) []byte {
	b = tlspl.AppendVector(b, func(b []byte) []byte {
		for _, s := range q.AcceptableSuites {
			b = tlspl.AppendUint16(b, uint16(s))
		}
		return b
	})
	b = append(b, q.RequiredCapabilities.Marshal()...)
	b = tlspl.AppendOpaque(b, q.RequesterSignatureKey)
	return append(b, q.RequesterCredential.Marshal()...)
}

// Sign sets the requester's key and signature. The first acceptable ciphersuite must be the key's.
func (q *KeyMaterialRequest) Sign(key *mls.SignatureKey) error {
	if len(q.AcceptableSuites) == 0 || q.AcceptableSuites[0] != key.Suite() {
		return errors.New("sign KeyMaterialRequest: the first ciphersuite is not the key's")
	}
	q.RequesterSignatureKey = key.Public()
	sig, err := key.Sign(labelKeyMaterialRequest, q.tbs())
	if err != nil {
		return fmt.Errorf("sign KeyMaterialRequest: %w", err)
	}
	q.Signature = sig
	return nil
}

// Marshal returns the encoding.
func (q *KeyMaterialRequest) Marshal() []byte { return tlspl.AppendOpaque(q.tbs(), q.Signature) }

// ReceivedKeyMaterialRequest is a request as it came, before anything was checked but its encoding.
type ReceivedKeyMaterialRequest struct {
	request  KeyMaterialRequest
	protocol Protocol
	rest     []byte // what follows roomId in a request for another protocol
	raw      []byte
}

// UnmarshalKeyMaterialRequest decodes a request. For another protocol only the common part is read.
func UnmarshalKeyMaterialRequest(b []byte) (*ReceivedKeyMaterialRequest, error) {
	r := tlspl.NewReader(b)
	q := &ReceivedKeyMaterialRequest{protocol: Protocol(r.Uint8()), raw: b}
	k := &q.request
	k.RequestingUser, k.TargetUser, k.RoomID = readURI(r), readURI(r), readURI(r)
	if q.protocol == ProtocolMLS10 {
		k.readRequester(r)
		k.Signature = r.Opaque(maxSignature)
	} else {
		q.rest = r.Rest()
	}
	if err := finish("KeyMaterialRequest", r); err != nil {
		return nil, err
	}
	return q, nil
}

// readRequester reads what appendRequester appends.
func (q *KeyMaterialRequest) readRequester(r *tlspl.Reader) {
	q.AcceptableSuites = readVector(r, maxSuites, -1, func(r *tlspl.Reader) mls.Suite { return mls.Suite(r.Uint16()) })
	q.RequiredCapabilities = readRequiredCapabilities(r)
	q.RequesterSignatureKey = r.Opaque(maxKey)
	q.RequesterCredential = mls.ReadCredential(r)
}

// readRequiredCapabilities reads RequiredCapabilities, three vectors (RFC 9420 §11.1).
func readRequiredCapabilities(r *tlspl.Reader) mls.RequiredCapabilities {
	start := r.Offset()
	for range 3 {
		r.Opaque(-1)
	}
	if r.Err() != nil {
		return mls.RequiredCapabilities{}
	}
	c, err := mls.UnmarshalRequiredCapabilities(r.Since(start))
	if err != nil {
		r.Fail(err)
	}
	return c
}

// Marshal returns the bytes that were decoded. They are what a hub forwards.
func (q *ReceivedKeyMaterialRequest) Marshal() []byte {
	if q.protocol == ProtocolMLS10 {
		return q.request.Marshal()
	}
	k := &q.request
	b := k.RoomID.append(k.TargetUser.append(k.RequestingUser.append([]byte{byte(q.protocol)})))
	return append(b, q.rest...)
}

// Raw returns the body as it came.
func (q *ReceivedKeyMaterialRequest) Raw() []byte { return q.raw }

// TargetUser returns whose KeyPackages are asked for. The provider that is asked is found by it.
func (q *ReceivedKeyMaterialRequest) TargetUser() IdentifierURI { return q.request.TargetUser }

// Check demands well-formed identifiers and a valid signature; ErrProtocol for another protocol than MLS 1.0. Whether
// the credential names requestingUser, and whether the sender may speak for it, is judged by the caller.
func (q *ReceivedKeyMaterialRequest) Check() (*KeyMaterialRequest, error) {
	k := &q.request
	if err := checkURI("requestingUser", k.RequestingUser, KindUser, KindPseudonym); err != nil {
		return nil, err
	}
	if err := checkURI("targetUser", k.TargetUser, KindUser, KindPseudonym); err != nil {
		return nil, err
	}
	if k.RoomID != "" {
		if err := checkURI("roomId", k.RoomID, KindRoom); err != nil {
			return nil, err
		}
	}
	if q.protocol != ProtocolMLS10 {
		return nil, malformed("KeyMaterialRequest: %w", ErrProtocol)
	}
	if len(k.AcceptableSuites) == 0 {
		return nil, malformed("KeyMaterialRequest accepts no ciphersuite")
	}
	if err := k.verify("KeyMaterialRequest", labelKeyMaterialRequest, k.tbs(), k.Signature); err != nil {
		return nil, err
	}
	return k, nil
}

// verify checks a signature of the requester. A GREASE value or a suite that we lack may come first among those that are
// acceptable; the first one that we have stands for the scheme then.
func (q *KeyMaterialRequest) verify(name, label string, tbs, signature []byte) error {
	for _, suite := range q.AcceptableSuites {
		if suite.Check() != nil {
			continue
		}
		if err := mls.VerifyWithLabel(suite, q.RequesterSignatureKey, label, tbs, signature); err != nil {
			return unverified("%s: %w", name, err)
		}
		return nil
	}
	return unverified("%s: no ciphersuite of it is known", name)
}

// KeyMaterialUserCode is the outcome for the user.
type KeyMaterialUserCode uint8

// Outcomes for the user.
const (
	KeyMaterialSuccess              KeyMaterialUserCode = 0
	KeyMaterialPartialSuccess       KeyMaterialUserCode = 1
	KeyMaterialIncompatibleProtocol KeyMaterialUserCode = 2
	KeyMaterialNoCompatibleMaterial KeyMaterialUserCode = 3 // also when all clients are exhausted
	KeyMaterialUserUnknown          KeyMaterialUserCode = 4
	KeyMaterialNoConsent            KeyMaterialUserCode = 5
	KeyMaterialNoConsentForThisRoom KeyMaterialUserCode = 6
	KeyMaterialUserDeleted          KeyMaterialUserCode = 7
)

// String returns the draft's name of the code.
func (c KeyMaterialUserCode) String() string {
	names := [...]string{"success", "partialSuccess", "incompatibleProtocol", "noCompatibleMaterial", "userUnknown", "noConsent",
		"noConsentForThisRoom", "userDeleted"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("KeyMaterialUserCode(%d)", uint8(c))
}

// KeyMaterialClientCode is the outcome for one client.
type KeyMaterialClientCode uint8

// Outcomes for one client.
const (
	ClientSuccess              KeyMaterialClientCode = 0
	ClientKeyMaterialExhausted KeyMaterialClientCode = 1
	ClientNothingCompatible    KeyMaterialClientCode = 2
)

// ClientKeyMaterial is the answer for one client:
//
//	struct {
//	  KeyMaterialClientCode clientStatus;
//	  IdentifierUri clientUri;
//	  select (clientStatus) {
//	    case success:           KeyPackage keyPackage;
//	    case nothingCompatible: optional<Capabilities> clientCapabilities;
//	  };
//	} ClientKeyMaterial;
type ClientKeyMaterial struct {
	Status       KeyMaterialClientCode
	ClientURI    IdentifierURI
	KeyPackage   *mls.KeyPackage   // success
	Capabilities *mls.Capabilities // nothingCompatible, if told
}

func (c *ClientKeyMaterial) append(b []byte) []byte {
	b = c.ClientURI.append(append(b, byte(c.Status)))
	switch c.Status {
	case ClientSuccess:
		b = append(b, c.KeyPackage.Marshal()...)
	case ClientNothingCompatible:
		b = tlspl.AppendOptional(b, c.Capabilities != nil, func(b []byte) []byte { return append(b, c.Capabilities.Marshal()...) })
	}
	return b
}

func readClientKeyMaterial(r *tlspl.Reader) ClientKeyMaterial {
	c := ClientKeyMaterial{Status: readEnum(r, ClientSuccess, ClientNothingCompatible), ClientURI: readURI(r)}
	switch c.Status {
	case ClientSuccess:
		kp := mls.ReadKeyPackage(r)
		c.KeyPackage = &kp
	case ClientNothingCompatible:
		if r.Optional() {
			v := mls.ReadCapabilities(r)
			c.Capabilities = &v
		}
	}
	return c
}

// KeyMaterialResponse is the answer of the target's provider:
//
//	struct { Protocol protocol; KeyMaterialUserCode userStatus; IdentifierUri userUri; ClientKeyMaterial clients<V>; }
//	  KeyMaterialResponse;
type KeyMaterialResponse struct {
	UserStatus KeyMaterialUserCode
	UserURI    IdentifierURI
	Clients    []ClientKeyMaterial
	// Refused, after Check, are the clients of the answer whose KeyPackage cannot be used, with the reason.
	Refused []RefusedKeyPackage
}

// RefusedKeyPackage is a KeyPackage that a provider handed out and that is not valid.
type RefusedKeyPackage struct {
	ClientURI IdentifierURI
	Reason    error
}

// Marshal returns the encoding; Refused is no part of it.
func (a *KeyMaterialResponse) Marshal() []byte {
	b := a.UserURI.append([]byte{byte(ProtocolMLS10), byte(a.UserStatus)})
	return tlspl.AppendVector(b, func(b []byte) []byte {
		for i := range a.Clients {
			b = a.Clients[i].append(b)
		}
		return b
	})
}

// ReceivedKeyMaterialResponse is an answer as it came, before anything was checked but its encoding.
type ReceivedKeyMaterialResponse struct{ response KeyMaterialResponse }

// UnmarshalKeyMaterialResponse decodes an answer.
func UnmarshalKeyMaterialResponse(b []byte) (*ReceivedKeyMaterialResponse, error) {
	r := tlspl.NewReader(b)
	a := readKeyMaterialResponse(r)
	if err := finish("KeyMaterialResponse", r); err != nil {
		return nil, err
	}
	return &ReceivedKeyMaterialResponse{a}, nil
}

// ReadKeyMaterialResponse decodes an answer of our own.
func ReadKeyMaterialResponse(b []byte) (*KeyMaterialResponse, error) {
	a, err := UnmarshalKeyMaterialResponse(b)
	if err != nil {
		return nil, err
	}
	return &a.response, nil
}

func readKeyMaterialResponse(r *tlspl.Reader) KeyMaterialResponse {
	readProtocol(r)
	a := KeyMaterialResponse{UserStatus: readEnum(r, KeyMaterialSuccess, KeyMaterialUserDeleted), UserURI: readURI(r)}
	a.Clients = readVector(r, maxClients, -1, readClientKeyMaterial)
	return a
}

// Marshal returns the bytes that were decoded.
func (a *ReceivedKeyMaterialResponse) Marshal() []byte { return a.response.Marshal() }

// Check demands that the answer is about the user who was asked for and that the list of clients fits the status. A
// KeyPackage that does not verify, is of a suite that was not asked for, lacks a required capability, belongs to a
// client of another provider or comes twice is taken out of Clients and put into Refused, so that one bad client does
// not keep out the others. Lifetime and credential are judged by the caller. partialSuccess without a success is
// accepted: some send it when all clients are exhausted.
func (a *ReceivedKeyMaterialResponse) Check(q *KeyMaterialRequest) (*KeyMaterialResponse, error) {
	out := a.response
	if !out.UserURI.Same(q.TargetUser) {
		return nil, malformed("KeyMaterialResponse is about another user")
	}
	switch out.UserStatus {
	case KeyMaterialSuccess, KeyMaterialPartialSuccess:
		if len(out.Clients) == 0 {
			return nil, malformed("KeyMaterialResponse: %s without clients", out.UserStatus)
		}
	case KeyMaterialNoCompatibleMaterial:
	default:
		if len(out.Clients) != 0 {
			return nil, malformed("KeyMaterialResponse: %s with clients", out.UserStatus)
		}
	}
	out.Clients = nil
	seen := map[string]bool{}
	for _, c := range a.response.Clients {
		if err := c.check(q, seen); err != nil {
			out.Refused = append(out.Refused, RefusedKeyPackage{c.ClientURI, err})
			continue
		}
		out.Clients = append(out.Clients, c)
	}
	return &out, nil
}

func (c *ClientKeyMaterial) check(q *KeyMaterialRequest, seen map[string]bool) error {
	// A client may be named by its own URI or, where a provider hides devices, by the user's.
	if err := checkURIOf("clientUri", c.ClientURI, q.TargetUser.Domain(), KindClient, KindUser, KindPseudonym); err != nil {
		return err
	}
	if c.Status != ClientSuccess {
		return nil
	}
	kp := c.KeyPackage
	acceptable := false
	for _, s := range q.AcceptableSuites {
		acceptable = acceptable || s == kp.Suite
	}
	if !acceptable {
		return malformed("KeyPackage of ciphersuite 0x%04x, which was not asked for", uint16(kp.Suite))
	}
	if err := kp.Verify(); err != nil {
		return unverified("KeyPackage: %w", err)
	}
	if !kp.Leaf.Capabilities.Supports(&q.RequiredCapabilities) {
		return malformed("KeyPackage lacks a required capability")
	}
	for _, key := range [][]byte{kp.InitKey, kp.Leaf.EncryptionKey, kp.Leaf.SignatureKey} {
		if seen[string(key)] {
			return malformed("KeyPackage has a key that another one of the answer has")
		}
		seen[string(key)] = true
	}
	if bytes.Equal(kp.InitKey, kp.Leaf.SignatureKey) {
		return malformed("KeyPackage uses one key for two things")
	}
	return nil
}
