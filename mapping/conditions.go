package mapping

import (
	"encoding/json"
	"math"
	"strings"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

func quote(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return json.RawMessage(`""`)
	}
	return b
}

// HistoryPolicy maps m.room.history_visibility for a hub room. Nothing is ever
// shared by the bridge itself; the policy says what members may do.
func HistoryPolicy(visibility string, roles policy.RoleData) policy.HistoryPolicy {
	switch visibility {
	case "shared", "world_readable", "":
	default:
		return policy.HistoryPolicy{Sharing: policy.Forbidden}
	}
	h := policy.HistoryPolicy{Sharing: policy.Optional, MaxPeriod: math.MaxUint32}
	for _, r := range roles {
		if r.Index > policy.RoleBanned && r.MayBeActive() && r.Has(policy.CanReceiveMessage) {
			h.Roles = append(h.Roles, r.Index)
		}
	}
	return h
}

// HistoryVisibility maps the policy of a room for its portal: never
// world_readable.
func HistoryVisibility(h policy.HistoryPolicy) string {
	if h.Sharing == policy.Forbidden {
		return "joined"
	}
	return "shared"
}

// JoinRule maps who may come in by itself, for a portal: public only when the
// room may be found, too.
func JoinRule(s *policy.State) string {
	if r := s.Role(policy.RoleNone); r != nil && r.Has(policy.CanOpenJoin) && s.Base.Discoverable {
		return "public"
	}
	return "invite"
}

// Expiration maps m.room.retention for a hub room: messages may ask to go
// sooner than the room forgets them.
func Expiration(maxAgeMS int64) (policy.MessageExpiration, bool) {
	if maxAgeMS <= 0 {
		return policy.MessageExpiration{}, false
	}
	seconds := min(max(1, maxAgeMS/1000), math.MaxUint32)
	return policy.MessageExpiration{Expiring: policy.Optional, Min: 1, Max: uint32(seconds)}, true
}

// Retention maps the policy for a portal: the m.room.retention content, nil for
// none, and the expiry in seconds that messages from Matrix must carry, 0 for none.
func Retention(x policy.MessageExpiration) (content []byte, demanded uint32) {
	if x.Expiring == policy.Forbidden || x.Max == 0 {
		return nil, 0
	}
	if x.Expiring == policy.Required {
		demanded = x.Max
		if x.DefaultAfter != nil && *x.DefaultAfter > 0 {
			demanded = *x.DefaultAfter
		}
	}
	b, err := json.Marshal(map[string]int64{"max_lifetime": int64(x.Max) * 1000})
	if err != nil {
		return nil, demanded
	}
	return b, demanded
}

// Unbridgeable says why a Matrix room cannot be joined to MIMI, or "".
// Operators may override what is only unwise.
func Unbridgeable(m event.Room) (reason string, unwise bool) {
	switch {
	case m.Create.Type == "m.space":
		return "a space is no conversation", false
	case m.Successor != "":
		return "the room was replaced by another", false
	case m.History == "world_readable":
		return "everybody can read the room without being in it", true
	}
	return "", false
}

// Told is what the bridge tells the people of a portal about a room's policy
// once: that it is logged.
func Told(s *policy.State) []string {
	if s.Logging.Active() {
		return []string{"Messages in this room are logged."}
	}
	return nil
}

// StatusTold is what people are told of a room's status notification policy, ""
// when it leaves them the choice.
func StatusTold(p policy.StatusNotificationPolicy) string {
	var out []string
	switch p.ReadReceipts {
	case policy.Required:
		out = append(out, "This room asks everybody to tell what they have read: read receipts are sent on, private ones, too.")
	case policy.Forbidden:
		out = append(out, "Read receipts are not sent on in this room.")
	}
	if p.DeliveryNotifications == policy.Required {
		out = append(out, "This room asks everybody's provider to tell when messages have arrived.")
	}
	return strings.Join(out, " ")
}
