package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// Join joins a room of another hub, in the name of a Matrix user: where the room lets anybody in, or by a joining code. link is
// a join link (docs/extensions.md), and secret its passphrase; or it is the room's URI, and secret a code. The user is
// invited to the portal, or told why not.
func (r *Relay) Join(ctx context.Context, by, link, secret string) error {
	l, err := wire.ParseJoinLink(link)
	if err != nil {
		return errors.New("it is no MIMI room and no join link")
	}
	u, code := l.Room, l.JoiningCode(secret)
	if l.Code == "" && secret != "" {
		code = []byte(secret)
	}
	switch {
	case r.Naming.Own(u):
		return errors.New("it is a room of this bridge: join it on Matrix")
	case r.blockedUser(string(u)):
		return errors.New("its provider is not spoken with")
	case l.Passphrase && secret == "":
		return errors.New("this link needs a passphrase: write it behind the link")
	case len(secret) > wire.MaxPassphrase:
		return errors.New("the code or passphrase is too long")
	}
	var id store.RoomID
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		room, err := tx.RoomByName(ctx, store.NameMIMI, u.Key())
		if errors.Is(err, store.ErrNotFound) {
			room, err = r.newFollowerRoom(ctx, tx, u.Domain(), u)
		}
		id = room.ID
		return err
	})
	if err != nil {
		return err
	}
	return r.act(ctx, id, action{Do: actJoin, By: by, Code: code, Role: l.Role})
}

func (s *step) actJoin(a action) error {
	v := s.room
	user := s.actorOf(a.By)
	if m := v.members.byMXID[a.By]; a.Here && m.Membership != string(event.Join) {
		return nil // left again
	}
	s.agree(a.By, true)
	s.cancel(intentLeave, user)
	if v.group != nil && s.listed(user) {
		m, err := s.memberOf(user)
		if err != nil {
			return err
		}
		s.placeIn(&m, 0, cause{})
		s.setMember(m)
		return nil
	}
	if j := v.st.Join; j != nil && j.By != a.By && (v.st.Asked != nil || v.pending != nil || s.nowMS()-j.SinceMS < askAgainAfter) {
		wait := min(max(joinEvery, s.now.Sub(time.UnixMilli(j.SinceMS))/4), time.Minute)
		s.fx.inputs = append(s.fx.inputs, store.NewInput{Room: v.head.ID, Kind: inputAction, Source: a.Do, Epoch: -1, Body: mustJSON(a),
			NotBefore: s.now.Add(wait).UnixMilli(), CreatedMS: s.nowMS()}) // one after the other
		return nil
	}
	v.st.Join = &joining{By: a.By, Coded: a.Code != nil, Role: a.Role, SinceMS: s.nowMS()}
	s.fx.keep(joinCodeName(v.head.ID), a.Code)
	if v.group != nil {
		return s.tryJoin()
	}
	v.head.State = stateJoining
	if v.head.Group > 0 || v.st.Asked != nil {
		v.st.Asked = nil
	}
	return s.askToJoin(v.st.Join)
}

// joinCodeName names the joining code of the user of ours who joins a room.
func joinCodeName(id store.RoomID) string { return "join." + id.String() }

// codeOf returns the joining code of who joins, nil when there is none.
func (s *step) codeOf(j *joining) ([]byte, error) {
	if !j.Coded {
		return nil, nil
	}
	name := joinCodeName(s.room.head.ID)
	if code := s.fx.secrets[name]; code != nil {
		return code, nil
	}
	code, err := s.Store.Secret(s.ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read the joining code for room %s: %w", s.room.head.ID, err)
	}
	return code, nil
}

// askToJoin asks for the state of the group for who joins.
func (s *step) askToJoin(j *joining) error {
	code, err := s.codeOf(j)
	if err != nil {
		return err
	}
	return s.askGroupInfo(refExternal, s.actorOf(j.By), code)
}

// joinEnds says that nobody joins any more.
func (s *step) joinEnds() {
	if j := s.room.st.Join; j != nil && j.Coded {
		s.fx.keep(joinCodeName(s.room.head.ID), nil)
	}
	if s.room.st.Join != nil {
		s.releaseAll() // what the user said meanwhile
	}
	s.room.st.Join = nil
}

// joinWith makes the external commit by which a user of ours joins a room that it has the address of (draft-ietf-mimi-protocol-06 §5.6).
func (s *step) joinWith(user string, info *wire.OpenedGroupInfo) error {
	v := s.room
	if v.st.Join == nil {
		return nil
	}
	if v.pending != nil {
		return s.joinAgain()
	}
	state, err := policyOf(&info.GroupInfo.Context)
	if err != nil || !wire.IdentifierURI(state.Metadata.RoomURI).Same(v.uri()) {
		return s.joinFailed("the room's description cannot be read")
	}
	if s.logsTooMuch(state) {
		return s.joinFailed(whyLogging)
	}
	params, err := s.externalParams(user, info)
	if err != nil {
		return err
	}
	if state.RoleIndex(user) == policy.RoleNone {
		role := v.st.Join.Role
		if role == policy.RoleNone {
			role = joinRole(state)
		}
		if r := state.Role(role); role <= policy.RoleBanned || r == nil || !r.MayBeActive() {
			return s.joinFailed("the room does not let you in")
		}
		update := policy.ParticipantListUpdate{Added: []policy.UserRolePair{{User: user, Role: role}}}
		params.Proposals = append(params.Proposals, appDataUpdate(mls.ComponentParticipantList, update.Marshal()))
	}
	if v.group != nil {
		return s.joinHeld(user, info, params)
	}
	params.Tree = treeOf(info)
	staged, err := mls.StageExternalCommit(s.Rand, s.now, s.room.mlsc, params)
	if err != nil {
		return s.externalFailed(err)
	}
	return s.sendExternal(staged, user)
}

// joinHeld is joinWith for a group that other users of ours are in already.
func (s *step) joinHeld(user string, info *wire.OpenedGroupInfo, params mls.ExternalCommitParams) error {
	v, context := s.room, &info.GroupInfo.Context
	if v.group.Epoch() != context.Epoch || string(v.group.ConfirmedTranscriptHash()) != string(context.ConfirmedTranscriptHash) {
		return s.joinAgain()
	}
	staged, err := v.group.StageExternalCommit(s.Rand, s.now, params)
	if err != nil {
		return s.externalFailed(err)
	}
	return s.sendPending(pendingRejoin, staged, pendingBlob{Staged: staged.Marshal(), Commit: staged.Commit(), Actor: user, User: user}, nil)
}

// maxJoinTries is how often joining by a link is tried while the room changes, every joinEvery.
const (
	maxJoinTries = 5
	joinEvery    = 2 * time.Second
)

// tryJoin asks for the state of a group in order to join it.
func (s *step) tryJoin() error {
	j := s.room.st.Join
	if j == nil {
		return nil
	}
	switch q := s.room.st.Asked; {
	case s.listed(s.actorOf(j.By)):
		s.joinEnds()
		return nil
	case q != nil && q.Ref != refExternal:
		return nil // its answer is not to be missed, and joinWaits afterwards
	}
	return s.askToJoin(j)
}

// joinWaits lets who joins ask again for whom nothing is under way: another question took the place of theirs.
func (s *step) joinWaits() {
	if v := s.room; v.st.Join != nil && v.st.Asked == nil && v.pending == nil {
		s.later(timerJoin, s.now.Add(joinEvery).UnixMilli())
	}
}

// joinAgain tries again when the room has come to rest.
func (s *step) joinAgain() error {
	j := s.room.st.Join
	if j.Tries++; j.Tries > maxJoinTries {
		return s.joinFailed("the room changes too often")
	}
	s.later(timerJoin, s.now.Add(joinEvery).UnixMilli())
	return nil
}

// joinsAlone tells whether a user of ours who came into a portal, and whom nobody there may bring into its room, may join the
// room by itself: it lets everybody in (docs/mapping.md §4).
func (s *step) joinsAlone(i *store.Intent) bool {
	v := s.room
	if i.Kind != intentAdd || v.head.Kind != store.RoomFollower || !s.own(i.Target) || v.policy.RoleIndex(i.Target) != policy.RoleNone {
		return false
	}
	join := policy.Change{Kind: policy.Join, Role: joinRole(v.policy), Clients: 1}
	return policy.Decide(v.policy, policy.Actor{URI: i.Target}, join).Allowed
}

// joinAlone lets those join whom joinsAlone was about.
func (s *step) joinAlone() error {
	list := s.alone
	s.alone = nil
	for _, mxid := range list {
		if err := s.actJoin(action{Do: actJoin, By: mxid, Here: true}); err != nil {
			return err
		}
	}
	return nil
}

// coming tells whether something is under way that brings a user into the room, whom the list does not have yet: a commit that
// was sent, or that somebody joins a room that we do not hold.
func (s *step) coming(user string) bool {
	v := s.room
	if j := v.st.Join; j != nil && s.actorOf(j.By) == user {
		return true
	}
	return slices.ContainsFunc(v.intents, func(i store.Intent) bool {
		return i.Kind == intentAdd && i.Target == user && i.State == store.IntentStaged
	})
}

// joinLeft: a user of ours went away from the portal. Before a commit was sent it is as if nobody had wanted to join.
func (s *step) joinLeft(mxid string) {
	v := s.room
	if j := v.st.Join; j != nil && j.By == mxid && v.group != nil && (v.pending == nil || v.pending.Kind != pendingRejoin) {
		s.joinEnds()
		if q := v.st.Asked; q != nil && q.Ref == refExternal {
			v.st.Asked = nil // the answer is for nobody else
			s.fx.keep(askKeyName(v.head.ID), nil)
		}
	}
}

// joinRole is the role in which an outsider may join.
func joinRole(state *policy.State) uint32 {
	outsider := state.Role(policy.RoleNone)
	if outsider == nil {
		return policy.RoleNone
	}
	for _, t := range outsider.AuthorizedChanges {
		if t.From == policy.RoleNone {
			for _, to := range t.Targets {
				if r := state.Role(to); to > policy.RoleBanned && r != nil && r.MayBeActive() {
					return to
				}
			}
		}
	}
	// Where a code or a preauthorisation decides, newcomers get the role that most have.
	count, best := map[uint32]int{}, policy.RoleNone
	for _, p := range state.Participants {
		count[p.Role]++
		if r := state.Role(p.Role); p.Role > policy.RoleBanned && r != nil && !r.Has(policy.CanRemoveParticipant) && count[p.Role] > count[best] {
			best = p.Role
		}
	}
	return best
}

// joinFailed tells the user who wanted to join that it did not work.
func (s *step) joinFailed(why string) error {
	v := s.room
	if v.st.Join == nil {
		return nil
	}
	by := v.st.Join.By
	s.joinEnds()
	for _, kind := range []string{intentLeave, intentRemove} {
		s.cancel(kind, s.actorOf(by))
	}
	if v.group != nil { // others of ours are in the room
		if m, ok := v.members.byMXID[by]; ok && m.Membership == string(event.Join) && !s.listed(m.URI) {
			s.matrix(event.KickUser{Target: userID(by), Reason: why, Was: event.Join}) // came into the portal on its own
			m.Membership = string(event.Leave)
			s.setMember(m)
		}
		s.tellUser(by, "The room "+v.head.URI+" could not be joined: "+why+".")
		return nil
	}
	v.head.State, v.head.Epoch = stateClosed, -1
	if m, ok := v.members.byMXID[by]; ok && m.Listed {
		m.Listed = false
		s.setMember(m)
	}
	s.releaseAll()
	s.tellUser(by, "The room "+v.head.URI+" could not be joined: "+why+".")
	return nil
}
