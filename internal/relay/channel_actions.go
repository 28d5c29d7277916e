package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
)

// OfferChannel makes a Matrix room, which the bot is in, a channel (AIM §5.2, S000-055, S000-061): everybody in it has an actor and a client in the channel's group, and people of
// ActivityPub servers can be invited. It may be a MIMI room as well. What comes of it is told in the room.
func (a *ActivityPub) OfferChannel(ctx context.Context, roomID, by, eventID string) error {
	if other, err := a.Store.RoomByName(ctx, store.NameMatrix, roomID); errors.Is(err, store.ErrNotFound) {
		return ErrNoRoom
	} else if err != nil {
		return err
	} else if other.State == stateAP {
		return fmt.Errorf("%w: this room is a conversation, whose people are fixed", ErrRefused)
	}
	var room store.Room
	err := a.Store.Tx(ctx, func(tx *store.Tx) error {
		var err error
		room, _, err = tx.FindOrCreateRoom(ctx, store.NameChannel, roomID, store.Room{ID: store.DerivedRoomID("channel", roomID), Kind: store.RoomUser,
			State: stateAP, Epoch: -1, CreatedMS: a.Clock().UnixMilli()})
		if err != nil {
			return err
		}
		return a.task(ctx, tx, room.ID, channelTask{Do: taskOffer, By: by, Event: eventID, Room: roomID}, "")
	})
	if err == nil {
		a.Wake(room.ID)
	}
	return err
}

// maxAccount bounds the local part of a channel's acct: URI in octets.
const maxAccount = 64

// accountOf is the local part of the acct: URI that a channel gets: the room's alias on this homeserver where no user and no other channel goes by it, else its token.
func (x *apStep) accountOf(alias string) string {
	token := x.room.head.ID.String()
	local, server, ok := strings.Cut(strings.TrimPrefix(alias, "#"), ":")
	account := ap.EscapeName(local)
	if !ok || server != x.Naming.Server || local == "" || len(account) > maxAccount {
		return token
	}
	if _, err := x.Store.RoomIDByName(x.ctx, store.NameAccount, account); !errors.Is(err, store.ErrNotFound) {
		return token
	}
	if x.Homeserver == nil {
		return token
	}
	for _, user := range []string{account, local} {
		if there, err := x.Homeserver.UserExists(x.ctx, "@"+user+":"+x.Naming.Server); err != nil || there || x.ours("@"+user+":"+x.Naming.Server) {
			return token
		}
	}
	return account
}

// onOffer makes the group of a channel with a leaf for the channel itself and for everybody on Matrix who takes part.
func (x *apStep) onOffer(t channelTask, state []json.RawMessage) error {
	v := x.room
	v.head.MatrixRoomID = t.Room
	if v.st.Channel != nil {
		if v.st.Channel.Hub {
			x.notice("This room is a channel already: "+x.address(), t.Event)
		} else {
			x.notice("This room is a channel of another server: "+v.st.Channel.ID, t.Event)
		}
		return nil
	}
	if len(state) == 0 {
		x.notice("This room cannot be read: invite the bot first.", t.Event)
		return nil
	}
	alias := ""
	for _, raw := range state {
		ev, err := event.ParseChecked(raw)
		if err != nil || ev.StateKey == nil {
			continue
		}
		if ev.Type == event.TypeMember {
			x.readChannelMember(ev)
			continue
		}
		if *ev.StateKey != "" {
			continue
		}
		switch ev.Type {
		case event.TypeCanonicalAlias:
			alias = ev.Content.Str("alias")
		case event.TypeCreate:
			v.matrix.created(ev)
		case event.TypeHistoryVisibility:
			v.matrix.History = ev.Content.Str("history_visibility")
		default:
			if err := x.onChannelState(ev); err != nil { // there is no group yet: nobody is told
				return err
			}
		}
	}
	if v.matrix.History == "world_readable" && !x.cfg.AllowWorldReadable {
		x.notice("This room cannot be a channel: everybody can read it from outside.", t.Event)
		return nil
	}
	return x.makeChannel(t, alias)
}

func (x *apStep) readChannelMember(ev event.Event) {
	m, ok := ev.Member()
	if !ok {
		return
	}
	mxid := string(m.User)
	had, _ := x.room.members.of(mxid)
	had.Membership, had.Display, had.Ghost = string(m.Membership), m.DisplayName, x.acctGhost(mxid)
	if had.URI == "" && (had.Ghost || x.face.partakes(mxid)) {
		had.URI, _ = x.actorOfMXID(mxid)
	}
	x.setMember(had)
}

func (x *apStep) makeChannel(t channelTask, alias string) error {
	v := x.room
	token, err := mapping.NewToken(x.Rand)
	if err != nil {
		return err
	}
	group, err := x.Naming.GroupURI(token)
	if err != nil {
		return err
	}
	creator, err := x.actorOfMXID(t.By)
	if err != nil {
		return err
	}
	account := x.accountOf(alias)
	c := &channelState{ID: x.face.Site.Room(v.head.ID.String()), Hub: true, Account: account, Creator: creator}
	key, err := x.face.clientKey(x.ctx, c.ID)
	if err != nil {
		return err
	}
	thread, e, err := ap.StartThread(x.Rand, x.now, x.face.mls, string(group), c.ID, key, nil, false)
	if err != nil {
		return err
	}
	v.st.Channel, x.thread = c, thread
	v.head.Group++
	v.head.GroupID = []byte(group)
	x.fx.names = append(x.fx.names, name{store.NameGroup, fmt.Sprintf("%x", []byte(group))}, name{store.NameAccount, account})
	x.apply(e)
	var people []string
	for _, mxid := range sortedKeys(v.members.byMXID) {
		m := v.members.byMXID[mxid]
		if m.Membership == string(event.Join) && m.URI != "" && !m.Ghost && len(people) < x.cfg.MaxExport {
			people = append(people, m.URI)
		}
	}
	if err := x.change(c.ID, people, nil, ""); err != nil {
		return err
	}
	// People whose ghosts were invited before come in now.
	for _, mxid := range sortedKeys(v.members.byMXID) {
		if m := v.members.byMXID[mxid]; m.Ghost && m.Membership == string(event.Invite) {
			if err := x.change(t.By, []string{m.URI}, nil, ""); err != nil {
				return err
			}
		}
	}
	x.notice("This room is a channel now: people of ActivityPub servers find it as "+x.address(), t.Event)
	x.tellEncrypted()
	return nil
}

// address is what people of other servers call the channel.
func (x *apStep) address() string { return "@" + x.room.st.Channel.Account + "@" + x.Naming.Domain }

// ErrNoChannel says that a Matrix room is not a channel.
var ErrNoChannel = errors.New("the room is not a channel")

// channelTaskFor stores a task for the channel that a Matrix room is.
func (a *ActivityPub) channelTaskFor(ctx context.Context, roomID string, t channelTask) error {
	room, err := a.Store.RoomIDByName(ctx, store.NameChannel, roomID)
	if errors.Is(err, store.ErrNotFound) {
		return ErrNoChannel
	}
	if err != nil {
		return err
	}
	err = a.Store.Tx(ctx, func(tx *store.Tx) error { return a.task(ctx, tx, room, t, "") })
	if err == nil {
		a.Wake(room)
	}
	return err
}

// InviteToChannel adds somebody of an ActivityPub server, @user@domain or acct:user@domain, to the channel that a Matrix room is, or to
// the conversation. S000-064, S000-070.
func (a *ActivityPub) InviteToChannel(ctx context.Context, roomID, by, handle, eventID string) error {
	return a.tell(a.inviteToChannel(ctx, roomID, by, handle, eventID))
}

func (a *ActivityPub) inviteToChannel(ctx context.Context, roomID, by, handle, eventID string) error {
	if ok, err := a.hasChannel(ctx, &a.Store.Reader, roomID); err != nil || !ok {
		if room, thread, threadErr := a.Owns(ctx, roomID); thread && err == nil && threadErr == nil {
			return a.inviteToThread(ctx, room, by, handle, eventID)
		}
		return errors.Join(err, ErrNoChannel)
	}
	them, err := a.resolve(ctx, handle)
	if err != nil {
		return err
	}
	if them.IsChannel() || them.KeyPackages == nil {
		return fmt.Errorf("%w: %s cannot take encrypted messages", ErrRefused, handle)
	}
	return a.channelTaskFor(ctx, roomID, channelTask{Do: taskInvite, By: by, Event: eventID, Actor: them.ID})
}

func (a *ActivityPub) resolve(ctx context.Context, handle string) (*ap.RemoteActor, error) {
	acct, err := mapping.Handle(handle)
	if err != nil {
		return nil, err
	}
	if _, host, _ := mapping.SplitAcct(acct); host == a.Naming.Domain {
		return nil, fmt.Errorf("%w: %s is of this server: invite them, or join, on Matrix", ErrRefused, handle)
	}
	them, err := a.People.Resolve(ctx, acct)
	if err != nil {
		return nil, err
	}
	_, err = a.person(ctx, them.ID)
	return them, err
}

// onInvite adds somebody of another server.
func (x *apStep) onInvite(t channelTask) error {
	if x.thread == nil {
		x.notice("Nobody of this server is in the channel any more.", t.Event)
		return nil
	}
	return x.change(t.By, []string{t.Actor}, nil, t.Event)
}

// JoinChannel asks a channel of another server, by @room@domain or acct:room@domain, to let a Matrix user in: by a Follow of its actor. The user is invited to the Matrix
// room when it does, or told that it does not.
func (a *ActivityPub) JoinChannel(ctx context.Context, by, handle string) error {
	return a.tell(a.joinChannel(ctx, by, handle))
}

func (a *ActivityPub) joinChannel(ctx context.Context, by, handle string) error {
	me, err := a.actorID(by)
	if err == nil {
		err = a.comesBack(ctx, me)
	}
	if err != nil {
		return err
	}
	them, err := a.resolve(ctx, handle)
	if err != nil {
		return err
	}
	if !them.IsChannel() {
		return fmt.Errorf("%w: %s is no channel", ErrRefused, handle)
	}
	room, err := a.openChannel(ctx, them.ID, them.Inbox)
	if err != nil {
		return err
	}
	err = a.Store.Tx(ctx, func(tx *store.Tx) error {
		return a.task(ctx, tx, room, channelTask{Do: taskJoin, By: by, Inbox: them.Inbox}, "")
	})
	if err == nil {
		a.Wake(room)
	}
	return err
}

// maxAsking bounds the users who ask one channel to be let in.
const maxAsking = 100

// onJoin sends the Follow of a Matrix user; one whose client is in the group already is invited again.
func (x *apStep) onJoin(t channelTask) error {
	c := x.room.st.Channel
	actor, err := x.actorOfMXID(t.By)
	if err != nil || c == nil || c.Hub {
		return err
	}
	c.Inbox = t.Inbox
	if x.thread != nil {
		if _, in := x.thread.Leaf(actor); in {
			x.wishMembers(actor, []string{actor}, nil, intentData{By: t.By})
			return x.place([]string{actor}, nil, c.ID)
		}
	}
	x.follow(actor, t.By)
	return nil
}

// follow asks a channel of another server to let somebody of ours in; false: too many ask already, and the user is told.
func (x *apStep) follow(actor, mxid string) bool {
	c := x.room.st.Channel
	if len(c.Asking) >= maxAsking {
		x.tellUser(mxid, "Too many people of this server ask "+c.ID+" to be let in. Try again later.")
		return false
	}
	env := ap.Envelope{ID: x.room.head.ID.String() + fmt.Sprintf("-f%d", x.seq()), Actor: actor, Published: x.now}
	body := x.face.Site.Follow(env, c.ID)
	ask(x.postOne(ap.Post{Inbox: c.Inbox, Body: body}), refChannelFollow, 0)
	if c.Asking == nil {
		c.Asking = map[string]string{}
	}
	c.Asking[body.Str("id")] = mxid
	return true
}

// onFollowAnswer: the channel said yes, and the Add comes apart; or no.
func (x *apStep) onFollowAnswer(t channelTask) error {
	c := x.room.st.Channel
	if c == nil {
		return nil
	}
	by, ok := c.Asking[t.ID]
	if !ok {
		return nil
	}
	delete(c.Asking, t.ID)
	if t.Text == "Reject" {
		x.tellUser(by, "The channel "+c.ID+" does not let you in: ask somebody in it to invite you.")
		x.notIn(by)
	}
	return nil
}

// notIn puts somebody out of the portal who was not let into the channel again.
func (x *apStep) notIn(mxid string) {
	if m, ok := x.room.members.byMXID[mxid]; ok && (x.thread == nil || !slices.Contains(x.thread.Actors(), m.URI)) {
		x.putOut(mxid, false, "the channel does not let you in")
	}
}

// notLetIn tells those who ask that they cannot come in.
func (x *apStep) notLetIn(why string) error {
	c := x.room.st.Channel
	for _, by := range c.Asking {
		x.tellUser(by, "You could not join "+c.ID+": "+why+".")
		x.notIn(by)
	}
	c.Asking = nil
	return nil
}

// onFollow: somebody asks to be let into a channel of ours. Who may come in by themselves is what the Matrix room's join rule says.
func (x *apStep) onFollow(t channelTask) error {
	c := x.room.st.Channel
	if c == nil || !c.Hub || x.thread == nil {
		return nil
	}
	p, ok := x.face.personKnown(t.Actor)
	if !ok {
		return needPerson{t.Actor}
	}
	env := ap.Envelope{ID: envelopeID([]byte(t.ID)) + "-f", Actor: c.ID, To: []string{t.Actor}, Published: x.now}
	mxid, ghost, err := x.mxid(t.Actor)
	if err != nil {
		return err
	}
	m, _ := x.room.members.of(mxid)
	if !ghost || x.denied(hostOnly(t.Actor)) || m.Membership == string(event.Ban) || x.room.matrix.Join != "public" && m.Membership != string(event.Invite) {
		x.post([]ap.Post{{Inbox: p.Inbox, Body: x.face.Site.RejectOf(env, t.ID)}})
		if ghost && x.room.matrix.Join == "knock" && m.Membership != string(event.Ban) && m.Membership != string(event.Knock) {
			m.MXID, m.Membership, m.URI, m.Ghost = mxid, string(event.Knock), t.Actor, true // once, until somebody answers it
			x.setMember(m)
			x.matrix(event.KnockRoom{Sender: userID(mxid), Room: x.room.head.MatrixRoomID, Via: []string{x.Naming.Server}})
		}
		return nil
	}
	if !slices.Contains(x.thread.Actors(), t.Actor) {
		if _, err := x.packageOf(t.Actor); err != nil {
			if _, needs := err.(needPackage); needs { //nolint:errorlint // packageOf makes it
				return err
			}
			// A stranger who cannot be let in is no news for the room.
			if m.Membership == string(event.Invite) {
				x.declined(t.Actor, "", err)
			}
			x.post([]ap.Post{{Inbox: p.Inbox, Body: x.face.Site.RejectOf(env, t.ID)}})
			return nil
		}
	}
	x.post([]ap.Post{{Inbox: p.Inbox, Body: x.face.Site.AcceptOf(env, t.ID)}})
	return x.change(c.ID, []string{t.Actor}, nil, "")
}

// LeaveChannel takes a Matrix user out of the channel that a Matrix room is, also where the user stays in the Matrix room.
func (a *ActivityPub) LeaveChannel(ctx context.Context, roomID, by, eventID string) error {
	return a.channelTaskFor(ctx, roomID, channelTask{Do: taskLeave, By: by, Event: eventID})
}

func (x *apStep) onLeaveTask(t channelTask) error {
	c := x.room.st.Channel
	if c == nil {
		return nil
	}
	if c.Hub {
		x.notice("This server leads the channel: who leaves the room leaves it.", t.Event)
		return nil
	}
	actor, err := x.actorOfMXID(t.By)
	if err != nil {
		return err
	}
	return x.change(t.By, nil, []string{actor}, t.Event)
}
