package crypto

import (
	"testing"
	"time"

	"maunium.net/go/mautrix/crypto"
	mevent "maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// A device that turns up is given what opens the messages of the last minutes, and not what is older; nobody is given a key from
// before they came, nor one that was not used for a while.
func TestLateKeysOpenWhatIsRecent(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	l := &late{clock: func() time.Time { return now }, rooms: map[id.RoomID][]*lateKey{}, users: map[id.UserID]*lateUser{}}
	s, err := crypto.NewOutboundGroupSession("!r:x", nil, &mevent.HistoryVisibilityEventContent{})
	if err != nil {
		t.Fatal(err)
	}
	s.Shared = true
	l.shared(s)
	sent := map[int]time.Time{} // by index of the message
	say := func() {
		if _, err := s.Encrypt([]byte("x")); err != nil {
			t.Fatal(err)
		}
		sent[int(s.Internal.MessageIndex())-1] = now
		l.said(s)
	}
	first := func(user id.UserID) int {
		keys := l.keys("!r:x", user)
		if len(keys) != 1 {
			return -1
		}
		in, err := crypto.NewInboundGroupSession("", "", "!r:x", keys[0].SessionKey, 0, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		if in.ID() != s.ID() || keys[0].SessionID != s.ID() {
			t.Fatalf("the key is that of %s, want %s", in.ID(), s.ID())
		}
		return int(in.Internal.FirstKnownIndex())
	}
	for range 80 {
		say()
		now = now.Add(30 * time.Second)
		got := first("@alice:x")
		for index, at := range sent {
			age := now.Sub(at)
			if age < lateFor && index < got {
				t.Fatalf("message %d of %v ago cannot be read with a key from message %d on", index, age, got)
			}
			if age > lateFor+2*lateStep && index >= got {
				t.Fatalf("message %d of %v ago can be read with a key from message %d on", index, age, got)
			}
		}
		if n := len(l.rooms["!r:x"][0].states); n > int(lateFor/lateStep)+2 {
			t.Fatalf("%d states are kept", n)
		}
	}
	l.moved("!r:x", "@bob:x")
	if got := first("@bob:x"); got != -1 {
		t.Errorf("somebody who came since is given the key from message %d on", got)
	}
	now = now.Add(lateFor)
	if got := first("@alice:x"); got != -1 {
		t.Errorf("a key that was not used for a while is given from message %d on", got)
	}
	l.forget("!r:x")
	if len(l.rooms) != 0 {
		t.Error("a room is not forgotten")
	}
}

// What is remembered of rooms and users has bounds, and a device that cannot be given its key is not tried for ever.
func TestLateIsBounded(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	l := &late{clock: func() time.Time { return now }, rooms: map[id.RoomID][]*lateKey{}, users: map[id.UserID]*lateUser{}}
	for i := range maxLate + 5 {
		l.changed(id.UserID(event.PendingID([]byte{byte(i), byte(i >> 8)}, i)))
	}
	if n := len(l.due()); n != maxLate {
		t.Errorf("%d users wait", n)
	}
	clear(l.users)
	l.changed("@a:x")
	for range lateTries {
		if len(l.due()) != 1 {
			t.Fatal("a user is given up too early")
		}
		l.looked("@a:x", ErrNotStarted)
	}
	if len(l.due()) != 0 {
		t.Error("a user is tried for ever")
	}
	l.changed("@b:x")
	l.looked("@b:x", nil)
	if len(l.due()) != 1 {
		t.Error("a user is not looked at again after a key that was on its way")
	}
	now = now.Add(requestTimeout + time.Second)
	if len(l.due()) != 0 {
		t.Error("a user is looked at for ever")
	}
	for i := range maxLate {
		l.rooms[id.RoomID(event.PendingID([]byte{byte(i), byte(i >> 8)}, i))] = []*lateKey{{used: now}}
	}
	s, err := crypto.NewOutboundGroupSession("!r:x", nil, &mevent.HistoryVisibilityEventContent{})
	if err != nil {
		t.Fatal(err)
	}
	l.shared(s)
	if len(l.rooms) > maxLate || len(l.keys("!r:x", "@a:x")) != 1 {
		t.Errorf("%d rooms are remembered", len(l.rooms))
	}
}
