package policy

import (
	"fmt"
	"slices"
)

// Logic is what an AppDataUpdate makes of a component: the data after applying, in commit order, all updates
// that one commit has for it (draft-ietf-mls-extensions-10 §4.7). current is nil when the room does not have
// the component. It fails when no commit may hold these updates, whoever sends them; whether their senders
// may make them is for [JudgeCommit]. It does not modify its arguments, and the result does not alias them.
type Logic func(current []byte, updates [][]byte) ([]byte, error)

// Apply calls l.
func (l Logic) Apply(current []byte, updates [][]byte) ([]byte, error) { return l(current, updates) }

// Components returns the logic of every component that this package knows, by component id.
//
// The participant list and the join links have updates of their own form; for all others an update is the new
// data. Data that this package can read without doubt is checked; in components whose structure the draft
// leaves unclear (0x0024, 0x0028, 0x0029, 0x002B to 0x0030) and in those of the MLS extensions (0x0001 to
// 0x0003) it is taken as it is, so that another reading of the draft does not split the group. [JudgeCommit]
// is strict with them for the hub.
func Components() map[uint16]Logic {
	any := func([]byte) error { return nil }
	out := map[uint16]Logic{
		ComponentParticipants: applyParticipants,
		ComponentJoinLinks:    applyJoinLinks,
		ComponentMetadata: replace("room_metadata", MaxComponent, true, func(b []byte) error {
			_, err := UnmarshalRoomMetaData(b)
			return err
		}),
		ComponentRoles: replace("roles_list", MaxComponent, false, func(b []byte) error {
			_, err := UnmarshalRoleData(b)
			return err
		}),
		ComponentPreauth: replace("preauth_list", MaxComponent, false, func(b []byte) error {
			_, err := UnmarshalPreAuthData(b)
			return err
		}),
		ComponentBase: replace("base_room_policy", MaxComponent, false, func(b []byte) error {
			_, err := UnmarshalBaseRoomPolicy(b)
			return err
		}),
		ComponentFrankingAgent: replace("franking_agent", MaxComponent, false, func(b []byte) error {
			_, err := UnmarshalFrankingAgentData(b)
			return err
		}),
	}
	for _, id := range []uint16{
		ComponentAppComponents, ComponentSafeAAD, ComponentContentMediaTypes, ComponentOperational, ComponentStatus,
		ComponentJoinLinkPolicy, ComponentLinkPreview, ComponentAsset, ComponentLogging, ComponentHistory,
		ComponentBots, ComponentExpiration,
	} {
		out[id] = replace(fmt.Sprintf("component %#04x", id), MaxComponent, false, any)
	}
	return out
}

// replace returns the logic of a component whose update is its new data of at most max octets. With once, a
// commit may hold one update only; otherwise the last one stays.
func replace(name string, max int, once bool, check func([]byte) error) Logic {
	return func(_ []byte, updates [][]byte) ([]byte, error) {
		if len(updates) == 0 || once && len(updates) > 1 {
			return nil, malformed("%s: %d updates in one commit", name, len(updates))
		}
		for _, u := range updates {
			if len(u) > max {
				return nil, malformed("%s: update of %d octets", name, len(u))
			}
			if err := check(u); err != nil {
				return nil, err
			}
		}
		return append([]byte{}, updates[len(updates)-1]...), nil
	}
}

func applyParticipants(current []byte, updates [][]byte) ([]byte, error) {
	var list ParticipantList
	if current != nil {
		var err error
		if list, err = UnmarshalParticipantList(current); err != nil {
			return nil, fmt.Errorf("current data: %w", err)
		}
	}
	changes, err := participantChanges(list, updates)
	if err != nil {
		return nil, err
	}
	next, err := list.Apply(changes)
	if err != nil {
		return nil, err
	}
	return next.Marshal(), nil
}

// participantChanges resolves all updates of one commit against the committed list; no user may be in two.
func participantChanges(list ParticipantList, updates [][]byte) ([]ParticipantChange, error) {
	if len(updates) == 0 {
		return nil, malformed("participant_list: no update")
	}
	var all []ParticipantChange
	seen := make(map[string]bool)
	for _, b := range updates {
		u, err := UnmarshalParticipantListUpdate(b)
		if err != nil {
			return nil, err
		}
		changes, err := u.Changes(list, seen)
		if err != nil {
			return nil, err
		}
		all = append(all, changes...)
	}
	return all, nil
}

func applyJoinLinks(current []byte, updates [][]byte) ([]byte, error) {
	var links JoinLinks
	if current != nil {
		var err error
		if links, err = UnmarshalJoinLinks(current); err != nil {
			return nil, fmt.Errorf("current data: %w", err)
		}
	}
	if len(updates) == 0 {
		return nil, malformed("join_links: no update")
	}
	removed := make(map[uint32]bool)
	var added []string
	for _, b := range updates {
		u, err := UnmarshalJoinLinksUpdate(b)
		if err != nil {
			return nil, err
		}
		for _, i := range u.Removed {
			if uint64(i) >= uint64(len(links)) || removed[i] {
				return nil, malformed("join_links: index %d into %d links, or removed twice", i, len(links))
			}
			removed[i] = true
		}
		added = append(added, u.Added...)
	}
	next := make(JoinLinks, 0, len(links)+len(added))
	for i, l := range links {
		if !removed[uint32(i)] {
			next = append(next, l)
		}
	}
	for _, l := range added {
		if l == "" || slices.Contains(next, l) {
			return nil, malformed("join_links: an added link is empty or there already")
		}
		next = append(next, l)
	}
	if len(next) > MaxList {
		return nil, malformed("join_links: %d links", len(next))
	}
	return next.Marshal(), nil
}
