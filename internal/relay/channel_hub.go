package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// receiveHub takes an activity for a channel of ours, inside the request that brings it, because the answer is the verdict (AIM §5.2.3).
func (a *ActivityPub) receiveHub(ctx context.Context, room store.RoomID, d ap.Delivered) (fresh bool, err error) {
	switch d.Activity.Type {
	case "Follow":
		// Who asks is written down before the question: the room's inputs must not wait for a server that has gone by then.
		if _, err := a.person(ctx, d.Activity.Actor); err != nil {
			return false, err
		}
		return true, a.Store.Tx(ctx, func(tx *store.Tx) error {
			return a.task(ctx, tx, room, channelTask{Do: taskFollow, Actor: d.Activity.Actor, ID: d.Activity.ID}, d.Activity.ID)
		})
	case "Undo":
		return true, a.Store.Tx(ctx, func(tx *store.Tx) error {
			return a.task(ctx, tx, room, channelTask{Do: taskRemove, By: d.Activity.Actor, Actor: d.Activity.Actor}, d.Activity.ID)
		})
	}
	err = a.run(ctx, room, func(x *apStep) error {
		if x.thread == nil || x.room.st.Channel == nil || !x.room.st.Channel.Hub {
			return ap.ErrNotFound
		}
		key := d.Activity.ID
		if octets := mlsOf(d.Activity, d.MLS); octets != nil {
			key = hashKey(octets)
		} else if key == "" {
			key = hashKey(d.Body)
		}
		kind := "ap"
		if d.MLS == nil && d.Activity.Commit == nil {
			kind = "ap-activity"
		}
		if fresh, err = x.fresh(kind, key); err != nil || !fresh {
			return err
		}
		if d.Activity.Type == "Update" {
			return x.takeUpdate(d.Activity)
		}
		return x.take(d.Activity, d.MLS)
	})
	if err == nil && fresh {
		a.Wake(room) // what waits for the new epoch
	}
	return fresh, err
}

// mlsOf are the MLS bytes by which an activity acts on a group.
func mlsOf(a *ap.Activity, object *ap.MLSObject) []byte {
	if object != nil {
		return object.Bytes
	}
	return a.Commit
}

// take accepts what a member did, as the host of the channel, and passes it on: a message, a commit of the present epoch, a proposal, which is committed at once.
func (x *apStep) take(a *ap.Activity, object *ap.MLSObject) error {
	c := x.room.st.Channel
	ch := &ap.Channel{Thread: x.thread, ID: c.ID}
	before, base := x.thread.Actors(), x.thread.Group.Epoch()
	e, err := ch.Accept(x.now, a, object)
	switch {
	case errors.Is(err, ap.ErrOld):
		return nil
	case errors.Is(err, ap.ErrEarly), errors.Is(err, ap.ErrEpoch), errors.Is(err, ap.ErrForbidden):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ap.ErrActivity, err)
	}
	octets := mlsOf(a, object)
	x.apply(e)
	if e.Said != nil {
		since := x.begin()
		if err := x.hear(e.Said); err != nil {
			return err
		}
		err := x.passOn(a.Actor, a.Raw, octets, before)
		x.kept(since, nil)
		return err
	}
	if x.thread.Group.Epoch() == base { // a proposal: no member's commit comes before the channel's
		if err := x.judgeProposals(); err != nil {
			return err
		}
		if err := x.passOn(a.Actor, a.Raw, octets, before); err != nil {
			return err
		}
		return x.commitNow(c.ID, nil, nil, nil)
	}
	if err := x.judge(a.Actor, e.Joined, e.Left); err != nil {
		return err
	}
	x.logCommit(base, octets, a.Actor)
	if err := x.passOn(a.Actor, a.Raw, octets, append(slices.Clone(before), e.Joined...)); err != nil {
		return err
	}
	if err := x.welcome(a.Welcome, e.Joined, true); err != nil {
		return err
	}
	return x.place(e.Joined, e.Left, a.Actor)
}

// logCommit writes down that the channel accepted a commit: the database lets one epoch have one only.
func (x *apStep) logCommit(base uint64, octets []byte, by string) {
	x.logEntry(store.LogCommit, base, wire.NewMessage(octets), by, uint64(x.nowMS()))
	x.release(int64(x.thread.Group.Epoch()))
}

// passOn sends what somebody did to the members of other servers, once for each shared inbox. original is the activity as it came, nil when it was none.
func (x *apStep) passOn(author string, original ap.Object, octets []byte, actors []string) error {
	to, err := x.channelTo(actors, author)
	if err != nil {
		return err
	}
	x.post(x.face.Site.FanOut(ap.Envelope{ID: envelopeID(octets), Actor: x.room.st.Channel.ID, Published: x.now}, author, original, octets, to))
	return nil
}

// welcome lets those in whom a commit added: users of ours join with their keys, those of other servers are sent the Welcome. Members who read AIM have it in
// the Add that was passed on already, if passed says so.
func (x *apStep) welcome(octets []byte, joined []string, passed bool) error {
	if octets == nil || len(joined) == 0 {
		return nil
	}
	m, _, err := ap.ParseMLS(octets)
	if err != nil || m == nil || m.Welcome == nil {
		return fmt.Errorf("%w: no Welcome", ap.ErrActivity)
	}
	keys, refs, err := x.joinKeys(m.Welcome)
	if err != nil {
		return err
	}
	if len(keys) > 0 {
		e, err := x.thread.JoinMore(x.now, m.Welcome, keys)
		if err != nil {
			return fmt.Errorf("%w: %w", ap.ErrActivity, err)
		}
		x.fx.usedKeys = append(x.fx.usedKeys, refs...)
		x.apply(e)
	}
	to, err := x.channelTo(joined, "")
	if err != nil {
		return err
	}
	to = slices.DeleteFunc(to, func(r ap.Recipient) bool { return passed && r.Dialect == ap.DialectAIM })
	x.post(x.face.Site.SendMLS(ap.Envelope{ID: envelopeID(octets), Actor: x.room.st.Channel.ID, Published: x.now}, octets, to))
	return nil
}

// commitNow commits as the host of the channel: it counts when this step does (S000-081). by is the actor whose leaf commits, the channel's own where that has none. Clients
// of ours come with their keys.
func (x *apStep) commitNow(by string, add []*mls.KeyPackage, own []mls.JoinKey, remove []string) error {
	c := x.room.st.Channel
	if _, ok := x.thread.Leaf(by); !ok || slices.Contains(remove, by) {
		by = c.ID
	}
	all := slices.Clone(add)
	for _, k := range own {
		all = append(all, k.KeyPackage)
	}
	before, base := x.thread.Actors(), x.thread.Group.Epoch()
	staged, err := x.thread.Stage(x.Rand, x.now, by, all, remove)
	if err != nil {
		return err
	}
	e, err := x.thread.Settle(x.now, staged)
	if err != nil {
		return err
	}
	x.apply(e)
	if err := x.joinOwn(e.Welcome, own); err != nil {
		return err
	}
	x.logCommit(base, e.Commit, by)
	if _, err := x.fresh("ap", hashKey(e.Commit)); err != nil {
		return err
	}
	return x.tellCommit(by, e, before)
}

// tellCommit sends a commit of ours: as the Add or Remove that it is, to who was there; and lets the new ones in. The first of another server is told of the channel
// by a Create, as one that is there from its beginning (AIM figure 6).
func (x *apStep) tellCommit(by string, e *ap.Effect, before []string) error {
	c, site := x.room.st.Channel, x.face.Site
	env := ap.Envelope{ID: envelopeID(e.Commit) + "-m", Actor: by, Published: x.now}
	there, err := x.channelTo(before, "")
	if err != nil {
		return err
	}
	var original ap.Object
	to, passed := slices.Clone(before), false
	switch {
	case len(e.Joined) == 1 && len(e.Left) == 0 && len(there) > 0:
		original, passed = site.ChannelAdd(env, c.ID, e.Joined[0], e.Commit, e.Welcome), true
		to = append(to, e.Joined[0])
	case len(e.Left) == 1 && len(e.Joined) == 0:
		original = site.ChannelRemove(env, c.ID, e.Left[0], e.Commit)
	}
	if len(there) > 0 {
		if err := x.passOn(by, original, e.Commit, to); err != nil {
			return err
		}
	}
	newcomers, err := x.channelTo(e.Joined, "")
	if err != nil {
		return err
	}
	if len(there) == 0 && len(newcomers) > 0 {
		for _, r := range newcomers {
			if r.Dialect != ap.DialectAIM {
				continue
			}
			env := ap.Envelope{ID: envelopeID(e.Welcome) + "-c", Actor: by, To: []string{r.Actor}, Published: x.now}
			x.post([]ap.Post{{Inbox: r.Inbox, Body: site.ChannelCreate(env, c.ID, x.room.matrix.Name, e.Welcome)}})
		}
		passed = true
	}
	if len(newcomers) > 0 {
		if err := x.welcomeOthers(e.Welcome, newcomers, passed); err != nil {
			return err
		}
	}
	return x.place(e.Joined, e.Left, by)
}

func (x *apStep) welcomeOthers(octets []byte, to []ap.Recipient, passed bool) error {
	to = slices.DeleteFunc(to, func(r ap.Recipient) bool { return passed && r.Dialect == ap.DialectAIM })
	x.post(x.face.Site.SendMLS(ap.Envelope{ID: envelopeID(octets), Actor: x.room.st.Channel.ID, Published: x.now}, octets, to))
	return nil
}

// judge says whether somebody may do to the membership of a channel of ours what a commit does: who leads is the Matrix room, and its power levels say what the
// member's ghost may do.
func (x *apStep) judge(by string, joined, left []string) error {
	p := x.room.matrix.power()
	hand, _, err := x.mxid(by)
	if err != nil {
		return err
	}
	level := p.User(userID(hand))
	for _, actor := range joined {
		mxid, _, err := x.mxid(actor)
		if err != nil {
			return err
		}
		m, _ := x.room.members.of(mxid)
		switch {
		case m.Membership == string(event.Ban):
			return fmt.Errorf("%w: %s is banned", ap.ErrForbidden, actor)
		case m.Membership != string(event.Join) && m.Membership != string(event.Invite) && level < p.Invite:
			return fmt.Errorf("%w: %s may not invite", ap.ErrForbidden, by)
		case x.face.blocked(actor):
			return fmt.Errorf("%w: %s: %w", ap.ErrForbidden, actor, ap.ErrBlocked)
		case x.denied(hostOnly(actor)):
			return fmt.Errorf("%w: the room's server ACL keeps %s out", ap.ErrForbidden, actor)
		}
	}
	for _, actor := range left {
		if p, ok := x.face.personKnown(by); actor == by || ok && p.Dialect == ap.DialectAIM && originOf(actor) == originOf(by) {
			continue // who leaves is taken out by another leaf of the same bridge; elsewhere people hold their keys themselves
		}
		if x.isChannel(actor) {
			return fmt.Errorf("%w: the channel cannot be removed from itself", ap.ErrForbidden)
		}
		mxid, _, err := x.mxid(actor)
		if err != nil {
			return err
		}
		if level < p.Kick || level <= p.User(userID(mxid)) {
			return fmt.Errorf("%w: %s may not remove others", ap.ErrForbidden, by)
		}
	}
	return nil
}

// judgeProposals says whether the channel may commit what waits: who proposes to leave leaves, and nobody is added or removed by a proposal otherwise.
func (x *apStep) judgeProposals() error {
	for _, p := range x.thread.Group.PendingProposals() {
		switch {
		case p.Sender.Type != mls.SenderMember:
			return fmt.Errorf("%w: a proposal from outside", ap.ErrForbidden)
		case p.Proposal.Type == mls.ProposalRemove && p.Proposal.Remove == p.Sender.Leaf, p.Proposal.Type == mls.ProposalSelfRemove, p.Proposal.Type == mls.ProposalUpdate:
		default:
			return fmt.Errorf("%w: only leaving can be proposed", ap.ErrForbidden)
		}
	}
	return nil
}

// takeUpdate takes a change of name, topic or picture by a member whose ghost may do that in the Matrix room (AIM figure 9, S000-078).
func (x *apStep) takeUpdate(a *ap.Activity) error {
	if !slices.Contains(x.thread.Actors(), a.Actor) {
		return fmt.Errorf("%w: %s is no member", ap.ErrForbidden, a.Actor)
	}
	change, err := ap.ReadChannelChange(a.Object)
	if err != nil {
		return err
	}
	mxid, _, err := x.mxid(a.Actor)
	if err != nil {
		return err
	}
	p := x.room.matrix.power()
	for typ, said := range map[string]*string{event.TypeName: change.Name, event.TypeTopic: change.Summary} {
		if said != nil && p.User(userID(mxid)) < p.State(typ) {
			return fmt.Errorf("%w: %s may not change it", ap.ErrForbidden, a.Actor)
		}
	}
	x.showChange(change, mxid)
	return x.announce(a.Actor, a.Raw, "-u"+envelopeID([]byte(a.ID)))
}

// showChange writes the name and the topic that a channel got into the Matrix room.
func (x *apStep) showChange(change ap.ChannelChange, sender string) {
	m := &x.room.matrix
	show := func(kind, key, text string, have *string) {
		if c := x.room.st.Channel.Changes[kind]; c != nil {
			c.Has = text
		}
		x.setText(userID(sender), kind, key, text, have)
	}
	if change.Name != nil {
		show(event.TypeName, "name", cleanName(*change.Name), &m.Name)
	}
	if change.Summary != nil {
		show(event.TypeTopic, "topic", cutRunes(*change.Summary, 4096), &m.Topic)
	}
}

// announce passes an activity without MLS on to the other servers: whole to bridges, in the name of the channel to the rest.
func (x *apStep) announce(author string, original ap.Object, token string) error {
	to, err := x.channelTo(x.thread.Actors(), author)
	if err != nil {
		return err
	}
	env := ap.Envelope{ID: x.room.head.ID.String() + token, Actor: x.room.st.Channel.ID, Published: x.now}
	x.post(x.face.Site.FanOut(env, author, original, nil, to))
	return nil
}
