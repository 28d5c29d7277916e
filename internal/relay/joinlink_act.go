package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-mimi/bridge/internal/store"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
	"github.com/matrix-mimi/bridge/mimiside/policy"
	"github.com/matrix-mimi/bridge/mimiside/wire"
)

// LinkOptions are the choices for a new join link.
type LinkOptions struct {
	// Many lets any number of users join by the link, otherwise one.
	Many bool `json:"many,omitempty"`
	// Lasts is how long the link can be used, 0 for without end.
	Lasts time.Duration `json:"lasts,omitempty"`
	// Role is the name of the role in which one joins, "" for that of newcomers.
	Role string `json:"role,omitempty"`
	// Passphrase is asked for beside the link, "" for none.
	Passphrase string `json:"passphrase,omitempty"`
}

const (
	// minPassphrase is the least length of a passphrase in characters.
	minPassphrase = 4
	// maxLinkLasts bounds how long a link with an end lasts.
	maxLinkLasts = 366 * 24 * time.Hour
)

// CreateLink makes a join link for a Matrix room that this bridge leads. The link is told in the room.
func (r *Relay) CreateLink(ctx context.Context, roomID, by, eventID string, o LinkOptions) error {
	switch {
	case o.Lasts < 0 || o.Lasts > maxLinkLasts || o.Lasts > 0 && o.Lasts < time.Minute:
		return errors.New("a link lasts at least a minute and at most a year, or has no end")
	case o.Passphrase != "" && len(o.Passphrase) < minPassphrase, len(o.Passphrase) > wire.MaxPassphrase:
		return fmt.Errorf("a passphrase has %d to %d letters", minPassphrase, wire.MaxPassphrase)
	}
	return r.actIn(ctx, roomID, action{Do: actLink, By: by, Event: eventID, Link: &o})
}

// ListLinks tells the links of a room in the room, without their codes.
func (r *Relay) ListLinks(ctx context.Context, roomID, by, eventID string) error {
	return r.actIn(ctx, roomID, action{Do: actLinks, By: by, Event: eventID})
}

// RevokeLink ends a link by its id.
func (r *Relay) RevokeLink(ctx context.Context, roomID, by, eventID, id string) error {
	return r.actIn(ctx, roomID, action{Do: actUnlink, By: by, Event: eventID, Text: id})
}

// mayLink says why somebody may not make or end links here, "" when they may: it takes what inviting and changing the join
// rules take on Matrix, as for the capabilities canCreateJoinCode and canDeleteJoinCode.
func (s *step) mayLink(by string) string {
	v := s.room
	if v.head.Kind != store.RoomHub || v.group == nil || v.head.State != stateActive {
		if v.head.Kind == store.RoomFollower {
			return "Join links of this room are made at " + v.head.Hub + ", which leads it."
		}
		return "This room is not joined to MIMI yet. Say \"" + s.cfg.CommandPrefix + " plumb\" first."
	}
	p := v.matrix.power()
	if need := max(p.Invite, p.State(event.TypeJoinRules)); p.User(userID(by)) < need {
		return fmt.Sprintf("You may not make join links in this room: that needs power level %d.", need)
	}
	return ""
}

func (s *step) actLink(a action) error {
	if why := s.mayLink(a.By); why != "" || a.Link == nil {
		s.notice(why, a.Event)
		return nil
	}
	role, why := s.linkRole(a.By, a.Link.Role)
	if why != "" {
		s.notice(why, a.Event)
		return nil
	}
	live := 0
	for n := range s.room.links {
		if s.room.links[n].live(s.nowMS()) {
			live++
		}
	}
	if live >= maxLinks {
		s.notice(fmt.Sprintf("This room has %d join links, which is the most. Revoke some first.", live), a.Event)
		return nil
	}
	l, code, err := newLink(s.Rand, a.Link.Passphrase)
	if err != nil {
		return err
	}
	l.Many, l.Role, l.By, l.MadeMS = a.Link.Many, role, a.By, s.nowMS()
	if a.Link.Lasts > 0 {
		l.EndsMS = s.now.Add(a.Link.Lasts).UnixMilli()
		s.later(timerLinks, l.EndsMS)
	}
	s.room.links = append(s.room.links, l)
	s.room.linksChanged = true
	shown := wire.JoinLink{Room: s.room.uri(), Code: code, Role: s.joinCode(&l).Role, Passphrase: len(l.Pass) > 0}
	s.notice("Join link "+s.describeLink(&l)+":\n"+shown.String(), a.Event)
	s.followLinks()
	return nil
}

// linkRole finds the role in which one joins by a link. Nobody gives more than on Matrix: up to the own level, where one may
// change levels, and where somebody of the bridge can carry it out.
func (s *step) linkRole(by, name string) (role uint32, why string) {
	h, p := s.hierarchy(), s.room.matrix.power()
	if name == "" {
		return 0, ""
	}
	var names []string
	for _, r := range h.Roles {
		level, ok := h.LevelOf(r.Index)
		if !ok || r.Index <= policy.RoleBanned {
			continue
		}
		names = append(names, r.Name)
		if !strings.EqualFold(r.Name, name) {
			continue
		}
		bot := userID(s.cfg.Bot)
		switch {
		case r.Index == h.Newcomer:
			return 0, ""
		case p.User(userID(by)) < p.State(event.TypePowerLevels) || p.User(userID(by)) < level:
			return 0, "You may not give the role " + r.Name + " in this room."
		case p.User(bot) < p.State(event.TypePowerLevels) || p.User(bot) < level:
			return 0, fmt.Sprintf("I may not give that role in this room. Give me power level %d first.", max(level, p.State(event.TypePowerLevels)))
		}
		return r.Index, ""
	}
	return 0, "There is no such role in this room. There are: " + strings.Join(names, ", ") + "."
}

// describeLink says in words what a link is.
func (s *step) describeLink(l *joinLink) string {
	words := []string{"for one person"}
	if l.Many {
		words[0] = "for any number of people"
	}
	if l.Role != 0 && s.room.policy != nil {
		if r := s.hierarchy().Roles.Role(l.Role); r != nil {
			words = append(words, "as "+html.Apart(html.Name(r.Name)))
		}
	}
	if len(l.Pass) > 0 {
		words = append(words, "with a passphrase")
	}
	switch {
	case l.Over != "":
		words = append(words, l.Over)
	case l.EndsMS == 0:
		words = append(words, "without end")
	default:
		words = append(words, "until "+time.UnixMilli(l.EndsMS).UTC().Format("2006-01-02 15:04 UTC"))
	}
	return l.ID + " (" + strings.Join(words, ", ") + ")"
}

func (s *step) actLinks(a action) error {
	if why := s.mayLink(a.By); why != "" {
		s.notice(why, a.Event)
		return nil
	}
	s.followLinks() // those whose time is up
	if len(s.room.links) == 0 {
		s.notice("This room has no join links.", a.Event)
		return nil
	}
	var b strings.Builder
	for n := range s.room.links {
		l := &s.room.links[n]
		fmt.Fprintf(&b, "%s, made by %s, joined by it: %d\n", s.describeLink(l), l.By, l.Uses)
	}
	s.notice(strings.TrimSpace(b.String()), a.Event)
	return nil
}

func (s *step) actUnlink(a action) error {
	if why := s.mayLink(a.By); why != "" {
		s.notice(why, a.Event)
		return nil
	}
	l := s.liveLink(a.Text)
	if l == nil {
		s.notice("There is no join link "+html.Apart(html.Line(a.Text, 20))+" in use. Say \"link list\" for those that are.", a.Event)
		return nil
	}
	l.Over, s.room.linksChanged = linkRevoked, true
	s.notice("The join link "+l.ID+" cannot be used any more.", a.Event)
	s.followLinks()
	return nil
}
