package relay

import (
	"encoding/json"
	"fmt"

	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/mapping"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/mimiside/mls"
)

// roomState is the small part of a room that is neither a column nor a piece of MLS. It is one row of room_state.
type roomState struct {
	// Opening is set while a hub room is made.
	Opening *opening `json:"opening,omitempty"`
	// Lent are GroupInfos that were handed out for external joins (as hub), newest last.
	Lent []lent `json:"lent,omitempty"`
	// Resync says since when and why the group is joined anew, and how often that was tried (as follower).
	Resync *resync `json:"resync,omitempty"`
	// Proposals are those that were accepted in this epoch and wait for a commit, oldest first (as hub).
	Proposals []heldProposal `json:"proposals,omitempty"`
	// Join is the wish of a user to join a room by its URI, before there is a group (as follower).
	Join *joining `json:"join,omitempty"`
	// RenewedAll is when the keys of own leaves were last renewed, in seconds since 1970, for those that have no entry of their
	// own (see roomView.renewed).
	RenewedAll int64 `json:"renewed_all,omitempty"`
	// Told are notices that are given once a room, by name.
	Told map[string]bool `json:"told,omitempty"`
	// GivenUp is when people were told that a follower did not get all, by its domain, in milliseconds since 1970 (as hub).
	GivenUp map[string]int64 `json:"given_up,omitempty"`
	// StatusTold is what people were told last of the room's status notification policy.
	StatusTold string `json:"status_told,omitempty"`
	// Asked is the question for the group's state that is under way (as follower).
	Asked *asked `json:"asked,omitempty"`
	// CatchUp is until when the hub's commits are waited for after a restore, in milliseconds since 1970 (as follower).
	CatchUp int64 `json:"catch_up,omitempty"`
	// Compared is when the hub was last asked whether it has the same group, in milliseconds since 1970 (as follower).
	Compared int64 `json:"compared,omitempty"`
	// Ranks says which role stands for which power level (as hub).
	Ranks mapping.Ranks `json:"ranks,omitzero"`
	// CheckAt is when the room is to be compared with its Matrix room, in milliseconds since 1970.
	CheckAt int64 `json:"check_at,omitempty"`
	// Reporting tells that reports of what was read or delivered are collected.
	Reporting bool `json:"reporting,omitempty"`
	// Upgrade is the Matrix room that replaces this one, while the bot is not in it.
	Upgrade *upgrade `json:"upgrade,omitempty"`
	// Shown are the state events that say how the MIMI room is, as last written to a portal, by type.
	Shown map[string]string `json:"shown,omitempty"`
	// Ended tells that the hub said that the room has ended (as follower).
	Ended bool `json:"ended,omitempty"`
	// Unlogged tells that ours leave, or left, because the room forbids logging (as follower).
	Unlogged bool `json:"unlogged,omitempty"`
	// Delivered is the number of the link up to which delivery was reported, where the room demands that.
	Delivered int64 `json:"delivered,omitempty"`
	// PortalTries counts how often the homeserver refused to make the portal.
	PortalTries int `json:"portal_tries,omitempty"`
	// Portal tells that the Matrix room of a follower room was asked for.
	Portal bool `json:"portal,omitempty"`
	// Uploads are Matrix events whose files are on their way, by event id.
	Uploads map[string]*uploading `json:"uploads,omitempty"`
	// AssetHosts are the hosts of the asset policy that were noted (as hub).
	AssetHosts []string `json:"asset_hosts,omitempty"`
	// Knocks are who has knocked and is not answered: as the hub the MIMI users, as a follower the Matrix users.
	Knocks []string `json:"knocks,omitempty"`
	// ProfileTries counts how often profiles were missing in an answer, by provider.
	ProfileTries map[string]int `json:"profile_tries,omitempty"`
	// MembersRead tells that it is known who is in the room, while it is not joined to MIMI.
	MembersRead bool `json:"members_read,omitempty"`
	// Greet is the user who invited the bot and is greeted when that is known.
	Greet string `json:"greet,omitempty"`
	// Manager is the user with whom the bot will talk in the Matrix room that is being made.
	Manager string `json:"manager,omitempty"`
	// Avatar is the address of the room's picture that was placed.
	Avatar string `json:"avatar,omitempty"`
	// Set names the people of a conversation of the ActivityPub world, when it is the one of that set.
	Set string `json:"set,omitempty"`
	// Channel is set in a room of the ActivityPub world that is a channel.
	Channel *channelState `json:"channel,omitempty"`
	// Founding is set while the clients of a direct chat are brought in.
	Founding bool `json:"founding,omitempty"`
	// CoverMS is when the next cover message of a conversation or channel of ActivityPub is sent, in milliseconds since 1970.
	CoverMS int64 `json:"cover_ms,omitempty"`
	// LeftMS is when ours began to leave a conversation or channel of ActivityPub because of a blocked server, in milliseconds since 1970; it stays until they
	// come into the group again.
	LeftMS int64 `json:"left_ms,omitempty"`
	// Thread is what a conversation with ActivityPub actors remembers of the last minutes.
	Thread *threadState `json:"thread,omitempty"`
	// Pending is when messages stop waiting for our commit, in milliseconds since 1970.
	PendingUntil int64 `json:"pending_until,omitempty"`
}

// opening is a Matrix room on its way to becoming a hub room.
type opening struct {
	By      string `json:"by"`              // MXID of who invited the first MIMI user
	Ghost   string `json:"ghost,omitempty"` // the ghost through which the room is read
	Reading bool   `json:"reading,omitempty"`
	Direct  bool   `json:"direct,omitempty"`
	Event   string `json:"event,omitempty"` // the command that asked for the room to be joined to MIMI
	// Set are the MIMI users of a direct chat that was asked for by a command.
	Set []string `json:"set,omitempty"`
}

// heldProposal is a proposal as the hub fanned it out.
type heldProposal struct {
	Message    []byte `json:"message"` // an MLSMessage
	AcceptedMS uint64 `json:"accepted"`
}

// lent is a GroupInfo that was handed out.
type lent struct {
	Credential []byte `json:"credential"` // SHA-256 of the credential and the key
	User       string `json:"user"`
	UntilMS    int64  `json:"until"`
	Link       string `json:"link,omitempty"` // id of the join link whose code was presented
}

type resync struct {
	SinceMS int64  `json:"since"`
	Tries   int    `json:"tries"`
	Reason  string `json:"reason"`
	// Left are users of ours whose leaves are still to be joined anew.
	Left []string `json:"left,omitempty"`
}

// asked is a question for the group's state that was sent to the hub.
type asked struct {
	Ref     string `json:"ref"`
	User    string `json:"user"`
	Seq     int64  `json:"seq"`
	SinceMS int64  `json:"since"`
	// Suite is the ciphersuite of the question, which the answer must have.
	Suite mls.Suite `json:"suite"`
}

type joining struct {
	By string `json:"by"` // MXID
	// Coded says that there is a joining code. It is sealed apart (joinCodeName).
	Coded bool `json:"coded,omitempty"`
	// Role is the role that the link says, 0 where it says none.
	Role  uint32 `json:"role,omitempty"`
	Tries int    `json:"tries,omitempty"`
	// SinceMS is when it began, in milliseconds since 1970.
	SinceMS int64 `json:"since,omitempty"`
}

// matrixState is what is known of the Matrix room.
type matrixState struct {
	Name    string           `json:"name,omitempty"`
	Topic   string           `json:"topic,omitempty"`
	Creator string           `json:"creator,omitempty"`
	Version string           `json:"version,omitempty"`
	Others  []id.UserID      `json:"creators,omitempty"` // further creators, in rooms of version 12 and newer
	Power   json.RawMessage  `json:"power,omitempty"`    // content of m.room.power_levels as received
	Join    string           `json:"join,omitempty"`
	History string           `json:"history,omitempty"`
	Crypt   bool             `json:"crypt,omitempty"` // the room is encrypted
	Avatar  string           `json:"avatar,omitempty"`
	Mood    string           `json:"mood,omitempty"`
	MaxAge  int64            `json:"max_age,omitempty"` // of m.room.retention, in milliseconds
	ACL     *event.ServerACL `json:"acl,omitempty"`
}

// created takes m.room.create.
func (m *matrixState) created(ev event.Event) {
	var r event.Room
	r.Apply(ev)
	m.Creator, m.Version, m.Others = string(ev.Sender), r.Create.Version, nil
	if len(r.Create.Creators) > 1 {
		m.Others = r.Create.Creators[1:]
	}
}

// power returns the power levels of the room.
func (m *matrixState) power() event.PowerLevels {
	p := event.DefaultPowerLevels(userID(m.Creator))
	if o, err := event.ParseObject(m.Power); len(m.Power) > 0 && err == nil {
		p = event.ParsePowerLevels(o)
	}
	if m.Creator != "" && (event.Create{Version: m.Version}).PrivilegedCreators() {
		p.Creators = append([]id.UserID{userID(m.Creator)}, m.Others...)
	}
	return p
}

// setRenewed notes when the keys of a user's leaf were renewed. The list is a row of its own, which an ordinary message
// does not touch.
func (v *roomView) setRenewed(user string, at int64) {
	if v.renewed == nil {
		v.renewed = map[string]int64{}
	}
	v.renewed[user], v.renewedChanged = at, true
}

// forgetRenewed notes that all leaves are as old as the given time, in seconds since 1970.
func (v *roomView) forgetRenewed(at int64) {
	v.st.RenewedAll, v.renewed, v.renewedChanged = at, nil, true
}

// changedState returns the room_state rows that differ from what is stored.
func (v *roomView) changedState() (map[string]string, error) {
	var changed map[string]string
	values := map[string]any{keyState: v.st, keyMatrix: v.matrix}
	if v.renewedChanged {
		values[keyRenewed] = v.renewed
		v.renewedChanged = false
	}
	if v.linksChanged {
		values[keyLinks] = v.links
		v.linksChanged = false
	}
	for key, value := range values {
		b, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("write the %s state of room %s: %w", key, v.head.ID, err)
		}
		s := string(b)
		if s == "{}" || s == "null" || s == "[]" {
			s = ""
		}
		if s != v.stored[key] {
			if changed == nil {
				changed = map[string]string{}
			}
			changed[key] = s
		}
	}
	return changed, nil
}
