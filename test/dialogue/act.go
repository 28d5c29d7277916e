package dialogue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// addActions adds what people do.
func addActions() {
	say("creates room STR", "makes a private room with that name", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		return p.create(ctx, a[0], &mautrix.ReqCreateRoom{Name: a[0], Preset: "private_chat"})
	})
	say("creates room STR of version STR", "makes a private room of that room version", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		return p.create(ctx, a[0], &mautrix.ReqCreateRoom{Name: a[0], Preset: "private_chat", RoomVersion: id.RoomVersion(a[1])})
	})
	say("creates public room STR", "makes a room that everybody may join", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		return p.create(ctx, a[0], &mautrix.ReqCreateRoom{Name: a[0], Preset: "public_chat"})
	})
	say("creates knockable room STR", "makes a room that one can knock at", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		return p.create(ctx, a[0], &mautrix.ReqCreateRoom{Name: a[0], Preset: "private_chat", RoomVersion: "10",
			InitialState: []*event.Event{{Type: event.StateJoinRules, Content: event.Content{Parsed: &event.JoinRulesEventContent{JoinRule: event.JoinRuleKnock}}}}})
	})
	say("creates direct chat STR with WHO", "makes a chat of two; STR is its name in the script only", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		mxid, err := p.world.MXID(p.short, a[1])
		if err != nil {
			return err
		}
		return p.create(ctx, a[0], &mautrix.ReqCreateRoom{Preset: "trusted_private_chat", IsDirect: true, Invite: []id.UserID{mxid}})
	})
	say("invites WHO", "invites somebody to the room", onMember(func(ctx context.Context, p *Person, room id.RoomID, who id.UserID, _ string) error {
		_, err := p.InviteUser(ctx, room, &mautrix.ReqInviteUser{UserID: who})
		return err
	}))
	for _, pattern := range []string{"kicks WHO", "kicks WHO because STR"} {
		say(pattern, "removes somebody from the room", onMember(func(ctx context.Context, p *Person, room id.RoomID, who id.UserID, why string) error {
			_, err := p.KickUser(ctx, room, &mautrix.ReqKickUser{UserID: who, Reason: why})
			return err
		}))
	}
	for _, pattern := range []string{"bans WHO", "bans WHO because STR"} {
		say(pattern, "bans somebody from the room", onMember(func(ctx context.Context, p *Person, room id.RoomID, who id.UserID, why string) error {
			_, err := p.BanUser(ctx, room, &mautrix.ReqBanUser{UserID: who, Reason: why})
			return err
		}))
	}
	say("unbans WHO", "lifts a ban", onMember(func(ctx context.Context, p *Person, room id.RoomID, who id.UserID, _ string) error {
		_, err := p.UnbanUser(ctx, room, &mautrix.ReqUnbanUser{UserID: who})
		return err
	}))
	say("gives WHO power NUM", "changes somebody's power level", method((*runner).givePower))
	say("joins", "takes an invitation", func(ctx context.Context, _ *runner, p *Person, _ []string) error { return p.join(ctx, "") })
	say("joins STR", "joins a room that somebody on the same homeserver knows", func(ctx context.Context, _ *runner, p *Person, a []string) error { return p.join(ctx, a[0]) })
	say("knocks at STR", "asks to be let in; somebody on the same homeserver knows the room", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		room, err := p.find(a[0])
		if err != nil {
			return err
		}
		_, err = p.SendStateEvent(ctx, room, event.StateMember, string(p.UserID), &event.MemberEventContent{Membership: event.MembershipKnock})
		return err
	})
	leave := func(ctx context.Context, _ *runner, p *Person, _ []string) error {
		room, err := p.room("")
		if err != nil {
			return err
		}
		_, err = p.LeaveRoom(ctx, room)
		return err
	}
	say("leaves", "leaves the room", leave)
	say("declines", "refuses the invitation", leave)
	addMessages()
}

// addMessages adds what people say.
func addMessages() {
	plain := func(pattern, help string, msgtype event.MessageType) {
		say(pattern, help, func(ctx context.Context, r *runner, p *Person, a []string) error {
			return r.send(ctx, p, a[0], &event.MessageEventContent{MsgType: msgtype, Body: a[0]})
		})
	}
	plain("says STR", "sends a message", event.MsgText)
	plain("notices STR", "sends a notice", event.MsgNotice)
	plain("emotes STR", "sends an emote", event.MsgEmote)
	say("says STR as html STR", "sends a formatted message", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return r.send(ctx, p, a[0], &event.MessageEventContent{MsgType: event.MsgText, Body: a[0], Format: event.FormatHTML, FormattedBody: a[1]})
	})
	say("replies to STR with STR", "answers a message", func(ctx context.Context, r *runner, p *Person, a []string) error {
		_, target, err := p.message(a[0])
		if err != nil {
			return err
		}
		return r.send(ctx, p, a[1], &event.MessageEventContent{MsgType: event.MsgText, Body: a[1],
			RelatesTo: (&event.RelatesTo{}).SetReplyTo(target.ID)})
	})
	say("edits STR to STR", "changes a message of one's own", func(ctx context.Context, r *runner, p *Person, a []string) error {
		room, target, err := p.message(a[0])
		if err != nil {
			return err
		}
		content := &event.MessageEventContent{MsgType: event.MsgText, Body: a[1]}
		content.SetEdit(target.ID)
		_, err = p.SendMessageEvent(ctx, room, event.EventMessage, content)
		return err
	})
	say("reacts to STR with STR", "reacts to a message", func(ctx context.Context, r *runner, p *Person, a []string) error {
		room, target, err := p.message(a[0])
		if err != nil {
			return err
		}
		_, err = p.SendReaction(ctx, room, target.ID, a[1])
		return err
	})
	say("redacts STR", "removes a message", func(ctx context.Context, r *runner, p *Person, a []string) error {
		room, target, err := p.message(a[0])
		if err != nil {
			return err
		}
		_, err = p.RedactEvent(ctx, room, target.ID)
		return err
	})
	say("sends file STR containing STR", "uploads a text file and sends it", func(ctx context.Context, r *runner, p *Person, a []string) error {
		room, err := p.room("")
		if err != nil {
			return err
		}
		url, file, err := p.upload(ctx, room, []byte(a[1]), "text/plain")
		if err != nil {
			return err
		}
		return r.send(ctx, p, a[0], &event.MessageEventContent{MsgType: event.MsgFile, Body: a[0], FileName: a[0], URL: url, File: file,
			Info: &event.FileInfo{MimeType: "text/plain", Size: len(a[1])}})
	})
	say("names the room STR", "changes the room's name", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return p.state(ctx, event.StateRoomName, &event.RoomNameEventContent{Name: a[0]})
	})
	say("sets the topic STR", "changes the room's topic", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return p.state(ctx, event.StateTopic, &event.TopicEventContent{Topic: a[0]})
	})
	say("types", "shows that one is typing", func(ctx context.Context, r *runner, p *Person, _ []string) error {
		room, err := p.room("")
		if err != nil {
			return err
		}
		_, err = p.UserTyping(ctx, room, true, 20*time.Second)
		return err
	})
	say("calls itself STR", "changes its display name", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		return p.SetDisplayName(ctx, a[0])
	})
	say("reads STR", "sends a read receipt for a message", func(ctx context.Context, r *runner, p *Person, a []string) error {
		room, target, err := p.message(a[0])
		if err != nil {
			return err
		}
		return p.MarkRead(ctx, room, target.ID)
	})
	say("tells the bot STR", "sends a command to the bridge's bot, in a chat with it that is made when there is none", method((*runner).tellBot))
}

// onMember is what the lines about a member of the current room have in common.
func onMember(f func(ctx context.Context, p *Person, room id.RoomID, who id.UserID, why string) error) personFunc {
	return func(ctx context.Context, _ *runner, p *Person, a []string) error {
		room, err := p.room("")
		if err != nil {
			return err
		}
		who, err := p.world.MXID(p.short, a[0])
		if err != nil {
			return err
		}
		why := ""
		if len(a) > 1 {
			why = a[1]
		}
		return f(ctx, p, room, who, why)
	}
}

func (p *Person) create(ctx context.Context, label string, req *mautrix.ReqCreateRoom) error {
	resp, err := p.CreateRoom(ctx, req)
	if err != nil {
		return err
	}
	p.call(label, resp.RoomID)
	return p.awaitOwn(ctx, resp.RoomID, event.MembershipJoin)
}

// awaitOwn waits until the person's own /sync shows what it just did, so that
// the next line begins from there.
func (p *Person) awaitOwn(ctx context.Context, room id.RoomID, want event.Membership) error {
	return p.Await(ctx, "itself: "+string(want), func(rooms map[id.RoomID]*RoomView) bool {
		return rooms[room] != nil && rooms[room].Membership == want
	})
}

func (p *Person) join(ctx context.Context, label string) error {
	room, err := p.find(label)
	if err != nil {
		return err
	}
	if _, err := p.JoinRoomByID(ctx, room); err != nil {
		return err
	}
	if label != "" {
		p.call(label, room)
	}
	return p.awaitOwn(ctx, room, event.MembershipJoin)
}

// find returns a room that the person, or another one on its homeserver, knows.
func (p *Person) find(label string) (id.RoomID, error) {
	room, err := p.room(label)
	if err == nil || label == "" {
		return room, err
	}
	for _, other := range p.world.people {
		if other.short != p.short || other == p {
			continue
		}
		if room, err := other.room(label); err == nil {
			return room, nil
		}
	}
	return "", fmt.Errorf("nobody at %s knows room %q", p.short, label)
}

func (p *Person) state(ctx context.Context, t event.Type, content any) error {
	room, err := p.room("")
	if err != nil {
		return err
	}
	_, err = p.SendStateEvent(ctx, room, t, "", content)
	return err
}

// message finds the last message with a text in the current room.
func (p *Person) message(text string) (id.RoomID, *Seen, error) {
	room, err := p.room("")
	if err != nil {
		return "", nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.rooms[room]; v != nil {
		for i := len(v.Timeline) - 1; i >= 0; i-- {
			if got, ok := messageText(v.Timeline[i].Event); ok && got == text {
				return room, v.Timeline[i], nil
			}
		}
	}
	return "", nil, fmt.Errorf("%s has seen no message %q", p.Name, text)
}

// send sends a message and writes down that it was said.
func (r *runner) send(ctx context.Context, p *Person, text string, content *event.MessageEventContent) error {
	room, err := p.room("")
	if err != nil {
		return err
	}
	s := &said{by: p, label: p.labelOf(room), text: text, html: content.FormattedBody, at: time.Now(), order: len(r.said) + 1}
	resp, err := p.SendMessageEvent(ctx, room, event.EventMessage, content)
	if err != nil {
		return err
	}
	s.event = resp.EventID
	if !strings.HasPrefix(text, "!mimi ") { // a command is for the bot alone
		r.said = append(r.said, s)
		r.result.Messages++
	}
	// One's own message must stand in one's own timeline before the next line
	// can answer or change it.
	return p.Await(ctx, "its own message", func(rooms map[id.RoomID]*RoomView) bool {
		return rooms[room] != nil && rooms[room].has(resp.EventID)
	})
}

func (p *Person) labelOf(room id.RoomID) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.label(room)
}

func (r *runner) givePower(ctx context.Context, p *Person, a []string) error {
	room, err := p.room("")
	if err != nil {
		return err
	}
	who, err := p.world.MXID(p.short, a[0])
	if err != nil {
		return err
	}
	level, err := strconv.Atoi(a[1])
	if err != nil {
		return err
	}
	var levels event.PowerLevelsEventContent
	if err := p.StateEvent(ctx, room, event.StatePowerLevels, "", &levels); err != nil {
		return err
	}
	levels.SetUserLevel(who, level)
	_, err = p.SendStateEvent(ctx, room, event.StatePowerLevels, "", &levels)
	return err
}

// botRoom is the label of the chat with the bot.
const botRoom = "chat with the bot"

func (r *runner) tellBot(ctx context.Context, p *Person, a []string) error {
	b := p.world.bridgeAt(p.short)
	if b == nil {
		return fmt.Errorf("there is no bridge beside %s", p.short)
	}
	bot := id.NewUserID(b.Bot(p.world), ServerName(p.short))
	room, err := p.room(botRoom)
	if err != nil {
		current := p.current
		if err := p.create(ctx, botRoom, &mautrix.ReqCreateRoom{Preset: "trusted_private_chat", IsDirect: true, Invite: []id.UserID{bot}}); err != nil {
			return err
		}
		if room, err = p.room(botRoom); err != nil {
			return err
		}
		p.mu.Lock()
		p.current = current
		p.mu.Unlock()
		err = p.Await(ctx, "the bot join", func(rooms map[id.RoomID]*RoomView) bool { return rooms[room].Joined()[bot] })
		if err != nil {
			return err
		}
	}
	_, err = p.SendText(ctx, room, a[0])
	return err
}
