package client

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// repeatWindow is how many of the sender's last events of a room are looked through before a send is repeated.
const repeatWindow = 50

// marks are what tells one event of ours from all others: the mark of the MIMI message that it shows, or its own
// ciphertext, which is the same at every try (see Encrypter).
type marks struct {
	Origin     json.RawMessage `json:"im.mimi.message"`
	Ciphertext json.RawMessage `json:"ciphertext"`
}

func (m marks) same(other marks) bool {
	return len(m.Origin) > 0 && sameJSON(m.Origin, other.Origin) || len(m.Ciphertext) > 0 && sameJSON(m.Ciphertext, other.Ciphertext)
}

// sent looks for an event that an earlier try of the same row made. A homeserver that stops between taking an event
// and answering forgets the transaction id (Dendrite keeps them in memory, Synapse for a day), so that the same
// request again would make a second event. It returns nil when there is none and the event may be sent. Content
// without a mark cannot be told apart and is sent again.
func (c *Client) sent(ctx context.Context, room id.RoomID, sender id.UserID, typ string, content json.RawMessage) *Result {
	var want marks
	if json.Unmarshal(content, &want) != nil || len(want.Origin) == 0 && len(want.Ciphertext) == 0 {
		return nil
	}
	filter, err := json.Marshal(map[string]any{"senders": []id.UserID{sender}, "types": []string{typ}})
	if err != nil {
		return nil
	}
	r := c.request(ctx, sender, http.MethodGet, mautrix.ClientURLPath{"v3", "rooms", room, "messages"},
		map[string]string{"dir": "b", "limit": strconv.Itoa(repeatWindow), "filter": string(filter)}, nil)
	if r.Class == Retry {
		return &r
	}
	var page struct {
		Chunk []struct {
			ID      string          `json:"event_id"`
			Type    string          `json:"type"`
			Sender  id.UserID       `json:"sender"`
			Content json.RawMessage `json:"content"`
		} `json:"chunk"`
	}
	if r.Class != Done || json.Unmarshal(r.Body, &page) != nil {
		return nil
	}
	for _, ev := range page.Chunk {
		var have marks
		if ev.Sender == sender && ev.Type == typ && json.Unmarshal(ev.Content, &have) == nil && want.same(have) {
			found := done(map[string]any{"event_id": ev.ID})
			return &found
		}
	}
	return nil
}

// moved tells whether an earlier try of a change of membership was carried out, when that cannot be told from its
// answer: the membership is as wanted, or whoever was in the room when the change was decided (was) is not now. Somebody
// who left and was invited again meanwhile must not leave once more. nil means that the change is to be tried.
func (c *Client) moved(ctx context.Context, room id.RoomID, target id.UserID, was event.Membership, wanted ...event.Membership) *Result {
	now, known := c.current(ctx, room, target)
	if !known && c.cfg.IsGhost(target) && was == event.Join {
		// The bot is not in the room. A ghost that may not look at it is not in it either.
		r := c.raw(ctx, target, http.MethodGet, mautrix.ClientURLPath{"v3", "rooms", room, "state", event.TypeMember, target}, nil, nil)
		if r.Class == Retry {
			return &r
		}
		if now, known = event.Leave, true; r.Class == Done {
			now = event.Membership(r.field("membership"))
		}
	}
	if !known || !slices.Contains(wanted, now) && (was != event.Join || now == event.Join) {
		return nil
	}
	there := done(map[string]any{"already": true})
	return &there
}

// overtaken tells whether a state event that may have been sent before must not be sent again: the room has neither what
// it is to replace nor, perhaps, what it says, because somebody has changed it since. nil means that it is to be sent.
func (c *Client) overtaken(ctx context.Context, room id.RoomID, a event.State) *Result {
	if len(a.Was) == 0 {
		return nil
	}
	r := c.request(ctx, a.Sender, http.MethodGet, mautrix.ClientURLPath{"v3", "rooms", room, "state", a.Type, a.Key}, nil, nil)
	switch {
	case r.Class == Retry:
		return &r
	case r.Code == "M_NOT_FOUND":
		r.Body = []byte(`{}`)
	case r.Class != Done:
		return nil // the answer to the event itself tells more
	}
	if has(r.Body, a.Was) {
		return nil
	}
	there := done(map[string]any{"overtaken": true})
	return &there
}

// has tells whether an object has certain members. An empty text is as good as none.
func has(object, members json.RawMessage) bool {
	var have, want map[string]json.RawMessage
	if json.Unmarshal(object, &have) != nil || json.Unmarshal(members, &want) != nil {
		return false
	}
	for key, value := range want {
		got := have[key]
		if got == nil {
			got = json.RawMessage(`""`)
		}
		if !sameJSON(got, value) {
			return false
		}
	}
	return true
}

// sameJSON compares two values regardless of the order of keys and of white space.
func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
