package wire

import (
	"bytes"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// GroupInfoOption carries the GroupInfo of the new epoch, whole or without what the hub knows
// (draft-ietf-mimi-protocol-06 §5.3). Exactly one field is set.
type GroupInfoOption struct {
	Full    *mls.GroupInfo        // without the ratchet_tree extension
	Partial *mls.PartialGroupInfo // draft-mahy-mls-ratchet-tree-options
}

const (
	groupInfoFull    = 1
	groupInfoPartial = 2
)

func (o *GroupInfoOption) append(b []byte) []byte {
	if o.Partial != nil {
		return append(append(b, groupInfoPartial), o.Partial.Marshal()...)
	}
	return append(append(b, groupInfoFull), o.Full.Marshal()...)
}

func readGroupInfoOption(r *tlspl.Reader) GroupInfoOption {
	var o GroupInfoOption
	switch readEnum[uint8](r, groupInfoFull, groupInfoPartial) {
	case groupInfoFull:
		v := mls.ReadGroupInfo(r)
		o.Full = &v
	case groupInfoPartial:
		v := mls.ReadPartialGroupInfo(r)
		o.Partial = &v
	}
	return o
}

// HandshakeBundle is a commit with what belongs to it, or one or more proposals (draft-ietf-mimi-protocol-06 §5.3):
//
//	struct {
//	  MLSMessage proposalOrCommit;
//	  select (proposalOrCommit.content.content_type) {
//	    case commit:   optional<Welcome> welcome; GroupInfoOption groupInfoOption; RatchetTreeOption ratchetTreeOption;
//	    case proposal: MLSMessage moreProposals<V>;
//	  };
//	} HandshakeBundle;
//
// An UpdateRequest is a HandshakeBundle and nothing more: the draft selects by the room's protocol, which is not on
// the wire. The Welcome is bare, as the structure says; one that comes as an MLSMessage is accepted.
type HandshakeBundle struct {
	Message Message

	Welcome   *mls.Welcome           // commit: nil when nobody is added
	GroupInfo *GroupInfoOption       // commit
	Tree      *mls.RatchetTreeOption // commit

	MoreProposals []Message // proposal

	wrappedWelcome bool // the Welcome came as an MLSMessage
}

// Commit tells whether the bundle is a commit.
func (h *HandshakeBundle) Commit() bool { return h.Message.Content() == mls.ContentCommit }

// Marshal returns the encoding, which is that of the UpdateRequest.
func (h *HandshakeBundle) Marshal() []byte {
	b := h.Message.append(nil)
	if !h.Commit() {
		return appendMessages(b, h.MoreProposals)
	}
	b = tlspl.AppendOptional(b, h.Welcome != nil, func(b []byte) []byte {
		if h.wrappedWelcome {
			return append(b, h.Welcome.Message()...)
		}
		return append(b, h.Welcome.Marshal()...)
	})
	return h.Tree.Append(h.GroupInfo.append(b))
}

// ReceivedUpdateRequest is a request as it came, before anything was checked but its encoding.
type ReceivedUpdateRequest struct{ bundle HandshakeBundle }

// UnmarshalUpdateRequest decodes a request of a room whose protocol is MLS 1.0.
func UnmarshalUpdateRequest(b []byte) (*ReceivedUpdateRequest, error) {
	r := tlspl.NewReader(b)
	h := HandshakeBundle{Message: readMessage(r)}
	switch content := h.Message.Content(); {
	case r.Err() != nil:
	case content == mls.ContentCommit:
		h.readCommit(r)
	case content == mls.ContentProposal:
		h.MoreProposals = readMessages(r)
	default:
		return nil, malformed("update is neither proposal nor commit")
	}
	if err := finish("UpdateRequest", r); err != nil {
		return nil, err
	}
	return &ReceivedUpdateRequest{h}, nil
}

// welcomeMessage is how an MLSMessage with a Welcome begins. A bare Welcome begins with its ciphersuite and the length of
// secrets, so it could begin with the same bytes only for suite 1 with no secrets, which welcomes nobody.
var welcomeMessage = []byte{0, 1, 0, 3}

func (h *HandshakeBundle) readCommit(r *tlspl.Reader) {
	if r.Optional() {
		if bytes.Equal(r.Peek(len(welcomeMessage)), welcomeMessage) {
			r.Bytes(len(welcomeMessage))
			h.wrappedWelcome = true
		}
		w := mls.ReadWelcome(r)
		h.Welcome = &w
	}
	info := readGroupInfoOption(r)
	tree := mls.ReadRatchetTreeOption(r)
	h.GroupInfo, h.Tree = &info, &tree
}

// Marshal returns the bytes that were decoded.
func (q *ReceivedUpdateRequest) Marshal() []byte { return q.bundle.Marshal() }

// Epoch returns the epoch that the commit or proposal says it was made in. Nothing vouches for it yet.
func (q *ReceivedUpdateRequest) Epoch() uint64 { return q.bundle.Message.Epoch() }

// Check demands that all parts are of the group, that a hub can read them, and that they fit together: one epoch, a
// GroupInfo of the next one without a tree in it. Signatures, the epoch itself and all rights are judged later.
func (q *ReceivedUpdateRequest) Check(groupID []byte) (*HandshakeBundle, error) {
	h := &q.bundle
	m := h.Message
	if !m.handshake(m.Content()) {
		return nil, malformed("update is in a format that a hub cannot read")
	}
	if !bytes.Equal(m.GroupID(), groupID) {
		return nil, malformed("update is for another group")
	}
	if !h.Commit() {
		return h, checkProposals("moreProposals", h.MoreProposals, groupID, m.Epoch())
	}
	if h.Welcome != nil && len(h.Welcome.Secrets) == 0 {
		return nil, malformed("update has a Welcome for nobody")
	}
	if g := h.GroupInfo.Full; g != nil {
		if !bytes.Equal(g.Context.GroupID, groupID) || g.Context.Epoch != m.Epoch()+1 {
			return nil, malformed("update has a GroupInfo of another group or epoch")
		}
		if _, ok := g.Extensions.Find(mls.ExtensionRatchetTree); ok {
			return nil, malformed("update has a tree inside its GroupInfo")
		}
	}
	return h, nil
}

// UpdateResponseCode is the hub's verdict on an update.
type UpdateResponseCode uint8

// Verdicts.
const (
	UpdateSuccess         UpdateResponseCode = 0
	UpdateWrongEpoch      UpdateResponseCode = 1
	UpdateNotAllowed      UpdateResponseCode = 2
	UpdateInvalidProposal UpdateResponseCode = 3
)

// UpdateRoomResponse is the hub's answer:
//
//	struct {
//	  UpdateResponseCode responseCode;
//	  string errorDescription;
//	  select (responseCode) {
//	    case success:         uint64 accepted_timestamp;
//	    case wrongEpoch:      uint64 currentEpoch;
//	    case invalidProposal: ProposalRef invalidProposals<V>;
//	  };
//	} UpdateRoomResponse;
//
// errorDescription is there in every case, as opaque<V>, and may be empty.
type UpdateRoomResponse struct {
	ResponseCode      UpdateResponseCode
	ErrorDescription  string
	AcceptedTimestamp uint64   // success: milliseconds since 1970
	CurrentEpoch      uint64   // wrongEpoch
	InvalidProposals  [][]byte // invalidProposal: ProposalRefs
}

// Marshal returns the encoding.
func (a *UpdateRoomResponse) Marshal() []byte {
	b := appendText([]byte{byte(a.ResponseCode)}, a.ErrorDescription)
	switch a.ResponseCode {
	case UpdateSuccess:
		b = tlspl.AppendUint64(b, a.AcceptedTimestamp)
	case UpdateWrongEpoch:
		b = tlspl.AppendUint64(b, a.CurrentEpoch)
	case UpdateInvalidProposal:
		b = tlspl.AppendVector(b, func(b []byte) []byte {
			for _, ref := range a.InvalidProposals {
				b = tlspl.AppendOpaque(b, ref)
			}
			return b
		})
	}
	return b
}

// UnmarshalUpdateRoomResponse decodes an answer. There is nothing in it to check but its encoding.
func UnmarshalUpdateRoomResponse(b []byte) (*UpdateRoomResponse, error) {
	r := tlspl.NewReader(b)
	a := &UpdateRoomResponse{ResponseCode: readEnum(r, UpdateSuccess, UpdateInvalidProposal), ErrorDescription: readText(r)}
	switch a.ResponseCode {
	case UpdateSuccess:
		a.AcceptedTimestamp = r.Uint64()
	case UpdateWrongEpoch:
		a.CurrentEpoch = r.Uint64()
	case UpdateInvalidProposal:
		a.InvalidProposals = readVector(r, maxProposals, -1, func(r *tlspl.Reader) []byte { return r.Opaque(maxKey) })
	}
	if err := finish("UpdateRoomResponse", r); err != nil {
		return nil, err
	}
	return a, nil
}
