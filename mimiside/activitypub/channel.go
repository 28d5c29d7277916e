package activitypub

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// Channel is a thread whose commits an actor of ours puts in order: one an epoch (AIM §5.2.3).
type Channel struct {
	*Thread
	// ID is the id of the channel's actor.
	ID string
}

// Accept takes an activity of a member that was sent to the channel: Add and Remove with the commit that does the same to the group, a
// Create with MLS bytes. ErrEpoch when a commit is not of the present epoch: then nothing changed, and the sender must try again.
func (c *Channel) Accept(now time.Time, a *Activity, object *MLSObject) (*Effect, error) {
	if !slices.Contains(c.Actors(), a.Actor) {
		return nil, fmt.Errorf("%w: %s is no member", ErrForbidden, a.Actor)
	}
	switch {
	case a.Type == "Add" || a.Type == "Remove":
		return c.membership(now, a)
	case a.Type == "Create" && object != nil:
		e, err := c.inOrder(now, object.Bytes, func(s *mls.Staged) error {
			if s.External() && string(s.CommitterLeaf().Credential.Identity) != a.Actor {
				return fmt.Errorf("%w: somebody else would come back", ErrActivity)
			}
			return nil
		})
		if err == nil && e.Said != nil && e.Said.Sender != a.Actor {
			return nil, fmt.Errorf("%w: the message is of %s", ErrActivity, e.Said.Sender)
		}
		if err == nil && e.By != "" && e.By != a.Actor {
			return nil, fmt.Errorf("%w: the commit or proposal is of %s", ErrActivity, e.By)
		}
		return e, err
	}
	return nil, fmt.Errorf("%w: %s to a channel", ErrActivity, a.Type)
}

// membership accepts an Add or Remove: a PublicMessage commit of the present epoch by the activity's actor that adds or removes the
// activity's object and nobody else.
func (c *Channel) membership(now time.Time, a *Activity) (*Effect, error) {
	if a.Target != c.ID+"/followers" {
		return nil, fmt.Errorf("%w: target is not the channel's followers", ErrActivity)
	}
	if a.Commit == nil || a.Type == "Add" && a.Welcome == nil {
		return nil, fmt.Errorf("%w: commit or welcome is missing", ErrActivity)
	}
	m, _, err := ParseMLS(a.Commit)
	if err != nil || m == nil || m.Public == nil || m.Public.Content.ContentType != mls.ContentCommit {
		return nil, fmt.Errorf("%w: commit is no PublicMessage with a commit", ErrActivity)
	}
	return c.inOrder(now, a.Commit, func(s *mls.Staged) error {
		by, ok := c.Group.Member(s.Committer())
		if !ok || string(by.Leaf.Credential.Identity) != a.Actor {
			return fmt.Errorf("%w: commit of another than the actor", ErrActivity)
		}
		want, other := s.Added(), s.Removed()
		if a.Type == "Remove" {
			want, other = other, want
		}
		if len(want) == 0 || len(other) > 0 || !slices.Equal(actorsOf(want), []string{a.ObjectID}) {
			return fmt.Errorf("%w: commit does not do what the activity says", ErrActivity)
		}
		return nil
	})
}

// inOrder takes MLS bytes; a commit only of the present epoch, and only if check lets it.
func (c *Channel) inOrder(now time.Time, b []byte, check func(*mls.Staged) error) (*Effect, error) {
	m, _, err := ParseMLS(b)
	if err != nil {
		return nil, err
	}
	commit, epoch := false, uint64(0)
	switch {
	case m == nil:
	case m.Public != nil:
		commit, epoch = m.Public.Content.ContentType == mls.ContentCommit, m.Public.Content.Epoch
	case m.Private != nil:
		commit, epoch = m.Private.ContentType == mls.ContentCommit, m.Private.Epoch
	}
	if !commit {
		return c.Receive(now, b)
	}
	if epoch != c.Group.Epoch() {
		return nil, fmt.Errorf("%w: %d, the channel is in %d", ErrEpoch, epoch, c.Group.Epoch())
	}
	s, err := c.Group.StageReceived(now, b)
	if err != nil {
		return nil, told(err)
	}
	if check != nil {
		if err := check(s); err != nil {
			return nil, err
		}
	}
	e := &Effect{Commit: b}
	if leaf := s.CommitterLeaf(); leaf != nil {
		e.By = string(leaf.Credential.Identity)
	}
	if err := c.merge(now, s, e); err != nil {
		return nil, err
	}
	c.fork = nil
	return e, nil
}

// SetKey names a set of people, whatever their order: a group DM is the one conversation of its set (AIM §3.3, §5.3).
func SetKey(actors []string) string {
	list := slices.Clone(actors)
	slices.Sort(list)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(list), "\n")))
	return hex.EncodeToString(sum[:])
}

// Recipient is somebody whom activities go to.
type Recipient struct {
	Actor, Inbox, SharedInbox string
	Dialect                   Dialect
}

// Post is one POST.
type Post struct {
	Inbox string
	Body  Object
}

// Spread makes one post for each inbox: the shared one of a server where it has one.
func Spread(to []Recipient, body Object) []Post { return spread(to, body) }

// spread makes one post for each inbox: the shared one of a server where it has one.
func spread(to []Recipient, body Object) []Post {
	var out []Post
	for _, r := range to {
		inbox := firstOf(r.SharedInbox, r.Inbox)
		if !slices.ContainsFunc(out, func(p Post) bool { return p.Inbox == inbox }) {
			out = append(out, Post{inbox, body})
		}
	}
	return out
}

func ids(list []Recipient) []string {
	out := make([]string, len(list))
	for i, r := range list {
		out[i] = r.Actor
	}
	return out
}

// SendMLS makes the posts of MLS bytes to people one by one, as the E2EE dialect has it: for DMs, and for Welcomes.
func (s Site) SendMLS(e Envelope, mlsBytes []byte, to []Recipient) []Post {
	if len(to) == 0 {
		return nil
	}
	e.To = ids(to)
	return spread(to, s.MLSCreate(e, mlsBytes))
}

// FanOut makes the posts by which a channel passes on what a member did (AIM §5.2.2, "forwarding from inbox"), once for each shared inbox. Since no
// server takes an activity from another than its actor, the channel is the actor: other bridges get an Announce around the whole
// activity, all others a Create of the channel around the same MLS bytes in the member's name. mlsBytes is the message or commit; original
// may be nil when the channel's own server acts.
func (s Site) FanOut(e Envelope, author string, original Object, mlsBytes []byte, to []Recipient) []Post {
	var aim, others []Recipient
	for _, r := range to {
		switch {
		case r.Dialect == DialectAIM && original != nil:
			aim = append(aim, r)
		case r.Dialect != DialectNone:
			others = append(others, r)
		}
	}
	var out []Post
	if len(aim) > 0 {
		a := e
		a.ID, a.To = e.ID+"-a", ids(aim)
		out = append(out, spread(aim, s.Announce(a, original))...)
	}
	if len(others) > 0 && mlsBytes != nil {
		o := e
		o.Author, o.To = author, ids(others)
		out = append(out, spread(others, s.MLSCreate(o, mlsBytes))...)
	}
	return out
}
