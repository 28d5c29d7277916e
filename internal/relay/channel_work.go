package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// channels works off the inputs of rooms of the ActivityPub world; *ActivityPub does. It is an interface so that a relay without that face has none.
type channels interface {
	// work works off one input of a channel.
	work(ctx context.Context, id store.RoomID, in *store.Input, settle store.Settle) (*step, error)
}

// ofChannel tells whether an input is one of a channel.
func ofChannel(in *store.Input) bool {
	switch in.Kind {
	case inputChannel, inputChannelEvent, inputChannelEncrypted:
		return true
	case store.InputAnswer:
		var a struct{ Ref string }
		return json.Unmarshal(in.Body, &a) == nil && strings.HasPrefix(a.Ref, refChannel)
	}
	return false
}

// channelTask is the body of an input of that kind: what a command or a request asks for.
type channelTask struct {
	Do    string `json:"do"`
	By    string `json:"by,omitempty"`    // MXID of who asks
	Event string `json:"event,omitempty"` // of the command
	Room  string `json:"room,omitempty"`  // Matrix room id
	Actor string `json:"actor,omitempty"` // whom it is about
	ID    string `json:"id,omitempty"`    // of the activity that asks
	Text  string `json:"text,omitempty"`
	// Inbox is where activities for the channel go.
	Inbox string `json:"inbox,omitempty"`
}

// What tasks do.
const (
	taskOffer  = "offer"
	taskInvite = "invite"
	taskRemove = "remove"
	taskFollow = "follow" // somebody asks to be let in
	taskJoin   = "join"   // a user of ours asks another channel
	taskAnswer = "answer" // a channel answered such a question
	taskLeave  = "leave"
	taskGo     = "go"    // a commit may be tried again
	taskBlock  = "block" // a server whose people are there, or which leads the channel, was blocked
)

// task stores what is to be done in a room of a channel.
func (a *ActivityPub) task(ctx context.Context, tx *store.Tx, room store.RoomID, t channelTask, seen string) error {
	in := store.NewInput{Room: room, Kind: inputChannel, Source: t.Do, Epoch: -1, Body: mustJSON(t), CreatedMS: a.Clock().UnixMilli()}
	if seen != "" {
		in.SeenKind, in.SeenKey = "ap-activity", seen
	}
	_, err := tx.AddInputs(ctx, []store.NewInput{in})
	return err
}

// work implements channels.
func (a *ActivityPub) work(ctx context.Context, id store.RoomID, in *store.Input, settle store.Settle) (*step, error) {
	decide := func(x *apStep) error { return nil }
	switch in.Kind {
	case inputChannelEvent:
		ev, err := event.ParseChecked(in.Body)
		if err == nil {
			decide = func(x *apStep) error { return x.onChannelEvent(ev) }
		}
	case inputChannelEncrypted:
		var err error
		decide, err = a.openEncrypted(ctx, id, in, func(x *apStep, plain event.Event) error {
			if x.forBot(plain) {
				return nil
			}
			return x.onChannelEvent(plain)
		})
		if decide == nil {
			return nil, err
		}
	case inputChannel:
		var t channelTask
		if err := json.Unmarshal(in.Body, &t); err != nil {
			return nil, fmt.Errorf("read a task of a channel: %w", err)
		}
		var state []json.RawMessage
		if t.Do == taskOffer {
			var err error
			if state, err = a.Homeserver.RoomState(ctx, a.cfg.Bot, t.Room); err != nil && !errors.Is(err, ErrRefused) {
				return nil, fmt.Errorf("%w: %w", errLater, err)
			}
		}
		decide = func(x *apStep) error { return x.onTask(t, state) }
	case store.InputAnswer:
		var answer store.Answer
		if err := json.Unmarshal(in.Body, &answer); err != nil {
			return nil, fmt.Errorf("read an answer: %w", err)
		}
		decide = func(x *apStep) error { return x.onChannelAnswer(&answer) }
	}
	return a.runInput(ctx, id, in, settle, func(x *apStep) error {
		if err := decide(x); err != nil {
			return err
		}
		return x.advanceChannel()
	})
}

// forBot tells whether a message is a command.
func (x *apStep) forBot(ev event.Event) bool {
	m, ok := ev.Message()
	if !ok || ev.Type != event.TypeMessage {
		return false
	}
	_, prefixed := cutPrefix(m.Body, x.cfg.CommandPrefix)
	return prefixed
}

// fetched is a KeyPackage that was got for a step, or why there is none.
type fetched struct {
	package_ *mls.KeyPackage
	err      error
}

// needPackage says that a step needs a KeyPackage of somebody first, which one of ours asks for.
type needPackage struct{ actor, by string }

// Error implements error.
func (n needPackage) Error() string { return "a KeyPackage of " + n.actor + " is not here yet" }

// maxNeeds bounds what is fetched for one step.
const maxNeeds = 100

// fetchTime bounds what one step waits for one other server, needsTime for all together.
const (
	fetchTime = 20 * time.Second
	needsTime = time.Minute
)

// Bounds on what is fetched at once in steps that the requests of others wait for: in all, and of one registered domain.
const (
	maxLooks          = 32
	maxLooksPerDomain = 4
)

// look begins a look-up of an actor. For a request of another server, which can come again, it has to wait for its turn.
func (a *ActivityPub) look(ctx context.Context, actor string, request bool) (done func(), err error) {
	if !request {
		return func() {}, nil
	}
	return a.looks.Begin(ctx, actor)
}

// satisfy gets what a step needs from other servers before it is made anew. false: it was something else that went wrong. request
// says that another server waits for the step.
func (a *ActivityPub) satisfy(ctx context.Context, need error, packages map[string]fetched, request bool) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	var person needPerson
	var people needPeople
	var pack needPackage
	var key needKey
	switch {
	case errors.As(need, &key):
		done, err := a.look(ctx, key.actor, request)
		if err != nil {
			return true, err
		}
		defer done()
		return true, a.learnKey(ctx, key)
	case errors.As(need, &person):
		return true, a.meet(ctx, person.actor, request)
	case errors.As(need, &people):
		return true, a.people(ctx, people, request)
	case errors.As(need, &pack):
		done, err := a.look(ctx, pack.actor, request)
		if err != nil {
			return true, err
		}
		defer done()
		kp, err := a.fetchPackage(ctx, pack.actor, pack.by)
		if errors.Is(err, errBusyKey) {
			return true, fmt.Errorf("%w: %w", errLater, err)
		}
		packages[pack.actor] = fetched{kp, err}
		return true, nil
	}
	return false, need
}

// fetchPackage gets and checks a KeyPackage of an actor of another server.
func (a *ActivityPub) fetchPackage(ctx context.Context, actor, by string) (*mls.KeyPackage, error) {
	if _, err := a.person(ctx, actor); err != nil {
		return nil, err
	}
	return a.freshPackage(ctx, actor, by)
}

// needPeople says that a step needs to know several actors first.
type needPeople []string

// Error implements error.
func (n needPeople) Error() string { return fmt.Sprintf("%d actors are not known yet", len(n)) }

// people finds what is known of several actors: what was written down, after a restart, before their servers are asked.
func (a *ActivityPub) people(ctx context.Context, actors []string, request bool) error {
	for _, actor := range actors {
		if _, err := a.recallPerson(ctx, actor, errLater); err == nil {
			continue
		}
		if err := a.meet(ctx, actor, request); err != nil {
			return err
		}
	}
	return nil
}

// meet gets to know an actor.
func (a *ActivityPub) meet(ctx context.Context, actor string, request bool) error {
	done, err := a.look(ctx, actor, request)
	if err != nil {
		return err
	}
	defer done()
	if _, err := a.person(ctx, actor); err != nil {
		return fmt.Errorf("%w: %w", errLater, err)
	}
	return nil
}

// packageOf is the KeyPackage of somebody of another server that was fetched for this step.
func (x *apStep) packageOf(actor string) (*mls.KeyPackage, error) {
	f, ok := x.packages[actor]
	if !ok {
		return nil, needPackage{actor, x.asker()}
	}
	return f.package_, f.err
}

// asker is an actor of ours that asks others for KeyPackages: one who is in the group, or the instance.
func (x *apStep) asker() string {
	if x.thread != nil {
		for _, actor := range x.thread.Actors() {
			if x.face.Site.Own(actor) && !x.isChannel(actor) {
				return actor
			}
		}
	}
	return x.face.Site.Instance()
}

// ownPackage makes a KeyPackage of an actor of ours for a group that it is added to at once.
func (x *apStep) ownPackage(actor string) (mls.JoinKey, error) {
	key, err := x.face.clientKey(x.ctx, actor)
	if err == nil {
		err = x.face.comesBack(x.ctx, actor)
	}
	if err != nil {
		return mls.JoinKey{}, err
	}
	kp, private, err := mls.NewKeyPackage(x.Rand, mls.KeyPackageParams{Suite: apSuite, Credential: mls.BasicCredential([]byte(actor)), SignatureKey: key,
		Capabilities: ap.Capabilities(), Lifetime: mls.Lifetime{NotBefore: uint64(x.now.Add(-time.Hour).Unix()), NotAfter: uint64(x.now.Add(apLifetime).Unix())}})
	return mls.JoinKey{KeyPackage: kp, Private: private}, err
}

// onTask does what a task asks for.
func (x *apStep) onTask(t channelTask, state []json.RawMessage) error {
	switch t.Do {
	case taskOffer:
		return x.onOffer(t, state)
	case taskInvite:
		return x.onInvite(t)
	case taskRemove:
		return x.change(t.By, nil, []string{t.Actor}, t.Event)
	case taskFollow:
		return x.onFollow(t)
	case taskJoin:
		return x.onJoin(t)
	case taskAnswer:
		return x.onFollowAnswer(t)
	case taskLeave:
		return x.onLeaveTask(t)
	case taskBlock:
		return x.leaveBlocked()
	case taskGo:
		if x.room.st.Channel != nil {
			x.room.st.Channel.Refused = 0
		}
	}
	return nil
}
