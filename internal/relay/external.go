package relay

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/follower"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// askGroupInfo asks the hub for the group's state on behalf of a user of ours (draft-ietf-mimi-protocol-06 §5.6). The HPKE
// key of the request is kept in the room's state, sealed, until the answer comes.
func (s *step) askGroupInfo(ref, user string, code []byte) error {
	v := s.room
	if v.st.Asked != nil && v.st.Asked.Ref == ref && s.nowMS()-v.st.Asked.SinceMS < askAgainAfter {
		return nil
	}
	_, client, err := s.clientOfURI(s.ctx, user)
	if err != nil {
		return err
	}
	private, public, err := mls.GenerateKeyPair(s.Rand, client.Key.Suite())
	if err != nil {
		return err
	}
	q := &wire.GroupInfoRequest{Credential: client.Credential, PublicKey: public, JoiningCode: code}
	if err := q.Sign(client.Key); err != nil {
		return fmt.Errorf("ask for the state of room %s: %w", v.head.ID, err)
	}
	o := s.mimi(v.head.Hub, verbGroupInfo, q.Marshal())
	ask(o, ref+":"+user, 0)
	v.st.Asked = &asked{Ref: ref, User: user, Seq: o.Seq, SinceMS: s.nowMS(), Suite: q.Suite}
	s.fx.keep(askKeyName(v.head.ID), private)
	return nil
}

const askAgainAfter = 60_000 // milliseconds after which an unanswered question is asked anew

// onGroupInfo takes the group's state from the hub.
func (s *step) onGroupInfo(a *store.Answer, ref string) error {
	q := s.room.st.Asked
	if q == nil || q.Seq != a.Seq {
		return nil
	}
	s.room.st.Asked = nil
	err := s.onGroupInfoOf(a, ref, q)
	s.joinWaits()
	return err
}

func (s *step) onGroupInfoOf(a *store.Answer, ref string, q *asked) error {
	v := s.room
	info, why, err := s.openGroupInfo(a, q)
	if err != nil {
		return err
	}
	if info == nil {
		return s.groupInfoRefused(ref, why, a.Class == "dead")
	}
	switch ref {
	case refEvidence:
		if v.pending == nil {
			return nil
		}
		return s.settlePending(s.pendingView().OnGroupInfo(&info.GroupInfo.Context), "")
	case refGroupInfo:
		return s.rejoinWith(q.User, info)
	case refCompare:
		return s.onCompared(&info.GroupInfo.Context)
	default:
		return s.joinWith(q.User, info)
	}
}

// openGroupInfo verifies and decrypts the hub's answer.
func (s *step) openGroupInfo(a *store.Answer, q *asked) (*wire.OpenedGroupInfo, string, error) {
	if a.Class != "done" {
		return nil, "the room's provider could not be reached", nil
	}
	received, err := wire.UnmarshalGroupInfoResponse(a.Body)
	if err != nil {
		return nil, "the room's provider gave an answer that was not understood", nil
	}
	switch received.Status() {
	case wire.GroupInfoSuccess:
	case wire.GroupInfoNoSuchRoom:
		return nil, "there is no such room", nil
	default:
		if j := s.room.st.Join; j != nil && j.Coded {
			return nil, whyCode, nil
		}
		return nil, "the room does not let you in", nil
	}
	key, err := s.Store.Secret(s.ctx, askKeyName(s.room.head.ID))
	if errors.Is(err, store.ErrNotFound) {
		return nil, "the question was forgotten", nil
	}
	if err != nil {
		return nil, "", err
	}
	s.fx.keep(askKeyName(s.room.head.ID), nil)
	info, err := received.Check(q.Suite, s.room.uri(), key)
	if err != nil {
		s.Log.Warn().Err(err).Stringer("room", s.room.head.ID).Msg("the hub's description of the group is not valid")
		return nil, "the room's provider gave an answer that does not verify", nil
	}
	if !room.IsProvider(&info.HubSender.Credential, s.room.head.Hub) {
		return nil, "the room's provider gave an answer that does not verify", nil
	}
	if suite := info.GroupInfo.Context.Suite; suite != q.Suite { // the key of the client is of one suite
		return nil, fmt.Sprintf("it is encrypted in a way for which this bridge has no keys (MLS ciphersuite %d)", suite), nil
	}
	return info, "", nil
}

func askKeyName(id store.RoomID) string { return "ask." + id.String() }

// groupInfoRefused: the hub does not give the group's state.
func (s *step) groupInfoRefused(ref, why string, unreachable bool) error {
	v := s.room
	switch {
	case ref == refExternal && why == whyCode:
		return s.codeRefused()
	case ref == refExternal:
		return s.joinFailed(why)
	case ref == refEvidence && v.pending != nil:
		// Without the state there is no evidence. Only a hub that says no tells something: we are not in the room.
		if !unreachable {
			return s.settlePending(follower.Refused, why)
		}
	}
	s.later(timerResync, s.now.Add(resyncEvery(v.st.Resync)).UnixMilli())
	return nil
}

// askEvidence asks the hub in which epoch the group is, to learn the fate of our commit (T9).
func (s *step) askEvidence() error {
	user := s.someUser()
	if s.room.pending == nil || user == "" {
		return nil
	}
	return s.askGroupInfo(refEvidence, user, nil)
}

// someUser is a user of ours that has, or had, a client in the group.
func (s *step) someUser() string {
	v := s.room
	if v.group != nil {
		for _, leaf := range v.group.OwnLeaves() {
			if id, ok := v.leaves.Who(leaf); ok {
				return s.listedURI(id.User)
			}
		}
	}
	if v.st.Join != nil {
		return s.actorOf(v.st.Join.By)
	}
	return ""
}

// resync marks the group as out of step with the room: nothing is sent any more until it was joined anew (docs/mapping.md §11).
func (s *step) resync(why string) error {
	v := s.room
	if v.head.Kind != store.RoomFollower || v.group == nil {
		return nil
	}
	if v.head.State == stateDesynced {
		return nil
	}
	v.head.State = stateDesynced
	v.st.Resync = &resync{SinceMS: s.nowMS(), Reason: why}
	for _, leaf := range v.group.OwnLeaves() {
		if id, ok := v.leaves.Who(leaf); ok {
			v.st.Resync.Left = append(v.st.Resync.Left, s.listedURI(id.User))
		}
	}
	s.Log.Warn().Stringer("room", v.head.ID).Str("reason", why).Msg("the group is joined anew")
	s.notice("The connection to this room was interrupted; some messages may be missing.", "")
	return s.tryResync()
}

// tryResync asks for the group's state in order to join it anew.
func (s *step) tryResync() error {
	v := s.room
	if v.st.Resync == nil || len(v.st.Resync.Left) == 0 {
		return nil
	}
	v.st.Resync.Tries++
	s.later(timerResync, s.now.Add(resyncEvery(v.st.Resync)).UnixMilli())
	return s.askGroupInfo(refGroupInfo, v.st.Resync.Left[0], nil)
}

// rejoin brings the client of a participant of ours back into a group that we hold.
func (s *step) rejoin(user string) error {
	v := s.room
	if v.st.Resync == nil {
		v.st.Resync = &resync{SinceMS: s.nowMS(), Reason: "a client was removed"}
	}
	for _, u := range v.st.Resync.Left {
		if u == user {
			return nil
		}
	}
	v.st.Resync.Left = append(v.st.Resync.Left, user)
	return s.tryResync()
}

// rejoinWith makes the external commit by which a client of ours comes back. When the group that we hold is in the hub's
// epoch, the new leaf joins the pool; otherwise it begins a new one, and the other clients follow.
func (s *step) rejoinWith(user string, info *wire.OpenedGroupInfo) error {
	v := s.room
	if v.pending != nil || v.st.Resync == nil {
		return nil
	}
	context := &info.GroupInfo.Context
	params, err := s.externalParams(user, info)
	if err != nil {
		return err
	}
	state, err := policyOf(context)
	if err != nil || state.RoleIndex(user) <= policy.RoleBanned {
		return s.dropResync(user)
	}
	inStep := s.inStep(context)
	if inStep && v.head.State == stateDesynced && v.group.OwnCount() > 0 {
		return s.backInStep() // nothing was lost after all
	}
	if inStep {
		staged, err := v.group.StageExternalCommit(s.Rand, s.now, params)
		if err != nil {
			return s.externalFailed(err)
		}
		return s.sendPending(pendingRejoin, staged, pendingBlob{Staged: staged.Marshal(), Commit: staged.Commit(), Actor: user, User: user}, nil)
	}
	params.Tree = treeOf(info)
	staged, err := mls.StageExternalCommit(s.Rand, s.now, s.room.mlsc, params)
	if err != nil {
		return s.externalFailed(err)
	}
	return s.sendExternal(staged, user)
}

// sendExternal sends an external commit that begins a new group. What is held of an older one is of no use any more.
func (s *step) sendExternal(staged *mls.Staged, user string) error {
	v := s.room
	s.fx.dropGroup, s.fx.changes = true, nil
	v.setGroup(nil)
	v.head.State = stateJoining
	v.head.Epoch = int64(staged.Epoch()) - 1
	return s.sendPending(pendingExternal, staged, pendingBlob{Staged: staged.Marshal(), Commit: staged.Commit(), Actor: user, User: user}, nil)
}

func treeOf(info *wire.OpenedGroupInfo) []byte {
	if info.Tree.Representation == mls.RatchetTreeFull {
		return info.Tree.Tree
	}
	return nil
}

func policyOf(c *mls.GroupContext) (*policy.State, error) {
	dict, err := c.Extensions.Dictionary()
	if err != nil {
		return nil, err
	}
	return policyState(dict)
}

// externalParams are those of an external commit of a user's client. An older leaf of the same client goes with it.
func (s *step) externalParams(user string, info *wire.OpenedGroupInfo) (mls.ExternalCommitParams, error) {
	_, client, err := s.clientOfURI(s.ctx, user)
	if err != nil {
		return mls.ExternalCommitParams{}, err
	}
	dict, err := info.GroupInfo.Context.Extensions.Dictionary()
	if err != nil {
		return mls.ExternalCommitParams{}, err
	}
	p := mls.ExternalCommitParams{GroupInfo: info.GroupInfo, AAD: room.HandshakeAAD(dict),
		Leaf: mls.LeafParams{SignatureKey: client.Key, Credential: client.Credential, Capabilities: puppets.Capabilities(), Extensions: puppets.LeafExtensions()}}
	for _, pending := range info.Pending {
		if m := pending.Proposal.MLS; m != nil && m.Public != nil && m.Public.Content.Proposal != nil && m.Public.Content.Proposal.Type == mls.ProposalSelfRemove {
			p.SelfRemoves = append(p.SelfRemoves, pending.Proposal.Raw)
		}
	}
	public, err := mls.NewPublicGroup(s.now, s.room.mlsc, mls.PublicGroupParams{GroupInfo: info.GroupInfo, Tree: treeOf(info)})
	if err != nil {
		return p, fmt.Errorf("read the group of room %s: %w", s.room.head.ID, err)
	}
	if m, ok := public.MemberBySignatureKey(client.Key.Public()); ok {
		leaf := m.Index
		p.Remove = &leaf
	}
	return p, nil
}

// externalFailed: an external commit could not be made from what the hub gave.
func (s *step) externalFailed(cause error) error {
	if mls.KindOf(cause) == mls.KindBug {
		return cause
	}
	s.Log.Warn().Err(cause).Stringer("room", s.room.head.ID).Msg("the group cannot be joined")
	if s.room.st.Join != nil {
		return s.joinFailed("the room cannot be joined")
	}
	s.later(timerResync, s.now.Add(resyncEvery(s.room.st.Resync)).UnixMilli())
	return nil
}

// mergeExternal: the hub took the external commit by which we joined (T15).
func (s *step) mergeExternal(blob *pendingBlob) error {
	v := s.room
	staged, err := mls.LoadStagedExternal(s.room.mlsc, blob.Staged)
	if err != nil {
		return fmt.Errorf("read the external commit of room %s: %w", v.head.ID, err)
	}
	g, err := mls.NewGroupFromStaged(s.now, s.room.mlsc, staged)
	if err != nil {
		return fmt.Errorf("join room %s: %w", v.head.ID, err)
	}
	left := v.st.Resync
	if err := s.joined(g, blob.User); err != nil {
		return err
	}
	v.st.Resync = left
	return s.dropResync(blob.User)
}

// dropResync takes a user off the list of those who are to come back, and goes on with the next.
func (s *step) dropResync(user string) error {
	v := s.room
	if v.st.Resync == nil {
		return nil
	}
	var left []string
	for _, u := range v.st.Resync.Left {
		if u != user {
			left = append(left, u)
		}
	}
	if v.st.Resync.Left = left; len(left) > 0 {
		return s.tryResync()
	}
	v.st.Resync = nil
	s.releaseAll()
	if v.head.State == stateDesynced {
		// Nobody of ours is a participant any more.
		return s.closeRoom()
	}
	return nil
}

// backInStep: the group turned out to be in the room's epoch.
func (s *step) backInStep() error {
	s.room.head.State = stateActive
	s.room.st.Resync = nil
	s.releaseAll()
	return nil
}

// externalLost: another commit took the epoch of our external commit. The group's state is asked for again.
func (s *step) externalLost(kind string) error {
	v := s.room
	switch {
	case v.st.Resync != nil:
		return s.tryResync()
	case v.st.Join != nil:
		return s.askToJoin(v.st.Join)
	}
	return nil
}

// joinBy is the joining that an external commit is for, nil when it brings back a client of somebody else.
func (s *step) joinBy(p *store.PendingCommit) *joining {
	j := s.room.st.Join
	var blob pendingBlob
	if j == nil || json.Unmarshal(p.Staged, &blob) == nil && blob.User != s.actorOf(j.By) {
		return nil
	}
	return j
}

// externalRefused: the hub does not let us in.
func (s *step) externalRefused(p *store.PendingCommit, why string) error {
	v := s.room
	if s.joinBy(p) != nil {
		return s.joinFailed(why)
	}
	if v.st.Resync != nil {
		s.later(timerResync, s.now.Add(resyncEvery(v.st.Resync)).UnixMilli())
	}
	return nil
}
