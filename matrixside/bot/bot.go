package bot

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sort"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"github.com/matrix-mimi/bridge/internal/relay"
	"github.com/matrix-mimi/bridge/matrixside/client"
	"github.com/matrix-mimi/bridge/matrixside/event"
	"github.com/matrix-mimi/bridge/matrixside/html"
)

// Actions is what commands do. internal/relay implements it: an action is
// stored before its method returns, and its outcome is told in the room.
type Actions interface {
	// Invite adds a MIMI user to a Matrix room, in the name of a Matrix user.
	Invite(ctx context.Context, roomID, by, user, eventID string) error
	// Plumb joins an existing Matrix room to MIMI; Unplumb ends that.
	Plumb(ctx context.Context, roomID, by, eventID string) error
	Unplumb(ctx context.Context, roomID, by, eventID string) error
	// Join joins a room of another provider by its address and perhaps a joining
	// code, or by a join link and perhaps its passphrase.
	Join(ctx context.Context, by, link, secret string) error
	// DeleteUser ends the MIMI side of a Matrix user whose account is gone
	// (relay.ErrNobody if it never took part).
	DeleteUser(ctx context.Context, mxid string) error
	// StartChat makes the direct chat of a Matrix user and MIMI users.
	StartChat(ctx context.Context, by string, users ...string) error
	// RoomOf describes the MIMI room of a Matrix room (relay.ErrNoRoom if there
	// is none), RoomsOf those of a user.
	RoomOf(ctx context.Context, roomID string) (relay.RoomInfo, error)
	RoomsOf(ctx context.Context, mxid string) ([]relay.RoomInfo, error)
	// UserURI is what a Matrix user is called in MIMI.
	UserURI(mxid string) (string, error)
}

// Resolver finds the MIMI user behind an address that people write: a mimi: or
// acct: URI, @user@domain, a handle. The error is shown to the one who asked.
type Resolver interface {
	Resolve(ctx context.Context, by, address string) (uri string, err error)
}

// Matrix is the homeserver as the bot needs it; matrixside/client implements it.
type Matrix interface {
	Do(ctx context.Context, row client.Row) client.Result
	Levels(ctx context.Context, room id.RoomID) (event.PowerLevels, error)
}

// Provider is another MIMI provider that the bridge talks with.
type Provider struct {
	Domain string
	// Up says that it took what was last sent to it, Blocked that it is not spoken with.
	Up, Blocked bool
}

// Config is what a bot needs. Actions, Matrix and LevelOf are required.
type Config struct {
	Actions Actions
	Matrix  Matrix
	// LevelOf says what a Matrix user may do with the bridge.
	LevelOf func(user id.UserID) Level
	// User is the bot's Matrix user.
	User id.UserID
	// Prefix is what begins commands in rooms: "!mimi".
	Prefix string
	// Domain is the bridge's MIMI domain, Version its version.
	Domain, Version string
	// AcctURI is what a Matrix user is called as an account; nil if that is not offered.
	AcctURI func(mxid string) (string, error)
	// Resolver may be nil: then only mimi: URIs are understood.
	Resolver Resolver
	// Providers lists known providers; nil for none.
	Providers func(ctx context.Context) ([]Provider, error)
	// Status gives lines on the state of the bridge for administrators; nil for none.
	Status func(ctx context.Context) []string
	// Started is when the process began, Now the clock; both for `status`.
	Started time.Time
	Now     func() time.Time
	Log     zerolog.Logger
}

// Handler is one command.
type Handler struct {
	// Name is in lower case, like the Aliases.
	Name    string
	Aliases []string
	// Usage shows the arguments, Help says in one line what it does.
	Usage, Help string
	// More is what `help <command>` says beside that, in Markdown: when to use it, an example. It may be empty.
	More string
	// Needs is who may use it.
	Needs Level
	// InRoom says that it makes sense only in a room, not in the chat with the bot.
	InRoom bool
	// MinArgs is how many arguments there must be.
	MinArgs int
	// Do carries it out. An error made by [Tell] is shown to the sender; any other
	// makes the command be tried again.
	Do func(ctx context.Context, e *Event) error
}

// Bot answers commands.
type Bot struct {
	cfg      Config
	channels Channels // nil: none are offered
	handlers map[string]*Handler
	names    []string
}

// New makes a bot with its usual commands.
func New(cfg Config) (*Bot, error) {
	if cfg.Actions == nil || cfg.Matrix == nil || cfg.LevelOf == nil {
		return nil, errors.New("make bot: actions, homeserver or levels are missing")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "!mimi"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	b := &Bot{cfg: cfg, handlers: map[string]*Handler{}}
	b.Register(help, ping, version, status, whoami, roomInfo, listRooms, startChat, invite, join, plumb, unplumb, providers, userDeleted)
	return b, nil
}

// Register adds commands. A name that is taken is a mistake of the program.
func (b *Bot) Register(list ...*Handler) {
	for _, h := range list {
		for _, name := range append([]string{h.Name}, h.Aliases...) {
			if name == "" || name != strings.ToLower(name) || b.handlers[name] != nil {
				panic(fmt.Sprintf("register command %q: the name is taken or not in lower case", name))
			}
			b.handlers[name] = h
		}
		b.names = append(b.names, h.Name)
	}
	sort.Strings(b.names)
}

// Event is a command on its way.
type Event struct {
	relay.Command
	// Args are the words after the command, Rest is the same as written.
	Args []string
	Rest string
	// Level is what the sender may do.
	Level Level
	Bot   *Bot
	n     int
}

// told is an error that is for the sender of a command.
type told struct{ text string }

func (t *told) Error() string { return t.text }

// Tell makes an error that is shown to the sender of a command. The text is
// Markdown; put what others wrote through [Quote].
func Tell(format string, args ...any) error { return &told{fmt.Sprintf(format, args...)} }

// Quote makes a text that somebody else wrote fit to stand in a reply, whose own words it does not turn round.
func Quote(s string) string {
	s = html.Line(strings.ReplaceAll(s, "`", "'"), 300)
	if s == "" {
		return "\u200b"
	}
	return html.Apart("`" + s + "`")
}

// Command carries out a command. It implements relay.Commander: an error means
// that it should be tried again.
func (b *Bot) Command(ctx context.Context, c relay.Command) (err error) {
	e := &Event{Command: c, Level: b.cfg.LevelOf(id.UserID(c.Sender)), Bot: b}
	defer func() {
		if r := recover(); r != nil {
			b.cfg.Log.Error().Str("event_id", c.EventID).Interface("panic", r).Bytes("stack", debug.Stack()).Msg("command panicked")
			err = e.Reply("Something went wrong inside the bridge. It was noted for its operator.")
		}
	}()
	if e.Level == Block || id.UserID(c.Sender) == b.cfg.User {
		return nil // no word to people who may not use the bridge
	}
	words := strings.Fields(c.Text)
	if len(words) == 0 {
		words = []string{"help"}
	}
	name := strings.ToLower(words[0])
	if name == strings.ToLower(b.cfg.Prefix) && len(words) > 1 { // the prefix is not needed here, but people type it
		words = words[1:]
		name = strings.ToLower(words[0])
	}
	h := b.handlers[name]
	if h == nil && elsewhere[name] != "" {
		return e.Reply("%s", strings.ReplaceAll(elsewhere[name], "%p", b.cfg.Prefix))
	}
	if h == nil || h.Needs > e.Level {
		return e.Reply("I do not know %s.%s Say `%s` for what I know.", Quote(name), b.guess(e, name), b.say(e, "help"))
	}
	e.Args = words[1:]
	_, e.Rest, _ = strings.Cut(strings.TrimSpace(c.Text), words[0])
	e.Rest = strings.TrimSpace(e.Rest)
	switch {
	case h.InRoom && c.Private:
		return e.Reply("That is for a room: invite %s there and say `%s %s`.", Quote(string(b.cfg.User)), b.cfg.Prefix, usage(h))
	case len(e.Args) < h.MinArgs:
		return e.Reply("Usage: `%s`", b.say(e, usage(h)))
	}
	b.cfg.Log.Debug().Str("event_id", c.EventID).Str("room", c.RoomID).Str("command", h.Name).Msg("command")
	err = h.Do(ctx, e)
	var t *told
	if errors.As(err, &t) {
		return e.reply(ctx, t.text)
	}
	return err
}

// say is a command as the sender has to write it where it is.
func (b *Bot) say(e *Event, command string) string {
	if e.Private {
		return command
	}
	return b.cfg.Prefix + " " + command
}

// guess names the command that somebody may have meant, "" if none comes close.
func (b *Bot) guess(e *Event, name string) string {
	if len(name) > 40 {
		return ""
	}
	best, at := "", 3 // a slip or two
	for known, h := range b.handlers {
		if d := distance(name, known); h.Needs <= e.Level && (d < at || d == at && best != "" && known < best) && d < len(known)-1 {
			best, at = known, d
		}
	}
	if best == "" {
		return ""
	}
	return " Did you mean `" + b.say(e, best) + "`?"
}

// distance counts the letters that must be changed, put in or left out to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost++
			}
			corner = row[j+1]
			row[j+1] = min(cost, row[j]+1, corner+1)
		}
	}
	return row[len(b)]
}

func usage(h *Handler) string { return strings.TrimSpace(h.Name + " " + h.Usage) }

// Reply answers with a notice. The text is Markdown.
func (e *Event) Reply(format string, args ...any) error {
	return e.reply(context.Background(), fmt.Sprintf(format, args...))
}

// replyTimeout bounds one reply.
const replyTimeout = time.Minute

func (e *Event) reply(ctx context.Context, markdown string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replyTimeout)
	defer cancel()
	rich := html.FromMarkdown(markdown, nil)
	m := event.Message{MsgType: event.MsgNotice, Body: html.Text(rich), HTML: rich, Mentions: &event.Mentions{}, Relation: event.Relation{ReplyTo: id.EventID(e.EventID)}}
	if m.HTML == html.Escape(m.Body) {
		m.HTML = ""
	}
	e.n++
	res := e.Bot.cfg.Matrix.Do(ctx, client.Row{
		Request: event.NewRequest(event.Send{Type: event.TypeMessage, Content: m.Encode()}),
		Room:    id.RoomID(e.RoomID), Txn: fmt.Sprintf("command.%s.%d", e.EventID, e.n),
	})
	switch res.Class {
	case client.Done:
		return nil
	case client.Refused: // the bot was put out of the room: nobody listens
		e.Bot.cfg.Log.Info().Err(res.Err).Str("event_id", e.EventID).Msg("reply was refused")
		return nil
	}
	return fmt.Errorf("reply to command: %w", res.Err)
}

// explain turns an error of an action into words for the sender. Errors that
// are worth another try stay as they are.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, relay.ErrNoRoom):
		return Tell("This room is not joined to MIMI. Invite me, and give the command `plumb` here.")
	}
	return Tell("That did not work: %s", Quote(err.Error()))
}

// mayAct checks that the sender has the power in the room that an action takes
// on Matrix. Administrators of the bridge need none for what they end.
func (e *Event) mayAct(ctx context.Context, what string, need func(event.PowerLevels) int64) error {
	p, err := e.Bot.cfg.Matrix.Levels(ctx, id.RoomID(e.RoomID))
	if err != nil {
		if client.ClassOf(err) == client.Refused {
			return Tell("I cannot see this room. Invite me first.")
		}
		return err
	}
	if have, want := p.User(id.UserID(e.Sender)), need(p); have < want {
		return Tell("You may not %s in this room: that needs power level %d, you have %d.", what, want, have)
	}
	return nil
}

// address finds the MIMI user that the sender means.
func (e *Event) address(ctx context.Context, s string) (string, error) {
	s = strings.Trim(s, "<>")
	if strings.HasPrefix(strings.ToLower(s), "mimi://") || strings.HasPrefix(s, "mimi:") && e.Bot.cfg.Resolver == nil {
		return s, nil
	}
	if e.Bot.cfg.Resolver == nil {
		return "", Tell("%s is no MIMI address. They look like `mimi://a.example/u/alice`.", Quote(s))
	}
	uri, err := e.Bot.cfg.Resolver.Resolve(ctx, e.Sender, s)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return "", err
		}
		return "", Tell("I could not find %s: %s", Quote(s), Quote(err.Error()))
	}
	return uri, nil
}
