package event

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"maunium.net/go/mautrix/id"
	"pgregory.net/rapid"
)

func mustObject(t *testing.T, s string) Object {
	t.Helper()
	o, err := ParseObject([]byte(s))
	if err != nil {
		t.Fatalf("ParseObject(%s): %v", s, err)
	}
	return o
}

func TestCheckRefusesWhatCannotBe(t *testing.T) {
	good := map[string]any{"event_id": "$a", "room_id": "!r:hs", "sender": "@u:hs", "type": "m.room.message", "content": map[string]any{"body": "x"}, "origin_server_ts": 12}
	cases := map[string]func(map[string]any){
		"no event id":        func(m map[string]any) { delete(m, "event_id") },
		"event id sigil":     func(m map[string]any) { m["event_id"] = "a" },
		"event id too long":  func(m map[string]any) { m["event_id"] = "$" + strings.Repeat("a", 255) },
		"room id of space":   func(m map[string]any) { m["room_id"] = "!r r:hs" },
		"room id control":    func(m map[string]any) { m["room_id"] = "!r\u0001:hs" },
		"sender no server":   func(m map[string]any) { m["sender"] = "@u" },
		"sender a number":    func(m map[string]any) { m["sender"] = 3 },
		"type empty":         func(m map[string]any) { m["type"] = "" },
		"type too long":      func(m map[string]any) { m["type"] = strings.Repeat("m", 256) },
		"state key too long": func(m map[string]any) { m["state_key"] = strings.Repeat("m", 256) },
		"content a string":   func(m map[string]any) { m["content"] = "x" },
		"content too large":  func(m map[string]any) { m["content"] = map[string]any{"body": strings.Repeat("x", MaxContentBytes)} },
		"redaction of none":  func(m map[string]any) { m["type"] = TypeRedaction },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			m := map[string]any{}
			for k, v := range good {
				m[k] = v
			}
			change(m)
			raw, _ := json.Marshal(m)
			if _, err := ParseChecked(raw); err == nil {
				t.Fatalf("accepted %s", raw[:min(200, len(raw))])
			}
		})
	}
	raw, _ := json.Marshal(good)
	e, err := ParseChecked(raw)
	if err != nil || e.Time != 12 || e.Sender != "@u:hs" {
		t.Fatalf("good event: %+v %v", e, err)
	}
}

func TestParseRefusesDepth(t *testing.T) {
	deep := `{"content":` + strings.Repeat(`{"a":`, MaxDepth) + `1` + strings.Repeat(`}`, MaxDepth) + `}`
	if _, err := Parse([]byte(deep)); err == nil {
		t.Fatal("nesting beyond the bound was accepted")
	}
	// Brackets inside strings do not nest.
	if _, err := Parse([]byte(`{"content":{"body":"` + strings.Repeat(`{[\"`, 500) + `"}}`)); err != nil {
		t.Fatalf("brackets in a string: %v", err)
	}
}

func TestRedactionTargetOfEveryRoomVersion(t *testing.T) {
	for _, raw := range []string{
		`{"event_id":"$a","room_id":"!r:hs","sender":"@u:hs","type":"m.room.redaction","redacts":"$b","content":{}}`,
		`{"event_id":"$a","room_id":"!r:hs","sender":"@u:hs","type":"m.room.redaction","content":{"redacts":"$b"}}`,
	} {
		e, err := ParseChecked([]byte(raw))
		if err != nil || e.Redacts != "$b" {
			t.Errorf("%s: %q %v", raw, e.Redacts, err)
		}
	}
}

func TestTransactionNamesOldAndNew(t *testing.T) {
	body := `{"events":[{"a":1},{"b":2}],"de.sorunome.msc2409.ephemeral":[{}],"to_device":[{},{}],
	  "org.matrix.msc3202.device_lists":{"changed":["@a:b"]},"device_one_time_keys_count":{"@a:b":{}}}`
	tx, err := ParseTransaction([]byte(body))
	if err != nil || len(tx.Events) != 2 || len(tx.Ephemeral) != 1 || len(tx.ToDevice) != 2 || tx.DeviceLists == nil || tx.KeyCounts == nil || tx.FallbackKeys != nil {
		t.Fatalf("%+v %v", tx, err)
	}
	for _, bad := range []string{`[]`, `null`, `{"events":{}}`, `{"events":[`, strings.Repeat(`[`, 1000), `{"events":[` + strings.Repeat(`0,`, MaxTransactionEvents) + `0]}`} {
		if _, err := ParseTransaction([]byte(bad)); err == nil {
			t.Errorf("accepted %.40s", bad)
		}
	}
}

func TestRelations(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Relation
	}{
		{`{}`, Relation{}},
		{`{"m.relates_to":"x"}`, Relation{}},
		{`{"m.relates_to":{"m.in_reply_to":{"event_id":"$a"}}}`, Relation{ReplyTo: "$a"}},
		{`{"m.relates_to":{"rel_type":"m.replace","event_id":"$a","m.in_reply_to":{"event_id":"$b"}}}`, Relation{Replaces: "$a"}},
		{`{"m.relates_to":{"rel_type":"m.annotation","event_id":"$a","key":"👍"}}`, Relation{Annotates: "$a", Key: "👍"}},
		{`{"m.relates_to":{"rel_type":"m.annotation","event_id":"$a"}}`, Relation{}},
		{`{"m.relates_to":{"rel_type":"m.thread","event_id":"$a","is_falling_back":true,"m.in_reply_to":{"event_id":"$b"}}}`, Relation{Thread: "$a", ReplyTo: "$b", ThreadFallback: true}},
		{`{"m.relates_to":{"rel_type":"m.thread","event_id":"$a","m.in_reply_to":{"event_id":"$b"}}}`, Relation{Thread: "$a", ReplyTo: "$b"}},
		{`{"m.relates_to":{"rel_type":"m.reference","event_id":"$a"}}`, Relation{References: "$a"}},
		{`{"m.relates_to":{"rel_type":"m.replace","event_id":"a"}}`, Relation{}},
	} {
		got := ParseRelation(mustObject(t, c.in))
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.in, got, c.want)
		}
		if c.want.IsZero() {
			continue
		}
		again := ParseRelation(Object{"m.relates_to": got.Encode()})
		if again != got {
			t.Errorf("written and read again: %+v, want %+v", again, got)
		}
	}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		before, after Membership
		self          bool
		want          Move
	}{
		{None, Join, true, MoveJoined}, {Invite, Join, true, MoveJoined}, {Leave, Join, true, MoveJoined},
		{Join, Join, true, MoveNothing}, {None, Invite, false, MoveInvited}, {Knock, Invite, false, MoveInvited},
		{Join, Leave, true, MoveLeft}, {Join, Leave, false, MoveKicked}, {Invite, Leave, true, MoveRejected},
		{Invite, Leave, false, MoveWithdrawn}, {Ban, Leave, false, MoveUnbanned}, {Join, Ban, false, MoveBanned},
		{None, Ban, false, MoveBanned}, {None, Knock, true, MoveKnocked}, {Knock, Leave, true, MoveUnknocked},
		{Knock, Leave, false, MoveWithdrawn}, {None, Leave, false, MoveNothing}, {Leave, Leave, true, MoveNothing},
	} {
		m := Member{User: "@u:hs", Sender: "@u:hs", Membership: c.after}
		if !c.self {
			m.Sender = "@mod:hs"
		}
		if got := m.Classify(c.before, false); got != c.want {
			t.Errorf("%q → %q self=%v: %v, want %v", c.before, c.after, c.self, got, c.want)
		}
	}
	if (Member{User: "@u:hs", Sender: "@u:hs", Membership: Join}).Classify(Join, true) != MoveProfile {
		t.Error("a new name is not seen")
	}
}

func TestPowerLevels(t *testing.T) {
	p := ParsePowerLevels(mustObject(t, `{"users":{"@a:hs":"100","@b:hs":50.9,"bad":1},"events":{"m.room.name":60},"ban":"x","invite":5}`))
	if p.User("@a:hs") != 100 || p.User("@b:hs") != 50 || p.User("@c:hs") != 0 || p.State("m.room.name") != 60 ||
		p.State("m.room.topic") != 50 || p.Event("m.room.message") != 0 || p.Ban != 50 || p.Invite != 5 || len(p.Users) != 2 {
		t.Fatalf("%+v", p)
	}
	if !ParsePowerLevels(mustObject(t, string(p.Encode()))).Equal(p) {
		t.Error("written and read again differs")
	}
	var r Room
	create := Event{Type: TypeCreate, StateKey: new(string), Sender: "@a:hs", Content: mustObject(t, `{"room_version":"12","additional_creators":["@d:hs"]}`)}
	r.Apply(create)
	if r.Levels.User("@d:hs") != CreatorLevel || r.Levels.User("@x:hs") != 0 {
		t.Errorf("creators of version 12: %+v", r.Levels)
	}
	create.Content = mustObject(t, `{"room_version":"10"}`)
	r.Apply(create)
	if r.Levels.User("@a:hs") != 100 || r.Levels.User("@d:hs") != 0 || r.Levels.StateDefault != 0 {
		t.Errorf("room without levels: %+v", r.Levels)
	}
}

func TestServerACL(t *testing.T) {
	acl := &ServerACL{Allow: []string{"*"}, Deny: []string{"*.evil.example", "b?d.example", "[x].example"}}
	for server, want := range map[string]bool{"a.evil.example": true, "BAD.example": true, "good.example": false, "x.example": false, "[x].example": true} {
		if acl.Denies(server) != want {
			t.Errorf("Denies(%s) = %v", server, !want)
		}
	}
	if !(&ServerACL{}).Denies("a.example") || (*ServerACL)(nil).Denies("a.example") {
		t.Error("empty list must deny all, no list nobody")
	}
}

func TestReceiptsAndTyping(t *testing.T) {
	r, _ := Parse([]byte(`{"type":"m.receipt","room_id":"!r:hs","content":{"$b":{"m.read":{"@u:hs":{"ts":5,"thread_id":"main"}},"m.read.private":{"@v:hs":{}}},"bad":{"m.read":{"@u:hs":{}}}}}`))
	e, err := r.Ephemeral()
	if err != nil || !reflect.DeepEqual(e.Receipts, []Receipt{{Event: "$b", User: "@u:hs", Thread: "main", Time: 5}, {Event: "$b", User: "@v:hs", Private: true}}) {
		t.Fatalf("%+v %v", e, err)
	}
	r, _ = Parse([]byte(`{"type":"m.typing","room_id":"!r:hs","content":{"user_ids":["@u:hs","nobody",3]}}`))
	if e, err = r.Ephemeral(); err != nil || !reflect.DeepEqual(e.Typing, []id.UserID{"@u:hs"}) {
		t.Fatalf("%+v %v", e, err)
	}
	r, _ = Parse([]byte(`{"type":"m.presence","sender":"@u:hs","content":{"presence":"online","status_msg":"hi","last_active_ago":5}}`))
	if e, err = r.Ephemeral(); err != nil || e.Presence == nil || *e.Presence != (Presence{"@u:hs", "online", "hi"}) {
		t.Fatalf("%+v %v", e, err)
	}
	r, _ = Parse([]byte(`{"type":"m.presence","content":{}}`))
	if _, err = r.Ephemeral(); err != ErrUnused {
		t.Fatal(err)
	}
}

func TestPendingID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mimi := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "id")
		part := rapid.IntRange(0, 1024).Draw(t, "part")
		p := PendingID(mimi, part)
		got, n, err := ParsePending(p)
		if err != nil || string(got) != string(mimi) || n != part || ValidEventID(p) {
			t.Fatalf("%s: %x %d %v", p, got, n, err)
		}
	})
}

// A message that is written and read again is the same message.
func TestMessageEncodeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
		o, err := ParseObject(m.Encode())
		if err != nil {
			t.Fatal(err)
		}
		got := ParseMessage(o)
		if m.MsgType == "" { // a sticker has no msgtype to say that it is media
			got.Media = parseMedia(o)
		}
		got.Raw = nil
		if got.NewContent != nil {
			got.NewContent.Raw = nil
		}
		if !reflect.DeepEqual(got, m) {
			t.Fatalf("%s\n got %+v\nwant %+v", m.Encode(), got, m)
		}
	})
}

func drawMessage(t *rapid.T) Message {
	text := rapid.StringN(0, 40, -1)
	m := Message{MsgType: rapid.SampledFrom([]string{MsgText, MsgNotice, MsgEmote, MsgImage, MsgFile, MsgLocation, ""}).Draw(t, "type"), Body: text.Draw(t, "body")}
	switch m.MsgType {
	case MsgImage, MsgFile, "":
		m.Media = &Media{URL: "mxc://hs/" + rapid.StringMatching(`[a-z]{1,9}`).Draw(t, "mxc"), Mimetype: "image/png",
			Size: rapid.Int64Range(0, 1<<40).Draw(t, "size"), Width: rapid.Int64Range(0, 9999).Draw(t, "w"), Filename: text.Draw(t, "name"),
			Voice: rapid.Bool().Draw(t, "voice"), Waveform: rapid.SliceOfN(rapid.IntRange(0, 1024), 0, 5).Draw(t, "wave")}
		if len(m.Media.Waveform) == 0 {
			m.Media.Waveform = nil
		}
		if rapid.Bool().Draw(t, "thumb") {
			m.Media.Thumbnail = &Media{File: &EncryptedFile{URL: "mxc://hs/t", IV: "iv", Hashes: map[string]string{"sha256": "x"}, Version: "v2"}}
		}
	case MsgLocation:
		m.GeoURI = "geo:1,2"
	default:
		m.HTML = text.Draw(t, "html")
	}
	if rapid.Bool().Draw(t, "mention") {
		m.Mentions = &Mentions{Users: []id.UserID{"@a:hs"}, Room: rapid.Bool().Draw(t, "room")}
	}
	switch rapid.IntRange(0, 3).Draw(t, "relation") {
	case 1:
		m.Relation = Relation{ReplyTo: "$a"}
	case 2:
		m.Relation = Relation{Thread: "$a", ReplyTo: PendingID([]byte{1, 2}, 0), ThreadFallback: true}
	case 3:
		m.Relation = Relation{Replaces: "$a"}
		m.NewContent = &Message{MsgType: MsgText, Body: text.Draw(t, "new")}
	}
	if rapid.Bool().Draw(t, "timer") {
		m.Timer = &Timer{AfterRead: rapid.Bool().Draw(t, "read"), Milliseconds: rapid.Int64Range(1, 1<<40).Draw(t, "ms")}
	}
	if rapid.Bool().Draw(t, "origin") {
		m.Origin = &Origin{ID: "ab", Part: rapid.IntRange(0, 9).Draw(t, "part"), Room: "mimi://a.example/r/x"}
	}
	return m
}

func FuzzMatrixTransactionJSON(f *testing.F) {
	f.Add([]byte(`{"events":[{"event_id":"$a","room_id":"!r:hs","sender":"@u:hs","type":"m.room.message","content":{"msgtype":"m.text","body":"x"}}],"ephemeral":[{"type":"m.typing","room_id":"!r:hs","content":{"user_ids":["@a:b"]}}]}`))
	f.Add([]byte(`{"events":[{"event_id":"$a","room_id":"!r:hs","sender":"@u:hs","type":"m.room.power_levels","state_key":"","content":{"users":{"@a:b":"7"}}}]}`))
	f.Add([]byte(`{"events":[{"event_id":"$a","room_id":"!r:hs","sender":"@u:hs","type":"m.room.member","state_key":"@b:hs","content":{"membership":"ban"},"unsigned":{"prev_content":{}}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		tx, err := ParseTransaction(body)
		if err != nil {
			return
		}
		var room Room
		for _, raw := range tx.Events {
			e, err := ParseChecked(raw)
			if err != nil {
				continue
			}
			if !ValidEventID(e.ID) || !ValidRoomID(e.Room) || !ValidUserID(e.Sender) {
				t.Fatalf("checked event with bad identifiers: %+v", e)
			}
			e.Member()
			e.Message()
			room.Apply(e)
		}
		for _, raw := range append(tx.Ephemeral, tx.ToDevice...) {
			if r, err := Parse(raw); err == nil {
				_, _ = r.Ephemeral()
				_, _ = r.ToDevice()
			}
		}
	})
}

func FuzzMatrixEventRelates(f *testing.F) {
	f.Add([]byte(`{"m.relates_to":{"rel_type":"m.thread","event_id":"$a","is_falling_back":true,"m.in_reply_to":{"event_id":"$b"}}}`))
	f.Add([]byte(`{"m.relates_to":{"rel_type":"m.annotation","event_id":"$a","key":"k"}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		o, err := ParseObject(content)
		if err != nil {
			return
		}
		r := ParseRelation(o)
		if r.IsZero() {
			return
		}
		if again := ParseRelation(Object{"m.relates_to": r.Encode()}); again != r {
			t.Fatalf("%+v written and read again is %+v", r, again)
		}
		set := 0
		for _, e := range []id.EventID{r.Replaces, r.Annotates, r.Thread, r.References} {
			if e != "" {
				set++
			}
		}
		if set > 1 {
			t.Fatalf("more than one relation: %+v", r)
		}
	})
}
