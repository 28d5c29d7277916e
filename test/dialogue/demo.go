package dialogue

import (
	_ "embed"
	"fmt"
	"io"
	"sort"
	"strings"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"
)

// DemoScript is what `bridge demo` plays.
//
//go:embed demo.txt
var DemoScript string

// Transcript writes every room as every person sees it.
func (w *World) Transcript(out io.Writer) {
	names := make([]string, 0, len(w.people))
	for name := range w.people {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		p := w.people[name]
		p.mu.Lock()
		labels := make([]string, 0, len(p.labels))
		for label := range p.labels {
			labels = append(labels, label)
		}
		sort.Strings(labels)
		for _, label := range labels {
			if v := p.rooms[p.labels[label]]; v != nil {
				fmt.Fprintf(out, "\n%s sees %q (%s):\n", p.Name, v.Name(), v.Membership)
				for _, s := range v.Timeline {
					if line := v.line(s); line != "" {
						fmt.Fprintf(out, "  %s  %s\n", s.At.Format("15:04:05.000"), line)
					}
				}
			}
		}
		p.mu.Unlock()
	}
}

// line says in words what an event of a timeline is; empty for what people do
// not notice.
func (v *RoomView) line(s *Seen) string {
	who := v.called(s.Sender)
	switch c := s.Content.Parsed.(type) {
	case *event.MessageEventContent:
		text := c.Body
		if c.Format == event.FormatHTML {
			text = c.FormattedBody
		}
		if c.MsgType == event.MsgEmote {
			return "* " + who + " " + text
		}
		return who + ": " + text
	case *event.MemberEventContent:
		if s.StateKey == nil {
			return ""
		}
		whom := v.called(id.UserID(*s.StateKey))
		switch {
		case whom == who:
			return "-- " + who + ": " + string(c.Membership)
		case c.Reason != "":
			return fmt.Sprintf("-- %s: %s %s (%s)", who, c.Membership, whom, c.Reason)
		}
		return fmt.Sprintf("-- %s: %s %s", who, c.Membership, whom)
	case *event.RoomNameEventContent:
		return "-- " + who + " calls the room " + c.Name
	case *event.TopicEventContent:
		return "-- " + who + " sets the topic " + c.Topic
	}
	return ""
}

// called is the name that the room shows for somebody.
func (v *RoomView) called(user id.UserID) string {
	if m := v.member(user); m != nil && m.Content.AsMember().Displayname != "" {
		return m.Content.AsMember().Displayname
	}
	local, _, _ := strings.Cut(strings.TrimPrefix(string(user), "@"), ":")
	return local
}

// People lists who is on stage, with homeserver address and password, for a
// person who wants to log in.
func (w *World) People() []Login {
	var out []Login
	for _, p := range w.people {
		out = append(out, Login{User: p.UserID, Homeserver: w.homeservers[p.short].URL(), Localpart: p.local})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].User < out[j].User })
	return out
}

// Login is what a Matrix client asks for, but the password, which
// harness.Password gives.
type Login struct {
	User       id.UserID
	Homeserver string
	Localpart  string
}
