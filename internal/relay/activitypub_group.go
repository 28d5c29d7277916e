package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// threadState is what a conversation remembers of the last minutes, in case another commit wins over one of ours.
type threadState struct {
	Wishes []threadTask `json:"wishes,omitempty"`
	// Said are events that were said since the first wish.
	Said []string `json:"said,omitempty"`
}

// threadTask is a change of the members of a conversation, and the body of an input that asks for it.
type threadTask struct {
	By     string   `json:"by"`            // the actor of ours that commits it
	Add    []string `json:"add,omitempty"` // actors
	Remove []string `json:"remove,omitempty"`
	Event  string   `json:"event,omitempty"` // of the command, or that is said again
	Say    bool     `json:"say,omitempty"`   // Event is said again
	AtMS   int64    `json:"at,omitempty"`
	// Profile says that By changed its name or picture.
	Profile bool `json:"profile,omitempty"`
	// Block says that a server whose people are there was blocked.
	Block bool `json:"block,omitempty"`
	// Leave says that the user behind By was deleted and leaves, Delete that those in Add are to be told.
	Leave  bool `json:"leave,omitempty"`
	Delete bool `json:"delete,omitempty"`
}

// Timers of conversations begin so.
const (
	timerThread       = "thread-"
	timerThreadCommit = timerThread + "commit" // commit what others proposed, if nobody did
	timerThreadLeft   = timerThread + "left"   // give up waiting for others to commit that ours leave
)

// Bounds of threadState, and how long it is of use: as long as another commit can win.
const (
	maxThreadWishes = 20
	maxThreadSaid   = 200
	threadWindow    = 2 * time.Minute
)

// InviteToThread adds somebody of another server to the conversation that a Matrix room shows.
func (a *ActivityPub) inviteToThread(ctx context.Context, room store.RoomID, by, handle, eventID string) error {
	them, err := a.resolve(ctx, handle)
	if err != nil {
		return err
	}
	if them.KeyPackages == nil {
		return fmt.Errorf("%w: %s cannot take encrypted messages", ErrRefused, handle)
	}
	actor, err := a.actorID(by)
	if err != nil {
		return err
	}
	return a.threadTask(ctx, room, threadTask{By: actor, Add: []string{them.ID}, Event: eventID})
}

// threadTask stores something that is to be done in a conversation.
func (a *ActivityPub) threadTask(ctx context.Context, room store.RoomID, t threadTask) error {
	err := a.Store.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.AddInputs(ctx, []store.NewInput{{Room: room, Kind: inputThreadTask, Source: "task", Epoch: -1, Body: mustJSON(t), CreatedMS: a.Clock().UnixMilli()}})
		return err
	})
	a.Wake(room)
	return err
}

// onThreadTask does what is asked for. raw is the event that is to be said again.
func (x *apStep) onThreadTask(t threadTask, raw json.RawMessage) error {
	if x.thread == nil {
		return nil
	}
	if t.Profile {
		return nil // told before this step
	}
	if t.Block {
		return x.leaveBlocked()
	}
	if t.Leave {
		return x.leaveDeleted(t.By)
	}
	if x.room.st.LeftMS > 0 {
		if t.Event != "" && !t.Say {
			x.notice("This bridge has left the conversation.", t.Event)
		}
		return nil
	}
	if t.Say {
		ev, err := event.ParseChecked(raw)
		if err != nil {
			return nil //nolint:nilerr // it was redacted
		}
		return x.speak(ev)
	}
	return x.changeThread(t)
}

// changeThread adds and removes actors by commits in the name of an actor of ours (docs/activitypub.md).
func (x *apStep) changeThread(t threadTask) error {
	there := x.thread.Actors()
	add := slices.DeleteFunc(slices.Clone(t.Add), func(a string) bool { return slices.Contains(there, a) })
	remove := slices.DeleteFunc(slices.Clone(t.Remove), func(a string) bool { return !slices.Contains(there, a) })
	by := t.By
	if _, ok := x.thread.Leaf(by); !ok || slices.Contains(remove, by) {
		if by = x.asker(); by == x.face.Site.Instance() {
			return nil // nobody of ours is in the group
		}
	}
	var packages []*mls.KeyPackage
	var own []mls.JoinKey
	for _, actor := range add {
		if x.face.Site.Own(actor) {
			key, err := x.ownPackage(actor)
			if err != nil {
				return err
			}
			own = append(own, key)
			packages = append(packages, key.KeyPackage)
			continue
		}
		kp, err := x.packageOf(actor)
		var need needPackage
		if errors.As(err, &need) {
			return err
		}
		if err != nil {
			x.declined(actor, t.Event, err)
			continue
		}
		packages = append(packages, kp)
	}
	if len(packages) == 0 && len(remove) == 0 {
		return nil
	}
	return x.commitThread(by, packages, own, remove, t)
}

// joinOwn lets clients of ours into a group by the Welcome of our own commit; own are their keys.
func (x *apStep) joinOwn(welcome []byte, own []mls.JoinKey) error {
	if len(own) == 0 {
		return nil
	}
	m, _, err := ap.ParseMLS(welcome)
	if err != nil {
		return err
	}
	more, err := x.thread.JoinMore(x.now, m.Welcome, own)
	if err != nil {
		return err
	}
	x.apply(more)
	return nil
}

// commitThread makes a commit, sends it to who was there before, lets the new ones in, and remembers what it did.
func (x *apStep) commitThread(by string, add []*mls.KeyPackage, own []mls.JoinKey, remove []string, t threadTask) error {
	before := x.thread.Actors()
	e, err := x.thread.Commit(x.Rand, x.now, by, add, remove, true)
	if err != nil {
		return err
	}
	x.apply(e)
	if err := x.joinOwn(e.Welcome, own); err != nil {
		return err
	}
	x.rememberWish(threadTask{By: by, Add: e.Joined, Remove: remove, Event: t.Event})
	if err := x.sendMLS(by, e.Commit, before); err != nil {
		return err
	}
	if err := x.sendMLS(by, e.Welcome, e.Joined); err != nil {
		return err
	}
	return x.enterAll()
}

func (x *apStep) rememberWish(t threadTask) {
	st := &x.room.st
	if st.Thread == nil {
		st.Thread = &threadState{}
	}
	t.AtMS = x.nowMS()
	s := st.Thread
	s.Wishes = append(slices.DeleteFunc(s.Wishes, x.passed), t)
	if n := len(s.Wishes) - maxThreadWishes; n > 0 {
		s.Wishes = s.Wishes[n:]
	}
	if len(s.Wishes) == 1 {
		s.Said = nil
	}
}

func (x *apStep) passed(t threadTask) bool { return x.nowMS() > t.AtMS+threadWindow.Milliseconds() }

// rememberSaid notes an event that is to be said again if a commit of ours loses.
func (x *apStep) rememberSaid(eventID string) {
	s := x.room.st.Thread
	if s == nil {
		return
	}
	if s.Wishes = slices.DeleteFunc(s.Wishes, x.passed); len(s.Wishes) == 0 {
		x.room.st.Thread = nil
		return
	}
	if !slices.Contains(s.Said, eventID) && len(s.Said) < maxThreadSaid {
		s.Said = append(s.Said, eventID)
	}
}

// lost does again what a commit of ours did that gave way to another, and says again what was said upon it: the others could not read it, or know it by
// the same id.
func (x *apStep) lost() {
	s := x.room.st.Thread
	if s == nil {
		return
	}
	x.room.st.Thread = nil
	for _, t := range s.Wishes {
		if !x.passed(t) {
			x.taskLater(t)
		}
	}
	for _, eventID := range s.Said {
		x.taskLater(threadTask{Event: eventID, Say: true})
	}
}

// taskLater makes an input of something that is to be done after this step.
func (x *apStep) taskLater(t threadTask) {
	x.fx.inputs = append(x.fx.inputs, store.NewInput{Room: x.room.head.ID, Kind: inputThreadTask, Source: "task", Epoch: -1, Body: mustJSON(t), CreatedMS: x.nowMS()})
}

// proposed waits before it commits what others proposed: of many clients the one furthest left does it first.
func (x *apStep) proposed() {
	leaves := x.thread.Group.OwnLeaves()
	if len(leaves) == 0 {
		return
	}
	x.later(timerThreadCommit, x.now.Add(ap.Backoff(slices.Min(leaves))).UnixMilli())
}

// commitProposed commits what others proposed, if nobody has.
func (x *apStep) commitProposed() error {
	if x.thread == nil {
		return nil
	}
	for _, leaf := range x.thread.Group.OwnLeaves() {
		m, ok := x.thread.Group.Member(leaf)
		if !ok || len(x.thread.Group.Committable(leaf)) == 0 {
			continue
		}
		err := x.commitThread(string(m.Leaf.Credential.Identity), nil, nil, nil, threadTask{})
		if err != nil {
			x.Log.Info().Err(err).Stringer("room", x.room.head.ID).Msg("proposals of others were not committed")
			continue
		}
		return nil
	}
	return nil
}

// onMembership notes who came to the Matrix room and who went, and changes the group accordingly: a ghost that is invited is added, one that is removed is
// removed; a user who joins gets a leaf, and one who leaves loses it.
func (x *apStep) onMembership(ev event.Event) error {
	mm, ok := ev.Member()
	if !ok || x.ours(string(ev.Sender)) && x.ours(string(mm.User)) {
		return nil
	}
	target, sender, now := string(mm.User), string(ev.Sender), string(mm.Membership)
	if target == x.cfg.Bot || x.mimiGhost(target) {
		return nil
	}
	actor, err := x.actorOfMXID(target)
	if errors.Is(err, store.ErrNotFound) {
		x.notice("Nobody is known by that name. Invite them by `"+x.cfg.CommandPrefix+" invite @user@domain`.", string(ev.ID))
		return nil
	}
	if err != nil {
		return err
	}
	m, _ := x.room.members.of(target)
	was := m.Membership
	m.Membership, m.URI, m.Ghost = now, actor, x.acctGhost(target)
	if mm.DisplayName != "" && !m.Ghost {
		m.Display = mm.DisplayName
	}
	x.setMember(m)
	if was == now {
		if !m.Ghost && now == string(event.Join) { // name or picture changed
			x.taskLater(threadTask{By: actor, Profile: true})
		}
		return nil
	}
	if !m.Ghost && now == string(event.Join) {
		x.tellEncrypted() // now they have the key
	}
	by := actor
	if x.exported(sender) {
		if by, err = x.face.actorID(sender); err != nil {
			return err
		}
	}
	in := slices.Contains(x.thread.Actors(), actor)
	switch {
	case m.Ghost && now == string(event.Invite) && !in, !m.Ghost && now == string(event.Join) && !in:
		if !m.Ghost && !x.exported(target) {
			return nil
		}
		return x.changeThread(threadTask{By: by, Add: []string{actor}, Event: string(ev.ID)})
	case now != string(event.Leave) && now != string(event.Ban), !in:
		return nil
	case m.Ghost || by != actor:
		return x.changeThread(threadTask{By: by, Remove: []string{actor}, Event: string(ev.ID)})
	}
	return x.leaveThread(actor)
}

// leaveThread takes an actor of ours out: by a commit of another of ours, or by a proposal that others commit (S000-084).
func (x *apStep) leaveThread(actor string) error {
	others := x.thread.Actors()
	e, err := x.thread.Leave(x.Rand, x.now, actor, true)
	if err != nil {
		return err
	}
	x.apply(e)
	octets, by := e.Proposal, actor
	if e.Commit != nil {
		octets, by = e.Commit, e.By
		x.rememberWish(threadTask{By: by, Remove: []string{actor}})
	}
	return x.sendMLS(by, octets, others)
}

// ofThreadTimer tells whether an input is a timer of a conversation.
func ofThreadTimer(in *store.Input) bool {
	return in.Kind == inputTimer && strings.HasPrefix(string(in.Body), timerThread)
}
