package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// The Actions are what people and operators ask for by commands. Each is stored as an input and done by a step; what comes
// of it is told in the room.

// action is the body of an input of that kind.
type action struct {
	Do    string `json:"do"`
	By    string `json:"by,omitempty"`   // MXID
	User  string `json:"user,omitempty"` // MIMI user URI
	Code  []byte `json:"code,omitempty"`
	Role  uint32 `json:"role,omitempty"`
	Event string `json:"event,omitempty"`
	Text  string `json:"text,omitempty"`
	// Link is a join link that is to be made.
	Link *LinkOptions `json:"link,omitempty"`
	// Status is a change of the room's status notification policy.
	Status *StatusChange `json:"status,omitempty"`
	Ghost  string        `json:"ghost,omitempty"` // MXID
	// Domains are providers.
	Domains []string `json:"domains,omitempty"`
	Users   []string `json:"users,omitempty"` // MIMI user URIs
	// Target is the event that the action is about.
	Target string `json:"target,omitempty"`
	// Here says that By came into the portal, and joins only while there.
	Here bool `json:"here,omitempty"`
}

// What actions do.
const (
	actInvite  = "invite"
	actJoin    = "join"
	actPlumb   = "plumb"
	actUnplug  = "unplumb"
	actStart   = "start"
	actResync  = "resync"
	actUpgrade = "upgrade"
	actRenew   = "renew"
	actSay     = "say"
	actRetry   = "retry"
	actLink    = "link"
	actLinks   = "links"
	actUnlink  = "unlink"
	actKnock   = "knock"
	actUnknock = "unknock"

	actStatusPolicy = "status-policy"

	actTellDeleted = "tell-deleted"
	actForgetUser  = "forget-user"
	actForgetGhost = "forget-ghost"
	actReport      = "report"
	actDecide      = "decide"
	actModerate    = "moderate"
	actDelayed     = "delayed"
)

// ErrNoRoom says that a Matrix room is not known to the bridge: neither bot nor ghost was ever invited.
var ErrNoRoom = errors.New("the bridge is not in this room")

// act stores an action as an input of a room.
func (r *Relay) act(ctx context.Context, id store.RoomID, a action) error {
	err := r.Store.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.AddInputs(ctx, []store.NewInput{r.actionInput(id, a)})
		return err
	})
	if err == nil {
		r.Wake(id)
	}
	return err
}

// actIn stores a command about a Matrix room. ErrNoRoom when it is not known.
func (r *Relay) actIn(ctx context.Context, roomID string, a action) error {
	id, err := r.roomNamed(ctx, roomID)
	if err != nil {
		return err
	}
	return r.act(ctx, id, a)
}

// roomNamed finds a room by the id of its Matrix room, or ErrNoRoom.
func (r *Relay) roomNamed(ctx context.Context, roomID string) (store.RoomID, error) {
	id, err := r.Store.RoomIDByName(ctx, store.NameMatrix, roomID)
	if errors.Is(err, store.ErrNotFound) {
		err = ErrNoRoom
	}
	return id, err
}

// Invite adds a MIMI user to a Matrix room, in the name of a Matrix user. A room that is not joined to MIMI becomes a hub
// room. What comes of it is told in the room.
func (r *Relay) Invite(ctx context.Context, roomID, by, user, eventID string) error {
	if !wire.IdentifierURI(user).Is(wire.KindUser, wire.KindPseudonym) {
		return fmt.Errorf("invite %q: it is no MIMI user", user)
	}
	if r.Naming.Own(wire.IdentifierURI(user)) {
		return fmt.Errorf("invite %q: it is a user of this bridge: invite them on Matrix", user)
	}
	return r.actIn(ctx, roomID, action{Do: actInvite, By: by, User: user, Event: eventID})
}

// Plumb makes an existing Matrix room, which the bot is in, a hub room without inviting anybody yet.
func (r *Relay) Plumb(ctx context.Context, roomID, by, eventID string) error {
	return r.actIn(ctx, roomID, action{Do: actPlumb, By: by, Event: eventID})
}

// Unplumb ends the MIMI side of a hub room: all MIMI users are removed and their ghosts leave.
func (r *Relay) Unplumb(ctx context.Context, roomID, by, eventID string) error {
	return r.actIn(ctx, roomID, action{Do: actUnplug, By: by, Event: eventID})
}

// StartChat makes a direct chat of a Matrix user and MIMI users: a room of fixed membership, the one that exactly these people
// have or a new one. The Matrix room is made by the bot, which invites all.
func (r *Relay) StartChat(ctx context.Context, by string, users ...string) error {
	users = slices.Clone(users)
	slices.SortFunc(users, func(a, b string) int {
		return strings.Compare(wire.IdentifierURI(a).Key(), wire.IdentifierURI(b).Key())
	})
	users = slices.CompactFunc(users, func(a, b string) bool { return wire.IdentifierURI(a).Same(wire.IdentifierURI(b)) })
	if len(users) == 0 || len(users) >= maxSet {
		return fmt.Errorf("start a chat with %d people: between 1 and %d can be", len(users), maxSet-1)
	}
	for _, user := range users {
		if err := r.otherUser(user); err != nil {
			return err
		}
		if r.blockedUser(user) {
			return fmt.Errorf("start a chat with %q: its provider is not spoken with", user)
		}
	}
	id, err := r.directRoom(ctx, by, users)
	if err != nil {
		return err
	}
	return r.act(ctx, id, action{Do: actStart, By: by, Users: users})
}

// Resync joins the group of a follower room anew, on an operator's word.
func (r *Relay) Resync(ctx context.Context, id store.RoomID) error {
	return r.act(ctx, id, action{Do: actResync})
}

// UserURI is what a Matrix user is called in MIMI.
func (r *Relay) UserURI(mxid string) (string, error) {
	uri, err := r.Naming.UserURI(mxid)
	return string(uri), err
}

// onAction does what a command asked for.
func (s *step) onAction(body []byte) error {
	var a action
	if err := json.Unmarshal(body, &a); err != nil {
		return fmt.Errorf("read an action: %w", err)
	}
	v := s.room
	switch a.Do {
	case actInvite:
		return s.actInvite(a)
	case actPlumb:
		return s.actPlumb(a)
	case actUnplug:
		return s.actUnplumb(a)
	case actJoin:
		return s.actJoin(a)
	case actStart:
		return s.actStart(a)
	case actResync:
		return s.resync("an operator asked for it")
	case actUpgrade:
		s.tryUpgrade()
	case actRetry:
		return s.actRetry(a)
	case actLink:
		return s.actLink(a)
	case actLinks:
		return s.actLinks(a)
	case actUnlink:
		return s.actUnlink(a)
	case actKnock, actUnknock:
		return s.actKnock(a)
	case actStatusPolicy:
		return s.actStatusPolicy(a)
	case actTellDeleted:
		s.actTellDeleted(a)
	case actForgetUser:
		s.actForgetUser(a)
	case actForgetGhost:
		s.actForgetGhost(a)
	case actReport:
		return s.actReport(a)
	case actModerate:
		return s.actModerate(a)
	case actDelayed:
		s.actDelayed(a.Text)
	case actDecide:
		return s.actDecide(a)
	case actSay:
		if a.By != "" {
			s.openChat(a.By)
		}
		s.notice(a.Text, a.Event)
	case actRenew:
		if v.group != nil {
			s.refreshKeys()
		}
	}
	return nil
}

func (s *step) actInvite(a action) error {
	v := s.room
	mxid, _, err := s.mxidOf(a.User)
	if err != nil || s.blockedUser(a.User) {
		s.notice(a.User+" cannot be invited: its provider is not spoken with.", a.Event)
		return nil
	}
	if m := v.members.byMXID[mxid]; m.Membership == string(event.Ban) || v.policy != nil && v.policy.RoleIndex(a.User) == policy.RoleBanned {
		s.notice(s.nameOf(a.User)+" is banned here: lift the ban first.", a.Event) // a command is not judged by the homeserver
		return nil
	}
	d := intentData{MXID: mxid, Event: a.Event, By: a.By}
	if v.head.Kind == store.RoomNone {
		if err := s.becomeHub(); err != nil {
			return err
		}
		v.st.Opening = &opening{By: a.By}
	}
	s.gather(a.User, &d)
	s.wish(intentAdd, s.actorOf(a.By), a.User, d)
	return s.claimOpen()
}

func (s *step) actPlumb(a action) error {
	v := s.room
	switch {
	case v.head.Kind == store.RoomHub && v.group != nil, v.head.Kind == store.RoomFollower:
		s.notice("This room is joined to MIMI already: "+v.head.URI, a.Event)
		return nil
	case !v.members.joined(s.cfg.Bot):
		s.notice("Invite the bot first.", a.Event)
		return nil
	}
	if err := s.becomeHub(); err != nil {
		return err
	}
	v.st.Opening = &opening{By: a.By, Event: a.Event, Reading: true}
	s.readRoom()
	return nil
}

// actUnplumb removes everybody who is not of this bridge. The room keeps its URI, so that it can be plumbed again.
func (s *step) actUnplumb(a action) error {
	v := s.room
	if v.head.Kind != store.RoomHub || v.group == nil {
		why := "This room is not joined to MIMI."
		if v.head.Kind == store.RoomFollower {
			why = "Another provider leads this room: leave it on Matrix, and you leave it there."
		}
		s.notice(why, a.Event)
		return nil
	}
	s.endRoom(wire.DestroyedDisconnected, intentData{Event: a.Event, By: a.By})
	s.notice("All MIMI users are removed from this room.", a.Event)
	return nil
}

// actStart makes the Matrix room of a direct chat: the bot, the user and, when all can come, their ghosts.
func (s *step) actStart(a action) error {
	v := s.room
	if v.head.MatrixRoomID != "" || v.st.Portal {
		return s.startAgain(a)
	}
	if err := s.becomeHub(); err != nil {
		return err
	}
	v.st.Opening, v.st.Portal = &opening{By: a.By, Direct: true, Set: a.Users}, true
	alias, _, err := mapping.AliasLocalpart(v.uri(), mapping.MaxLocalpart(s.Naming.Server))
	if err != nil {
		return err
	}
	if v.st.PortalTries > 0 {
		alias = "" // somebody else may have the name
	}
	state := []event.StateEvent{s.functionalMembers()}
	if s.encryptsPortals() {
		state = append(state, s.encryptionState())
		v.matrix.Crypt = true
	}
	o := s.matrix(event.CreateRoom{Preset: "trusted_private_chat", Direct: true, Invite: []id.UserID{userID(a.By)}, Alias: alias, State: state})
	ask(o, refPortal, 0)
	bot, _ := v.members.of(s.cfg.Bot)
	bot.Membership = string(event.Join)
	s.setMember(bot)
	s.agree(a.By, true)
	by, _ := v.members.of(a.By)
	by.Membership, by.URI = string(event.Invite), s.actorOf(a.By)
	s.setMember(by)
	s.follow(by)
	return s.wishSet(a)
}

// wishSet wishes for the MIMI users of a direct chat.
func (s *step) wishSet(a action) error {
	for _, user := range a.Users {
		mxid, _, err := s.mxidOf(user)
		if err != nil {
			return err
		}
		s.wish(intentAdd, s.actorOf(a.By), user, intentData{MXID: mxid, By: a.By})
	}
	return s.claimOpen()
}

// membersRead: it is known who is in a room that is not joined to MIMI. Who invited the bot is greeted; a chat with the bot is
// remembered as the place to talk to them.
func (s *step) membersRead() {
	v := s.room
	v.st.MembersRead = true
	greet := v.st.Greet
	v.st.Greet = ""
	others := s.talkers()
	switch {
	case greet == "":
	case len(others) == 1 && others[0] == greet:
		s.fx.managers = append(s.fx.managers, manager{greet, v.head.MatrixRoomID})
		s.notice("Hello! I join Matrix rooms to MIMI. Say \"help\" for what I can do.", "")
	default:
		p := s.cfg.CommandPrefix
		s.notice(fmt.Sprintf("Hello! I join Matrix rooms to MIMI. Here I listen to what begins with %s: say \"%s plumb\" to join this room, or \"%s help\" for what I can do.", p, p, p), "")
	}
}

// talkers are who is in the Matrix room beside the bot, in order.
func (s *step) talkers() []string {
	var out []string
	for _, mxid := range sortedKeys(s.room.members.byMXID) {
		if mxid != s.cfg.Bot && s.room.members.joined(mxid) {
			out = append(out, mxid)
		}
	}
	return out
}

// chatChanged: somebody came into or left a room that is not joined to MIMI. What the bot has to say to one user is not said where others
// hear it, or where nobody is; from a room that is empty but for the bot it goes, too.
func (s *step) chatChanged() {
	v := s.room
	others := s.talkers()
	there := v.members.joined(s.cfg.Bot)
	if there && len(others) == 1 {
		return
	}
	s.fx.unmanaged = v.head.MatrixRoomID
	if there && len(others) == 0 && v.st.MembersRead {
		s.matrix(event.LeaveRoom{Sender: userID(s.cfg.Bot), Reason: "nobody is here any more"})
		bot, _ := v.members.of(s.cfg.Bot)
		bot.Membership = string(event.Leave)
		s.setMember(bot)
	}
}

// tellUser says something to a user in the chat with the bot. It says whether there is one.
func (s *step) tellUser(mxid, text string) bool {
	room, err := s.Store.ManagementRoom(s.ctx, mxid)
	if err != nil {
		return false
	}
	target, err := s.Store.RoomIDByName(s.ctx, store.NameMatrix, room)
	if err != nil || target == s.room.head.ID {
		return false
	}
	s.fx.inputs = append(s.fx.inputs, store.NewInput{Room: target, Kind: inputAction, Source: actSay, Epoch: -1,
		Body: mustJSON(action{Do: actSay, Text: text}), CreatedMS: s.nowMS()})
	return true
}
