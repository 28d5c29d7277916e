package dialogue

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// addEvents adds the words for events that have none of their own: their type and what their content holds, as JSON. In it $[text]
// stands for the id of the message with that text, and @[alice@one] for the id of a user, both as the person sees them.
func addEvents() {
	say("sends STR with STR", "sends an event of a type with a content, as JSON; $[text] in it is the id of a message, @[WHO] that of a user", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		room, content, err := p.content(a[1])
		if err != nil {
			return err
		}
		sent, err := p.SendMessageEvent(ctx, room, event.Type{Type: a[0], Class: event.MessageEventType}, content)
		if err != nil {
			return err
		}
		return p.Await(ctx, "its own event", func(rooms map[id.RoomID]*RoomView) bool { return rooms[room] != nil && rooms[room].has(sent.EventID) })
	})
	say("sees STR with STR from WHO", "gets an event of a type whose content holds at least this; null stands for what is not there", func(ctx context.Context, r *runner, p *Person, a []string) error {
		_, want, err := p.content(a[1])
		if err != nil {
			return err
		}
		_, err = r.see(ctx, p, a[2], a[0]+" with "+a[1], func(e *Seen) bool { return e.Type.Type == a[0] && holds(raw(e.Event), want) })
		return err
	})
	say("sets STR to STR", "sends a state event of a type with a content, as JSON", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		room, content, err := p.content(a[1])
		if err != nil {
			return err
		}
		_, err = p.SendStateEvent(ctx, room, event.Type{Type: a[0], Class: event.StateEventType}, "", content)
		return err
	})
	say("sees state STR with STR", "finds a state event of a type whose content holds at least this", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		_, want, err := p.content(a[1])
		if err != nil {
			return err
		}
		return p.inRoom(ctx, "state "+a[0]+" with "+a[1], func(v *RoomView) bool {
			for typ, byKey := range v.State {
				if e := byKey[""]; typ.Type == a[0] && e != nil && holds(raw(e), want) {
					return true
				}
			}
			return false
		})
	})
	say("withdraws STR from STR", "takes a reaction of its own to a message back", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		room, reaction, err := p.reaction(a[0], a[1], p.UserID)
		if err != nil {
			return err
		}
		_, err = p.RedactEvent(ctx, room, reaction)
		return err
	})
	say("sees STR withdrawn from STR by WHO", "gets the withdrawal of a reaction that it has seen", func(ctx context.Context, r *runner, p *Person, a []string) error {
		who, err := p.world.MXID(p.short, a[2])
		if err != nil {
			return err
		}
		_, reaction, err := p.reaction(a[0], a[1], who)
		if err != nil {
			return err
		}
		_, err = r.see(ctx, p, a[2], fmt.Sprintf("%s withdrawn from %q", a[0], a[1]), func(e *Seen) bool { return redacts(e, reaction) })
		return err
	})
	say("replaces the room by STR", "upgrades the room: it goes on in a new one, by that name in the script", func(ctx context.Context, _ *runner, p *Person, a []string) error {
		room, err := p.room("")
		if err != nil {
			return err
		}
		var made struct {
			Room id.RoomID `json:"replacement_room"`
		}
		url := p.BuildURL(mautrix.ClientURLPath{"v3", "rooms", room, "upgrade"})
		if _, err := p.MakeRequest(ctx, http.MethodPost, url, map[string]string{"new_version": "10"}, &made); err != nil {
			return err
		}
		p.call(a[0], made.Room)
		return p.awaitOwn(ctx, made.Room, event.MembershipJoin)
	})
}

var (
	eventRef = regexp.MustCompile(`\$\[([^\]]*)\]`)
	userRef  = regexp.MustCompile(`@\[([^\]]*)\]`)
)

// content reads a content from a script, for the room that the person is in.
func (p *Person) content(text string) (id.RoomID, map[string]any, error) {
	room, err := p.room("")
	if err != nil {
		return "", nil, err
	}
	text = eventRef.ReplaceAllStringFunc(text, func(ref string) string {
		_, seen, bad := p.message(ref[2 : len(ref)-1])
		if bad != nil {
			err = bad
			return ref
		}
		return string(seen.ID)
	})
	text = userRef.ReplaceAllStringFunc(text, func(ref string) string {
		mxid, bad := p.world.MXID(p.short, ref[2:len(ref)-1])
		if bad != nil {
			err = bad
		}
		return string(mxid)
	})
	if err != nil {
		return "", nil, err
	}
	var content map[string]any
	if err := json.Unmarshal([]byte(text), &content); err != nil {
		return "", nil, fmt.Errorf("read the content %s: %w", text, err)
	}
	return room, content, nil
}

// reaction finds somebody's newest reaction to the last message with a text in the current room.
func (p *Person) reaction(key, text string, who id.UserID) (id.RoomID, id.EventID, error) {
	room, target, err := p.message(text)
	if err != nil {
		return "", "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range slices.Backward(p.rooms[room].Timeline) {
		if c, ok := e.Content.Parsed.(*event.ReactionEventContent); ok && e.Sender == who && c.RelatesTo.EventID == target.ID && c.RelatesTo.Key == key {
			return room, e.ID, nil
		}
	}
	return "", "", fmt.Errorf("%s has seen no %s of %s to %q", p.Name, key, who, text)
}

// redacts tells whether an event is the redaction of another.
func redacts(e *Seen, target id.EventID) bool {
	return e.Type == event.EventRedaction && (e.Redacts == target || e.Content.AsRedaction().Redacts == target)
}

// raw is an event's content as it came.
func raw(e *event.Event) map[string]any {
	var content map[string]any
	_ = json.Unmarshal(e.Content.VeryRaw, &content)
	return content
}

// holds tells whether a value has everything that is wanted: members of objects may be more, what is null is not there, all else
// is the same.
func holds(got, want any) bool {
	w, ok := want.(map[string]any)
	if !ok {
		return reflect.DeepEqual(got, want)
	}
	g, ok := got.(map[string]any)
	if !ok {
		return false
	}
	for key, value := range w {
		have, there := g[key]
		if value == nil && !there {
			continue
		}
		if !there || !holds(have, value) {
			return false
		}
	}
	return true
}
