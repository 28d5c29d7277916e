package wire

import (
	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// SubmitMessageRequest hands an application message to the hub (draft-ietf-mimi-protocol-06 §5.4):
//
//	struct {
//	  Protocol protocol;
//	  select (protocol) { case mls10: MLSMessage appMessage; IdentifierUri sendingUri; };
//	} SubmitMessageRequest;
type SubmitMessageRequest struct {
	Message    Message       // PrivateMessage of content type application
	SendingURI IdentifierURI // user or pseudonym, exactly as in the participant list
}

// Marshal returns the encoding.
func (q *SubmitMessageRequest) Marshal() []byte {
	return q.SendingURI.append(q.Message.append([]byte{byte(ProtocolMLS10)}))
}

// ReceivedSubmitMessageRequest is a request as it came, before anything was checked but its encoding.
type ReceivedSubmitMessageRequest struct{ request SubmitMessageRequest }

// UnmarshalSubmitMessageRequest decodes a request.
func UnmarshalSubmitMessageRequest(b []byte) (*ReceivedSubmitMessageRequest, error) {
	r := tlspl.NewReader(b)
	readProtocol(r)
	q := SubmitMessageRequest{Message: readMessage(r), SendingURI: readURI(r)}
	if err := finish("SubmitMessageRequest", r); err != nil {
		return nil, err
	}
	return &ReceivedSubmitMessageRequest{q}, nil
}

// Marshal returns the bytes that were decoded.
func (q *ReceivedSubmitMessageRequest) Marshal() []byte { return q.request.Marshal() }

// Check demands that the message is an encrypted application message and that the sender is a user of the provider
// that made the request. ErrForbidden and ErrMalformed are both answered with notAllowed.
func (q *ReceivedSubmitMessageRequest) Check(peer string) (*SubmitMessageRequest, error) {
	m := q.request.Message
	if m.Format() != mls.WireFormatPrivateMessage || m.Content() != mls.ContentApplication {
		return nil, malformed("submitted message is no PrivateMessage of an application")
	}
	if err := checkURIOf("sendingUri", q.request.SendingURI, peer, KindUser, KindPseudonym); err != nil {
		return nil, err
	}
	return &q.request, nil
}

// SubmitResponseCode is the hub's verdict on a submitted message.
type SubmitResponseCode uint8

// Verdicts. The draft calls 0 accepted in the enumeration and success elsewhere.
const (
	SubmitAccepted    SubmitResponseCode = 0
	SubmitNotAllowed  SubmitResponseCode = 1
	SubmitEpochTooOld SubmitResponseCode = 2
)

// SubmitMessageResponse is the hub's answer:
//
//	struct {
//	  Protocol protocol;
//	  select (protocol) { case mls10:
//	    SubmitResponseCode statusCode;
//	    select (statusCode) {
//	      case accepted:    uint64 accepted_timestamp; optional<Frank> frank;
//	      case epochTooOld: uint64 currentEpoch;
//	    };
//	  };
//	} SubmitMessageResponse;
type SubmitMessageResponse struct {
	StatusCode        SubmitResponseCode
	AcceptedTimestamp uint64 // accepted: milliseconds since 1970
	Frank             *Frank // accepted, where the group has a franking agent
	CurrentEpoch      uint64 // epochTooOld
}

// Marshal returns the encoding.
func (a *SubmitMessageResponse) Marshal() []byte {
	b := []byte{byte(ProtocolMLS10), byte(a.StatusCode)}
	switch a.StatusCode {
	case SubmitAccepted:
		b = appendOptionalFrank(tlspl.AppendUint64(b, a.AcceptedTimestamp), a.Frank)
	case SubmitEpochTooOld:
		b = tlspl.AppendUint64(b, a.CurrentEpoch)
	}
	return b
}

// UnmarshalSubmitMessageResponse decodes an answer. There is nothing in it to check but its encoding: it comes over a
// connection to the hub; the frank is verified by its Verify.
func UnmarshalSubmitMessageResponse(b []byte) (*SubmitMessageResponse, error) {
	r := tlspl.NewReader(b)
	a := readSubmitMessageResponse(r)
	if err := finish("SubmitMessageResponse", r); err != nil {
		return nil, err
	}
	return &a, nil
}

func readSubmitMessageResponse(r *tlspl.Reader) SubmitMessageResponse {
	readProtocol(r)
	a := SubmitMessageResponse{StatusCode: readEnum(r, SubmitAccepted, SubmitEpochTooOld)}
	switch a.StatusCode {
	case SubmitAccepted:
		a.AcceptedTimestamp = r.Uint64()
		a.Frank = readOptionalFrank(r)
	case SubmitEpochTooOld:
		a.CurrentEpoch = r.Uint64()
	}
	return a
}
