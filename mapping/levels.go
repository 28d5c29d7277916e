package mapping

import (
	"cmp"
	"slices"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/policy"
)

// Levels of a portal.
const (
	// LevelBot is the bridge's bot and whatever only it may do.
	LevelBot int64 = 100
	// levelTop is the first level of roles that decide about the room itself.
	levelTop int64 = 90
	// levelModerator is the first level of roles with power over others.
	levelModerator int64 = 50
	levelMember    int64 = 0
	levelMuted     int64 = -1
)

// maxLevelUsers bounds the users named in power levels: the event must fit
// 65,535 octets.
const maxLevelUsers = 400

// Standing is the order of a MIMI room's roles as power levels of its portal.
type Standing struct {
	roles  policy.RoleData
	levels map[uint32]int64
}

// classes of roles, lowest first.
const (
	classMuted = iota
	classMember
	classModerator
	classTop
)

// NewStanding orders the roles of a room by who may put down whom, and gives
// each a power level below the bot's (docs/mapping.md §5).
func NewStanding(roles policy.RoleData) Standing {
	s := Standing{roles: roles, levels: map[uint32]int64{}}
	var nodes []uint32
	for _, r := range roles {
		if r.Index != policy.RoleNone && !(r.Index == policy.RoleBanned && r.Name == policy.BannedName) {
			nodes = append(nodes, r.Index)
		}
	}
	rank := s.rank(nodes)
	type key struct{ class, rank int }
	byClass := map[int][]int{}
	for _, n := range nodes {
		k := key{s.class(n), rank[n]}
		byClass[k.class] = append(byClass[k.class], k.rank)
	}
	for c := range byClass {
		slices.Sort(byClass[c])
		byClass[c] = slices.Compact(byClass[c])
	}
	for _, n := range nodes {
		class := s.class(n)
		place := slices.Index(byClass[class], rank[n])
		s.levels[n] = spread(class, place, len(byClass[class]))
	}
	return s
}

// spread is the level of the place-th of n ranks of a class.
func spread(class, place, n int) int64 {
	between := func(from, to, step int64) int64 {
		if int64(n-1)*step <= to-from {
			return from + int64(place)*step
		}
		return from + int64(place)*(to-from)/int64(n-1)
	}
	switch class {
	case classMuted:
		return levelMuted
	case classMember:
		return between(levelMember, levelModerator-1, 5)
	case classModerator:
		return between(levelModerator, levelTop-1, 10)
	}
	return between(levelTop, LevelBot-1, 3)
}

func (s Standing) class(index uint32) int {
	r := s.roles.Role(index)
	has := func(list ...policy.Capability) bool {
		return slices.ContainsFunc(list, func(c policy.Capability) bool { return r.Has(c) })
	}
	switch {
	case !has(policy.CanSendMessage):
		if has(policy.CanChangeRoleDefinitions, policy.CanDestroyRoom) { // a policy enforcer that does not write
			return classTop
		}
		return classMuted
	case has(policy.CanChangeRoleDefinitions, policy.CanDestroyRoom):
		return classTop
	case has(policy.CanDeleteOtherMessage, policy.CanDeleteOtherReaction, policy.CanRemoveParticipant, policy.CanBan, policy.CanKick, policy.CanChangeUserRole):
		return classModerator
	}
	return classMember
}

// above tells whether a's authorised changes can put down somebody in b.
func (s Standing) above(a, b uint32) bool {
	r := s.roles.Role(a)
	for _, t := range r.AuthorizedChanges {
		if t.From != b {
			continue
		}
		for _, to := range t.Targets {
			switch {
			case to == policy.RoleNone && r.Has(policy.CanRemoveParticipant),
				to == policy.RoleBanned && r.Has(policy.CanBan),
				to != policy.RoleNone && to != policy.RoleBanned && r.Has(policy.CanChangeUserRole):
				return true
			}
		}
	}
	return false
}

// rank numbers the roles from below. Roles that can put each other down, also
// in a ring, share a rank.
func (s Standing) rank(nodes []uint32) map[uint32]int {
	reach := map[uint32]map[uint32]bool{}
	for _, a := range nodes {
		reach[a] = map[uint32]bool{}
		stack := []uint32{a}
		for len(stack) > 0 {
			x := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			for _, b := range nodes {
				if b != x && s.above(x, b) && !reach[a][b] {
					reach[a][b] = true
					stack = append(stack, b)
				}
			}
		}
	}
	rank := map[uint32]int{}
	// The rank of a role is how many groups of equals are one below the other beneath it.
	for range nodes {
		changed := false
		for _, a := range nodes {
			for b := range reach[a] {
				if reach[b][a] {
					if rank[a] < rank[b] {
						rank[a], changed = rank[b], true
					}
				} else if rank[a] <= rank[b] {
					rank[a], changed = rank[b]+1, true
				}
			}
		}
		if !changed {
			break
		}
	}
	return rank
}

// RoleFor is the role that an actor means who gives somebody in role from a
// power level: of the roles at that level the one that the actor's role may
// give, the lowest index first. ok is false when there is none.
func (s Standing) RoleFor(level int64, actor, from uint32) (role uint32, ok bool) {
	me := s.roles.Role(actor)
	if me == nil {
		return 0, false
	}
	for _, r := range s.roles {
		if l, known := s.levels[r.Index]; !known || l != level || !me.MayMove(from, r.Index) {
			continue
		}
		if !ok || r.Index < role {
			role, ok = r.Index, true
		}
	}
	return role, ok
}

// threshold is the lowest level at and above which every role has one of the
// capabilities; the bot's if there is none. So a level on Matrix never gives
// what the role does not have.
func (s Standing) threshold(caps ...policy.Capability) int64 {
	best := LevelBot
	lacks := levelMuted - 1
	for index, level := range s.levels {
		r := s.roles.Role(index)
		if !slices.ContainsFunc(caps, func(c policy.Capability) bool { return r.Has(c) }) {
			lacks = max(lacks, level)
		}
	}
	for _, level := range s.levels {
		if level > lacks && level < best {
			best = level
		}
	}
	return best
}

// PowerLevels is the event for a portal: the thresholds and every participant
// whose level differs from the default. mxid names participants; those it does
// not know are left out. The bot, and nobody else, has [LevelBot].
func (s Standing) PowerLevels(list policy.ParticipantList, bot id.UserID, mxid func(uri string) (id.UserID, bool)) event.PowerLevels {
	message := s.threshold(policy.CanSendMessage)
	p := event.PowerLevels{
		Users: map[id.UserID]int64{}, EventsDefault: message, StateDefault: LevelBot,
		Invite: s.threshold(policy.CanAddParticipant), Kick: s.threshold(policy.CanRemoveParticipant), Ban: s.threshold(policy.CanBan),
		Redact: s.threshold(policy.CanDeleteOtherMessage), NotifyRoom: s.threshold(policy.CanRemoveParticipant),
		Events: map[string]int64{
			event.TypeMessage: message, event.TypeEncrypted: message, event.TypeSticker: message,
			event.TypeReaction:    s.threshold(policy.CanReactToMessage),
			event.TypeRedaction:   s.threshold(policy.CanDeleteOwnMessage),
			event.TypeName:        s.threshold(policy.CanChangeRoomName),
			event.TypeAvatar:      s.threshold(policy.CanChangeRoomAvatar),
			event.TypeTopic:       max(s.threshold(policy.CanChangeRoomSubject), s.threshold(policy.CanChangeRoomDescription)),
			event.TypeMood:        s.threshold(policy.CanChangeRoomMood),
			event.TypePowerLevels: s.threshold(policy.CanChangeUserRole),
		},
	}
	p.UsersDefault = s.usual(list)
	s.nameUsers(&p, list, mxid)
	if len(p.Users) > maxLevelUsers {
		// Whoever is not named must not gain by it: the default becomes the lowest.
		for _, l := range s.levels {
			p.UsersDefault = min(p.UsersDefault, l)
		}
		s.nameUsers(&p, list, mxid)
		s.keepHighest(&p)
	}
	p.Users[bot] = LevelBot
	return p
}

// usual is the level of the role that most participants have, of those without power over others: whoever comes in has it
// until the next event says otherwise.
func (s Standing) usual(list policy.ParticipantList) int64 {
	count := map[int64]int{}
	for _, u := range list {
		if l, ok := s.levels[u.Role]; ok && l < levelModerator {
			count[l]++
		}
	}
	best, most := levelMember, 0
	for l, n := range count {
		if n > most || n == most && l < best {
			best, most = l, n
		}
	}
	return best
}

func (s Standing) nameUsers(p *event.PowerLevels, list policy.ParticipantList, mxid func(string) (id.UserID, bool)) {
	clear(p.Users)
	for _, u := range list {
		l, known := s.levels[u.Role]
		m, ok := mxid(u.User)
		if known && ok && l != p.UsersDefault {
			p.Users[m] = l
		}
	}
}

func (s Standing) keepHighest(p *event.PowerLevels) {
	users := make([]id.UserID, 0, len(p.Users))
	for u := range p.Users {
		users = append(users, u)
	}
	slices.SortFunc(users, func(a, b id.UserID) int {
		return cmp.Or(cmp.Compare(p.Users[b], p.Users[a]), cmp.Compare(a, b))
	})
	for _, u := range users[min(len(users), maxLevelUsers):] {
		delete(p.Users, u)
	}
}

// LevelChange is a change of one user's power level.
type LevelChange struct {
	User     id.UserID
	From, To int64
}

// LevelChanges lists the users whose level differs between two events, in the
// order of their identifiers, and whether anything else differs: thresholds,
// the default.
func LevelChanges(before, after event.PowerLevels) (users []LevelChange, thresholds bool) {
	seen := map[id.UserID]bool{}
	for _, m := range []map[id.UserID]int64{before.Users, after.Users} {
		for u := range m {
			if seen[u] {
				continue
			}
			seen[u] = true
			if from, to := before.User(u), after.User(u); from != to {
				users = append(users, LevelChange{u, from, to})
			}
		}
	}
	slices.SortFunc(users, func(a, b LevelChange) int { return cmp.Compare(a.User, b.User) })
	a, b := before, after
	a.Users, b.Users = nil, nil
	return users, !a.Equal(b)
}
