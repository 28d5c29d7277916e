package activitypub

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// Stage makes a commit in the name of an actor of ours that counts only once a channel has taken it: it adds clients and removes actors, together
// with the proposals that wait. It is a PublicMessage, as a channel demands (AIM §5.2.3). ErrNotMember, and the engine's errors.
func (t *Thread) Stage(rand io.Reader, now time.Time, by string, add []*mls.KeyPackage, remove []string) (*mls.Staged, error) {
	return t.stage(rand, now, by, add, remove, false)
}

func (t *Thread) stage(rand io.Reader, now time.Time, by string, add []*mls.KeyPackage, remove []string, private bool) (*mls.Staged, error) {
	leaf, ok := t.Leaf(by)
	if !ok {
		return nil, fmt.Errorf("%s: %w", by, ErrNotMember)
	}
	params := mls.CommitParams{Leaf: leaf, Refs: t.Group.Committable(leaf), Private: private, TreeInWelcome: true, Path: true}
	for _, kp := range add {
		params.Proposals = append(params.Proposals, mls.Proposal{Type: mls.ProposalAdd, Add: kp})
	}
	for _, m := range t.Group.Members() {
		if m.Index != leaf && slices.Contains(remove, string(m.Leaf.Credential.Identity)) && !t.proposedOut(m.Index) {
			params.Proposals = append(params.Proposals, mls.Proposal{Type: mls.ProposalRemove, Remove: m.Index})
		}
	}
	return t.Group.StageCommit(rand, now, params)
}

// proposedOut tells whether a proposal that waits removes a leaf already.
func (t *Thread) proposedOut(leaf mls.LeafIndex) bool {
	return slices.ContainsFunc(t.Group.PendingProposals(), func(p mls.PendingProposal) bool {
		return p.Proposal.Type == mls.ProposalRemove && p.Proposal.Remove == leaf
	})
}

// Settle takes a staged commit of ours over: the channel took it.
func (t *Thread) Settle(now time.Time, s *mls.Staged) (*Effect, error) {
	e := &Effect{Commit: s.Commit(), Welcome: s.Welcome(), Changes: []mls.Changes{s.Changes()}}
	if m, ok := t.Group.Member(s.Committer()); ok {
		e.By = string(m.Leaf.Credential.Identity)
	}
	if err := t.merge(now, s, e); err != nil {
		return nil, err
	}
	t.fork = nil
	return e, nil
}

// Follow takes MLS bytes that a channel passed on: it has put the commits in order, so that none collides with another.
func (t *Thread) Follow(now time.Time, b []byte) (*Effect, error) {
	t.fork = nil
	return t.Receive(now, b)
}

// ChannelOf is the channel whose members an activity changes (AIM §5.2.3): that of its target, a followers collection; of a Create or Update of a
// channel it is the object. "" when it is neither.
func (a *Activity) ChannelOf() string {
	switch a.Type {
	case "Add", "Remove":
		if id, ok := strings.CutSuffix(a.Target, "/followers"); ok && validURL(id) {
			return id
		}
	case "Create", "Update":
		if a.Object != nil && a.Object.typeAmong(channelTypes...) != "" && !IsMLSObject(a.Object) && validURL(a.ObjectID) {
			return a.ObjectID
		}
	case "Follow":
		return a.ObjectID
	}
	return ""
}

// ChannelChange is what an Update says of a channel (AIM figure 9). Nil is not said.
type ChannelChange struct {
	Name, Summary, Icon *string
}

// maxChannelText bounds the name and the summary of a channel in octets.
const maxChannelText = 4096

// ReadChannelChange reads name, summary and icon of a channel from its actor or from an Update. ErrActivity when they are too long.
func ReadChannelChange(o Object) (ChannelChange, error) {
	var c ChannelChange
	for key, into := range map[string]**string{"name": &c.Name, "summary": &c.Summary} {
		s, ok := o[key].(string)
		if !ok {
			continue
		}
		if len(s) > maxChannelText {
			return ChannelChange{}, fmt.Errorf("%w: %s of %d octets", ErrActivity, key, len(s))
		}
		*into = &s
	}
	if _, there := o["icon"]; there {
		icon := iconOf(o["icon"])
		c.Icon = &icon
	}
	return c, nil
}

// Follow asks to be let into a channel: its followers are its members (AIM §5.2). Nothing in the documents says how one asks; this is how one follows
// any actor (ActivityPub §7.5).
func (s Site) Follow(e Envelope, channel string) Object {
	e.To = []string{channel}
	o := s.base(e, "Follow")
	o["object"] = channel
	return o
}

// AcceptOf answers a Follow; the Add with the Welcome comes apart.
func (s Site) AcceptOf(e Envelope, activity string) Object {
	o := s.base(e, "Accept")
	o["object"] = activity
	return o
}
