package event

import (
	"errors"
	"sort"

	"maunium.net/go/mautrix/id"
)

// Ephemeral is a typing notice, a set of receipts or a presence, checked.
type Ephemeral struct {
	Type string
	Room id.RoomID
	// Typing are the users who are typing now (m.typing).
	Typing []id.UserID
	// Receipts are sorted by event and user (m.receipt).
	Receipts []Receipt
	// Presence is that of a user, in no room (m.presence).
	Presence *Presence
}

// Presence is whether a user is there.
type Presence struct {
	User id.UserID
	// State is online, unavailable or offline.
	State string
	// Text is what the user says of it, at most 200 characters.
	Text string
}

// Receipt says that a user has read a room up to an event.
type Receipt struct {
	Event id.EventID
	User  id.UserID
	// Private marks m.read.private, which must not be told to anybody.
	Private bool
	// Thread is the thread of the receipt, "main" or "" for all of the room.
	Thread string
	// Time is in milliseconds since 1970, 0 if not known.
	Time int64
}

// ErrUnused says that an ephemeral event is of a kind that is not bridged.
var ErrUnused = errors.New("ephemeral event is not used")

// Ephemeral checks an m.typing, m.receipt or m.presence. Other kinds give [ErrUnused].
func (r Received) Ephemeral() (Ephemeral, error) {
	e := Ephemeral{Type: r.Type, Room: id.RoomID(r.Room)}
	switch r.Type {
	case TypePresence:
		return r.presence()
	case TypeTyping, TypeReceipt:
	default:
		return Ephemeral{}, ErrUnused
	}
	if !ValidRoomID(e.Room) || r.Content == nil {
		return Ephemeral{}, errors.New("check ephemeral event: bad room id or content")
	}
	if r.Type == TypeTyping {
		for _, s := range r.Content.Strings("user_ids", 1000) {
			if u := id.UserID(s); ValidUserID(u) {
				e.Typing = append(e.Typing, u)
			}
		}
		return e, nil
	}
	for _, ev := range sortedKeys(r.Content, 1000) {
		if !ValidEventID(id.EventID(ev)) {
			continue
		}
		kinds := r.Content.Obj(ev)
		for _, kind := range []string{"m.read", "m.read.private"} {
			users := kinds.Obj(kind)
			for _, u := range sortedKeys(users, 1000) {
				if !ValidUserID(id.UserID(u)) {
					continue
				}
				o := users.Obj(u)
				ts, _ := o.Int("ts")
				e.Receipts = append(e.Receipts, Receipt{
					Event: id.EventID(ev), User: id.UserID(u), Private: kind == "m.read.private",
					Thread: cut(o.Str("thread_id"), MaxIdentifier), Time: positive(ts),
				})
			}
		}
	}
	sort.SliceStable(e.Receipts, func(i, j int) bool {
		if e.Receipts[i].Event != e.Receipts[j].Event {
			return e.Receipts[i].Event < e.Receipts[j].Event
		}
		return e.Receipts[i].User < e.Receipts[j].User
	})
	return e, nil
}

func (r Received) presence() (Ephemeral, error) {
	p := Presence{User: id.UserID(r.Sender), State: r.Content.Str("presence"), Text: cut(r.Content.Str("status_msg"), 200)}
	switch {
	case !ValidUserID(p.User), p.State != "online" && p.State != "unavailable" && p.State != "offline":
		return Ephemeral{}, ErrUnused
	}
	return Ephemeral{Type: TypePresence, Presence: &p}, nil
}

// ToDevice is a message to one device of an own user, checked.
type ToDevice struct {
	Sender   id.UserID
	Type     string
	ToUser   id.UserID
	ToDevice id.DeviceID
	Content  Object
}

// ToDevice checks a to-device message of a transaction (MSC2409, MSC4203).
func (r Received) ToDevice() (ToDevice, error) {
	o, err := ParseObject(r.Raw)
	if err != nil {
		return ToDevice{}, err
	}
	d := ToDevice{
		Sender: id.UserID(r.Sender), Type: r.Type, Content: r.Content,
		ToUser: id.UserID(o.Str("to_user_id")), ToDevice: id.DeviceID(cut(o.Str("to_device_id"), MaxIdentifier)),
	}
	if !ValidUserID(d.Sender) || !ValidUserID(d.ToUser) || d.Type == "" || d.Content == nil {
		return ToDevice{}, errors.New("check to-device message: bad sender, target, type or content")
	}
	return d, nil
}
