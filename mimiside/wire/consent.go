package wire

import (
	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// ConsentOperation says what a ConsentEntry does.
type ConsentOperation uint8

// Operations. cancel and request travel by requestConsent, grant and revoke by updateConsent.
const (
	ConsentCancel  ConsentOperation = 0
	ConsentRequest ConsentOperation = 1
	ConsentGrant   ConsentOperation = 2
	ConsentRevoke  ConsentOperation = 3
)

// ConsentEntry asks for, grants or takes back the consent of a user to be added to rooms by another
// (draft-ietf-mimi-protocol-06 §5.7):
//
//	struct {
//	  ConsentOperation consentOperation;
//	  IdentifierUri requesterUri;
//	  IdentifierUri targetUri;
//	  optional<RoomId> roomId;
//	  select (consentOperation) { case grant: KeyPackage clientKeyPackages<V>; };
//	  AppDataDictionary consent_extensions;
//	} ConsentEntry;
//
// RoomId is not defined in the draft and read as IdentifierUri. The requester is the one who will fetch KeyPackages,
// whoever sends the entry.
type ConsentEntry struct {
	Operation    ConsentOperation
	RequesterURI IdentifierURI
	TargetURI    IdentifierURI
	RoomID       IdentifierURI     // empty: any room
	KeyPackages  []*mls.KeyPackage // grant: at most one a client
	Extensions   mls.AppDataDictionary
}

// Scope returns what the entry is about.
func (e *ConsentEntry) Scope() ConsentScope {
	return ConsentScope{e.RequesterURI, e.TargetURI, e.RoomID}
}

// ConsentScope says between whom, and for which room if not for all, a consent holds. A cancel must have the scope of
// its request. Compare two by their Keys.
type ConsentScope struct {
	RequesterURI, TargetURI, RoomID IdentifierURI
}

// Key returns a form in which equal scopes are equal.
func (s ConsentScope) Key() string {
	return s.RequesterURI.Key() + " " + s.TargetURI.Key() + " " + s.RoomID.Key()
}

// Marshal returns the encoding.
func (e *ConsentEntry) Marshal() []byte {
	b := e.TargetURI.append(e.RequesterURI.append([]byte{byte(e.Operation)}))
	b = tlspl.AppendOptional(b, e.RoomID != "", e.RoomID.append)
	if e.Operation == ConsentGrant {
		b = tlspl.AppendVector(b, func(b []byte) []byte {
			for _, kp := range e.KeyPackages {
				b = append(b, kp.Marshal()...)
			}
			return b
		})
	}
	return append(b, e.Extensions.Marshal()...)
}

// ReceivedConsentEntry is an entry as it came, before anything was checked but its encoding.
type ReceivedConsentEntry struct{ entry ConsentEntry }

// UnmarshalConsentEntry decodes an entry.
func UnmarshalConsentEntry(b []byte) (*ReceivedConsentEntry, error) {
	r := tlspl.NewReader(b)
	e := ConsentEntry{Operation: readEnum(r, ConsentCancel, ConsentRevoke), RequesterURI: readURI(r), TargetURI: readURI(r)}
	if r.Optional() {
		if e.RoomID = readURI(r); e.RoomID == "" && r.Err() == nil {
			return nil, malformed("ConsentEntry has an empty roomId")
		}
	}
	if e.Operation == ConsentGrant {
		e.KeyPackages = readVector(r, maxClients, -1, func(r *tlspl.Reader) *mls.KeyPackage {
			kp := mls.ReadKeyPackage(r)
			return &kp
		})
	}
	e.Extensions = readDictionary(r)
	if err := finish("ConsentEntry", r); err != nil {
		return nil, err
	}
	return &ReceivedConsentEntry{e}, nil
}

// Marshal returns the bytes that were decoded.
func (e *ReceivedConsentEntry) Marshal() []byte { return e.entry.Marshal() }

// CheckRequest demands an entry of requestConsent: a request or a cancel, by a user of the sending provider, to a user of
// ours.
func (e *ReceivedConsentEntry) CheckRequest(sender, own string) (*ConsentEntry, error) {
	if e.entry.Operation != ConsentRequest && e.entry.Operation != ConsentCancel {
		return nil, malformed("requestConsent with another operation than request or cancel")
	}
	return e.check(sender, own)
}

// CheckUpdate demands an entry of updateConsent: a grant or a revoke, by a user of the sending provider, to a user of ours.
// KeyPackages of a grant must verify.
func (e *ReceivedConsentEntry) CheckUpdate(sender, own string) (*ConsentEntry, error) {
	if e.entry.Operation != ConsentGrant && e.entry.Operation != ConsentRevoke {
		return nil, malformed("updateConsent with another operation than grant or revoke")
	}
	for _, kp := range e.entry.KeyPackages {
		if err := kp.Verify(); err != nil {
			return nil, unverified("clientKeyPackages: %w", err)
		}
	}
	return e.check(own, sender)
}

// check demands that the requester and the target are users of these providers.
func (e *ReceivedConsentEntry) check(requester, target string) (*ConsentEntry, error) {
	if err := checkURIOf("requesterUri", e.entry.RequesterURI, requester, KindUser, KindPseudonym); err != nil {
		return nil, err
	}
	if err := checkURIOf("targetUri", e.entry.TargetURI, target, KindUser, KindPseudonym); err != nil {
		return nil, err
	}
	if e.entry.RoomID != "" {
		if err := checkURI("roomId", e.entry.RoomID, KindRoom); err != nil {
			return nil, err
		}
	}
	return &e.entry, nil
}
