package bot

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/internal/store"
)

// desk is an operator who writes down what is asked of it. Time is 3,700 seconds after the epoch.
type desk struct {
	did     []string
	letters []store.DeadLetter
	broken  []store.BrokenInput
	rooms   int
}

func (d *desk) note(format string, args ...any) { d.did = append(d.did, fmt.Sprintf(format, args...)) }

func (d *desk) Waiting(context.Context, int) (store.Gauges, []store.LaneState, error) {
	return store.Gauges{InputReady: 4, OldestReady: 3_640_000, DeadLetters: 2, OpenIntents: 3, Outbound: map[string]int64{"mimi": 7}, OldestOutbound: map[string]int64{"mimi": 3_400_000}},
		[]store.LaneState{{Dest: "mimi:a.example", Rows: 7, Failures: 3, FailingSince: 3_400_000, DueMS: 3_705_000, LastError: "no `route`"}}, nil
}
func (d *desk) SendNow(_ context.Context, by, dest string) (int64, error) {
	d.note("now %s %s", by, dest)
	return int64(strings.Count(dest, "mimi:")), nil
}
func (d *desk) DeadLetters(_ context.Context, limit int) ([]store.DeadLetter, error) {
	return d.letters[:min(limit, len(d.letters))], nil
}
func (d *desk) RetryDeadLetters(_ context.Context, by string, list []store.DeadLetter) (int, error) {
	d.note("retry %s %d", by, len(list))
	return len(list), nil
}
func (d *desk) DropDeadLetters(_ context.Context, by string, list []store.DeadLetter) (int, error) {
	d.note("drop %s %d", by, len(list))
	return len(list), nil
}
func (d *desk) Broken(_ context.Context, limit int) ([]store.BrokenInput, error) {
	return d.broken[:min(limit, len(d.broken))], nil
}
func (d *desk) RetryBroken(_ context.Context, by string, list []store.BrokenInput) (int, error) {
	d.note("again %s %d", by, len(list))
	return len(list), nil
}
func (d *desk) DropBroken(_ context.Context, by string, list []store.BrokenInput) (int, error) {
	d.note("delete %s %d", by, len(list))
	return len(list), nil
}
func (d *desk) SetBlocked(_ context.Context, by, domain string, blocked bool) error {
	d.note("blocked %s %s %v", by, domain, blocked)
	return nil
}
func (d *desk) AuditLog(context.Context, int) ([]store.AuditEntry, error) {
	return []store.AuditEntry{{AtMS: 3_600_000, Actor: "@admin:hs", Action: "block", Subject: "c.example"}}, nil
}
func (d *desk) AllRooms(_ context.Context, after store.RoomID, limit int) ([]relay.RoomInfo, error) {
	var out []relay.RoomInfo
	for n := int(after[15]) + 1; n <= d.rooms && len(out) < limit; n++ {
		out = append(out, relay.RoomInfo{ID: store.RoomID{15: byte(n)}, URI: fmt.Sprintf("mimi://a.example/r/%d", n)})
	}
	return out, nil
}
func (d *desk) Resync(_ context.Context, by, room string) error {
	d.note("resync %s %s", by, room)
	if room != "!r:hs" {
		return relay.ErrNoRoom
	}
	return nil
}

func TestAdministratorsOperateTheBridge(t *testing.T) {
	room := store.RoomID{12: 0xab, 15: 0x01}
	for _, c := range []struct {
		sender, text string
		reply, did   string
	}{
		{"@u:hs", "queue", "I do not know queue", ""},
		{"@u:hs", "block a.example", "I do not know block", ""},
		{"@u:hs", "dead-letters drop all", "I do not know dead-letters", ""},
		{"@admin:hs", "queue", "arrived, to be worked off: 4, the oldest for 1m0s", ""},
		{"@admin:hs", "queue", "changes of rooms that are not made yet: 3", ""},
		{"@admin:hs", "queue", "to be sent to MIMI providers: 7, the oldest for 5m0s", ""},
		{"@admin:hs", "queue", "mimi:a.example has failed for 5m0s, tried 3 times, 7 waiting, next in 5s: no 'route'", ""},
		{"@admin:hs", "queue now mimi:a.example", "is tried again now; rooms with something for it: 1.", "now @admin:hs mimi:a.example"},
		{"@admin:hs", "queue now matrix", "Nothing that fails", "now @admin:hs matrix"},
		{"@admin:hs", "queue later", "Usage: !mimi queue", ""},
		{"@admin:hs", "dead-letters", "ab000001-7 a message to mimi:a.example, given up 1m40s ago after 9 tries: it was `cold`", ""},
		{"@admin:hs", "dead-letters", "!mimi dead-letters retry <id> tries one again, !mimi dead-letters drop <id> deletes it", ""},
		{"@admin:hs", "dead-letters retry ab000001-7", "To be sent again: 1.", "retry @admin:hs 1"},
		{"@admin:hs", "dead-letters retry mimi:a.example", "To be sent again: 1.", "retry @admin:hs 1"},
		{"@admin:hs", "dead-letters drop all", "Deleted: 2.", "drop @admin:hs 2"},
		{"@admin:hs", "dead-letters drop ab000001-9", "There is no dead letter", ""},
		{"@admin:hs", "dead-letters burn all", "Usage: !mimi dead-letters", ""},
		{"@u:hs", "broken", "I do not know broken", ""},
		{"@admin:hs", "broken", "ab000001-7 a message or change of the room from a.example for !r:hs, came 1m40s ago, 3 tries: the step panicked: oh\n", ""},
		{"@admin:hs", "broken", "ab000001-9 a Matrix event for mimi://a.example/r/1, came 1h1m40s ago, 0 tries: \u2068שם\u2069\n", ""},
		{"@admin:hs", "broken", "ab000001-11 a planned step for no room, came", ""},
		{"@admin:hs", "broken retry ab000001-7", "To be worked off again: 1.", "again @admin:hs 1"},
		{"@admin:hs", "broken retry !r:hs", "To be worked off again: 2.", "again @admin:hs 2"},
		{"@admin:hs", "broken RETRY mimi://a.example/r/1", "To be worked off again: 1.", "again @admin:hs 1"},
		{"@admin:hs", "broken drop all", "Deleted: 4.", "delete @admin:hs 4"},
		{"@admin:hs", "broken drop !s:hs", "There is no broken thing !s:hs", ""},
		{"@admin:hs", "broken retry", "Usage: !mimi broken [retry|drop <id>|<room>|all]", ""},
		{"@admin:hs", "block mimi://Spam.Example", "spam.example is not spoken with any more", "blocked @admin:hs spam.example true"},
		{"@admin:hs", "unblock spam.example", "spam.example is spoken with again", "blocked @admin:hs spam.example false"},
		{"@admin:hs", "block", "Usage: !mimi block <provider>", ""},
		{"@admin:hs", "audit", "1970-01-01T01:00:00Z @admin:hs: block c.example", ""},
		{"@admin:hs", "resync", "is being joined anew", "resync @admin:hs !r:hs"},
		{"@admin:hs", "all-rooms", "mimi://a.example/r/50", ""},
		{"@admin:hs", "all-rooms", "all-rooms after 00000000000000000000000000000032", ""},
		{"@admin:hs", "all-rooms after 00000000000000000000000000000032", "mimi://a.example/r/60", ""},
		{"@admin:hs", "all-rooms after 0000000000000000000000000000003c", "no more rooms", ""},
		{"@admin:hs", "all-rooms 5", "Usage: !mimi all-rooms", ""},
	} {
		b, w := newBot(t)
		d := &desk{rooms: 60, broken: []store.BrokenInput{
			{Room: room, MatrixRoomID: "!r:hs", URI: "mimi://a.example/r/0", Seq: 7, Kind: "notify", Peer: "a.example", Tries: 3, CreatedMS: 3_600_000, Reason: "the step panicked: oh\nstack"},
			{Room: room, MatrixRoomID: "!r:hs", Seq: 8, Kind: "matrix"}, {Room: room, URI: "mimi://a.example/r/1", Seq: 9, Kind: "matrix", Reason: "שם\u202e"}, {Room: room, Seq: 11, Kind: "timer"}}, letters: []store.DeadLetter{
			{Room: room, Dest: "mimi:a.example", Seq: 7, Verb: "submitMessage", Attempts: 9, DeadMS: 3_600_000, Reason: "it was `cold`"}, {Room: room, Dest: "matrix", Seq: 8}}}
		b.Register(Operate(d)...)
		if err := b.Command(t.Context(), say(c.sender, c.text, false)); err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
		if len(w.sent) != 1 || !strings.Contains(w.sent[0].Body, strings.ReplaceAll(c.reply, "`", "'")) {
			t.Errorf("%s %q: reply %+v, want %q", c.sender, c.text, w.sent, c.reply)
		}
		if did := strings.Join(d.did, ";"); did != c.did {
			t.Errorf("%s %q: did %q, want %q", c.sender, c.text, did, c.did)
		}
	}
}

func TestHelpOnOneCommand(t *testing.T) {
	for _, c := range []struct {
		sender, text string
		private      bool
		want         []string
		never        string
	}{
		{"@u:hs", "help invite", true, []string{"!mimi invite <address> in a room that I am in", "Invites somebody", "acct:bob@two.example"}, ""},
		{"@u:hs", "help invite", false, []string{"!mimi invite <address>"}, "in a room that I am in"},
		{"@u:hs", "help pm", true, []string{"start-chat <address>", "Also: pm, dm"}, ""},
		{"@u:hs", "help block", true, []string{"I do not know block"}, "both directions"},
		{"@admin:hs", "help block", true, []string{"both directions", "block spam.example"}, ""},
		{"@u:hs", "help", true, []string{"In a room that I am in, after !mimi", "invite <address>"}, "For administrators"},
		{"@admin:hs", "help", true, []string{"For administrators", "dead-letters"}, ""},
		{"@u:hs", "invte", true, []string{"Did you mean invite?"}, ""},
		{"@u:hs", "lock", true, []string{"I do not know lock."}, "block"},
		{"@u:hs", strings.Repeat("help", 99), true, []string{"I do not know"}, "Did you mean"},
	} {
		b, w := newBot(t)
		b.Register(Operate(&desk{})...)
		if err := b.Command(t.Context(), say(c.sender, c.text, c.private)); err != nil || len(w.sent) != 1 {
			t.Fatalf("%q: %v, %d replies", c.text, err, len(w.sent))
		}
		body := w.sent[0].Body
		if c.never != "" && strings.Contains(body, c.never) {
			t.Errorf("%s %q: %q must not say %q", c.sender, c.text, body, c.never)
		}
		for _, s := range c.want {
			if !strings.Contains(body, s) {
				t.Errorf("%s %q: %q lacks %q", c.sender, c.text, body, s)
			}
		}
	}
}
