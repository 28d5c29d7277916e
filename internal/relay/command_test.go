package relay

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-mimi/bridge/internal/store"
)

// talkedTo is where the bot talks to a user, "" if nowhere.
func (n *node) talkedTo(t *testing.T, mxid string) string {
	t.Helper()
	room, err := n.db.ManagementRoom(context.Background(), mxid)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return room
}

// heardCommands are the texts that were taken as commands since the last call.
func (n *node) heardCommands() (texts []string) {
	for _, c := range n.cmds {
		texts = append(texts, c.Text)
	}
	n.cmds = nil
	return texts
}

// Who invites the bot and writes at once is heard, and answered there.
func TestCommandRightAfterTheBotJoined(t *testing.T) {
	p := newPair(t, warm)
	chat := p.b.hs.create(p.bob, "", "")
	p.b.hs.invite(chat, p.bob, p.b.hs.mxid("mimibot"))
	p.b.turn() // the bot joins; the answer waits
	p.equal("bot", chat.members[p.b.hs.mxid("mimibot")], "join")
	p.b.hs.say(chat, p.bob, "help")
	p.b.turn()
	if len(p.b.cmds) != 1 || p.b.cmds[0].Text != "help" || !p.b.cmds[0].Private {
		t.Fatalf("commands %+v", p.b.cmds)
	}
	p.equal("where bob is talked to", p.b.talkedTo(t, p.bob), chat.id)
	p.settle()
	p.noTrouble()
}

// Where several people are, the bot listens to its prefix only, from the first word on, and greets them accordingly.
func TestCommandsAmongSeveralPeople(t *testing.T) {
	p := newPair(t, warm)
	bot, dave := p.b.hs.mxid("mimibot"), p.b.hs.mxid("dave")
	room := p.b.hs.create(p.bob, "Kitchen", "")
	p.b.hs.join(room, dave) // before the bot: it sees nothing of this
	p.b.hs.invite(room, p.bob, bot)
	p.b.turn()
	p.b.hs.say(room, p.bob, "help me with the dishes")
	p.settle()
	p.b.hs.say(room, dave, "who are you?")
	p.b.hs.say(room, dave, "!mimi help")
	p.settle()
	p.equal("commands", p.b.heardCommands(), []string{"help"})
	p.equal("where bob is talked to", p.b.talkedTo(t, p.bob), "")
	said := p.b.hs.texts(room)
	if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, "!mimi plumb") }) {
		t.Errorf("the bot greets with %q", said)
	}
	p.noTrouble()
}

// A chat with the bot is one as long as nobody else is in it.
func TestOthersComeIntoTheChatWithTheBot(t *testing.T) {
	p := newPair(t, warm)
	bot, dave := p.b.hs.mxid("mimibot"), p.b.hs.mxid("dave")
	chat := p.b.hs.create(p.bob, "", "")
	p.b.hs.invite(chat, p.bob, bot)
	p.settle()
	p.equal("where bob is talked to", p.b.talkedTo(t, p.bob), chat.id)
	p.b.hs.join(chat, dave)
	p.settle()
	p.b.hs.say(chat, p.bob, "help")
	p.b.hs.say(chat, p.bob, "!mimi version")
	p.settle()
	p.equal("commands among three", p.b.heardCommands(), []string{"version"})
	p.equal("where bob is talked to among three", p.b.talkedTo(t, p.bob), "")
	p.b.hs.leave(chat, dave)
	p.settle()
	p.b.hs.say(chat, p.bob, "ping")
	p.settle()
	p.equal("commands of one", p.b.heardCommands(), []string{"ping"})
	p.equal("where bob is talked to again", p.b.talkedTo(t, p.bob), chat.id)
	p.noTrouble()
}

// The bot does not stay alone: what it has to say to a user who left their chat is said in another.
func TestTheChatWithTheBotIsLeft(t *testing.T) {
	p := newPair(t, warm)
	bot := p.b.hs.mxid("mimibot")
	ask := func() *hsRoom {
		t.Helper()
		w := consentWork{Do: consentWithdrawn, User: p.bob, Other: aliceURI}
		for _, do := range []string{consentAsk, consentWithdrawn} {
			w.Do = do
			if err := p.b.relay.consentWork(context.Background(), w, nil); err != nil {
				t.Fatal(err)
			}
		}
		p.settle()
		return p.b.hs.rooms[p.b.talkedTo(t, p.bob)]
	}
	first := ask()
	if first == nil || first.members[p.bob] != "invite" {
		t.Fatalf("bob was not asked; rows %q", p.b.hs.rows)
	}
	p.b.hs.join(first, p.bob)
	p.b.hs.leave(first, p.bob)
	p.settle()
	p.equal("the bot in the chat that was left", first.members[bot], "leave")
	p.equal("where bob is talked to", p.b.talkedTo(t, p.bob), "")
	second := ask()
	if second == nil || second == first || second.members[p.bob] != "invite" {
		t.Fatalf("bob was not asked again; rows %q", p.b.hs.rows)
	}
	p.noTrouble()
}

// What is said of commands in a room that is not joined to MIMI, or that another provider leads, is what can be done about it.
func TestCommandsWhereTheyDoNotFit(t *testing.T) {
	p := newPair(t, warm).begin()
	ctx := context.Background()
	plain := p.a.hs.create(p.alice, "Kitchen", "")
	p.a.hs.invite(plain, p.alice, p.a.hs.mxid("mimibot"))
	p.settle()
	must0(t, p.a.relay.CreateLink(ctx, plain.id, p.alice, "", LinkOptions{}))
	must0(t, p.a.relay.Unplumb(ctx, plain.id, p.alice, ""))
	must0(t, p.b.relay.Unplumb(ctx, p.portal.id, p.bob, ""))
	p.settle()
	for text, c := range map[string]struct {
		room *hsRoom
		n    *node
	}{
		`Say "!mimi plumb" first`:              {plain, p.a},
		"This room is not joined to MIMI.":     {plain, p.a},
		"Another provider leads this room: le": {p.portal, p.b},
	} {
		if !p.heard(c.room, c.n, text) {
			t.Errorf("nobody says %q: %q", text, c.n.hs.texts(c.room))
		}
	}
}
