package relay

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// Changes of the same moment go into one commit; a later one into another.
func TestChangesOfTheSameMoment(t *testing.T) {
	p := newPair(t, warm)
	p.a.conf.Combine = 500 * time.Millisecond
	p.a.start()
	p.begin()
	epoch := p.a.view(p.room).group.Epoch()
	p.a.hs.set(p.room, p.alice, event.TypeName, map[string]string{"name": "Coffee"})
	p.settle()
	p.a.hs.set(p.room, p.alice, event.TypeTopic, map[string]string{"topic": "about coffee"})
	p.a.hs.set(p.room, p.alice, event.TypeMood, map[string]string{"mood": "awake"})
	p.settle()
	p.equal("epoch before the moment is over", p.a.view(p.room).group.Epoch(), epoch)
	p.pass(time.Second)
	p.equal("epoch after", p.a.view(p.room).group.Epoch(), epoch+1)
	p.equal("name", p.portal.str(event.TypeName, "name"), "Coffee")
	p.equal("topic", p.portal.str(event.TypeTopic, "topic"), "about coffee")
	p.equal("mood", p.portal.str(event.TypeMood, "mood"), "awake")
	p.noTrouble()
}

// A state event says what it replaces, so that it is not written once more over what somebody has set since.
func TestStateEventsSayWhatTheyReplace(t *testing.T) {
	p := newPair(t, warm).begin()
	p.b.hs.states = nil
	level := p.portal.power.Encode()
	p.a.hs.set(p.room, p.alice, event.TypeName, map[string]string{"name": "Coffee"})
	p.a.hs.set(p.room, p.alice, event.TypeTopic, map[string]string{"topic": "about coffee"})
	p.a.hs.set(p.room, p.alice, event.TypeMood, map[string]string{"mood": "awake"})
	p.a.hs.set(p.room, p.alice, event.TypeHistoryVisibility, map[string]string{"history_visibility": "joined"})
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100, p.bobAtA: 50}})
	p.settle()
	got := map[string]string{}
	for _, args := range p.b.hs.states {
		if typ := args.Str("type"); got[typ] == "" {
			got[typ] = string(args["was"])
		}
	}
	p.equal("name", got[event.TypeName], `{"name":"Tea"}`)
	p.equal("topic", got[event.TypeTopic], `{"topic":"about tea"}`)
	p.equal("mood", got[event.TypeMood], `{"mood":""}`)
	p.equal("history", got[event.TypeHistoryVisibility], `{"history_visibility":"shared"}`)
	p.equal("power levels", got[event.TypePowerLevels], string(level))
	p.noTrouble()
}

// A topic with formatting keeps it, and what Matrix does not know of the metadata stays.
func TestRichTopicAndWhatMatrixDoesNotKnow(t *testing.T) {
	p := newPair(t, warm).begin()
	meta := p.a.view(p.room).policy.Metadata
	meta.Descriptions = []policy.RichDescription{{MediaType: "text/plain", LanguageTag: "de", Content: []byte("Beschreibung")}}
	meta.RoomAvatar = "https://a.example/picture.png"
	p.setPolicy(policy.ComponentMetadata, meta.Marshal())
	p.a.hs.set(p.room, p.alice, event.TypeTopic, map[string]any{"topic": "hot tea",
		"m.topic": map[string]any{"m.text": []any{map[string]string{"mimetype": "text/html", "body": "<b>hot</b> tea"}, map[string]string{"body": "hot tea"}}}})
	p.settle()
	got := p.b.view(p.portal).policy.Metadata
	p.equal("avatar", got.RoomAvatar, meta.RoomAvatar)
	p.equal("descriptions", len(got.Descriptions), 2)
	p.equal("the German one", string(got.Descriptions[0].Content), "Beschreibung")
	if c := string(p.portal.state[event.TypeTopic+"\x00"]); !strings.Contains(c, "m.topic") || !strings.Contains(c, "strong") && !strings.Contains(c, "\\u003cb") {
		t.Errorf("the topic lost its formatting: %s", c)
	}
	p.noTrouble()
}

// A room without a subject has the description that suits best for its topic: of the preferred language, and in plain text also
// where the room has it formatted only.
func TestDescriptionIsTheTopicOfARoomWithoutSubject(t *testing.T) {
	p := newPair(t, warm)
	p.b.conf.Mapping.Languages = []string{"de"}
	p.b.start()
	p.begin()
	meta := p.a.view(p.room).policy.Metadata
	meta.RoomSubject = ""
	meta.Descriptions = []policy.RichDescription{{MediaType: "text/plain", LanguageTag: "en", Content: []byte("all about tea")},
		{MediaType: "text/markdown;variant=GFM-MIMI", LanguageTag: "de", Content: []byte("alles über *Tee*")}}
	p.commitBy(p.a, p.room, botURI, func(_ *step, c *plan) { c.meta = &meta })
	p.equal("topic", p.portal.str(event.TypeTopic, "topic"), "alles über Tee")
	if c := string(p.portal.state[event.TypeTopic+"\x00"]); !strings.Contains(c, "m.topic") {
		t.Errorf("the topic lost its formatting: %s", c)
	}
	p.talk(1)
	p.noTrouble()
}

// History, retention and who may come in follow the Matrix room that leads, and are shown in the portal.
func TestConditionsOfARoom(t *testing.T) { modes(t, testConditionsOfARoom) }

func testConditionsOfARoom(t *testing.T, m mode) {
	p := newPair(t, m).begin()
	p.equal("history at first", p.portal.str(event.TypeHistoryVisibility, "history_visibility"), "shared")
	p.equal("join rule", p.portal.str(event.TypeJoinRules, "join_rule"), "invite")
	p.a.hs.set(p.room, p.alice, event.TypeHistoryVisibility, map[string]string{"history_visibility": "joined"})
	p.a.hs.set(p.room, p.alice, event.TypeRetention, map[string]int{"max_lifetime": 86_400_000})
	p.settle()
	p.equal("history", p.portal.str(event.TypeHistoryVisibility, "history_visibility"), "joined")
	p.equal("retention", string(p.portal.state[event.TypeRetention+"\x00"]), `{"max_lifetime":86400000}`)
	if roles := string(p.portal.state[event.TypeRoles+"\x00"]); !strings.Contains(roles, `"member"`) {
		t.Errorf("roles in the portal: %s", roles)
	}
	// Somebody with the power to change them in the portal does not decide: it is taken back.
	p.b.hs.set(p.portal, p.b.hs.mxid("admin"), event.TypeHistoryVisibility, map[string]string{"history_visibility": "world_readable"})
	p.b.hs.set(p.portal, p.b.hs.mxid("admin"), event.TypeJoinRules, map[string]string{"join_rule": "public"})
	p.settle()
	p.equal("history again", p.portal.str(event.TypeHistoryVisibility, "history_visibility"), "joined")
	p.equal("join rule again", p.portal.str(event.TypeJoinRules, "join_rule"), "invite")
	p.a.hs.set(p.room, p.alice, event.TypeRetention, map[string]int{})
	p.settle()
	p.equal("no retention", string(p.portal.state[event.TypeRetention+"\x00"]), `{}`)
	p.talk(1)
	p.agree(map[*node]*hsRoom{p.a: p.room, p.b: p.portal})
	p.noTrouble()
}

// A room that demands an expiry gets it with each message.
func TestDemandedExpiry(t *testing.T) {
	p := newPair(t, warm).begin()
	after := uint32(60)
	p.setPolicy(policy.ComponentExpiration, (&policy.MessageExpiration{Expiring: policy.Required, Min: 1, Max: 3600, DefaultAfter: &after}).Marshal())
	p.b.hs.say(p.portal, p.bob, "this goes")
	p.settle()
	timer := p.room.find(t, event.TypeMessage, "this goes").object().Obj("com.beeper.disappearing_timer")
	ms, _ := timer.Int("timer")
	p.equal("timer", ms, 60_000)
	p.noTrouble()
}

// A room that was replaced goes on in the new one, with the same people, ids and MIMI room.
func TestUpgradedRoom(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		own, _ := w.send("before the upgrade", nil)
		n := w.a
		if w.who == w.bob {
			n = w.b
		}
		uri := n.room(w.from).URI
		next := w.hs.create(w.who, "Tea", "about tea")
		w.hs.set(w.from, w.who, event.TypeTombstone, map[string]string{"body": "moved", "replacement_room": next.id})
		w.settle()
		w.last("told", w.hs.texts(w.from), "notice mimibot: This room was replaced. Invite me to the new one, and the conversation goes on there.")
		w.hs.set(next, w.who, event.TypePowerLevels, map[string]any{"users": map[string]int{w.who: 100, w.hs.mxid("mimibot"): 100}})
		w.hs.invite(next, w.who, w.hs.mxid("mimibot"))
		w.pass(2 * time.Minute)
		w.equal("URI", n.room(next).URI, uri)
		if next.members[w.otherGhost()] != "join" {
			t.Fatalf("the ghost did not follow: %v; %q", next.members, w.hs.rows)
		}
		w.from = next
		_, seen := w.send("after the upgrade", inReply(own))
		w.equal("reply across the upgrade", seen.relation().ReplyTo, w.to.find(t, event.TypeMessage, "before the upgrade").id)
		w.there.emit(w.to, w.otherSpeaker(), event.TypeMessage, nil, map[string]string{"msgtype": "m.text", "body": "and back"}, 0)
		w.settle()
		next.find(t, event.TypeMessage, "and back")
		if _, err := n.db.RoomByName(t.Context(), store.NameMatrix, w.from.id); err != nil {
			t.Error(err)
		}
	})
}

// Synapse lets only moderators speak and invite in the room that was replaced. In the new room everybody may again, and whoever
// replaced the room is told in the chat with the bot what to do, because the bot cannot say it there.
func TestUpgradedRoomIsClosedFirst(t *testing.T) {
	p := newPair(t, warm).begin()
	p.a.hs.set(p.room, p.alice, event.TypeHistoryVisibility, map[string]string{"history_visibility": "shared"})
	p.settle()
	chat := p.a.hs.create(p.alice, "", "")
	p.a.hs.invite(chat, p.alice, p.a.hs.mxid("mimibot"))
	p.settle()
	next := p.a.hs.create(p.alice, "Tea", "about tea")
	p.a.hs.set(p.room, p.alice, event.TypeTombstone, map[string]string{"body": "moved", "replacement_room": next.id})
	p.a.hs.set(p.room, p.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{p.alice: 100}, "events_default": 50, "invite": 50})
	p.settle()
	p.last("told", p.a.hs.texts(chat), "notice mimibot: The room \"Tea\" was replaced. Invite me to the new one, and the conversation goes on there.")
	p.a.hs.set(next, p.alice, event.TypeHistoryVisibility, map[string]string{"history_visibility": "shared"})
	p.a.hs.invite(next, p.alice, p.a.hs.mxid("mimibot"))
	p.pass(2 * time.Minute)
	p.b.hs.say(p.portal, p.bob, "so I see")
	p.settle()
	next.find(t, event.TypeMessage, "so I see")
}

// Clients that replace a room invite everybody into the new one, in any order: the guests get no second MIMI room, and who was
// not there before comes in.
func TestUpgradedRoomWithItsGuestsInvited(t *testing.T) {
	p := newPair(t, warm).begin()
	uri := p.a.room(p.room).URI
	next := p.a.hs.create(p.alice, "Tea", "about tea")
	p.a.hs.set(p.room, p.alice, event.TypeTombstone, map[string]string{"body": "moved", "replacement_room": next.id})
	p.settle()
	carol := p.b.hs.mxid("carol")
	p.b.hs.users[carol] = true
	p.a.hs.invite(next, p.alice, p.bobAtA)
	p.a.hs.invite(next, p.alice, p.a.ghost("mimi://b.example/u/carol"))
	p.settle()
	p.equal("URI", p.a.room(next).URI, uri)
	p.equal("the ghost", next.members[p.bobAtA], "join")
	p.equal("carol", p.portal.members[carol], "invite")
	if other := p.b.hs.roomOf(p.bob, "invite"); other != nil {
		t.Errorf("bob got a second room: %s", other.id)
	}
	p.a.hs.say(next, p.alice, "moved")
	p.settle()
	p.portal.find(t, event.TypeMessage, "moved")
}

// People write in the new room as soon as they see the bot there. What they say before the conversation has gone there comes after it, once; in a
// room into which it may not go it is heard by nobody, and they are told once.
func TestWhatIsSaidBeforeTheConversationIsThere(t *testing.T) {
	for name, c := range map[string]struct{ elsewhere, encrypted, invited bool }{
		"in clear":                     {invited: true},
		"encrypted":                    {encrypted: true, invited: true},
		"where the bot goes by itself": {},
		"encrypted, the same":          {encrypted: true},
		"in a room that is not for it": {elsewhere: true, invited: true},
		"encrypted there":              {elsewhere: true, encrypted: true, invited: true},
	} {
		t.Run(name, func(t *testing.T) {
			ways(t, func(t *testing.T, w *way) { testSaidEarly(t, w, c.elsewhere, c.encrypted, c.invited) })
		})
	}
}

func testSaidEarly(t *testing.T, w *way, elsewhere, encrypted, invited bool) {
	for _, n := range w.nodes {
		n.crypt = &fakeCrypt{keys: map[string]bool{"one": true}}
		n.start()
	}
	bot := w.hs.mxid("mimibot")
	next := w.hs.create(w.who, "Tea", "about tea")
	w.hs.set(next, w.who, event.TypePowerLevels, map[string]any{"users": map[string]int{w.who: 100, bot: 100}})
	if elsewhere {
		w.hs.join(next, w.foreignGhost())
	}
	if invited {
		w.hs.invite(next, w.who, bot)
	} else {
		next.members[bot] = "invite" // the homeserver lets it in; it was not told
	}
	said := 0
	w.hs.refuse = func(verb string, args event.Object) bool {
		if verb == "join" && args.Str("room") == next.id && said < 2 {
			next.members[bot] = "join" // what follows is pushed before the bridge hears that the bot is in
			for _, text := range []string{"first", "second"} {
				if encrypted {
					w.hs.whisper(next, w.who, "one", text)
				} else {
					w.hs.say(next, w.who, text)
				}
				said++
			}
		}
		return false
	}
	w.hs.set(w.from, w.who, event.TypeTombstone, map[string]string{"body": "moved", "replacement_room": next.id})
	w.pass(30 * time.Second)
	w.equal("messages said early", said, 2)
	var heard []string
	for _, text := range w.there.texts(w.to) {
		for _, word := range []string{"first", "second"} {
			if strings.HasSuffix(text, ": "+word) {
				heard = append(heard, word)
			}
		}
	}
	told := 0
	for _, text := range w.hs.texts(next) {
		if strings.Contains(text, "This was not carried over to the other side") {
			told++
		}
	}
	w.equal("heard on the other side", strings.Join(heard, " "), map[bool]string{false: "first second", true: ""}[elsewhere])
	w.equal("times that people were told", told, map[bool]int{false: 0, true: 1}[elsewhere])
}

// A room that is replaced by one that may not be joined to MIMI stays where it is, whichever side leads it, and people are told why;
// when nothing is in the way any more, it goes over.
func TestReplacedByARoomThatMayNotBeJoined(t *testing.T) {
	for name, c := range map[string]struct {
		why         string
		spoil, mend func(w *way, r *hsRoom)
	}{
		"joined elsewhere": {"another bridge beside this homeserver has joined the room to MIMI already",
			func(w *way, r *hsRoom) { w.hs.join(r, w.foreignGhost()) }, func(w *way, r *hsRoom) { w.hs.leave(r, w.foreignGhost()) }},
		"a space": {"a space is no conversation", func(w *way, r *hsRoom) {
			w.hs.set(r, w.who, event.TypeCreate, map[string]string{"room_version": "10", "type": "m.space"})
		}, nil},
		"readable for all": {"everybody can read the room without being in it", func(w *way, r *hsRoom) {
			w.hs.set(r, w.who, event.TypeHistoryVisibility, map[string]string{"history_visibility": "world_readable"})
		}, func(w *way, r *hsRoom) {
			w.hs.set(r, w.who, event.TypeHistoryVisibility, map[string]string{"history_visibility": "shared"})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ways(t, func(t *testing.T, w *way) {
				next := w.hs.create(w.who, "Tea", "about tea")
				c.spoil(w, next)
				w.hs.invite(next, w.who, w.hs.mxid("mimibot"))
				w.hs.set(w.from, w.who, event.TypeTombstone, map[string]string{"body": "moved", "replacement_room": next.id})
				w.pass(5 * time.Minute)
				told := 0
				for _, text := range w.hs.texts(w.from) {
					if text == "notice mimibot: This room was replaced. The conversation cannot go on in the new one: "+c.why+"." {
						told++
					}
				}
				w.equal("times that people were told", told, 1)
				w.equal("the ghost in the new room", next.members[w.otherGhost()], "")
				w.send("still here", nil)
				if c.mend != nil {
					c.mend(w, next)
					w.pass(2 * time.Minute)
					w.equal("the ghost in the new room, when nothing is in the way", next.members[w.otherGhost()], "join")
				}
			})
		})
	}
}

// foreignGhost is what another bridge beside the homeserver of who speaks shows of a user of this one.
func (w *way) foreignGhost() string {
	if w.who == w.alice {
		return "@mimi_a.example=2fcarol:hs.a.example"
	}
	return "@mimi_b.example=2fcarol:hs.b.example"
}

// otherGhost is the ghost, in the room where this way begins, of who speaks on the other side.
func (w *way) otherGhost() string {
	if w.who == w.alice {
		return w.bobAtA
	}
	return w.aliceAtB
}

// People of a portal are told once that the room is logged: a bridge reads it.
func TestPeopleAreToldOfThePolicyOnce(t *testing.T) {
	p := newPair(t, restarting).begin()
	p.a.hs.set(p.room, p.alice, event.TypeName, map[string]string{"name": "Coffee"})
	p.settle()
	n := 0
	for _, ev := range p.portal.timeline {
		if strings.Contains(string(ev.content), loggedNotice) {
			n++
		}
	}
	p.equal("notices", n, 1)
	p.noTrouble()
}

// A room that forbids logging is not joined, unless the operator allows it: a bridge to Matrix keeps what is said.
func TestRoomThatForbidsLogging(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		p := newPair(t, warm, "c.example")
		p.b.conf.AllowLoggingForbidden = true
		p.b.start()
		p.begin()
		p.setPolicy(policy.ComponentLogging, (&policy.LoggingPolicy{Logging: policy.Forbidden}).Marshal())
		c := p.nodes["c.example"]
		c.conf.AllowLoggingForbidden = allowed
		c.start()
		eve := c.hs.mxid("eve")
		c.hs.users[eve] = true
		p.a.hs.invite(p.room, p.alice, p.a.ghost("mimi://c.example/u/eve"))
		p.settle()
		p.equal("eve is invited at C", c.hs.roomOf(eve, "invite") != nil, allowed)
		p.equal("the operator of C is told", len(c.alerts), map[bool]int{false: 1}[allowed])
		p.talk(1)
	}
}

// Nor is it joined by its address.
func TestRoomThatForbidsLoggingIsNotJoinedByItsAddress(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		p := newPair(t, warm)
		p.b.conf.AllowLoggingForbidden = allowed
		p.b.start()
		uri := p.openRoom()
		p.setPolicy(policy.ComponentLogging, (&policy.LoggingPolicy{Logging: policy.Forbidden}).Marshal())
		must0(t, p.b.relay.Join(context.Background(), p.bob, uri, ""))
		p.pass(time.Minute)
		p.equal("bob is invited", p.b.hs.roomOf(p.bob, "invite") != nil, allowed)
		p.equal("bob is in the list", p.a.view(p.room).policy.RoleIndex(bobURI) != policy.RoleNone, allowed)
	}
}

// The picture of a room, its mood and its topic go over, and go when they are taken away.
func TestPictureOfTheRoomBothWays(t *testing.T) {
	ways(t, func(t *testing.T, w *way) {
		from, to := w.sides()
		if w.name == "follower to hub" {
			w.a.hs.set(w.room, w.alice, event.TypePowerLevels, map[string]any{"users": map[string]int{w.alice: 100, w.bobAtA: 100, w.a.hs.mxid("mimibot"): 100}})
			w.settle()
		}
		w.hs.set(w.from, w.who, event.TypeAvatar, map[string]any{"url": from.add(onePixel)})
		w.settle()
		if got := to.repo[w.to.str(event.TypeAvatar, "url")]; !bytes.Equal(got, onePixel) {
			t.Errorf("the picture is %q, of %d octets", w.to.str(event.TypeAvatar, "url"), len(got))
		}
		w.hs.set(w.from, w.who, event.TypeAvatar, map[string]any{})
		w.settle()
		w.equal("the picture that was taken away", w.to.str(event.TypeAvatar, "url"), "")
		w.hs.set(w.from, w.who, event.TypeMood, map[string]any{"mood": "awake"})
		w.settle()
		w.equal("mood", w.to.str(event.TypeMood, "mood"), "awake")
		w.hs.set(w.from, w.who, event.TypeMood, map[string]any{})
		w.settle()
		w.equal("the mood that was taken away", w.to.str(event.TypeMood, "mood"), "")
		w.hs.set(w.from, w.who, event.TypeTopic, map[string]any{"topic": ""})
		w.settle()
		w.equal("the topic that was taken away", w.to.str(event.TypeTopic, "topic"), "")
	})
}
