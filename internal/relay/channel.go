package relay

import (
	"context"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// channelState is what the ActivityPub room of a Matrix room knows of its channel (ActivityPub for Interoperable Messaging, AIM). It stands beside the
// MIMI room of the same Matrix room, if there is one: each has a group, a writer and transactions of its own, and what the one shows in Matrix the
// other takes from there as it takes what Matrix users do.
type channelState struct {
	// ID is the id of the channel's actor.
	ID string `json:"id"`
	// Hub tells that the actor is ours: we put the commits of its group in order.
	Hub bool `json:"hub,omitempty"`
	// Account is the local part of its acct: URI, Creator the actor who made it (of a channel of ours).
	Account string `json:"account,omitempty"`
	Creator string `json:"creator,omitempty"`
	// Inbox is where activities for a channel of another server go.
	Inbox string `json:"inbox,omitempty"`
	// Asking are Matrix users who asked to be let in, by the id of their Follow.
	Asking map[string]string `json:"asking,omitempty"`
	// Refused is one more than the epoch in which the channel refused a commit of ours: nothing is committed in it again.
	Refused int64 `json:"refused,omitempty"`
	// Icon is the address of the picture that was last placed.
	Icon string `json:"icon,omitempty"`
	// Changes are by the type of their state event what ours changed and the channel's server was not heard about yet.
	Changes map[string]*channelChange `json:"changes,omitempty"`
}

// channelChange is a name, topic or picture that ours changed in Matrix.
type channelChange struct {
	Has   string `json:"has"`   // what the channel has
	Asked int    `json:"asked"` // how many changes its server was not heard about
}

// Kinds of inputs of channels.
const (
	inputChannelEvent     = "channel-event"     // an event of the Matrix room, as received
	inputChannelEncrypted = "channel-encrypted" // an encrypted event of the Matrix room, as received
	inputChannel          = "channel"           // a channelTask
)

// References by which answers of channels are known; all begin with refChannel.
const (
	refChannel       = "channel-"
	refChannelCommit = "channel-commit"
	refChannelSay    = "channel-say"
	refChannelFollow = "channel-follow"
	refChannelPortal = "channel-portal"
	refChannelUpdate = "channel-update:" // what is to be changed stands behind the colon
)

// acctGhost tells whether a Matrix user is the ghost of somebody known by an acct: URI.
func (r *Relay) acctGhost(mxid string) bool {
	return r.Naming.IsGhost(mxid) && strings.HasPrefix(mxid, "@"+mapping.AcctPrefix)
}

// mimiGhost tells whether a Matrix user is the ghost of a MIMI user.
func (r *Relay) mimiGhost(mxid string) bool { return r.Naming.IsGhost(mxid) && !r.acctGhost(mxid) }

// partakes tells whether a Matrix user takes part in channels: our users, and the ghosts of MIMI users who are in the same Matrix room.
func (a *ActivityPub) partakes(mxid string) bool { return a.mimiGhost(mxid) || a.exported(mxid) }

// channelOf returns what is known of the channel of a room, nil when the room is none.
func (a *ActivityPub) channelOf(ctx context.Context, room store.RoomID) (*channelState, error) {
	st, err := a.stateOf(ctx, room)
	return st.Channel, err
}

// stateOf is the state of a room as it is stored; the zero value when there is none.
func (r *Relay) stateOf(ctx context.Context, room store.RoomID) (st roomState, err error) {
	raw, err := r.Store.RoomStateValue(ctx, room, keyState)
	if errors.Is(err, store.ErrNotFound) || err == nil && raw == "" {
		return st, nil
	}
	if err == nil {
		err = unmarshalString(raw, &st)
	}
	return st, err
}

// hostedRoom returns the room of a channel of ours by the token in its address. ErrNotFound of package activitypub.
func (a *ActivityPub) hostedRoom(ctx context.Context, token string) (store.Room, *channelState, error) {
	roomID, err := store.ParseRoomID(token)
	if err != nil {
		return store.Room{}, nil, ap.ErrNotFound
	}
	room, err := a.Store.Room(ctx, roomID)
	if errors.Is(err, store.ErrNotFound) || err == nil && room.State != stateAP {
		return room, nil, ap.ErrNotFound
	}
	if err != nil {
		return room, nil, err
	}
	c, err := a.channelOf(ctx, roomID)
	if err == nil && (c == nil || !c.Hub) {
		err = ap.ErrNotFound
	}
	return room, c, err
}

// Room implements activitypub.Backend: the actor of a channel, S000-055, S000-056.
func (a *ActivityPub) Room(ctx context.Context, token string) (ap.RoomProfile, error) {
	room, c, err := a.hostedRoom(ctx, token)
	if err != nil {
		return ap.RoomProfile{}, err
	}
	pem, err := a.pem(ctx, c.ID)
	if err != nil {
		return ap.RoomProfile{}, err
	}
	p := ap.RoomProfile{Token: token, Alias: c.Account, Creator: c.Creator, GroupID: string(room.GroupID), PublicPEM: pem, Created: time.UnixMilli(room.CreatedMS)}
	raw, err := a.Store.RoomStateValue(ctx, room.ID, keyMatrix)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return p, err
	}
	var m matrixState
	if raw != "" {
		if err := unmarshalString(raw, &m); err != nil {
			return p, err
		}
	}
	p.Name, p.Topic = m.Name, m.Topic
	if m.Avatar != "" {
		p.Icon, _ = (&step{Relay: a.Relay, ctx: ctx}).publicURL(m.Avatar)
	}
	p.MatrixURI = "matrix:roomid/" + url.PathEscape(strings.TrimPrefix(room.MatrixRoomID, "!"))
	if other, err := a.Store.RoomByName(ctx, store.NameMatrix, room.MatrixRoomID); err == nil && other.Kind != store.RoomNone && other.State != stateAP {
		p.URI = other.URI
	}
	return p, nil
}

// Members implements activitypub.Backend: who is in the group of a channel, which is its followers collection. S000-057.
func (a *ActivityPub) Members(ctx context.Context, token string) ([]string, error) {
	room, c, err := a.hostedRoom(ctx, token)
	if err != nil {
		return nil, err
	}
	t, err := a.threadOf(ctx, room.ID)
	if err != nil || t == nil {
		return nil, err
	}
	var out []string
	for _, actor := range t.Actors() {
		if actor != c.ID {
			out = append(out, actor)
		}
	}
	return out, nil
}

// GroupInfo implements activitypub.Backend: the state of the group of a channel of ours, signed by the channel's own leaf. S000-059.
func (a *ActivityPub) GroupInfo(ctx context.Context, token string) ([]byte, error) {
	room, c, err := a.hostedRoom(ctx, token)
	if err != nil {
		return nil, err
	}
	t, err := a.threadOf(ctx, room.ID)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, ap.ErrNotFound
	}
	leaf, ok := t.Leaf(c.ID)
	if !ok {
		return nil, ap.ErrNotFound
	}
	return t.Group.GroupInfo(leaf, true, mls.Extensions{{Type: mls.ExtensionRatchetTree, Data: t.Group.RatchetTree()}})
}

// threadOf loads the group of a room to look at it.
func (a *ActivityPub) threadOf(ctx context.Context, room store.RoomID) (*ap.Thread, error) {
	pieces, err := a.Store.Pieces(ctx, room)
	if err != nil || len(pieces) == 0 {
		return nil, err
	}
	list := make([]mls.Piece, len(pieces))
	for i, p := range pieces {
		list[i] = mls.Piece{Key: mls.PieceKey(p.Key), Data: p.Data}
	}
	return ap.LoadThread(a.mls, list, nil)
}

// HostsGroup implements activitypub.Backend: an actor of another server that is the channel of a group of ours.
func (a *ActivityPub) HostsGroup(ctx context.Context, actor string) (bool, error) {
	_, err := a.Store.RoomIDByName(ctx, store.NameActor, actor)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// findChannel is a channel of ours by what a WebFinger query names: acct:, the id of its actor, the room's MIMI URI, a matrix: URI.
func (a *ActivityPub) findChannel(ctx context.Context, resource string) (ap.Found, error) {
	room, c, err := a.channelNamed(ctx, resource)
	if errors.Is(err, store.ErrNotFound) {
		err = ap.ErrNotFound
	}
	if err != nil {
		return ap.Found{}, err
	}
	f := ap.Found{Subject: "acct:" + c.Account + "@" + a.Naming.Domain, Actor: c.ID, Profile: "https://matrix.to/#/" + room.MatrixRoomID}
	if other, err := a.Store.RoomByName(ctx, store.NameMatrix, room.MatrixRoomID); err == nil && other.URI != "" {
		f.Aliases = []string{other.URI}
	}
	return f, nil
}

func (a *ActivityPub) channelNamed(ctx context.Context, resource string) (room store.Room, c *channelState, err error) {
	named := func(kind store.NameKind, name string) {
		if room, err = a.Store.RoomByName(ctx, kind, name); err == nil {
			room, c, err = a.hostedRoom(ctx, room.ID.String())
		}
	}
	local := func(alias string) {
		if alias, server, ok := strings.Cut(alias, ":"); ok && server == a.Naming.Server {
			named(store.NameAccount, ap.EscapeName(alias))
			return
		}
		err = ap.ErrNotFound
	}
	switch kind, token := a.Site.Parse(resource); {
	case kind == ap.KindRoom:
		return a.hostedRoom(ctx, token)
	case strings.HasPrefix(resource, "acct:"):
		user, host, splitErr := mapping.SplitAcct(resource)
		if splitErr != nil || host != a.Naming.Domain {
			return room, nil, ap.ErrNotFound
		}
		named(store.NameAccount, user)
	case strings.HasPrefix(resource, "mimi://"):
		var other store.Room
		if other, err = a.Store.RoomByName(ctx, store.NameMIMI, wire.IdentifierURI(resource).Key()); err == nil {
			named(store.NameChannel, other.MatrixRoomID)
		}
	case strings.HasPrefix(resource, "matrix:r/"):
		local(strings.TrimPrefix(resource, "matrix:r/"))
	case strings.HasPrefix(resource, "matrix:roomid/"):
		name, unescapeErr := url.PathUnescape(strings.TrimPrefix(resource, "matrix:roomid/"))
		if unescapeErr != nil {
			return room, nil, ap.ErrNotFound
		}
		named(store.NameChannel, "!"+name)
	default:
		err = ap.ErrNotFound
	}
	return room, c, err
}

// isChannel tells whether an actor in the group is the channel itself, which is nobody in Matrix.
func (x *apStep) isChannel(actor string) bool {
	c := x.room.st.Channel
	return c != nil && c.ID == actor
}

// channelTo are those among actors who are of other servers and are sent what happens in a channel of ours.
func (x *apStep) channelTo(actors []string, except string) ([]ap.Recipient, error) {
	var out []ap.Recipient
	var missing needPeople
	for _, actor := range actors {
		if x.face.Site.Own(actor) || actor == except {
			continue
		}
		p, ok := x.face.personKnown(actor)
		if !ok {
			missing = append(missing, actor)
			continue
		}
		if p.Inbox != "" {
			out = append(out, ap.Recipient{Actor: actor, Inbox: p.Inbox, SharedInbox: p.Shared, Dialect: p.Dialect})
		}
	}
	if len(missing) > 0 {
		return nil, missing
	}
	return out, nil
}

func envelopeID(octets []byte) string {
	hash := ap.HashOf(octets)
	return hex.EncodeToString(hash[:12])
}

// channelSay sends what an actor of ours said: as the channel's host to all members, otherwise to the channel. Each has one more way to know it again: by the
// hash of the bytes, which is noted, because a channel may send it back.
func (x *apStep) channelSay(actor string, octets []byte) error {
	c := x.room.st.Channel
	if _, err := x.fresh("ap", hashKey(octets)); err != nil {
		return err
	}
	said := x.face.Site.ChannelMessage(ap.Envelope{ID: envelopeID(octets) + "-m", Actor: actor, Published: x.now}, c.ID, octets)
	if !c.Hub {
		row := x.postOne(ap.Post{Inbox: c.Inbox, Body: said})
		if n := len(x.fx.links); row != nil && n > 0 {
			row.AnswerTo, row.AnswerRef, row.AnswerSeq = store.AnswerLink, refChannelSay, x.fx.links[n-1].Seq
		}
		return nil
	}
	to, err := x.channelTo(x.thread.Actors(), actor)
	if err != nil {
		return err
	}
	x.post(x.face.Site.FanOut(ap.Envelope{ID: envelopeID(octets), Actor: c.ID, Published: x.now}, actor, said, octets, to))
	return nil
}

func hashKey(octets []byte) string { return hex.EncodeToString(ap.HashBytes(octets)) }

// postOne queues one post.
func (x *apStep) postOne(p ap.Post) *store.Outbound {
	before := len(x.fx.out)
	x.post([]ap.Post{p})
	if len(x.fx.out) == before {
		return nil
	}
	return &x.fx.out[len(x.fx.out)-1]
}

// place brings the Matrix room in line with who came into the group and who left it. by is the actor who did it.
func (x *apStep) place(joined, left []string, by string) error {
	for _, actor := range joined {
		if x.isChannel(actor) {
			continue
		}
		mxid, ghost, err := x.mxid(actor)
		if err != nil {
			return err
		}
		m, _ := x.room.members.of(mxid)
		m.URI, m.Ghost = actor, ghost
		switch {
		case x.wished(actor, intentRemove): // went again meanwhile
		case m.Membership == string(event.Join):
		case ghost:
			x.matrix(event.JoinRoom{Sender: userID(mxid), InviteFirst: true})
			m.Membership = string(event.Join)
		case m.Membership != string(event.Invite):
			x.matrix(event.InviteUser{Sender: x.hand(by, mxid), Target: userID(mxid)})
			m.Membership = string(event.Invite)
		}
		x.setMember(m)
	}
	for _, actor := range left {
		if x.isChannel(actor) || x.room.st.LeftMS > 0 && x.face.Site.Own(actor) || x.wished(actor, intentAdd) {
			continue
		}
		mxid, ghost, err := x.mxid(actor)
		if err != nil {
			return err
		}
		m, known := x.room.members.of(mxid)
		if !known || m.Membership != string(event.Join) && m.Membership != string(event.Invite) {
			continue
		}
		if ghost {
			x.matrix(event.LeaveRoom{Sender: userID(mxid)})
		} else {
			x.matrix(event.KickUser{Sender: x.hand(by, mxid), Target: userID(mxid), Reason: "removed from the channel"})
		}
		m.Membership = string(event.Leave)
		x.setMember(m)
	}
	return nil
}

// hand is who does in Matrix what an actor did: the actor's ghost, in a channel of ours; in a portal, and for all others, the bot.
func (x *apStep) hand(by, except string) id.UserID {
	if m, ok := x.memberOfActor(by); ok && m.Ghost && m.MXID != except && m.Membership == string(event.Join) && x.room.st.Channel.Hub {
		return userID(m.MXID)
	}
	return userID(x.cfg.Bot)
}

func (x *apStep) memberOfActor(actor string) (store.Member, bool) {
	for _, m := range x.room.members.byMXID {
		if m.URI == actor && actor != "" {
			return m, true
		}
	}
	return store.Member{}, false
}

// noteKnown keeps in memory what is known of an actor.
func (a *ActivityPub) noteKnown(p apPerson) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) > 10_000 {
		clear(a.known)
	}
	a.known[p.Actor] = p
}

// scopePeople is the scope of settings that hold what is known of actors of other servers.
const scopePeople = "ap-person"

// rememberPerson writes down what is known of an actor, so that a server that is away keeps nobody else in the room from being written to.
func (a *ActivityPub) rememberPerson(ctx context.Context, p apPerson) error {
	value := string(mustJSON(p))
	if had, err := a.Store.Setting(ctx, scopePeople, p.Actor); err == nil && had == value {
		return nil
	}
	return a.Store.Tx(ctx, func(tx *store.Tx) error { return tx.SetSetting(ctx, scopePeople, p.Actor, value) })
}

// recallPerson returns what was written down of an actor whose server does not answer; cause when that is nothing. Of an actor that is not there any more it is what its
// address says: such a member is shown, and sent nothing.
func (a *ActivityPub) recallPerson(ctx context.Context, actor string, cause error) (apPerson, error) {
	value, err := a.Store.Setting(ctx, scopePeople, actor)
	var p apPerson
	if err != nil || unmarshalString(value, &p) != nil {
		if !errors.Is(cause, ap.ErrGone) && !errors.Is(cause, ap.ErrActor) && !errors.Is(cause, ap.ErrUnfit) {
			return p, cause
		}
		p = apPerson{Actor: actor, Acct: fallbackAcct(actor), Name: actor}
	}
	a.noteKnown(p)
	return p, nil
}

// fallbackAcct is the acct: URI of an actor that has none that its server confirms.
func fallbackAcct(actor string) string {
	_, rest, _ := strings.Cut(actor, "://")
	return "acct:" + ap.EscapeName(rest) + "@" + hostOnly(actor)
}

// guest tells whether an actor of ours is the ghost of a MIMI user. Its KeyPackages show which key is its own, and nobody can add it anywhere by them: a MIMI user is met in
// the room, and over MIMI everywhere else.
func (a *ActivityPub) guest(actor string) bool {
	kind, name := a.Site.Parse(actor)
	segment, err := ap.UnescapeName(name)
	return kind == ap.KindUser && err == nil && strings.HasPrefix(segment, mapping.GhostPrefix)
}

// visits tells whether the ghost of a MIMI user is an actor of ours: it is once it has a client in a channel.
func (a *ActivityPub) visits(ctx context.Context, mxid string) error {
	actor, err := a.actorID(mxid)
	if err != nil {
		return ap.ErrNotFound
	}
	_, err = a.Store.Secret(ctx, clientKeyName(actor))
	if errors.Is(err, store.ErrNotFound) {
		return ap.ErrNotFound
	}
	return err
}
