package wire

import "github.com/matrix-mimi/bridge/internal/tlspl"

// KnockOperation says what a KnockRequest does (docs/extensions.md, knocks).
type KnockOperation uint8

// Operations.
const (
	KnockWithdraw KnockOperation = 0
	KnockAsk      KnockOperation = 1
)

// MaxKnockReason is the longest reason in octets.
const MaxKnockReason = 512

// KnockRequest asks the hub that a user be let into a room, or takes that back:
//
//	enum { withdraw(0), knock(1), (255) } KnockOperation;
//	struct { KnockOperation operation; IdentifierUri user; opaque reason<V>; } KnockRequest;
type KnockRequest struct {
	Operation KnockOperation
	User      IdentifierURI
	Reason    string // UTF-8, for the people who decide
}

// Marshal returns the encoding.
func (q *KnockRequest) Marshal() []byte {
	return tlspl.AppendString(q.User.append([]byte{byte(q.Operation)}), q.Reason)
}

// ReceivedKnockRequest is a request as it came, before anything was checked but its encoding.
type ReceivedKnockRequest struct{ request KnockRequest }

// UnmarshalKnockRequest decodes a request.
func UnmarshalKnockRequest(b []byte) (*ReceivedKnockRequest, error) {
	r := tlspl.NewReader(b)
	q := KnockRequest{Operation: readEnum(r, KnockWithdraw, KnockAsk), User: readURI(r), Reason: string(r.Opaque(MaxKnockReason))}
	if err := finish("KnockRequest", r); err != nil {
		return nil, err
	}
	return &ReceivedKnockRequest{q}, nil
}

// Marshal returns the bytes that were decoded.
func (q *ReceivedKnockRequest) Marshal() []byte { return q.request.Marshal() }

// Check demands a user of the provider that asks.
func (q *ReceivedKnockRequest) Check(sender string) (*KnockRequest, error) {
	if err := checkURIOf("user", q.request.User, sender, KindUser, KindPseudonym); err != nil {
		return nil, err
	}
	return &q.request, nil
}

// KnockStatus is the hub's word on a KnockRequest: that it was received, or that the room takes none, which is also said of a
// room that is not there.
type KnockStatus uint8

// Statuses.
const (
	KnockNotTaken KnockStatus = 0
	KnockReceived KnockStatus = 1
)

// KnockResponse is the hub's answer. What becomes of the knock is told later by a KnockOutcome, or never:
//
//	enum { notTaken(0), received(1), (255) } KnockStatus;
//	struct { KnockStatus status; } KnockResponse;
type KnockResponse struct{ Status KnockStatus }

// Marshal returns the encoding.
func (a *KnockResponse) Marshal() []byte { return []byte{byte(a.Status)} }

// UnmarshalKnockResponse decodes an answer.
func UnmarshalKnockResponse(b []byte) (*KnockResponse, error) {
	r := tlspl.NewReader(b)
	a := &KnockResponse{readEnum(r, KnockNotTaken, KnockReceived)}
	return a, finish("KnockResponse", r)
}

// KnockVerdict is what became of a knock.
type KnockVerdict uint8

// Verdicts.
const (
	KnockDeclined KnockVerdict = 0
	KnockAccepted KnockVerdict = 1
)

// KnockOutcome tells the provider of a user who knocked what became of it:
//
//	enum { declined(0), accepted(1), (255) } KnockVerdict;
//	struct { IdentifierUri roomId; IdentifierUri user; KnockVerdict verdict; } KnockOutcome;
type KnockOutcome struct {
	RoomID  IdentifierURI
	User    IdentifierURI
	Verdict KnockVerdict
}

// Marshal returns the encoding.
func (o *KnockOutcome) Marshal() []byte {
	return append(o.User.append(o.RoomID.append(nil)), byte(o.Verdict))
}

// ReceivedKnockOutcome is an outcome as it came, before anything was checked but its encoding.
type ReceivedKnockOutcome struct{ outcome KnockOutcome }

// UnmarshalKnockOutcome decodes an outcome.
func UnmarshalKnockOutcome(b []byte) (*ReceivedKnockOutcome, error) {
	r := tlspl.NewReader(b)
	o := KnockOutcome{readURI(r), readURI(r), readEnum(r, KnockDeclined, KnockAccepted)}
	if err := finish("KnockOutcome", r); err != nil {
		return nil, err
	}
	return &ReceivedKnockOutcome{o}, nil
}

// Marshal returns the bytes that were decoded.
func (o *ReceivedKnockOutcome) Marshal() []byte { return o.outcome.Marshal() }

// Check demands a room of the provider that tells, and a user of ours.
func (o *ReceivedKnockOutcome) Check(sender, own string) (*KnockOutcome, error) {
	if err := checkURIOf("roomId", o.outcome.RoomID, sender, KindRoom); err != nil {
		return nil, err
	}
	if err := checkURIOf("user", o.outcome.User, own, KindUser, KindPseudonym); err != nil {
		return nil, err
	}
	return &o.outcome, nil
}
