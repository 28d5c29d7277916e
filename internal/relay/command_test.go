package relay

import (
	"context"
	"testing"
)

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
	room, err := p.b.db.ManagementRoom(context.Background(), p.bob)
	p.equal("where bob is talked to", room+errText(err), chat.id)
	p.settle()
	p.noTrouble()
}
