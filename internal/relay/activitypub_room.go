package relay

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	ap "github.com/matrix-mimi/bridge/mimiside/activitypub"
	"github.com/matrix-mimi/bridge/mimiside/content"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// stateAP is the state of a room that is a conversation of ActivityPub actors.
const stateAP = "activitypub"

// destAP begins the destination of rows for ActivityPub servers: the origin follows.
const (
	destAP      = "ap:"
	verbDeliver = "deliver"
)

// apStep is a step of a conversation.
type apStep struct {
	*step
	face   *ActivityPub
	thread *ap.Thread
	// packages are KeyPackages of others that were fetched for this step.
	packages map[string]fetched
}

// needPerson says that a step needs to know an actor first.
type needPerson struct{ actor string }

// Error implements error.
func (n needPerson) Error() string { return "actor " + n.actor + " is not known yet" }

// run makes a step of a conversation.
func (a *ActivityPub) run(ctx context.Context, room store.RoomID, decide func(*apStep) error) error {
	_, err := a.runInput(ctx, room, nil, store.Settle{}, decide)
	return err
}

// runInput makes a step of a conversation or channel. What it needs from other servers is asked for outside of it, and the step is made anew.
func (a *ActivityPub) runInput(ctx context.Context, room store.RoomID, in *store.Input, settle store.Settle, decide func(*apStep) error) (*step, error) {
	packages := map[string]fetched{}
	needs, cancel := context.WithTimeout(ctx, needsTime)
	defer cancel()
	for try := 0; ; try++ {
		var fork *ap.Fork
		done, err := a.runStep(ctx, room, in, settle, func(s *step) error {
			s.drop = true // the group in the room is judged by other rules: it is loaded anew each time
			x := &apStep{step: s, face: a, packages: packages}
			if s.room.group != nil {
				var err error
				if x.thread, err = ap.LoadThread(a.mls, s.room.group.Export(), a.forkOf(room)); err != nil {
					return err
				}
			}
			err := decide(x)
			if err == nil {
				err = x.planCover()
			}
			if x.thread != nil {
				fork = x.thread.Fork(s.now)
			}
			return err
		})
		if err != nil && try < maxNeeds {
			again, needErr := a.satisfy(needs, err, packages, in == nil)
			if again && needErr == nil {
				continue
			}
			return nil, needErr
		}
		if err == nil {
			a.keepFork(room, fork, a.Clock())
		}
		return done, err
	}
}

// keepFork remembers what remains of a conversation's epochs before, nil for nothing. Those of others that are of no use any more go: they hold secrets.
func (a *ActivityPub) keepFork(room store.RoomID, fork *ap.Fork, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.forks, func(other store.RoomID, f *ap.Fork) bool { return other == room || f.Over(now) })
	if fork != nil {
		a.forks[room] = fork
	}
}

func (a *ActivityPub) forkOf(room store.RoomID) *ap.Fork {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.forks[room]
}

// open makes the room of a group, or finds it.
func (a *ActivityPub) open(ctx context.Context, groupID []byte) (store.RoomID, error) {
	name := hex.EncodeToString(groupID)
	room := store.Room{ID: store.DerivedRoomID("activitypub", name), Kind: store.RoomUser, State: stateAP, URI: "", GroupID: groupID, Epoch: -1, CreatedMS: a.Clock().UnixMilli()}
	err := a.Store.Tx(ctx, func(tx *store.Tx) error {
		found, _, err := tx.FindOrCreateRoom(ctx, store.NameGroup, name, room)
		room = found
		return err
	})
	if err == nil && room.State != stateAP {
		return room.ID, fmt.Errorf("%w: the group is of another world", ap.ErrForbidden)
	}
	return room.ID, err
}

// apply takes over what an operation on the thread changed.
func (x *apStep) apply(e *ap.Effect) {
	v := x.room
	if e.Whole {
		x.fx.newGroup, x.fx.changes = x.thread.Group, nil
	} else if x.fx.newGroup == nil {
		x.fx.changes = append(x.fx.changes, e.Changes...)
	}
	for _, p := range e.Used {
		hash := ap.HashOf(p.Message)
		x.fx.used = append(x.fx.used, store.Generation{Epoch: p.Epoch, Leaf: uint32(p.Leaf), Generation: p.Generation, Hash: hash[:]})
	}
	if epoch := int64(x.thread.Group.Epoch()); epoch != v.head.Epoch {
		v.head.Epoch, v.head.EpochMS = epoch, x.nowMS()
	}
}

// mxid is the Matrix user of an actor: one of ours, or a ghost, which is noted.
func (x *apStep) mxid(actor string) (mxid string, ghost bool, err error) {
	if kind, name := x.face.Site.Parse(actor); kind == ap.KindUser {
		segment, err := ap.UnescapeName(name)
		if err != nil {
			return "", false, err
		}
		s, err := x.Naming.WebFingerSubject("acct:" + escapePercent(segment) + "@" + x.Naming.Domain)
		return s.MXID, false, err
	}
	p, ok := x.face.personKnown(actor)
	if !ok {
		return "", true, needPerson{actor}
	}
	localpart, _, err := mapping.AcctGhostLocalpart(p.Acct, mapping.MaxLocalpart(x.Naming.Server))
	if err != nil {
		return "", true, err
	}
	mxid = "@" + localpart + ":" + x.Naming.Server
	if _, err := x.Store.Ghost(x.ctx, mxid); errors.Is(err, store.ErrNotFound) {
		g := store.Ghost{MXID: mxid, URI: actor, Display: p.Name, UpdatedMS: x.nowMS()}
		if p.Icon != "" && x.Files != nil && !slices.ContainsFunc(x.fx.ghosts, func(h store.Ghost) bool { return h.MXID == mxid }) {
			g.Data = string(mustJSON(ghostData{Picture: p.Icon}))
			x.fetchIcon(&g, p.Icon)
		}
		x.putGhost(g)
	}
	return mxid, true, nil
}

func escapePercent(s string) string {
	out := ""
	for _, c := range s {
		if c == '%' {
			out += "%25"
		} else {
			out += string(c)
		}
	}
	return out
}

// enterAll brings those who are in the group into the Matrix room, and takes out who is not.
func (x *apStep) enterAll() error {
	x.nameSet()
	actors := x.thread.Actors()
	for _, actor := range actors {
		mxid, ghost, err := x.mxid(actor)
		if err != nil {
			return err
		}
		m, _ := x.room.members.of(mxid)
		if m.Membership == string(event.Join) || m.Membership == string(event.Invite) {
			continue
		}
		m.URI, m.Ghost = actor, ghost
		m.Membership = string(event.Invite)
		if ghost {
			x.matrix(event.JoinRoom{Sender: userID(mxid), InviteFirst: true})
			m.Membership = string(event.Join)
		} else {
			x.matrix(event.InviteUser{Target: userID(mxid), Direct: len(actors) == 2})
		}
		x.setMember(m)
	}
	for _, mxid := range sortedKeys(x.room.members.byMXID) {
		m := x.room.members.byMXID[mxid]
		if m.URI == "" || slices.Contains(actors, m.URI) || m.Membership != string(event.Join) && m.Membership != string(event.Invite) {
			continue
		}
		if m.Ghost {
			x.matrix(event.LeaveRoom{Sender: userID(mxid), Was: event.Membership(m.Membership)})
		} else {
			x.matrix(event.KickUser{Target: userID(mxid), Reason: "no longer in the conversation", Was: event.Membership(m.Membership)})
		}
		m.Membership = string(event.Leave)
		x.setMember(m)
	}
	return nil
}

// portal asks for the Matrix room of the conversation; what follows is held until it is there.
func (x *apStep) portal() {
	v := x.room
	if v.head.MatrixRoomID != "" || v.st.Portal {
		return
	}
	o := x.matrix(event.CreateRoom{Alias: x.Naming.MarkedAlias("group", v.head.ID.String()), Preset: "private_chat", Direct: len(x.thread.Actors()) == 2,
		State: x.portalEncryption()})
	x.portalAsked(o, refPortal)
}

// portalEncryption is the state that makes the room of a conversation or channel encrypted, where the settings want that.
func (x *apStep) portalEncryption() []event.StateEvent {
	if !x.encryptsPortals() {
		return nil
	}
	x.room.matrix.Crypt = true
	return []event.StateEvent{x.encryptionState()}
}

// post queues posts, each in the lane of its server, and keeps what is posted in the outbox of its actor.
func (x *apStep) post(posts []ap.Post) {
	kept := ""
	for _, p := range posts {
		if id := p.Body.Str("id"); id != kept {
			x.keep(p.Body)
			kept = id
		}
		u, err := url.Parse(p.Inbox)
		if err != nil {
			continue
		}
		x.row(store.Outbound{Dest: destAP + u.Scheme + "://" + u.Host, Verb: verbDeliver, Target: p.Inbox, Data: p.Body.Marshal()})
	}
}

// recipients are the actors of other servers in the group, or those among a list.
func (x *apStep) recipients(actors []string) ([]ap.Recipient, error) {
	var out []ap.Recipient
	for _, actor := range actors {
		if x.face.Site.Own(actor) {
			continue
		}
		p, ok := x.face.personKnown(actor)
		if !ok {
			return nil, needPerson{actor}
		}
		if p.Inbox != "" { // else its server is gone, or blocked
			out = append(out, ap.Recipient{Actor: actor, Inbox: p.Inbox, SharedInbox: p.Shared, Dialect: ap.DialectE2EE})
		}
	}
	return out, nil
}

// sendMLS sends MLS bytes of an actor of ours to the actors of other servers.
func (x *apStep) sendMLS(actor string, octets []byte, to []string) error {
	if x.room.st.Channel != nil {
		return x.channelSay(actor, octets)
	}
	list, err := x.recipients(to)
	if err != nil {
		return err
	}
	hash := ap.HashOf(octets)
	x.post(x.face.Site.SendMLS(ap.Envelope{ID: hex.EncodeToString(hash[:12]), Actor: actor, Conversation: x.conversation(), Published: x.now}, octets, list))
	return nil
}

// once marks something as seen; false says that it was seen before.
func (x *apStep) fresh(kind, key string) (bool, error) {
	seen, err := x.Store.WasSeen(x.ctx, x.room.head.ID, kind, key)
	if err != nil || seen {
		return false, err
	}
	x.fx.seen = append(x.fx.seen, store.Seen{Room: x.room.head.ID, Kind: kind, Key: key, CreatedMS: x.nowMS()})
	return true, nil
}

// apLink is what is remembered of a message beside the columns of its link.
type apLink struct {
	linkData
	AS2    string `json:"as2,omitempty"`
	Author string `json:"author,omitempty"`
	Like   string `json:"like,omitempty"`
	Emoji  string `json:"emoji,omitempty"`
	// Kept are the ids of the activities that it is in and that stand in our collections.
	Kept []string `json:"kept,omitempty"`
}

// apMemory finds messages of the conversation. It implements activitypub.Memory.
type apMemory struct {
	x   *apStep
	err error
}

// ByMIMI implements activitypub.Memory.
func (m *apMemory) ByMIMI(mimiID content.MessageID) (ap.Known, bool) {
	links, err := m.x.Store.LinksByMIMI(m.x.ctx, m.x.room.head.ID, mimiID[:])
	if err != nil {
		m.err = err
	}
	if len(links) == 0 {
		return ap.Known{}, false
	}
	var d apLink
	if json.Unmarshal([]byte(links[0].Data), &d) != nil || d.AS2 == "" {
		return ap.Known{}, false
	}
	return ap.Known{ID: mimiID, AS2: d.AS2, Author: d.Author, Like: d.Like, Emoji: d.Emoji}, true
}

// ByAS2 implements activitypub.Memory: the id is known only together with its author, who is one of those who are or were here.
func (m *apMemory) ByAS2(as2, author string) (ap.Known, bool) {
	authors := []string{author}
	if author == "" {
		authors = m.x.thread.Actors()
		for _, member := range m.x.room.members.byMXID {
			if member.URI != "" && !slices.Contains(authors, member.URI) {
				authors = append(authors, member.URI)
			}
		}
	}
	for _, who := range authors {
		if k, ok := m.ByMIMI(ap.MIMIID(m.x.room.head.GroupID, who, as2)); ok {
			return k, true
		}
	}
	return ap.Known{}, false
}

// mappingAP is the conversation as messages are mapped in it.
func (x *apStep) mappingAP(links *linkFinder) *mapping.Room {
	return &mapping.Room{URI: "mimi://" + x.Naming.Domain + "/r/ap-" + x.room.head.ID.String(), People: apPeople{x}, Links: links, Options: x.cfg.Mapping}
}

// apPeople knows who takes part: MIMI's URI stands for an actor's id here.
type apPeople struct{ x *apStep }

// URI implements mapping.People.
func (p apPeople) URI(mxid id.UserID) (string, bool) {
	m, ok := p.x.room.members.byMXID[string(mxid)]
	return m.URI, ok && m.URI != ""
}

// MXID implements mapping.People.
func (p apPeople) MXID(uri string) (id.UserID, bool) {
	for mxid, m := range p.x.room.members.byMXID {
		if m.URI == uri && uri != "" {
			return userID(mxid), true
		}
	}
	return "", false
}

// Name implements mapping.People.
func (p apPeople) Name(mxid id.UserID) string {
	if m, ok := p.x.room.members.byMXID[string(mxid)]; ok && m.Display != "" {
		return m.Display
	}
	local, _, err := mapping.SplitMXID(string(mxid))
	if err != nil {
		return string(mxid)
	}
	return local
}

// joinKeysOf finds the private sides of KeyPackages for a Welcome.
func (a *ActivityPub) joinKeysOf(ctx context.Context, w *mls.Welcome) ([]mls.JoinKey, [][]byte, error) {
	s := &step{Relay: a.Relay, ctx: ctx}
	return s.joinKeys(w)
}
