package mapping

import (
	"fmt"
	"slices"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// maxRungs bounds the roles made of power levels; further levels are rounded
// down.
const maxRungs = 100

// firstRole is the first index of roles made of levels. Below are the fixed
// ones: none, banned, muted and the bridge.
const firstRole = policy.RoleMember

// Ranks remembers which role index stands for which power level of a room. It
// is stored with the room: an index never gets another meaning.
type Ranks struct {
	Index map[int64]uint32 `json:"index,omitempty"`
	Next  uint32           `json:"next,omitempty"`
}

func (r *Ranks) index(level int64) uint32 {
	if n, ok := r.Index[level]; ok {
		return n
	}
	if r.Index == nil {
		r.Index = map[int64]uint32{}
	}
	r.Next = max(r.Next, firstRole)
	n := r.Next
	r.Index[level] = n
	r.Next++
	return n
}

// Hierarchy is a Matrix room's order of power as MIMI roles.
type Hierarchy struct {
	// Roles are the definitions for the room's policy.
	Roles policy.RoleData
	// Newcomer is the role of users without a level of their own.
	Newcomer uint32
	rungs    []levelRung // from the lowest
}

// levelRung is a role with the levels that it stands for.
type levelRung struct {
	low   int64 // the lowest level in the role
	level int64 // the level to be given to somebody who gets the role
	index uint32
	caps  []policy.Capability
}

// HubOptions are what else decides about the roles of a room whose Matrix side
// leads.
type HubOptions struct {
	// JoinRule is the Matrix join rule.
	JoinRule string
	// JoinCodes says that joining codes may be used.
	JoinCodes bool
	// Encrypted says that the Matrix room is encrypted: sending needs another level then.
	Encrypted bool
}

// Hierarchy makes one role of each distinct power level in use: the default and
// those of the given users (all whom MIMI knows, without the bridge's bot). Two
// neighbouring levels with the same rights, none of them over others, share a
// role. Nobody gets a right that the level does not have on Matrix (docs/mapping.md §5).
func (r *Ranks) Hierarchy(p event.PowerLevels, levels []int64, o HubOptions) Hierarchy {
	all := append([]int64{p.UsersDefault}, levels...)
	slices.Sort(all)
	all = slices.Compact(all)
	for len(all) > maxRungs { // round the topmost but one down: rights shrink
		all = slices.Delete(all, len(all)-2, len(all)-1)
	}
	r.index(p.UsersDefault) // the ordinary role has the first index
	var h Hierarchy
	for _, l := range all {
		caps := levelCapabilities(p, l, o)
		if n := len(h.rungs) - 1; n >= 0 && sameRights(h.rungs[n].caps, caps) {
			if l == p.UsersDefault {
				h.rungs[n].level = l
			}
			continue
		}
		h.rungs = append(h.rungs, levelRung{low: l, level: l, caps: caps})
	}
	for i := range h.rungs {
		h.rungs[i].index = r.index(h.rungs[i].level)
	}
	h.addMuted(p)
	h.Newcomer = h.RoleOf(p.UsersDefault)
	var outside []policy.Capability
	if o.JoinRule == "public" {
		outside = append(outside, policy.CanOpenJoin)
	}
	if o.JoinCodes {
		outside = append(outside, policy.CanUseJoinCode)
	}
	var rungs []policy.Rung
	for _, g := range h.rungs {
		rungs = append(rungs, policy.Rung{Index: g.index, Name: g.name(p), Description: g.description(), Capabilities: g.caps})
	}
	h.Roles = policy.Ladder(outside, h.Newcomer, rungs)
	h.restrict(p)
	return h
}

// addMuted puts a role below all others for people who may only read, unless
// the lowest level is that already.
func (h *Hierarchy) addMuted(p event.PowerLevels) {
	lowest := h.rungs[0]
	if !slices.Contains(lowest.caps, policy.CanSendMessage) && !over(lowest.caps) {
		return
	}
	level := min(lowest.low, p.Event(event.TypeMessage), p.Event(event.TypeEncrypted), p.Event(event.TypeReaction), p.Kick, p.Ban, p.Redact, p.Invite, p.StateDefault)
	for _, n := range p.Events {
		level = min(level, n)
	}
	h.rungs = slices.Insert(h.rungs, 0, levelRung{low: level - 1, level: level - 1, index: policy.RoleMuted, caps: policy.ReadingCapabilities()})
}

// restrict takes away what a ladder of roles allows and Matrix does not: nobody
// is made a creator of a room.
func (h *Hierarchy) restrict(p event.PowerLevels) {
	creator := h.RoleOf(event.CreatorLevel)
	if len(p.Creators) == 0 || h.levelOf(creator) != event.CreatorLevel {
		return
	}
	for i := range h.Roles {
		changes := h.Roles[i].AuthorizedChanges
		for j := range changes {
			changes[j].Targets = slices.DeleteFunc(changes[j].Targets, func(t uint32) bool { return t == creator })
		}
		h.Roles[i].AuthorizedChanges = slices.DeleteFunc(changes, func(c policy.RoleChangeTargets) bool { return len(c.Targets) == 0 })
	}
}

// RoleOf is the role of a power level. A level that is not in use is rounded
// down.
func (h Hierarchy) RoleOf(level int64) uint32 {
	role := h.rungs[0].index
	for _, g := range h.rungs {
		if g.low <= level {
			role = g.index
		}
	}
	return role
}

// LevelOf is the power level of somebody who is given a role. ok is false for a
// role that has none: banned, the bridge's own, that of creators, and unknown ones.
func (h Hierarchy) LevelOf(role uint32) (level int64, ok bool) {
	for _, g := range h.rungs {
		if g.index == role {
			return g.level, g.level != event.CreatorLevel
		}
	}
	return 0, false
}

func (h Hierarchy) levelOf(role uint32) int64 {
	for _, g := range h.rungs {
		if g.index == role {
			return g.level
		}
	}
	return 0
}

func (g levelRung) name(p event.PowerLevels) string {
	switch {
	case g.index == policy.RoleMuted:
		return "muted"
	case g.level == event.CreatorLevel:
		return "creator"
	case g.level == p.UsersDefault:
		return "member"
	case g.level == 50:
		return "moderator"
	case g.level == 100:
		return "admin"
	}
	return fmt.Sprintf("level %d", g.level)
}

func (g levelRung) description() string {
	switch {
	case g.index == policy.RoleMuted:
		return "May read"
	case g.level == event.CreatorLevel:
		return "Made the Matrix room"
	}
	return fmt.Sprintf("Matrix power level %d", g.level)
}

// over tells whether capabilities give power over others.
func over(caps []policy.Capability) bool {
	for _, c := range []policy.Capability{policy.CanRemoveParticipant, policy.CanBan, policy.CanUnBan, policy.CanChangeUserRole} {
		if slices.Contains(caps, c) {
			return true
		}
	}
	return false
}

func sameRights(a, b []policy.Capability) bool {
	return slices.Equal(a, b) && !over(a)
}

// levelCapabilities is what a power level may do (docs/mapping.md §5). canKick is
// given to nobody: removing clients knows no order of rank, kicking on Matrix does.
func levelCapabilities(p event.PowerLevels, l int64, o HubOptions) []policy.Capability {
	caps := policy.ReadingCapabilities()
	give := func(ok bool, c ...policy.Capability) {
		if ok {
			caps = append(caps, c...)
		}
	}
	message := p.Event(event.TypeMessage)
	reaction := p.Event(event.TypeReaction)
	if o.Encrypted {
		message = max(message, p.Event(event.TypeEncrypted))
		reaction = max(reaction, p.Event(event.TypeEncrypted))
	}
	redaction := p.Event(event.TypeRedaction)
	change := p.State(event.TypePowerLevels)
	give(l >= message, policy.WritingCapabilities()...)
	give(l >= reaction, policy.CanReactToMessage, policy.CanEditReaction)
	give(l >= redaction, policy.CanDeleteOwnMessage, policy.CanDeleteOwnReaction)
	give(l >= max(p.Redact, redaction), policy.CanDeleteOtherMessage, policy.CanDeleteOtherReaction)
	give(l >= p.Invite, policy.CanAddParticipant)
	give(l >= p.Kick, policy.CanRemoveParticipant)
	give(l >= p.Ban, policy.CanBan)
	// Matrix leaves somebody who is unbanned outside; MIMI takes them in again.
	give(l >= max(p.Ban, p.Kick, p.Invite), policy.CanUnBan)
	give(l >= change, policy.CanChangeUserRole)
	give(l >= p.State(event.TypeName), policy.CanChangeRoomName)
	give(l >= p.State(event.TypeAvatar), policy.CanChangeRoomAvatar)
	give(l >= p.State(event.TypeTopic), policy.CanChangeRoomSubject, policy.CanChangeRoomDescription, policy.CanChangeRoomMood)
	give(l >= max(p.Invite, p.State(event.TypeJoinRules)), policy.CanCreateJoinCode, policy.CanDeleteJoinCode)
	return caps
}
