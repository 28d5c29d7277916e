package crypto

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"maunium.net/go/mautrix/crypto"
	mevent "maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// A homeserver may tell of a device after a message that its owner should read there. The device then gets the key of that
// message by itself, or when it asks for it.
const (
	// lateFor is for how long after a message such a device gets its key. What is older is for the owner's other devices and
	// backups to give.
	lateFor = 10 * time.Minute
	// lateStep is how far apart the states of a key are that are kept: a device that turns up gets the key as it was up to
	// that much before the messages that it is given it for.
	lateStep = time.Minute
	// maxLate bounds the rooms whose keys are kept, and the users whose devices wait to be looked at.
	maxLate = 10_000
	// lateTries is how often a device is tried: it may have no one-time keys left.
	lateTries = 3
)

// late is what is kept for devices that turn up after a message. It is in memory only: after a restart the next key reaches them.
type late struct {
	clock func() time.Time
	mu    sync.Mutex
	rooms map[id.RoomID][]*lateKey // the last is the one in use
	users map[id.UserID]*lateUser  // users whose devices changed
}

// lateKey is a room key of ours.
type lateKey struct {
	session id.SessionID
	states  []lateState // oldest first, never empty
	used    time.Time
	// others are the users who came or went since the key was shared: it is not theirs.
	others map[id.UserID]bool
}

// lateState is a key that opens what was said from a time on.
type lateState struct {
	since   time.Time
	content mevent.RoomKeyEventContent
}

type lateUser struct {
	since time.Time
	done  bool
	tries int
}

// shared keeps a room key that was given to the devices that were known.
func (l *late) shared(s *crypto.OutboundGroupSession) {
	content, ok := s.ShareContent().Parsed.(*mevent.RoomKeyEventContent)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	if l.rooms[s.RoomID] == nil && len(l.rooms) >= maxLate {
		l.makeRoom(now)
	}
	keys := slices.DeleteFunc(l.rooms[s.RoomID], func(k *lateKey) bool { return now.Sub(k.used) > lateFor })
	l.rooms[s.RoomID] = append(keys, &lateKey{session: s.ID(), used: now, states: []lateState{{now, *content}}, others: map[id.UserID]bool{}})
}

// makeRoom forgets the rooms in which nothing was said for a while, or all.
func (l *late) makeRoom(now time.Time) {
	for room, keys := range l.rooms {
		if now.Sub(keys[len(keys)-1].used) > lateFor {
			delete(l.rooms, room)
		}
	}
	if len(l.rooms) >= maxLate {
		clear(l.rooms)
	}
}

// said notes that a key was used. Its state afterwards is kept from time to time, and those that only old messages need go.
func (l *late) said(s *crypto.OutboundGroupSession) {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := l.rooms[s.RoomID]
	if len(keys) == 0 || keys[len(keys)-1].session != s.ID() {
		return
	}
	k, now := keys[len(keys)-1], l.clock()
	k.used = now
	last := k.states[len(k.states)-1]
	if now.Sub(last.since) < lateStep {
		return
	}
	next := lateState{now, last.content}
	next.content.SessionKey = s.Internal.Key()
	k.states = append(k.states, next)
	for len(k.states) > 1 && now.Sub(k.states[1].since) > lateFor {
		k.states = k.states[1:]
	}
}

// moved notes that somebody came to a room or left it.
func (l *late) moved(room id.RoomID, user id.UserID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.rooms[room] {
		k.others[user] = true
	}
}

// forget drops the keys of a room.
func (l *late) forget(room id.RoomID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.rooms, room)
}

// changed notes that the devices of a user are other than they were.
func (l *late) changed(user id.UserID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.users) < maxLate {
		l.users[user] = &lateUser{since: l.clock()}
	}
}

// due are the users whose devices are to be looked at. A user stays for as long as a key may be on its way that was shared
// with the devices from before.
func (l *late) due() []id.UserID {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, out := l.clock(), []id.UserID(nil)
	for u, s := range l.users {
		if s.tries >= lateTries || s.done && now.Sub(s.since) > requestTimeout {
			delete(l.users, u)
			continue
		}
		out = append(out, u)
	}
	return out
}

// looked notes what became of a user of due.
func (l *late) looked(user id.UserID, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.users[user]; s != nil && err == nil {
		s.done = true
	} else if s != nil {
		s.tries++
	}
}

// keys are those of a room that a member of it who turns up with another device may have.
func (l *late) keys(room id.RoomID, user id.UserID) (out []mevent.RoomKeyEventContent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	for _, k := range l.rooms[room] {
		if k.others[user] || now.Sub(k.used) > lateFor {
			continue
		}
		i := 0
		for i+1 < len(k.states) && now.Sub(k.states[i+1].since) > lateFor {
			i++
		}
		out = append(out, k.states[i].content)
	}
	return out
}

// giveLate gives the keys of what was said lately to devices that turned up since, of members who could read it.
func (c *Crypto) giveLate(ctx context.Context) error {
	var faults []error
	for _, user := range c.late.due() {
		err := c.giveUser(ctx, user)
		c.late.looked(user, err)
		if err != nil {
			faults = append(faults, fmt.Errorf("give keys to a device of %s that turned up: %w", user, err))
		}
	}
	return errors.Join(faults...)
}

func (c *Crypto) giveUser(ctx context.Context, user id.UserID) error {
	rooms, err := c.rooms.FindSharedRooms(ctx, user)
	if err != nil {
		return err
	}
	var devices map[id.DeviceID]*id.Device
	for _, room := range rooms {
		keys := c.late.keys(room, user)
		if len(keys) == 0 {
			continue
		}
		if may, err := c.reads(ctx, room, user); err != nil || !may {
			if err != nil {
				return err
			}
			continue
		}
		if devices == nil {
			if devices, err = c.devices(ctx, user); err != nil {
				return err
			}
		}
		for _, key := range keys {
			for _, d := range devices {
				err = errors.Join(err, c.giveDevice(ctx, d, key))
			}
		}
	}
	return err
}

// devices are those of a user; who has none yet is asked for.
func (c *Crypto) devices(ctx context.Context, user id.UserID) (map[id.DeviceID]*id.Device, error) {
	known, err := c.keys.GetDevices(ctx, user)
	if err != nil || known != nil || !c.tryUser(user) {
		return known, err
	}
	all, err := c.mach.FetchKeys(ctx, []id.UserID{user}, true)
	return all[user], err
}

// lookAgain has the devices of users looked at again that changed while a key was shared, and of those whose server told none.
func (c *Crypto) lookAgain(ctx context.Context, users []id.UserID) error {
	for part := range slices.Chunk(users, 500) {
		known, err := c.keys.FilterTrackedUsers(ctx, part)
		if err != nil {
			return fmt.Errorf("read whose devices are known: %w", err)
		}
		for _, u := range part {
			if !slices.Contains(known, u) {
				c.late.changed(u)
			}
		}
	}
	if len(c.late.due()) > 0 {
		c.wake()
	}
	return nil
}

// giveDevice gives a key to a device that has not got it, by the rule of the library for all devices of members.
func (c *Crypto) giveDevice(ctx context.Context, d *id.Device, key mevent.RoomKeyEventContent) error {
	had, err := c.keys.IsOutboundGroupSessionShared(ctx, d.UserID, d.IdentityKey, key.SessionID)
	if err != nil || had || d.Trust == id.TrustStateBlacklisted {
		return err
	}
	c.gate.RLock()
	defer c.gate.RUnlock()
	if err := c.mach.SendEncryptedToDevice(ctx, d, mevent.ToDeviceRoomKey, mevent.Content{Parsed: &key}); err != nil {
		return err
	}
	c.cfg.Observe("late")
	return c.keys.MarkOutboundGroupSessionShared(ctx, d.UserID, d.IdentityKey, key.SessionID)
}

// reads tells whether a user may read what is said in a room, as far as the bridge was told.
func (c *Crypto) reads(ctx context.Context, room id.RoomID, user id.UserID) (bool, error) {
	in, err := c.rooms.GetMembership(ctx, room, user)
	if err != nil || in != mevent.MembershipInvite {
		return in == mevent.MembershipJoin, err
	}
	v, err := c.rooms.GetHistoryVisibility(ctx, room)
	return v != nil && invitedRead(v.HistoryVisibility), err
}

// invitedRead tells whether who is invited may read already.
func invitedRead(v mevent.HistoryVisibility) bool { return v != mevent.HistoryVisibilityJoined }

// answer decides about a device that asks for a room key. What the library refuses because the device did not get the key, it gets
// when it only turned up too late.
func (c *Crypto) answer(ctx context.Context, refuse *crypto.KeyShareRejection, d *id.Device, want mevent.RequestedKeyInfo) *crypto.KeyShareRejection {
	if refuse == nil || *refuse != crypto.KeyShareRejectNotRecipient {
		return refuse
	}
	may, err := c.reads(ctx, want.RoomID, d.UserID)
	isIt := func(k mevent.RoomKeyEventContent) bool { return k.SessionID == want.SessionID }
	if err != nil || !may || !slices.ContainsFunc(c.late.keys(want.RoomID, d.UserID), isIt) {
		return refuse
	}
	c.late.changed(d.UserID)
	c.wake()
	return &crypto.KeyShareRejectNoResponse
}
