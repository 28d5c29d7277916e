package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/matrix-mimi/bridge/internal/tlspl"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// UserRolePair is an entry of the participant list (draft-ietf-mimi-protocol-06 §5.3, UserRolePair).
type UserRolePair struct {
	// User is the user's URI, octet for octet as it was received.
	User string
	// Role is an index into the roles list, never 0 in a stored list.
	Role uint32
}

// ParticipantList is the data of component 0x0022 (draft-ietf-mimi-protocol-06 §5.3, ParticipantListData).
// No user is in it twice. A participant may have no client.
type ParticipantList []UserRolePair

// Marshal encodes the list.
func (l ParticipantList) Marshal() []byte { return appendList(nil, l, appendPair) }

func appendPair(b []byte, p UserRolePair) []byte {
	return tlspl.AppendUint32(tlspl.AppendString(b, p.User), p.Role)
}

func readPair(r *tlspl.Reader) UserRolePair {
	return UserRolePair{User: readURI(r), Role: r.Uint32()}
}

// UnmarshalParticipantList decodes a list and refuses empty users, role 0 and users that are in it twice.
func UnmarshalParticipantList(b []byte) (ParticipantList, error) {
	r := tlspl.NewReader(b)
	l := ParticipantList(readList(r, MaxParticipants, readPair))
	if err := finish("participant_list", r); err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(l))
	for _, p := range l {
		if err := checkNewEntry(p, seen); err != nil {
			return nil, fmt.Errorf("participant_list: %w", err)
		}
	}
	return l, nil
}

func checkNewEntry(p UserRolePair, seen map[string]bool) error {
	switch {
	case p.User == "":
		return malformed("empty user URI")
	case p.Role == 0:
		return malformed("%.200q has role 0", p.User)
	case seen[p.User]:
		return malformed("%.200q is in the list twice", p.User)
	}
	seen[p.User] = true
	return nil
}

// UserindexRolePair gives a new role to the user at an index of the list (UserindexRolePair).
type UserindexRolePair struct {
	Index uint32
	Role  uint32
}

// ParticipantListUpdate is the update of component 0x0022 (draft-ietf-mimi-protocol-06 §5.3,
// ParticipantListUpdate). All indices refer to the list as committed in the epoch, even when one commit has
// several updates: their senders knew no other list.
type ParticipantListUpdate struct {
	ChangedRoles []UserindexRolePair
	Removed      []uint32
	Added        []UserRolePair
}

// Marshal encodes the update.
func (u *ParticipantListUpdate) Marshal() []byte {
	b := appendList(nil, u.ChangedRoles, func(b []byte, p UserindexRolePair) []byte {
		return tlspl.AppendUint32(tlspl.AppendUint32(b, p.Index), p.Role)
	})
	b = appendList(b, u.Removed, tlspl.AppendUint32)
	return appendList(b, u.Added, appendPair)
}

// UnmarshalParticipantListUpdate decodes an update. Whether it fits a list is checked by Changes.
func UnmarshalParticipantListUpdate(b []byte) (*ParticipantListUpdate, error) {
	r := tlspl.NewReader(b)
	u := &ParticipantListUpdate{
		ChangedRoles: readList(r, MaxParticipants, func(r *tlspl.Reader) UserindexRolePair {
			return UserindexRolePair{Index: r.Uint32(), Role: r.Uint32()}
		}),
		Removed: readList(r, MaxParticipants, readUint32),
		Added:   readList(r, MaxParticipants, readPair),
	}
	if err := finish("ParticipantListUpdate", r); err != nil {
		return nil, err
	}
	return u, nil
}

// ParticipantChange is what happens to one user: From 0 is an addition, To 0 a removal.
type ParticipantChange struct {
	User     string
	From, To uint32
}

// errTwice: one user is in two changes of a commit.
var errTwice = errors.New("a user is changed twice")

// Changes resolves the update against the committed list: role changes first, then removals, then additions.
// seen holds the users that other updates of the same commit touch and gets this update's; nil means none.
func (u *ParticipantListUpdate) Changes(list ParticipantList, seen map[string]bool) ([]ParticipantChange, error) {
	if seen == nil {
		seen = make(map[string]bool)
	}
	out := make([]ParticipantChange, 0, len(u.ChangedRoles)+len(u.Removed)+len(u.Added))
	touch := func(c ParticipantChange) error {
		if seen[c.User] {
			return fmt.Errorf("%w: %w: %.200q", ErrMalformed, errTwice, c.User)
		}
		seen[c.User] = true
		out = append(out, c)
		return nil
	}
	at := func(index uint32) (UserRolePair, error) {
		if uint64(index) >= uint64(len(list)) {
			return UserRolePair{}, malformed("index %d into a list of %d participants", index, len(list))
		}
		return list[index], nil
	}
	for _, c := range u.ChangedRoles {
		p, err := at(c.Index)
		if err != nil {
			return nil, err
		}
		if c.Role == 0 {
			return nil, malformed("role change of %.200q to 0", p.User)
		}
		if err := touch(ParticipantChange{p.User, p.Role, c.Role}); err != nil {
			return nil, err
		}
	}
	for _, index := range u.Removed {
		p, err := at(index)
		if err != nil {
			return nil, err
		}
		if err := touch(ParticipantChange{p.User, p.Role, 0}); err != nil {
			return nil, err
		}
	}
	for _, p := range u.Added {
		if p.User == "" || p.Role == 0 {
			return nil, malformed("addition of %.200q in role %d", p.User, p.Role)
		}
		if err := touch(ParticipantChange{p.User, 0, p.Role}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Apply returns the list after all changes, which must come from Changes of the same list with one seen map:
// kept participants in their order, then the added ones in order. It fails when an added user is there already.
func (l ParticipantList) Apply(changes []ParticipantChange) (ParticipantList, error) {
	if len(changes) == 0 {
		return l, nil
	}
	roles := make(map[string]uint32, len(changes))
	added := 0
	for _, c := range changes {
		if c.From == 0 {
			added++
			continue
		}
		roles[c.User] = c.To
	}
	out := make(ParticipantList, 0, len(l)+added)
	in := make(map[string]bool, len(l))
	for _, p := range l {
		in[p.User] = true
		if to, ok := roles[p.User]; ok {
			p.Role = to
		}
		if p.Role != 0 {
			out = append(out, p)
		}
	}
	for _, c := range changes {
		if c.From != 0 {
			continue
		}
		if in[c.User] {
			return nil, malformed("added user %.200q is in the list already", c.User)
		}
		out = append(out, UserRolePair{c.User, c.To})
	}
	if len(out) > MaxParticipants {
		return nil, malformed("%d participants", len(out))
	}
	return out, nil
}

// onceEach says whether nobody is added who is in the list already, or twice, also not in another spelling of the provider's
// name: it is one user however its letters are written (see [wire.IdentifierURI]), and one that is banned must not come
// back under capitals. at is the change that does it.
func onceEach(list ParticipantList, changes []ParticipantChange) (d Decision, at int) {
	var there, added map[string]bool
	for i, c := range changes {
		if c.From != RoleNone {
			continue
		}
		if there == nil {
			there, added = make(map[string]bool, len(list)), make(map[string]bool)
			for _, p := range list {
				there[wire.IdentifierURI(p.User).Key()] = true
			}
		}
		key := wire.IdentifierURI(c.User).Key()
		switch {
		case there[key]:
			return deny(ReasonAlreadyParticipant, "%.200q", c.User), i
		case added[key]:
			return deny(ReasonDuplicate, "%.200q", c.User), i
		}
		added[key] = true
	}
	return allowed, -1
}

// Index returns the position of the user in the list, or -1.
func (l ParticipantList) Index(user string) int {
	return slices.IndexFunc(l, func(p UserRolePair) bool { return p.User == user })
}

// Update returns the update that turns l into want, whose users keep their order. It is nil when there is
// nothing to do.
func (l ParticipantList) Update(want map[string]uint32, added []UserRolePair) *ParticipantListUpdate {
	u := &ParticipantListUpdate{Added: added}
	for i, p := range l {
		switch role, keep := want[p.User]; {
		case !keep || role == 0:
			u.Removed = append(u.Removed, uint32(i))
		case role != p.Role:
			u.ChangedRoles = append(u.ChangedRoles, UserindexRolePair{uint32(i), role})
		}
	}
	if len(u.ChangedRoles)+len(u.Removed)+len(u.Added) == 0 {
		return nil
	}
	return u
}
