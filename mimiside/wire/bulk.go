package wire

import (
	"crypto/sha256"

	"github.com/matrix-mimi/bridge/internal/tlspl"
)

// MaxBulk is how many requests or verdicts one body holds at most.
const MaxBulk = 256

// RoomRequest is one of several requests of the draft that share a body (docs/extensions.md;
// draft-mahy-mimi-transport-design-reqs-00 §4 and §5):
//
//	struct { IdentifierUri roomId; opaque request<V>; } RoomRequest;
//
// A body holds one or several, one after the other, to its end.
type RoomRequest struct {
	RoomID  IdentifierURI
	Request []byte // exactly the body of a submitMessage or notify about the room
}

// Append appends the encoding to b.
func (q *RoomRequest) Append(b []byte) []byte {
	return tlspl.AppendOpaque(q.RoomID.append(b), q.Request)
}

// RoomRequests are the requests of a body. Requests that are no good by themselves do not spoil the others.
type RoomRequests []RoomRequest

// Marshal returns the body.
func (q RoomRequests) Marshal() []byte {
	var b []byte
	for i := range q {
		b = q[i].Append(b)
	}
	return b
}

// UnmarshalRoomRequests decodes a body of 1 to MaxBulk requests.
func UnmarshalRoomRequests(b []byte) (RoomRequests, error) {
	return readBulk("RoomRequest", b, func(r *tlspl.Reader) RoomRequest { return RoomRequest{readURI(r), r.Opaque(-1)} })
}

func readBulk[T any](name string, b []byte, read func(*tlspl.Reader) T) ([]T, error) {
	r := tlspl.NewReader(b)
	var out []T
	for r.More() && len(out) < MaxBulk {
		out = append(out, read(r))
	}
	if err := finish(name, r); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, malformed("%s: the body is empty", name)
	}
	return out, nil
}

// BulkCode is what became of one request of a body.
type BulkCode uint8

// Outcomes of a request in a body.
const (
	BulkTaken   BulkCode = 0 // it is stored; nothing more is needed
	BulkRefused BulkCode = 1 // not in this way: the draft's request says why
	BulkLater   BulkCode = 2 // the same request may be taken later
)

// BulkResponse is the answer to a body of requests, one code each in their order:
//
//	struct { BulkCode codes<V>; } BulkResponse;
type BulkResponse struct{ Codes []BulkCode }

// Marshal returns the encoding.
func (a *BulkResponse) Marshal() []byte {
	return tlspl.AppendVector(nil, func(b []byte) []byte {
		for _, c := range a.Codes {
			b = append(b, byte(c))
		}
		return b
	})
}

// UnmarshalBulkResponse decodes an answer.
func UnmarshalBulkResponse(b []byte) (*BulkResponse, error) {
	r := tlspl.NewReader(b)
	a := &BulkResponse{readVector(r, MaxBulk, -1, func(r *tlspl.Reader) BulkCode { return readEnum(r, BulkTaken, BulkLater) })}
	if err := finish("BulkResponse", r); err != nil {
		return nil, err
	}
	return a, nil
}

// SubmitVerdict is what a hub says later of a message that it took in a body of several:
//
//	struct {
//	  IdentifierUri roomId;
//	  opaque requestHash[32];
//	  SubmitMessageResponse response;
//	} SubmitVerdict;
//
// A body holds one or several, one after the other, to its end.
type SubmitVerdict struct {
	RoomID   IdentifierURI
	Hash     [sha256.Size]byte // of the SubmitMessageRequest
	Response SubmitMessageResponse
}

// Append appends the encoding to b.
func (v *SubmitVerdict) Append(b []byte) []byte {
	return append(append(v.RoomID.append(b), v.Hash[:]...), v.Response.Marshal()...)
}

// SubmitVerdicts are the verdicts of a body.
type SubmitVerdicts []SubmitVerdict

// Marshal returns the body.
func (v SubmitVerdicts) Marshal() []byte {
	var b []byte
	for i := range v {
		b = v[i].Append(b)
	}
	return b
}

// UnmarshalSubmitVerdicts decodes a body of 1 to MaxBulk verdicts.
func UnmarshalSubmitVerdicts(b []byte) (SubmitVerdicts, error) {
	return readBulk("SubmitVerdict", b, func(r *tlspl.Reader) SubmitVerdict {
		v := SubmitVerdict{RoomID: readURI(r)}
		copy(v.Hash[:], r.Bytes(len(v.Hash)))
		v.Response = readSubmitMessageResponse(r)
		return v
	})
}
