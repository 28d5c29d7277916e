package policy

import (
	"fmt"
	"maps"
	"slices"
)

// State is the policy of a room at one epoch, read from its app_data_dictionary, with defaults for components
// that the room does not have. It must not be modified; the With methods return changed copies.
type State struct {
	Participants ParticipantList
	Metadata     RoomMetaData
	// Roles are the definitions in the dictionary, nil when it has none; use [State.Role].
	Roles          RoleData
	Preauth        PreAuthData
	Base           BaseRoomPolicy
	Status         StatusNotificationPolicy
	JoinLinkPolicy JoinLinkPolicy
	JoinLinks      JoinLinks
	LinkPreview    LinkPreviewPolicy
	Asset          AssetPolicy
	Logging        LoggingPolicy
	History        HistoryPolicy
	Bots           BotPolicy
	Expiration     MessageExpiration
	// Operational and Franking are nil when the room has none, or one that cannot be read.
	Operational *OperationalParameters
	Franking    *FrankingAgentData

	// Unreadable lists components whose data this package cannot read; their defaults are in force.
	Unreadable []uint16

	raw     map[uint16][]byte
	roles   map[string]uint32 // user → role, of the participants
	clients map[string]int    // user → leaves in the tree, only values above 0
	parent  *State
	pending pending
}

// ParseState reads a state from a dictionary: get returns the data of a component and whether it is there.
//
// It fails when the participant list, metadata, roles, preauthorised users or base policy is there and cannot
// be read. The other components then get their defaults, as they do when the base policy does not list them
// (draft-ietf-mimi-room-policy-03, policy_component_ids): a component that is not listed is not enforced.
func ParseState(get func(component uint16) ([]byte, bool)) (*State, error) {
	s := &State{raw: make(map[uint16][]byte)}
	for id := ComponentFrankingAgent; id <= ComponentExpiration; id++ {
		if data, ok := get(id); ok {
			s.raw[id] = append([]byte{}, data...)
		}
	}
	if err := s.parse(); err != nil {
		return nil, fmt.Errorf("reading the policy of a room: %w", err)
	}
	return s, nil
}

// core reads a component that must be readable when it is there.
func core[T any](s *State, id uint16, into *T, read func([]byte) (T, error)) error {
	data, ok := s.raw[id]
	if !ok {
		return nil
	}
	v, err := read(data)
	if err != nil {
		return err
	}
	*into = v
	return nil
}

// attribute reads a component that has a default, unless the base policy is there and does not list it.
func attribute[T any](s *State, id uint16, into *T, read func([]byte) (*T, error)) {
	data, ok := s.raw[id]
	if !ok || !s.Enforced(id) {
		return
	}
	v, err := read(data)
	if err != nil {
		s.Unreadable = append(s.Unreadable, id)
		return
	}
	*into = *v
}

func (s *State) parse() error {
	s.setDefaults()
	base, metadata := &s.Base, &s.Metadata
	if err := core(s, ComponentBase, &base, UnmarshalBaseRoomPolicy); err != nil {
		return err
	}
	s.Base = *base
	if err := core(s, ComponentMetadata, &metadata, UnmarshalRoomMetaData); err != nil {
		return err
	}
	s.Metadata = *metadata
	if err := core(s, ComponentRoles, &s.Roles, UnmarshalRoleData); err != nil {
		return err
	}
	if err := s.parseParticipants(); err != nil {
		return err
	}
	if s.Enforced(ComponentPreauth) {
		if err := core(s, ComponentPreauth, &s.Preauth, UnmarshalPreAuthData); err != nil {
			return err
		}
	}
	s.parseAttributes()
	return nil
}

// parseParticipants reads the list unless it was taken over from the state before.
func (s *State) parseParticipants() error {
	if s.roles != nil {
		return nil
	}
	if err := core(s, ComponentParticipants, &s.Participants, UnmarshalParticipantList); err != nil {
		return err
	}
	s.roles = make(map[string]uint32, len(s.Participants))
	for _, p := range s.Participants {
		s.roles[p.User] = p.Role
	}
	return nil
}

func (s *State) setDefaults() {
	s.Base = BaseRoomPolicy{MultiDevice: true}
	s.Asset = *defaultAssetPolicy()
	s.History = HistoryPolicy{Sharing: Forbidden}
	s.Expiration = MessageExpiration{Max: unlimited}
	s.JoinLinkPolicy = JoinLinkPolicy{MultiUser: true, Expiration: unlimited}
}

func (s *State) parseAttributes() {
	attribute(s, ComponentStatus, &s.Status, UnmarshalStatusNotificationPolicy)
	attribute(s, ComponentJoinLinkPolicy, &s.JoinLinkPolicy, UnmarshalJoinLinkPolicy)
	attribute(s, ComponentLinkPreview, &s.LinkPreview, UnmarshalLinkPreviewPolicy)
	attribute(s, ComponentAsset, &s.Asset, UnmarshalAssetPolicy)
	attribute(s, ComponentLogging, &s.Logging, UnmarshalLoggingPolicy)
	attribute(s, ComponentHistory, &s.History, UnmarshalHistoryPolicy)
	attribute(s, ComponentExpiration, &s.Expiration, UnmarshalMessageExpiration)
	attribute(s, ComponentBots, &s.Bots, func(b []byte) (*BotPolicy, error) { p, err := UnmarshalBotPolicy(b); return &p, err })
	attribute(s, ComponentJoinLinks, &s.JoinLinks, func(b []byte) (*JoinLinks, error) { l, err := UnmarshalJoinLinks(b); return &l, err })
	attribute(s, ComponentOperational, &s.Operational, func(b []byte) (**OperationalParameters, error) {
		p, err := UnmarshalOperationalParameters(b)
		return &p, err
	})
	attribute(s, ComponentFrankingAgent, &s.Franking, func(b []byte) (**FrankingAgentData, error) {
		p, err := UnmarshalFrankingAgentData(b)
		return &p, err
	})
}

// Enforced tells whether a policy component is in force: always without a base policy, and for the components
// that are no policy; otherwise when the base policy lists it. Roles are in force whenever they are there.
func (s *State) Enforced(component uint16) bool {
	switch component {
	case ComponentOperational, ComponentPreauth, ComponentStatus, ComponentJoinLinkPolicy, ComponentLinkPreview,
		ComponentAsset, ComponentLogging, ComponentHistory, ComponentBots, ComponentExpiration:
		return s.raw[ComponentBase] == nil || s.Base.Enforces(component)
	}
	return true
}

// Data returns the octets of a component (0x0021 to 0x0030) in the dictionary.
func (s *State) Data(component uint16) (data []byte, ok bool) {
	data, ok = s.raw[component]
	return data, ok
}

// Dictionary returns the components 0x0021 to 0x0030 as a map that the caller may change; the data must not be.
func (s *State) Dictionary() map[uint16][]byte { return maps.Clone(s.raw) }

// RoleIndex returns the role of a user in the participant list, RoleNone for a user who is not in it.
func (s *State) RoleIndex(user string) uint32 { return s.roles[user] }

// Role returns the definition of a role, nil when there is none. In a room without a roles list, role 0 and 1
// have no capabilities and every other one those of the ordinary user of the draft's cooperatively administered
// room (draft-ietf-mimi-room-policy-03, Role examples).
func (s *State) Role(index uint32) *Role {
	if s.raw[ComponentRoles] != nil {
		return s.Roles.Role(index)
	}
	return defaultRole(index)
}

// Clients returns how many clients of the user are in the group.
func (s *State) Clients(user string) int { return s.clients[user] }

// WithClients returns a state that knows how many leaves each user has in the tree. Without it, nobody has any.
// The map must not change afterwards.
func (s *State) WithClients(leaves map[string]int) *State {
	c := *s
	c.clients = leaves
	return &c
}

// WithParent returns a state that knows its parent room, for rooms that depend on one.
func (s *State) WithParent(parent *State) *State {
	c := *s
	c.parent = parent
	return &c
}

// Providers counts the participants of each authority, banned ones not included.
func (s *State) Providers() map[string]int {
	out := make(map[string]int)
	for _, p := range s.Participants {
		if p.Role != RoleBanned {
			out[Authority(p.User)]++
		}
	}
	return out
}

// InRole lists the participants in a role in the order of the list.
func (s *State) InRole(role uint32) []string {
	var out []string
	for _, p := range s.Participants {
		if p.Role == role {
			out = append(out, p.User)
		}
	}
	return out
}

// with returns a copy in which the given components have the given data; nil removes one. What was pending is
// not in it.
func (s *State) with(data map[uint16][]byte) (*State, error) {
	next := &State{raw: maps.Clone(s.raw), clients: s.clients, parent: s.parent}
	for id, d := range data {
		if d == nil {
			delete(next.raw, id)
			continue
		}
		next.raw[id] = d
	}
	if _, changed := data[ComponentParticipants]; !changed {
		next.Participants, next.roles = s.Participants, s.roles
	}
	if err := next.parse(); err != nil {
		return nil, err
	}
	return next, nil
}

// advance returns a copy after participant changes and after adding to the users' numbers of clients. What was
// pending is not in it.
func (s *State) advance(changes []ParticipantChange, clients map[string]int) (*State, error) {
	next := *s
	next.pending = pending{}
	if len(changes) > 0 {
		list, err := s.Participants.Apply(changes)
		if err != nil {
			return nil, err
		}
		next.Participants, next.roles, next.raw = list, maps.Clone(s.roles), maps.Clone(s.raw)
		next.raw[ComponentParticipants] = list.Marshal()
		for _, c := range changes {
			if next.roles[c.User] = c.To; c.To == RoleNone {
				delete(next.roles, c.User)
			}
		}
	}
	if len(clients) > 0 {
		if next.clients = maps.Clone(s.clients); next.clients == nil {
			next.clients = make(map[string]int)
		}
		for user, n := range clients {
			if next.clients[user] += n; next.clients[user] <= 0 {
				delete(next.clients, user)
			}
		}
	}
	return &next, nil
}

// count is how many participants a role has, and how many of them have clients.
type count struct{ all, active uint32 }

func (s *State) counts() map[uint32]count {
	out := make(map[uint32]count)
	for _, p := range s.Participants {
		c := out[p.Role]
		c.all++
		if s.clients[p.User] > 0 {
			c.active++
		}
		out[p.Role] = c
	}
	return out
}

func (s *State) totalClients() int {
	total := 0
	for _, n := range s.clients {
		total += n
	}
	return total
}

// unbanned counts the participants who are not banned.
func (s *State) unbanned() int {
	n := 0
	for _, p := range s.Participants {
		if p.Role != RoleBanned {
			n++
		}
	}
	return n
}

// defaultRole is a role of a room that has no roles list.
func defaultRole(index uint32) *Role {
	r := &Role{Index: index}
	switch index {
	case RoleNone:
	case RoleBanned:
		none := uint32(0)
		r.Name, r.MaxActive = BannedName, &none
	default:
		r.Name, r.Capabilities = "participant", slices.Clone(ordinaryCapabilities)
		r.AuthorizedChanges = []RoleChangeTargets{{RoleNone, []uint32{index}}, {index, []uint32{RoleNone}}}
	}
	return r
}
