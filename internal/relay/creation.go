package relay

import (
	"fmt"

	"github.com/matrix-mimi/bridge/mimiside/mls"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
	"github.com/matrix-mimi/bridge/puppets"
)

// requiredCapabilities are what every client in our rooms must have (draft-ietf-mimi-protocol-06 §4.2).
func requiredCapabilities() mls.RequiredCapabilities {
	return mls.RequiredCapabilities{
		Extensions: []mls.ExtensionType{mls.ExtensionAppDataDictionary},
		Proposals:  []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalSelfRemove},
	}
}

// policyComponents are the policy components that our rooms have beside the ones that every room has.
var policyComponents = []uint16{policy.ComponentStatus, policy.ComponentAsset, policy.ComponentLogging, policy.ComponentHistory, policy.ComponentBots,
	policy.ComponentExpiration}

// newDictionary is the app_data_dictionary of a new hub room.
func (s *step) newDictionary(participants policy.ParticipantList, roles policy.RoleData, reader string) (mls.AppDataDictionary, error) {
	v := s.room
	agent := wire.FrankingAgent{SignatureKey: s.hub.signature[s.cfg.Suite].Public(), Credential: s.hub.credential}
	meta := policy.RoomMetaData{RoomURI: v.head.URI, RoomName: v.matrix.Name, RoomSubject: v.matrix.Topic}
	base := policy.BaseRoomPolicy{FixedMembership: v.st.Founding, MultiDevice: true, PersistentRoom: true, PolicyComponents: policyComponents}
	// The bridge reads everything in clear on behalf of its users: say so.
	client, err := s.client(s.ctx, reader)
	if err != nil {
		return nil, err
	}
	logging := policy.LoggingPolicy{Logging: policy.Optional, Clients: []string{client.ClientURI}}
	bots := policy.BotPolicy{}
	if !base.FixedMembership {
		bots = policy.BotPolicy{{Name: s.cfg.BotName, Description: "joins this room to a Matrix room", RoleIndex: policy.RoleBridge}}
	}
	dict := mls.AppDataDictionary{}.
		Set(mls.ComponentAppComponents, mls.ComponentsList{mls.ComponentSafeAAD, mls.ComponentContentMediaTypes, mls.ComponentFrankAAD,
			mls.ComponentFrankingAgent, mls.ComponentParticipantList, mls.ComponentRoomMetadata, mls.ComponentRolesList,
			mls.ComponentBaseRoomPolicy}.Marshal()).
		Set(mls.ComponentSafeAAD, mls.ComponentsList{mls.ComponentFrankAAD}.Marshal()).
		Set(mls.ComponentContentMediaTypes, puppets.MediaTypes[:1].Marshal()).
		Set(mls.ComponentFrankingAgent, agent.Marshal()).
		Set(mls.ComponentParticipantList, participants.Marshal()).
		Set(mls.ComponentRoomMetadata, meta.Marshal()).
		Set(mls.ComponentRolesList, roles.Marshal()).
		Set(mls.ComponentBaseRoomPolicy, base.Marshal()).
		Set(mls.ComponentLoggingPolicy, logging.Marshal()).
		Set(mls.ComponentBotPolicy, bots.Marshal())
	for id, data := range s.conditions(roles, participants) {
		dict = dict.Set(mls.ComponentID(id), data)
	}
	return dict, nil
}

// newGroup makes the MLS group of a hub room: the leaf of one Matrix user alone, the bot or the founder of a direct chat,
// with everybody who takes part in the participant list already.
func (s *step) newGroup(participants policy.ParticipantList, creator string) error {
	var roles policy.RoleData
	if s.room.st.Founding {
		roles = policy.FixedRoles()
	} else {
		roles = s.wantedRoles(s.hierarchy())
	}
	dict, err := s.newDictionary(participants, roles, creator)
	if err != nil {
		return err
	}
	required := requiredCapabilities()
	first, err := s.client(s.ctx, creator)
	if err != nil {
		return err
	}
	g, err := mls.NewGroup(s.Rand, s.now, s.room.mlsc, mls.GroupParams{
		Suite:   s.cfg.Suite,
		GroupID: s.room.head.GroupID,
		Extensions: mls.Extensions{
			required.Extension(),
			mls.ExternalSendersExtension(mls.ExternalSender{SignatureKey: s.hub.signature[s.cfg.Suite].Public(), Credential: s.hub.credential}),
			dict.Extension(),
		},
		Creator: mls.LeafParams{SignatureKey: first.Key, Credential: first.Credential, Capabilities: puppets.Capabilities(),
			Extensions: puppets.LeafExtensions()},
		Lifetime: puppets.LifetimeAt(s.now),
	})
	if err != nil {
		return fmt.Errorf("make the group of room %s: %w", s.room.head.ID, err)
	}
	s.fx.newGroup = g
	s.room.forgetRenewed(s.now.Unix())
	return s.enter(g)
}

// enter puts a group, or the epoch that it is in now, in place.
func (s *step) enter(g *mls.Group) error {
	v := s.room
	v.setGroup(g)
	if err := v.readPolicy(); err != nil {
		return err
	}
	v.head.Epoch, v.head.EpochMS = int64(g.Epoch()), s.nowMS()
	return nil
}
