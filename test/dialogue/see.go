package dialogue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// addSights adds what people see. Each waits until it is so.
func addSights() {
	say("sees invite to STR", "is invited to a room with that name", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return p.seeInvite(ctx, a[0], a[0], "")
	})
	say("sees invite to STR from WHO", "is invited by somebody to a room with that name", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return p.seeInvite(ctx, a[0], a[0], a[1])
	})
	say("sees direct invite from WHO as STR", "is invited to a chat of two; STR is its name in the script only", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return p.seeInvite(ctx, a[1], "", a[0])
	})
	say("sees invite as STR", "is invited to a room that the script has not named yet; STR is its name in the script", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return p.seeInvite(ctx, a[0], anyName, "")
	})
	say("finds room STR", "is in a room with that name without having done anything", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return p.findRoom(ctx, a[0])
	})
	say("sees direct chat with WHO as STR", "finds a room marked as a direct chat with somebody; STR is its name in the script only", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return p.findDirect(ctx, a[0], a[1])
	})
	plain := func(pattern, help string, msgtype event.MessageType) {
		say(pattern, help, func(ctx context.Context, r *runner, p *Person, a []string) error {
			return r.seeMessage(ctx, p, a[1], fmt.Sprintf("%q", a[0]), a[0], func(m *event.MessageEventContent) bool {
				return m.MsgType == msgtype && m.Body == a[0] && !edit(m)
			})
		})
	}
	plain("sees STR from WHO", "gets a message", event.MsgText)
	plain("sees notice STR from WHO", "gets a notice", event.MsgNotice)
	plain("sees emote STR from WHO", "gets an emote", event.MsgEmote)
	say("sees html STR from WHO", "gets a message that is formatted exactly so", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return r.seeMessage(ctx, p, a[1], "html "+a[0], a[0], func(m *event.MessageEventContent) bool {
			return m.Format == event.FormatHTML && m.FormattedBody == a[0] && !edit(m)
		})
	})
	say("sees STR in reply to STR from WHO", "gets an answer to a message", func(ctx context.Context, r *runner, p *Person, a []string) error {
		_, target, err := p.message(a[1])
		if err != nil {
			return err
		}
		return r.seeMessage(ctx, p, a[2], fmt.Sprintf("%q in reply to %q", a[0], a[1]), a[0], func(m *event.MessageEventContent) bool {
			return m.Body == a[0] && m.RelatesTo.GetReplyTo() == target.ID
		})
	})
	say("sees STR edited to STR by WHO", "gets the change of a message", func(ctx context.Context, r *runner, p *Person, a []string) error {
		_, target, err := p.message(a[0])
		if err != nil {
			return err
		}
		return r.seeMessage(ctx, p, a[2], fmt.Sprintf("%q edited to %q", a[0], a[1]), "", func(m *event.MessageEventContent) bool {
			return edit(m) && m.RelatesTo.EventID == target.ID && m.NewContent != nil && m.NewContent.Body == a[1]
		})
	})
	say("sees file STR containing STR from WHO", "gets a file and downloads it", method((*runner).seeFile))
	say("sees reaction STR to STR from WHO", "gets a reaction to a message", func(ctx context.Context, r *runner, p *Person, a []string) error {
		_, target, err := p.message(a[1])
		if err != nil {
			return err
		}
		_, err = r.see(ctx, p, a[2], "reaction "+a[0], func(e *Seen) bool {
			c, ok := e.Content.Parsed.(*event.ReactionEventContent)
			return ok && e.Type == event.EventReaction && c.RelatesTo.EventID == target.ID && c.RelatesTo.Key == a[0]
		})
		return err
	})
	say("sees STR redacted by WHO", "gets the removal of a message", func(ctx context.Context, r *runner, p *Person, a []string) error {
		_, target, err := p.message(a[0])
		if err != nil {
			return err
		}
		_, err = r.see(ctx, p, a[1], fmt.Sprintf("%q redacted", a[0]), func(e *Seen) bool { return redacts(e, target.ID) })
		return err
	})
	say("sees failure of STR", "is told by its client that a message of its own was not delivered", func(ctx context.Context, r *runner, p *Person, a []string) error {
		_, target, err := p.message(a[0])
		if err != nil {
			return err
		}
		return p.inRoom(ctx, fmt.Sprintf("failure of %q", a[0]), func(v *RoomView) bool {
			return slices.ContainsFunc(v.Timeline, func(e *Seen) bool {
				status, ok := e.Content.Parsed.(*event.BeeperMessageStatusEventContent)
				return ok && status.RelatesTo.EventID == target.ID && strings.HasPrefix(string(status.Status), "FAIL")
			})
		})
	})
	say("never sees STR", "has no message of others with this text, or that fits the /expression/, in any room when the script ends", func(_ context.Context, r *runner, p *Person, a []string) error {
		r.never = append(r.never, func() error { return p.neverSaw(a[0]) })
		return nil
	})
	say("hears from the bot STR", "gets an answer of the bridge's bot that contains the text, or fits the /expression/", func(ctx context.Context, r *runner, p *Person, a []string) error {
		want, err := expr(a[0])
		if err != nil {
			return err
		}
		room, err := p.room(botRoom)
		if err != nil {
			return err
		}
		return p.Await(ctx, "an answer of the bot with "+a[0], func(rooms map[id.RoomID]*RoomView) bool {
			return take(rooms[room], func(e *Seen) bool {
				text, ok := messageText(e.Event)
				return ok && e.Sender != p.UserID && want.MatchString(text)
			}) != nil
		})
	})
	say("learns STR as STR from WHO", "gets a message or notice that fits the /expression/, whose (group) is then known by that name: {name} in later texts stands for it", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return r.learn(ctx, p, "", a)
	})
	say("learns from the bot STR as STR", "gets an answer of the bridge's bot in the chat with it, and learns from it in the same way", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return r.learn(ctx, p, botRoom, a)
	})
	say("sees WHO called STR", "finds that somebody has this display name in the room", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		return p.seeCalled(ctx, a)
	})
	addMembership()
}

// seeCalled waits until somebody has a display name in the current room.
func (p *Person) seeCalled(ctx context.Context, a []string) error {
	who, err := p.world.MXID(p.short, a[0])
	if err != nil {
		return err
	}
	return p.inRoom(ctx, a[0]+" called "+a[1], func(v *RoomView) bool {
		m := v.member(who)
		return m != nil && m.Content.AsMember().Displayname == a[1]
	})
}

// learn waits for a text and keeps a part of it. a is the expression, the name
// and, in a room, who says it.
func (r *runner) learn(ctx context.Context, p *Person, label string, a []string) error {
	want, err := expr(a[0])
	if err != nil {
		return err
	}
	room, err := p.room(label)
	if err != nil {
		return err
	}
	var sender id.UserID
	if len(a) > 2 {
		if sender, err = p.world.MXID(p.short, a[2]); err != nil {
			return err
		}
	}
	return p.Await(ctx, "something to learn with "+a[0], func(rooms map[id.RoomID]*RoomView) bool {
		return take(rooms[room], func(e *Seen) bool {
			text, ok := messageText(e.Event)
			if !ok || e.Sender == p.UserID || sender != "" && e.Sender != sender {
				return false
			}
			found := want.FindStringSubmatch(text)
			if found != nil {
				r.learned["{"+a[1]+"}"] = found[len(found)-1]
			}
			return found != nil
		}) != nil
	})
}

// addMembership adds what people see of a room and its members.
func addMembership() {
	other := func(pattern, help string, want event.Membership) {
		say(pattern, help, func(ctx context.Context, r *runner, p *Person, a []string) error {
			who, err := p.world.MXID(p.short, a[0])
			if err != nil {
				return err
			}
			return p.inRoom(ctx, a[0]+" "+string(want), func(v *RoomView) bool {
				m := v.member(who)
				return m != nil && m.Content.AsMember().Membership == want
			})
		})
	}
	other("sees WHO join", "finds somebody joined", event.MembershipJoin)
	other("sees WHO leave", "finds somebody gone who was there, or uninvited", event.MembershipLeave)
	other("sees WHO invited", "finds somebody invited", event.MembershipInvite)
	other("sees WHO banned", "finds somebody banned", event.MembershipBan)
	other("sees WHO knock", "finds somebody who asks to be let in", event.MembershipKnock)
	oneself := func(pattern, help string, want event.Membership) {
		say(pattern, help, func(ctx context.Context, r *runner, p *Person, _ []string) error {
			return p.inRoom(ctx, "itself "+string(want), func(v *RoomView) bool { return v.Membership == want })
		})
	}
	oneself("is in", "finds oneself joined", event.MembershipJoin)
	oneself("is invited", "finds oneself invited", event.MembershipInvite)
	oneself("is out", "finds oneself gone", event.MembershipLeave)
	oneself("is banned", "finds oneself banned", event.MembershipBan)
	say("sees members WHO...", "finds exactly these people joined, the bot and oneself apart", func(ctx context.Context, r *runner, p *Person, a []string) error {
		want := map[id.UserID]bool{p.UserID: true}
		for _, who := range a {
			mxid, err := p.world.MXID(p.short, who)
			if err != nil {
				return err
			}
			want[mxid] = true
		}
		return p.inRoom(ctx, "members "+strings.Join(a, " "), func(v *RoomView) bool {
			n := 0
			for user := range v.Joined() {
				if strings.HasPrefix(string(user), "@mimibot") {
					continue
				}
				if !want[user] {
					return false
				}
				n++
			}
			return n == len(want)
		})
	})
	say("sees room name STR", "finds the room called so", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return p.inRoom(ctx, "room name "+a[0], func(v *RoomView) bool { return v.Name() == a[0] })
	})
	say("sees topic STR", "finds that topic", func(ctx context.Context, r *runner, p *Person, a []string) error {
		return p.inRoom(ctx, "topic "+a[0], func(v *RoomView) bool { return v.Topic() == a[0] })
	})
	say("sees power NUM of WHO", "finds somebody's power level", func(ctx context.Context, r *runner, p *Person, a []string) error {
		who, err := p.world.MXID(p.short, a[1])
		if err != nil {
			return err
		}
		return p.inRoom(ctx, "power "+a[0]+" of "+a[1], func(v *RoomView) bool {
			e := v.State[event.StatePowerLevels][""]
			return e != nil && fmt.Sprint(e.Content.AsPowerLevels().GetUserLevel(who)) == a[0]
		})
	})
	say("sees WHO type", "sees somebody typing", func(ctx context.Context, r *runner, p *Person, a []string) error {
		who, err := p.world.MXID(p.short, a[0])
		if err != nil {
			return err
		}
		return p.inRoom(ctx, a[0]+" type", func(v *RoomView) bool {
			return slices.ContainsFunc(v.Timeline, func(e *Seen) bool {
				c, ok := e.Content.Parsed.(*event.TypingEventContent)
				return ok && slices.Contains(c.UserIDs, who)
			})
		})
	})
	say("sees STR read by WHO", "sees somebody's read receipt for a message", func(ctx context.Context, r *runner, p *Person, a []string) error {
		read, err := p.readBy(a[0], a[1])
		if err != nil {
			return err
		}
		return p.inRoom(ctx, fmt.Sprintf("%q read by %s", a[0], a[1]), read)
	})
	say("never sees STR read by WHO", "has no read receipt of somebody for this message when the script ends", func(_ context.Context, r *runner, p *Person, a []string) error {
		room, err := p.room("")
		if err != nil {
			return err
		}
		read, err := p.readBy(a[0], a[1])
		if err != nil {
			return err
		}
		r.never = append(r.never, func() error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if read(p.rooms[room]) {
				return fmt.Errorf("%s has seen %q read by %s after all", p.Name, a[0], a[1])
			}
			return nil
		})
		return nil
	})
}

// readBy tells of a view of the current room whether somebody's receipt for a message is in it.
func (p *Person) readBy(text, who string) (func(*RoomView) bool, error) {
	mxid, err := p.world.MXID(p.short, who)
	if err != nil {
		return nil, err
	}
	_, target, err := p.message(text)
	if err != nil {
		return nil, err
	}
	return func(v *RoomView) bool {
		return slices.ContainsFunc(v.Timeline, func(e *Seen) bool {
			c, ok := e.Content.Parsed.(*event.ReceiptEventContent)
			if !ok {
				return false
			}
			_, read := (*c)[target.ID][event.ReceiptTypeRead][mxid]
			return read
		})
	}, nil
}

func edit(m *event.MessageEventContent) bool {
	return m.RelatesTo != nil && m.RelatesTo.Type == event.RelReplace
}

// take returns the first event that fits and that no line has seen yet, and
// counts it as seen.
func take(v *RoomView, fits func(*Seen) bool) *Seen {
	if v == nil {
		return nil
	}
	for _, e := range v.Timeline {
		if !e.used && fits(e) {
			e.used = true
			return e
		}
	}
	return nil
}

// see waits for an event of somebody in the current room.
func (r *runner) see(ctx context.Context, p *Person, who, what string, fits func(*Seen) bool) (*Seen, error) {
	room, err := p.room("")
	if err != nil {
		return nil, err
	}
	sender, err := p.world.MXID(p.short, who)
	if err != nil {
		return nil, err
	}
	if sender == p.UserID {
		return nil, nil // "everybody sees" is about the others
	}
	var found *Seen
	err = p.Await(ctx, what+" from "+who, func(rooms map[id.RoomID]*RoomView) bool {
		found = take(rooms[room], func(e *Seen) bool { return e.Sender == sender && fits(e) })
		return found != nil
	})
	return found, err
}

// seeMessage waits for a message and measures its delay when it is known when
// its text was said.
func (r *runner) seeMessage(ctx context.Context, p *Person, who, what, text string, fits func(*event.MessageEventContent) bool) error {
	found, err := r.see(ctx, p, who, what, func(e *Seen) bool {
		m, ok := e.Content.Parsed.(*event.MessageEventContent)
		return ok && e.Type == event.EventMessage && fits(m)
	})
	if err != nil || found == nil {
		return err
	}
	r.result.Seen++
	for i := len(r.said) - 1; i >= 0; i-- {
		if s := r.said[i]; s.by.called(who) && text != "" && (s.text == text || s.html == text) {
			s.seen = true
			if d := found.At.Sub(s.at); d > r.delay {
				r.delay = d
			}
			r.result.Delays = append(r.result.Delays, found.At.Sub(s.at))
			break
		}
	}
	return nil
}

// called says whether a script means the person by a name: its own, or that of
// its user at a bridge beside its homeserver.
func (p *Person) called(who string) bool {
	if who == p.Name {
		return true
	}
	for _, b := range p.world.bridges {
		if b.plan.Homeserver == p.short && who == "mimi://"+b.plan.Domain+"/u/"+p.local {
			return true
		}
	}
	return false
}

func (r *runner) seeFile(ctx context.Context, p *Person, a []string) error {
	var file *event.MessageEventContent
	err := r.seeMessage(ctx, p, a[2], "file "+a[0], a[0], func(m *event.MessageEventContent) bool {
		file = m
		return m.MsgType == event.MsgFile && m.GetFileName() == a[0]
	})
	if err != nil || file == nil {
		return err
	}
	data, err := p.download(ctx, file)
	if err != nil {
		return err
	}
	if string(data) != a[1] {
		return fmt.Errorf("the file contains %.100q", data)
	}
	return nil
}

// inRoom waits until the current room is as wanted.
func (p *Person) inRoom(ctx context.Context, what string, is func(*RoomView) bool) error {
	room, err := p.room("")
	if err != nil {
		return err
	}
	return p.Await(ctx, what, func(rooms map[id.RoomID]*RoomView) bool { return rooms[room] != nil && is(rooms[room]) })
}

// anyName stands for whatever a room is called.
const anyName = "*"

// seeInvite waits for an invitation and gives the room its name in the script.
// Without a name the room must be a direct chat.
func (p *Person) seeInvite(ctx context.Context, label, name, from string) error {
	var inviter id.UserID
	if from != "" {
		var err error
		if inviter, err = p.world.MXID(p.short, from); err != nil {
			return err
		}
	}
	var room id.RoomID
	err := p.Await(ctx, "an invitation to "+label, func(rooms map[id.RoomID]*RoomView) bool {
		for _, v := range rooms {
			known := p.label(v.ID)
			fits := v.Membership == event.MembershipInvite && (known == string(v.ID) || known == label) &&
				(inviter == "" || v.Inviter == inviter) && (name == "" || name == anyName || known == label || v.Name() == name) && (name != "" || v.Direct)
			if fits {
				room = v.ID
				return true
			}
		}
		return false
	})
	if err == nil {
		p.call(label, room)
	}
	return err
}

// neverSaw demands that no message is the text, or fits it where it is an
// /expression/.
func (p *Person) neverSaw(text string) error {
	is := func(got string) bool { return got == text }
	if len(text) > 1 && text[0] == '/' && text[len(text)-1] == '/' {
		want, err := expr(text)
		if err != nil {
			return err
		}
		is = want.MatchString
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.rooms {
		for _, e := range v.Timeline {
			if got, ok := messageText(e.Event); ok && e.Sender != p.UserID && is(got) {
				return fmt.Errorf("%s has seen %q after all, in %q", p.Name, text, p.label(v.ID))
			}
		}
	}
	return nil
}

// findRoom waits until one is joined to a room with a name.
func (p *Person) findRoom(ctx context.Context, name string) error {
	var room id.RoomID
	err := p.Await(ctx, "itself in "+name, func(rooms map[id.RoomID]*RoomView) bool {
		for _, v := range rooms {
			if v.Membership == event.MembershipJoin && v.Name() == name {
				room = v.ID
			}
		}
		return room != ""
	})
	if err == nil {
		p.call(name, room)
	}
	return err
}

// findDirect waits until a room is marked as a direct chat with somebody.
func (p *Person) findDirect(ctx context.Context, with, label string) error {
	who, err := p.world.MXID(p.short, with)
	if err != nil {
		return err
	}
	for {
		direct := map[id.UserID][]id.RoomID{}
		if err = p.GetAccountData(ctx, "m.direct", &direct); err == nil && len(direct[who]) > 0 {
			p.call(label, direct[who][0])
			return nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s sees no direct chat with %s: %w (m.direct is %v, %v)", p.Name, with, ctx.Err(), direct, err)
		}
	}
}
