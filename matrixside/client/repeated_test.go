package client

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// A homeserver that stopped before it answered has forgotten the transaction id: what an earlier try made is found by
// its mark, and nothing is sent twice.
func TestRepeatedMessageIsNotDoubled(t *testing.T) {
	const ghost = id.UserID("@mimi_a:hs")
	content := `{"body":"hi","msgtype":"m.text","im.mimi.message":{"id":"01ab","part":0,"room":"mimi://a.example/r/1"}}`
	other := strings.Replace(content, "01ab", "01ac", 1)
	event1 := `{"chunk":[{"event_id":"$other","type":"m.room.message","sender":"` + string(ghost) + `","content":` + other + `},` +
		`{"event_id":"$there","type":"m.room.message","sender":"` + string(ghost) + `","content":` + content + `}]}`
	for _, c := range []struct {
		name, page string
		status     int
		class      Class
		id         string
		puts       int
	}{
		{"it is there", event1, 200, Done, "$there", 0},
		{"it is not there", `{"chunk":[{"event_id":"$other","type":"m.room.message","sender":"` + string(ghost) + `","content":` + other + `}]}`, 200, Done, "$new", 1},
		{"of somebody else", strings.ReplaceAll(event1, string(ghost), "@mallory:hs"), 200, Done, "$new", 1},
		{"nobody answers yet", `{}`, 502, Retry, "", 0},
		{"the room may not be read", `{"errcode":"M_FORBIDDEN","error":"no"}`, 403, Done, "$new", 1},
	} {
		f := ghostly(newFake(t)).on("GET /rooms/!r:hs/messages", c.status, c.page).
			on("PUT /rooms/!r:hs/send/*", 200, `{"event_id":"$new"}`)
		row := Row{Request: event.NewRequest(event.Send{Sender: ghost, Type: "m.room.message", Content: json.RawMessage(content)}), Room: "!r:hs", Txn: "row1", Repeated: true}
		cl := newClient(t, f)
		cl.setKnown(ghost)
		r := cl.Do(t.Context(), row)
		puts := 0
		for _, call := range f.log {
			if strings.HasPrefix(call, "PUT /rooms/!r:hs/send/") {
				puts++
			}
		}
		if r.Class != c.class || string(r.EventID()) != c.id || puts != c.puts {
			t.Errorf("%s: %v %s %v, sent %d times; want %v %s, %d times", c.name, r.Class, r.EventID(), r.Err, puts, c.class, c.id, c.puts)
		}
	}
}

// A state event that may have been sent is not sent over what somebody has set since.
func TestRepeatedState(t *testing.T) {
	rename := event.State{Type: "m.room.name", Content: json.RawMessage(`{"name":"new"}`), Was: json.RawMessage(`{"name":"old"}`)}
	first := rename
	first.Was = json.RawMessage(`{"name":""}`)
	unknown := rename
	unknown.Was = nil
	for _, c := range []struct {
		name   string
		args   event.State
		status int
		now    string
		class  Class
		sent   bool
	}{
		{"never sent", rename, 200, `{"name":"old","more":1}`, Done, true},
		{"sent already", rename, 200, `{"name":"new"}`, Done, false},
		{"changed since", rename, 200, `{"name":"newest"}`, Done, false},
		{"the first name, never sent", first, 404, `{"errcode":"M_NOT_FOUND","error":"none"}`, Done, true},
		{"the first name, sent", first, 200, `{"name":"new"}`, Done, false},
		{"not known what was", unknown, 200, `{"name":"newest"}`, Done, true},
		{"may not look", rename, 403, `{"errcode":"M_FORBIDDEN","error":"no"}`, Done, true},
		{"nobody answers yet", rename, 502, `{}`, Retry, false},
	} {
		for _, repeated := range []bool{true, false} {
			f := newFake(t).on("GET /rooms/!r:hs/state/m.room.name/", c.status, c.now).on("PUT /rooms/!r:hs/state/m.room.name/", 200, `{"event_id":"$new"}`)
			q := row(c.args, "k")
			q.Repeated = repeated
			res := newClient(t, f).Do(t.Context(), q)
			sent := slices.ContainsFunc(f.log, func(call string) bool { return strings.HasPrefix(call, "PUT /rooms/") })
			if repeated && res.Class != c.class || !repeated && res.Class != Done || sent != (c.sent || !repeated) {
				t.Errorf("%s, repeated %v: %v %v, sent %v", c.name, repeated, res.Class, res.Err, sent)
			}
		}
	}
}

// A change of membership that may have been carried out is compared with what is: who left and was invited again does
// not leave twice, and nobody is put out twice.
func TestRepeatedMembership(t *testing.T) {
	const ghost, person = id.UserID("@mimi_a:hs"), id.UserID("@person:hs")
	leave := func(was event.Membership) event.Args { return event.LeaveRoom{Sender: ghost, Was: was} }
	kick := func(was event.Membership) event.Args { return event.KickUser{Target: person, Was: was} }
	for _, c := range []struct {
		name string
		args event.Args
		user id.UserID
		now  string // of the user; "" for a room without the bot, in which the ghost may not look either
		sent bool
	}{
		{"left already", leave(event.Join), ghost, "leave", false},
		{"left and invited again", leave(event.Join), ghost, "invite", false},
		{"still there", leave(event.Join), ghost, "join", true},
		{"declines an invitation", leave(event.Invite), ghost, "invite", true},
		{"not known what it was", leave(""), ghost, "invite", true},
		{"a room that nobody may look into", leave(event.Join), ghost, "", false},
		{"an invitation that nobody may look at", leave(event.Invite), ghost, "", true},
		{"put out already", kick(event.Join), person, "leave", false},
		{"put out and invited again", kick(event.Join), person, "invite", false},
		{"still in", kick(event.Join), person, "join", true},
		{"accepted meanwhile", kick(event.Invite), person, "join", true},
		{"invited already", event.InviteUser{Target: person}, person, "join", false},
		{"not invited", event.InviteUser{Target: person}, person, "leave", true},
		{"banned already", event.BanUser{Target: person}, person, "ban", false},
		{"not banned", event.BanUser{Target: person}, person, "join", true},
		{"unbanned already", event.UnbanUser{Target: person}, person, "leave", false},
		{"not unbanned", event.UnbanUser{Target: person}, person, "ban", true},
	} {
		for _, repeated := range []bool{true, false} {
			state := "GET /rooms/!r:hs/state/m.room.member/" + string(c.user)
			f := ghostly(newFake(t)).on("POST /rooms/!r:hs/*", 200, `{}`)
			if c.now == "" {
				f.on(state, 403, `{"errcode":"M_FORBIDDEN"}`)
			} else {
				f.on(state, 200, `{"membership":"`+c.now+`"}`)
			}
			cl := newClient(t, f)
			cl.setKnown(ghost)
			q := row(c.args, "k")
			q.Repeated = repeated
			res := cl.Do(t.Context(), q)
			sent := slices.ContainsFunc(f.log, func(call string) bool { return strings.HasPrefix(call, "POST /rooms/") })
			if res.Class != Done || sent != (c.sent || !repeated) {
				t.Errorf("%s, repeated %v: %v %v, sent %v", c.name, repeated, res.Class, res.Err, sent)
			}
		}
	}
}

func TestDuplicateReactionIsDone(t *testing.T) {
	f := newFake(t).on("PUT /rooms/!r:hs/send/*", 400, `{"errcode":"M_DUPLICATE_ANNOTATION"}`)
	if res := newClient(t, f).Do(t.Context(), row(event.Send{Type: "m.reaction", Content: event.EncodeReaction("$a", "x", nil)}, "k")); res.Class != Done || res.EventID() != "" {
		t.Fatalf("%+v", res)
	}
}
