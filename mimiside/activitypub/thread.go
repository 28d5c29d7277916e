package activitypub

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// Errors of threads.
var (
	// ErrNotMember: the actor of ours has no leaf in the group. Permanent.
	ErrNotMember = errors.New("not a member of the group")
	// ErrOld: bytes of an epoch that is over, or that were opened before; nothing is to be done. Permanent.
	ErrOld = errors.New("message of an epoch that is over")
	// ErrEarly: bytes of an epoch that has not come. They may count once it has.
	ErrEarly = errors.New("message of an epoch to come")
)

// forkTime is how long after a commit another commit of the same epoch can still win.
const forkTime = 2 * time.Minute

// Thread is the MLS group of a conversation of ActivityPub actors, in which some leaves are ours: one for each Matrix user, and
// in a channel that we host one for the channel itself. The credential of a leaf is basic, its identity the id of the actor.
// A Thread does no IO and is not safe for concurrent use; after an error of a caller's transaction it is dropped and loaded again.
type Thread struct {
	Group *mls.Group
	cfg   mls.Config
	fork  *Fork
}

// Fork is what remains of the epoch before a commit, as long as another commit of that epoch can win. It holds secrets.
type Fork struct {
	Epoch  uint64
	Commit [sha256.Size]byte
	Pieces []mls.Piece
	At     time.Time
	// Own says that the commit was of ours; Prev is the fork of the epoch before.
	Own  bool
	Prev *Fork
}

// Over tells that no commit can win against that of the fork any more.
func (f *Fork) Over(now time.Time) bool { return now.Sub(f.At) > forkTime }

// maxForks bounds how many epochs a group can go back.
const maxForks = 4

// put makes a fork the latest one.
func (t *Thread) put(f *Fork) {
	f.Prev, t.fork = t.fork, f
	at := f
	for range maxForks - 1 {
		if at.Prev == nil || f.At.Sub(at.Prev.At) > forkTime {
			break
		}
		at = at.Prev
	}
	at.Prev = nil
}

// forkAt is the fork of an epoch, nil when there is none any more.
func (t *Thread) forkAt(epoch uint64, now time.Time) *Fork {
	for f := t.fork; f != nil; f = f.Prev {
		if f.Epoch == epoch && !f.Over(now) {
			return f
		}
	}
	return nil
}

// Effect is what an operation on a Thread changed and what is to be sent because of it.
type Effect struct {
	// Changes are to be stored with what follows; with Whole set, all pieces are to be stored anew instead.
	Changes []mls.Changes
	Whole   bool
	// Used are the positions of sending ratchets that Messages took.
	Used []mls.Protected
	// Commit and Welcome are of a commit of ours; Proposal and Message of ours, too.
	Commit, Welcome, Proposal, Message []byte
	// Said is what somebody said; nil when the bytes were none of that.
	Said *Said
	// Joined and Left are actors whose leaves came or went; Gone that none of ours is left.
	Joined, Left []string
	Gone         bool
	// By is who committed or proposed.
	By string
	// Lost says that a commit of ours gave way to another: what it did, and what was said after it, is to be done again.
	Lost bool
	// Pending says that proposals wait for a commit.
	Pending bool
}

// Said is a decrypted message.
type Said struct {
	Sender string
	Epoch  uint64
	Data   []byte
}

// Validator judges the leaves of ActivityPub groups: basic credentials in the name of an actor. Verify tells whether a key is that of an actor;
// it must not block, so whoever calls looks up new actors before. Nil verifies nothing.
type Validator struct {
	Verify func(actor string, signatureKey []byte) error
}

// ValidateCredential implements mls.CredentialValidator.
func (v Validator) ValidateCredential(c mls.CredentialCheck) error {
	if c.Credential.Type != mls.CredentialBasic || !validURL(string(c.Credential.Identity)) {
		return errors.New("credential names no actor")
	}
	if c.Replaces != nil && !c.Replaces.Equal(c.Credential) {
		return errors.New("credential would change its actor")
	}
	if v.Verify != nil {
		return v.Verify(string(c.Credential.Identity), c.SignatureKey)
	}
	return nil
}

// Capabilities are what our leaves in ActivityPub groups support: what the clients in use do.
func Capabilities() mls.Capabilities {
	return mls.Capabilities{Versions: []mls.ProtocolVersion{mls.VersionMLS10}, Suites: []mls.Suite{mls.SuiteX25519AES128Ed25519},
		Proposals: []mls.ProposalType{mls.ProposalSelfRemove}, Credentials: []mls.CredentialType{mls.CredentialBasic}}
}

// StartThread makes a group whose first member is creator, and adds the others by one commit. The group id must be printable text, since clients
// show it. private says that handshakes are PrivateMessages, as clients in use send them; channels want PublicMessages.
func StartThread(rand io.Reader, now time.Time, cfg mls.Config, groupID string, creator string, key *mls.SignatureKey, others []*mls.KeyPackage, private bool) (*Thread, *Effect, error) {
	g, err := mls.NewGroup(rand, now, cfg, mls.GroupParams{Suite: mls.SuiteX25519AES128Ed25519, GroupID: []byte(groupID),
		Creator:  mls.LeafParams{SignatureKey: key, Credential: mls.BasicCredential([]byte(creator)), Capabilities: Capabilities()},
		Lifetime: mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(365 * 24 * time.Hour).Unix())}})
	if err != nil {
		return nil, nil, err
	}
	t := &Thread{Group: g, cfg: cfg}
	if len(others) == 0 {
		return t, &Effect{Whole: true}, nil
	}
	e, err := t.Commit(rand, now, creator, others, nil, private)
	if err != nil {
		return nil, nil, err
	}
	e.Whole, e.Changes, t.fork = true, nil, nil // nobody else was there who could have committed
	return t, e, nil
}

// JoinThread joins a group by Welcome with the leaves of ours that it adds. The tree must be in the Welcome.
func JoinThread(now time.Time, cfg mls.Config, welcome *mls.Welcome, keys []mls.JoinKey) (*Thread, *Effect, error) {
	g, _, err := mls.JoinWelcome(now, cfg, mls.JoinParams{Welcome: welcome, Keys: keys})
	if err != nil {
		return nil, nil, err
	}
	t := &Thread{Group: g, cfg: cfg}
	return t, &Effect{Whole: true, Joined: t.Actors()}, nil
}

// JoinMore joins with further leaves of ours that another member added.
func (t *Thread) JoinMore(now time.Time, welcome *mls.Welcome, keys []mls.JoinKey) (*Effect, error) {
	_, c, err := t.Group.AddOwnFromWelcome(now, mls.JoinParams{Welcome: welcome, Keys: keys})
	if err != nil {
		return nil, err
	}
	return &Effect{Changes: []mls.Changes{c}}, nil
}

// LoadThread makes a Thread of its stored pieces; fork is nil when there is none.
func LoadThread(cfg mls.Config, pieces []mls.Piece, fork *Fork) (*Thread, error) {
	g, err := mls.LoadGroup(cfg, pieces)
	if err != nil {
		return nil, err
	}
	return &Thread{Group: g, cfg: cfg, fork: fork}, nil
}

// Fork returns what is to be stored, sealed, beside the pieces, nil for nothing.
func (t *Thread) Fork(now time.Time) *Fork {
	if t.fork != nil && t.fork.Over(now) {
		t.fork = nil
	}
	return t.fork
}

// Actors are the actors in the group, each once, in the order of their leaves.
func (t *Thread) Actors() []string { return actorsOf(t.Group.Members()) }

func actorsOf(members []mls.Member) []string {
	var out []string
	for _, m := range members {
		if id := string(m.Leaf.Credential.Identity); !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// Leaf is the own leaf of an actor of ours.
func (t *Thread) Leaf(actor string) (mls.LeafIndex, bool) {
	for _, leaf := range t.Group.OwnLeaves() {
		if m, ok := t.Group.Member(leaf); ok && string(m.Leaf.Credential.Identity) == actor {
			return leaf, true
		}
	}
	return 0, false
}

// Say encrypts what an actor of ours says.
func (t *Thread) Say(rand io.Reader, actor string, data []byte) (*Effect, error) {
	leaf, ok := t.Leaf(actor)
	if !ok {
		return nil, fmt.Errorf("%s: %w", actor, ErrNotMember)
	}
	p, c, err := t.Group.Protect(rand, leaf, data, nil, padding(len(data)))
	if err != nil {
		return nil, err
	}
	return &Effect{Message: p.Message, Changes: []mls.Changes{c}, Used: []mls.Protected{*p}}, nil
}

// padding hides the length of a message: up to the next multiple of 256 octets, of 4,096 when it is longer than that.
func padding(n int) int {
	step := 256
	if n > 4096 {
		step = 4096
	}
	return (step - n%step) % step
}

// Commit adds clients and removes actors, in the name of an actor of ours, together with the proposals that wait. Without a sequencer it counts at
// once; Receive undoes it when another commit of the epoch wins.
func (t *Thread) Commit(rand io.Reader, now time.Time, by string, add []*mls.KeyPackage, remove []string, private bool) (*Effect, error) {
	fork := &Fork{Epoch: t.Group.Epoch(), Pieces: clonePieces(t.Group.Export()), At: now, Own: true}
	s, err := t.stage(rand, now, by, add, remove, private)
	if err != nil {
		return nil, err
	}
	e := &Effect{Commit: s.Commit(), Welcome: s.Welcome(), By: by, Changes: []mls.Changes{s.Changes()}}
	fork.Commit = sha256.Sum256(e.Commit)
	if err := t.merge(now, s, e); err != nil {
		return nil, err
	}
	t.put(fork)
	return e, nil
}

func clonePieces(list []mls.Piece) []mls.Piece {
	out := make([]mls.Piece, len(list))
	for i, p := range list {
		out[i] = mls.Piece{Key: p.Key, Data: bytes.Clone(p.Data)}
	}
	return out
}

// merge moves the group on and says who came and went.
func (t *Thread) merge(now time.Time, s *mls.Staged, e *Effect) error {
	before := t.Actors()
	c, err := t.Group.Merge(now, s)
	if err != nil {
		return err
	}
	e.Changes = append(e.Changes, c)
	after := t.Actors()
	for _, a := range after {
		if !slices.Contains(before, a) {
			e.Joined = append(e.Joined, a)
		}
	}
	for _, a := range before {
		if !slices.Contains(after, a) {
			e.Left = append(e.Left, a)
		}
	}
	e.Gone = t.Group.OwnCount() == 0
	return nil
}

// Leave takes an actor of ours out: another leaf of ours commits it, else it is proposed and a leaf of another commits it.
func (t *Thread) Leave(rand io.Reader, now time.Time, actor string, private bool) (*Effect, error) {
	leaf, ok := t.Leaf(actor)
	if !ok {
		return nil, fmt.Errorf("%s: %w", actor, ErrNotMember)
	}
	for _, other := range t.Group.OwnLeaves() {
		if m, ok := t.Group.Member(other); ok && other != leaf {
			return t.Commit(rand, now, string(m.Leaf.Credential.Identity), nil, []string{actor}, private)
		}
	}
	return t.ProposeLeave(rand, now, actor, private)
}

// ProposeLeave is Leave where others are to commit it, whoever else is in the group.
func (t *Thread) ProposeLeave(rand io.Reader, now time.Time, actor string, private bool) (*Effect, error) {
	leaf, ok := t.Leaf(actor)
	if !ok {
		return nil, fmt.Errorf("%s: %w", actor, ErrNotMember)
	}
	msg, _, c, err := t.Group.Propose(rand, now, mls.ProposeParams{Leaf: leaf, Proposal: mls.Proposal{Type: mls.ProposalRemove, Remove: leaf}, Private: private})
	if err != nil {
		return nil, err
	}
	return &Effect{Proposal: msg, By: actor, Changes: []mls.Changes{c}}, nil
}

// Backoff is how long an own leaf waits before it commits what others proposed: one second a leaf index, so that of many clients the one
// furthest left does.
func Backoff(leaf mls.LeafIndex) time.Duration { return min(time.Duration(leaf), 300) * time.Second }

// Receive takes MLS bytes that a member sent: a message, a proposal or a commit, told by the bytes alone.
func (t *Thread) Receive(now time.Time, b []byte) (*Effect, error) {
	m, _, err := ParseMLS(b)
	if err != nil {
		return nil, err
	}
	var kind mls.ContentType
	var epoch uint64
	switch {
	case m != nil && m.Private != nil:
		kind, epoch = m.Private.ContentType, m.Private.Epoch
	case m != nil && m.Public != nil:
		kind, epoch = m.Public.Content.ContentType, m.Public.Content.Epoch
	default:
		return nil, fmt.Errorf("%w: a group takes messages only", ErrMLSObject)
	}
	switch kind {
	case mls.ContentApplication:
		return t.application(now, b)
	case mls.ContentProposal:
		p, c, err := t.Group.ReceiveProposal(now, b)
		if err != nil {
			return nil, told(err)
		}
		e := &Effect{Changes: []mls.Changes{c}, Pending: true}
		if from, ok := t.Group.Member(p.Sender.Leaf); ok {
			e.By = string(from.Leaf.Credential.Identity)
		}
		return e, nil
	}
	if f := t.forkAt(epoch, now); f != nil {
		return t.collision(now, b, f)
	}
	return t.commit(now, b)
}

func (t *Thread) application(now time.Time, b []byte) (*Effect, error) {
	app, c, err := t.Group.Unprotect(now, b)
	if err != nil {
		return nil, told(err)
	}
	return &Effect{Changes: []mls.Changes{c}, Said: &Said{Sender: string(app.Leaf.Credential.Identity), Epoch: app.Epoch, Data: app.Data}}, nil
}

func (t *Thread) commit(now time.Time, b []byte) (*Effect, error) {
	fork := &Fork{Epoch: t.Group.Epoch(), Commit: sha256.Sum256(b), Pieces: clonePieces(t.Group.Export()), At: now}
	s, err := t.Group.StageReceived(now, b)
	if err != nil {
		return nil, told(err)
	}
	e := &Effect{}
	if m, ok := t.Group.Member(s.Committer()); ok && !s.External() {
		e.By = string(m.Leaf.Credential.Identity)
	}
	if err := t.merge(now, s, e); err != nil {
		return nil, err
	}
	t.put(fork)
	return e, nil
}

// collision decides between two commits of one epoch, ours or not: the one with the smaller hash wins, which all members find by themselves, whichever
// came to them first. When the one that was taken loses, the group goes back to its epoch and takes the other's; what was built on it is gone.
func (t *Thread) collision(now time.Time, b []byte, f *Fork) (*Effect, error) {
	other := sha256.Sum256(b)
	back, err := mls.LoadGroup(t.cfg, f.Pieces)
	if err != nil {
		return nil, err
	}
	if bytes.Compare(other[:], f.Commit[:]) >= 0 {
		if _, err := back.StageReceived(now, b); err != nil && !errors.Is(err, mls.ErrOwnMessage) {
			return nil, told(err) // of another branch, which may yet win
		}
		return nil, ErrOld
	}
	was, latest, lost := t.Group, t.fork, false
	for at := latest; ; at = at.Prev {
		lost = lost || at.Own
		if at == f {
			break
		}
	}
	t.Group, t.fork = back, f.Prev
	e, err := t.commit(now, b)
	if err != nil {
		t.Group, t.fork = was, latest
		return nil, err
	}
	e.Whole, e.Changes, e.Lost = true, nil, lost
	return e, nil
}

// told turns an error of the engine into what is to be done about it.
func told(err error) error {
	switch {
	case errors.Is(err, mls.ErrOwnMessage), errors.Is(err, mls.ErrReplay), errors.Is(err, mls.ErrForgotten):
		return fmt.Errorf("%w: %w", ErrOld, err)
	case mls.KindOf(err) == mls.KindEpoch:
		return fmt.Errorf("%w: %w", ErrEarly, err)
	}
	return err
}
