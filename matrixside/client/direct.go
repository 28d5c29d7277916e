package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
)

// typeDirect is the account data that says which rooms are direct chats.
const typeDirect = "m.direct"

// markDirect adds a room to m.direct of a user. What the user's clients write
// between our reading and writing is lost: the API has no way to add to it. A
// room that is there already is not written again.
func (c *Client) markDirect(ctx context.Context, k call) Result {
	a, bad := read[event.MarkDirect](k)
	if bad != nil {
		return *bad
	}
	path := mautrix.ClientURLPath{"v3", "user", a.User, "account_data", typeDirect}
	had := c.raw(ctx, a.User, http.MethodGet, path, nil, nil)
	direct := map[id.UserID]json.RawMessage{} // values that are no lists stay as they are
	switch {
	case had.Code == "M_NOT_FOUND":
	case had.Class != Done:
		return had
	default:
		if err := json.Unmarshal(had.Body, &direct); err != nil {
			return refused("M_BAD_JSON", fmt.Errorf("mark direct chat: read %s: %w", typeDirect, err))
		}
	}
	changed := false
	for _, with := range a.With {
		var rooms []id.RoomID
		if raw, ok := direct[with]; ok && json.Unmarshal(raw, &rooms) != nil {
			continue
		}
		if slices.Contains(rooms, k.Room) {
			continue
		}
		list, err := json.Marshal(append(rooms, k.Room))
		if err != nil {
			return refused("M_BAD_JSON", fmt.Errorf("mark direct chat: %w", err))
		}
		direct[with], changed = list, true
	}
	if !changed {
		return done(struct{}{})
	}
	return c.raw(ctx, a.User, http.MethodPut, path, nil, direct)
}
