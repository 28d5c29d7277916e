package wire

import (
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// MaxKeyMaterialUsers is how many users one KeyMaterialsRequest asks for at most.
const MaxKeyMaterialUsers = 100

// KeyMaterialsRequest claims KeyPackages of all clients of several users of one provider (docs/extensions.md;
// draft-mahy-mimi-transport-design-reqs-00 §3.1). It is the draft's KeyMaterialRequest with a list of targets:
//
//	struct {
//	  Protocol protocol;
//	  IdentifierUri requestingUser;
//	  IdentifierUri targetUsers<V>;
//	  IdentifierUri roomId;
//	  select (protocol) { case mls10:
//	    CipherSuite acceptableCiphersuites<V>;
//	    RequiredCapabilities requiredCapabilities;
//	    SignaturePublicKey requesterSignatureKey;
//	    Credential requesterCredential;
//	    opaque key_materials_request_signature<V>;
//	  };
//	} KeyMaterialsRequest;
//
// The signature is by the label "KeyMaterialsRequestTBS" over everything before it, otherwise as the draft's.
type KeyMaterialsRequest struct {
	KeyMaterialRequest                 // of which TargetUser and Signature are not used
	TargetUsers        []IdentifierURI // 1 to MaxKeyMaterialUsers, all of one provider, none twice
	Signature          []byte
}

const labelKeyMaterialsRequest = "KeyMaterialsRequestTBS"

func (q *KeyMaterialsRequest) tbs() []byte {
	b := q.RequestingUser.append([]byte{byte(ProtocolMLS10)})
	b = tlspl.AppendVector(b, func(b []byte) []byte {
		for _, u := range q.TargetUsers {
			b = u.append(b)
		}
		return b
	})
	return q.appendRequester(q.RoomID.append(b))
}

// Sign sets the requester's key and signature. The first acceptable ciphersuite must be the key's.
func (q *KeyMaterialsRequest) Sign(key *mls.SignatureKey) error {
	if len(q.AcceptableSuites) == 0 || q.AcceptableSuites[0] != key.Suite() {
		return errors.New("sign KeyMaterialsRequest: the first ciphersuite is not the key's")
	}
	q.RequesterSignatureKey = key.Public()
	sig, err := key.Sign(labelKeyMaterialsRequest, q.tbs())
	if err != nil {
		return fmt.Errorf("sign KeyMaterialsRequest: %w", err)
	}
	q.Signature = sig
	return nil
}

// Marshal returns the encoding.
func (q *KeyMaterialsRequest) Marshal() []byte { return tlspl.AppendOpaque(q.tbs(), q.Signature) }

// Of returns what is asked for one of the targets, as a request without a signature.
func (q *KeyMaterialsRequest) Of(target IdentifierURI) *KeyMaterialRequest {
	one := q.KeyMaterialRequest
	one.TargetUser, one.Signature = target, nil
	return &one
}

// ReceivedKeyMaterialsRequest is a request as it came, before anything was checked but its encoding.
type ReceivedKeyMaterialsRequest struct{ request KeyMaterialsRequest }

// UnmarshalKeyMaterialsRequest decodes a request.
func UnmarshalKeyMaterialsRequest(b []byte) (*ReceivedKeyMaterialsRequest, error) {
	r := tlspl.NewReader(b)
	readProtocol(r)
	var q KeyMaterialsRequest
	q.RequestingUser = readURI(r)
	q.TargetUsers = readVector(r, MaxKeyMaterialUsers, -1, readURI)
	q.RoomID = readURI(r)
	q.readRequester(r)
	q.Signature = r.Opaque(maxSignature)
	if err := finish("KeyMaterialsRequest", r); err != nil {
		return nil, err
	}
	return &ReceivedKeyMaterialsRequest{q}, nil
}

// Marshal returns the bytes that were decoded.
func (q *ReceivedKeyMaterialsRequest) Marshal() []byte { return q.request.Marshal() }

// Check demands well-formed identifiers, targets of one provider of whom none comes twice, and a valid signature. Whether the
// credential names requestingUser, and whether the sender may speak for it, is judged by the caller.
func (q *ReceivedKeyMaterialsRequest) Check() (*KeyMaterialsRequest, error) {
	k := &q.request
	if err := checkURI("requestingUser", k.RequestingUser, KindUser, KindPseudonym); err != nil {
		return nil, err
	}
	if k.RoomID != "" {
		if err := checkURI("roomId", k.RoomID, KindRoom); err != nil {
			return nil, err
		}
	}
	if len(k.TargetUsers) == 0 || len(k.AcceptableSuites) == 0 {
		return nil, malformed("KeyMaterialsRequest asks for nobody or accepts no ciphersuite")
	}
	had := map[string]bool{}
	for _, u := range k.TargetUsers {
		if err := checkURI("targetUsers", u, KindUser, KindPseudonym); err != nil {
			return nil, err
		}
		if u.Domain() != k.TargetUsers[0].Domain() {
			return nil, malformed("KeyMaterialsRequest asks for users of several providers")
		}
		if had[u.Key()] {
			return nil, malformed("KeyMaterialsRequest asks for a user twice")
		}
		had[u.Key()] = true
	}
	if err := k.verify("KeyMaterialsRequest", labelKeyMaterialsRequest, k.tbs(), k.Signature); err != nil {
		return nil, err
	}
	return k, nil
}

// KeyMaterialsResponse is the answer of the targets' provider:
//
//	struct { Protocol protocol; optional<KeyMaterialResponse> users<V>; } KeyMaterialsResponse;
//
// There is one element for each target, in the order of the request. An absent one says that nothing was claimed for this
// user, because a limit is reached or the hub cannot ask: the requester may ask for the user by the draft's
// request.
type KeyMaterialsResponse struct{ Users []*KeyMaterialResponse }

// Marshal returns the encoding.
func (a *KeyMaterialsResponse) Marshal() []byte {
	return tlspl.AppendVector([]byte{byte(ProtocolMLS10)}, func(b []byte) []byte {
		for _, u := range a.Users {
			b = tlspl.AppendOptional(b, u != nil, func(b []byte) []byte { return append(b, u.Marshal()...) })
		}
		return b
	})
}

// ReceivedKeyMaterialsResponse is an answer as it came, before anything was checked but its encoding.
type ReceivedKeyMaterialsResponse struct{ response KeyMaterialsResponse }

// UnmarshalKeyMaterialsResponse decodes an answer.
func UnmarshalKeyMaterialsResponse(b []byte) (*ReceivedKeyMaterialsResponse, error) {
	r := tlspl.NewReader(b)
	readProtocol(r)
	var a ReceivedKeyMaterialsResponse
	a.response.Users = readVector(r, MaxKeyMaterialUsers, -1, func(r *tlspl.Reader) *KeyMaterialResponse {
		if !r.Optional() {
			return nil
		}
		u := readKeyMaterialResponse(r)
		return &u
	})
	if err := finish("KeyMaterialsResponse", r); err != nil {
		return nil, err
	}
	return &a, nil
}

// Marshal returns the bytes that were decoded.
func (a *ReceivedKeyMaterialsResponse) Marshal() []byte { return a.response.Marshal() }

// Check demands one answer for each user who was asked for, each of which it checks as
// [ReceivedKeyMaterialResponse.Check] does. An answer about one user that does not fit is nil, as if it were absent.
func (a *ReceivedKeyMaterialsResponse) Check(q *KeyMaterialsRequest) ([]*KeyMaterialResponse, error) {
	if len(a.response.Users) != len(q.TargetUsers) {
		return nil, malformed("KeyMaterialsResponse is about %d users, not %d", len(a.response.Users), len(q.TargetUsers))
	}
	out := make([]*KeyMaterialResponse, len(a.response.Users))
	for i, u := range a.response.Users {
		if u == nil {
			continue
		}
		checked, err := (&ReceivedKeyMaterialResponse{*u}).Check(q.Of(q.TargetUsers[i]))
		if err == nil {
			out[i] = checked
		}
	}
	return out, nil
}
