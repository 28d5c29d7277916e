package policy

import (
	"bytes"
	"slices"
)

// Difference is what changed between two states of a room.
type Difference struct {
	// Participants who came, left or got another role; first those of the older list in its order.
	Participants []ParticipantChange
	// Metadata names what changed by the capability that the change needs.
	Metadata []Capability
	// Components are all components with other data, in rising order.
	Components []uint16
}

// Diff compares two states of a room, for whoever shows the changes.
func Diff(before, after *State) Difference {
	var d Difference
	for _, p := range before.Participants {
		if to := after.roles[p.User]; to != p.Role {
			d.Participants = append(d.Participants, ParticipantChange{p.User, p.Role, to})
		}
	}
	for _, p := range after.Participants {
		if before.roles[p.User] == RoleNone {
			d.Participants = append(d.Participants, ParticipantChange{p.User, RoleNone, p.Role})
		}
	}
	d.Metadata, _ = before.Metadata.changedCapabilities(&after.Metadata)
	for id := ComponentFrankingAgent; id <= ComponentExpiration; id++ {
		was, there := before.raw[id]
		is, still := after.raw[id]
		if there != still || !bytes.Equal(was, is) {
			d.Components = append(d.Components, id)
		}
	}
	slices.Sort(d.Components)
	return d
}
