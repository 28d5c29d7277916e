package event

import "maunium.net/go/mautrix/id"

// Membership is a user's standing in a room.
type Membership string

// The memberships of Matrix. None is a user who never was in the room; it is
// handled like Leave.
const (
	None   Membership = ""
	Invite Membership = "invite"
	Join   Membership = "join"
	Leave  Membership = "leave"
	Ban    Membership = "ban"
	Knock  Membership = "knock"
)

// Member is the content of an m.room.member with the user it is about.
type Member struct {
	User        id.UserID
	Sender      id.UserID
	Membership  Membership
	DisplayName string
	AvatarURL   string
	Reason      string
	Direct      bool
}

// MaxReason is the largest reason of a membership change that is read, in octets.
const MaxReason = 1000

// Member reads an m.room.member. It returns false for every other event and
// for a membership or user that cannot be.
func (e Event) Member() (Member, bool) {
	if e.Type != TypeMember || e.StateKey == nil {
		return Member{}, false
	}
	m := Member{
		User: id.UserID(*e.StateKey), Sender: e.Sender,
		Membership:  Membership(e.Content.Str("membership")),
		DisplayName: cut(e.Content.Str("displayname"), 1024),
		AvatarURL:   e.Content.Str("avatar_url"),
		Reason:      cut(e.Content.Str("reason"), MaxReason),
		Direct:      e.Content.Bool("is_direct"),
	}
	switch m.Membership {
	case Invite, Join, Leave, Ban, Knock:
	default:
		return Member{}, false
	}
	return m, ValidUserID(m.User)
}

// Move is what a membership event did.
type Move int

// The moves. Which one an event is depends on the membership before it, which
// must come from the own table: some homeservers do not send it.
const (
	// MoveNothing changes neither membership nor profile of interest.
	MoveNothing Move = iota
	// MoveProfile is a joined user with a new name or avatar.
	MoveProfile
	// MoveInvited is an invitation.
	MoveInvited
	// MoveJoined is a user who came in.
	MoveJoined
	// MoveLeft is a user who left by itself.
	MoveLeft
	// MoveRejected is an invited user who declined.
	MoveRejected
	// MoveWithdrawn is an invitation taken back, or a knock refused, by another user.
	MoveWithdrawn
	// MoveKicked is a user who was put out by another.
	MoveKicked
	// MoveBanned is a user who was banned.
	MoveBanned
	// MoveUnbanned is a ban taken back.
	MoveUnbanned
	// MoveKnocked is a user who asks to be let in.
	MoveKnocked
	// MoveUnknocked is a user who takes back its knock.
	MoveUnknocked
)

// Classify says what the event did to a user who had the membership before.
// profileChanged tells whether name or avatar differ from those known.
func (m Member) Classify(before Membership, profileChanged bool) Move {
	self := m.Sender == m.User
	switch m.Membership {
	case Join:
		if before != Join {
			return MoveJoined
		}
		if profileChanged {
			return MoveProfile
		}
		return MoveNothing
	case Invite:
		if before == Invite {
			return MoveNothing
		}
		return MoveInvited
	case Knock:
		if before == Knock {
			return MoveNothing
		}
		return MoveKnocked
	case Ban:
		if before == Ban {
			return MoveNothing
		}
		return MoveBanned
	}
	return m.classifyLeave(before, self)
}

func (m Member) classifyLeave(before Membership, self bool) Move {
	switch before {
	case Join:
		if self {
			return MoveLeft
		}
		return MoveKicked
	case Invite:
		if self {
			return MoveRejected
		}
		return MoveWithdrawn
	case Knock:
		if self {
			return MoveUnknocked
		}
		return MoveWithdrawn
	case Ban:
		return MoveUnbanned
	}
	return MoveNothing
}
