package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// GroupInfoRequest asks the hub for what an external join needs (draft-ietf-mimi-protocol-06 §5.6):
//
//	struct {
//	  Protocol protocol;
//	  select (protocol) { case mls10:
//	    CipherSuite cipher_suite;
//	    SignaturePublicKey requestingSignatureKey;
//	    Credential requestingCredential;
//	    HPKEPublicKey groupInfoPublicKey;
//	    optional<opaque<V>> joiningCode;
//	    opaque signature<V>;
//	  };
//	} GroupInfoRequest;
//
// The draft makes joiningCode optional in what is signed and not in what is sent; it is optional in both here. A request
// that lacks the presence byte in one or both places is accepted too. The ciphersuite only selects the algorithms of
// this exchange.
type GroupInfoRequest struct {
	Suite        mls.Suite
	SignatureKey []byte
	Credential   mls.Credential
	PublicKey    []byte // groupInfoPublicKey: an HPKE key made for this request
	JoiningCode  []byte // nil when there is none
	Signature    []byte

	bareCode bool // joiningCode came without a presence byte
}

const labelGroupInfoRequest = "GroupInfoRequestTBS"

func (q *GroupInfoRequest) tbs(bareCode bool) []byte {
	b := tlspl.AppendUint16([]byte{byte(ProtocolMLS10)}, uint16(q.Suite))
	b = tlspl.AppendOpaque(b, q.SignatureKey)
	b = append(b, q.Credential.Marshal()...)
	b = tlspl.AppendOpaque(b, q.PublicKey)
	if bareCode {
		return tlspl.AppendOpaque(b, q.JoiningCode)
	}
	return tlspl.AppendOptional(b, q.JoiningCode != nil, func(b []byte) []byte { return tlspl.AppendOpaque(b, q.JoiningCode) })
}

// Sign sets the suite, the requester's key and the signature.
func (q *GroupInfoRequest) Sign(key *mls.SignatureKey) error {
	q.Suite, q.SignatureKey, q.bareCode = key.Suite(), key.Public(), false
	sig, err := key.Sign(labelGroupInfoRequest, q.tbs(false))
	if err != nil {
		return fmt.Errorf("sign GroupInfoRequest: %w", err)
	}
	q.Signature = sig
	return nil
}

// Marshal returns the encoding.
func (q *GroupInfoRequest) Marshal() []byte {
	return tlspl.AppendOpaque(q.tbs(q.bareCode), q.Signature)
}

// ReceivedGroupInfoRequest is a request as it came, before anything was checked but its encoding.
type ReceivedGroupInfoRequest struct {
	readings []GroupInfoRequest // one, or two when the presence byte can be seen both ways
}

// UnmarshalGroupInfoRequest decodes a request, in every way in which it can be read.
func UnmarshalGroupInfoRequest(b []byte) (*ReceivedGroupInfoRequest, error) {
	q, err := readGroupInfoRequest(b, false)
	bare, bareErr := readGroupInfoRequest(b, true)
	switch {
	case err == nil && bareErr == nil && q.JoiningCode == nil:
		// An absent code and an empty one are the same bytes in both readings.
		return &ReceivedGroupInfoRequest{[]GroupInfoRequest{q}}, nil
	case err == nil && bareErr == nil:
		return &ReceivedGroupInfoRequest{[]GroupInfoRequest{q, bare}}, nil
	case err == nil:
		return &ReceivedGroupInfoRequest{[]GroupInfoRequest{q}}, nil
	case bareErr == nil:
		return &ReceivedGroupInfoRequest{[]GroupInfoRequest{bare}}, nil
	}
	return nil, err
}

func readGroupInfoRequest(b []byte, bareCode bool) (GroupInfoRequest, error) {
	r := tlspl.NewReader(b)
	readProtocol(r)
	q := GroupInfoRequest{Suite: mls.Suite(r.Uint16()), SignatureKey: r.Opaque(maxKey), Credential: mls.ReadCredential(r),
		PublicKey: r.Opaque(maxKey), bareCode: bareCode}
	if bareCode || r.Optional() {
		if q.JoiningCode = r.Opaque(maxCode); q.JoiningCode == nil {
			q.JoiningCode = []byte{}
		}
	}
	q.Signature = r.Opaque(maxSignature)
	return q, finish("GroupInfoRequest", r)
}

// Marshal returns the bytes that were decoded.
func (q *ReceivedGroupInfoRequest) Marshal() []byte { return q.readings[0].Marshal() }

// Check demands a ciphersuite that we have, a usable HPKE key and a valid signature. Who the credential names and
// whether he may join is judged by the caller.
func (q *ReceivedGroupInfoRequest) Check() (*GroupInfoRequest, error) {
	first := &q.readings[0]
	if err := first.Suite.Check(); err != nil {
		return nil, malformed("GroupInfoRequest: %w", err)
	}
	if err := mls.CheckPublicKey(first.Suite, first.PublicKey); err != nil {
		return nil, malformed("GroupInfoRequest: %w", err)
	}
	var err error
	for i := range q.readings {
		k := &q.readings[i]
		for _, bare := range []bool{k.bareCode, !k.bareCode} {
			if err = mls.VerifyWithLabel(k.Suite, k.SignatureKey, labelGroupInfoRequest, k.tbs(bare), k.Signature); err == nil {
				return k, nil
			}
		}
	}
	return nil, unverified("GroupInfoRequest: %w", err)
}

// PendingProposal is a proposal that the hub has accepted and that no commit has taken up.
type PendingProposal struct {
	Proposal        Message
	HubAcceptedTime uint64 // milliseconds since 1970
}

// GroupInfoRatchetTree is what the hub encrypts to the requester:
//
//	struct { GroupInfo groupInfo; RatchetTreeOption ratchetTreeOption; PendingProposal pending_proposals<V>; }
//	  GroupInfoRatchetTreeTBE;
type GroupInfoRatchetTree struct {
	GroupInfo *mls.GroupInfo // without the ratchet_tree extension
	Tree      mls.RatchetTreeOption
	Pending   []PendingProposal // an external commit must include the SelfRemoves among them
}

// Marshal returns the encoding.
func (g *GroupInfoRatchetTree) Marshal() []byte {
	b := g.Tree.Append(append([]byte(nil), g.GroupInfo.Marshal()...))
	return tlspl.AppendVector(b, func(b []byte) []byte {
		for _, p := range g.Pending {
			b = tlspl.AppendUint64(p.Proposal.append(b), p.HubAcceptedTime)
		}
		return b
	})
}

// UnmarshalGroupInfoRatchetTree decodes what was decrypted.
func UnmarshalGroupInfoRatchetTree(b []byte) (*GroupInfoRatchetTree, error) {
	r := tlspl.NewReader(b)
	info := mls.ReadGroupInfo(r)
	g := &GroupInfoRatchetTree{GroupInfo: &info, Tree: mls.ReadRatchetTreeOption(r)}
	g.Pending = readVector(r, maxProposals, -1, func(r *tlspl.Reader) PendingProposal {
		return PendingProposal{Proposal: readMessage(r), HubAcceptedTime: r.Uint64()}
	})
	if err := finish("GroupInfoRatchetTreeTBE", r); err != nil {
		return nil, err
	}
	return g, nil
}

// GroupInfoCode is the hub's verdict; success is 1 here.
type GroupInfoCode uint8

// Verdicts.
const (
	GroupInfoSuccess       GroupInfoCode = 1
	GroupInfoNotAuthorized GroupInfoCode = 2
	GroupInfoNoSuchRoom    GroupInfoCode = 3
)

// GroupInfoResponse is the hub's answer:
//
//	struct {
//	  Protocol version;
//	  opaque room_id<V>;
//	  GroupInfoCode status;
//	  select (status) { case success:
//	    CipherSuite cipher_suite;
//	    ExternalSender hub_sender;
//	    HPKECiphertext encrypted_groupinfo_and_tree;
//	    opaque signature<V>;
//	  };
//	} GroupInfoResponse;
//
// A failure is not signed.
type GroupInfoResponse struct {
	RoomID    IdentifierURI
	Status    GroupInfoCode
	Suite     mls.Suite
	HubSender mls.ExternalSender
	Encrypted mls.HPKECiphertext
	Signature []byte
}

const (
	labelGroupInfoResponse = "GroupInfoResponseTBS"
	labelGroupInfoTree     = "GroupInfo and ratchet_tree encryption"
)

// NewGroupInfoResponse encrypts the group's state to the requester, under the room's URI as context, and signs the answer
// as the hub, whose key and credential stand in external_senders. hubKey must be of the request's ciphersuite.
func NewGroupInfoResponse(q *GroupInfoRequest, room IdentifierURI, content *GroupInfoRatchetTree, hub mls.Credential,
	hubKey *mls.SignatureKey) (*GroupInfoResponse, error) {
	const op = "answer a GroupInfoRequest"
	if hubKey.Suite() != q.Suite {
		return nil, fmt.Errorf("%s: the hub's key is of another ciphersuite", op)
	}
	ct, err := mls.EncryptWithLabel(q.Suite, q.PublicKey, labelGroupInfoTree, []byte(room), content.Marshal())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	a := &GroupInfoResponse{RoomID: room, Status: GroupInfoSuccess, Suite: q.Suite, Encrypted: ct,
		HubSender: mls.ExternalSender{SignatureKey: hubKey.Public(), Credential: hub}}
	if a.Signature, err = hubKey.Sign(labelGroupInfoResponse, a.tbs()); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return a, nil
}

// tbs is GroupInfoResponseTBS, which on success is everything before the signature; on failure it is all there is.
func (a *GroupInfoResponse) tbs() []byte {
	b := append(a.RoomID.append([]byte{byte(ProtocolMLS10)}), byte(a.Status))
	if a.Status != GroupInfoSuccess {
		return b
	}
	b = tlspl.AppendUint16(b, uint16(a.Suite))
	b = tlspl.AppendOpaque(b, a.HubSender.SignatureKey)
	b = append(b, a.HubSender.Credential.Marshal()...)
	return append(b, a.Encrypted.Marshal()...)
}

// Marshal returns the encoding.
func (a *GroupInfoResponse) Marshal() []byte {
	if a.Status != GroupInfoSuccess {
		return a.tbs()
	}
	return tlspl.AppendOpaque(a.tbs(), a.Signature)
}

// ReceivedGroupInfoResponse is an answer as it came, before anything was checked but its encoding.
type ReceivedGroupInfoResponse struct{ response GroupInfoResponse }

// UnmarshalGroupInfoResponse decodes an answer.
func UnmarshalGroupInfoResponse(b []byte) (*ReceivedGroupInfoResponse, error) {
	r := tlspl.NewReader(b)
	readProtocol(r)
	a := GroupInfoResponse{RoomID: readURI(r), Status: readEnum(r, GroupInfoSuccess, GroupInfoNoSuchRoom)}
	if a.Status == GroupInfoSuccess {
		a.Suite = mls.Suite(r.Uint16())
		a.HubSender = mls.ExternalSender{SignatureKey: r.Opaque(maxKey), Credential: mls.ReadCredential(r)}
		a.Encrypted = mls.ReadHPKECiphertext(r)
		a.Signature = r.Opaque(maxSignature)
	}
	if err := finish("GroupInfoResponse", r); err != nil {
		return nil, err
	}
	return &ReceivedGroupInfoResponse{a}, nil
}

// Marshal returns the bytes that were decoded.
func (a *ReceivedGroupInfoResponse) Marshal() []byte { return a.response.Marshal() }

// Status returns the verdict. A failure says nothing else and is vouched for by the connection alone.
func (a *ReceivedGroupInfoResponse) Status() GroupInfoCode { return a.response.Status }

// OpenedGroupInfo is a GroupInfoResponse that verified, decrypted.
type OpenedGroupInfo struct {
	GroupInfoRatchetTree
	// HubSender signed the answer and is one of the external_senders of the group; where the answer is in another signature scheme than
	// the group's, by its credential alone. Whether that is for the hub's domain is judged by the caller.
	HubSender mls.ExternalSender
}

// errNoSender: who signed the answer is not among the external_senders of the group.
var errNoSender = errors.New("hub_sender is no external sender of the group")

// Check verifies a successful answer to a request in a ciphersuite for the room, decrypts it with the private half of the request's
// PublicKey, and demands that the hub that signed is an external sender of the group that it describes. The ciphersuite is that of the
// exchange alone (draft-ietf-mimi-protocol-06 §5.6): where it has another signature scheme than the group's, the key that signed cannot stand
// in external_senders, and only the credential must.
func (a *ReceivedGroupInfoResponse) Check(suite mls.Suite, room IdentifierURI, private mls.Secret) (*OpenedGroupInfo, error) {
	k := &a.response
	if k.Status != GroupInfoSuccess {
		return nil, malformed("GroupInfoResponse is no success")
	}
	if k.RoomID != room || k.Suite != suite {
		return nil, malformed("GroupInfoResponse is for another room or ciphersuite")
	}
	if err := mls.VerifyWithLabel(k.Suite, k.HubSender.SignatureKey, labelGroupInfoResponse, k.tbs(), k.Signature); err != nil {
		return nil, unverified("GroupInfoResponse: %w", err)
	}
	plain, err := mls.DecryptWithLabel(k.Suite, private, labelGroupInfoTree, []byte(room), k.Encrypted)
	if err != nil {
		return nil, unverified("GroupInfoResponse: %w", err)
	}
	content, err := UnmarshalGroupInfoRatchetTree(plain)
	if err != nil {
		return nil, err
	}
	if _, ok := content.GroupInfo.Extensions.Find(mls.ExtensionRatchetTree); ok {
		return nil, malformed("GroupInfoResponse has a tree inside its GroupInfo")
	}
	context := &content.GroupInfo.Context
	for i, p := range content.Pending {
		if err := checkProposals(fmt.Sprintf("pending_proposals[%d]", i), []Message{p.Proposal}, context.GroupID, context.Epoch); err != nil {
			return nil, err
		}
	}
	if !hasSender(context.Extensions, &k.HubSender, suite.SignsLike(context.Suite)) {
		return nil, unverified("GroupInfoResponse: %w", errNoSender)
	}
	return &OpenedGroupInfo{*content, k.HubSender}, nil
}

// hasSender looks for a sender in external_senders, by its credential and, when keyed, its key.
func hasSender(extensions mls.Extensions, sender *mls.ExternalSender, keyed bool) bool {
	data, ok := extensions.Find(mls.ExtensionExternalSenders)
	if !ok {
		return false
	}
	list, err := mls.UnmarshalExternalSenders(data)
	if err != nil {
		return false
	}
	for i := range list {
		if (!keyed || bytes.Equal(list[i].SignatureKey, sender.SignatureKey)) && list[i].Credential.Equal(&sender.Credential) {
			return true
		}
	}
	return false
}
