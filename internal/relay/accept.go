package relay

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/killpoint"
	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
)

// Delivery is a transaction of the homeserver, or a round of the bot's sync, with its events checked.
type Delivery struct {
	Source string   // appservice or sync
	ID     string   // of the transaction, "" for a round of sync
	Hash   [32]byte // SHA-256 of the body
	Events []event.Event
	// Ephemeral are receipts and typing notices: they may be lost.
	Ephemeral []event.Ephemeral
	// Next is where the sync goes on, "" for an appservice transaction.
	Next string
}

const syncPosition = "sync.next"

// withRoom is an event as received with the id of its room in it: in a sync it stands around the events.
func withRoom(ev *event.Event) json.RawMessage {
	o, err := event.ParseObject(ev.Raw)
	if err != nil || o.Has("room_id") {
		return ev.Raw
	}
	o["room_id"] = mustJSON(ev.Room)
	return o.Encode()
}

// Accept stores a delivery. Everything of it is stored when it returns, or nothing: only then may the homeserver be
// answered. An event that was seen before, in whatever delivery, has no effect. dup says that the whole delivery was known.
func (r *Relay) Accept(ctx context.Context, d Delivery) (dup bool, err error) {
	killpoint.Hit("K1")
	if d.Next == "" && len(d.Ephemeral) == 0 {
		// What our own ghosts did comes back in such: there is nothing to store, however often it comes.
		if some, err := r.concerned(ctx, d.Events); err != nil || !some {
			return false, err
		}
	}
	var inputs []store.NewInput
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		inputs, dup = nil, false
		if d.ID != "" {
			t, err := tx.MarkTransaction(ctx, r.Naming.Server+"/"+d.Source, d.ID, d.Hash, r.Clock().UnixMilli())
			if err != nil {
				return err
			}
			if dup = t.Duplicate; dup {
				return nil
			}
			if t.Reused {
				r.Alert("transaction-reused", "the homeserver used a transaction id again for other events")
			}
		}
		if inputs, err = r.deliveryInputs(ctx, tx, &d); err != nil {
			return err
		}
		if _, err := tx.AddInputs(ctx, inputs); err != nil {
			return err
		}
		if d.Next != "" {
			return tx.SetSetting(ctx, "", syncPosition, d.Next)
		}
		killpoint.Hit("K2")
		return nil
	})
	if err != nil {
		return false, err
	}
	killpoint.Hit("K3")
	for i := range inputs {
		r.Wake(inputs[i].Room)
	}
	for i := range d.Ephemeral {
		r.setTyping(&d.Ephemeral[i])
		r.setPresence(d.Ephemeral[i].Presence)
	}
	return dup, nil
}

// deliveryInputs makes inputs of what concerns rooms in a delivery.
func (r *Relay) deliveryInputs(ctx context.Context, tx *store.Tx, d *Delivery) (inputs []store.NewInput, err error) {
	add := func(in store.NewInput, ok bool, err error) error {
		if err == nil && ok {
			inputs = append(inputs, in)
		}
		return err
	}
	for i := range d.Events {
		ev := &d.Events[i]
		if d.ID == "" {
			ev.Raw = withRoom(ev)
		}
		if err := add(r.accept(ctx, tx, ev)); err != nil {
			return nil, err
		}
		if err := add(r.acceptChannel(ctx, tx, ev)); err != nil {
			return nil, err
		}
	}
	for i := range d.Ephemeral {
		if err := add(r.acceptReceipts(ctx, tx, &d.Ephemeral[i])); err != nil {
			return nil, err
		}
	}
	return inputs, nil
}

// concerned tells whether one of the events can have an effect. A room that becomes a channel after this look was none when the event came.
func (r *Relay) concerned(ctx context.Context, events []event.Event) (bool, error) {
	if slices.ContainsFunc(events, func(ev event.Event) bool { return r.matters(&ev) }) {
		return true, nil
	}
	asked := map[id.RoomID]bool{}
	for i := range events {
		ev := &events[i]
		if r.channels == nil || asked[ev.Room] || !r.mattersToChannel(ev) {
			continue
		}
		asked[ev.Room] = true
		if channel, err := r.hasChannel(ctx, &r.Store.Reader, string(ev.Room)); err != nil || channel {
			return channel, err
		}
	}
	return false, nil
}

// Position is where the bot's sync goes on.
func (r *Relay) Position(ctx context.Context) (string, error) {
	return r.Store.Setting(ctx, "", syncPosition)
}

// accept says which input an event becomes; ok is false for one that concerns nobody.
func (r *Relay) accept(ctx context.Context, tx *store.Tx, ev *event.Event) (in store.NewInput, ok bool, err error) {
	if !r.matters(ev) {
		return in, false, nil
	}
	room, err := tx.RoomByName(ctx, store.NameMatrix, string(ev.Room))
	if errors.Is(err, store.ErrNotFound) {
		room, ok, err = r.firstSeen(ctx, tx, ev)
		if err != nil || !ok {
			return in, false, err
		}
	}
	if err != nil {
		return in, false, err
	}
	if room.State == stateAP && r.visitor(string(ev.Sender)) {
		return in, false, nil // what a conversation itself showed
	}
	kind := inputMatrix
	if ev.Type == event.TypeMessage {
		command, err := r.isCommand(ctx, tx, &room, ev)
		if err != nil {
			return in, false, err
		}
		if command {
			kind = inputCommand
		}
	}
	if ev.Type == event.TypeEncrypted {
		kind = inputEncrypted
	}
	if room.State == stateAP {
		kind = threadKind(kind)
	}
	if kind != inputCommand && ev.StateKey == nil && room.Kind == store.RoomNone {
		old, err := tx.RoomIDByName(ctx, store.NameSuccessor, string(ev.Room))
		switch {
		case err == nil:
			room.ID, kind = old, inputAhead
		case !errors.Is(err, store.ErrNotFound) || kind != inputEncrypted:
			return in, false, ignoreNotFound(err)
		default:
			if takes, err := r.commandsThere(ctx, tx, &room); err != nil || !takes {
				return in, false, err
			}
		}
	}
	return store.NewInput{Room: room.ID, Kind: kind, Source: string(ev.ID), Epoch: -1, Body: ev.Raw, CreatedMS: r.Clock().UnixMilli(),
		SeenKind: "event", SeenKey: string(ev.ID)}, true, nil
}

// matters tells whether an event can have an effect. What our own users did was written down when it was asked for; only
// what happened to other people is of interest then.
func (r *Relay) matters(ev *event.Event) bool {
	if sender := string(ev.Sender); r.echo(sender) {
		if ev.Type == event.TypeName || ev.Type == event.TypeTopic {
			return sender == r.cfg.Bot && r.channels != nil
		}
		return ev.Type == event.TypeMember && ev.StateKey != nil && !r.echo(*ev.StateKey)
	}
	if ev.StateKey != nil {
		return slices.Contains(stateTypes, ev.Type) || beacon(ev)
	}
	return slices.Contains(messageTypes, ev.Type)
}

var stateTypes = []string{event.TypeMember, event.TypeName, event.TypeTopic, event.TypePowerLevels, event.TypeJoinRules,
	event.TypeHistoryVisibility, event.TypeEncryption, event.TypeCreate, event.TypeTombstone,
	event.TypeAvatar, event.TypeMood, event.TypeRetention, event.TypeServerACL}

var messageTypes = []string{event.TypeMessage, event.TypeEncrypted, event.TypeSticker, event.TypeReaction, event.TypeRedaction, event.TypePollStart,
	event.TypePollStartUnstable, event.TypePollEnd, event.TypePollEndUnstable, event.TypeCallNotify, event.TypeCallInvite}

// opens tells whether an event brings a Matrix room to our notice: the bot or a ghost is invited.
func (r *Relay) opens(ev *event.Event) bool {
	m, ok := ev.Member()
	return ok && r.ours(string(m.User)) && (m.Membership == event.Invite || m.Membership == event.Join)
}

// newRoom makes the row of a Matrix room that is not joined to MIMI.
func (r *Relay) newRoom(ctx context.Context, tx *store.Tx, matrixRoom string) (store.Room, error) {
	id, err := store.NewRoomID(r.Clock(), r.Rand)
	if err != nil {
		return store.Room{}, err
	}
	room, _, err := tx.FindOrCreateRoom(ctx, store.NameMatrix, matrixRoom, store.Room{ID: id, Kind: store.RoomNone, MatrixRoomID: matrixRoom,
		Epoch: -1, CreatedMS: r.Clock().UnixMilli()})
	return room, err
}

// memberReader answers who is in a room.
type memberReader interface {
	Member(ctx context.Context, room store.RoomID, mxid string) (store.Member, error)
	JoinedMembers(ctx context.Context, room store.RoomID, limit int) ([]string, error)
	RoomIDByName(ctx context.Context, kind store.NameKind, name string) (store.RoomID, error)
}

// isCommand tells whether a message is for the bot: it begins with the command prefix, or the room is a chat with the bot.
func (r *Relay) isCommand(ctx context.Context, db memberReader, room *store.Room, ev *event.Event) (bool, error) {
	m, ok := ev.Message()
	if !ok || m.MsgType == event.MsgNotice || m.Relation.Replaces != "" || r.ours(string(ev.Sender)) {
		return false, nil
	}
	if _, prefixed := cutPrefix(m.Body, r.cfg.CommandPrefix); prefixed {
		return true, nil
	}
	if room.Kind != store.RoomNone || m.MsgType != event.MsgText {
		return false, nil
	}
	if channel, err := r.hasChannel(ctx, db, room.MatrixRoomID); err != nil || channel {
		return false, err
	}
	if _, err := db.RoomIDByName(ctx, store.NameSuccessor, room.MatrixRoomID); !errors.Is(err, store.ErrNotFound) {
		return false, err // a conversation goes on here when the bot is in
	}
	bot, err := db.Member(ctx, room.ID, r.cfg.Bot)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	// The homeserver's word that the bot joined may not have been worked off yet.
	if err != nil || bot.Membership != string(event.Join) && bot.Membership != string(event.Invite) {
		return false, err
	}
	return r.isChat(ctx, db, room.ID)
}

// isChat tells whether nobody but one user and the bot is known to be in a room. Where more are, people talk with one another.
func (r *Relay) isChat(ctx context.Context, db memberReader, room store.RoomID) (bool, error) {
	joined, err := db.JoinedMembers(ctx, room, 3)
	others := 0
	for _, mxid := range joined {
		if mxid != r.cfg.Bot {
			others++
		}
	}
	return others < 2, err
}

// cutPrefix takes the command prefix from a text.
func cutPrefix(body, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(body), prefix)
	if !ok || rest != "" && !strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, "\n") {
		return "", false
	}
	return strings.TrimSpace(rest), true
}

// command hands a message to the bot. It happens before the step that marks the input done: a crash in between repeats it. unread says
// that nothing was done because it must be known first who is in the room.
func (r *Relay) command(ctx context.Context, in *store.Input) (unread bool, err error) {
	ev, err := event.ParseChecked(in.Body)
	if err != nil || r.Commander == nil || !r.Permitted(string(ev.Sender)) {
		return false, nil
	}
	m, ok := ev.Message()
	if !ok {
		return false, nil
	}
	text, prefixed := cutPrefix(m.Body, r.cfg.CommandPrefix)
	if !prefixed {
		text = strings.TrimSpace(m.Body)
		st, err := r.stateOf(ctx, in.Room)
		if err != nil || !st.MembersRead {
			return err == nil, err
		}
		if chat, err := r.isChat(ctx, &r.Store.Reader, in.Room); err != nil || !chat {
			return false, err
		}
		if err := r.noteChat(ctx, string(ev.Sender), string(ev.Room)); err != nil {
			return false, err
		}
	}
	return false, r.Commander.Command(ctx, Command{RoomID: string(ev.Room), EventID: string(ev.ID), Sender: string(ev.Sender), Text: text,
		Private: !prefixed, ReplyTo: string(m.Relation.ReplyTo)})
}

// readFirst lets the room be read, and an input be looked at again after that.
func (s *step) readFirst(in *store.Input) error {
	s.readRoom()
	s.fx.inputs = append(s.fx.inputs, store.NewInput{Room: in.Room, Kind: in.Kind, Source: in.Source, Epoch: -1, Body: in.Body, CreatedMS: in.CreatedMS})
	return s.then(nil)
}

// noteChat remembers a chat with the bot as the place to talk to a user, where there is none yet.
func (r *Relay) noteChat(ctx context.Context, mxid, room string) error {
	if _, err := r.Store.ManagementRoom(ctx, mxid); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return r.Store.Tx(ctx, func(tx *store.Tx) error { return tx.SetManagementRoom(ctx, mxid, room) })
}
