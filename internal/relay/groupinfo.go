package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/hub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// lendFor is how long a GroupInfo may be used for an external commit.
const lendFor = 30 * time.Second

// maxLent bounds the GroupInfos that a room remembers to have lent.
const maxLent = 100

// GroupInfo gives the state of a room that we are the hub of to one who may join it (draft-ietf-mimi-protocol-06 §5.6).
func (r *Relay) GroupInfo(ctx context.Context, peer string, path wire.IdentifierURI, body []byte) (Reply, error) {
	refuse := func(code wire.GroupInfoCode) (Reply, error) {
		return Reply{Body: (&wire.GroupInfoResponse{RoomID: path, Status: code}).Marshal()}, nil
	}
	received, err := wire.UnmarshalGroupInfoRequest(body)
	if err != nil {
		return Reply{}, err
	}
	q, err := received.Check()
	if err != nil {
		return Reply{}, err
	}
	// An unknown room and one that does not let the asker in look the same.
	id, err := r.hubRoomFor(ctx, path, peer, func(s *step) bool {
		return q.JoiningCode != nil && s.linkOf(q.JoiningCode) != nil || hub.GroupInfo(s.hubRoom(), peer, q, nil).Allowed
	})
	if errors.Is(err, ErrNotFound) {
		return refuse(wire.GroupInfoNotAuthorized)
	}
	if err != nil {
		return Reply{}, err
	}
	if err := r.allow(ctx, "groupInfo", peer+" "+path.Key(), r.cfg.GroupInfos); err != nil {
		return Reply{}, err
	}
	var answer []byte
	_, err = r.runStep(ctx, id, nil, store.Settle{}, func(s *step) error {
		var err error
		answer, err = s.onGroupInfoRequest(peer, q)
		return err
	})
	if err != nil {
		return Reply{}, err
	}
	if answer == nil {
		return refuse(wire.GroupInfoNotAuthorized)
	}
	return Reply{Body: answer}, nil
}

func (s *step) onGroupInfoRequest(peer string, q *wire.GroupInfoRequest) ([]byte, error) {
	v := s.room
	if v.group == nil {
		return nil, nil
	}
	var link *joinLink
	stands := wire.LinkGood
	if q.JoiningCode != nil {
		link, stands = s.judgeCode(q.JoiningCode)
	}
	verdict := hub.GroupInfo(s.hubRoom(), peer, q, s.joinCode(link))
	if verdict.Allowed { // otherwise anybody could make us ask a provider that has nothing to do with it for its authorities
		if err := v.judge.validate(mls.CredentialCheck{Credential: &q.Credential, SignatureKey: q.SignatureKey, Use: mls.CredentialOfMember, Now: s.now}); err != nil {
			verdict.Allowed, verdict.Reason = false, err.Error()
		}
	}
	if !verdict.Allowed {
		s.Log.Info().Stringer("room", v.head.ID).Str("peer", peer).Str("reason", verdict.Reason).Str("code", whyLink[stands]).Str("fate", "refused").Msg("the group's state was not given")
		return nil, nil
	}
	leaf, ok := v.ownLeaf(s.bot)
	if own := v.group.OwnLeaves(); !ok && len(own) > 0 {
		leaf, ok = own[0], true // a direct chat has no bot in it
	}
	if !ok {
		return nil, nil
	}
	raw, err := v.group.GroupInfo(leaf, true, nil)
	if err != nil {
		return nil, fmt.Errorf("describe the group of room %s: %w", v.head.ID, err)
	}
	m, err := mls.UnmarshalMLSMessage(raw)
	if err != nil {
		return nil, err
	}
	content := &wire.GroupInfoRatchetTree{GroupInfo: m.GroupInfo, Tree: mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, Tree: v.group.RatchetTree()}}
	for _, p := range v.st.Proposals {
		message, err := wire.ParseMessage(p.Message)
		if err != nil {
			return nil, fmt.Errorf("read a proposal that waits in room %s: %w", v.head.ID, err)
		}
		content.Pending = append(content.Pending, wire.PendingProposal{Proposal: message, HubAcceptedTime: p.AcceptedMS})
	}
	// The key by which the hub is an external sender of the group, where the request's suite can use it.
	key, ok := s.hub.signature[v.group.Suite()].As(q.Suite)
	if !ok {
		key = s.hub.signature[q.Suite]
	}
	response, err := wire.NewGroupInfoResponse(q, v.uri(), content, s.hub.credential, key)
	if err != nil {
		return nil, err
	}
	s.lend(verdict, link)
	return response.Marshal(), nil
}

// lend remembers who got the group's state.
func (s *step) lend(verdict hub.GroupInfoVerdict, link *joinLink) {
	v := s.room
	id := ""
	if link != nil {
		id = link.ID
	}
	var keep []lent
	for _, l := range v.st.Lent {
		if l.UntilMS > s.nowMS() && string(l.Credential) != string(verdict.Borrower) {
			keep = append(keep, l)
		}
	}
	if len(keep) >= maxLent {
		keep = keep[1:]
	}
	v.st.Lent = append(keep, lent{Credential: verdict.Borrower, User: verdict.User, UntilMS: s.now.Add(lendFor).UnixMilli(), Link: id})
}

// borrowed tells whether the group's state was given to a client a moment ago.
func (s *step) borrowed(leaf *mls.LeafNode) (*policy.JoinCode, bool) {
	who, unkeyed := hub.Borrower(&leaf.Credential, leaf.SignatureKey), hub.Borrower(&leaf.Credential, nil)
	for _, l := range s.room.st.Lent {
		if (bytes.Equal(l.Credential, who) || bytes.Equal(l.Credential, unkeyed)) && l.UntilMS > s.nowMS() {
			return s.joinCode(s.liveLink(l.Link)), true
		}
	}
	return nil, false
}

// dropLent forgets a loan that was used, and counts the use of the join link that it was for.
func (s *step) dropLent(joiner *room.Identity, newcomer bool) {
	var keep []lent
	link := ""
	for _, l := range s.room.st.Lent {
		if !wire.IdentifierURI(l.User).Same(joiner.User) {
			keep = append(keep, l)
		} else if l.Link != "" {
			link = l.Link
		}
	}
	if newcomer {
		s.useLink(link)
	}
	s.room.st.Lent = keep
}
