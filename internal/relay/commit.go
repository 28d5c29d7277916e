package relay

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mimiside/follower"
	"github.com/matrix-mimi/bridge/mimiside/hub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/room"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// before is the room as it was before a commit, to say what the commit changed.
type before struct {
	policy *policy.State
	leaves room.Leaves
}

func (s *step) snapshot() before { return before{s.room.policy, s.room.leaves} }

// maxRounds bounds the commits of one step.
const maxRounds = 32

// advance carries out the wishes that can be carried out now. As the hub each commit counts at once; as a follower one is
// sent, and the rest waits for its fate.
func (s *step) advance() error {
	v := s.room
	if v.group == nil || v.head.State != stateActive || s.drop {
		return nil
	}
	for range maxRounds {
		if v.pending != nil || len(v.intents) == 0 {
			return nil
		}
		if err := s.leaveAll(); err != nil || s.drop {
			return err
		}
		p, err := s.makePlan()
		if err == nil {
			err = s.joinAlone()
		}
		if err != nil || p == nil || p.empty() {
			return err
		}
		params, err := s.commitParams(p)
		if err != nil {
			return err
		}
		staged, err := v.group.StageCommit(s.Rand, s.now, params)
		if err != nil {
			if err = s.planFailed(p, err); err != nil {
				return err
			}
			continue
		}
		if v.head.Kind == store.RoomHub {
			err = s.commitAsHub(p, staged)
		} else {
			err = s.commitAsFollower(p, staged)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *step) commitParams(p *plan) (mls.CommitParams, error) {
	g := s.room.group
	params := mls.CommitParams{Leaf: p.leaf, Proposals: p.proposals, Adds: p.checked, Refs: p.refs, Path: p.path, AAD: room.HandshakeAAD(g.Dictionary())}
	if !p.renews() {
		return params, nil
	}
	// A commit with a path brings a new leaf: it shows the credential that the client has today.
	_, client, err := s.clientOfURI(s.ctx, p.committer)
	if err != nil {
		return params, err
	}
	s.shown(&client)
	m, ok := g.Member(p.leaf)
	if !ok || m.Leaf.Credential.Equal(&client.Credential) || !bytes.Equal(m.Leaf.SignatureKey, client.Key.Public()) {
		return params, nil
	}
	params.NewLeaf = &mls.LeafParams{Credential: client.Credential, Capabilities: m.Leaf.Capabilities, Extensions: m.Leaf.Extensions}
	return params, nil
}

// renews tells whether a commit brings a new leaf of the committer.
func (p *plan) renews() bool { return p.path || len(p.removed) > 0 }

// planFailed judges a commit that could not be made. One wish alone that MLS does not allow is given up; several are
// tried one by one.
func (s *step) planFailed(p *plan, cause error) error {
	if mls.KindOf(cause) == mls.KindBug {
		return fmt.Errorf("make a commit in room %s: %w", s.room.head.ID, cause)
	}
	s.Log.Warn().Err(cause).Stringer("room", s.room.head.ID).Int("wishes", len(p.covers)).Msg("a commit could not be made")
	covers := p.covers
	if len(covers) > 1 {
		covers = covers[:1] // the others get their chance without it
	}
	for _, seq := range covers {
		if i := s.intent(seq); i != nil {
			d, err := dataOf(i)
			if err != nil {
				return err
			}
			s.refuse(*i, d, "the change is not possible in this room")
			s.closeIntents(seq)
		}
	}
	return nil
}

// commitAsHub accepts our own commit: it counts when this step's transaction does (T16).
func (s *step) commitAsHub(p *plan, staged *mls.Staged) error {
	killpoint.Hit("K23")
	was := s.snapshot()
	var welcome *mls.Welcome
	if raw := staged.Welcome(); raw != nil {
		m, err := mls.UnmarshalMLSMessage(raw)
		if err != nil {
			return err
		}
		welcome = m.Welcome
	}
	actor := p.committer
	if err := s.acceptCommit(staged, welcome, p.committer, nil); err != nil {
		return err
	}
	if len(p.keys) > 0 {
		if err := s.addOwn(welcome, staged.Tree(), p.keys); err != nil {
			return err
		}
	}
	s.renewed(p)
	s.closeIntents(p.covers...)
	s.founded()
	return s.reconcile(was, cause{actor: actor})
}

// acceptCommit is what the hub does with every accepted commit, its own or a follower's: log it, move to the next epoch,
// fan it out, and send the Welcome to whom it is for.
func (s *step) acceptCommit(staged *mls.Staged, welcome *mls.Welcome, sender string, external []wire.Message) error {
	v := s.room
	at := s.hubRoom().Accept(s.now)
	v.head.LastAccepted = int64(at)
	providers := v.followers(s.Naming.Domain)
	base := v.group.Epoch()
	message := wire.NewMessage(staged.Commit())
	s.logEntry(store.LogCommit, base, message, sender, at)
	tree := staged.Tree()
	var welcomeTo []string
	if welcome != nil {
		welcomeTo = hub.WelcomeProviders(welcome, staged, s.route)
	}
	if err := s.merge(staged); err != nil {
		return err
	}
	v.st.Proposals = nil
	killpoint.Hit("K31")
	s.fanout(providers, wire.FanoutMessage{Timestamp: at, Message: message, ExternalProposals: external})
	if welcome != nil {
		welcomeTo = slices.DeleteFunc(welcomeTo, func(d string) bool { return d == s.Naming.Domain })
		s.fanout(welcomeTo, hub.WelcomeItem(at, welcome, tree))
		s.passes("", "K28")
	}
	return nil
}

// merge moves the group to the next epoch (T7, T10).
func (s *step) merge(staged *mls.Staged) error {
	v := s.room
	changes, err := v.group.Merge(s.now, staged)
	if err != nil {
		return fmt.Errorf("move room %s to epoch %d: %w", v.head.ID, staged.Epoch(), err)
	}
	s.passes("K27", "")
	s.fx.changes = append(s.fx.changes, changes)
	if err := s.enter(v.group); err != nil {
		return err
	}
	if rows := int64(v.group.Epoch()); rows > 0 {
		s.release(rows)
	}
	return nil
}

// release makes inputs ready that wait for an epoch up to this one.
func (s *step) release(epoch int64) {
	if s.fx.release == nil || *s.fx.release < epoch {
		s.fx.release = &epoch
	}
}

// releaseAll makes everything ready that waits for whatever.
func (s *step) releaseAll() { s.release(math.MaxInt64) }

// addOwn joins our own clients that a commit added to the group that we are in already.
func (s *step) addOwn(welcome *mls.Welcome, tree []byte, keys []mls.JoinKey) error {
	if welcome == nil {
		return fmt.Errorf("add own clients in room %s: no Welcome", s.room.head.ID)
	}
	_, changes, err := s.room.group.AddOwnFromWelcome(s.now, mls.JoinParams{Welcome: welcome, Tree: tree, Keys: keys})
	if err != nil {
		return fmt.Errorf("add own clients in room %s: %w", s.room.head.ID, err)
	}
	s.fx.changes = append(s.fx.changes, changes)
	return s.enterOwn()
}

// enterOwn takes notice of new own leaves.
func (s *step) enterOwn() error {
	s.room.setGroup(s.room.group)
	return s.room.readPolicy()
}

// acceptProposals is what the hub does with accepted proposals, its own or a follower's: log them, keep them for those who join by an
// external commit (draft-ietf-mimi-protocol-06 §5.6, pending_proposals), and fan them out.
func (s *step) acceptProposals(list []wire.Message, sender string, at uint64) {
	v := s.room
	v.head.LastAccepted = int64(at)
	for _, m := range list {
		s.logEntry(store.LogProposal, v.group.Epoch(), m, sender, at)
		if !slices.ContainsFunc(v.st.Proposals, func(p heldProposal) bool { return bytes.Equal(p.Message, m.Raw) }) {
			v.st.Proposals = append(v.st.Proposals, heldProposal{Message: m.Raw, AcceptedMS: at})
		}
	}
	s.fanout(v.followers(s.Naming.Domain), wire.FanoutMessage{Timestamp: at, Message: list[0], MoreProposals: list[1:]})
}

// logEntry writes down what the hub accepted, in which epoch it was made, of whom and when (milliseconds since 1970).
func (s *step) logEntry(kind string, epoch uint64, m wire.Message, sender string, at uint64) {
	hash := m.Hash()
	s.fx.log = append(s.fx.log, store.LogEntry{Room: s.room.head.ID, Seq: s.seq(), Kind: kind, Group: s.room.head.Group, Epoch: int64(epoch),
		Hash: hash[:], Sender: sender, AcceptedMS: int64(at)})
}

// route says where the Welcome for a KeyPackage goes, "" when that is not known.
func (s *step) route(ref []byte) string {
	r, err := s.Store.Route(s.ctx, ref)
	if err != nil {
		return ""
	}
	return r.Provider
}

// hubRoom is the room as the hub's decider sees it.
func (s *step) hubRoom() *hub.Room {
	v := s.room
	return &hub.Room{URI: v.uri(), Domain: s.Naming.Domain, Group: v.group, Policy: v.policy, Leaves: v.leaves,
		LastAccepted: uint64(v.head.LastAccepted), Tolerance: hubTolerance,
		Envelope: policy.DefaultEnvelope(), Source: s.source}
}

// hubTolerance is how many epochs a message may be behind: what members remember of past epochs.
const hubTolerance = mls.DefaultPastEpochs

// pendingBlob is the stored form of a commit under way: the staged state, and the keys of own clients that it adds.
type pendingBlob struct {
	Staged []byte       `json:"staged"`
	Keys   []pendingKey `json:"keys,omitempty"`
	Commit []byte       `json:"commit"`
	// Actor is who committed; User is who joins by external commit.
	Actor string `json:"actor"`
	User  string `json:"user,omitempty"`
}

type pendingKey struct {
	Public  []byte `json:"public"`
	Private []byte `json:"private"`
}

// Kinds of pending commits.
const (
	pendingMember   = "commit"
	pendingExternal = "external" // joins a group that we do not hold
	pendingRejoin   = "rejoin"   // brings one of our leaves back into a group that we hold
)

// commitAsFollower stores a staged commit and sends it to the hub (T6). The group does not change.
func (s *step) commitAsFollower(p *plan, staged *mls.Staged) error {
	killpoint.Hit("K23")
	blob := pendingBlob{Staged: staged.Marshal(), Commit: staged.Commit(), Actor: p.committer}
	for _, k := range p.keys {
		blob.Keys = append(blob.Keys, pendingKey{Public: k.KeyPackage.Marshal(), Private: k.Private.Marshal()})
	}
	for _, seq := range p.covers {
		if i := s.intent(seq); i != nil {
			i.State = store.IntentStaged
			s.putIntent(*i)
		}
	}
	return s.sendPending(pendingMember, staged, blob, p.covers)
}

func (s *step) sendPending(kind string, staged *mls.Staged, blob pendingBlob, covers []int64) error {
	v := s.room
	bundle, err := bundleOf(staged)
	if err != nil {
		return err
	}
	hash := sha256.Sum256(staged.Commit())
	o := s.mimi(v.head.Hub, verbUpdate, bundle.Marshal())
	ask(o, refUpdate, 0)
	v.pending = &store.PendingCommit{Room: v.head.ID, BaseEpoch: int64(staged.Epoch()) - 1, Kind: kind, CommitHash: hash[:],
		Transcript: staged.ConfirmedTranscriptHash(), OutboundSeq: o.Seq, Intents: covers, Staged: mustJSON(blob), CreatedMS: s.nowMS()}
	s.fx.setPending = v.pending
	v.st.PendingUntil = s.now.Add(s.cfg.PendingWait).UnixMilli()
	s.later(timerPending, v.st.PendingUntil)
	s.passes("", "K24")
	return nil
}

// bundleOf puts a commit, its Welcome, GroupInfo and tree into an update (draft-ietf-mimi-protocol-06 §5.3).
func bundleOf(staged *mls.Staged) (*wire.HandshakeBundle, error) {
	info, err := mls.UnmarshalMLSMessage(staged.GroupInfo())
	if err != nil {
		return nil, err
	}
	b := &wire.HandshakeBundle{Message: wire.NewMessage(staged.Commit()), GroupInfo: &wire.GroupInfoOption{Full: info.GroupInfo},
		Tree: &mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, Tree: staged.Tree()}}
	if raw := staged.Welcome(); raw != nil {
		m, err := mls.UnmarshalMLSMessage(raw)
		if err != nil {
			return nil, err
		}
		b.Welcome = m.Welcome
	}
	return b, nil
}

// pendingView is the pending commit as the follower's decider sees it, nil when there is none.
func (s *step) pendingView() *follower.Pending {
	p := s.room.pending
	if p == nil {
		return nil
	}
	return &follower.Pending{BaseEpoch: uint64(p.BaseEpoch), CommitHash: p.CommitHash, Transcript: p.Transcript}
}

// settlePending carries out what became of our commit.
func (s *step) settlePending(fate follower.Fate, why string) error {
	switch fate {
	case follower.Merge:
		return s.mergePending()
	case follower.Lost:
		return s.dropPending(true, "")
	case follower.Refused:
		return s.dropPending(s.loanEnded(), why)
	case follower.Behind:
		// The commits in between may be on their way: only when they do not come in time is the group joined anew.
		if until := s.room.pending.CreatedMS + s.cfg.Waiting.Age.Milliseconds(); s.nowMS() < until {
			s.later(timerAsk, until)
			return nil
		}
		if err := s.dropPending(true, ""); err != nil {
			return err
		}
		return s.resync("our commit met a group that moved on by more than one epoch")
	case follower.Ask:
		s.later(timerAsk, s.now.Add(s.cfg.AskAfter).UnixMilli())
	}
	return nil
}

// loanEnded tells whether an external commit of ours may have been refused only because it came too late: the hub lends the
// group's state for a short time. Then it is asked for anew, a join maxJoinTries times at most.
func (s *step) loanEnded() bool {
	p := s.room.pending
	if p.Kind == pendingMember || s.nowMS()-p.CreatedMS < lendFor.Milliseconds() {
		return false
	}
	j := s.joinBy(p)
	if j == nil {
		return true
	}
	j.Tries++
	return j.Tries <= maxJoinTries
}

// mergePending moves to the epoch of our own commit: the hub took it (T7).
func (s *step) mergePending() error {
	v := s.room
	p := v.pending
	var blob pendingBlob
	if err := json.Unmarshal(p.Staged, &blob); err != nil {
		return fmt.Errorf("read the pending commit of room %s: %w", v.head.ID, err)
	}
	killpoint.Hit("K26")
	s.clearPending()
	if p.Kind == pendingExternal {
		return s.mergeExternal(&blob)
	}
	staged, err := v.group.LoadStaged(blob.Staged)
	if err != nil {
		return fmt.Errorf("read the pending commit of room %s: %w", v.head.ID, err)
	}
	was := s.snapshot()
	welcome, tree := staged.Welcome(), staged.Tree()
	if err := s.merge(staged); err != nil {
		return err
	}
	if len(blob.Keys) > 0 {
		if err := s.addPendingKeys(&blob, welcome, tree); err != nil {
			return err
		}
	}
	s.noteRenewal(blob.Actor)
	s.closeIntents(p.Intents...)
	if p.Kind == pendingRejoin {
		if j := s.room.st.Join; j != nil && s.actorOf(j.By) == blob.User {
			s.joinEnds()
		}
		if err := s.dropResync(blob.User); err != nil {
			return err
		}
	}
	if err := s.reconcile(was, cause{actor: blob.Actor, ours: true}); err != nil {
		return err
	}
	return s.advance()
}

func (s *step) addPendingKeys(blob *pendingBlob, welcome, tree []byte) error {
	m, err := mls.UnmarshalMLSMessage(welcome)
	if err != nil {
		return err
	}
	keys := make([]mls.JoinKey, len(blob.Keys))
	for i, k := range blob.Keys {
		if keys[i].KeyPackage, err = mls.UnmarshalKeyPackage(k.Public); err != nil {
			return err
		}
		if keys[i].Private, err = mls.UnmarshalKeyPackagePrivate(k.Private); err != nil {
			return err
		}
	}
	return s.addOwn(m.Welcome, tree, keys)
}

// clearPending forgets the commit under way and lets go what waited for it.
func (s *step) clearPending() {
	v := s.room
	s.fx.dropPending, s.fx.setPending = true, nil
	s.fx.dropOut = append(s.fx.dropOut, store.Outbound{Room: v.head.ID, Dest: destMIMI + v.head.Hub, Seq: v.pending.OutboundSeq})
	v.pending, v.st.PendingUntil = nil, 0
	s.release(v.head.Epoch)
	s.joinWaits()
}

// dropPending discards our commit with its secrets (T8). With again its wishes stay open and go into another commit;
// otherwise they fail, and who asked is told why.
func (s *step) dropPending(again bool, why string) error {
	killpoint.Hit("K29")
	p := s.room.pending
	s.clearPending()
	if again {
		for _, i := range s.reopenIntents(p.Intents, follower.MaxTries) {
			d, err := dataOf(&i)
			if err != nil {
				return err
			}
			s.refuse(i, d, "the room changes too often")
		}
		if p.Kind != pendingMember {
			return s.externalLost(p.Kind)
		}
		return nil
	}
	for _, seq := range p.Intents {
		i := s.intent(seq)
		if i == nil {
			continue
		}
		d, err := dataOf(i)
		if err != nil {
			return err
		}
		s.refuse(*i, d, why)
		s.closeIntents(seq)
	}
	if p.Kind != pendingMember {
		return s.externalRefused(p, why)
	}
	return nil
}
