package bot

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/matrix-mimi/bridge/internal/store"
)

const (
	maxSetAside    = 20   // shown in a reply
	setAsideSearch = 1000 // that one command works on
)

// setAside is a command over things that the bridge has given up: it lists them, tries them again or deletes them.
type setAside[T any] struct {
	name, what, some string // of the command, of one thing, of several
	which            string // what one may choose by, apart from an id and all
	help, more       string
	again            string // what happens to things that are tried again
	list             func(ctx context.Context, limit int) ([]T, error)
	retry, drop      func(ctx context.Context, by string, list []T) (int, error)
	id               func(T) string
	has              func(x T, which string) bool
	line             func(e *Event, x T) string
}

func (s *setAside[T]) handler() *Handler {
	return &Handler{Name: s.name, Usage: "[retry|drop <id>|" + s.which + "|all]", Needs: Admin, Help: s.help, More: s.more, Do: func(ctx context.Context, e *Event) error {
		if len(e.Args) == 0 {
			return s.show(ctx, e)
		}
		verb := strings.ToLower(e.Args[0])
		if len(e.Args) != 2 || verb != "retry" && verb != "drop" {
			return Tell("Usage: `%s`", e.Bot.say(e, s.name+" [retry|drop <id>|"+s.which+"|all]"))
		}
		all, err := s.list(ctx, setAsideSearch)
		if err != nil {
			return explain(err)
		}
		var chosen []T
		for _, x := range all {
			if which := e.Args[1]; which == "all" || which == s.id(x) || s.has(x, which) {
				chosen = append(chosen, x)
			}
		}
		if len(chosen) == 0 {
			return e.Reply("There is no %s %s.", s.what, Quote(e.Args[1]))
		}
		do, done := s.retry, s.again
		if verb == "drop" {
			do, done = s.drop, "deleted"
		}
		n, err := do(ctx, e.Sender, chosen)
		if err != nil {
			return explain(err)
		}
		return e.Reply("%s: %d.", strings.ToUpper(done[:1])+done[1:], n)
	}}
}

func (s *setAside[T]) show(ctx context.Context, e *Event) error {
	list, err := s.list(ctx, maxSetAside+1)
	if err != nil {
		return explain(err)
	}
	if len(list) == 0 {
		return e.Reply("There are no %s.", s.some)
	}
	var b strings.Builder
	for n, x := range list {
		if n == maxSetAside {
			b.WriteString("- and more\n")
			break
		}
		fmt.Fprintf(&b, "- `%s` %s\n", s.id(x), s.line(e, x))
	}
	fmt.Fprintf(&b, "\n`%s` tries one again, `%s` deletes it.\n", e.Bot.say(e, s.name+" retry <id>"), e.Bot.say(e, s.name+" drop <id>"))
	return e.Reply("%s", b.String())
}

// lettersInWords says what the rows to other providers and to the homeserver were, by their verbs; others are said as they are called.
var lettersInWords = map[string]string{
	"submitMessage": "a message", "notify": "messages or changes of a room", "update": "a change of a room", "keyMaterial": "a question for keys",
	"keyMaterials": "a question for keys", "groupInfo": "a question for the state of a room", "requestConsent": "a question whether somebody may be invited",
	"updateConsent": "an answer to who may invite somebody", "identifierQuery": "a search for somebody", "reportAbuse": "a report of abuse",
	"send": "a message", "redact": "the removal of a message", "state": "a setting of a room", "create_room": "a new room", "register": "a new account",
	"profile": "a name or picture", "join": "joining a room", "leave": "leaving a room", "invite": "an invitation", "kick": "putting somebody out",
	"ban": "a ban", "unban": "the end of a ban", "receipt": "a receipt",
}

// brokenInWords says what kinds of inputs are.
var brokenInWords = map[string]string{
	"matrix": "a Matrix event", "encrypted": "an encrypted Matrix event", "ahead": "a Matrix event", "notify": "a message or change of the room", "again": "a Matrix event", "timer": "a planned step",
	"command": "a command", "read": "the state of the Matrix room", "successor": "the state of the Matrix room", "receipt": "a receipt", "consent": "an answer to who may invite somebody", "submit": "a message",
	"ended": "the end of the room", "action": "what a command asked for", "answer": "an answer to what was sent", "thread": "a Matrix event",
}

// inWords is what something is in words; where there are none, what it is called.
func inWords(words map[string]string, name string) string {
	if w := words[name]; w != "" {
		return w
	}
	return Quote(name)
}

// setAsideID names something in a chat: the end of its room's id and its number there.
func setAsideID(room store.RoomID, seq int64) string { return fmt.Sprintf("%x-%d", room[12:], seq) }

func deadLetters(o Operator) *Handler {
	return (&setAside[store.DeadLetter]{
		name: "dead-letters", what: "dead letter", some: "dead letters", which: "<destination>", again: "to be sent again",
		help: "lists what could not be delivered, puts it back in the queue or deletes it",
		more: "Whoever wrote the message was told that it did not arrive. One that is tried again comes late, and others may have been written since.\n\n" +
			"Examples: `dead-letters`, `dead-letters retry mimi:two.example`, `dead-letters drop 0a1b2c3d-17`",
		list: o.DeadLetters, retry: o.RetryDeadLetters, drop: o.DropDeadLetters,
		id:  func(d store.DeadLetter) string { return setAsideID(d.Room, d.Seq) },
		has: func(d store.DeadLetter, which string) bool { return which == d.Dest },
		line: func(e *Event, d store.DeadLetter) string {
			return fmt.Sprintf("%s to %s, given up %s ago after %d tries: %s", inWords(lettersInWords, d.Verb), Quote(d.Dest), since(e.Bot.cfg.Now(), d.DeadMS), d.Attempts, Quote(d.Reason))
		},
	}).handler()
}

func broken(o Operator) *Handler {
	return (&setAside[store.BrokenInput]{
		name: "broken", what: "broken thing", some: "broken things", which: "<room>", again: "to be worked off again",
		help: "lists by room what arrived and broke the bridge three times, tries it again or deletes it",
		more: "What is listed was set aside in order that its room goes on, and is deleted 30 days after it came. Try it again after an update that mends the fault: " +
			"it comes late, and a message whose keys are gone by then cannot be read any more. A room is named by its Matrix id or its `mimi://` address.\n\n" +
			"Examples: `broken`, `broken retry all`, `broken drop 0a1b2c3d-17`",
		list: o.Broken, retry: o.RetryBroken, drop: o.DropBroken,
		id: func(x store.BrokenInput) string { return setAsideID(x.Room, x.Seq) },
		has: func(x store.BrokenInput, which string) bool {
			return which != "" && (which == x.MatrixRoomID || which == x.URI)
		},
		line: func(e *Event, x store.BrokenInput) string {
			where := "for no room"
			if name := x.MatrixRoomID; name != "" || x.URI != "" {
				where = "for " + Quote(cmp.Or(name, x.URI))
			}
			from := ""
			if x.Peer != "" {
				from = " from " + Quote(x.Peer)
			}
			reason, _, _ := strings.Cut(x.Reason, "\n") // the stack of a panic is in the log
			return fmt.Sprintf("%s%s %s, came %s ago, %d tries: %s", inWords(brokenInWords, x.Kind), from, where, since(e.Bot.cfg.Now(), x.CreatedMS), x.Tries, Quote(reason))
		},
	}).handler()
}
